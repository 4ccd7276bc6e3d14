"""Found segments against true ones: by hand, by the textbook, and as two published evaluators count."""

from __future__ import annotations

import numpy as np
import pytest

from dfmm.metrics import MetricError, compute_localization, measure_iou, measure_localization
from dfmm.metrics.localization import _measure, match_segments

# Two clips: three true segments, four found. Of the first clip one is found twice, and of one only half.
TRUTH = [[(0, 2), (4, 6)], [(1, 3)]]
FOUND = [[(0, 2, 0.9), (0, 1.9, 0.8), (4, 5, 0.6)], [(1, 3.1, 0.7)]]


def draw_split(videos: int = 12, seed: int = 0) -> tuple[list[list[tuple]], list[list[tuple]]]:
    """Return true segments, apart from each other, and found ones that are a little off or nowhere near."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(videos):
        starts = 3 * np.arange(rng.integers(0, 4)) + rng.random()
        truth.append([(start, start + rng.uniform(0.5, 2)) for start in starts])
        near = [(a + rng.normal(0, 0.1), b + rng.normal(0, 0.1), rng.random()) for a, b in truth[-1]]
        far = [(20 + one, 21 + one, rng.random()) for one in range(rng.integers(0, 3))]
        found.append(near + far)
    return truth, found


def test_a_perfect_list_scores_one_and_none_scores_zero() -> None:
    truth, _ = draw_split()
    perfect = [[(*pair, 0.5 + 0.01 * number) for pair in pairs] for number, pairs in enumerate(truth)]
    measured = measure_localization(truth, perfect)
    assert {*measured["ap"].values(), *measured["ar"].values()} == {1.0}
    nothing = measure_localization(truth, [[] for _ in truth])
    assert {*nothing["ap"].values(), *nothing["ar"].values()} == {0.0}
    undefined = measure_localization([[], []], [[(0, 1, 0.5)], []])
    assert {*undefined["ap"].values(), *undefined["ar"].values()} == {None}


def test_average_precision_and_recall_by_hand() -> None:
    """Hit, seen before, hit, half of it: precision 1, 1/2, 2/3, 3/4, and its envelope 1, 3/4, 3/4, 3/4."""
    measured = measure_localization(TRUTH, FOUND)
    assert measured["ap"]["0.5"] == pytest.approx((1 + 3 / 4 + 3 / 4) / 3)
    assert measured["ap"]["0.75"] == pytest.approx((1 + 2 / 3) / 3)
    assert measured["ap"]["0.95"] == pytest.approx((1 + 2 / 3) / 3)  # 2 s of 2.1
    assert measured["ar"]["10"] == pytest.approx((3 + 9 * 2) / 10 / 3)
    many = [(20 + one, 20.5 + one, 0.95) for one in range(20)]  # surer than all that is right
    assert measure_localization(TRUTH, [FOUND[0] + many, FOUND[1]])["ar"]["20"] == pytest.approx(1 / 3)


def test_the_published_evaluators_leave_out_the_first_hit_and_what_is_just_enough() -> None:
    official = measure_localization(TRUTH, FOUND, official=True)
    assert official["ap"]["0.5"] == pytest.approx(2 / 3 / 3)  # a half is not more than a half
    assert official["ap"]["0.75"] == pytest.approx(2 / 3 / 3)
    assert official["ar"]["10"] == pytest.approx(2 / 3)
    for n in (1, 2, 5):  # a perfect list of n
        truth, found = [[(0, 1)]] * n, [[(0, 1, 0.9 - 0.1 * one)] for one in range(n)]
        measured = measure_localization(truth, found, official=True)
        assert measured["ap"]["0.5"] == pytest.approx(1 - 1 / n)
        assert measured["ar"]["100"] == 1
    wrong = [[(0, 2, 0.9), (0, 1.9, 0.8), (4, 5, 0.6), (9, 10, 0.99)], FOUND[1]]  # where the surest is wrong, nothing
    both = [measure_localization(TRUTH, wrong, official=official)["ap"]["0.75"] for official in (False, True)]
    assert both == [pytest.approx((1 / 2 + 1 / 2) / 3)] * 2


def test_the_published_evaluators_do_not_miss_where_nothing_was_found() -> None:
    truth, found = [*TRUTH, [(0, 1)]], [*FOUND, []]
    assert measure_localization(truth, found)["ar"]["10"] == pytest.approx((3 + 9 * 2) / 10 / 4)
    assert measure_localization(truth, found, official=True)["ar"]["10"] == pytest.approx(2 / 3)
    nothing = measure_localization(truth, [[], [], []], official=True)
    assert {*nothing["ap"].values(), *nothing["ar"].values()} == {0.0}


def test_a_shift_costs_as_much_as_it_takes_from_the_overlap() -> None:
    truth = [[(number, number + 1.0)] for number in range(10)]
    for shift, right in ((0.0, 1.0), (0.02, 1.0), (0.1, 0.75), (0.3, 0.5), (0.4, 0.0)):  # IoU (1 - s) / (1 + s)
        measured = measure_localization(truth, [[(a + shift, b + shift, 0.5)] for ((a, b),) in truth])
        passed = [float(iou) for iou, value in measured["ap"].items() if value == 1]
        assert max(passed, default=0.0) == {1.0: 0.95, 0.75: 0.75, 0.5: 0.5, 0.0: 0.0}[right]


def test_two_videos_never_match_across() -> None:
    truth, found = [[(0, 1)], [(5, 6)]], [[(5, 6, 0.9)], [(0, 1, 0.8)]]
    for official in (False, True):
        measured = measure_localization(truth, found, official=official)
        assert {*measured["ap"].values(), *measured["ar"].values()} == {0.0}


def test_each_true_segment_is_hit_once_and_the_order_of_videos_and_of_equals_does_not_matter() -> None:
    truth, found = draw_split(30)
    rounded = [[(a, b, round(sure, 1)) for a, b, sure in some] for some in found]
    measured, order = measure_localization(truth, rounded), np.random.default_rng(1).permutation(30)
    assert 0 < measured["ap"]["0.5"] < 1
    again = measure_localization([truth[n] for n in order], [rounded[n][::-1] for n in order])
    assert again["ap"] == pytest.approx(measured["ap"])
    assert again["ar"] == pytest.approx(measured["ar"])
    twice = match_segments(truth, [some + some for some in found])
    assert (twice.hits.sum(axis=1) <= twice.labels.sum()).all()
    assert twice.hits.sum() == match_segments(truth, found).hits.sum()


def test_a_replicate_that_draws_a_video_twice_is_a_split_that_has_it_twice() -> None:
    truth, found = draw_split(6)
    drawn = [0, 0, 2, 4, 4, 4]
    weights = np.bincount(drawn, minlength=6)[None]
    one = _measure(match_segments(truth, found), weights)[0]
    other = measure_localization([truth[n] for n in drawn], [found[n] for n in drawn])
    assert one == pytest.approx([*other["ap"].values(), *other["ar"].values()])


def test_intervals_hold_the_value_and_are_those_of_people() -> None:
    truth, found = draw_split(60)
    alone = compute_localization(truth, found, replicates=200)
    assert alone["videos"] == 60
    assert alone["segments"] == sum(map(len, truth))
    assert alone["found"] == sum(map(len, found))
    values = measure_localization(truth, found)
    for kind in ("ap", "ar"):
        for name, interval in alone[kind].items():
            assert interval["value"] == pytest.approx(values[kind][name])
            assert 0 <= interval["low"] < interval["value"] < interval["high"] <= 1
    few = compute_localization(truth, found, identities=[f"person{n % 5}" for n in range(60)], replicates=200)
    widths = [one["ap"]["0.5"]["high"] - one["ap"]["0.5"]["low"] for one in (alone, few)]
    assert widths[1] > 1.3 * widths[0]
    perfect = compute_localization([[(0, 1)]] * 8, [[(0, 1, 0.9)]] * 8, replicates=100)["ap"]["0.5"]
    assert perfect["value"] == 1
    assert 0.5 < perfect["low"] < 0.9


def test_what_is_no_segment_is_refused() -> None:
    with pytest.raises(MetricError, match="end after they start"):
        measure_localization([[(1, 1)]], [[]])
    with pytest.raises(MetricError, match="3 finite numbers"):
        measure_localization([[(0, 1)]], [[(0, 1)]])
    with pytest.raises(MetricError, match="2 videos, got 1"):
        measure_localization([[], []], [[]])
    assert measure_iou([[0, 2], [3, 4]], [1, 3]).tolist() == [pytest.approx(1 / 3), 0.0]
