"""What is found once in every video and kept: its timing, the tracks of faces and, if asked for, crops and sound."""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from dfmm.data.cache import (
    ArrayFile,
    ArrayWriter,
    CacheError,
    Track,
    measure_span,
    name_crops,
    name_partial,
    read_track,
    remove_partials,
    write_sound,
    write_track,
)
from dfmm.data.media import MediaError, Recording, Sound
from dfmm.data.pool import run_tasks
from dfmm.data.reencode import list_profile, prepare_file
from dfmm.data.tracking import crop_faces, find_track
from dfmm.runs import show_progress
from dfmm.settings import Settings, resolve_path

ROOM = 128 << 20  # bytes for a video's frames: one that fits is decoded once, for its track and its crops
FORMAT = 7  # of the cache: a higher number makes older entries void

# Tracks are small, but to read one and lay its canvases takes longer than to read a window: so many are remembered, if
# they have no more frames than that. Together they never take more than some 0.5 GB, and usually 20 MB.
MOST_RECENT, LONGEST_RECENT = 1024, 10_000

T = TypeVar("T")

log = logging.getLogger("dfmm")


def save_track(track: Track, place: Path) -> None:
    """Write a track; the file appears whole or not at all."""
    with ArrayWriter(place) as writer:
        write_track(writer, track)


def load_track(place: Path) -> Track | None:
    """Read a saved track; None if there is none, or it is damaged and must be found again."""
    try:
        return read_track(ArrayFile(place))
    except CacheError:
        return None


def save_crops(path: str | Path | Recording, track: Track, place: Path, settings: Settings) -> None:
    """Write a video's track, the canvases of all frames with a face, and its sound; no frame is kept in memory.

    Raises:
        MediaError: the video cannot be read.
        CacheError: the disk does not take it.
    """
    with ArrayWriter(place) as writer:
        sounds = [_write_crops(writer, path, track.follow(face), settings) for face in range(track.places)]
        write_sound(writer, sounds[0])
        write_track(writer, track)


def _write_crops(writer: ArrayWriter, path: str | Path | Recording, track: Track, settings: Settings) -> Sound | None:
    """Write the canvases of the face that a track follows; return the sound."""
    (crops, names), canvases, numbers = name_crops(track.place), track.lay_canvases(settings), []

    def take(number: int, crop: np.ndarray) -> None:
        writer.append(crops, crop[None])
        numbers.append(number)

    writer.append(crops, np.zeros((0, canvases.side, canvases.side, 3), np.uint8))
    sound = crop_faces(path, canvases, settings, numbers=range(len(track.times)), take=take)
    writer.append(names, np.array(numbers, np.int64))
    return sound


class Tracks(Mapping[str, Track]):
    """The tracks of many videos by `video_id`, read from the cache when asked for: a million cost but their keys.

    What is found damaged is made again.

    Args:
        manifest: the videos' rows.
        keys: of their entries in the cache, `[n]`, as from `make_key`.
        crops: are they read from the files that hold crops and sound as well?
    """

    def __init__(self, manifest: pd.DataFrame, keys: np.ndarray, settings: Settings, *, crops: bool):
        self.manifest, self.keys, self.settings, self.crops = manifest, keys, settings, crops
        self.root, self.cache = find_root(settings), resolve_path(settings.data.cache)
        self.recent: OrderedDict[int, Track] = OrderedDict()  # the last ones used, unless they are long

    def __len__(self) -> int:
        return len(self.manifest)

    def __iter__(self) -> Iterator[str]:
        return iter(self.manifest["video_id"])

    def __contains__(self, video_id: object) -> bool:
        return video_id in self._index

    def __getitem__(self, video_id: str) -> Track:
        return self.load(self._index.get_loc(video_id))

    @functools.cached_property
    def _index(self) -> pd.Index:
        return pd.Index(self.manifest["video_id"])

    def take(self, rows: np.ndarray, manifest: pd.DataFrame) -> Tracks:
        """Return the tracks of a manifest whose row n stands for the video of this one's row `rows[n]`."""
        taken = copy.copy(self)
        taken.manifest, taken.keys = manifest, self.keys[rows]
        taken.__dict__.pop("_index", None)
        return taken

    def path(self, number: int) -> str:
        """Return where the video of this row is."""
        return os.path.join(self.root, self.manifest["path"].iat[number])

    def source(self, number: int) -> Path:
        """Return the file that is decoded for this row: the video, or its new encoding, made again if it is gone.

        Raises:
            MediaError: it cannot be made.
        """
        return prepare_file(self.path(number), self.settings)

    def place(self, number: int, *, crops: bool) -> Path:
        """Return where what is kept of it is: its track alone, or its crops and sound too."""
        key = self.keys[number].decode()
        if crops:
            key = _hash([key, *list_crop_settings(self.settings).values()])
        return self.cache / ("crops" if crops else "tracks") / key[:2] / f"{key}.safetensors"

    def name_files(self, number: int) -> tuple[str, Path, Path | None]:
        """Return the video's file and those that are to be made of it, as `make_entry` takes them."""
        crops = self.place(number, crops=True) if self.crops else None
        return self.path(number), self.place(number, crops=False), crops

    def is_kept(self, number: int) -> bool:
        return self.place(number, crops=self.crops).is_file()

    def load(self, number: int) -> Track:
        """Read the track of this row's video, or return it as it was read not long ago.

        Raises:
            MediaError: it is damaged, and the video can no longer be read.
        """
        track = self.recent.pop(number, None) or self.read(number, read_track)
        if len(track.times) <= LONGEST_RECENT:
            self.recent[number] = track
            if len(self.recent) > MOST_RECENT:
                self.recent.popitem(last=False)
        return track

    def read(self, number: int, read: Callable[[ArrayFile], T]) -> T:
        """Apply a function to the file kept of this row's video, made again where it is damaged."""
        place = self.place(number, crops=self.crops)
        try:
            return read(ArrayFile(place))
        except CacheError as error:
            log.warning("%s; it is made again", error)
            make_entry(*self.name_files(number), self.settings)
            return read(ArrayFile(place))


def find_root(settings: Settings) -> str:
    """Return the data's root, links followed."""
    return os.path.realpath(resolve_path(settings.data.root))


def make_key(path: str, settings: Settings) -> str:
    """Return the name of a video's track: another file, time of change, encoding or way to look, another name.

    Raises:
        OSError: there is no such file.
    """
    state = os.stat(path)
    return _hash([FORMAT, path, state.st_size, state.st_mtime_ns, *list_track_settings(settings).values()])


def list_track_settings(settings: Settings) -> dict[str, Any]:
    """Return the settings that a track depends on."""
    looked = {name: getattr(settings.video, name) for name in ("detector", "detect_side", "detect_every", "face")}
    return {"reencoded": list(list_profile(settings.cure)), **looked}


def list_crop_settings(settings: Settings) -> dict[str, Any]:
    """Return the settings that crops and sound depend on, beside their track."""
    video = settings.video
    return {
        "margin": video.margin,
        "size": video.size,
        "crop": video.crop,
        "span": str(measure_span(settings)),
        "face_pixels": settings.cure.face_pixels,
        "sample_rate": settings.audio.sample_rate,
    }


def _hash(values: list[Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:24]


def make_entry(path: str | Path, track_place: Path, crops_place: Path | None, settings: Settings) -> str:
    """Find a video's track, unless it is kept already, and its crops and sound, if they are asked for.

    Returns:
        The detector that found the face.
    """
    video, track = prepare_file(path, settings), load_track(track_place)
    if track is None:
        video = Recording(video, room=ROOM if crops_place else 0)
        track = find_track(video, settings.video)
        save_track(track, track_place)
    if crops_place is not None:
        save_crops(video, track, crops_place, settings)
    return track.detector


def extract_tracks(
    manifest: pd.DataFrame, settings: Settings, *, crops: bool = False, progress: bool = True
) -> tuple[Tracks, dict[str, str]]:
    """Find, in parallel, the track of every video that has none kept yet, and its crops and sound if they are wanted.

    A worker that crashes or hangs costs its own file only. Of several processes that ask at once, one does the work.

    Returns:
        Tracks and, for the videos that failed, the reason, both by `video_id`.
    """
    if settings.data.read == "shards":
        from dfmm.data.shards import Shards  # builds upon this module

        return Shards(manifest, settings), {}
    root, keys, failures = find_root(settings), [], {}
    for name, path in zip(manifest["video_id"], manifest["path"], strict=True):
        try:
            keys.append(make_key(os.path.join(root, path), settings))
        except OSError:
            keys.append("")
            failures[name] = f"{os.path.join(root, path)}: no such file"
    videos = Tracks(manifest, np.array(keys, "S24"), settings, crops=crops)
    missing = [number for number, key in enumerate(keys) if key and not videos.is_kept(number)]
    if missing:
        failures |= _extract_missing(videos, missing, progress=progress)
    for name, reason in failures.items():
        log.warning("%s is left out: %s", name, reason)
    there = ~manifest["video_id"].isin(list(failures)).to_numpy()
    return Tracks(manifest[there].reset_index(drop=True), videos.keys[there], settings, crops=crops), failures


def _extract_missing(videos: Tracks, missing: list[int], *, progress: bool) -> dict[str, str]:
    """Extract what is not kept yet; return why some of it failed, by `video_id`."""
    settings = videos.settings
    scope = videos.cache / "locks" / _hash(_describe_scope(settings))
    record = scope.with_suffix(".json")  # what failed: whoever waited for it need not try that again
    before = _find_state(record)
    with _hold_lock(scope.with_suffix(".lock")):
        known = {} if _find_state(record) == before else json.loads(record.read_bytes())
        keys = {number: videos.keys[number].decode() for number in missing}
        failures = {number: known[key] for number, key in keys.items() if key in known}
        missing = [number for number in missing if number not in failures and not videos.is_kept(number)]
        if missing:
            for folder in (videos.cache, videos.cache / "tracks", videos.cache / "crops"):
                remove_partials(folder)
            log.info("extracting %d of %d videos into %s", len(missing), len(videos), settings.data.cache)
            found = _extract_in_parallel([videos.name_files(number) for number in missing], settings)
            found = show_progress(found, "extracting", unit="file", total=len(missing), show=progress, lines=True)
            results = {missing[number]: result for number, result in found}
            failures |= {number: str(result) for number, result in results.items() if isinstance(result, MediaError)}
            _write_text(json.dumps({keys[number]: failures[number] for number in sorted(failures)}), record)
            _report_fallbacks([name for name in results.values() if isinstance(name, str)], settings.video.detector)
    return {videos.manifest["video_id"].iat[number]: reason for number, reason in failures.items()}


@contextmanager
def _hold_lock(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("waiting for another process that extracts the same data")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _find_state(path: Path) -> tuple[int, int] | None:
    """Return what differs whenever a file is written anew, None while there is none."""
    with suppress(FileNotFoundError):
        state = path.stat()
        return state.st_ino, state.st_mtime_ns
    return None


def _describe_scope(settings: Settings) -> list[Any]:
    """Return what tells one extraction of a root from another."""
    asked = [settings.video.model_dump(), settings.cure.model_dump(), settings.audio.sample_rate]
    return [find_root(settings), *asked]


def name_failures(settings: Settings) -> Path:
    """Return where the failures of a manifest's videos are listed, unless another place is named."""
    name = _hash([*_describe_scope(settings), settings.data.manifest])
    return resolve_path(settings.data.cache) / "failures" / f"{name}.csv"


def write_failures(manifest: pd.DataFrame, failures: Mapping[str, str], path: str | Path) -> Path:
    """Write a CSV of `video_id`, `path` and `reason`, in the manifest's order; it appears whole or not at all."""
    failed = manifest.loc[manifest["video_id"].isin(list(failures)), ["video_id", "path"]]
    return _write_text(failed.assign(reason=failed["video_id"].map(failures)).to_csv(index=False), Path(path))


def _write_text(text: str, path: Path) -> Path:
    partial = name_partial(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return path


def tabulate_tracks(manifest: pd.DataFrame, tracks: Mapping[str, Track]) -> pd.DataFrame:
    """Return a row a video: what was found in it, beside its `video_id`, `split`, `label` and `method`."""
    rows = [
        {
            "seconds": track.duration,
            "fps": 1 / track.frame_seconds if len(track.times) else np.nan,
            "width": track.width,
            "height": track.height,
            "has_face": track.has_face,
            "detector": track.detector,
            "face_coverage": track.face_coverage,
            "faces": track.faces,
            "shots": track.shots,
            "gaps": track.gaps,
            "has_sound": track.has_sound,
        }
        for track in (tracks[name] for name in manifest["video_id"])
    ]
    facts = manifest[["video_id", "split", "label", "method"]].reset_index(drop=True)
    return pd.concat([facts, pd.DataFrame(rows)], axis=1)


def _extract_in_parallel(
    files: list[tuple[str, Path, Path | None]], settings: Settings
) -> Iterator[tuple[int, str | MediaError]]:
    """Make the entries of these files; yield each one's number and detector, or why it failed, as they come."""
    return run_tasks(make_entry, [(*places, settings) for places in files], settings.extract)


def _report_fallbacks(detectors: list[str], wanted: str) -> None:
    """Say once how many videos needed another detector, or show nobody."""
    for name in sorted(set(detectors) - {wanted}):
        what = "no face was found, their frames are masked" if name == "nobody" else f"face found by {name} only"
        log.warning("%d of %d videos: %s", detectors.count(name), len(detectors), what)
