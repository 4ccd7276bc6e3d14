"""A sweep degrades what a model sees, goes on where it was cut off, and measures drops on the same videos."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from dfmm.cli import main
from dfmm.degrade import OFFSET
from dfmm.evaluation import evaluate_run, learn_evidence, robustness
from dfmm.evaluation.evidence import Piece
from dfmm.evaluation.robustness import (
    CLEAN,
    describe_sweep,
    find_worst,
    format_sweep,
    is_felt,
    is_noticed,
    list_steps,
    measure_drop,
    open_degraded,
    summarise_sweep,
    sweep_degradations,
    tabulate_sweep,
)
from dfmm.figures.degrade import describe_amount
from dfmm.model import load_model, save_model
from dfmm.runs import Run, RunError, open_run
from dfmm.settings import Settings
from dfmm.training.trainer import Trainer

from ..conftest import change

PIECE = Piece(0.0, centre=0.0, scale=1.0, slope=1.0, offset=0.0, share=0.5, genuine=9)


@pytest.fixture(scope="module")
def run(tiny: Settings, manifest: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Run:
    settings = change(tiny, synchrony={"use": True, "mesh": "never", "phonemes": "never"}, train={"epochs": 1})
    run = open_run(tmp_path_factory.mktemp("runs") / "tiny", settings)
    Trainer(settings, manifest, run, progress=False).fit()
    # What so few videos teach may leave out the very streams that are degraded here.
    evidence, (model, settings, facts) = learn_evidence(run, progress=False), load_model(run.checkpoint)
    pieces = dict.fromkeys(("picture", "voice", "fusion"), PIECE)
    save_model(model, settings, run.checkpoint, **facts | {"evidence": replace(evidence, pieces=pieces).dump()})
    return run


def test_as_they_are_videos_have_the_scores_of_the_evaluation(run: Run) -> None:
    """Synchrony too: where it were left out, a threshold that was chosen with it would not hold."""
    evidence, (model, settings, facts) = learn_evidence(run, progress=False), load_model(run.checkpoint)
    pieces = {"synchrony": PIECE}
    save_model(model, settings, run.checkpoint, **facts | {"evidence": replace(evidence, pieces=pieces).dump()})
    videos = evaluate_run(run, "test", progress=False)[1].set_index("video_id")
    assert videos["in_step"].notna().any()
    sweep_degradations(run, "test", names=["blur"], strengths=[1.0], progress=False)
    scores = pd.read_csv(run / "robustness" / "sample-test" / "scores.csv").set_index("video_id")
    save_model(model, settings, run.checkpoint, **facts)
    assert scores[CLEAN].to_numpy() == pytest.approx(videos.loc[scores.index, "score"].to_numpy(), abs=1e-5)


def test_a_sweep_goes_on_where_it_was_cut_off_and_gives_the_same(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(run / "robustness", ignore_errors=True)
    options = {"names": ["blur", "sound_noise", "offset"], "strengths": [1.0], "progress": False}
    passes, score = [], robustness.score_degraded

    def count(*given: object) -> tuple[pd.DataFrame, bool]:
        if len(passes) == 2:
            raise KeyboardInterrupt
        passes.append(given[-2])
        return score(*given)

    monkeypatch.setattr(robustness, "score_degraded", count)
    with pytest.raises(KeyboardInterrupt):
        sweep_degradations(run, "test", **options)
    folder = run / "robustness" / "sample-test"
    assert list(pd.read_csv(folder / "sweep.csv")["degradation"]) == [CLEAN, "blur"]
    monkeypatch.setattr(robustness, "score_degraded", lambda *given: passes.append(given[-2]) or score(*given))
    table, summary = sweep_degradations(run, "test", **options)
    assert len(passes) == 5
    assert list(table["degradation"]) == [CLEAN, "blur", "sound_noise", "offset", "offset"]
    assert list(table["strength"]) == [0, 1, 1, 1, -1]
    scores = pd.read_csv(folder / "scores.csv")
    assert (scores["blur 1"] != scores[CLEAN]).all()
    assert (scores["sound_noise 1"] != scores[CLEAN]).all()
    assert table["labels_hold"].tolist() == [True, True, True, False, False]  # half a second is noticed
    assert summary["left_out"] == ["offset 1", "offset -1"]
    assert table["drop"].tolist() == pytest.approx((table["auc"][0] - table["auc"]).tolist())
    assert summary["mean_drop"]["value"] == pytest.approx(table["drop"][1:3].mean())
    assert json.loads((folder / "summary.json").read_text()) == summary
    part, of_part = sweep_degradations(
        run, "test", **options | {"names": ["blur"]}
    )  # what else is kept stays out of it
    assert part["degradation"].tolist() == [CLEAN, "blur"]
    assert of_part["mean_drop"] == of_part["drops"]["blur"]
    again, _ = sweep_degradations(run, "test", **options)
    assert len(passes) == 5
    pd.testing.assert_frame_equal(again, table, check_dtype=False)
    whole, _ = sweep_degradations(run, "test", **options, restart=True)
    pd.testing.assert_frame_equal(whole, table, check_dtype=False)
    assert len(passes) == 10


def test_another_model_begins_anew(run: Run, tmp_path: Path) -> None:
    of = {"checkpoint": "one"}
    rows, scores = (
        [{"degradation": CLEAN, "strength": 0.0, "unit": ""}],
        pd.DataFrame({"video_id": ["1"], CLEAN: [0.5]}),
    )
    robustness._keep_sweep(tmp_path, rows, scores.assign(label=0, identities=""), of)
    assert robustness.read_sweep(tmp_path, {"checkpoint": "other"}) == ([], None)
    found, kept = robustness.read_sweep(tmp_path, of)
    assert found == rows
    assert kept["video_id"].tolist() == ["1"]


def test_the_command_prints_the_sweep_and_draws_it(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["robustness", str(run.path), "--only", "brightness", "--strengths", "0.5", "1"]) == 0
    said = capsys.readouterr().out
    assert "mean drop of the AUC: " in said
    assert said.count("× brightness") == 4  # to both sides
    assert (run / "robustness" / "sample-test" / "robustness.png").stat().st_size > 10_000
    assert main(["robustness", str(run.path), "--only", "rain"]) == 1
    assert "no degradation rain; there are offset, reverse," in capsys.readouterr().err


def test_what_a_model_cannot_notice_is_left_out() -> None:
    names = ["h264", "mp3", "offset", "frame_rate", "reverse"]
    found = {
        streams: {one.name for one, _ in list_steps(names, [1.0], streams)[1:]}
        for streams in ("both", "video", "audio")
    }
    assert found == {"both": {*names}, "video": {"h264", "frame_rate", "reverse"}, "audio": {"mp3"}}
    assert is_noticed(robustness.DEGRADATIONS[0], "both")
    once = list_steps(["h264", "mp3"], [1.0, 0.5], "both")
    assert list_steps(["h264", "mp3", "h264"], [1.0, 0.5, 1], "both") == once  # what is asked for twice counts once
    with pytest.raises(RunError, match="above 0 and up to 1, got 0, 2"):
        list_steps(["h264"], [0, 2], "both")


def test_what_reaches_nothing_that_counts_is_no_test_of_a_detector(run: Run) -> None:
    table = {one.name: one for one in robustness.DEGRADATIONS}
    felt = {"picture": ["blur"], "voice": ["opus"], "fusion": ["blur", "opus", "offset"], "synchrony": []}
    evidence = learn_evidence(run, progress=False)
    for piece, names in felt.items():
        counted = replace(
            evidence, pieces={piece: PIECE, "lag": PIECE, "voice": replace(PIECE, weight=0.0)} | {piece: PIECE}
        )
        assert [name for name in ("blur", "opus", "offset") if is_felt(table[name], counted)] == names
    assert all(is_felt(table[name], replace(evidence, pieces={})) for name in table)  # the network's own score
    drops = {"blur": {"value": 0.1, "low": 0.0, "high": 0.2}}
    summary = {"mean_drop": drops["blur"], "drops": drops, "left_out": [], "unfelt": ["opus"]}
    assert describe_sweep(make_rows(blur=[0.1, 0.1]), summary)[0].startswith("Not tested by opus: no evidence that")


def test_a_paired_interval_finds_what_is_lost_on_the_same_videos() -> None:
    """Two AUCs whose own intervals overlap: all that differs is the difference."""
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    clean = labels + rng.normal(size=200)
    scores = pd.DataFrame({"video_id": np.arange(200).astype(str), "label": labels, "identities": "", CLEAN: clean})
    scores["worse"] = clean - 0.3 * labels + 0.05 * rng.normal(size=200)
    scores["same"] = clean
    drop = measure_drop(scores, ["worse"], 200)
    assert drop["value"] == pytest.approx(roc_auc_score(labels, clean) - roc_auc_score(labels, scores["worse"]))
    assert 0 < drop["low"] < drop["value"] < drop["high"] < 0.15
    assert measure_drop(scores, ["same"], 200) == {"value": 0, "low": 0, "high": 0}  # whoever is drawn
    few = scores.assign(identities=np.where(labels, "ann", "bob"))
    assert measure_drop(few, ["worse"], 200)["low"] is None  # two people: agreement is no knowledge
    both = measure_drop(scores, ["worse", "same"], 200)
    assert both["value"] == pytest.approx(drop["value"] / 2)
    table = pd.DataFrame({"degradation": [CLEAN, "x", "x", "y"], "strength": [0, 0.5, 1, 1], "labels_hold": True})
    named = scores.rename(columns={"worse": "x 0.5", "same": "y 1"}).assign(**{"x 1": scores["worse"]})
    summary = summarise_sweep(table, named, 200)
    assert summary["mean_drop"]["value"] == pytest.approx(drop["value"] / 2)  # each degradation counts alike
    assert summary["drops"]["x"]["value"] == pytest.approx(drop["value"])


def test_what_is_looked_at_is_what_was_scored(run: Run) -> None:
    """The same windows, by the same draws: noise too."""
    sweep_degradations(run, "test", names=["sound_noise"], strengths=[1.0], progress=False)
    scores = pd.read_csv(run / "robustness" / "sample-test" / "scores.csv")
    _, settings, _ = load_model(run.checkpoint)
    heard, plain = (open_degraded(run, "test", name, 1.0) for name in ("sound_noise", CLEAN))
    assert list(heard.manifest["video_id"]) == scores["video_id"].tolist()
    assert not np.allclose(heard[3]["log_mel"], plain[3]["log_mel"])
    assert np.array_equal(heard[3]["frames"], plain[3]["frames"])
    assert len(heard) == settings.evaluate.windows * len(scores)


def make_rows(**aucs: list[float | None]) -> pd.DataFrame:
    """A sweep's table: as the videos are, and each degradation at half and full strength."""
    steps = [(CLEAN, 0.0, 0.9)] + [
        (name, 0.5 + place / 2, auc) for name, two in aucs.items() for place, auc in enumerate(two)
    ]
    rows = []
    for name, strength, auc in steps:
        row = {"degradation": name, "strength": strength, "amount": strength, "unit": "CRF", "labels_hold": True}
        for number, value in (("auc", auc), ("fpr", strength / 10), ("fnr", 0.2), ("drop", auc and 0.9 - auc)):
            row |= {number: value, f"{number}_low": value and value - 0.1, f"{number}_high": value and value + 0.1}
        rows.append(row)
    return pd.DataFrame(rows)


def test_sentences_say_what_hurts_most_and_what_not_at_all() -> None:
    table = make_rows(h264=[0.8, 0.6], blur=[0.9, 0.9], noise=[0.88, 0.9])
    drops = {
        "h264": {"value": 0.2, "low": 0.1, "high": 0.3},
        "blur": {"value": 0.0, "low": 0.0, "high": 0.0},
        "noise": {"value": 0.01, "low": -0.01, "high": 0.03},
    }
    summary = {"mean_drop": {"value": 0.07, "low": 0.03, "high": 0.11}, "drops": drops, "left_out": ["offset 1"]}
    assert describe_sweep(table, summary) == [
        "Left out of all drops, since labels no longer hold there: offset 1.",
        "Mean drop of the AUC over all degradations: +0.070 [0.030, 0.110].",
        "It falls most under h264: by +0.200 [0.100, 0.300], on average over its strengths.",
        "It surely falls under: h264.",
        "It stays the same under: blur.",
        "It moves by no more than luck may, the interval taking in 0, under: noise.",
        "Reals called fake: most under h264 1, 0.100 [0.000, 0.200]; of the videos as they are 0.000 [0.000, 0.000].",
        "Fakes called real: nowhere more than 0.200 [0.100, 0.300], as of the videos as they are.",
    ]
    assert find_worst(table, summary) == ("h264", 1.0)
    assert find_worst(table, summary | {"drops": {"blur": drops["blur"]}}) == (
        "blur",
        1.0,
    )  # of equal drops the severest
    few = {name: drop | {"low": None, "high": None} for name, drop in drops.items()}
    said = describe_sweep(table, summary | {"drops": few, "mean_drop": few["h264"]})
    assert "Mean drop of the AUC over all degradations: +0.200." in said
    assert not any("surely" in line for line in said)


def test_what_cannot_be_measured_is_said_and_shown_as_a_dash() -> None:
    table = make_rows(h264=[None, None]).assign(auc=None, auc_low=np.nan)
    nothing = {"value": None, "low": None, "high": None}
    summary = {"mean_drop": nothing, "drops": {"h264": nothing}, "left_out": []}
    assert describe_sweep(table, summary) == [
        "By how much the AUC falls cannot be told: that takes reals and fakes whose labels hold."
    ]
    assert find_worst(table, summary) == ("h264", 1.0)
    shown = tabulate_sweep(table)
    early = table.assign(amount=[0.0, -0.5, 0.5], unit="s late")
    assert tabulate_sweep(early)["amount"].tolist() == ["", "0.5 s early", "0.5 s late"]
    head, *rows, _ = format_sweep(early, summary).splitlines()
    assert [row[head.index("how much") :] for row in rows] == ["", "0.5 s early", "0.5 s late"]  # below its header
    assert describe_amount(OFFSET, -1.0) == "0.5 s early"
    assert shown["AUC"].tolist() == ["–"] * 3
    assert shown["amount"].tolist() == ["", "0.5 CRF", "1 CRF"]
    assert shown["Reals called fake"][2] == "0.100 [0.000, 0.200]"
