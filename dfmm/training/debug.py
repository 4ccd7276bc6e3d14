"""Is the pipeline sound? Whether a model can learn, where gradients flow, and what takes the time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from dfmm.dataset import MultimodalDataset, collate_windows
from dfmm.model import MultimodalModel, find_device, make_model, move_batch, withhold_streams
from dfmm.settings import Settings
from dfmm.training.losses import Loss
from dfmm.training.optimizer import make_optimizer

REPEATS = 5


def overfit_batch(
    batch: Mapping[str, Any], settings: Settings, *, target: float = 0.05, steps: int = 300
) -> list[float]:
    """Train a fresh model on one batch alone, without dropout, until its loss is below `target`.

    Returns:
        The loss of each step. One that does not reach the target within `steps` means that the model, the loss or
        the rate is wrong: so few windows can be learnt by heart.
    """
    torch.manual_seed(settings.seed)
    model = make_model(settings)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    optimizer, loss = make_optimizer(model, settings.train), Loss(settings, prior=0.5)
    losses: list[float] = []
    model.train()
    while len(losses) < steps and (not losses or losses[-1] >= target):
        value = loss(model(batch), batch)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.train.clip)
        optimizer.step()
        losses.append(value.item())
    return losses


def measure_gradients(model: MultimodalModel, batch: Mapping[str, Any], settings: Settings) -> pd.DataFrame:
    """Return, for each part of a model, its parameters, how many of them learn, and its gradient's norm on a batch.

    A part that learns and has no gradient is cut off from the loss.
    """
    model.zero_grad()
    Loss(settings, prior=0.5)(model(batch), batch).backward()
    rows = {}
    for name, part in model.named_children():
        parameters = list(part.parameters())
        if parameters:
            gradients = [parameter.grad.norm() for parameter in parameters if parameter.grad is not None]
            rows[name] = {
                "parameters": sum(parameter.numel() for parameter in parameters),
                "learning": sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
                "gradient norm": float(torch.stack(gradients).norm()) if gradients else 0.0,
            }
    return pd.DataFrame(rows).T.astype({"parameters": int, "learning": int})


def time_stages(
    manifest: pd.DataFrame,
    settings: Settings,
    *,
    reads: Sequence[str] = ("videos", "cache"),
    repeats: int = REPEATS,
) -> pd.Series:
    """Return the median time of each stage of a training step, in ms a batch: reading both ways, then the model's.

    Args:
        manifest: rows to read from; at least a batch of them is best.
        reads: ways to read, as `data.read` names them.
        repeats: of every stage, after one that warms up.
    """
    stages = {}
    for read in reads:
        data = settings.data.model_copy(update={"read": read})
        chosen = settings.model_copy(update={"data": data})
        dataset = MultimodalDataset(manifest, chosen, sampling="random", augment=True, progress=False)
        indices = [number % len(dataset) for number in range(settings.train.batch_size)]
        stages[f"read from {read}"] = _time(partial(_read_batch, dataset, indices), repeats)
    return pd.Series(stages | _time_model(_read_batch(dataset, indices), settings, repeats), name="ms a batch")


def _read_batch(dataset: MultimodalDataset, indices: list[int]) -> dict[str, Any]:
    return collate_windows(dataset.__getitems__(indices))


def _time_model(batch: Mapping[str, Any], settings: Settings, repeats: int) -> dict[str, float]:
    device = find_device()
    model, loss = make_model(settings, pretrained=False).to(device).train(), Loss(settings, prior=0.5)
    optimizer = make_optimizer(model, settings.train)
    values: dict[str, Tensor] = {}

    def forward() -> None:
        here = withhold_streams(move_batch(dict(batch), device), model.streams)
        values["loss"] = loss(model(here), here)

    def backward() -> None:
        optimizer.zero_grad()
        values["loss"].backward()

    def learn() -> None:  # a graph can be walked back once only, so both are timed and the first taken off
        forward()
        backward()

    ahead, both = _time(forward, repeats), _time(learn, repeats)
    return {"forward": ahead, "backward": max(both - ahead, 0.0), "update": _time(optimizer.step, repeats)}


def _time(work: Callable[[], Any], repeats: int) -> float:
    """Return the median time of some work in ms, of so many after a first one."""
    seconds = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return 1000 * median(seconds[1:])


def explain_speed(stages: pd.Series, settings: Settings) -> str:
    """Say which of `time_stages` limits the training, and what would help."""
    reading = stages[f"read from {settings.data.read}"] / max(settings.data.workers, 1)
    model = stages[["forward", "backward", "update"]].sum()
    beside = settings.data.workers > 0  # workers read while the model computes; without, one waits for the other
    shares = f"{reading:.0f} ms a batch for reading and {model:.0f} ms for the model"
    if reading > model:
        faster = stages["read from videos"] / stages["read from cache"]
        cure = (
            f"data.read=cache reads {faster:.0f} times as fast"
            if settings.data.read == "videos"
            else "raise data.workers"
        )
        return f"Reading limits the speed: {shares}; {cure}."
    if beside or reading < 0.1 * model:
        return f"The model limits the speed: {shares}; a smaller backbone, video.size or video.frames is faster."
    return f"The model takes most of the time, and waits for reading: {shares}; data.workers=1 reads meanwhile."
