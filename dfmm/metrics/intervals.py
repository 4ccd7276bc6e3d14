"""From a value and its replicates to an interval that stays honest for small samples.

Replicates say how far a value spreads, as people are drawn again; the interval is Student's on the scale of log-odds,
or of logarithms for what has no upper end, where such values are nearer to normal. Where replicates cannot know, as at
an AUC of 1, an analytic interval stands in, which never has zero width: it counts clustered videos as so many
independent ones as they are worth, their number over the design effect (Kish, "Survey Sampling", 1965). All were
chosen by their coverage in benchmarks/interval_coverage.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy
from scipy.special import expit, logit
from typing_extensions import NotRequired, TypedDict

from dfmm.metrics.people import Floats, Ints, MetricError

Bounds = tuple[Any, Any]  # low and high: two floats, or two arrays


class Interval(TypedDict):
    """A value with the ends of its interval: all None where it is undefined; `note` says why, or why an end is."""

    value: float | None
    low: float | None
    high: float | None
    note: NotRequired[str]


TINY = 1e-12
FEW = 20  # independent videos of a class, or people, with no more than which replicates alone promise too much
SEEN = 10  # replicates that must lie beyond a percentile for it to be read off them


def check_options(confidence: float, replicates: int) -> None:
    """MetricError for a confidence that is none, or no replicates."""
    if not 0 < confidence < 1 or replicates < 1:
        raise MetricError(f"expected 0 < confidence < 1 <= replicates, got {confidence}, {replicates}: take 0.95, 1000")


def take_percentiles(draws: Floats, people: float, confidence: float) -> Bounds:
    """Percentiles expanded for few people (Hesterberg, "What teachers should know …", Am. Stat. 2015).

    A percentile beyond which fewer than `SEEN` replicates lie, such as one of Bonferroni's, is not read off them: the
    distance of the median to the last one that can be is stretched as that of a normal distribution.

    Args:
        draws: [replicates, ...]; those that are not finite are left out.
    """
    draws = keep_finite(draws)
    if not draws.size:
        return np.inf, -np.inf
    # Of very few people it may be 0: how far out that lies is infinite, and no number where all are alike.
    tail = max(scipy.stats.norm.sf(find_reach(people, confidence)), np.finfo(float).tiny)
    seen = min(max(tail, SEEN / len(draws)), 0.25)
    low, middle, high = np.quantile(draws, [seen, 0.5, 1 - seen], axis=0)
    stretch = scipy.stats.norm.ppf(tail) / scipy.stats.norm.ppf(seen)
    return middle - (middle - low) * stretch, middle + (high - middle) * stretch


def keep_finite(draws: Floats) -> Floats:
    """The replicates in which a number, or every one of several, is defined."""
    return draws[np.isfinite(draws).reshape(len(draws), -1).all(axis=1)]


def find_reach(people: float, confidence: float) -> float:
    """How many standard errors an interval reaches to either side: the more, the fewer people, down to two of them."""
    tail, people = (1 - confidence) / 2, max(people, 2.0)  # one tells of no spread, and what is left is not of people
    return scipy.stats.t.isf(tail, people - 1) * np.sqrt(people / (people - 1))


def bound_share(value: Any, draws: Floats, people: float, confidence: float, edge: float) -> Bounds:
    """Student's interval of what lies between 0 and 1, on the scale of log-odds.

    Args:
        value, draws: a number and its replicates, or an array and [replicates, ...].
        edge: what is nearer to 0 or 1 counts as so near.
    """
    odds = logit(np.clip(keep_finite(draws), edge, 1 - edge))
    if not len(odds):
        return np.inf, -np.inf
    middle, reach = logit(np.clip(value, edge, 1 - edge)), find_reach(people, confidence) * odds.std(axis=0)
    return expit(middle - reach), expit(middle + reach)


def bound_loss(value: float, draws: Floats, people: float, confidence: float, excess: float = 0.0) -> Bounds:
    """Student's interval of a mean loss on the scale of logarithms, and the percentiles where they lie further out.

    Args:
        excess: by how much the value, and every replicate, is known to be too high on the average.
    """
    draws, low, high = keep_finite(draws), *take_percentiles(draws, people, confidence)
    if not draws.size or value <= 0:
        return low - excess, high - excess
    middle = max(value - excess, TINY)
    reach = find_reach(people, confidence) * np.log(np.maximum(draws, TINY)).std()
    return min(low - excess, middle * np.exp(-reach)), max(high - excess, middle * np.exp(reach))


def bound_excess(value: float, draws: Floats, people: float, confidence: float) -> Bounds:
    """Student's interval of what is above 0 by chance alone, such as a mean distance.

    By how much is not known: at most as much as replicates, drawn from what was drawn, are above the value. Chance adds
    to a distance by squares, so to a small one more than to the value, which has grown by it already.
    """
    draws = keep_finite(draws)
    if not draws.size:
        return np.inf, -np.inf
    reach, excess = find_reach(people, confidence) * draws.std(), max(draws.mean() ** 2 - value**2, 0)
    return np.sqrt(max(value**2 - excess, 0)) - reach, value + reach


def unite(first: Bounds, second: Bounds) -> Bounds:
    """The smallest interval that holds both."""
    return np.minimum(first[0], second[0]), np.maximum(first[1], second[1])


def choose_bounds(
    value: Any, draws: Floats, analytic: Bounds, size: float, confidence: float, *, edge: float
) -> Bounds:
    """The replicates' interval of a share, with the analytic one where videos are few; that one alone near 0 and 1.

    Args:
        size: how many independent ones there are of what is fewest.
        edge: what is nearer to 0 or 1 counts as so near.
    """
    bounds = bound_share(value, draws, size, confidence, edge)
    bounds = unite(bounds, analytic) if size <= FEW else bounds
    inside = (edge < value) & (value < 1 - edge) & (len(keep_finite(draws)) > 0)
    return tuple(np.where(inside, *pair) for pair in zip(bounds, analytic, strict=True))


def envelop(value: Any, low: Any, high: Any, most: float = 1) -> Bounds:
    """The interval with the value in it, between 0 and what it is at most."""
    return np.clip(np.minimum(low, value), 0, most), np.clip(np.maximum(high, value), 0, most)


def describe(value: float, bounds: Bounds, most: float = 1) -> Interval:
    """`{"value", "low", "high"}` for JSON: None for all three where the value is undefined."""
    if np.isnan(value):
        return {"value": None, "low": None, "high": None}
    low, high = envelop(value, *bounds, most)
    return {"value": float(value), "low": float(low), "high": float(high)}


def bound_proportion(value: Any, size: Any, confidence: float) -> Bounds:
    """Wilson's score interval (J. Am. Stat. Assoc. 1927) of one proportion, or of an array of them."""
    z2 = scipy.stats.norm.ppf(0.5 + confidence / 2) ** 2 / size
    centre = (value + z2 / 2) / (1 + z2)
    reach = np.sqrt(z2 * value * (1 - value) + z2**2 / 4) / (1 + z2)
    return centre - reach, centre + reach


def add_reaches(value: float, *reaches: Bounds) -> Bounds:
    """Bounds of a sum from how far below and above each of its independent parts reaches, by squares.

    Zou & Donner, "Construction of confidence limits about effect measures", Stat. Med. 2008.
    """
    low, high = (np.sqrt(sum(reach[side] ** 2 for reach in reaches)) for side in (0, 1))
    return value - low, value + high


def bound_auc(auc: float, fakes: float, reals: float, confidence: float) -> Bounds:
    """Newcombe, "Confidence intervals for … the Mann–Whitney statistic. Part 2", Stat. Med. 2006, method 5.

    The theta at which |auc - theta| = z sqrt(V(theta)); V is Hanley & McNeil's variance with their two class sizes
    less one replaced by the mean of both. V is thus symmetric: the high bound is 1 - the low one of 1 - auc.
    """
    z, rest = scipy.stats.norm.ppf(0.5 + confidence / 2), (fakes + reals) / 2 - 1

    def exceed(theta: float, auc: float) -> float:
        pairs = 1 + rest * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return (auc - theta) ** 2 - z**2 * theta * (1 - theta) * pairs / (fakes * reals)

    def find_low(auc: float) -> float:
        # Where auc is 1, theta = 1 is a root too, but the bound is the one below it.
        return scipy.optimize.brentq(exceed, 0, min(auc, 1 - 1e-12), args=(auc,)) if auc > 0 else 0.0

    if np.isnan(auc):
        return np.nan, np.nan
    return find_low(auc), 1 - find_low(1 - auc)


def bound_rate_at(
    rate: float, value: float, fixed: Ints, other: Ints, sizes: tuple[float, float], confidence: float
) -> Bounds:
    """Bounds of the rate of one class at the threshold where that of the other class is fixed, such as TPR at an FPR.

    Two things are uncertain: where the threshold lies, by order statistics of the fixed class (David & Nagaraja, "Order
    statistics", 2003, section 7.1), which know no bound where these videos are too few; and the other class's rate
    there, by Wilson. Their reaches are added by squares.

    Args:
        rate: at which the one class is fixed.
        value: the other's there.
        fixed, other: [steps + 1], how many of each are found at each step.
        sizes: how many independent videos each of them is worth.
    """
    tail, (size, other_size), n = (1 - confidence) / 2, sizes, fixed[-1]
    worth = max(1, round(size))
    fewest, most = scipy.stats.binom.ppf([tail, 1 - tail], worth, rate) / worth * n
    low = other[np.searchsorted(fixed, np.floor(fewest))] / other[-1]
    high = other[np.searchsorted(fixed, np.ceil(most), side="right") - 1] / other[-1]
    wilson = bound_proportion(value, other_size, confidence)
    placed, drawn = (max(value - low, 0), max(high - value, 0)), (value - wilson[0], wilson[1] - value)
    return add_reaches(value, placed, drawn)
