"""Training as a process of its own: killed anywhere it goes on to the same end, and several give what one gives."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dfmm.runs import Run
from dfmm.settings import Settings, save_settings
from dfmm.training.checkpoints import load_checkpoint

from ..conftest import change

KILLS = 20


def start(settings: Path, run: Path, *overrides: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "dfmm", "train", str(settings), *overrides, "--run", str(run)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def finish(settings: Path, run: Path, *overrides: str) -> str:
    process = start(settings, run, *overrides)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def count_lines(run: Path) -> int:
    file = run / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.is_file() else 0


def read_steps(run: Path, kind: str, name: str) -> np.ndarray:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return np.array([line[name] for line in lines if line["kind"] == kind])


@pytest.fixture
def params(tiny: Settings, tmp_path: Path) -> Path:
    """A params file of a training with a state of every kind, some seconds long."""
    train = {"epochs": 25, "batch_size": 4, "ema": 0.9, "checkpoint_every": 2, "patience": 25, "balance": "label"}
    settings = change(tiny, data={"workers": 1}, train=train, model={"temporal": "transformer", "dropout": 0.5})
    save_settings(settings, tmp_path / "params.yaml")
    return tmp_path / "params.yaml"


@pytest.mark.slow
def test_twenty_kills_change_nothing(params: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(params, whole)
    total = len((whole / "metrics.jsonl").read_bytes().splitlines())
    rng, reached = np.random.default_rng(0), []
    for number, line in enumerate(np.sort(rng.choice(np.arange(1, total), KILLS, replace=False))):
        process = start(params, broken)
        while count_lines(broken) < line and process.poll() is None:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.05))  # anywhere within a step
        process.send_signal(signal.SIGTERM if number % 4 == 0 else signal.SIGKILL)
        said, _ = process.communicate(timeout=60)
        assert process.returncode in (143, -signal.SIGKILL), said
        state = load_checkpoint(broken / "checkpoints") or {"epoch": 1, "step": 0}
        reached.append((state["epoch"], state["step"]))
    assert len(set(reached)) > KILLS / 2, f"the kills came too early or too late to mean anything: {reached}"
    finish(params, broken)
    assert (broken / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert Run(broken).checkpoint.read_bytes() == Run(whole).checkpoint.read_bytes()


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(tiny: Settings, tmp_path: Path) -> None:
    model = {"backbone": "test_vit", "audio_backbone": "test_vit", "dropout": 0.0}  # no BatchNorm, no dropout
    # Batches of 5 of 12 videos, and of 4 of 2: the last ones are not even.
    train = {"epochs": 7, "batch_size": 10, "patience": 7, "class_weights": True}
    save_settings(change(tiny, model=model, train=train), tmp_path / "params.yaml")
    one, two = tmp_path / "one", tmp_path / "two"
    finish(tmp_path / "params.yaml", one)
    said = finish(tmp_path / "params.yaml", two, "train.processes=2")
    assert "epoch 7/7" in said
    assert json.loads((two / "run.json").read_text())["processes"] == 2
    for kind, name in [("step", "loss"), ("step", "grad_norm"), ("epoch", "val_loss"), ("epoch", "val_auc")]:
        losses = [read_steps(run, kind, name) for run in (one, two)]
        assert len(losses[0]) == len(losses[1]) >= 7
        np.testing.assert_allclose(*losses, atol=1e-4, rtol=1e-3 if name == "grad_norm" else 0)


@pytest.mark.slow
def test_sigterm_reaches_all_processes(params: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(params, whole, "train.processes=2")
    process = start(params, broken, "train.processes=2")
    while not (broken / "metrics.jsonl").is_file():
        time.sleep(0.1)
        assert process.poll() is None
    process.terminate()
    process.communicate(timeout=120)
    assert process.returncode == 143
    assert Run(broken).status("train") == "interrupted"
    finish(params, broken, "train.processes=2")
    assert (broken / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


@pytest.mark.slow
def test_trackio_is_told_the_metrics(tiny: Settings, tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    save_settings(change(tiny, logging={"trackers": ["trackio"]}), tmp_path / "params.yaml")
    finish(tmp_path / "params.yaml", tmp_path / "run")
    with sqlite3.connect(tmp_path / "run" / "trackers" / "trackio" / "dfmm.db") as database:
        told = [json.loads(row[0]) for row in database.execute("SELECT metrics FROM metrics ORDER BY step")]
    told = [record["val_loss"] for record in told if "val_loss" in record]
    assert told == pytest.approx(list(read_steps(tmp_path / "run", "epoch", "val_loss")))
