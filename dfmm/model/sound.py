"""Log-mel spectrogram → a feature for each time step of the picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SoundEncoder(nn.Module):
    """A CNN that keeps time: log-mel `[B, 1, n_mels, F]` → `[B, T, D]`, step t hearing what frame t shows."""

    def __init__(self, dim: int):
        super().__init__()
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
        self.layers = nn.Sequential(*layers)
        self.project = nn.Sequential(nn.Linear(2 * dim, dim), nn.LayerNorm(dim))

    def forward(self, log_mel: Tensor, steps: int) -> Tensor:
        maps = self.layers(log_mel)
        # Mean and maximum over the bands: a constant hiss and a single odd partial both come through.
        heard = torch.cat([maps.mean(dim=2), maps.amax(dim=2)], dim=1)
        return self.project(nn.functional.adaptive_avg_pool1d(heard, steps).transpose(1, 2))
