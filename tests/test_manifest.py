"""The manifest: what is read, what is completed, and that a wrong one names every bad row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dfmm.audit.leaks import find_leaks
from dfmm.manifest import (
    COLUMNS,
    ManifestError,
    fingerprint_manifest,
    format_segments,
    parse_segments,
    read_manifest,
    select_split,
    summarise_manifest,
    write_manifest,
)
from dfmm.paths import find_links_out

CLIPS = Path(__file__).parents[2] / "shared" / "clips"
ROWS = (
    "path,split,label,method,video_segments,note",
    "a/one.mp4,train,0,real,,007",
    "a/two.mp4,train,1,faceswap,0.5-1|2-2.25,",
    "b/one.mp4,val,1,wav2lip,,NA",
)


def write_csv(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_folder(root: Path, name: str, meta: Any, *, videos: tuple[str, ...] = ("video.mp4",)) -> None:
    folder = root / name
    folder.mkdir(parents=True)
    for video in videos:
        (folder / video).touch()
    (folder / "meta.json").write_text(meta if isinstance(meta, str) else json.dumps(meta), encoding="utf-8")


def refuse(path: Path, root: Path | None = None) -> str:
    """Return what the error says."""
    with pytest.raises(ManifestError) as error:
        read_manifest(path, root)
    return str(error.value)


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    return read_manifest(write_csv(tmp_path / "table.csv", *ROWS))


def test_a_manifest_survives_csv_and_parquet(tmp_path: Path, table: pd.DataFrame) -> None:
    for name in ("again.csv", "again.parquet"):
        again = read_manifest(write_manifest(table, tmp_path / "new" / name))
        assert list(again.columns) == list(table.columns)
        assert again[list(COLUMNS)].to_dict("records") == table[list(COLUMNS)].to_dict("records")
        assert fingerprint_manifest(again) == fingerprint_manifest(table)
        assert [file.name for file in (tmp_path / "new").iterdir() if "partial" in file.name] == []


def test_three_columns_are_enough(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "m.csv", "path,split,label", "a.b/one.mp4,train,0", "two,val,1")
    table = read_manifest(path)
    assert list(table["video_id"]) == ["a.b/one", "two"]
    assert list(table["method"]) == ["real", "fake"]
    # A real is genuine in all of its streams, and of a fake nobody said in which it is forged.
    assert table[["video_fake", "audio_fake", "in_sync"]].to_numpy().tolist() == [[0, 0, 1], [-1, -1, -1]]
    assert (table[["identities", "original", "video_segments", "dataset"]] == "").all(axis=None)


def test_foreign_columns_stay_behind_our_own(table: pd.DataFrame) -> None:
    assert list(table.columns) == [*COLUMNS, "note"]
    assert list(table["label"]) == [0, 1, 1]


def test_a_missing_column_or_file_is_named(tmp_path: Path) -> None:
    assert "lacks the columns split, label" in refuse(write_csv(tmp_path / "m.csv", "path,kind", "a.mp4,x"))
    assert "no such manifest" in refuse(tmp_path / "none.csv")
    assert "has no rows" in refuse(write_csv(tmp_path / "m.csv", "path,split,label"))


def test_an_empty_path_is_no_path(tmp_path: Path) -> None:
    assert "line 2: path '' is empty" in refuse(
        write_csv(tmp_path / "m.csv", "path,split,label", ",train,0", "a,val,1")
    )


def test_two_ids_may_not_share_a_path(tmp_path: Path) -> None:
    header = "video_id,path,split,label"
    message = refuse(write_csv(tmp_path / "m.csv", header, "a,a.mp4,train,0", "b,b.mp4,train,0", "c,a.mp4,val,1"))
    assert [line.strip() for line in message.splitlines()[1:]] == [
        f"line {number}: path 'a.mp4' is repeated" for number in (2, 4)
    ]


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    for name, content in (("empty.csv", b""), ("cut.csv", b'path,split,label\n"a'), ("cut.parquet", b"PAR1")):
        (tmp_path / name).write_bytes(content)
        assert f"{tmp_path / name}: cannot be read" in refuse(tmp_path / name)


def test_every_bad_row_is_named_at_once(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "m.csv",
        "path,split,label,in_sync,video_segments",
        "good.mp4,train,0,1,",
        "twice.mp4,train,0,1,",
        "twice.mp4,train,1,1,",
        "c.mp4,dev,1,1,",
        "d.mp4,train,2,1,",
        "e.mp4,train,,1,",
        "f.mp4,train,1,3,",
        ",train,1,1,",
        "../g.mp4,train,1,1,",
        "/h.mp4,train,1,1,",
        "i.mp4,train,1,1,2-1",
        "j/../../k.mp4,train,1,1,soon",
    )
    message = refuse(path)
    faults = {line.split(":")[0].strip() for line in message.splitlines()[1:]}
    assert faults == {f"line {number}" for number in range(3, 14)}
    for said in ("split is 'dev'", "label is '2'", "in_sync is ", "path '' is empty", "'twice.mp4' is repeated"):
        assert said in message
    for path_outside in ("../g.mp4", "/h.mp4", "j/../../k.mp4"):
        assert f"path '{path_outside}' leaves the data root" in message


def test_labels_may_be_written_as_texts_and_decimals(tmp_path: Path) -> None:
    table = pd.DataFrame({"path": ["a", "b"], "split": "test", "label": ["0.0", "1"], "in_sync": [1.0, None]})
    table.to_parquet(tmp_path / "m.parquet")
    table = read_manifest(tmp_path / "m.parquet")
    assert list(table["label"]) == [0, 1]
    assert list(table["in_sync"]) == [1, -1]
    assert list(table["method"]) == ["real", "fake"]


def test_a_link_may_not_lead_out_of_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "inside").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "in").symlink_to(root / "inside")
    path = write_csv(root / "m.csv", "path,split,label", "in/a.mp4,train,0", "out/b.mp4,train,1")
    message = refuse(path, root)
    assert "line 3: path 'out/b.mp4' leaves the data root" in message
    assert "line 2" not in message
    assert len(read_manifest(path)) == 2  # nobody asked: without a root, links are not followed


def test_links_are_followed_however_deep_they_lie(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "a/b/c").mkdir(parents=True)
    (tmp_path / "out/deep").mkdir(parents=True)
    (root / "a/out").symlink_to(tmp_path / "out")
    (root / "a/in").symlink_to(root / "a/b")
    (root / "a/b/back").symlink_to("../out/deep")  # a link over a link
    (root / "a/b/c/file.mp4").symlink_to(tmp_path / "out/x.mp4")
    (root / "a/b/up.mp4").symlink_to("c/y.mp4")
    (tmp_path / "alias").symlink_to(root)
    inside = {"x.mp4", "a/x.mp4", "a/in/x.mp4", "a/in/c/x.mp4", "a/b/up.mp4", "gone/away/x.mp4", "a/b/c/other.mp4"}
    outside = {
        "a/out/x.mp4",
        "a/out/deep/x.mp4",
        "a/b/back/x.mp4",
        "a/in/back/x.mp4",
        "a/b/c/file.mp4",
        "a/in/c/file.mp4",
    }
    for place in (root, tmp_path / "alias"):
        assert find_links_out(place, sorted(inside | outside)) == outside
    assert find_links_out(tmp_path / "nowhere", sorted(inside)) == set()


def test_a_manifest_holds_segments_that_can_be_read_and_no_others(tmp_path: Path) -> None:
    good = ["", "0-1", "0.5-1.25|3-4", "007-8", "0-1|", "|0-1", "|", "1 - 2", "0-inf", "1e0-2", "0.-1", ".5-1"]
    bad = ["0-0", "1-0.5", "0-1|2-1", "a", "0", "0-", "-1", "0-1-2", "nan-1", "0-1|x"]

    for number, text in enumerate(good + bad):
        path = tmp_path / f"{number}.parquet"
        row = {"path": ["a"], "split": ["train"], "label": [1], "video_segments": [text]}
        pd.DataFrame(row).to_parquet(path)
        if text in good:
            parse_segments(text)
            assert len(read_manifest(path)) == 1
        else:
            assert "segment" in refuse(path)


def test_segments_are_written_as_they_are_read() -> None:
    assert parse_segments(format_segments([(0.48, 1.2), (2, 2.0625)])) == [(0.48, 1.2), (2.0, 2.062)]
    assert format_segments([]) == ""
    for wrong in ([(1, 1)], [(2, 1)], [(-1, 1)], [(0, 1), (2, 2.0004)], [(float("nan"), 1)]):
        with pytest.raises(ValueError, match="does not end after it starts"):
            format_segments(wrong)


def test_segments_are_pairs_of_seconds_in_order() -> None:
    assert parse_segments("") == []
    assert parse_segments("0.48-1.20|2-2.5") == [(0.48, 1.2), (2.0, 2.5)]
    for text in ("1", "1-", "2-1", "1-1", "a-b", "-1-2", "1-2-3", "nan-2"):
        with pytest.raises(ValueError, match=r"expected start-end in seconds|does not end after it starts"):
            parse_segments(f"0-0.5|{text}")


def test_a_folder_of_videos_is_a_manifest(tmp_path: Path) -> None:
    write_folder(tmp_path, "train/one", {"label": "real", "identities": ["ann", "bob"]})
    write_folder(tmp_path, "train/two", {"label": 1, "method": "faceswap", "in_sync": 1}, videos=("x.MOV",))
    write_folder(tmp_path, "test/one", {"label": "Fake", "source": "web"})
    write_folder(tmp_path, "val/one", {"label": "0"})
    table = read_manifest(tmp_path).set_index("path")
    assert table["label"].to_dict() == {
        "train/one/video.mp4": 0,
        "train/two/x.MOV": 1,
        "test/one/video.mp4": 1,
        "val/one/video.mp4": 0,
    }
    assert list(table["split"]) == [path.split("/")[0] for path in table.index]
    assert table.loc["train/one/video.mp4", "identities"] == "ann|bob"
    # What only some of the meta.json files say is unknown of the others, unless they are real.
    assert table["in_sync"].to_dict() == {**dict.fromkeys(table.index, 1), "test/one/video.mp4": -1}
    assert list(table["video_fake"]) == list(table["label"].map({0: 0, 1: -1}))
    assert sorted(table["method"]) == ["faceswap", "fake", "real", "real"]


def test_what_is_hidden_is_no_video(tmp_path: Path) -> None:
    write_folder(tmp_path, "train/one", {"label": 0}, videos=("clip.mp4", "._clip.mp4", ".clip.mkv"))
    for name in ("train/.Trash", ".Spotlight/one"):
        write_folder(tmp_path, name, {"label": 1})
    assert read_manifest(tmp_path)["path"].tolist() == ["train/one/clip.mp4"]


def test_an_original_is_tied_however_it_is_written(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for slash in ("/", "\\"):
        for way in ("real{}a", "real{}a.mp4", ".{}real{}a", "real{}.{}a.mp4", f"{root}{{}}real{{}}a.mp4"):
            original = way.replace("{}", slash)
            rows = [f"{name.replace('/', slash)},{rest}" for name, rest in (
                ("real/a.mp4", "train,0,"), ("fake/b.mp4", f"test,1,{original}"), ("fake/c.mp4", "val,1,gone.mov"),
            )]  # fmt: skip
            table = read_manifest(write_csv(tmp_path / "m.csv", "path,split,label,original", *rows), root)
            assert table["original"].tolist() == ["", "real/a", "gone"], original
    assert find_leaks(table, {})["video_id"].tolist() == ["fake/b", "real/a"]
    named = write_csv(
        tmp_path / "m.csv", "video_id,path,split,label,original", "real\\a,a.mp4,train,0,", "b,b,val,1,{}"
    )
    for original in ("real\\a", "real/a", "a.mp4", "./a.mp4"):
        table = read_manifest(write_csv(tmp_path / "n.csv", *named.read_text().format(original).splitlines()))
        assert table[["video_id", "original"]].to_numpy().tolist() == [["real\\a", ""], ["b", "real\\a"]]


def test_a_folder_that_is_wrong_is_named(tmp_path: Path) -> None:
    assert "found none" in refuse(tmp_path)
    write_folder(tmp_path / "a", "train/one", {"label": 0}, videos=("x.mp4", "y.mkv"))
    assert "expected one video beside meta.json, found 2" in refuse(tmp_path / "a")
    write_folder(tmp_path / "b", "train/one", "{")
    assert "not JSON" in refuse(tmp_path / "b")
    write_folder(tmp_path / "c", "train/one", [])
    assert "got a list" in refuse(tmp_path / "c")
    for label in ({}, {"label": "perhaps"}, {"label": [1]}):
        write_folder(tmp_path / f"d{label}", "train/one", label)
        assert "train/one/video: label is" in refuse(tmp_path / f"d{label}")


def test_a_limit_takes_both_labels_and_keeps_the_order() -> None:
    table = pd.DataFrame({"split": "train", "label": [0] * 6 + [1] * 3, "video_id": list("abcdefghi")})
    assert list(select_split(table, "train", limit=4)["video_id"]) == list("abgh")
    assert list(select_split(table, "train", limit=8)["video_id"]) == list("abcdeghi")  # the fakes are used up
    assert list(select_split(table, "train", limit=99)["video_id"]) == list("abcdefghi")
    assert list(select_split(table[table["label"] == 0], "train", limit=2)["video_id"]) == list("ab")


def test_a_split_without_videos_is_refused(table: pd.DataFrame) -> None:
    assert list(select_split(table, "val")["video_id"]) == ["b/one"]
    with pytest.raises(ManifestError, match=r"'test'.*train 2, val 1"):
        select_split(table, "test")


def test_videos_kept_out_of_all_splits_are_never_selected(tmp_path: Path) -> None:
    rows = ("a.mp4,train,0,real,,", "b.mp4,none,1,swap,,", "c.mp4,none,0,real,,")
    table = read_manifest(write_csv(tmp_path / "m.csv", ROWS[0], *rows))
    assert list(select_split(table, "train")["path"]) == ["a.mp4"]
    with pytest.raises(ManifestError, match="kept out of all splits"):
        select_split(table, "none")
    assert summarise_manifest(table)["none"].to_dict() == {"real": 1, "swap": 1}
    assert "split is ''" in refuse(write_csv(tmp_path / "m.csv", ROWS[0], "a.mp4,,0,real,,"))  # no split is no accident


def test_the_fingerprint_knows_the_content_and_not_the_order(table: pd.DataFrame) -> None:
    known = fingerprint_manifest(table)
    assert fingerprint_manifest(table.iloc[::-1].reset_index(drop=True)) == known
    assert fingerprint_manifest(table.assign(note="other")) == known
    for name in COLUMNS:
        changed = table.copy()
        changed.loc[1, name] = 0 if name in ("label", "video_fake", "audio_fake", "in_sync") else "other"
        assert fingerprint_manifest(changed) != known
    assert fingerprint_manifest(table.assign(label=list(table["label"])[::-1])) != known
    moved = (table.assign(dataset="ab", source="c"), table.assign(dataset="a", source="bc"))
    assert fingerprint_manifest(moved[0]) != fingerprint_manifest(moved[1])


def test_the_summary_counts_real_videos_first(table: pd.DataFrame) -> None:
    counts = summarise_manifest(table)
    assert list(counts.index) == ["real", "faceswap", "wav2lip"]
    assert list(counts.columns) == ["train", "val"]
    assert counts.loc["faceswap"].tolist() == [1, 0]


def test_the_shared_clips_load() -> None:
    if not (CLIPS / "clips.csv").is_file():
        pytest.skip("no shared clips beside the repository")
    table = read_manifest(CLIPS / "clips.csv", CLIPS)
    assert len(table) == 106
    assert all((CLIPS / path).is_file() for path in table["path"])
    assert set(table["label"]) == {0, 1}
