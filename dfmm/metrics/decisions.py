"""What a threshold decides: the threshold itself, and how often it is right."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import ArrayLike

from dfmm.metrics.intervals import Bounds, add_reaches, bound_proportion
from dfmm.metrics.people import Floats, MetricError
from dfmm.metrics.ranking import Counts, Ranking, divide, rank_videos

ALARMS_LAST = 1e-6  # what false alarms weigh beside fakes that are found: they decide between equals alone


def choose_threshold(labels: ArrayLike, scores: ArrayLike, *, rule: str = "balanced_accuracy") -> float:
    """The threshold that is best by a rule on these videos, midway between two neighbouring scores.

    The rule is `balanced_accuracy` (the highest), `eer` (FPR nearest to FNR) or `fpr=<rate>` (the highest TPR whose
    FPR does not exceed the rate, and of these the lowest FPR). Among equally good thresholds the middle one is taken.
    MetricError for another rule or one class only.
    """
    ranking = rank_videos(labels, scores, need_both=True)
    quality = _rate_cuts(ranking.fakes_in / ranking.n_fake, ranking.reals_in / ranking.n_real, rule)
    best = np.flatnonzero(quality >= quality.max() - 1e-12)
    return _place_threshold(ranking.steps, int(best[(best.size - 1) // 2]))


def _rate_cuts(tpr: Floats, fpr: Floats, rule: str) -> Floats:
    if rule == "balanced_accuracy":
        return tpr - fpr
    if rule == "eer":
        return -np.abs(fpr + tpr - 1)
    rate = re.fullmatch(r"fpr=(\d*\.?\d+(?:e-\d+)?)", rule)
    if rate and float(rate[1]) <= 1:
        return np.where(fpr <= float(rate[1]), tpr - ALARMS_LAST * fpr, -1.0)
    raise MetricError(f"expected the rule balanced_accuracy, eer or, say, fpr=0.01, got {rule!r}: take one of them")


def _place_threshold(steps: Floats, cut: int) -> float:
    """A threshold that the first `cut` of the falling steps reach, and no other."""
    if cut == 0:
        return float(np.nextafter(steps[0], np.inf))
    high, low = steps[cut - 1], steps[min(cut, steps.size - 1)]
    middle = high / 2 + low / 2
    return float(middle if middle > low else high)  # nothing lies between equal or neighbouring floats


def measure_decisions(counts: Counts, cut: int) -> dict[str, Floats]:
    """How often it is right to call fake what the first `cut` steps reach, [replicates] each."""
    fakes, reals = counts.fakes, counts.reals
    tp = counts.tp[:, counts.ranking.fakes_in[cut]].astype(float)
    fp = counts.fp[:, counts.ranking.reals_in[cut]].astype(float)
    return {
        "accuracy": divide(tp + reals - fp, fakes + reals),
        "balanced_accuracy": (divide(tp, fakes) + divide(reals - fp, reals)) / 2,
        "precision": divide(tp, tp + fp),
        "recall": divide(tp, fakes),
        "f1": divide(2 * tp, fakes + tp + fp),
    }


def count_confusion(ranking: Ranking, cut: int) -> dict[str, int]:
    """True and false negatives and positives."""
    tp, fp = int(ranking.fakes_in[cut]), int(ranking.reals_in[cut])
    return {"tn": ranking.n_real - fp, "fp": fp, "fn": ranking.n_fake - tp, "tp": tp}


def bound_decisions(values: dict[str, float], ranking: Ranking, cut: int, confidence: float) -> dict[str, Bounds]:
    """Wilson's interval for whatever is a proportion, or behaves as one, of so many independent videos.

    F1 = 2 J / (1 + J) grows with the Jaccard index J, a proportion. Balanced accuracy adds two.
    """
    fakes, _ = ranking.worth
    tp, fp = int(ranking.fakes_in[cut]), int(ranking.reals_in[cut])
    sizes = {
        "accuracy": _pool_classes(ranking, ranking.n_fake, ranking.n_real),
        "precision": _pool_classes(ranking, tp, fp),
        "recall": fakes,
        "f1": _pool_classes(ranking, ranking.n_fake, fp),
    }
    proportions = values | {"f1": values["f1"] / (2 - values["f1"])}
    bounds = {name: bound_proportion(proportions[name], size, confidence) for name, size in sizes.items()}
    bounds["f1"] = tuple(2 * bound / (1 + bound) for bound in bounds["f1"])
    mean, recall = values["balanced_accuracy"], values["recall"]
    bounds["balanced_accuracy"] = bound_two_rates(mean, (recall, 0.5), (2 * mean - recall, 0.5), ranking, confidence)
    return bounds


def bound_two_rates(
    value: float, of_fakes: tuple[float, float], of_reals: tuple[float, float], ranking: Ranking, confidence: float
) -> Bounds:
    """Bounds of a weighted sum of a rate among the fakes and one among the reals, given as rate and weight each."""
    reaches = []
    for (rate, weight), size in zip((of_fakes, of_reals), ranking.worth, strict=True):
        low, high = bound_proportion(rate, size, confidence)
        reaches.append((weight * (rate - low), weight * (high - rate)))
    return add_reaches(value, *reaches)


def _pool_classes(ranking: Ranking, fakes: int, reals: int) -> float:
    """How many independent videos so many of the fakes and so many of the reals are worth together."""
    cost = fakes * ranking.n_fake / ranking.worth[0] + reals * ranking.n_real / ranking.worth[1]
    return max(1.0, (fakes + reals) ** 2 / max(1.0, cost))
