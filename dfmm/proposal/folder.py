"""What a folder of videos holds, and what is too little of it, or unknown, for a number to mean much."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dfmm.dataset import find_taught
from dfmm.files import write_beside
from dfmm.layouts import Listing, Problems, build_manifest
from dfmm.manifest import SPLITS, STREAM_LABELS, read_manifest
from dfmm.media.container import MediaError, find_streams, open_media
from dfmm.metrics import compute_auc
from dfmm.people import assign_people, count_named, mark_nameless, name_people, tell_nameless
from dfmm.settings import Settings, resolve_path
from dfmm.words import count_noun

LOOKED_AT = 24  # files whose headers are read; of a thousand others they are a sample
TELLING = 0.8  # an interval of the AUC that reaches below says nothing that counts, even of a detector without a fault
FEW_PEOPLE = 20  # whose faces and voices a network has learnt by heart before it has learnt anything else
STREAM_WORDS = {"video_fake": "picture", "audio_fake": "voice", "in_sync": "synchrony"}


def open_folder(folder: str | Path) -> Listing:
    """Return a folder's manifest: its own `manifest.csv`, or else what `real/` and `fake/` hold, and what is odd there.

    Raises:
        ManifestError: the folder holds neither, or its manifest has faults.
    """
    root = resolve_path(folder)
    if (root / "manifest.csv").is_file():
        return Listing(read_manifest(root / "manifest.csv", root), Problems().collect())
    return build_manifest("realfake", root)


def make_folder(sample: pd.DataFrame, root: Path, folder: Path, *, videos: int = 24) -> Path:
    """Copy some clips of the sample below `real/` and `fake/`, as a folder of one's own may look, and return it.

    Args:
        sample: the sample's manifest, whose paths start from `root`.
    """
    for label, name in enumerate(("real", "fake")):
        chosen = sample[sample["label"] == label]
        for path in chosen["path"].iloc[spread_numbers(len(chosen), videos // 2)]:
            target = folder / name / path.replace("/", "_")
            if not target.is_file():
                with write_beside(target) as partial:
                    shutil.copyfile(root / path, partial)
    return folder


def spread_numbers(count: int, most: int) -> np.ndarray:
    """Return at most so many of the numbers below `count`, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def count_splits(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return, for each split, its `videos`, `reals` and `fakes`, the `people` named, and how many are `unnamed`."""
    people, rows = assign_people(manifest), {}  # of all splits: an original may be in another one
    for split in SPLITS:
        of = people[people["split"] == split]
        rows[split] = {
            "videos": len(of),
            "reals": int((of["label"] == 0).sum()),
            "fakes": int((of["label"] == 1).sum()),
            "people": count_named(of),
            "unnamed": int(mark_nameless(of).sum()),
        }
    return pd.DataFrame(rows).T


def look_at_files(manifest: pd.DataFrame, root: str | Path, *, most: int = LOOKED_AT) -> pd.DataFrame:
    """Read the headers of at most so many files, of both labels alike.

    Returns:
        A row for each: `video_id`, `label`, whether there is a `picture` and a `sound`, and `fault`, why it cannot be
        opened, or "".
    """
    parts = [group.iloc[spread_numbers(len(group), most // 2)] for _, group in manifest.groupby("label")]
    rows = [
        {"video_id": row.video_id, "label": row.label, **_look_at(resolve_path(root) / row.path)}
        for row in pd.concat(parts).itertuples()
    ]
    return pd.DataFrame(rows)


def _look_at(path: Path) -> dict[str, Any]:
    try:
        with open_media(path) as container:
            kinds = {stream.type for stream in find_streams(container)}
    except MediaError as error:
        return {"picture": False, "sound": False, "fault": str(error)}
    return {"picture": "video" in kinds, "sound": "audio" in kinds, "fault": ""}


def list_shortfalls(manifest: pd.DataFrame, looked: pd.DataFrame) -> list[str]:
    """Say, a sentence each, what is too little or unknown for a number to mean much; nothing where all is well.

    Args:
        looked: what `look_at_files` found.
    """
    counts = count_splits(manifest)
    return [
        *_judge_splits(manifest, counts),
        *_judge_labels(manifest, counts),
        *_judge_files(looked),
    ]


def _judge_splits(manifest: pd.DataFrame, counts: pd.DataFrame) -> Iterator[str]:
    needs = {"train": "nothing is learnt", "val": "the epoch and the threshold are chosen there", "test": "no verdict"}
    for split, row in counts.iterrows():
        lacks = [name for name in ("reals", "fakes") if not row[name]]
        if lacks:
            yield f"{split} has no {' and no '.join(lacks)}: {needs[str(split)]}."
        elif split != "train" and (told := _tell_interval(manifest[manifest["split"] == split])):
            yield f"{split} has {_count(row)}: {told}."
    people = counts.loc["train", "people"] + counts.loc["train", "unnamed"]
    if 0 < people < FEW_PEOPLE:
        yield f"train has {_count(counts.loc['train'])}: what is learnt may be these faces and voices, and no forgery."


def _count(row: pd.Series) -> str:
    known = f"of {count_noun(row['people'], 'person', 'people')}" if row["people"] else "of people whom nobody names"
    rest = f" and {count_noun(row['unnamed'], 'video')} of others" if row["people"] and row["unnamed"] else ""
    reals, fakes = (count_noun(row[f"{kind}s"], kind) for kind in ("real", "fake"))
    return f"{reals} and {fakes} {known}{rest}"


def _tell_interval(videos: pd.DataFrame) -> str:
    """Say how far the AUC's interval would reach if every video were told right; "" where that is near enough to 1."""
    auc = compute_auc(videos["label"], videos["label"], identities=name_people(videos).tolist())
    if auc["low"] >= TELLING:
        return ""
    return (
        f"no number will mean much. If every one were told right, the AUC of 1 would have the 95 % interval "
        f"[{auc['low']:.2f}, 1]"
    )


def _judge_labels(manifest: pd.DataFrame, counts: pd.DataFrame) -> Iterator[str]:
    unnamed, used = int(counts["unnamed"].sum()), int(counts["videos"].sum())
    if unnamed:
        yield f"{tell_nameless(unnamed, used)}: the same person may be in train and test (column identities)."
    untaught = [name for name in STREAM_LABELS if name not in find_taught(manifest, Settings())]
    if untaught:
        words = ", ".join(STREAM_WORDS[name] for name in untaught)
        yield f"which stream of a fake is forged is not said: no score for {words} alone ({', '.join(untaught)})."
    if set(manifest.loc[manifest["label"] == 1, "method"]) == {"fake"}:
        yield "no fake names its method: errors cannot be told apart by it (column method)."


def _judge_files(looked: pd.DataFrame) -> Iterator[str]:
    faults = looked[looked["fault"] != ""]
    if len(faults):
        yield f"{len(faults)} of {len(looked)} files looked at cannot be opened: {faults['fault'].iloc[0]}."
    fine = looked[looked["fault"] == ""]
    for kind in ("picture", "sound"):
        lacks = ~fine[kind].astype(bool)
        if not lacks.any():
            continue
        reals, fakes = (int((lacks & (fine["label"] == label)).sum()) for label in (0, 1))
        counts = f"{count_noun(reals, 'real')}, {count_noun(fakes, 'fake')}"
        told = "" if lacks.all() else f" ({counts}: it may give them away; `dfmm audit` says more)"
        have = "has" if lacks.sum() == 1 else "have"
        yield f"{int(lacks.sum())} of {len(fine)} files looked at {have} no {kind}{told}."
