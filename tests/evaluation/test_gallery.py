"""The worst errors are opened, told in words and pictures, and left out with a reason where they are gone."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dfmm.evaluation import gallery as rooms
from dfmm.evaluation.contents import Report
from dfmm.evaluation.evaluate import evaluate_run
from dfmm.evaluation.gallery import (
    Gallery,
    choose_window,
    draw_errors,
    draw_scores,
    find_neighbours,
    open_gallery,
    show_case,
)
from dfmm.evaluation.report import write_report
from dfmm.model import MultimodalModel, save_model
from dfmm.runs import Run, open_run
from dfmm.settings import Settings

from ..conftest import change

Evaluated = tuple[Report, pd.DataFrame, pd.DataFrame]


@pytest.fixture(scope="module")
def run(tiny: Settings, manifest: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose model has learnt nothing."""
    run = open_run(tmp_path_factory.mktemp("runs") / "tiny", tiny)
    run.checkpoint.parent.mkdir(parents=True)
    save_model(MultimodalModel(tiny), tiny, run.checkpoint, prior=0.5, epoch=1)
    return run


@pytest.fixture(scope="module")
def evaluated(run: Run) -> Evaluated:
    """Its evaluation, in which everything is called wrong: there are errors of both kinds to open."""
    report, videos, windows = evaluate_run(run, "test", progress=False)
    return report, videos.assign(predicted=1 - videos["label"]), windows


@pytest.fixture(scope="module")
def opened(run: Run, evaluated: Evaluated) -> Gallery:
    return open_gallery(run, *evaluated, each=2, progress=False)


def test_the_worst_of_both_kinds_are_opened_and_explained_by_every_head(opened: Gallery, evaluated: Evaluated) -> None:
    videos = evaluated[1]
    misses, alarms = opened.select(1), opened.select(0)
    assert [case.video["label"] for case in opened.cases] == [1, 1, 0, 0]
    assert misses[0].video["score"] == videos.loc[videos["label"] == 1, "score"].min()
    assert alarms[0].video["score"] == videos.loc[videos["label"] == 0, "score"].max()
    for case in opened.cases:
        assert set(case.explanations) == {"video_fake", "audio_fake", "joint"}
        score = float(case.explanations["joint"].odds.sigmoid())
        wrong = case.windows["score"].min() if case.video["label"] else case.windows["score"].max()
        assert score == pytest.approx(wrong, abs=1e-4)  # what is shown is what was scored
    assert not opened.gone


def test_of_a_fake_forged_in_part_a_forged_window_is_shown() -> None:
    windows = pd.DataFrame({"score": [0.1, 0.3, 0.4, np.nan], "label": [0, 1, 1, 1]})
    assert choose_window(windows, 1)["score"] == 0.3
    assert choose_window(windows, 0)["score"] == 0.1
    assert choose_window(windows.assign(label=-1), 1)["score"] == 0.1
    assert choose_window(windows.assign(score=np.nan), 1) is None


def test_a_case_is_shown_whole(opened: Gallery, manifest: pd.DataFrame, tiny: Settings) -> None:
    nearest = find_neighbours(opened, manifest, tiny, count=3, progress=False)
    assert set(nearest["nearest"]) <= set(manifest.loc[manifest["split"] == "train", "video_id"])
    assert (nearest.groupby("video_id").size() == 3).all()
    case = opened.cases[0]
    evil = case.video.copy()
    evil["method"] = "<script>alert(1)</script>"
    evil["audio_segments"] = "0.25-0.50"
    player, *drawn = show_case(
        rooms.Case(evil, case.windows, case.sample, case.explanations), opened, nearest, manifest, tiny
    )
    shown = player._repr_html_()
    assert "<video" in shown
    assert "sound forged at 0.25–0.50 s" in shown
    assert "the picture adds" in shown
    assert "<script>" not in shown
    titles = [figure.get_suptitle() or figure.axes[0].get_title() for figure in drawn]
    assert len(titles) == 4 + bool(opened.report.evidence.pieces)
    assert all("Missed fake" in title for title in titles)
    bands = [patch for patch in drawn[2].axes[0].patches if patch.get_label() == "forged"]
    assert [(patch.get_x(), patch.get_width()) for patch in bands] == [(0.25, 0.25)]


def test_where_windows_are_dense_found_stretches_are_drawn_with_the_true_ones(opened: Gallery, tiny: Settings) -> None:
    case = opened.cases[0]
    rows = {"video_id": case.video["video_id"], "face": 0, "start": [0.0, 0.3, 0.6], "score": [0.1, 0.9, 0.9]}
    timeline = pd.DataFrame(rows).assign(end=lambda table: table["start"] + 0.3)
    timeline = timeline.assign(video_fake_score=0.2, audio_fake_score=0.3)
    dense = replace(opened, timeline=timeline, settings=change(tiny, evaluate={"stride": 0.3}))
    figure = draw_scores(case, dense)
    assert {"forged", "found"} <= {text.get_text() for text in figure.legends[0].get_texts()}
    others = replace(dense, timeline=timeline.assign(video_id="another"))
    assert "found" not in {text.get_text() for text in draw_scores(case, others).legends[0].get_texts()}


@pytest.mark.usefixtures("rough_figures")
def test_the_report_shows_the_worst_errors(run: Run, evaluated: Evaluated, tmp_path: Path) -> None:
    pictures, gone = draw_errors(run, *evaluated)
    assert [one.name for one in pictures] == [
        f"{kind}_1_{what}" for kind in ("missed_fake", "false_alarm") for what in ("looked", "heard")
    ]
    assert not gone
    page = write_report(*evaluated, tmp_path, opened=pictures, gone=gone).read_text(encoding="utf-8")
    assert page.count("speaks for a forgery to the picture") == 2
    assert (tmp_path / "figures" / "missed_fake_1_looked.png").is_file()
    assert 'alt="Missed fake' in page


def test_without_any_error_nothing_is_opened(
    run: Run, evaluated: Evaluated, manifest: pd.DataFrame, tiny: Settings
) -> None:
    report, videos, windows = evaluated
    right = videos.assign(predicted=videos["label"])
    for scores in (right, right[right["label"] == 0], videos[videos["label"] == 1]):
        opened = open_gallery(run, report, scores, windows, progress=False)
        assert {case.video["label"] for case in opened.cases} == (
            {1} if (scores["predicted"] != scores["label"]).any() else set()
        )
        nearest = find_neighbours(opened, manifest, tiny, progress=False)
        assert nearest.empty == (not opened.cases)
    assert draw_errors(run, report, right, windows) == ([], {})


@pytest.mark.usefixtures("empty_pictures")
def test_a_report_is_written_where_videos_data_or_model_are_gone(
    tiny: Settings, evaluated: Evaluated, run: Run, tmp_path: Path
) -> None:
    shutil.copytree(tiny.data.root, tmp_path / "data")
    moved = change(tiny, data={"root": str(tmp_path / "data"), "cache": str(tmp_path / "cache")})
    other = open_run(tmp_path / "run", moved)
    other.checkpoint.parent.mkdir(parents=True)
    shutil.copy(run.checkpoint, other.checkpoint)
    videos = evaluated[1]
    worst = videos[videos["label"] == 0].sort_values("score").iloc[-1]
    (tmp_path / "data" / worst["path"]).unlink()
    pictures, gone = draw_errors(other, *evaluated)
    assert [one.name for one in pictures] == ["missed_fake_1_looked", "missed_fake_1_heard"]
    assert set(gone) == {worst["video_id"]}
    page = write_report(*evaluated, tmp_path / "page", opened=pictures, gone=gone).read_text(encoding="utf-8")
    assert f"{worst['video_id']} cannot be shown: " in page
    for lost in (tmp_path / "data" / "test", tmp_path / "data"):
        shutil.rmtree(lost)
        pictures, gone = draw_errors(other, *evaluated)
        assert not pictures
        assert gone
    shutil.rmtree(other.checkpoint.parent)
    assert "no checkpoint" in str(draw_errors(other, *evaluated)[1])
