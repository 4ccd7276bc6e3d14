"""Following a run by its files: only what is new is read, whatever is half-written, cut or long."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dfmm.runs import Run
from dfmm.training.concerns import find_concerns, name_place
from dfmm.training.progress import POINTS, Progress, Tail


def make_step(epoch: int, step: int, **values: float) -> dict[str, Any]:
    return {"kind": "step", "epoch": epoch, "step": step, "loss": 1.0 / (10 * epoch + step), "lr": 1e-3, **values}


def make_epoch(epoch: int, **values: float) -> dict[str, Any]:
    return {"kind": "epoch", "epoch": epoch, "train_loss": 1 / epoch, "val_loss": 2 / epoch, "val_auc": 0.7, **values}


def append(file: Path, *records: dict[str, Any], end: str = "\n") -> None:
    with file.open("a", encoding="utf-8") as out:
        out.write("\n".join(map(json.dumps, records)) + end)


def test_only_new_lines_are_read_and_half_a_line_waits_for_its_end(tmp_path: Path) -> None:
    tail, file = Tail(tmp_path / "metrics.jsonl"), tmp_path / "metrics.jsonl"
    assert tail.read() == ([], True)
    append(file, make_step(1, 0), make_step(1, 1), end="")
    assert tail.read() == ([make_step(1, 0)], True)
    append(file, end="\n")
    assert tail.read() == ([make_step(1, 1)], False)
    with file.open("r+b") as out:  # what was read is not read again: nobody sees it change but for its last line
        out.write(b"#")
    append(file, make_step(1, 2))
    assert tail.read() == ([make_step(1, 2)], False)
    assert tail.read() == ([], False)


def test_a_file_that_was_cut_is_read_anew(tmp_path: Path) -> None:
    run = Run(tmp_path)
    file, steps = tmp_path / "metrics.jsonl", [make_step(1, step) for step in range(4)]
    append(file, *steps)
    progress = Progress(run)
    assert progress.done == 4
    for kept in (2, 3):  # shorter than before; and grown past it, as a training that goes on leaves it
        file.write_text("".join(json.dumps(step) + "\n" for step in steps[:kept]), encoding="utf-8")
        if kept == 3:
            append(file, make_step(1, 3, grad_norm=2.0), make_epoch(1))
        assert progress.look()
        assert progress.done == (2 if kept == 2 else 4)
        assert len(progress.epochs) == (kept == 3)
    file.unlink()
    progress.look()
    assert (progress.done, progress.epochs, progress.list_steps()) == (0, [], {"epoch": []})


def test_a_long_curve_keeps_its_means_in_few_points(tmp_path: Path) -> None:
    run, steps = Run(tmp_path), 10 * POINTS
    run.describe(plan={"steps": steps, "epochs": 1})
    losses = np.random.default_rng(0).random(steps)
    append(tmp_path / "metrics.jsonl", *(make_step(1, n) | {"loss": float(loss)} for n, loss in enumerate(losses)))
    curves = Progress(run).list_steps()
    assert POINTS <= len(curves["loss"]) <= 2 * POINTS
    assert np.mean(curves["loss"][:-1]) == pytest.approx(losses.mean(), abs=0.01)
    middle = np.searchsorted(curves["epoch"], 0.5)
    assert curves["loss"][0] == pytest.approx(losses[: steps // len(curves["loss"])].mean(), abs=0.15)
    assert abs(middle / len(curves["epoch"]) - 0.5) < 0.01
    assert curves["epoch"][-1] <= 1


def test_pace_and_time_left_are_what_was_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, clock = Run(tmp_path), [0.0]
    monkeypatch.setattr("dfmm.training.progress.time", SimpleNamespace(monotonic=lambda: clock[-1]))
    run.describe(plan={"steps": 10, "epochs": 4, "monitor": "auc", "patience": 10})
    with run.stage("train"):
        progress = Progress(run)
        for now, step in ((50.0, -1), (52.0, 3), (60.0, 8)):  # it makes ready for 50 seconds
            clock.append(now)
            if step >= 0:
                append(tmp_path / "metrics.jsonl", *(make_step(1, n) for n in range(progress.here[1], step + 1)))
            progress.look()
        assert progress.rate == pytest.approx(0.9)  # 9 steps in 10 seconds
        assert progress.seconds_left == pytest.approx(31 / 0.9)
        assert "running; epoch 1 of 4, step 9 of 10; 0.9 steps a second; 34 s left" in progress.tell()
        clock.append(200.0)
        assert "nothing new for 2 min" in progress.tell()
    progress.look()
    assert progress.seconds_left is None
    assert progress.tell().startswith("done")


def test_a_run_whose_lock_is_out_of_sight_runs_as_long_as_lines_come(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.update("train", status="running")  # by another machine, whose lock this one does not see
    append(tmp_path / "metrics.jsonl", make_step(1, 0))
    progress = Progress(run)
    assert progress.status == "crashed"
    append(tmp_path / "metrics.jsonl", make_step(1, 1))
    progress.look()
    assert progress.status == "running"
    progress.changed -= 100  # seconds
    assert progress.status == "crashed"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_only_be_read_is_followed(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.update("train", status="running")
    for folder in (run / "locks", run.path):
        folder.chmod(0o555)
    try:
        assert Progress(run).status == "running"
    finally:
        run.path.chmod(0o755)


def make_history(**columns: list[float]) -> pd.DataFrame:
    count = len(next(iter(columns.values())))
    falling = [1.0 / (epoch + 1) + 0.5 for epoch in range(count)]
    plain = {"epoch": range(1, count + 1), "train_loss": falling, "val_loss": falling}
    aucs = {"val_auc": np.linspace(0.6, 0.9, count), "val_auc_low": 0.55, "val_auc_high": 0.95}
    return pd.DataFrame({**plain, **aucs, **columns})


MANY = {"videos": 800, "reals": 400, "fakes": 400, "people": 500}
FEW = {"videos": 4, "reals": 2, "fakes": 2, "people": 3}
NAMELESS = FEW | {"people": 4, "nameless": 4}
WIDE = {"train": MANY, "val": MANY}


@pytest.mark.parametrize(
    ("columns", "splits", "said"),
    [
        ({"val_auc": [0.6, 0.7]}, WIDE, []),
        ({"val_auc": [0.6]}, {"train": MANY, "val": FEW}, ["4 videos (2 real, 2 fake) of 3 people: one"]),
        ({"train_loss": [1.0, 0.05]}, {"train": FEW, "val": MANY}, ["Training loss is 0.050, near 0, with 3 people"]),
        ({"val_auc": [0.6]}, {"val": NAMELESS}, ["4 videos (2 real, 2 fake), which name nobody: one"]),
        ({"train_loss": [1.0, 0.05]}, {"train": NAMELESS}, ["near 0, with 4 videos: it"]),
        ({"train_loss": [1.0, 0.05]}, {"train": FEW | {"nameless": 1}}, ["3 people at most (1 video names nobody)"]),
        ({"train_loss": [1.0, 0.05]}, WIDE, []),  # so many are not learnt by heart
        ({"train_loss": [1.0, 0.5, 0.2], "val_loss": [1.0, 0.8, 1.1]}, WIDE, ["risen from 0.800 in epoch 2 to 1.100"]),
        ({"train_loss": [1.0, 0.99, 1.0, 1.01, 0.99]}, WIDE, ["has not fallen in 5 epochs"]),
        ({"val_auc": [1.0] * 9}, WIDE, ["Epoch 9 is the 9th called best at the same validation AUC, 1.000"]),
        ({"val_auc": [0.6] * 2}, WIDE, []),
        ({"val_auc_low": [0.4] * 6}, WIDE, ["chance is within its interval"]),
        ({"val_auc": [0.9, 0.8, 0.8, 0.8, 0.8, 0.8]}, WIDE, ["None of the last 5 epochs was better than epoch 1"]),
    ],
)  # fmt: skip
def test_what_a_person_would_stop_for_is_said_and_nothing_else(columns: dict, splits: dict, said: list[str]) -> None:
    plan = {"steps": 4, "epochs": 20, "patience": 10, "monitor": "auc"}
    found = find_concerns(make_history(**columns), {"splits": splits, "plan": plan})
    assert len(found) == len(said), found
    for sentence, part in zip(found, said, strict=True):
        assert part in sentence


def test_a_run_of_before_is_judged_by_what_it_says() -> None:
    history = make_history(val_auc=[0.6, 0.7]).drop(columns=["val_auc_low", "val_auc_high"])
    assert find_concerns(history, {"stages": {}}) == []
    assert find_concerns(pd.DataFrame(), {"stages": {}, "splits": {"train": MANY, "val": MANY}}) == []


def test_places_are_named() -> None:
    places = {1: "1st", 2: "2nd", 3: "3rd", 4: "4th", 11: "11th", 21: "21st", 112: "112th"}
    assert {number: name_place(number) for number in places} == places
