"""The gallery's figures: what degradations do to pictures, to sounds and to time, at three strengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dfmm.dataset import compute_log_mel
from dfmm.degrade import Degradation, Scene
from dfmm.figures.clips import mark_hertz
from dfmm.figures.style import FEW_HERTZ, GREY, GRID, REAL, STREAMS, style_figure
from dfmm.figures.words import tell_amount
from dfmm.sections import Audio

STRENGTHS = (1 / 3, 2 / 3, 1.0)
DPI = 72  # noise hardly compresses: a notebook keeps each pixel
SEED = 0  # the same place is covered, the same noise drawn, at each strength


def degrade_scene(one: Degradation, given: Scene | torch.Tensor, strength: float) -> Scene | torch.Tensor:
    """Degrade a scene or a log-mel as the gallery does: at every strength with the same draws."""
    return one.apply(given, strength, np.random.default_rng(SEED))


def describe_amount(one: Degradation, strength: float) -> str:
    """What a strength means, such as `37 quality`."""
    if not strength:
        return "as it was"
    return tell_amount(one.measure(strength), one.unit).strip() if one.keyword else one.unit.strip(" ()")


def format_amount(one: Degradation, strength: float) -> str:
    """The number alone, to three digits; empty for what is only done or not."""
    amount = one.measure(strength)
    return "" if not one.keyword else f"{amount:.0f}" if abs(amount) >= 100 else f"{amount:.3g}"


def measure_pictures(scene: Scene, table: Sequence[Degradation]) -> pd.DataFrame:
    """Mean absolute change of a scene's frames, of 255 levels: a row each, a column a strength."""
    frames = scene.frames.astype(float)
    return _tabulate(
        table, lambda one, strength: float(np.abs(degrade_scene(one, scene, strength).frames - frames).mean())
    )


def measure_sounds(scene: Scene, table: Sequence[Degradation], audio: Audio) -> pd.DataFrame:
    """Mean absolute change of a scene's log-mel: a row each, a column a strength."""
    plain = compute_log_mel(torch.from_numpy(scene.samples), audio)
    return _tabulate(
        table, lambda one, strength: float((_degrade_log_mel(one, scene, strength, audio) - plain).abs().mean())
    )


def _tabulate(table: Sequence[Degradation], measure: Callable[[Degradation, float], float]) -> pd.DataFrame:
    rows = {one.name: [measure(one, strength) for strength in STRENGTHS] for one in table}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["1/3", "2/3", "1"])


def _degrade_log_mel(one: Degradation, scene: Scene, strength: float, audio: Audio) -> torch.Tensor:
    """Return the log-mel, float32 `[1, n_mels, F]`, of a degraded sound, or the degraded log-mel of the sound."""
    if one.stream == "log_mel":
        return degrade_scene(one, compute_log_mel(torch.from_numpy(scene.samples), audio), strength)
    return compute_log_mel(torch.from_numpy(degrade_scene(one, scene, strength).samples), audio)


@style_figure
def plot_pictures(scene: Scene, table: Sequence[Degradation], *, step: int = 0, note: str = "") -> Figure:
    """One frame under each degradation of pictures, a row each: as it was, and at three strengths.

    Args:
        step: which of the scene's T frames.
        note: the title's second line.
    """
    figure, grid = _open_grid(table, 1.2, "What the world does to a picture", note, width=6)
    for (row, one), (column, strength) in product(enumerate(table), enumerate((0.0, *STRENGTHS))):
        axes = grid[row, column]
        axes.imshow(degrade_scene(one, scene, strength).frames[step], interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.set_title(describe_amount(one, strength), fontsize=9, pad=3)
        if not column:
            axes.set_ylabel(one.name.replace("_", " "), fontsize=10)
    return figure


@style_figure
def plot_sounds(scene: Scene, table: Sequence[Degradation], audio: Audio, *, note: str = "") -> Figure:
    """The log-mel of a scene's sound under each degradation of sounds, a row each, all with the same colours.

    Args:
        audio: the settings of the log-mel.
        note: the title's second line.
    """
    figure, grid = _open_grid(table, 1.25, "What the world does to a sound", note, width=8)
    plain = compute_log_mel(torch.from_numpy(scene.samples), audio)
    seconds = plain.shape[2] * audio.hop_ms / 1000
    look = {
        "origin": "lower",
        "aspect": "auto",
        "cmap": "cividis",
        "interpolation": "nearest",
        "extent": (0, seconds, -0.5, audio.n_mels - 0.5),
    }
    low, high = float(plain.min()), float(plain.max())
    for (row, one), (column, strength) in product(enumerate(table), enumerate((0.0, *STRENGTHS))):
        axes, log_mel = grid[row, column], _degrade_log_mel(one, scene, strength, audio)
        image = axes.imshow(log_mel[0].numpy(), vmin=low, vmax=high, **look)
        axes.set_title(describe_amount(one, strength), fontsize=9, pad=3)
        if column:
            axes.set_yticks([])
        else:
            mark_hertz(axes, audio, FEW_HERTZ)
            axes.set_ylabel(f"{one.name.replace('_', ' ')}\n(Hz)", fontsize=9)
        if row == len(table) - 1:
            axes.set_xlabel("time (seconds)")
        else:
            axes.set_xticks([])
    figure.colorbar(image, ax=grid, label="log energy (scaled)", location="bottom", aspect=60, shrink=0.6)
    return figure


@style_figure
def plot_times(scene: Scene, table: Sequence[Degradation], *, note: str = "") -> Figure:
    """Which moment is seen, and which one heard, at each step, under each degradation that moves time, a row each.

    Args:
        note: the title's second line.
    """
    figure, grid = _open_grid(table, 1.5, "What is seen and heard when", note, width=8, share=True)
    for (row, one), (column, strength) in product(enumerate(table), enumerate((0.0, *STRENGTHS))):
        axes = grid[row, column]
        _draw_moments(axes, degrade_scene(one, scene, strength), scene)
        axes.set_title(describe_amount(one, strength), fontsize=9, pad=3)
        if not column:
            axes.set_ylabel(f"{one.name.replace('_', ' ')}\nmoment (s)", fontsize=9)
        if row == len(table) - 1:
            axes.set_xlabel("time (seconds)")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def _draw_moments(axes: Axes, moved: Scene, scene: Scene) -> None:
    steps, start = np.arange(len(scene.frames)) / scene.fps, scene.shows[0]
    heard, seen = moved.sound_mask, moved.frame_mask
    sound, picture = STREAMS["audio_fake"]["color"], REAL
    axes.grid(color=GRID, linewidth=0.6)
    axes.plot(steps[heard], moved.hears[heard] - start, color=sound, linewidth=3.5, alpha=0.8, label="heard")
    axes.plot(steps[seen], moved.shows[seen] - start, "o", color=picture, markersize=3.2, label="seen")
    axes.axline((0, 0), slope=1, color=GREY, linewidth=0.8, linestyle=":")


def _open_grid(
    table: Sequence[Degradation], height: float, title: str, note: str, *, width: float, share: bool = False
) -> tuple[Figure, np.ndarray]:
    rows = len(table)
    figure, grid = plt.subplots(
        rows, 4, figsize=(width, height * rows + 0.9), squeeze=False, sharex=share, sharey=share, dpi=DPI
    )
    figure.suptitle("\n".join(filter(None, (title, note))), fontsize=11)
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0.01, hspace=0.01)
    return figure, grid
