"""The HTML report: one file with numbers, tables and figures that opens anywhere and prints."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import jinja2
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from dfmm import figures
from dfmm.evaluation.contents import FURTHER, METRICS, RIVALS, Report
from dfmm.evaluation.evaluate import read_timeline
from dfmm.evaluation.evidence import SENSES, describe_evidence, describe_score
from dfmm.evaluation.localization import TOLD, locate_video
from dfmm.evaluation.score import explain_untaught
from dfmm.evaluation.slices import describe_alarms, describe_worst, list_slices
from dfmm.files import write_whole

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
        return (self.figure.get_suptitle() or self.figure.axes[0].get_title()).replace("\n", ", ")

    def encode(self, form: str) -> bytes:
        """The figure as `png`, or as `svg` that is the same whenever it is drawn."""
        buffer = io.BytesIO()
        with plt.rc_context({"svg.hashsalt": "dfmm"}):
            self.figure.savefig(buffer, format=form, metadata={"Date": None} if form == "svg" else None)
        return buffer.getvalue()


def write_report(
    report: Report,
    scores: pd.DataFrame,
    windows: pd.DataFrame,
    folder: Path,
    *,
    history: pd.DataFrame | None = None,
    opened: Sequence[Picture] = (),
    gone: Mapping[str, str] | None = None,
) -> Path:
    """Write `figures/*` as PNG and SVG, and `report.html`, which holds the latter; each file is whole or not there.

    Args:
        report: the numbers, as in `report.json`.
        scores: the video table, as in `scores.csv`.
        windows: the window table.
        folder: where to write.
        history: the training curves, a row an epoch; None leaves their figure out.
        opened, gone: pictures of the worst errors, and why others cannot be shown, as from `draw_errors`.

    Returns:
        The path of `report.html`.
    """
    drawn = draw_pictures(report, scores, windows, history=history)
    drawn += draw_stretches(report, scores, read_timeline(Path(folder)))
    images, errors = ([_write_picture(one, Path(folder)) for one in some] for some in (drawn, opened))
    html = render_html(report, scores, images, errors=errors, gone=gone)
    return write_whole(html, Path(folder) / "report.html")


def _write_picture(picture: Picture, folder: Path) -> dict[str, str]:
    """Write a picture's files, and return what the page needs of it."""
    for form in ("png", "svg"):
        image = picture.encode(form)
        write_whole(image, folder / "figures" / f"{picture.name}.{form}")
    uri = "data:image/svg+xml;base64," + base64.b64encode(image).decode("ascii")
    return {"uri": uri, "alt": picture.alt, "caption": picture.caption}


def draw_pictures(
    report: Report, scores: pd.DataFrame, windows: pd.DataFrame, *, history: pd.DataFrame | None
) -> list[Picture]:
    """Draw the report's figures, in the order they are shown."""
    note, video, threshold = figures.describe_data(synthetic=report.synthetic), report.video, report.threshold.value
    drawn = {
        "roc": figures.plot_roc(scores, auc=video["auc"], note=note, replicates=report.replicates),
        "det": figures.plot_det(scores, eer=video["eer"], note=note),
        "precision_recall": figures.plot_precision_recall(scores, ap=video["ap"], note=note),
        "scores": figures.plot_scores(scores, threshold, note=note),
        "confusion": figures.plot_confusion(video["confusion"], threshold, note=note),
        "methods": figures.plot_methods(report.methods, unseen=report.unseen.methods, note=note),
    }
    if report.calibration:
        drawn["reliability"] = figures.plot_reliability(report.calibration, note=note)
    if history is not None and len(history):
        drawn["curves"] = figures.plot_curves(history, best_epoch=report.checkpoint.epoch, note=note)
    pictures = [Picture(name, figure, CAPTIONS[name]) for name, figure in drawn.items()]
    return pictures + draw_mistakes(scores, windows, threshold=report.threshold.window or threshold, note=note)


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


def draw_stretches(report: Report, scores: pd.DataFrame, timeline: pd.DataFrame | None) -> list[Picture]:
    """Draw some of the videos that are forged in stretches, with what was found: of each method the first."""
    if timeline is None or not report.localization:
        return []
    scored = figures.select_scored(scores)
    partly = scored[(scored["label"] == 1) & (scored["video_segments"] + scored["audio_segments"] != "")]
    pictures, note = [], figures.describe_data(synthetic=report.synthetic)
    for number, (_, video) in enumerate(partly.drop_duplicates("method").head(LOCATED).iterrows()):
        located = locate_video(timeline, video, report.localization.stride)
        figure = figures.plot_stretches(*located, f"{video['video_id']}: {video['method']}", note=note)
        pictures.append(Picture(f"stretches_{number}", figure, f"{video['video_id']}: {CAPTIONS['stretches']}"))
    return pictures


def find_mistakes(scores: pd.DataFrame) -> pd.DataFrame:
    """The scored videos on the wrong side of the threshold, the most confidently wrong first."""
    scored = figures.select_scored(scores)
    wrong = scored[scored["predicted"] != scored["label"]]
    error = (wrong["score"] - wrong["label"]).abs()
    return wrong.loc[error.sort_values(ascending=False, kind="stable").index]


def render_html(
    report: Report,
    scores: pd.DataFrame,
    images: list[dict[str, str]],
    *,
    errors: Sequence[dict[str, str]] = (),
    gone: Mapping[str, str] | None = None,
) -> str:
    """Fill the template. All that comes from outside is escaped: a file's name never becomes HTML.

    Args:
        images: `{"uri", "alt", "caption"}` each, the URI holding the image itself.
        errors: alike, of the worst errors.
        gone: by the name of what cannot be shown, why.
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
        errors=errors,
        gone=gone or {},
        metrics=METRICS,
        further=FURTHER,
        notes=list_notes(report),
        shortcut=describe_shortcut(report),
        rivals=RIVALS,
        streams=figures.STREAMS,
        senses=SENSES,
        describe_score=describe_score,
        explain_untaught=explain_untaught,
        describe_alarms=describe_alarms,
        describe_worst=describe_worst,
        list_slices=list_slices,
        told=TOLD,
        wrong=describe_mistakes(scores, report),
        unscored=unscored.head(UNSCORED).to_dict("records"),
        unscored_more=max(len(unscored) - UNSCORED, 0),
        written=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )


def describe_shortcut(report: Report) -> str:
    """Say so where trivial features alone tell fakes from reals: then a detector may do no more than that."""
    trivia = report.rivals.get("trivia", {})
    if trivia.get("low") is None or trivia["low"] <= 0.5:
        return ""
    ahead = trivia.get("difference") or {}
    sure = ahead.get("low") is not None and ahead["low"] > 0
    beaten = "the detector is surely ahead of them" if sure else "the detector is not surely ahead of them"
    return (
        f"Shortcut: trivial features alone (length, size, loudness, …) tell these fakes from reals, AUC "
        f"{figures.format_interval(trivia)}; {beaten}. dfmm audit names them, and cures"
    )


def list_notes(report: Report) -> list[str]:
    """What is said of numbers that so few videos cannot tell."""
    levels = {"videos": report.video, "windows": report.window}
    return [
        f"{words} of {level}: {found[name]['note']}"
        for name, words in (METRICS | FURTHER).items()
        for level, found in levels.items()
        if found.get(name, {}).get("note")
    ]


def describe_mistakes(scores: pd.DataFrame, report: Report) -> list[dict[str, Any]]:
    """Return the rows of the most confidently wrong videos, with what each piece of evidence says as `says`."""
    rows = find_mistakes(scores).head(WORST).to_dict("records")
    return [{**row, "says": describe_evidence(row, report.evidence) if report.evidence else {}} for row in rows]


def format_plain(value: Any) -> str:
    """A value as text: numbers to four digits, and `–` for what is not known."""
    if value is None or value == "" or (isinstance(value, float) and pd.isna(value)):
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
