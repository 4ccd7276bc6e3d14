"""A file of somebody's scores → rows of videos that the manifest knows, each with a number, or what is wrong."""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dfmm.dataset import LABELLING, label_part, measure_overlap
from dfmm.manifest import name_video
from dfmm.paths import normalise_paths
from dfmm.tables import name_rows, read_table

VIDEO, SCORE = ("video_id", "path"), "score"  # what the columns are called where nobody says otherwise
PLACES = ("frame", "window", "start")  # columns that part several rows of a video; `start`, and `end`, are in seconds
SHOWN = 3  # of what is wrong, named in a message


class ScoresError(ValueError):
    """A table of scores that cannot be taken for what it should be; the message says what to change."""


def read_scores(
    file: str | Path, manifest: pd.DataFrame, root: Path, *, video: str | None = None, score: str | None = None
) -> pd.DataFrame:
    """Read a CSV, Parquet, JSON or JSON lines file of scores: a row a video, or several with a column that parts them.

    Args:
        manifest: whose videos they are, each called by its `video_id` or its `path`, with or without the ending.
        root: the data's folder, which absolute paths lie in.
        video, score: the columns of the video and of its score, where they are not called so.

    Returns:
        `video_id`, `window` (counted within a video, in order), `start` and `end` in seconds (NaN where the table does
        not say) and `score`, as it is given; `attrs["level"]` is `video`, `frame` or `window`.

    Raises:
        ScoresError: a column or the file is missing, a video is unknown or repeated, or a score is no number.
        ManifestError: the file is no table.
    """
    file = Path(file)
    if not file.is_file():
        raise ScoresError(f"{file}: no such file; expected a table of scores: .csv, .parquet, .json or .jsonl")
    table = read_table(file, tuple(filter(None, (*VIDEO, video))))
    if table.empty:
        raise ScoresError(f"{file}: has no rows")
    names = table[_find_column(file, table, [video] if video else VIDEO, "--video")]
    numbers = table[_find_column(file, table, [score or SCORE], "--score")]
    places = [name for name in PLACES if name in table]
    found = pd.DataFrame({"video_id": _find_videos(file, names, manifest, root), "score": _read_numbers(file, numbers)})
    for name in (*places, *(["end"] if "start" in places and "end" in table else [])):
        found[name] = _read_numbers(file, table[name])
    _refuse_repeated(file, found, places)
    found = found.sort_values(["video_id", *places], kind="stable", ignore_index=True)
    found["window"] = found.groupby("video_id").cumcount()
    level = "video" if not places else "frame" if "frame" in places else "window"
    found = found.reindex(columns=["video_id", "window", "start", "end", "score"])
    if level == "frame":  # an instant
        found["end"] = found["start"]
    found.attrs["level"] = level
    return found


def _find_column(file: Path, table: pd.DataFrame, names: Sequence[str], option: str) -> str:
    there = [name for name in names if name in table]
    if not there:
        raise ScoresError(
            f"{file}: has no column {' or '.join(names)}; it has {', '.join(table.columns)}: name the right one with "
            f"{option}"
        )
    return there[0]


def _find_videos(file: Path, names: pd.Series, manifest: pd.DataFrame, root: Path) -> pd.Series:
    """Return the ids of the videos that a column names."""
    names = names.astype(str).str.strip()
    plain = normalise_paths(names, root)
    ids = dict(zip(manifest["path"].map(name_video), manifest["video_id"], strict=True))
    ids |= dict(zip(manifest["path"], manifest["video_id"], strict=True))
    ids |= dict(zip(manifest["video_id"], manifest["video_id"], strict=True))
    found = names.map(ids).fillna(plain.map(ids))
    if found.isna().any():  # é is one letter, or e and an accent: file systems and spreadsheets differ in that
        alike = {unicodedata.normalize("NFC", name): video for name, video in ids.items()}
        found = found.fillna(names.str.normalize("NFC").map(alike)).fillna(plain.str.normalize("NFC").map(alike))
    if (unknown := found.isna()).any():
        raise ScoresError(
            f"{_count(file, unknown, names)} are not in the manifest. Expected a video's video_id or path as there, "
            f"such as {manifest['video_id'].iloc[0]} or {manifest['path'].iloc[0]}: write them so, take these rows "
            "out, or name the manifest that has them"
        )
    return found


def _read_numbers(file: Path, column: pd.Series) -> pd.Series:
    """Return a column as floats; a truth value is no number."""
    texts = column.astype(object).map(lambda cell: np.nan if isinstance(cell, (bool, np.bool_)) else cell)
    numbers = pd.to_numeric(texts, errors="coerce").astype(float)
    if (wrong := ~np.isfinite(numbers)).any():
        cells = column[wrong].map(lambda cell: "nothing" if pd.isna(cell) or str(cell).strip() == "" else repr(cell))
        raise ScoresError(
            f"{_count(file, wrong, cells.reindex(column.index))} in the column {column.name} are no finite numbers; "
            "leave the row of what has no score out, and its video is counted as missing"
        )
    return numbers


def _refuse_repeated(file: Path, rows: pd.DataFrame, places: list[str]) -> None:
    """Raise a `ScoresError` where two rows are of one place in one video."""
    repeated = rows.duplicated(["video_id", *places], keep=False)
    if repeated.any():
        what = f"the same {' and '.join(places)} of a video" if places else "one video"
        cure = "" if places else f"; scores of frames or windows need a column that parts them: {', '.join(PLACES)}"
        raise ScoresError(f"{_count(file, repeated, rows['video_id'])} are of {what} twice or more{cure}")


def _count(file: Path, wrong: pd.Series, names: pd.Series) -> str:
    """Return `a.csv: 3 of 1000 rows (line 2: x, line 9: y, …)`."""
    rows = np.flatnonzero(wrong)
    shown = [f"{row}: {name}" for row, name in zip(name_rows(file, rows[:SHOWN]), names[wrong], strict=False)]
    return f"{file}: {len(rows)} of {len(names)} rows ({', '.join(shown)}{', …' if len(rows) > SHOWN else ''})"


def label_rows(rows: pd.DataFrame, manifest: pd.DataFrame, share: float) -> pd.DataFrame:
    """Return rows of videos with each row's own `label`: where a video is forged in stretches, as `label_part` says.

    Where a row does not say when it is, nor then does its label, unless a stream is forged all through.

    Args:
        rows: as from `read_scores`.
        share: `data.forged_share`.
    """
    told = manifest.set_index("video_id")[list(LABELLING)]
    whole = rows["video_id"].map(told["label"])
    partly = told[(told["video_segments"] != "") | (told["audio_segments"] != "")].to_dict("index")
    some = rows[rows["video_id"].isin(partly)]
    own = [_label_row(partly[row.video_id], row.start, row.end, share) for row in some.itertuples()]
    return rows.assign(label=pd.Series(own, some.index, dtype=float).reindex(rows.index).fillna(whole).astype(int))


def _label_row(video: Mapping[Hashable, Any], first: float, last: float, share: float) -> int:
    measure = partial(_measure_place, first, last)
    return label_part(video, {"video": measure, "audio": measure}, share)["label"]


def _measure_place(first: float, last: float, start: float, end: float) -> float:
    """Return how much of a stretch a row is of: an instant lies in it or not; NaN where the row does not say when."""
    if np.isnan(first) or np.isnan(last):
        return np.nan
    return float(start <= first < end) if first == last else measure_overlap(first, last, start, end)
