"""How the two streams meet: pooled side by side, pooled by a learnt query, or step by step in time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfmm.model.frames import average_steps, encode_positions

REACH = 8  # steps by which sound may be early or late and still be compared
SYNC_DIM = 32  # width of the space in which the two streams' steps are compared


class ConcatFusion(nn.Module):
    """The streams' averages side by side: it knows what was seen and heard, not when."""

    def __init__(self, dim: int):
        super().__init__()
        self.mix = nn.Sequential(nn.Linear(2 * dim, dim), nn.GELU())

    def forward(self, video: Tensor, audio: Tensor, video_mask: Tensor, audio_mask: Tensor) -> Tensor:
        """Mix `[B, T, D]` and `[B, T, D]`, with masks `[B, T]`, to `[B, D]`."""
        return self.mix(torch.cat([average_steps(video, video_mask), average_steps(audio, audio_mask)], dim=1))


class AttentionFusion(nn.Module):
    """One learnt query attends to all steps of both streams: it picks out what matters, whenever and in which stream.

    A stream that is absent has no steps to attend to; without either, zeros come out.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.query = nn.Parameter(torch.randn(dim) * 0.02)
        self.markers = nn.Parameter(torch.randn(2, dim) * 0.02)  # tell a step of the picture from one of the sound
        self.norm = nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, num_heads=4, batch_first=True)

    def forward(self, video: Tensor, audio: Tensor, video_mask: Tensor, audio_mask: Tensor) -> Tensor:
        """Mix `[B, T, D]` and `[B, T, D]`, with masks `[B, T]`, to `[B, D]`."""
        places = encode_positions(video.shape[1], video.shape[2]).to(video, non_blocking=True)
        streams = [steps + places + marker for steps, marker in zip((video, audio), self.markers, strict=True)]
        steps, mask = self.norm(torch.cat(streams, dim=1)), torch.cat([video_mask, audio_mask], dim=1)
        return _attend(self.attention, self.query.expand(steps.shape[0], 1, -1), steps, mask)[:, 0]


class CrossModalFusion(nn.Module):
    """Each stream attends to the other in time, and both are compared at every lag.

    The lags are SyncNet's test (Chung & Zisserman, 2016, section 4), made part of the model: the similarity of
    mouth and sound, averaged over the window, for each offset of up to `REACH` steps either way. In a genuine clip
    it peaks at zero.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.video_asks = nn.MultiheadAttention(dim, num_heads=4, batch_first=True)
        self.audio_asks = nn.MultiheadAttention(dim, num_heads=4, batch_first=True)
        self.video_place = nn.Linear(dim, SYNC_DIM)
        self.audio_place = nn.Linear(dim, SYNC_DIM)
        self.mix = nn.Sequential(nn.Linear(4 * dim + 2 * REACH + 1, dim), nn.GELU())

    def forward(self, video: Tensor, audio: Tensor, video_mask: Tensor, audio_mask: Tensor) -> Tensor:
        """Mix `[B, T, D]` and `[B, T, D]`, with masks `[B, T]`, to `[B, D]`."""
        places = encode_positions(video.shape[1], video.shape[2]).to(video, non_blocking=True)
        seen = _attend(self.video_asks, video + places, audio + places, audio_mask)
        heard = _attend(self.audio_asks, audio + places, video + places, video_mask)
        streams = [(video, video_mask), (seen, video_mask), (audio, audio_mask), (heard, audio_mask)]
        averages = [average_steps(steps, mask) for steps, mask in streams]
        lags = compare_lags(self.video_place(video), self.audio_place(audio), video_mask, audio_mask)
        return self.mix(torch.cat([*averages, lags], dim=1))


def _attend(attention: nn.MultiheadAttention, asking: Tensor, asked: Tensor, mask: Tensor) -> Tensor:
    """Return what the asking steps find in the asked ones; zero where none of these is present."""
    # A row with nothing to ask would make attention divide by zero: let it look at its padding, and drop that.
    present = mask.any(dim=1, keepdim=True)
    # Of every head and query, not `key_padding_mask`: checking that imports sympy, which takes longer than an answer.
    hidden = (~mask & present)[:, None, None].expand(-1, attention.num_heads, asking.shape[1], -1)
    found, _ = attention(asking, asked, asked, attn_mask=hidden.flatten(0, 1), need_weights=False)
    return found * present[..., None]


def compare_lags(video: Tensor, audio: Tensor, video_mask: Tensor, audio_mask: Tensor) -> Tensor:
    """Return how alike both streams are when the sound is taken `-REACH … REACH` steps later, `[B, 2 · REACH + 1]`.

    The similarity is the correlation over time of the two streams' features `[B, T, S]`, averaged over features:
    what stays the same through the window, such as who speaks, takes no part.
    """
    both = (video_mask & audio_mask)[..., None].to(video)
    count = both.sum(dim=1, keepdim=True).clamp(min=1)
    scaled = []
    for steps in (video, audio):
        moved = (steps - (steps * both).sum(dim=1, keepdim=True) / count) * both
        scaled.append(moved / ((moved**2).sum(dim=1, keepdim=True) + 1e-3).sqrt())
    video, audio = scaled
    steps = video.shape[1]
    padded = nn.functional.pad(audio, (0, 0, REACH, REACH))
    lags = [(video * padded[:, lag : lag + steps]).sum(dim=1).mean(dim=1) for lag in range(2 * REACH + 1)]
    return torch.stack(lags, dim=1)
