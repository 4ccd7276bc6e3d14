"""Figures of a training: its curves, what it learns by heart, what each stage takes."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dfmm.figures.style import (
    BAND,
    GREY,
    JOINT,
    VALIDATION,
    add_legend,
    join_title,
    label_axes,
    open_axes,
    style_figure,
)


@style_figure
def plot_curves(history: pd.DataFrame, *, best_epoch: int | None = None, note: str = "") -> Figure:
    """Training and validation loss, and validation AUC with its interval, over the epochs.

    Args:
        history: a row an epoch, as `read_history` returns it.
        best_epoch: the epoch that is kept, if it is to be marked.
        note: the title's second line.
    """
    figure, (above, below) = plt.subplots(2, sharex=True)
    above.set_title(join_title("Training", note))
    val = {"color": VALIDATION, "linestyle": "--", "marker": "s", "markersize": 4}
    above.plot(
        history["epoch"], history["train_loss"], color=JOINT["color"], marker="o", markersize=4, label="training"
    )
    above.plot(history["epoch"], history["val_loss"], **val, label="validation")
    below.plot(history["epoch"], history["val_auc"], **val)
    if "val_auc_low" in history:
        ends = (history[f"val_auc_{end}"].astype(float) for end in ("low", "high"))
        below.fill_between(history["epoch"], *ends, color=BAND, linewidth=0, label="95 % interval over people")
    label_axes(above, "", "loss")
    label_axes(below, "epoch", "AUC")
    below.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    below.set_xlim(history["epoch"].min() - 0.5, history["epoch"].max() + 0.5)
    if best_epoch is not None:
        above.axvline(best_epoch, color=GREY, linestyle=":", label=f"best epoch ({best_epoch})")
        below.axvline(best_epoch, color=GREY, linestyle=":")
    return add_legend(figure)


@style_figure
def plot_overfit(losses: Sequence[float], *, target: float) -> Figure:
    """The loss of one batch, step by step, on its way to the target."""
    figure, axes = open_axes("One batch learnt by heart", "")
    axes.semilogy(range(1, len(losses) + 1), losses, color=JOINT["color"])
    axes.axhline(target, color=GREY, linestyle=":", label=f"target {target:g}")
    label_axes(axes, "step", "loss")
    return add_legend(figure)


@style_figure
def plot_stages(stages: pd.Series, *, note: str = "") -> Figure:
    """How long the stages of a training step take: `stages` in ms a batch, as `time_stages` returns them."""
    figure, axes = open_axes("Time of each stage", note)
    colors = [VALIDATION if name.startswith("read") else JOINT["color"] for name in stages.index]
    bars = axes.barh(stages.index, stages, color=colors)
    axes.bar_label(bars, fmt="{:.0f}", padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    label_axes(axes, "ms a batch", "")
    return figure
