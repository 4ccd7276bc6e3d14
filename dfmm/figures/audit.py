"""The audit's figure: how far facts that are no evidence tell fakes from reals."""

from __future__ import annotations

import textwrap

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dfmm.audit import Audit
from dfmm.audit.shortcuts import ORIGINS, TOGETHER
from dfmm.figures.style import FAKE, GREY, GRID, REAL, STRIPE, style_figure
from dfmm.figures.words import format_interval, shorten_text

LOOKS = {
    False: {"label": "could be chance", "color": "#000000", "marker": "o"},
    True: {"label": "a shortcut", "color": FAKE, "marker": "D"},
}


@style_figure
def plot_audit(audit: Audit) -> Figure:
    """A forest plot: the AUC of each trivial feature alone, of all together, and of where a video comes from.

    A triangle is a single method that a feature gives away, a cross the AUC on sources the classifier has not met, a
    dashed line the detector's own AUC where one was given. Features that all videos share are not drawn.
    """
    rows = select_rows(audit.shortcuts)
    notes = ["synthetic data"] * audit.synthetic
    notes += textwrap.wrap(f"after cures: {', '.join(audit.cures)}", 70) if audit.cures else []
    figure, axes = plt.subplots(figsize=(6, 1.9 + 0.27 * max(len(rows), 1) + 0.2 * len(notes)))
    axes.set_title("\n".join(["How far trivial features tell fakes from reals", *notes]))
    axes.set_xlabel("AUC on people not met before, with 95 % interval")
    axes.grid(color=GRID, linewidth=0.6, axis="x")
    for row in range(0, len(rows), 2):
        axes.axhspan(row - 0.5, row + 0.5, color=STRIPE, linewidth=0)
    axes.axvline(0.5, color=GREY, linestyle=":", linewidth=1.2)
    if audit.detector:
        auc = audit.detector["auc"]
        axes.axvline(auc["value"], color=REAL, linestyle="--", label=f"the detector: {format_interval(auc)}")
    if rows.empty:
        axes.text(0.5, 0, "undefined: it takes fakes of two people\nand reals of two people", ha="center", va="center")
    _draw_intervals(axes, rows)
    _draw_marks(axes, rows, audit.shortcuts)
    _name_rows(axes, rows)
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def select_rows(shortcuts: pd.DataFrame) -> pd.DataFrame:
    """The rows over all fakes that have an AUC: all together, where a video comes from, then from high to low."""
    rows = shortcuts[(shortcuts["method"] == "") & shortcuts["value"].notna()]
    rank = rows["feature"].map({TOGETHER: 0} | dict.fromkeys(ORIGINS, 1)).fillna(2)
    return rows.assign(rank=rank).sort_values(["rank", "value"], ascending=[True, False]).reset_index(drop=True)


def _draw_intervals(axes: Axes, rows: pd.DataFrame) -> None:
    for found, look in LOOKS.items():
        some = rows[(rows["matters"] | rows["marked"]) == found]
        axes.hlines(some.index, some["low"], some["high"], color=look["color"], linewidth=1.8)
        if len(some):
            axes.plot(some["value"], some.index, **look, linestyle="none", markersize=6)


def _draw_marks(axes: Axes, rows: pd.DataFrame, shortcuts: pd.DataFrame) -> None:
    new = rows[rows["new_source_value"].notna()]
    if len(new):
        look = {"color": GREY, "marker": "x", "linestyle": "none", "markersize": 5, "markeredgewidth": 1.4}
        axes.plot(new["new_source_value"], new.index + 0.25, **look, label="on sources not met")
    single = shortcuts[(shortcuts["method"] != "") & (shortcuts["matters"] | shortcuts["marked"])]
    if len(single):
        heights = single["feature"].map(dict(zip(rows["feature"], rows.index, strict=True))) - 0.25
        look = {"color": FAKE, "marker": "^", "linestyle": "none", "markersize": 4.5, "markerfacecolor": "white"}
        axes.plot(single["value"], heights, **look, label="a shortcut to one method")


def _name_rows(axes: Axes, rows: pd.DataFrame) -> None:
    axes.set_yticks(rows.index, [shorten_text(name.replace("_", " ")) for name in rows["feature"]])
    axes.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    left, right = axes.get_xlim()
    axes.set_xlim(max(min(left, 0.35), 0), min(max(right, 1.02), 1.02))
    numbers = axes.secondary_yaxis("right")
    numbers.set_yticks(rows.index, [format_interval(row) for row in rows[["value", "low", "high"]].to_dict("records")])
    numbers.tick_params(length=0)
    numbers.spines["right"].set_visible(False)
