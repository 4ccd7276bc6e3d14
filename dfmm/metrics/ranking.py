"""How well scores rank fakes above reals: curves, and what is read off them, in the data and in every replicate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from dfmm.metrics.people import Crowd, Floats, Ints, MetricError, count_independent, find_people

FALSE_ALARMS = {"tpr_at_10_fpr": 0.1, "tpr_at_1_fpr": 0.01, "tpr_at_0.1_fpr": 0.001}  # the rate each allows
FOUND = 0.95  # of the fakes, for `fpr_at_95_tpr`
NOBODY = 1e-9  # weighs a run of which a replicate draws nobody
TINY = 1e-12  # rates this near are equal
# TPR + FPR = 1, a TPR, and beyond each FPR: as `_find_steps` takes them.
SEARCHES = np.array([(1, 1, 1 - TINY), (1, 0, FOUND - TINY), *((0, 1, rate + TINY) for rate in FALSE_ALARMS.values())])


@dataclass(frozen=True)
class Ranking:
    """Videos by falling score. Equal scores are one step of the curves, so that no order among them counts."""

    labels: Floats  # [n], in the order given
    scores: Floats  # [n]
    crowd: Crowd
    steps: Floats  # [steps], the scores there are, falling
    fakes: Ints  # [n_fake], the videos that are fake by falling score
    reals: Ints  # [n_real]
    fakes_in: Ints  # [steps + 1], fakes in the first k steps, k = 0, 1, …
    reals_in: Ints  # [steps + 1]
    worth: tuple[float, float]  # how many independent videos the fakes and the reals are worth

    @property
    def n_fake(self) -> int:
        return self.fakes.size

    @property
    def n_real(self) -> int:
        return self.reals.size

    @cached_property
    def step_of_fake(self) -> Ints:
        """The step, counted from 1, at which each fake is found, [n_fake]."""
        return np.searchsorted(self.fakes_in, np.arange(self.n_fake), side="right")

    def find_cut(self, threshold: float) -> int:
        """How many steps reach a threshold."""
        return int(np.count_nonzero(self.steps >= threshold))


@dataclass(frozen=True)
class Counts:
    """What is found as the threshold falls, weighed as in each replicate."""

    ranking: Ranking
    weights: NDArray[np.integer]  # [replicates, groups]
    found: NDArray[np.integer]  # [replicates, n_fake], weight of each fake
    tp: NDArray[np.int32]  # [replicates, n_fake + 1], weight of the first k fakes
    fp: NDArray[np.int32]  # [replicates, n_real + 1]

    @property
    def fakes(self) -> Floats:
        return self.tp[:, -1].astype(float)

    @property
    def reals(self) -> Floats:
        return self.fp[:, -1].astype(float)

    @cached_property
    def tp_at_fakes(self) -> NDArray[np.int32]:
        """Weight of the fakes found once each fake is, with those of its score, [replicates, n_fake]."""
        ends = self.ranking.fakes_in[self.ranking.step_of_fake]
        ordered = self.ranking.n_fake == 0 or (np.diff(ends) > 0).all()  # no two of one score: nothing to gather
        return self.tp[:, 1:] if ordered else np.take(self.tp, ends, axis=1)

    @cached_property
    def fp_at_fakes(self) -> NDArray[np.int32]:
        """Weight of the false alarms by then, [replicates, n_fake]."""
        return np.take(self.fp, self.ranking.reals_in[self.ranking.step_of_fake], axis=1)

    def rates(self, step: Ints) -> tuple[Floats, Floats]:
        """TPR and FPR at one step a replicate, [..., replicates] each."""
        rows = np.arange(len(self.tp))
        tp, fp = self.tp[rows, self.ranking.fakes_in[step]], self.fp[rows, self.ranking.reals_in[step]]
        return divide(tp, self.fakes), divide(fp, self.reals)


def rank_videos(
    labels: ArrayLike, scores: ArrayLike, people: Crowd | None = None, *, need_both: bool = False
) -> Ranking:
    """Check and rank videos; MetricError for what cannot be."""
    labels, scores = check_videos(labels, scores)
    crowd = people or find_people(None, labels.size)
    n_fake = int(labels.sum())
    if need_both and n_fake in (0, labels.size):
        raise MetricError(
            f"expected fakes and reals, got {n_fake} fakes of {labels.size} videos: add the missing class"
        )
    order = np.argsort(-scores, kind="stable")
    falling, sorted_labels = scores[order], labels[order]
    ends = np.flatnonzero(np.append(np.diff(falling), -1))
    fakes, reals = order[sorted_labels == 1], order[sorted_labels == 0]
    fakes_in, reals_in = (np.append(0, np.cumsum(sorted_labels == label)[ends]).astype(np.int64) for label in (1, 0))
    worth = tuple(count_independent(scipy.stats.rankdata(scores[rows]), crowd.select(rows)) for rows in (fakes, reals))
    return Ranking(labels, scores, crowd, falling[ends], fakes, reals, fakes_in, reals_in, worth)


def check_videos(labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    """Return labels and scores as [n] floats. MetricError where they are none, uneven or not finite."""
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=float)
    if labels.ndim != 1 or labels.shape != scores.shape or not labels.size:
        got = f"labels {list(labels.shape)} and scores {list(scores.shape)}"
        raise MetricError(f"expected a label and a score a video, at least one, got {got}: see which videos failed")
    for values, good, what in (
        (labels, np.isin(labels, (0, 1)), "labels 1 (fake) or 0 (real)"),
        (scores, np.isfinite(scores), "finite scores"),
    ):
        if not good.all():
            row, bad = int(good.argmin()), np.count_nonzero(~good)
            raise MetricError(f"expected {what}, got {values[row]} in row {row} ({bad} such): leave these videos out")
    return labels.astype(float), scores


def count_videos(ranking: Ranking, weights: NDArray[np.integer] | None = None) -> Counts:
    """Count along the curves, under weights of groups of videos, [replicates, groups]; None: each video once."""
    if weights is None:
        weights = np.ones((1, len(ranking.crowd.members)), np.int32)
    groups = ranking.crowd.groups
    found, alarms = (np.take(weights, groups[videos], axis=1) for videos in (ranking.fakes, ranking.reals))
    return Counts(ranking, weights, found, _sum_up(found), _sum_up(alarms))


def _sum_up(weights: NDArray[np.integer]) -> NDArray[np.int32]:
    """The sum of the first k, k = 0, 1, …: of integers exact, and ten times faster than of floats."""
    sums = np.zeros((len(weights), weights.shape[1] + 1), np.int32)
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


def divide(part: Floats, whole: Floats) -> Floats:
    """The ratio, NaN where the whole is 0."""
    shape = np.broadcast(part, whole).shape
    return np.divide(part, whole, out=np.full(shape, np.nan), where=whole > 0)


def both_or_nan(counts: Counts) -> Floats:
    """0 in the replicates that hold both classes, NaN in the others, [replicates]."""
    return np.where((counts.fakes > 0) & (counts.reals > 0), 0.0, np.nan)


# What is read off the curves. Each takes counts and returns an array, [replicates], by name: NaN for one class.


def measure_auc(counts: Counts) -> dict[str, Floats]:
    """The area under the ROC curve: how often a fake is scored above a real, ties counted half."""
    ranking = counts.ranking
    above = np.einsum("ij,ij->i", counts.found, counts.fp_at_fakes, dtype=float)
    after, before = (ranking.reals_in[ranking.step_of_fake - back] for back in (0, 1))
    tied = np.flatnonzero(before != after)
    if tied.size:  # of the reals at the same step, half
        same = counts.fp_at_fakes[:, tied] - np.take(counts.fp, before[tied], axis=1)
        above -= np.einsum("ij,ij->i", counts.found[:, tied], same, dtype=float) / 2
    return {"auc": 1 - divide(above, counts.fakes * counts.reals)}


def measure_ranking(counts: Counts) -> dict[str, Floats]:
    """All that asks for no threshold of our own."""
    tp, fp = counts.tp_at_fakes, counts.fp_at_fakes
    precision = tp / np.maximum(tp + fp, 1)
    after, found, *beyond = _find_steps(counts, SEARCHES)
    both = both_or_nan(counts)
    return measure_auc(counts) | {
        "ap": divide(np.einsum("ij,ij->i", counts.found, precision), counts.fakes) + both,
        "eer": _join_rates(counts, np.maximum(after, 1)) + both,
        "fpr_at_95_tpr": counts.rates(found)[1] + both,
        **{name: counts.rates(step - 1)[0] + both for name, step in zip(FALSE_ALARMS, beyond, strict=True)},
    }


def _find_steps(counts: Counts, searches: Floats) -> Ints:
    """The first step at which a sum of TPR and FPR, which rises, is what is looked for, [searches, replicates].

    Args:
        searches: [searches, 3], how often TPR and FPR are counted, and the goal, which the last step reaches.
    """
    of_tpr, of_fpr, goal = searches.T[:, :, None]
    low = np.zeros((len(searches), len(counts.tp)), np.int64)
    high = np.full_like(low, counts.ranking.steps.size)
    for _ in range(int(counts.ranking.steps.size).bit_length()):
        middle = (low + high) // 2
        tpr, fpr = counts.rates(middle)
        enough = of_tpr * tpr + of_fpr * fpr >= goal
        low, high = np.where(enough, low, np.minimum(middle + 1, high)), np.where(enough, middle, high)
    return high


def _join_rates(counts: Counts, after: Ints) -> Floats:
    """The EER: where FPR - FNR, rising from -1 to 1, crosses 0 on the line from one step to the next."""
    (tpr0, fpr0), (tpr1, fpr1) = counts.rates(after - 1), counts.rates(after)
    before, beyond = fpr0 + tpr0 - 1, fpr1 + tpr1 - 1
    return fpr0 + (fpr1 - fpr0) * before / np.where(before == beyond, np.nan, before - beyond)


def find_runs(ranking: Ranking, most: int | None = None) -> Ints:
    """The ends of the runs that pool adjacent violators may join: 0, then steps after which fakes give way to reals.

    Args:
        most: join neighbours until there are no more than so many.
    """
    gains = np.stack([np.diff(ranking.fakes_in), np.diff(ranking.reals_in)])
    pure = (gains == 0).any(axis=0)
    same = pure[1:] & pure[:-1] & ((gains[0, 1:] > 0) == (gains[0, :-1] > 0))
    ends = np.concatenate([[0], np.flatnonzero(~same) + 1, [ranking.steps.size]])
    return ends if most is None or ends.size <= most else ends[np.linspace(0, ends.size - 1, most).round().astype(int)]


def pool_violators(tp: Floats, fp: Floats) -> Iterator[tuple[Floats, Floats]]:
    """Join runs until the share of fakes falls from each to the next; yield the fakes and reals of each replicate.

    Zadrozny & Elkan, "Transforming classifier scores into accurate multiclass probability estimates", KDD 2002. The
    blocks are the edges of the ROC curve's convex hull (Fawcett & Niculescu-Mizil, Machine Learning 2007).

    Args:
        tp, fp: [replicates, runs], the weight of fakes and of reals in each.
    """
    weights = np.maximum(tp + fp, NOBODY)
    for shares, weight, found in zip(tp / weights, weights, np.stack([tp, fp], axis=1), strict=True):
        starts = scipy.optimize.isotonic_regression(shares, weights=weight, increasing=False).blocks[:-1]
        yield tuple(np.add.reduceat(found, starts, axis=1))


def find_undefined(ranking: Ranking) -> set[str]:
    """The rates of recall at false-alarm rates that so few reals cannot tell: three false alarms are the least."""
    return {name for name, rate in FALSE_ALARMS.items() if ranking.n_real * rate < 3 - TINY}


# Curves


def compute_roc(labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """FPR, TPR and thresholds, [steps + 1] each, from the strictest, infinity. MetricError for one class only."""
    from sklearn.metrics import roc_curve  # which takes seconds, and scoring does not need it

    ranking = rank_videos(labels, scores, need_both=True)
    return roc_curve(ranking.labels, ranking.scores, drop_intermediate=False)


def compute_det(labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """FPR, FNR and thresholds, [steps + 1] each, from the strictest: the detection error trade-off.

    Martin et al., "The DET curve in assessment of detection task performance", Eurospeech 1997. MetricError for one
    class only.
    """
    fpr, tpr, thresholds = compute_roc(labels, scores)
    return fpr, 1 - tpr, thresholds


def compute_precision_recall(labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Precision, recall, [steps + 1], and thresholds, [steps], from the mildest. MetricError for one class only."""
    from sklearn.metrics import precision_recall_curve

    ranking = rank_videos(labels, scores, need_both=True)
    return precision_recall_curve(ranking.labels, ranking.scores)


def compute_eer(labels: ArrayLike, scores: ArrayLike) -> float:
    """The equal error rate alone, without an interval. MetricError for one class only."""
    counts = count_videos(rank_videos(labels, scores, need_both=True))
    return float(_join_rates(counts, np.maximum(_find_steps(counts, SEARCHES[:1])[0], 1))[0])
