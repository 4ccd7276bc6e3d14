"""Files and folders as a user names them → the videos and sounds among them, and what is left out."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from dfmm.layouts.listing import Problems, list_tree
from dfmm.manifest import AUDIO_ENDINGS, VIDEO_ENDINGS, ManifestError


def list_files(paths: Sequence[str], *, required: bool = True) -> list[str]:
    """Return the files among paths, and the videos and sounds in the folders among them; say what of these is left out.

    A folder without any stays in the list, as something that cannot be scored.

    Args:
        required: raise where there is no file at all; else each path then stays in the list, as beside files.

    Raises:
        ManifestError: there is no file at all, and one is required.
    """
    files, said = [], []
    for path in paths:
        found, left_out = search_folder(path) if os.path.isdir(path) else ([path], "")
        files += found or [path]
        if left_out or not found:
            said.append(("" if found else f"no videos in {path}; ") + f"left out: {left_out or 'nothing'}")
    if required and files and all(map(os.path.isdir, files)):
        raise ManifestError("\n".join(said))
    if required and files and not any(map(os.path.exists, files)):
        raise ManifestError(f"no such file: {', '.join(files)}")
    print(*said, sep="\n", end="\n" * bool(said), file=sys.stderr)
    return files


def search_folder(folder: str) -> tuple[list[str], str]:
    """Return the videos and sounds below a folder, and in words how many files are left out, and why.

    A still picture is no video; a PNG with several frames is one.
    """
    problems = Problems()
    tree = list_tree(folder, problems, endings=(*VIDEO_ENDINGS, *AUDIO_ENDINGS))
    wanted = [path for path in tree.links_out if os.path.isfile(os.path.join(folder, path))]  # gathered by hand
    others = problems.collect().query("kind == 'other file'")["name"]
    wanted += [path for path in others if path.lower().endswith(".png") and is_animated(os.path.join(folder, path))]
    left_out = problems.collect().query("name not in @wanted")["kind"].value_counts()
    found = [os.path.join(folder, path) for path in sorted([*tree.files, *wanted])]
    return found, ", ".join(f"{count} × {kind}" for kind, count in left_out.items())


def is_animated(path: str) -> bool:
    """Has a PNG several frames? Then the chunk that says so comes before its picture (PNG, third edition, 11.3.2.1)."""
    try:
        with open(path, "rb") as file:
            head = file.read(1 << 16).partition(b"IDAT")[0]
    except OSError:
        return False
    at = head.find(b"acTL")
    return at > 0 and int.from_bytes(head[at + 4 : at + 8], "big") > 1
