"""Which windows make a batch: their order, how often each video is drawn, and which process reads which."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch.utils.data import Sampler

from dfmm.people import name_people

EMPTY = -1  # the index of the sample that shows nothing and counts for nothing: fills a short batch up


@dataclass(frozen=True)
class Balance:
    """How often each video is drawn: with which probability, and which of them are of a kind."""

    shares: np.ndarray  # float64 [videos], their sum is 1
    groups: np.ndarray  # int64 [videos], numbered so that the groups of a label follow one another


def balance_videos(manifest: pd.DataFrame, balance: str) -> Balance | None:
    """Return how to draw videos so that each label comes equally often, and within it each method or identity.

    Args:
        balance: `none`, `label`, `method` or `identity`, whom a video belongs to (`name_people`).
    """
    if balance == "none":
        return None
    kinds = name_people(manifest) if balance == "identity" else manifest[balance]
    table = pd.DataFrame({"label": manifest["label"].to_numpy(), "kind": kinds.to_numpy()})
    by_kind = table.groupby(["label", "kind"])
    kinds_of_label = table.groupby("label")["kind"].transform("nunique")
    shares = 1 / (table["label"].nunique() * kinds_of_label * by_kind["kind"].transform("size"))
    return Balance(shares.to_numpy(np.float64), by_kind.ngroup().to_numpy())


class BatchOrder(Sampler[list[int]]):
    """Yields one process's share of every batch, as indices of a `MultimodalDataset`.

    `epoch` and `start`, the step of the epoch to begin with, are set from outside. All processes get equally many
    batches of equal length; what lacks is filled up with `EMPTY`.

    An index says all that a sample depends on beside the seed. With n videos of w windows each, window k of video v,
    drawn for the r-th time in epoch e, counted from 0, is

        index = (round · n + v) · w + k    with    round = e · n + r,

    since no video is drawn more than n times in an epoch. In epoch 0, without repetition, that is v · w + k.

    Args:
        videos: n.
        windows: w, of each video in an epoch.
        batch_size: windows in a batch, over all processes.
        seed: of the order; None keeps that of the manifest.
        balance: draw some videos more often than others; the number of draws in an epoch stays n.
        together: keep so many windows of a video next to each other, in one batch and one process.
        parts: into which a process divides its share once more; all of them are equally long.
        rank, world: of this process, and how many there are.
    """

    def __init__(
        self,
        videos: int,
        *,
        windows: int,
        batch_size: int,
        seed: int | None = None,
        balance: Balance | None = None,
        together: int = 1,
        parts: int = 1,
        rank: int = 0,
        world: int = 1,
    ):
        self.videos, self.windows, self.batch_size, self.seed = videos, windows, batch_size, seed
        self.balance, self.together, self.rank, self.world = balance, together, rank, world
        self.unit = world * parts * together
        if windows % together or batch_size % together:
            raise ValueError(f"batches of {batch_size} cannot keep {together} of a video's {windows} windows together")
        self.epoch = self.start = 0

    def __len__(self) -> int:
        """The steps of a whole epoch, wherever it begins."""
        return -(-self.videos * self.windows // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        indices = self._draw_epoch()
        for step in range(self.start, len(self)):
            batch = indices[step * self.batch_size : (step + 1) * self.batch_size]
            batch = np.pad(batch, (0, -len(batch) % self.unit), constant_values=EMPTY)
            yield np.split(batch, self.world)[self.rank].tolist()

    def _draw_epoch(self) -> np.ndarray:
        """Return the indices of an epoch in their order, int64 `[videos · windows]`."""
        if self.seed is None:
            return np.arange(self.videos * self.windows)
        rng = np.random.default_rng((self.seed, self.epoch))
        drawn = rng.permutation(self.videos) if self.balance is None else draw_evenly(self.balance, rng)
        rounds = self.epoch * self.videos + count_repeats(drawn)
        indices = (rounds * self.videos + drawn)[:, None] * self.windows + np.arange(self.windows)
        return rng.permutation(indices.reshape(-1, self.together)).ravel()


def draw_evenly(balance: Balance, rng: np.random.Generator) -> np.ndarray:
    """Draw as many videos as there are, int64 `[videos]`, each as often as its share says, rounded up or down.

    Systematic sampling (Madow, 1949): equal steps through the shares laid end to end, from a random start. A
    group's draws are within one of its share too, since its videos lie next to each other.
    """
    videos = len(balance.shares)
    laid = np.lexsort((rng.random(videos), balance.groups))
    ends = np.cumsum(balance.shares[laid])
    steps = (np.arange(videos) + rng.random()) / videos * ends[-1]
    return rng.permutation(laid[np.searchsorted(ends, steps, side="right").clip(max=videos - 1)])


def count_repeats(drawn: np.ndarray) -> np.ndarray:
    """Return how often each entry has occurred before, int64 `[n]`."""
    return pd.Series(drawn).groupby(drawn).cumcount().to_numpy()
