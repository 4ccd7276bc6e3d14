"""A run's model for others: as ONNX, proven to score as ours does, and its model card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dfmm.dataset import make_window_loader, open_manifest
from dfmm.evaluation.card import write_card
from dfmm.evaluation.evaluate import load_run
from dfmm.evaluation.kept import read_evaluation
from dfmm.files import write_json, write_whole
from dfmm.manifest import select_split
from dfmm.model.export import INPUTS, OPSET, ExportError, export_onnx, list_outputs, open_onnx, score_onnx
from dfmm.runs import Run, RunError

CLIPS = 20  # that both must score alike
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
        files.append(export_onnx(model, next(iter(loader)), folder / "detector.onnx"))
        tried = check_export(model, files[0], loader)
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

    Raises:
        ExportError: it does not; the file is removed.
    """
    try:
        return _measure_difference(model, open_onnx(file), loader)
    except ExportError:
        file.unlink()
        raise


def _measure_difference(model: nn.Module, session: Any, loader: Any) -> dict[str, Any]:
    worst, clips = 0.0, 0
    for batch in loader:
        outputs, found = model(batch), score_onnx(session, batch)
        ours = {name: outputs[name].sigmoid() for name in found if name != "score"}
        ours["score"] = outputs["logits"].softmax(dim=1)[:, 1]
        worst = max(worst, *(float(np.abs(found[name] - ours[name].numpy()).max()) for name in found))
        clips += len(batch["video_id"])
    if not worst <= TOLERANCE:  # a NaN is no agreement
        raise ExportError(
            f"the export scores otherwise: by up to {worst:.1e} on {clips} windows, {TOLERANCE:g} is allowed"
        )
    return {"clips": clips, "difference": worst}


def _describe_export(known: dict[str, Any]) -> list[str]:
    return [
        f"`detector.onnx`: opset {known['opset']}, any number of windows; inputs {', '.join(known['inputs'])}, outputs "
        f"{', '.join(known['outputs'])}: the network's probabilities of each window, which are not yet a video's score",
        f"scores as PyTorch does on {known['clips']} windows: the largest difference is {known['difference']:.1e}",
        "`detector.json`: how windows are made; frames uint8 [B, T, 3, H, W], log-mel [B, 1, mels, F], masks [B, T]",
    ]
