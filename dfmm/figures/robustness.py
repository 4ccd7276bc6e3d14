"""The picture of a sweep: what each degradation does to a detector, from mild to severe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dfmm.figures.style import FAKE, GREY, GRID, REAL, format_interval, join_title, style_figure

COLUMNS = 4
LINES = {
    "auc": {"label": "AUC, with 95 % interval", "color": "#000000", "marker": "o"},
    "fpr": {"label": "reals called fake", "color": REAL, "marker": "v"},
    "fnr": {"label": "fakes called real", "color": FAKE, "marker": "^"},
}


@style_figure
def plot_robustness(table: pd.DataFrame, summary: Mapping[str, Any], *, note: str = "") -> Figure:
    """A panel a degradation: AUC, false alarms and misses at the run's own threshold, over its amount.

    Dotted lines are the videos as they are. Hollow dots stand where a label no longer holds.

    Args:
        table, summary: as from `sweep_degradations`.
        note: the title's second line.
    """
    swept = table[table["strength"] != 0]
    clean, names = table[table["strength"] == 0].iloc[0], list(dict.fromkeys(swept["degradation"]))
    count = -(-max(len(names), 1) // COLUMNS)
    figure, grid = plt.subplots(count, COLUMNS, figsize=(10.5, 2.3 * count + 1.2), squeeze=False, sharey=True)
    title = f"What degradations do: mean drop of the AUC {format_interval(summary['mean_drop'])}"
    figure.suptitle(join_title(title, note), fontsize=11)
    for axes, name in zip(grid.flat, names, strict=False):
        _draw_panel(axes, swept[swept["degradation"] == name].sort_values("strength"), clean)
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _draw_panel(axes: Axes, rows: pd.DataFrame, clean: pd.Series) -> None:
    axes.set_title(rows["degradation"].iloc[0].replace("_", " "), fontsize=10)
    axes.set(xlabel=rows["unit"].iloc[0], ylim=(-0.03, 1.03))
    axes.grid(color=GRID, linewidth=0.6)
    axes.axhline(0.5, color=GREY, linewidth=0.6)
    held = rows["labels_hold"].astype(bool)
    for name, look in LINES.items():
        if pd.notna(clean[name]):
            axes.axhline(clean[name], color=look["color"], linestyle=":", linewidth=1)
        values = rows[name].astype(float)
        axes.plot(rows["amount"], values, **look, markersize=4, linewidth=1.2)
        axes.plot(rows["amount"][~held], values[~held], look["marker"], color="white", markersize=2.4)
    bounds = rows[["auc_low", "auc_high"]].astype(float)
    axes.vlines(rows["amount"], bounds["auc_low"], bounds["auc_high"], color=LINES["auc"]["color"], linewidth=0.9)
    amounts = rows["amount"].to_numpy(float)
    if np.all(amounts > 0) and amounts.max() / amounts.min() > 4:
        axes.set_xscale("log")
