"""The HTML report: one file with numbers, tables and figures that opens anywhere and prints."""

from __future__ import annotations

import base64
import io
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from matplotlib.figure import Figure

from dfmm import figures
from dfmm.evaluation.evaluate import read_timeline
from dfmm.evaluation.evidence import SENSES, Evidence, describe_evidence
from dfmm.evaluation.localization import TOLD, locate_video
from dfmm.evaluation.slices import describe_worst, list_slices
from dfmm.files import write_whole
from dfmm.runs import PACKAGES

METRICS = {
    "auc": "AUC",
    "ap": "Average precision",
    "eer": "Equal error rate",
    "balanced_accuracy": "Balanced accuracy",
    "recall": "Recall",
    "precision": "Precision",
}
FURTHER = {
    "f1": "F1",
    "accuracy": "Accuracy",
    "fpr_at_95_tpr": "False-positive rate at 95 % recall",
    "tpr_at_10_fpr": "Recall at a false-positive rate of 10 %",
    "tpr_at_1_fpr": "Recall at a false-positive rate of 1 %",
    "tpr_at_0.1_fpr": "Recall at a false-positive rate of 0.1 %",
    "log_loss": "Log-loss",
    "brier": "Brier score",
    "ece": "Expected calibration error",
    "cllr": "Cllr",
    "min_cllr": "min Cllr",
    "act_dcf": "actDCF",
    "min_dcf": "minDCF",
}
CAPTIONS = {
    "roc": "The share of fakes found at each share of reals falsely called fake. The nearer to the upper left corner, "
    "the better; where the band takes in the diagonal, chance explains it too. The band begins at three false alarms: "
    "for rarer ones the reals are too few.",
    "det": "The same errors on the scales of normal deviates, where normal scores make a straight line: the share of "
    "fakes missed at each share of false alarms. The nearer to the lower left corner, the better.",
    "precision_recall": "How many of the videos called fake are, as more and more fakes are found. The dotted line is "
    "what calling every video fake would reach; it moves with the share of fakes, and the curve with it.",
    "scores": "Reals belong to the left of the threshold and fakes to the right; what lies on the wrong side is an "
    "error, and where both overlap no threshold parts them.",
    "confusion": "A row for what videos are, a column for what they were called: errors are off the diagonal. Shares "
    "are of the row.",
    "methods": "A row a method, with its number of videos: the further right its dot, the easier it is found, and an "
    "interval across the dotted line may be chance. Small marks are the streams, each alone.",
    "reliability": "On the dotted line a score is the probability that it claims to be; above it, fakes are more than "
    "it says, below it fewer. Each point is a tenth of the videos, or ten of them: some distance is chance.",
    "curves": "Where the training loss falls on and the validation loss rises, the model learns its training videos by "
    "heart. The dotted line marks the epoch that is kept.",
    "stretches": "the probability of the window around each instant, what of the clip is forged, and where the "
    "probability is above one half. The first clip of a method that is forged in a stretch.",
    "timeline": "what each stream found from window to window. In all lines, up is suspicious.",
}
RIVALS = {
    "trivia": "Trivial features",
    "synchrony": "Correlation of mouth and loudness",
    "ridge": "Mouth and speech",
}
LOCATED = 3  # videos whose stretches are drawn
WORST = 10  # videos in the table of the most confidently wrong
UNSCORED = 50  # videos in the table of those without a score


@dataclass(frozen=True)
class Picture:
    """A figure of the report and the sentence below it that says what to see."""

    name: str
    figure: Figure
    caption: str

    @property
    def alt(self) -> str:
        return self.figure.axes[0].get_title().replace("\n", ", ")

    def encode(self) -> bytes:
        """The figure as PNG."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png")
        return buffer.getvalue()


def write_report(
    report: Mapping[str, Any],
    scores: pd.DataFrame,
    windows: pd.DataFrame,
    folder: Path,
    *,
    history: pd.DataFrame | None = None,
) -> Path:
    """Write `figures/*.png` and `report.html`, which holds the figures itself; each file appears whole or not at all.

    Args:
        report: the numbers, as in `report.json`.
        scores: the video table, as in `scores.csv`.
        windows: the window table.
        folder: where to write.
        history: the training curves, a row an epoch; None leaves their figure out.

    Returns:
        The path of `report.html`.
    """
    images = []
    pictures = draw_pictures(report, scores, windows, history=history)
    for picture in pictures + draw_stretches(report, scores, read_timeline(Path(folder))):
        png = picture.encode()
        write_whole(png, Path(folder) / "figures" / f"{picture.name}.png")
        uri = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
        images.append({"uri": uri, "alt": picture.alt, "caption": picture.caption})
    html = render_html(report, scores, images)
    return write_whole(html, Path(folder) / "report.html")


def draw_pictures(
    report: Mapping[str, Any], scores: pd.DataFrame, windows: pd.DataFrame, *, history: pd.DataFrame | None
) -> list[Picture]:
    """Draw the report's figures, in the order they are shown."""
    note, video, threshold = figures.describe_data(report), report["video"], report["threshold"]["value"]
    drawn = {
        "roc": figures.plot_roc(scores, auc=video["auc"], note=note, replicates=report.get("replicates", 1000)),
        "det": figures.plot_det(scores, eer=video["eer"], note=note),
        "precision_recall": figures.plot_precision_recall(scores, ap=video["ap"], note=note),
        "scores": figures.plot_scores(scores, threshold, note=note),
        "confusion": figures.plot_confusion(report),
        "methods": figures.plot_methods(report),
    }
    if "calibration" in report:
        drawn["reliability"] = figures.plot_reliability(report["calibration"], note=note)
    if history is not None and len(history):
        drawn["curves"] = figures.plot_curves(history, best_epoch=report["checkpoint"].get("epoch"), note=note)
    pictures = [Picture(name, figure, CAPTIONS[name]) for name, figure in drawn.items()]
    return pictures + draw_mistakes(scores, windows, threshold=report["threshold"].get("window", threshold), note=note)


def draw_mistakes(scores: pd.DataFrame, windows: pd.DataFrame, *, threshold: float | None, note: str) -> list[Picture]:
    """Draw the timelines of the most confidently missed fake and the worst false alarm, where there are any."""
    pictures = []
    wrong = find_mistakes(scores)
    for label, name, title in (
        (1, "missed_fake", "The worst missed fake"),
        (0, "false_alarm", "The worst false alarm"),
    ):
        for _, video in wrong[wrong["label"] == label].head(1).iterrows():
            figure = figures.plot_timeline(figures.select_windows(windows, video), title, threshold, note=note)
            pictures.append(Picture(name, figure, f"{video['video_id']}: {CAPTIONS['timeline']}"))
    return pictures


def draw_stretches(report: Mapping[str, Any], scores: pd.DataFrame, timeline: pd.DataFrame | None) -> list[Picture]:
    """Draw some of the videos that are forged in stretches, with what was found: of each method the first."""
    if timeline is None or not report.get("localization"):
        return []
    scored = figures.select_scored(scores)
    partly = scored[(scored["label"] == 1) & (scored["video_segments"] + scored["audio_segments"] != "")]
    pictures = []
    for number, (_, video) in enumerate(partly.drop_duplicates("method").head(LOCATED).iterrows()):
        located, note = locate_video(timeline, video, report["localization"]["stride"]), figures.describe_data(report)
        figure = figures.plot_stretches(*located, f"{video['video_id']}: {video['method']}", note=note)
        pictures.append(Picture(f"stretches_{number}", figure, f"{video['video_id']}: {CAPTIONS['stretches']}"))
    return pictures


def find_mistakes(scores: pd.DataFrame) -> pd.DataFrame:
    """The scored videos on the wrong side of the threshold, the most confidently wrong first."""
    scored = figures.select_scored(scores)
    wrong = scored[scored["predicted"] != scored["label"]]
    error = (wrong["score"] - wrong["label"]).abs()
    return wrong.loc[error.sort_values(ascending=False, kind="stable").index]


def render_html(report: Mapping[str, Any], scores: pd.DataFrame, images: list[dict[str, str]]) -> str:
    """Fill the template. All that comes from outside is escaped: a file's name never becomes HTML.

    Args:
        images: `{"uri", "alt", "caption"}` each, the URI holding the image itself.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "plain": format_plain,
        "number": figures.format_number,
        "share": figures.format_share,
        "interval": figures.format_interval,
        "difference": figures.format_difference,
    }
    unscored = scores[scores["status"] != "ok"]
    return environment.get_template("report.html.jinja").render(
        report=report,
        pictures=images,
        metrics=METRICS,
        further=FURTHER,
        notes=list_notes(report),
        rivals=RIVALS,
        streams=figures.STREAMS,
        senses=SENSES,
        describe_worst=describe_worst,
        list_slices=list_slices,
        told=TOLD,
        wrong=describe_mistakes(scores, report),
        unscored=unscored.head(UNSCORED).to_dict("records"),
        unscored_more=max(len(unscored) - UNSCORED, 0),
        versions=read_versions(),
    )


def list_notes(report: Mapping[str, Any]) -> list[str]:
    """What is said of numbers that so few videos cannot tell."""
    levels = {"videos": report["video"], "windows": report["window"]}
    return [
        f"{words} of {level}: {found[name]['note']}"
        for name, words in (METRICS | FURTHER).items()
        for level, found in levels.items()
        if found.get(name, {}).get("note")
    ]


def describe_mistakes(scores: pd.DataFrame, report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of the most confidently wrong videos, with what each piece of evidence says as `says`."""
    rows = find_mistakes(scores).head(WORST).to_dict("records")
    evidence = Evidence.load(report["evidence"]) if "evidence" in report else None
    return [{**row, "says": describe_evidence(row, evidence) if evidence else {}} for row in rows]


def format_plain(value: Any) -> str:
    """A value as text: numbers to four digits, and `–` for what is not known."""
    if value is None or value == "" or (isinstance(value, float) and pd.isna(value)):
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def read_versions() -> dict[str, str | None]:
    """The versions of Python and of the packages that results may depend on; None = not installed."""
    versions: dict[str, str | None] = {"Python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return versions
