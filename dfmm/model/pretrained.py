"""timm backbones: made by name, with weights from a hub, from a file, or none."""

from __future__ import annotations

import difflib
from pathlib import Path

import timm
from torch import nn

from dfmm.settings import resolve_path


class BackboneError(ValueError):
    """A backbone that cannot be made; the message says what would work."""


def make_backbone(name: str, pretrained: bool | str) -> nn.Module:
    """Return a timm model `[N, 3, H, W]` → features `[N, C]`.

    Args:
        pretrained: False for random weights; True for timm's own, from its hub; or a local file of the model's
            weights (`.safetensors`, or `.pth` read without running code).

    Raises:
        BackboneError: timm knows no such model, or its weights cannot be had.
    """
    if not timm.is_model(name):
        near = ", ".join(difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5))
        raise BackboneError(f"model.backbone {name!r}: timm has no such model" + (f"; near are {near}" if near else ""))
    if isinstance(pretrained, str):
        return _load_file(name, resolve_path(pretrained))
    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=0)
    except Exception as error:  # hubs fail in many ways: no network, no such weights, a proxy's page for an answer
        if not pretrained:
            raise
        raise BackboneError(
            f"model.pretrained=true: the weights of {name} could not be fetched from timm's hub "
            f"({type(error).__name__}: {error}); give a local file (model.pretrained=weights.safetensors) "
            "or train from scratch (model.pretrained=false)"
        ) from error


def _load_file(name: str, file: Path) -> nn.Module:
    if not file.is_file():
        raise BackboneError(f"model.pretrained: {file}: no such file")
    try:
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(file)}, num_classes=0)
    except Exception as error:  # of many types: wrong file format, keys or shapes of another model
        raise BackboneError(f"model.pretrained: {file} does not hold weights of {name}: {error}") from error
