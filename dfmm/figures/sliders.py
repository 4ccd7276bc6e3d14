"""The sliders of threshold and prior: who is called fake, and how often that is right, were they chosen otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anywidget
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import expit, logit

from dfmm.figures.scores import select_scored
from dfmm.figures.still import Still, read_view
from dfmm.figures.style import FAKE, REAL, add_legend, join_title, label_axes, style_figure
from dfmm.figures.words import format_interval, format_number
from dfmm.metrics import Interval, compute_error, compute_metrics
from dfmm.words import count_noun

REACH = 7.0  # log-odds that are shown to either side: from 0.001 to 0.999, nearly
MARKS = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)
BINS = 56  # of the histogram, over all that is shown
SURE = 1e-12  # nearer to 0 or 1 a threshold has no log-odds that a slider could be at
UNKNOWN = Interval(value=None, low=None, high=None)
CLIPS = 1000  # of which it is said how many are called fake
HINT = "Run this cell in JupyterLab to move threshold and prior."


@dataclass(frozen=True)
class Decisions:
    """Scores of videos as log-odds, and who of them is called fake at which threshold, were fakes so frequent.

    Another prior adds the same to all log-odds, as `evaluation.shift_prior` says; a threshold that is moved along
    calls the same videos fake.
    """

    reals: NDArray[np.float64]  # log-odds, rising
    fakes: NDArray[np.float64]
    prior: float  # the share of fakes that the scores assume
    threshold: float  # of validation, a score
    recall: Interval  # at that threshold, as the report has them: only there it is not these videos that chose it
    false_alarms: Interval

    def measure(self, threshold: float, prior: float) -> dict[str, Any]:
        """Return `tn`, `fp`, `fn`, `tp`; and, as values or None, how often that is right.

        Args:
            threshold: a score, were the share of fakes `prior`.
        """
        at = logit(threshold) - (logit(prior) - logit(self.prior))
        fp, tp = (len(odds) - int(np.searchsorted(odds, at)) for odds in (self.reals, self.fakes))
        recall, alarms = _share(tp, len(self.fakes)), _share(fp, len(self.reals))
        among = None if None in (recall, alarms) else (prior * recall, (1 - prior) * alarms)
        return {
            **{"tn": len(self.reals) - fp, "fp": fp, "fn": len(self.fakes) - tp, "tp": tp},
            **{"recall": recall, "false_alarms": alarms, "precision": _share(tp, tp + fp)},
            "precision_at_prior": among and _share(among[0], sum(among)),
        }


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def open_decisions(videos: pd.DataFrame, threshold: float, prior: float, *, replicates: int = 1000) -> Decisions:
    """Take up the scored videos of the video table, whose scores assume this share of fakes.

    Args:
        threshold: as it was chosen on validation.
        replicates: how many times the intervals' bootstrap resamples the identities.
    """
    scored = select_scored(videos)
    scored = scored[scored["label"].isin((0, 1))]
    real, fake = (scored[scored["label"] == label] for label in (0, 1))
    threshold = float(np.clip(threshold, SURE, 1 - SURE))  # one above all scores may be above 1
    options = {"threshold": threshold, "replicates": replicates}
    recall = _measure_with(compute_metrics, scored, **options)["recall"]
    alarms = _measure_with(compute_error, real, **options) if len(real) else UNKNOWN
    reals, fakes = (np.sort(logit(rows["score"].to_numpy(float))) for rows in (real, fake))
    return Decisions(reals, fakes, prior, threshold, recall, alarms)


def _measure_with(compute: Callable[..., Any], rows: pd.DataFrame, **options: Any) -> Any:
    return compute(rows["label"], rows["score"], identities=list(rows["identities"]), **options)


class Sliders(anywidget.AnyWidget):
    """The widget: it is given the scores once, and counts by itself."""

    _esm, _css = read_view(__file__)
    reals, fakes = traitlets.Bytes().tag(sync=True), traitlets.Bytes().tag(sync=True)  # float64, as in `Decisions`
    about = traitlets.Dict().tag(sync=True)

    def __init__(self, decisions: Decisions, split: str):
        super().__init__()
        self.reals, self.fakes = (odds.astype("<f8").tobytes() for odds in (decisions.reals, decisions.fakes))
        self.about = {
            **{"threshold": decisions.threshold, "prior": decisions.prior, "split": split},
            **{"recall": decisions.recall, "false_alarms": decisions.false_alarms},
            **{"reach": REACH, "marks": list(MARKS), "bins": BINS, "clips": CLIPS},
            "colours": {"real": REAL, "fake": FAKE},
        }


def try_thresholds(
    videos: pd.DataFrame,
    threshold: float,
    *,
    prior: float,
    split: str = "test",
    note: str = "",
    replicates: int = 1000,
) -> Still:
    """Return sliders of threshold and prior over the scored videos, as a cell's last value.

    Args:
        videos: the video table.
        threshold: as it was chosen on validation; there alone intervals are shown.
        prior: the share of fakes that scores and threshold assume.
        split: whose videos these are.
        note: the still's second line.
        replicates: of the intervals, as the report has them.
    """
    decisions = open_decisions(videos, threshold, prior, replicates=replicates)
    draw, make = (lambda: plot_decisions(decisions, note=note)), (lambda: Sliders(decisions, split))
    return Still("Threshold and prior", tell_decisions(decisions, split), HINT, draw, make)


def tell_decisions(decisions: Decisions, split: str) -> dict[str, str]:
    """Return what validation's threshold reaches, in words, by what it is."""
    threshold = decisions.threshold
    found = decisions.measure(threshold, decisions.prior)
    counts = f"{count_noun(found['tp'], 'fake')} found, {found['fn']} missed; "
    counts += f"{count_noun(found['fp'], 'real')} called fake, {found['tn']} not"
    return {
        "threshold of validation": f"{threshold:.3f}, for a share of {decisions.prior:.2f} fakes",
        "called": counts,
        "precision": format_number(found["precision"]),
        "recall": format_interval(decisions.recall),
        "false alarms per hundred reals": _format_hundredfold(decisions.false_alarms),
        "mind": f"choosing another threshold here is choosing on {split}: what it reaches here is no news of others",
    }


def _format_hundredfold(share: Interval) -> str:
    if share["value"] is None:
        return "–"
    value, low, high = (f"{100 * share[name]:.1f}" for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


@style_figure
def plot_decisions(decisions: Decisions, *, note: str = "") -> Figure:
    """The scores of reals and fakes on a scale of odds, and what each threshold would reach; dashed is validation's."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8))
    threshold = decisions.threshold
    figure.suptitle(join_title("Threshold and prior", note), fontsize=11)
    edges = np.linspace(-REACH, REACH, BINS + 1)
    for odds, sign, name, colour in ((decisions.fakes, 1, "fake", FAKE), (decisions.reals, -1, "real", REAL)):
        counts, _ = np.histogram(np.clip(odds, -REACH, REACH), edges)
        left.bar(edges[:-1], sign * counts, np.diff(edges), align="edge", color=colour, label=f"{name} ({len(odds)})")
    left.axhline(0, color="black", linewidth=0.8)
    label_axes(left, "score (probability of fake)", "videos, reals below")
    left.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    _draw_rates(right, decisions)
    for axes in (left, right):
        axes.set_xticks(logit(MARKS), [f"{mark:g}" for mark in MARKS])
        axes.set_xlim(-REACH, REACH)
        line = axes.axvline(
            np.clip(logit(threshold), -REACH, REACH), color="black", linestyle=(0, (5, 2)), linewidth=1.2
        )
    line.set_label(f"threshold of validation {threshold:.3f}")
    return add_legend(figure)


def _draw_rates(axes: Axes, decisions: Decisions) -> None:
    label_axes(axes, "threshold", "share")
    at = np.linspace(-REACH, REACH, 281)
    found = pd.DataFrame([decisions.measure(float(expit(odds)), decisions.prior) for odds in at])
    looks = {
        "recall": {"label": "recall", "color": FAKE, "linestyle": "-"},
        "precision": {"label": "precision", "color": "black", "linestyle": ":"},
        "false_alarms": {"label": "false alarms among reals", "color": REAL, "linestyle": "--"},
    }
    for name, look in looks.items():
        axes.plot(at, found[name].astype(float), **look)
    axes.set_ylim(-0.02, 1.02)
