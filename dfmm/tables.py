"""Tables from files: CSV, Parquet and JSON, each cell read to mean the same whatever it was written in."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

LABEL_WORDS = {"0": 0, "1": 1, "-1": -1, "false": 0, "true": 1, "real": 0, "fake": 1}
JOINTS = {"identities": "|", "method": "+", "video_segments": "|", "audio_segments": "|"}  # of a cell that is a list
# What pandas reads as an empty cell, and writes for one where a table was made texts: nobody is called so.
EMPTY_WORDS = (
    "nan", "NaN", "-nan", "-NaN", "NA", "<NA>", "N/A", "n/a", "#N/A", "#NA", "#N/A N/A", "None", "null", "NULL",
)  # fmt: skip
WORDY = ("video_id", "path", "split")  # columns in which a word is always meant: a file may be called NA.mp4
ENDINGS = (".csv", ".parquet", ".pq", ".json", ".jsonl")  # of tables that are written; a CSV is read under any
PEEK = 100  # rows whose length is looked at before a CSV is read


class ManifestError(ValueError):
    """A manifest that is missing or wrong; the message names every bad row."""


def read_table(path: Path, texts: tuple[str, ...]) -> pd.DataFrame:
    """Read a `.parquet` or `.pq`, `.json` (a list of objects) or `.jsonl` file, or else CSV, Excel's, too.

    Args:
        texts: columns whose cells stay texts where the format does not tell: `007` of a CSV is no 7.

    Returns:
        The table, with blanks around the columns' names taken off.

    Raises:
        ManifestError: the file is none of these, or has two columns of one name.
    """
    read = {"parquet": _read_parquet, "json": _read_json, "jsonl": _read_json, "csv": partial(_read_csv, texts=texts)}
    try:
        table = read[name_format(path)](path)
        names = pd.Index([str(name).strip() for name in table.columns])
        if names.has_duplicates:
            raise ManifestError(f"has several columns called {', '.join(names[names.duplicated()].unique())}")
        return table.set_axis(names, axis="columns")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: cannot be read, it is not UTF-8 ({error}); save it as CSV UTF-8") from error
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from error
    except (ValueError, OSError) as error:
        raise ManifestError(f"{path}: cannot be read ({str(error).strip()})") from error


def name_format(path: Path) -> Literal["parquet", "json", "jsonl", "csv"]:
    """Return what a table's file is, by its ending, whatever the case of that."""
    endings = {".parquet": "parquet", ".pq": "parquet", ".json": "json", ".jsonl": "jsonl"}
    return endings.get(path.suffix.lower(), "csv")


def _read_parquet(path: Path) -> pd.DataFrame:
    table = pyarrow.parquet.read_table(path).to_pandas()
    return table.reset_index() if any(table.index.names) else table


def _read_json(path: Path) -> pd.DataFrame:
    text = path.read_text(encoding="utf-8-sig")
    if name_format(path) == "jsonl":
        rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    else:
        rows = json.loads(text)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ManifestError("expected a list of objects, one for each row, such as pandas' orient='records'")
    return pd.DataFrame(rows, dtype=object)  # any other type would make 7.0 of 7 where a cell is empty


def _read_csv(path: Path, texts: tuple[str, ...]) -> pd.DataFrame:
    """Read a CSV, whatever its delimiter; commas at the end of rows cost nothing, other cells too many are named."""
    encoding = _find_encoding(path)
    with path.open(encoding=encoding, newline="") as file:
        told, delimiter, header = _read_header(file)
        most = max(map(len, islice(csv.reader(file, delimiter=delimiter), PEEK)), default=0)
    if not header:
        raise ValueError("its first line names no column")
    # A column more than any row has so far: pandas would take the first for an index, and move all others by one.
    spare = [f"\0{number}" for number in range(max(most - len(header), 0) + 1)]
    names = [name or f"\0header{number}" for number, name in enumerate(header)] + spare
    unnamed = [name for name in names if name.startswith("\0")]
    layout = {"sep": delimiter, "encoding": encoding, "skiprows": 1 + told, "header": None, "names": names}
    kinds = dict.fromkeys([*texts, *unnamed], str)
    table = pd.read_csv(path, **layout, dtype=kinds, index_col=False, keep_default_na=False)
    for name in unnamed:
        _check_empty(path, table[name])
    table = table.drop(columns=unnamed)
    filled = np.flatnonzero(table["path"] != "") if "path" in table else [len(table) - 1]
    return table.iloc[: filled[-1] + 1] if len(filled) else table  # Excel leaves empty rows below the last


def _find_encoding(path: Path) -> str:
    with path.open("rb") as file:
        return "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _read_header(file: TextIO) -> tuple[bool, str, list[str]]:
    """Return whether a line that Excel does not show tells it the delimiter; the delimiter, and the columns' names."""
    first = file.readline()
    told = re.fullmatch(r'"?sep=(.)"?[,;\t]*\s*', first)
    first = file.readline() if told else first
    delimiter = told[1] if told else max(",;\t", key=first.count)
    return bool(told), delimiter, [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]


def _check_empty(path: Path, column: pd.Series) -> None:
    """Raise a `ManifestError` with the first row that says something in a column without a name."""
    filled = np.flatnonzero(column.fillna("").str.strip() != "")
    if len(filled):
        raise ManifestError(
            f"{name_rows(path, filled[:1])[0]}: has {column.iloc[filled[0]]!r} in a column that the header does not "
            f"name ({len(filled)} such rows); a cell with a comma in it belongs in quotes"
        )


def name_rows(path: Path, rows: Sequence[int]) -> list[str]:
    """Return where some rows of a table, counted from 0, are in its file: `line 7`, as an editor counts, or `row 7`.

    Blank lines are no rows, but count, and a row may go over several. Of a CSV that tells Excel its separator the lines
    are those that Excel shows.
    """
    if name_format(path) not in ("csv", "jsonl"):
        return [f"row {row + 1}" for row in rows]
    begins = list(islice(_find_lines(path), max(rows, default=-1) + 1))
    return [f"line {begins[row]}" for row in rows]


def _find_lines(path: Path) -> Iterator[int]:
    """Yield the line on which each row begins."""
    with path.open(encoding=_find_encoding(path), newline="") as file:
        if name_format(path) == "jsonl":
            yield from (number for number, line in enumerate(file, 1) if line.strip())
            return
        _, delimiter, _ = _read_header(file)
        cells, ended = csv.reader(file, delimiter=delimiter), 0
        for row in cells:
            if row and not (len(row) == 1 and row[0].isspace()):  # as pandas has it: an empty cell in quotes is a row
                yield 2 + ended
            ended = cells.line_num


def is_among(names: pd.Series, others: pd.Series) -> pd.Series:
    """Which names are among others, bool? pandas' own `isin` turns a million texts into objects first."""
    found = pc.is_in(pa.array(names, pa.large_string()), pa.array(others, pa.large_string()))
    return pd.Series(found.to_numpy(zero_copy_only=False), index=names.index)


def read_labels(column: pd.Series, *, empty: int | str = -1) -> pd.Series:
    """Return a column of labels as 0, 1, -1, and what stands for empty cells; other cells stay numbers or texts.

    Labels may be numbers, booleans, or the words true, false, real and fake, of whatever type the column is.
    """
    if pd.api.types.is_integer_dtype(column.dtype) and not column.hasnans:
        return column
    cells = column.astype(object)
    try:
        codes, values = pd.factorize(cells, use_na_sentinel=False)
    except TypeError:  # lists, which are no labels, but each is a fault of its own row
        codes, values = np.arange(len(cells)), cells
    labels = np.empty(len(values), object)
    labels[:] = [_read_label(value, empty) for value in values]
    return pd.Series(labels[codes], column.index, dtype=object).infer_objects()


def _read_label(value: Any, empty: int | str) -> Any:
    if _is_missing(value):
        return empty
    if isinstance(value, (Real, np.bool_)) and value in (-1, 0, 1):
        return int(value)
    if isinstance(value, str):
        text = value.strip()
        return LABEL_WORDS.get(text.lower().removesuffix(".0"), value) if text and text not in EMPTY_WORDS else empty
    return value if isinstance(value, Real) else str(value)


def read_texts(column: pd.Series) -> pd.Series:
    """Return a column as texts, empty where nothing is said; a list is joined as the manifest joins it.

    Whatever pandas would read as an empty cell (`EMPTY_WORDS`) says nothing either, but in the columns `WORDY`.
    """
    if column.dtype == "str":
        texts = column.fillna("") if column.hasnans else column
    else:
        cells = [_write_cell(value, str(column.name)) for value in column.astype(object)]
        texts = pd.Series(cells, column.index, name=column.name, dtype="str")
    empty = texts.isin(EMPTY_WORDS) if column.name not in WORDY else np.False_
    return texts.mask(empty, "") if empty.any() else texts


def _write_cell(value: Any, name: str) -> str:
    """Return a cell as the text that a CSV would hold."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple, set, np.ndarray)):
        return _join_list(list(value), name)
    if _is_missing(value):
        return ""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, dict):
        raise ManifestError(f"column {name}: expected a text in each cell, got {value!r}")
    if isinstance(value, Real) and not isinstance(value, (bool, np.bool_, Integral)) and float(value).is_integer():
        return str(int(value))  # an empty cell in a column makes decimals of its whole numbers
    return str(value)


def _join_list(values: list[Any], name: str) -> str:
    if name not in JOINTS:
        raise ManifestError(f"column {name}: expected a text in each cell, got the list {values!r}")
    if name.endswith("_segments") and len(values):
        pairs = [values] if not any(map(_is_list, values)) and not isinstance(values[0], str) else values
        return "|".join(pair if isinstance(pair, str) else "-".join(map(_write_seconds, pair)) for pair in pairs)
    return JOINTS[name].join(filter(None, (_write_cell(value, name) for value in values)))


def _write_seconds(value: Any) -> str:
    return np.format_float_positional(value, trim="-") if isinstance(value, Real) else str(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple, np.ndarray))


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value))
