"""DeepSpeak 1.1 and 2 (sound): names that say who (1.1) or which recordings (2), and tables of people and splits.

Real `<person>-<recording>.mp4`; fake of 1.1 `<engine>--<source>-<target>--<source's>-<target's recording>--<n>.mp4`,
of 2 `<engine>-<source's>-<target's recording>-<voice>.mp4` with a row in `annotations-fake.csv`;
`annotations-split-def.csv` puts people into train and test. Barrington et al., arXiv 2408.05366.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from dfmm.layouts.listing import (
    Listing,
    Problems,
    Tree,
    drop_doubles,
    list_tree,
    look_up,
    make_listing,
    name_videos,
    read_csv,
    read_names,
)
from dfmm.layouts.release import Layout
from dfmm.manifest import VIDEO_ENDINGS, ManifestError

NAMES = (
    r"(?:^|/)(?P<name>(?P<target>\d+)-(?P<recording>\d+))\.[^./]+$",
    r"(?:^|/)(?P<name>(?P<engine>[a-z]\w*)--(?P<donor>\d+)-(?P<target>\d+)--\d+-(?P<recording>\d+)--\d+)\.[^./]+$",
    r"(?:^|/)(?P<name>(?P<engine>[a-z]\w*)-\d+-(?P<recording>\d+)-(?P<voice>[^/]*))\.[^./]+$",
)
RELEASES = {1: "deepspeak-1.1", 2: "deepspeak-2"}
SPLITS, FAKES = "annotations-split-def.csv", "annotations-fake.csv"
TOLD = {  # columns of the table of fakes
    "engine": "engine", "identity-source": "donor", "identity-target": "target",
    "recording-target": "recording", "audio-config": "voice",
}  # fmt: skip
SWAPS = ("facefusion", "facefusion_gan", "facefusion_live")
CLONES = ("elevenlabs", "playht", "speechify")


def read_deepspeak(root: str | Path) -> Listing:
    """Read one release of DeepSpeak with its official train and test; a fake goes with its target, who is seen.

    Identities are `deepspeak/87`. Whether a number means the same person in both releases is not said: it is taken to.
    Where a fake's source is in the other split, that is listed. Of 1.1 it is not said which voices are cloned.

    Raises:
        ManifestError: no video of the layout, both releases below one root, or a table without its columns.
    """
    problems = Problems()
    tree = list_tree(root, problems, endings=(*VIDEO_ENDINGS, ".csv"))
    rows = drop_doubles(read_names(tree.select(VIDEO_ENDINGS), NAMES, problems), ["name"], problems)
    if {1, 2} <= set(rows["pattern"]):
        raise ManifestError(f"{root}: expected one release, found fakes of 1.1 and of 2: read each on its own")
    rows = _assign_splits(_describe(_read_table(rows, tree, problems), problems), tree, problems)
    rows = rows.drop(columns=["pattern", "name", "target", "donor", "recording", "engine", "voice"])
    return make_listing(rows, problems, root=root, expected="<person>-<recording>.mp4 and fakes of them")


def _read_table(rows: pd.DataFrame, tree: Tree, problems: Problems) -> pd.DataFrame:
    """Fill in what the table of fakes says of each; release 2 names nobody elsewhere."""
    found = tree.find(FAKES)
    if not found:
        bare = rows["pattern"] == 2
        problems.add("missing file", [FAKES] * bool(bare.any()), "it names who is in the fakes")
        return rows
    table = read_csv(tree.root / found[0], ["video-file"]).drop_duplicates("video-file")
    table.index = table["video-file"].str.removesuffix(".mp4")
    gone = table.index.difference(rows["name"])
    problems.add("missing file", sorted(gone + ".mp4"), f"named in {found[0]}")
    lone = (rows["pattern"] == 2) & ~rows["name"].isin(table.index)
    problems.add("no row", rows.loc[lone, "path"], f"{found[0]} does not name it, so who is in it is unknown")
    for column, name in TOLD.items():
        told = look_up(rows["name"], table[column]) if column in table else ""
        rows = rows.assign(**{name: np.where((told != "") & (rows["pattern"] > 0), told, rows[name])})
    return rows[~lone]


def _describe(rows: pd.DataFrame, problems: Problems) -> pd.DataFrame:
    """Say what is forged: a swap keeps the sound of its target, a lip-sync follows a sound that may be cloned."""
    fake, engine, voice = rows["pattern"] > 0, rows["engine"].str.lower(), rows["voice"].str.lower()
    cloned = voice.str.contains("|".join(CLONES))
    kept = voice.str.contains(r"real|original|natural|genuine")
    odd = fake & (voice != "") & ~cloned & ~kept
    problems.add("unknown value", rows.loc[odd, "path"], "its audio-config is none that is known: is its voice cloned?")
    ids = dict(zip(rows["name"], name_videos(rows["path"]), strict=True))
    wanted = rows["target"] + "-" + rows["recording"]
    donor = ("|deepspeak/" + rows["donor"]).where((rows["donor"] != "") & (rows["donor"] != rows["target"]), "")
    release = RELEASES.get(int(rows["pattern"].max()) if len(rows) else 0, "deepspeak")
    return rows.assign(
        label=fake.astype(int),
        video_fake=fake.astype(int),
        audio_fake=np.select([~fake | kept, cloned], [0, 1], -1),
        in_sync=np.select([~fake, ~engine.isin(SWAPS)], [1, 1], -1),
        method=(engine + ("+" + voice).where(cloned, "")).where(fake, "real"),
        identities=("deepspeak/" + rows["target"] + donor).where(rows["target"] != "", ""),
        original=look_up(wanted, ids, wanted).where(fake, ""),
        dataset=release,
        source="webcam",
    )


def _assign_splits(rows: pd.DataFrame, tree: Tree, problems: Problems) -> pd.DataFrame:
    found = tree.find(SPLITS)
    if not found:
        problems.add("missing file", [SPLITS], "without official splits they are made by identity")
        return rows.assign(split="")
    table = read_csv(tree.root / found[0], ["identity", "split"])
    odd = ~table["split"].str.lower().isin(["train", "test"])
    problems.add("malformed row", table.loc[odd, "identity"], f"in {found[0]}: expected the split train or test")
    split_of = dict(zip(table.loc[~odd, "identity"], table.loc[~odd, "split"].str.lower(), strict=True))
    return rows.assign(split=look_up(rows["target"], split_of))


DEEPSPEAK = Layout(
    "deepspeak",
    "DeepSpeak 1.1 or 2",
    read_deepspeak,
    identities="people, numbered",
    split="train, test",
    licence="free to academic institutions",
    ask="huggingface.co/datasets/faridlab/deepspeak_v2 (or _v1_1)",
    counted="deepfake-workbench, of the release",
    counted_of="deepspeak-1.1",
    counts={"label == 0": 6_667, "label == 1": 6_796},
)
