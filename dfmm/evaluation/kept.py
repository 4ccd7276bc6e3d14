"""What an evaluation leaves in a run's folder: the report and the tables of scores, written and read again."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from dfmm.dataset import load_manifest
from dfmm.evaluation.contents import Report, read_report
from dfmm.evaluation.evidence import SENSES
from dfmm.evaluation.synchrony import COLUMNS
from dfmm.files import hash_file, write_json, write_whole
from dfmm.manifest import TEXT_COLUMNS, fingerprint_manifest
from dfmm.model.aggregation import SCORES
from dfmm.people import assign_people
from dfmm.runs import Run, RunError
from dfmm.settings import Settings, load_settings

log = logging.getLogger("dfmm")

# Columns of the video table: what pieces of evidence are made of, and what they say.
EVIDENCE = (*(sense.column for sense in SENSES.values()), *(f"{name}_evidence" for name in SENSES))


def write_evaluation(
    report: Report, videos: pd.DataFrame, windows: pd.DataFrame, timeline: pd.DataFrame | None, run: Run
) -> None:
    folder = run / "evaluations" / report.name
    write_json(report.model_dump(mode="json"), folder / "report.json")
    write_table(videos, folder / "scores.csv")
    write_table(windows, folder / "windows.csv")
    if timeline is None:
        (folder / "timeline.csv").unlink(missing_ok=True)  # of an evaluation before this one
    else:
        write_table(timeline, folder / "timeline.csv")


def read_evaluation(run: Run, split: str = "test") -> tuple[Report, pd.DataFrame, pd.DataFrame] | None:
    """Return what `evaluate_run` wrote for the run's own data and its present checkpoint; None if it did not.

    A report that cannot be read is named, and counts as none.
    """
    settings = load_settings(run / "settings.yaml")
    own = fingerprint_manifest(load_manifest(settings, progress=False))
    for file in sorted(run.path.glob("evaluations/[!.]*/report.json")):
        try:
            report = read_report(file)
        except RunError as error:
            log.warning("%s", error)
            continue
        same_model = report.checkpoint.sha256 == hash_file(run.source)[:16] and _is_read_so(report, run, settings)
        if same_model and report.split == split and report.data_fingerprint == own:
            videos = assign_people(read_table(file.with_name("scores.csv")))  # one of before says what the manifest did
            return report, videos, read_table(file.with_name("windows.csv"))
    return None


def _is_read_so(report: Report, run: Run, settings: Settings) -> bool:
    """Were imported scores turned and joined for a report as the run says now? Of what was trained: yes."""
    now = run.read().get("foreign") if report.foreign else None
    return not now or (report.foreign.polarity, report.aggregation) == (now["polarity"], settings.model.aggregation)


def read_timeline(folder: Path) -> pd.DataFrame | None:
    """Return the dense windows of an evaluation, by its folder, as `score_timeline` has them; None if it has none."""
    return read_table(folder / "timeline.csv") if (folder / "timeline.csv").is_file() else None


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV; the file appears whole or not at all."""
    write_whole(table.to_csv(index=False), path)


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV that `write_table` wrote: empty means no score, but is a text like any other in a text's column."""
    names = (*SCORES, "weight", "trivia_score", "mouth_loudness", "predicted", *COLUMNS, *EVIDENCE)
    numbers = {name: [""] for name in names}
    return pd.read_csv(path, dtype=dict.fromkeys(TEXT_COLUMNS, str), keep_default_na=False, na_values=numbers)
