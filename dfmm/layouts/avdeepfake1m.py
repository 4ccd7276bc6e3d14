"""AV-Deepfake1M (sound, forged in places): a JSON file for train and val; the labels of test are hidden.

`{train,val}_metadata.json`, `test_files.txt` and clips such as
`train/id00012/21Uxsk56VDQ/00001/fake_video_fake_audio.mp4`. Cai et al., ACM MM 2024.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from dfmm.layouts.columns import PERIODS, extract_texts, format_periods, read_objects, take_texts
from dfmm.layouts.listing import Listing, Problems, Tree, is_among, list_tree, make_listing, match_files, name_videos
from dfmm.layouts.release import Layout
from dfmm.manifest import VIDEO_ENDINGS, ManifestError

FIELDS = {
    **dict.fromkeys(("file", "original", "modify_type", "audio_model", "video_model"), pa.string()),
    **dict.fromkeys(("fake_segments", "visual_fake_segments", "audio_fake_segments"), PERIODS),
}
STREAMS = {  # picture and sound forged; one published loader looks for `both-modified`, and finds neither forged
    "real": (0, 0),
    "visual_modified": (1, 0),
    "audio_modified": (0, 1),
    "both_modified": (1, 1),
}
NAMES = {
    "real": "real",
    "visual_modified": "fake_video_real_audio",
    "audio_modified": "real_video_fake_audio",
    "both_modified": "fake_video_fake_audio",
}
People = Callable[[pd.Series], pd.DataFrame]  # files → columns identities and source


def read_avdeepfake1m(root: str | Path) -> Listing:
    """Read AV-Deepfake1M with its official train and val; the files of test are listed as having no label.

    Identities are the speakers (`voxceleb2/id00012`, the same people as in FakeAVCeleb).

    Raises:
        ManifestError: there is no metadata, or none of its files.
    """
    return read_release(root, "av-deepfake1m", name_people=_name_people, picture="talklip", tests=("test",))


def _name_people(files: pd.Series) -> pd.DataFrame:
    person = extract_texts(files, r"(?:^|/)(?P<person>id\d{5})/")["person"]
    return pd.DataFrame({"identities": ("voxceleb2/" + person).where(person != "", ""), "source": "voxceleb2"})


def read_release(
    root: str | Path, dataset: str, *, name_people: People, picture: str, tests: tuple[str, ...], beside: str = ""
) -> Listing:
    """Read a release of AV-Deepfake1M, whose table of a million rows is never an object a row.

    Args:
        picture: the method of a forged picture, where `video_model` names none.
        tests: folders of videos whose labels are hidden, each with a list `<folder>_files.txt`.
        beside: the ending of files that lie beside the videos and say nothing more.

    Raises:
        ManifestError: as `read_avdeepfake1m`.
    """
    problems = Problems()
    lists = ("_metadata.json", *(f"{test}_files.txt" for test in tests), *filter(None, [beside]))
    tree = list_tree(root, problems, endings=(*VIDEO_ENDINGS, *lists))
    videos = tree.select(VIDEO_ENDINGS)
    found = {split: path for split in ("train", "val") for path in tree.find(f"{split}_metadata.json")[:1]}
    if not found:
        raise ManifestError(f"{root}: expected train_metadata.json and val_metadata.json with train/ and val/")
    parts = [_read_metadata(tree, path, split, videos, picture, problems) for split, path in found.items()]
    rows = pd.concat(parts, ignore_index=True).assign(dataset=dataset)
    rows = rows.join(name_people(rows["path"]))
    for test in tests:
        videos = _note_hidden(tree, videos, test, problems)
    rows = match_files(rows, videos, tree, problems)
    return make_listing(rows, problems, root=root, expected="the files that the metadata name")


def _read_metadata(
    tree: Tree, path: str, split: str, videos: pd.Series, picture: str, problems: Problems
) -> pd.DataFrame:
    """Read the rows of a split; `file` is relative to the split's folder, in some copies to that above."""
    table, odd = read_objects(tree.root / path, FIELDS)
    problems.add("malformed row", odd, f"in {path}: expected texts, and segments as pairs of seconds")
    rows = _read_streams(table, picture, problems)
    above = path.removesuffix(f"{split}_metadata.json")
    folder = above + split + "/"
    if not is_among(folder + rows["path"], videos).any() and is_among(above + rows["path"], videos).any():
        folder = above
    inside = is_among(rows["original"], rows["path"])  # otherwise it is called as the corpus that it is from calls it
    original = name_videos((folder + rows["original"]).where(inside, rows["original"]))
    return rows.assign(path=folder + rows["path"], split=split, original=original)


def _read_streams(table: pa.Table, picture: str, problems: Problems) -> pd.DataFrame:
    """Read what is forged of each video, where and how; what contradicts itself is noted and left out.

    `modify_type` is believed: some entries repeat a segment in the list of the stream that is untouched.
    Picture and sound of a stretch that was forged in both were made for each other, so they are in sync; of one that
    was forged in one only, nobody says.
    """
    path, kind = take_texts(table, "file"), take_texts(table, "modify_type").str.replace("-", "_")
    video, audio = (kind.map({name: streams[at] for name, streams in STREAMS.items()}) == 1 for at in (0, 1))
    (either, wrong), (seen, wrong_seen), (heard, wrong_heard) = (
        format_periods(table[f"{part}fake_segments"]) for part in ("", "visual_", "audio_")
    )
    good = kind.isin(STREAMS) & (path != "") & ~(wrong | wrong_seen | wrong_heard)
    problems.add("malformed row", path[~good], "expected a file, a known modify_type, and segments that end after 0")
    askew = good & ((either != "") != (video | audio))
    problems.add("malformed row", path[askew], "its modify_type and its fake segments contradict each other")
    extra = good & ~askew & (((seen != "") & ~video) | ((heard != "") & ~audio))
    problems.add("segments repaired", path[extra], "those of a stream that is untouched are dropped")
    called = extract_texts(path, r"(?:^|/)(?P<name>[^/.]*)\.[^/]*$")["name"]
    misled = good & ~askew & called.isin(NAMES.values()) & (called != kind.map(NAMES))
    problems.add("label conflict", path[misled], "its name says otherwise; modify_type is believed")
    rows = pd.DataFrame(
        {
            "path": path,
            "label": (video | audio).astype(int),
            "video_fake": video.astype(int),
            "audio_fake": audio.astype(int),
            "in_sync": np.where(video == audio, 1, -1),
            "method": _name_methods(table, video, audio, picture),
            "original": take_texts(table, "original").where(video | audio, ""),
            "video_segments": seen.mask(seen == "", either).where(video, ""),
            "audio_segments": heard.mask(heard == "", either).where(audio, ""),
        }
    )
    return rows[good & ~askew].reset_index(drop=True)


def _name_methods(table: pa.Table, video: pd.Series, audio: pd.Series, picture: str) -> pd.Series:
    seen, heard = (take_texts(table, name).str.lower() for name in ("video_model", "audio_model"))
    seen, heard = seen.mask(seen == "", picture), heard.mask(heard == "", "tts")
    method = seen.where(video, heard).where(video | audio, "real")
    return (method + "+" + heard).where(video & audio, method)


def _note_hidden(tree: Tree, videos: pd.Series, test: str, problems: Problems) -> pd.Series:
    """Note the videos of a test whose labels are hidden, and return the others."""
    lists = tree.find(f"{test}_files.txt")
    above = lists[0].removesuffix(f"{test}_files.txt") if lists else ""
    hidden = videos.str.startswith(f"{above}{test}/")
    problems.add("no label", videos[hidden], f"the labels of {test} are hidden")
    if lists:
        named = (tree.root / lists[0]).read_text(encoding="utf-8", errors="replace").splitlines()
        gone = {f"{above}{test}/{name}" for name in named if name} - set(videos[hidden])
        problems.add("missing file", sorted(gone), f"named in {lists[0]}")
    return videos[~hidden]


AVDEEPFAKE1M = Layout(
    "avdeepfake1m",
    "AV-Deepfake1M",
    read_avdeepfake1m,
    segments=True,
    identities="speakers",
    split="train, val; test has no labels",
    licence="CC BY-NC 4.0 and the terms of its form",
    ask="huggingface.co/datasets/ControlNet/AV-Deepfake1M",
    counted="arXiv 2311.15308",
    counts={"split == 'train'": 746_180, "split == 'val'": 57_340},
    parts={"train.zip.001, …": "train/", "val.zip.001, …": "val/", "test.zip.001, …": "test/"},
)
