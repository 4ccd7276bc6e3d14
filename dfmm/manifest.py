"""The table of videos, one row each: read, write, validate, select, fingerprint."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pandas as pd

VIDEO_ENDINGS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".m4v", ".flv", ".wmv")
SPLITS = ("train", "val", "test")
STREAM_LABELS = ("video_fake", "audio_fake", "in_sync")
TEXT_COLUMNS = (
    "video_id", "path", "split", "method", "identities", "original",
    "video_segments", "audio_segments", "dataset", "source",
)  # fmt: skip
COLUMNS = (
    "video_id", "path", "split", "label", *STREAM_LABELS, "method", "identities", "original",
    "video_segments", "audio_segments", "dataset", "source",
)  # fmt: skip


class ManifestError(ValueError):
    """A manifest that is missing or wrong; the message names every bad row."""


def read_manifest(path: str | Path, root: str | Path | None = None) -> pd.DataFrame:
    """Read a CSV or Parquet manifest, or a folder in the seeds' layout, and validate it.

    Args:
        path: a `.csv` or `.parquet` file, or a folder of `<split>/<video folder>/` with a video and a `meta.json`.
        root: the folder paths are relative to; given, every path is checked to stay inside it.

    Returns:
        The columns of `COLUMNS`, then whatever else the table holds. Columns that may be left out are filled with
        "unknown": -1 for a stream's label, empty for a text.

    Raises:
        ManifestError: the file is missing or unreadable, lacks a required column, or has wrong rows (all are named).
    """
    path = Path(path)
    if path.is_dir():
        table = _read_folders(path)
    elif not path.is_file():
        raise ManifestError(f"{path}: no such manifest; expected a .csv or .parquet file, or a folder of videos")
    else:
        table = _read_table(path)
    return validate_manifest(complete_manifest(table, origin=str(path)), root=root, origin=str(path))


def _read_table(path: Path) -> pd.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(path, dtype=dict.fromkeys(TEXT_COLUMNS, str), keep_default_na=False)
    except ValueError as error:
        raise ManifestError(f"{path}: cannot be read ({error})") from error


def write_manifest(table: pd.DataFrame, path: str | Path) -> Path:
    """Write a manifest as CSV or, by its ending, Parquet; the file appears whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial{os.getpid()}")
    table.to_parquet(partial, index=False) if path.suffix == ".parquet" else table.to_csv(partial, index=False)
    partial.replace(path)
    return path


def complete_manifest(table: pd.DataFrame, *, origin: str = "manifest") -> pd.DataFrame:
    """Fill the columns that may be left out, and put all in the order of `COLUMNS`."""
    missing = [name for name in ("path", "split", "label") if name not in table]
    if missing:
        raise ManifestError(f"{origin}: lacks the columns {', '.join(missing)}; it has {', '.join(table.columns)}")
    table = table.copy()
    if "video_id" not in table:
        table["video_id"] = [os.path.splitext(str(path))[0] for path in table["path"]]
    for name in STREAM_LABELS:
        table[name] = table[name].fillna(-1) if name in table else -1
    named = pd.to_numeric(table["label"], errors="coerce").map({0: "real", 1: "fake"})
    table["method"] = table["method"].fillna(named) if "method" in table else named
    for name in TEXT_COLUMNS:
        table[name] = table[name].fillna("").astype(str) if name in table else ""
    return table[[*COLUMNS, *(name for name in table.columns if name not in COLUMNS)]]


def validate_manifest(table: pd.DataFrame, *, root: str | Path | None = None, origin: str = "manifest") -> pd.DataFrame:
    """Return the table with integer labels, or raise one `ManifestError` that names every bad row."""
    faults = list(_find_faults(table, root))
    if faults:
        shown = faults[:50] + ([f"… and {len(faults) - 50} more"] if len(faults) > 50 else [])
        raise ManifestError("\n  ".join([f"{origin}: {len(faults)} faults", *shown]))
    labels = {name: pd.to_numeric(table[name]).astype("int64") for name in ("label", *STREAM_LABELS)}
    return table.assign(**labels).reset_index(drop=True)


def _find_faults(table: pd.DataFrame, root: str | Path | None) -> Iterator[str]:
    if table.empty:
        yield "has no rows"
    lines = pd.Series(range(2, len(table) + 2), index=table.index)  # as an editor counts them, below the header
    for name, allowed in (("label", (0, 1)), *((name, (-1, 0, 1)) for name in STREAM_LABELS)):
        bad = ~pd.to_numeric(table[name], errors="coerce").isin(allowed)
        for line, value in zip(lines[bad], table.loc[bad, name], strict=True):
            yield f"line {line}: {name} is {value!r}, expected one of {', '.join(map(str, allowed))}"
    for line, value in zip(lines, table["split"], strict=True):
        if value not in SPLITS:
            yield f"line {line}: split is {value!r}, expected one of {', '.join(SPLITS)}"
    for name in ("video_id", "path"):
        repeated = table[name].duplicated(keep=False) | (table[name] == "")
        for line, value in zip(lines[repeated], table.loc[repeated, name], strict=True):
            yield f"line {line}: {name} {value!r} " + ("is repeated" if value else "is empty")
    for line, value in zip(lines, table["path"], strict=True):
        if not is_inside(value, root):
            yield f"line {line}: path {value!r} leaves the data root"
    for name in ("video_segments", "audio_segments"):
        for line, value in zip(lines[table[name] != ""], table.loc[table[name] != "", name], strict=True):
            try:
                parse_segments(value)
            except ValueError as error:
                yield f"line {line}: {name}: {error}"


def is_inside(path: str, root: str | Path | None) -> bool:
    """Does this relative path stay inside the root, links followed?"""
    pure = PurePosixPath(path.replace("\\", "/"))
    if pure.is_absolute() or ".." in pure.parts:
        return False
    # Following links costs a call to the file system a row: only where there can be one.
    return root is None or (Path(root) / path).resolve().is_relative_to(Path(root).resolve())


def parse_segments(text: str) -> list[tuple[float, float]]:
    """Read `0.48-1.20|2-2.5` as pairs of seconds; empty text is no pair."""
    pairs = []
    for part in filter(None, text.split("|")):
        try:
            start, end = (float(number) for number in part.split("-"))
        except ValueError:
            raise ValueError(
                f"expected start-end in seconds joined by |, such as 0.48-1.20|2-2.5, got {text!r}"
            ) from None
        if not 0 <= start < end:
            raise ValueError(f"segment {part!r} does not end after it starts")
        pairs.append((start, end))
    return pairs


def _read_folders(root: Path) -> pd.DataFrame:
    """Read `<split>/<video folder>/` with a video and a `meta.json` holding the manifest's columns."""
    rows = []
    for meta in sorted(root.glob("*/*/meta.json")):
        videos = [file for file in sorted(meta.parent.iterdir()) if file.suffix.lower() in VIDEO_ENDINGS]
        if len(videos) != 1:
            raise ManifestError(f"{meta.parent}: expected one video beside meta.json, found {len(videos)}")
        try:
            values = json.loads(meta.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ManifestError(f"{meta}: not JSON: {error}") from error
        if not isinstance(values, dict):
            raise ManifestError(f"{meta}: expected an object with a label, got a {type(values).__name__}")
        label = str(values.get("label", "")).lower()
        values["label"] = {"real": 0, "fake": 1}.get(label, label)
        if isinstance(values.get("identities"), list):
            values["identities"] = "|".join(map(str, values["identities"]))
        rows.append({**values, "path": videos[0].relative_to(root).as_posix(), "split": meta.parts[-3]})
    if not rows:
        raise ManifestError(f"{root}: expected <split>/<video folder>/ with a video and a meta.json, found none")
    return pd.DataFrame(rows)


def select_split(table: pd.DataFrame, split: str, *, limit: int | None = None) -> pd.DataFrame:
    """Return one split's rows; with a limit, that many, taken from both labels in turn.

    Raises:
        ManifestError: the split has no videos.
    """
    chosen = table[table["split"] == split].reset_index(drop=True)
    if chosen.empty:
        sizes = ", ".join(f"{name} {size}" for name, size in table["split"].value_counts().items())
        raise ManifestError(f"no videos in the split {split!r}; the manifest has: {sizes}")
    if limit is None or limit >= len(chosen):
        return chosen
    turn = chosen.groupby("label").cumcount()  # the first real and the first fake, then the second of each, …
    return chosen.loc[turn.sort_values(kind="stable").index[:limit]].sort_index().reset_index(drop=True)


def fingerprint_manifest(table: pd.DataFrame) -> str:
    """Return a short hash of the manifest's own columns that does not depend on the order of its rows."""
    rows = table[list(COLUMNS)].astype(str).agg("\x1f".join, axis=1).sort_values()
    return hashlib.sha256("\x1e".join(rows).encode()).hexdigest()[:16]


def summarise_manifest(table: pd.DataFrame) -> pd.DataFrame:
    """Count videos by method (rows) and split (columns)."""
    counts = pd.crosstab(table["method"], table["split"])
    order = ["real", *sorted(set(counts.index) - {"real"})]
    return counts.reindex(index=[m for m in order if m in counts.index], columns=[s for s in SPLITS if s in counts])
