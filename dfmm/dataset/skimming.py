"""Files of which few windows are asked for: long ones are looked at sparsely, and decoded around these alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dfmm.dataset.windows import UNKNOWN, Window, place_window
from dfmm.extraction.extract import extract_tracks
from dfmm.extraction.pool import run_tasks
from dfmm.extraction.tracks import (
    Part,
    Tracks,
    find_root,
    hash_values,
    list_part_settings,
    make_key,
    save_crops,
    save_track,
)
from dfmm.faces.crops import CENTRE_SECONDS
from dfmm.faces.follow import SAMPLE_RATE
from dfmm.faces.glances import Glances, align_span
from dfmm.faces.track import Track
from dfmm.manifest import STREAM_LABELS
from dfmm.media.container import open_media
from dfmm.media.skim import Skim, SkimError, skim_media
from dfmm.settings import Settings

log = logging.getLogger("dfmm")

FORMAT = 1  # of what is kept of a file that is not decoded as a whole: a higher number makes older entries void
STRETCH = 8.0  # seconds that are decoded around a window: mouth and sound are compared in it as well
MOST = 0.25  # of a file's frames: where more would be decoded, it is decoded as a whole
ROUNDS = 4  # in which windows find their place: what is seen around one may move the others


def tabulate_files(files: Sequence[str]) -> pd.DataFrame:
    """Return the rows of a manifest of loose files, of which nothing is known; each is its own `video_id`."""
    labels = dict.fromkeys(("label", *STREAM_LABELS), UNKNOWN)
    rows = [{"video_id": file, "path": str(Path(file).absolute()), **labels} for file in files]
    return pd.DataFrame(rows).assign(video_segments="", audio_segments="")


def track_files(
    table: pd.DataFrame, settings: Settings, *, crops: bool, talks: bool, whole: bool
) -> tuple[list[Tracks], dict[str, str]]:
    """Return what is found of files for their `evaluate.windows` alone, each decoded once; and why some failed.

    Args:
        crops, talks: as of `extract_tracks`.
        whole: decode long files as a whole, too.

    Returns:
        The tracks of long files, which are read in parts, and those of all others; and reasons, by `video_id`.
    """
    skimmed = skim_videos(table.iloc[:0] if whole else table, settings)
    rest = table[~table["video_id"].isin(list(skimmed))].reset_index(drop=True)
    part = choose_part if crops and settings.data.read == "videos" else None
    others, failures = extract_tracks(rest, settings, crops=crops, talks=talks, choose_part=part, progress=False)
    return [skimmed, others], failures


def skim_videos(manifest: pd.DataFrame, settings: Settings) -> Tracks:
    """Return what is kept of those videos that are long, for their `evaluate.windows` alone, crops and mouths with it.

    The others are to be decoded as a whole: what is short, cannot be read in parts, or shows nobody at a glance.
    """
    root, found = find_root(settings), []
    if not can_skim(settings):
        return Tracks(manifest.iloc[:0], np.array([], "S24"), settings, crops=True, talks=True)
    for path in manifest["path"]:
        try:
            own = make_key(os.path.join(root, path), settings)
            found.append(hash_values([own, "skimmed", FORMAT, STRETCH, *list_part_settings(settings)]))
        except OSError:
            found.append("")
    videos = Tracks(manifest, np.array(found, "S24"), settings, crops=True, talks=settings.synchrony.use)
    missing = [number for number, key in enumerate(found) if key and not videos.is_kept(number)]
    tasks = [(path, *files, settings) for path, *files in map(videos.name_files, missing)]
    for _, failure in run_tasks(make_skimmed_entry, tasks, settings.extract):
        if failure is not None:
            log.debug("decoded as a whole: %s", failure)
    rows = np.array([number for number, key in enumerate(found) if key and videos.is_kept(number)], int)
    return videos.take(rows, manifest.iloc[rows].reset_index(drop=True))


def can_skim(settings: Settings) -> bool:
    """Do these settings ask for windows in one piece, of files as they are?"""
    spread = settings.video.fps == "spread"
    return not (spread or settings.cure.reencode or settings.data.read == "shards")


def make_skimmed_entry(
    path: str | Path, track_file: Path, crops_file: Path, talk_file: Path | None, settings: Settings
) -> None:
    """Find a long video's track, as far as its windows need it, their crops and sound, its mouths and speech.

    Raises:
        SkimError: it is to be decoded as a whole; the message says why.
        MediaError: the file is missing or broken.
    """
    with open_media(path) as container:
        seconds = (container.duration or 0) / 1e6
    if MOST * seconds < settings.evaluate.windows * STRETCH:
        raise SkimError(f"{path}: it is short")
    skim = skim_media(path, sample_rate=SAMPLE_RATE)
    track, windows, spans = find_windows(skim, settings)
    part = _cut_windows(windows, [number for span in spans for number in span])
    save_crops(skim, track, crops_file, settings, talk_file=talk_file, part=part)
    save_track(track, track_file)


def choose_part(track: Track, settings: Settings) -> Part:
    """Return what the `evaluate.windows` of a video show and sound that is decoded as a whole."""
    return _cut_windows(_place_windows(track, settings), None)


def _place_windows(track: Track, settings: Settings) -> list[Window]:
    """Return the windows of all faces that are followed."""
    of = settings.evaluate.windows
    faces = [track.follow(face) for face in range(track.followable)]
    return [place_window(face, settings, number=number, of=of) for face in faces for number in range(of)]


def _cut_windows(windows: Sequence[Window], looked: Sequence[int] | None) -> Part:
    shown = {int(number) for window in windows for number in window.numbers[window.inside]}
    spans = _join_spans([(one.sound_start, one.sound_start + one.sound_seconds) for one in windows])
    return Part(looked, shown, spans)


def _join_spans(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return stretches of time, a tenth of a second longer at both ends, those that meet as one."""
    joined: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        start, end = start - 0.1, end + 0.1
        if joined and start <= joined[-1][1]:
            start, end = joined[-1][0], max(joined.pop()[1], end)
        joined.append((start, end))
    return joined


def find_windows(skim: Skim, settings: Settings) -> tuple[Track, list[Window], list[range]]:
    """Return a track in which all windows, of all followed faces, lie where frames were looked at, and these stretches.

    Windows are placed by what is known; around each that lies elsewhere the video is looked at; and so on until all of
    them rest.

    Raises:
        SkimError: they do not, or more of the file would be decoded than it is worth.
    """
    glances = Glances(skim, settings.video)
    for left in reversed(range(ROUNDS)):
        track = glances.lay_track()
        windows = _place_windows(track, settings)
        lacking = [
            window for window in windows if not glances.covers(_list_frames(track, *_reach(track, window, settings)))
        ]
        if not lacking:
            return track, windows, glances.spans
        if not left:  # to look once more would find out nothing
            break
        spans = [_choose_stretch(track, window, settings) for window in lacking]
        decoded = skim.count_decoded([number for span in glances.plan(spans) for number in span])
        if decoded > MOST * len(track.times):
            raise SkimError(f"{skim.path}: {decoded} of its {len(track.times)} frames would be decoded")
        glances.look_around(spans)
    raise SkimError(f"{skim.path}: its windows do not come to rest")


def _reach(track: Track, window: Window, settings: Settings) -> tuple[float, float]:
    """Return from when to when a window's crops depend on where faces are: two looks, and what smooths a path."""
    around = (2 * settings.video.detect_every + 1) * track.frame_seconds + 4 * CENTRE_SECONDS
    return float(window.moments[0]) - around, float(window.moments[-1]) + around


def _choose_stretch(track: Track, window: Window, settings: Settings) -> range:
    """Return the frames to decode around a window: where the video begins or ends there, as many more on the other."""
    start, end = _reach(track, window, settings)
    more = max(STRETCH - (end - start), 0.0) / 2
    start, end = start - more, end + more
    start, end = start - max(end - track.duration, 0.0), end - min(start, 0.0)
    frames = _list_frames(track, start, end)
    return align_span(frames.start, frames.stop - 1, len(track.times))


def _list_frames(track: Track, start: float, end: float) -> range:
    first, last = np.searchsorted(track.times, [start, end]).clip(0, len(track.times) - 1).tolist()
    return range(first, last + 1)
