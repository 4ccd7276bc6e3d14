"""A run's model for others: as ONNX, proven to score as ours does, and its model card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dfmm.dataset import make_window_loader, open_manifest
from dfmm.evaluation.card import write_card
from dfmm.evaluation.evaluate import load_run
from dfmm.evaluation.kept import read_evaluation
from dfmm.files import write_beside, write_json, write_whole
from dfmm.manifest import select_split
from dfmm.model.export import (
    INPUTS,
    OPSET,
    ExportError,
    export_onnx,
    list_outputs,
    open_onnx,
    score_onnx,
    take_windows,
)
from dfmm.runs import Run, RunError

CLIPS = 20  # that both must score alike
COUNTS = (1, 3)  # of windows at once, beside as many as a batch has
TOLERANCE = 1e-5
TOLD = {
    "video",
    "audio",
    "cure",
    "model",
}  # settings that make windows and the model of them; no folder of ours is told


def export_run(run: Run, to: str, folder: Path, *, license: str | None = None, split: str = "test") -> list[Path]:
    """Write a run's model and its card into a folder, and return the files.

    Args:
        to: `onnx`, or `card` for the card alone.
        license: as of `write_card`.
        split: whose evaluation the card tells, and whose clips the export is tried on.

    Raises:
        RunError: the run has no model, or no evaluation of it on that split.
        ExportError: it cannot be exported, or the export scores otherwise.
    """
    run.refuse_imported()
    if not run.checkpoint.is_file():
        raise RunError(f"{run.name} has no checkpoint: there is no model to export")
    evaluation = read_evaluation(run, split)
    if evaluation is None:
        raise RunError(
            f"{run.name} has no evaluation of its present model on {split}: run dfmm evaluate {run.name} first"
        )
    model, settings, facts = load_run(run)
    report, files = evaluation[0], []
    if to == "onnx":
        table = select_split(open_manifest(run, settings), split, limit=CLIPS)
        loader = make_window_loader(table, settings, windows=1, progress=False)
        files.append(folder / "detector.onnx")
        with write_beside(files[0]) as partial:
            tried = check_export(model, export_onnx(model, next(iter(loader)), partial), loader)
        known = {"opset": OPSET, "inputs": list(INPUTS), "outputs": list_outputs(model), **tried}
        chosen = settings.model_dump(include=TOLD, exclude={"model": {"pretrained"}})
        known |= {"settings": chosen, "threshold": report.threshold.model_dump(), "prior": report.prior}
        files.append(write_json(known, folder / "detector.json"))
        facts = {**facts, "exported": _describe_export(known)}
    card = write_card(report, settings, facts, license=license)
    return [*files, write_whole(card, folder / "README.md")]


@torch.no_grad()
def check_export(model: nn.Module, file: Path, loader: Any) -> dict[str, Any]:
    """Return on how many `clips` an exported model scores as ours does, and the largest `difference`.

    Args:
        loader: of windows. The first are tried by other numbers, too (`COUNTS`): two were traced, and an exporter that
            took that for given is found out.

    Raises:
        ExportError: it does not, or either of them finds what is no number.
    """
    session, differences, clips = open_onnx(file), [], 0
    for batch in loader:
        sizes = [len(batch["frame_mask"])] + list(COUNTS) * (clips == 0)
        differences += [_measure_difference(model, session, take_windows(batch, count)) for count in sizes]
        clips += len(batch["frame_mask"])
    worst = float(np.max(differences))  # NaN where any is
    if not worst <= TOLERANCE:
        raise ExportError(
            f"the export scores otherwise: by up to {worst:.1e} on {clips} windows; {TOLERANCE:g} is allowed, NaN never"
        )
    return {"clips": clips, "difference": worst}


def _measure_difference(model: nn.Module, session: Any, batch: dict[str, Tensor]) -> float:
    outputs, found = model(batch), score_onnx(session, batch)
    ours = {name: outputs[name].sigmoid() for name in found if name != "score"}
    ours["score"] = outputs["logits"].softmax(dim=1)[:, 1]
    return float(np.max([np.abs(found[name] - ours[name].numpy()).max() for name in found]))


def _describe_export(known: dict[str, Any]) -> list[str]:
    return [
        f"`detector.onnx`: opset {known['opset']}, any number of windows; inputs {', '.join(known['inputs'])}, outputs "
        f"{', '.join(known['outputs'])}: the network's probabilities of each window, which are not yet a video's score",
        f"scores as PyTorch does on {known['clips']} windows: the largest difference is {known['difference']:.1e}",
        "`detector.json`: how windows are made; frames uint8 [B, T, 3, H, W], log-mel [B, 1, mels, F], masks [B, T]",
    ]
