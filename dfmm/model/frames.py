"""Frames → a feature for each time step: a timm backbone, and a temporal encoder."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dfmm.model.backbone import evaluation_mode, freeze_stages, make_backbone, measure_width

PIXELS_AT_ONCE = 32 * 112**2  # a processor encodes no more at once: what lies between layers stays in its caches


class FrameEncoder(nn.Module):
    """A timm backbone on every frame that is there: uint8 `[B, T, 3, H, W]` and mask `[B, T]` → `[B, T, D]`.

    Masked frames are not looked at: their features are zero, and no batch statistic knows of them.

    Args:
        frozen: share of the backbone's stages, from the input on, that do not learn; nor do their statistics.
    """

    def __init__(self, backbone: str, *, pretrained: bool | str, dim: int, size: int, frozen: float = 0.0):
        super().__init__()
        # Channels last is the faster layout of convolutions, on CPUs as on GPUs.
        self.backbone = make_backbone(backbone, pretrained, size=size).to(memory_format=torch.channels_last)
        self.frozen = freeze_stages(self.backbone, frozen)
        config = self.backbone.pretrained_cfg
        self.register_buffer("mean", torch.tensor(config["mean"]) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(config["std"]) * 255, persistent=False)
        self.project = nn.Sequential(nn.Linear(measure_width(self.backbone, size), dim), nn.LayerNorm(dim))
        self.train()

    def train(self, mode: bool = True) -> FrameEncoder:
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def forward(self, frames: Tensor, mask: Tensor, seen: Tensor | None = None) -> Tensor:
        found = encode_present(self, self._encode, frames.flatten(0, 1), mask.flatten(), seen)
        return found.unflatten(0, mask.shape)

    def _encode(self, frames: Tensor) -> Tensor:
        """Encode frames, in pieces where each is encoded by itself anyway and nothing is kept for a gradient."""
        together = self.training or torch.is_grad_enabled() or frames.is_cuda or torch.onnx.is_in_onnx_export()
        if together:
            return self._encode_piece(frames)
        pieces = frames.split(max(PIXELS_AT_ONCE // frames[0, 0].numel(), 1))
        return torch.cat([self._encode_piece(piece) for piece in pieces])

    def _encode_piece(self, frames: Tensor) -> Tensor:
        return self.project(self.backbone(normalise_frames(frames, self.mean, self.std)))


def normalise_frames(frames: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return `[N, 3, H, W]` less the mean, over the deviation, of each channel `[3]`, channels last, as float32.

    Row by row, where both are as long as a row: three values at a time would take a processor ten times as long.
    """
    width = frames.shape[-1]
    rows = (frames.permute(0, 2, 3, 1).flatten(2) - mean.repeat(width)).div_(std.repeat(width))
    return rows.unflatten(2, (width, 3)).permute(0, 3, 1, 2)


def encode_present(
    encoder: nn.Module,
    encode: Callable[[Tensor], Tensor],
    values: Tensor,
    present: Tensor,
    rows: Tensor | None = None,
    *,
    steps: int = 1,
) -> Tensor:
    """Encode the rows that are present and return zeros for the others: `[N, …]`, bool `[N]` → `[N, …]`.

    A batch statistic of a single step would be none, so the running ones stand in for it. Where no row is present, a
    blank one is encoded and dropped: all parameters then have a gradient, zero, as DistributedDataParallel expects.

    Args:
        encoder: the module whose method `encode` is.
        rows: the numbers of those that are present, where they are known: a GPU must be waited for to count them.
        steps: time steps in a row.
    """
    if torch.onnx.is_in_onnx_export():  # a graph has no branches: all rows are encoded, which costs time alone
        found = encode(values)
        return torch.where(present.view(-1, *[1] * (found.ndim - 1)), found, 0.0)
    rows = present.nonzero()[:, 0] if rows is None else rows
    chosen = values[rows]
    if len(chosen) * steps > 1:
        found = encode(chosen)
    else:
        with evaluation_mode(encoder):
            found = encode(chosen) if len(chosen) else encode(torch.zeros_like(values[:1]))[:0]
    return found.new_zeros(len(values), *found.shape[1:]).index_put((rows,), found)


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
        steps = steps + encode_positions(steps.shape[1], steps.shape[2]).to(steps, non_blocking=True)
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
