"""Mega-MMDF (sound): three lists of paths that say which stream is forged, and a table of what else is known.

`Mega-MMDF/{train,val,test}.json`, each a list of paths below the folder that holds `Mega-MMDF`, in which RARV, RAFV,
FARV or FAFV (the sound comes first) says what is forged; `attributes.json`. Zhao et al., arXiv 2510.22622.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from dfmm.layouts.listing import (
    Listing,
    Problems,
    Tree,
    is_among,
    list_tree,
    look_up,
    make_listing,
    match_files,
    read_json,
)
from dfmm.layouts.release import Layout
from dfmm.manifest import SPLITS, VIDEO_ENDINGS, ManifestError, format_segments

KIND = r"(?:^|[/_])([RF]A[RF]V)(?=[/_.]|$)"
ATTRIBUTES, PERIOD = "attributes.json", "partial_fake_segments"


def read_megammdf(root: str | Path) -> Listing:
    """Read Mega-MMDF with its official splits.

    Nobody is named, and no method: a fake's is `rafv`, `farv` or `fafv`. Where a video is forged in part, the stretch
    is taken to be in seconds and of every stream that is forged: the release does not say.

    Raises:
        ManifestError: there is no list, or none of its files.
    """
    problems = Problems()
    lists = tuple(f"{split}.json" for split in SPLITS)
    tree = list_tree(root, problems, endings=(*VIDEO_ENDINGS, *lists, ATTRIBUTES))
    found = {split: path for split, name in zip(SPLITS, lists, strict=True) for path in tree.find(name)[:1]}
    if not found:
        raise ManifestError(f"{root}: expected {', '.join(lists)} with the videos that they name")
    problems.add("missing file", [name for name in lists if name[:-5] not in found], "a list of videos")
    rows = pd.concat([_read_list(tree, path, split, problems) for split, path in found.items()], ignore_index=True)
    rows = _add_periods(rows, tree, problems)
    videos = tree.select(VIDEO_ENDINGS)
    rows = match_files(_place(rows, next(iter(found.values())), videos), videos, tree, problems)
    return make_listing(rows, problems, root=root, expected="the files that the lists name")


def _read_list(tree: Tree, path: str, split: str, problems: Problems) -> pd.DataFrame:
    entries = read_json(tree.root / path)
    if not isinstance(entries, list):
        problems.add("malformed row", [path], f"expected a list of paths, got a {type(entries).__name__}")
        entries = []
    files = pd.Series([str(entry).replace("\\", "/") for entry in entries], dtype="str")
    kind = files.str.extract(KIND)[0]
    problems.add("malformed row", files[kind.isna()], f"in {path}: expected RARV, RAFV, FARV or FAFV in it")
    files, kind = files[kind.notna()], kind.dropna()
    audio, video = (kind.str[at].eq("F").astype(int) for at in (0, 2))
    return pd.DataFrame(
        {
            "path": files,
            "split": split,
            "label": audio | video,
            "video_fake": video,
            "audio_fake": audio,
            "in_sync": (audio | video).map({0: 1, 1: -1}),
            "method": kind.str.lower().mask(kind == "RARV", "real"),
            "dataset": "mega-mmdf",
        }
    )


def _add_periods(rows: pd.DataFrame, tree: Tree, problems: Problems) -> pd.DataFrame:
    found = tree.find(ATTRIBUTES)
    problems.add("missing file", [ATTRIBUTES] * (not found), "it says which fakes are forged in part, and where")
    try:
        told = json.loads((tree.root / found[0]).read_bytes(), object_hook=_keep_period) if found else {}
    except ValueError as error:
        raise ManifestError(f"{found[0]}: not JSON: {error}") from error
    if not isinstance(told, dict):
        problems.add("malformed row", found, "expected an object with an entry for each path")
        told = {}
    cells: dict[str, str] = {}
    for path, entry in told.items():
        try:
            cells[path.replace("\\", "/")] = _read_period(entry)
        except (TypeError, ValueError) as error:
            problems.add("malformed row", [path], f"its {PERIOD} are no seconds: {error}")
    unlisted = [path for path in cells.keys() - set(rows["path"]) if cells[path]]
    problems.add("malformed row", sorted(unlisted), f"{ATTRIBUTES} says where it is forged, and no list names it")
    text = look_up(rows["path"], cells)
    real = rows.loc[(rows["label"] == 0) & (text != ""), "path"]
    problems.add("segments repaired", real, "those of a real video are dropped")
    return rows.assign(**{f"{part}_segments": text.where(rows[f"{part}_fake"] == 1, "") for part in ("video", "audio")})


def _keep_period(entry: dict[str, Any]) -> Any:
    """Keep of a video's attributes, as they are read, its stretch alone: of a million, the rest would fill memory.

    It is kept as a tuple of one, or of none, which is nothing that JSON itself holds.
    """
    if any("/" in name or "\\" in name for name in list(entry)[:1]):
        return entry
    return (entry[PERIOD],) if PERIOD in entry else ()


def _read_period(kept: Any) -> str:
    """Return the stretches of a video, from what `_keep_period` kept of its entry; empty where it is forged as a whole.

    Raises:
        ValueError, TypeError: they are of another shape.
    """
    if not isinstance(kept, tuple):
        raise ValueError(f"expected an object, got {kept!r}")
    period = kept[0] if kept else None
    if period is None or period == []:
        return ""
    if not isinstance(period, list):
        raise ValueError(f"expected [start, end] or a list of such, got {period!r}")
    return format_segments(period if isinstance(period[0], list) else [period])


def _place(rows: pd.DataFrame, beside: str, videos: pd.Series) -> pd.DataFrame:
    """Find the folder that the paths are relative to: that above `Mega-MMDF`, or the list's own."""
    folder = beside.rpartition("/")[0]
    above = folder.rpartition("/")[0]
    bare = rows["path"].str.replace(r"^Mega-MMDF/", "", regex=True)
    tries = [(f"{place}/" if place else "") + paths for place in (above, folder) for paths in (rows["path"], bare)]
    return rows.assign(path=max(tries, key=lambda paths: int(is_among(paths, videos).sum())))


MEGAMMDF = Layout(
    "megammdf",
    "Mega-MMDF",
    read_megammdf,
    segments=True,
    split="train, val, test",
    licence="CC BY-NC 4.0, on request",
    ask="doi.org/10.7910/DVN/J4DVAA",
    counted="the README of DeepfakeBench-MM",
    counts={"label == 0": 100_000, "label == 1": 1_100_000},
)
