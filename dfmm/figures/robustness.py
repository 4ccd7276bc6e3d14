"""The picture of a sweep: what each degradation does to a detector, from mild to severe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dfmm.figures.clips import mark_hertz
from dfmm.figures.style import FAKE, FEW_HERTZ, GREY, GRID, REAL, join_title, style_figure
from dfmm.figures.words import format_interval
from dfmm.sections import Audio

COLUMNS = 4
MARKED = 0.5  # the strength from which on its amount is written below
LINES = {
    "auc": {"label": "AUC", "color": "#000000", "marker": "o"},
    "fpr": {"label": "reals called fake", "color": REAL, "marker": "v"},
    "fnr": {"label": "fakes called real", "color": FAKE, "marker": "^"},
}
APART = 0.012  # between the lines, as a share of the axis: else one's interval hides another's
SHOWN = 4  # frames of a clip that is looked at


@style_figure
def plot_robustness(table: pd.DataFrame, summary: Mapping[str, Any], *, note: str = "") -> Figure:
    """A panel a degradation: AUC, false alarms and misses at the run's own threshold, from mild to severe.

    Each number has its 95 % interval. At 0 are the videos as they are; below each strength stands its amount. Hollow
    dots are where a label no longer holds, for the sound was moved.

    Args:
        table, summary: as from `sweep_degradations`.
        note: the title's second line.
    """
    swept = table[table["strength"] != 0]
    clean, names = table[table["strength"] == 0], list(dict.fromkeys(swept["degradation"]))
    count = -(-max(len(names), 1) // COLUMNS)
    figure, grid = plt.subplots(count, COLUMNS, figsize=(10.5, 2.3 * count + 1.2), squeeze=False, sharey=True)
    title = f"What degradations do: mean drop of the AUC {format_interval(summary['mean_drop'])}"
    figure.suptitle(join_title(title, note), fontsize=11)
    for axes, name in zip(grid.flat, names, strict=False):
        rows = swept[swept["degradation"] == name]
        axes.set_title(name.replace("_", " "), fontsize=10)
        axes.set_xlabel(rows["unit"].iloc[0])
        _draw_panel(axes, pd.concat([clean, rows]).sort_values("strength"))
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    lines, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(lines, labels, title="each with its 95 % interval", loc="outside lower center", ncols=3)
    return figure


def _draw_panel(axes: Axes, rows: pd.DataFrame) -> None:
    axes.set_ylim(-0.03, 1.03)
    axes.grid(color=GRID, linewidth=0.6)
    axes.axhline(0.5, color=GREY, linewidth=0.6)
    strengths, held = rows["strength"], rows["labels_hold"].astype(bool)
    apart = APART * (strengths.max() - strengths.min())
    for lane, (name, look) in enumerate(LINES.items(), start=-1):
        low, values, high = (rows[f"{name}{end}"].astype(float) for end in ("_low", "", "_high"))
        places = strengths + lane * apart
        axes.vlines(places, low, high, color=look["color"], linewidth=0.9)
        axes.plot(places, values, **look, markersize=4, linewidth=1.2)
        axes.plot(places[~held], values[~held], look["marker"], color="white", markersize=2.4)
    sides = 2 if (strengths < 0).any() else 1  # on each of two there is room for half as many numbers
    marked = rows[(strengths.abs() >= MARKED) & (strengths != 0)].sort_values("strength", key=abs)
    marked = pd.concat([marked.head(sides), marked.tail(sides)]) if sides == 2 else marked
    axes.set_xticks([0.0, *marked["strength"]], ["as is", *(f"{amount:.3g}" for amount in marked["amount"])])


@style_figure
def plot_degraded(samples: Mapping[str, Mapping[str, Any]], *, audio: Audio, title: str = "", note: str = "") -> Figure:
    """One window as the model sees and hears it, a row for each way: some of its frames, and its log-mel.

    Args:
        samples: as from a dataset, by what is written beside each; all log-mels have the same colours.
        audio: the settings of the log-mel.
        note: the title's second line.
    """
    figure, grid = plt.subplots(
        len(samples), SHOWN + 1, figsize=(9, 1.7 * len(samples) + 1), squeeze=False, width_ratios=[1] * SHOWN + [2]
    )
    figure.suptitle(join_title(title, note), fontsize=11)
    heard = [sample["log_mel"] for sample in samples.values()]
    colours = {"vmin": min(float(each.min()) for each in heard), "vmax": max(float(each.max()) for each in heard)}
    for row, (name, sample) in zip(grid, samples.items(), strict=True):
        frames = sample["frames"].permute(0, 2, 3, 1).numpy()
        steps = np.linspace(0, len(frames) - 1, SHOWN).round().astype(int)
        for axes, step in zip(row, steps, strict=False):
            axes.imshow(frames[step], interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        row[0].set_ylabel(name, fontsize=10)
        bands, length = sample["log_mel"][0].shape
        extent = (0, length * audio.hop_ms / 1000, -0.5, bands - 0.5)
        row[-1].imshow(
            sample["log_mel"][0].numpy(), origin="lower", aspect="auto", cmap="cividis", extent=extent, **colours
        )
        mark_hertz(row[-1], audio, FEW_HERTZ)
    grid[-1, -1].set_xlabel("time (seconds)")
    return figure
