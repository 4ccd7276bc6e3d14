"""How every figure looks: colours, sizes, axes and legends."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Parameters = ParamSpec("Parameters")

# Okabe and Ito's colours. What means the same looks the same in every figure, and for print in grey has a hatch,
# a dash or a marker of its own too.
REAL, FAKE, VALIDATION = "#0072B2", "#D55E00", "#56B4E9"
GREY, BAND, GRID, STRIPE = "#707070", "#D0D0D0", "#E4E4E4", "#F4F4F4"
JOINT = {"label": "all streams", "color": "#000000", "linestyle": "-", "marker": "o"}
STREAMS = {
    "video_fake": {"label": "video fake", "color": "#009E73", "linestyle": "--", "marker": "s"},
    "audio_fake": {"label": "audio fake", "color": "#CC79A7", "linestyle": "-.", "marker": "^"},
    "in_sync": {"label": "in sync", "color": "#E69F00", "linestyle": ":", "marker": "D"},
}
STYLE = {
    "figure.figsize": (5, 4),
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "hatch.linewidth": 0.8,
    "text.parse_math": False,  # a "$" in a name is a "$"
}
LEGEND_LENGTH = 34  # characters of a label in a legend, where several stand in a row
HERTZ = (100, 500, 1000, 2000, 4000, 8000, 16_000)  # marks of a log-mel,
FEW_HERTZ = (500, 2000)  # and of a low one


def style_figure(draw: Callable[Parameters, Figure]) -> Callable[Parameters, Figure]:
    """Draw in the house style whatever the notebook's own is, and close the figure, else Jupyter shows it twice."""

    @wraps(draw)
    def draw_styled(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Figure:
        with plt.style.context(["default", STYLE]):
            figure = draw(*args, **kwargs)
        plt.close(figure)
        return figure

    return draw_styled


def open_axes(title: str, note: str, *, size: tuple[float, float] | None = None) -> tuple[Figure, Axes]:
    figure, axes = plt.subplots(figsize=size)
    axes.set_title(join_title(title, note))
    return figure, axes


def join_title(title: str, note: str) -> str:
    return "\n".join(filter(None, (title, note)))


def label_axes(axes: Axes, x: str, y: str) -> None:
    axes.set(xlabel=x, ylabel=y)
    axes.grid(color=GRID, linewidth=0.6)


def mark_threshold(draw_line: Callable[..., Any], threshold: float | None) -> None:
    if threshold is not None:
        draw_line(threshold, color="black", linestyle=(0, (5, 2)), linewidth=1.2, label=f"threshold {threshold:.3f}")


def add_legend(figure: Figure) -> Figure:
    """Put the legend under the axes, where it hides no data."""
    handles, labels = [], []
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.append(handle)
            labels.append(label)
    if labels:
        columns = 1 if max(map(len, labels)) > LEGEND_LENGTH else 2 if len(labels) == 4 else 3
        figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    return figure
