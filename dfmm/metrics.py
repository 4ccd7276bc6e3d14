"""Numbers from scores: metrics, curves and thresholds, with intervals that stay honest for small samples.

Label 1 = fake (the positive class), 0 = real. A score is the probability that the video is fake, and a video is
predicted fake where score >= threshold. Ranking metrics, curves and thresholds take any finite score.

Every interval is the envelope of two, each right where the other fails. Owen's pigeonhole bootstrap over
identities (Ann. Appl. Stat. 2007) knows what videos of one person share, but has zero width where all replicates
agree, as at an AUC of 1. An analytic interval never has zero width; it counts clustered videos as so many
independent ones as they are worth, their number over the design effect (Kish, "Survey Sampling", 1965).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.sparse import csr_array
from scipy.stats import norm, rankdata, t
from sklearn.metrics import precision_recall_curve, roc_curve
from sklearn.preprocessing import MultiLabelBinarizer

Floats = NDArray[np.float64]
Bounds = tuple[Any, Any]  # low and high: two floats, or two arrays
Measure = Callable[[Floats, Floats], dict[str, Floats]]  # what `_count_steps` returns -> [replicates, ...]

CHUNK_CELLS = 2**20  # weights drawn at a time: 8 MB, and some 100 MB with all that is computed from them


class MetricError(ValueError):
    """Scores that no number can be computed from; the message says why, and what to do."""


@dataclass(frozen=True)
class Ranking:
    """Videos by falling score. Equal scores are one step of the curves, so that no order among them counts."""

    labels: Floats  # [n]
    scores: Floats  # [n], falling
    ends: NDArray[np.int64]  # [steps], the last video of each step
    members: csr_array  # [n, identities], 1 = the video names the identity
    n_fake: int
    n_real: int
    worth: tuple[float, float]  # how many independent videos the fakes and the reals are worth


def compute_metrics(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    threshold: float,
    identities: Sequence[str] | None = None,
    confidence: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Every metric with its interval, and the confusion counts, ready for JSON.

    Args:
        labels: [n], 1 = fake, 0 = real.
        scores: [n], the probability of fake.
        threshold: fake is predicted where score >= threshold; to be chosen on other videos than these.
        identities: [n], the identities a video names joined by `|`; "" = unknown, then the video is its own.
        replicates: how many times the bootstrap resamples the identities.

    Returns:
        `{metric: {"value", "low", "high"}, "confusion": {"tn", "fp", "fn", "tp"}, "n", "n_fake"}`. A metric that
        is undefined, such as the AUC of one class, has None for all three. `fpr_at_95_tpr` rests on the few
        lowest fakes: where there are fewer than some 70, its interval may cover the truth in only 80 % of cases.

    Raises:
        MetricError: empty, uneven or non-finite input, or labels other than 0 and 1.
    """
    ranking = _rank_videos(labels, scores, identities)
    cut = int(np.count_nonzero(ranking.scores[ranking.ends] >= threshold))

    def measure(tp: Floats, fp: Floats) -> dict[str, Floats]:
        return _measure_ranking(tp, fp) | _measure_decisions(tp, fp, cut)

    tp, fp = _count_steps(ranking)
    values = {name: float(value[0]) for name, value in measure(tp, fp).items()}
    tp, fp = int(tp[0, cut]), int(fp[0, cut])
    bounds = _bound_metrics(values, tp, fp, ranking, confidence)
    percentiles = _bootstrap(ranking, measure, confidence, replicates, seed)
    intervals = {name: _describe(value, bounds[name], percentiles[name]) for name, value in values.items()}
    confusion = {"tn": ranking.n_real - fp, "fp": fp, "fn": ranking.n_fake - tp, "tp": tp}
    return intervals | {"confusion": confusion, "n": ranking.labels.size, "n_fake": ranking.n_fake}


def compute_auc(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    identities: Sequence[str] | None = None,
    confidence: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, float | None]:
    """The area under the ROC curve alone, as `{"value", "low", "high"}`; all else as in `compute_metrics`."""
    ranking = _rank_videos(labels, scores, identities)
    value = float(_measure_auc(*_count_steps(ranking))["auc"][0])
    percentiles = _bootstrap(ranking, _measure_auc, confidence, replicates, seed)
    return _describe(value, _bound_auc(value, *ranking.worth, confidence), percentiles["auc"])


def compute_eer(labels: ArrayLike, scores: ArrayLike) -> float:
    """The equal error rate alone, without an interval. MetricError for one class only."""
    fpr, tpr, _ = compute_roc(labels, scores)
    return float(_measure_eer(fpr[None], tpr[None])[0])


def compute_roc(labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """FPR, TPR and thresholds, [steps + 1] each, from the strictest, infinity. MetricError for one class only."""
    ranking = _rank_videos(labels, scores, need_both=True)
    return roc_curve(ranking.labels, ranking.scores, drop_intermediate=False)


def compute_precision_recall(labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Precision, recall, [steps + 1], and thresholds, [steps], from the mildest. MetricError for one class only."""
    ranking = _rank_videos(labels, scores, need_both=True)
    return precision_recall_curve(ranking.labels, ranking.scores)


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
    ranking = _rank_videos(labels, scores, identities, need_both=True)
    grid = np.asarray(fpr_grid, dtype=float)

    def measure(tp: Floats, fp: Floats) -> dict[str, Floats]:
        tpr = np.full((len(tp), grid.size), np.nan)
        for row in np.flatnonzero(tp[:, -1] * fp[:, -1]):
            tpr[row] = np.interp(grid, fp[row] / fp[row, -1], tp[row] / tp[row, -1])
        return {"tpr": tpr}

    tpr = measure(*_count_steps(ranking))["tpr"][0]
    size = min(ranking.worth)
    percentiles = _bootstrap(ranking, measure, confidence, replicates, seed)
    return _envelop(tpr, _bound_proportion(tpr, size, confidence), percentiles["tpr"])


def choose_threshold(labels: ArrayLike, scores: ArrayLike, *, rule: str = "balanced_accuracy") -> float:
    """The threshold that is best by a rule on these videos, midway between two neighbouring scores.

    The rule is `balanced_accuracy` (the highest), `eer` (FPR nearest to FNR) or `fpr=<rate>` (the highest TPR whose
    FPR does not exceed the rate). Among equally good thresholds the middle one is taken. MetricError for another
    rule or one class only.
    """
    ranking = _rank_videos(labels, scores, need_both=True)
    (tp,), (fp,) = _count_steps(ranking)
    quality = _rate_cuts(tp / ranking.n_fake, fp / ranking.n_real, rule)
    best = np.flatnonzero(quality >= quality.max() - 1e-12)
    return _place_threshold(ranking.scores[ranking.ends], int(best[(best.size - 1) // 2]))


def _rate_cuts(tpr: Floats, fpr: Floats, rule: str) -> Floats:
    if rule == "balanced_accuracy":
        return tpr - fpr
    if rule == "eer":
        return -np.abs(fpr + tpr - 1)
    rate = re.fullmatch(r"fpr=(\d*\.?\d+(?:e-\d+)?)", rule)
    if rate and float(rate[1]) <= 1:
        return np.where(fpr <= float(rate[1]), tpr, -1.0)
    raise MetricError(f"expected the rule balanced_accuracy, eer or, say, fpr=0.01, got {rule!r}: take one of them")


def _place_threshold(steps: Floats, cut: int) -> float:
    """A threshold that the first `cut` of the falling steps reach, and no other."""
    if cut == 0:
        return float(np.nextafter(steps[0], np.inf))
    high, low = steps[cut - 1], steps[min(cut, steps.size - 1)]
    middle = high / 2 + low / 2
    return float(middle if middle > low else high)  # nothing lies between equal or neighbouring floats


def _rank_videos(
    labels: ArrayLike, scores: ArrayLike, identities: Sequence[str] | None = None, *, need_both: bool = False
) -> Ranking:
    labels, scores = _check_videos(labels, scores)
    n, n_fake = labels.size, int(labels.sum())
    if need_both and n_fake in (0, n):
        raise MetricError(f"expected fakes and reals, got {n_fake} fakes of {n} videos: add the missing class")
    order = np.argsort(-scores, kind="stable")
    labels, scores = labels[order], scores[order]
    members = _index_identities([""] * n if identities is None else identities, n)[order]
    ends = np.flatnonzero(np.append(np.diff(scores), -1))
    fakes, reals = (_count_independent(scores[labels == label], members[labels == label]) for label in (1, 0))
    return Ranking(labels, scores, ends, members, n_fake, n - n_fake, (fakes, reals))


def _check_videos(labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
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


def _index_identities(identities: Sequence[str], n: int) -> csr_array:
    texts = sum(isinstance(cell, str) for cell in identities)
    if not texts == len(identities) == n:
        raise MetricError(f'expected {n} texts of identities, got {texts} of {len(identities)}: write "" for unknown')
    # No name holds a bar, so that the one made up for an unknown person is nobody else's.
    names = [set(cell.split("|")) - {""} or {f"|{video}"} for video, cell in enumerate(identities)]
    return csr_array(MultiLabelBinarizer(sparse_output=True).fit_transform(names))


def _count_steps(ranking: Ranking, weights: Floats | float = 1.0) -> tuple[Floats, Floats]:
    """Weight of the fakes and of the reals in the first k steps, k = 0, 1, …: [replicates, steps + 1] each."""
    fakes = np.atleast_2d(weights * ranking.labels)
    reals = np.atleast_2d(weights * (1 - ranking.labels))
    tp, fp = (np.cumsum(part, axis=1)[:, ranking.ends] for part in (fakes, reals))
    return np.pad(tp, ((0, 0), (1, 0))), np.pad(fp, ((0, 0), (1, 0)))


def _divide(part: Floats, whole: Floats) -> Floats:
    shape = np.broadcast(part, whole).shape
    return np.divide(part, whole, out=np.full(shape, np.nan), where=whole > 0)


def _measure_auc(tp: Floats, fp: Floats) -> dict[str, Floats]:
    area = (np.diff(fp) * (tp[:, 1:] + tp[:, :-1])).sum(axis=1) / 2
    return {"auc": _divide(area, tp[:, -1] * fp[:, -1])}


def _measure_ranking(tp: Floats, fp: Floats) -> dict[str, Floats]:
    fpr, tpr = _divide(fp, fp[:, -1:]), _divide(tp, tp[:, -1:])
    precision = np.nan_to_num(_divide(tp[:, 1:], tp[:, 1:] + fp[:, 1:]))
    reached = (tpr >= 0.95 - 1e-12).argmax(axis=1)
    only_defined = 0 * (fpr[:, -1] + tpr[:, -1])  # nan in a replicate of one class
    return _measure_auc(tp, fp) | {
        "ap": (np.diff(tpr) * precision).sum(axis=1) + only_defined,
        "eer": _measure_eer(fpr, tpr),
        "fpr_at_95_tpr": fpr[np.arange(len(fpr)), reached] + only_defined,
    }


def _measure_eer(fpr: Floats, tpr: Floats) -> Floats:
    excess = fpr + tpr - 1  # FPR - FNR, rising from -1 to 1
    rows, step = np.arange(len(fpr)), np.maximum((excess >= 0).argmax(axis=1), 1)
    before, after = (rows, step - 1), (rows, step)
    return fpr[before] + (fpr[after] - fpr[before]) * excess[before] / (excess[before] - excess[after])


def _measure_decisions(tp: Floats, fp: Floats, cut: int) -> dict[str, Floats]:
    fakes, reals, tp, fp = tp[:, -1], fp[:, -1], tp[:, cut], fp[:, cut]
    return {
        "accuracy": _divide(tp + reals - fp, fakes + reals),
        "balanced_accuracy": (_divide(tp, fakes) + _divide(reals - fp, reals)) / 2,
        "precision": _divide(tp, tp + fp),
        "recall": _divide(tp, fakes),
        "f1": _divide(2 * tp, fakes + tp + fp),
    }


def _bootstrap(ranking: Ranking, measure: Measure, confidence: float, replicates: int, seed: int) -> dict[str, Bounds]:
    """Percentile intervals of what `measure` finds, over the replicates in which it is defined."""
    if not 0 < confidence < 1 or replicates < 1:
        raise MetricError(f"expected 0 < confidence < 1 <= replicates, got {confidence}, {replicates}: take 0.95, 1000")
    rng = np.random.default_rng(seed)
    chunk = max(1, CHUNK_CELLS // ranking.members.nnz)
    sizes = [min(chunk, replicates - start) for start in range(0, replicates, chunk)]
    parts = [measure(*_count_steps(ranking, _draw_weights(ranking.members, size, rng))) for size in sizes]
    draws = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {name: _take_percentiles(draws[name], ranking.members.shape[1], confidence) for name in draws}


def _draw_weights(members: csr_array, replicates: int, rng: np.random.Generator) -> Floats:
    """Pigeonhole weights, [replicates, n]: the product of how often each identity of a video is drawn."""
    shape = replicates, members.shape[1]
    drawn = rng.integers(shape[1], size=shape) + shape[1] * np.arange(replicates)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(shape)
    return np.multiply.reduceat(counts[:, members.indices], members.indptr[:-1], axis=1).astype(float)


def _take_percentiles(draws: Floats, identities: int, confidence: float) -> Bounds:
    """Percentiles expanded for few identities (Hesterberg, "What teachers should know …", Am. Stat. 2015)."""
    draws = draws[np.isfinite(draws).reshape(len(draws), -1).all(axis=1)]
    if not draws.size:
        return np.inf, -np.inf
    tail = (1 - confidence) / 2
    if identities > 1:
        tail = norm.cdf(t.ppf(tail, identities - 1) * np.sqrt(identities / (identities - 1)))
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    return low, high


def _envelop(value: Any, first: Bounds, second: Bounds) -> Bounds:
    low, high = np.minimum(first[0], second[0]), np.maximum(first[1], second[1])
    return np.clip(np.minimum(low, value), 0, 1), np.clip(np.maximum(high, value), 0, 1)


def _describe(value: float, first: Bounds, second: Bounds) -> dict[str, float | None]:
    if np.isnan(value):
        return {"value": None, "low": None, "high": None}
    low, high = _envelop(value, first, second)
    return {"value": value, "low": float(low), "high": float(high)}


def _bound_metrics(
    values: dict[str, float], tp: int, fp: int, ranking: Ranking, confidence: float
) -> dict[str, Bounds]:
    """Wilson's interval for whatever is a proportion, or behaves as one, of so many independent videos.

    Average precision: of the fakes (Boyd, Eng & Page, "Area under the precision-recall curve", ECML 2013). Points
    of the ROC curve, which both classes move: of the smaller class. F1 = 2 J / (1 + J) grows with the Jaccard
    index J, a proportion. Balanced accuracy adds two, their reaches by squares (Zou & Donner, Stat. Med. 2008).
    """
    fakes, reals = ranking.worth
    sizes = {
        "ap": fakes,
        "eer": min(fakes, reals),
        "fpr_at_95_tpr": min(fakes, reals),
        "accuracy": _pool_classes(ranking, ranking.n_fake, ranking.n_real),
        "precision": _pool_classes(ranking, tp, fp),
        "recall": fakes,
        "f1": _pool_classes(ranking, ranking.n_fake, fp),
    }
    proportions = values | {"f1": values["f1"] / (2 - values["f1"])}
    bounds = {name: _bound_proportion(proportions[name], size, confidence) for name, size in sizes.items()}
    bounds["f1"] = tuple(2 * bound / (1 + bound) for bound in bounds["f1"])
    bounds["auc"] = _bound_auc(values["auc"], fakes, reals, confidence)
    mean, recall = values["balanced_accuracy"], values["recall"]
    rates = np.array([recall, 2 * mean - recall])
    low, high = _bound_proportion(rates, np.array([fakes, reals]), confidence)
    bounds["balanced_accuracy"] = mean - np.hypot(*(rates - low)) / 2, mean + np.hypot(*(high - rates)) / 2
    return bounds


def _bound_proportion(value: Any, size: Any, confidence: float) -> Bounds:
    """Wilson's score interval (J. Am. Stat. Assoc. 1927) of one proportion, or of an array of them."""
    z2 = norm.ppf(0.5 + confidence / 2) ** 2 / size
    centre = (value + z2 / 2) / (1 + z2)
    reach = np.sqrt(z2 * value * (1 - value) + z2**2 / 4) / (1 + z2)
    return centre - reach, centre + reach


def _bound_auc(auc: float, fakes: float, reals: float, confidence: float) -> Bounds:
    """Newcombe, "Confidence intervals for … the Mann–Whitney statistic. Part 2", Stat. Med. 2006, method 5.

    The theta at which |auc - theta| = z sqrt(V(theta)); V is Hanley & McNeil's variance with their two class sizes
    less one replaced by the mean of both. V is thus symmetric: the high bound is 1 - the low one of 1 - auc.
    """
    z, rest = norm.ppf(0.5 + confidence / 2), (fakes + reals) / 2 - 1

    def exceed(theta: float, auc: float) -> float:
        pairs = 1 + rest * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return (auc - theta) ** 2 - z**2 * theta * (1 - theta) * pairs / (fakes * reals)

    def find_low(auc: float) -> float:
        # Where auc is 1, theta = 1 is a root too, but the bound is the one below it.
        return brentq(exceed, 0, min(auc, 1 - 1e-12), args=(auc,)) if auc > 0 else 0.0

    return find_low(auc), 1 - find_low(1 - auc)


def _pool_classes(ranking: Ranking, fakes: int, reals: int) -> float:
    """How many independent videos so many of the fakes and so many of the reals are worth together."""
    cost = fakes * ranking.n_fake / ranking.worth[0] + reals * ranking.n_real / ranking.worth[1]
    return max(1.0, (fakes + reals) ** 2 / max(1.0, cost))


def _count_independent(scores: Floats, members: csr_array) -> float:
    """How many independent videos those of one class are worth: n / (1 + partners × correlation) (Kish 1965).

    A video's partners share an identity with it. Their correlation is taken of the ranks in the class: these vary
    even where no error is made, and decisions cut from them correlate less. It counts as 1 where it cannot be
    known, with one identity or one score for all.
    """
    n, videos = max(1, scores.size), members.sum(axis=0)
    partners = min(n - 1, videos @ (videos - 1) / n)
    ranks, present = rankdata(scores) - (n + 1) / 2, np.count_nonzero(videos)
    if not partners or present < 2 or not ranks.any():
        return n / (1 + partners)
    # Ranks sum to 0 about their mean, which takes one of `present` parts from the variance between identities.
    shared = ((members.T @ ranks) ** 2).sum() * present / (present - 1) - (members.T @ ranks**2).sum()
    return n / (1 + min(partners, max(0.0, shared / (ranks @ ranks))))
