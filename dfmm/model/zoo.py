"""timm, without the seconds that PyTorch's compiler takes to be imported and nobody here needs."""

from __future__ import annotations

from dfmm.compiler import defer_compiler

with defer_compiler():
    import timm
    import timm.models
    from timm.layers import to_2tuple
    from timm.models import group_parameters
    from timm.utils import ModelEmaV3

__all__ = ["ModelEmaV3", "group_parameters", "timm", "to_2tuple"]
