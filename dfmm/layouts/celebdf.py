"""Celeb-DF v2 (no sound): three folders, names that say who, and a list of the test videos in which 1 means real.

Li et al., CVPR 2020. There is no official validation split. The 518 test videos name 56 of the 59 celebrities: on the
official test split a detector is tried on people it was trained on, and `dfmm manifest` lists them.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from dfmm.layouts.listing import Listing, Problems, Tree, list_tree, make_listing, name_videos
from dfmm.layouts.release import Layout
from dfmm.manifest import VIDEO_ENDINGS

PLACE = r"^(?:.*/)?(?P<folder>Celeb-real|Celeb-synthesis|YouTube-real)/(?:videos/)?(?P<name>[^/]+)$"
SWAPPED = r"^(?P<target>id\d+)_(?P<donor>id\d+)_(?P<recording>\d+)\."
FILMED = r"^(?P<target>id\d+)_(?P<recording>\d+)\."
TEST_LIST = "List_of_testing_videos.txt"


def read_celebdf(root: str | Path) -> Listing:
    """Read Celeb-DF v2: its list makes the test split, the other videos have none yet.

    Identities are `celebdf/id16`; the people of YouTube-real have no names. Folders count however their letters are
    cased (`Youtube-real` in some copies).

    Raises:
        ManifestError: no video of the layout.
    """
    problems = Problems()
    tree = list_tree(root, problems, endings=(*VIDEO_ENDINGS, TEST_LIST))
    videos = tree.select(VIDEO_ENDINGS)
    rows = videos.str.extract(PLACE, flags=re.IGNORECASE).assign(path=videos)
    problems.add("no row", rows.loc[rows["folder"].isna(), "path"], "in none of the dataset's folders")
    rows = rows[rows["folder"].notna()].assign(folder=rows["folder"].str.lower())
    rows = rows.assign(key=rows["folder"] + "/" + rows["name"])
    double = rows["key"].duplicated()
    problems.add("duplicate file", rows.loc[double, "path"], "the same video in another folder")
    rows = assign_test(_read_names(rows[~double], problems), tree, problems)
    expected = "Celeb-real, YouTube-real and Celeb-synthesis with videos"
    return make_listing(rows.drop(columns=["folder", "name", "key"]), problems, root=root, expected=expected)


def _read_names(rows: pd.DataFrame, problems: Problems) -> pd.DataFrame:
    """Read label, identities and original from folder and name; a swap's target comes first in its name."""
    fake = rows["folder"] == "celeb-synthesis"
    named = rows["name"].str.extract(SWAPPED).where(fake, rows["name"].str.extract(FILMED).assign(donor=None))
    unread = named["target"].isna() & (rows["folder"] != "youtube-real")
    problems.add("malformed name", rows.loc[unread, "path"], "not called as the dataset calls its videos")
    target = "celebdf/" + named["target"].fillna("")
    people = target.where(~fake, target + "|celebdf/" + named["donor"].fillna(""))
    ids = dict(zip(name_videos(rows["key"]), name_videos(rows["path"]), strict=True))
    source = "celeb-real/" + named["target"].fillna("") + "_" + named["recording"].fillna("")
    rows = rows.assign(
        label=fake.astype(int),
        video_fake=fake.astype(int),
        method=fake.map({True: "celeb-synthesis", False: "real"}),
        identities=people.where(named["target"].notna(), ""),
        original=source.map(ids).fillna(source.str.replace("celeb", "Celeb")).where(fake, ""),
        dataset="celeb-df-v2",
        source=(rows["folder"] == "youtube-real").map({True: "youtube", False: "celeb"}),
    )
    return rows[~unread]


def assign_test(rows: pd.DataFrame, tree: Tree, problems: Problems) -> pd.DataFrame:
    """Put the listed videos into test. The list's own label, 1 = real, must agree with the folder's.

    Args:
        rows: with `key`, a file's path from the dataset's own folders on, in small letters but for its name.
    """
    lists = tree.find(TEST_LIST)
    if not lists:
        problems.add("missing file", [TEST_LIST], "no official test videos, so all splits are made by identity")
        return rows.assign(split="")
    lines = [
        line.split(maxsplit=1)
        for line in (tree.root / lists[0]).read_text(encoding="utf-8", errors="replace").splitlines()
    ]
    listed = {}
    for words in filter(None, lines):
        if len(words) == 2 and words[0] in ("0", "1"):
            folder, _, name = words[1].strip().rpartition("/")
            listed[f"{folder.lower()}/{name}"] = 1 - int(words[0])
        else:
            problems.add("malformed row", [" ".join(words)], f"in {lists[0]}: expected 1 or 0 and a file")
    problems.add("missing file", sorted(set(listed) - set(rows["key"])), f"named in {lists[0]}")
    label = rows["key"].map(listed)
    odd = label.notna() & (label != rows["label"])
    problems.add("label conflict", rows.loc[odd, "path"], f"{lists[0]} says otherwise; the folder is believed")
    return rows.assign(split=label.notna().map({True: "test", False: ""}))


CELEBDF = Layout(
    "celebdf",
    "Celeb-DF v2",
    read_celebdf,
    sound=False,
    identities="celebrities; not of YouTube-real",
    split="test",
    licence="terms of use, non-commercial research",
    ask="github.com/yuezunli/celeb-deepfakeforensics",
    counted="its README",
    counts={
        "label == 0 and source == 'celeb'": 590,
        "label == 0 and source == 'youtube'": 300,
        "label == 1": 5_639,
        "split == 'test'": 518,
    },
    parts={f"the folder {name}": f"{name}/" for name in ("Celeb-real", "YouTube-real", "Celeb-synthesis")},
)
