"""Figures from scores and clips.

Every function returns a closed `Figure`: as a cell's last value it is shown once, and `figure.savefig` writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from dfmm.metrics import compute_auc, compute_metrics, compute_precision_recall, compute_roc, compute_roc_band

Interval = Mapping[str, float | None]  # "value", "low", "high"; None = undefined
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
LABEL_LENGTH = 26  # characters of a method's name beside an axis


def style_figure(draw: Callable[Parameters, Figure]) -> Callable[Parameters, Figure]:
    """Draw in the house style whatever the notebook's own is, and close the figure, else Jupyter shows it twice."""

    @wraps(draw)
    def draw_styled(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Figure:
        with plt.style.context(["default", STYLE]):
            figure = draw(*args, **kwargs)
        plt.close(figure)
        return figure

    return draw_styled


# Scores


@style_figure
def plot_roc(scores: pd.DataFrame, *, auc: Interval | None = None, note: str = "") -> Figure:
    """The ROC curve of the scored videos with its 95 % band, resampled by identity.

    Args:
        scores: the video table.
        auc: the area and its interval where they are known already; else computed.
        note: the title's second line, such as "synthetic data".
    """
    figure, axes = _open_axes("ROC of videos", note)
    scored = select_scored(scores)
    _label_axes(axes, "false-positive rate (reals called fake)", "true-positive rate (fakes found)")
    _span_unit_square(axes)
    if scored["label"].nunique() < 2:
        return _say_undefined(figure, axes, scored)
    labels, values, identities = scored["label"], scored["score"], list(scored["identities"])
    auc = auc or compute_auc(labels, values, identities=identities)
    fpr, tpr, _ = compute_roc(labels, values)
    axes.plot(fpr, tpr, color=JOINT["color"], label=f"AUC {format_interval(auc)}")
    start = 3 / (labels == 0).sum()  # below, the reals are too few to tell such rates apart
    if start < 1:
        grid = np.linspace(start, 1, 100)
        low, high = compute_roc_band(labels, values, identities=identities, fpr_grid=grid)
        axes.fill_between(grid, low, high, color=BAND, linewidth=0, label="95 % band")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="chance")
    return _add_legend(figure)


@style_figure
def plot_precision_recall(scores: pd.DataFrame, *, ap: Interval | None = None, note: str = "") -> Figure:
    """Precision over recall of the scored videos, and what calling every video fake would reach: the prevalence.

    Args:
        scores: the video table.
        ap: the average precision and its interval where they are known already; else computed.
        note: the title's second line.
    """
    figure, axes = _open_axes("Precision and recall of videos", note)
    scored = select_scored(scores)
    _label_axes(axes, "recall (fakes found)", "precision (fakes among called fake)")
    _span_unit_square(axes)
    if scored["label"].nunique() < 2:
        return _say_undefined(figure, axes, scored)
    labels, values = scored["label"], scored["score"]
    # The average precision needs no threshold; any serves.
    ap = ap or compute_metrics(labels, values, threshold=0.5, identities=list(scored["identities"]))["ap"]
    precision, recall, _ = compute_precision_recall(labels, values)
    axes.plot(recall, precision, color=JOINT["color"], drawstyle="steps-post", label=f"AP {format_interval(ap)}")
    axes.axhline(labels.mean(), color=GREY, linestyle=":", label=f"prevalence {labels.mean():.2f}")
    return _add_legend(figure)


@style_figure
def plot_scores(scores: pd.DataFrame, threshold: float | None = None, *, note: str = "") -> Figure:
    """Histograms of the scores of real and fake videos, and the threshold between them."""
    figure, axes = _open_axes("Scores of real and fake videos", note)
    scored = select_scored(scores)
    _label_axes(axes, "score (probability of fake)", "videos")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.set_xlim(-0.02, 1.02)
    edges = np.linspace(0, 1, 1 + int(np.clip(1.5 * np.sqrt(len(scored)), 5, 30)))
    for label, name, look in (
        (0, "real", {"histtype": "stepfilled", "facecolor": REAL, "alpha": 0.75}),
        (1, "fake", {"histtype": "step", "edgecolor": FAKE, "hatch": "////", "linewidth": 1.8}),
    ):
        values = scored.loc[scored["label"] == label, "score"]
        axes.hist(values, bins=edges, label=f"{name} ({len(values)})", **look)
    _mark_threshold(axes.axvline, threshold)
    return _add_legend(figure)


@style_figure
def plot_curves(history: pd.DataFrame, *, best_epoch: int | None = None, note: str = "") -> Figure:
    """Training and validation loss, and validation AUC, over the epochs.

    Args:
        history: a row an epoch, as `read_history` returns it.
        best_epoch: the epoch kept; None marks the one with the highest validation AUC.
        note: the title's second line.
    """
    figure, (above, below) = plt.subplots(2, sharex=True)
    above.set_title(_join_title("Training", note))
    val = {"color": VALIDATION, "linestyle": "--", "marker": "s", "markersize": 4}
    above.plot(
        history["epoch"], history["train_loss"], color=JOINT["color"], marker="o", markersize=4, label="training"
    )
    above.plot(history["epoch"], history["val_loss"], **val, label="validation")
    below.plot(history["epoch"], history["val_auc"], **val)
    _label_axes(above, "", "loss")
    _label_axes(below, "epoch", "AUC")
    below.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    below.set_xlim(history["epoch"].min() - 0.5, history["epoch"].max() + 0.5)
    best_epoch = find_best_epoch(history) if best_epoch is None else best_epoch
    if best_epoch is not None:
        above.axvline(best_epoch, color=GREY, linestyle=":", label=f"best epoch ({best_epoch})")
        below.axvline(best_epoch, color=GREY, linestyle=":")
    return _add_legend(figure)


@style_figure
def plot_overfit(losses: Sequence[float], *, target: float) -> Figure:
    """The loss of one batch, step by step, on its way to the target."""
    figure, axes = _open_axes("One batch learnt by heart", "")
    axes.semilogy(range(1, len(losses) + 1), losses, color=JOINT["color"])
    axes.axhline(target, color=GREY, linestyle=":", label=f"target {target:g}")
    _label_axes(axes, "step", "loss")
    return _add_legend(figure)


@style_figure
def plot_stages(stages: pd.Series, *, note: str = "") -> Figure:
    """How long the stages of a training step take: `stages` in ms a batch, as `time_stages` returns them."""
    figure, axes = _open_axes("Time of each stage", note)
    colors = [VALIDATION if name.startswith("read") else JOINT["color"] for name in stages.index]
    bars = axes.barh(stages.index, stages, color=colors)
    axes.bar_label(bars, fmt="{:.0f}", padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    _label_axes(axes, "ms a batch", "")
    return figure


@style_figure
def plot_timeline(windows: pd.DataFrame, title: str = "", threshold: float | None = None, *, note: str = "") -> Figure:
    """One video's scores over time: all streams together, and each alone.

    Synchrony is drawn upside down, as the probability of being out of sync: in all lines, up is suspicious.
    """
    figure, axes = _open_axes(shorten_text(title, 60), note, size=(6, 3.2))
    _label_axes(axes, "window's start (seconds)", "probability")
    axes.set_ylim(-0.03, 1.03)
    windows = windows.sort_values("start")
    for name, look in STREAMS.items():
        values = windows[f"{name}_score"]
        if name == "in_sync":
            values, look = 1 - values, look | {"label": "out of sync"}
        if values.notna().any():
            axes.plot(windows["start"], values, **look, linewidth=1.2, markersize=4)
    axes.plot(windows["start"], windows["score"], **JOINT | {"label": "fake (all streams)"})
    _mark_threshold(axes.axhline, threshold)
    return _add_legend(figure)


# Reports and tables


@style_figure
def plot_confusion(report: Mapping[str, Any]) -> Figure:
    """Counts of real and fake videos by what they were called, and each count's share of its row."""
    threshold = format_number(report["threshold"]["value"])
    figure, axes = _open_axes(f"Confusion of videos at threshold {threshold}", describe_data(report))
    confusion = report["video"]["confusion"]
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
def plot_methods(report: Mapping[str, Any]) -> Figure:
    """A forest plot: each method's AUC against all reals with its interval, and the streams' own beside it."""
    methods = {name: values for name, values in report["methods"].items() if name != "real"}
    height = 1.9 + 0.45 * max(len(methods), 1)
    figure, axes = _open_axes("AUC by method of forgery", describe_data(report), size=(6, height))
    _label_axes(axes, "AUC against all reals", "")
    axes.grid(visible=False, axis="y")
    rows = range(len(methods))
    for row in rows[::2]:
        axes.axhspan(row - 0.5, row + 0.5, color=STRIPE, linewidth=0)
    _draw_intervals(axes, [values["auc"] for values in methods.values()])
    for lane, name in enumerate(STREAMS):
        _draw_stream(axes, [values["streams"].get(name) for values in methods.values()], lane, name)
    axes.axvline(0.5, color=GREY, linestyle=":", linewidth=1.2)
    unseen = dict.fromkeys(report.get("unseen", {}).get("methods", []), ", unseen")
    axes.set_yticks(rows, [f"{shorten_text(n)} ({v['videos']}{unseen.get(n, '')})" for n, v in methods.items()])
    axes.set_ylim(max(len(methods), 1) - 0.5, -0.5)
    axes.set_xlim(min(axes.get_xlim()[0], 0.45), max(axes.get_xlim()[1], 1.02))
    numbers = axes.secondary_yaxis("right")
    numbers.set_yticks(rows, [format_interval(values["auc"]) for values in methods.values()])
    numbers.tick_params(length=0)
    numbers.spines["right"].set_visible(False)
    return _add_legend(figure)


@style_figure
def plot_counts(table: pd.DataFrame, *, note: str = "") -> Figure:
    """Bars of videos by method, stacked by split.

    Args:
        table: counts, a row a method and a column a split.
        note: the title's second line.
    """
    figure, axes = _open_axes("Videos by method and split", note, size=(5, 1.5 + 0.32 * max(len(table), 1)))
    _label_axes(axes, "videos", "")
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
    return _add_legend(figure)


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
def plot_log_mel(log_mel: NDArray[np.floating], *, hop_ms: float, note: str = "") -> Figure:
    """The energy of a sound over time and pitch.

    Args:
        log_mel: [mel bands, spectrogram frames] or [1, mel bands, spectrogram frames], as `compute_log_mel` has it.
        hop_ms: the step between spectrogram frames, in ms.
        note: the title's second line.
    """
    figure, axes = _open_axes("Log-mel spectrogram", note, size=(6, 2.8))
    log_mel = np.asarray(log_mel)
    log_mel = log_mel.reshape(log_mel.shape[-2:])
    bands, steps = log_mel.shape
    extent = (0, steps * hop_ms / 1000, 0, bands)
    image = axes.imshow(log_mel, origin="lower", aspect="auto", extent=extent, cmap="cividis")
    axes.set(xlabel="time (seconds)", ylabel="mel band")
    figure.colorbar(image, label="log energy (scaled)")
    return figure


# What they share


def select_scored(scores: pd.DataFrame) -> pd.DataFrame:
    """The videos that have a score; unknown identities are "" as `metrics` wants them."""
    scored = scores[scores["status"] == "ok"]
    # Read from a CSV, a column without any identity is one of floats, which hold no text.
    return scored.assign(identities=scored["identities"].astype(object).fillna(""))


def select_windows(windows: pd.DataFrame, video: pd.Series) -> pd.DataFrame:
    """Return the windows behind a video's score: of several faces, those of the most suspicious."""
    return windows[(windows["video_id"] == video["video_id"]) & (windows["face"] == video["face"])]


def find_best_epoch(history: pd.DataFrame) -> int | None:
    """The epoch with the highest validation AUC, among equals the one with the lowest loss; None without an AUC."""
    known = history.dropna(subset="val_auc").sort_values(["val_auc", "val_loss"], ascending=[False, True])
    return int(known["epoch"].iloc[0]) if len(known) else None


def describe_data(report: Mapping[str, Any]) -> str:
    """The note every figure of a report carries: results on synthetic data are called so wherever they are shown."""
    return "synthetic data" if report.get("synthetic") else ""


def format_interval(interval: Interval | None) -> str:
    """`0.932 [0.871, 0.981]`, or `–` where the value is undefined."""
    value, low, high = ((interval or {}).get(name) for name in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return format_number(value)
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def format_number(value: float | None) -> str:
    """Three decimals, or `–` where the value is undefined."""
    return "–" if value is None or np.isnan(value) else f"{value:.3f}"


def format_share(value: float | None) -> str:
    """Whole per cent, or `–` where the value is undefined."""
    return "–" if value is None or np.isnan(value) else f"{100 * value:.0f} %"


def shorten_text(text: str, length: int = LABEL_LENGTH) -> str:
    """The text's beginning, with an ellipsis where its end is left out."""
    return text if len(text) <= length else text[: length - 1] + "…"


def _open_axes(title: str, note: str, *, size: tuple[float, float] | None = None) -> tuple[Figure, Axes]:
    figure, axes = plt.subplots(figsize=size)
    axes.set_title(_join_title(title, note))
    return figure, axes


def _join_title(title: str, note: str) -> str:
    return "\n".join(filter(None, (title, note)))


def _label_axes(axes: Axes, x: str, y: str) -> None:
    axes.set(xlabel=x, ylabel=y)
    axes.grid(color=GRID, linewidth=0.6)


def _span_unit_square(axes: Axes) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))  # a perfect curve runs along the border, and must be seen


def _mark_threshold(draw_line: Callable[..., Any], threshold: float | None) -> None:
    if threshold is not None:
        draw_line(threshold, color="black", linestyle=(0, (5, 2)), linewidth=1.2, label=f"threshold {threshold:.3f}")


def _draw_intervals(axes: Axes, aucs: Sequence[Interval | None]) -> None:
    known = [(row - 0.2, auc) for row, auc in enumerate(aucs) if auc and auc["value"] is not None]
    if known:
        heights = [height for height, _ in known]
        values, low, high = ([auc[name] for _, auc in known] for name in ("value", "low", "high"))
        look = JOINT | {"label": "all streams, with 95 % interval", "linestyle": "none", "markersize": 7}
        axes.hlines(heights, low, high, color=JOINT["color"], linewidth=1.8)
        axes.plot(values, heights, **look)


def _draw_stream(axes: Axes, aucs: Sequence[Interval | None], lane: int, name: str) -> None:
    known = [(row + 0.13 * lane, auc["value"]) for row, auc in enumerate(aucs) if auc and auc["value"] is not None]
    heights, values = [height for height, _ in known], [value for _, value in known]
    if values:
        axes.plot(values, heights, **STREAMS[name] | {"linestyle": "none"}, markersize=4.5)


def _say_undefined(figure: Figure, axes: Axes, scored: pd.DataFrame) -> Figure:
    fakes = int(scored["label"].sum())
    text = f"undefined: it takes reals and fakes,\nhere are {len(scored) - fakes} and {fakes}"
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)
    return figure


def _add_legend(figure: Figure) -> Figure:
    """Put the legend under the axes, where it hides no data."""
    handles, labels = [], []
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.append(handle)
            labels.append(label)
    if labels:
        figure.legend(handles, labels, loc="outside lower center", ncols=2 if len(labels) == 4 else 3)
    return figure
