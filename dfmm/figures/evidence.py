"""Figures of evidence: what each sense says of a clip, and whether the joined score is a probability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dfmm.figures.style import FAKE, GREY, JOINT, REAL, add_legend, join_title, label_axes, open_axes, style_figure
from dfmm.figures.words import shorten_text
from dfmm.metrics import TELLING, Calibration, is_telling

LOOKS = {
    "network": {"label": "network's own", "color": GREY, "linestyle": "--", "marker": "s"},
    "evidence": JOINT | {"label": "all evidence"},
}


@style_figure
def plot_evidence(video: Mapping[str, Any], names: Sequence[str], title: str = "", *, note: str = "") -> Figure:
    """What each sense says of one video: how many times more often such a value is seen in forgeries, or in reals.

    Args:
        video: a row of the video table.
        names: of the pieces that weigh something in the score.
    """
    figure, axes = open_axes(shorten_text(title, 60), note, size=(6, 1.4 + 0.4 * max(len(names), 1)))
    label_axes(axes, "times more often seen, by powers of ten (grey: says nothing)", "")
    axes.grid(visible=False, axis="y")
    values = [video.get(f"{name}_evidence", np.nan) for name in names]
    for row, value in enumerate(values):
        if pd.isna(value):
            axes.text(0, row, " missing", va="center", color=GREY)
        else:
            look = {"color": FAKE, "hatch": "////"} if value > 0 else {"color": REAL}
            look = look if is_telling(value) else {"color": GREY}
            axes.barh(row, value, height=0.6, edgecolor="white", **look)
    axes.axvline(0, color="black", linewidth=1)
    for side in (-1, 1):
        axes.axvline(side * np.log10(TELLING), color=GREY, linestyle=":", linewidth=1)
    reach = max([1.0, *(abs(value) for value in values if pd.notna(value))]) * 1.1
    axes.set(xlim=(-reach, reach), ylim=(max(len(names), 1) - 0.5, -1))  # room for words
    axes.set_yticks(range(len(names)), names)
    axes.annotate("← genuine", (0, 1), (3, -3), xycoords="axes fraction", textcoords="offset points", va="top")
    axes.annotate(
        "forged →", (1, 1), (-3, -3), xycoords="axes fraction", textcoords="offset points", va="top", ha="right"
    )
    return figure


@style_figure
def plot_synchrony(
    lags_ms: NDArray[np.floating],
    curve: NDArray[np.floating],
    times: NDArray[np.floating],
    trace: NDArray[np.floating],
    *,
    lag_ms: float,
    note: str = "",
) -> Figure:
    """How well a mouth moves with the sound at every lag, and over time at the best one.

    Args:
        lags_ms: [L], positive where the sound is late.
        curve: [L], correlation of the mouth with what the sound predicts; NaN: too little to compare.
        times: [n], the middles of stretches in seconds.
        trace: [n], correlation in each; NaN: nobody speaks.
        lag_ms: at which the curve is highest.
        note: the title's second line.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 2.8), sharey=True)
    left.set_title(join_title("Mouth and sound at every lag", note))
    label_axes(left, "lag (ms; positive: the sound is late)", "correlation")
    left.plot(lags_ms, curve, color=JOINT["color"])
    if np.isfinite(lag_ms):
        left.axvline(lag_ms, color=FAKE, linestyle="--", label=f"best lag {lag_ms:+.0f} ms")
    left.axvline(0, color=GREY, linestyle=":", linewidth=1)
    right.set_title("Over time, in stretches of 2 s")
    label_axes(right, "middle of the stretch (seconds)", "")
    right.plot(times, trace, color=JOINT["color"], marker="o")
    right.axhline(0, color=GREY, linestyle=":", linewidth=1)
    return add_legend(figure)


@style_figure
def plot_reliability(
    calibration: Mapping[str, Calibration], *, names: Mapping[str, str] | None = None, note: str = ""
) -> Figure:
    """How often videos of a score are fake, for the network's own scores and those joined from all evidence.

    Args:
        calibration: `network` and `evidence`, as an evaluation's report has them.
        names: what these are called, where the scores are not ours.
    """
    figure, axes = open_axes("Are scores probabilities?", note)
    label_axes(axes, "mean score of the videos in a bin", "share of them that are fake")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="a probability")
    for name, look in LOOKS.items():
        found = calibration[name]
        label = f"{(names or {}).get(name, look['label'])}: Brier {found['brier']:.3f}, ECE {found['ece']:.3f}"
        points = [(each["score"], each["share"]) for each in found["bins"]]
        axes.plot(*zip(*points, strict=True), **look | {"label": label})
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    return add_legend(figure)
