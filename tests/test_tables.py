"""Tables: the same videos, written in whatever format and type, are the same manifest."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dfmm.manifest import COLUMNS, STREAM_LABELS, ManifestError, fingerprint_manifest, read_manifest, write_manifest
from dfmm.tables import EMPTY_WORDS, read_labels, read_texts

Rows = list[dict[str, Any]]

LETTERS = st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="|/\\.:")
WORDS = st.text(LETTERS, min_size=1, max_size=6) | st.sampled_from(
    ["NA", "nan", "007", "1.0", "True", 'a "b", c', "a;b"]
)
SEGMENTS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(41, 90)).map(lambda pair: [n / 4 for n in pair]), max_size=2
)
ROW = st.fixed_dictionaries(
    {
        "split": st.sampled_from(["train", "val", "test", "none"]),
        "label": st.booleans(),
        **dict.fromkeys(STREAM_LABELS, st.none() | st.booleans()),
        "method": st.none() | WORDS,
        "identities": st.lists(WORDS, max_size=3),
        "dataset": st.none() | WORDS,
        "source": st.none() | st.integers(0, 99),
        "video_segments": SEGMENTS,
    }
)
TABLES = st.lists(ROW, min_size=1, max_size=6).map(
    lambda rows: [{"path": f"{number}/ü {number}.mp4", **row} for number, row in enumerate(rows)]
)


def is_empty(text: str | None) -> bool:
    return not text or text in EMPTY_WORDS


def as_texts(rows: Rows, words: tuple[str, str]) -> list[list[str]]:
    """Return the cells of a CSV: nothing where nothing is said, and these two words for False and True."""

    def write(value: Any) -> str:
        if isinstance(value, list):
            return "|".join(value if not value or isinstance(value[0], str) else (f"{a:g}-{b:g}" for a, b in value))
        return words[value] if isinstance(value, bool) else "" if value is None else str(value)

    return [list(rows[0]), *([write(row[name]) for name in rows[0]] for row in rows)]


def write_texts(rows: Rows, path: Path, *, words: tuple[str, str], encoding: str, tail: int = 0, **layout: str) -> Path:
    header, *cells = as_texts(rows, words)
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, **layout).writerows([header, *(row + [""] * tail for row in cells)])
    return path


def write_plain(rows: Rows, folder: Path) -> Path:
    return write_texts(rows, folder / "m.csv", words=("0", "1"), encoding="utf-8", lineterminator="\n")


def write_tailed(rows: Rows, folder: Path) -> Path:
    return write_texts(rows, folder / "m.csv", words=("False", "True"), encoding="utf-8", tail=2)


def write_excel(rows: Rows, folder: Path) -> Path:
    """As Excel saves it where the comma is for decimals: semicolons, a mark of the encoding, an empty row below."""
    path = write_texts(rows, folder / "m.csv", words=("FALSE", "TRUE"), encoding="utf-8-sig", delimiter=";")
    path.write_bytes(path.read_bytes() + b";" * len(rows[0]) + b"\r\n")
    return path


def write_unicode_text(rows: Rows, folder: Path) -> Path:
    return write_texts(rows, folder / "m.txt", words=("FALSE", "TRUE"), encoding="utf-16", delimiter="\t")


def write_json(rows: Rows, folder: Path) -> Path:
    (folder / "m.json").write_text(json.dumps(rows), encoding="utf-8")
    return folder / "m.json"


def write_lines(rows: Rows, folder: Path) -> Path:
    """JSON lines, in which what is not said is left out."""
    said = [{name: value for name, value in row.items() if value not in (None, [])} for row in rows]
    (folder / "m.jsonl").write_text("\n".join(map(json.dumps, said)), encoding="utf-8")
    return folder / "m.jsonl"


def write_parquet(**types: str) -> Callable[[Rows, Path], Path]:
    def write(rows: Rows, folder: Path) -> Path:
        table = pd.DataFrame(rows)
        for name, kind in types.items():
            table[name] = pd.array([row[name] for row in rows], kind)
        table.to_parquet(folder / "m.parquet")
        return folder / "m.parquet"

    return write


NULLABLE = {"label": "boolean", "video_fake": "boolean", "audio_fake": "boolean", "in_sync": "boolean"}
NUMBERS = {"label": "Int64", "video_fake": "Int64", "audio_fake": "Float64", "in_sync": "float64", "source": "float64"}
CATEGORIES = dict.fromkeys(("split", "label", "video_fake", "method", "dataset", "source"), "category")
FORMATS = [
    write_tailed, write_excel, write_unicode_text, write_json, write_lines,
    write_parquet(), write_parquet(**NULLABLE), write_parquet(**NUMBERS), write_parquet(**CATEGORIES),
]  # fmt: skip


@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a table of six rows can be read as it is
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(rows=TABLES)
def test_a_table_is_the_same_in_every_format(tmp_path: Path, rows: Rows) -> None:
    meant = read_manifest(write_plain(rows, tmp_path))
    for number, row in enumerate(rows):
        assert meant["label"][number] == row["label"]
        method, people = row["method"], "|".join(row["identities"])
        assert meant["method"][number] == (("fake" if row["label"] else "real") if is_empty(method) else method)
        assert meant["identities"][number] == ("" if is_empty(people) else people)
        genuine = not row["label"] and all(row[name] is None for name in STREAM_LABELS)
        for name in STREAM_LABELS:
            unsaid = int(name == "in_sync") if genuine else -1
            assert meant[name][number] == (unsaid if row[name] is None else row[name])
    for write in FORMATS:
        read = read_manifest(write(rows, tmp_path))
        assert read[list(COLUMNS)].to_dict("records") == meant[list(COLUMNS)].to_dict("records")
        assert fingerprint_manifest(read) == fingerprint_manifest(meant)
    for name in ("again.csv", "again.parquet", "again.json", "again.jsonl"):
        assert fingerprint_manifest(read_manifest(write_manifest(meant, tmp_path / name))) == fingerprint_manifest(
            meant
        )


def write_table(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def refuse(path: Path, root: Path | None = None) -> str:
    with pytest.raises(ManifestError) as error:
        read_manifest(path, root)
    return str(error.value)


def test_commas_at_the_end_of_a_row_move_nothing(tmp_path: Path) -> None:
    for rows in (("a,train,0,", "b,val,1,"), ("a,train,0,,,,", "b,val,1"), ("a,train,0", "b,val,1,")):
        for header in ("path,split,label", "path,split,label,"):
            table = read_manifest(write_table(tmp_path / "m.csv", header, *rows))
            assert table[["path", "split", "label"]].to_numpy().tolist() == [["a", "train", 0], ["b", "val", 1]]
            assert list(table.columns) == list(COLUMNS)


def test_a_cell_that_no_column_is_for_is_named(tmp_path: Path) -> None:
    path = write_table(tmp_path / "m.csv", "path,split,label,identities", "a,train,0,ann", "b,val,1,ann, bob")
    message = refuse(path)
    assert "line 3" in message
    assert "' bob'" in message


def test_a_column_that_holds_no_labels_or_texts_is_named(tmp_path: Path) -> None:
    row = {"path": "a", "split": "train", "label": 0}
    for name, value in (("original", ["a", "b"]), ("identities", {"who": "ann"}), ("method", {"a": 1})):
        pd.DataFrame([{**row, name: value}]).to_parquet(tmp_path / "m.parquet")
        assert f"column {name}: expected a text" in refuse(tmp_path / "m.parquet")
    pd.DataFrame([{**row, "in_sync": [1]}]).to_parquet(tmp_path / "m.parquet")
    assert "row 1: in_sync is '[1]'" in refuse(tmp_path / "m.parquet")
    (tmp_path / "m.json").write_text('{"path": "a"}')
    assert "expected a list of objects" in refuse(tmp_path / "m.json")


def test_a_table_of_another_encoding_says_so(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes("path,split,label\nä.mp4,train,0\n".encode("cp1252"))
    assert "not UTF-8" in refuse(tmp_path / "m.csv")


def test_an_index_with_a_name_is_a_column(tmp_path: Path) -> None:
    table = pd.DataFrame({"path": ["a"], "split": ["train"], "label": [True]}).set_index("path")
    table.to_parquet(tmp_path / "m.parquet")
    assert read_manifest(tmp_path / "m.parquet")["path"].tolist() == ["a"]


def test_labels_are_numbers_words_or_booleans() -> None:
    cells = [0, 1, True, "fake", "REAL", " false", "1.0", None, float("nan"), "", 0.0]
    assert read_labels(pd.Series(cells, dtype=object)).tolist() == [0, 1, 1, 1, 0, 0, 1, -1, -1, -1, 0]
    assert read_labels(pd.Series(["perhaps", "2", 0.5], dtype=object)).tolist() == ["perhaps", "2", 0.5]


def test_what_pandas_writes_for_an_empty_cell_is_one(tmp_path: Path) -> None:
    table = pd.DataFrame({"path": ["NA.mp4", "b", "None"], "split": "train", "label": [0, 1, 1]})
    for name in ("method", "identities", "original", "in_sync", "source"):
        table[name] = pd.Series([None, float("nan"), pd.NA], dtype=object)
    table.astype(str).to_csv(tmp_path / "m.csv", index=False)
    table.astype(str).to_parquet(tmp_path / "m.parquet")
    table.to_csv(tmp_path / "n.csv", index=False, na_rep="NULL")
    for name in ("m.csv", "m.parquet", "n.csv"):
        read = read_manifest(tmp_path / name)
        assert read["method"].tolist() == ["real", "fake", "fake"]
        assert read["in_sync"].tolist() == [1, -1, -1]
        assert (read[["identities", "original", "source"]] == "").all(axis=None)
        assert read[["video_id", "path"]].to_numpy().tolist() == [["NA", "NA.mp4"], ["b", "b"], ["None", "None"]]
    assert read_texts(pd.Series(["Nan", "none", "Na"], name="identities")).tolist() == ["Nan", "none", "Na"]


def test_blanks_around_a_columns_name_are_none_of_it(tmp_path: Path) -> None:
    rows = [{" path": "a", "split ": "train", "label": 1, "identities\t": "ann"}]
    pd.DataFrame(rows).to_parquet(tmp_path / "m.PARQUET")
    pd.DataFrame(rows).to_parquet(tmp_path / "m.pq")
    pd.DataFrame(rows).to_csv(tmp_path / "m.CSV", index=False)
    (tmp_path / "m.JSON").write_text(json.dumps(rows))
    (tmp_path / "m.JSONL").write_text(json.dumps(rows[0]))
    for name in ("m.PARQUET", "m.pq", "m.CSV", "m.JSON", "m.JSONL"):
        table = read_manifest(tmp_path / name)
        assert table[["path", "split", "label", "identities"]].to_numpy().tolist() == [["a", "train", 1, "ann"]]
        again = read_manifest(write_manifest(table, tmp_path / f"again{name[1:]}"))
        assert fingerprint_manifest(again) == fingerprint_manifest(table)
    pd.DataFrame([{"path": "a", "path ": "b", "split": "train", "label": 1}]).to_parquet(tmp_path / "m.pq")
    assert "has several columns called path" in refuse(tmp_path / "m.pq")
    for header in ("path,split,label,label", "path,split,label,label "):
        assert "m.csv: " in refuse(write_table(tmp_path / "m.csv", header, "a,train,1,1"))


def test_a_line_that_tells_excel_the_separator_is_no_header(tmp_path: Path) -> None:
    for told, mark in (("sep=;", ";"), ("sep=|", "|"), ("sep=\t", "\t"), ('"sep=,"', ","), ("sep=;;;", ";")):
        lines = [mark.join(row) for row in (("path", "split", "label"), ("a,b", "train", "1"), ("c", "val", "perhaps"))]
        lines = [line.replace("a,b", '"a,b"') for line in lines]
        assert "line 3: label is 'perhaps'" in refuse(write_table(tmp_path / "m.csv", told, *lines))
        table = read_manifest(write_table(tmp_path / "m.csv", told, *lines[:2]))
        assert table[["path", "label"]].to_numpy().tolist() == [["a,b", 1]]


def test_a_row_is_named_by_the_line_on_which_it_begins(tmp_path: Path) -> None:
    head = ("path,split,label,note", "", "a,train,0,", "  ", 'b,train,1,"one', "", 'two"')
    lines = (*head, "c,val,perhaps,", "d,val,1,")
    assert "line 8: label is 'perhaps'" in refuse(write_table(tmp_path / "m.csv", *lines))
    assert "line 9: has 'more' in a column" in refuse(write_table(tmp_path / "m.csv", *lines[:-1], "d,val,1,,more"))
    assert "line 3: path '' is empty" in refuse(write_table(tmp_path / "m.csv", lines[0], "", '""', "d,val,1,"))
    rows = [json.dumps({"path": name, "split": "val", "label": name}) for name in "01x"]
    assert "line 4: label is 'x'" in refuse(write_table(tmp_path / "m.jsonl", *rows[:2], "", rows[2]))
    (tmp_path / "m.json").write_text(f"[{', '.join(rows)}]")
    assert "row 3: label is 'x'" in refuse(tmp_path / "m.json")


def test_a_line_of_json_ends_where_json_says(tmp_path: Path) -> None:
    table = pd.DataFrame({"path": ["a", "b"], "split": "train", "label": [0, 1], "note": ["one\u2028two", "\x85"]})
    again = read_manifest(write_manifest(table, tmp_path / "m.jsonl"))
    assert again["note"].tolist() == table["note"].tolist()


def test_whole_numbers_stay_whole_beside_empty_cells() -> None:
    assert read_texts(pd.Series([7, None, 12.5], name="identities")).tolist() == ["7", "", "12.5"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "x").mkdir(parents=True)
    (root / "x" / "y.mp4").touch()
    (tmp_path / "alias").symlink_to(root)
    return root


def test_a_path_means_one_file_however_it_is_written(root: Path) -> None:
    ways = ("x\\y.mp4", ".\\x\\y.mp4", "./x/y.mp4", "x/./y.mp4", "x//y.mp4", "x/../x/y.mp4", "{root}/x/y.mp4",
            "x/y.mp4/", "x/../../root/x/y.mp4", "..\\root\\x\\y.mp4", "{root}/x/./y.mp4", "{root}/x/y.mp4/",
            "{root}\\x\\y.mp4", "{root}/../alias/x/y.mp4")  # fmt: skip
    for way in ways:
        path = write_table(root / "m.csv", "path,split,label", f"{way.format(root=root)},train,0")
        for place in (root, root.parent / "alias"):
            table = read_manifest(path, place)
            assert table[["video_id", "path"]].to_numpy().tolist() == [["x/y", "x/y.mp4"]], way


def test_two_ways_to_write_a_path_are_one_video(root: Path) -> None:
    path = write_table(root / "m.csv", "path,split,label", "x/y.mp4,train,0", f"{root}/x/y.mp4,val,1")
    assert "video_id 'x/y' is repeated" in refuse(path, root)


def test_a_path_that_leaves_the_root_is_named_as_it_is_written(root: Path) -> None:
    (root.parent / "out.mp4").touch()
    ways = ("../out.mp4", "x/../../out.mp4", "..\\out.mp4", "../root/../out.mp4", f"{root.parent}/out.mp4",
            f"{root}/../out.mp4", "C:\\videos\\y.mp4", "\\\\server\\share\\y.mp4", f"{root}er/y.mp4")  # fmt: skip
    for way in ways:
        path = write_table(root / "m.csv", "path,split,label", f"{way},train,0")
        assert f"path {way!r} leaves the data root {root}" in refuse(path, root)


def test_a_backslash_of_a_name_stays_where_such_a_file_is(root: Path) -> None:
    (root / "x\\y.mp4").touch()
    path = write_table(root / "m.csv", "path,split,label", "x\\y.mp4,train,0")
    assert read_manifest(path, root)["path"].tolist() == ["x\\y.mp4"]
