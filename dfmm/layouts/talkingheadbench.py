"""TalkingHeadBench (picture; its sound lies apart): portraits made to talk, each driven by a clip of CelebV-HQ.

`fake/<generator>/{train,val,test}/<n>--<driver>--<generator>.mp4`, a driver's own name perhaps beginning with `-`, and
`fake/additional_dataset/{MAGI-1,Hallo3}/`, for test only; `real/real_dataset_split_official_ff++.json` names reals that
are not shipped. Xiong et al., arXiv 2505.24866.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from dfmm.layouts.listing import (
    Listing,
    Problems,
    Tree,
    list_tree,
    look_up,
    make_listing,
    name_videos,
    read_json,
    read_names,
)
from dfmm.layouts.release import Layout
from dfmm.manifest import VIDEO_ENDINGS, ManifestError

PLACES = (
    r"(?:^|/)fake/(?P<method>[^/]+)/(?P<split>train|val|test)/\d+--(?P<driver>[^/]+)--[^/]+\.[^./]+$",
    r"(?:^|/)fake/additional_dataset/(?P<method>[^/]+)/(?P<number>\d+)(?:-(?P<driver>[^/]+))?\.[^./]+$",
    r"(?:^|/)real/(?:.*/)?(?P<driver>[^/]+)\.[^./]+$",
)
REALS = "real_dataset_split_official_ff++.json"
SOURCES = {"FaceForensics++": "ff", "CelebV-HQ": "celebv-hq"}
MADE = {
    "liveportrait": 529, "aniportraitaudio": 542, "aniportraitvideo": 422, "hallo": 420, "hallo2": 432,
    "emoportrait": 573, "magi-1": 66, "hallo3": 10,
}  # fmt: skip


def read_talkingheadbench(root: str | Path) -> Listing:
    """Read TalkingHeadBench in the splits of its folders; of the reals, those that were put below `real/`.

    Identities are the people of the drivers, by the YouTube video that a clip is of (`celebv-hq/-5be_UPkLRw`), and of
    FaceForensics++ as there (`ff/071`); whose portrait it is, no name says. A fake whose folder is not the split of its
    driver is listed: `--resplit` lets fakes follow their drivers.

    Raises:
        ManifestError: no video of the layout.
    """
    problems = Problems()
    tree = list_tree(root, problems, endings=(*VIDEO_ENDINGS, REALS))
    listed = _read_list(tree, problems)
    rows = _match_reals(read_names(tree.select(VIDEO_ENDINGS), PLACES, problems), listed, problems)
    rows = _describe(rows, listed, problems).drop(columns=["pattern", "driver", "number"])
    return make_listing(rows, problems, root=root, expected="fake/<generator>/{train,val,test}/")


def _read_list(tree: Tree, problems: Problems) -> pd.DataFrame:
    """Read the reals: columns split and corpus by a clip's name."""
    found, rows = tree.find(REALS), []
    if not found:
        problems.add("missing file", [REALS], "it names the reals, and the splits of the drivers")
    try:
        for split, corpora in read_json(tree.root / found[0]).items() if found else ():
            for corpus, names in corpora.items():
                rows += [(name_stem(name), split.lower(), SOURCES.get(corpus, corpus.lower())) for name in names]
    except (ManifestError, AttributeError, TypeError) as error:
        problems.add("malformed row", found[:1], f"expected splits, of corpora, of lists of names: {error}")
    table = pd.DataFrame(rows, columns=["name", "split", "corpus"], dtype="str").set_index("name")
    twice = table.index.duplicated()
    problems.add("duplicate row", table.index[twice], f"{REALS} names it before")
    return table[~twice]


def name_stem(name: str) -> str:
    """Return a listed name without folder and ending; a clip's own name has no dot."""
    return str(name).rpartition("/")[2].partition(".")[0]


def _match_reals(rows: pd.DataFrame, listed: pd.DataFrame, problems: Problems) -> pd.DataFrame:
    real = rows["pattern"] == 2
    lone = real & ~rows["driver"].isin(listed.index)
    problems.add("no row", rows.loc[lone, "path"], f"{REALS} does not name it")
    double = real & rows.duplicated(["pattern", "driver"])
    problems.add("duplicate file", rows.loc[double, "path"], "the same video in another folder")
    gone = listed.index.difference(rows.loc[real, "driver"])
    problems.add("missing file", gone, "a real: not shipped, to be had from its own corpus and put below real/")
    return rows[~lone & ~double]


def _describe(rows: pd.DataFrame, listed: pd.DataFrame, problems: Problems) -> pd.DataFrame:
    real, driven = rows["pattern"] == 2, rows["driver"] != ""
    told = look_up(rows["driver"], listed["split"])
    folder = rows["split"].str.lower().mask(rows["pattern"] == 1, "test")
    astray = ~real & driven & (told != "") & (told != folder)
    problems.add("split conflict", rows.loc[astray, "path"], "its driver is in another split; its folder is believed")
    corpus = look_up(rows["driver"], listed["corpus"], "celebv-hq")
    person = rows["driver"].where(corpus != "celebv-hq", rows["driver"].str.replace(r"_\d+$", "", regex=True))
    ids = dict(zip(rows.loc[real, "driver"], name_videos(rows.loc[real, "path"]), strict=True))
    return rows.assign(
        split=told.where(real, folder),
        label=(~real).astype(int),
        video_fake=(~real).astype(int),
        method=rows["method"].str.lower().where(~real, "real"),
        identities=(corpus + "/" + person).where(driven, ""),
        original=look_up(rows["driver"], ids, "celebv-hq/" + rows["driver"]).where(~real & driven, ""),
        dataset="talkingheadbench",
        source=corpus.where(real, "ffhq"),
    )


TALKINGHEADBENCH = Layout(
    "talkingheadbench",
    "TalkingHeadBench",
    read_talkingheadbench,
    sound=False,
    identities="drivers; not portraits",
    split="train, val, test, not by driver",
    licence="MIT, and those of its sources; reals apart",
    ask="huggingface.co/datasets/luchaoqi/TalkingHeadBench",
    counted="deepfake-workbench, of the release",
    counts={
        "label == 0 and source == 'ff'": 1_000,
        "label == 0 and source == 'celebv-hq'": 1_608,
        **{f"method == '{method}'": count for method, count in MADE.items()},
    },
)
