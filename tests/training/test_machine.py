"""Training is ready for a GPU: a step waits for none, half precision scores alike, and what cannot be had is said."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from dfmm.model import MultimodalModel, load_model
from dfmm.model.zoo import ModelEmaV3
from dfmm.runs import Run, open_run
from dfmm.settings import Settings
from dfmm.training import Trainer
from dfmm.training.checkpoints import State
from dfmm.training.optimizer import make_optimizer

from ..conftest import change

pytestmark = pytest.mark.usefixtures("decoded")  # no worker is started

Step = Callable[[], torch.Tensor]


@pytest.fixture
def step(tiny: Settings, manifest: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Step:
    """A step on PyTorch's `meta` device: as a GPU it holds nothing that the processor could know without waiting."""
    chosen = {"accumulate": 2, "windows": 2, "batch_size": 8}
    settings = change(tiny, train=chosen, model={"aggregation": "attention"}, data={"read": "cache"})
    trainer = Trainer(settings, manifest, open_run(tmp_path / "run", settings), progress=False)
    trainer._open_data()
    batch = next(iter(trainer.train_loader))
    batch["frame_mask"][0] = False
    monkeypatch.setattr(Accelerator, "device", torch.device("meta"))
    model = MultimodalModel(settings, pretrained=False)
    trainer.ema = ModelEmaV3(model, 0.9)
    trainer.ema.module.to("meta")
    trainer.raw_model = trainer.model = model.to("meta")
    trainer.optimizer, trainer.state = make_optimizer(model, settings.train), State()
    return partial(trainer._take_step, batch)


def test_a_step_waits_for_no_gpu(step: Step) -> None:
    assert step().is_meta


@pytest.mark.parametrize("wait", ["item", "cpu", "nonzero"])
def test_a_step_that_waits_is_found(wait: str, step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    move_weights = Trainer._move_weights

    def move_and_wait(trainer: Trainer) -> torch.Tensor:
        norm = move_weights(trainer)
        getattr(norm, wait)()
        return norm

    monkeypatch.setattr(Trainer, "_move_weights", move_and_wait)
    with pytest.raises(RuntimeError, match=r"(?i)meta"):
        step()


# What may be asked for


def train(settings: Settings, manifest: pd.DataFrame, folder: Path, **chosen: Any) -> tuple[Run, dict[str, Any]]:
    """Train for an epoch, and return the run and what its history says of that."""
    settings = change(settings, data={"read": "cache"}, train={"epochs": 1, **chosen})
    run = open_run(folder, settings)
    return run, Trainer(settings, manifest, run, progress=False).fit().iloc[0].to_dict()


def test_half_precision_scores_alike(tiny: Settings, manifest: pd.DataFrame, tmp_path: Path) -> None:
    manifest = manifest.assign(split=["train", "val"] * (len(manifest) // 2))  # an AUC of four videos turns at a breath
    full, half = (train(tiny, manifest, tmp_path / name, mixed_precision=name)[1] for name in ("no", "bf16"))
    assert half["train_loss"] != full["train_loss"]
    assert half["train_loss"] == pytest.approx(full["train_loss"], rel=0.02)
    assert half["val_loss"] == pytest.approx(full["val_loss"], rel=0.02)
    assert full["val_auc_low"] <= half["val_auc"] <= full["val_auc_high"]


def test_a_backbone_is_compiled_or_the_log_says_why_not(
    tiny: Settings, manifest: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def compile_module(module: nn.Module) -> None:
        def call(*values: Any) -> Any:
            calls.append(compiler)
            if compiler == "broken":
                raise RuntimeError("Cannot find a working triton")
            return module._call_impl(*values)

        module._compiled_call_impl = call

    monkeypatch.setattr(nn.Module, "compile", compile_module)
    models, logs = {}, {}
    for compiler in ("none", "working", "broken"):
        run, _ = train(tiny, manifest, tmp_path / compiler, compile=compiler != "none")
        models[compiler] = load_model(run.checkpoint)[0].state_dict()
        logs[compiler] = (run / "log.jsonl").read_text()
    assert calls.count("working") > 2
    assert (calls.count("none"), calls.count("broken")) == (0, 1)
    assert "the backbone is not compiled: Cannot find a working triton" in logs["broken"]
    assert "not compiled" not in logs["working"]
    for weights in models.values():
        assert all(torch.equal(value, models["none"][name]) for name, value in weights.items())
