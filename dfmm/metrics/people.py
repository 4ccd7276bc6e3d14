"""Who is in which video: replicates that draw people, and how many independent videos dependent ones are worth."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCK = 64  # replicates drawn at a time
# Draws are kept for the next number that asks for as many people: 64 blocks, together below 400 MB.
KEPT_BLOCKS, KEPT_PEOPLE = 64, 90_000


class MetricError(ValueError):
    """Scores that no number can be computed from; the message says why, and what to do."""


@dataclass(frozen=True)
class Crowd:
    """The people of a set of videos. Videos that name the same people are a group: a replicate weighs them alike."""

    groups: Ints  # [n], the group of each video
    members: Ints  # [groups, most], the people of each, by number; filled up with `people`
    people: int

    def select(self, videos: Any) -> Crowd:
        """The same people, of some of the videos."""
        return Crowd(self.groups[videos], self.members, self.people)


def find_people(identities: Sequence[str] | None, videos: int) -> Crowd:
    """Number the people that videos name, by name: equal sets of people are drawn equally, in whatever order.

    Args:
        identities: [videos], names joined by `|`, blanks around them not counted; "" or None for all: unknown, and
            then each video is its own.

    Raises:
        MetricError: not so many texts.
    """
    return _number_people(("",) * videos if identities is None else tuple(identities), videos)


@lru_cache(maxsize=8)  # many scores of the same videos are measured one after the other
def _number_people(cells: tuple[str, ...], videos: int) -> Crowd:
    texts = sum(isinstance(cell, str) for cell in cells)
    if not texts == len(cells) == videos:
        raise MetricError(f'expected {videos} texts of identities, got {texts} of {len(cells)}: write "" for unknown')
    # No name holds a bar, so that the one made up for an unknown person is nobody else's.
    named = {cell: _split_names(cell) for cell in dict.fromkeys(cells)}
    sets = [named[cell] or (f"|{video:012}",) for video, cell in enumerate(cells)]
    groups = {names: group for group, names in enumerate(sorted(set(sets)))}
    numbers = {name: number for number, name in enumerate(sorted({name for names in groups for name in names}))}
    members = np.full((len(groups), max(map(len, groups), default=1)), len(numbers))
    for names, group in groups.items():
        members[group, : len(names)] = [numbers[name] for name in names]
    return Crowd(np.array([groups[names] for names in sets], np.int64), members, len(numbers))


def _split_names(cell: str) -> tuple[str, ...]:
    return tuple(sorted({name.strip() for name in unicodedata.normalize("NFC", cell).split("|")} - {""}))


def draw_weights(crowd: Crowd, replicates: int, seed: int) -> Iterator[NDArray[np.integer]]:
    """Yield what each group of videos weighs in the next replicates, [some, groups].

    Owen's pigeonhole bootstrap (Ann. Appl. Stat. 2007): as many people are drawn as there are, and a video weighs the
    product of how often each of those it names is drawn.
    """
    draw = _keep_block if crowd.people <= KEPT_PEOPLE else _draw_block
    for start in range(0, replicates, BLOCK):
        drawn = draw(crowd.people, min(BLOCK, replicates - start), seed, start)
        weights = np.take(drawn, crowd.members[:, 0], axis=1)
        for further in crowd.members.T[1:]:
            weights = weights * np.take(drawn, further, axis=1).astype(np.int32)
        yield weights


def draw_halves(crowd: Crowd, seed: int) -> Iterator[NDArray[np.integer]]:
    """Yield weights of 1 for all videos of a random half of the people and 0 for all others, [BLOCK, groups]."""
    rng = np.random.default_rng([seed, crowd.people])
    chosen = rng.permuted(np.tile(np.arange(crowd.people) % 2, (BLOCK // 2, 1)), axis=1)
    chosen = np.pad(np.concatenate([chosen, 1 - chosen]), ((0, 0), (0, 1)), constant_values=1)
    yield chosen[:, crowd.members].prod(axis=2)


def _draw_block(people: int, replicates: int, seed: int, start: int) -> NDArray[np.uint8]:
    """How often each of the people is drawn, [replicates, people + 1]: a last column of ones stands for nobody."""
    rng = np.random.default_rng([seed, start])
    drawn = rng.integers(people, size=(replicates, people)) + (people + 1) * np.arange(replicates)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=replicates * (people + 1)).reshape(replicates, people + 1)
    counts[:, -1] = 1
    return counts.astype(np.uint8)  # of 255 people or more, nobody is drawn 256 times


_keep_block = lru_cache(maxsize=KEPT_BLOCKS)(_draw_block)


def count_independent(ranks: Floats, crowd: Crowd) -> float:
    """How many independent videos those of one class are worth: n / (1 + partners × correlation) (Kish 1965).

    A video's partners share a person with it. Their correlation is taken of the ranks in the class: these vary
    even where no error is made, and decisions cut from them correlate less. It counts as 1 where it cannot be
    known, with one score for all, and of whoever is in half of the videos or more: what is due to the only donor of
    all fakes is in each of them, and so in no difference between them.

    Args:
        ranks: [n], of the scores within the class, ties in the middle.
        crowd: of these n videos.
    """
    named = crowd.members[crowd.groups]
    there = named < crowd.people
    people, videos = named[there], np.broadcast_to(np.arange(len(ranks))[:, None], named.shape)[there]
    n, seen = max(1, ranks.size), np.bincount(people, minlength=1).astype(float)
    partners, centred, known = seen * (seen - 1) / n, ranks - (n + 1) / 2, 2 * seen < n
    most, unknown, present = min(n - 1, partners.sum()), partners[~known].sum(), np.count_nonzero(seen)
    if not most or not centred.any():
        return n / (1 + most)
    # Ranks sum to 0 about their mean, which takes one of `present` parts from the variance between people.
    sums, squares = (np.bincount(people, values[videos], len(seen))[known] for values in (centred, centred**2))
    shared = sums @ sums * present / max(present - 1, 1) - squares.sum()
    return n / (1 + min(most, unknown + max(0.0, shared / (centred @ centred))))
