"""Errors are told apart by slice, the worst is named only where it is no luck, and small slices say nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dfmm.evaluation.report import render_html
from dfmm.evaluation.slices import (
    FEWEST,
    check_columns,
    choose_slices,
    cut_slices,
    describe_videos,
    describe_worst,
    list_slices,
    measure_slices,
    subtract_intervals,
    widen_interval,
)
from dfmm.manifest import ManifestError

from .test_report import Reader, make_results

EVIL = "<script>"


def draw_scores(seed: int = 0, *, alarms: float = 0.1, count: int = 400) -> pd.DataFrame:
    """Reals and fakes, a tenth of either wrong; of the reals of one group in four, as many as asked."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {"label": np.arange(count) % 2, "group": np.array(["a", "b", "c", "d"])[np.arange(count) // 2 % 4]}
    )
    table["method"] = np.where(table["label"] == 1, np.where(rng.random(count) < 0.95, "swap", "rare"), "real")
    wrong = rng.random(count) < np.where((table["label"] == 0) & (table["group"] == "d"), alarms, 0.1)
    table["score"] = np.where(wrong ^ (table["label"] == 1), 0.75, 0.25) + rng.uniform(-0.2, 0.2, count)
    return table.assign(identities=[f"p{row}" for row in range(count)], video_id=[f"v{row}" for row in range(count)])


def test_numbers_of_a_slice_are_those_of_its_videos() -> None:
    scored = draw_scores(alarms=0.5)
    slices = measure_slices(scored, ["group", "method"], threshold=0.5, replicates=100)
    rows = {(row["column"], row["slice"]): row for row in list_slices(slices)}
    theirs = scored[scored["group"] == "d"]
    reals = theirs[theirs["label"] == 0]
    row = rows["group", "d"]
    assert (row["n"], row["n_fake"]) == (100, 50)
    assert row["fpr"]["value"] == pytest.approx((reals["score"] >= 0.5).mean())
    assert row["fnr"]["value"] == pytest.approx((theirs.loc[theirs["label"] == 1, "score"] < 0.5).mean())
    assert 0 < row["fpr"]["low"] < row["fpr"]["value"] < row["fpr"]["high"] < 1
    assert not row["against_all"]
    swap = rows["method", "swap"]
    assert swap["against_all"]
    assert swap["fpr"]["value"] is None
    assert swap["auc"]["value"] > 0.7
    assert rows["method", "rare"]["small"] == ["auc", "fpr", "fnr"]
    assert 0 < rows["method", "rare"]["n"] < FEWEST
    assert slices.worst.column == "group"
    assert (slices.worst.slice, slices.worst.measure, slices.worst.sure) == ("d", "fpr", True)
    alarms = slices.columns["group"].false_alarms
    assert alarms.most == "d"
    assert alarms.sure
    assert slices.columns["method"].false_alarms is None
    assert describe_worst(slices).startswith("Worst is group d: false alarms 0.")


def test_the_worst_of_many_equal_slices_is_not_sure() -> None:
    """Each of ten data sets has a worst slice of 36; at 95 % for all of them together hardly one is called sure."""
    sure = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        scored = draw_scores(seed, count=1000)
        scored["group"] = rng.integers(0, 12, 1000).astype(str)
        scored["identities"] = ""
        slices = measure_slices(scored, ["group"], threshold=0.5, replicates=100)
        assert slices.comparisons == 36
        sure += slices.worst.sure
        assert slices.worst.sure == (not describe_worst(slices).startswith("No slice is surely worse"))
    assert sure <= 1


def test_a_slice_of_all_reals_is_not_compared_with_all_fakes() -> None:
    """Its AUC and the rest's are one number, of the same videos: that would be no worse than itself, and the worst."""
    scored = draw_scores()
    scored["method"] = np.where(scored["label"] == 1, "swap", "real")
    slices = measure_slices(scored, ["method"], threshold=0.5, replicates=100)
    assert (slices.comparisons, slices.worst) == (0, None)
    assert describe_worst(slices).startswith("No slice can be compared")
    scored.loc[scored.index[scored["label"] == 1][:100], "method"] = "mask"
    slices = measure_slices(scored, ["method"], threshold=0.5, replicates=100)
    assert slices.comparisons == 4  # AUC and misses of two methods


def test_small_slices_are_never_the_worst() -> None:
    scored = draw_scores(count=240)
    few = scored.index[scored["label"] == 0][: FEWEST - 1]
    scored["group"] = "most"
    scored.loc[few, ["group", "score"]] = ["few", 0.99]
    slices = measure_slices(scored, ["group"], threshold=0.5, replicates=100)
    row = next(row for row in list_slices(slices) if row["slice"] == "few")
    assert row["fpr"]["value"] == 1
    assert "fpr" in row["small"]
    assert slices.worst.slice != "few"
    assert slices.columns["group"].false_alarms is None


def test_numbers_are_cut_into_bands_and_nothing_is_lost() -> None:
    values = pd.Series([*np.linspace(0, 1, 30), np.nan, 5.0, 5.0])
    slices = cut_slices(values)
    assert len(slices.cat.categories) == 4
    assert slices.value_counts().drop("unknown").between(10, 12).all()
    assert slices[30] == "unknown"
    assert slices[31] == slices[32]
    assert list(cut_slices(pd.Series(["b", "", "a"]))) == ["b", "unnamed", "a"]
    assert list(cut_slices(pd.Series([25.0, 30.0, 25.0]))) == ["25", "30", "25"]
    assert list(cut_slices(pd.Series([None, "a"], dtype=object))) == ["unknown", "a"]
    assert set(cut_slices(pd.Series([np.nan, np.nan]))) == {"unknown"}


def test_an_unknown_column_is_an_error_that_names_those_there_are() -> None:
    table = pd.DataFrame(columns=["video_id", "path", "method", "gender"])
    check_columns(["gender", "face_size"], table)
    with pytest.raises(ManifestError, match=r"no column gendr .* there are method, gender, .* face_size, resolution"):
        check_columns(["method", "gendr"], table)
    with pytest.raises(ManifestError, match="no column gendr"):
        choose_slices(["gendr"], table, table.drop(columns="gender"))
    assert choose_slices(["gender", "method", "codec"], table, table.drop(columns="gender")) == ["method", "codec"]


def test_what_extraction_knows_is_told_in_words() -> None:
    videos = pd.DataFrame({"video_id": ["a", "b", "gone"], "faces": [1, 3, 0], "duration": [1.0, 2.0, 3.0]})
    features = pd.DataFrame(
        {"width": [640.0, np.nan], "height": [360.0, np.nan], "face_size": [0.4, np.nan], "duration": [9.0, 9.0],
         "video_codec": ["h264", None], "has_audio": [0.0, 1.0]}, index=["a", "b"]
    )  # fmt: skip
    found = describe_videos(videos, features)
    assert list(found["resolution"].fillna("–")) == ["640×360", "–", "–"]
    assert list(found["has_sound"].fillna("–")) == ["no sound", "sound", "–"]
    assert list(found["several_faces"]) == ["one or none", "several", "one or none"]
    assert list(found["duration"]) == [1.0, 2.0, 3.0]  # the manifest's own column stays
    assert list(found["codec"].fillna("–")) == ["h264", "–", "–"]


def test_a_difference_has_the_interval_of_both() -> None:
    first, second = ({"value": 0.5, "low": 0.4, "high": 0.6}, {"value": 0.2, "low": 0.2, "high": 0.2})
    assert subtract_intervals(first, second) == pytest.approx({"value": 0.3, "low": 0.2, "high": 0.4})
    both = subtract_intervals(first, first)
    assert both == pytest.approx({"value": 0, "low": -0.1 * 2**0.5, "high": 0.1 * 2**0.5})
    assert widen_interval(first, 1) == pytest.approx(first)
    assert widen_interval(first, 10)["high"] == pytest.approx(0.5 + 0.1 * 2.807 / 1.960, abs=1e-3)


def test_the_page_shows_slices_and_escapes_their_names() -> None:
    report, scores, _ = make_results()
    table = draw_scores(alarms=0.6).replace({"group": {"d": EVIL}})
    slices = measure_slices(table, ["group", "method"], threshold=0.5, replicates=100)
    page = Reader(render_html(report.model_copy(update={"slices": slices}), scores, []))
    assert f"Worst is group {EVIL}: false alarms" in page.text
    assert f"False alarms by group: most in {EVIL}" in page.text
    assert EVIL.strip("<>") not in [tag for tag, _ in page.tags]
