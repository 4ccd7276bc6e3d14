"""Figures of scores: ROC and its like, thresholds, methods."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import numpy as np
import pandas as pd
import scipy
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from dfmm.figures.style import (
    BAND,
    FAKE,
    GREY,
    JOINT,
    REAL,
    STREAMS,
    STRIPE,
    add_legend,
    label_axes,
    mark_threshold,
    open_axes,
    style_figure,
)
from dfmm.figures.words import format_interval, format_number, format_share, shorten_text
from dfmm.metrics import (
    Interval,
    compute_auc,
    compute_det,
    compute_eer,
    compute_metrics,
    compute_precision_recall,
    compute_roc,
    compute_roc_band,
)

# Scores


@style_figure
def plot_roc(scores: pd.DataFrame, *, auc: Interval | None = None, note: str = "", replicates: int = 1000) -> Figure:
    """The ROC curve of the scored videos with its 95 % band, resampled by identity.

    Args:
        scores: the video table.
        auc: the area and its interval where they are known already; else computed.
        note: the title's second line, such as "synthetic data".
        replicates: of the bootstrap behind the band, and behind the area's interval.
    """
    figure, axes = open_axes("ROC of videos", note)
    scored = select_scored(scores)
    label_axes(axes, "false-positive rate (reals called fake)", "true-positive rate (fakes found)")
    span_unit_square(axes)
    if scored["label"].nunique() < 2:
        return say_undefined(figure, axes, scored)
    labels, values, identities = scored["label"], scored["score"], list(scored["identities"])
    auc = auc or compute_auc(labels, values, identities=identities, replicates=replicates)
    fpr, tpr, _ = compute_roc(labels, values)
    axes.plot(fpr, tpr, color=JOINT["color"], label=f"AUC {format_interval(auc)}")
    options = {"identities": identities, "replicates": replicates}
    start = 3 / (labels == 0).sum()  # below, the reals are too few to tell such rates apart
    if start < 1:
        grid = np.linspace(start, 1, 100)
        low, high = compute_roc_band(labels, values, fpr_grid=grid, **options)
        axes.fill_between(grid, low, high, color=BAND, linewidth=0, label="95 % band")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="chance")
    return add_legend(figure)


@style_figure
def plot_det(scores: pd.DataFrame, *, eer: Interval | None = None, note: str = "") -> Figure:
    """The detection error trade-off of the scored videos: misses over false alarms, both as normal deviates.

    Args:
        scores: the video table.
        eer: the equal error rate and its interval where they are known already; else its value is computed.
        note: the title's second line.
    """
    figure, axes = open_axes("Detection error trade-off of videos", note)
    scored = select_scored(scores)
    label_axes(axes, "false-positive rate (reals called fake)", "miss rate (fakes not found)")
    if scored["label"].nunique() < 2:
        return say_undefined(figure, axes, scored)
    labels, values = scored["label"], scored["score"]
    eer = eer or {"value": compute_eer(labels, values), "low": None, "high": None}
    axes.plot(*place_errors(scored), color=JOINT["color"], label=f"EER {format_interval(eer)}")
    span_deviates(axes, find_rarest(scored))
    return add_legend(figure)


@style_figure
def plot_precision_recall(scores: pd.DataFrame, *, ap: Interval | None = None, note: str = "") -> Figure:
    """Precision over recall of the scored videos, and what calling every video fake would reach: the prevalence.

    Args:
        scores: the video table.
        ap: the average precision and its interval where they are known already; else computed.
        note: the title's second line.
    """
    figure, axes = open_axes("Precision and recall of videos", note)
    scored = select_scored(scores)
    label_axes(axes, "recall (fakes found)", "precision (fakes among called fake)")
    span_unit_square(axes)
    if scored["label"].nunique() < 2:
        return say_undefined(figure, axes, scored)
    labels, values = scored["label"], scored["score"]
    # The average precision needs no threshold; any serves.
    ap = ap or compute_metrics(labels, values, threshold=0.5, identities=list(scored["identities"]))["ap"]
    axes.plot(*trace_precision(labels, values), color=JOINT["color"], label=f"AP {format_interval(ap)}")
    axes.axhline(labels.mean(), color=GREY, linestyle=":", label=f"prevalence {labels.mean():.2f}")
    return add_legend(figure)


def trace_precision(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return recall and precision where fakes are found, as steps whose area is the average precision.

    Between two finds precision only falls, and then leaps back at the same recall: spikes that say nothing more.
    """
    precision, recall, _ = compute_precision_recall(labels, scores)
    found = np.diff(recall) != 0  # the last, and so the highest, precision at each recall; not the point made up at 0
    precision, recall = precision[:-1][found], recall[:-1][found]
    return np.repeat(np.append(recall, 0), 2)[1:-1], np.repeat(precision, 2)


@style_figure
def plot_scores(scores: pd.DataFrame, threshold: float | None = None, *, note: str = "") -> Figure:
    """Histograms of the scores of real and fake videos, and the threshold between them."""
    figure, axes = open_axes("Scores of real and fake videos", note)
    scored = select_scored(scores)
    label_axes(axes, "score (probability of fake)", "videos")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.set_xlim(-0.02, 1.02)
    edges = np.linspace(0, 1, 1 + int(np.clip(1.5 * np.sqrt(len(scored)), 5, 30)))
    for label, name, look in (
        (0, "real", {"histtype": "stepfilled", "facecolor": REAL, "alpha": 0.75}),
        (1, "fake", {"histtype": "step", "edgecolor": FAKE, "hatch": "////", "linewidth": 1.8}),
    ):
        values = scored.loc[scored["label"] == label, "score"]
        axes.hist(values, bins=edges, label=f"{name} ({len(values)})", **look)
    mark_threshold(axes.axvline, threshold)
    return add_legend(figure)


# Decisions and methods


class Method(Protocol):
    """What a forest plot shows of a method, as an evaluation's report holds it."""

    videos: int
    auc: Interval
    streams: Mapping[str, Interval]


@style_figure
def plot_confusion(confusion: Mapping[str, int], threshold: float, *, note: str = "") -> Figure:
    """Counts of real and fake videos by what they were called, and each count's share of its row.

    Args:
        confusion: `tn`, `fp`, `fn` and `tp`.
        threshold: from which score on a video is called fake.
        note: the title's second line.
    """
    figure, axes = open_axes(f"Confusion of videos at threshold {format_number(threshold)}", note)
    counts = np.array([[confusion[name] for name in row] for row in (("tn", "fp"), ("fn", "tp"))])
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    axes.imshow(shares, cmap="Greys", vmin=0, vmax=1.3)
    for (row, column), count in np.ndenumerate(counts):
        share = format_share(shares[row, column] if totals[row, 0] else None)
        colour = "white" if shares[row, column] > 0.6 else "black"
        axes.text(column, row, f"{count}\n{share}", ha="center", va="center", color=colour, fontsize=14)
    axes.set_xticks([0, 1], ["real", "fake"])
    axes.set_yticks([0, 1], ["real", "fake"])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="called", ylabel="truth")
    return figure


@style_figure
def plot_methods(methods: Mapping[str, Method], *, unseen: Collection[str] = (), note: str = "") -> Figure:
    """A forest plot: each method's AUC against all reals with its interval, and the streams' own beside it.

    Args:
        methods: by name.
        unseen: the names of those that training did not see.
        note: the title's second line.
    """
    methods = {name: method for name, method in methods.items() if name != "real"}
    height = 1.9 + 0.45 * max(len(methods), 1)
    figure, axes = open_axes("AUC by method of forgery", note, size=(6, height))
    label_axes(axes, "AUC against all reals", "")
    axes.grid(visible=False, axis="y")
    rows = range(len(methods))
    for row in rows[::2]:
        axes.axhspan(row - 0.5, row + 0.5, color=STRIPE, linewidth=0)
    _draw_intervals(axes, [method.auc for method in methods.values()])
    for lane, name in enumerate(STREAMS):
        _draw_stream(axes, [method.streams.get(name) for method in methods.values()], lane, name)
    axes.axvline(0.5, color=GREY, linestyle=":", linewidth=1.2)
    said = dict.fromkeys(unseen, ", unseen")
    axes.set_yticks(rows, [f"{shorten_text(n)} ({m.videos}{said.get(n, '')})" for n, m in methods.items()])
    axes.set_ylim(max(len(methods), 1) - 0.5, -0.5)
    axes.set_xlim(min(axes.get_xlim()[0], 0.45), max(axes.get_xlim()[1], 1.02))
    numbers = axes.secondary_yaxis("right")
    numbers.set_yticks(rows, [format_interval(method.auc) for method in methods.values()])
    numbers.tick_params(length=0)
    numbers.spines["right"].set_visible(False)
    return add_legend(figure)


# What they share


def select_scored(scores: pd.DataFrame) -> pd.DataFrame:
    """The videos that have a score; unknown identities are "" as `metrics` wants them."""
    scored = scores[scores["status"] == "ok"]
    # Read from a CSV, a column without any identity is one of floats, which hold no text.
    return scored.assign(identities=scored["identities"].astype(object).fillna(""))


def find_rarest(scored: pd.DataFrame) -> float:
    """The rate below which scored videos of both labels tell none: a half of one of those of which there are more."""
    return 0.5 / max((scored["label"] == 0).sum(), scored["label"].sum())


def place_errors(scored: pd.DataFrame) -> NDArray[np.floating]:
    """False alarms and misses at every threshold as normal deviates, [2, thresholds]; 0 and 1 have none: the rarest."""
    least = find_rarest(scored)
    return scipy.stats.norm.ppf(np.clip(compute_det(scored["label"], scored["score"])[:2], least, 1 - least))


def span_deviates(axes: Axes, least: float) -> None:
    """Write rates from the rarest on beside both axes, and draw where errors are equal and what chance gives."""
    marks = [share for share in (0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99, 0.999) if least <= share <= 1 - least]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(scipy.stats.norm.ppf(marks), [f"{100 * share:g} %" for share in marks])
    border = scipy.stats.norm.ppf([least, 1 - least])
    axes.plot(border, border, color=GREY, linestyle=":", label="equal errors")
    axes.plot(border, border[::-1], color=GREY, linestyle="--", label="chance")


def span_unit_square(axes: Axes) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))  # a perfect curve runs along the border, and must be seen


def _draw_intervals(axes: Axes, aucs: Sequence[Interval | None]) -> None:
    known = [(row - 0.2, auc) for row, auc in enumerate(aucs) if auc and auc["value"] is not None]
    if known:
        heights = [height for height, _ in known]
        values, low, high = ([auc[name] for _, auc in known] for name in ("value", "low", "high"))
        look = JOINT | {"label": "all evidence, with 95 % interval", "linestyle": "none", "markersize": 7}
        axes.hlines(heights, low, high, color=JOINT["color"], linewidth=1.8)
        axes.plot(values, heights, **look)


def _draw_stream(axes: Axes, aucs: Sequence[Interval | None], lane: int, name: str) -> None:
    known = [(row + 0.13 * lane, auc["value"]) for row, auc in enumerate(aucs) if auc and auc["value"] is not None]
    heights, values = [height for height, _ in known], [value for _, value in known]
    if values:
        axes.plot(values, heights, **STREAMS[name] | {"linestyle": "none"}, markersize=4.5)


def say_undefined(figure: Figure, axes: Axes, scored: pd.DataFrame) -> Figure:
    fakes = int(scored["label"].sum())
    text = f"undefined: it takes reals and fakes,\nhere are {len(scored) - fakes} and {fakes}"
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)
    return figure
