"""DFDC (sound; which stream of a fake is forged, nobody says): JSON beside the training videos, CSV for the test.

`dfdc_train_part_N/metadata.json`, in some archives one folder deeper; `labels.csv`, often absent, with 1 = fake.
Dolhansky et al., arXiv 2006.07397.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pandas as pd

from dfmm.layouts.listing import Listing, Problems, Tree, list_tree, make_listing, match_files, name_videos, read_json
from dfmm.layouts.release import Layout
from dfmm.manifest import VIDEO_ENDINGS, ManifestError

LABELS = {"REAL": 0, "FAKE": 1, "0": 0, "1": 1}
COLUMNS = ["path", "label", "original", "split"]


def read_dfdc(root: str | Path) -> Listing:
    """Read DFDC: `labels.csv` makes the test split; the training parts have none yet.

    People are anonymous: a video's identity is its original's name (`dfdc/wynotylpnm`), for whoever is in it.

    Raises:
        ManifestError: no video that metadata or labels name.
    """
    problems = Problems()
    tree = list_tree(root, problems, endings=(*VIDEO_ENDINGS, "metadata.json", "labels.csv"))
    rows = [row for path in tree.find("metadata.json") for row in _read_metadata(tree, path, problems)]
    rows += [row for path in tree.find("labels.csv") for row in _read_labels(tree, path, problems)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    videos = tree.select(VIDEO_ENDINGS)
    hidden = videos[~videos.isin(table["path"]) & videos.str.contains(r"(?:^|/)test", regex=True)]
    problems.add("no label", hidden, "a test video; there is no labels.csv that names it")
    table = match_files(table, videos.drop(hidden.index), tree, problems)
    unlabelled = ~table["label"].astype(str).isin(LABELS)
    problems.add("no label", table.loc[unlabelled, "path"], "neither REAL nor FAKE")
    table = _drop_copies(table[~unlabelled], problems)
    return make_listing(_describe(table), problems, root=root, expected="videos beside a metadata.json or a labels.csv")


def _read_metadata(tree: Tree, path: str, problems: Problems) -> list[tuple[str, Any, str, str]]:
    """Read a part's `{"name.mp4": {"label": "FAKE", "original": "other.mp4"}}`."""
    folder = path.removesuffix("metadata.json")
    try:
        entries = dict(read_json(tree.root / path))
    except (ManifestError, TypeError, ValueError) as error:
        problems.add("malformed row", [path], f"no object of videos: {error}")
        return []
    bad = [name for name, row in entries.items() if not isinstance(row, dict)]
    problems.add("malformed row", [folder + name for name in bad], f"in {path}: expected an object with a label")
    good = {name: row for name, row in entries.items() if isinstance(row, dict)}
    return [(folder + name, row.get("label"), str(row.get("original") or ""), "") for name, row in good.items()]


def _read_labels(tree: Tree, path: str, problems: Problems) -> list[tuple[str, Any, str, str]]:
    """Read the test's `filename,label`; the files are beside it or in a folder below."""
    folder = path.removesuffix("labels.csv")
    places = {file.rpartition("/")[2]: file for file in reversed(tree.files) if file.startswith(folder)}
    with (tree.root / path).open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = list(csv.DictReader(file))
    if rows and not {"filename", "label"} <= set(rows[0]):
        problems.add("malformed row", [path], f"expected filename,label, got {','.join(map(str, rows[0]))}")
        return []
    names = [row["filename"] or "" for row in rows]
    paths = [places.get(name, folder + name) for name in names]
    return [(path, row["label"], "", "test") for path, row in zip(paths, rows, strict=True)]


def _drop_copies(table: pd.DataFrame, problems: Problems) -> pd.DataFrame:
    """Keep one of the files of a name: names are random letters, unique over all parts."""
    double = table["path"].str.rsplit("/", n=1).str[-1].duplicated()
    problems.add("duplicate file", table.loc[double, "path"], "the same video in another folder")
    return table[~double]


def _describe(table: pd.DataFrame) -> pd.DataFrame:
    """Say of a real video that nothing in it is forged, of a fake that it is unknown what, and name the original."""
    label = table["label"].astype(str).map(LABELS).astype(int)
    name = name_videos(table["path"].str.rsplit("/", n=1).str[-1])
    origin = name_videos(table["original"])
    ids = dict(zip(name, name_videos(table["path"]), strict=True))
    folder = table["path"].str.extract(r"^((?:.*/)?)")[0]
    return table.assign(
        label=label,
        video_fake=label.map({0: 0, 1: -1}),
        audio_fake=label.map({0: 0, 1: -1}),
        in_sync=label.map({0: 1, 1: -1}),
        identities="dfdc/" + origin.where(origin != "", name),
        original=origin.map(ids).fillna(folder + origin).where(origin != "", ""),
        dataset="dfdc",
        source="dfdc",
    )


DFDC = Layout(
    "dfdc",
    "DFDC",
    read_dfdc,
    identities="originals",
    split="test, where `labels.csv` is",
    licence="an agreement to sign",
    ask="ai.meta.com/datasets/dfdc",
    counted="arXiv 2006.07397, of train",
    counts={"split == ''": 119_154, "split == '' and label == 1": 100_000},
    parts={f"dfdc_train_part_{number:02}.zip": f"dfdc_train_part_{number}/" for number in range(50)},
)
