"""The table of videos, one row each: read, write, validate, select, fingerprint."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dfmm.files import check_file_name, write_beside
from dfmm.paths import find_outside, normalise_paths
from dfmm.tables import ENDINGS, ManifestError, is_among, name_format, name_rows, read_labels, read_table, read_texts
from dfmm.words import count_noun

# What `dfmm.media.container.FORMATS` are called.
VIDEO_ENDINGS = (
    ".mp4", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".m4v", ".flv", ".wmv",
    ".3gp", ".3g2", ".qt", ".mj2", ".f4v", ".ismv", ".mk3d", ".asf", ".ogv", ".rm", ".rmvb", ".mxf", ".nut", ".wtv",
    ".ts", ".mts", ".m2ts", ".m2t", ".vob", ".mpe", ".m1v", ".m2v", ".dv", ".dif", ".ivf", ".y4m", ".obu",
    ".mjpeg", ".mjpg", ".264", ".h264", ".avc", ".265", ".h265", ".hevc", ".gif", ".apng",
)  # fmt: skip
AUDIO_ENDINGS = (  # of files without a picture
    ".flac", ".wav", ".mp3", ".m4a", ".m4b", ".aac", ".ogg", ".oga", ".opus", ".spx", ".wma", ".mka", ".ac3", ".eac3",
    ".ec3", ".amr", ".aif", ".aiff", ".aifc", ".caf", ".w64", ".au", ".snd", ".ra", ".mp2", ".mpa", ".m2a", ".isma",
    ".adts",
)  # fmt: skip
SPLITS = ("train", "val", "test")
NO_SPLIT = "none"  # of a video that is known but kept out of all three
STREAM_LABELS = ("video_fake", "audio_fake", "in_sync")
TEXT_COLUMNS = (
    "video_id", "path", "split", "method", "identities", "original",
    "video_segments", "audio_segments", "dataset", "source",
)  # fmt: skip
COLUMNS = (
    "video_id", "path", "split", "label", *STREAM_LABELS, "method", "identities", "original",
    "video_segments", "audio_segments", "dataset", "source",
)  # fmt: skip


def read_manifest(path: str | Path, root: str | Path | None = None) -> pd.DataFrame:
    """Read a CSV, Parquet or JSON manifest, or a folder in the seeds' layout, and validate it.

    Args:
        path: a `.csv`, `.parquet`, `.pq`, `.json` or `.jsonl` file, or a folder of `<split>/<video folder>/` with a
            video and a `meta.json`.
        root: the folder paths are relative to; given, absolute paths below it are made so, and every path is checked
            to stay inside it.

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
        raise ManifestError(f"{path}: no such manifest; expected a .csv, .parquet or .json file, or a folder of videos")
    else:
        table = read_table(path, TEXT_COLUMNS)
    table = complete_manifest(table, root=root, origin=str(path))
    return validate_manifest(table, root=root, origin=str(path), file=path if path.is_file() else None)


def write_manifest(table: pd.DataFrame, path: str | Path) -> Path:
    """Write a manifest as its ending says, one of `ENDINGS`; it appears whole or not at all.

    Raises:
        EndingError: the ending is another one, under which nobody would look for a CSV.
    """
    path = Path(path)
    check_file_name(path, ENDINGS, "manifest.csv")
    kind = name_format(path)
    with write_beside(path) as partial:
        if kind == "parquet":
            table.to_parquet(partial, index=False)
        elif kind in ("json", "jsonl"):
            table.to_json(partial, orient="records", lines=kind == "jsonl", force_ascii=False)
        else:
            table.to_csv(partial, index=False)
    return path


def complete_manifest(table: pd.DataFrame, *, root: str | Path | None = None, origin: str = "manifest") -> pd.DataFrame:
    """Fill the columns that may be left out, read each cell as one format or another wrote it, and put all in order.

    An empty cell means that nothing is said: -1 for a stream's label, real or fake, by the label, for a method. A real
    of whose streams nothing at all is said has genuine ones that belong together, by definition.

    Raises:
        ManifestError: a required column is not there, or one holds what is neither a label nor a text.
    """
    missing = [name for name in ("path", "split", "label") if name not in table]
    if missing:
        raise ManifestError(f"{origin}: lacks the columns {', '.join(missing)}; it has {', '.join(table.columns)}")
    table = table.copy(deep=False)
    try:
        for name in TEXT_COLUMNS:
            table[name] = read_texts(table[name]) if name in table else ""
        table["label"] = read_labels(table["label"], empty="")
        for name in STREAM_LABELS:
            table[name] = read_labels(table[name]) if name in table else -1
        genuine = (table["label"] == 0) & (table[list(STREAM_LABELS)] == -1).all(axis=1)
        for name in STREAM_LABELS:
            table[name] = table[name].mask(genuine, int(name == "in_sync"))
    except ManifestError as error:
        raise ManifestError(f"{origin}: {error}") from error
    table["path"] = normalise_paths(table["path"], root)
    if (unnamed := table["video_id"] == "").any():
        table["video_id"] = table["video_id"].mask(unnamed, table["path"].map(name_video))
    table["original"] = _find_originals(table, root)
    if (unsaid := table["method"] == "").any():
        named = table["label"].map({0: "real", 1: "fake"}).fillna("")
        table["method"] = table["method"].mask(unsaid, named)
    return table[[*COLUMNS, *(name for name in table.columns if name not in COLUMNS)]]


def _find_originals(table: pd.DataFrame, root: str | Path | None) -> pd.Series:
    """Return the ids of the originals, each of which may be written as any id or path of its video may.

    One that the table does not list is called as its path would be.
    """
    names = pd.Series(table["original"].unique(), dtype="str")
    names = names[(names != "") & ~is_among(names, table["video_id"])]
    if names.empty:
        return table["original"]
    ids, plain = table["video_id"], normalise_paths(names, root)
    known = dict(zip(normalise_paths(ids, root), ids, strict=True)) | dict(zip(table["path"], ids, strict=True))
    bare = [name_video(name) if name.lower().endswith((*VIDEO_ENDINGS, *AUDIO_ENDINGS)) else name for name in plain]
    meant = [known.get(name) or known.get(other, other) for name, other in zip(plain, bare, strict=True)]
    return table["original"].map(dict(zip(names, meant, strict=True))).fillna(table["original"])


def name_video(path: str) -> str:
    """Return a video's id: its path without the ending."""
    return os.path.splitext(path)[0]


def validate_manifest(
    table: pd.DataFrame, *, root: str | Path | None = None, origin: str = "manifest", file: Path | None = None
) -> pd.DataFrame:
    """Return the table with integer labels, or raise one `ManifestError` that names every bad row.

    Args:
        file: that it was read from, whose lines are named; without one, videos are.
    """
    faults = list(find_faults(table, root))
    if faults:
        rows = [row for row, _ in faults[:50]]
        names = name_rows(file, rows) if file else table["video_id"].iloc[rows]
        shown = [f"{name}: {fault}" for name, (_, fault) in zip(names, faults, strict=False)]
        shown += [f"… and {len(faults) - 50} more"] if len(faults) > 50 else []
        raise ManifestError("\n  ".join([f"{origin}: {count_noun(len(faults), 'fault')}", *shown]))
    if table.empty:
        raise ManifestError(f"{origin}: has no rows")
    labels = {name: pd.to_numeric(table[name]).astype("int64") for name in ("label", *STREAM_LABELS)}
    return table.assign(**labels).reset_index(drop=True)


def find_faults(table: pd.DataFrame, root: str | Path | None = None) -> Iterator[tuple[int, str]]:
    """Yield each fault: the number of its row, from 0, and a sentence.

    A million rows are looked at by columns; only suspects one by one.
    """
    rows = pd.Series(range(len(table)), index=table.index)
    for name, allowed in (
        ("label", (0, 1)),
        *((name, (-1, 0, 1)) for name in STREAM_LABELS),
        ("split", (*SPLITS, NO_SPLIT)),
    ):
        values = table[name] if name == "split" else pd.to_numeric(table[name], errors="coerce")
        bad = ~values.isin(allowed)
        for row, value in zip(rows[bad], table.loc[bad, name], strict=True):
            yield row, f"{name} is {value!r}, expected one of {', '.join(map(str, allowed))}"
    for name in ("video_id", "path"):
        if _are_names(table[name]):
            if name == "video_id" and _go_on_from(table["path"], table["video_id"]):
                break
            continue
        repeated = table[name].duplicated(keep=False) | (table[name] == "")
        for row, value in zip(rows[repeated], table.loc[repeated, name], strict=True):
            yield row, f"{name} {value!r} " + ("is repeated" if value else "is empty")
    outside = find_outside(table["path"], root)
    for row, value in zip(rows[outside], table.loc[outside, "path"], strict=True):
        yield row, f"path {value!r} leaves the data root" + (f" {root}" if root is not None else "")
    for name in ("video_segments", "audio_segments"):
        suspect = ~_are_segments(table[name])
        for row, value in zip(rows[suspect], table.loc[suspect, name], strict=True):
            try:
                parse_segments(value)
            except ValueError as error:
                yield row, f"{name}: {error}"


def _are_names(column: pd.Series) -> bool:
    return column.is_unique and bool((column != "").all())


def _go_on_from(paths: pd.Series, ids: pd.Series) -> bool:
    """Is every path its id with the same ending? Then paths are as unique as ids, and need not be compared, too."""
    return bool((ids + os.path.splitext(paths.iloc[0])[1] == paths).all()) if len(paths) else True


def _are_segments(column: pd.Series) -> np.ndarray:
    """Which cells, bool `[n]`, are surely segments or empty? Of the others `parse_segments` says what is wrong."""
    number = r"[0-9]+(\.[0-9]+)?"
    cells = pa.array(column, pa.large_string())
    written = pc.match_substring_regex(cells, rf"^({number}-{number}(\|{number}-{number})*)?$")
    pairs = pc.split_pattern(pc.if_else(written, cells, ""), "|")
    owner, pair = pc.list_parent_indices(pairs).to_numpy(), pc.list_flatten(pairs)
    filled = pc.not_equal(pair, "")
    owner, pair = owner[filled.to_numpy(zero_copy_only=False)], pair.filter(filled)
    ends = pc.list_flatten(pc.split_pattern(pair, "-")).cast(pa.float64()).to_numpy().reshape(-1, 2)
    sure = written.to_numpy(zero_copy_only=False).copy()
    sure[owner[ends[:, 0] >= ends[:, 1]]] = False
    return sure


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


def format_segments(pairs: Iterable[Sequence[float]]) -> str:
    """Write pairs of seconds as `parse_segments` reads them, to the millisecond.

    Raises:
        ValueError: a pair is no pair of numbers, begins before 0, or does not end after it starts.
    """
    cells = []
    for start, end in pairs:
        cells.append(f"{start:.3f}-{end:.3f}")
        if not (start >= 0 and end - start >= 1e-3):
            raise ValueError(f"segment {cells[-1]} does not end after it starts")
    return "|".join(cells)


def _read_folders(root: Path) -> pd.DataFrame:
    """Read `<split>/<video folder>/` with a video and a `meta.json` holding the manifest's columns."""
    rows = [read_meta(meta, root) for meta in sorted(root.glob("[!.]*/[!.]*/meta.json"))]
    if not rows:
        raise ManifestError(f"{root}: expected <split>/<video folder>/ with a video and a meta.json, found none")
    return pd.DataFrame(rows)


def read_meta(meta: Path, root: Path) -> dict[str, Any]:
    """Read the `meta.json` beside one video as a row of the manifest.

    Raises:
        ManifestError: there is not exactly one video beside it, or it is no JSON object.
    """
    files = sorted(meta.parent.glob("[!.]*"))  # what is hidden, such as macOS's `._clip.mp4`, is no part of the data
    videos = [file for file in files if file.suffix.lower() in VIDEO_ENDINGS]
    if len(videos) != 1:
        raise ManifestError(f"{meta.parent}: expected one video beside meta.json, found {len(videos)}")
    try:
        values = json.loads(meta.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ManifestError(f"{meta}: not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ManifestError(f"{meta}: expected an object with a label, got a {type(values).__name__}")
    return {"label": None, **values, "path": videos[0].relative_to(root).as_posix(), "split": meta.parts[-3]}


def select_split(table: pd.DataFrame, split: str, *, limit: int | None = None) -> pd.DataFrame:
    """Return one split's rows; with a limit, that many, taken from both labels in turn.

    Raises:
        ManifestError: the split has no videos.
    """
    chosen = table[table["split"] == split].reset_index(drop=True)
    if split == NO_SPLIT:
        raise ManifestError(f"videos in the split {NO_SPLIT!r} are kept out of all splits: choose one of {SPLITS}")
    if chosen.empty:
        sizes = ", ".join(f"{name} {size}" for name, size in table["split"].value_counts().items())
        raise ManifestError(f"no videos in the split {split!r}; the manifest has: {sizes}")
    if limit is None or limit >= len(chosen):
        return chosen
    turn = chosen.groupby("label").cumcount()  # the first real and the first fake, then the second of each, …
    return chosen.loc[turn.sort_values(kind="stable").index[:limit]].sort_index().reset_index(drop=True)


def leave_out_methods(table: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Return the table with all fakes of some methods kept out of train and val, in the split `none`; test stays.

    Args:
        methods: `wav2lip` takes with it every method it is part of, such as `faceswap+wav2lip`.

    Raises:
        ManifestError: a method that no video names, or train is left without a fake.
    """
    there = table.loc[table["label"] == 1, "method"].unique()
    named: set[str] = set()
    for method in methods:
        found = [one for one in there if list_parts(method) and list_parts(method) <= list_parts(one)]
        if not found:
            raise ManifestError(f"no fake's method names {method!r}; the manifest has: {', '.join(sorted(there))}")
        named.update(found)
    out = table["method"].isin(named) & (table["label"] == 1) & table["split"].isin(("train", "val"))
    left = table.assign(split=table["split"].mask(out, NO_SPLIT))
    for split in ("train", "val"):
        before, after = (some.loc[some["split"] == split, "label"].eq(1).any() for some in (table, left))
        if before and not after:
            raise ManifestError(f"without {', '.join(methods)} there is no fake left in {split!r}")
    return left


def leave_out_fakes(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with all fakes kept out of train and val, in the split `none`; test stays."""
    out = (table["label"] == 1) & table["split"].isin(("train", "val"))
    return table.assign(split=table["split"].mask(out, NO_SPLIT))


def list_parts(method: str) -> frozenset[str]:
    """Return the methods that are joined by `+` in one."""
    return frozenset(part.strip() for part in method.split("+") if part.strip())


def find_unseen(methods: Iterable[str], seen: Iterable[str]) -> list[str]:
    """Return those methods of which a part is part of no method that was seen in training."""
    known = {part for method in seen for part in list_parts(method)}
    return [method for method in methods if not list_parts(method) <= known]


def select_videos(table: pd.DataFrame, *, limit: int | None = None) -> pd.DataFrame:
    """Return all rows; with a limit, those that `select_split` keeps of each split."""
    if limit is None:
        return table
    splits = [split for split in SPLITS if (table["split"] == split).any()]
    return pd.concat([select_split(table, split, limit=limit) for split in splits], ignore_index=True)


def is_synthetic(table: pd.DataFrame) -> bool:
    """Are all videos drawn ones, as those of the sample are?"""
    return bool((table["source"] == "synthetic").all())


def fingerprint_manifest(table: pd.DataFrame) -> str:
    """Return a short hash of the manifest's own columns that does not depend on the order of its rows."""
    cells = [pa.array(table[name].astype(str), pa.large_string()) for name in COLUMNS]
    rows = pc.binary_join_element_wise(*cells, pa.scalar("\x1f", pa.large_string())).to_pylist()
    return hashlib.sha256("\x1e".join(sorted(rows)).encode()).hexdigest()[:16]


def summarise_manifest(table: pd.DataFrame) -> pd.DataFrame:
    """Count videos by method (rows) and split (columns)."""
    counts = pd.crosstab(table["method"], table["split"])
    order = ["real", *sorted(set(counts.index) - {"real"})]
    splits = [split for split in (*SPLITS, NO_SPLIT) if split in counts]
    return counts.reindex(index=[m for m in order if m in counts.index], columns=splits)
