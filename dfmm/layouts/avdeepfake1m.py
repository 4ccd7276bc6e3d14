"""AV-Deepfake1M (sound, forged in places): a JSON file for train and val; the labels of test are hidden.

`{train,val}_metadata.json`, `test_files.txt` and clips such as
`train/id00012/21Uxsk56VDQ/00001/fake_video_fake_audio.mp4`. Cai et al., ACM MM 2024.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd

from dfmm.layouts.listing import (
    Listing,
    Problems,
    Tree,
    is_among,
    list_tree,
    make_listing,
    match_files,
    name_videos,
    read_json,
)
from dfmm.manifest import VIDEO_ENDINGS, ManifestError, format_segments

STREAMS = {  # picture and sound forged; one published loader looks for `both-modified`, and finds neither forged
    "real": (0, 0),
    "visual_modified": (1, 0),
    "audio_modified": (0, 1),
    "both_modified": (1, 1),
}
PERSON = re.compile(r"(?:^|/)(id\d{5})/")
NAMES = {
    "real": (0, 0),
    "fake_video_real_audio": (1, 0),
    "real_video_fake_audio": (0, 1),
    "fake_video_fake_audio": (1, 1),
}


def read_avdeepfake1m(root: str | Path) -> Listing:
    """Read AV-Deepfake1M with its official train and val; the files of test are listed as having no label.

    Identities are the speakers (`voxceleb2/id00012`, the same people as in FakeAVCeleb).

    Raises:
        ManifestError: there is no metadata, or none of its files.
    """
    problems = Problems()
    tree = list_tree(root, problems, endings=(*VIDEO_ENDINGS, "_metadata.json", "test_files.txt"))
    videos = tree.select(VIDEO_ENDINGS)
    found = {split: path for split in ("train", "val") for path in tree.find(f"{split}_metadata.json")[:1]}
    if not found:
        raise ManifestError(f"{root}: expected train_metadata.json and val_metadata.json with train/ and val/")
    rows = pd.concat([_read_metadata(tree, path, split, videos, problems) for split, path in found.items()])
    rows = rows.reset_index(drop=True)
    videos = _note_hidden(tree, videos, problems)
    if len(rows):
        rows = match_files(rows, videos, tree, problems)
    return make_listing(rows, problems, root=root, expected="the files that the metadata name")


def _read_metadata(tree: Tree, path: str, split: str, videos: pd.Series, problems: Problems) -> pd.DataFrame:
    """Read the rows of a split; `file` is relative to the split's folder, in some copies to that above."""
    rows = pd.DataFrame([row for entry in read_json(tree.root / path) if (row := read_entry(entry, problems))])
    if rows.empty:
        return rows
    above = path.removesuffix(f"{split}_metadata.json")
    folder = above + split + "/"
    if not is_among(folder + rows["path"], videos).any() and is_among(above + rows["path"], videos).any():
        folder = above
    original = name_videos(folder + rows["original"])
    return rows.assign(
        path=folder + rows["path"],
        split=split,
        original=original.where(rows["original"] != "", ""),
        dataset="av-deepfake1m",
        source="voxceleb2",
    )


def read_entry(entry: Any, problems: Problems) -> dict[str, Any] | None:
    """Read a video's entry as a row of the manifest; None, noted, for one that contradicts itself.

    `modify_type` is believed: some entries repeat a segment in the list of the stream that is untouched.
    Picture and sound of a stretch that was forged in both were made for each other, so they are in sync; of one that
    was forged in one only, nobody says.
    """
    try:
        path = str(entry["file"])
        streams = STREAMS[entry["modify_type"].replace("-", "_")]
        video, audio = (
            format_segments(own or entry["fake_segments"]) if forged else ""
            for forged, own in zip(streams, (entry["visual_fake_segments"], entry["audio_fake_segments"]), strict=True)
        )
        if (bool(video), bool(audio)) != tuple(map(bool, streams)) or bool(entry["fake_segments"]) != any(streams):
            raise ValueError(f"{entry['modify_type']}, but the fake segments are {entry['fake_segments'] or 'none'}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        name = entry.get("file", "") if isinstance(entry, dict) else entry
        problems.add("malformed row", [str(name)], f"{type(error).__name__}: {error}")
        return None
    if (entry["visual_fake_segments"] and not streams[0]) or (entry["audio_fake_segments"] and not streams[1]):
        problems.add("segments repaired", [path], f"{entry['modify_type']}: those of the untouched stream are dropped")
    if NAMES.get(path.rpartition("/")[2].partition(".")[0], streams) != streams:
        problems.add("label conflict", [path], f"its name says otherwise; {entry['modify_type']} is believed")
    person, sound = PERSON.search(path), str(entry.get("audio_model") or "tts").lower()
    return {
        "path": path,
        "label": int(any(streams)),
        "video_fake": streams[0],
        "audio_fake": streams[1],
        "in_sync": 1 if streams[0] == streams[1] else -1,
        "method": "+".join(["talklip"] * streams[0] + [sound] * streams[1]) or "real",
        "identities": f"voxceleb2/{person[1]}" if person else "",
        "original": str(entry.get("original") or "") if any(streams) else "",
        "video_segments": video,
        "audio_segments": audio,
    }


def _note_hidden(tree: Tree, videos: pd.Series, problems: Problems) -> pd.Series:
    """Note the test videos, whose labels are hidden, and return the others."""
    lists = tree.find("test_files.txt")
    above = lists[0].removesuffix("test_files.txt") if lists else ""
    hidden = videos.str.startswith(f"{above}test/")
    problems.add("no label", videos[hidden], "the labels of test are hidden")
    if lists:
        named = (tree.root / lists[0]).read_text(encoding="utf-8", errors="replace").splitlines()
        gone = {f"{above}test/{name}" for name in named if name} - set(videos[hidden])
        problems.add("missing file", sorted(gone), f"named in {lists[0]}")
    return videos[~hidden]
