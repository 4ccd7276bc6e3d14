"""What scores cost whoever takes them for probabilities, or decides by them: proper losses, calibration, DCF, Cllr."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit
from typing_extensions import TypedDict

from dfmm.metrics.decisions import bound_two_rates
from dfmm.metrics.intervals import Bounds
from dfmm.metrics.people import Floats, Ints, MetricError
from dfmm.metrics.ranking import Counts, Ranking, both_or_nan, check_videos, divide, pool_violators

# So many times more often seen, evidence says something (ENFSI, guideline for evaluative reporting, 2015).
TELLING = 2.0
RATIO_DIGITS = 4  # behind the point, of the logarithms that are told
BINS = 10
MOST_RATIO = np.log(1e7)  # of the likelihoods, a logarithm: a probability of 0 or 1 has lost its odds
LOSSES = ("log_loss", "brier", "ece", "cllr", "act_dcf")  # of scores that are probabilities
HULLS = ("min_dcf", "min_cllr")  # of any scores: what the best threshold, or the best calibration, would cost


def is_telling(log10_ratio: float) -> bool:
    """Does evidence say something, seen so many times more often? Of what is told rounded the same as of the rest."""
    return round(abs(log10_ratio), RATIO_DIGITS) >= round(np.log10(TELLING), RATIO_DIGITS)


def bound_ratios(ratios: ArrayLike, against: float, speaking_for: float) -> Floats:
    """Return log-likelihood ratios that bend towards what can be vouched for, and keep their order.

    From n cases that a method was right about follows no likelihood ratio above n + 1, whatever its fit extrapolates to
    (Vergeer et al., "Numerical likelihood ratios outputted by LR systems are often based on extrapolation: when to stop
    extrapolating?", Science & Justice 2016).

    Args:
        against, speaking_for: the highest ratios, above 1, of either kind: below 1 / `against` none comes.
    """
    ratios = np.asarray(ratios, float)
    most = np.where(ratios < 0, np.log(against), np.log(speaking_for))
    return most * np.tanh(ratios / most)


@dataclass(frozen=True)
class Costs:
    """What a wrong decision costs, and how many are fake where decisions are made.

    The default is that of ASVspoof 5 (Wang et al., 2024), where a fake taken for real costs ten false alarms.
    """

    prior: float = 0.05  # share of fakes
    false_alarm: float = 1.0  # a real called fake
    miss: float = 10.0  # a fake called real

    def __post_init__(self) -> None:
        if not 0 < self.prior < 1 or min(self.false_alarm, self.miss) <= 0:
            raise MetricError(f"expected a prior between 0 and 1 and costs above 0, got {self}: see evaluate.dcf_…")

    @property
    def weights(self) -> tuple[float, float]:
        """What the rates of misses and of false alarms weigh, so that calling all real, or all fake, costs 1."""
        miss, alarm = self.miss * self.prior, self.false_alarm * (1 - self.prior)
        return miss / min(miss, alarm), alarm / min(miss, alarm)

    @property
    def log_ratio(self) -> float:
        """The log-likelihood ratio from which on calling a video fake costs less (Bayes' threshold)."""
        return float(np.log(self.weights[1] / self.weights[0]))


@dataclass(frozen=True)
class Losses:
    """What each group of videos adds to each sum, [groups, sums]: a replicate's sums are its weights times this."""

    table: Floats
    bins: int
    alarm: float  # rates at Bayes' threshold, in the data itself
    miss: float


def find_ratios(scores: ArrayLike, assumed: float) -> Floats:
    """The log-likelihood ratios behind probabilities that assume a share of fakes, finite at 0 and 1.

    It is they that are bounded, and not the odds: the same ratios may stand behind very small probabilities.
    """
    scores = np.clip(np.asarray(scores, float), np.finfo(float).tiny, 1 - np.finfo(float).epsneg)
    return np.clip(logit(scores) - logit(assumed), -MOST_RATIO, MOST_RATIO)


def move_scores(scores: ArrayLike, assumed: float, wanted: float) -> Floats:
    """Probabilities that assume one share of fakes, as they are where it is another one (Bayes' rule)."""
    return expit(find_ratios(scores, assumed) + logit(wanted))


def are_probabilities(scores: Floats) -> bool:
    """Whether scores can be taken for probabilities."""
    return bool(((scores >= 0) & (scores <= 1)).all())


def tabulate_losses(ranking: Ranking, prior: float | None, costs: Costs) -> Losses | None:
    """Sum up each group's losses; see `measure_losses` for what they are.

    None for scores that are no probabilities, and where all videos have one label: no share of fakes is then told.

    Args:
        prior: the share of fakes that scores assume; None: that of these videos.
    """
    if not are_probabilities(ranking.scores) or not ranking.n_fake or not ranking.n_real:
        return None
    labels, share = ranking.labels, ranking.labels.mean()
    ratios = find_ratios(ranking.scores, share if prior is None else prior)
    scores = expit(ratios + logit(share))
    right = np.where(labels == 1, scores, 1 - scores)
    called = ratios >= costs.log_ratio
    which = assign_bins(scores)
    columns = [
        *(labels, 1 - labels),
        *(-np.log(right), (scores - labels) ** 2),
        *(labels * np.logaddexp2(0, -ratios / np.log(2)), (1 - labels) * np.logaddexp2(0, ratios / np.log(2))),
        *(labels * ~called, (1 - labels) * called),
        *((which == number) * (scores - labels) for number in range(which.max() + 1)),
    ]
    groups, count = ranking.crowd.groups, len(ranking.crowd.members)
    table = np.stack([np.bincount(groups, column, minlength=count) for column in columns], axis=1)
    return Losses(
        table,
        which.max() + 1,
        alarm=float(called[labels == 0].mean()),
        miss=float((~called)[labels == 1].mean()),
    )


def measure_losses(counts: Counts, losses: Losses, costs: Costs) -> dict[str, Floats]:
    """The costs of scores that are probabilities, [replicates] each.

    `log_loss` in nats and `brier`, the mean squared error (Brier, 1950), of scores moved to the share of fakes among
    these videos; `ece`, the distance of score and share of fakes over bins (Naeini et al., AAAI 2015); `cllr` in bits,
    the log-loss at even odds: 1 says nothing (Brümmer & du Preez, Computer Speech & Language 2006); `act_dcf`, the
    normalised cost of deciding at Bayes' threshold.
    """
    sums = counts.weights @ losses.table
    fakes, reals, log_loss, brier, of_fakes, of_reals, misses, alarms = sums[:, :8].T
    both = fakes + reals
    miss, alarm = costs.weights
    return {
        "log_loss": divide(log_loss, both),
        "brier": divide(brier, both),
        "ece": divide(np.abs(sums[:, 8:]).sum(axis=1), both),
        "cllr": (divide(of_fakes, fakes) + divide(of_reals, reals)) / 2,
        "act_dcf": miss * divide(misses, fakes) + alarm * divide(alarms, reals),
    }


def bound_dcf(value: float, losses: Losses, ranking: Ranking, costs: Costs, confidence: float) -> Bounds:
    """Bounds of `act_dcf`, a weighted sum of two rates."""
    miss, alarm = costs.weights
    return bound_two_rates(value, (losses.miss, miss), (losses.alarm, alarm), ranking, confidence)


def measure_hulls(counts: Counts, runs: Ints, costs: Costs) -> dict[str, Floats]:
    """The least costs that any threshold, or any calibration that keeps the order, could have, [replicates] each.

    Args:
        runs: as from `find_runs`.
    """
    miss, alarm = costs.weights
    # Between two fakes a lower threshold only adds false alarms.
    saved = counts.tp_at_fakes * divide(miss, counts.fakes)[:, None]
    saved -= counts.fp_at_fakes * divide(alarm, counts.reals)[:, None]
    pooled = pool_violators(*_sum_runs(counts, runs))
    return {
        "min_dcf": miss - saved.max(axis=1, initial=0) + both_or_nan(counts),
        "min_cllr": np.array([_cost_calibrated(*pair) for pair in pooled]) + both_or_nan(counts),
    }


def _sum_runs(counts: Counts, runs: Ints) -> tuple[Floats, Floats]:
    ranking = counts.ranking
    sums = counts.tp[:, ranking.fakes_in[runs]], counts.fp[:, ranking.reals_in[runs]]
    return tuple(np.diff(each, axis=1).astype(float) for each in sums)


def _cost_calibrated(tp: Floats, fp: Floats) -> float:
    """Cllr where each block's ratio of fakes to reals is the likelihood ratio."""
    fakes, reals = tp / max(tp.sum(), 1), fp / max(fp.sum(), 1)
    both = fakes + reals
    some, other = fakes > 0, reals > 0
    lost = fakes[some] @ np.log2(both[some] / fakes[some]) + reals[other] @ np.log2(both[other] / reals[other])
    return float(lost) / 2


# Calibration


def assign_bins(scores: Floats, bins: int = BINS) -> Ints:
    """The bin of each score: of equally many videos each, equal scores together, with ten videos or more for each."""
    order = np.sort(scores)
    edges = [part[0] for part in np.array_split(order, max(1, min(bins, scores.size // 10)))[1:]]
    return np.unique(np.searchsorted(np.unique(edges), scores, side="right"), return_inverse=True)[1]


class Bin(TypedDict):
    """Some of the videos: their mean score, and the share of them that are fake."""

    score: float
    share: float
    videos: int


class Calibration(TypedDict):
    """How far scores are from being probabilities."""

    brier: float
    ece: float
    bins: list[Bin]


def measure_calibration(labels: ArrayLike, scores: ArrayLike, *, bins: int = BINS) -> Calibration:
    """Return how far scores are from being probabilities.

    Args:
        labels: [n], 1 = fake, 0 = real.
        scores: [n], probabilities of fake.
        bins: of equally many videos each, for `ece` and `bins`; fewer where there are fewer than ten videos for each.

    Returns:
        `brier`, the mean squared error (Brier, 1950); `ece`, the mean distance of score and share of fakes over bins,
        weighted by their videos (Naeini et al., 2015), which is above 0 by chance too where videos are few; and `bins`,
        each with its mean `score`, `share` of fakes and number of `videos`.

    Raises:
        MetricError: no video, or a score that is no probability.
    """
    found = np.asarray(scores, float)
    if not found.size or not are_probabilities(found):
        raise MetricError(f"expected probabilities, at least one, got {found.size} scores: leave out what has none")
    labels, scores = check_videos(labels, found)
    which = assign_bins(scores, bins)
    sizes, sums, fakes = (np.bincount(which, weights) for weights in (None, scores, labels))
    described = [
        {"score": float(score), "share": float(share), "videos": int(size)}
        for score, share, size in zip(sums / sizes, fakes / sizes, sizes, strict=True)
    ]
    brier, ece = float(np.mean((scores - labels) ** 2)), float(np.abs(sums - fakes).sum() / scores.size)
    return {"brier": brier, "ece": ece, "bins": described}
