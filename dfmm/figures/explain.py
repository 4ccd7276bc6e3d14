"""Figures of errors: where a model looked and when it listened, and in which slices it errs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from dfmm.figures.clips import mark_hertz
from dfmm.figures.style import GREY, STRIPE, join_title, label_axes, style_figure
from dfmm.figures.words import shorten_text
from dfmm.metrics import Interval
from dfmm.sections import Audio

HEAT = "inferno"  # perceptually uniform, and told apart by whoever does not see all colours
MOST_FRAMES, MOST_LETTERS = 5, 40  # in a strip, and in a title
DPI = 72  # pictures hardly compress: a notebook keeps each pixel
TITLE, SMALL = 14, 12  # points, as large on the screen as in other figures
ENOUGH, FEW = "with 95 % interval", "too few videos to say anything"
RATES = {
    ENOUGH: {"color": "#000000", "marker": "o"},
    FEW: {"color": GREY, "marker": "o", "markerfacecolor": "white"},
}


@style_figure
def plot_looked(
    frames: NDArray[np.uint8],
    maps: Mapping[str, NDArray[np.floating]],
    *,
    titles: Sequence[str],
    title: str = "",
    note: str = "",
) -> Figure:
    """A strip of face crops, and below it for each head where in them something speaks for a forgery.

    Args:
        frames: [N, H, W, 3], 0 to 255.
        maps: [N, H, W] from 0 to 1, by the words that name the head and its score.
        titles: [N], when each frame is shown.
        note: the title's second line.
    """
    chosen = np.unique(np.linspace(0, len(frames) - 1, MOST_FRAMES).round().astype(int))
    rows, columns = 1 + len(maps), len(chosen)
    side = min(4 / columns, 1.4)  # inches of a picture; names are to the left of them, a bar to the right
    size = (2.4 + side * columns, 0.9 + side * rows)
    figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, dpi=DPI)
    figure.suptitle(join_title(shorten_text(title, MOST_LETTERS), note), fontsize=TITLE)
    for column, at in enumerate(chosen):
        grid[0, column].imshow(frames[at])
        grid[0, column].set_title(titles[at], fontsize=SMALL, pad=3)
        for row, heat in enumerate(maps.values(), start=1):
            grid[row, column].imshow(lay_heat(frames[at].mean(axis=2) / 255, heat[at]))
    _clear_grid(grid, ["crop", *maps])
    _draw_closely(figure)
    return _add_heat_bar(figure, grid)


@style_figure
def plot_heard(
    log_mel: NDArray[np.floating],
    maps: Mapping[str, NDArray[np.floating]],
    *,
    audio: Audio,
    start: float = 0.0,
    title: str = "",
    note: str = "",
) -> Figure:
    """A log-mel in Hz and seconds, and beside it for each head where in it something speaks for a forgery.

    Args:
        log_mel: [mel bands, spectrogram frames].
        maps: alike, from 0 to 1, by the words that name the head and its score.
        start: of the window, in seconds of the clip.
        note: the title's second line.
    """
    figure, axes = plt.subplots(1, 1 + len(maps), figsize=(7.4, 3.1), squeeze=False, sharey=True, dpi=DPI)
    figure.suptitle(join_title(shorten_text(title, MOST_LETTERS), note), fontsize=TITLE)
    bands, steps = log_mel.shape
    shown = {
        "origin": "lower",
        "aspect": "auto",
        "extent": (start, start + steps * audio.hop_ms / 1000, -0.5, bands - 0.5),
    }
    grey = (log_mel - log_mel.min()) / max(float(np.ptp(log_mel)), 1e-6)
    axes[0, 0].imshow(log_mel, cmap="cividis", **shown)
    for place, heat in zip(axes[0, 1:], maps.values(), strict=True):
        place.imshow(lay_heat(grey, heat), **shown)
    for place, name in zip(axes[0], ["log-mel", *maps], strict=True):
        place.set_title(name, fontsize=SMALL)
        place.set_xlabel("time (seconds)", fontsize=SMALL)
        place.tick_params(labelsize=SMALL)
    mark_hertz(axes[0, 0], audio)
    axes[0, 0].yaxis.label.set_size(SMALL)
    return _add_heat_bar(figure, axes)


@style_figure
def plot_nearest(
    faces: Sequence[NDArray[np.uint8]], titles: Sequence[str], *, title: str = "", note: str = ""
) -> Figure:
    """A face, and beside it those of the videos that are most like it.

    Args:
        faces: of `[H, W, 3]` each, 0 to 255; the first is the one that is asked about.
        titles: a line or two above each.
        note: the title's second line.
    """
    figure, grid = plt.subplots(1, len(faces), figsize=(max(1.2 * len(faces), 5), 2.3), squeeze=False, dpi=DPI)
    figure.suptitle(join_title(shorten_text(title, MOST_LETTERS), note), fontsize=TITLE)
    for axes, face, words in zip(grid[0], faces, titles, strict=True):
        axes.imshow(face)
        axes.set_title("\n".join(shorten_text(line, 13) for line in words.split("\n")), fontsize=SMALL, pad=3)
    _clear_grid(grid, [""])
    _draw_closely(figure)
    return figure


def lay_heat(grey: NDArray[np.floating], heat: NDArray[np.floating]) -> NDArray[np.floating]:
    """Lay heat over a picture in grey, `[H, W]` each from 0 to 1; the hotter, the less of it shines through."""
    colours = plt.get_cmap(HEAT)(heat)[..., :3]
    share = 0.85 * heat[..., None]
    return (1 - share) * grey[..., None] + share * colours


def _clear_grid(grid: NDArray, names: Sequence[str]) -> None:
    for axes in grid.ravel():
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for axes, name in zip(grid[:, 0], names, strict=True):
        axes.set_ylabel(name, fontsize=SMALL, rotation=0, ha="right", va="center")


def _draw_closely(figure: Figure) -> None:
    """Leave hardly any room between pictures."""
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.02, wspace=0, hspace=0)


def _add_heat_bar(figure: Figure, grid: NDArray) -> Figure:
    if grid.size:
        bar = figure.colorbar(ScalarMappable(Normalize(0, 1), HEAT), ax=grid, fraction=0.03, pad=0.02, ticks=[0, 1])
        bar.set_label("speaks for forgery", fontsize=SMALL)
        bar.ax.set_yticklabels(["not", "most"], fontsize=SMALL)
    return figure


# Errors by slice


@style_figure
def plot_slices(rows: Sequence[Mapping[str, Any]], *, note: str = "") -> Figure:
    """False alarms and misses of each slice, with their 95 % intervals; what too few videos say is grey and hollow.

    Args:
        rows: as from `list_slices`.
        note: the title's second line.
    """
    height = 1.6 + 0.3 * max(len(rows), 1)
    figure, places = plt.subplots(1, 2, figsize=(7.2, height), sharey=True)
    figure.suptitle(join_title("Errors by slice, all at one threshold", note), fontsize=11)
    for axes, name, title in zip(places, ("fpr", "fnr"), ("reals called fake", "fakes called real"), strict=True):
        label_axes(axes, f"share of {title}", "")
        axes.grid(visible=False, axis="y")
        axes.set_xlim(-0.03, 1.03)
        for row in range(0, len(rows), 2):
            axes.axhspan(row - 0.5, row + 0.5, color=STRIPE, linewidth=0)
        for at, row in enumerate(rows):
            _draw_rate(axes, at, row[name], small=name in row["small"])
    names = [shorten_text(f"{row['column']}: {row['slice']} ({row['n']})", 36) for row in rows]
    places[0].set_yticks(range(len(rows)), names)
    places[0].set_ylim(max(len(rows), 1) - 0.5, -0.5)
    handles = [Line2D([], [], **look, linestyle="none", label=words) for words, look in RATES.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _draw_rate(axes: Axes, at: int, rate: Interval, *, small: bool) -> None:
    if rate["value"] is None:
        axes.text(0.5, at, "–", ha="center", va="center", color=GREY, fontsize=9)
        return
    look = RATES[FEW if small else ENOUGH]
    axes.hlines(at, rate["low"], rate["high"], color=look["color"], linewidth=1 if small else 1.8)
    axes.plot(rate["value"], at, **look)
