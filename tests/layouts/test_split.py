"""Dividing identities: nobody is in two splits, few videos are left out, and every method is shared out."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from dfmm.layouts.split import SHARES, Division, _Cut, _gather_edges, check_split, split_by_identity
from dfmm.manifest import ManifestError

Video = tuple[str, Iterable[int]]  # method, people


def make_table(videos: list[Video]) -> pd.DataFrame:
    people = ["|".join(f"p{who:04d}" for who in dict.fromkeys(names)) for _, names in videos]
    methods = [method for method, _ in videos]
    ids = [f"v{number:06d}" for number in range(len(videos))]
    return pd.DataFrame({"video_id": ids, "identities": people, "original": "", "method": methods, "split": "none"})


def swap_everyone(people: int) -> list[Video]:
    """A real video of each, and each swapped with every other."""
    swaps = [("swap", (a, b)) for a in range(people) for b in range(people) if a != b]
    return [("real", (who,)) for who in range(people)] + swaps


def imitate_celebdf() -> list[Video]:
    """59 people in five groups of one sex and origin, swapped within them, ten recordings each: 590 and 5,639."""
    rng, groups = np.random.default_rng(0), np.split(np.arange(59), np.cumsum([31, 5, 10, 10]))
    videos: list[Video] = [("real", (who,)) for who in range(59) for _ in range(10)]
    swaps = [("swap", (a, b)) for group in groups for a in group for b in group if a != b for _ in range(10)]
    return videos + [swaps[n] for n in rng.permutation(len(swaps))[:5639]]


def imitate_fakeavceleb() -> list[Video]:
    """500 people in ten groups; 41 fakes of each, with donors of the group, one in thirty from another."""
    rng, videos = np.random.default_rng(0), []
    kinds = {"wav2lip": 9, "faceswap": 5, "fsgan": 5, "wav2lip+rtvc": 18, "faceswap+wav2lip+rtvc": 2, "fsgan+rtvc": 2}
    for who in range(500):
        videos += [("real", (who,)), ("rtvc", (who,))]
        for method, count in kinds.items():
            for donors in rng.integers(0, 50, (count, 2)) + who // 50 * 50:
                donor = rng.integers(0, 500) if rng.random() < 1 / 30 else donors[0]
                videos.append((method, (who, donor, *donors[1:][: method.count("+") - 1])))
    return videos


def imitate_dfdc() -> list[Video]:
    """2,000 originals with five fakes each; nobody else is named."""
    return [("real" if n == 0 else "fake", (who,)) for who in range(2000) for n in range(6)]


def keep_at_random(table: pd.DataFrame) -> float:
    """Share of the videos that a random division of the people keeps, over twenty draws."""
    names = table["identities"].str.split("|")
    people = sorted({who for group in names for who in group})
    kept = []
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(len(people)) / len(people)
        place = dict(zip(people, np.searchsorted([0.7, 0.85], order, side="right"), strict=True))
        kept.append(np.mean([len({place[who] for who in group}) == 1 for group in names]))
    return float(np.mean(kept))


def measure_largest_component(table: pd.DataFrame) -> float:
    """Share of the videos in the largest group of people that videos tie together."""
    own = table["identities"].str.split("|").explode()
    codes = pd.factorize(own)[0]
    n, people = len(table), codes.max() + 1
    graph = csr_array((np.ones(len(own)), (codes, own.index.to_numpy() + people)), shape=(people + n, people + n))
    return np.bincount(connected_components(graph, directed=False)[1][people:]).max() / n


def check_apart(division: Division) -> None:
    """Nobody is in two splits, and a video is left out only for being in two."""
    table = division.table[division.table["split"] != "none"]
    people = table.assign(who=table["identities"].str.split("|")).explode("who").query("who != ''")
    place = people.groupby("who")["split"].agg(["min", "max"])
    assert (place["min"] == place["max"]).all()
    for names in division.table.loc[division.table["split"] == "none", "identities"].str.split("|"):
        assert len({place["min"].get(who, "nowhere") for who in names}) > 1
    assert sorted(division.left_out["video_id"]) == sorted(
        division.table.loc[division.table["split"] == "none", "video_id"]
    )
    assert check_split(division.table).empty


def measure_shares(division: Division) -> pd.DataFrame:
    """What each split (columns) holds of each method (rows), a video counting for its people in equal parts."""
    own = division.table.assign(who=division.table["identities"].str.split("|")).explode("who")
    inside = own[own["split"] != "none"]
    home = inside.groupby("who")["split"].first()
    own = own.assign(home=own["who"].map(home), part=1 / own.groupby(level=0)["who"].transform("size"))
    mass = own.pivot_table(index="method", columns="home", values="part", aggfunc="sum")
    return mass.div(mass.sum(axis=1), axis=0)


@pytest.mark.parametrize(
    ("imitate", "kept", "over_random"),
    [
        (lambda: swap_everyone(59), 0.52, -0.03),  # where all are swapped with all, random is as good
        (imitate_celebdf, 0.63, 0.05),
        (imitate_fakeavceleb, 0.92, 0.35),
        (imitate_dfdc, 1.0, -1e-9),
    ],
    ids=["everyone", "celebdf", "fakeavceleb", "dfdc"],
)
def test_as_few_videos_are_left_out_as_can_be(imitate, kept: float, over_random: float) -> None:
    table = make_table(imitate())
    division = split_by_identity(table)
    check_apart(division)
    assert division.share_kept >= kept
    assert division.share_kept >= keep_at_random(table) + over_random
    shares = measure_shares(division)
    for split, wanted in SHARES.items():
        assert shares[split].between(0.85 * wanted, 1.15 * wanted).all(), shares


def test_a_swap_of_all_with_all_keeps_the_sum_of_squared_shares() -> None:
    for shares in (SHARES, {"train": 0.5, "val": 0.25, "test": 0.25}, {"train": 0.8, "test": 0.2}):
        table = split_by_identity(make_table(swap_everyone(40)), shares=shares).table
        swaps = table[table["method"] == "swap"]
        assert (swaps["split"] != "none").mean() == pytest.approx(sum(s**2 for s in shares.values()), abs=0.03)


def test_components_alone_would_put_nearly_all_into_one_split() -> None:
    for imitate, largest in ((imitate_celebdf, 0.75), (imitate_fakeavceleb, 0.999)):
        assert measure_largest_component(make_table(imitate())) > largest


def test_the_same_table_gives_the_same_splits_in_any_order() -> None:
    table = make_table([*imitate_celebdf(), *(("talk", (n, n + 1, n + 2)) for n in range(50))])
    first = split_by_identity(table).table
    shuffled = table.sample(frac=1, random_state=1)
    again = split_by_identity(shuffled)
    assert list(again.table["video_id"]) == list(shuffled["video_id"])
    assert again.table.sort_values("video_id", ignore_index=True).equals(first)
    assert (split_by_identity(table, seed=1).table["split"] != first["split"]).any()


def test_whom_nobody_names_stands_for_itself_or_stays_with_its_original() -> None:
    real = [("real", ())] * 200
    table = make_table(real * 3).assign(split="")
    table.loc[200:399, "original"] = table.loc[:199, "video_id"].to_numpy()  # fakes of the first 200
    table.loc[400:499, "original"] = [f"gone{n // 2}" for n in range(100)]  # pairs of fakes of what is not there
    division = split_by_identity(table)
    assert division.unnamed == 600
    assert division.share_kept == 1
    split = division.table["split"].to_numpy()
    assert (split[:200] == split[200:400]).all()
    assert (split[400:500:2] == split[401:500:2]).all()
    assert set(split[500:]) == {"train", "val", "test"}
    for name, wanted in SHARES.items():
        assert (split == name).mean() == pytest.approx(wanted, abs=0.03)


def test_people_who_are_only_tied_to_a_few_stay_together() -> None:
    trios = [(3 * n, 3 * n + 1, 3 * n + 2) for n in range(60)]
    swaps = [("swap", (one, other)) for trio in trios for one in trio for other in trio if one != other]
    division = split_by_identity(make_table([("real", (who,)) for trio in trios for who in trio] + swaps))
    assert division.left_out.empty
    assert set(division.table["split"]) == set(SHARES)


def test_a_fake_stays_with_its_original_whoever_it_names() -> None:
    table = make_table([("real", (n,)) for n in range(60)] + [("fake", (60 + n,)) for n in range(60)])
    table.loc[60:, "original"] = table.loc[:59, "video_id"].to_numpy()
    table.loc[[0, 1], "identities"] = ""  # nobody is named in these two originals
    split = split_by_identity(table).table["split"].to_numpy()
    assert (split[:60] == split[60:]).all()


def test_fakes_of_one_absent_original_never_part() -> None:
    videos = [("fake", (n,)) for n in range(400)]
    table = make_table(videos).assign(original=[f"gone{n % 20}" for n in range(400)])
    division = split_by_identity(table)
    inside = division.table[division.table["split"] != "none"]
    assert inside.groupby("original")["split"].nunique().max() == 1
    assert division.left_out["reason"].str.startswith("another fake of the same original").all()


def test_any_text_may_name_a_video() -> None:
    table = make_table([("real", ())] * 40).assign(video_id=[f"a|{n % 7}|{n}" for n in range(40)])
    table.loc[0, "identities"] = "|"
    assert split_by_identity(table).share_kept == 1


def test_other_columns_can_be_shared_out_too() -> None:
    table = make_table(imitate_celebdf())
    table["group"] = np.searchsorted([31, 36, 46, 56], table["identities"].str[1:5].astype(int), side="right")
    table = table[table["group"] < 4]  # three people are too few to spread
    alone, spread = split_by_identity(table), split_by_identity(table, by=("method", "group"))
    counts = [d.table[d.table["split"] == "test"]["group"].nunique() for d in (alone, spread)]
    assert counts[0] < counts[1] == 4
    assert spread.share_kept < alone.share_kept
    with pytest.raises(ManifestError, match="cannot share out by race"):
        split_by_identity(table, by=("race",))


def test_the_cost_that_the_search_keeps_is_the_cost_of_what_it_found() -> None:
    rng = np.random.default_rng(0)
    sets = {tuple(sorted(rng.choice(40, size, replace=False).tolist())) for size in (2, 3, 4) for _ in range(100)}
    rows = np.repeat(np.arange(len(sets)), [len(names) for names in sets])
    edges, costs = _gather_edges(rows, np.concatenate([*map(list, sets)]), 40)
    cut = _Cut(edges, costs * rng.integers(1, 5, len(costs)), rng.random((40, 3)), np.array([0.5, 0.3, 0.2]))
    for _ in range(5):
        start = cut._scatter(rng)
        place, cost = cut._refine(start)
        assert cost == pytest.approx(cut._measure(place))
        assert cost < cut._measure(start)


NAN = float("nan")


@pytest.mark.parametrize(
    "shares",
    [
        *({"train": 0.5}, {"train": 1.5, "test": -0.5}, {"train": 0.5, "dev": 0.5}, {}),
        *({"train": NAN, "val": NAN, "test": 0.15}, {"train": -np.inf, "val": np.inf}),
    ],
)
def test_shares_must_be_shares(shares: dict[str, float]) -> None:
    with pytest.raises(ManifestError, match="add up to 1"):
        split_by_identity(make_table(swap_everyone(4)), shares=shares)


def test_a_split_of_no_share_gets_nobody() -> None:
    division = split_by_identity(make_table(swap_everyone(10)), shares={"train": 0.5, "val": 0, "test": 0.5})
    assert set(division.identities) == {"train", "test"}
    assert set(division.table["split"]) == {"train", "test", "none"}


def test_leaks_are_found_and_counted() -> None:
    table = make_table([("real", (0,)), ("real", (1,)), ("swap", (0, 1)), ("swap", (1, 2)), ("real", (3,))])
    table["split"] = ["train", "test", "test", "none", "val"]
    table.loc[2, "original"] = "v000000"
    leaks = check_split(table)
    assert leaks.to_numpy().tolist() == [
        ["identity in two splits", "p0000", "train 1, test 1"],
        ["original in two splits", "v000000", "train 1, test 1"],
    ]
    assert check_split(table.assign(split=["train", "val", "none", "test", "val"])).empty is False
    assert check_split(table.assign(split=["train", "test", "none", "none", "val"])).empty
