"""Tables of a million rows read by columns: a JSON list of objects, JSON lines, Arrow as `datasets` keeps it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from dfmm.manifest import ManifestError

PERIODS = pa.list_(pa.list_(pa.float64()))  # pairs of seconds
AT_ONCE = 2**31 - 64  # bytes that Arrow's reader takes in one piece
HEAD, TAIL = b'{"rows":', b"}"


def read_objects(path: Path, fields: Mapping[str, pa.DataType]) -> tuple[pa.Table, list[str]]:
    """Read some fields of a JSON list of objects, or of JSON lines; what an object does not say is null.

    Returns:
        The objects whose fields are of these kinds, and, as texts, all else that the list holds.

    Raises:
        ManifestError: the file is no JSON, or no list.
    """
    schema = pa.schema(list(fields.items()))
    try:
        return _read_whole(path, schema), []
    except (pa.ArrowInvalid, OverflowError):  # one odd object is enough; object by object it costs only itself
        pass
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror}") from error
    entries = _load_entries(path)
    strange = [entry for entry in entries if not isinstance(entry, dict)]
    tables, odd = _keep_fitting([entry for entry in entries if isinstance(entry, dict)], schema)
    return pa.concat_tables([schema.empty_table(), *tables]).combine_chunks(), [
        _shorten(entry) for entry in strange + odd
    ]


def _read_whole(path: Path, schema: pa.Schema) -> pa.Table:
    """Let Arrow read the file: a list becomes the one row of a table, whose only cell holds all objects."""
    size = os.path.getsize(path)
    data = bytearray(len(HEAD) + size + len(TAIL))
    with path.open("rb") as file:
        file.readinto(memoryview(data)[len(HEAD) : -len(TAIL)])
    if data[len(HEAD) : len(HEAD) + 64].lstrip()[:1] != b"[":
        lines = pa.py_buffer(memoryview(data)[len(HEAD) : -len(TAIL)])
        return _parse(lines, schema, block=1 << 24).combine_chunks()
    data[: len(HEAD)], data[-len(TAIL) :] = HEAD, TAIL
    if len(data) > AT_ONCE:
        raise OverflowError
    whole = pa.schema([("rows", pa.list_(pa.struct(list(schema))))])
    cell = _parse(pa.py_buffer(data), whole, block=len(data) + 1)["rows"].combine_chunks()
    return pa.Table.from_struct_array(cell.flatten())


def _parse(data: pa.Buffer, schema: pa.Schema, *, block: int) -> pa.Table:
    return pyarrow.json.read_json(
        pa.BufferReader(data),
        read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=block),
        parse_options=pyarrow.json.ParseOptions(
            explicit_schema=schema, unexpected_field_behavior="ignore", newlines_in_values=len(schema) == 1
        ),
    )


def _load_entries(path: Path) -> list[Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        entries = json.loads(text) if text.lstrip()[:1] in "[{" and "\n{" not in text else None
        entries = [json.loads(line) for line in text.split("\n") if line.strip()] if entries is None else entries
    except ValueError as error:
        raise ManifestError(f"{path}: not JSON: {error}") from error
    if not isinstance(entries, list):
        raise ManifestError(f"{path}: expected a list of objects, got a {type(entries).__name__}")
    return entries


def _keep_fitting(entries: list[Any], schema: pa.Schema) -> tuple[list[pa.Table], list[Any]]:
    """Return the entries that fit as tables, and those that do not: halves are tried until the odd ones stand alone."""
    try:
        return [pa.Table.from_pylist(entries, schema)], []
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        if len(entries) == 1:
            return [], entries
    half = len(entries) // 2
    first, second = _keep_fitting(entries[:half], schema), _keep_fitting(entries[half:], schema)
    return first[0] + second[0], first[1] + second[1]


def _shorten(entry: Any) -> str:
    return str(entry.get("file", entry) if isinstance(entry, dict) else entry)[:200]


def read_arrow(path: Path) -> pa.Table:
    """Read an Arrow file, or the stream of which the library `datasets` makes its files.

    Raises:
        ManifestError: it is neither.
    """
    try:
        with pa.memory_map(str(path)) as source:
            try:
                return pa.ipc.open_stream(source).read_all()
            except pa.ArrowInvalid:
                return pa.ipc.open_file(source).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise ManifestError(f"{path}: no Arrow file: {error}") from error


def take_texts(table: pa.Table, name: str) -> pd.Series:
    """Return a column as texts, empty where there is no value or no such column."""
    if name not in table.column_names:
        return pd.Series("", index=range(len(table)), dtype="str")
    return table[name].cast(pa.large_string()).to_pandas().fillna("").astype("str")


def extract_texts(texts: pd.Series, pattern: str) -> pd.DataFrame:
    """Return the named groups of a pattern (as RE2 writes them) where it is found in each text, empty where it is not.

    pandas' own `extract` is a loop over a million texts.
    """
    found = pc.extract_regex(pa.array(texts, pa.large_string()), pattern)
    groups = {field.name: pc.struct_field(found, field.name).to_pandas() for field in found.type}
    return pd.DataFrame({name: group.fillna("").astype("str") for name, group in groups.items()}).set_axis(texts.index)


def format_periods(column: pa.Array | pa.ChunkedArray) -> tuple[pd.Series, np.ndarray]:
    """Write lists of pairs of seconds as `format_segments` does of one.

    Args:
        column: of the kind `PERIODS`.

    Returns:
        The texts `[n]`, empty for no pair, and where, bool `[n]`, a list holds what is no stretch of time.
    """
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    pairs, owner = pc.list_flatten(column), pc.list_parent_indices(column).to_numpy()
    whole = pc.equal(pc.list_value_length(pairs), 2).fill_null(False).to_numpy(zero_copy_only=False)
    ends = np.full((len(pairs), 2), np.nan)
    ends[whole] = pc.list_flatten(pairs.filter(pa.array(whole))).to_numpy(zero_copy_only=False).reshape(-1, 2)
    sure = (ends[:, 0] >= 0) & (ends[:, 1] - ends[:, 0] >= 1e-3) & (ends[:, 1] < 1e9)
    wrong = np.zeros(len(column), bool)
    wrong[owner[~sure]] = True
    texts = pc.binary_join_element_wise(*map(_format_seconds, ends[sure].T), "-")
    offsets = np.append(0, np.cumsum(np.bincount(owner[sure], minlength=len(column))))
    joined = pc.binary_join(pa.ListArray.from_arrays(offsets.astype(np.int32), texts), "|")
    return joined.to_pandas().astype("str"), wrong


def _format_seconds(seconds: np.ndarray) -> pa.Array:
    """Write seconds to the millisecond: Arrow has no format for numbers, so whole and broken part are written apart."""
    whole, broken = np.divmod(np.rint(seconds * 1000).astype(np.int64), 1000)
    texts = [pa.array(part).cast(pa.string()) for part in (whole, broken)]
    return pc.binary_join_element_wise(texts[0], pc.utf8_lpad(texts[1], 3, "0"), ".")
