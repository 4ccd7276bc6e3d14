"""Every metric of a set of scores, each with its interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike

from dfmm.metrics.costs import (
    HULLS,
    LOSSES,
    Costs,
    bound_dcf,
    measure_hulls,
    measure_losses,
    tabulate_losses,
)
from dfmm.metrics.decisions import bound_decisions, count_confusion, measure_decisions
from dfmm.metrics.intervals import (
    Bounds,
    Interval,
    bound_auc,
    bound_excess,
    bound_loss,
    bound_proportion,
    bound_rate_at,
    check_options,
    choose_bounds,
    describe,
    envelop,
    keep_finite,
    unite,
)
from dfmm.metrics.people import Floats, draw_halves, draw_weights, find_people
from dfmm.metrics.ranking import (
    FALSE_ALARMS,
    FOUND,
    Counts,
    Ranking,
    count_videos,
    find_runs,
    find_undefined,
    measure_auc,
    measure_ranking,
    rank_videos,
)

Measure = Callable[[Counts], dict[str, Floats]]

CELLS = 2**18  # replicates times videos measured at a time: what is computed from them stays in the processor's cache
MOST_RUNS = 1000  # of neighbours that replicates tell apart for `min_cllr`, which moves it by less than 0.001
MEANS = ("log_loss", "brier", "cllr", "act_dcf")  # of losses, whose logarithms are nearer to normal
UNBOUNDED = ("log_loss", "cllr")  # these losses have no upper end


def compute_metrics(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    threshold: float,
    identities: Sequence[str] | None = None,
    prior: float | None = None,
    costs: Costs | None = None,
    confidence: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Every metric with its interval, and the confusion counts, ready for JSON.

    Args:
        labels: [n], 1 = fake, 0 = real.
        scores: [n], the probability of fake. Any finite score is ranked; what takes it for a probability is then
            undefined.
        threshold: fake is predicted where score >= threshold; to be chosen on other videos than these.
        identities: [n], the identities a video names joined by `|`; "" = unknown, then the video is its own.
        prior: the share of fakes that scores assume; None: that of these videos. Scores are moved to the latter before
            they are judged as probabilities.
        costs: of wrong decisions, for `act_dcf` and `min_dcf`.
        replicates: how many times the bootstrap resamples the identities.

    Returns:
        `{metric: {"value", "low", "high"}, "confusion": {"tn", "fp", "fn", "tp"}, "n", "n_fake"}`. A metric that
        is undefined, such as the AUC of one class, has None for all three. Where that is for want of videos, or an end
        of the interval is not known, `note` says so.

    Raises:
        MetricError: empty, uneven or non-finite input, or labels other than 0 and 1.
    """
    check_options(confidence, replicates)
    ranking, costs = rank_videos(labels, scores, find_people(identities, len(np.asarray(labels)))), costs or Costs()
    cut, runs = ranking.find_cut(threshold), find_runs(ranking, MOST_RUNS)
    losses = tabulate_losses(ranking, prior, costs)

    def measure(counts: Counts) -> dict[str, Floats]:
        found = measure_ranking(counts) | measure_decisions(counts, cut) | measure_hulls(counts, runs, costs)
        return found | (measure_losses(counts, losses, costs) if losses else {})

    once = count_videos(ranking)
    measured, draws = measure(once), replicate(ranking, measure, replicates, seed)
    exact = measure_hulls(once, find_runs(ranking), costs)
    draws |= {name: draws[name] + (exact[name] - measured[name]) for name in exact}
    values = {name: float(value[0]) for name, value in (measured | exact).items()}
    if ranking.n_fake in (0, ranking.labels.size):  # of fakes alone whoever is called fake is one, for any scores
        values |= dict.fromkeys(("precision", "f1"), np.nan)
    bounds = _bound_ranking(values, ranking, costs, confidence) | bound_decisions(values, ranking, cut, confidence)
    if losses:
        bounds["act_dcf"] = bound_dcf(values["act_dcf"], losses, ranking, costs, confidence)
    excess, intervals = _find_excess(ranking, costs, seed), {}
    for name, value in values.items():
        options = bounds.get(name), ranking, confidence, excess.get(name, 0.0)
        found = (0, 0) if np.isnan(value) else _bound(name, value, draws[name], *options)
        intervals[name] = describe(value, found, find_most(name, costs))
    intervals |= {name: describe(np.nan, (0, 0)) for name in LOSSES if name not in values}
    counted = {"confusion": count_confusion(ranking, cut), "n": ranking.labels.size, "n_fake": ranking.n_fake}
    return _add_notes(intervals, ranking, confidence) | counted


def compute_auc(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    identities: Sequence[str] | None = None,
    confidence: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
) -> Interval:
    """The area under the ROC curve alone, as `{"value", "low", "high"}`; all else as in `compute_metrics`."""
    check_options(confidence, replicates)
    ranking = rank_videos(labels, scores, find_people(identities, len(np.asarray(labels))))
    value = float(measure_auc(count_videos(ranking))["auc"][0])
    draws = replicate(ranking, measure_auc, replicates, seed)["auc"]
    return describe_auc(value, draws, ranking, ranking.worth, confidence)


def compute_accuracy(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    threshold: float,
    identities: Sequence[str] | None = None,
    confidence: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
) -> Interval:
    """The share of videos that are called what they are, alone; all else as in `compute_metrics`."""
    check_options(confidence, replicates)
    ranking = rank_videos(labels, scores, find_people(identities, len(np.asarray(labels))))
    cut = ranking.find_cut(threshold)

    def measure(counts: Counts) -> dict[str, Floats]:
        return measure_decisions(counts, cut)

    values = {name: float(value[0]) for name, value in measure(count_videos(ranking)).items()}
    draws, value = replicate(ranking, measure, replicates, seed)["accuracy"], values["accuracy"]
    analytic = bound_decisions(values, ranking, cut, confidence)["accuracy"]
    return describe(value, bound_rate(value, draws, analytic, ranking, confidence))


def compute_error(labels: ArrayLike, scores: ArrayLike, **options: Any) -> Interval:
    """The share of videos that are called what they are not, alone; all else as in `compute_accuracy`."""
    right = compute_accuracy(labels, scores, **options)
    return {"value": 1 - right["value"], "low": 1 - right["high"], "high": 1 - right["low"]}


def compute_macro_auc(
    labels: ArrayLike,
    scores: ArrayLike,
    methods: Sequence[str],
    *,
    identities: Sequence[str] | None = None,
    confidence: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
) -> Interval:
    """The mean over methods of the AUC of each one's fakes against all reals: every method counts alike.

    Args:
        methods: [n], how each fake was made; what stands beside a real does not count.
    """
    check_options(confidence, replicates)
    ranking = rank_videos(labels, scores, find_people(identities, len(np.asarray(labels))))
    names, which = np.unique(np.asarray(methods, object).astype(str)[ranking.fakes], return_inverse=True)
    belongs = (which[:, None] == np.arange(names.size)).astype(float)
    before = ranking.reals_in[ranking.step_of_fake - 1]

    def measure(counts: Counts) -> dict[str, Floats]:
        found, above = counts.found, (counts.fp_at_fakes + np.take(counts.fp, before, axis=1)) / 2
        pairs = (found @ belongs) * counts.reals[:, None]
        aucs = 1 - np.divide((found * above) @ belongs, pairs, out=np.full(pairs.shape, np.nan), where=pairs > 0)
        known = np.isfinite(aucs)
        return {"auc": np.where(known.any(axis=1), np.nansum(aucs, axis=1) / np.maximum(known.sum(axis=1), 1), np.nan)}

    value = float(measure(count_videos(ranking))["auc"][0])
    draws = replicate(ranking, measure, replicates, seed)["auc"]
    fakes, reals = ranking.worth
    each = names.size**2 / (1 / belongs.sum(axis=0)).sum() if names.size else 1.0  # a mean of means counts so many
    worth = max(1.0, each * fakes / max(ranking.n_fake, 1)), reals
    return describe_auc(value, draws, ranking, worth, confidence)


def compute_roc_band(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    fpr_grid: ArrayLike,
    identities: Sequence[str] | None = None,
    confidence: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
) -> tuple[Floats, Floats]:
    """The pointwise interval of TPR at each FPR of `fpr_grid`, [points]: low and high, [points] each.

    Too narrow below an FPR of some 3 / n_real, where the reals are too few to tell rates apart. All else as in
    `compute_metrics`, but a MetricError for one class only.
    """
    check_options(confidence, replicates)
    people = find_people(identities, len(np.asarray(labels)))
    ranking, grid = rank_videos(labels, scores, people, need_both=True), np.asarray(fpr_grid, dtype=float)

    def measure(counts: Counts) -> dict[str, Floats]:
        tp, fp = counts.tp[:, ranking.fakes_in], counts.fp[:, ranking.reals_in]
        tpr = np.full((len(tp), grid.size), np.nan)
        for row in np.flatnonzero(counts.fakes * counts.reals):
            tpr[row] = np.interp(grid, fp[row] / fp[row, -1], tp[row] / tp[row, -1])
        return {"tpr": tpr}

    tpr = measure(count_videos(ranking))["tpr"][0]
    draws = replicate(ranking, measure, replicates, seed)["tpr"]
    return envelop(
        tpr, *bound_rate(tpr, draws, bound_proportion(tpr, min(ranking.worth), confidence), ranking, confidence)
    )


def replicate(ranking: Ranking, measure: Measure, replicates: int, seed: int) -> dict[str, Floats]:
    """What is measured in each replicate, [replicates, ...] by name. Equal sets of people are drawn equally."""
    rows, parts = max(1, CELLS // ranking.labels.size), []
    for weights in draw_weights(ranking.crowd, replicates, seed):
        parts += [
            measure(count_videos(ranking, weights[start : start + rows])) for start in range(0, len(weights), rows)
        ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def find_most(name: str, costs: Costs) -> float:
    """How large a metric can be: 1, but for losses, and for a cost what it is where every decision is wrong."""
    return np.inf if name in UNBOUNDED else sum(costs.weights) if name == "act_dcf" else 1


def _bound(
    name: str, value: float, draws: Floats, analytic: Bounds | None, ranking: Ranking, confidence: float, excess: float
) -> Bounds:
    """The interval that is right for a metric; see `intervals`."""
    size = count_least(ranking)
    if name == "ece":
        return bound_excess(value, draws, size, confidence)
    if name in HULLS and value > 0:
        return bound_loss(value, draws, size, confidence, excess)
    if name in MEANS:
        bounds = bound_loss(value, draws, size, confidence)
        return bounds if analytic is None else unite(bounds, analytic)
    return bound_rate(value, draws, analytic, ranking, confidence)


def bound_rate(value: Any, draws: Floats, analytic: Bounds, ranking: Ranking, confidence: float) -> Bounds:
    """The replicates' interval of rates, and the analytic one where videos are few; the latter alone near 0 and 1."""
    edge = 0.25 / sum(ranking.worth)
    return choose_bounds(value, draws, analytic, count_least(ranking), confidence, edge=edge)


def describe_auc(
    value: float, draws: Floats, ranking: Ranking, worth: tuple[float, float], confidence: float
) -> Interval:
    """An AUC, or a mean of some, with the interval of so many independent fakes and reals."""
    if np.isnan(value):
        return describe(value, (0, 0))
    return describe(value, bound_rate(value, draws, bound_auc(value, *worth, confidence), ranking, confidence))


def count_least(ranking: Ranking) -> float:
    """How many there are of what is fewest: people, or independent fakes or reals, if there are any."""
    counts = zip(ranking.worth, (ranking.n_fake, ranking.n_real), strict=True)
    return min(ranking.crowd.people, *(worth for worth, videos in counts if videos))


def _find_excess(ranking: Ranking, costs: Costs, seed: int) -> dict[str, float]:
    """By how much the best cost on the videos it is chosen on lies above that on all there are: below 0.

    Halves of the people tell: what is chosen on them is too good by 2^(2/3) times as much, for the optimum of a jagged
    curve is too good by the power -2/3 of the number of videos (Kim & Pollard, "Cube root asymptotics", Ann. Stat.
    1990).
    """
    runs = find_runs(ranking, MOST_RUNS)
    whole = measure_hulls(count_videos(ranking), runs, costs)
    halves = [measure_hulls(count_videos(ranking, each), runs, costs) for each in draw_halves(ranking.crowd, seed)]
    gains = {name: keep_finite(np.concatenate([half[name] for half in halves]) - whole[name]) for name in HULLS}
    return {name: min(float(gain.mean()), 0) / (2 ** (2 / 3) - 1) if gain.size else 0.0 for name, gain in gains.items()}


def _bound_ranking(values: dict[str, float], ranking: Ranking, costs: Costs, confidence: float) -> dict[str, Bounds]:
    """Analytic intervals, in numbers of independent videos.

    Average precision: Wilson's, of the fakes (Boyd, Eng & Page, "Area under the precision-recall curve", ECML 2013).
    EER: at the threshold where both rates are equal and both classes as dense, it is a mean of the two, and its
    variance e (1 - e) (1 / fakes + 1 / reals) / 4. The best threshold and the best calibration cost no more than what
    the threshold of the EER does, alone.
    """
    fakes, reals = ranking.worth
    if not ranking.n_fake or not ranking.n_real:
        return {}
    size = {"ap": fakes, "eer": 4 / (1 / fakes + 1 / reals)}
    bounds = {name: bound_proportion(values[name], size[name], confidence) for name in size}
    bounds["auc"] = bound_auc(values["auc"], fakes, reals, confidence)
    most = min(bounds["eer"][1], 0.5)
    bounds["min_dcf"] = 0, min(1, sum(costs.weights) * most)
    bounds["min_cllr"] = 0, scipy.stats.entropy([most, 1 - most], base=2)
    curves = ranking.fakes_in, ranking.reals_in
    bounds["fpr_at_95_tpr"] = bound_rate_at(FOUND, values["fpr_at_95_tpr"], *curves, ranking.worth, confidence)
    for name, rate in FALSE_ALARMS.items():
        bounds[name] = bound_rate_at(rate, values[name], *curves[::-1], ranking.worth[::-1], confidence)
    return bounds


def _add_notes(intervals: dict[str, Any], ranking: Ranking, confidence: float) -> dict[str, Any]:
    """Take back what so few videos cannot tell, and say so.

    A threshold that is fixed by a rate of one class may lie beyond all its videos where they are fewer than
    log((1 - confidence) / 2) / log(1 - rate): then replicates do not know one end, and only 0 or 1 is sure.
    """
    if not ranking.n_fake or not ranking.n_real:
        return intervals
    if min(ranking.worth) < 2:  # nobody else is drawn in the place of whoever is in all videos of a class
        ends = {
            "low": None,
            "high": None,
            "note": "no interval: hardly more than one person is in all videos of a class",
        }
        intervals |= {
            name: intervals[name] | ends for name in (*LOSSES, *HULLS) if intervals[name]["value"] is not None
        }
    fixed = {"fpr_at_95_tpr": (1 - FOUND, ranking.n_fake, "fakes", "high", 1.0)}
    fixed |= {name: (rate, ranking.n_real, "reals", "low", 0.0) for name, rate in FALSE_ALARMS.items()}
    for name, (rate, videos, kind, end, sure) in fixed.items():
        enough = np.log((1 - confidence) / 2) / np.log(1 - rate)
        if name in find_undefined(ranking):
            note = f"undefined: it takes {3 / rate:.0f} {kind} or more, and there are {videos}"
            intervals[name] = {"value": None, "low": None, "high": None, "note": note}
        elif videos < enough:
            side = "upper" if sure else "lower"
            note = f"no {side} end: it takes {enough:.0f} {kind} to know one, and there are {videos}"
            intervals[name] |= {end: sure, "note": note}
    return intervals
