"""FaceForensics++ with its DeepFakeDetection part (no sound): where a file lies and what it is called say all.

`{original_sequences/{youtube,actors},manipulated_sequences/<Method>}/{raw,c23,c40}/videos/*.mp4`; `splits/*.json` and
`conversion_dict.json` come from the dataset's repository. Rössler et al., ICCV 2019.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from dfmm.layouts.listing import Listing, Problems, Tree, list_tree, make_listing, read_json
from dfmm.layouts.release import Layout
from dfmm.manifest import SPLITS, VIDEO_ENDINGS, ManifestError

PLACE = (
    r"^(?P<above>(?:.*/)?)(?P<kind>original_sequences|manipulated_sequences)"
    r"/(?P<part>[^/]+)/(?P<compression>[^/]+)/videos/(?P<name>[^/]+)\.[^./]+$"
)
CUT_FROM = "conversion_dict.json"
COMPRESSIONS = ("c23", "raw", "c40")  # the first that is there is taken
NAMES = {  # of the files of each part, real and fake; of a fake, the target comes first
    ("ff", 0): r"^(?P<target>\d{3})$",
    ("ff", 1): r"^(?P<target>\d{3})_(?P<source>\d{3})$",
    ("dfd", 0): r"^(?P<target>\d+)__(?P<scene>.+)$",
    ("dfd", 1): r"^(?P<target>\d+)_(?P<source>\d+)__(?P<scene>.+)__[0-9A-Z]{8}$",
}
METHODS = ("deepfakes", "face2face", "faceswap", "neuraltextures", "faceshifter")
PAIRED = {"train": 720, "val": 140, "test": 140}
ORIGINALS = {"ff": "youtube", "dfd": "actors"}
DATASETS = {"ff": "faceforensics++", "dfd": "deepfakedetection"}


def read_faceforensics(root: str | Path, *, compression: str | None = None) -> Listing:
    """Read FaceForensics++; one compression only, by default c23 or else the only one there.

    Identities are `ff/071` and, for DFD's actors, `dfd/02`. Where `conversion_dict.json` is there, the column
    `youtube` says which video a sequence was cut from: of 977, the official splits share seven.

    Raises:
        ManifestError: no video of the layout, or none in the compression asked for.
    """
    problems = Problems()
    lists = (*(f"splits/{split}.json" for split in SPLITS), CUT_FROM)
    tree = list_tree(root, problems, endings=(*VIDEO_ENDINGS, *lists))
    videos = tree.select(VIDEO_ENDINGS)
    files = videos.str.extract(PLACE).assign(path=videos)
    astray = files["kind"].isna() | ~files["compression"].isin(COMPRESSIONS)
    problems.add("no row", files.loc[astray, "path"], "not among the dataset's videos: a mask, or in another folder")
    files = choose_compression(files[~astray], compression, problems)
    rows = _read_names(files, problems)
    rows = _assign_splits(rows, tree, problems)
    rows = _name_sources(rows, tree, problems)
    expected = "{original,manipulated}_sequences/<part>/{raw,c23,c40}/videos/*.mp4"
    return make_listing(rows.drop(columns="name"), problems, root=root, expected=expected)


def choose_compression(files: pd.DataFrame, wanted: str | None, problems: Problems) -> pd.DataFrame:
    """Keep the files of one compression: they are the same videos again, and must not be mixed."""
    there = [name for name in COMPRESSIONS if name in set(files["compression"])]
    if wanted is not None and wanted not in there:
        raise ManifestError(f"no videos in the compression {wanted!r}; there are: {', '.join(there) or 'none'}")
    if wanted is None and len(there) > 1 and "c23" not in there:
        raise ManifestError(f"videos in the compressions {' and '.join(there)}: choose one (--compression)")
    other = files["compression"] != (wanted or (there or ["c23"])[0])
    problems.add("other compression", files.loc[other, "path"], "the same videos again")
    return files[~other]


def _read_names(files: pd.DataFrame, problems: Problems) -> pd.DataFrame:
    """Read label, method, identities and original from where a file lies and what it is called."""
    fake = (files["kind"] == "manipulated_sequences").astype(int)
    dfd = files["part"].isin(["DeepFakeDetection", "actors"])
    parts = [
        _read_part(files[(dfd == (part == "dfd")) & (fake == label)], part, label, pattern)
        for (part, label), pattern in NAMES.items()
    ]
    rows = pd.concat(parts).sort_index()
    unread = files.index.difference(rows.index)
    problems.add("malformed name", files.loc[unread, "path"], "not called as the dataset calls its videos")
    double = rows.duplicated(["kind", "part", "name"])
    problems.add("duplicate file", rows.loc[double, "path"], "the same video in another folder")
    return rows[~double].drop(columns=["above", "kind", "part", "compression", "scene", "target", "source_id"])


def _read_part(files: pd.DataFrame, part: str, label: int, pattern: str) -> pd.DataFrame:
    named = files["name"].str.extract(pattern).reindex(columns=["target", "source", "scene"])
    rows = files.join(named.rename(columns={"source": "source_id"}))[named["target"].notna()]
    rows["dataset"], rows["source"], rows["label"], rows["video_fake"] = DATASETS[part], ORIGINALS[part], label, label
    rows["identities"], rows["original"], rows["method"] = f"{part}/" + rows["target"], "", "real"
    if label:
        rows["method"] = rows["part"].str.lower()
        rows["identities"] += f"|{part}/" + rows["source_id"]
        folder = rows["above"] + f"original_sequences/{ORIGINALS[part]}/" + rows["compression"] + "/videos/"
        rows["original"] = folder + rows["target"] + ("" if part == "ff" else "__" + rows["scene"])
    return rows


def _assign_splits(rows: pd.DataFrame, tree: Tree, problems: Problems) -> pd.DataFrame:
    """Give the pairs and singles of the official lists their split; a pair is listed once for both directions."""
    split_of: dict[str, str] = {}
    for split in SPLITS:
        paths = tree.find(f"splits/{split}.json")
        if not paths:
            problems.add("missing file", [f"splits/{split}.json"], "without official splits they are made by identity")
            continue
        try:
            for one, other in read_json(tree.root / paths[0]):
                split_of |= dict.fromkeys((one, other, f"{one}_{other}", f"{other}_{one}"), split)
        except (ManifestError, ValueError, TypeError) as error:
            problems.add("malformed row", paths[:1], f"no list of pairs: {error}")
    ff = rows["dataset"] == DATASETS["ff"]
    return rows.assign(split=[split_of.get(name, "") for name in rows["name"].where(ff, "")])


def _name_sources(rows: pd.DataFrame, tree: Tree, problems: Problems) -> pd.DataFrame:
    """Say which YouTube video each sequence was cut from, and which of these two official splits share."""
    names = tree.find(CUT_FROM)
    if not names:
        return rows
    try:
        cut_from = {number: name.split()[0] for number, name in read_json(tree.root / names[0]).items()}
    except (ManifestError, AttributeError, IndexError) as error:
        problems.add("malformed row", names[:1], f"no object of sequences and videos: {error}")
        return rows
    ff = rows["dataset"] == DATASETS["ff"]
    rows = rows.assign(youtube=[cut_from.get(name[:3], "") for name in rows["name"].where(ff, "")])
    real = rows[(rows["label"] == 0) & (rows["split"] != "") & (rows["youtube"] != "")]
    for name, group in real.groupby("youtube"):
        if group["split"].nunique() > 1:
            said = ", ".join(f"{number} {split}" for number, split in zip(group["name"], group["split"], strict=True))
            problems.add("source in two splits", [name], said)
    return rows


FACEFORENSICS = Layout(
    "faceforensics",
    "FaceForensics++ with DFD, in one compression",
    read_faceforensics,
    sound=False,
    identities="sequences, DFD's actors",
    split="train, val, test, by pairs; DFD none",
    licence="FaceForensics Terms of Use",
    ask="github.com/ondyari/FaceForensics",
    counted="its README and its splits",
    counted_of="faceforensics++",
    counts={
        **{f"method == '{name}'": 1_000 for name in METHODS},
        **{f"label == 0 and split == '{split}'": count for split, count in PAIRED.items()},
    },
)
