"""A run's folder: a status that is true after a crash too, files that are whole, settings that cannot be mixed up."""

from __future__ import annotations

import errno
import json
import logging
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dfmm.files import write_beside, write_json
from dfmm.runs import Run, RunError, open_run, read_lines, start_logging
from dfmm.settings import Settings, load_settings, validate_settings

WORK_UNTIL_KILLED = """
import sys, time
from dfmm.runs import Run
with Run(sys.argv[1]).stage("train"):
    print("at work", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "run")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another project than the repository, where the quick run is ours to spoil."""
    (tmp_path / "params").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fill(run: Run, *names: str) -> None:
    for name in names:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("x", encoding="utf-8")


def list_files(run: Run) -> set[str]:
    files = (path.relative_to(run.path) for path in run.path.rglob("*") if path.is_file())
    return {path.as_posix() for path in files if path.parts[0] != "locks"}


def test_a_stage_is_running_and_then_done(run: Run) -> None:
    assert run.status("train") == "none"
    with run.stage("train"):
        assert run.status("train") == "running"
        assert run.status("04_evaluate") == "none"
    stage = run.read()["stages"]["train"]
    assert (stage["status"], stage["error"]) == ("done", None)
    assert stage["seconds"] >= 0
    assert stage["started"] <= stage["ended"]


def test_a_stage_that_raises_has_failed_and_says_why(run: Run) -> None:
    with pytest.raises(ZeroDivisionError), run.stage("train"):
        raise ZeroDivisionError("by zero")
    assert run.status("train") == "failed"
    assert run.read()["stages"]["train"]["error"] == "ZeroDivisionError: by zero"


def test_a_stage_that_is_stopped_was_interrupted(run: Run) -> None:
    for stop in (KeyboardInterrupt, SystemExit):
        with pytest.raises(stop), run.stage("train"):
            raise stop
        assert run.status("train") == "interrupted"


def test_a_second_attempt_forgets_how_the_first_one_ended(run: Run) -> None:
    with pytest.raises(ValueError, match="no"), run.stage("train"):
        raise ValueError("no")
    with run.stage("train"):
        stage = run.read()["stages"]["train"]
        assert (stage["error"], stage["ended"], stage["seconds"]) == (None, None, None)


def test_a_stage_is_running_as_long_as_its_process_lives_and_has_crashed_when_it_was_killed(run: Run) -> None:
    command = [sys.executable, "-c", WORK_UNTIL_KILLED, str(run.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        assert run.status("train") == "running"
        with pytest.raises(RunError, match="running in another process"), run.stage("train"):
            pass
        with run.stage("other"):  # stages do not hinder each other
            pass
        assert run.read()["stages"]["train"]["pid"] == process.pid
        process.send_signal(signal.SIGKILL)
    assert run.status("train") == "crashed"
    run.update("train", epoch=3)
    assert run.status("train") == "crashed"
    with run.stage("train"):
        assert run.status("train") == "running"
    assert run.status("train") == "done"


def test_a_run_is_opened_again_with_its_own_settings_only(run: Run) -> None:
    settings = validate_settings({"train": {"lr": 0.5}, "seed": 4})
    open_run(run.path, settings)
    assert load_settings(run / "settings.yaml") == settings
    record = run.read()
    assert record["seed"] == 4
    assert record["versions"]["torch"]
    fill(run, "checkpoints/best.safetensors")
    assert open_run(run.path, settings).checkpoint.is_file()
    assert open_run(run, settings).path == run.path  # as a notebook's cell that is run twice does
    assert run.read() == record
    with pytest.raises(RunError, match=r"train\.lr: 0\.5 → 0\.25"):
        open_run(run.path, validate_settings({"train": {"lr": 0.25}, "seed": 4}))
    assert run.checkpoint.is_file()
    assert load_settings(run / "settings.yaml") == settings


def test_a_run_in_which_nothing_was_done_takes_other_settings(run: Run) -> None:
    old, new = Settings(), validate_settings({"seed": 9})
    open_run(run.path, old)
    fill(run, "01_explore_data.ipynb")
    with pytest.raises(ValueError, match="no data"), run.stage("01_explore_data"):
        raise ValueError("no data")
    open_run(run.path, new)
    assert load_settings(run / "settings.yaml") == new
    assert (run.read()["seed"], run.read()["stages"]) == (9, {})
    assert list_files(run) == {"settings.yaml", "run.json", "log.jsonl"}
    with run.stage("train"), pytest.raises(RunError, match="other settings"):  # it may not have come to anything yet
        open_run(run.path, old)
    with pytest.raises(RunError, match="other settings"):  # and now it has
        open_run(run.path, old)
    run.clear()


@pytest.mark.parametrize(
    "kept",
    [
        *("checkpoints/epoch-0001-step-00000009.pt", "evaluations/a-test/scores.csv", "robustness/a-test/sweep.csv"),
        *("imported.csv", "metrics.jsonl", "03_train.ipynb", "export/model.onnx", "debug/curve.png", "mine.txt"),
    ],
)
def test_a_run_that_holds_anything_does_not(run: Run, kept: str) -> None:
    open_run(run.path, Settings())
    fill(run, kept)
    with pytest.raises(RunError, match="other settings"):
        open_run(run.path, validate_settings({"seed": 9}))
    assert (run / kept).is_file()
    assert load_settings(run / "settings.yaml") == Settings()


def test_a_restart_begins_again_with_other_settings(run: Run) -> None:
    open_run(run.path, Settings())
    fill(run, "checkpoints/best.safetensors", "mine.txt")
    other = validate_settings({"seed": 9})
    open_run(run.path, other, restart=True)
    assert load_settings(run / "settings.yaml") == other
    assert run.read()["seed"] == 9
    assert list_files(run) == {"settings.yaml", "run.json", "log.jsonl", "mine.txt"}


def test_the_quick_run_begins_again_by_itself(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = open_run("outputs/quick", Settings())
    assert run.path == project / "outputs" / "quick"
    assert run.is_quick
    assert not Run("outputs/quicker").is_quick
    fill(run, "checkpoints/best.safetensors")
    open_run("outputs/quick", Settings())
    assert run.checkpoint.is_file()
    assert "begins again" not in capsys.readouterr().out
    open_run("outputs/quick", validate_settings({"seed": 1}))
    said = capsys.readouterr().out
    assert "begins again" in said
    assert not run.checkpoint.is_file()
    assert load_settings(run / "settings.yaml").seed == 1
    (kept,) = project.glob("outputs/quick-*")  # nothing that was trained is lost
    assert f"kept in outputs/{kept.name}" in said
    assert Run(kept).checkpoint.is_file()
    assert load_settings(kept / "settings.yaml").seed == 0
    open_run("outputs/quick", Settings())
    assert len([*project.glob("outputs/quick-*")]) == 1  # of what was never trained nothing is kept


def test_clearing_keeps_foreign_files(run: Run) -> None:
    ours = ("settings.yaml", "run.json", "log.jsonl", "metrics.jsonl", "checkpoints/last.pt", "03_train.ipynb")
    theirs = ("notes.md", "plots/mine.png", "my_03_train.ipynb")
    fill(run, *ours, "evaluations/sample-test/report.json", "export/README.md", "others/seed/run.json", *theirs)
    run.clear()
    assert list_files(run) == set(theirs)
    run.clear()  # nothing left to clear is no error


def test_a_run_at_work_cannot_begin_again(run: Run) -> None:
    fill(run, "metrics.jsonl")
    with run.stage("train"), pytest.raises(RunError, match="train is running"):
        run.clear()
    assert (run / "metrics.jsonl").is_file()


def test_forgetting_a_notebook_removes_what_it_made(run: Run) -> None:
    fill(run, "03_train.ipynb", "04_evaluate.ipynb", "checkpoints/best.safetensors", "metrics.jsonl", "evaluations/r")
    for stage in ("03_train", "train", "04_evaluate"):
        run.update(stage, status="done")
    run.forget("04_evaluate")
    assert list_files(run) == {"03_train.ipynb", "checkpoints/best.safetensors", "metrics.jsonl", "run.json"}
    assert set(run.read()["stages"]) == {"03_train", "train"}
    run.forget("03_train")
    assert list_files(run) == {"run.json"}
    assert run.read()["stages"] == {}


def test_the_log_goes_to_the_runs_folder_once_and_from_its_level_on(run: Run) -> None:
    settings = validate_settings({"logging": {"level": "warning"}})
    start_logging(run, settings)
    start_logging(run, settings)
    log = logging.getLogger("dfmm")
    log.info("too quiet")
    log.warning("%d →\nof %s", 2, "many")
    try:
        raise ValueError("no")
    except ValueError:
        log.exception("failed")
    lines = read_lines(run / "log.jsonl")
    assert [(line["level"], line["message"]) for line in lines] == [("warning", "2 →\nof many"), ("error", "failed")]
    assert "ValueError: no" in lines[1]["error"]


def test_json_has_no_room_for_nan_and_the_old_file_stays(tmp_path: Path) -> None:
    path = write_json({"auc": 0.5}, tmp_path / "new" / "report.json")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json({"auc": float("nan")}, path)
    assert json.loads(path.read_text(encoding="utf-8")) == {"auc": 0.5}
    assert [file.name for file in path.parent.iterdir()] == ["report.json"]


def write_nowhere(path: Path) -> None:
    """Write where the folder goes away, as into /proc, in which no file can be made."""
    with write_beside(path) as partial:
        path.parent.rmdir()
        if path.suffix == ".parquet":
            pq.write_table(pa.table({"a": [1]}), partial)
        partial.touch()


def test_what_cannot_be_written_is_told_by_the_name_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match=rf"^{tmp_path} is a folder; name a file$"):
        write_json({}, tmp_path)
    for name in ("x.json", "x.parquet"):
        target = tmp_path / "there" / name
        with pytest.raises(FileNotFoundError) as caught:
            write_nowhere(target)
        assert str(caught.value).startswith(f"{target}: cannot be written (No such file or directory); name another")
        assert caught.value.errno == errno.ENOENT  # by which a full disc, say, is known
    with pytest.raises(FileNotFoundError, match=r"/other'$"), write_beside(tmp_path / "x.json"):
        (tmp_path / "other").open()  # an error of what is read stays what it is


def test_json_is_never_seen_half_written(tmp_path: Path) -> None:
    path = write_json(list(range(20_000)), tmp_path / "long.json")
    stop, lengths = Event(), set()

    def watch() -> None:
        while not stop.is_set():
            lengths.add(path.stat().st_size)

    watcher = Thread(target=watch)
    watcher.start()
    for _ in range(20):
        write_json(list(range(20_000)), path)
    stop.set()
    watcher.join()
    assert len(lengths) == 1


def test_only_the_last_line_may_be_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert read_lines(path) == []
    whole = '{"step": 1, "what": "a\u2028b"}\n{"step": 2, "what": "→"}\n'.encode()
    path.write_bytes(whole)
    records = read_lines(path)
    assert [record["step"] for record in records] == [1, 2]
    for cut in range(2, 20):  # three of these cut the arrow itself
        path.write_bytes(whole[:-cut])
        assert read_lines(path) == records[:1]
    path.write_bytes(whole[:-5] + b"\n" + whole)
    with pytest.raises(RunError, match="line 2: not JSON"):
        read_lines(path)
