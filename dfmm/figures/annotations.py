"""What people say of clips: verdicts and notes, one CSV in a run's folder, to which each of them only adds."""

from __future__ import annotations

import csv
import getpass
import io
import os
from datetime import datetime, timezone
from pathlib import Path

import pandas as pd
from filelock import FileLock

COLUMNS = ("who", "when", "video_id", "verdict", "note")
VERDICTS = ("", "real", "fake", "unsure")  # "" takes back what was said before


def append_annotation(path: str | Path, *, who: str, video_id: str, verdict: str, note: str = "") -> None:
    """Add a row to a file of annotations, whole or not at all, whoever else adds to it at the same time.

    Raises:
        ValueError: no such verdict.
        OSError: the disk does not take it.
    """
    if verdict not in VERDICTS:
        raise ValueError(f"verdict {verdict!r}: expected one of {', '.join(filter(None, VERDICTS))}, or nothing")
    path = Path(path)
    (path.parent / "locks").mkdir(parents=True, exist_ok=True)
    when = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    # A note is one line: a row that a kill cut off then ends with its line, and costs no other.
    row = _write_row([who, when, video_id, verdict, " ".join(note.split())])
    with FileLock(path.parent / "locks" / f"{path.name}.lock"), path.open("ab+") as file:
        if not file.seek(0, os.SEEK_END):
            row = _write_row(COLUMNS) + row
        else:
            file.seek(-1, os.SEEK_END)
            row = row if file.read(1) == b"\n" else "\n" + row
        file.write(row.encode())


def read_annotations(path: str | Path) -> pd.DataFrame:
    """Return all rows of a file of annotations, the columns `COLUMNS` as text; none where there is no file."""
    if not Path(path).is_file():
        return pd.DataFrame(columns=list(COLUMNS), dtype=str)
    return pd.read_csv(path, dtype=str, keep_default_na=False, on_bad_lines="skip").reindex(
        columns=list(COLUMNS), fill_value=""
    )


def find_latest(annotations: pd.DataFrame) -> pd.DataFrame:
    """Return what each person said last of each video, unless it was taken back."""
    last = annotations.drop_duplicates(["who", "video_id"], keep="last")
    return last[(last["verdict"] != "") | (last["note"] != "")]


def find_login() -> str:
    """Return the name of whoever is logged in; where the system knows none, its number."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"


def _write_row(cells: list[str] | tuple[str, ...]) -> str:
    target = io.StringIO()
    csv.writer(target, lineterminator="\n").writerow(cells)
    return target.getvalue()
