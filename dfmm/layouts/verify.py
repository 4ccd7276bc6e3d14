"""Is a copy of a dataset whole? Its counts beside the published ones, and what is missing, by archive."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dfmm.layouts import LAYOUTS, read_layout
from dfmm.layouts.release import Layout
from dfmm.words import count_noun

MISSING = "missing file"
THERE = ("no row", "no label", "other compression")  # kinds of problem whose files are there


@dataclass
class Verification:
    """What of a dataset is there.

    Attributes:
        layout: what its publishers say of it.
        counts: columns videos (a condition on the manifest), published, here.
        missing: the files that the dataset's own lists name, and that are not there.
        parts: columns archive, here, missing: files of each archive whose files can be told by their paths.
    """

    layout: Layout
    counts: pd.DataFrame
    missing: list[str]
    parts: pd.DataFrame

    @property
    def is_whole(self) -> bool:
        """Is nothing known to be missing, and no count another than the published one?"""
        fits = (self.counts["published"] == self.counts["here"]).all()
        return bool(fits and not self.missing and (self.parts["here"] > 0).all())


def verify_copy(layout: str, root: str | Path, **options: str) -> Verification:
    """Count a local copy as its publishers did, before anything is divided or left out by us.

    Raises:
        ManifestError: as `read_layout`.
    """
    listing, release = read_layout(layout, root, **options), LAYOUTS[layout]
    counts = _count_videos(listing.table, release)
    kinds, names = listing.problems["kind"], listing.problems["name"]
    missing = names[kinds == MISSING]
    there = pd.concat([listing.table["path"], names[kinds.isin(THERE)]])
    parts = [
        (name, *(_count_below(paths, place) for paths in (there, missing))) for name, place in release.parts.items()
    ]
    return Verification(
        release,
        counts,
        missing.tolist(),
        pd.DataFrame(parts, columns=["archive", "here", "missing"]),
    )


def _count_videos(table: pd.DataFrame, release: Layout) -> pd.DataFrame:
    if release.counted_of:
        table = table[table["dataset"] == release.counted_of]
    held = release.counts.items() if len(table) else ()  # another release is counted by nobody
    rows = [(told, count, len(table.query(told))) for told, count in held]
    return pd.DataFrame(rows, columns=["videos", "published", "here"])


def _count_below(paths: pd.Series, place: str) -> int:
    return int(paths.str.contains(rf"(?:^|/){re.escape(place)}", case=False, regex=True).sum())


def format_verification(found: Verification) -> str:
    """Write what is there as a text of some lines: the counts, what the lists name in vain, and archives not whole."""
    held = f"published counts: {found.layout.counted}" if len(found.counts) else "no published count is known"
    lines = [f"{found.layout.title}; {held}"]
    if len(found.counts):
        off = found.counts["here"] - found.counts["published"]
        lines += [found.counts.assign(off=off.map(lambda n: f"{n:+}" if n else "")).to_string(index=False)]
    if found.missing:
        names = ", ".join(found.missing[:3]) + (", …" if len(found.missing) > 3 else "")
        lines.append(f"{count_noun(len(found.missing), 'file')} named in the dataset's lists, and not here: {names}")
    for archive, here, missing in found.parts.itertuples(index=False):
        if not here:
            lines.append(f"nothing of {archive} is here")
        elif missing:
            lines.append(f"{archive}: {missing} of {here + missing} files are not here")
    return "\n".join([*lines, "nothing is known to be missing" if found.is_whole else "this copy is not whole"])


def list_layouts() -> str:
    """Write two lines on each layout: what its videos have, then whom they name, its splits, licence and address."""
    width, lines = max(map(len, LAYOUTS)) + 2, []
    for layout in LAYOUTS.values():
        has = [name for name in ("picture", "sound", "segments") if getattr(layout, name)]
        lines.append(f"{layout.name:{width}}{layout.title}: {', '.join(has)}")
        told = f"names {layout.identities or 'nobody'}; official splits: {layout.split or 'none'}"
        lines.append(" " * width + told + f"; licence: {layout.licence}" + f" ({layout.ask})" * bool(layout.ask))
    return "\n".join(lines)
