"""Frames → a feature for each time step: a timm backbone, and a temporal encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfmm.model.pretrained import make_backbone


class FrameEncoder(nn.Module):
    """A timm backbone on every frame: uint8 `[B, T, 3, H, W]` → `[B, T, D]`."""

    def __init__(self, backbone: str, *, pretrained: bool | str, dim: int, size: int):
        super().__init__()
        # Channels last is the faster layout of convolutions, on CPUs as on GPUs.
        self.backbone = make_backbone(backbone, pretrained).to(memory_format=torch.channels_last)
        config = self.backbone.pretrained_cfg
        self.register_buffer("mean", torch.tensor(config["mean"]).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(config["std"]).view(3, 1, 1) * 255, persistent=False)
        self.project = nn.Sequential(nn.Linear(self._measure_width(size), dim), nn.LayerNorm(dim))

    def forward(self, frames: Tensor) -> Tensor:
        images = (frames.flatten(0, 1).float() - self.mean) / self.std
        features = self.backbone(images.contiguous(memory_format=torch.channels_last))
        return self.project(features).unflatten(0, frames.shape[:2])

    @torch.no_grad()
    def _measure_width(self, size: int) -> int:
        # timm's num_features is not what every model's head returns.
        training = self.backbone.training
        width = self.backbone.eval()(torch.zeros(1, 3, size, size)).shape[1]
        self.backbone.train(training)
        return width


class TemporalEncoder(nn.Module):
    """Reads a stream's time steps together: `[B, T, D]` and mask `[B, T]` → `[B, T, D]`.

    `avg_pool` leaves the steps as they are, to be averaged later; `tconv` is two residual convolutions over time;
    `transformer` two self-attention layers (Vaswani et al., 2017) with sinusoidal positions.
    """

    def __init__(self, kind: str, dim: int):
        super().__init__()
        self.kind = kind
        if kind == "tconv":
            self.layers = nn.ModuleList([_TimeConvolution(dim) for _ in range(2)])
        elif kind == "transformer":
            layer = nn.TransformerEncoderLayer(
                dim, nhead=4, dim_feedforward=2 * dim, dropout=0.1, batch_first=True, norm_first=True
            )
            self.layers = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)

    def forward(self, steps: Tensor, mask: Tensor) -> Tensor:
        if self.kind == "avg_pool":
            return steps
        if self.kind == "tconv":
            for layer in self.layers:
                steps = layer(steps, mask)
            return steps
        steps = steps + encode_positions(steps.shape[1], steps.shape[2]).to(steps)
        # A row without any step would make attention divide by zero: let it look at its padding, unused later.
        hidden = ~mask & mask.any(dim=1, keepdim=True)
        return self.layers(steps, src_key_padding_mask=hidden)


class _TimeConvolution(nn.Module):
    """A residual convolution over time that does not look at masked steps."""

    def __init__(self, dim: int):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.convolve = nn.Conv1d(dim, dim, kernel_size=5, padding=2)

    def forward(self, steps: Tensor, mask: Tensor) -> Tensor:
        hidden = self.norm(steps) * mask[..., None]
        return steps + nn.functional.gelu(self.convolve(hidden.transpose(1, 2))).transpose(1, 2)


def encode_positions(length: int, dim: int) -> Tensor:
    """Return sinusoidal positions `[T, D]` (Vaswani et al., 2017, section 3.5)."""
    positions = torch.arange(length)[:, None]
    rates = torch.exp(-torch.arange(0, dim, 2) / dim * torch.log(torch.tensor(10_000.0)))
    waves = torch.zeros(length, dim)
    waves[:, 0::2] = torch.sin(positions * rates)
    waves[:, 1::2] = torch.cos(positions * rates[: dim // 2])
    return waves


def average_steps(steps: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the unmasked steps: `[B, T, D]` → `[B, D]`; zero where there is none."""
    weights = mask.to(steps)[..., None]
    return (steps * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
