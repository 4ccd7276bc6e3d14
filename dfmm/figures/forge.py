"""The forgeries' gallery: a real, what is forged of it, and the difference, enlarged so that it is seen."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from dfmm.dataset import MultimodalDataset, compute_log_mel
from dfmm.degrade import Scene
from dfmm.figures.clips import mark_hertz, show_frames
from dfmm.figures.style import FEW_HERTZ, style_figure
from dfmm.forge import Forgery
from dfmm.sections import Audio, ForgeMethod
from dfmm.settings import Settings

ENLARGED = 8  # times; grey is no difference
DPI = 72  # noise hardly compresses: a notebook keeps each pixel

Pairs = Mapping[str, tuple[Scene, Forgery]]  # a real window and what is forged of it, by name


def forge_reals(reals: pd.DataFrame, settings: Settings, method: ForgeMethod) -> Pairs:
    """Return the window in the middle of each real, left real and forged by a method, by the draws of validation.

    What cannot be forged by it is left out.
    """
    chosen = settings.model_copy(update={"forge": settings.forge.model_copy(update={"methods": [method]})})
    dataset = MultimodalDataset(reals, chosen, twins=True, progress=False)
    twins = range(len(dataset) - len(dataset.twins), len(dataset))  # they come last
    pairs = [dataset.read_pair(index) for index in twins]
    forged = [pair for pair in pairs if pair[1].method == method]
    return {f"{method} {number}": pair for number, pair in enumerate(forged, start=1)}


@style_figure
def plot_forged_pictures(pairs: Pairs, *, step: int = 0, title: str = "", note: str = "") -> Figure:
    """One frame of each window, a row each: real, forged, and the difference.

    Args:
        step: which of the T frames.
        note: the title's second line.
    """
    figure, grid = _open_grid(pairs, title, note, last=f"difference × {ENLARGED}", size=(6.5, 2.1))
    for row, (real, forgery) in zip(grid, pairs.values(), strict=False):
        before, after = real.frames[step], forgery.scene.frames[step]
        for axes, picture in zip(row, (before, after, enlarge_difference(before, after)), strict=True):
            axes.imshow(picture, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
    return figure


def plot_forged_steps(pairs: Pairs, *, steps: int = 8, note: str = "") -> Figure:
    """The first frames of the first window: real, forged, and the difference, a row each."""
    if not pairs:
        return plot_forged_pictures(pairs, note=note)
    real, forgery = next(iter(pairs.values()))
    before, after = real.frames[:steps], forgery.scene.frames[:steps]
    return show_frames([*before, *after, *enlarge_difference(before, after)], columns=len(before), note=note)


def enlarge_difference(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return how pictures differ, enlarged around a middle grey, uint8 `[..., H, W, 3]`."""
    difference = after.astype(np.int16) - before
    return np.clip(128 + ENLARGED * difference, 0, 255).astype(np.uint8)


@style_figure
def plot_forged_sounds(pairs: Pairs, audio: Audio, *, note: str = "") -> Figure:
    """The log-mel of each window's sound, a row each: real, forged, and the difference, each on a scale of its own.

    Args:
        audio: the settings of the log-mel.
        note: the title's second line.
    """
    figure, grid = _open_grid(pairs, "What is heard", note, last="difference (white: none)", size=(8, 1.5))
    for row, (real, forgery) in zip(grid, pairs.values(), strict=False):
        before, after = (compute_log_mel(torch.from_numpy(one.samples), audio)[0] for one in (real, forgery.scene))
        low, high = min(before.min(), after.min()), max(before.max(), after.max())
        most = max(float((after - before).abs().quantile(0.99)), 1e-3)  # what is faint is seen, too
        looks = [{"vmin": low, "vmax": high, "cmap": "cividis"}] * 2 + [{"vmin": -most, "vmax": most, "cmap": "PuOr"}]
        extent = (0, before.shape[1] * audio.hop_ms / 1000, -0.5, audio.n_mels - 0.5)
        for axes, shown, look in zip(row, (before, after, after - before), looks, strict=True):
            axes.imshow(shown.numpy(), origin="lower", aspect="auto", extent=extent, **look)
            axes.set_yticks([])
        name = row[0].get_ylabel()
        mark_hertz(row[0], audio, FEW_HERTZ)
        row[0].set_ylabel(f"{name}\n(Hz)", fontsize=9)
    for axes in grid[-1]:
        axes.set_xlabel("time (seconds)")
    return figure


def _open_grid(
    pairs: Pairs, title: str, note: str, *, last: str, size: tuple[float, float]
) -> tuple[Figure, np.ndarray]:
    """Return a figure with a row for each pair, so many inches wide and each row high, or one that says there is none.

    Args:
        last: what the third column shows.
    """
    (width, height), rows = size, len(pairs)
    figure, grid = plt.subplots(
        max(rows, 1), 3, figsize=(width, height * rows + 0.8), squeeze=False, sharex=True, dpi=DPI
    )
    figure.suptitle("\n".join(filter(None, (title, note))), fontsize=11)
    if not pairs:
        for axes in grid[0]:
            axes.set_axis_off()
        grid[0, 1].text(0.5, 0.5, "none of these can be forged so", ha="center", transform=grid[0, 1].transAxes)
        return figure, grid
    for axes, what in zip(grid[0], ("real", "forged", last), strict=True):
        axes.set_title(what, fontsize=10)
    for axes, name in zip(grid[:, 0], pairs, strict=True):
        axes.set_ylabel(name, fontsize=9)
    return figure, grid
