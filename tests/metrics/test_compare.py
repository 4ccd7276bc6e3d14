"""Differences are told paired: by the same replicates, and by DeLong's test."""

import json

import numpy as np
import pytest

from dfmm.metrics import MetricError, compare_aucs, compare_metrics, compute_auc, compute_metrics
from dfmm.metrics.compare import compare_delong
from dfmm.metrics.compute import count_least
from dfmm.metrics.intervals import find_reach
from dfmm.metrics.people import find_people
from dfmm.metrics.ranking import rank_videos


def draw_pair(rng, n=80, *, gain=0.6, shared=0.8, people=None):
    """Labels and the scores of two detectors that find the same videos hard, the first of which is better."""
    person = np.arange(n) if people is None else np.arange(n) % people
    labels = np.arange(n) // (1 if people is None else people) % 2
    hard = rng.normal(size=(2, n))[labels, person]
    scores = [np.sqrt(shared) * hard + np.sqrt(1 - shared) * rng.normal(size=n) for _ in range(2)]
    return labels, scores[0] + (1 + gain) * labels, scores[1] + labels, [f"person {number}" for number in person]


def test_a_paired_difference_is_found_where_the_intervals_overlap():
    found, overlapping = 0, 0
    for seed in range(20):
        labels, a, b, _ = draw_pair(np.random.default_rng(seed), 200, gain=0.4, shared=0.95)
        both = compare_aucs(labels, a, b, replicates=200)
        found += both["difference"]["low"] > 0
        overlapping += both["a"]["low"] < both["b"]["high"]
    assert overlapping >= 18
    assert found >= 18


def test_the_difference_is_that_of_the_metrics_and_its_signs_turn():
    labels, a, b, people = draw_pair(np.random.default_rng(0), 120, people=30)
    alone = [compute_metrics(labels, scores, threshold=0.5, identities=people) for scores in (a, b)]
    found = compare_metrics(labels, a, b, thresholds=(0.5, 0.5), identities=people)
    turned = compare_metrics(labels, b, a, thresholds=(0.5, 0.5), identities=people)
    for name in ("auc", "ap", "eer", "min_dcf", "min_cllr", "balanced_accuracy", "f1"):
        assert found[name]["difference"] == pytest.approx(alone[0][name]["value"] - alone[1][name]["value"])
        assert turned[name]["difference"] == pytest.approx(-found[name]["difference"])
        assert turned[name]["low"] == pytest.approx(-found[name]["high"])
        assert turned[name]["p"] == pytest.approx(found[name]["p"])
    assert compute_auc(labels, a, identities=people) == compare_aucs(labels, a, b, identities=people)["a"]
    assert compare_aucs(labels, a, b, identities=people)["difference"] == pytest.approx(found["auc"])
    assert found["tpr_at_1_fpr"]["difference"] is None
    assert "recall" not in compare_metrics(labels, a, b)
    json.dumps(found, allow_nan=False)


def test_delong_is_that_of_its_definition():
    """The covariance of the structural components over all pairs of a fake and a real."""
    labels, a, b, _ = draw_pair(np.random.default_rng(1), 41)
    a, b = np.round(a, 1), np.round(b, 1)  # with ties
    components = []
    for scores in (a, b):
        fakes, reals = scores[labels == 1], scores[labels == 0]
        above = (fakes[:, None] > reals) + 0.5 * (fakes[:, None] == reals)
        components.append((above.mean(axis=1), above.mean(axis=0)))
    variance = sum(
        np.cov([one[side] for one in components])[[0, 1, 0], [0, 1, 1]] @ [1, 1, -2] / components[0][side].size
        for side in (0, 1)
    )
    difference = components[0][0].mean() - components[1][0].mean()
    pair = [rank_videos(labels, scores) for scores in (a, b)]
    assert compare_delong(*pair)["difference"] == pytest.approx(difference)
    assert find_error(*pair) == pytest.approx(np.sqrt(variance))


def find_error(a, b):
    """DeLong's standard error, out of the interval."""
    found = compare_delong(a, b)
    return (found["high"] - found["low"]) / 2 / find_reach(count_least(a), 0.95)


def test_copies_of_a_person_add_nothing():
    labels, a, b, _ = draw_pair(np.random.default_rng(2), 40)
    people = [f"person {number}" for number in range(40)]
    once = find_error(*(rank_videos(labels, scores, find_people(people, 40)) for scores in (a, b)))
    labels, a, b, people = (np.repeat(values, 5) for values in (labels, a, b, people))
    for names in (list(map(str, people)), [f"{person}|{person} twin" for person in people]):
        crowd = find_people(names, 200)
        again = find_error(*(rank_videos(labels, scores, crowd) for scores in (a, b)))
        assert again == pytest.approx(once, rel=0.03)
    apart = find_error(*(rank_videos(labels, scores) for scores in (a, b)))
    assert apart < 0.5 * once


def test_p_is_even_where_there_is_no_difference():
    found = [
        compare_aucs(*draw_pair(np.random.default_rng(seed), 60, gain=0)[:3], replicates=100)["difference"]["p"]
        for seed in range(200)
    ]
    assert np.quantile(found, [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.1)


def test_the_same_scores_do_not_differ():
    labels, a, _, _ = draw_pair(np.random.default_rng(3))
    assert compare_metrics(labels, a, a)["auc"] == {"difference": 0, "low": 0, "high": 0, "p": 1}
    unsure = compare_aucs(labels, labels + a / 99, labels - a / 99)["difference"]  # neither makes an error
    assert unsure == {"difference": 0, "low": None, "high": None, "p": None}
    few = np.array([1, 1, 0, 0, 0]), np.array([0.1, 0.2, 0.3, 0.4, 0.5]), np.array([0.4, 0.45, 0.1, 0.2, 0.9])
    for people in (["ann"] * 5, ["ann", "ann", "ann", "bob", "bob"], None):  # two fakes, whoever they are
        found = compare_aucs(*few, identities=people)["difference"]
        assert found == {"difference": pytest.approx(-2 / 3), "low": None, "high": None, "p": None}
    one_class = compare_metrics(labels[labels == 1], a[labels == 1], a[labels == 1])
    assert one_class["auc"] == one_class["delong"] == {"difference": None, "low": None, "high": None, "p": None}
    with pytest.raises(MetricError, match="two scores of each video"):
        compare_metrics(labels, a, a[1:])


@pytest.mark.parametrize(("called", "known"), [(4, False), (8, True)])
def test_a_difference_of_precisions_hangs_on_the_reals_that_are_called_fake(called: int, known: bool) -> None:
    labels, rng = np.repeat([0, 1], [60, 60]), np.random.default_rng(0)
    a, b = (np.where(labels == 1, rng.uniform(0.4, 1, 120), 0.1) for _ in range(2))
    a[:called], b[: called // 2] = 0.9, 0.9
    found = compare_metrics(labels, a, b, thresholds=(0.5, 0.5), replicates=100)
    assert (found["precision"]["low"] is not None) == known
    assert found["accuracy"]["low"] is not None
