"""timm models by name: made for a size, filled with weights, their first stages frozen."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import nn

from dfmm.model.pretrained import BackboneError, fetch_backbone, fill_backbone, read_weights, shorten
from dfmm.model.zoo import group_parameters, timm, to_2tuple

STRIDES = (14, 16, 32)  # of patches and of the last stage of most models: sizes that work are their multiples
# Convolutions without padding that step by two, as the stems of Inception, Xception and PoolFormer are published, leave
# out one row at every other size. Where more goes unread, what cuts the picture up does not fit its size.
MOST_UNREAD = 1


def make_backbone(name: str, pretrained: bool | str, *, size: int) -> nn.Module:
    """Return a timm model for pictures `[N, 3, size, size]` → features `[N, C]`.

    Args:
        name: timm's, with a tag for weights of another training (`resnet18.tv_in1k`) and so another mean and std.
        pretrained: False for random weights; True for timm's own, from its hub; a local file of the model's weights
            (`.safetensors`, or `.pth` read without running code); or `package`, see `read_package`.
        size: height and width in pixels; a model made for one size is made for this one.

    Raises:
        BackboneError: timm knows no such model, it does not work at this size, or its weights cannot be had.
    """
    check_name("model.backbone", name)
    options = {"num_classes": 0, **fix_size(name, size)}
    try:
        backbone = timm.create_model(name, **options)
        check_patches(backbone, size)
        measure_width(backbone, size)
    except Exception as error:  # each model refuses sizes in its own way
        raise BackboneError(
            f"model.backbone {name} does not work at video.size={size}: {shorten(error)}; {suggest_sizes(name, size)}"
        ) from error
    try:
        return fill_pretrained(backbone, name, pretrained, **options)
    except BackboneError as error:
        own = timm.get_pretrained_cfg(name).input_size[-1]
        unreachable = pretrained is True and not isinstance(error.__cause__, RuntimeError)  # a hub, not a shape
        if own == size or unreachable or not _fits_at(name, pretrained, own):
            raise
        raise BackboneError(
            f"model.backbone {name} has a weight for each place of a picture, and these are for one size only: "
            f"set video.size={own} ({size} is set), or model.pretrained=false"
        ) from error


def fill_pretrained(backbone: nn.Module, name: str, pretrained: bool | str, **options: Any) -> nn.Module:
    """Return a backbone with the weights that `make_backbone` is asked for."""
    if pretrained is True:
        return fetch_backbone(name, **options)
    if pretrained:
        origin = "the package" if pretrained == "package" else pretrained
        fill_backbone(backbone, read_weights(pretrained, name), name=name, origin=origin)
    return backbone


def _fits_at(name: str, pretrained: bool | str, size: int) -> bool:
    """Could these weights be loaded into a model that is made for another size?"""
    options = {"num_classes": 0, **fix_size(name, size)}
    try:
        fill_pretrained(timm.create_model(name, **options), name, pretrained, **options)
    except Exception:  # as in `make_backbone`
        return False
    return True


def check_name(setting: str, name: str, *others: str) -> None:
    """Raise a `BackboneError` with the nearest names unless timm has a model, with that tag if any, of this name."""
    tagged = "." in name
    if timm.is_model(name) and (not tagged or name in timm.list_pretrained()):
        return
    known = [*others, *(timm.list_pretrained() if tagged else timm.list_models())]
    near = ", ".join(difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5))
    raise BackboneError(f"{setting} {name!r}: timm has no such model" + (f"; near are {near}" if near else ""))


def fix_size(name: str, size: int | tuple[int, int]) -> dict[str, Any]:
    """Return what timm needs to make a model for a size: transformers with a place for each patch must know it."""
    return {"img_size": size} if timm.get_pretrained_cfg(name).fixed_input_size else {}


def check_patches(backbone: nn.Module, size: int) -> None:
    """Raise a ValueError where patches do not fill the picture: its right and lower edges would go unseen."""
    side = find_patch(backbone)
    if size % side:
        raise ValueError(f"it reads patches of {side} pixels")


def find_patch(backbone: nn.Module) -> int:
    """Return the side of the patches that a backbone cuts a picture into, 1 where it does not.

    Families name it in their own ways, or not at all; but what cuts is a convolution whose steps are as long as it is.
    """
    named = getattr(getattr(backbone, "patch_embed", None), "patch_size", None)
    if named is not None:
        return max(to_2tuple(named))
    first = next((m for m in backbone.modules() if isinstance(m, nn.Conv2d) and m.in_channels == 3), None)
    cuts = first is not None and first.kernel_size == first.stride and first.padding in (0, (0, 0), "valid")
    return first.kernel_size[0] if cuts else 1


@torch.no_grad()
def measure_width(backbone: nn.Module, size: int) -> int:
    """Return C, how many features a picture has: timm's num_features is not what every model's head returns."""
    picture = torch.zeros(1, 3, size, size, device=next(backbone.parameters()).device)
    with evaluation_mode(backbone):
        features = backbone(picture)
    if features.ndim != 2:
        raise ValueError(f"it returns {list(features.shape)} for a picture, not features [1, C]")
    return features.shape[1]


def check_reading(backbone: nn.Module, name: str, size: int) -> None:
    """Raise a `BackboneError` where more of a picture's rows or columns change nothing than `MOST_UNREAD`."""
    unread = count_unread(backbone, size)
    if unread > MOST_UNREAD:
        raise BackboneError(
            f"model.backbone {name} leaves {unread} rows of a picture unread at video.size={size}; "
            f"{suggest_sizes(name, size)}"
        )


@torch.enable_grad()
def count_unread(backbone: nn.Module, size: int) -> int:
    """Return of how many rows, or columns if these are more, of a picture the features do not depend: by gradients."""
    rng = torch.Generator().manual_seed(0)  # of its own: what is drawn later stays the same
    picture = torch.randn(1, 3, size, size, generator=rng).to(next(backbone.parameters()).device).requires_grad_()
    # What begins as zero, such as the last scale of a residual branch, would hide what that branch reads.
    values = {name: value if value.any() else torch.ones_like(value) for name, value in backbone.named_parameters()}
    with evaluation_mode(backbone):
        features = torch.func.functional_call(backbone, values, picture)
    signs = torch.randn(features.shape, generator=rng).to(features.device)
    (slopes,) = torch.autograd.grad(features, picture, signs)
    read = slopes[0].ne(0).any(dim=0)
    if not read.any():  # numbers too small or too large to tell
        return 0
    return size - int(min(read.any(dim=0).sum(), read.any(dim=1).sum()))


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Have a module in evaluation mode for a while, and give each part its own mode back."""
    learning = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in learning:
            part.training = True


def suggest_sizes(name: str, size: int) -> str:
    """Say at which sizes near this one a model works, and which is its own."""
    own = timm.get_pretrained_cfg(name).input_size[-1]
    near = sorted({stride * n for stride in STRIDES for n in range(1, 1024 // stride)}, key=lambda at: abs(at - size))
    works = sorted(islice((at for at in near[:10] if at != size and _works_at(name, at)), 3))
    said = f"its own size is {own}"
    return f"it works at {', '.join(map(str, works))}, and {said}" if works else said


def _works_at(name: str, size: int) -> bool:
    try:
        options = {"num_classes": 0, **fix_size(name, size)}
        with torch.device("meta"):  # shapes alone: nothing is computed
            backbone = timm.create_model(name, **options)
        check_patches(backbone, size)
        measure_width(backbone, size)
        return count_unread(timm.create_model(name, **options), size) <= MOST_UNREAD
    except Exception:  # as in `make_backbone`
        return False


def freeze_stages(backbone: nn.Module, share: float) -> list[nn.Module]:
    """Let the first stages of a timm model learn no more, and return the modules that are to stay in evaluation mode.

    Stages are timm's groups (the stem, then each stage of a CNN or block of a transformer; a last norm or
    convolution goes with the last).

    Args:
        share: of the stages; 0 is none, 1 all, and anything between them at least one and not all.
    """
    if not share:
        return []
    stages = _group_stages(backbone) if share < 1 else [dict(backbone.named_parameters())]
    count = 1 if share == 1 else min(max(round(share * len(stages)), 1), len(stages) - 1)
    frozen = {name for stage in stages[:count] for name in stage}
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return [module for module in backbone.modules() if _is_frozen(module)]


def _group_stages(backbone: nn.Module) -> list[list[str]]:
    try:
        groups = group_parameters(backbone, backbone.group_matcher(coarse=True))
    except Exception as error:  # not all of timm's families name their stages, and some name them in part
        raise BackboneError(_explain_stages(backbone, f"timm does not name its stages ({shorten(error)})")) from error
    if len(groups) < 2:
        raise BackboneError(_explain_stages(backbone, "it is of a single stage"))
    return [groups[number] for number in sorted(groups)]


def _explain_stages(backbone: nn.Module, why: str) -> str:
    return f"model.frozen: {type(backbone).__name__} cannot be frozen in part, {why}; freeze all (1) or none (0)"


def _is_frozen(module: nn.Module) -> bool:
    learns = [parameter.requires_grad for parameter in module.parameters()]
    return bool(learns) and not any(learns)
