"""A timm model that looks at one frame of each window: `model.detector=detectors.frames:build` trains it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dfmm.model.backbone import make_backbone, measure_width
from dfmm.settings import Settings


class SingleFrame(nn.Module):
    """Log-odds of a forgery, `[B]`, from the middle one of the frames that show the face."""

    def __init__(self, backbone: str, pretrained: bool | str, size: int):
        super().__init__()
        self.backbone = make_backbone(backbone, pretrained, size=size)
        self.head = nn.Linear(measure_width(self.backbone, size), 1)
        config = self.backbone.pretrained_cfg
        self.register_buffer("mean", 255 * torch.tensor(config["mean"]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(config["std"]).view(3, 1, 1), persistent=False)

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        frames, seen = batch["frames"], batch["frame_mask"]  # uint8 [B, T, 3, H, W] and bool [B, T]
        count = seen.long().cumsum(dim=1)  # ONNX adds no truth values up
        middle = (count >= (count[:, -1:] + 1) // 2).float().argmax(dim=1)
        rows = torch.arange(frames.shape[0], device=frames.device)  # `len` would be exported as one number
        odds = self.head(self.backbone((frames[rows, middle].float() - self.mean) / self.std))[:, 0]
        return odds.where(seen.any(dim=1), 0.0)  # without a face it has nothing to say


def build(settings: Settings) -> SingleFrame:
    return SingleFrame(settings.model.backbone, settings.model.pretrained, settings.video.size)
