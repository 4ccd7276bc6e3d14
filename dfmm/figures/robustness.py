"""The picture of a sweep: what each degradation does to a detector, from mild to severe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dfmm.figures.style import FAKE, GREY, GRID, REAL, format_interval, join_title, style_figure

COLUMNS = 4
MARKED = 0.5  # the strength from which on its amount is written below
LINES = {
    "auc": {"label": "AUC, with 95 % interval", "color": "#000000", "marker": "o"},
    "fpr": {"label": "reals called fake", "color": REAL, "marker": "v"},
    "fnr": {"label": "fakes called real", "color": FAKE, "marker": "^"},
}


@style_figure
def plot_robustness(table: pd.DataFrame, summary: Mapping[str, Any], *, note: str = "") -> Figure:
    """A panel a degradation: AUC, false alarms and misses at the run's own threshold, from mild to severe.

    At 0 are the videos as they are; below each strength stands its amount. Hollow dots are where a label no longer
    holds, for the sound was moved.

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
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _draw_panel(axes: Axes, rows: pd.DataFrame) -> None:
    axes.set_ylim(-0.03, 1.03)
    axes.grid(color=GRID, linewidth=0.6)
    axes.axhline(0.5, color=GREY, linewidth=0.6)
    strengths, held = rows["strength"], rows["labels_hold"].astype(bool)
    axes.vlines(
        strengths, rows["auc_low"].astype(float), rows["auc_high"].astype(float), color="#000000", linewidth=0.9
    )
    for name, look in LINES.items():
        values = rows[name].astype(float)
        axes.plot(strengths, values, **look, markersize=4, linewidth=1.2)
        axes.plot(strengths[~held], values[~held], look["marker"], color="white", markersize=2.4)
    sides = 2 if (strengths < 0).any() else 1  # on each of two there is room for half as many numbers
    marked = rows[(strengths.abs() >= MARKED) & (strengths != 0)].sort_values("strength", key=abs)
    marked = pd.concat([marked.head(sides), marked.tail(sides)]) if sides == 2 else marked
    axes.set_xticks([0.0, *marked["strength"]], ["as is", *(f"{amount:.3g}" for amount in marked["amount"])])
