"""What does a GPU make of training and scoring? Steps beside a bare loop, windows a second, memory, and the scores.

    python benchmarks/gpu.py

- **a step**: the `Trainer`'s, and that of a bare PyTorch loop of the same model and precision, batches in memory; with
  the backbone compiled, and with its maps laid out the usual way instead of channels last.
- **from the cache**: windows a second that the loader reads, and that the training takes in.
- **scores**: of one model on the GPU against those on the processor.

Draws its data into a temporary folder. Some five minutes on a large GPU, most of them compiling. Without one it says so
and does a tiny version on the processor, whose figures say nothing but that all of it runs.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from train import BareLoop, make_batch

from dfmm.dataset import load_manifest, make_evaluation_loader
from dfmm.evaluation.score import score_windows
from dfmm.model import find_device
from dfmm.runs import Run
from dfmm.settings import Settings, load_settings, validate_settings
from dfmm.training.machine import compile_backbone
from dfmm.training.trainer import Trainer

MODELS = {
    "the sample's": {"model.pretrained": False, "train.batch_size": 64},
    "EfficientNet-B0, 16 frames of 224²": {
        "model.backbone": "efficientnet_b0",
        "model.pretrained": False,
        "video.frames": 16,
        "video.fps": 25,
        "video.size": 224,
        "train.batch_size": 16,
    },
}
TINY = {"model.backbone": "test_resnet", "model.pretrained": False, "video.size": 48, "train.batch_size": 4}
WAYS = (("no", False), ("bf16", False), ("bf16", True))  # precision, and is the backbone compiled?


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    logging.getLogger("dfmm").setLevel("WARNING")
    device = find_device()
    large = device.type == "cuda"
    print(torch.cuda.get_device_name() if large else "There is no GPU here: a tiny version on the processor follows.")
    rounds, steps = (5, 10) if large else (1, 2)
    with tempfile.TemporaryDirectory() as folder:
        models = MODELS if large else {"a tiny one": TINY}
        print("\n| model | precision | bare loop, ms | Trainer, ms | of the bare loop | peak, MiB |\n|" + " --- |" * 6)
        for (name, changes), (precision, compiled) in itertools.product(models.items(), WAYS[: None if large else 2]):
            settings = make_settings(Path(folder), {**changes, "train.mixed_precision": precision}, large)
            compare_loops(name, settings, Path(folder), rounds, steps, compiled=compiled)
        for name, changes in models.items():
            settings = make_settings(Path(folder), changes, large)
            compare_layouts(name, settings, rounds, steps)
            measure_reading(name, settings, Path(folder))
            compare_scores(name, settings, Path(folder))


def make_settings(folder: Path, changes: dict[str, Any], large: bool) -> Settings:
    """Return the sample's settings on data drawn into a folder, read from the cache, some changed by dotted name."""
    values = load_settings("params/sample.yaml").model_dump()
    workers = (os.cpu_count() or 1) - 1 if large else 0
    values["data"] |= {"root": str(folder / "sample"), "cache": str(folder / "cache"), "workers": workers}
    values["data"] |= {"sample_videos": 160 if large else 12}
    for name, value in changes.items():
        section, key = name.split(".")
        values[section][key] = value
    return validate_settings(values)


def open_trainer(settings: Settings, folder: Path) -> Trainer:
    """Return a trainer that is ready for its first step."""
    trainer = Trainer(settings, load_manifest(settings), Run(tempfile.mkdtemp(dir=folder)), progress=False)
    trainer._make_model(None)
    trainer._prepare(None)
    return trainer


class DeviceLoop(BareLoop):
    """A bare loop on a device, in a precision."""

    def __init__(self, settings: Settings, batch: dict[str, Any], *, compiled: bool):
        super().__init__(settings, [batch], device=find_device())
        self.precision = settings.train.mixed_precision
        if compiled:
            compile_backbone(self.model, settings.video.size)

    def cast(self) -> AbstractContextManager[Any]:
        return torch.autocast(find_device().type, torch.bfloat16) if self.precision == "bf16" else nullcontext()


def compare_loops(name: str, settings: Settings, folder: Path, rounds: int, steps: int, *, compiled: bool) -> None:
    """Print how long a step takes in the bare loop and in the trainer, in turns, and the trainer's peak memory."""
    batch = make_batch(settings) | {"video_id": ["a clip"] * settings.train.batch_size}
    chosen = settings.train.model_copy(update={"compile": compiled})
    bare = DeviceLoop(settings, batch, compiled=compiled)
    trainer = open_trainer(settings.model_copy(update={"train": chosen}), folder)

    def take_step() -> None:
        trainer._note_step(trainer._take_step(batch), batch["video_id"])
        trainer.state.step += 1

    seconds = time_in_turns([bare, take_step], rounds, steps)
    peak = measure_peak(take_step)
    said = f"{settings.train.mixed_precision}{', compiled' if compiled else ''}".replace("no", "fp32")
    cells = [name, said, *(f"{1e3 * each:.1f}" for each in seconds), f"{seconds[1] / seconds[0]:.2f}", peak]
    print(f"| {' | '.join(cells)} |", flush=True)


def time_in_turns(ways: Iterable[Callable[[], None]], rounds: int, steps: int) -> list[float]:
    """Return the median seconds of a step of each way, after a first round that warms up."""
    taken: list[list[float]] = []
    for _ in range(rounds + 1):
        taken.append([])
        for way in ways:
            began = wait()
            for _ in range(steps):
                way()
            taken[-1].append((wait() - began) / steps)
    return [median(times) for times in zip(*taken[1:], strict=True)]


def wait() -> float:
    """Wait for the GPU, and return the time."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def measure_peak(step: Callable[[], None]) -> str:
    """Return the most memory of the GPU that a step takes, in MiB."""
    if not torch.cuda.is_available():
        return "–"
    torch.cuda.reset_peak_memory_stats()
    step()
    return f"{torch.cuda.max_memory_allocated() / 2**20:.0f}"


def compare_layouts(name: str, settings: Settings, rounds: int, steps: int) -> None:
    """Print what channels last is worth: a step of the bare loop with the backbone's maps laid out either way."""
    loops = [DeviceLoop(settings, make_batch(settings), compiled=False) for _ in range(2)]
    backbone = loops[1].model.frame_encoder.backbone.to(memory_format=torch.contiguous_format)
    backbone.register_forward_pre_hook(lambda _, pictures: (pictures[0].contiguous(),))
    last, usual = time_in_turns(loops, rounds, steps)
    print(f"\n{name}: {1e3 * last:.1f} ms a step with channels last, {1e3 * usual:.1f} ms without")


def measure_reading(name: str, settings: Settings, folder: Path) -> None:
    """Print how many windows a second the loader reads from the cache, and the training takes in, in an epoch."""
    trainer = open_trainer(settings, folder)
    rates = []
    count = sum(len(batch["video_id"]) for batch in trainer.train_loader)  # fills the cache and starts the workers
    for take in (lambda batches: deque(batches, maxlen=0), trainer._take_steps):
        began = wait()
        take(iter(trainer.train_loader))
        rates.append(count / (wait() - began))
    readers = f"{settings.data.workers} workers"
    print(f"{name}: {rates[0]:.0f} windows a second read from the cache by {readers}, {rates[1]:.0f} learnt from")


def compare_scores(name: str, settings: Settings, folder: Path) -> None:
    """Print how far the scores of a model on the GPU are from those on the processor."""
    trainer = open_trainer(settings, folder)
    model, found = trainer.raw_model, []
    for device in (find_device(), torch.device("cpu")):
        loader = make_evaluation_loader(trainer.manifest, "train", settings, progress=False)
        found.append(score_windows(model.to(device), loader, progress=False))
    here, there = (table["score"].to_numpy() for table in found)
    aucs = [roc_auc_score(table["label"] == 1, table["score"]) for table in found]
    worst = np.abs(here - there).max()
    print(f"{name}: {len(here)} scores differ by {worst:.1e} at most, AUC {aucs[0]:.4f} and {aucs[1]:.4f}")


if __name__ == "__main__":
    main()
