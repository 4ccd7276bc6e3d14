"""What cannot work is said before anything is begun: all of it at once, and nothing of what can."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pandas as pd
import pytest

from dfmm.extraction.extract import extract_tracks
from dfmm.headless import run_notebooks
from dfmm.runs import Run, open_run
from dfmm.settings import Settings
from dfmm.training import needs
from dfmm.training.machine import TrainingError
from dfmm.training.needs import check_data, check_needs
from dfmm.training.trainer import Trainer

from ..conftest import change

Usage = namedtuple("Usage", "total used free")


def test_what_is_there_is_enough(tiny: Settings, tmp_path: Path) -> None:
    check_needs(tiny, Run(tmp_path / "run"))


def test_all_that_is_missing_is_said_at_once(tiny: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "find_spec", lambda _: None)
    monkeypatch.setattr("dfmm.extraction.tracks.has_mesh", lambda: False)
    settings = change(tiny, model={"pretrained": "nowhere.safetensors"})
    settings = change(settings, extract={"engine": "dask"})
    settings = change(settings, synchrony={"use": True, "mesh": "always"})
    with pytest.raises(TrainingError) as raised:
        check_needs(settings, Run(tmp_path / "run"))
    for words in ("nowhere.safetensors: no such file", "dfmm[dask]", "dfmm[mesh]"):
        assert words in str(raised.value)


def test_a_model_that_is_there_needs_no_weights(tiny: Settings, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.checkpoint.parent.mkdir(parents=True)
    run.checkpoint.touch()
    settings = change(tiny, model={"pretrained": "nowhere.safetensors"})
    check_needs(settings, run)
    with pytest.raises(TrainingError, match="nowhere"):
        check_needs(settings, run, restart=True)


@pytest.mark.parametrize(
    ("drop", "says"),
    [
        ({"split": "val"}, "no video is in the split 'val'"),
        ({"split": "train", "label": 1}, "'train' has only real videos.*forge.share"),
        ({"split": "val", "label": 0}, "'val' has only fake videos"),
    ],
)
def test_splits_and_labels(tiny: Settings, manifest: pd.DataFrame, drop: dict[str, object], says: str) -> None:
    gone = (manifest[list(drop)] == pd.Series(drop)).all(axis=1)
    with pytest.raises(TrainingError, match=says):
        check_data(manifest[~gone], tiny)


def test_forged_reals_need_no_fakes(tiny: Settings, manifest: pd.DataFrame) -> None:
    reals = manifest[manifest["label"] == 0]
    check_data(reals, change(tiny, forge={"share": 0.5}))
    with pytest.raises(TrainingError, match="only real"):
        check_data(reals, tiny)


def test_a_wrong_root_is_told_from_one_lost_file(tiny: Settings, manifest: pd.DataFrame) -> None:
    lost = manifest.copy()
    lost.loc[lost.index[0], "path"] = "gone.mp4"
    check_data(lost, tiny)  # costs only itself, later
    with pytest.raises(TrainingError, match=f"none of the manifest's {len(manifest)} files is there"):
        check_data(manifest.assign(path="gone/" + manifest["path"]), tiny)


def test_room_is_asked_for_what_is_not_kept_yet(
    tiny: Settings, manifest: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = change(tiny, data={"read": "cache", "cache": str(tmp_path / "cache")})
    few = manifest.groupby(["split", "label"]).head(1).reset_index(drop=True)
    foreseen = needs._estimate_cache(few, settings)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, foreseen - 1))
    with pytest.raises(TrainingError, match=r"data\.cache: about .* GB are needed"):
        check_data(few, settings)
    check_data(few, change(settings, data={"read": "videos"}))  # which keeps nothing
    more = pd.concat([few, few.assign(video_id=few["video_id"] + "again")], ignore_index=True)
    with pytest.raises(TrainingError, match=r"data\.cache"):
        check_data(more, change(settings, data={"limit": 2}))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, foreseen + 1))
    check_data(more, change(settings, data={"limit": 2}))
    extract_tracks(few, settings, crops=True, progress=False)
    kept = sum(file.stat().st_size for file in (tmp_path / "cache").rglob("*.safetensors"))
    assert 0.6 * kept < foreseen < 1.6 * kept
    check_data(few, settings)


def test_a_notebook_that_trains_is_not_begun(tiny: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfmm.headless.load_settings", lambda *_: change(tiny, model={"pretrained": "nowhere.pth"}))
    monkeypatch.setattr("dfmm.headless._execute", lambda *_: pytest.fail("begun"))
    for name in ("all", "3"):
        with pytest.raises(TrainingError, match=r"nowhere\.pth"):
            run_notebooks(name, "params/any.yaml", run=tmp_path / "run")
    assert not (tmp_path / "run" / "settings.yaml").exists()  # so that the right settings are not other ones


def test_a_training_reads_no_video_before_it_knows(
    tiny: Settings, manifest: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "_open_data", lambda _: pytest.fail("read"))
    settings = change(tiny, model={"pretrained": "nowhere.pth"})
    with pytest.raises(ValueError, match=r"nowhere\.pth"):
        Trainer(settings, manifest, open_run(tmp_path / "run", settings), progress=False).fit()
