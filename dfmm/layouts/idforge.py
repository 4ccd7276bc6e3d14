"""IDForge v1 (sound): three lists of paths, and a folder for each kind of forgery that says which stream is forged.

`{train,val,test}.csv` without header, a path `<kind>/<person>/<session>/<file>` a line; names repeat across kinds, and
some end in `.mp3.mp4`. Xu et al., ACM MM 2024.
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
    match_files,
    name_videos,
)
from dfmm.layouts.release import Layout
from dfmm.manifest import SPLITS, VIDEO_ENDINGS, ManifestError

KINDS = {  # picture forged, sound forged, in sync, method behind a swap's; wav2lip puts the mouth in step
    "pristine": (0, 0, 1, "real"),
    "face_audiomismatch_textmismatch": (1, 0, 1, "wav2lip"),
    "face_rvc_textmismatch": (1, 1, 1, "wav2lip+rvc"),
    "face_tts": (1, 1, 1, "wav2lip+tortoise"),
    "face_tts_textgen": (1, 1, 1, "wav2lip+tortoise"),
    "lip_audiomismatch_textmismatch": (1, 0, 1, "wav2lip"),
    "lip_rvc_textmismatch": (1, 1, 1, "wav2lip+rvc"),
    "lip_tts_textgen": (1, 1, 1, "wav2lip+tortoise"),
    "rvc_textmismatch": (0, 1, 0, "rvc"),
    "tts_textgen": (0, 1, 0, "tortoise"),
    "tts_textmismatch": (0, 1, 0, "tortoise"),
}
KEY = rf"(?:^|/)(?P<key>(?P<kind>{'|'.join(KINDS)})/(?P<person>[^/]+)/(?P<session>[^/]+)/(?P<name>[^/]+?)\.[^./]+)$"
VAL = {  # lines of IDForge_v1/val.csv
    "pristine": 6_029, "face_audiomismatch_textmismatch": 708, "face_rvc_textmismatch": 688, "face_tts": 344,
    "face_tts_textgen": 723, "lip_audiomismatch_textmismatch": 1_800, "lip_rvc_textmismatch": 1_796,
    "lip_tts_textgen": 1_949, "rvc_textmismatch": 590, "tts_textgen": 1_442, "tts_textmismatch": 1_274,
}  # fmt: skip


def read_idforge(root: str | Path) -> Listing:
    """Read IDForge v1 with its official splits; the reference set, in no list, is noted.

    Identities are `idforge/id00`; whose body a swapped face is on, nobody says. Where a pristine clip is called as a
    fake is, but for `.mp3` and `_fake`, it is the fake's original: in val's list 98 % of the lip-syncs and of the
    cloned voices have one, swaps and converted voices none. A sound that was exchanged with another person's is no
    forged one. The column `kind` stays behind the manifest's own.

    Raises:
        ManifestError: there is no list, or none of its files.
    """
    problems = Problems()
    tree = list_tree(root, problems, endings=(*VIDEO_ENDINGS, *(f"{split}.csv" for split in SPLITS)))
    lists = {split: path for split in SPLITS for path in tree.find(f"{split}.csv")[:1]}
    if not lists:
        raise ManifestError(f"{root}: expected train.csv, val.csv and test.csv with pristine/, face_tts/, …")
    problems.add("missing file", [f"{split}.csv" for split in SPLITS if split not in lists], "a list of videos")
    rows = pd.concat([_read_list(tree, path, split, problems) for split, path in lists.items()], ignore_index=True)
    videos = tree.select(VIDEO_ENDINGS)
    places = pd.Series(videos.to_numpy(), index=videos.str.extract(KEY)["key"])
    rows["path"] = look_up(rows["key"], places[places.index.notna() & ~places.index.duplicated()], rows["key"])
    rows = match_files(_describe(rows).drop(columns=["key", "person", "session", "name"]), videos, tree, problems)
    return make_listing(rows, problems, root=root, expected="the files that the lists name")


def _read_list(tree: Tree, path: str, split: str, problems: Problems) -> pd.DataFrame:
    lines = (tree.root / path).read_text(encoding="utf-8-sig", errors="replace").splitlines()
    lines = pd.Series([line.strip().strip('"') for line in lines if line.strip()], dtype="str")
    rows = lines.str.extract(KEY)
    bad = rows["key"].isna()
    problems.add("malformed row", lines[bad], f"in {path}: expected <kind>/<person>/<session>/<file>")
    return rows[~bad].assign(split=split)


def _describe(rows: pd.DataFrame) -> pd.DataFrame:
    video, audio, sync, method = (rows["kind"].map({kind: told[at] for kind, told in KINDS.items()}) for at in range(4))
    swap = rows["name"].str.extract(r"_([a-z]+)$")[0].fillna("faceswap")
    clip = rows["person"] + "/" + rows["session"] + "/" + rows["name"].str.replace(r"(\.mp3|_fake)+$", "", regex=True)
    real = rows["kind"] == "pristine"
    ids = dict(zip(clip[real], name_videos(rows.loc[real, "path"]), strict=True))
    return rows.assign(
        label=video | audio,
        video_fake=video,
        audio_fake=audio,
        in_sync=sync,
        method=(swap + "+" + method).where(rows["kind"].str.startswith("face_"), method),
        identities="idforge/" + rows["person"],
        original=look_up(clip, ids).where(~real, ""),
        dataset="idforge",
        source="youtube",
    )


IDFORGE = Layout(
    "idforge",
    "IDForge v1",
    read_idforge,
    identities="celebrities",
    split="train, val, test",
    licence="on request",
    ask="github.com/xyyandxyy/IDForge",
    counted="IDForge_v1/val.csv of its repository",
    counts={f"split == 'val' and kind == '{kind}'": count for kind, count in VAL.items()},
    parts={f"{kind}.zip": f"{kind}/" for kind in KINDS},
)
