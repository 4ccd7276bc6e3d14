"""Beside a user's own genuine clips: a score's level changes with cameras and codecs, its rank among them does not.

The share of a reference set that looks as bad is the conformal p-value of "this clip is one of those" (Bates et al.,
"Testing for outliers with conformal p-values", Ann. Statist. 2023): whatever the detector and its calibration, a
genuine clip of the same kind gets one of at most p with a probability of at most p.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


class ReferenceSetError(ValueError):
    """A reference set that nothing can be compared with."""


def measure_suspicion(line: Mapping[str, Any]) -> float | None:
    """Return what files are ranked by, the higher the worse: their score, without a run how little the sound fits."""
    if line["status"] != "ok":
        return None
    if "score" in line:
        return line["score"]
    found = line["synchrony"]
    return -(found["surprise"] if found["log_ratio"] is None else found["log_ratio"])  # where nothing was calibrated


def gather_reference(lines: Iterable[Mapping[str, Any]]) -> np.ndarray:
    """Return the suspicions of genuine clips, as `score_files` or `judge_files` yields their lines, in order `[n]`.

    Raises:
        ReferenceSetError: none of them could be scored.
    """
    lines = list(lines)
    found = np.sort([value for value in map(measure_suspicion, lines) if value is not None])
    if not len(found):
        why = lines[0]["reason"] if lines else "there are none"
        raise ReferenceSetError(f"none of the {len(lines)} reference clips could be scored, the first for: {why}")
    return found


def compare_reference(line: dict[str, Any], reference: np.ndarray) -> dict[str, Any]:
    """Return a file's line with `reference`: among how many `clips` how many look as `bad` or worse, and its `p`.

    It is None for a file without a score.
    """
    suspicion = measure_suspicion(line)
    if suspicion is None:
        return line | {"reference": None}
    bad = int(len(reference) - np.searchsorted(reference, suspicion, side="left"))
    p = (bad + 1) / (len(reference) + 1)  # the file itself counts: from n clips, no p is below 1 / (n + 1)
    return line | {"reference": {"clips": len(reference), "bad": bad, "p": round(p, 4)}}


def format_reference(line: Mapping[str, Any]) -> str:
    """Return what `compare_reference` found, as one more line of words; empty where it found nothing."""
    if not line.get("reference"):
        return ""
    found = line["reference"]
    return f"\n{'reference':>20}: {found['bad']} of {found['clips']} look as bad or worse (p = {found['p']:.2g})"
