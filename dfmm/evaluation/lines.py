"""What is said of a file: its scores as JSON has them, and as lines for people; no PyTorch is needed for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd

from dfmm.evaluation.evidence import Evidence, describe_evidence
from dfmm.evaluation.localization import describe_stretches
from dfmm.evaluation.synchrony import cut_path, describe_looked, format_looked
from dfmm.extraction.tracks import Tracks
from dfmm.faces.track import Track
from dfmm.manifest import STREAM_LABELS
from dfmm.metrics import RATIO_DIGITS
from dfmm.model.synchrony import SynchronyModel


def list_untaught(model: object, synchrony: SynchronyModel | None = None) -> list[str]:
    """Return the streams of which nothing is said, for the model's training had one kind of their label alone.

    Args:
        synchrony: is asked about mouth and sound in its stead.
    """
    taught = {*getattr(model, "taught", STREAM_LABELS), *(["in_sync"] if synchrony else [])}
    return [name for name in STREAM_LABELS if name not in taught]


def explain_untaught(streams: Collection[str]) -> str:
    """Say of which streams a model says nothing, and why; empty where it was taught them all."""
    names = ", ".join(name.replace("_", " ") for name in streams)
    return f"no score for {names}: training had no label of both kinds" if streams else ""


def explain_presence(has_face: bool, has_sound: bool, *, streams: str = "both") -> str:
    """Say which of the streams that a model listens to a score had to do without; empty where it had them all."""
    if streams != "both":
        return {"video": "" if has_face else "no face", "audio": "" if has_sound else "no sound"}[streams]
    return {
        (True, True): "",
        (True, False): "no sound: scored from the picture alone",
        (False, True): "no face: scored from the sound alone",
        (False, False): "neither a face nor any sound",
    }[bool(has_face), bool(has_sound)]


def add_left_out(reason: str, video_id: str, tracks: Mapping[str, Tracks]) -> str:
    """Say beside a reason how many people are not followed, though all were asked for."""
    count = tracks[video_id][video_id].left_out if video_id in tracks else 0
    said = f"not followed: {count} of the faces, for a shot has too many" if count else ""
    return "; ".join(filter(None, (reason, said)))


def describe_file(file: str, row: pd.Series, track: Track | None, evidence: Evidence | None) -> dict[str, Any]:
    columns = {"score": "score"} | {name: f"{name}_score" for name in STREAM_LABELS}
    found = {name: row[column] for name, column in columns.items()}
    scores = {name: None if pd.isna(value) else round(float(value), 6) for name, value in found.items()}
    return {
        "path": file,
        "status": row["status"],
        "reason": cut_path(row["reason"], file),
        "streams": row["streams"],
        **scores,
        **_call(scores["score"], evidence),
        "face": None if pd.isna(row["face"]) else int(row["face"]),
        "windows": int(row["windows"]),
        "seconds": None if track is None else round(track.duration, 3),
        "looked": None if track is None else describe_looked(track),
        "evidence": describe_evidence(row, evidence) if evidence and row["status"] == "ok" else {},
        "log10_ratios": _list_ratios(row, evidence) if evidence and row["status"] == "ok" else {},
    }


def _list_ratios(row: pd.Series, evidence: Evidence) -> dict[str, float | None]:
    ratios = {name: row[f"{name}_evidence"] for name in evidence.weighed}
    return {name: None if pd.isna(ratio) else round(float(ratio), RATIO_DIGITS) for name, ratio in ratios.items()}


def _call(score: float | None, evidence: Evidence | None) -> dict[str, Any]:
    """Return what a file is called, and from which score on it would be called fake."""
    if evidence is None or score is None:
        return {"called": None, "threshold": None}
    return {"called": "fake" if score >= evidence.threshold else "real", "threshold": round(evidence.threshold, 6)}


def format_scores(line: dict[str, Any]) -> str:
    """Return a file's scores as a line for people, and below it a line for each piece of evidence and forged stream."""
    if line["status"] != "ok":
        return f"{line['status']:>8}  {line['path']}: {line['reason']}"
    verdict = f"called {line['called']}, fake from {line['threshold']:.3f}" if line["called"] else "not called"
    streams = {"picture": "video_fake", "voice": "audio_fake", "in sync": "in_sync"}
    scores = ", ".join(f"{word} {line[name]:.2f}" for word, name in streams.items() if line[name] is not None)
    reason = f"  {line['reason']}" if line["reason"] else ""
    first = f"{line['score']:8.3f}  {line['path']}: {verdict} ({scores or 'no stream alone'}){reason}"
    said = line["evidence"] | describe_stretches(line.get("stretches", ()))
    looked = format_looked(line)
    return "\n".join(
        [first, *(f"{name:>20}: {says}" for name, says in said.items()), *([f"{'':>20}  {looked}"] * bool(looked))]
    )
