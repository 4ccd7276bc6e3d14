"""The HTML report: one file with numbers, tables and figures that opens anywhere and prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dfmm import figures
from dfmm.audit import list_findings
from dfmm.evaluation.contents import FURTHER, METRICS, RIVALS, Report
from dfmm.evaluation.evidence import SENSES, describe_evidence, describe_score
from dfmm.evaluation.kept import read_timeline
from dfmm.evaluation.lines import explain_untaught
from dfmm.evaluation.localization import TOLD, locate_video
from dfmm.evaluation.pages import Picture, render_page, write_uri
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
    "stretches": "the probability of the window around each instant, what of the clip is forged, and where it "
    "is called so, from the threshold of windows on. The first clip of a method that is forged in a stretch.",
    "timeline": "what each stream found from window to window. In all lines, up is suspicious.",
}
FOREIGN = {"network": "as they came", "evidence": "as validation calibrated them"}  # imported scores
LOCATED = 3  # videos whose stretches are drawn
WORST = 10  # videos in the table of the most confidently wrong
ROWS = 200  # videos in the table of all, each with a thumbnail of some 3 kB
UNSCORED = 50  # videos in the table of those without a score


def write_report(
    report: Report,
    scores: pd.DataFrame,
    windows: pd.DataFrame,
    folder: Path,
    *,
    history: pd.DataFrame | None = None,
    opened: Sequence[Picture] = (),
    gone: Mapping[str, str] | None = None,
    faces: Mapping[str, bytes] | None = None,
    audit: Mapping[str, Any] | None = None,
) -> Path:
    """Write `figures/*` as PNG and SVG, and `report.html`, which holds the latter; each file is whole or not there.

    Args:
        report: the numbers, as in `report.json`.
        scores: the video table, as in `scores.csv`.
        windows: the window table.
        folder: where to write.
        history: the training curves, a row an epoch; None leaves their figure out.
        opened, gone: pictures of the worst errors, and why others cannot be shown, as from `draw_errors`.
        faces: small JPEGs of `list_rows`, by `video_id`; those that are missing have none.
        audit: of the data, as from `read_audit`; None where nobody made one.

    Returns:
        The path of `report.html`.
    """
    drawn = draw_pictures(report, scores, windows, history=history)
    drawn += draw_stretches(report, scores, read_timeline(Path(folder)))
    images, errors = ([_write_picture(one, Path(folder)) for one in some] for some in (drawn, opened))
    html = render_html(report, scores, images, errors=errors, gone=gone, faces=faces, audit=audit)
    return write_whole(html, Path(folder) / "report.html")


def _write_picture(picture: Picture, folder: Path) -> dict[str, str]:
    """Write a picture's files, and return what the page needs of it."""
    images = {form: picture.encode(form) for form in ("png", "svg")}
    for form, image in images.items():
        write_whole(image, folder / "figures" / f"{picture.name}.{form}")
    return picture.embed(image=images["svg"])


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
        drawn["reliability"] = figures.plot_reliability(
            report.calibration, names=FOREIGN if report.foreign else None, note=note
        )
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
            shown = figures.select_windows(windows, video)
            if shown["start"].isna().all():  # of imported scores that say nothing of when
                continue
            figure = figures.plot_timeline(shown, title, threshold, note=note)
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
        located = locate_video(timeline, video, report.localization.stride, report.threshold.window)
        figure = figures.plot_stretches(*located, f"{video['video_id']}: {video['method']}", note=note)
        pictures.append(Picture(f"stretches_{number}", figure, f"{video['video_id']}: {CAPTIONS['stretches']}"))
    return pictures


def find_mistakes(scores: pd.DataFrame) -> pd.DataFrame:
    """The scored videos on the wrong side of the threshold, the most confidently wrong first."""
    scored = figures.select_scored(scores)
    wrong = scored[scored["predicted"] != scored["label"]]
    error = (wrong["score"] - wrong["label"]).abs()
    return wrong.loc[error.sort_values(ascending=False, kind="stable").index]


def list_rows(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the scored videos that have a row in the report: of very many the `ROWS` most wrong, those first."""
    scored = figures.select_scored(scores)
    return scored.loc[
        (scored["score"] - scored["label"]).abs().sort_values(ascending=False, kind="stable").index[:ROWS]
    ]


def render_html(
    report: Report,
    scores: pd.DataFrame,
    images: list[dict[str, str]],
    *,
    errors: Sequence[dict[str, str]] = (),
    gone: Mapping[str, str] | None = None,
    faces: Mapping[str, bytes] | None = None,
    audit: Mapping[str, Any] | None = None,
) -> str:
    """Fill the template. All that comes from outside is escaped: a file's name never becomes HTML.

    Args:
        images: `{"uri", "alt", "caption"}` each, the URI holding the image itself.
        errors: alike, of the worst errors.
        gone: by the name of what cannot be shown, why.
        faces, audit: as of `write_report`.
    """
    rows = list_rows(scores)
    unscored = scores[scores["status"] != "ok"]
    return render_page(
        "report.html.jinja",
        report=report,
        pictures=images,
        errors=errors,
        gone=gone or {},
        metrics=METRICS,
        further=FURTHER,
        notes=list_notes(report),
        burden=describe_burden(report),
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
        videos=rows.to_dict("records"),
        videos_more=len(figures.select_scored(scores)) - len(rows),
        faces={name: write_uri(face, "jpg") for name, face in (faces or {}).items()},
        audit=audit,
        findings=list_findings(audit) if audit else [],
        unscored=unscored.head(UNSCORED).to_dict("records"),
        unscored_more=max(len(unscored) - UNSCORED, 0),
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


def describe_burden(report: Report) -> str:
    """Say which pieces of evidence are surely better alone than joined with the others; empty where none is."""
    said = []
    for name, piece in report.pieces.items():
        ahead = piece.get("difference") or {}
        if ahead.get("high") is not None and ahead["high"] < 0:
            less = {"value": -ahead["difference"], "low": -ahead["high"], "high": -ahead["low"]}
            said.append(f"{name}, by {figures.format_interval(less)}")
    if not said:
        return ""
    return (
        f"Alone, on the same videos, surely better here than joined with the rest: {'; '.join(said)}. What validation "
        "taught of the other pieces, or of clips that lack one, does not hold for these."
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
