"""FakeAVCeleb v1.2 (sound): four folders that say which stream is forged, and a table with an unnamed tenth column.

`<type>/<race>/<gender>/<source id>/<clip>.mp4` and `meta_data.csv`. Khalid et al., NeurIPS 2021 Datasets. Its fakes
begin with a silence that gives them away (arXiv 2412.00175).
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pandas as pd

from dfmm.layouts.listing import Listing, Problems, Tree, list_tree, make_listing, match_files, name_videos
from dfmm.layouts.release import Layout
from dfmm.manifest import VIDEO_ENDINGS, ManifestError

HEADER = ["source", "target1", "target2", "method", "category", "type", "race", "gender", "name", "folder"]
PLACE = r"(?P<type>(?:Real|Fake)Video-(?:Real|Fake)Audio)/(?P<race>[^/]+)/(?P<gender>[^/]+)/(?P<person>[^/]+)"
PERSON = re.compile(r"(?:^|[_/])(id\d{5})(?=[_./]|$)")


def read_fakeavceleb(root: str | Path) -> Listing:
    """Read FakeAVCeleb: one row a file, whatever the spelling of its folder; there is no official split.

    Identities are all that a row or its file name says (`voxceleb2/id00076`, the same people as in AV-Deepfake1M).
    The columns `race` and `gender` stay behind the manifest's own.

    Raises:
        ManifestError: there is no `meta_data.csv`, or none of its files.
    """
    problems = Problems()
    tree = list_tree(root, problems, endings=(*VIDEO_ENDINGS, "meta_data.csv"))
    tables = tree.find("meta_data.csv")
    if not tables:
        raise ManifestError(f"{root}: expected a meta_data.csv with the folders RealVideo-RealAudio, … beside it")
    videos = _drop_twins(tree.select(VIDEO_ENDINGS), problems)
    rows = _read_rows(tree, tables[0], problems)
    paths = pd.Series(videos.to_numpy(), index=_make_keys(videos))
    rows["path"] = _make_keys(rows["path"]).map(paths).fillna(rows["path"])
    rows = match_files(_share_people(rows), videos, tree, problems)
    rows = _describe(rows, paths, problems)
    return make_listing(rows, problems, root=root, expected="the files that meta_data.csv names")


def _read_rows(tree: Tree, path: str, problems: Problems) -> pd.DataFrame:
    """Read the table by the place of its columns: the tenth, a file's folder, has no name, in some copies no comma."""
    with (tree.root / path).open(encoding="utf-8-sig", errors="replace", newline="") as file:
        lines = list(csv.reader(file))[1:]
    whole = [len(line) >= 9 and line[8] != "" for line in lines]
    problems.add(
        "malformed row", [",".join(line) for line, good in zip(lines, whole, strict=True) if line and not good]
    )
    rows = pd.DataFrame([[*line, ""][:10] for line, good in zip(lines, whole, strict=True) if good], columns=HEADER)
    told = rows["folder"].str.partition("/")[2]  # without `FakeAVCeleb/`, which copies call otherwise
    made = rows["type"] + "/" + rows["race"] + "/" + rows["gender"] + "/" + rows["source"]
    above = path.removesuffix("meta_data.csv")
    return rows.assign(path=above + told.where(told != "", made) + "/" + rows["name"])


def _make_keys(paths: pd.Series) -> pd.Series:
    """Return what identifies a file however its folders are spelt: `Asian (East)` and `Asian_East` are the same."""
    folder = paths.str.extract(PLACE)
    race = folder["race"].str.replace(r"[^A-Za-z]+", " ", regex=True).str.strip().str.lower()
    keys = folder["type"] + "/" + race + "/" + folder["gender"] + "/" + folder["person"]
    return (keys + "/" + paths.str.rsplit("/", n=1).str[-1]).where(folder["type"].notna(), paths)


def _drop_twins(videos: pd.Series, problems: Problems) -> pd.Series:
    double = _make_keys(videos).duplicated()
    problems.add("duplicate file", videos[double], "the same video in a folder spelt otherwise")
    return videos[~double].reset_index(drop=True)


def _share_people(rows: pd.DataFrame) -> pd.DataFrame:
    """List everyone whom any row of a file names, or its folder or its own name."""
    said = rows["source"] + "/" + rows["target1"] + "/" + rows["target2"] + "/" + rows["path"]
    said = said.groupby(rows["path"]).transform("/".join) if rows["path"].duplicated().any() else said
    people = ["|".join(dict.fromkeys(f"voxceleb2/{name}" for name in PERSON.findall(text))) for text in said]
    return rows.assign(identities=people)


def _describe(rows: pd.DataFrame, paths: pd.Series, problems: Problems) -> pd.DataFrame:
    """Read the streams from the folder and the method from the row.

    The paper's rule makes all forged sound with real-time voice cloning: where the picture is forged too, `+rtvc` is
    added to the method, which tells the usual slices apart (FVRA-wav2lip is `wav2lip`, FVFA-wav2lip `wav2lip+rtvc`).
    A cloned voice laid over a real picture is out of step with it; wav2lip makes the mouth follow the sound; whether
    a face swap still moves with its sound, the dataset does not say.
    """
    folder = rows["path"].str.extract(PLACE)
    video_fake = folder["type"].str.startswith("FakeVideo").astype(int)
    audio_fake = folder["type"].str.endswith("FakeAudio").astype(int)
    label = video_fake | audio_fake
    method = rows["method"].str.lower().str.replace("-", "+")
    odd = (rows["type"] != folder["type"]) | ((method == "real") != (label == 0))
    problems.add("label conflict", rows.loc[odd, "path"], "its row says otherwise; the folder is believed")
    lips = method.str.contains("wav2lip")
    in_sync = np.select([label == 0, video_fake == 0, lips], [1, 0, 1], -1)
    return pd.DataFrame(
        {
            "path": rows["path"],
            "label": label,
            "video_fake": video_fake,
            "audio_fake": audio_fake,
            "in_sync": in_sync,
            "method": (method + "+rtvc").where((video_fake & audio_fake) == 1, method),
            "identities": rows["identities"],
            "original": _find_originals(rows["path"], paths).where(label == 1, ""),
            "dataset": "fakeavceleb",
            "source": "voxceleb2",
            "race": rows["race"],
            "gender": rows["gender"],
        }
    )


def _find_originals(fakes: pd.Series, paths: pd.Series) -> pd.Series:
    """Return the ids of the real videos behind fakes: of the same person, the clip that a fake's name starts with."""
    real = fakes.str.replace(r"(?:Real|Fake)Video-(?:Real|Fake)Audio", "RealVideo-RealAudio", regex=True)
    clip = real.str.replace(r"(/\d{5})[^/]*$", r"\1.mp4", regex=True)
    return name_videos(_make_keys(clip).map(paths).fillna(clip))


FAKEAVCELEB = Layout(
    "fakeavceleb",
    "FakeAVCeleb v1.2",
    read_fakeavceleb,
    identities="celebrities",
    licence="terms of its form",
    ask="github.com/DASH-Lab/FakeAVCeleb",
    counted="its README; 21,566 rows are of 21,544 files",
    counts={
        "video_fake == 0 and audio_fake == 0": 500,
        "video_fake == 0 and audio_fake == 1": 500,
        "video_fake == 1 and audio_fake == 0": 9_709,
        "video_fake == 1 and audio_fake == 1": 10_835,
    },
)
