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
        ExportError: the extra `onnx` is not installed, or the model does what ONNX cannot say.
    """
    if missing := [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]:
        raise ExportError(f"{' and '.join(missing)} is not installed: pip install 'dfmm[onnx]'")
    outputs, scores = list_outputs(model), _Scores(model.cpu()).eval()  # the exporter gives back the mode it finds
    options = {
        "input_names": list(INPUTS),
        "output_names": outputs,
        "dynamic_axes": {name: {0: "windows"} for name in (*INPUTS, *outputs)},
        "opset_version": OPSET,
        "dynamo": False,  # the newer exporter needs onnxscript, and bakes the number of windows in where it branches
    }
    try:
        with write_beside(path) as partial, torch.no_grad(), _trace_plainly():
            torch.onnx.export(scores, tuple(batch[name][:2] for name in INPUTS), str(partial), **options)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ExportError(f"this model cannot be exported: {str(error).strip().splitlines()[0]}") from error
    return path


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
    """Return an onnxruntime session of an exported model, on the processor; dfmm has turned its telemetry off."""
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def score_onnx(session: Any, batch: Mapping[str, Tensor]) -> dict[str, NDArray[np.float32]]:
    """Return what an exported model says of windows, by output.

    Raises:
        ExportError: it takes no such number of windows: what was traced (a transformer over time, say) holds another.
    """
    names = [one.name for one in session.get_outputs()]
    wanted = {one.name for one in session.get_inputs()}  # a stream that the model does not use is no input
    try:
        answers = session.run(names, {name: batch[name].numpy() for name in INPUTS if name in wanted})
    except Exception as error:  # of a class that onnxruntime does not name in public
        count = len(batch["frame_mask"])
        raise ExportError(
            f"the export does not take {count} windows at once, for the exporter fixed another number; "
            "model.temporal=transformer is not exported, tconv and avg_pool are"
        ) from error
    return dict(zip(names, answers, strict=True))
