"""What is left out of training stays out and is called unseen; each other dataset has a report of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dfmm.cli import main, verdicts
from dfmm.dataset import load_manifest
from dfmm.dataset.loaders import make_training_loader
from dfmm.evaluation import evaluate
from dfmm.evaluation.contents import read_report
from dfmm.evaluation.evaluate import evaluate_run
from dfmm.evaluation.kept import read_evaluation
from dfmm.evaluation.protocols import evaluate_datasets
from dfmm.evaluation.report import write_report
from dfmm.evaluation.summary import summarise_split
from dfmm.figures.scores import plot_methods
from dfmm.files import write_json
from dfmm.manifest import (
    NO_SPLIT,
    ManifestError,
    complete_manifest,
    find_unseen,
    leave_out_methods,
    list_parts,
    summarise_manifest,
    write_manifest,
)
from dfmm.runs import Run, open_run
from dfmm.settings import Settings, save_settings
from dfmm.training.trainer import Trainer

from ..conftest import change
from .test_evaluate import make_scores
from .test_report import make_report

LEFT_OUT = "blend"  # in the tiny sample's test split, as in train and val, also joined with another


def list_fakes() -> pd.DataFrame:
    """Three methods, two of them joined as well, in each split."""
    methods = ["real", "faceswap", "wav2lip", "faceswap+wav2lip", "vocoder"]
    rows = [(f"{split}/{method}.mp4", split, method) for split in ("train", "val", "test") for method in methods]
    table = pd.DataFrame(rows, columns=["path", "split", "method"])
    return complete_manifest(table.assign(label=(table["method"] != "real").astype(int)))


def list_splits(table: pd.DataFrame, split: str) -> list[str]:
    return list(table.loc[table["split"] == split, "method"])


# Leave a method out


def test_a_method_that_is_left_out_takes_every_video_that_names_it() -> None:
    left = leave_out_methods(list_fakes(), ["wav2lip"])
    assert list_splits(left, "train") == list_splits(left, "val") == ["real", "faceswap", "vocoder"]
    assert list_splits(left, "test") == list_splits(list_fakes(), "test")
    assert sorted(list_splits(left, NO_SPLIT)) == ["faceswap+wav2lip"] * 2 + ["wav2lip"] * 2
    both = leave_out_methods(list_fakes(), ["wav2lip", "vocoder"])
    assert list_splits(both, "train") == ["real", "faceswap"]
    joined = leave_out_methods(list_fakes(), ["wav2lip+faceswap"])
    assert list_splits(joined, "val") == ["real", "faceswap", "wav2lip", "vocoder"]
    named_so = list_fakes().replace({"method": {"real": "wav2lip"}})  # a careless manifest: reals are never left out
    assert (leave_out_methods(named_so, ["wav2lip"])["label"] == 0).sum() == 3
    assert set(leave_out_methods(named_so, ["wav2lip"]).query("label == 0")["split"]) == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (["wav2lips"], "no fake's method names 'wav2lips'; the manifest has: faceswap, "),
        (["wav2"], "no fake's method names"),
        (["real"], "no fake's method names"),
        ([""], "no fake's method names"),
        (["faceswap", "wav2lip", "vocoder"], "there is no fake left in 'train'"),
    ],
)
def test_what_cannot_be_left_out_is_refused(methods: list[str], message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        leave_out_methods(list_fakes(), methods)


def test_unseen_is_a_method_with_a_part_that_was_in_no_training_video() -> None:
    assert list_parts(" a+b ") == {"a", "b"}
    assert find_unseen(["a", "a+b", "c", "a+c"], ["a", "b+d"]) == ["c", "a+c"]
    assert find_unseen(["a+b"], ["a", "b"]) == []


@pytest.fixture(scope="module")
def settings(tiny: Settings, manifest: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Of a training without one method, and of two other datasets and one that is not there."""
    folder = tmp_path_factory.mktemp("others")
    for name in ("one", "two"):
        shutil.copytree(Path(tiny.data.root) / "test", folder / name / "test")
        table = manifest[manifest["split"] == "test"].assign(dataset="sample" if name == "one" else "")
        write_manifest(table, folder / name / "manifest.csv")
    others = [str(folder / name / "manifest.csv") for name in ("one", "gone", "two")]
    data = {"root": tiny.data.root, "leave_out": [LEFT_OUT]}
    return change(tiny, data=data, evaluate={"datasets": others}, train={"epochs": 1})


@pytest.fixture(scope="module")
def run(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = open_run(tmp_path_factory.mktemp("runs") / "left", settings)
    Trainer(settings, load_manifest(settings, progress=False), run, progress=False).fit()
    return run


@pytest.mark.usefixtures("rough_figures")
def test_training_never_meets_it_and_the_report_says_so(settings: Settings, run: Run) -> None:
    table = load_manifest(settings, progress=False)
    trained = make_training_loader(table, settings, progress=False).dataset.manifest
    assert not trained["method"].str.contains(LEFT_OUT).any()
    assert summarise_manifest(table).loc[LEFT_OUT, NO_SPLIT] > 0
    report, videos, windows = evaluate_run(run, "test", progress=False)
    tested = sorted(set(videos.loc[videos["label"] == 1, "method"]))
    unseen = [method for method in tested if LEFT_OUT in method]
    assert report.unseen.methods == unseen != []
    assert report.seen.methods == [method for method in tested if method not in unseen]
    assert report.unseen.videos + report.seen.videos == (videos["label"] == 1).sum()
    assert 0 <= report.unseen.auc["low"] < report.unseen.auc["high"] <= 1
    assert set(report.methods) == set(tested)  # beside the seen ones
    assert read_evaluation(run, "test")[0] == report
    page = write_report(report, videos, windows, run / "page").read_text()
    assert f"{LEFT_OUT} (unseen)" in page
    assert "Not in training: " in page
    labels = plot_methods(report.methods, unseen=unseen).axes[0].get_yticklabels()
    assert any(", unseen)" in label.get_text() for label in labels)


def test_with_nothing_left_out_nothing_is_unseen() -> None:
    scores = make_scores([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], method=["real", "real", "swap", "other"])
    windows = pd.DataFrame({"video_id": scores["video_id"], "score": scores["score"], "label": scores["label"]})
    options = {"split": "test", "threshold": 0.5, "replicates": 100}
    assert summarise_split(scores, windows, seen=["other", "swap"], **options)["unseen"] == {
        "methods": [],
        "videos": 0,
        "auc": {"value": None, "low": None, "high": None},
    }
    assert not {"seen", "unseen"} & set(summarise_split(scores, windows, **options))  # nobody knows
    report = summarise_split(scores, windows, seen=np.array(["swap"]), **options)
    assert (report["seen"]["videos"], report["unseen"]["videos"]) == (1, 1)


# Other datasets


def test_each_dataset_has_its_report_and_one_that_fails_costs_only_itself(
    settings: Settings, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = evaluate_run(run, "test", progress=False)[0]
    learnt = []
    monkeypatch.setattr(evaluate, "fit_evidence", lambda *_, **__: learnt.append(1))
    found = dict(evaluate_datasets(run, progress=False))
    assert list(found) == settings.evaluate.datasets
    one, gone, two = found.values()
    assert "no such manifest" in gone
    assert learnt == []  # once, on the run's own validation split
    assert (one[0].name, two[0].name) == ("sample-one-test", "two-test")
    for name in ("sample-test", "sample-one-test", "two-test"):
        report = read_report(run / "evaluations" / name / "report.json")
        assert report.threshold.value == own.threshold.value
        assert report.unseen.methods == own.unseen.methods
    assert one[0].video["auc"]["value"] == pytest.approx(own.video["auc"]["value"])  # the same videos
    assert read_evaluation(run, "test")[0].dataset == "sample"


@pytest.mark.usefixtures("decoded", "empty_pictures")
def test_the_command_evaluates_them_all_and_fails_if_one_does(
    settings: Settings, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one, gone, two = settings.evaluate.datasets
    copy = shutil.copytree(run.path, tmp_path / "run", ignore=shutil.ignore_patterns("evaluations"))
    save_settings(change(settings, evaluate={"datasets": [gone, one]}), copy / "settings.yaml")
    assert main(["evaluate", str(copy)]) == 1
    pages = sorted(page.parent.name for page in copy.glob("evaluations/*/report.html"))
    assert pages == ["sample-one-test", "sample-test"]
    said = capsys.readouterr().out
    assert "gone/manifest.csv: " in said
    assert said.count("auc, unseen") == 2
    told = []
    monkeypatch.setattr(verdicts, "_print_evaluation", lambda run, report, *tables: told.append(report.name))
    assert main(["evaluate", str(copy), "--manifest", two]) == 0
    assert told == ["two-test"]  # it alone


def test_names_that_are_taken_are_told_apart(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")

    def name(dataset: str, file: str) -> str:
        """Name an evaluation of a manifest, and leave its report."""
        root = str(tmp_path / file.rpartition("/")[0])
        known = {"dataset": dataset, "split": "test", "manifest": str(tmp_path / file), "root": root}
        report = make_report(**known | {"dataset": evaluate._name_apart(known, run, own="own")})
        write_json(report.model_dump(mode="json"), run / "evaluations" / report.name / "report.json")
        return report.dataset

    for _ in range(2):  # again, each finds its own
        assert name("ff", "data/m.csv") == "ff"
        assert name("ff", "other/m.csv") == "ff-other"
        assert name("ff", "other/b.csv") == "ff-other-b"
        assert name("ff", "deep/other/b.csv") == "ff-other-b-2"
        assert name("unnamed", "data/m.csv") == "data"
        assert name("unnamed", "data/b.csv") == "data-b"
        assert name("own", "data/m.csv") == "own-data"
        assert name("f f", "data/f.csv") == "f f"
        assert name("f/f", "data/g.csv") == "f/f-data"  # their folders would be one


def test_two_manifests_of_one_folder_have_a_report_each(
    run: Run, settings: Settings, manifest: pd.DataFrame, tmp_path: Path
) -> None:
    test = manifest[manifest["split"] == "test"].assign(dataset="")
    for name, part in (("a", test[test["label"] == 1]), ("b", test)):
        write_manifest(part, tmp_path / f"{name}.csv")
    one, two, again = (
        evaluate_run(run, manifest=tmp_path / f"{name}.csv", root=settings.data.root, progress=False)[0]
        for name in "aba"
    )
    assert one.dataset == again.dataset != two.dataset
    for report in (again, two):
        assert read_report(run / "evaluations" / report.name / "report.json") == report
    assert two.one_label is None
    assert "all" in one.one_label.why


@pytest.mark.parametrize(("label", "rate"), [(1, 0.75), (0, 0.75)])
def test_with_one_label_alone_the_report_says_why_and_what_is_left(label: int, rate: float) -> None:
    scores = make_scores([0.9, 0.8, 0.7, 0.1], [label] * 4)
    report = summarise_split(
        scores, scores[["video_id", "score", "label"]], split="test", threshold=0.5, replicates=100, seen=["swap"]
    )
    assert report["video"]["auc"]["value"] is None
    said = report["one_label"]
    assert f"all 4 scored videos are {'fakes' if label else 'reals'}" in said["why"]
    assert said["name"].startswith("recall" if label else "false alarms")
    assert said["rate"]["value"] == rate
    assert said["rate"]["low"] < rate < said["rate"]["high"]
