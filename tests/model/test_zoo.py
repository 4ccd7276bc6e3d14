"""timm and a detector are imported without PyTorch's compiler, which is there as soon as somebody asks for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

QUICK = """
import sys
from dfmm.faces.detect import load_detector
load_detector("mtcnn")
import dfmm.evaluation.score
heavy = [name for name in ("torch._dynamo", "sympy", "sklearn", "scipy.signal", "scipy.stats") if name in sys.modules]
assert not heavy, heavy
"""
STILL_THERE = """
import dfmm.model.zoo, sys, torch, torchvision
assert "torch._dynamo" not in sys.modules
doubled = torch.compile(lambda x: 2 * x, backend="eager")
assert doubled(torch.ones(2)).tolist() == [2, 2]
boxes = torch.tensor([[0, 0, 0, 4.0, 4.0]])
assert torchvision.ops.roi_align(torch.rand(1, 3, 8, 8), boxes, 2).shape == (1, 3, 2, 2)
from torch._dynamo.utils import counters, is_compile_supported
assert torchvision.ops.roi_align.__globals__["is_compile_supported"]("cpu") == is_compile_supported("cpu")
import timm
assert torch.compiler.disable.__module__ == "torch.compiler"
"""
BEFORE = """
import torch._dynamo
import dfmm.model.zoo
assert torch._dynamo.utils.counters is not None
"""


@pytest.mark.parametrize("code", [QUICK, STILL_THERE, BEFORE], ids=["quick", "still there", "imported before"])
def test_the_compiler_comes_when_it_is_asked_for(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
