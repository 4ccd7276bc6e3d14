"""Scores of a detector that is not ours: read, turned, calibrated, evaluated and compared; or told what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from dfmm.cli import main
from dfmm.dataset.windows import Window, label_window
from dfmm.evaluation import compare_runs, describe_import, evaluate_run, import_scores, read_evaluation
from dfmm.evaluation.foreign import ScoresError, fit_platt, fit_scale, refuse_unused
from dfmm.evaluation.scorefile import label_rows, read_scores
from dfmm.files import write_whole
from dfmm.runs import Run, RunError
from dfmm.settings import Settings, save_settings, validate_settings

from ..conftest import change

TEST, VAL, MISSING = 80, 60, 30


def make_data(root: Path, test: int, val: int) -> pd.DataFrame:
    """Write a manifest of videos that nobody has; return what a detector gave them, the probability of a real one."""
    names = [f"{split}/{number:04}" for split, count in (("test", test), ("val", val)) for number in range(count)]
    label = np.arange(len(names)) % 2
    rows = {"path": [f"{name}.mp4" for name in names], "split": [name.split("/")[0] for name in names], "label": label}
    people = [f"{name.split('/')[0]} {number // 4}" for number, name in enumerate(names)]
    method = np.where(label == 0, "real", np.where(np.arange(len(names)) % 4 == 1, "swap", "lips"))
    table = pd.DataFrame(rows | {"identities": people, "method": method, "source": "web"})
    table.to_csv(root / "manifest.csv", index=False)
    odds = 4 * (np.random.default_rng(0).normal(size=len(table)) + (1 - 2 * table["label"]))  # twice as sure as it may
    return table[["path", "split", "label"]].assign(score=1 / (1 + np.exp(-odds)))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def scores(root: Path) -> pd.DataFrame:
    return make_data(root, TEST, VAL)


@pytest.fixture
def settings(root: Path, scores: pd.DataFrame) -> Settings:
    return validate_settings({"data": {"root": str(root)}, "evaluate": {"replicates": 100, "slices": []}})


def write(table: pd.DataFrame, folder: Path, name: str = "theirs.csv") -> Path:
    table.to_json(folder / name, orient="records", lines=True) if name.endswith("l") else table.to_csv(
        folder / name, index=False
    )
    return folder / name


def make_run(folder: Path, settings: Settings) -> Run:
    run = Run(folder)
    folder.mkdir(parents=True)
    save_settings(settings, run / "settings.yaml")
    return run


def test_a_thousand_scores_that_are_high_for_reals_become_a_run(settings: Settings, tmp_path: Path) -> None:
    scores = make_data(tmp_path, 1000, 200).drop(range(100, 100 + MISSING))
    settings = change(settings, data={"root": str(tmp_path)}, evaluate={"slices": ["method"]})
    run = make_run(tmp_path / "theirs", settings)
    facts = import_scores(write(scores[["path", "score"]], tmp_path), run, settings)
    evaluate_run(run)
    report, videos, windows = read_evaluation(run)
    said = describe_import(facts, report)
    assert said[0].startswith("theirs.csv: 1170 rows, a score a video; reals are high (AUC 0.")
    assert "30 of 1000 videos have no score: test/0100, test/0101," in said[-1]
    assert (report.coverage.scored, report.coverage.unscored) == (1000 - MISSING, MISSING)
    assert report.coverage.reasons["test/0100"] == "no row in theirs.csv"
    test = scores[scores["split"] == "test"]
    assert report.video["auc"]["value"] == pytest.approx(roc_auc_score(test["label"], -test["score"]), abs=1e-12)
    assert report.foreign.polarity == "real_high"
    assert (report.threshold.chosen_on, report.foreign.reals, report.foreign.fakes) == ("val", 100, 100)
    assert report.prior == 0.5
    assert report.seen.videos == report.unseen.videos == 0  # of what it was trained on, nobody knows
    # Their numbers are surer than they may be: what validation taught is nearer to the truth.
    assert report.calibration["evidence"]["brier"] < report.calibration["network"]["brier"]
    assert sorted(report.methods) == ["lips", "swap"]
    assert [one.slice for one in report.slices.columns["method"].slices] == ["lips", "real", "swap"]
    assert (len(videos), len(windows), report.window["n"]) == (1000, 0, 0)


def test_imported_runs_are_compared_on_the_same_videos(
    scores: pd.DataFrame, settings: Settings, tmp_path: Path
) -> None:
    runs = []
    for name, noise in (("good", 0.0), ("bad", 5.0)):
        table = scores.assign(score=scores["score"] + noise * np.random.default_rng(1).normal(size=len(scores)))
        runs.append(make_run(tmp_path / name, settings))
        import_scores(write(table[["path", "score"]], tmp_path), runs[-1], settings, polarity="real_high")
        evaluate_run(runs[-1])
    found = compare_runs(runs)
    assert found["differences"][0]["metrics"]["auc"]["difference"] > 0
    assert (found["settings"], found["seeds"]) == ({}, [])  # how they were made nobody knows
    with pytest.raises(RunError, match="import those of other"):
        evaluate_run(runs[0], manifest="other.csv")


def test_the_way_round_is_said_or_proven_and_never_looked_up_on_test(
    scores: pd.DataFrame, settings: Settings, tmp_path: Path, said: list[str]
) -> None:
    run, test = make_run(tmp_path / "theirs", settings), scores[scores["split"] == "test"][["path", "score"]]
    with pytest.raises(ScoresError, match="no validation videos of both labels, and test is not to be asked: say"):
        import_scores(write(test, tmp_path), run, settings)
    noise = scores.assign(score=np.random.default_rng(2).uniform(size=len(scores)))
    with pytest.raises(ScoresError, match="Validation does not tell"):
        import_scores(write(noise[["path", "score"]], tmp_path), run, settings)
    import_scores(write(test, tmp_path), run, settings, polarity="fake_high")
    report, *_ = evaluate_run(run)
    assert report.video["auc"]["value"] < 0.5  # as it was said
    assert report.threshold.chosen_on == "nothing"
    assert "no validation videos" in report.threshold.doubts[0]
    assert read_evaluation(run) is not None
    import_scores(write(test, tmp_path), run, settings, polarity="real_high")
    assert read_evaluation(run) is None  # the same table the other way round: what was evaluated is not what it says
    facts = import_scores(write(scores[["path", "score"]], tmp_path), run, settings, polarity="fake_high")
    assert "though validation shows real_high" in facts.known
    assert any("validation surely shows real_high" in line for line in said)


def test_numbers_of_any_size_keep_their_order(scores: pd.DataFrame, settings: Settings, tmp_path: Path) -> None:
    run, test = make_run(tmp_path / "theirs", settings), scores["split"] == "test"
    far = scores.assign(score=1000 * (0.5 - scores["score"]))  # log-odds that no float keeps apart as probabilities
    for table in (far, far[test]):
        import_scores(write(table[["path", "score"]], tmp_path), run, settings, polarity="fake_high")
        report, *_ = evaluate_run(run)
        expected = roc_auc_score(far.loc[test, "label"], far.loc[test, "score"])
        assert report.video["auc"]["value"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda t: pd.concat([t, t.head(2)]), r"4 of 142 rows \(line 2: test/0000, .* are of one video twice or more"),
        (lambda t: t.assign(path=t["path"].replace("test/0003.mp4", "x/9.mp4")), r"1 of 140 rows \(line 5: x/9.mp4\)"),
        (lambda t: t.assign(score=t["score"].mask(t.index == 2)), r"line 4: nothing\) in the column score"),
        (lambda t: t.assign(score=t["score"].astype(object).mask(t.index == 2, "high")), r"line 4: 'high'\)"),
        (lambda t: t.assign(score=t["score"].mask(t.index == 2, np.inf)), "are no finite numbers"),
        (lambda t: t.assign(score=True), "are no finite numbers"),
        (
            lambda t: t.rename(columns={"score": "p"}),
            "has no column score; it has path, p: name the right one with --sc",
        ),
        (lambda t: t.rename(columns={"path": "clip"}), "has no column video_id or path; .* with --video"),
        (lambda t: t.head(0), "has no rows"),
    ],
)
def test_a_bad_table_is_told_what_is_wrong(spoil, why: str, root: Path, scores: pd.DataFrame, tmp_path: Path) -> None:
    manifest = scores.assign(video_id=scores["path"].str[:-4])
    with pytest.raises(ScoresError, match=why):
        read_scores(write(spoil(scores[["path", "score"]]), tmp_path), manifest, root)


def test_what_is_wrong_is_found_where_the_message_says(root: Path, scores: pd.DataFrame, tmp_path: Path) -> None:
    table = scores[["path", "score"]].assign(score=scores["score"].mask(scores.index == 2))
    manifest = scores.assign(video_id=scores["path"].str[:-4])
    with pytest.raises(ScoresError, match=r"1 of 140 rows \(line 3: nothing\)"):
        read_scores(write(table, tmp_path, "theirs.jsonl"), manifest, root)
    for name in ("score", "video"):
        with pytest.raises(ScoresError, match=f"has no column p; it has path, score: .* with --{name}"):
            read_scores(write(table, tmp_path), manifest, root, **{name: "p"})


def test_videos_are_known_by_any_of_their_names(root: Path, scores: pd.DataFrame, tmp_path: Path) -> None:
    manifest = scores.assign(video_id=scores["path"].str[:-4])
    for name in ("test/0007", "test/0007.mp4", "./test/0007.mp4", str(root / "test" / "0007.mp4")):
        for kind in ("one.csv", "one.jsonl"):
            found = read_scores(write(pd.DataFrame({"path": [name], "score": [1]}), tmp_path, kind), manifest, root)
            assert found["video_id"].tolist() == ["test/0007"]
    other = write(pd.DataFrame({"clip": ["test/0007"], "p": [0.5]}), tmp_path)
    assert read_scores(other, manifest, root, video="clip", score="p")["score"].tolist() == [0.5]


def test_a_name_is_the_same_whatever_form_of_unicode_a_spreadsheet_has(scores: pd.DataFrame, tmp_path: Path) -> None:
    manifest = scores.head(2).assign(path=["Ren\u00e9e.mp4", "Zoe\u0308.mp4"], video_id=["Ren\u00e9e", "Zoe\u0308"])
    table = pd.DataFrame({"path": ["Rene\u0301e", "Zo\u00eb.mp4"], "score": [0, 1]})
    assert read_scores(write(table, tmp_path), manifest, tmp_path)["video_id"].tolist() == ["Ren\u00e9e", "Zoe\u0308"]


def test_frames_and_windows_make_a_videos_score_and_have_labels_of_their_own(
    scores: pd.DataFrame, settings: Settings, tmp_path: Path
) -> None:
    rows = scores.loc[scores.index.repeat(3), ["path", "label"]].assign(frame=[2, 0, 1] * len(scores))
    rows["score"] = 0.2 + 0.5 * rows["label"] + 0.1 * rows["frame"]
    for how, value in (("mean", 0.8), ("max", 0.9)):
        chosen = validate_settings(settings.model_dump() | {"model": {"aggregation": how}})
        run = make_run(tmp_path / how, chosen)
        assert import_scores(write(rows.drop(columns="label"), tmp_path), run, chosen).level == "frame"
        report, videos, windows = evaluate_run(run)
        assert videos.set_index("video_id").loc["test/0001", "fusion_score"] == pytest.approx(value)
        assert windows["score"].head(3).tolist() == pytest.approx([0.2, 0.3, 0.4])
        assert report.window["n"] == 3 * TEST


FORGED = {"label": 1, "video_fake": 1, "audio_fake": 0, "in_sync": 1, "video_segments": "1-2", "audio_segments": ""}
DUBBED = {**FORGED, "audio_fake": 1, "video_segments": "", "audio_segments": "1-2"}


@pytest.mark.parametrize(
    ("video", "labels"),
    [
        (FORGED, [0, 1, -1, 1, 0, -1]),
        ({**FORGED, "label": 0, "video_fake": 0, "video_segments": ""}, [0] * 6),
        (DUBBED, [1] * 6),  # its picture is forged all through
        ({**DUBBED, "video_fake": -1}, [-1, 1, -1, 1, -1, -1]),  # of its picture nobody knows
        ({**DUBBED, "video_fake": 0}, [0, 1, -1, 1, 0, -1]),
        ({**FORGED, "in_sync": 0}, [1] * 6),
    ],
)
def test_rows_have_the_labels_that_our_windows_have(video: dict[str, object], labels: list[int]) -> None:
    spans = [(0.0, 1.0), (0.8, 1.8), (0.7, 1.2), (1.5, 1.5), (2.0, 2.0), (np.nan, np.nan)]
    places = pd.DataFrame(spans, columns=["start", "end"]).assign(video_id="a")
    assert label_rows(places, pd.DataFrame([{"video_id": "a", **video}]), 0.5)["label"].tolist() == labels
    for (start, end), label in zip(spans[:3], labels, strict=False):
        moments = start + (np.arange(100) + 0.5) / 100 * (end - start)
        window = Window(moments, np.arange(100), np.ones(100, bool), start, end - start)
        assert label_window(video, window, validate_settings({}))["label"] == label


def test_nothing_that_was_trained_is_removed_for_scores(
    scores: pd.DataFrame, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write(scores[["path", "score"]], tmp_path)
    words = ["--manifest", str(Path(settings.data.root) / "manifest.csv"), "--polarity", "real_high", "--restart"]
    for name in ("best.safetensors", "epoch-0001-step-00000009.pt"):
        kept = tmp_path / name / "checkpoints" / name
        write_whole("weights", kept)
        assert main(["import", str(table), *words, "--run", str(tmp_path / name)]) == 1
        assert "holds a model that was trained; name another folder for scores" in capsys.readouterr().err
        assert [file.name for file in (tmp_path / name).rglob("*") if file.is_file()] == [name]


def test_settings_that_change_nothing_of_a_table_are_refused(
    scores: pd.DataFrame, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["import", str(write(scores[["path", "score"]], tmp_path)), "train.lr=1", "model.backbone=foo", "seed=1"]
    words += ["--manifest", str(Path(settings.data.root) / "manifest.csv"), "--run", str(tmp_path / "theirs")]
    assert main([*words, "--polarity", "real_high"]) == 1
    said = capsys.readouterr().err
    assert "train.lr, model.backbone: changes nothing of scores that are there already" in said
    assert "data, evaluate, model.aggregation, seed, logging count, and with --rivals extract and cure" in said
    assert not (tmp_path / "theirs").exists()
    used = ["data.limit=4", "evaluate.replicates=100", "model.aggregation=max", "seed=1", "logging.level=error"]
    refuse_unused("a.csv", used, rivals=False)
    refuse_unused("a.csv", ["extract.workers=1", "cure.reencode=true"], rivals=True)
    refuse_unused("detectors.sound:build", ["model.backbone=foo"], rivals=False)  # what code asks of them nobody knows


def test_a_table_that_cannot_be_read_leaves_what_was_imported_before(
    scores: pd.DataFrame, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--manifest", str(Path(settings.data.root) / "manifest.csv"), "--run", str(tmp_path / "theirs")]
    good, bad = (write(scores[names], tmp_path, f"{len(names)}.csv") for names in (["path", "score"], ["path"]))
    assert main(["import", str(good), *words, "--polarity", "real_high"]) == 0
    kept = {file: file.read_bytes() for file in (tmp_path / "theirs").rglob("scores*.csv")}
    assert main(["import", str(bad), *words, "--restart"]) == 1
    assert "score" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in (tmp_path / "theirs").rglob("scores*.csv")} == kept != {}


def test_only_probabilities_are_joined_by_how_sure_they_are(
    scores: pd.DataFrame, settings: Settings, tmp_path: Path
) -> None:
    chosen = validate_settings(settings.model_dump() | {"model": {"aggregation": "confident"}})
    rows = scores.loc[scores.index.repeat(2), ["path", "score"]].assign(frame=[0, 1] * len(scores))
    run, said = make_run(tmp_path / "theirs", chosen), {"polarity": "real_high"}
    odds = rows.assign(score=np.log(rows["score"] / (1 - rows["score"])))
    with pytest.raises(ScoresError, match=r"confident is for probabilities, .* reach from -.* to .*: take mean or max"):
        import_scores(write(odds, tmp_path), run, chosen, **said)
    assert not run.imported.exists()
    assert import_scores(write(rows, tmp_path), run, chosen, **said).probabilities
    assert import_scores(write(odds.drop_duplicates("path").drop(columns="frame"), tmp_path), run, chosen, **said)


@pytest.mark.parametrize("prior", [None, 0.1])
def test_scores_are_moved_to_a_prior_where_validation_speaks_for_them(
    prior: float | None, scores: pd.DataFrame, settings: Settings
) -> None:
    chosen = change(settings, evaluate={"prior": prior})
    val = scores[scores["split"] == "val"].assign(odds=np.log(1 / scores["score"] - 1))
    right, wrong, none = (fit_scale(table, chosen) for table in (val, val.assign(odds=-val["odds"]), val.head(0)))
    even = fit_scale(val, settings)
    assert right.prior == (prior or 0.5)
    assert right.slope == even.slope
    assert right.offset - even.offset == pytest.approx(np.log(0.1 / 0.9) if prior else 0)
    called = expit(right.slope * val["odds"] + right.offset) >= right.threshold
    assert called.equals(expit(even.slope * val["odds"] + even.offset) >= even.threshold)
    for scale, why, chosen_on in (
        (wrong, "validation speaks against these scores", "val"),
        (none, "no validation videos of both labels", "nothing"),
    ):
        assert (scale.slope, scale.offset, scale.prior, scale.chosen_on) == (1.0, 0.0, None, chosen_on)
        assert why in scale.doubts[0]
        assert any("evaluate.prior=0.1 changes nothing" in doubt for doubt in scale.doubts) == bool(prior)


def test_what_is_calibrated_stays_so_and_no_few_videos_make_a_score_certain() -> None:
    slopes = []
    for seed in range(60):  # normals nine of their variance apart are their own log-likelihood ratios
        labels = np.arange(60) % 2
        slopes.append(fit_platt(9 * (labels - 0.5) + 3 * np.random.default_rng(seed).normal(size=60), labels)[0])
    assert np.median(slopes) > 0.6  # a ridge makes .5 of it
    slope, offset = fit_platt(np.array([-2.0, -1, 1, 2]), np.array([0, 0, 1, 1]))
    assert 0.5 < expit(slope * 2 + offset) < 0.9  # of two fakes and two reals, told apart without an error


def test_what_an_import_must_beat_is_measured_where_it_is_asked_for(
    tiny: Settings, manifest: pd.DataFrame, tmp_path: Path
) -> None:
    settings = change(tiny, evaluate={"slices": []})
    run = make_run(tmp_path / "theirs", settings)
    table = write(manifest[["path"]].assign(score=np.arange(len(manifest))), tmp_path)
    for rivals in (False, True):
        import_scores(table, run, settings, polarity="fake_high", rivals=rivals)
        report, videos, _ = evaluate_run(run)
        assert videos["trivia_score"].notna().all() == rivals
        assert (report.rivals["trivia"]["value"] is not None) == rivals
