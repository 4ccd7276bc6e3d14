"""Which seconds are forged: average precision and recall of found segments against true ones, with intervals.

A found segment hits a true one of its own video where their intersection over union (IoU) is large enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dfmm.metrics.intervals import Interval, bound_proportion, check_options, choose_bounds, describe
from dfmm.metrics.people import Crowd, Floats, Ints, MetricError, draw_weights, find_people

IOUS = tuple(np.linspace(0.5, 0.95, 10).round(2).tolist())  # of average recall
AP_IOUS = (0.5, 0.75, 0.9, 0.95)
COUNTS = (100, 50, 20, 10)  # found segments of a video, the surest ones, that average recall looks at
CELLS = 2**22  # replicates times found segments measured at a time


@dataclass(frozen=True)
class Matches:
    """The found segments of all videos, the surest first, and which of them hit."""

    videos: Ints  # [D], the video of each
    ends: Ints  # [K], the last of each group of equal confidence
    hits: np.ndarray  # bool [IOUS, D]
    recalled: Floats  # [videos, COUNTS], true segments that are found among so many, on the average over the IoUs
    labels: Ints  # [videos], true segments


def measure_localization(
    truth: Sequence[ArrayLike], found: Sequence[ArrayLike], *, official: bool = False
) -> dict[str, dict[str, float | None]]:
    """Average precision at some IoUs, and average recall with so many found segments of each video.

    By the textbook: all found segments of the split are ranked by confidence, and each in turn takes that true segment
    of its video which it overlaps most, of those not yet taken, if IoU ≥ t. AP is the area under the envelope of
    precision over recall (Everingham et al., "The PASCAL Visual Object Classes Challenge", IJCV 2010, as ActivityNet's
    and UMMAFormer's evaluators have it); what is equally sure is counted together. AR is the share of the true segments
    that are hit by one of the so many surest of their video, on the average over IoU .5, .55, …, .95.

    With `official`, as the evaluators of LAV-DF and BA-TFD (github.com/ControlNet/LAV-DF, `metrics.py`) and of
    AV-Deepfake1M (github.com/ControlNet/AV-Deepfake1M, `src/loc_1d.rs`) have it, to compare with what is published:

    - The area begins at the recall of the surest found segment, not at 0. Where that one is a hit, AP lacks one part
      of as many as there are true segments: a perfect list of n has 1 - 1/n, and one of a single segment 0.
    - IoU > t, not ≥.
    - Each true segment in turn takes the surest found one that overlaps it enough and is not taken. Of true segments
      that do not overlap each other that comes to the same; AR asks for no more than one that overlaps enough.
    - What is equally sure stays in the order of the videos.
    - In AR, the true segments of a video in which nothing was found do not count as missed. (So says AV-Deepfake1M's;
      LAV-DF's fails on a video with fewer found segments than asked for.)

    Args:
        truth: of each video, its true segments, [n, 2]: start and end in seconds.
        found: of each video, what was found in it, [n, 3]: start, end, confidence.

    Returns:
        `{"ap": {"0.5", …}, "ar": {"100", …}}`; None where there is no true segment.

    Raises:
        MetricError: not as many of one as of the other, or a segment that ends before it starts or is no number.
    """
    matches = match_segments(truth, found, official=official)
    once = np.ones((1, len(matches.labels)), int)
    values = np.concatenate([_average_precision(matches, once, official), _average_recall(matches, once, official)], 1)
    return _name([None if np.isnan(value) else float(value) for value in values[0]])


def compute_localization(
    truth: Sequence[ArrayLike],
    found: Sequence[ArrayLike],
    *,
    identities: Sequence[str] | None = None,
    confidence: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """The same by the textbook, each with its interval: people are drawn again, as in `compute_metrics`.

    Where replicates cannot know, Wilson's interval stands in, of as many independent segments as there are people in
    whose videos they are.

    Args:
        identities: [videos], the identities a video names joined by `|`; "" = unknown, then the video is its own.

    Returns:
        `{"ap": {iou: {"value", "low", "high"}}, "ar": {count: …}, "videos", "segments", "found"}`.
    """
    check_options(confidence, replicates)
    matches, crowd = match_segments(truth, found), find_people(identities, len(truth))
    value, draws = _measure(matches, np.ones((1, len(truth)), int))[0], _replicate(matches, crowd, replicates, seed)
    worth = _count_people(crowd.select(matches.labels > 0))
    counted = {"videos": len(truth), "segments": int(matches.labels.sum()), "found": len(matches.videos)}
    return _name([_bound(*pair, worth, confidence) for pair in zip(value, draws.T, strict=True)]) | counted


def match_segments(truth: Sequence[ArrayLike], found: Sequence[ArrayLike], *, official: bool = False) -> Matches:
    """Say of each found segment at which IoUs it hits a true one of its video; see `measure_localization`."""
    if len(truth) != len(found):
        raise MetricError(f"expected what was found in {len(truth)} videos, got {len(found)}: an empty list is nothing")
    true, lists = [_check(one, 2) for one in truth], [_check(one, 3) for one in found]
    lists = [one[np.argsort(-one[:, 2], kind="stable")] for one in lists]
    take = _take_by_truth if official else _take_by_confidence
    results = [take(measure_iou(one[:, None], other[None])) for one, other in zip(lists, true, strict=True)]
    confidence = np.concatenate([np.zeros(0), *(one[:, 2] for one in lists)])
    order = np.argsort(-confidence, kind="stable")
    hits = np.concatenate([np.zeros((len(IOUS), 0), bool), *(hits for hits, _ in results)], axis=1)
    tied = np.append(np.diff(confidence[order]) != 0, True) if len(order) else np.zeros(0, bool)
    return Matches(
        videos=np.repeat(np.arange(len(lists)), [len(one) for one in lists])[order],
        ends=np.arange(len(order)) if official else np.flatnonzero(tied),
        hits=hits[:, order],
        recalled=np.array([recalled for _, recalled in results]).reshape(-1, len(COUNTS)),
        labels=np.array([len(one) for one in true], int),
    )


def measure_iou(one: ArrayLike, other: ArrayLike) -> Floats:
    """Intersection over union of segments whose first two numbers `[…, 2 or more]` are start and end, by broadcasting.

    Of two that do not meet it is 0.
    """
    one, other = np.asarray(one, float), np.asarray(other, float)
    common = np.minimum(one[..., 1], other[..., 1]) - np.maximum(one[..., 0], other[..., 0])
    both = one[..., 1] - one[..., 0] + other[..., 1] - other[..., 0]
    common = common.clip(min=0)
    return common / (both - common)


def _check(segments: ArrayLike, width: int) -> Floats:
    found = np.asarray(segments, float)
    found = found.reshape(0, width) if not found.size else found
    if found.ndim != 2 or found.shape[1] != width or not np.isfinite(found).all():
        raise MetricError(f"expected {width} finite numbers of each segment, in seconds, got shape {found.shape}")
    wrong = found[found[:, 1] <= found[:, 0]]
    if len(wrong):
        raise MetricError(f"expected segments that end after they start, got one from {wrong[0, 0]} to {wrong[0, 1]} s")
    return found


def _take_by_confidence(ious: Floats) -> tuple[np.ndarray, Floats]:
    """Return what hits, bool [IOUS, n], and how many are recalled, [COUNTS], of one video's IoUs [n, true segments]."""
    levels, hits = np.array(IOUS), np.zeros((len(IOUS), len(ious)), bool)
    free = np.ones((len(IOUS), ious.shape[1]), bool)
    for number in np.flatnonzero((ious >= IOUS[0]).any(axis=1)):
        left = np.where(free, ious[number], -1.0)
        best = left.argmax(axis=1)
        hits[:, number] = left.max(axis=1) >= levels
        free[hits[:, number], best[hits[:, number]]] = False
    return hits, np.array([hits[:, :count].sum(axis=1).mean() for count in COUNTS])


def _take_by_truth(ious: Floats) -> tuple[np.ndarray, Floats]:
    """Return the same by the rules of the published evaluators."""
    hits, recalled = np.zeros((len(IOUS), len(ious)), bool), np.zeros((len(IOUS), len(COUNTS)))
    for row, level in enumerate(IOUS):
        for enough in (ious > level).T:
            hits[row, np.flatnonzero(enough & ~hits[row])[:1]] = True
        recalled[row] = [(ious[:count] > level).any(axis=0).sum() for count in COUNTS]
    return hits, recalled.mean(axis=0)


def _measure(matches: Matches, weights: np.ndarray) -> Floats:
    """AP and AR, [replicates, AP_IOUS + COUNTS], of weights of the videos, [replicates, videos]."""
    return np.concatenate([_average_precision(matches, weights), _average_recall(matches, weights)], axis=1)


def _average_precision(matches: Matches, weights: np.ndarray, official: bool = False) -> Floats:
    """AP, [replicates, AP_IOUS]; NaN where there is no true segment."""
    total = weights @ matches.labels
    drawn = np.take(weights, matches.videos, axis=1)
    seen, values = np.cumsum(drawn, axis=1, dtype=np.int64), []
    for iou in AP_IOUS:
        hits = np.flatnonzero(matches.hits[IOUS.index(iou)])
        # Recall rises, and precision is at its best, only where there is a hit: at the end of its equals.
        places = np.unique(matches.ends[np.searchsorted(matches.ends, hits)])
        found = np.cumsum(drawn[:, hits], axis=1, dtype=np.int64)[:, np.searchsorted(hits, places, side="right") - 1]
        precision = found / np.maximum(seen[:, places], 1)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        first = found[:, :1] if official and 0 in places else 0
        values.append((np.diff(found, axis=1, prepend=first) * envelope).sum(axis=1))
    return _divide(np.stack(values, axis=1), total[:, None])


def _average_recall(matches: Matches, weights: np.ndarray, official: bool = False) -> Floats:
    """AR, [replicates, COUNTS]; NaN where there is no true segment, with `official` 0."""
    labels = matches.labels
    if official:
        labels = labels * np.isin(np.arange(len(labels)), matches.videos)
    values = _divide(weights @ matches.recalled, (weights @ labels)[:, None])
    return np.where(np.isnan(values) & (matches.labels.sum() > 0), 0.0, values) if official else values


def _divide(above: Floats, below: np.ndarray) -> Floats:
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)


def _replicate(matches: Matches, crowd: Crowd, replicates: int, seed: int) -> Floats:
    """What is measured in each replicate, [replicates, AP_IOUS + COUNTS]. Equal sets of people are drawn equally."""
    rows, parts = max(1, CELLS // max(len(matches.videos), 1)), []
    for weights in draw_weights(crowd, replicates, seed):
        for start in range(0, len(weights), rows):
            parts.append(_measure(matches, np.take(weights[start : start + rows], crowd.groups, axis=1)))
    return np.concatenate(parts)


def _count_people(crowd: Crowd) -> int:
    """How many people there are in these videos."""
    return np.setdiff1d(crowd.members[crowd.groups], [crowd.people]).size


def _bound(value: float, draws: Floats, worth: int, confidence: float) -> Interval:
    if np.isnan(value):
        return describe(value, (0, 0))
    analytic = bound_proportion(value, worth, confidence)
    return describe(value, choose_bounds(value, draws, analytic, worth, confidence, edge=0.25 / worth))


def _name(values: Sequence[Any]) -> dict[str, dict[str, Any]]:
    """Return AP by IoU and AR by count, as `{"ap", "ar"}`."""
    names = [f"{iou:g}" for iou in AP_IOUS], [str(count) for count in COUNTS]
    pairs = zip(names, (values[: len(AP_IOUS)], values[len(AP_IOUS) :]), strict=True)
    return {kind: dict(zip(*pair, strict=True)) for kind, pair in zip(("ap", "ar"), pairs, strict=True)}
