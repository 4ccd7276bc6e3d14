"""Figures of clips: counts, frames, log-mels, and scores along a clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from dfmm.dataset import place_hertz
from dfmm.figures.style import (
    BAND,
    GREY,
    HERTZ,
    JOINT,
    STREAMS,
    add_legend,
    join_title,
    label_axes,
    mark_threshold,
    open_axes,
    style_figure,
)
from dfmm.figures.words import shorten_text
from dfmm.sections import Audio


@style_figure
def plot_timeline(
    windows: pd.DataFrame,
    title: str = "",
    threshold: float | None = None,
    *,
    forged: Sequence[tuple[float, float]] = (),
    note: str = "",
) -> Figure:
    """One video's scores over time: all streams together, and each alone.

    Synchrony is drawn upside down, as the probability of being out of sync: in all lines, up is suspicious.

    Args:
        forged: stretches that are known to be forged, in seconds.
    """
    figure, axes = open_axes(shorten_text(title, 60), note, size=(6, 3.2))
    label_axes(axes, "window's start (seconds)", "probability")
    axes.set_ylim(-0.03, 1.03)
    windows = windows.sort_values("start")
    for name, look in STREAMS.items():
        values = windows[f"{name}_score"]
        if name == "in_sync":
            values, look = 1 - values, look | {"label": "out of sync"}
        if values.notna().any():
            axes.plot(windows["start"], values, **look, linewidth=1.2, markersize=4)
    axes.plot(windows["start"], windows["score"], **JOINT | {"label": "fake (all streams)"})
    for number, (start, end) in enumerate(forged):
        axes.axvspan(start, end, color=BAND, linewidth=0, zorder=0, label="" if number else "forged")
    mark_threshold(axes.axhline, threshold)
    return add_legend(figure)


@style_figure
def plot_stretches(
    curves: pd.DataFrame,
    truth: Mapping[str, NDArray[np.floating] | None] | None,
    found: Sequence[Mapping[str, Any]],
    title: str = "",
    *,
    note: str = "",
) -> Figure:
    """One video's probability of forgery at each instant, and below it what is forged and what was found.

    Args:
        curves: `start` and `end` of each step in seconds, and a column for each curve; NaN where nothing was scored.
        truth: by curve, the forged stretches, [n, 2] in seconds; None where nobody knows, and for all of a new file.
        found: `stream` (which curve), `start` and `end` of each.
        note: the title's second line.
    """
    looks = {"joint": JOINT, **STREAMS}
    names = [name for name in looks if name in curves and curves[name].notna().any()]
    figure, (above, below) = plt.subplots(2, 1, figsize=(6, 4.2), sharex=True, height_ratios=(5, 1 + len(names)))
    above.set_title(join_title(shorten_text(title, 60), note))
    label_axes(above, "", "probability of forgery")
    above.set_ylim(-0.03, 1.03)
    for name in names[::-1]:  # the one of all streams on top
        _draw_curve(above, curves, name, looks[name])
    for row, name in enumerate(names):
        if truth is not None:
            _draw_stretches(below, truth[name], -row + 0.2, facecolor=GREY)
        some = [(one["start"], one["end"]) for one in found if one["stream"] == name]
        _draw_stretches(below, some, -row - 0.2, facecolor=looks[name]["color"], hatch="////", edgecolor="white")
    if truth is not None:
        below.barh([0], [np.nan], color=GREY, label="forged")
    below.barh([0], [np.nan], facecolor="white", hatch="////", edgecolor=GREY, label="found")
    label_axes(below, "seconds", "")
    below.grid(visible=False, axis="y")
    below.set_yticks(-np.arange(len(names)), [looks[name]["label"] for name in names])
    below.set(ylim=(-len(names) + 0.5, 0.5), xlim=(curves["start"].iloc[0], curves["end"].iloc[-1]))
    return add_legend(figure)


def _draw_curve(axes: Axes, curves: pd.DataFrame, name: str, look: Mapping[str, Any]) -> None:
    """Draw a line through the middles of the steps, as far as the video goes, and none over a gap."""
    middles = (curves["start"] + curves["end"]) / 2
    times = [curves["start"].iloc[0], *middles, curves["end"].iloc[-1]]
    values = curves[name].to_numpy()
    alone = np.flatnonzero(np.isfinite(values) & ~np.isfinite(np.append(np.nan, values[:-1])))  # begins after a gap
    options = dict(look) | {"markersize": 4, "linewidth": 1.5, "markevery": (alone + 1).tolist()}
    axes.plot(times, [values[0], *values, values[-1]], **options)


def _draw_stretches(
    axes: Axes, stretches: NDArray[np.floating] | Sequence[Sequence[float]] | None, height: float, **look: Any
) -> None:
    if stretches is None:
        place = {"xy": (0.01, height), "xycoords": ("axes fraction", "data")}
        axes.annotate("nobody knows", **place, fontsize=8, va="center", color=GREY)
    for start, end in stretches if stretches is not None else ():
        axes.barh(height, end - start, left=start, height=0.36, linewidth=0.5, **look)


@style_figure
def plot_counts(table: pd.DataFrame, *, note: str = "") -> Figure:
    """Bars of videos by method, stacked by split.

    Args:
        table: counts, a row a method and a column a split.
        note: the title's second line.
    """
    figure, axes = open_axes("Videos by method and split", note, size=(5, 1.5 + 0.32 * max(len(table), 1)))
    label_axes(axes, "videos", "")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    ends = table.to_numpy().cumsum(axis=1)
    shades = plt.get_cmap("cividis")(np.linspace(0.1, 0.95, table.shape[1]))
    hatches = ("", "///", "...", "xx")
    for column, split in enumerate(table):
        counts = table[split].to_numpy()
        look = {"color": shades[column], "hatch": hatches[column % len(hatches)], "edgecolor": "white"}
        axes.barh(range(len(table)), counts, left=ends[:, column] - counts, label=f"{split} ({counts.sum()})", **look)
    for row, total in enumerate(table.sum(axis=1)):
        axes.annotate(str(total), (total, row), (3, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(range(len(table)), [shorten_text(str(name)) for name in table.index])
    axes.invert_yaxis()
    axes.margins(x=0.1)
    return add_legend(figure)


# Clips


@style_figure
def show_frames(
    frames: NDArray[np.uint8], *, titles: Sequence[str] | None = None, columns: int = 8, note: str = ""
) -> Figure:
    """A strip or grid of images.

    Args:
        frames: [N, H, W, 3], 0 to 255.
        titles: [N], a line above each image.
        columns: the most images in a row.
        note: the title.
    """
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[-1] != 3 or not len(frames):
        raise ValueError(f"expected images of shape [N, H, W, 3] with N ≥ 1, got {list(frames.shape)}")
    columns = min(columns, len(frames))
    rows = -(-len(frames) // columns)
    width = min(6 / columns, 2)  # inches an image
    height = width * frames.shape[1] / frames.shape[2] + (0.25 if titles else 0)
    figure, grid = plt.subplots(rows, columns, figsize=(width * columns, height * rows + (0.3 if note else 0)))
    grid = np.atleast_1d(grid).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, frame in zip(grid, frames, strict=False):
        axes.imshow(frame)
    for axes, title in zip(grid, titles or [], strict=False):
        axes.set_title(title, fontsize=9, pad=3)
    figure.suptitle(note, fontsize=11)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.03, wspace=0, hspace=0)
    return figure


@style_figure
def plot_log_mels(log_mels: Mapping[str, NDArray[np.floating]], *, audio: Audio, note: str = "") -> Figure:
    """The energy of sounds over time and frequency, side by side and on one scale.

    Args:
        log_mels: by their titles, [mel bands, spectrogram frames] or [1, mel bands, spectrogram frames] each, as
            `compute_log_mel` has them.
        note: the title.
    """
    arrays = [np.asarray(one).reshape(np.shape(one)[-2:]) for one in log_mels.values()]
    figure, grid = plt.subplots(1, len(arrays), figsize=(6 if len(arrays) == 1 else 8, 2.8), squeeze=False, sharey=True)
    figure.suptitle(note, fontsize=11)
    low, high = min(one.min() for one in arrays), max(one.max() for one in arrays)
    for axes, title, log_mel in zip(grid[0], log_mels, arrays, strict=True):
        bands, steps = log_mel.shape
        extent = (0, steps * audio.hop_ms / 1000, -0.5, bands - 0.5)
        shown = {"origin": "lower", "aspect": "auto", "cmap": "cividis", "vmin": low, "vmax": high}
        image = axes.imshow(log_mel, extent=extent, **shown)
        axes.set(xlabel="time (seconds)", title=shorten_text(title, 40))
    mark_hertz(grid[0, 0], audio)
    figure.colorbar(image, ax=grid[0], label="log energy (scaled)")
    return figure


def list_hertz(audio: Audio, hertz: Sequence[int] = HERTZ) -> list[tuple[float, str]]:
    """Return frequencies and where they lie on a log-mel whose lowest band is at 0."""
    marks = [one for one in hertz if one < audio.sample_rate / 2]
    return [(float(place), f"{one:,}") for place, one in zip(place_hertz(marks, audio), marks, strict=True)]


def mark_hertz(axes: Axes, audio: Audio, hertz: Sequence[int] = HERTZ) -> None:
    """Say at the side of a log-mel, whose lowest band is at 0, what its bands are in Hz."""
    axes.set_yticks(*zip(*list_hertz(audio, hertz), strict=True))
    axes.set_ylabel("frequency (Hz)")
    axes.set_ylim(-0.5, audio.n_mels - 0.5)


def select_windows(windows: pd.DataFrame, video: Mapping[str, Any]) -> pd.DataFrame:
    """Return the windows behind a video's score: of several faces, those of the most suspicious."""
    return windows[(windows["video_id"] == video["video_id"]) & (windows["face"] == video["face"])]
