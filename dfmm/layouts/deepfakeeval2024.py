"""Deepfake-Eval-2024, its videos (sound): what went round in 2024, judged by people; a table of labels.

`video-data/` and `video-metadata-publish.csv`, in some copies `…-with-links.csv`. Sounds and pictures on their own are
other parts of the release, and not read. Chandra et al., arXiv 2503.02857.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from dfmm.layouts.listing import (
    Listing,
    Problems,
    list_tree,
    make_listing,
    match_files,
    place_by_name,
    read_csv,
)
from dfmm.layouts.release import Layout
from dfmm.manifest import VIDEO_ENDINGS, ManifestError

TABLES = ("video-metadata-publish-with-links.csv", "video-metadata-publish.csv")
FILE, SEEN, HEARD, SPLIT = "Filename", "Video Ground Truth", "Audio Ground Truth", "Finetuning Set"
LABELS = {"real": 0, "fake": 1}


def read_deepfakeeval2024(root: str | Path) -> Listing:
    """Read the videos of Deepfake-Eval-2024 with their official train and test.

    Nobody is named: an identity is the page that a video is from, where the table has links, and `source` its host. A
    video is fake if its picture or its sound is; what is `Unknown` of a picture has no label. Where the table says
    nothing of the sound, whether it is forged is unknown, of reals too.

    Raises:
        ManifestError: there is no table, it lacks a column, or none of its files is there.
    """
    problems = Problems()
    tree = list_tree(root, problems, endings=(*VIDEO_ENDINGS, *TABLES))
    found = [path for name in TABLES for path in tree.find(name)]
    if not found:
        raise ManifestError(f"{root}: expected video-metadata-publish.csv with video-data/")
    table = read_csv(tree.root / found[0], [FILE, SEEN, SPLIT])
    if HEARD not in table:
        problems.add("missing column", [HEARD], f"in {found[0]}: of no video is it known whether its sound is forged")
    rows = _describe(table, _find_links(table), problems)
    videos = tree.select(VIDEO_ENDINGS)
    rows["path"] = place_by_name(rows["path"], videos, "video-data/" + rows["path"])
    unknown = rows["label"] < 0
    problems.add("no label", rows.loc[unknown, "path"], f"its {SEEN} is neither Real nor Fake")
    rows = match_files(rows[~unknown], videos[~videos.isin(rows.loc[unknown, "path"])], tree, problems)
    return make_listing(rows, problems, root=root, expected=f"the files that {found[0]} names")


def _find_links(table: pd.DataFrame) -> pd.Series:
    names = [name for name in table if "link" in name.lower()]
    plain = r"^\w+://(?:www\.)?|/$"  # one page is written in several ways
    return (
        table[names[0]].str.replace(plain, "", regex=True).str.replace("|", "%7C")
        if names
        else pd.Series("", index=table.index, dtype="str")
    )


def _describe(table: pd.DataFrame, links: pd.Series, problems: Problems) -> pd.DataFrame:
    seen = table[SEEN].str.lower().map(LABELS).fillna(-1).astype(int)
    heard = (table[HEARD].str.lower().map(LABELS).fillna(-1) if HEARD in table else seen * 0 - 1).astype(int)
    split = table[SPLIT].str.lower()
    odd = ~split.isin(["train", "test"])
    problems.add("malformed row", table.loc[odd & (split != ""), FILE], f"its {SPLIT} is neither Train nor Test")
    return pd.DataFrame(
        {
            "path": table[FILE],
            "split": split.where(~odd, ""),
            "label": seen.where(seen < 0, (seen == 1) | (heard == 1)).astype(int),
            "video_fake": seen,
            "audio_fake": heard,
            "in_sync": np.where((seen == 0) & (heard == 0), 1, -1),
            "method": np.where((seen == 1) | (heard == 1), "unknown", "real"),
            "identities": ("deepfakeeval2024/" + links).where(links != "", ""),
            "dataset": "deepfake-eval-2024",
            "source": links.str.partition("/")[0],
        }
    )


DEEPFAKEEVAL2024 = Layout(
    "deepfakeeval2024",
    "Deepfake-Eval-2024, videos",
    read_deepfakeeval2024,
    identities="pages, where links are told",
    split="train, test",
    licence="on request",
    ask="huggingface.co/datasets/nuriachandra/Deepfake-Eval-2024",
)
