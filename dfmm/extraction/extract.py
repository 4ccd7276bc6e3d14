"""What is kept of every video of a manifest, found in parallel, once, whoever asks and however often it is cut off."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from dfmm.bars import show_progress
from dfmm.extraction.pool import run_tasks
from dfmm.extraction.shards import Shards
from dfmm.extraction.store import (
    remove_partials,
)
from dfmm.extraction.tracks import ChoosePart, Tracks, find_root, hash_values, make_entry, make_key
from dfmm.faces.track import Track
from dfmm.files import write_whole
from dfmm.media.container import MediaError
from dfmm.settings import Settings, resolve_path

NAMED = 3  # videos that a warning names

log = logging.getLogger("dfmm")


def extract_tracks(
    manifest: pd.DataFrame,
    settings: Settings,
    *,
    crops: bool = False,
    talks: bool = False,
    choose_part: ChoosePart | None = None,
    progress: bool = True,
) -> tuple[Tracks, dict[str, str]]:
    """Find, in parallel, the track of every video that has none kept yet, and what else of it is wanted.

    A worker that crashes or hangs costs its own file only. Of several processes that ask at once, one does the work.

    Args:
        crops: crops and sound are wanted; mouths and speech come with them, unless `synchrony.use` is off.
        talks: mouths and speech are wanted, of what was extracted before as well.
        choose_part: of its crops and sound that is wanted of a video; all of them without.

    Returns:
        Tracks and, for the videos that failed, the reason, both by `video_id`.
    """
    if settings.data.read == "shards":
        return Shards(manifest, settings), {}
    root, keys, failures = find_root(settings), [], {}
    for name, path in zip(manifest["video_id"], manifest["path"], strict=True):
        try:
            keys.append(make_key(os.path.join(root, path), settings))
        except OSError:
            keys.append("")
            failures[name] = f"{os.path.join(root, path)}: no such file"
    wanted = {"crops": crops, "talks": talks, "choose_part": choose_part}
    videos = Tracks(manifest, np.array(keys, "S24"), settings, **wanted)
    missing = [number for number, key in enumerate(keys) if key and not videos.is_kept(number)]
    if missing:
        try:
            failures |= _extract_missing(videos, missing, progress=progress)
        except BaseException:  # and nobody gets to know of the parts that are there by now
            videos.drop_parts()
            raise
    for name, reason in failures.items():
        log.warning("%s is left out: %s", name, reason)
    there = ~manifest["video_id"].isin(list(failures)).to_numpy()
    kept = manifest[there].reset_index(drop=True)
    return Tracks(kept, videos.keys[there], settings, **wanted), failures


def _extract_missing(videos: Tracks, missing: list[int], *, progress: bool) -> dict[str, str]:
    """Extract what is not kept yet; return why some of it failed, by `video_id`."""
    settings = videos.settings
    scope = videos.cache / "locks" / hash_values(_describe_scope(settings))
    record = scope.with_suffix(".json")  # what failed: whoever waited for it need not try that again
    before = _find_state(record)
    with _hold_lock(scope.with_suffix(".lock")):
        known = {} if _find_state(record) == before else json.loads(record.read_bytes())
        keys = {number: videos.keys[number].decode() for number in missing}
        failures = {number: known[key] for number, key in keys.items() if key in known}
        missing = [number for number in missing if number not in failures and not videos.is_kept(number)]
        if missing:
            for folder in (videos.cache, *(videos.cache / kind for kind in ("tracks", "crops", "talks"))):
                remove_partials(folder)
            log.info("extracting %d of %d videos into %s", len(missing), len(videos), settings.data.cache)
            files = [videos.name_files(number) for number in missing]
            found = _extract_in_parallel(files, settings, videos.choose_part)
            found = show_progress(found, "extracting", unit="file", total=len(missing), show=progress, lines=True)
            results = {missing[number]: result for number, result in found}
            failures |= {number: str(result) for number, result in results.items() if isinstance(result, MediaError)}
            write_whole(json.dumps({keys[number]: failures[number] for number in sorted(failures)}), record)
            named = {videos.manifest["video_id"].iat[number]: results[number] for number in sorted(results)}
            _report_fallbacks(named, settings.video.detector)
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
    """Return where the failures of a manifest's videos are listed, unless another file is named."""
    name = hash_values([*_describe_scope(settings), settings.data.manifest])
    return resolve_path(settings.data.cache) / "failures" / f"{name}.csv"


def write_failures(manifest: pd.DataFrame, failures: Mapping[str, str], path: str | Path) -> Path:
    """Write a CSV of `video_id`, `path` and `reason`, in the manifest's order; it appears whole or not at all."""
    failed = manifest.loc[manifest["video_id"].isin(list(failures)), ["video_id", "path"]]
    return write_whole(failed.assign(reason=failed["video_id"].map(failures)).to_csv(index=False), path)


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
            "left_out": track.left_out,
            "shots": track.shots,
            "gaps": track.gaps,
            "has_sound": track.has_sound,
            "lone_channel": track.lone_channel,
        }
        for track in (tracks[name] for name in manifest["video_id"])
    ]
    facts = manifest[["video_id", "split", "label", "method"]].reset_index(drop=True)
    return pd.concat([facts, pd.DataFrame(rows)], axis=1)


def _extract_in_parallel(
    files: list[tuple[str, Path, Path | None, Path | None]], settings: Settings, choose_part: ChoosePart | None
) -> Iterator[tuple[int, str | MediaError]]:
    """Make the entries of these files; yield each one's number and detector, or why it failed, as they come."""
    tasks = [(path, track, crops, settings, talk, choose_part) for path, track, crops, talk in files]
    return run_tasks(make_entry, tasks, settings.extract)


def _report_fallbacks(detectors: Mapping[str, str | MediaError], wanted: str) -> None:
    """Say once how many videos needed another detector, or show nobody, and name the first of them."""
    found = {video: name for video, name in detectors.items() if isinstance(name, str)}
    for name in sorted(set(found.values()) - {wanted}):
        what = "no face was found, their frames are masked" if name == "nobody" else f"face found by {name} only"
        such = [video for video, detector in found.items() if detector == name]
        named = ", ".join(such[:NAMED]) + (", …" if len(such) > NAMED else "")
        log.warning("%d of %d videos: %s (%s)", len(such), len(found), what, named)
