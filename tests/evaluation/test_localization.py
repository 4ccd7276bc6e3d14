"""From scores over time to stretches: what is planted is found, and every instant is looked at."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dfmm.cli import main
from dfmm.dataset.loaders import make_dense_loader
from dfmm.evaluation import evaluate_run, measure_timeline, score_files, trace_scores
from dfmm.evaluation.contents import read_report
from dfmm.evaluation.kept import read_timeline
from dfmm.evaluation.localization import cut_runs, find_truth, list_stretches, propose_stretches
from dfmm.files import write_json
from dfmm.manifest import write_manifest
from dfmm.model import load_model
from dfmm.runs import Run, open_run
from dfmm.settings import Settings, load_settings
from dfmm.training.trainer import Trainer

from ..conftest import change

STRIDE, SECONDS = 0.16, 0.64


def plant(*stretches: tuple[float, float], length: float = 8.0, face: int = 0, seed: int = 0) -> pd.DataFrame:
    """Return dense windows of a clip whose picture is forged in places: a window is as suspicious as it is forged."""
    last = length - SECONDS
    starts = np.append(np.arange(0, last - 1e-9, STRIDE), last)
    shares = sum(
        (np.minimum(starts + SECONDS, end) - np.maximum(starts, start)).clip(0) / SECONDS for start, end in stretches
    ) + np.zeros(len(starts))
    scores = (0.05 + 0.9 * shares + np.random.default_rng(seed).normal(0, 0.02, len(starts))).clip(0, 1)
    facts = {"video_id": "a", "face": face, "start": starts, "end": starts + SECONDS}
    return pd.DataFrame(facts | {"score": scores, "video_fake_score": scores, "audio_fake_score": 0.1})


def make_row(label: int = 1, **values: object) -> dict[str, object]:
    unknown = {"video_fake": -1, "audio_fake": -1, "in_sync": -1, "video_segments": "", "audio_segments": ""}
    return {"label": label, **unknown, **values}


@pytest.mark.parametrize(
    "stretches", [[(2.0, 3.5)], [(0.0, 1.2)], [(6.5, 8.0)], [(1.0, 2.0), (4.0, 5.7)], [(0.0, 8.0)]]
)
def test_what_is_planted_is_found(stretches: list[tuple[float, float]]) -> None:
    curves = trace_scores(plant(*stretches), STRIDE)
    told = list_stretches(curves)
    for stream in ("joint", "video_fake"):
        found = [(one["start"], one["end"]) for one in told if one["stream"] == stream]
        np.testing.assert_allclose(found, stretches, atol=STRIDE)
    assert not [one for one in told if one["stream"] == "audio_fake"]
    called = [one["stream"] for one in list_stretches(curves, 0.999)]  # by the threshold of windows, and no lower one
    assert called == ["video_fake"] * len(stretches)
    proposals = propose_stretches(curves["joint"].to_numpy(), np.append(curves["start"], 8.0))
    assert (np.diff(proposals[:, 2]) <= 0).all()
    surest = proposals[: len(stretches)]
    np.testing.assert_allclose(surest[surest[:, 0].argsort(), :2], stretches, atol=2 * STRIDE)


def test_where_nothing_is_forged_nothing_is_told_and_no_proposal_is_sure() -> None:
    curves = trace_scores(plant(), STRIDE)
    assert list_stretches(curves) == []
    assert propose_stretches(curves["joint"].to_numpy(), np.append(curves["start"], 8.0))[:, 2].max() < 0.2


def test_a_curve_goes_on_to_the_end_and_stops_at_a_gap() -> None:
    windows = plant((2.0, 5.0))
    blind = windows.assign(video_fake_score=windows["video_fake_score"].mask(windows["start"].between(2.5, 3.8)))
    curves = trace_scores(blind, STRIDE)
    assert curves["start"].iloc[0] == 0
    assert curves["end"].iloc[-1] == 8
    np.testing.assert_allclose(curves["start"][1:], curves["end"][:-1])
    middles = (curves["start"] + curves["end"]) / 2
    gap = curves["video_fake"].isna()
    assert gap.any()
    assert middles[gap].between(2.5 + SECONDS - STRIDE, 3.8).all()  # what no window shows that has such a score
    assert not curves["joint"].isna().any()
    found = [(one["start"], one["end"]) for one in list_stretches(curves) if one["stream"] == "video_fake"]
    assert len(found) == 2
    assert found[0][1] <= middles[gap].min() < middles[gap].max() <= found[1][0]
    edge = plant((0.0, 3.0))
    edge["score"] = edge["score"].mask(edge["start"].between(2.2, 3.8))
    known = trace_scores(edge, STRIDE)["joint"].dropna()
    assert ((known > 0.85) | (known < 0.15)).all()  # and beside the gap it does not lean to what is beyond it


def test_an_instant_is_as_suspicious_as_the_window_around_it_and_of_several_faces_the_worst() -> None:
    windows = plant((2.0, 4.0))
    curves = trace_scores(windows, STRIDE)
    middles, centres = ((table["start"] + table["end"]) / 2 for table in (curves, windows))
    inside = middles.between(centres.min(), centres.max())
    np.testing.assert_allclose(curves["joint"][inside], np.interp(middles[inside], centres, windows["score"]))
    assert set(curves["joint"][middles < centres.min()]) == {windows["score"].iloc[0]}
    assert set(curves["joint"][middles > centres.max()]) == {windows["score"].iloc[-1]}
    other = plant((6.0, 7.0), face=1)
    both = trace_scores(pd.concat([windows, other]), STRIDE)["joint"]
    np.testing.assert_allclose(both, np.maximum(curves["joint"], trace_scores(other, STRIDE)["joint"]))


def test_runs_end_where_the_line_crosses_the_level() -> None:
    values, edges = np.array([0.0, 1.0, 1.0, np.nan, 0.8]), np.arange(6.0)
    np.testing.assert_allclose(cut_runs(values, edges, 0.5), [[1.0, 3.0], [4.0, 5.0]])
    np.testing.assert_allclose(cut_runs(values, edges, 0.25), [[0.75, 3.0], [4.0, 5.0]])
    assert len(cut_runs(np.full(5, 0.2), edges, 0.5)) == 0
    assert len(cut_runs(np.full(5, np.nan), edges, 0.5)) == 0


def test_the_truth_is_what_the_manifest_names() -> None:
    whole, part = [[1.0, 9.0]], [[2.0, 3.0]]
    cases = [  # row; picture, sound, all streams
        (make_row(0, video_fake=0, audio_fake=0, in_sync=1), [], [], []),
        (make_row(video_fake=1, audio_fake=0, video_segments="2-3"), part, [], part),
        (make_row(video_fake=1, audio_fake=0), whole, [], whole),
        (make_row(video_fake=1, audio_fake=1, video_segments="2-3", audio_segments="2.5-4|8-12"), part,
         [[2.5, 4.0], [8.0, 9.0]], [[2.0, 4.0], [8.0, 9.0]]),
        (make_row(video_fake=1, audio_fake=-1, video_segments="2-3"), part, None, None),
        (make_row(video_fake=1, audio_fake=-1), whole, None, whole),
        (make_row(), None, None, whole),
        (make_row(video_fake=0, audio_fake=0, in_sync=0), [], [], whole),
        (make_row(video_fake=1, audio_fake=0, in_sync=0, video_segments="2-3"), part, [], whole),
        (make_row(video_fake=1, audio_fake=0, video_segments="9.5-12"), [], [], []),  # after what was scored
    ]  # fmt: skip
    for row, *expected in cases:
        found = find_truth(row, 1.0, 9.0)
        names = ("video_fake", "audio_fake", "joint")
        assert [None if found[name] is None else found[name].tolist() for name in names] == expected, row


def test_a_split_is_measured_stream_by_stream() -> None:
    rows = [
        make_row(video_fake=1, audio_fake=0, in_sync=1, video_segments="2-3.5"),
        make_row(video_fake=1, audio_fake=0, in_sync=1),
        make_row(0, video_fake=0, audio_fake=0, in_sync=1),
        make_row(video_fake=-1, audio_fake=-1, in_sync=-1),
    ]
    videos = pd.DataFrame(rows).assign(video_id=list("abcd"), status="ok", identities=list("abcd"))
    planted = [plant((2.0, 3.5)), plant((0.0, 8.0)), plant(), plant((0.0, 8.0), seed=1)]
    timeline = pd.concat([one.assign(video_id=name) for one, name in zip(planted, "abcd", strict=True)])
    found = measure_timeline(timeline, videos, STRIDE, replicates=100)
    assert found["stride"] == STRIDE
    assert list(found["streams"]) == ["joint", "video_fake"]  # no sound is forged
    joint, picture = found["streams"]["joint"], found["streams"]["video_fake"]
    assert (joint["videos"], joint["segments"], joint["whole"]) == (4, 3, 2)
    assert (picture["videos"], picture["segments"], picture["whole"]) == (3, 2, 1)  # of the last nobody knows
    assert joint["ap"]["0.5"]["value"] == picture["ar"]["10"]["value"] / picture["ar"]["10"]["value"] == 1
    assert joint["official"]["ap"]["0.5"] == pytest.approx(2 / 3)
    assert (found["partly"]["video_fake"]["videos"], found["partly"]["video_fake"]["segments"]) == (2, 1)
    failed = videos.assign(status=["failed", "ok", "ok", "ok"])
    assert measure_timeline(timeline, failed, STRIDE, replicates=100)["streams"]["joint"]["segments"] == 2
    reals = videos[videos["label"] == 0]
    assert measure_timeline(timeline, reals, STRIDE, replicates=100) is None
    json.dumps(found)


# On a small run


@pytest.fixture(scope="module")
def manifest(manifest: pd.DataFrame) -> pd.DataFrame:
    """Of the videos to train on half: those that are forged in stretches, one whose sound is late, and reals."""
    train = manifest[manifest["split"] == "train"]
    partly, late = train["video_segments"] != "", train["method"] == "desync"
    chosen = pd.concat([train[partly | late], train[train["label"] == 0].head(3)])
    return pd.concat([chosen, manifest[manifest["split"] != "train"]], ignore_index=True)


@pytest.fixture(scope="module")
def dense(tiny: Settings, manifest: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    file = write_manifest(manifest, tmp_path_factory.mktemp("few") / "manifest.csv")
    return change(tiny, data={"manifest": str(file)}, evaluate={"stride": 0.1}, train={"epochs": 1})


@pytest.fixture(scope="module")
def run(dense: Settings, manifest: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = open_run(tmp_path_factory.mktemp("runs") / "dense", dense)
    Trainer(dense, manifest, run, progress=False).fit()
    return run


def test_dense_windows_cover_every_instant_and_the_last_ends_with_the_video(
    dense: Settings, manifest: pd.DataFrame
) -> None:
    loader = make_dense_loader(manifest, dense, split="test", progress=False)
    batches = list(loader)
    assert all(len(batch["video_id"]) <= dense.evaluate.batch_size for batch in batches)
    samples = pd.DataFrame(
        {name: np.concatenate([batch[name] for batch in batches]) for name in ("video_id", "window", "start")}
    )
    assert set(samples["video_id"]) == set(manifest.loc[manifest["split"] == "test", "video_id"])
    for name, windows in samples.groupby("video_id"):
        starts, length = windows["start"].to_numpy(), loader.dataset.tracks[name].duration
        assert windows["window"].tolist() == list(range(len(windows)))
        assert starts[0] == 0
        assert starts[-1] + dense.window_seconds == pytest.approx(length)
        np.testing.assert_allclose(np.diff(starts)[:-1], 0.1)
        assert 0 < np.diff(starts)[-1] <= 0.1 + 1e-9


def test_a_dense_window_is_the_window_that_starts_there(dense: Settings, manifest: pd.DataFrame) -> None:
    from dfmm.dataset.dataset import MultimodalDataset

    some = manifest[manifest["split"] == "test"].head(2)
    windows, at = MultimodalDataset(some, dense, stride=0.1, progress=False), 0.4
    number = int(windows.counts[0]) + 4  # of the second video, that starts then
    one, other = windows[number], MultimodalDataset(some, dense, sampling=at, progress=False)[1]
    assert one["video_id"] == other["video_id"]
    assert one["start"] == pytest.approx(at)
    assert (one["frames"] == other["frames"]).all()
    assert (one["log_mel"] == other["log_mel"]).all()


@pytest.mark.usefixtures("rough_figures")
def test_an_evaluation_keeps_its_scores_and_tells_the_stretches_beside_them(
    run: Run, dense: Settings, manifest: pd.DataFrame, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    report, videos, windows = evaluate_run(run, "train", progress=False)
    folder = run / "evaluations" / "sample-train"
    timeline = read_timeline(folder)
    assert read_report(folder / "report.json") == report
    assert set(timeline["video_id"]) == set(videos["video_id"])
    assert (timeline["end"] > timeline["start"]).all()
    joint = report.localization.streams["joint"]
    train = manifest[manifest["split"] == "train"]
    partly = (train["video_segments"] != "").sum()
    assert partly
    assert (joint.segments, joint.segments - joint.whole) == (train["label"].sum(), partly)
    assert main(["evaluate", str(run.path), "--split", "train"]) == 0
    said, page = capsys.readouterr().out, (folder / "report.html").read_text()
    assert "ap of stretches" in said
    assert "Forged stretches" in page
    assert (
        len(list((folder / "figures").glob("stretches_*.png")))
        == train[train["video_segments"] != ""]["method"].nunique()
    )

    settings = load_settings(run / "settings.yaml")
    try:
        write_settings(run, change(settings, evaluate={"stride": None}))
        plain, same, others = evaluate_run(run, "train", progress=False)
    finally:
        write_settings(run, settings)
    assert plain.localization is None
    assert not (folder / "timeline.csv").exists()
    pd.testing.assert_frame_equal(same, videos)
    pd.testing.assert_frame_equal(others, windows)
    assert report.model_copy(update={"localization": None, "origin": plain.origin}) == plain


def write_settings(run: Run, settings: Settings) -> None:
    """Change the settings of a run as a person does."""
    write_json(settings.model_dump(), run / "settings.yaml")  # JSON is YAML


def test_loose_files_are_told_where_they_are_forged(run: Run, dense: Settings, tmp_path: Path) -> None:
    model, *_ = load_model(run.checkpoint)
    clip = sorted(Path(dense.data.root).glob("test/*.mp4"))[0]
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    good, bad = score_files([clip, tmp_path / "broken.mp4"], model, dense, progress=False)
    assert bad["status"] == "failed"
    assert bad["stretches"] == []
    assert all(
        0 <= one["start"] < one["end"] <= good["seconds"] and one["confidence"] >= 0.5 for one in good["stretches"]
    )
    json.dumps(good)
    (plain,) = score_files([clip], model, change(dense, evaluate={"stride": None}), progress=False)
    assert plain == {name: value for name, value in good.items() if name != "stretches"}
