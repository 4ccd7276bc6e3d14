"""How fast is the training loop? Steps a second against a bare PyTorch loop, memory, and growth with what is asked.

    python benchmarks/train.py

Draws its data into a temporary folder. All figures of a table come from one run, taken in turns; compare ratios only.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.nn import functional
from torch.utils.data import default_collate

from dfmm.dataset import load_manifest
from dfmm.dataset.loaders import make_training_loader
from dfmm.memory import keep_memory
from dfmm.model import MultimodalModel, move_batch
from dfmm.runs import Run
from dfmm.settings import Settings, load_settings, validate_settings
from dfmm.training.optimizer import make_optimizer
from dfmm.training.trainer import Trainer

ROUNDS, STEPS = 7, 8  # rounds in which all ways are measured in turn, and steps of each in a round
VIDEOS = 160
# What the settings of the demo leave as it is where nobody names it.
DEFAULTS = {"data.workers": 0, "model.backbone": "mobilenetv3_small_050", "model.pretrained": False}
DEFAULTS |= {"train.backbone_lr": None, "video.frames": 16}
BARE = "bare PyTorch loop, batches in memory"
GROWTH = {"video.frames": (4, 8, 16), "video.size": (56, 112, 168), "train.batch_size": (4, 8, 16)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grow", metavar="JSON", help=argparse.SUPPRESS)  # one row of the second table, by itself
    parser.add_argument("--folder", type=Path, help="where the data is drawn (default: a temporary folder)")
    options = parser.parse_args()
    logging.getLogger("dfmm").setLevel("ERROR")
    if options.grow:
        print(json.dumps(measure_size(json.loads(options.grow))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        for workers in (0, 1):
            compare_ways(folder, {"data.workers": workers})
        compare_ways(folder, DEFAULTS)
        compare_sizes(folder)
        time_debug_run(folder)


def make_settings(folder: Path, **changes: Any) -> Settings:
    """Return the demo's settings on data drawn into a folder, some of them changed by dotted name."""
    values = load_settings("params/sample.yaml").model_dump()
    values["data"] |= {"root": str(folder / "sample"), "cache": str(folder / "cache"), "sample_videos": VIDEOS}
    values["train"] |= {"epochs": 1000}
    for name, value in changes.items():
        section, key = name.split(".")
        values[section][key] = value
    return validate_settings(values)


def compare_ways(folder: Path, changes: dict[str, Any]) -> None:
    """Print steps a second of the bare loop, and of ours from memory, from the cache and from the videos.

    A loader's worker has a core to itself: with one, the bare loop too has one thread less. `Trainer.fit` keeps the
    memory that a step frees; so does the second bare loop, to tell how much of the difference that is.
    """
    settings = make_settings(folder, **changes)
    batches = take_batches(folder, changes)
    bare = BareLoop(settings, batches)
    ways: dict[str, Callable[[], None]] = {
        BARE: bare,
        f"{BARE}, freed memory kept": bare,
        "Trainer, batches in memory": OurLoop(settings, folder, batches),
    }
    for read in ("cache", "videos"):
        chosen = make_settings(folder, **{**changes, "data.read": read})
        ways[f"Trainer, read from {read}, {chosen.data.workers} worker"] = OurLoop(chosen, folder)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for take_round in range(ROUNDS + 1):
        for name, run in ways.items():
            with nullcontext() if name == BARE else keep_memory():
                run()
                began = time.perf_counter()
                for _ in range(STEPS):
                    run()
            if take_round:  # the first one warms up
                seconds[name].append((time.perf_counter() - began) / STEPS)
    threads = torch.get_num_threads()
    print(f"\n{settings.train.batch_size} windows a step, {threads} thread(s), median of {ROUNDS} rounds\n")
    print("| loop | steps a second | of the bare loop |\n| --- | --- | --- |")
    for name, times in seconds.items():
        ratio = median(one / other for one, other in zip(seconds[BARE], times, strict=True))
        print(f"| {name} | {1 / median(times):.2f} | {ratio:.2f} |")


def take_batches(folder: Path, changes: dict[str, Any]) -> list[dict[str, Any]]:
    """Return some batches of the training split."""
    chosen = make_settings(folder, **{**changes, "data.read": "cache", "data.workers": 0})
    loader = make_training_loader(load_manifest(chosen), chosen, progress=False)
    return [batch for batch, _ in zip(loader, range(STEPS), strict=False)]


def repeat(batches: Any) -> Iterator[dict[str, Any]]:
    while True:
        yield from batches


class BareLoop:
    """What a script would do: the same model, optimizer, loss terms and clipping, and nothing else."""

    def __init__(self, settings: Settings, batches: list[dict[str, Any]], *, device: str | torch.device = "cpu"):
        torch.manual_seed(settings.seed)
        self.model, self.clip = MultimodalModel(settings).to(device).train(), settings.train.clip
        self.batches = repeat([move_batch(batch, device) for batch in batches])
        self.optimizer = make_optimizer(self.model, settings.train)

    def cast(self) -> AbstractContextManager[Any]:
        """Return the precision of the forward pass."""
        return nullcontext()

    def __call__(self) -> None:
        batch = next(self.batches)
        with self.cast():
            outputs = self.model(batch)
        loss = functional.cross_entropy(outputs["logits"], batch["label"], ignore_index=-1)
        for name in ("video_fake", "audio_fake", "in_sync"):
            known = batch[name] >= 0
            loss = loss + functional.binary_cross_entropy_with_logits(outputs[name][known], batch[name][known].float())
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        loss.item()


class OurLoop:
    """A `Trainer`'s step, on given batches or on its own loader's."""

    def __init__(self, settings: Settings, folder: Path, batches: list[dict[str, Any]] | None = None):
        run = Run(tempfile.mkdtemp(dir=folder))
        self.trainer = Trainer(settings, load_manifest(settings), run, progress=False)
        self.trainer._make_model(None)
        self.trainer._prepare(None)
        self.batches = repeat(batches or self.trainer.train_loader)

    def __call__(self) -> None:
        batch = next(self.batches)
        self.trainer._note_step(self.trainer._take_step(batch), batch["video_id"])
        self.trainer.state.step += 1


def compare_sizes(folder: Path) -> None:
    """Print how time and memory grow with frames, size and batch; a process of its own for each row."""
    print("\n| changed | ms a step | of the first | peak memory, MiB |\n| --- | --- | --- | --- |")
    base = None
    for changes in [{}, *({name: value} for name, values in GROWTH.items() for value in values)]:
        command = [sys.executable, __file__, "--grow", json.dumps(changes), "--folder", str(folder)]
        row = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
        base = base or row["ms"]
        what = ", ".join(f"{name} {value}" for name, value in changes.items()) or "nothing"
        print(f"| {what} | {row['ms']:.0f} | {row['ms'] / base:.2f} | {row['mib']:.0f} |")


def measure_size(changes: dict[str, Any]) -> dict[str, float]:
    """Return the time of a step on one random batch, and the process's peak memory."""
    settings = make_settings(Path(sys.argv[sys.argv.index("--folder") + 1]), **changes)
    batch = make_batch(settings)
    loop, seconds = BareLoop(settings, [batch]), []
    for _ in range(STEPS):
        began = time.perf_counter()
        loop()
        seconds.append(time.perf_counter() - began)
    return {"ms": 1000 * median(seconds[2:]), "mib": read_peak()}


def read_peak() -> float:
    """Return this process's peak memory in MiB; `getrusage` would count that of the process that started it."""
    status = Path("/proc/self/status")
    if status.is_file():
        return int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def make_batch(settings: Settings) -> dict[str, Any]:
    """Return a batch of noise of the settings' shapes."""
    steps, side = settings.video.frames, settings.video.size
    frames = int(settings.window_seconds / (settings.audio.hop_ms / 1000))
    label = dict.fromkeys(("label", "video_fake", "audio_fake", "in_sync"), 1)
    sample = {
        "frames": torch.randint(0, 256, (steps, 3, side, side), dtype=torch.uint8),
        "frame_mask": torch.ones(steps, dtype=torch.bool),
        "log_mel": torch.randn(1, settings.audio.n_mels, frames),
        "sound_mask": torch.ones(steps, dtype=torch.bool),
        **label,
    }
    return default_collate([sample] * settings.train.batch_size)


def time_debug_run(folder: Path) -> None:
    """Print how long the smallest training takes, from its first line to its checkpoint, once all is imported."""
    values = load_settings("params/debug.yaml").model_dump()
    values["data"] |= {"root": str(folder / "sample"), "cache": str(folder / "cache"), "sample_videos": VIDEOS}
    settings = validate_settings(values)
    manifest = load_manifest(settings)
    began = time.perf_counter()
    Trainer(settings, manifest, Run(folder / "debug"), progress=False).fit()
    print(f"\nA debug run (params/debug.yaml, data drawn and faces found before): {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    main()
