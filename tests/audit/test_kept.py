"""What an audit found is told again beside the numbers, as long as the data is the same."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from dfmm.audit import (
    Audit,
    Finding,
    describe_audit,
    format_audit,
    list_findings,
    read_audit,
    recall_audit,
    save_audit,
)
from dfmm.manifest import fingerprint_manifest
from dfmm.runs import Run

from .test_shortcuts import list_videos


@pytest.fixture
def manifest() -> pd.DataFrame:
    return list_videos(24)


@pytest.fixture
def found(manifest: pd.DataFrame) -> Audit:
    """An audit that found a shortcut, and has a remark."""
    findings = [Finding("remark", "all is in one split"), Finding("problem", "`duration` alone tells fakes from reals")]
    nothing, facts = pd.DataFrame(), pd.DataFrame({"duration": [2.0, 3.0]})
    return Audit(24, facts, nothing, nothing, None, {}, findings, True, ["loudness"], fingerprint_manifest(manifest))


def test_a_run_recalls_what_was_found_in_its_data(found: Audit, manifest: pd.DataFrame, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    assert recall_audit(run, manifest).startswith("Nobody has audited this data")
    save_audit(found, run / "audit")
    assert recall_audit(run, manifest).split("\n") == [
        "The data has leaks or shortcuts (2 of 24 videos read, synthetic; after cures: loudness).",
        "problem: `duration` alone tells fakes from reals",
    ]
    kept = read_audit(run, fingerprint_manifest(manifest))
    assert "\n".join(list_findings(kept)) == format_audit(found)
    assert kept == json.loads(json.dumps(describe_audit(found)))


def test_an_audit_of_other_data_or_of_before_counts_as_none(
    found: Audit, manifest: pd.DataFrame, tmp_path: Path, said: list[str]
) -> None:
    run = Run(tmp_path / "run")
    file = save_audit(found, run / "audit")
    assert recall_audit(run, manifest.iloc[1:]).startswith("Nobody has audited this data")
    known = json.loads(file.read_text())
    for text in ("[", "{}", json.dumps({**known, "findings": [{"status": "worse", "text": ""}]})):
        file.write_text(text)
        assert read_audit(run, known["fingerprint"]) is None
    assert len(said) == 3
    assert all("audit.json" in line for line in said)
