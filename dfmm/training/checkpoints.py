"""Where a training goes on from: its whole state, written so that no kill can lose more than the newest one."""

from __future__ import annotations

import io
import logging
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dfmm.files import hash_file, write_beside
from dfmm.model import load_model
from dfmm.runs import Run
from dfmm.settings import Settings, diff_settings, resolve_path
from dfmm.training.machine import TrainingError

NAME = "epoch-{epoch:04d}-step-{step:06d}.pt"
BETWEEN = "-000000"  # ends the name, without its suffix, of one between two epochs

log = logging.getLogger("dfmm")


@dataclass
class State:
    """Where a training stands: with the weights, all that a checkpoint holds."""

    epoch: int = 1
    step: int = 0  # steps of this epoch that are done
    losses: list[float] = field(default_factory=list)  # of these steps
    best_epoch: int = 0  # 0 before the first
    finished: bool = False
    best: tuple[float, float] | None = None  # how good validation was in that epoch, larger is better
    seen: list[float] = field(default_factory=lambda: [0.0, 0.0])  # weight of all reals and fakes in the loss so far

    @classmethod
    def read(cls, checkpoint: Mapping[str, Any]) -> State:
        """Return the state that a checkpoint was made in."""
        values = {"seen": [0.0, 0.0], **checkpoint}  # which those of before did not count
        return cls(**{part.name: values[part.name] for part in fields(cls)})

    @property
    def prior(self) -> float:
        """The share of fakes that the loss saw, drawn and weighted: what the model's probabilities assume."""
        return self.seen[1] / sum(self.seen)

    def end_epoch(self) -> None:
        """Stand at the beginning of the next epoch."""
        self.epoch, self.step, self.losses = self.epoch + 1, 0, []


def save_checkpoint(checkpoint: dict[str, Any], folder: Path, *, keep: int) -> Path:
    """Write a checkpoint, named by its `epoch` and `step`, and remove all but the newest `keep`.

    The newest between two epochs stays as well: with other batches a training goes on from there only.
    """
    path = folder / NAME.format(**checkpoint)
    buffer = io.BytesIO()  # written by Python: a full disc is then an OSError, not one of PyTorch's own
    torch.save(checkpoint, buffer)
    with write_beside(path) as partial, partial.open("wb") as file:
        file.write(buffer.getbuffer())
        file.flush()
        os.fsync(file.fileno())
    kept = list_checkpoints(folder)
    between = [old for old in kept if old.stem.endswith(BETWEEN)]
    for old in {*kept[keep:]} - {*between[:1]}:
        old.unlink()
    return path


def drop_later_checkpoints(folder: Path, state: State) -> None:
    """Remove what lies after a state that a training goes on from: it would be taken for newer than what comes."""
    here = NAME.format(epoch=state.epoch, step=state.step)
    for path in list_checkpoints(folder):
        if path.name > here:
            path.unlink()


def list_checkpoints(folder: Path) -> list[Path]:
    """Return a folder's checkpoints, the newest first."""
    return sorted(folder.glob("epoch-*-step-*.pt"), reverse=True)


def load_checkpoint(folder: Path, *, between_epochs: bool = False) -> dict[str, Any] | None:
    """Return the newest checkpoint that can be read, or None; a damaged one is told of, renamed and passed over.

    Args:
        between_epochs: pass over those in the middle of an epoch, too.
    """
    for path in list_checkpoints(folder):
        if between_epochs and not path.stem.endswith(BETWEEN):
            continue
        try:
            return read_checkpoint(path)
        except Exception as error:  # a broken file fails in a dozen ways
            log.warning("%s is damaged (%s: %s): going on from before it", path.name, type(error).__name__, error)
            path.rename(path.with_suffix(".damaged"))
    return None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read one checkpoint without running anything in it.

    Raises:
        Exception: of many kinds, if one byte of it is wrong.
    """
    with zipfile.ZipFile(path) as archive:  # PyTorch itself does not look at the checksums
        wrong = archive.testzip()
    if wrong is not None:
        raise zipfile.BadZipFile(f"wrong checksum of {wrong}")
    return torch.load(path, map_location="cpu", weights_only=True)


def load_start(model: nn.Module, settings: Settings) -> dict[str, Any]:
    """Give a model the weights of `train.start_from`; return the file's name, hash and facts, to be written down.

    Raises:
        TrainingError: they are of a model of another shape.
        ModelFileError: no such file, or no model of ours.
    """
    path = resolve_path(settings.train.start_from)
    file = Run(path).checkpoint if path.is_dir() else path
    other, theirs, facts = load_model(file)
    try:
        model.load_state_dict(other.state_dict())
    except RuntimeError as error:
        shape = ("model.", "video.size", "video.frames", "audio.n_mels")
        changed = [line for line in diff_settings(theirs, settings) if line.startswith(shape)]
        raise TrainingError(
            f"train.start_from: {file} is a model of another shape (there → here):\n  " + "\n  ".join(changed)
        ) from error
    log.info("starting from the weights of %s", file)
    return {"file": str(file), "sha256": hash_file(file), "facts": facts}
