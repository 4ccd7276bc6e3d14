"""Detectors that are not ours: trained or only evaluated, and never run because something that is stored names them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dfmm import settings as named
from dfmm.cli import main
from dfmm.evaluation import evaluate_run
from dfmm.model import DetectorError, PluginModel, load_model, save_model
from dfmm.model.detector import read_answers, read_logits
from dfmm.runs import Run, open_run
from dfmm.settings import Settings, SettingsError, load_settings, name_detector, save_settings
from dfmm.training import Trainer

from ..conftest import change

CODE = """
from pathlib import Path
import torch

Path(__file__).with_name("ran").touch()

class Size:
    def score_files(self, paths):
        return [None if path.stem.endswith("1") else path.stat().st_size for path in paths]

def files(settings):
    return Size()

def constant(settings):
    return lambda batch: torch.zeros(len(batch["label"]))

def loud(settings):
    return lambda batch: batch["log_mel"].mean(dim=(1, 2, 3)).numpy()
"""


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of somebody's, which leaves a file beside it where it is run; nobody has named it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(named, "_NAMED", set())
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    (tmp_path / "theirs.py").write_text(CODE)
    return tmp_path / "ran"


@pytest.mark.parametrize("path", ["detectors.frames:build", "detectors.sound:build"])
def test_a_detector_is_trained_or_only_evaluated_and_evaluated_like_ours(
    path: str, tiny: Settings, manifest: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(named, "_NAMED", {path})
    settings = change(tiny, model={"detector": path}, train={"epochs": 1}, synchrony={"use": True})
    run = open_run(tmp_path / "run", settings)
    history = Trainer(settings, manifest, run, progress=False).fit()
    assert len(history) == (path == "detectors.frames:build")  # the other has nothing that our loop could train
    report, videos, _ = evaluate_run(run, progress=False)
    assert (report.coverage.scored, report.coverage.failed) == (len(videos), 0)
    assert list(report.evidence.pieces) in ([], ["fusion"])  # nothing of ours is joined to it
    assert set(report.untaught) == {"video_fake", "audio_fake", "in_sync"}
    if path == "detectors.sound:build":
        assert videos["fusion_score"].nunique() > 2
        monkeypatch.setattr(named, "_NAMED", set())
        with pytest.raises(DetectorError, match="nothing that is stored may have it run"):
            load_model(run.checkpoint)


def test_nothing_that_is_stored_has_code_run(theirs: Path, tiny: Settings, tmp_path: Path) -> None:
    settings = change(tiny, model={"detector": "theirs:constant"})
    run = Run(tmp_path / "run")
    run.path.mkdir()
    save_settings(settings, run / "settings.yaml")
    loaded = load_settings(run / "settings.yaml")
    with pytest.raises(DetectorError, match="name it yourself: --detector theirs:constant"):
        PluginModel(loaded)
    save_model(torch.nn.Linear(1, 1), settings, run.checkpoint, prior=0.5)
    with pytest.raises(DetectorError, match="nothing that is stored"):
        load_model(run.checkpoint)
    assert main(["evaluate", str(run.path)]) == 1
    assert main(["score", "--model", str(run.checkpoint), tiny.data.root]) == 1
    assert not theirs.exists()
    (tmp_path / "mine.yaml").write_text("model: {detector: 'theirs:constant'}")
    assert load_settings(tmp_path / "mine.yaml").model.detector == "theirs:constant"  # a person's own file names it
    assert PluginModel(loaded).learns is False
    assert theirs.exists()


def test_a_stored_detector_that_is_named_again_runs(theirs: Path, tiny: Settings, tmp_path: Path) -> None:
    save_settings(change(tiny, model={"detector": "theirs:constant"}), tmp_path / "settings.yaml")
    with pytest.raises(DetectorError):
        PluginModel(load_settings(tmp_path / "settings.yaml", ["seed=1"]))
    again = load_settings(tmp_path / "settings.yaml", ["model.detector=theirs:constant"])
    assert PluginModel(again).path == "theirs:constant"


def test_one_that_scores_files_is_imported(
    theirs: Path, tiny: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate.replicates=100", "evaluate.slices=[]", "--manifest", str(Path(tiny.data.root) / "manifest.csv")]
    assert main(["import", "theirs:files", *words, "--run", str(tmp_path / "run")]) == 0
    assert "theirs:files: " in (said := capsys.readouterr().out)
    assert "fakes are high (as it was said" in said
    assert "videos has no score: " in said  # one of them
    page = next(tmp_path.glob("run/evaluations/*/report.html")).read_text(encoding="utf-8")
    assert "Fakes were high in the table (as it was said)" in page
    assert "no row in theirs:files" in page
    assert main(["import", "theirs:constant", *words, "--run", str(tmp_path / "other")]) == 1
    assert "has no score_files(paths)" in capsys.readouterr().err
    theirs.unlink()
    for option in ("--video", "--score"):
        assert main(["import", "theirs:files", *words, "--run", str(tmp_path / "third"), option, "name"]) == 1
        assert "--video and --score name columns of a table" in capsys.readouterr().err
    assert not (tmp_path / "third").exists()


def test_a_detector_that_would_change_nothing_is_refused(
    theirs: Path, tiny: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, other = open_run(tmp_path / "ours", tiny), Run(tmp_path / "other")
    other.path.mkdir()
    save_settings(change(tiny, model={"detector": "theirs:constant"}), other / "settings.yaml")
    save_model(torch.nn.Linear(1, 1), change(tiny, model={"detector": "theirs:constant"}), other.checkpoint, prior=0.5)
    for words, why in (
        (["evaluate", str(ours.path)], f"{ours.path} has no such detector; leave it out"),
        (["export", str(other.path)], f"{other.path} has theirs:constant; if you trust that, name it: --detector th"),
        (["robustness", str(other.path)], "has theirs:constant"),
        (["score", tiny.data.root, "--model", str(other.checkpoint)], f"{other.checkpoint} has theirs:constant"),
        (["score", tiny.data.root], "what needs neither run nor model has no such detector"),
    ):
        assert main([*words, "--detector", "theirs:files"]) == 1
        assert "--detector theirs:files changes nothing: " in (said := capsys.readouterr().err)
        assert why in said
    assert not theirs.exists()


def test_a_detector_that_is_named_is_run(
    theirs: Path, tiny: Settings, manifest: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name_detector("theirs:loud")
    settings = change(tiny, model={"detector": "theirs:loud"})
    model = save_model(PluginModel(settings), settings, tmp_path / "model.safetensors", prior=0.5, taught=[])
    named._NAMED.clear()
    words = ["score", str(Path(tiny.data.root) / manifest["path"].iloc[0]), "--model", str(model), "--json"]
    assert main(words) == 1
    assert "name it yourself: --detector theirs:loud" in capsys.readouterr().err
    assert main([*words, "--detector", "theirs:loud"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "ok"


def test_all_answers_lie_where_the_model_does(theirs: Path, tiny: Settings) -> None:
    name_detector("theirs:constant")
    model = PluginModel(change(tiny, model={"detector": "theirs:constant"})).to("meta")
    batch = {name: torch.ones(3, 2, dtype=torch.bool) for name in ("frame_mask", "sound_mask")}
    batch["label"] = torch.zeros(3)
    assert {value.device.type for value in model(batch).values()} == {"meta"}


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("theirs:nothing", "cannot be imported"),
        ("nowhere.at_all:build", "cannot be imported"),
        ("theirs:files", "dfmm"),
    ],
)
def test_what_is_no_detector_is_told(path: str, why: str, theirs: Path, tiny: Settings) -> None:
    name_detector(path)
    with pytest.raises(DetectorError, match=why):
        PluginModel(change(tiny, model={"detector": path}))


def test_scores_of_files_are_numbers_or_none() -> None:
    files = [Path("a.mp4"), Path("b.mp4")]
    for answer in ([1, None], (1.0, None), iter([np.float32(1), None]), [torch.tensor(1.0), None]):
        assert read_answers(answer, "x:y", files) == [1.0, None]
    for answer in (np.array([1, 2]), torch.tensor([1.0, 2.0]), pd.Series([1, 2], index=[7, 8])):
        assert read_answers(answer, "x:y", files) == [1.0, 2.0]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "NoneType"),
        (0.5, "float"),
        ([0.5], "1"),
        ([0.5, 0.5, 0.5], "3"),
        ([float("nan"), 0.5], r"nan for a\.mp4"),
        ([0.5, float("inf")], r"inf for b\.mp4"),
        (["0.5", "high"], r"'0\.5' for a\.mp4 and 1 more such"),
        ([True, 0.5], r"True for a\.mp4"),
        ([0.5, pd.NA], r"<NA> for b\.mp4"),
        ([0.5, torch.zeros(2)], r"tensor\(\[0\., 0\.\]\) for b\.mp4"),
        (np.zeros((2, 2)), r"array\(\[0\., 0\.\]\) for a\.mp4 and 1 more such"),
    ],
)
def test_what_is_no_score_of_files_is_told(answer: object, why: str) -> None:
    expected = r"^x:y: expected score_files to return a finite number, or None, for each of 2 files, got "
    with pytest.raises(DetectorError, match=f"{expected}{why}$"):
        read_answers(answer, "x:y", [Path("a.mp4"), Path("b.mp4")])


def test_answers_are_logits_of_each_window(tiny: Settings) -> None:
    for answer in (torch.tensor([1.0, -2.0]), np.array([[1.0], [-2.0]]), [1.0, -2.0]):
        assert read_logits(answer, "x:y", 2).diff(dim=1)[:, 0].tolist() == [1.0, -2.0]
    assert read_logits(both := torch.randn(3, 2), "x:y", 3) is both
    with pytest.raises(DetectorError, match=r"expected log-odds \[3\] .* got \(2,\)"):
        read_logits(torch.zeros(2), "x:y", 3)
    for path in ("os.system", "os:", "a b:c", "os:system()"):
        with pytest.raises(SettingsError, match=r"model\.detector"):
            change(tiny, model={"detector": path})
