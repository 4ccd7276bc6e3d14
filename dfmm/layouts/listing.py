"""What all layouts share: a tree listed once, rows brought together with files, and a list of all that does not fit."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dfmm.manifest import VIDEO_ENDINGS, ManifestError, complete_manifest
from dfmm.paths import find_outside, normalise_paths
from dfmm.tables import is_among

LINKS = "links that lead out of it are not followed: copy the files, or name the folder that they lie in"


@dataclass
class Problems:
    """What does not fit: of each the kind, the name of the file or row, and a detail."""

    kinds: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)

    def add(self, kind: str, names: Iterable[str], detail: str = "") -> None:
        """Note one problem of a kind for each name."""
        names = list(names)
        self.kinds += [kind] * len(names)
        self.names += names
        self.details += [detail] * len(names)

    def collect(self) -> pd.DataFrame:
        """Return a row for each problem: columns kind, name, detail."""
        return pd.DataFrame({"kind": self.kinds, "name": self.names, "detail": self.details}, dtype="str")


@dataclass
class Listing:
    """A dataset as a manifest, and all that does not fit into it.

    Attributes:
        table: a manifest; `split` is empty where the dataset publishes none.
        problems: columns kind, name, detail. A file or row named here as missing, without a row, without a label,
            malformed, double or outside the root is not in the table.
        notes: where the splits come from, and what dividing cost, in words.
    """

    table: pd.DataFrame
    problems: pd.DataFrame
    notes: list[str] = field(default_factory=list)

    def describe(self) -> list[str]:
        """Return the notes, and of each kind of problem how many there are and the first of them, a line each."""
        lines = list(self.notes)
        for kind, found in self.problems.groupby("kind"):
            names = ", ".join(found["name"].iloc[:3]) + (", …" if len(found) > 3 else "")
            lines.append(f"{len(found)} × {kind}: {names}")
        return lines


@dataclass
class Tree:
    """The files below a root by their paths, relative and with /, sorted."""

    root: Path
    files: list[str]
    links_out: list[str]  # links, to files or folders, that lead out of the root: refused

    def find(self, name: str) -> list[str]:
        """Return the files with this name, in whatever folder, the least deep first."""
        end = f"/{name}"
        found = [path for path in self.files if path.endswith(end) or path == name]
        return sorted(found, key=lambda path: (path.count("/"), path))

    def select(self, endings: tuple[str, ...]) -> pd.Series:
        """Return the files with one of these endings, whatever their case."""
        return pd.Series([path for path in self.files if path.lower().endswith(endings)], dtype="str")


def list_tree(root: str | Path, problems: Problems, *, endings: tuple[str, ...] = VIDEO_ENDINGS) -> Tree:
    """List the files with these endings below a root: each folder is read once, no file is opened or asked for.

    Links inside the root are followed. All else is noted as a problem: links out of it, hidden files and folders,
    unreadable folders, and files of other endings.

    Raises:
        ManifestError: the root is no folder.
    """
    base, endings = os.path.realpath(root), tuple(map(str.lower, endings))
    if not os.path.isdir(base):
        raise ManifestError(f"{root}: no such folder")
    files: list[str] = []
    links_out: list[str] = []
    hidden: list[str] = []
    others: list[str] = []
    folders = [("", base, (base,))]
    while folders:
        prefix, place, above = folders.pop()
        try:
            with os.scandir(place) as scan:
                entries = list(scan)
        except OSError as error:
            problems.add("unreadable folder", [prefix.rstrip("/")], str(error.strerror))
            continue
        for entry in entries:
            path, target, is_folder = prefix + entry.name, entry.path, entry.is_dir(follow_symlinks=False)
            if entry.is_symlink():
                target = os.path.realpath(target)
                is_folder = os.path.isdir(target)
                if target != base and not target.startswith(base.rstrip(os.sep) + os.sep):
                    (links_out if is_folder or path.lower().endswith(endings) else others).append(path)
                    continue
            if entry.name.startswith("."):
                hidden.append(path + "/" * is_folder)
            elif is_folder:
                if target not in above:  # a link to where it stands would never end
                    folders.append((f"{path}/", target, (*above, target)))
            else:
                (files if path.lower().endswith(endings) else others).append(path)
    problems.add("hidden file", sorted(hidden), "left by some program, no part of the data")
    problems.add("other file", sorted(others), "by its ending nothing that is read here")
    problems.add("outside the root", sorted(links_out), "a link leads there")
    return Tree(Path(base), sorted(_drop_unwritable(files, problems)), links_out)


def _drop_unwritable(files: list[str], problems: Problems) -> list[str]:
    """Note names that are no valid text: no manifest could hold them."""
    bad = [path for path in files if not path.isascii() and any("\ud800" <= letter <= "\udfff" for letter in path)]
    problems.add("malformed name", [repr(path) for path in bad], "not valid UTF-8")
    return sorted(set(files) - set(bad)) if bad else files


def read_names(files: pd.Series, patterns: Sequence[str], problems: Problems) -> pd.DataFrame:
    """Read what the paths of files say: the named groups of the first pattern that is found in each, whatever its case.

    Returns:
        Columns `path`, `pattern` (its number) and the groups, empty where they take no part; other files are noted.
    """
    parts, rest = [], files
    for number, pattern in enumerate(patterns):
        named = rest.str.extract(pattern, flags=re.IGNORECASE)
        met = named.notna().any(axis=1)
        parts.append(named[met].assign(path=rest[met], pattern=number))
        rest = rest[~met]
    problems.add("malformed name", rest, "neither lies nor is called as the dataset's videos")
    rows = pd.concat(parts)
    texts = rows.columns.difference(["pattern"])
    return rows.assign(**{name: rows[name].astype("str").fillna("") for name in texts}).sort_index()


def drop_doubles(rows: pd.DataFrame, keys: Sequence[str], problems: Problems) -> pd.DataFrame:
    """Keep one of the files that are the same video by these columns."""
    double = rows.duplicated(list(keys))
    problems.add("duplicate file", rows.loc[double, "path"], "the same video in another folder")
    return rows[~double]


def look_up(keys: pd.Series, told: Mapping[str, str] | pd.Series, otherwise: pd.Series | str = "") -> pd.Series:
    """Return what is told of each key, as texts, and of those of which nothing is what stands otherwise."""
    found = keys.map(told).astype(object)  # of nothing at all, pandas would make a column of numbers
    return found.where(found.notna(), otherwise).astype("str")


def place_by_name(names: pd.Series, files: pd.Series, otherwise: pd.Series) -> pd.Series:
    """Return the path of the first file with each name, in whatever folder, or else what is expected."""
    places = pd.Series(files.to_numpy(), index=files.str.extract(r"([^/]*)$")[0])
    return look_up(names, places[~places.index.duplicated()], otherwise)


def match_files(rows: pd.DataFrame, files: pd.Series, tree: Tree, problems: Problems) -> pd.DataFrame:
    """Return the rows, with a column `path`, whose file is there: one for each file.

    Rows of missing files, second rows of a file and files without a row are noted.
    """
    rows = rows.assign(path=normalise_paths(rows["path"], tree.root))
    outside = find_outside(rows["path"])
    problems.add("outside the root", rows.loc[outside, "path"], "its row names a path that leaves the root")
    rows = rows[~outside]
    double = rows["path"].duplicated()
    problems.add("duplicate row", rows.loc[double, "path"], "its file has a row before it")
    rows = rows[~double]
    there = is_among(rows["path"], files)
    gone = rows.loc[~there, "path"]
    below = tuple(f"{link}/" for link in tree.links_out)
    refused = gone[[f"{path}/".startswith(below) for path in gone]]
    problems.add("outside the root", refused, "a link leads there")
    problems.add("missing file", gone.drop(refused.index), "it has a row")
    problems.add("no row", files[~is_among(files, rows["path"])], "a file that nothing says anything about")
    return rows[there]


def make_listing(rows: pd.DataFrame, problems: Problems, *, root: str | Path, expected: str) -> Listing:
    """Complete rows, with at least a path and a label, to a manifest.

    Raises:
        ManifestError: there is no row at all; `expected` says what the layout looks like.
    """
    if rows.empty:
        noted = ", ".join(f"{count} × {kind}" for kind, count in Counter(problems.kinds).items())
        noted += f" ({LINKS})" * ("outside the root" in problems.kinds)
        raise ManifestError(f"{root}: found none of {expected}" + (f"; noted: {noted}" if noted else ""))
    rows = rows.sort_values("path", ignore_index=True)
    rows["video_id"] = name_videos(rows["path"])
    table = complete_manifest(rows if "split" in rows else rows.assign(split=""))
    twins = table["video_id"].duplicated()
    problems.add("duplicate file", table.loc[twins, "path"], "another file has this name with another ending")
    return Listing(table[~twins].reset_index(drop=True), problems.collect())


def name_videos(paths: pd.Series) -> pd.Series:
    """Return the ids of many videos, as `name_video` does of one; no name here begins with a dot."""
    names = pc.replace_substring_regex(pa.array(paths, pa.large_string()), r"\.[^./]*$", "")
    return pd.Series(names.to_pandas().to_numpy(object), paths.index, dtype="str")


def read_csv(path: Path, needed: Sequence[str]) -> pd.DataFrame:
    """Read a CSV with a header as texts.

    Raises:
        ManifestError: it is none, or lacks a column that is needed.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True)
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path}: cannot be read as CSV: {error}") from error
    if missing := [name for name in needed if name not in table]:
        raise ManifestError(f"{path}: lacks the columns {', '.join(missing)}; it has {', '.join(table.columns)}")
    return table.apply(lambda column: column.str.strip())


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ManifestError: it is none.
    """
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path}: not JSON: {error}") from error
