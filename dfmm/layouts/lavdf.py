"""LAV-DF (sound, forged in places): one JSON file with a row a video, and more files on disk than rows.

`{train,dev,test}/NNNNNN.mp4` and `metadata.json`, or `metadata.min.json` without the times of words. Cai et al.,
CVIU 2023.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from dfmm.layouts.listing import Listing, Problems, list_tree, make_listing, match_files, name_videos, read_json
from dfmm.layouts.release import Layout
from dfmm.manifest import VIDEO_ENDINGS, ManifestError, format_segments, name_video

SPLIT = {"train": "train", "dev": "val", "test": "test"}
METHOD = {(0, 0): "real", (1, 0): "wav2lip", (0, 1): "sv2tts", (1, 1): "wav2lip+sv2tts"}  # picture, sound


def read_lavdf(root: str | Path) -> Listing:
    """Read LAV-DF with its official splits; `dev` is val.

    People are anonymous: a video's identity is its original's name (`lavdf/test/000004`), for whoever is in it.

    Raises:
        ManifestError: there is no metadata, or none of its files.
    """
    problems = Problems()
    tree = list_tree(root, problems, endings=(*VIDEO_ENDINGS, "metadata.json", "metadata.min.json"))
    found = [*tree.find("metadata.min.json"), *tree.find("metadata.json")]
    if not found:
        raise ManifestError(f"{root}: expected metadata.json (or metadata.min.json) with train/, dev/ and test/")
    entries = read_json(tree.root / found[0])
    rows = pd.DataFrame([row for entry in entries if (row := read_entry(entry, problems))])
    if len(rows):
        above = found[0].removesuffix(found[0].rpartition("/")[2])
        rows["path"] = above + rows["path"]
        rows["original"] = name_videos(above + rows["original"]).where(rows["original"] != "", "")
        rows = match_files(rows, tree.select(VIDEO_ENDINGS), tree, problems)
    return make_listing(rows, problems, root=root, expected=f"the files that {found[0]} names")


def read_entry(entry: Any, problems: Problems) -> dict[str, Any] | None:
    """Read a video's entry as a row of the manifest; None, noted, for one that contradicts itself.

    Picture and sound of a stretch that was forged in both were made for each other, so they are in sync; of one that
    was forged in one only, nobody says.
    """
    try:
        path, split = str(entry["file"]), SPLIT[entry["split"]]
        streams = int(bool(entry["modify_video"])), int(bool(entry["modify_audio"]))
        segments = format_segments(entry["fake_periods"])
        original = str(entry["original"] or "")
        if any(streams) != bool(segments):
            raise ValueError(f"picture and sound forged: {streams}, but the fake periods are {segments or 'none'}")
    except (KeyError, TypeError, ValueError) as error:
        name = entry.get("file", "") if isinstance(entry, dict) else entry
        problems.add("malformed row", [str(name)], f"{type(error).__name__}: {error}")
        return None
    if original and "/" not in original:
        original = path.rpartition("/")[0] + "/" + original
    return {
        "path": path,
        "split": split,
        "label": int(any(streams)),
        "video_fake": streams[0],
        "audio_fake": streams[1],
        "in_sync": 1 if streams[0] == streams[1] else -1,
        "method": METHOD[streams],
        "identities": f"lavdf/{name_video(original or path)}",
        "original": original,
        "video_segments": segments if streams[0] else "",
        "audio_segments": segments if streams[1] else "",
        "dataset": "lav-df",
        "source": "voxceleb2",
    }


LAVDF = Layout(
    "lavdf",
    "LAV-DF",
    read_lavdf,
    segments=True,
    identities="originals",
    split="train, val, test",
    licence="Creative Commons, as stated there",
    ask="huggingface.co/datasets/ControlNet/LAV-DF",
    counted="its metadata; labels, the README of DeepfakeBench-MM",
    counts={
        "split == 'train'": 78_703,
        "split == 'val'": 31_501,
        "split == 'test'": 26_100,
        "label == 0": 36_431,
        "label == 1": 99_873,
    },
)
