"""A model card: what a run's model is, was taught, and reaches, in Markdown with the fields that hubs read."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from dfmm.evaluation.contents import METRICS, Report
from dfmm.evaluation.evidence import describe_score
from dfmm.figures import format_interval
from dfmm.settings import Settings

OWN = "other"  # the licence where nobody says one: hubs then read its name and link
SYNTHETIC = "**Synthetic data: these numbers show that the pipeline works, and say nothing about real deepfakes.**"
LIMITS = (
    "No score is proof, and nobody should be accused on the ground of one.",
    "The numbers hold for videos like these: other cameras, codecs, languages and methods of forgery have their own.",
    "A detector may fail on methods that it has not seen; on another dataset it is to be tested before it is believed.",
    "Where fakes are rarer than the prior says, scores are too high.",
    "A clip that is genuine in a false context is genuine here.",
)


def write_card(report: Report, settings: Settings, facts: Mapping[str, Any], *, license: str | None = None) -> str:
    """Return the card of an evaluated model.

    Args:
        report: of the split that its numbers are of.
        facts: the model's own, as `load_model` returns them, and of an export `exported`: lines on its files.
        license: an identifier as hubs know it, such as `cc-by-4.0`.
    """
    head = yaml.safe_dump(_list_fields(report, license), sort_keys=False, allow_unicode=True, width=120)
    parts = {
        "": _describe_model(report, settings, facts),
        "Data": _describe_data(report),
        "Prior and threshold": _describe_decision(report, facts),
        "Metrics": _tabulate_metrics(report),
        "Limits": LIMITS,
        "Licence": _describe_licence(license),
    }
    body = "\n\n".join(f"## {title}\n\n{_list_lines(lines)}".removeprefix("## \n\n") for title, lines in parts.items())
    return f"---\n{head}---\n\n{_write_title(report)}\n\n{body}\n"


def _list_fields(report: Report, license: str | None) -> dict[str, Any]:
    """Return the fields that a hub reads; a metric that is undefined is left out."""
    metrics = {words: (report.video.get(name) or {}).get("value") for name, words in METRICS.items()}
    found = [{"type": name, "value": round(value, 4)} for name, value in metrics.items() if value is not None]
    task = {"type": "video-classification", "name": "Deepfake detection"}
    dataset = {"type": report.dataset, "name": report.dataset, "split": report.split}
    licence = {"license": license} if license else {"license": OWN, "license_name": "not-chosen-yet"}
    results = [{"task": task, "dataset": dataset, "metrics": found}]
    return {
        **licence,
        "library_name": "dfmm",
        "pipeline_tag": "video-classification",
        "tags": ["deepfake-detection", "audio-visual", *(["synthetic-data"] if report.synthetic else [])],
        "model-index": [{"name": _name_model(report), "results": results}],
    }


def _write_title(report: Report) -> str:
    title = f"# {_escape(_name_model(report))}: a detector of forged talking-head videos"
    return f"{title}\n\n{SYNTHETIC}" if report.synthetic else title


def _name_model(report: Report) -> str:
    """Return the name of the run's folder alone: where that lies is nobody's business."""
    return Path(report.run).name


def _list_lines(lines: Iterable[str]) -> str:
    """Return lines of a table as they are, and others as a list."""
    return "\n".join(line if line.startswith("|") else f"- {line}" for line in lines)


def _describe_model(report: Report, settings: Settings, facts: Mapping[str, Any]) -> Iterator[str]:
    model, video = settings.model, settings.video
    theirs = f"detector `{_escape(model.detector)}`, which is not dfmm's"
    what = theirs if model.detector else f"backbone {_escape(model.backbone)}"
    checkpoint = report.checkpoint
    yield f"Model: {what}; streams: {model.streams}; checkpoint SHA-256 {checkpoint.sha256}…, epoch {checkpoint.epoch}"
    fps = video.fps if video.fps == "spread" else f"{video.fps:g} fps"
    yield f"A window: {video.frames} frames at {fps}, {video.size} × {video.size}, and their sound"
    if report.untaught:
        yield f"No score of its own for: {', '.join(report.untaught)}"
    yield from facts.get("exported", ())


def _describe_data(report: Report) -> Iterator[str]:
    scored = f"{report.coverage.scored} of {report.videos} videos scored, {report.video['n_fake']} of them fake"
    yield f"{_escape(report.dataset)}, {report.split}: {scored}; data fingerprint {report.data_fingerprint}"
    seen = report.trained_methods or report.seen.methods  # an older report knows of those that are here alone
    for words, methods in (("seen in training", seen), ("here and not seen", report.unseen.methods)):
        yield f"Methods {words}: {_escape(', '.join(methods) or 'none')}"


def _describe_decision(report: Report, facts: Mapping[str, Any]) -> Iterator[str]:
    threshold = report.threshold
    yield f"Training saw {facts['prior']:.0%} fakes. A score is {_escape(describe_score(report.evidence))}."
    yield f"A video is called fake from {threshold.value:.4f} on, chosen on {threshold.chosen_on} by {threshold.rule}."
    yield from map(_escape, threshold.doubts)


def _tabulate_metrics(report: Report) -> Iterator[str]:
    found = {words: report.video.get(name) for name, words in METRICS.items()}
    found |= {f"AUC, {_escape(name)} ({method.videos})": method.auc for name, method in report.methods.items()}
    found |= {"AUC, methods seen in training": report.seen.auc, "AUC, methods unseen in training": report.unseen.auc}
    yield "| metric of videos | value and 95 % interval |"
    yield "| --- | --- |"
    yield from (f"| {words} | {format_interval(interval)} |" for words, interval in found.items())


def _describe_licence(license: str | None) -> Iterator[str]:
    unknown = "nobody has chosen one. That of the training data may bind them, and of the weights training started from"
    yield f"Of the weights: {_escape(license) if license else unknown}."
    yield "Of dfmm, which reads them: Apache-2.0."


def _escape(text: Any) -> str:
    """Return a text that is neither HTML nor a cell's end in Markdown: what a manifest says is not to be believed."""
    return html.escape(" ".join(str(text).split()), quote=False).replace("|", "\\|")
