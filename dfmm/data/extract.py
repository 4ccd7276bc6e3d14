"""What is found once in every video and kept: its timing, its sound's span, and the track of a face."""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pebble import ProcessExpired, ProcessPool

from dfmm.data.faces import BOX, LANDMARKS, find_faces, follow_face
from dfmm.data.media import MediaError, read_media
from dfmm.runs import show_progress
from dfmm.settings import Settings, Video, resolve_path

FORMAT = 2  # of the cache: a higher number makes older entries void
SAMPLE_RATE = 16_000  # at which a sound's peak, loudness and onset are measured
ONSET = 5e-4  # a sample above this ends the leading silence (the reference rule of arXiv 2412.00175)
SECONDS_PER_FILE = 600  # after this a worker is taken to hang, and killed
SILENCE = 1e-4  # a sound that never gets louder, of full scale 1, is no evidence: −80 dB

log = logging.getLogger("dfmm")


@dataclass
class Track:
    """One video as later steps see it. Boxes and landmarks are in pixels, times in seconds after the first frame."""

    times: np.ndarray  # float64 [N], of every frame
    width: int
    height: int
    looked_at: int  # frames in which a face was looked for
    detector: str  # that found the face; `centre` where none did
    box_times: np.ndarray  # float64 [M], frames in which the followed face was found
    boxes: np.ndarray  # float32 [M, 4]
    landmarks: np.ndarray  # float32 [M, 5, 2]
    sound_start: float  # both NaN without an audio track
    sound_end: float
    sound_peak: float  # of full scale 1
    loudness: float  # root mean square in dB of full scale
    leading_silence: float  # seconds of sound before the first sample above `ONSET`

    @property
    def frame_seconds(self) -> float:
        """The usual time between two frames."""
        return float(np.median(np.diff(self.times))) if len(self.times) > 1 else 0.04

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the end of the last."""
        return float(self.times[-1]) + self.frame_seconds

    @property
    def has_face(self) -> bool:
        return len(self.boxes) > 0

    @property
    def has_sound(self) -> bool:
        """Is there an audio track that is not silent throughout?"""
        return self.sound_peak > SILENCE

    @property
    def face_coverage(self) -> float:
        """Share of the frames looked at in which the followed face was found."""
        return len(self.boxes) / max(self.looked_at, 1)

    def boxes_at(self, times: np.ndarray) -> np.ndarray:
        """Return the face's boxes at these times, float64 `[len(times), 4]`, interpolated between detections."""
        return np.stack([np.interp(times, self.box_times, side) for side in self.boxes.T], axis=1)


def find_track(path: str | Path, video: Video) -> Track:
    """Decode a video once, small and only every `detect_every`-th frame, and follow its face.

    Raises:
        MediaError: the file is missing, broken, or has no picture.
    """
    media = read_media(
        path,
        keep=lambda number: number % video.detect_every == 0,
        sample_rate=SAMPLE_RATE,
        short_side=video.detect_side,
    )
    detections, detector = find_faces(list(media.frames.values()), video.detector)
    faces = zip(media.times[list(media.frames)], follow_face(detections), strict=True)
    found = [(time, face) for time, face in faces if face is not None]
    rows = np.array([face for _, face in found], np.float32).reshape(-1, 15)
    scale = media.width / media.frames[0].shape[1]
    sound = media.sound
    return Track(
        times=media.times,
        width=media.width,
        height=media.height,
        looked_at=len(media.frames),
        detector=detector,
        box_times=np.array([time for time, _ in found]),
        boxes=rows[:, BOX] * scale,
        landmarks=rows[:, LANDMARKS].reshape(-1, 5, 2) * scale,
        sound_start=sound.start if sound else np.nan,
        sound_end=sound.end if sound else np.nan,
        **measure_sound(sound.samples if sound else np.zeros(0, np.float32), sample_rate=SAMPLE_RATE),
    )


def measure_sound(samples: np.ndarray, *, sample_rate: int) -> dict[str, float]:
    """Return peak, loudness and leading silence of mono sound `[S]`; -120 dB where there is none."""
    level = float(np.sqrt(np.mean(samples**2))) if len(samples) else 0.0
    above = np.abs(samples) > ONSET
    return {
        "sound_peak": float(np.abs(samples).max(initial=0)),
        "loudness": 20 * float(np.log10(max(level, 1e-6))),
        "leading_silence": (int(above.argmax()) if above.any() else len(samples)) / sample_rate,
    }


def save_track(track: Track, path: Path) -> None:
    """Write a track as arrays; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.partial{os.getpid()}.npz")
    np.savez_compressed(partial, **asdict(track))
    partial.replace(path)


def load_track(path: Path) -> Track | None:
    """Read a saved track; None if there is none, or it is damaged and must be found again."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            values = {name: arrays[name] for name in Track.__dataclass_fields__}
    except Exception:  # zipfile, zlib and NumPy raise a dozen kinds, depending on which byte is wrong
        return None
    return Track(**{name: value if value.ndim else value.item() for name, value in values.items()})


def locate_track(path: Path, settings: Settings) -> Path:
    """Return where a video's track is kept: another file, another time of change or other settings, another place."""
    state = path.stat()
    key = [FORMAT, str(path), state.st_size, state.st_mtime_ns]
    key += [settings.video.detector, settings.video.detect_side, settings.video.detect_every]
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
    return resolve_path(settings.data.cache) / "tracks" / name[:2] / f"{name}.npz"


def extract_tracks(
    manifest: pd.DataFrame, settings: Settings, *, progress: bool = True
) -> tuple[dict[str, Track], dict[str, str]]:
    """Find the track of every video that has none kept yet, in parallel.

    A worker that crashes or hangs costs its own file only.

    Returns:
        Tracks and, for the videos that failed, the reason, both by `video_id`.
    """
    root = resolve_path(settings.data.root)
    paths = {row.video_id: (root / row.path).resolve() for row in manifest.itertuples()}
    failures = {name: f"{path}: no such file" for name, path in paths.items() if not path.is_file()}
    places = {name: locate_track(path, settings) for name, path in paths.items() if name not in failures}
    tracks = {name: track for name, place in places.items() if (track := load_track(place)) is not None}
    missing = [name for name in places if name not in tracks]
    found = _find_in_parallel([paths[name] for name in missing], [places[name] for name in missing], settings)
    found = show_progress(found, "faces", unit="video", total=len(missing), show=progress and bool(missing))
    for name, result in zip(missing, found, strict=True):
        if isinstance(result, Track):
            tracks[name] = result
        else:
            failures[name] = result
    for name, reason in failures.items():
        log.warning("%s is left out: %s", name, reason)
    _report_fallbacks([tracks[name] for name in missing if name in tracks], settings.video.detector)
    return tracks, failures


def tabulate_tracks(manifest: pd.DataFrame, tracks: dict[str, Track]) -> pd.DataFrame:
    """Return a row a video: what was found in it, beside its `video_id`, `split`, `label` and `method`."""
    rows = [
        {
            "seconds": track.duration,
            "fps": 1 / track.frame_seconds,
            "width": track.width,
            "height": track.height,
            "has_face": track.has_face,
            "detector": track.detector,
            "face_coverage": track.face_coverage,
            "has_sound": track.has_sound,
        }
        for track in (tracks[name] for name in manifest["video_id"])
    ]
    facts = manifest[["video_id", "split", "label", "method"]].reset_index(drop=True)
    return pd.concat([facts, pd.DataFrame(rows)], axis=1)


def _find_in_parallel(paths: list[Path], places: list[Path], settings: Settings) -> Iterator[Track | str]:
    """Yield a track or a reason for each path, in order."""
    if not paths:
        return
    # Spawned, not forked: a process that has run PyTorch's threads cannot be forked safely.
    context = multiprocessing.get_context("spawn")
    with ProcessPool(max_workers=min(os.cpu_count() or 1, len(paths)), context=context) as pool:
        videos = [settings.video] * len(paths)
        work = pool.map(_find_and_save, paths, places, videos, timeout=SECONDS_PER_FILE)
        try:
            results = work.result()
            for path in paths:
                yield _await_track(results, path)
        finally:
            work.cancel()  # interrupted: leaving the pool would wait for all that is still to be done


def _await_track(results: Iterator[Track], path: Path) -> Track | str:
    try:
        return next(results)
    except MediaError as error:
        return str(error)
    except (FutureTimeoutError, ProcessExpired) as error:
        return f"{path}: its decoder {'hung' if isinstance(error, FutureTimeoutError) else 'crashed'}"
    except Exception as error:
        return f"{path}: {type(error).__name__}: {error}"


def _find_and_save(path: Path, place: Path, video: Video) -> Track:
    track = find_track(path, video)
    save_track(track, place)
    return track


def _report_fallbacks(tracks: list[Track], wanted: str) -> None:
    """Say once how many videos needed another detector, or got a centre crop."""
    others = [track.detector for track in tracks if track.detector != wanted]
    for name in sorted(set(others) - ({"centre"} if wanted == "none" else set())):
        what = "no face, centre crop" if name == "centre" else f"face found by {name} only"
        log.warning("%d of %d videos: %s", others.count(name), len(tracks), what)
