"""All that a person reads of an evaluation: its report, with what the run keeps beside the numbers."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from dfmm import figures
from dfmm.audit import read_audit
from dfmm.evaluation.contents import Report
from dfmm.evaluation.gallery import draw_errors, open_table
from dfmm.evaluation.report import list_rows, write_report
from dfmm.manifest import ManifestError
from dfmm.runs import Run, RunError
from dfmm.settings import SettingsError, load_settings
from dfmm.training import read_history


def publish_evaluation(run: Run, report: Report, scores: pd.DataFrame, windows: pd.DataFrame) -> Path:
    """Write an evaluation's `figures/*` and `report.html`, with the worst errors, thumbnails, curves and the audit.

    What is gone, such as the videos, is left out, and it says so.

    Args:
        report, scores, windows: as `evaluate_run` returns them.

    Returns:
        The path of `report.html`.
    """
    opened, gone = draw_errors(run, report, scores, windows)
    return write_report(
        report,
        scores,
        windows,
        run / "evaluations" / report.name,
        history=None if report.manifest else read_history(run),
        opened=opened,
        gone=gone,
        faces=read_thumbnails(run, report, scores),
        audit=read_audit(run, report.data_fingerprint),
    )


def read_thumbnails(run: Run, report: Report, scores: pd.DataFrame) -> dict[str, bytes]:
    """Return small JPEGs of the faces of those videos that a report lists, by `video_id`, as far as they are kept."""
    try:
        _, settings = open_table(run, report, load_settings(run / "settings.yaml"), progress=False)
    except (RunError, ManifestError, SettingsError, OSError):
        return {}
    found = {row["video_id"]: figures.read_thumbnail(row, settings) for _, row in list_rows(scores).iterrows()}
    return {name: face for name, face in found.items() if face is not None}
