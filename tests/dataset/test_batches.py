"""Every window is read once by one process, in an order that seed and epoch decide, as often as it should be."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from dfmm.dataset.batches import EMPTY, Balance, BatchOrder, balance_videos, count_repeats, draw_evenly

SIZES = list(itertools.product((0, 1, 7, 24, 25), (1, 3), (6, 12), (1, 2, 3)))  # videos, windows, batch, world


def list_batches(videos: int, *, epoch: int = 0, start: int = 0, **options: object) -> list[list[int]]:
    order = BatchOrder(videos, **{"windows": 1, "seed": 0, **options})
    order.epoch, order.start = epoch, start
    return list(order)


def split_index(index: int, videos: int, windows: int) -> tuple[int, int, int, int]:
    """Return the epoch, the repetition, the video and the window that an index stands for."""
    rest, window = divmod(index, windows)
    rounds, video = divmod(rest, videos)
    return *divmod(rounds, videos), video, window


@pytest.mark.parametrize(("videos", "windows", "batch_size", "world"), SIZES)
def test_together_all_processes_read_everything_once(videos: int, windows: int, batch_size: int, world: int) -> None:
    options = {"windows": windows, "batch_size": batch_size, "epoch": 3}
    whole = list_batches(videos, **options)
    shares = [list_batches(videos, rank=rank, world=world, **options) for rank in range(world)]
    assert (
        len(whole)
        == len(BatchOrder(videos, windows=windows, batch_size=batch_size))
        == -(-videos * windows // batch_size)
    )
    for batch, parts in zip(whole, zip(*shares, strict=True), strict=True):
        assert len({len(part) for part in parts}) == 1
        assert [index for part in parts for index in part if index != EMPTY] == batch
    read = [split_index(index, videos, windows) for batch in whole for index in batch]
    everything = itertools.product((3,), (0,), range(videos), range(windows))
    assert sorted(read) == list(everything)


def test_what_is_short_of_a_batch_is_filled_up_for_all_alike() -> None:
    options = {"batch_size": 12, "windows": 3, "together": 3, "parts": 2, "world": 2}
    shares = [list_batches(5, rank=rank, **options) for rank in (0, 1)]  # 15 windows in batches of 12 and 3
    assert [[len(batch) for batch in share] for share in shares] == [[6, 6], [6, 6]]
    assert [sum(index == EMPTY for share in shares for index in share[step]) for step in (0, 1)] == [0, 9]


def test_the_windows_of_a_video_stay_together_where_they_must() -> None:
    for rank in (0, 1):
        for batch in list_batches(20, windows=3, batch_size=12, together=3, rank=rank, world=2):
            for at in range(0, len(batch), 3):
                three = [index // 3 for index in batch[at : at + 3]]
                assert len(set(three)) == 1 or set(batch[at : at + 3]) == {EMPTY}
    with pytest.raises(ValueError, match="cannot keep 3 of a video's 3 windows"):
        BatchOrder(20, windows=3, batch_size=8, together=3)
    halves = Balance(np.full(40, 1 / 40), np.arange(40) // 20)
    mixed = list_batches(40, windows=3, batch_size=60, together=3, balance=halves)[0]
    assert {index // 3 % 40 // 20 for index in mixed} == {0, 1}
    loose = list_batches(40, windows=3, batch_size=12)
    assert any(len({index // 3 for index in batch}) > 6 for batch in loose)


@pytest.mark.parametrize("balance", [None, Balance(np.full(10, 0.1), np.zeros(10, int))])
def test_an_epoch_can_be_taken_up_in_its_middle(balance: Balance | None) -> None:
    whole = list_batches(10, batch_size=3, epoch=2, balance=balance)
    for start in range(5):
        assert list_batches(10, batch_size=3, epoch=2, start=start, balance=balance) == whole[start:]


def test_the_order_is_decided_by_seed_and_epoch() -> None:
    first = list_batches(50, batch_size=10)
    assert list_batches(50, batch_size=10) == first
    others = [list_batches(50, batch_size=10, seed=1), list_batches(50, batch_size=10, epoch=1)]
    for other in others:
        assert [index % 50 for batch in other for index in batch] != [index for batch in first for index in batch]
    assert list_batches(7, batch_size=3, windows=2, seed=None) == [
        [0, 1, 2],
        [3, 4, 5],
        [6, 7, 8],
        [9, 10, 11],
        [12, 13],
    ]


# Balance


@pytest.fixture
def skewed() -> pd.DataFrame:
    """100 reals, and 900 fakes of three methods, one of them rare; half of all videos show one person."""
    methods = ["real"] * 100 + ["swap"] * 800 + ["sync"] * 97 + ["rare"] * 3
    people = ["alice" if number % 2 else f"p{number % 80}" for number in range(1000)]
    people[2] = people[4] = ""  # each of them stands for itself
    table = pd.DataFrame({"video_id": [f"v{number}" for number in range(1000)], "method": methods, "original": ""})
    return table.assign(label=(table["method"] != "real").astype(int), identities=people).sample(frac=1, random_state=0)


def draw(table: pd.DataFrame, balance: str, *, seed: int = 0, epoch: int = 0) -> pd.DataFrame:
    options = {"balance": balance_videos(table, balance), "seed": seed, "epoch": epoch}
    indices = np.concatenate(list_batches(1000, batch_size=50, **options))
    epochs, repeats, videos, _ = np.array([split_index(int(index), 1000, 1) for index in indices]).T
    assert set(epochs) == {epoch}
    return table.iloc[videos].assign(repeat=repeats)


def test_balanced_draws_are_balanced_to_within_one(skewed: pd.DataFrame) -> None:
    for epoch in range(5):
        by_label = draw(skewed, "label", epoch=epoch)
        assert by_label["label"].value_counts().between(499, 501).all()
        fakes = by_label[by_label["label"] == 1]["method"].value_counts(normalize=True)
        assert fakes["swap"] == pytest.approx(800 / 900, abs=0.04)
        by_method = draw(skewed, "method", epoch=epoch)
        counts = by_method["method"].value_counts()
        assert abs(counts["real"] - 500) <= 1
        assert (abs(counts[["swap", "sync", "rare"]] - 500 / 3) <= 1).all()
        by_person = draw(skewed, "identity", epoch=epoch)
        for label, of_label in by_person.groupby("label"):
            names = skewed[skewed["label"] == label].query("identities != ''")["identities"]
            people = names.nunique() + (2 if label == 0 else 0)
            counts = of_label.query("identities != ''")["identities"].value_counts()
            assert abs(len(of_label) - 500) <= 1
            assert (abs(counts - 500 / people) <= 1).all()


def test_every_video_is_drawn_as_often_as_its_share_rounded(skewed: pd.DataFrame) -> None:
    balance = balance_videos(skewed, "method")
    drawn = np.stack(
        [np.bincount(draw_evenly(balance, np.random.default_rng(seed)), minlength=1000) for seed in range(200)]
    )
    expected = balance.shares * 1000
    assert (drawn >= np.floor(expected)).all()
    assert (drawn <= np.ceil(expected)).all()
    assert np.abs(drawn.mean(axis=0) - expected).max() < 0.16  # 4.5 standard deviations of 200 draws of a half
    assert balance.shares.sum() == pytest.approx(1)
    swaps = np.flatnonzero(skewed["method"] == "swap")
    together = np.corrcoef(drawn[:, swaps[:100]].T)
    assert np.abs(np.diag(together, 1).mean()) < 0.05  # and neighbours in the manifest are drawn each by itself


def test_whoever_is_not_named_stands_for_himself(skewed: pd.DataFrame) -> None:
    shares = pd.Series(balance_videos(skewed, "identity").shares, index=skewed.index)
    reals = skewed[skewed["label"] == 0]
    people = reals.query("identities != ''")["identities"].nunique() + 2
    assert shares[[2, 4]].tolist() == pytest.approx([0.5 / people] * 2)
    assert shares[reals.query("identities == 'alice'").index].sum() == pytest.approx(0.5 / people)


def test_a_video_drawn_again_is_told_apart(skewed: pd.DataFrame) -> None:
    drawn = draw(skewed, "method", epoch=4)
    assert not drawn.duplicated(["video_id", "repeat"]).any()
    rare = drawn[drawn["method"] == "rare"]
    assert rare.groupby("video_id")["repeat"].max().min() >= 54
    assert sorted(rare[rare["video_id"] == rare["video_id"].iloc[0]]["repeat"]) == list(
        range((rare["video_id"] == rare["video_id"].iloc[0]).sum())
    )
    np.testing.assert_array_equal(count_repeats(np.array([4, 2, 4, 4, 2])), [0, 0, 1, 2, 1])


def test_balanced_draws_too_are_decided_by_seed_and_epoch(skewed: pd.DataFrame) -> None:
    first, again, later, other = (
        list(draw(skewed, "label", **options)["video_id"]) for options in ({}, {}, {"epoch": 1}, {"seed": 1})
    )
    assert first == again
    assert first != later
    assert first != other
    assert set(first) != set(later)  # others of the many fakes
    assert balance_videos(skewed, "none") is None
    one_label = skewed[skewed["label"] == 1]
    assert balance_videos(one_label, "label").shares == pytest.approx(1 / 900)
