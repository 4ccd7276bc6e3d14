"""Live training: what is drawn is what the files say, a wish to stop reaches the run, and a still is left."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dfmm.cli import make_parser
from dfmm.figures.live import LiveCurves, explain_end, list_panels, name_commands, plot_progress, watch_training
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


class Process:
    """One that was started, and its exit status once it has ended."""

    def __init__(self) -> None:
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self.returncode


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[Process]:
    """Those that were started to go on with a run; none trains."""
    started: list[Process] = []
    monkeypatch.setattr("dfmm.figures.live.start_training", lambda run: started.append(Process()) or started[-1])
    return started


def wait_for(find: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not find() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert find()


def test_a_run_goes_on_once_however_often_it_is_asked_to(tmp_path: Path, processes: list[Process]) -> None:
    run = write_run(tmp_path / "a", 1)
    live = LiveCurves([Progress(run)])
    try:
        for said in ("in a process of its own", "goes on already"):
            live._answer(live, {"kind": "go", "run": 0}, [])
            assert said in live.said
        assert len(processes) == 1
        with run.stage("train"):  # somebody else's process is at it
            processes[0].returncode = 0
            live._answer(live, {"kind": "go", "run": 0}, [])
            assert "goes on already" in live.said
        live._answer(live, {"kind": "go", "run": 0}, [])
        assert len(processes) == 2
    finally:
        live.close()


@pytest.mark.parametrize(("status", "failed"), [(0, False), (130, False), (143, False), (-15, False), (1, True)])
def test_a_process_that_was_stopped_has_not_failed(status: int, failed: bool) -> None:
    process = Process()
    process.returncode = status
    assert ("go_on.log" in explain_end(process, "a")) is failed


def test_a_busy_kernel_is_got_around_by_a_command_for_each_button(tmp_path: Path) -> None:
    commands = name_commands(Run(tmp_path / "my run"))
    assert [shlex.split(commands[kind])[:2] for kind in ("stop", "go")] == [["dfmm", "stop"], ["dfmm", "train"]]
    for words in map(shlex.split, commands.values()):
        assert find_run_of(words[1:]) == tmp_path / "my run"


def find_run_of(words: list[str]) -> Path:
    return Path(make_parser().parse_args(words).run)


def test_nobody_looks_any_more_where_all_is_over_or_the_widget_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: list[Process]
) -> None:
    monkeypatch.setattr("dfmm.figures.live.SECONDS", 0.02)
    monkeypatch.setattr("dfmm.figures.live.REST_SECONDS", 0.2)
    run = write_run(tmp_path / "a", 1)
    with run.stage("train"):
        live = LiveCurves([Progress(run)])
        time.sleep(0.5)
        assert live.thread is not None
        live.held = True
    time.sleep(0.5)
    assert live.thread is not None  # the cell that trains has not ended
    live.held = False
    wait_for(lambda: live.thread is None)
    assert "run the cell again" in live.said
    live._answer(live, {"kind": "go", "run": 0}, [])
    assert live.thread.is_alive()
    processes[0].returncode = 0
    wait_for(lambda: live.thread is None)
    live.follow()
    thread = live.thread
    live.close()
    thread.join(20)
    assert not thread.is_alive()


def test_every_view_follows_by_itself(tmp_path: Path) -> None:
    watch = watch_training(write_run(tmp_path / "a", 1))
    views = [watch.make(), watch.make()]
    try:
        followed = {id(run) for run in (*watch.runs, *views[0].followed, *views[1].followed)}
        assert len(followed) == 3
    finally:
        for view in views:
            view.close()


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
