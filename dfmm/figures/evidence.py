"""Figures of evidence: what each sense says of a clip, and whether the joined score is a probability."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dfmm.figures.style import FAKE, GREY, JOINT, REAL, add_legend, label_axes, open_axes, shorten_text, style_figure

LOOKS = {
    "network": {"label": "network's own", "color": GREY, "linestyle": "--", "marker": "s"},
    "evidence": JOINT | {"label": "all evidence"},
}


@style_figure
def plot_evidence(video: Mapping[str, Any], evidence: Mapping[str, Any], title: str = "", *, note: str = "") -> Figure:
    """What each sense says of one video: how many times more often such a value is seen in forgeries, or in reals.

    Args:
        video: a row of the video table.
        evidence: as the report has it.
    """
    names = [name for name, piece in evidence["pieces"].items() if piece["weight"] > 0]
    figure, axes = open_axes(shorten_text(title, 60), note, size=(6, 1.4 + 0.4 * max(len(names), 1)))
    label_axes(axes, "times more often seen, by powers of ten", "")
    axes.grid(visible=False, axis="y")
    values = [video.get(f"{name}_evidence", np.nan) for name in names]
    for row, value in enumerate(values):
        if pd.isna(value):
            axes.text(0, row, " missing", va="center", color=GREY)
        else:
            look = {"color": FAKE, "hatch": "////"} if value > 0 else {"color": REAL}
            axes.barh(row, value, height=0.6, edgecolor="white", **look)
    axes.axvline(0, color="black", linewidth=1)
    reach = max([1.0, *(abs(value) for value in values if pd.notna(value))]) * 1.1
    axes.set(xlim=(-reach, reach), ylim=(max(len(names), 1) - 0.5, -0.5))
    axes.set_yticks(range(len(names)), names)
    axes.annotate("← genuine", (0, 1), (3, -3), xycoords="axes fraction", textcoords="offset points", va="top")
    axes.annotate(
        "forged →", (1, 1), (-3, -3), xycoords="axes fraction", textcoords="offset points", va="top", ha="right"
    )
    return figure


@style_figure
def plot_reliability(calibration: Mapping[str, Any], *, note: str = "") -> Figure:
    """How often videos of a score are fake, for the network's own scores and those joined from all evidence.

    Args:
        calibration: as the report has it.
    """
    figure, axes = open_axes("Are scores probabilities?", note)
    label_axes(axes, "mean score of the videos in a bin", "share of them that are fake")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="a probability")
    for name, look in LOOKS.items():
        found = calibration[name]
        label = f"{look['label']}: Brier {found['brier']:.3f}, ECE {found['ece']:.3f}"
        points = [(each["score"], each["share"]) for each in found["bins"]]
        axes.plot(*zip(*points, strict=True), **look | {"label": label})
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    return add_legend(figure)
