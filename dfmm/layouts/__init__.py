"""Public datasets and plain folders → one manifest each."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from dfmm.layouts.asvspoof import ASVSPOOF
from dfmm.layouts.asvspoof5 import ASVSPOOF5
from dfmm.layouts.avdeepfake1m import AVDEEPFAKE1M
from dfmm.layouts.avdeepfake1mpp import AVDEEPFAKE1MPP
from dfmm.layouts.avlips import AVLIPS
from dfmm.layouts.celebdf import CELEBDF
from dfmm.layouts.celebdfpp import CELEBDFPP
from dfmm.layouts.deepfakeeval2024 import DEEPFAKEEVAL2024
from dfmm.layouts.deepspeak import DEEPSPEAK
from dfmm.layouts.dfdc import DFDC
from dfmm.layouts.faceforensics import FACEFORENSICS
from dfmm.layouts.fakeavceleb import FAKEAVCELEB
from dfmm.layouts.folders import FOLDERS, REALFAKE
from dfmm.layouts.idforge import IDFORGE
from dfmm.layouts.kodf import KODF
from dfmm.layouts.lavdf import LAVDF
from dfmm.layouts.listing import Listing, Problems
from dfmm.layouts.mavosdd import MAVOSDD
from dfmm.layouts.megammdf import MEGAMMDF
from dfmm.layouts.polyglotfake import POLYGLOTFAKE
from dfmm.layouts.release import Layout
from dfmm.layouts.split import SHARES, Division, check_shares, check_split, split_by_identity
from dfmm.layouts.talkingheadbench import TALKINGHEADBENCH
from dfmm.manifest import COLUMNS, NO_SPLIT, SPLITS, ManifestError, validate_manifest
from dfmm.people import tell_nameless
from dfmm.words import count_noun

__all__ = [
    "LAYOUTS",
    "SHARES",
    "Listing",
    "Problems",
    "build_manifest",
    "search",
    "split_by_identity",
    "verify",
]

MANY = 20  # a column with more values is no property to spread

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        FACEFORENSICS,
        CELEBDF,
        CELEBDFPP,
        DFDC,
        FAKEAVCELEB,
        LAVDF,
        AVDEEPFAKE1M,
        AVDEEPFAKE1MPP,
        DEEPSPEAK,
        TALKINGHEADBENCH,
        IDFORGE,
        POLYGLOTFAKE,
        MAVOSDD,
        AVLIPS,
        DEEPFAKEEVAL2024,
        KODF,
        MEGAMMDF,
        ASVSPOOF,
        ASVSPOOF5,
        FOLDERS,
        REALFAKE,
    )
}


def read_layout(layout: str, root: str | Path, **options: str) -> Listing:
    """Read a dataset as it lies on disk; `split` is empty where none is published.

    Args:
        options: of this layout alone, such as `compression` of faceforensics.

    Raises:
        ManifestError: there is no such layout, it has no such option, or nothing of it is below the root.
    """
    if layout not in LAYOUTS:
        near = difflib.get_close_matches(layout.lower(), LAYOUTS, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ManifestError(f"no layout {layout!r}{hint} There are: {', '.join(LAYOUTS)}")
    strange = sorted(set(options) - set(inspect.signature(LAYOUTS[layout].read).parameters))
    if strange:
        raise ManifestError(f"the layout {layout} has no option {', '.join(strange)}")
    return LAYOUTS[layout].read(root, **options)


def build_manifest(
    layout: str,
    root: str | Path,
    *,
    shares: Mapping[str, float] = SHARES,
    seed: int = 0,
    by: Sequence[str] = ("method",),
    resplit: bool = False,
    **options: str,
) -> Listing:
    """Read a dataset and give every video a split: the official one, or else one by identity, or `none`.

    Where only a test split is published, the other videos are divided among train and val; where no val is, train is.
    What crosses the splits is noted: videos that were left out for it, and what official splits share.

    Args:
        shares, seed, by: of the division, as in `split_by_identity`.
        resplit: divide everything, whatever is published.
        options: of this layout alone.

    Raises:
        ManifestError: as `read_layout`, or the shares are none.
    """
    shares = check_shares(shares)
    listing = read_layout(layout, root, **options)
    if resplit:
        listing.table["split"] = ""
    problems, notes, parts = Problems(), [], []
    for dataset, table in listing.table.groupby("dataset", sort=False):
        table, told = _divide_rest(table, shares, seed, by, problems)
        notes += [f"{dataset}: {line}" for line in told]
        parts.append(table)
    table = pd.concat(parts).sort_values("path", ignore_index=True)
    leaks = check_split(table)
    return replace(
        listing,
        table=validate_manifest(table, origin=f"{layout} at {root}"),
        problems=pd.concat([listing.problems, problems.collect(), leaks], ignore_index=True),
        notes=notes,
    )


def _divide_rest(
    table: pd.DataFrame, shares: dict[str, float], seed: int, by: Sequence[str], problems: Problems
) -> tuple[pd.DataFrame, list[str]]:
    """Divide a dataset's videos that are in no official split among the splits that are not official."""
    rest = table["split"] == ""
    official = [split for split in SPLITS if (table["split"] == split).any()]
    notes = [f"official {', '.join(official)}"] if official else []
    open_to = {split: share for split, share in shares.items() if split not in official}
    if "train" in official or not open_to:
        problems.add("in no official split", table.loc[rest, "path"], "the others are in one")
        table = table.assign(split=table["split"].where(~rest, NO_SPLIT))
        if official != ["train", "test"] or not {"train", "val"} <= set(shares):
            return table, notes
        # Without val no epoch could be chosen, and no threshold.
        rest, open_to = table["split"] == "train", {split: shares[split] for split in ("train", "val")}
        notes.append("there is no official val: it is taken out of train")
    if not rest.any():
        return table, notes
    whole = sum(open_to.values())
    division = split_by_identity(
        table[rest], shares={split: share / whole for split, share in open_to.items()}, seed=seed, by=by
    )
    out = division.left_out.assign(path=division.left_out["video_id"].map(table.set_index("video_id")["path"]))
    for reason, group in out.groupby("reason"):
        problems.add("crosses splits", group["path"], str(reason))
    return pd.concat([table[~rest], division.table]), [*notes, *describe_division(division)]


def describe_division(division: Division) -> list[str]:
    """Say in words who is where, how many videos that cost, and what it cannot vouch for."""
    total, lost = len(division.table), len(division.left_out)
    people = ", ".join(f"{split} {count}" for split, count in division.identities.items())
    how = f"by identity ({people} identities)" if any(division.identities.values()) else "among splits"
    lines = [f"{total - lost} of {total} videos divided {how}"]
    if lost:
        whose = "it names" if lost == 1 else "they name"
        lines.append(f"{count_noun(lost, 'video')} left out ({lost / total:.1%}): {whose} people of two splits")
    if division.unnamed:
        lines.append(f"{tell_nameless(division.unnamed)}: who is in them may be in two splits")
    lines += _describe_spread(division)
    empty = [split for split in division.identities if not (division.table["split"] == split).any()]
    if empty:
        lines.append(f"no video for {', '.join(empty)}: there are too few people")
    return lines


def _describe_spread(division: Division) -> list[str]:
    """Say where a split shows only some of the values of a column of the dataset's own, such as `race`."""
    lines = []
    for name in [column for column in division.table if column not in COLUMNS]:
        values = division.table[name].nunique()
        for split in division.identities if 1 < values <= MANY else ():
            shown = division.table.loc[division.table["split"] == split, name].nunique()
            if shown < values:
                lines.append(f"{split} shows {shown} of {values} values of {name} (--by method {name} spreads them)")
    return lines
