"""What an audit found, told again: beside the numbers of a detector stands what its data gives away."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dfmm.manifest import fingerprint_manifest
from dfmm.runs import Run

FOLDER = "audit"  # of a run, where `save_audit` puts what its data was found to be
ORDER = ("problem", "unknown", "remark")  # the gravest first
VERDICTS = {"clean": "passes", "problem": "has leaks or shortcuts", "unknown": "is too small to tell"}

log = logging.getLogger("dfmm")


def read_audit(run: Run, fingerprint: str) -> dict[str, Any] | None:
    """Return what a run keeps of the audit of its data, as `describe_audit` has it; None where there is none.

    Args:
        fingerprint: of the data in question; an audit of other data counts as none.
    """
    file = run / FOLDER / "audit.json"
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        same = found["fingerprint"] == fingerprint and bool(list_findings(found))
    except (ValueError, KeyError, TypeError) as error:
        log.warning("%s is no audit that this dfmm can read: %s", file, error)
        return None
    return found if same else None


def list_findings(found: Mapping[str, Any], *, only: Sequence[str] = ORDER) -> list[str]:
    """Return an audit as lines: the verdict, then its findings, the gravest first.

    Args:
        found: as from `describe_audit`.
        only: the kinds of findings that are told.
    """
    synthetic = ", synthetic" if found["synthetic"] else ""
    cures = f"; after cures: {', '.join(found['cures'])}" if found["cures"] else ""
    read = f"{found['read']} of {found['videos']} videos read"
    findings = sorted(found["findings"], key=lambda finding: ORDER.index(finding["status"]))
    lines = [f"{one['status']}: {one['text']}" for one in findings if one["status"] in only]
    return [f"The data {VERDICTS[found['verdict']]} ({read}{synthetic}{cures}).", *lines]


def recall_audit(run: Run, manifest: pd.DataFrame) -> str:
    """Say what the audit of a run's data found, without its remarks; that nobody made one, where that is so."""
    found = read_audit(run, fingerprint_manifest(manifest))
    if found is None:
        return f"Nobody has audited this data: 01_explore_data does, or dfmm audit PARAMS --out {run.name}/{FOLDER}."
    return "\n".join(list_findings(found, only=ORDER[:2]))
