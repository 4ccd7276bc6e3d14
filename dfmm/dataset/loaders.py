"""Batches of windows for training, validation and evaluation."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import pandas as pd
import torch
from torch.utils.data import DataLoader, default_collate

from dfmm.dataset.batches import BatchOrder, balance_videos
from dfmm.dataset.dataset import MultimodalDataset
from dfmm.degrade import Scene
from dfmm.extraction.tracks import Tracks
from dfmm.manifest import select_split
from dfmm.memory import return_memory
from dfmm.people import assign_people
from dfmm.processes import hide_main
from dfmm.settings import Settings


def make_training_loader(
    manifest: pd.DataFrame, settings: Settings, *, progress: bool = True, rank: int = 0, world: int = 1
) -> DataLoader:
    """Return shuffled, augmented random windows of the training split, this process's share of them.

    `batch_sampler` of the loader is a `BatchOrder`: set its `epoch` before each.
    """
    train, chosen = settings.train, select_split(assign_people(manifest), "train", limit=settings.data.limit)
    progress = progress and rank == 0
    dataset = MultimodalDataset(
        chosen, settings, windows=train.windows, sampling="random", augment=True, progress=progress
    )
    order = BatchOrder(
        len(dataset.manifest),
        windows=train.windows,
        batch_size=train.batch_size,
        seed=settings.seed,
        balance=balance_videos(dataset.manifest, train.balance),
        together=train.windows if settings.model.aggregation == "attention" else 1 + settings.forge.pairs,
        parts=train.accumulate,
        rank=rank,
        world=world,
    )
    return _make_loader(dataset, order)


def make_evaluation_loader(
    manifest: pd.DataFrame,
    split: str,
    settings: Settings,
    *,
    windows: int | None = None,
    progress: bool = True,
    rank: int = 0,
    world: int = 1,
) -> DataLoader:
    """Return evenly spaced windows of a split, in the manifest's order, those of a video one after the other.

    Where training forges reals, those of the validation split come with a forged twin each.
    """
    chosen = select_split(manifest, split, limit=settings.data.limit)
    options = {"windows": windows or settings.evaluate.windows, "twins": split == "val" and settings.forge.share > 0}
    return make_window_loader(chosen, settings, **options, progress=progress, rank=rank, world=world)


def make_dense_loader(
    manifest: pd.DataFrame, settings: Settings, *, split: str | None = None, progress: bool = True
) -> DataLoader:
    """Return windows every `evaluate.stride` seconds over each whole video, of a split or of all rows.

    However long a video is, no more of it is in memory than what a batch shows.
    """
    chosen = select_split(manifest, split, limit=settings.data.limit) if split else manifest
    return make_window_loader(chosen, settings, stride=settings.evaluate.stride, progress=progress)


def make_window_loader(
    manifest: pd.DataFrame,
    settings: Settings,
    *,
    windows: int = 1,
    stride: float | None = None,
    twins: bool = False,
    degrade: Callable[..., Scene] | None = None,
    late: float = 0.0,
    tracks: Tracks | None = None,
    progress: bool = True,
    rank: int = 0,
    world: int = 1,
) -> DataLoader:
    """Return evenly spaced windows of all rows, or dense ones, degraded as asked: this process's share of them."""
    options = {"windows": windows, "stride": stride, "twins": twins, "degrade": degrade, "late": late, "tracks": tracks}
    dataset = MultimodalDataset(manifest, settings, **options, progress=progress and rank == 0)
    batch_size = settings.evaluate.batch_size * world
    order = BatchOrder(len(dataset), windows=1, batch_size=batch_size, rank=rank, world=world)
    return _make_loader(dataset, order)


class _Loader(DataLoader):
    """A loader whose workers do not import the script that starts them, where they are not forked from it."""

    def __iter__(self) -> Iterator[Any]:
        with nullcontext() if multiprocessing.get_start_method() == "fork" else hide_main():
            return super().__iter__()


def _make_loader(dataset: MultimodalDataset, order: BatchOrder) -> DataLoader:
    workers = min(dataset.settings.data.workers, len(order))
    return _Loader(
        dataset,
        batch_sampler=order,
        num_workers=workers,
        collate_fn=collate_windows,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),  # a GPU copies from such memory while the processor goes on
        worker_init_fn=_start_worker,
    )


def _start_worker(worker: int) -> None:
    torch.set_num_threads(1)
    return_memory()  # of frames that come and go it would keep the holes
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # whoever stops the training ends its workers after the last step


def collate_windows(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack samples into a batch: tensors `[B, …]`, numbers as tensors `[B]`, texts as lists."""
    return default_collate(list(samples))
