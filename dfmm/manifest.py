"""The table of videos, one row each: read, write, validate, select, fingerprint."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dfmm.files import write_beside

VIDEO_ENDINGS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".m4v", ".flv", ".wmv")
AUDIO_ENDINGS = (".flac", ".wav")  # of files without a picture
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
    with write_beside(path) as partial:
        table.to_parquet(partial, index=False) if path.suffix == ".parquet" else table.to_csv(partial, index=False)
    return path


def complete_manifest(table: pd.DataFrame, *, origin: str = "manifest") -> pd.DataFrame:
    """Fill the columns that may be left out, and put all in the order of `COLUMNS`."""
    missing = [name for name in ("path", "split", "label") if name not in table]
    if missing:
        raise ManifestError(f"{origin}: lacks the columns {', '.join(missing)}; it has {', '.join(table.columns)}")
    table = table.copy(deep=False)
    if "video_id" not in table:
        table["video_id"] = [name_video(str(path)) for path in table["path"]]
    for name in STREAM_LABELS:
        table[name] = table[name].fillna(-1) if name in table else -1
    if "method" not in table or table["method"].hasnans:
        named = pd.to_numeric(table["label"], errors="coerce").map({0: "real", 1: "fake"})
        table["method"] = table["method"].fillna(named) if "method" in table else named
    for name in TEXT_COLUMNS:
        table[name] = _fill_text(table[name]) if name in table else ""
    return table[[*COLUMNS, *(name for name in table.columns if name not in COLUMNS)]]


def name_video(path: str) -> str:
    """Return a video's id: its path without the ending."""
    return os.path.splitext(path)[0]


def _fill_text(column: pd.Series) -> pd.Series:
    column = column.fillna("") if column.hasnans else column
    return column if column.dtype == "str" else column.astype(str)


def validate_manifest(table: pd.DataFrame, *, root: str | Path | None = None, origin: str = "manifest") -> pd.DataFrame:
    """Return the table with integer labels, or raise one `ManifestError` that names every bad row."""
    faults = list(_find_faults(table, root))
    if faults:
        shown = faults[:50] + ([f"… and {len(faults) - 50} more"] if len(faults) > 50 else [])
        raise ManifestError("\n  ".join([f"{origin}: {len(faults)} faults", *shown]))
    labels = {name: pd.to_numeric(table[name]).astype("int64") for name in ("label", *STREAM_LABELS)}
    return table.assign(**labels).reset_index(drop=True)


def _find_faults(table: pd.DataFrame, root: str | Path | None) -> Iterator[str]:
    """Yield a sentence for each fault. A million rows are looked at by columns; only suspects one by one."""
    if table.empty:
        yield "has no rows"
    lines = pd.Series(range(2, len(table) + 2), index=table.index)  # as an editor counts them, below the header
    for name, allowed in (
        ("label", (0, 1)),
        *((name, (-1, 0, 1)) for name in STREAM_LABELS),
        ("split", (*SPLITS, NO_SPLIT)),
    ):
        values = table[name] if name == "split" else pd.to_numeric(table[name], errors="coerce")
        bad = ~values.isin(allowed)
        for line, value in zip(lines[bad], table.loc[bad, name], strict=True):
            yield f"line {line}: {name} is {value!r}, expected one of {', '.join(map(str, allowed))}"
    for name in ("video_id", "path"):
        if _are_names(table[name]):
            if name == "video_id" and _go_on_from(table["path"], table["video_id"]):
                break
            continue
        repeated = table[name].duplicated(keep=False) | (table[name] == "")
        for line, value in zip(lines[repeated], table.loc[repeated, name], strict=True):
            yield f"line {line}: {name} {value!r} " + ("is repeated" if value else "is empty")
    outside = find_outside(table["path"], root)
    for line, value in zip(lines[outside], table.loc[outside, "path"], strict=True):
        yield f"line {line}: path {value!r} leaves the data root"
    for name in ("video_segments", "audio_segments"):
        suspect = ~_are_segments(table[name])
        for line, value in zip(lines[suspect], table.loc[suspect, name], strict=True):
            try:
                parse_segments(value)
            except ValueError as error:
                yield f"line {line}: {name}: {error}"


def _are_names(column: pd.Series) -> bool:
    return column.is_unique and bool((column != "").all())


def _go_on_from(paths: pd.Series, ids: pd.Series) -> bool:
    """Is every path its id with the same ending? Then paths are as unique as ids, and need not be compared, too."""
    return bool((ids + os.path.splitext(paths.iloc[0])[1] == paths).all()) if len(paths) else True


def is_inside(path: str) -> bool:
    """Does this relative path stay below where it starts, links apart?"""
    pure = PurePosixPath(path.replace("\\", "/"))
    return not pure.is_absolute() and ".." not in pure.parts


def find_outside(paths: pd.Series, root: str | Path | None = None) -> np.ndarray:
    """Which paths leave the root, bool `[n]`, links followed where there is a root?"""
    suspect = pc.match_substring_regex(pa.array(paths, pa.large_string()), r"^/|\.\.|\\")
    outside = suspect.to_numpy(zero_copy_only=False).copy()
    outside[outside] = [not is_inside(path) for path in paths[outside]]
    if root is not None and (leaving := find_links_out(root, paths[~outside])):
        outside |= paths.isin(leaving).to_numpy()
    return outside


def find_links_out(root: str | Path, paths: Sequence[str] | pd.Series) -> set[str]:
    """Return those relative paths that a link takes out of the root.

    Each folder is listed once, however many of its files are asked for: a listing says what is a link.
    """
    tree = _Links(root)
    leading = {folder for folder in _list_folders(paths, root) if tree.look_into(folder)}
    split = ((path, *path.rpartition("/")[::2]) for path in paths) if leading else ()
    return {path for path, folder, name in split if folder in leading and tree.leads_out(folder, name)}


def _list_folders(paths: Sequence[str] | pd.Series, root: str | Path) -> list[str]:
    """Return the folders of relative paths, each once, without those below a first folder that is not there."""
    kind = pa.large_string()
    cells = pc.binary_join_element_wise(pa.scalar("", kind), pa.array(paths, kind), pa.scalar("/", kind))
    halves = pc.split_pattern(cells, "/", max_splits=1, reverse=True)
    folders = pc.utf8_slice_codeunits(pc.unique(pc.list_element(halves, 0)), 1)  # without the slash put before them
    tops = pc.list_element(pc.split_pattern(folders, "/", max_splits=1), 0)
    absent = [top for top in pc.unique(tops).to_pylist() if not os.path.lexists(os.path.join(root, top))]
    return folders.filter(pc.invert(pc.is_in(tops, value_set=pa.array(absent, kind)))).to_pylist()


class _Links:
    """The links in a tree, read folder by folder as they are asked for."""

    def __init__(self, root: str | Path):
        self.base = os.path.realpath(root)
        self.places = {"": self.base}  # of each folder, links followed; "" of one that is not there
        self.links: dict[str, dict[str, str]] = {}  # of each folder: the names of links, and where they lead

    def look_into(self, folder: str) -> bool:
        """Find out about a folder, its parents first. Can any of its files lie outside of the root?"""
        if folder not in self.links:
            if folder:
                parent, _, name = folder.rpartition("/")
                self.look_into(parent)
                place = self.places[parent]
                self.places[folder] = place and self.links[parent].get(name, os.path.join(place, name))
            self.links[folder] = self._list_links(folder)
        return bool(self.links[folder]) or self._is_outside(self.places[folder] or self.base)

    def leads_out(self, folder: str, name: str) -> bool:
        return self._is_outside(self.places[folder]) or self._is_outside(self.links[folder].get(name, self.base))

    def _is_outside(self, place: str) -> bool:
        return place != self.base and not place.startswith(self.base.rstrip(os.sep) + os.sep)

    def _list_links(self, folder: str) -> dict[str, str]:
        if self.places[folder]:
            try:
                with os.scandir(self.places[folder]) as entries:
                    return {entry.name: os.path.realpath(entry.path) for entry in entries if entry.is_symlink()}
            except OSError:
                self.places[folder] = ""
        return {}


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
    rows = [read_meta(meta, root) for meta in sorted(root.glob("*/*/meta.json"))]
    if not rows:
        raise ManifestError(f"{root}: expected <split>/<video folder>/ with a video and a meta.json, found none")
    return pd.DataFrame(rows)


def read_meta(meta: Path, root: Path) -> dict[str, Any]:
    """Read the `meta.json` beside one video as a row of the manifest.

    Raises:
        ManifestError: there is not exactly one video beside it, or it is no JSON object.
    """
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
    return {**values, "path": videos[0].relative_to(root).as_posix(), "split": meta.parts[-3]}


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
