"""Paths of a manifest: written in any way, they mean one file below the root, or none."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

DRIVE = re.compile(r"[A-Za-z]:[\\/]")  # of Windows, where a path begins at none of our roots
ODD = r"\\|^/|//|/$|^[A-Za-z]:|(^|/)\.{1,2}(/|$)"  # what is not yet the plain path of a file below the root


def normalise_paths(paths: pd.Series, root: str | Path | None = None) -> pd.Series:
    """Return paths as the manifest has them: relative to the root, with `/`, without `.` and `..` where that may be.

    A backslash parts folders, unless a file of that very name is there.

    Args:
        root: absolute paths of files below it become relative; the others, which leave it, stay as they are.
    """
    odd = pc.match_substring_regex(pa.array(paths, pa.large_string()), ODD).to_numpy(zero_copy_only=False)
    if not odd.any():
        return paths
    plain = [_normalise_path(path, root) for path in paths[odd]]
    return paths.mask(odd, pd.Series(plain, paths.index[odd], dtype="str"))


def _normalise_path(path: str, root: str | Path | None) -> str:
    if DRIVE.match(path) and os.name != "nt":
        return path
    plain = path
    if "\\" in path and not (root is not None and os.path.lexists(os.path.join(root, path))):
        plain = path.replace("\\", "/")
    if os.path.isabs(plain):
        return path if root is None else _find_below(plain, root) or path
    plain = posixpath.normpath(plain) if plain else ""
    if not is_inside(plain):  # unless it comes back in by the root's own name
        return path if root is None else _find_below(os.path.join(root, plain), root) or path
    return "" if plain == "." else plain


def _find_below(path: str, root: str | Path) -> str:
    """Return an absolute path relative to the root, by its name or by where links lead; empty if it lies outside."""
    for find in (os.path.abspath, os.path.realpath):
        base, place = os.path.join(find(root), ""), find(path)
        if place.startswith(base):
            return Path(place[len(base) :]).as_posix()
    return ""


def is_inside(path: str) -> bool:
    """Does this relative path stay below where it starts, links apart?"""
    pure = PurePosixPath(path.replace("\\", "/"))
    return not (pure.is_absolute() or DRIVE.match(path)) and ".." not in pure.parts


def find_outside(paths: pd.Series, root: str | Path | None = None) -> np.ndarray:
    """Which paths leave the root, bool `[n]`, links followed where there is a root?"""
    suspect = pc.match_substring_regex(pa.array(paths, pa.large_string()), r"^/|\.\.|\\|^[A-Za-z]:")
    outside = suspect.to_numpy(zero_copy_only=False).copy()
    outside[outside] = [not is_inside(path) for path in paths[outside]]
    if root is not None and (leaving := find_links_out(root, paths[~outside])):
        outside |= paths.isin(leaving).to_numpy()
    return outside


def find_links_out(root: str | Path, paths: Sequence[str] | pd.Series) -> set[str]:
    """Return those relative paths that a link takes out of the root.

    Each folder is listed once, however many of its files are asked for: a listing says what is a link.
    """
    tree = _Links(root)
    leading = {folder for folder in _list_folders(paths, root) if tree.look_into(folder)}
    split = ((path, *path.rpartition("/")[::2]) for path in paths) if leading else ()
    return {path for path, folder, name in split if folder in leading and tree.leads_out(folder, name)}


def _list_folders(paths: Sequence[str] | pd.Series, root: str | Path) -> list[str]:
    """Return the folders of relative paths, each once, without those below a first folder that is not there."""
    kind = pa.large_string()
    cells = pc.binary_join_element_wise(pa.scalar("", kind), pa.array(paths, kind), pa.scalar("/", kind))
    halves = pc.split_pattern(cells, "/", max_splits=1, reverse=True)
    folders = pc.utf8_slice_codeunits(pc.unique(pc.list_element(halves, 0)), 1)  # without the slash put before them
    tops = pc.list_element(pc.split_pattern(folders, "/", max_splits=1), 0)
    absent = [top for top in pc.unique(tops).to_pylist() if not os.path.lexists(os.path.join(root, top))]
    return folders.filter(pc.invert(pc.is_in(tops, value_set=pa.array(absent, kind)))).to_pylist()


class _Links:
    """The links in a tree, read folder by folder as they are asked for."""

    def __init__(self, root: str | Path):
        self.base = os.path.realpath(root)
        self.places = {"": self.base}  # of each folder, links followed; "" of one that is not there
        self.links: dict[str, dict[str, str]] = {}  # of each folder: the names of links, and where they lead

    def look_into(self, folder: str) -> bool:
        """Find out about a folder, its parents first. Can any of its files lie outside of the root?"""
        if folder not in self.links:
            if folder:
                parent, _, name = folder.rpartition("/")
                self.look_into(parent)
                place = self.places[parent]
                self.places[folder] = place and self.links[parent].get(name, os.path.join(place, name))
            self.links[folder] = self._list_links(folder)
        return bool(self.links[folder]) or self._is_outside(self.places[folder] or self.base)

    def leads_out(self, folder: str, name: str) -> bool:
        return self._is_outside(self.places[folder]) or self._is_outside(self.links[folder].get(name, self.base))

    def _is_outside(self, place: str) -> bool:
        return place != self.base and not place.startswith(self.base.rstrip(os.sep) + os.sep)

    def _list_links(self, folder: str) -> dict[str, str]:
        if self.places[folder]:
            try:
                with os.scandir(self.places[folder]) as entries:
                    return {entry.name: os.path.realpath(entry.path) for entry in entries if entry.is_symlink()}
            except OSError:
                self.places[folder] = ""
        return {}
