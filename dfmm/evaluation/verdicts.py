"""The page of verdicts: files that were judged, each with its picture, what every sense says of it, and cautions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from dfmm import figures
from dfmm.environment import describe_environment
from dfmm.evaluation.judge import Judge, Verdict, tell_lag, tell_looked, tell_stretches, write_sentence
from dfmm.evaluation.pages import Picture, render_page, write_uri
from dfmm.evaluation.reference import format_reference, measure_suspicion
from dfmm.files import write_whole

SHOWN = 100  # files with pictures on a page: a few MB
LISTED = 2000  # files in its table
DRAWN_STEPS = 2000  # of a timeline drawn as lines; a longer one is a picture
COLUMNS = {"score": "Score", "video_fake": "Picture fake", "audio_fake": "Voice fake", "in_sync": "In sync"}
CAPTIONS = {
    "evidence": "How many times more often such values are seen in forgeries (to the right) or in genuine clips (to "
    "the left), as validation taught. What is grey, between the dotted lines, says nothing.",
    "timeline": "The probability of the window around each instant, by the network alone, and below it where that is "
    "called forged: from the threshold of windows on, of a stream alone from one half. Evidence of a whole clip, such "
    "as synchrony, has no place in time.",
    "synchrony": "How well the mouth moves with what the sound predicts: at every lag, and over time at the best one. "
    "A genuine clip has one high peak near zero.",
}


def write_verdicts(verdicts: Iterable[Verdict], judge: Judge, path: str | Path) -> Path:
    """Write a page of verdicts, the most suspicious file first, whole or not at all.

    The first `SHOWN` have their pictures, the first `LISTED` a row in its table, and it says so where there are more.

    Args:
        verdicts: as `Judge.judge` yields them, with details.

    Returns:
        The path of the page.
    """
    ordered = order_verdicts(verdicts)
    return write_whole(render_verdicts(ordered, judge), path)


def order_verdicts(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Return verdicts with the most suspicious first, and those without any last."""
    suspicions = [(measure_suspicion(one.line), one) for one in verdicts]
    judged = sorted((pair for pair in suspicions if pair[0] is not None), key=lambda pair: -pair[0])
    return [one for _, one in judged] + [one for suspicion, one in suspicions if suspicion is None]


def render_verdicts(verdicts: Sequence[Verdict], judge: Judge) -> str:
    """Fill the template."""
    lines = [one.line for one in verdicts]
    unjudged = [line for line in lines if line["status"] != "ok"]
    beyond = {"pictures": (lines, SHOWN), "rows": (lines, LISTED), "unjudged": (unjudged, LISTED)}
    return render_page(
        "verdicts.html.jinja",
        judge=judge,
        cases=[_describe_case(one, judge) for one in verdicts[:SHOWN]],
        total=len(lines),
        more={name: max(len(found) - most, 0) for name, (found, most) in beyond.items()} | {"first": SHOWN},
        columns=list(COLUMNS.values()) if judge.model else ["In step"],
        rows=[_list_cells(one, judge) for one in verdicts[:LISTED]],
        counts=count_verdicts(verdicts),
        unjudged=unjudged[:LISTED],
        origin=describe_environment(),
    )


def _list_cells(verdict: Verdict, judge: Judge) -> dict[str, Any]:
    """Return a file's row in the table of all."""
    line = verdict.line
    heard = line.get("synchrony") or {}
    numbers = [line[name] for name in COLUMNS] if judge.model else [heard.get("in_step")]
    return {"path": verdict.path, "title": verdict.title, "numbers": numbers, "lag": tell_lag(heard.get("lag_ms"))}


def tabulate_verdicts(verdicts: Iterable[Verdict], judge: Judge) -> pd.DataFrame:
    """Return a row a file: its name, its verdict, its scores, and how late its sound is."""
    names = ["score", *list(COLUMNS)[1:]] if judge.model else ["in step"]
    rows = [_list_cells(one, judge) for one in verdicts]
    table = [[Path(row["path"]).name, row["title"], *row["numbers"], row["lag"]] for row in rows]
    return pd.DataFrame(table, columns=["file", "verdict", *names, "sound"]).set_index("file").round(3)


def describe_verdict(verdict: Verdict, judge: Judge) -> list[str]:
    """Return a file's verdict as lines: its name and what it is called, how sure, each sense, forged stretches, and
    what was looked at of a long one.
    """
    senses = [
        f"{one['name']}: {one['value']}; {one['says']} ({one['known']})" for one in judge.list_senses(verdict.line)
    ]
    first = [f"{Path(verdict.path).name}: {verdict.title}", judge.explain(verdict.line)]
    return [*first, *senses, *tell_stretches(verdict.line), *filter(None, [tell_looked(verdict.line)])]


def count_verdicts(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """Return how many files have each verdict, in the order in which a page tells them."""
    counts: dict[str, int] = {}
    for one in verdicts:
        counts[one.title] = counts.get(one.title, 0) + 1
    return counts


def _describe_case(verdict: Verdict, judge: Judge) -> dict[str, Any]:
    """Return what the page shows of one file."""
    line = verdict.line
    return {
        "path": verdict.path,
        "title": verdict.title,
        "kind": verdict.kind,
        "explained": judge.explain(line),
        "remark": write_sentence(line["reason"]) if line["status"] == "ok" else "",
        "still": write_uri(verdict.still, "jpg") if verdict.still else None,
        "senses": judge.list_senses(line),
        "stretches": [*tell_stretches(line), *filter(None, [tell_looked(line)])],
        "reference": write_sentence(format_reference(line).strip()),
        "pictures": [
            Picture(name, figure, CAPTIONS[name]).embed(_choose_form(name, verdict))
            for name, figure in draw_verdict(verdict, judge)
        ],
        "facts": describe_file(verdict),
    }


def _choose_form(name: str, verdict: Verdict) -> str:
    long = name == "timeline" and verdict.curves is not None and len(verdict.curves) > DRAWN_STEPS
    return "png" if long else "svg"


def draw_verdict(verdict: Verdict, judge: Judge) -> Iterator[tuple[str, Figure]]:
    """Yield the figures of one file by their names in `CAPTIONS`: evidence, scores over time, synchrony."""
    line, title = verdict.line, Path(verdict.path).name
    note = "by a model of synthetic data" if judge.facts.get("synthetic") else ""
    ratios = {f"{name}_evidence": value for name, value in line.get("log10_ratios", {}).items() if value is not None}
    if ratios:
        yield "evidence", figures.plot_evidence(ratios, judge.evidence.weighed, title, note=note)
    if verdict.curves is not None:
        yield "timeline", figures.plot_stretches(verdict.curves, None, line.get("stretches", ()), title, note=note)
    heard = verdict.heard
    if heard is not None and not heard.reason:
        curves = (heard.lags_ms, heard.curve, heard.times, heard.trace)
        yield "synchrony", figures.plot_synchrony(*curves, lag_ms=heard.lag_ms, note=note)


def describe_file(verdict: Verdict) -> dict[str, Any]:
    """Return what identifies a file, and how much of it was looked at."""
    line = verdict.line
    heard = line.get("synchrony") or {}
    known = {
        "SHA-256": verdict.sha256 or "not read",
        "Bytes": verdict.size,
        "Seconds": line.get("seconds"),
        "Windows scored": line.get("windows"),
        "Seconds of mouth and sound compared": heard.get("seconds"),
        "Which face": None if line.get("face") is None else line["face"] + 1,
    }
    return {name: value for name, value in known.items() if value is not None}
