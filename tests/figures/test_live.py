"""Live training: what is drawn is what the files say, a wish to stop reaches the run, and a still is left."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from dfmm.figures.live import LiveCurves, list_panels, plot_progress, watch_training
from dfmm.figures.still import VIEW
from dfmm.runs import Run, RunError
from dfmm.training import Progress


def write_run(path: Path, epochs: int) -> Run:
    """Write what a training of two steps an epoch leaves."""
    run = Run(path)
    run.describe(plan={"steps": 2, "epochs": 4, "patience": 4, "monitor": "auc"})
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        for epoch in range(1, epochs + 1):
            for step in range(2):
                values = {"loss": 2.0 / epoch, "loss_label": 1.0 / epoch, "grad_norm": 1.0, "lr": 1e-3}
                file.write(json.dumps({"kind": "step", "epoch": epoch, "step": step, **values}) + "\n")
            aucs = {"val_auc": 0.5 + 0.1 * epoch, "val_auc_low": 0.4, "val_auc_high": 0.95}
            line = {"kind": "epoch", "epoch": epoch, "train_loss": 2.0 / epoch, "val_loss": 3.0 / epoch, **aucs}
            file.write(json.dumps({**line, "val_loss_label": 1.5 / epoch}) + "\n")
    return run


def test_runs_are_drawn_over_each_other(tmp_path: Path) -> None:
    runs = [Progress(write_run(tmp_path / name, epochs)) for name, epochs in (("a", 2), ("b", 3))]
    panels = {panel["title"]: panel for panel in list_panels(runs)}
    assert set(panels) == {"loss, all terms", "loss of real or fake", "validation AUC, 95 % interval", "learning rate"}
    lines = panels["loss of real or fake"]["lines"]
    assert [(line["run"], line["dashed"]) for line in lines] == [(0, False), (0, True), (1, False), (1, True)]
    assert lines[2]["x"] == [0.5, 1, 1.5, 2, 2.5, 3]
    assert lines[2]["y"] == pytest.approx([1, 1, 1 / 2, 1 / 2, 1 / 3, 1 / 3])
    auc = panels["validation AUC, 95 % interval"]["lines"][0]
    assert (auc["x"], auc["low"], auc["high"]) == ([1, 2], [0.4, 0.4], [0.95, 0.95])
    json.dumps(list_panels(runs), allow_nan=False)
    figure = plot_progress(runs)
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(panels)


def test_a_run_that_has_not_begun_is_drawn_too(tmp_path: Path) -> None:
    run = Progress(Run(tmp_path / "new"))
    assert list_panels([run]) == []
    assert plot_progress([run])
    assert run.tell() == "not begun"


def test_the_widget_follows_and_passes_on_a_wish_to_stop(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", 1)
    with run.stage("train"):
        live = LiveCurves([Progress(run)])
        try:
            assert live.runs[0]["status"] == "running"
            write_run(run.path, 2)
            deadline = time.monotonic() + 20
            while len(live.panels[0]["lines"][0]["x"]) < 6 and time.monotonic() < deadline:  # its thread looks
                time.sleep(0.05)
            assert len(live.panels[0]["lines"][0]["x"]) == 6
            live._answer(live, {"kind": "stop", "run": 0}, [])
            assert run.asked_to_stop
            assert live.runs[0]["status"] == "stopping"
            assert "goes on from" in live.said
        finally:
            live.close()
    live._answer(live, {"kind": "stop", "run": 0}, [])
    assert "nothing to stop" in live.said


def test_a_saved_notebook_has_a_still_and_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, shown = write_run(tmp_path / "<b>a</b>", 1), []
    monkeypatch.setattr("dfmm.figures.still.display", lambda data, **_: shown.append(data))
    monkeypatch.setattr("dfmm.figures.live.display", lambda watch: watch._ipython_display_())
    monkeypatch.setenv("DFMM_HEADLESS", "1")

    def train() -> None:
        with watch_training(run):
            write_run(run.path, 2)
            assert not shown  # there is nothing yet to be seen
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    assert [set(data) for data in shown] == [{"text/html", "text/plain"}, {"image/png", "text/plain"}]
    assert "<b>a</b>" not in shown[0]["text/html"]
    assert "epoch 2: loss 1.000, validation loss 1.500, validation AUC 0.700 [0.400, 0.950]" in shown[1]["text/plain"]
    assert not any(VIEW in data for data in shown)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is no run"):
        watch_training(tmp_path)
