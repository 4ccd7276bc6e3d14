"""Where a model looked and when it listened: what in a window speaks for a forgery, by integrated gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dfmm.model import MultimodalModel, evaluation_mode, withhold_streams

# What each head is told of; `joint` is the answer of all streams together.
HEADS = {
    "video_fake": ("frames",),
    "audio_fake": ("log_mel",),
    "joint": ("frames", "log_mel"),
    "in_sync": ("frames", "log_mel"),
}
MASKS = {"frames": "frame_mask", "log_mel": "sound_mask"}
CELLS = 8  # of a face crop, to a side
BANDS, HOPS = 16, 5  # into so many the mel bands are joined, and so many spectrogram frames to a cell in time
STEPS = 16  # of the way from a blank window to the whole one, at which slopes are taken


@dataclass(frozen=True)
class Explanation:
    """What in some windows speaks for a forgery, as one head sees it.

    In a map 0 is where nothing speaks for one, and 1 where most does in this window: maps compare the places of a
    window, and not windows. How much it is in all, the log-odds tell: `odds` is `blank`, what the picture adds and what
    the sound adds.
    """

    looked: Tensor | None  # float32 [B, T, H, W], in the crops' own pixels; None where the head sees no picture
    heard: Tensor | None  # float32 [B, M, N], over the log-mel; None where the head hears no sound
    odds: Tensor  # [B], the head's log-odds of a forgery
    blank: Tensor  # [B], those of a window of which nothing but its mean is left
    by_picture: Tensor  # [B], what the picture adds
    by_sound: Tensor  # [B], what the sound adds


def explain_windows(
    model: MultimodalModel, batch: Mapping[str, Any], heads: Sequence[str] = tuple(HEADS)
) -> dict[str, Explanation]:
    """Say what in each window speaks for a forgery, by integrated gradients (Sundararajan et al., ICML 2017).

    Picture and sound are faded in together, from their mean to what they are. On the way the slopes of a head's
    log-odds are taken by how far each cell of a coarse grid is faded in; averaged, they say what each cell adds, and
    all of them together what the window adds (equation 1 and proposition 1). Maps show the cells that add something.

    This is not Grad-CAM (Selvaraju et al., ICCV 2017): of a face of 64 pixels the last map of most backbones has 2 × 2
    cells, and on their finer ones it finds artefacts whose place is known less often (`python benchmarks/explain.py`
    compares both). Nor must it know what a backbone's maps are: any backbone will do.

    What stands out adds more than what does not in any network: a map says where the answer comes from, and not that a
    forgery is there.

    Args:
        batch: as for the model, on its device.
        heads: of `HEADS`; of `in_sync` it is said what speaks for being out of sync.
    """
    batch = withhold_streams(batch, model.streams)
    full = {"frames": batch["frames"].float(), "log_mel": batch["log_mel"]}
    blank = {name: values.mean(dim=(-2, -1), keepdim=True).expand_as(values) for name, values in full.items()}
    added = {head: {name: torch.zeros_like(grid) for name, grid in _lay_grids(batch).items()} for head in heads}
    with evaluation_mode(model):
        for step in range(STEPS):
            slopes = _find_slopes(model, batch, full, blank, heads, share=(step + 0.5) / STEPS)
            for head, name in ((head, name) for head in heads for name in full):
                added[head][name] += slopes[head][name] / STEPS
        with torch.no_grad():
            ends = [measure_odds(model({**batch, **values})) for values in (full, blank)]
    return {head: _explain_head(head, batch, added[head], *(end[head] for end in ends)) for head in heads}


def measure_odds(outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the log-odds of a forgery, `[B]`, that each head gives."""
    streams = {"video_fake": outputs["video_fake"], "audio_fake": outputs["audio_fake"], "in_sync": -outputs["in_sync"]}
    return {**streams, "joint": outputs["logits"][:, 1] - outputs["logits"][:, 0]}


def _lay_grids(batch: Mapping[str, Any], share: float = 0.0) -> dict[str, Tensor]:
    """Return how far cells are faded in, `[B, T, CELLS, CELLS]` of the picture and `[B, 1, BANDS, …]` of the sound."""
    count, steps = batch["frame_mask"].shape
    shapes = {
        "frames": (count, steps, CELLS, CELLS),
        "log_mel": (count, 1, BANDS, -(-batch["log_mel"].shape[3] // HOPS)),
    }
    return {name: torch.full(shape, share, device=batch["log_mel"].device) for name, shape in shapes.items()}


@torch.enable_grad()
def _find_slopes(
    model: MultimodalModel,
    batch: Mapping[str, Any],
    full: Mapping[str, Tensor],
    blank: Mapping[str, Tensor],
    heads: Sequence[str],
    *,
    share: float,
) -> dict[str, dict[str, Tensor]]:
    """Return the slopes of each head's log-odds by the cells of both grids, all of them faded in to this share."""
    grids = {name: grid.requires_grad_() for name, grid in _lay_grids(batch, share).items()}
    faded = {name: _stretch(grid, full[name].shape[-2:]) for name, grid in grids.items()}
    faded["frames"] = faded["frames"][:, :, None]  # all colours alike
    odds = measure_odds(model({**batch, **{name: torch.lerp(blank[name], full[name], faded[name]) for name in full}}))
    # By the cells alone: parameters get no gradient. A head that does not know a stream has a slope of zero there.
    options = {"retain_graph": True, "materialize_grads": True}
    slopes = {head: torch.autograd.grad(odds[head].sum(), list(grids.values()), **options) for head in heads}
    return {head: dict(zip(grids, found, strict=True)) for head, found in slopes.items()}


def _explain_head(
    head: str, batch: Mapping[str, Any], added: Mapping[str, Tensor], odds: Tensor, blank: Tensor
) -> Explanation:
    seen = {name: name in HEADS[head] and bool(batch[mask].any()) for name, mask in MASKS.items()}
    maps = {name: _draw_map(added[name], batch[name].shape[-2:]) if seen[name] else None for name in MASKS}
    heard = None if maps["log_mel"] is None else maps["log_mel"][:, 0]
    sums = {name: cells.flatten(1).sum(dim=1) for name, cells in added.items()}
    return Explanation(maps["frames"], heard, odds, blank, sums["frames"], sums["log_mel"])


def _draw_map(added: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps in pixels, each window's highest 1; all of it 0 where nothing speaks for a forgery."""
    maps = _stretch(added.clamp(min=0), size)
    return maps / maps.amax(dim=(1, 2, 3), keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)


def _stretch(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """Stretch grids `[B, K, h, w]` to `[B, K, H, W]`, smoothly."""
    return nn.functional.interpolate(grid, size=size, mode="bilinear")
