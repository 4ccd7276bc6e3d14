"""Log-mel spectrogram → a feature for each time step of the picture."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from dfmm.model.backbone import check_name, evaluation_mode, fix_size
from dfmm.model.frames import encode_present
from dfmm.model.pretrained import BackboneError, shorten
from dfmm.model.zoo import timm


class SoundEncoder(nn.Module):
    """A network that keeps time, step t hearing what frame t shows.

    Log-mel `[B, 1, n_mels, F]` and mask `[B, T]` → `[B, T, D]`. A row without any sound is not listened to: its
    features are zero, and no batch statistic knows of it.

    Args:
        backbone: `cnn`, a small one of our own, or any timm model by name. Either is trained from scratch:
            `model.pretrained` is of the picture's backbone alone.
        n_mels, steps: mel bands and T, which a timm model is made for.

    Raises:
        BackboneError: timm has no such model, or it does not keep time.
    """

    def __init__(self, backbone: str, dim: int, *, n_mels: int, steps: int):
        super().__init__()
        if backbone == "cnn":
            self.layers, width = make_cnn(dim), dim
        else:
            self.layers = SpectrogramBackbone(backbone, n_mels=n_mels, steps=steps)
            width = self.layers.width
        self.project = nn.Sequential(nn.Linear(2 * width, dim), nn.LayerNorm(dim))

    def forward(self, log_mel: Tensor, mask: Tensor, heard: Tensor | None = None) -> Tensor:
        steps = mask.shape[1]
        return encode_present(
            self, lambda some: self._encode(some, steps), log_mel, mask.any(dim=1), heard, steps=steps
        )

    def _encode(self, log_mel: Tensor, steps: int) -> Tensor:
        maps = self.layers(log_mel)
        # Mean and maximum over the bands: a constant hiss and a single odd partial both come through.
        heard = torch.cat([maps.mean(dim=2), maps.amax(dim=2)], dim=1)
        return self.project(average_into(heard, steps).transpose(1, 2))


def average_into(columns: Tensor, steps: int) -> Tensor:
    """Return the mean of each time step's columns, `[B, C, F]` → `[B, C, T]`."""
    if not torch.onnx.is_in_onnx_export():
        return nn.functional.adaptive_avg_pool1d(columns, steps)
    count, steps = int(columns.shape[2]), int(steps)  # plain numbers, as no tracer follows them
    shares = np.zeros((count, steps), np.float32)
    for step in range(steps):  # ONNX pools evenly alone: the same as a product
        begin, end = step * count // steps, -(-(step + 1) * count // steps)
        shares[begin:end, step] = 1 / (end - begin)
    return columns @ torch.from_numpy(shares)


def make_cnn(dim: int) -> nn.Sequential:
    """Return a small CNN, `[B, 1, n_mels, F]` → `[B, D, n_mels / 16, F / 4]`."""
    # (channels, stride over mel bands, stride over time): time is only quartered, for the steps to align.
    shape = [(16, 2, 1), (32, 2, 2), (64, 2, 1), (dim, 2, 2)]
    layers, width = [], 1
    for channels, over_bands, over_time in shape:
        layers += [
            nn.Conv2d(width, channels, kernel_size=3, stride=(over_bands, over_time), padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.GELU(),
        ]
        width = channels
    return nn.Sequential(*layers)


class SpectrogramBackbone(nn.Module):
    """A timm model's last map of a log-mel: `[B, 1, n_mels, F]` → `[B, C, bands, T]`, a column a time step.

    A model that takes in `r` pixels for each column of its last map is shown the spectrogram stretched to `T · r`
    columns, and to as many rows as are a multiple of r, so that step t of the picture is column t.
    """

    def __init__(self, name: str, *, n_mels: int, steps: int):
        super().__init__()
        check_name("model.audio_backbone", name, "cnn")
        options = {"features_only": True, "out_indices": [-1], "in_chans": 1}
        try:
            self.backbone = timm.create_model(name, **options)
            reduction = self.backbone.feature_info.reduction()[-1]
            self.size = (-(-n_mels // reduction) * reduction, steps * reduction)
            if fixed := fix_size(name, self.size):
                self.backbone = timm.create_model(name, **options, **fixed)
            self.bands_last = getattr(self.backbone, "output_fmt", "NCHW") == "NHWC"
            self._check_columns(n_mels, steps)
        except Exception as error:  # each model refuses sizes in its own way
            raise BackboneError(
                f"model.audio_backbone {name} cannot read a spectrogram of {n_mels} bands for {steps} time steps: "
                f"{shorten(error)}; take `cnn`, or a plain CNN or ViT such as resnet18"
            ) from error

    def forward(self, log_mel: Tensor) -> Tensor:
        stretched = nn.functional.interpolate(log_mel, size=self.size, mode="bilinear", align_corners=False)
        maps = self.backbone(stretched)[-1]
        return maps.permute(0, 3, 1, 2) if self.bands_last else maps

    @torch.no_grad()
    def _check_columns(self, n_mels: int, steps: int) -> None:
        with evaluation_mode(self):
            maps = self(torch.zeros(1, 1, n_mels, steps))
        self.width = maps.shape[1]
        if maps.shape[3] != steps:
            raise ValueError(f"its last map has {maps.shape[3]} columns")
