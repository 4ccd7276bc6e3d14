"""Folders of one's own: `<split>/<video folder>/` with a `meta.json`, or plainly real/ and fake/."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from dfmm.layouts.listing import Listing, Problems, list_tree, make_listing
from dfmm.layouts.release import Layout
from dfmm.manifest import (
    AUDIO_ENDINGS,
    STREAM_LABELS,
    VIDEO_ENDINGS,
    ManifestError,
    complete_manifest,
    find_faults,
    read_meta,
)
from dfmm.tables import read_labels

SPLIT_WORDS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test"}
LABELS = {"real": 0, "fake": 1}


def read_folders(root: str | Path) -> Listing:
    """Read `<split>/<video folder>/` with one video and a `meta.json` that holds the manifest's columns.

    Raises:
        ManifestError: there is no such folder.
    """
    problems = Problems()
    tree = list_tree(root, problems, endings=(*VIDEO_ENDINGS, "meta.json"))
    videos, rows = tree.select(VIDEO_ENDINGS), []
    for path in tree.find("meta.json"):
        if path.count("/") != 2:
            problems.add("no row", [path], "not in <split>/<video folder>/")
            continue
        try:
            rows.append(read_meta(tree.root / path, tree.root))
        except ManifestError as error:
            problems.add("malformed row", [path], str(error))
    table = pd.DataFrame(rows) if rows else pd.DataFrame({"path": [], "label": []}, dtype="str")
    problems.add("no row", videos[~videos.isin(table["path"])], "no meta.json of its own beside it")
    unlabelled = ~read_labels(table["label"]).isin([0, 1])
    problems.add("no label", table.loc[unlabelled, "path"], "expected a label real, fake, 0 or 1")
    rows = _drop_wrong(table[~unlabelled], problems)
    return make_listing(rows, problems, root=root, expected="<split>/<video folder>/meta.json")


def _drop_wrong(table: pd.DataFrame, problems: Problems) -> pd.DataFrame:
    """Leave out the rows that no manifest may hold: they cost themselves only."""
    right = np.ones(len(table), bool)
    for number in range(len(table)) if _find_fault(table) else ():
        if fault := _find_fault(table.iloc[[number]]):
            right[number] = False
            problems.add("malformed row", [table["path"].iloc[number]], fault)
    return table[right]


def _find_fault(table: pd.DataFrame) -> str:
    try:
        return "; ".join(fault for _, fault in find_faults(complete_manifest(table)))
    except ManifestError as error:
        return str(error).partition(": ")[2]


def read_realfake(root: str | Path) -> Listing:
    """Read videos, or where there are none sounds, below folders real/ and fake/, perhaps below train/, val/ and test/.

    Which stream is forged, how and who is shown is unknown: the same person may be in two splits. Of sounds alone it
    is known: there is no picture, so `video_fake` and `in_sync` are -1.

    Raises:
        ManifestError: there is no video or sound below a folder real or fake.
    """
    problems = Problems()
    tree = list_tree(root, problems, endings=(*VIDEO_ENDINGS, *AUDIO_ENDINGS))
    videos, sounds = tree.select(VIDEO_ENDINGS), tree.select(AUDIO_ENDINGS)
    heard = videos.empty
    if not heard:
        problems.add("other file", sounds, "a sound among videos: sounds are read where there is no video at all")
    files = sounds if heard else videos
    parts = [path.lower().split("/")[:-1] for path in files]
    said = [[LABELS[part] for part in folders if part in LABELS] for folders in parts]
    for path, labels in zip(files, said, strict=True):
        if len(labels) != 1:
            kind, detail = ("malformed name", "below both real and fake") if labels else ("no label", "below neither")
            problems.add(kind, [path], detail)
    labels = pd.Series([labels[0] if len(labels) == 1 else -1 for labels in said], dtype=int)
    splits = [next((SPLIT_WORDS[part] for part in folders if part in SPLIT_WORDS), "") for folders in parts]
    rows = pd.DataFrame({"path": files, "split": splits, "label": labels, "dataset": Path(root).resolve().name})
    for name in STREAM_LABELS:
        rows[name] = labels.map({0: int(name == "in_sync"), 1: -1}) if not heard else -1
    if heard:
        rows["audio_fake"] = labels
    place, expected = Path(root).resolve(), "videos or sounds below folders real and fake"
    if place.name.lower() in LABELS:
        expected += f" (this is one of them: name the folder above, {place.parent})"
    return make_listing(rows[labels >= 0], problems, root=root, expected=expected)


FOLDERS = Layout(
    "folders",
    "`<split>/<video folder>/` with a `meta.json`",
    read_folders,
    segments=True,
    identities="as told",
    split="its folders",
    licence="your own",
)
REALFAKE = Layout(
    "realfake",
    "plain `real/` and `fake/`, of videos or of sound alone",
    read_realfake,
    split="folders train, val, test, where they are",
    licence="your own",
)
