"""Runs are compared on the same videos, paired, and seeds of one setting are summed up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from dfmm.cli import main
from dfmm.evaluation import compare
from dfmm.evaluation.compare import (
    align_scored,
    compare_runs,
    describe_differences,
    describe_seeds,
    find_differing,
    format_comparison,
    open_others,
    read_scored,
)
from dfmm.evaluation.novelty import describe_novelty, measure_methods
from dfmm.figures import plot_novelty
from dfmm.files import write_json
from dfmm.metrics import compare_aucs, compute_auc
from dfmm.runs import Run, RunError, open_run
from dfmm.settings import Settings, load_settings, save_settings, validate_settings
from dfmm.training import Trainer

from ..conftest import change
from ..figures.test_figures import read_texts

VIDEOS = 120


@pytest.fixture
def make_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that makes a run with these settings, whose scores find so much."""
    evaluations = {}

    def read(run: Run, split: str) -> tuple | None:
        return evaluations.get(run.path)

    def make(name: str, strength: float, seed: int = 0, *, keep: slice = slice(None), **settings: object) -> Run:
        run = Run(tmp_path / name)
        run.path.mkdir()
        write_json({"stages": {}}, run / "run.json")
        evaluate = {"replicates": 200}
        save_settings(validate_settings({"evaluate": evaluate, "seed": seed, **settings}), run / "settings.yaml")
        videos = draw_videos(strength, len(evaluations)).iloc[keep]
        unseen = SimpleNamespace(
            methods=[name for name in ("swap", "voice") if name in settings.get("data", {}).get("leave_out", [])]
        )
        report = SimpleNamespace(threshold=SimpleNamespace(value=0.5), prior=0.5, unseen=unseen)
        evaluations[run.path] = report, videos, pd.DataFrame()
        return run

    monkeypatch.setattr("dfmm.evaluation.compare.read_evaluation", read)
    return make


def draw_videos(strength: float, seed: int) -> pd.DataFrame:
    """A scored split: what is hard for one run is hard for all."""
    label = np.arange(VIDEOS) // 30 % 2
    hard, noise = (np.random.default_rng(each).normal(size=VIDEOS) for each in (99, seed))
    table = pd.DataFrame({"video_id": [f"v{number:03}" for number in range(VIDEOS)], "label": label, "status": "ok"})
    table["score"] = 1 / (1 + np.exp(-(hard + 0.3 * noise + strength * (2 * label - 1))))
    table["method"] = np.where(label == 0, "real", np.where(np.arange(VIDEOS) % 3, "swap", "voice"))
    return table.assign(identities=[f"person {number % 30}" for number in range(VIDEOS)])


def test_runs_are_compared_paired_with_the_settings_that_differ(make_run) -> None:
    runs = [make_run("good", 1.0, train={"lr": 0.001}), make_run("bad", 0.6, train={"lr": 0.1})]
    found = compare_runs(runs)
    assert found["settings"] == {"train.lr": [0.001, 0.1]}
    assert (found["videos"], found["fakes"]) == (VIDEOS, VIDEOS // 2)
    tables = [draw_videos(strength, seed) for seed, strength in enumerate((1.0, 0.6))]
    people = {"identities": list(tables[0]["identities"]), "replicates": 200}
    aucs = [compute_auc(table["label"], table["score"], **people) for table in tables]
    assert [run["metrics"]["auc"] for run in found["runs"]] == aucs
    (pair,) = found["differences"]
    expected = compare_aucs(tables[0]["label"], *(table["score"] for table in tables), **people)["difference"]
    assert pair["metrics"]["auc"] == expected | {"p_holm": expected["p"]}
    assert aucs[0]["low"] < aucs[1]["high"]  # they overlap, and yet
    assert expected["low"] > 0
    assert pair["metrics"]["delong"]["p"] < 0.05
    assert found["seeds"] == []
    json.dumps(found, allow_nan=False)


def test_seeds_of_one_setting_are_summed_up_beside_their_intervals(make_run) -> None:
    runs = [make_run(f"seed{seed}", 0.8, seed) for seed in range(3)] + [make_run("other", 0.8, train={"lr": 0.1})]
    found = compare_runs(runs)
    (group,) = found["seeds"]
    assert len(group["runs"]) == 3
    values = [run["metrics"]["auc"]["value"] for run in found["runs"][:3]]
    auc = group["metrics"]["auc"]
    assert auc["mean"] == pytest.approx(np.mean(values))
    assert auc["between"] == pytest.approx(np.std(values, ddof=1))
    assert (auc["least"], auc["most"]) == (min(values), max(values))
    assert auc["between"] < auc["within"]
    assert "tpr_at_1_fpr" not in group["metrics"]  # undefined for so few reals
    assert len(found["differences"]) == 6
    for pair in found["differences"]:
        assert pair["metrics"]["auc"]["p_holm"] >= pair["metrics"]["auc"]["p"]


def test_different_videos_are_refused_by_name_or_compared_on_what_they_share(make_run) -> None:
    runs = [make_run("all", 1.0), make_run("part", 0.5, keep=slice(0, 110))]
    with pytest.raises(RunError, match=r"10 by .*all alone: v110, v111, v112 and 7 more\n.*110 that both .* --shared"):
        compare_runs(runs)
    found = compare_runs(runs, shared=True)
    assert found["videos"] == found["runs"][0]["metrics"]["n"] == 110
    apart = [make_run("head", 1.0, keep=slice(0, 50)), make_run("tail", 1.0, keep=slice(60, 120))]
    with pytest.raises(RunError, match="no video was scored by all"):
        compare_runs(apart, shared=True)


def test_what_cannot_be_compared_is_refused(make_run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run("one", 1.0)
    with pytest.raises(RunError, match="two runs or more, got 1"):
        compare_runs([run, Run(tmp_path / "one")])
    with pytest.raises(RunError, match=r"no evaluation of its present model on test; run dfmm evaluate .*none"):
        compare_runs([run, Run(tmp_path / "none")])
    other = make_run("other", 1.0)
    label = "dfmm.evaluation.compare.read_scored"
    read = compare_runs.__globals__["read_scored"]

    def turn(run: Run, split: str):
        found = read(run, split)
        if run == other:
            found.videos.loc["v007", "label"] = 1
        return found

    monkeypatch.setattr(label, turn)
    with pytest.raises(RunError, match="do not agree on the labels of v007"):
        compare_runs([run, other])


def test_settings_differ_by_value(make_run) -> None:
    settings = [validate_settings({"seed": seed, "train": {"lr": 0.01}}) for seed in (0, 1, 1)]
    assert find_differing(settings) == {"seed": [0, 1, 1]}


def test_the_command_prints_tables_or_json(make_run, capsys: pytest.CaptureFixture) -> None:
    folders = [str(make_run(f"seed{seed}", 0.8, seed).path) for seed in range(2)]
    assert main(["compare", *folders]) == 0
    text = capsys.readouterr().out
    for words in (
        "2 runs on the same 120 videos",
        "Settings that differ",
        "seed0",
        "Differences, paired",
        "Seeds of",
        "AUC, 1 of 1 pairs: luck alone may do that.",
        "AUC, 2 seeds of one setting: from",
    ):
        assert words in text
    assert main(["compare", *folders, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert format_comparison(found) == text.rstrip("\n")
    make_run("short", 0.8, keep=slice(0, 90))
    assert main(["compare", folders[0], folders[0].replace("seed0", "short")]) == 1
    assert "--shared" in capsys.readouterr().err


def test_sentences_name_the_better_run_and_what_luck_may_have_done(make_run) -> None:
    """Of two settings and two seeds of one: by the AUC, of which more is better, and by the errors, of which less."""
    found = compare_runs([make_run("bad", 0.2), make_run("good", 1.4), make_run("again", 1.4, seed=1)])
    said = describe_differences(found)
    pair = found["differences"][0]["metrics"]["auc"]
    assert pair["high"] < 0
    ends = f"{-pair['difference']:.3f} [{-pair['high']:.3f}, {-pair['low']:.3f}]"
    assert f"AUC: good is surely better than bad, by {ends}, p < 0.001." in said
    assert any(line.startswith("Equal error rate: good is surely better than bad, by 0.") for line in said)
    assert "AUC, 1 of 3 pairs: luck alone may do that." in said
    pair |= {"difference": -0.2, "low": -0.4, "high": 0.01, "p_holm": 0.04}  # an interval that just reaches over zero
    assert "AUC: good is surely better than bad, by 0.200 [-0.010, 0.400], p 0.040." in describe_differences(found)
    few = {"difference": 0.1, "low": None, "high": None, "p": None}
    for one in found["differences"]:
        one["metrics"]["auc"] = few
    assert describe_differences(found)[0] == "AUC, 3 of 3 pairs: too few people or errors to tell."


@pytest.mark.parametrize(("between", "heavier"), [(0.001, "draw of test videos"), (0.2, "seed")])
def test_seeds_are_told_beside_what_videos_leave_open(between: float, heavier: str) -> None:
    auc = {"mean": 0.8, "between": between, "least": 0.7, "most": 0.9, "within": 0.05}
    said = describe_seeds({"runs": ["a", "b", "c"], "metrics": {"auc": auc}})
    assert f"the luck of the {heavier} counts for more" in said
    assert f"±{1.96 * between:.3f}" in said
    assert "undefined" in describe_seeds({"runs": ["a", "b"], "metrics": {}})


@pytest.mark.usefixtures("decoded")
def test_the_quick_run_makes_what_it_is_compared_with_and_no_other_does(
    tiny: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params").mkdir()
    monkeypatch.chdir(tmp_path)
    settings = change(tiny, train={"epochs": 1})
    run = open_run("outputs/quick", settings)
    seed, picture = open_others(run, [])
    assert load_settings(seed / "settings.yaml") == settings.model_copy(update={"seed": 1})
    assert find_differing([settings, load_settings(picture / "settings.yaml")]) == {"model.streams": ["both", "video"]}
    assert compare_runs([seed, picture])["videos"] == 8
    stamps = [one.checkpoint.stat().st_mtime_ns for one in (seed, picture)]
    assert [one.checkpoint.stat().st_mtime_ns for one in open_others(run, [])] == stamps
    made = []
    monkeypatch.setattr(Trainer, "fit", lambda trainer: made.append(trainer.run.path))
    monkeypatch.setattr(compare, "evaluate_run", lambda run, split: made.append(run.path))
    save_settings(change(settings, train={"lr": 0.01}), run / "settings.yaml")  # what was made with others is stale
    assert all(load_settings(one / "settings.yaml").train.lr == 0.01 for one in open_others(run, []))
    assert made == [seed.path, seed.path, picture.path, picture.path]  # trained and evaluated, each of them
    assert [one.name for one in open_others(run, ["outputs/lr"])] == ["outputs/lr"]
    with pytest.raises(RunError, match=r"outputs/mine has nothing to be compared with: name other runs' folders"):
        open_others(Run("outputs/mine"), [])


def test_each_method_is_told_from_all_reals_and_marked_where_training_never_saw_it(make_run) -> None:
    runs = [make_run("all", 1.0), make_run("without", 0.4, data={"leave_out": ["swap"]})]
    scored = align_scored([read_scored(run, "test") for run in runs])
    methods = measure_methods(scored).set_index(["run", "method"])
    assert list(methods["unseen"]) == [False, False, True, False]
    table = draw_videos(0.4, 1)
    swaps = table[table["method"] != "voice"]
    expected = compute_auc(swaps["label"], swaps["score"], identities=list(swaps["identities"]), replicates=200)
    row = methods.loc[(runs[1].name, "swap")]
    assert [row["value"], row["low"], row["high"], row["videos"]] == [
        *(expected[end] for end in ("value", "low", "high")),
        40,
    ]
    (line,) = describe_novelty(methods.reset_index())
    assert line.startswith("swap: AUC ")
    assert line.index("(all)") < line.index("where training saw it") < line.index("(without)")
    texts = read_texts(plot_novelty(methods.reset_index()))
    assert f"{row['value']:.2f}\n[{row['low']:.2f}, {row['high']:.2f}]" in texts
    assert "method in test; framed: never seen in training" in texts
    theirs = measure_methods([replace(scored[0], foreign=True), scored[1]])
    assert list(theirs["unseen"]) == [None, None, True, False]  # what imported scores come from, nobody knows
    assert describe_novelty(theirs) == []
    seen = methods.reset_index().query("run == @runs[0].name")
    assert describe_novelty(seen) == []
    assert "method in test" in read_texts(plot_novelty(seen))


@pytest.mark.parametrize("label", [0, 1])
def test_videos_of_one_label_have_no_method_to_find(make_run, label: int) -> None:
    one = read_scored(make_run("mine", 1.0), "test")
    methods = measure_methods([replace(one, videos=one.videos[one.videos["label"] == label])])
    assert methods.empty
    assert describe_novelty(methods) == []
    assert "undefined: it takes reals and fakes" in read_texts(plot_novelty(methods))
