"""Others' packages without the seconds that PyTorch's compiler takes to be imported and nobody here needs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

COMPILER = "torch._dynamo.utils"


class _Later(ModuleType):
    """A module that is imported when it is first asked for anything."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


@contextmanager
def defer_compiler() -> Iterator[None]:
    """Let timm, torchvision and what needs them be imported without the compiler, which comes when it is first needed.

    As they are imported, `torchvision.ops.roi_align` takes a function from `torch._dynamo.utils` and timm decorates one
    with `torch.compiler.disable`: each brings all of `torch._dynamo`, and sympy with it, most of what `import timm`
    takes. What is decorated here is not compiled either: PyTorch decorates its own so, to be imported as quickly.
    """
    if COMPILER in sys.modules or not hasattr(torch, "_disable_dynamo"):
        yield
        return
    later = _Later(COMPILER)
    later.is_compile_supported = lambda device: later.__getattr__("is_compile_supported")(device)
    sys.modules[COMPILER] = later

    def disable(function: Any = None, recursive: bool = True, *, reason: str | None = None) -> Any:
        return torch._disable_dynamo(function, recursive)

    torch.compiler.disable, before = disable, torch.compiler.disable
    try:
        yield
    finally:
        torch.compiler.disable = before
        if sys.modules.get(COMPILER) is later:
            del sys.modules[COMPILER]
