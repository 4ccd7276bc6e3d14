"""What scores cost as probabilities and in decisions: against scikit-learn, by hand, and by brute force."""

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss, log_loss

from dfmm.metrics import Costs, MetricError, compute_metrics, compute_roc, measure_calibration

LOSSES = ("log_loss", "brier", "ece", "cllr", "act_dcf", "min_dcf", "min_cllr")


def draw_scores(n: int = 400, *, share: float = 0.3, sharpness: float = 1.0, decimals: int = 8, seed: int = 0):
    """Labels, and probabilities that are right at this share of fakes if `sharpness` is 1."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) < share * n).astype(int)
    ratios = rng.normal(size=n) * 2 + 4 * labels - 2  # the log-likelihood ratio of normals two deviations apart
    return labels, np.round(expit(sharpness * ratios + logit(share)), decimals)


def measure(labels, scores, **options):
    found = compute_metrics(labels, scores, threshold=0.5, **{"replicates": 20, **options})
    return {name: found[name]["value"] for name in LOSSES}


def cost_evenly(labels, scores, share):
    """Cllr: scikit-learn's log-loss in bits with both classes weighing the same."""
    even = expit(logit(scores) - logit(share))
    weights = np.where(labels == 1, 0.5 / labels.mean(), 0.5 / (1 - labels.mean()))
    return log_loss(labels, even, sample_weight=weights) / np.log(2)


@pytest.mark.parametrize("decimals", [8, 2])
def test_losses_agree_with_sklearn(decimals):
    labels, scores = draw_scores(decimals=decimals)
    scores = scores.clip(0.001, 0.999)
    found = measure(labels, scores)
    assert found["log_loss"] == pytest.approx(log_loss(labels, scores))
    assert found["brier"] == pytest.approx(brier_score_loss(labels, scores))
    assert found["cllr"] == pytest.approx(cost_evenly(labels, scores, labels.mean()))
    order = IsotonicRegression(out_of_bounds="clip").fit(scores, labels).predict(scores).clip(1e-15, 1 - 1e-15)
    assert found["min_cllr"] == pytest.approx(cost_evenly(labels, order, labels.mean()))
    fpr, tpr, _ = compute_roc(labels, scores)
    assert found["min_dcf"] == pytest.approx((1.9 * fpr + 1 - tpr).min())


def test_replicates_weigh_losses_as_copies_would():
    """A person drawn twice counts twice: a table of copies has the same losses."""
    labels, scores = draw_scores(200, decimals=1)
    scores = scores.clip(0.1, 0.9)
    doubled = measure(np.repeat(labels, 2), np.repeat(scores, 2))
    assert doubled == pytest.approx(measure(labels, scores))


def test_what_says_nothing_costs_one_bit():
    labels, _ = draw_scores(100)
    found = measure(labels, np.full(100, 0.3))
    assert found["cllr"] == pytest.approx(1)
    assert found["min_cllr"] == pytest.approx(1)
    assert found["act_dcf"] == found["min_dcf"] == pytest.approx(1)
    assert found["ece"] == pytest.approx(0)


def test_the_decision_cost_is_that_worked_by_hand():
    """ASVspoof 5's costs: a false alarm counts 0.95 × 1, a miss 0.05 × 10, and the cheaper of both is 1."""
    labels = np.array([0] * 10 + [1] * 10)
    ratios = np.array([0.7, 0.5] + [-3.0] * 8 + [0.5] * 3 + [3.0] * 7)  # Bayes' threshold is log(0.95 / 0.5) = 0.64
    found = measure(labels, expit(ratios))
    assert Costs().log_ratio == pytest.approx(np.log(1.9))
    assert found["act_dcf"] == pytest.approx(1.9 * 0.1 + 0.3)
    assert found["min_dcf"] == pytest.approx(0.3)  # to call only the surest seven fake
    alike = measure(labels, expit(ratios), costs=Costs(prior=0.5, false_alarm=1, miss=1))
    assert alike["act_dcf"] == pytest.approx(0.2)
    assert alike["min_dcf"] == pytest.approx(0.2)
    with pytest.raises(MetricError, match="prior between 0 and 1"):
        Costs(prior=1.0)


def test_the_best_calibration_worked_by_hand():
    """Two blocks, {fake, fake, real} and {fake, real, real}: likelihood ratios 2 and 1/2."""
    found = measure([1, 1, 0, 1, 0, 0], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    # The hull joins 1, 1 (no real) to 0, 1 (as many) to 0, 0 (no fake).
    assert found["min_cllr"] == pytest.approx((1 / 3 + 1 / 3) / 2 * np.log2(1 + 1))


def test_the_calibration_error_worked_by_hand():
    labels = np.array([0] * 9 + [1] + [0] * 4 + [1] * 6)
    scores = np.repeat([0.2, 0.9], 10)
    assert measure_calibration(labels, scores) == {
        "brier": pytest.approx(np.mean((scores - labels) ** 2)),
        "ece": pytest.approx((0.1 + 0.3) / 2),
        "bins": [
            {"score": pytest.approx(0.2), "share": 0.1, "videos": 10},
            {"score": pytest.approx(0.9), "share": 0.6, "videos": 10},
        ],
    }
    assert measure(labels, scores)["ece"] == pytest.approx(0.2)


def test_a_prior_that_is_not_this_shares_is_no_fault_of_the_scores():
    labels, scores = draw_scores(2000)
    moved = expit(logit(scores) + logit(0.9) - logit(0.3))  # as a model that was trained on nine fakes in ten says it
    assert measure(labels, moved, prior=0.9) == pytest.approx(measure(labels, scores, prior=0.3))
    assert measure(labels, moved)["log_loss"] > measure(labels, scores)["log_loss"] + 0.1


def test_overconfidence_costs_and_order_does_not():
    labels, scores = draw_scores(2000)
    good, bad = measure(labels, scores), measure(*draw_scores(2000, sharpness=3.0, decimals=15))
    assert bad["min_cllr"] == pytest.approx(good["min_cllr"])
    assert bad["min_dcf"] == pytest.approx(good["min_dcf"])
    assert good["cllr"] - good["min_cllr"] < 0.03 < bad["cllr"] - bad["min_cllr"]
    assert good["ece"] < bad["ece"]


def test_what_is_no_probability_has_no_loss_and_what_is_sure_a_finite_one():
    labels, scores = draw_scores(100)
    found = compute_metrics(labels, 10 * scores, threshold=5, replicates=20)
    assert found["log_loss"] == {"value": None, "low": None, "high": None}
    assert found["min_cllr"]["value"] is not None
    sure = measure(labels, 1.0 - labels)
    assert np.isfinite(list(sure.values())).all()
    perfect = compute_metrics(labels, labels * 1.0, threshold=0.5, replicates=20)
    for name in ("act_dcf", "min_dcf", "min_cllr"):
        assert perfect[name]["value"] == 0 < perfect[name]["high"] < 1


def test_intervals_hold_their_value_and_one_class_has_none():
    labels, scores = draw_scores(60)
    found = compute_metrics(labels, scores, threshold=0.5, replicates=100)
    for name in LOSSES:
        assert 0 <= found[name]["low"] <= found[name]["value"] <= found[name]["high"]
        assert found[name]["low"] < found[name]["high"]
    for options in ({}, {"prior": 0.5}):  # moved to a share of fakes of 1, all scores would be perfect
        alone = compute_metrics(labels[:9], scores[:9], threshold=0.5, replicates=20, **options)
        assert {alone[name]["value"] for name in (*LOSSES, "min_dcf", "min_cllr")} == {None}


def test_what_a_likelihood_ratio_costs_does_not_hang_on_the_prior_it_is_told_with():
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    ratios = 9 * (labels - 0.5) + 3 * rng.normal(size=400)
    found = [
        compute_metrics(labels, expit(ratios + logit(prior)), threshold=prior, prior=prior, replicates=2)
        for prior in (0.5, 1e-3, 1e-5, 1e-8)
    ]
    for name in LOSSES:
        assert [one[name]["value"] for one in found] == pytest.approx([found[0][name]["value"]] * 4)


def test_a_cost_is_no_higher_than_where_all_decisions_are_wrong() -> None:
    costs, labels = Costs(), np.repeat([0, 1], [25, 7])
    scores = np.where(np.arange(32) == 31, 0.01, 0.01 + 0.98 * labels)  # one fake is missed: most replicates lose it
    people = [f"person {number}" for number in range(32)]
    found = compute_metrics(labels, scores, threshold=0.5, identities=people, costs=costs)["act_dcf"]
    wrong = compute_metrics(labels, 1.0 * (labels == 0), threshold=0.5, costs=costs)["act_dcf"]
    assert wrong["value"] == pytest.approx(sum(costs.weights))
    assert found["value"] <= found["high"] <= sum(costs.weights)
