"""Figures of several runs beside each other: metrics, paired differences, curves, and the spread of seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dfmm.figures.scores import find_rarest, place_errors, say_undefined, select_scored, span_deviates, span_unit_square
from dfmm.figures.style import FAKE, GREY, GRID, REAL, join_title, label_axes, open_axes, style_figure
from dfmm.figures.words import format_difference, format_interval, shorten_text
from dfmm.metrics import SURE, Difference, Interval, compute_roc

# A run's line, told apart in grey as well: no colour that means something else in other figures is the first.
COLOURS = ("#000000", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#0072B2", "#D55E00")
DASHES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)))
BETTER = "#DCEBF5"  # the side of a difference on which the first run of a pair is the better one
GUESS = {"auc": 0.5, "eer": 0.5, "balanced_accuracy": 0.5, "min_dcf": 1.0, "cllr": 1.0}  # what knowing nothing reaches
DOT = {"color": "#000000", "marker": "o", "markersize": 6}
SURELY, LUCK, UNTOLD = f"sure: p < {SURE:g} after Holm", "luck alone may do that", "too few people or errors to tell"
KINDS = {SURELY: {}, LUCK: {"markerfacecolor": "white"}, UNTOLD: {"marker": "x"}}
ROW, PANEL, FOOT = 0.27, 0.62, 1.0  # inches: of a row, of a panel beside its rows, of a figure beside its panels


@style_figure
def plot_metrics(found: Mapping[str, Any], titles: Mapping[str, str], *, note: str = "") -> Figure:
    """A panel a metric: each run's value as a dot, with its 95 % interval.

    Args:
        found: as from `compare_runs`.
        titles: of the metrics to draw, by name.
        note: the title's second line.
    """
    names = name_runs([run["name"] for run in found["runs"]])
    title = f"{len(names)} runs on the same {found['videos']} videos"
    figure, panels = _open_panels(names, titles, title, note)
    for name, axes in panels.items():
        intervals = [run["metrics"][name] for run in found["runs"]]
        if name in GUESS:
            axes.axvline(GUESS[name], color=GREY, linestyle=":", linewidth=1.2, label="what a guess reaches")
        _draw_rows(axes, intervals, "value", label="with its 95 % interval")
        _write_rows(axes, [format_interval(interval) for interval in intervals])
    return _add_one_legend(figure)


@style_figure
def plot_differences(
    found: Mapping[str, Any], titles: Mapping[str, str], better: Mapping[str, str], *, note: str = ""
) -> Figure:
    """A panel a metric: how far each pair of runs differs, with its paired 95 % interval, around a line at zero.

    A full dot is a difference that is sure after as many pairs were tried (Holm); a cross is one that people, or
    errors, are too few to tell anything of. Below the AUC's bootstrap stands DeLong's interval.

    Args:
        found, titles, note: as in `plot_metrics`.
        better: by name, whether `more` or `less` of a metric is better: the tinted side is where the first run is.
    """
    pairs = found["differences"]
    names = dict(zip(names := [run["name"] for run in found["runs"]], name_runs(names), strict=True))
    rows = [f"{names[pair['a']]} − {names[pair['b']]}" for pair in pairs]
    figure, panels = _open_panels(rows, titles, "Differences on the same videos, paired", note)
    for name, axes in panels.items():
        found_here = [pair["metrics"][name] for pair in pairs]
        _draw_rows(axes, found_here, "difference", judge=judge_difference)
        if name == "auc":
            delong = [
                each if each["low"] is not None else None for each in (pair["metrics"]["delong"] for pair in pairs)
            ]
            look = {"marker": "D", "markersize": 4, "color": REAL}
            _draw_rows(axes, delong, "difference", label="DeLong", shift=0.24, look=look)
        _write_rows(axes, [_format_row(difference) for difference in found_here])
        _mark_zero(axes, better.get(name))
    drawn = [judge_difference(pair["metrics"][name]) for pair in pairs for name in panels]
    for label in (label for label in KINDS if label in drawn):
        axes.plot([], [], linestyle="none", **DOT | KINDS[label], label=label)
    return _add_one_legend(figure)


@style_figure
def plot_seeds(
    found: Mapping[str, Any], group: Mapping[str, Any], titles: Mapping[str, str], *, note: str = ""
) -> Figure:
    """A panel a metric: the runs of one setting that differ in their seed, each with its interval, and their spread.

    Args:
        found, titles, note: as in `plot_metrics`.
        group: one of its `seeds`.
    """
    runs = [run for run in found["runs"] if run["name"] in group["runs"]]
    drawn = {name: title for name, title in titles.items() if name in group["metrics"]}
    rows = ["between seeds", *name_runs([run["name"] for run in runs])]
    figure, panels = _open_panels(rows, drawn, f"{len(runs)} seeds of one setting", note)
    for name, axes in panels.items():
        values, intervals = group["metrics"][name], [run["metrics"][name] for run in runs]
        ends, look = (
            [values["least"], values["most"]],
            {"color": FAKE, "marker": "|", "markersize": 9, "markeredgewidth": 2},
        )
        axes.plot(ends, [0, 0], **look, linewidth=5, label="from the least to the most")
        _draw_rows(axes, [None, *intervals], "value", label="each with its 95 % interval")
        spread = f"{values['mean']:.3f} ± {values['between']:.3f} (SD)"
        _write_rows(axes, [spread, *(format_interval(interval) for interval in intervals)])
    return _add_one_legend(figure)


@style_figure
def plot_novelty(methods: pd.DataFrame, *, note: str = "") -> Figure:
    """A row a run, a column a method: the AUC of its fakes against all reals; framed where training never saw it.

    Args:
        methods: as from `measure_methods`.
        note: the title's second line.
    """
    title = "AUC on each method's fakes"
    if methods.empty:
        figure, axes = open_axes(title, note, size=(5, 2.5))
        axes.text(0.5, 0.5, "undefined: it takes reals and fakes", ha="center", va="center", transform=axes.transAxes)
        return figure
    runs, columns = list(methods["run"].unique()), list(methods["method"].unique())
    figure, axes = plt.subplots(figsize=(1.6 + 0.95 * len(columns), 1.9 + 0.55 * len(runs)))
    axes.set_title(join_title(title, note))
    values = methods.pivot(index="run", columns="method", values="value").reindex(runs, columns=columns)
    image = axes.imshow(values.to_numpy(float), cmap="cividis", vmin=0.5, vmax=1, aspect="auto")
    for row in methods.itertuples():
        x, y = columns.index(row.method), runs.index(row.run)
        ends = f"\n[{row.low:.2f}, {row.high:.2f}]" if pd.notna(row.low) else ""
        axes.text(x, y, f"{row.value:.2f}{ends}", ha="center", va="center", fontsize=8, color=_choose_ink(row.value))
        if row.unseen:
            axes.add_patch(Rectangle((x - 0.46, y - 0.42), 0.92, 0.84, fill=False, edgecolor=FAKE, linewidth=2.5))
    axes.set_xticks(range(len(columns)), [shorten_text(name, 16) for name in columns], rotation=20, ha="right")
    axes.set_yticks(range(len(runs)), [shorten_text(name, 24) for name in name_runs(runs)])
    label_axes(axes, "method in test" + "; framed: never seen in training" * (True in set(methods["unseen"])), "run")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="AUC", extend="min")
    return figure


def _choose_ink(value: float) -> str:
    """Dark on what is light in `plot_novelty`, and the other way round."""
    return "black" if value > 0.78 else "white"


# Curves


@style_figure
def plot_rocs(scores: Mapping[str, pd.DataFrame], aucs: Mapping[str, Interval], *, note: str = "") -> Figure:
    """The ROC curves of several runs, over each other; their bands would hide one another.

    Args:
        scores: the video table of each run, by its name, of the same videos.
        aucs: each run's area and its interval.
        note: the title's second line.
    """
    figure, axes = _open_curves("ROC of each run", scores, note)
    label_axes(axes, "false-positive rate (reals called fake)", "true-positive rate (fakes found)")
    span_unit_square(axes)
    tables = {name: select_scored(table) for name, table in scores.items()}
    if (undefined := _find_undefined(tables)) is not None:
        return say_undefined(figure, axes, undefined)
    curves = {name: compute_roc(scored["label"], scored["score"])[:2] for name, scored in tables.items()}
    _draw_curves(axes, curves, {name: f"AUC {format_interval(auc)}" for name, auc in aucs.items()})
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1.2, label="chance")
    return _add_one_legend(figure, columns=1)


@style_figure
def plot_dets(scores: Mapping[str, pd.DataFrame], eers: Mapping[str, Interval], *, note: str = "") -> Figure:
    """The detection error trade-offs of several runs, over each other.

    Args:
        scores, note: as in `plot_rocs`.
        eers: each run's equal error rate and its interval.
    """
    figure, axes = _open_curves("Detection error trade-off of each run", scores, note)
    label_axes(axes, "false-positive rate (reals called fake)", "miss rate (fakes not found)")
    tables = {name: select_scored(table) for name, table in scores.items()}
    if (undefined := _find_undefined(tables)) is not None:
        return say_undefined(figure, axes, undefined)
    curves = {name: place_errors(scored) for name, scored in tables.items()}
    _draw_curves(axes, curves, {name: f"EER {format_interval(eer)}" for name, eer in eers.items()})
    span_deviates(axes, find_rarest(next(iter(tables.values()))))
    return _add_one_legend(figure, columns=1)


def _open_curves(title: str, scores: Mapping[str, pd.DataFrame], note: str) -> tuple[Figure, Axes]:
    return open_axes(title, note, size=(5, 4.2 + 0.2 * len(scores)))


def _find_undefined(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame | None:
    """The first table of one label only: it has no curve."""
    return next((scored for scored in tables.values() if scored["label"].nunique() < 2), None)


def _draw_curves(axes: Axes, curves: Mapping[str, Sequence[np.ndarray]], labels: Mapping[str, str]) -> None:
    """Draw a curve for each run, the later ones thinner: equal ones are all seen."""
    looks = zip(np.linspace(3.2, 1.4, len(curves)), cycle(COLOURS), cycle(DASHES), strict=False)
    for (run, curve), name, (width, colour, dash) in zip(curves.items(), name_runs(list(curves)), looks, strict=False):
        axes.plot(*curve, color=colour, linestyle=dash, linewidth=width, label=f"{name}: {labels[run]}")


# What they share


def name_runs(names: Sequence[str]) -> list[str]:
    """The ends of the runs' folders, as short as they tell them apart."""
    parts, kept = [Path(name).parts for name in names], 1
    while len({each[-kept:] for each in parts}) < len(set(names)):
        kept += 1
    return [Path(*each[-kept:]).as_posix() for each in parts]


def _open_panels(
    rows: Sequence[str], titles: Mapping[str, str], title: str, note: str
) -> tuple[Figure, dict[str, Axes]]:
    """Open a panel a metric, one below the other, with these names beside its rows."""
    height = FOOT + len(titles) * (PANEL + ROW * len(rows))
    figure, grid = plt.subplots(max(len(titles), 1), figsize=(7, height), squeeze=False)
    figure.suptitle(join_title(title, note), fontsize=11)
    for axes, name in zip(grid[:, 0], titles.values(), strict=False):
        axes.set_title(name, fontsize=10, loc="left")
        axes.grid(color=GRID, linewidth=0.6, axis="x")
        axes.set_yticks(range(len(rows)), [shorten_text(row, 40) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
    return figure, dict(zip(titles, grid[:, 0], strict=False))


def _draw_rows(
    axes: Axes,
    intervals: Sequence[Interval | Difference | None],
    what: str,
    *,
    label: str | None = None,
    judge: Callable[[Difference], str] | None = None,
    shift: float = 0.0,
    look: Mapping[str, Any] = DOT,
) -> None:
    """Draw a dot and a whisker on each row that has them, the dot as it is judged."""
    known = [(row + shift, each) for row, each in enumerate(intervals) if each and each[what] is not None]
    sized = [(row, each["low"], each["high"]) for row, each in known if each["low"] is not None]
    if sized:
        axes.hlines(*zip(*sized, strict=True), color=look["color"], linewidth=1.6)
    for place, (row, each) in enumerate(known):
        kind = KINDS[judge(each)] if judge else {}
        axes.plot(each[what], row, linestyle="none", **{**look, **kind}, label=None if place else label)


def judge_difference(difference: Difference) -> str:
    """Which of `KINDS` a difference of two runs is."""
    p = difference.get("p_holm", difference["p"])
    return UNTOLD if p is None else SURELY if p < SURE else LUCK


def _format_row(difference: Difference) -> str:
    p = difference.get("p_holm", difference["p"])
    return format_difference(difference) + ("" if p is None else " p < 0.001" if p < 0.001 else f" p {p:.3f}")


def _write_rows(axes: Axes, texts: Sequence[str]) -> None:
    numbers = axes.secondary_yaxis("right")
    numbers.set_yticks(range(len(texts)), texts)
    numbers.tick_params(length=0)
    numbers.spines["right"].set_visible(False)


def _mark_zero(axes: Axes, better: str | None) -> None:
    """Put a line at zero in the middle, and tint the side on which the first run of a pair is the better one."""
    reach = 1.05 * max(0.01, *map(abs, axes.get_xlim()))
    axes.set_xlim(-reach, reach)
    axes.axvline(0, color="black", linewidth=1.4)
    if better:
        ends = (0, reach) if better == "more" else (-reach, 0)
        axes.axvspan(*ends, color=BETTER, zorder=0, label="here the first is better")


def _add_one_legend(figure: Figure, *, columns: int = 2) -> Figure:
    """Put one legend under all panels, each name in it once."""
    found = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        figure.legend(
            found.values(),
            found.keys(),
            loc="outside lower center",
            ncols=columns,
        )
    return figure
