"""The table of clips finds and sorts 100,000 rows at once, and keeps what each reader says of a clip."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dfmm.figures.annotations import append_annotation, find_latest, read_annotations
from dfmm.figures.inspector import Inspector
from dfmm.figures.still import VIEW
from dfmm.figures.table import ClipTable, Listing, browse_clips
from dfmm.settings import Settings


def make_videos(count: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    videos = pd.DataFrame({"video_id": [f"clip/{number:06d}" for number in rng.permutation(count)]})
    videos["label"], videos["predicted"] = rng.integers(0, 2, count), rng.integers(0, 2, count).astype(float)
    videos["score"] = rng.random(count)
    videos["method"] = rng.choice(["real", "swap", "vocoder"], count)
    videos["split"], videos["source"], videos["gender"] = "test", None, rng.choice(["f", "m"], count)
    videos["status"], videos["reason"] = "ok", ""
    videos.loc[3, ["status", "reason", "score", "predicted"]] = ["failed", "broken", np.nan, np.nan]
    return videos


def test_rows_are_filtered_and_sorted() -> None:
    videos = make_videos(500)
    listing = Listing(videos, ["gender", "absent"])
    wanted = {"method": "swap", "gender": "f", "outcome": "missed fake"}
    found = listing.choose(wanted, sort="score", descending=True)
    expected = videos[(videos["method"] == "swap") & (videos["gender"] == "f")]
    expected = expected[(expected["label"] == 1) & (expected["predicted"] == 0) & (expected["status"] == "ok")]
    assert found.tolist() == expected.sort_values("score", ascending=False).index.tolist()
    assert (
        listing.choose({}, text="CLIP/00001").tolist()
        == videos.index[videos["video_id"].str.contains("clip/00001")].tolist()
    )
    for descending in (True, False):
        assert listing.choose({}, sort="score", descending=descending)[-1] == 3  # it has none
    assert listing.choose({"outcome": "not scored"}).tolist() == [3]
    assert listing.list_values()["gender"] == ["f", "m"]
    assert "split" not in listing.table  # all have the same
    row = listing.list_rows(np.array([3]))[0]
    assert row["number"] == 3
    assert row["cells"][-1] == "broken"
    assert "–" in row["cells"]


def test_a_hundred_thousand_rows_are_no_slower() -> None:
    listing = Listing(make_videos(100_000))
    for sort in ("score", "video_id"):
        listing.choose({}, sort=sort)  # the first time they are put in order
    started = time.process_time()
    for sort in ("score", "video_id"):
        found = listing.choose({"method": "swap", "outcome": "false alarm"}, text="9", sort=sort)
        listing.list_rows(found[1000:1020])
    assert time.process_time() - started < 1


def test_the_widget_sends_only_what_is_in_sight(tmp_path: Path, tiny: Settings) -> None:
    videos = make_videos(1000)
    file = tmp_path / "annotations.csv"
    append_annotation(file, who="anna", video_id=videos["video_id"].iat[5], verdict="fake", note="lips")
    listing = Listing(videos)
    table = ClipTable(listing, tiny, Inspector(), None, annotations=file, who="ben")
    sent = []
    table.send = lambda content, parts=None: sent.append(content)
    ask = {"kind": "rows", "filters": {}, "text": "", "sort": "", "descending": False, "first": 0, "count": 1_000_000}
    table._answer(table, dict(ask), [])
    assert (sent[-1]["total"], len(sent[-1]["rows"])) == (1000, 200)
    assert sent[-1]["rows"][5]["others"] == ["anna: fake: lips"]
    assert sent[-1]["rows"][5]["verdict"] == ""
    table._answer(table, {"kind": "annotate", "number": 7, "verdict": "unsure", "note": "dark"}, [])
    table._answer(table, ask | {"filters": {"verdict": "unsure"}}, [])
    assert [(row["number"], row["note"]) for row in sent[-1]["rows"]] == [(7, "dark")]
    table._answer(table, ask | {"filters": {"verdict": "none yet"}}, [])
    assert sent[-1]["total"] == 999
    table._answer(table, {"kind": "annotate", "number": 7, "verdict": "perhaps", "note": ""}, [])
    assert "expected one of real, fake, unsure" in sent[-1]["why"]


def test_what_several_readers_say_stands_side_by_side(tmp_path: Path) -> None:
    file = tmp_path / "run" / "annotations.csv"
    code = (
        "import sys; from dfmm.figures.annotations import append_annotation\n"
        "for n in range(100):\n"
        "    append_annotation(sys.argv[1], who=sys.argv[2], video_id=f'v{n}', verdict='fake', note='a, \"b\"')"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(file), who]) for who in ("anna", "ben")]
    assert [writer.wait(timeout=300) for writer in writers] == [0, 0]
    table = read_annotations(file)
    assert len(table) == 200
    assert table.groupby("who").size().to_dict() == {"anna": 100, "ben": 100}
    assert set(table["note"]) == {'a, "b"'}
    append_annotation(file, who="anna", video_id="v1", verdict="real", note="two\nlines")
    append_annotation(file, who="ben", video_id="v1", verdict="")
    said = find_latest(read_annotations(file)).query("video_id == 'v1'")
    assert said[["who", "verdict", "note"]].to_numpy().tolist() == [["anna", "real", "two lines"]]


def test_a_row_that_was_cut_off_costs_no_other(tmp_path: Path) -> None:
    file = tmp_path / "annotations.csv"
    append_annotation(file, who="anna", video_id="v1", verdict="real")
    with file.open("ab") as half:
        half.write(b"anna,2026")
    append_annotation(file, who="anna", video_id="v2", verdict="fake")
    assert find_latest(read_annotations(file))["video_id"].tolist() == ["v1", "v2"]
    assert read_annotations(tmp_path / "none.csv").empty


def test_headless_a_picture_of_faces_is_left(
    tiny: Settings, manifest: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundles: list[dict] = []
    monkeypatch.setattr("dfmm.figures.still.display", lambda bundle, raw: bundles.append(bundle))
    monkeypatch.setenv("DFMM_HEADLESS", "1")
    browse_clips(manifest, tiny)._ipython_display_()
    assert not any(VIEW in bundle for bundle in bundles)
    assert bundles[-1]["image/png"].startswith("iVBOR")
    assert f"clips: {len(manifest)}" in bundles[-1]["text/plain"]
