"""The forgeries' gallery: what was, what is made of it, and the difference, enlarged so that it is seen."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

from dfmm.data.degrade import Scene
from dfmm.data.forge import Forgery, Take
from dfmm.data.spectrogram import compute_log_mel
from dfmm.plots import style_figure
from dfmm.sections import Audio

ENLARGED = 8  # times; grey is no difference

Pairs = Mapping[str, tuple[Take, Forgery]]  # what was and what is made of it, by name


@style_figure
def plot_forged_pictures(pairs: Pairs, *, step: int = 0, title: str = "", note: str = "") -> Figure:
    """One frame of each window, a row each: as it was, forged, and the difference.

    Args:
        step: which of the T frames.
        note: the title's second line.
    """
    figure, grid = plt.subplots(len(pairs), 3, figsize=(7, 2.3 * len(pairs) + 0.6), squeeze=False)
    figure.suptitle("\n".join(filter(None, (title, note))))
    for row, (name, (take, forgery)) in enumerate(pairs.items()):
        before, after = take.scene.frames[step], forgery.scene.frames[step]
        for axes, picture in zip(grid[row], (before, after, enlarge_difference(before, after)), strict=True):
            axes.imshow(picture, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        grid[row, 0].set_ylabel(name, fontsize=9)
    for axes, what in zip(grid[0], ("as it was", "forged", f"difference × {ENLARGED}"), strict=True):
        axes.set_title(what, fontsize=10)
    return figure


def enlarge_difference(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return how two pictures differ, enlarged around a middle grey, uint8 `[H, W, 3]`."""
    difference = after.astype(np.int16) - before
    return np.clip(128 + ENLARGED * difference, 0, 255).astype(np.uint8)


@style_figure
def plot_forged_sounds(pairs: Pairs, audio: Audio, *, note: str = "") -> Figure:
    """The log-mel of each window's sound, a row each: as it was, forged, and the difference.

    Args:
        audio: the settings of the log-mel.
        note: the title's second line.
    """
    figure, grid = plt.subplots(len(pairs), 3, figsize=(9, 1.7 * len(pairs) + 1), squeeze=False, sharex=True)
    figure.suptitle("\n".join(filter(None, ("What is heard", note))))
    sounds = {name: [_hear(one.scene, audio) for one in pair] for name, pair in pairs.items()}
    low, high = (
        min(float(one.min()) for pair in sounds.values() for one in pair),
        max(float(one.max()) for pair in sounds.values() for one in pair),
    )
    for (row, (name, (before, after))), column in product(enumerate(sounds.items()), range(3)):
        axes, shown = grid[row, column], (before, after, after - before)[column]
        span = {"vmin": low, "vmax": high, "cmap": "cividis"}
        if column == 2:
            span = {"vmin": (low - high) / 2, "vmax": (high - low) / 2, "cmap": "PuOr"}
        seconds = shown.shape[1] * audio.hop_ms / 1000
        axes.imshow(shown, origin="lower", aspect="auto", extent=(0, seconds, 0, audio.n_mels), **span)
        axes.set_yticks([])
        if row == len(pairs) - 1:
            axes.set_xlabel("time (seconds)")
        grid[row, 0].set_ylabel(f"{name}\nmel band", fontsize=9)
    for axes, what in zip(grid[0], ("as it was", "forged", "difference (white: none)"), strict=True):
        axes.set_title(what, fontsize=10)
    return figure


def _hear(scene: Scene, audio: Audio) -> np.ndarray:
    return compute_log_mel(torch.from_numpy(scene.samples), audio)[0].numpy()
