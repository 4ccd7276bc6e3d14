"""Alike vectors among many, without comparing all with all: those that fall on one side of random planes, often.

Two vectors fall on one side of a random plane with probability 1 - angle / π (Charikar, "Similarity estimation
techniques from rounding algorithms", STOC 2002). Vectors that agree in many planes share a bucket; buckets are made
anew until two that are just alike enough have met in one, but for `MISSED`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

BITS = 16  # planes of a bucket
MISSED = 1e-3  # of the pairs that are just alike enough; those that are more alike are missed by far more rarely
TOGETHER = 24  # tables of buckets made at once
CROWD = 1024  # videos in one bucket, from which on it is remembered who was compared with whom

Numbers = NDArray[np.int64]
Keep = Callable[[Numbers, Numbers], NDArray[np.bool_]]


def find_neighbours(
    vectors: NDArray, *, cosine: float, keep: Keep | None = None, seed: int = 0
) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield the numbers of pairs that are alike, some at a time, each pair once, the lower number first.

    Args:
        vectors: `[n, d]`, or `[n, parts, d]`, of three parts or more, of which at least half are to be alike: buckets
            are of two parts each, so that one part that all have in common, such as an intro, puts nobody into one
            bucket. What is zero is alike to what is zero, but a bucket of zeros alone is none.
        cosine: of the angle between vectors, above 0, from which on they are alike.
        keep: of pairs, `[pairs]` twice, which are wanted; None for all.
    """
    vectors = np.array(np.moveaxis(vectors if vectors.ndim == 3 else vectors[:, None], 1, 0), np.float32, order="C")
    parts, n = vectors.shape[:2]
    vectors /= np.maximum(np.linalg.norm(vectors, axis=2, keepdims=True), 1e-9)
    rng, found = np.random.default_rng(seed), np.zeros(0, np.int64)
    for drawn in itertools.combinations(range(parts), min(parts, 2)):
        some = [vectors[part] for part in drawn]
        rows = np.flatnonzero(np.any([part.any(axis=1) for part in some], axis=0))
        known = np.full(n, -1)  # the crowd in which each video was compared with all others
        for buckets in _make_buckets([part[rows] for part in some], count_tables(parts, cosine), rng):
            for first, second in _pair_buckets(rows, buckets, known):
                pairs = np.stack([np.minimum(first, second), np.maximum(first, second)])
                pairs = pairs[:, keep(*pairs)] if keep else pairs
                pairs = pairs[:, np.all([_are_alike(part, *pairs, cosine) for part in some], axis=0)]
                new = np.setdiff1d(pairs[0] * n + pairs[1], found)
                if len(new):
                    found = np.union1d(found, new)
                    yield new // n, new % n


def count_tables(parts: int, cosine: float) -> int:
    """Return how many tables of buckets each two parts need, that `MISSED` of pairs just alike enough never meet."""
    ways = math.comb(math.ceil(parts / 2), 2) if parts > 2 else 1  # to take two parts of the alike half
    met = (1 - math.acos(cosine) / math.pi) ** BITS
    return math.ceil(math.log(MISSED) / math.log1p(-met) / ways)


def _make_buckets(
    parts: Sequence[NDArray[np.float32]], tables: int, rng: np.random.Generator
) -> Iterator[NDArray[np.uint16]]:
    """Yield for each table the bucket of each video, `[n]`: on which sides of planes its parts, `[n, d]`, fall."""
    bits = BITS // len(parts)
    for at in range(0, tables, TOGETHER):
        count = min(TOGETHER, tables - at)
        planes = rng.normal(size=(len(parts), parts[0].shape[1], count * bits)).astype(np.float32)
        sides = [(part @ plane >= 0).reshape(-1, count, bits) for part, plane in zip(parts, planes, strict=True)]
        yield from np.concatenate(sides, axis=2).astype(np.uint16).swapaxes(0, 1) @ (
            1 << np.arange(BITS, dtype=np.uint16)
        )


def _pair_buckets(rows: Numbers, buckets: NDArray[np.uint16], known: Numbers) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield all pairs of each bucket, but for those of one crowd that were there before; note new crowds in `known`."""
    order = np.argsort(buckets, kind="stable")  # of 16 bits, which numpy sorts in linear time
    rows, buckets = rows[order], buckets[order]
    starts, distance = np.arange(len(rows)), 0
    while len(starts):
        distance += 1
        starts = starts[: np.searchsorted(starts, len(rows) - distance)]
        starts = starts[buckets[starts] == buckets[starts + distance]]
        first, second = rows[starts], rows[starts + distance]
        new = (known[first] != known[second]) | (known[first] < 0)
        if new.any():
            yield first[new], second[new]
    crowded = np.bincount(buckets)[buckets] > CROWD
    known[rows[crowded]] = known.max(initial=-1) + 1 + buckets[crowded]


def _are_alike(part: NDArray[np.float32], first: Numbers, second: Numbers, cosine: float) -> NDArray[np.bool_]:
    """Say which pairs are alike in this part, or zero both."""
    one, other = part[first], part[second]
    return (np.einsum("nd,nd->n", one, other) >= cosine - 1e-5) | ~(one.any(axis=1) | other.any(axis=1))
