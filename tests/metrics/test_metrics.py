"""What the numbers must obey: agreement with scikit-learn, and intervals that cover the truth in simulation."""

import json

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm
from sklearn import metrics as sklearn_metrics

from dfmm.metrics import (
    choose_threshold,
    compute_accuracy,
    compute_auc,
    compute_det,
    compute_macro_auc,
    compute_metrics,
    compute_precision_recall,
    compute_roc,
    compute_roc_band,
)
from dfmm.metrics import compute as computing
from dfmm.metrics.intervals import find_reach, take_percentiles
from dfmm.metrics.people import draw_weights, find_people
from dfmm.metrics.ranking import count_videos, measure_ranking, rank_videos

RANKING = ("auc", "ap", "eer", "fpr_at_95_tpr", "tpr_at_10_fpr")
DECISIONS = ("accuracy", "balanced_accuracy", "precision", "recall", "f1")


def draw_videos(rng, n, *, auc=0.8, decimals=8):
    """Labels, both present, and binormal scores; few decimals make ties."""
    labels = rng.permutation(np.arange(n) % 2)
    return labels, np.round(rng.normal(size=n) + shift_for(auc) * labels, decimals)


def draw_clusters(rng, people, each, *, auc, correlation=0.5):
    """As `draw_videos`; the videos of one person and label share a part of their score."""
    person = np.repeat(np.arange(people), each)
    labels = np.arange(person.size) % 2
    shared = rng.normal(size=(2, people))[labels, person]
    noise = rng.normal(size=person.size)
    scores = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * noise + shift_for(auc) * labels
    return labels, scores, [f"person{index}" for index in person]


def shift_for(auc):
    return np.sqrt(2) * norm.ppf(auc)


def true_values(auc):
    """Of binormal scores at even odds, cut halfway."""
    half = shift_for(auc) / 2
    same = dict.fromkeys(DECISIONS, norm.cdf(half))
    return same | {"auc": auc, "eer": norm.sf(half)}


def width(interval):
    return interval["high"] - interval["low"]


# Values


def measure_with_sklearn(labels, scores, weights=None):
    fpr, tpr, _ = sklearn_metrics.roc_curve(labels, scores, sample_weight=weights, drop_intermediate=False)
    return {
        "auc": sklearn_metrics.roc_auc_score(labels, scores, sample_weight=weights),
        "ap": sklearn_metrics.average_precision_score(labels, scores, sample_weight=weights),
        "eer": brentq(lambda rate: np.interp(rate, fpr, tpr) - (1 - rate), 0, 1, xtol=1e-15),
        "fpr_at_95_tpr": fpr[tpr >= 0.95 - 1e-9].min(),
        **{f"tpr_at_{percent:g}_fpr": tpr[fpr <= percent / 100 + 1e-9].max() for percent in (10, 1, 0.1)},
    }


@pytest.mark.parametrize("decimals", [8, 1, 0])
def test_values_agree_with_sklearn(decimals):
    labels, scores = draw_videos(np.random.default_rng(decimals), 6001, decimals=decimals)
    found = compute_metrics(labels, scores, threshold=0.5, replicates=2)
    predicted = scores >= 0.5
    expected = measure_with_sklearn(labels, scores) | {
        name: getattr(sklearn_metrics, f"{name}_score")(labels, predicted) for name in DECISIONS
    }
    assert {name: found[name]["value"] for name in expected} == pytest.approx(expected)
    counts = found["confusion"]
    assert [[counts["tn"], counts["fp"]], [counts["fn"], counts["tp"]]] == sklearn_metrics.confusion_matrix(
        labels, predicted
    ).tolist()


def test_replicates_agree_with_sklearn_under_the_same_weights():
    rng = np.random.default_rng(0)
    labels, scores = draw_videos(rng, 60, decimals=1)
    cells = [f"a{i % 9}|b{i % 4}" if i % 3 else "" for i in range(60)]
    crowd = find_people(cells, 60)
    ranking, weights = rank_videos(labels, scores, crowd), next(draw_weights(crowd, 20, seed=0))
    found = measure_ranking(count_videos(ranking, weights))
    for row, weight in enumerate(weights[:, crowd.groups]):
        kept = weight > 0
        expected = measure_with_sklearn(labels[kept], scores[kept], weight[kept])
        assert {name: values[row] for name, values in found.items()} == pytest.approx(expected)


def test_curves_hold_the_areas():
    labels, scores = draw_videos(np.random.default_rng(1), 50, decimals=1)
    found = compute_metrics(labels, scores, threshold=0.5, replicates=10)
    fpr, tpr, thresholds = compute_roc(labels, scores)
    assert sklearn_metrics.auc(fpr, tpr) == pytest.approx(found["auc"]["value"])
    assert thresholds.size == fpr.size == np.unique(scores).size + 1
    alarms, missed, same = compute_det(labels, scores)
    assert (alarms == fpr).all()
    assert (missed == 1 - tpr).all()
    assert (same == thresholds).all()
    precision, recall, _ = compute_precision_recall(labels, scores)
    assert -np.diff(recall) @ precision[:-1] == pytest.approx(found["ap"]["value"])


def test_only_the_order_of_the_scores_counts():
    labels, scores = draw_videos(np.random.default_rng(2), 80, decimals=1)
    found = compute_metrics(labels, scores, threshold=0.5)
    warped = compute_metrics(labels, norm.cdf(scores) ** 3, threshold=norm.cdf(0.5) ** 3)
    for name in (*RANKING, *DECISIONS, "min_dcf", "min_cllr"):
        assert found[name] == warped[name]
    mirrored = compute_auc(labels, -scores)
    assert mirrored["value"] == pytest.approx(1 - found["auc"]["value"])
    assert width(mirrored) == pytest.approx(width(found["auc"]), abs=0.02)


@pytest.mark.parametrize("threshold", [0.2, 0.99])
@pytest.mark.parametrize("alone", [False, True], ids=["both labels", "one label"])
def test_accuracy_alone_is_that_of_all_metrics(threshold, alone):
    rng = np.random.default_rng(0)
    labels = np.ones(40, int) if alone else np.arange(40) % 2
    scores = np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0, 1)
    options = {"threshold": threshold, "identities": [f"p{number % 15}" for number in range(40)], "replicates": 100}
    assert compute_accuracy(labels, scores, **options) == compute_metrics(labels, scores, **options)["accuracy"]


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_leaves_undefined_metrics_empty(label):
    found = compute_metrics([label] * 9, np.linspace(0, 1, 9), threshold=0.5)
    for name in (*RANKING, "balanced_accuracy", "precision", "f1"):
        assert found[name] == {"value": None, "low": None, "high": None}
    assert found["accuracy"]["value"] is not None
    assert compute_auc([label] * 9, np.linspace(0, 1, 9))["value"] is None
    json.dumps(found, allow_nan=False)


# Intervals


def test_intervals_hold_their_value_and_are_never_of_zero_width():
    rng = np.random.default_rng(3)
    for n in (1, 2, 3, 5, 12, 80):
        for decimals in (0, 2):
            labels, scores = rng.integers(0, 2, n), np.round(rng.normal(size=n), decimals)
            cells = ["|".join(f"p{p}" for p in rng.integers(0, 4, rng.integers(0, 3))) for _ in range(n)]
            found = json.loads(
                json.dumps(
                    compute_metrics(labels, scores, threshold=0, identities=cells, replicates=50), allow_nan=False
                )
            )
            for name in (*RANKING, *DECISIONS):
                if found[name]["value"] is not None:
                    assert 0 <= found[name]["low"] <= found[name]["value"] <= found[name]["high"] <= 1
                    assert width(found[name]) > 0


def test_perfect_separation_stays_uncertain():
    widths = []
    for n in (64, 160, 400):
        labels = np.arange(n) % 2
        found = compute_metrics(labels, labels + np.linspace(0, 0.4, n), threshold=0.9)
        assert all(found[name]["value"] == 1 and found[name]["low"] < 1 for name in ("auc", "ap", *DECISIONS))
        assert found["eer"]["value"] == 0 < found["eer"]["high"]
        widths.append([width(found[name]) for name in (*RANKING, *DECISIONS)])
    assert (np.diff(widths, axis=0) < 0).all()


@pytest.mark.parametrize("copies", [1, 4])
def test_bounds_at_perfection_are_the_published_ones(copies):
    # Where all replicates agree, the analytic interval is all there is; copies of a video of one person add nothing.
    people, z2 = 20, norm.ppf(0.975) ** 2
    labels = np.repeat(np.arange(2 * people) % 2, copies)
    scores = labels + np.repeat(np.linspace(0, 0.4, 2 * people), copies)
    cells = [f"person{index}" for index in np.repeat(np.arange(2 * people), copies)]
    found = compute_metrics(labels, scores, threshold=0.9, identities=cells)
    wilson = people / (people + z2)
    assert found["accuracy"]["low"] == pytest.approx(2 * people / (2 * people + z2))
    for name in ("recall", "precision", "ap"):
        assert found[name]["low"] == pytest.approx(wilson)
    assert found["eer"]["high"] == pytest.approx(1 - 2 * people / (2 * people + z2))  # a mean of two rates
    assert found["f1"]["low"] == pytest.approx(2 * wilson / (1 + wilson))
    assert found["balanced_accuracy"]["low"] == pytest.approx(1 - (1 - wilson) / np.sqrt(2))
    theta = found["auc"]["low"]  # Hanley & McNeil 1982: Q1 and Q2 are what two pairs with one video in common share
    q1, q2 = theta / (2 - theta), 2 * theta**2 / (1 + theta)
    variance = (theta * (1 - theta) + (people - 1) * (q1 + q2 - 2 * theta**2)) / people**2
    assert (1 - theta) ** 2 == pytest.approx(z2 * variance)


def test_worth_of_clustered_videos_is_right_for_few_people():
    rng = np.random.default_rng(9)
    effects = []
    for _ in range(300):
        labels, scores, cells = draw_clusters(rng, 5, 20, auc=0.9)
        ranking = rank_videos(labels, scores, find_people(cells, labels.size))
        effects.append(ranking.n_fake / ranking.worth[0])
    correlation = 6 / np.pi * np.arcsin(0.5 / 2)  # of the ranks, where that of the scores is 0.5 (Pearson 1907)
    assert np.mean(effects) == pytest.approx(1 + 9 * correlation, rel=0.1)


def test_who_is_in_all_fakes_is_one_witness_whoever_else_is_named():
    rng = np.random.default_rng(3)
    labels, scores = draw_videos(rng, 160)
    targets = [f"p{video // 4}" for video in range(160)]
    donors = [["star"], ["one", "other"], ["a", "b", "c", "d", "e"]]
    worth = []
    for names in donors:
        drawn = [names[video % len(names)] for video in rng.permutation(160)]
        cells = [
            f"{target}|{donor}" if fake else target for target, donor, fake in zip(targets, drawn, labels, strict=True)
        ]
        worth.append(rank_videos(labels, scores, find_people(cells, 160)).worth[0])
    assert worth[0] == 1  # what is hers is in all fakes alike, and so in no difference between them
    assert worth[1] < 4
    assert worth[2] > 10  # whose scores are no more alike than others'
    alone = compute_auc(labels, scores, identities=np.where(labels == 1, "star", targets).tolist())
    cells = [f"{target}|star" if fake else target for target, fake in zip(targets, labels, strict=True)]
    assert max(alone["low"], compute_auc(labels, scores, identities=cells)["low"]) < 0.3  # of .8, by one witness
    found = compute_metrics(labels, norm.cdf(scores), threshold=0.5, identities=cells, replicates=50)
    assert {found[name]["low"] for name in ("log_loss", "brier", "ece", "cllr", "min_dcf")} == {None}
    assert "one person" in found["brier"]["note"]


def test_few_people_stretch_the_percentiles():
    draws = np.linspace(0, 1, 1001)
    assert take_percentiles(draws, 10**6, 0.95) == pytest.approx((0.025, 0.975), abs=1e-4)
    low, high = take_percentiles(draws, 5, 0.95)
    assert low < 0.005
    assert high > 0.995


def test_fewer_people_never_reach_less_far():
    reaches = [find_reach(people, 0.95) for people in (100, 20, 5, 3, 2, 1.5, 1)]
    assert reaches == sorted(reaches)
    assert np.isfinite(reaches).all()


def test_a_percentile_that_no_replicate_reaches_is_not_read_off_them():
    draws = np.random.default_rng(0).normal(size=1000)
    reach = norm.ppf(1 - 0.05 / 2 / 33)  # of 33 trials (Bonferroni): 1000 replicates hold no such percentile
    assert take_percentiles(draws, 10**6, 1 - 0.05 / 33) == pytest.approx((-reach, reach), abs=0.3)


@pytest.mark.parametrize("people", [1, 1.05, 1.5, 2])
def test_replicates_that_are_all_alike_leave_no_doubt(people: float) -> None:
    assert take_percentiles(np.full(100, 0.5), people, 0.95) == (0.5, 0.5)


def test_seed_alone_decides_the_replicates(monkeypatch):
    labels, scores = draw_videos(np.random.default_rng(4), 50)
    found = compute_metrics(labels, scores, threshold=0.5, seed=1)
    assert found != compute_metrics(labels, scores, threshold=0.5, seed=2)
    monkeypatch.setattr(computing, "CELLS", 999)
    assert found == compute_metrics(labels, scores, threshold=0.5, seed=1)


def test_confidence_widens():
    labels, scores = draw_videos(np.random.default_rng(5), 80)
    narrow, wide = (compute_metrics(labels, scores, threshold=0.5, confidence=c) for c in (0.5, 0.99))
    assert all(width(narrow[name]) < width(wide[name]) for name in (*RANKING, *DECISIONS))


@pytest.mark.slow
@pytest.mark.parametrize("auc", [0.75, 0.95])
@pytest.mark.parametrize("clustered", [False, True])
def test_intervals_cover_the_truth(auc, clustered):
    truth, covered, widths = true_values(auc), [], []
    for seed in range(250):
        rng = np.random.default_rng(seed)
        labels, scores, cells = (
            draw_clusters(rng, 20, 5, auc=auc) if clustered else (*draw_videos(rng, 40, auc=auc), None)
        )
        found = compute_metrics(
            labels, scores, threshold=shift_for(auc) / 2, identities=cells, replicates=200, seed=seed
        )
        covered.append([found[name]["low"] <= truth[name] <= found[name]["high"] for name in truth])
        widths.append(width(found["auc"]))
    assert dict(zip(truth, np.mean(covered, axis=0), strict=True)) == pytest.approx(dict.fromkeys(truth, 1), abs=0.08)
    assert np.mean(widths) < (0.36 if auc == 0.75 else 0.21)


def test_intervals_of_shuffled_labels_hold_one_half():
    covered = []
    for seed in range(200):
        labels, scores = draw_videos(np.random.default_rng(seed), 60, auc=0.5)
        found = compute_auc(labels, scores, replicates=200, seed=seed)
        covered.append(found["low"] <= 0.5 <= found["high"])
    assert 0.92 <= np.mean(covered) <= 0.995


def test_people_who_cluster_widen_every_interval():
    labels, scores, cells = draw_clusters(np.random.default_rng(6), 12, 20, auc=0.9, correlation=0.8)
    by_person = compute_metrics(labels, scores, threshold=0.9, identities=cells)
    by_video = compute_metrics(labels, scores, threshold=0.9)
    assert all(width(by_person[name]) > 1.2 * width(by_video[name]) for name in (*RANKING, *DECISIONS))
    separated = compute_auc(labels, scores + 99 * labels, identities=cells)
    assert separated["low"] < compute_auc(labels, scores + 99 * labels)["low"]


def test_unknown_people_are_each_their_own():
    labels, scores = draw_videos(np.random.default_rng(7), 60)
    apart = [f"{i:02}" for i in range(60)]
    unknown = compute_auc(labels, scores, identities=[""] * 60)
    assert unknown == compute_auc(labels, scores)
    assert width(unknown) == pytest.approx(width(compute_auc(labels, scores, identities=apart)), rel=0.1)


def test_a_video_of_two_people_weighs_the_product_of_their_counts():
    crowd = find_people(["a", "b", "a | b", "b|a|b"], 4)
    weights = np.concatenate(list(draw_weights(crowd, 200, seed=8)))[:, crowd.groups]
    a, b, both, again = weights.astype(int).T
    assert (a + b == 2).all()
    assert (both == a * b).all()
    assert (again == a * b).all()


def test_equal_sets_of_people_are_drawn_equally_in_whatever_order():
    labels, scores, cells = draw_clusters(np.random.default_rng(0), 9, 6, auc=0.8)
    order = np.random.default_rng(1).permutation(labels.size)
    shuffled = labels[order], scores[order]
    found = compute_auc(labels, scores, identities=cells)
    assert found == compute_auc(*shuffled, identities=[cells[place] for place in order])
    whole = compute_metrics(labels, scores, threshold=0.5, identities=cells)
    assert found == whole["auc"]


def test_draws_stay_the_same_where_they_are_too_many_to_be_kept(monkeypatch):
    labels, scores = draw_videos(np.random.default_rng(4), 50)
    found = compute_auc(labels, scores)
    monkeypatch.setattr("dfmm.metrics.people.KEPT_PEOPLE", 10)
    assert found == compute_auc(labels, scores)


def test_every_method_counts_alike():
    rng = np.random.default_rng(5)
    labels, methods = np.repeat([0, 1, 1], [40, 60, 6]), np.repeat(["real", "many", "few"], [40, 60, 6])
    scores = np.round(rng.normal(size=106) + 2 * (methods == "many"), 1)
    found = compute_macro_auc(labels, scores, methods)
    each = [
        compute_auc(*(part[(labels == 0) | (methods == name)] for part in (labels, scores))) for name in ("many", "few")
    ]
    assert found["value"] == pytest.approx(np.mean([auc["value"] for auc in each]))
    assert width(each[0]) < width(found) < width(each[1])
    assert compute_macro_auc(labels, scores, np.full(106, "one")) == compute_auc(labels, scores)


def test_rates_that_so_few_videos_cannot_tell_are_said_to_be_unknown():
    labels, scores = draw_videos(np.random.default_rng(6), 200)
    found = compute_metrics(labels, scores, threshold=0.5, replicates=50)
    assert found["tpr_at_10_fpr"]["value"] is not None
    assert found["tpr_at_1_fpr"]["value"] is None
    assert "takes 300 reals or more, and there are 100" in found["tpr_at_1_fpr"]["note"]
    assert "note" not in found["fpr_at_95_tpr"]
    assert (
        "no lower end: it takes 35 reals"
        in compute_metrics(labels[:64], scores[:64], threshold=0.5)["tpr_at_10_fpr"]["note"]
    )
    few = compute_metrics(labels[:60], scores[:60], threshold=0.5, replicates=50)["fpr_at_95_tpr"]
    assert few["high"] == 1
    assert "no upper end" in few["note"]


def test_band_holds_the_curve_and_covers_the_truth():
    grid, auc, covered = np.array([0.05, 0.1, 0.3, 0.6]), 0.85, []
    truth = norm.sf(norm.isf(grid) - shift_for(auc))
    for seed in range(40):
        labels, scores, cells = draw_clusters(np.random.default_rng(seed), 60, 3, auc=auc)
        low, high = compute_roc_band(labels, scores, identities=cells, fpr_grid=grid, replicates=100, seed=seed)
        fpr, tpr, _ = compute_roc(labels, scores)
        assert (low < high).all()
        assert (low <= np.interp(grid, fpr, tpr)).all()
        assert (np.interp(grid, fpr, tpr) <= high).all()
        covered.append((low <= truth) & (truth <= high))
    assert (np.mean(covered, axis=0) >= 0.85).all()  # of 40: 0.95 within two standard errors and more


# Thresholds


def rates_at(labels, scores, threshold):
    predicted = scores >= threshold
    return predicted[labels == 0].mean(), predicted[labels == 1].mean()


@pytest.mark.parametrize("decimals", [8, 1])
@pytest.mark.parametrize("seed", range(5))
def test_thresholds_are_the_best_by_their_rule(seed, decimals):
    labels, scores = draw_videos(np.random.default_rng(seed), 70, decimals=decimals)
    fprs, tprs = np.transpose([rates_at(labels, scores, cut) for cut in [*np.unique(scores), np.inf]])
    fpr, tpr = rates_at(labels, scores, choose_threshold(labels, scores))
    assert tpr - fpr == pytest.approx((tprs - fprs).max())
    fpr, tpr = rates_at(labels, scores, choose_threshold(labels, scores, rule="eer"))
    assert abs(fpr + tpr - 1) == pytest.approx(abs(fprs + tprs - 1).min())
    for limit in ("0", "0.01", ".1", "1e-1", "0.2", "1"):
        fpr, tpr = rates_at(labels, scores, choose_threshold(labels, scores, rule=f"fpr={limit}"))
        assert fpr <= float(limit)
        assert tpr == tprs[fprs <= float(limit)].max()
        assert fpr == fprs[tprs == tpr].min()  # no false alarm that finds nothing


def test_threshold_lies_midway_and_in_the_middle():
    assert choose_threshold([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.7]) == pytest.approx(0.4)
    # Cutting below 0.3, 0.5 or 0.7 is equally good by balanced accuracy.
    assert choose_threshold([0, 1, 0, 1, 0, 1], [0.2, 0.3, 0.4, 0.5, 0.6, 0.7]) == pytest.approx(0.45)


def test_threshold_survives_saturated_scores():
    below = np.nextafter(1.0, 0.0)
    assert choose_threshold([0, 1], [below, 1.0]) == 1.0
    assert choose_threshold([0, 1], [1.0, 0.5], rule="fpr=0") > 1.0


# Refusals


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([], [], "at least one"),
        ([0, 1], [0.5], r"labels \[2\] and scores \[1\]"),
        ([0, 2, 2], [0.1, 0.2, 0.3], r"got 2 in row 1 \(2 such"),
        ([0, 1], [0.5, np.nan], "finite scores, got nan in row 1"),
        ([0, 1], [np.inf, 0.5], "finite scores, got inf in row 0"),
    ],
)
def test_bad_videos_are_refused(labels, scores, message):
    with pytest.raises(ValueError, match=message):
        compute_metrics(labels, scores, threshold=0.5)


def test_bad_choices_are_refused():
    with pytest.raises(ValueError, match=r"balanced_accuracy, eer or, say, fpr=0\.01, got 'fpr=5'"):
        choose_threshold([0, 1], [0.1, 0.9], rule="fpr=5")
    with pytest.raises(ValueError, match="got 2 fakes of 2 videos: add"):
        choose_threshold([1, 1], [0.1, 0.9])
    with pytest.raises(ValueError, match="expected 2 texts of identities, got 1 of 2"):
        compute_auc([0, 1], [0.1, 0.9], identities=["anna", np.nan])
    with pytest.raises(ValueError, match="0 < confidence < 1"):
        compute_auc([0, 1], [0.1, 0.9], confidence=95)
