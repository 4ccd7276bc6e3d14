"""Training learns, resumes to the same weights, and stops with a clear word."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest
import torch

from dfmm.model import load_model
from dfmm.runs import Run, RunError, open_run
from dfmm.settings import Settings
from dfmm.trainer import Trainer, TrainingError, compute_loss, cosine_with_warmup, group_parameters, require_checkpoint

from .conftest import change


def read_weights(run: Run) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.pt", weights_only=True)["model"]


@pytest.fixture(scope="module")
def finished(tiny: Settings, manifest: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run trained without a break."""
    run = open_run(tmp_path_factory.mktemp("runs") / "whole", tiny)
    Trainer(tiny, manifest, run, progress=False).fit()
    return run


def test_a_run_leaves_what_it_promises(finished: Run, tiny: Settings) -> None:
    record = finished.read()
    assert record["stages"]["train"]["status"] == "done"
    assert record["data_fingerprint"]
    assert record["threads"] >= 1
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if line["kind"] == "epoch"] == [1, 2, 3]
    assert sum(line["kind"] == "step" for line in lines) == 3 * 2  # 12 training videos in batches of 6
    _, settings, facts = load_model(finished.checkpoint)
    assert settings == tiny
    assert 0 < facts["prior"] < 1


def test_a_finished_run_is_not_trained_again(finished: Run, tiny: Settings, manifest: pd.DataFrame) -> None:
    before = (finished / "metrics.jsonl").read_bytes()
    history = Trainer(tiny, manifest, finished, progress=False).fit()
    assert len(history) == 3
    assert (finished / "metrics.jsonl").read_bytes() == before


def test_a_killed_run_resumes_to_the_same_weights(
    finished: Run, tiny: Settings, manifest: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_run(tmp_path / "broken", tiny)
    trainer, take_step = Trainer(tiny, manifest, run, progress=False), Trainer._take_step

    def die_in_epoch_3(self: Trainer, batch: dict, epoch: int, step: int) -> float:
        if (epoch, step) == (3, 1):
            raise KeyboardInterrupt
        return take_step(self, batch, epoch, step)

    monkeypatch.setattr(Trainer, "_take_step", die_in_epoch_3)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert run.status("train") == "interrupted"
    monkeypatch.undo()
    Trainer(tiny, manifest, run, progress=False).fit()
    assert (run / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()
    for name, value in read_weights(run).items():
        assert torch.equal(value, read_weights(finished)[name]), name


def test_it_can_learn_four_videos_by_heart(tiny: Settings, manifest: pd.DataFrame, tmp_path: Path) -> None:
    nothing = dict.fromkeys(("flip", "crop", "colour", "sound_gain", "drop_stream"), 0.0)
    train = {"epochs": 40, "batch_size": 4, "lr": 5e-3, "patience": 40}
    settings = change(tiny, data={"limit": 4}, augment=nothing, train=train, model={"dropout": 0.0})
    history = Trainer(settings, manifest, open_run(tmp_path / "four", settings), progress=False).fit()
    assert history["train_loss"].iloc[-1] < 0.25 * history["train_loss"].iloc[0]


def test_training_ends_when_validation_no_longer_improves(
    tiny: Settings, manifest: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = change(tiny, train={"epochs": 9, "patience": 2})
    aucs = iter([0.5, 0.8, 0.7, 0.6, 0.9])
    monkeypatch.setattr(Trainer, "_validate", lambda self: {"val_loss": 1.0, "val_auc": next(aucs)})
    run = open_run(tmp_path / "early", settings)
    assert len(Trainer(settings, manifest, run, progress=False).fit()) == 4
    assert load_model(run.checkpoint)[2]["epoch"] == 2


def test_monitor_decides_which_epoch_is_best(
    tiny: Settings, manifest: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for monitor, best in (("auc", 2), ("loss", 3)):
        settings = change(tiny, train={"monitor": monitor})
        records = iter([(1.0, 0.5), (0.9, 0.8), (0.5, 0.7)])
        monkeypatch.setattr(
            Trainer, "_validate", lambda self, r=records: dict(zip(("val_loss", "val_auc"), next(r), strict=True))
        )
        run = open_run(tmp_path / monitor, settings)
        Trainer(settings, manifest, run, progress=False).fit()
        assert load_model(run.checkpoint)[2]["epoch"] == best


def test_unknown_labels_and_absent_streams_teach_nothing() -> None:
    torch.manual_seed(0)
    outputs = {
        "logits": torch.randn(4, 2),
        **{name: torch.randn(4) for name in ("video_fake", "audio_fake", "in_sync")},
    }
    outputs = {name: value.requires_grad_() for name, value in outputs.items()}
    batch = {
        "label": torch.tensor([1, 0, 1, 0]),
        "video_fake": torch.tensor([1, -1, 0, 0]),
        "audio_fake": torch.tensor([1, 0, 1, 0]),
        "in_sync": torch.tensor([1, 1, 0, 0]),
        "frame_mask": torch.tensor([[True], [True], [False], [False]]),
        "sound_mask": torch.tensor([[True], [True], [True], [False]]),
    }
    compute_loss(outputs, batch, stream_loss=0.5).backward()
    taught = {name: (value.grad.reshape(4, -1) != 0).any(dim=1).tolist() for name, value in outputs.items()}
    assert taught["logits"] == [True, True, True, False]
    assert taught["video_fake"] == [True, False, False, False]
    assert taught["audio_fake"] == [True, True, True, False]
    assert taught["in_sync"] == [True, True, False, False]


def test_only_weights_decay() -> None:
    weights, others = group_parameters(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2)), 0.1)
    assert [tuple(p.shape) for p in weights["params"]] == [(2, 2)]
    assert len(others["params"]) == 3
    assert others["weight_decay"] == 0


def test_the_rate_climbs_and_falls() -> None:
    share = cosine_with_warmup(100, 0.1)
    shares = [share(step) for step in range(101)]
    assert shares.index(max(shares)) in (9, 10)
    assert max(shares) == 1
    assert shares[0] == pytest.approx(0.1)
    assert shares[100] == pytest.approx(0)


def test_a_loss_that_is_no_number_names_the_videos(
    tiny: Settings, manifest: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dfmm.trainer.compute_loss", lambda *args, **kwargs: torch.tensor(math.nan))
    run = open_run(tmp_path / "nan", tiny)
    with pytest.raises(TrainingError, match=r"train/\d+.*train\.lr"):
        Trainer(tiny, manifest, run, progress=False).fit()
    assert run.status("train") == "failed"


def test_a_model_that_has_blown_up_is_refused(tiny: Settings, manifest: pd.DataFrame, tmp_path: Path) -> None:
    settings = change(tiny, train={"lr": 1e6, "clip": 1e6})
    with pytest.raises(TrainingError, match=r"lower train\.lr"):
        Trainer(settings, manifest, open_run(tmp_path / "wild", settings), progress=False).fit()


def test_one_label_only_is_refused(tiny: Settings, manifest: pd.DataFrame, tmp_path: Path) -> None:
    reals = manifest[(manifest["label"] == 0) | (manifest["split"] != "train")]
    with pytest.raises(TrainingError, match="only real videos"):
        Trainer(tiny, reals, open_run(tmp_path / "reals", tiny), progress=False).fit()


def test_only_the_quick_run_makes_its_own_checkpoint(tiny: Settings, manifest: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="03_train"):
        require_checkpoint(open_run(tmp_path / "named", tiny), tiny, manifest)
