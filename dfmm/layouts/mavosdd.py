"""MAVOS-DD (sound): eight languages, some of which, as some of the methods, are in test only; one Arrow table.

`data-*.arrow` as the library `datasets` saves it, and the videos whose `video_path` it names, such as
`english/<portrait>.png_<YouTube id>_<second>_<n>.mp4.mp4`. Croitoru et al., arXiv 2505.11109.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from dfmm.layouts.columns import read_arrow, take_texts
from dfmm.layouts.listing import Listing, Problems, list_tree, make_listing, match_files
from dfmm.layouts.release import Layout
from dfmm.manifest import VIDEO_ENDINGS, ManifestError

NEEDED = ("video_path", "label", "split")
SPLIT = {"train": "train", "validation": "val", "test": "test"}
LABELS = {"real": 0, "fake": 1}
NAME = r"(?:^|/)(?:(?P<portrait>[^/]+?)\.(?:png|jpe?g)_)?(?P<video>[\w-]{11})_\d+(?:_\d+)?(?:\.mp4)+$"


def read_mavosdd(root: str | Path) -> Listing:
    """Read MAVOS-DD with its official splits.

    Identities are what a name says: the portrait that was made to talk, and the YouTube video that drives it or was
    filmed (`mavosdd/<portrait>|youtube/<id>`). The column `protocol` says of test what of a video training has not
    seen: `closed` nothing, `open-model`, `open-language`, or `open-full` both; the paper's sets hold `closed` too.
    Where the table does not say both of that, it is empty, and where it does not say which stream is forged, that is
    unknown. `language` stays behind the manifest's own.

    Raises:
        ManifestError: there is no table, it lacks a column, or none of its files is there.
    """
    problems = Problems()
    tree = list_tree(root, problems, endings=(*VIDEO_ENDINGS, ".arrow", "state.json", "dataset_info.json"))
    tables = [path for path in tree.files if path.endswith(".arrow")]
    if not tables:
        raise ManifestError(f"{root}: expected data-*.arrow with the table of videos")
    rows = pd.concat([_read_table(tree.root / path, problems) for path in tables], ignore_index=True)
    above = tables[0].rpartition("/")[0]
    rows["path"] = f"{above}/" * bool(above) + rows["path"]
    rows = match_files(rows, tree.select(VIDEO_ENDINGS), tree, problems)
    return make_listing(rows, problems, root=root, expected="the files that the table names")


def _read_table(path: Path, problems: Problems) -> pd.DataFrame:
    table = read_arrow(path)
    if missing := [name for name in NEEDED if name not in table.column_names]:
        raise ManifestError(f"{path}: lacks the columns {', '.join(missing)}; it has {', '.join(table.column_names)}")
    files, split = take_texts(table, "video_path"), take_texts(table, "split").map(SPLIT)
    label = take_texts(table, "label").str.lower().map(LABELS)
    bad = label.isna() | split.isna()
    problems.add("malformed row", files[bad], "expected real or fake, and train, validation or test")
    method, voice = (take_texts(table, name).str.lower() for name in ("generative_method", "audio_generative_method"))
    video, audio = _read_flag(table, "video_fake"), _read_flag(table, "audio_fake")
    named = [part.where((part != "") & (part != "real"), "") for part in (method, voice)]
    both = (named[0] != "") & (named[1] != "")
    rows = pd.DataFrame(
        {
            "path": files,
            "split": split,
            "label": label,
            "video_fake": np.where(label == 1, video, 0),
            "audio_fake": np.where(label == 1, audio, 0),
            "in_sync": np.where(label == 1, -1, 1),
            "method": (named[0] + np.where(both, "+", "") + named[1]).where(label == 1, "real"),
            "identities": _name_people(files),
            "dataset": "mavos-dd",
            "source": "youtube",
            "language": take_texts(table, "language").str.lower(),
            "protocol": _name_protocols(table).where(split == "test", ""),
        }
    )
    return rows[~bad].astype({"label": int})


def _read_flag(table: pa.Table, name: str) -> np.ndarray:
    """Return a column of yes and no as 1 and 0, -1 where nothing is said, `[n]`."""
    return take_texts(table, name).str.lower().map({"true": 1, "false": 0, "1": 1, "0": 0}).fillna(-1).to_numpy(int)


def _name_protocols(table: pa.Table) -> pd.Series:
    model, language = (_read_flag(table, f"open_set_{what}") for what in ("model", "language"))
    names = {(0, 0): "closed", (1, 0): "open-model", (0, 1): "open-language", (1, 1): "open-full"}
    return pd.Series([names.get(flags, "") for flags in zip(model, language, strict=True)], dtype="str")


def _name_people(files: pd.Series) -> pd.Series:
    named = files.str.extract(NAME)
    video = ("youtube/" + named["video"]).fillna("")
    return (("mavosdd/" + named["portrait"] + "|").fillna("") + video).astype("str")


MAVOSDD = Layout(
    "mavosdd",
    "MAVOS-DD",
    read_mavosdd,
    identities="portraits and YouTube videos",
    split="train, val, test; open sets in test",
    licence="CC BY-NC-SA 4.0",
    ask="huggingface.co/datasets/unibuc-cs/MAVOS-DD",
)
