"""One clip as a person inspects it: picture, sound, mouth and crops, page by page, however long it is."""

from __future__ import annotations

import functools
import io
import os
import wave
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from dfmm.dataset import compute_log_mel, place_window, read_takes
from dfmm.extraction import extract_tracks
from dfmm.extraction.cures import choose_gain
from dfmm.extraction.store import ArrayFile, CacheError, name_crops, read_crops, read_openings, read_sound
from dfmm.extraction.tracks import Tracks, find_root, load_track, make_key
from dfmm.faces.follow import crop_faces
from dfmm.faces.track import Track
from dfmm.figures.clips import list_hertz
from dfmm.figures.style import JOINT, STREAMS
from dfmm.figures.words import format_number
from dfmm.manifest import parse_segments
from dfmm.media.container import MediaError, find_streams, open_media
from dfmm.media.decode import read_media
from dfmm.media.sound import Sound
from dfmm.settings import Settings

PAGE_SECONDS = 30.0  # of a clip that are drawn at once
COLUMNS = 1500  # of a waveform or spectrogram, at most
LOUDNESS_SECONDS = 0.04  # the step of the loudness curve
THUMBNAIL = 88  # pixels, for a screen that shows two to a point
SOON_SECONDS = 10.0  # into a video a thumbnail is decoded, no further
SHORT_SIDE = 360  # pixels of pictures that are sent one by one
DARK, BRIGHT = -2.25, 2.5  # of a scaled log-mel: silence, and a loud voice
FLOOR_DB = -80.0
# What a stream of the window table looks like over time: up is suspicious in all.
LINES = {"score": JOINT, **{f"{name}_score": look for name, look in STREAMS.items()}}
LINES["in_sync_score"] = LINES["in_sync_score"] | {"label": "out of sync"}
DASHES = {"-": [], "--": [6, 4], "-.": [6, 3, 1, 3], ":": [2, 3]}  # of matplotlib's lines, in pixels
TOLD = {1: "fake", 0: "real"}
SENSES = {"video": "picture", "audio": "sound"}
FOUND = {"joint": "all", "video_fake": "picture", "audio_fake": "sound"}
FACTS = ("method", "split", "source", "reason")  # columns that are shown as they are, where there is anything

Stretches = pd.DataFrame | Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class Footage:
    """A video, what is kept of it, and the face that is followed in it; each part is read when it is asked for."""

    tracks: Tracks  # of this video alone
    track: Track
    settings: Settings

    @property
    def pages(self) -> int:
        """How many parts of equal length it is drawn in, each of about `PAGE_SECONDS`."""
        return max(int(np.ceil(self.track.duration / PAGE_SECONDS - 0.2)), 1)

    @property
    def page_seconds(self) -> float:
        return self.track.duration / self.pages

    @functools.cached_property
    def file(self) -> Path:
        """What is decoded: the video, or its new encoding where a cure asks for that."""
        return Path(self.tracks.source(0))

    @functools.cached_property
    def codec(self) -> str:
        """What the picture is coded in, or the sound where that is all; empty where the file is gone."""
        try:
            with open_media(self.file) as container:
                return find_streams(container)[0].codec_context.name
        except (MediaError, AttributeError):
            return ""

    @property
    def lead(self) -> float:
        """Seconds from where a player's clock starts, with whatever comes first, to the first frame."""
        return max(-self.track.sound_start, 0.0) if np.isfinite(self.track.sound_start) and self.has_picture else 0.0

    @property
    def has_picture(self) -> bool:
        return len(self.track.times) > 0

    def list_frames(self) -> NDArray[np.float32]:
        """Return when each frame is shown, and the square of the face in it, float32 `[N, 4]`: seconds, x, y, side.

        In pixels of the video, x and y of the middle; NaN where the face is not known.
        """
        path = self.track.trace_face(self.settings.video)
        return np.column_stack([self.track.times, path.centres, path.sides]).astype(np.float32)

    # Sound

    @functools.cached_property
    def sound(self) -> Sound | None:
        """The whole sound, of which only what is cut out is read."""
        return self.tracks.read(0, read_sound)

    def cut_sound(self, start: float, seconds: float) -> NDArray[np.float32] | None:
        """Return what the model hears of a stretch, float32 `[S]`, zero where there is nothing; None without sound."""
        if self.sound is None:
            return None
        return self.sound.cut(start, seconds)[0] * np.float32(choose_gain(self.track, self.settings.cure))

    def draw_page(self, number: int) -> dict[str, Any]:
        """Return what is drawn of a page: all curves as pairs of seconds and a value, the log-mel as a PNG."""
        number = min(max(number, 0), self.pages - 1)
        start, seconds = number * self.page_seconds, self.page_seconds
        page = {"number": number, "start": start, "end": start + seconds, **self.trace_mouth(start, seconds)}
        samples = self.cut_sound(start, seconds)
        if samples is None or not len(samples):
            return page | {"wave": None, "log_mel": None, "loudness": []}
        log_mel = compute_log_mel(torch.from_numpy(samples), self.settings.audio)[0].numpy()
        loudness = measure_loudness(samples, self.settings.audio.sample_rate, start)
        return page | {"wave": trace_wave(samples), "log_mel": paint_log_mel(log_mel), "loudness": loudness}

    def trace_mouth(self, start: float, seconds: float) -> dict[str, Any]:
        """Return how far the mouth is open in a stretch, pairs of seconds and a number, and what that number is."""
        try:
            times, opening, told = self._openings
        except CacheError:
            return {"mouth": [], "mouth_told": "mouth"}
        inside = (times >= start) & (times < start + seconds) & np.isfinite(opening)
        points = np.column_stack([times[inside], opening[inside]]).astype(float).round(4).tolist()
        return {"mouth": points, "mouth_told": told}

    @functools.cached_property
    def _openings(self) -> tuple[np.ndarray, np.ndarray, str]:
        return read_openings(ArrayFile(self.tracks.talk_entry(0)), face=self.track.face)

    @property
    def hertz(self) -> list[tuple[float, str]]:
        """Frequencies, and where they lie on a log-mel from 0 at its bottom to 1 at its top."""
        bands = self.settings.audio.n_mels
        return [(round((place + 0.5) / bands, 4), name) for place, name in list_hertz(self.settings.audio)]

    # Pictures

    def read_frames(self, first: int, count: int) -> list[bytes]:
        """Return so many frames from one on, as JPEGs, fewer where the video ends.

        Raises:
            MediaError: the video can no longer be read.
        """
        numbers = range(first, min(first + count, len(self.track.times)))
        found = read_media(
            self.file,
            keep=numbers.__contains__,
            sample_rate=16_000,
            short_side=SHORT_SIDE,
            last_frame=numbers[-1],
            sound_until=0.0,
            times=self.track.times,
        ).frames
        return [encode_picture(found[number]) for number in numbers if number in found]

    def read_window(self, start: float) -> list[bytes | None]:
        """Return what the model sees of the window that starts at this second: T crops as JPEGs, None where nothing."""
        window = place_window(self.track, self.settings, sampling=start)
        scene = read_takes(self.tracks, 0, self.track, [window])[0].scene
        return [encode_picture(x) if seen else None for x, seen in zip(scene.frames, scene.frame_mask, strict=True)]

    def list_moments(self) -> list[float]:
        """Return how many seconds after its start each of the T moments is that are seen of a window."""
        moments = place_window(self.track, self.settings, sampling=0.0).moments
        return (moments - moments[0]).round(6).tolist()

    def spread_windows(self) -> list[float]:
        """Return where windows start that an evaluation would look at."""
        count = self.settings.evaluate.windows
        placed = (place_window(self.track, self.settings, number=number, of=count) for number in range(count))
        return sorted({float(window.moments[0]) for window in placed})


def open_footage(video: Mapping[str, Any], settings: Settings) -> Footage:
    """Open a video; what is not kept of it yet is extracted first.

    Args:
        video: a row of the manifest or of the video table; its `face` is followed, if it names one.

    Raises:
        MediaError: it cannot be read.
    """
    wanted = {"crops": True, "talks": settings.synchrony.use}  # also where training reads from the videos themselves
    tracks, failures = extract_tracks(pd.DataFrame([dict(video)]), settings, **wanted, progress=False)
    if failures:
        raise MediaError("; ".join(failures.values()))
    return Footage(tracks, tracks.load(0).follow(find_face(video)), settings)


def find_face(video: Mapping[str, Any]) -> int:
    """Return which face of a video its score is of; the first one, where none was scored."""
    face = video.get("face", 0)
    return 0 if pd.isna(face) else int(face)


class Clip:
    """All that is told of one video: what is read of it, its row, its windows' scores, and found stretches.

    Args:
        video: a row of the manifest or of the video table.
        windows: of the window table, those behind this video's score; None where it was not scored.
        found: as `evaluation.list_stretches` has them: `stream`, `start`, `end`, `confidence`.
        threshold: from which score on a window is called fake.
    """

    def __init__(
        self,
        video: Mapping[str, Any],
        footage: Footage,
        windows: pd.DataFrame | None = None,
        *,
        found: Stretches = (),
        threshold: float | None = None,
    ):
        self.video, self.footage, self.windows, self.threshold = video, footage, windows, threshold
        self.found = found.to_dict("records") if isinstance(found, pd.DataFrame) else list(found)
        self.starts = footage.spread_windows() if windows is None else sorted(set(windows["start"].astype(float)))

    @property
    def title(self) -> str:
        return str(self.video["video_id"])

    @functools.cached_property
    def poster(self) -> bytes | None:
        """The first frame as a JPEG; None where there is none, or the video is gone."""
        try:
            return self.footage.read_frames(0, 1)[0] if self.footage.has_picture else None
        except MediaError:
            return None

    def tell(self) -> dict[str, str]:
        """Return what is known of the video in words."""
        track, video = self.footage.track, self.video
        told = {"label": TOLD.get(_read_label(video, "label"), "not known")}
        told |= {name: str(video[name]) for name in FACTS if isinstance(video.get(name), str) and video[name]}
        if not pd.isna(video.get("score", np.nan)):
            called = TOLD.get(_read_label(video, "predicted"))
            told["score"] = format_number(video["score"]) + (f", called {called}" if called else "")
        for name, look in STREAMS.items():
            if not pd.isna(video.get(f"{name}_score", np.nan)):
                told[look["label"]] = format_number(video[f"{name}_score"])
        told |= {lane["name"]: lane["said"] or _tell_times(lane["stretches"]) for lane in self.list_lanes()}
        picture = f"{track.width} × {track.height}, {1 / track.frame_seconds:.4g} frames a second, "
        told["file"] = f"{track.duration:.2f} s, {picture if self.footage.has_picture else ''}{self.footage.codec}"
        return told | ({"face found in": f"{track.face_coverage:.0%}"} if self.footage.has_picture else {})

    def describe(self) -> dict[str, Any]:
        """Return what the view has to know, ready for JSON; times are in seconds after the first frame."""
        footage = self.footage
        return {
            "title": self.title,
            "facts": list(self.tell().items()),
            "duration": footage.track.duration,
            "width": footage.track.width,
            "height": footage.track.height,
            "frame_seconds": footage.track.frame_seconds,
            "lead": footage.lead,
            "codec": footage.codec,
            "pages": footage.pages,
            "hertz": footage.hertz,
            "threshold": self.threshold,
            "curves": self.list_curves(),
            "lanes": self.list_lanes(),
            "looks": [round(start, 4) for start in self.starts],
            "moments": footage.list_moments(),
            "look_seconds": footage.settings.window_seconds,
            "scored": self.windows is not None,
        }

    def show_window(self, number: int) -> dict[str, Any]:
        """Return the crops of a window by its number among `starts`, as `Footage.read_window` does."""
        return {"number": number, "crops": self.footage.read_window(self.starts[number])} if self.starts else {}

    def list_curves(self) -> list[dict[str, Any]]:
        """Return each stream's scores over time, start, end and probability of each window; up is suspicious."""
        if self.windows is None:
            return []
        windows = self.windows.sort_values("start")
        start = windows["start"].to_numpy(float)
        end = windows["end"].to_numpy(float) if "end" in windows else start + self.footage.settings.window_seconds
        curves = []
        for name, look in LINES.items():
            values = windows[name].to_numpy(float)
            values = 1 - values if name == "in_sync_score" else values
            known = np.isfinite(values)
            if known.any():
                points = np.column_stack([start, end, values])[known].round(4).tolist()
                curves.append({"look": look, "dash": DASHES[look["linestyle"]], "points": points})
        return curves

    def list_lanes(self) -> list[dict[str, Any]]:
        """Return where each stream is forged, in truth and as it was found: pairs of seconds, or words."""
        lanes, duration = [], self.footage.track.duration
        for stream, sense in SENSES.items():
            label, named = _read_label(self.video, f"{stream}_fake"), _read_stretches(self.video, f"{stream}_segments")
            stretches = [] if label == 0 else named or ([(0.0, duration)] if label == 1 else [])
            said = {0: "genuine", -1: "" if named else "not known"}.get(label, "")
            lanes.append({"name": f"{sense} forged", "kind": "true", "stretches": stretches, "said": said})
        if _read_label(self.video, "in_sync") == 0:
            lanes.append({"name": "out of step", "kind": "true", "stretches": [(0.0, duration)], "said": ""})
        for stream, sense in FOUND.items():
            found = [(float(one["start"]), float(one["end"])) for one in self.found if one["stream"] == stream]
            if found:
                lanes.append({"name": f"{sense}: found", "kind": "found", "stretches": found, "said": ""})
        return lanes


def read_thumbnail(video: Mapping[str, Any], settings: Settings) -> bytes | None:
    """Return a small picture of a video's face as a JPEG; None where nothing is kept of it, for that takes long."""
    row, face = pd.DataFrame([dict(video)]), find_face(video)
    try:
        if settings.data.read == "shards":
            canvas = extract_tracks(row, settings)[0].read(0, lambda file: _read_middle(file, face))
        else:
            key = make_key(os.path.join(find_root(settings), video["path"]), settings)
            canvas = _find_canvas(Tracks(row, np.array([key], "S24"), settings, crops=True), face)
    except (OSError, CacheError, MediaError):
        return None
    if canvas is None:
        return None
    room = (len(canvas) - settings.video.size) // 2
    crop = canvas[room : room + settings.video.size, room : room + settings.video.size]
    return encode_picture(cv2.resize(crop, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA))


def _find_canvas(tracks: Tracks, face: int) -> NDArray[np.uint8] | None:
    """Return a canvas of a face: one that is kept or, of a track alone, the first that is soon there in the video."""
    if tracks.is_kept(0):
        return tracks.read(0, lambda file: _read_middle(file, face))
    track = load_track(tracks.entry(0, crops=False))
    if track is None:
        return None
    canvases = track.follow(face).lay_canvases(tracks.settings)
    first, found = int(canvases.seen.argmax()), {}
    if canvases.seen.any() and track.times[first] < SOON_SECONDS:
        crop_faces(
            tracks.source(0), canvases, tracks.settings, numbers=[first], take=found.__setitem__, sound_until=0.0
        )
    return found.get(first)


def _read_middle(file: ArrayFile, face: int) -> NDArray[np.uint8] | None:
    """Return the canvas of this face in the middle one of the frames that have any."""
    numbers = file.read(name_crops(face)[1])
    if not len(numbers):
        return None
    (canvas,) = read_crops(file, [numbers[len(numbers) // 2]], face=face).values()
    return canvas


def trace_wave(samples: NDArray[np.float32]) -> dict[str, list[float]]:
    """Return the lowest and highest sample of each of at most `COLUMNS` equal stretches."""
    edges = np.linspace(0, len(samples), min(COLUMNS, len(samples)), endpoint=False).astype(int)
    ends = {"low": np.minimum.reduceat(samples, edges), "high": np.maximum.reduceat(samples, edges)}
    return {name: values.astype(float).round(3).tolist() for name, values in ends.items()}


def measure_loudness(samples: NDArray[np.float32], sample_rate: int, start: float) -> list[list[float]]:
    """Return pairs of seconds and dB of full scale: the root mean square of each `LOUDNESS_SECONDS`."""
    hop = round(LOUDNESS_SECONDS * sample_rate)
    whole = samples[: len(samples) // hop * hop].reshape(-1, hop)
    level = 10 * np.log10(np.maximum((whole**2).mean(axis=1), 10 ** (FLOOR_DB / 10)))
    times = start + (np.arange(len(level)) + 0.5) * LOUDNESS_SECONDS
    return np.column_stack([times, level]).astype(float).round(4).tolist()


def paint_log_mel(log_mel: NDArray[np.floating]) -> bytes:
    """Return a log-mel `[mel bands, steps]` as a PNG, the lowest band at the bottom, at most `COLUMNS` wide."""
    wide = -(-log_mel.shape[1] // COLUMNS)
    edges = np.arange(0, log_mel.shape[1], wide)
    shares = (np.maximum.reduceat(log_mel, edges, axis=1) - DARK) / (BRIGHT - DARK)
    colours = plt.get_cmap("cividis")(np.clip(shares[::-1], 0, 1), bytes=True)
    return cv2.imencode(".png", colours[..., 2::-1])[1].tobytes()


def encode_picture(picture: NDArray[np.uint8]) -> bytes:
    """Return a picture, RGB `[H, W, 3]`, as a JPEG."""
    return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()


def encode_sound(samples: NDArray[np.floating], sample_rate: int) -> bytes:
    """Return a sound, float `[S]`, as a WAV of 16 bits."""
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return target.getvalue()


def _read_label(video: Mapping[str, Any], name: str) -> int:
    value = video.get(name, -1)
    return -1 if pd.isna(value) else int(value)


def _read_stretches(video: Mapping[str, Any], name: str) -> list[tuple[float, float]]:
    value = video.get(name)
    return parse_segments(value) if isinstance(value, str) else []


def _tell_times(stretches: Iterable[tuple[float, float]]) -> str:
    return ", ".join(f"{start:.2f}–{end:.2f} s" for start, end in stretches)
