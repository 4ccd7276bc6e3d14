"""Train, val and test without a person in two of them: identities are divided so that few videos are left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy  # whose parts are imported when they are used

from dfmm.manifest import NO_SPLIT, SPLITS, ManifestError
from dfmm.people import ALONE, assign_people, find_shared, mark_shared, name_families, name_people

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}
TOLERANCE = 0.05  # by which a split's part of a method may miss its share, relative to that
PRICE = 1.0  # of a split's part that misses beyond that by its whole share, in parts of all videos left out
RARE = 0.02  # a method with less than this part of the videos is priced as if it had as much
WHOLE = 0.1  # groups up to this part of the smallest split are never torn apart
STARTS = 16  # divisions tried; the best is taken
PATIENCE = 60  # moves in a row that make nothing better, and a pass ends

Array = np.ndarray


@dataclass(frozen=True)
class Division:
    """A manifest with its splits, and what the division cost."""

    table: pd.DataFrame
    left_out: pd.DataFrame  # video_id, reason: the videos that are in no split now
    identities: dict[str, int]  # how many identities each split has to itself
    unnamed: int  # videos of nobody who is named: each, or its original, stands for itself

    @property
    def share_kept(self) -> float:
        """Part of the videos that found a split."""
        return 1 - len(self.left_out) / len(self.table)


def split_by_identity(
    table: pd.DataFrame,
    *,
    shares: Mapping[str, float] = SHARES,
    seed: int = 0,
    by: Sequence[str] = ("method",),
) -> Division:
    """Divide identities among splits; a video goes where all the people it names are, or nowhere.

    Swaps tie nearly everyone to everyone, so that connected components put nearly all into one split. Here people
    are moved from split to split as long as that keeps more videos (passes after Fiduccia and Mattheyses, DAC 1982,
    on the hypergraph whose edges are videos, from several starts), while each split holds its share of every
    method, a video counting for its people in equal parts. Where all are swapped with all, no division keeps much
    more of the swaps than the sum of the squared shares.

    A fake stays with its original. The order of the rows does not matter.

    Args:
        table: a manifest; its `split` is overwritten, with `none` for the videos that are left out.
        shares: of each split, adding up to 1.
        seed: another seed, another division.
        by: columns whose every combination is shared out alike.

    Raises:
        ManifestError: the shares are not shares, or a column is missing.
    """
    shares = check_shares(shares)
    if missing := [name for name in by if name not in table]:
        raise ManifestError(f"cannot share out by {', '.join(missing)}: the manifest has {', '.join(table.columns)}")
    table = table.reset_index(drop=True)
    rows, people, names = list_people(table)
    strata = table.groupby(list(by), sort=True, dropna=False).ngroup().to_numpy()
    assigned = _divide(rows, people, strata, np.array([*shares.values()]), np.random.default_rng(seed))
    split, reasons = _settle(table, rows, assigned[people], [*shares])
    named = np.array([not name.startswith(ALONE) for name in names])
    return Division(
        table.assign(split=split),
        pd.DataFrame({"video_id": table["video_id"], "reason": reasons})[reasons != ""].reset_index(drop=True),
        dict(zip(shares, np.bincount(assigned[named], minlength=len(shares)).tolist(), strict=True)),
        len(np.unique(rows[~named[people]])),
    )


def check_shares(shares: Mapping[str, float]) -> dict[str, float]:
    """Return the shares above 0, in the order of the splits; refuse what does not add up."""
    wrong = [name for name in shares if name not in SPLITS]
    within = all(0 <= share <= 1 for share in shares.values())  # asked so that what is no number is not
    if wrong or not within or abs(sum(shares.values()) - 1) > 1e-6:
        raise ManifestError(f"expected shares of {', '.join(SPLITS)} from 0 to 1 that add up to 1, got {dict(shares)}")
    return {name: shares[name] for name in SPLITS if shares.get(name)}


def list_people(table: pd.DataFrame) -> tuple[Array, Array, list[str]]:
    """Return who is in which row: rows `[k]`, numbers of people `[k]`, and the people's names, as of `name_people`."""
    pairs = name_people(table).str.split("|").explode()
    codes, names = pd.factorize(pairs, sort=True)
    return pairs.index.to_numpy(), codes, list(names)


def _settle(table: pd.DataFrame, rows: Array, assigned: Array, splits: list[str]) -> tuple[pd.Series, pd.Series]:
    """Return each video's split, and why it has none."""
    first, last = np.full(len(table), len(splits)), np.full(len(table), -1)
    np.minimum.at(first, rows, assigned)
    np.maximum.at(last, rows, assigned)
    words = np.array([*splits, NO_SPLIT], dtype=object)
    split = pd.Series(words[np.where(first == last, first, len(splits))], index=table.index)
    crossing = "names people of " + pd.Series(words[first]) + " and of " + pd.Series(words[last])
    reasons = crossing.where(first != last, "")
    # Fakes of one original that is not in the table itself may yet have come apart.
    inside = split[first == last]
    family = name_families(table)[inside.index]
    shared = mark_shared(family, inside)
    counts = pd.crosstab(family[shared], inside[shared]).reindex(columns=splits, fill_value=0)
    home = family.map(dict(counts.idxmax(axis=1)) if len(counts) else {})
    astray = home.index[home.notna() & (home != inside)]
    reasons[astray] = [f"another fake of the same original is in {name}" for name in home[astray]]
    split[astray] = NO_SPLIT
    return split, reasons


def _divide(rows: Array, names: Array, strata: Array, shares: Array, rng: np.random.Generator) -> Array:
    """Return the number of the split, `[n]`, of each of the n people."""
    n, people = len(strata), int(names.max()) + 1
    pairs = scipy.sparse.csr_array((np.ones(len(rows)), (names, rows + people)), shape=(people + n, people + n))
    group = scipy.sparse.csgraph.connected_components(pairs, directed=False)[1]
    torn = np.bincount(group[people:], minlength=group.max() + 1) > WHOLE * shares.min() * n
    # A group that stays whole is moved as one person.
    item = np.unique(np.where(torn[group[:people]], np.arange(people), people + group[:people]), return_inverse=True)[1]
    weights = _weigh_items(item[names], strata[rows], np.bincount(rows)[rows])
    assigned = np.full(len(weights), -1)
    if torn.any():
        # Those that weigh something are placed together with the torn, so that one makes up for the other.
        heavy = weights.sum(1) > WHOLE / 10 * shares.min() * n
        loose = np.union1d(item[torn[group[:people]]], np.flatnonzero(heavy))
        inside = torn[group[people:]][rows]
        edges, costs = _gather_edges(rows[inside], np.searchsorted(loose, item[names[inside]]), len(loose))
        assigned[loose] = _Cut(edges, costs, weights[loose], shares).search(rng)
    _fill(assigned, weights, shares, rng)
    return assigned[item]


def _weigh_items(items: Array, strata: Array, sizes: Array) -> Array:
    """Return how many videos of each stratum are an item's, `[items, strata]`, one of k people counting 1 / k."""
    weights = np.zeros((items.max() + 1, strata.max() + 1))
    for size in np.unique(sizes):  # whole numbers first: their sum is the same in any order
        counts = np.zeros_like(weights)
        np.add.at(counts, (items[sizes == size], strata[sizes == size]), 1)
        weights += counts / size
    return weights


def _gather_edges(rows: Array, items: Array, n: int) -> tuple[scipy.sparse.csr_array, Array]:
    """Return the sets of items that videos tie together, bool `[edges, n]`, and how many videos tie each, `[edges]`."""
    order = np.lexsort((items, rows))
    starts = np.flatnonzero(np.diff(rows[order], prepend=-1))
    counts = Counter(tuple(dict.fromkeys(part.tolist())) for part in np.split(items[order], starts[1:]))
    edges = sorted(edge for edge in counts if len(edge) > 1)
    ends = np.cumsum([0, *map(len, edges)])
    flat = np.array([item for edge in edges for item in edge], int)
    together = scipy.sparse.csr_array((np.ones(len(flat), bool), flat, ends), shape=(len(edges), n))
    return together, np.array([counts[edge] for edge in edges], float)


def _fill(assigned: Array, weights: Array, shares: Array, rng: np.random.Generator) -> None:
    """Place, in place, the items that have none (-1), the heaviest first, where most of their videos are missing."""
    wanted = shares[:, None] * weights.sum(0)
    held = np.zeros_like(wanted)
    np.add.at(held, assigned[assigned >= 0], weights[assigned >= 0])
    free = rng.permutation(np.flatnonzero(assigned < 0))
    single = weights[free].sum(1) <= 1
    for item in free[~single][np.argsort(-weights[free[~single]].sum(1), kind="stable")]:
        assigned[item] = _find_room(held, wanted, weights[item])
        held[assigned[item]] += weights[item]
    # Videos on their own are dealt out by the thousand.
    for stratum in range(weights.shape[1]):
        items = free[single & (weights[free, stratum] > 0)]
        if len(items):
            missing = np.maximum(wanted[:, stratum] - held[:, stratum], 0) + 1e-9
            bounds = np.round(np.cumsum(missing) / missing.sum() * len(items)).astype(int)
            assigned[items] = np.searchsorted(bounds, np.arange(len(items)), side="right")


def _find_room(held: Array, wanted: Array, weight: Array) -> int:
    """Return the split that is best off with one more item: the squared error of its parts, relative to them."""
    return int((weight * (2 * (held - wanted) + weight) / np.maximum(wanted, 1e-9)).sum(1).argmin())


class _Cut:
    """Items tied together by edges, and the search for a division that cuts few.

    A tie is an edge and one of its items. `gain[i, s]` is what is kept of item i's edges while it is in split s.
    """

    def __init__(self, edges: scipy.sparse.csr_array, costs: Array, weights: Array, shares: Array):
        self.costs, self.weights, self.shares = costs, weights, shares
        self.sizes = np.diff(edges.indptr)
        self.edge, self.item = np.repeat(np.arange(len(costs)), self.sizes), edges.indices
        turned = edges.T.tocsr()
        self.edges_of = np.split(turned.indices, turned.indptr[1:-1])
        length = self.sizes[self.edge]
        shift = np.repeat(edges.indptr[self.edge] - np.cumsum(length) + length, length)
        owner = np.repeat(self.item, length)
        ties = (np.arange(len(shift)) + shift)[np.argsort(owner, kind="stable")]
        self.ties_of = np.split(ties, np.cumsum(np.bincount(owner, minlength=len(weights)))[:-1])
        self.degree = np.bincount(self.item, costs[self.edge], minlength=len(weights))
        self.wanted = shares[:, None] * weights.sum(0)
        self.slack = np.maximum(TOLERANCE * self.wanted, weights.max(0) / 2)
        self.price = PRICE * weights.sum() / np.maximum(self.wanted, RARE * shares[:, None] * weights.sum())

    def search(self, rng: np.random.Generator) -> Array:
        """Return the best division found, `[n]`: every other start grows around one item, the others are random."""
        found = [self._refine(self._scatter(rng) if start % 2 else self._grow(rng)) for start in range(STARTS)]
        return min(found, key=lambda result: result[1])[0]

    def _grow(self, rng: np.random.Generator) -> Array:
        """Let the smaller splits grow, each from a random item along the closest ties; the largest takes the rest."""
        *small, largest = np.argsort(self.shares, kind="stable")
        assigned, mass = np.full(len(self.weights), -1), self.weights.sum(1)
        for split in small:
            close, held = np.zeros(len(assigned)), 0.0
            while (free := np.flatnonzero(assigned < 0)).size and held < self.shares[split] * mass.sum():
                closeness = close[free] / np.maximum(self.degree[free], 1e-9)
                item = free[np.argmax(closeness + 1e-9 * rng.random(len(free)))]
                assigned[item], held = split, held + mass[item]
                ties = self.ties_of[item]
                np.add.at(close, self.item[ties], self.costs[self.edge[ties]])
        return np.where(assigned < 0, largest, assigned)

    def _scatter(self, rng: np.random.Generator) -> Array:
        assigned, held = np.zeros(len(self.weights), int), np.zeros_like(self.wanted)
        for item in rng.permutation(len(assigned)):
            assigned[item] = _find_room(held, self.wanted, self.weights[item])
            held[assigned[item]] += self.weights[item]
        return assigned

    def _refine(self, assigned: Array) -> tuple[Array, float]:
        """Return the division and its cost after passes of moves, until a pass finds nothing better."""
        cost = self._measure(assigned)
        while True:
            better, lower = self._pass(assigned, cost)
            if lower > cost - 1e-6:
                return assigned, cost
            assigned, cost = better, lower

    def _pass(self, assigned: Array, cost: float) -> tuple[Array, float]:
        """Move each item at most once, the cheapest move first even if it costs; return the best division met."""
        assigned, everyone = assigned.copy(), np.arange(len(assigned))
        best, lowest, since = assigned, cost, 0
        counts, held = self._count(assigned), self._hold(assigned)
        gain = np.zeros((len(assigned), len(self.shares)))
        np.add.at(gain, self.item, self._weigh(slice(None), counts, assigned))
        moved = np.zeros(len(assigned), bool)
        while since < PATIENCE and not moved.all():
            change = gain[everyone, assigned][:, None] - gain + self._change_balance(assigned, held)
            change[everyone, assigned] = change[moved] = np.inf
            item, split = divmod(int(change.argmin()), len(self.shares))
            cost += change[item, split]
            ties, edges = self.ties_of[item], self.edges_of[item]
            np.subtract.at(gain, self.item[ties], self._weigh(ties, counts, assigned))
            counts[edges, assigned[item]] -= 1
            held[assigned[item]] -= self.weights[item]
            assigned[item] = split
            counts[edges, split] += 1
            held[split] += self.weights[item]
            np.add.at(gain, self.item[ties], self._weigh(ties, counts, assigned))
            moved[item], since = True, since + 1
            if cost < lowest - 1e-6:
                best, lowest, since = assigned.copy(), cost, 0
        return best, lowest

    def _measure(self, assigned: Array) -> float:
        """Videos left out, and the price of what is out of balance."""
        cut = self._count(assigned).max(1, initial=0) < self.sizes
        return float(self.costs[cut].sum() + self._misfit(self._hold(assigned)).sum())

    def _count(self, assigned: Array) -> Array:
        """How many items of each edge are in each split, `[edges, splits]`."""
        counts = np.zeros((len(self.costs), len(self.shares)), int)
        np.add.at(counts, (self.edge, assigned[self.item]), 1)
        return counts

    def _hold(self, assigned: Array) -> Array:
        """What each split holds of each stratum, `[splits, strata]`."""
        held = np.zeros_like(self.wanted)
        np.add.at(held, assigned, self.weights)
        return held

    def _misfit(self, held: Array, split: Array | slice = slice(None)) -> Array:
        beyond = np.maximum(np.abs(held - self.wanted[split]) - self.slack[split], 0)
        return (self.price[split] * beyond).sum(-1)

    def _change_balance(self, assigned: Array, held: Array) -> Array:
        """What moving each item to each split changes in the price of balance, `[n, splits]`."""
        now = self._misfit(held)
        leave = self._misfit(held[assigned] - self.weights, assigned) - now[assigned]
        return leave[:, None] + self._misfit(held + self.weights[:, None]) - now

    def _weigh(self, ties: Array | slice, counts: Array, assigned: Array) -> Array:
        """What is kept of each tie's edge if its item is in each split, `[ties, splits]`: all its others are there."""
        edge = self.edge[ties]
        others = counts[edge] - (assigned[self.item[ties]][:, None] == np.arange(len(self.shares)))
        return self.costs[edge][:, None] * (others == self.sizes[edge][:, None] - 1)


def check_split(table: pd.DataFrame) -> pd.DataFrame:
    """Return identities and originals that are in more than one split: columns kind, name, detail."""
    shared = find_shared(assign_people(table)[table["split"].isin(SPLITS)])
    counts = pd.crosstab([shared["kind"], shared["name"]], shared["split"]).reindex(columns=SPLITS, fill_value=0)
    rows = [
        (f"{kind} in two splits", name, ", ".join(f"{split} {n}" for split, n in row.items() if n))
        for (kind, name), row in zip(counts.index, counts.to_dict("records"), strict=True)
    ]
    return pd.DataFrame(rows, columns=["kind", "name", "detail"])
