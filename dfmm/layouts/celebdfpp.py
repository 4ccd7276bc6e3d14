"""Celeb-DF++ (no sound): Celeb-DF v2 and 21 more methods of three kinds, and a list of the test videos, 1 = real.

`Celeb-real/`, `YouTube-real/`, `Celeb-synthesis/{FaceSwap,FaceReenact,TalkingFace}/<method>/`. A name such as
`id0_id1_0000.mp4` is there once for every method. Li et al., arXiv 2507.18015.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from dfmm.layouts.celebdf import TEST_LIST, assign_test
from dfmm.layouts.listing import (
    Listing,
    Problems,
    drop_doubles,
    list_tree,
    look_up,
    make_listing,
    name_videos,
    read_names,
)
from dfmm.layouts.release import Layout
from dfmm.manifest import VIDEO_ENDINGS

PLACES = (  # of a swap or a reenactment the target comes first; a talking face has a reference for its sound
    r"(?:^|/)(?P<folder>Celeb-real)/(?:videos/)?(?P<name>(?P<target>id\d+)_(?P<recording>\d+)\.[^./]+)$",
    r"(?:^|/)(?P<folder>YouTube-real)/(?:videos/)?(?P<name>[^/]+)$",
    r"(?:^|/)(?P<folder>Celeb-synthesis/(?P<scenario>[^/]+)/(?P<method>[^/]+))/(?:videos/)?"
    r"(?P<name>(?P<target>id\d+)_(?:(?P<donor>id\d+)_)?(?P<recording>\d+)(?:_test_[^/]*)?\.[^./]+)$",
)
METHODS = {  # of each kind, and how many test videos each method has
    ("faceswap", 200): (
        "celeb-df",
        "blendface",
        "ghost",
        "hififace",
        "inswapper",
        "mobilefaceswap",
        "simswap",
        "uniface",
    ),
    ("facereenact", 200): ("dagan", "fsrt", "hyperreenact", "lia", "liveportrait", "mcnet", "tpsmm"),
    ("talkingface", 300): ("anitalker", "echomimic", "edtalk", "float", "ip_lap", "real3dportrait", "sadtalker"),
}


def read_celebdfpp(root: str | Path) -> Listing:
    """Read Celeb-DF++: its list makes the test split, the other videos have none yet.

    Identities are `celebdf/id16`, the same people as in Celeb-DF v2, all of whose videos are here again; the people of
    YouTube-real have no names. The column `scenario` stays behind the manifest's own.

    Raises:
        ManifestError: no video of the layout.
    """
    problems = Problems()
    tree = list_tree(root, problems, endings=(*VIDEO_ENDINGS, TEST_LIST))
    rows = read_names(tree.select(VIDEO_ENDINGS), PLACES, problems)
    rows = rows.assign(key=rows["folder"].str.lower() + "/" + rows["name"])
    rows = assign_test(_describe(drop_doubles(rows, ["key"], problems)), tree, problems)
    rows = rows.drop(columns=["pattern", "folder", "name", "key", "target", "donor", "recording"])
    return make_listing(rows, problems, root=root, expected="Celeb-real, YouTube-real, Celeb-synthesis/<kind>/<method>")


def _describe(rows: pd.DataFrame) -> pd.DataFrame:
    fake, named = rows["pattern"] == 2, rows["target"] != ""
    donor = ("|celebdf/" + rows["donor"]).where(rows["donor"] != "", "")
    wanted = "celeb-real/" + rows["target"] + "_" + rows["recording"]
    ids = dict(zip(name_videos(rows["key"]), name_videos(rows["path"]), strict=True))
    return rows.assign(
        label=fake.astype(int),
        video_fake=fake.astype(int),
        method=rows["method"].str.lower().where(fake, "real"),
        scenario=rows["scenario"].str.lower(),
        identities=("celebdf/" + rows["target"] + donor).where(named, ""),
        original=look_up(wanted, ids, wanted).where(fake, ""),
        dataset="celeb-df++",
        source=(rows["pattern"] == 1).map({True: "youtube", False: "celeb"}),
    )


CELEBDFPP = Layout(
    "celebdfpp",
    "Celeb-DF++",
    read_celebdfpp,
    sound=False,
    identities="celebrities; not of YouTube-real",
    split="test",
    licence="terms of use, non-commercial research",
    ask="github.com/OUC-VAS/Celeb-DF-PP",
    counted="its README; of Celeb-DF v2, that one's",
    counts={
        "label == 0 and source == 'celeb'": 590,
        "label == 0 and source == 'youtube'": 300,
        "method == 'celeb-df'": 5_639,
        "split == 'test' and label == 0": 178,
        **{
            f"split == 'test' and method == '{method}'": count
            for (_, count), methods in METHODS.items()
            for method in methods
        },
    },
    parts={"the folder Celeb-real": "Celeb-real/", "the folder YouTube-real": "YouTube-real/"},
)
