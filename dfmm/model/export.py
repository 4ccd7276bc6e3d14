"""A model as ONNX, which scores windows without PyTorch; nothing in the file is code that dfmm wrote or runs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dfmm.files import write_beside
from dfmm.manifest import STREAM_LABELS
from dfmm.model.multimodal import PluginModel

OPSET = 17  # the newest that the exporter, which needs no compiler, knows all operators of
INPUTS = ("frames", "frame_mask", "log_mel", "sound_mask")
NAMES = ("score", *STREAM_LABELS)


class ExportError(RuntimeError):
    """A model that cannot be exported; the message says why, or what to install."""


class _Scores(nn.Module):
    """A model with plain tensors in and out: the probabilities of a window that it was taught, `[B]` each."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs = self.model(dict(zip(INPUTS, inputs, strict=True)))
        score = outputs["logits"].softmax(dim=1)[:, 1]
        return score, *(outputs[name].sigmoid() for name in list_outputs(self.model)[1:])


def list_outputs(model: nn.Module) -> list[str]:
    """Return what the exported model answers: `score`, and the streams that training taught."""
    return [name for name in NAMES if name == "score" or name in model.taught]


def export_onnx(model: nn.Module, batch: Mapping[str, Any], path: Path) -> Path:
    """Write a model as ONNX (`OPSET`): inputs `INPUTS` as `MultimodalDataset` makes them, any number of windows.

    Args:
        batch: some windows, for their shapes; all but the number of windows are fixed. Two of them are traced.

    Raises:
        ExportError: the extra `onnx` is not installed, the model does what ONNX cannot say, or it is code that is no
            module of PyTorch.
    """
    if missing := [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]:
        raise ExportError(f"{' and '.join(missing)} is not installed: pip install 'dfmm[onnx]'")
    if isinstance(model, PluginModel) and not isinstance(model.detector, nn.Module):
        raise ExportError(
            f"{model.path} returned {type(model.detector).__name__}, which is code alone: a detector that is a "
            "torch.nn.Module can be exported"
        )
    outputs, scores = list_outputs(model), _Scores(model.cpu()).eval()  # the exporter gives back the mode it finds
    options = {
        "input_names": list(INPUTS),
        "output_names": outputs,
        "dynamic_axes": {name: {0: "windows"} for name in (*INPUTS, *outputs)},
        "opset_version": OPSET,
        "dynamo": False,  # the newer exporter needs onnxscript, and bakes the number of windows in where it branches
    }
    with write_beside(path) as partial, torch.no_grad(), _trace_plainly():
        try:
            torch.onnx.export(scores, tuple(take_windows(batch, 2).values()), str(partial), **options)
        except Exception as error:  # of any class: a detector of others is run here, and may miss what is no input
            told = str(error).strip().splitlines() or [""]
            raise ExportError(f"this model cannot be exported: {type(error).__name__}: {told[0]}") from error
    return path


def take_windows(batch: Mapping[str, Any], count: int) -> dict[str, Tensor]:
    """Return what a model is exported with, `INPUTS`, of so many windows of a batch; of too few, some once more."""
    rows = torch.arange(count) % len(batch["frame_mask"])
    return {name: batch[name][rows] for name in INPUTS}


@contextmanager
def _trace_plainly() -> Iterator[None]:
    """Let attention be what ONNX knows, and keep the exporter's warnings, of tracing and of its age, to itself."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def open_onnx(path: Path) -> Any:
    """Return an onnxruntime session of an exported model, on the processor; dfmm has turned its telemetry off.

    Raises:
        ExportError: it is none that onnxruntime can run.
    """
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # of a class that onnxruntime does not name in public, as below
        raise ExportError(f"onnxruntime cannot run the export: {error}") from error


def score_onnx(session: Any, batch: Mapping[str, Tensor]) -> dict[str, NDArray[np.float32]]:
    """Return what an exported model says of windows, by output.

    Raises:
        ExportError: it takes no such number of windows: what was traced (a transformer over time, say) holds another.
    """
    names = [one.name for one in session.get_outputs()]
    wanted = {one.name for one in session.get_inputs()}  # a stream that the model does not use is no input
    try:
        answers = session.run(names, {name: batch[name].numpy() for name in INPUTS if name in wanted})
    except Exception as error:
        count = len(batch["frame_mask"])
        raise ExportError(
            f"the export does not take {count} window{'s' * (count > 1)} at once: the exporter fixed another number; "
            "model.temporal=transformer is not exported, tconv and avg_pool are"
        ) from error
    return dict(zip(names, answers, strict=True))
