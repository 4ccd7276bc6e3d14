"""Perfect marks: what some of the fakes have and no real has, to which an AUC over all fakes is nearly blind.

A codec that 15 % of the fakes have lifts the AUC by 0.075 only, yet who learns it finds these without a false alarm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

CHANCE = 0.01  # of naming any mark in a table of honest data
LEAST_TOLD = 0.05  # of the fakes: what tells fewer of them is no shortcut worth a name, however sure
FEWEST_DEALS = 200  # of which one or two may be as strong by so small a chance

Integers = NDArray[np.int64]


class Mark(NamedTuple):
    """What some fakes have and no real has."""

    people: int  # groups of fakes that have it
    side: Literal["at", "above", "below"]
    code: int  # of the value itself, or of the last one that a real has


@dataclass(frozen=True)
class Feature:
    """A column as numbers: the place of each value among the sorted ones."""

    codes: Integers  # [n], -1 where there is no value
    values: Sequence  # by code
    ordered: bool  # numbers have an above and a below, kinds do not


def find_marks(
    features: pd.DataFrame,
    videos: pd.DataFrame,
    *,
    tried: Sequence[str] = (),
    replicates: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return of each feature the share of fakes that it tells without one false alarm, and how easily luck does that.

    A mark is a value that no real has, or, of numbers, all above or all below what reals have. It weighs what Fisher's
    exact test says of the people (groups) in whose fakes it is found: a person with a microphone of their own is one
    person, however many the clips. These weights are compared with those of the same data dealt out anew
    (`deal_videos`), where people and families stay together: a mark must outweigh all that is found in a whole table
    (max-T; Westfall & Young, "Resampling-based multiple testing", 1993), so the more is tried, the more it takes.

    Args:
        features: a row a video; numbers, or objects for kinds, and nothing where there is no such thing.
        videos: their `label`, `method`, `group` and `family`; no two groups share a person or an original.
        tried: the methods that are looked at by themselves, too, each against all reals.
        replicates: how often the data is dealt out anew, at least `FEWEST_DEALS` times.

    Returns:
        A row for each feature over all fakes (`method` is empty) and for each method: `feature`, `method`; `told`, the
        share of the fakes that its strongest mark tells; `side` (`above`, `below`, `at`) and `bound`, the mark itself;
        `chance`, the probability that honest data has one as strong anywhere in the table.
    """
    table = [_code_values(values) for _, values in features.items()]
    groups, families = (pd.factorize(videos[name])[0] for name in ("group", "family"))
    real, fake = (np.flatnonzero(videos["label"] == label) for label in (0, 1))
    names = ["", *tried]
    fakes = [fake, *(fake[(videos["method"] == name).to_numpy()[fake]] for name in tried)]

    def weigh(rows: Integers) -> NDArray[np.float64]:  # [features, 1 + tried]
        return np.array([[_weigh_mark(one, one.codes[rows], real, some, groups) for some in fakes] for one in table])

    rng, found = np.random.default_rng(seed), weigh(np.arange(len(videos)))
    dealt = np.stack([weigh(deal_videos(groups, families, rng)) for _ in range(max(replicates, FEWEST_DEALS))])
    # Where reals are few, or people share a feature, its weights are large by nature, and would drown the others.
    usual = np.maximum((dealt.sum(axis=0) + found) / (len(dealt) + 1), 1)
    largest = (dealt / usual).max(axis=(1, 2))[:, None, None]
    chance = (1 + (largest >= found / usual - 1e-9).sum(axis=0)) / (len(dealt) + 1)
    rows = [
        {"feature": feature, "method": name, "chance": chance[row, column]}
        | _describe_mark(one, real, fakes[column], groups)
        for row, (feature, one) in enumerate(zip(features, table, strict=True))
        for column, name in enumerate(names)
    ]
    return pd.DataFrame(rows)


def deal_videos(groups: Integers, families: Integers, rng: np.random.Generator) -> Integers:
    """Return for each video, `[n]`, which video's values it is dealt: what labels would be if they meant nothing.

    Each group is dealt the families of another, each family the videos of one of these. Where there are too few, they
    begin again; where there are too many, the rest is left out.
    """
    owners, members = np.unique(np.stack([groups, families]), axis=1, return_inverse=True)
    givers = _deal_members(owners[0], rng.permutation(owners[0].max() + 1), rng)
    return _deal_members(members.ravel(), givers, rng)


def _deal_members(owners: Integers, givers: Integers, rng: np.random.Generator) -> Integers:
    """Return for each member, `[n]`, a member of the giver of its owner, in random order."""
    places, shuffled = np.argsort(owners, kind="stable"), np.lexsort((rng.random(len(owners)), owners))
    sizes = np.bincount(owners)
    starts = np.cumsum(sizes) - sizes
    to = owners[places]
    dealt = np.empty_like(places)
    dealt[places] = shuffled[starts[givers[to]] + (np.arange(len(to)) - starts[to]) % sizes[givers[to]]]
    return dealt


def _code_values(values: pd.Series) -> Feature:
    codes, found = pd.factorize(values, sort=True)
    return Feature(codes, found, ordered=values.dtype != object)


def _find_mark(one: Feature, codes: Integers, real: Integers, fake: Integers, groups: Integers) -> Mark:
    """Return the mark that is found in the most people's fakes, given the rows of reals and fakes."""
    values, owners, seen = codes[fake], groups[fake], codes[real]
    taken = np.zeros(len(one.values) + 1, bool)  # its last place is that of -1
    taken[seen], taken[-1] = True, True
    free = ~taken[values]
    marks = [_find_commonest(values[free], owners[free])]
    seen = seen[seen >= 0]
    if one.ordered and len(seen):
        low, high = int(seen.min()), int(seen.max())
        marks.append(Mark(_count_distinct(owners[values > high]), "above", high))
        marks.append(Mark(_count_distinct(owners[(values < low) & (values >= 0)]), "below", low))
    return max(marks, key=lambda mark: mark.people)  # the first of equals: one value says more than all above


def _find_commonest(values: Integers, owners: Integers) -> Mark:
    """Return the value that the most people have."""
    if not len(values):
        return Mark(0, "at", -1)
    repeated = np.bincount(values)[values] > 1
    if not repeated.any():
        return Mark(1, "at", int(values[0]))
    pairs = np.unique(values[repeated] * (owners.max() + 1) + owners[repeated])
    people = np.bincount(pairs // (owners.max() + 1))
    return Mark(int(people.max()), "at", int(people.argmax()))


def _count_distinct(owners: Integers) -> int:
    return int(np.count_nonzero(np.bincount(owners))) if len(owners) else 0


def _weigh_mark(one: Feature, codes: Integers, real: Integers, fake: Integers, groups: Integers) -> float:
    """Return minus the logarithm of the chance, by Fisher's exact test, that whoever has the mark has it in a fake."""
    told = _find_mark(one, codes, real, fake, groups).people
    fakes, reals = (_count_distinct(groups[rows][codes[rows] >= 0]) for rows in (fake, real))
    return _count_orders(fakes + reals, told) - _count_orders(fakes, told)


def _count_orders(n: int, k: int) -> float:
    """Return log(n! / (n - k)!)."""
    return math.lgamma(n + 1) - math.lgamma(n - k + 1)


def _describe_mark(one: Feature, real: Integers, fake: Integers, groups: Integers) -> dict[str, object]:
    mark, values = _find_mark(one, one.codes, real, fake, groups), one.codes[fake]
    known = values[values >= 0]
    if not mark.people:
        return {"told": 0.0 if len(known) else np.nan, "side": "", "bound": None}
    compare = {"at": np.equal, "above": np.greater, "below": np.less}[mark.side]
    return {"told": compare(known, mark.code).mean(), "side": mark.side, "bound": one.values[mark.code]}
