"""Where a training goes on from: its whole state, written so that no kill can lose more than the newest one."""

from __future__ import annotations

import io
import logging
import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from dfmm.files import write_beside

NAME = "epoch-{epoch:04d}-step-{step:06d}.pt"

log = logging.getLogger("dfmm")


def save_checkpoint(state: dict[str, Any], folder: Path, *, keep: int) -> Path:
    """Write a training's state, named by its `epoch` and `step`, and remove all but the newest `keep`."""
    path = folder / NAME.format(**state)
    buffer = io.BytesIO()  # written by Python: a full disc is then an OSError, not one of PyTorch's own
    torch.save(state, buffer)
    with write_beside(path) as partial, partial.open("wb") as file:
        file.write(buffer.getbuffer())
        file.flush()
        os.fsync(file.fileno())
    for old in list_checkpoints(folder)[keep:]:
        old.unlink()
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """Return a folder's checkpoints, the newest first."""
    return sorted(folder.glob("epoch-*-step-*.pt"), reverse=True)


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Return the newest state that can be read, or None; a damaged one is told of, renamed and passed over."""
    for path in list_checkpoints(folder):
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
