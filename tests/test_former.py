"""What users hold goes on working: runs, checkpoints, caches, shards and manifests of version 0.1 before its rooms.

`former.zip` was made by that version: eight drawn clips of 0.6 s, the cache and shards of two of them, and a run that
stands after the first of two epochs, its weights replaced by a short pattern.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dfmm.dataset import MultimodalDataset, collate_windows, load_manifest
from dfmm.evaluation import evaluate_run, read_evaluation
from dfmm.extraction.shards import Shards
from dfmm.extraction.store import ArrayFile, read_crops, read_sound, read_track
from dfmm.manifest import read_manifest
from dfmm.model import load_model
from dfmm.runs import Run, open_run
from dfmm.settings import Settings, load_settings
from dfmm.training import Trainer, read_history


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files as they were left, in a project of their own."""
    with zipfile.ZipFile(Path(__file__).with_name("former.zip")) as archive:
        archive.extractall(tmp_path)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def settings(project: Path) -> Settings:
    return load_settings("params/former.yaml")


@pytest.fixture
def expected(project: Path) -> dict[str, Any]:
    """What that version made of them."""
    return json.loads((project / "expected.json").read_text(encoding="utf-8"))


def check_kept(file: ArrayFile, expected: dict[str, Any]) -> None:
    track, crops, sound = read_track(file), read_crops(file, range(8)), read_sound(file)
    assert len(track.times) == expected["frames"]
    assert len(crops) == expected["crops"]
    assert np.mean([crop.mean() for crop in crops.values()]) == pytest.approx(expected["crop_mean"])
    assert len(sound.samples) == expected["samples"]
    assert np.sqrt(np.mean(sound.samples[0 : expected["samples"]] ** 2)) == pytest.approx(expected["sound_rms"])


def test_a_file_of_the_cache_is_read(project: Path, expected: dict[str, Any]) -> None:
    check_kept(ArrayFile(project / "kept.safetensors"), expected)


def test_shards_are_read(project: Path, settings: Settings, expected: dict[str, Any]) -> None:
    data = settings.data.model_copy(update={"read": "shards", "root": "shards", "manifest": "manifest.parquet"})
    manifest = read_manifest(project / "shards" / "manifest.parquet", project / "shards")
    Shards(manifest, settings.model_copy(update={"data": data})).read(0, lambda file: check_kept(file, expected))


def test_a_manifest_is_the_same_in_either_form(project: Path, settings: Settings) -> None:
    written = read_manifest(project / "manifest.parquet", project / "data")
    assert written.equals(load_manifest(settings))


def test_a_model_gives_the_scores_it_gave(settings: Settings, expected: dict[str, Any]) -> None:
    model, made, facts = load_model("outputs/former/checkpoints/best.safetensors")
    assert facts["prior"] == expected["prior"]
    assert made.model == settings.model
    data = MultimodalDataset(load_manifest(settings).query("split == 'test'"), settings, progress=False)
    with torch.no_grad():
        logits = model(collate_windows([data[0], data[1]]))["logits"]
    assert logits.numpy() == pytest.approx(np.array(expected["logits"]), abs=1e-4)


def test_an_evaluation_is_read_back_and_made_again(settings: Settings, expected: dict[str, Any]) -> None:
    run = Run("outputs/former")
    report, videos, _ = read_evaluation(run, "test")
    assert report.split == "test"
    assert (report.version, report.macro_auc, report.calibration) == (0, None, None)  # of which it knew nothing
    assert list(videos["score"]) == pytest.approx(expected["scores"])
    assert list(evaluate_run(run, "test", progress=False)[1]["score"]) == pytest.approx(expected["scores"], abs=1e-4)


def test_a_training_goes_on_where_it_stood(settings: Settings) -> None:
    run = open_run("outputs/former", settings)
    Trainer(settings, load_manifest(settings), run, progress=False).fit()
    assert list(read_history(run)["epoch"]) == [1, 2]
