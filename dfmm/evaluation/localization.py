"""From scores over time to forged stretches: what each stream found where, and how well that fits the truth.

A stretch is found in three steps, for each stream and for all of them joined:

1. The curve: at each instant the probability of the window around it, with straight lines between the middles of
   windows; before the first and after the last one that of these; of several faces, the most suspicious one's. A window
   turns fake once half of it is forged, so that this curve passes one half where a stretch begins and ends, and
   steeply; a mean of all windows that show an instant would do so over as much again as a window is long. What is
   shorter than a window is found as long as one.
2. Proposals: where the curve is above a level, for many levels, as in temporal actionness grouping (Zhao et al.,
   "Temporal Action Detection with Structured Segment Networks", ICCV 2017, section 3.3). How sure one is, is told by
   how far the curve within lies above the curve just around it (the outer-inner contrast of Shou et al., "AutoLoc",
   ECCV 2018, section 3.4): a part of a forged stretch stands out less than the whole of it.
3. Soft non-maximum suppression (Bodla et al., ICCV 2017, equation 6): what overlaps a surer proposal counts for less.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from dfmm.manifest import parse_segments
from dfmm.metrics import compute_localization, measure_iou, measure_localization

# The curves by name, each with the score of a window that it is made of.
CURVES = {"joint": "score", "video_fake": "video_fake_score", "audio_fake": "audio_fake_score"}
TOLD = {"joint": "forged", "video_fake": "picture forged", "audio_fake": "sound forged"}  # to people
LEVELS = np.linspace(0.05, 0.95, 19)
CALLED = 0.5  # from which probability on a stretch is told to people as forged, where nothing was chosen
RING = 0.25  # of a proposal's length, to either side: what is just around it
SPREAD = 0.5  # of soft non-maximum suppression, sigma of its equation 6
KEPT = 100  # proposals of a video, at most


class Case(NamedTuple):
    """One curve of one video: what is true of it, and what was found."""

    truth: np.ndarray  # [n, 2], seconds
    found: np.ndarray  # [n, 3], seconds and confidence
    identities: str  # of the video
    whole: bool  # is it forged from its start to its end?


# From windows to stretches


def trace_scores(windows: pd.DataFrame, stride: float) -> pd.DataFrame:
    """Return one video's curves: a row for each step of `stride` seconds, the last one ending with the video.

    Args:
        windows: its dense windows, as from `score_timeline`.

    Returns:
        `start` and `end` in seconds, and the columns `CURVES`: probabilities, NaN where no window has such a score.
    """
    begin, end = float(windows["start"].min()), float(windows["end"].max())
    edges = np.append(np.arange(begin, end - stride / 2, stride), end)
    faces = [part for _, part in windows.groupby("face")]
    curves = {
        name: np.fmax.reduce([_follow(edges, part, column, stride) for part in faces])
        for name, column in CURVES.items()
    }
    return pd.DataFrame({"start": edges[:-1], "end": edges[1:], **curves})


def _follow(edges: np.ndarray, windows: pd.DataFrame, column: str, stride: float) -> np.ndarray:
    """Return one face's curve in the middle of each step, float64 [steps]; NaN where no window shows it.

    Between windows that are further apart than the stride, it is that of the nearest one.
    """
    known, middles = windows[windows[column].notna()].sort_values("start"), (edges[:-1] + edges[1:]) / 2
    if known.empty:
        return np.full(len(middles), np.nan)
    start, end, scores = known[["start", "end", column]].to_numpy(float).T
    centres = (start + end) / 2
    after = np.searchsorted(centres, middles)
    left, right = (after - 1).clip(min=0), after.clip(max=len(centres) - 1)
    nearest = np.where(middles - centres[left] < centres[right] - middles, left, right)
    values = np.interp(middles, centres, scores)
    values = np.where(centres[right] - centres[left] > 1.001 * stride, scores[nearest], values)
    return np.where((start[nearest] <= middles) & (middles <= end[nearest]), values, np.nan)


def cut_runs(values: np.ndarray, edges: np.ndarray, level: float) -> np.ndarray:
    """Return where a curve is at least at a level, [runs, 2] in seconds.

    Between the middles of two steps the curve is a straight line; before the first and after the last, and towards a
    gap, it goes on as it is.

    Args:
        values: of each step, [steps]; NaN for a gap.
        edges: of the steps, [steps + 1], in seconds.
    """
    above = np.concatenate([[False], np.nan_to_num(values, nan=-1.0) >= level, [False]])
    bounds = np.flatnonzero(np.diff(above))
    middles, steps = (edges[:-1] + edges[1:]) / 2, len(values)
    times = edges[bounds].astype(float)
    crossed = (bounds > 0) & (bounds < steps)
    crossed[crossed] = np.isfinite(values[bounds[crossed] - 1] + values[bounds[crossed]])
    left, right = bounds[crossed] - 1, bounds[crossed]
    share = (level - values[left]) / (values[right] - values[left])
    times[crossed] = middles[left] + share * (middles[right] - middles[left])
    return times.reshape(-1, 2)


def propose_stretches(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return a curve's proposals, [n, 3]: start, end, confidence; the surest first.

    Args:
        values, edges: as of `cut_runs`.
    """
    runs = np.unique(np.concatenate([cut_runs(values, edges, level) for level in LEVELS]).round(6), axis=0)
    runs = runs[runs[:, 1] > runs[:, 0]]
    ring = RING * (runs[:, 1] - runs[:, 0])
    inner, _ = _integrate(values, edges, runs[:, 0], runs[:, 1])
    sums, seconds = np.add(
        _integrate(values, edges, runs[:, 0] - ring, runs[:, 0]),
        _integrate(values, edges, runs[:, 1], runs[:, 1] + ring),
    )
    outer = sums / np.maximum(seconds, 1e-9)
    confidence = inner / (runs[:, 1] - runs[:, 0]) - outer
    return suppress_overlaps(np.column_stack([runs, confidence])[confidence > 0])


def _integrate(values: np.ndarray, edges: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the areas under a curve between some starts and ends, and over how many seconds it is known, [2, n]."""
    known = np.isfinite(values)
    areas = np.where(known, np.nan_to_num(values), 0) * np.diff(edges), known * np.diff(edges)
    return np.stack(
        [np.diff(np.interp([start, end], edges, np.append(0, np.cumsum(each))), axis=0)[0] for each in areas]
    )


def suppress_overlaps(proposals: np.ndarray) -> np.ndarray:
    """Return the surest of proposals [n, 3], one by one, each lowering the confidence of those it overlaps."""
    left, kept = proposals.copy(), []
    while len(left) and len(kept) < KEPT:
        surest = left[:, 2].argmax()
        kept.append(left[surest])
        left = np.delete(left, surest, axis=0)
        left[:, 2] *= np.exp(-(measure_iou(left, kept[-1]) ** 2) / SPREAD)
    return np.array(kept).reshape(-1, 3)


def locate_video(
    timeline: pd.DataFrame, video: Mapping[str, Any], stride: float, level: float | None = None
) -> tuple[pd.DataFrame, dict[str, np.ndarray | None], list[dict[str, Any]]]:
    """Return a video's curves, its true stretches and those that were found, as `figures.plot_stretches` takes them.

    Args:
        timeline: as from `score_timeline`, with windows of this video.
        video: its row of the manifest or of the video table.
        level: as of `list_stretches`.
    """
    curves = trace_scores(timeline[timeline["video_id"] == video["video_id"]], stride)
    return curves, find_truth(video, curves["start"].iloc[0], curves["end"].iloc[-1]), list_stretches(curves, level)


def list_stretches(curves: pd.DataFrame, level: float | None = None) -> list[dict[str, Any]]:
    """Return what to tell people of a video: where each of its curves is high enough to be called forged.

    Args:
        level: from which on windows are called fake, as validation chose it for the joint curve; None, and for each
            stream alone, for which nobody chose: `CALLED`.

    Returns:
        `stream` (one of `CURVES`), `start`, `end` in seconds, and `confidence`, the mean probability there.
    """
    edges, found = _list_edges(curves), []
    for stream in CURVES:
        values = curves[stream].to_numpy()
        called = level if stream == "joint" and level is not None else CALLED
        for start, end in cut_runs(values, edges, called):
            area, seconds = _integrate(values, edges, np.array([start]), np.array([end]))
            sure = round(float(area[0] / seconds[0]), 3)
            found.append({"stream": stream, "start": round(start, 3), "end": round(end, 3), "confidence": sure})
    return found


def describe_stretches(stretches: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return stretches, as `list_stretches` has them, in words: a text for each stream that has any."""
    said: dict[str, list[str]] = {}
    for one in stretches:
        times = f"{one['start']:.2f}–{one['end']:.2f} s ({one['confidence']:.2f})"
        said.setdefault(TOLD[one["stream"]], []).append(times)
    return {name: ", ".join(times) for name, times in said.items()}


def _list_edges(curves: pd.DataFrame) -> np.ndarray:
    return np.append(curves["start"].to_numpy(), curves["end"].iloc[-1])


# The truth, and what it says of them


def find_truth(row: Mapping[str, Any], begin: float, end: float) -> dict[str, np.ndarray | None]:
    """Return where a video is forged, by the names of `CURVES`, [n, 2] in seconds; None where nobody knows.

    A stream that is forged and names no stretch is forged all through; so is a fake of which neither stream names one,
    and what is out of step. Of all streams joined it is what is forged in any of them, and unknown where one is.

    Args:
        row: of the manifest.
        begin, end: of what was scored of it; what is forged beyond is left out.
    """
    whole, streams = [(begin, end)], {}
    for stream in ("video", "audio"):
        label, named = int(row[f"{stream}_fake"]), parse_segments(row[f"{stream}_segments"])
        streams[f"{stream}_fake"] = [] if label == 0 else named or (whole if label == 1 else None)
    told = [pair for named in streams.values() for pair in named or ()]
    if int(row["label"]) == 0:
        joint: list[tuple[float, float]] | None = []
    elif int(row["in_sync"]) == 0 or not told or whole[0] in told:
        joint = whole
    else:
        joint = None if None in streams.values() else told
    return {
        name: None if some is None else _unite(some, begin, end) for name, some in (("joint", joint), *streams.items())
    }


def _unite(pairs: list[tuple[float, float]], begin: float, end: float) -> np.ndarray:
    """Return stretches that do not meet, [n, 2], in order and between begin and end."""
    united: list[list[float]] = []
    for first, last in sorted((max(low, begin), min(high, end)) for low, high in pairs):
        if united and first <= united[-1][1]:
            united[-1][1] = max(united[-1][1], last)
        elif first < last:
            united.append([first, last])
    return np.array(united).reshape(-1, 2)


def measure_timeline(
    timeline: pd.DataFrame, videos: pd.DataFrame, stride: float, *, replicates: int = 1000
) -> dict[str, Any] | None:
    """Return how well the found stretches fit the true ones, ready for JSON; None where nothing is forged.

    Args:
        timeline: as from `score_timeline`.
        videos: as from `score_split`; those without a score are left out.

    Returns:
        `stride`; `streams`, by the names of `CURVES`, of all videos whose truth is known: what `compute_localization`
        returns, `whole`, how many of the true stretches are whole videos, and `official`, as published evaluators
        count; `partly`, the same without the videos that are forged all through, where there are both kinds.
    """
    scored = videos[videos["status"] == "ok"].set_index("video_id")
    cases: dict[str, list[Case]] = {name: [] for name in CURVES}
    for name, windows in timeline[timeline["video_id"].isin(scored.index)].groupby("video_id", sort=False):
        for stream, case in judge_video(windows, scored.loc[name], stride).items():
            cases[stream].append(case)
    forged = {name: some for name, some in cases.items() if any(len(case.truth) for case in some)}
    streams = {name: _measure(some, replicates) for name, some in forged.items()}
    partly = {
        name: _measure([case for case in forged[name] if not case.whole], replicates)
        for name, found in streams.items()
        if 0 < found["whole"] < found["segments"]
    }
    return {"stride": stride, "streams": streams, "partly": partly} if streams else None


def judge_video(windows: pd.DataFrame, row: Mapping[str, Any], stride: float) -> dict[str, Case]:
    """Return what was found of one video beside its truth, for each curve that there is and whose truth is known."""
    curves = trace_scores(windows, stride)
    edges, cases = _list_edges(curves), {}
    for stream, truth in find_truth(row, edges[0], edges[-1]).items():
        if truth is not None and curves[stream].notna().any():
            found, whole = propose_stretches(curves[stream].to_numpy(), edges), np.array([edges[[0, -1]]])
            is_whole = truth.shape == whole.shape and bool(np.abs(truth - whole).max() < 1e-3)
            cases[stream] = Case(truth, found, row["identities"], is_whole)
    return cases


def _measure(cases: list[Case], replicates: int) -> dict[str, Any]:
    truth, found, identities, whole = zip(*cases, strict=True)
    measured = compute_localization(truth, found, identities=identities, replicates=replicates)
    return measured | {"whole": sum(whole), "official": measure_localization(truth, found, official=True)}
