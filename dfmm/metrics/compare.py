"""Two sets of scores of the same videos: their differences, with paired intervals and p."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike
from typing_extensions import TypedDict

from dfmm.metrics.compute import MOST_RUNS, Measure, count_least, describe_auc, find_most, replicate
from dfmm.metrics.costs import Costs, measure_hulls, measure_losses, tabulate_losses
from dfmm.metrics.decisions import measure_decisions
from dfmm.metrics.intervals import TINY, check_options, find_reach, keep_finite
from dfmm.metrics.people import Crowd, Floats, MetricError, find_people
from dfmm.metrics.ranking import (
    Counts,
    Ranking,
    count_videos,
    find_runs,
    find_undefined,
    measure_auc,
    measure_ranking,
    rank_videos,
)

LEAST = 5  # people, or independent videos of a class, from which a paired interval follows
SURE = 0.05  # p below which a difference is called sure


class Difference(TypedDict):
    """How far two detectors differ, with its paired interval and its p; None where these are undefined."""

    difference: float | None
    low: float | None
    high: float | None
    p: float | None


def compare_metrics(
    labels: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    *,
    thresholds: tuple[float, float] | None = None,
    priors: tuple[float | None, float | None] = (None, None),
    costs: Costs | None = None,
    identities: Sequence[str] | None = None,
    confidence: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """How far two detectors differ on the same videos: a - b in every metric.

    Both are measured in the same replicates, so that what is hard for both cancels out: two intervals that overlap may
    belong to a difference that is sure.

    Args:
        labels: [n], 1 = fake, 0 = real.
        scores_a, scores_b: [n] each, of the same videos in the same order.
        thresholds: of a and of b; without them decisions are not compared.
        priors, costs, identities: as in `compute_metrics`.

    Returns:
        `{metric: {"difference", "low", "high", "p"}}`, p two-sided for no difference; `delong`, the same for the AUC by
        its analytic test (DeLong, DeLong & Clarke-Pearson, Biometrics 1988), which sums over videos of one person
        (Obuchowski, Biometrics 1997); and `n`, `n_fake`. None where undefined.

    Raises:
        MetricError: as in `compute_metrics`, or scores of different videos.
    """
    check_options(confidence, replicates)
    rankings = _rank_both(labels, scores_a, scores_b, identities)
    measures = [
        _choose_measure(ranking, threshold, prior, costs or Costs())
        for ranking, threshold, prior in zip(rankings, thresholds or (None, None), priors, strict=True)
    ]
    # A difference of precisions hangs on the few reals that either detector calls fake, however many there are.
    called = {"precision": _count_called(rankings, thresholds)} if thresholds else {}
    compared = _compare(rankings, measures, costs or Costs(), confidence, replicates, seed, called)
    counted = {"n": rankings[0].labels.size, "n_fake": rankings[0].n_fake}
    return compared | {"delong": compare_delong(*rankings, confidence=confidence)} | counted


def compare_aucs(
    labels: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    *,
    identities: Sequence[str] | None = None,
    confidence: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """The AUCs of two detectors on the same videos, `a` and `b` with an interval each, and their `difference` a - b."""
    check_options(confidence, replicates)
    rankings = _rank_both(labels, scores_a, scores_b, identities)
    values, draws = zip(*(_replicate(ranking, measure_auc, replicates, seed) for ranking in rankings), strict=True)
    aucs = [
        describe_auc(value["auc"], drawn["auc"], ranking, ranking.worth, confidence)
        for value, drawn, ranking in zip(values, draws, rankings, strict=True)
    ]
    size = count_least(rankings[0])
    difference = _describe_difference(*(each["auc"] for each in (*values, *draws)), size, confidence)
    return {"a": aucs[0], "b": aucs[1], "difference": difference}


def compute_drop(
    labels: ArrayLike,
    scores: ArrayLike,
    others: Sequence[ArrayLike],
    *,
    shares: Sequence[float] | None = None,
    identities: Sequence[str] | None = None,
    confidence: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
) -> Difference:
    """By how much the AUC falls from one set of scores to others of the same videos, on average.

    Args:
        others: [n] each, in the order of the first.
        shares: the weight of each of them in the average; None: all alike.
    """
    check_options(confidence, replicates)
    people = find_people(identities, len(np.asarray(labels)))
    rankings = [rank_videos(labels, each, people) for each in (scores, *others)]
    values, draws = zip(*(_replicate(ranking, measure_auc, replicates, seed) for ranking in rankings), strict=True)
    mean, drawn = (np.average([each["auc"] for each in found[1:]], axis=0, weights=shares) for found in (values, draws))
    size = count_least(rankings[0])
    return _describe_difference(values[0]["auc"], float(mean), draws[0]["auc"], drawn, size, confidence)


def _count_called(rankings: Sequence[Ranking], thresholds: tuple[float, float]) -> int:
    """How many reals one of the two detectors, or both, call fake."""
    called = [ranking.scores >= threshold for ranking, threshold in zip(rankings, thresholds, strict=True)]
    return int(((rankings[0].labels == 0) & (called[0] | called[1])).sum())


def _rank_both(
    labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike, identities: Sequence[str] | None
) -> list[Ranking]:
    people = find_people(identities, len(np.asarray(labels)))
    sizes = [np.shape(scores) for scores in (scores_a, scores_b)]
    if sizes[0] != sizes[1]:
        raise MetricError(f"expected two scores of each video, got {sizes[0]} and {sizes[1]}: keep what both scored")
    return [rank_videos(labels, scores, people) for scores in (scores_a, scores_b)]


def _choose_measure(ranking: Ranking, threshold: float | None, prior: float | None, costs: Costs) -> Measure:
    runs, losses = find_runs(ranking, MOST_RUNS), tabulate_losses(ranking, prior, costs)
    cut = None if threshold is None else ranking.find_cut(threshold)

    def measure(counts: Counts) -> dict[str, Floats]:
        found = measure_ranking(counts) | measure_hulls(counts, runs, costs)
        found |= measure_losses(counts, losses, costs) if losses else {}
        return found | (measure_decisions(counts, cut) if cut is not None else {})

    return measure


def _replicate(
    ranking: Ranking, measure: Measure, replicates: int, seed: int
) -> tuple[dict[str, float], dict[str, Floats]]:
    values = {name: float(value[0]) for name, value in measure(count_videos(ranking)).items()}
    return values, replicate(ranking, measure, replicates, seed)


def _compare(
    rankings: Sequence[Ranking],
    measures: Sequence[Measure],
    costs: Costs,
    confidence: float,
    replicates: int,
    seed: int,
    fewer: Mapping[str, float],
) -> dict[str, Difference]:
    """The difference of each metric; `fewer` are those on how many it hangs, where these are not all."""
    (values_a, draws_a), (values_b, draws_b) = (
        _replicate(ranking, measure, replicates, seed) for ranking, measure in zip(rankings, measures, strict=True)
    )
    size = count_least(rankings[0])
    values_a |= dict.fromkeys(find_undefined(rankings[0]), np.nan)
    return {
        name: _describe_difference(
            values_a[name],
            values_b[name],
            draws_a[name],
            draws_b[name],
            min(size, fewer.get(name, size)),
            confidence,
            most=find_most(name, costs),
        )
        for name in values_a
        if name in values_b
    }


def _describe_difference(
    a: float, b: float, draws_a: Floats, draws_b: Floats, size: float, confidence: float, most: float = 1
) -> Difference:
    """Student's interval of a difference and its p; none where no replicate shows how far the two may differ.

    That is so where both make no error, and where people, or the videos of a class, are fewer than `LEAST`: their
    replicates are too much alike.
    """
    draws = keep_finite(draws_a - draws_b)
    if np.isnan(a - b) or not draws.size:
        return {"difference": None, "low": None, "high": None, "p": None}
    if not draws.any() and draws_a.std() > TINY:  # alike, whoever is drawn
        return {"difference": a - b, "low": 0.0, "high": 0.0, "p": 1.0}
    return _describe_normal(a - b, float(draws.std()), size, confidence, most=most)


def _describe_normal(difference: float, error: float, size: float, confidence: float, *, most: float = 1) -> Difference:
    """Student's interval, as far as a difference of two numbers up to `most` can be."""
    if error < TINY or size < LEAST:
        return {"difference": difference, "low": None, "high": None, "p": None}
    reach, ratio = find_reach(size, confidence) * error, abs(difference) / error
    p = scipy.stats.t.sf(ratio * np.sqrt((size - 1) / size), size - 1) if size > 1 else scipy.stats.norm.sf(ratio)
    low, high = max(difference - reach, -most), min(difference + reach, most)
    return {"difference": difference, "low": low, "high": high, "p": float(2 * p)}


# DeLong


def compare_delong(a: Ranking, b: Ranking, *, confidence: float = 0.95) -> Difference:
    """The difference of two AUCs by the placements of fakes among reals and of reals among fakes."""
    if not a.n_fake or not a.n_real:
        return {"difference": None, "low": None, "high": None, "p": None}
    (auc_a, parts_a), (auc_b, parts_b) = (_place_videos(ranking) for ranking in (a, b))
    variance = sum_products(parts_a - parts_b, a.crowd)
    return _describe_normal(auc_a - auc_b, float(np.sqrt(max(variance, 0))), count_least(a), confidence)


def _place_videos(ranking: Ranking) -> tuple[float, Floats]:
    """The AUC, and what each video adds to its error, [n]: how far its placement is from the mean of its class."""
    labels, scores = ranking.labels, ranking.scores
    fakes, reals = labels == 1, labels == 0
    whole, parts = scipy.stats.rankdata(scores), np.zeros(labels.size)
    parts[fakes] = (whole[fakes] - scipy.stats.rankdata(scores[fakes])) / ranking.n_real  # share of reals below
    parts[reals] = 1 - (whole[reals] - scipy.stats.rankdata(scores[reals])) / ranking.n_fake  # share of fakes above
    auc = float(parts[fakes].mean())
    for rows in (fakes, reals):
        n = np.count_nonzero(rows)
        parts[rows] = (parts[rows] - auc) / n * np.sqrt(n / max(n - 1, 1))
    return auc, parts


def sum_products(parts: Floats, crowd: Crowd) -> float:
    """The sum of x y over all pairs of videos that share a person, and of each with itself."""
    there = crowd.members < crowd.people
    groups, places = np.nonzero(there)
    ones, shape = np.ones(groups.size), (len(there), crowd.people)
    member = scipy.sparse.csr_array((ones, (groups, crowd.members[groups, places])), shape)
    sums = np.bincount(crowd.groups, parts, minlength=len(there))
    if there.shape[1] == 1:
        return float(sums @ sums)
    shares = (member @ member.T).astype(bool).astype(float)
    return float(sums @ (shares @ sums))
