"""Notebooks run headless with a truthful status, say what they need, and are really checked by nbval."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.sign import NotebookNotary

from dfmm.cli import main
from dfmm.headless import APART, NotebookError, find_notebook, list_notebooks, read_parameters, run_notebooks
from dfmm.runs import Run, RunError, Stopped

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own, with settings and room for small notebooks."""
    for folder in ("params", "notebooks", "outputs"):
        (tmp_path / folder).mkdir()
    (tmp_path / "params" / "small.yaml").write_text("seed: 1\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_notebook(project: Path, name: str, *sources: str) -> None:
    parameters = nbformat.v4.new_code_cell("params = ''\noverrides = []\nrun = ''", metadata={"tags": ["parameters"]})
    cells = [parameters, *map(nbformat.v4.new_code_cell, sources)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), project / "notebooks" / f"{name}.ipynb")


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_notebooks_are_committed_as_their_readers_need_them(file: Path) -> None:
    notebook = nbformat.read(file, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    tags = [tag for cell in code for tag in cell.metadata.get("tags", [])]
    assert notebook.metadata.kernelspec.name == "python3"
    assert "**Question.**" in notebook.cells[0].source
    assert code[0].metadata.tags == ["parameters"]
    assert 'params: str = "params/quick.yaml"' in code[0].source
    assert "nbval-check-output" in tags
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert all(len(cell.source.splitlines()) <= 30 for cell in code)
    assert not any(output.output_type == "error" for cell in code for output in cell.outputs)
    for cell in code:
        for output in cell.outputs:
            for kind in ("image/png", "text/html"):  # pictures and players hold any letters
                if kind == "image/png" or "<video" in output.get("data", {}).get(kind, ""):
                    output.get("data", {}).pop(kind, None)
    assert not re.search(r"/(home|root|work|tmp|Users)/", nbformat.writes(notebook))


def test_a_checked_cell_that_shows_something_else_fails(tmp_path: Path) -> None:
    """The committed counts with one number changed are no longer what the code shows."""
    notebook = nbformat.v4.new_notebook()
    cell = nbformat.v4.new_code_cell(
        "import pandas as pd\nfrom dfmm.manifest import summarise_manifest\n"
        "summarise_manifest(pd.DataFrame({'method': ['real', 'swap', 'swap'], 'split': ['train'] * 3}))",
        execution_count=1,
        metadata={"tags": ["nbval-check-output"]},
    )
    notebook.cells = [cell]
    NotebookClient(notebook, kernel_name="python3").execute()
    text = nbformat.writes(notebook)
    changed = text.replace("<td>2</td>", "<td>3</td>")
    assert changed != text
    for name, content in (("right", text), ("wrong", changed)):
        (tmp_path / f"{name}.ipynb").write_text(content, encoding="utf-8")
    check = [sys.executable, "-m", "pytest", "-qrA", "--nbval-lax", "--nbval-current-env", "-p", "no:cacheprovider"]
    said = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True)
    assert said.returncode == 1
    found = re.findall(r"^(PASSED|FAILED) (\w+)\.ipynb", said.stdout, re.M)
    assert sorted(found) == [("FAILED", "wrong"), ("PASSED", "right")]


@pytest.mark.slow
def test_a_committed_notebook_with_one_number_changed_fails(project: Path) -> None:
    shutil.copy(ROOT / "params" / "quick.yaml", project / "params")
    text = (ROOT / "notebooks" / "01_explore_data.ipynb").read_text(encoding="utf-8")
    changed = re.sub(r"(\d+) identities, 0 of them", r"\1 identities, 1 of them", text)
    assert changed != text
    check = [sys.executable, "-m", "pytest", "-q", "--nbval-lax", "--nbval-current-env", "-p", "no:cacheprovider"]
    for content, status in ((text, 0), (changed, 1)):
        (project / "notebooks" / "01_explore_data.ipynb").write_text(content, encoding="utf-8")
        assert subprocess.run([*check, "notebooks"], cwd=project, capture_output=True).returncode == status


def test_a_notebook_is_run_once_with_its_parameters(project: Path) -> None:
    write_notebook(project, "01_look", "print(params, overrides, run)")
    run = run_notebooks("01_look", "params/small.yaml", ["train.lr=1e-3"])
    assert run.path == project / "outputs" / "small"
    assert run.status("01_look") == "done"
    executed = (run / "01_look.ipynb").read_text(encoding="utf-8")
    assert "params/small.yaml ['train.lr=1e-3']" in executed
    stamp = (run / "01_look.ipynb").stat().st_mtime_ns
    run_notebooks("01_look", "params/small.yaml", ["train.lr=1e-3"])
    assert (run / "01_look.ipynb").stat().st_mtime_ns == stamp
    run_notebooks("01_look", "params/small.yaml", ["train.lr=1e-3"], restart=True)
    assert (run / "01_look.ipynb").stat().st_mtime_ns != stamp


def test_what_a_run_wrote_is_trusted_or_it_is_said_why_not(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_notebook(project, "01_look", "print('seen')")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(project / "signatures"))
    run = run_notebooks("01_look", "params/small.yaml")
    executed = nbformat.read(run / "01_look.ipynb", as_version=4)
    assert NotebookNotary().check_signature(executed)
    executed.cells[1].source += " # another"
    assert not NotebookNotary().check_signature(executed)
    assert "signed" not in (run / "log.jsonl").read_text()
    (project / "a file").touch()
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(project / "a file"))
    assert run_notebooks("01_look", "params/small.yaml", restart=True).status("01_look") == "done"
    (line,) = [line for line in (run / "log.jsonl").read_text().splitlines() if "signed" in line]
    assert "01_look.ipynb could not be signed" in line
    assert "Trust Notebook" in line


def test_other_settings_on_a_run_are_refused_and_shown(project: Path) -> None:
    write_notebook(project, "01_look", "pass")
    run_notebooks("01_look", "params/small.yaml")
    with pytest.raises(RunError, match=r"train\.lr: 0\.002 → 0\.001"):
        run_notebooks("01_look", "params/small.yaml", ["train.lr=1e-3"])
    run = run_notebooks("01_look", "params/small.yaml", ["train.lr=1e-3"], restart=True)
    assert "lr: 0.001" in (run / "settings.yaml").read_text()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise ValueError('no luck')", "no luck"),
        ("import sys; sys.exit(0)", "cells were not run"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "died"),
    ],
    ids=["exception", "exit", "killed kernel"],
)
def test_a_notebook_that_ends_early_is_recorded_as_failed(project: Path, source: str, said: str) -> None:
    write_notebook(project, "01_fails", source, "print('after')")
    write_notebook(project, "02_next", "print('next')")
    with pytest.raises(NotebookError, match=said):
        run_notebooks("all", "params/small.yaml")
    run = Run("outputs/small")
    assert run.status("01_fails") == "failed"
    assert run.status("02_next") == "none"
    assert (run / "01_fails.ipynb").is_file()


def test_a_notebook_whose_training_was_asked_to_stop_is_stopped_and_says_where(project: Path) -> None:
    source = "from dfmm.runs import Stopped\nraise Stopped('stopped in epoch 2 after step 1, as asked')"
    write_notebook(project, "01_look", source)
    with pytest.raises(Stopped, match=r"^stopped in epoch 2 after step 1, as asked$"):
        run_notebooks("01_look", "params/small.yaml")
    run = Run("outputs/small")
    assert run.status("01_look") == "stopped"
    assert "Traceback" not in (run / "01_look.ipynb").read_text(encoding="utf-8")


def test_a_terminated_command_says_interrupted_and_a_killed_one_crashed(project: Path) -> None:
    write_notebook(project, "01_waits", "import time\ntime.sleep(60)")
    for number, status in ((signal.SIGTERM, "interrupted"), (signal.SIGKILL, "crashed")):
        command = [sys.executable, "-m", "dfmm", "run", "01_waits", "params/small.yaml"]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        run = Run("outputs/small")
        deadline = time.monotonic() + 60
        while not list(run.path.glob(".01_waits.partial*")) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert run.status("01_waits") == "running"
        os.kill(process.pid, number)
        assert process.wait(timeout=60) != 0
        assert run.status("01_waits") == status


def test_unknown_names_are_answered_with_those_there_are(project: Path) -> None:
    write_notebook(project, "01_look", "pass")
    with pytest.raises(NotebookError, match="01_look"):
        run_notebooks("1_look", "params/small.yaml")


def test_the_notebooks_are_numbered_and_listed_in_order() -> None:
    names = list(list_notebooks())
    assert names == sorted(names)
    assert [name[:2] for name in names] == [f"{number:02d}" for number in range(len(names))]


def test_what_stands_apart_is_run_by_name_only(project: Path) -> None:
    for name in ("01_look", "06_degradations", "07_more"):
        write_notebook(project, name, "pass")
    run = run_notebooks("all", "params/small.yaml")
    assert [run.status(name) for name in list_notebooks()] == ["done", "none", "done"]
    assert run_notebooks("06_degradations", "params/small.yaml").status("06_degradations") == "done"
    alone = {"00_start_here", "06_degradations", "07_forgeries", "08_compare_runs", "09_robustness", "10_score_videos"}
    assert alone | {"11_other_detectors"} == set(APART)
    assert set(APART) <= {file.stem for file in NOTEBOOKS}


def test_a_notebooks_own_parameters_reach_it_and_other_ones_run_it_again(project: Path) -> None:
    write_notebook(project, "01_look", "print(others)")
    file = project / "notebooks" / "01_look.ipynb"
    file.write_text(file.read_text().replace("run = ''", "run = ''\\nothers = []"))
    assert main(["run", "01_look", "params/small.yaml", "-y", "others: [outputs/lr]"]) == 0
    run = Run("outputs/small")
    executed = (run / "01_look.ipynb").read_text()
    assert "['outputs/lr']" in executed
    run_notebooks("01_look", "params/small.yaml", parameters={"others": ["outputs/lr"]})
    assert (run / "01_look.ipynb").read_text() == executed
    run_notebooks("01_look", "params/small.yaml")
    assert (run / "01_look.ipynb").read_text() != executed
    for name, parameters, why in (
        ("01_look", {"other": []}, "no parameter other; it has others"),
        ("01_look", {"run": "x"}, "no parameter run; it has others"),
        ("all", {"others": []}, "name it instead of all"),
    ):
        with pytest.raises(NotebookError, match=why):
            run_notebooks(name, "params/small.yaml", parameters=parameters)


@pytest.mark.parametrize("text", ["[", "others"])
def test_parameters_that_are_no_names_with_values_are_refused(text: str) -> None:
    with pytest.raises(NotebookError, match="parameters"):
        read_parameters(text)


def test_a_notebook_is_named_by_its_number_or_a_word_of_it(project: Path) -> None:
    names = ["03_train", "04_evaluate", "08_compare_runs", "10_score_videos"]
    for word, meant in {"3": 0, "03": 0, "train": 0, "04_evaluate": 1, "compare": 2, "10": 3, "score_v": 3}.items():
        assert find_notebook(word, names) == names[meant]
    for word, said in (("5", "no notebook '5'"), ("e", "may be 04_evaluate or"), ("", "may be"), ("1", "no notebook")):
        with pytest.raises(NotebookError, match=said):
            find_notebook(word, names)
    write_notebook(project, "04_evaluate", "pass")
    assert run_notebooks("4", "params/small.yaml").status("04_evaluate") == "done"


def test_without_a_run_no_setting_is_taken_and_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    cells = nbformat.read(ROOT / "notebooks" / "10_score_videos.ipynb", as_version=4).cells

    def open_cells(*overrides: str) -> dict[str, Any]:
        names: dict[str, Any] = {}
        exec(cells[1].source, names)
        names |= {"run": "", "overrides": list(overrides)}
        exec(cells[2].source, names)
        return names

    assert open_cells()["judge"].settings.video.face == "largest"
    assert open_cells("video.face=longest")["judge"].settings.video.face == "longest"
    with pytest.raises(ValueError, match=r"only video\.face counts; leave evaluate\.stride=0\.5 out"):
        open_cells("video.face=longest", "evaluate.stride=0.5")


def test_quick_settings_are_quick(project: Path) -> None:
    """What the notebooks run by default must not become a long experiment."""
    from dfmm.settings import load_settings

    quick = load_settings(ROOT / "params" / "quick.yaml")
    assert quick.data.sample_videos <= 80
    shown = quick.data.sample_videos * quick.train.epochs * quick.video.frames * (quick.video.size / 112) ** 2
    assert shown <= 80 * 16 * 2  # pictures that the backbone sees
    assert json.loads(quick.model_dump_json())["data"]["root"] == "data/quick"


def test_a_bar_in_a_notebook_is_text_that_a_saved_file_still_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A widget would be an error message once the file is opened again."""
    monkeypatch.delenv("DFMM_HEADLESS", raising=False)
    source = "from dfmm.bars import show_progress\nfor _ in show_progress(range(3), 'looking', unit='video'): pass"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    NotebookClient(notebook, kernel_name="python3").execute()
    (output,) = notebook.cells[0].outputs
    assert list(output.data) == ["text/plain"]
    assert "looking: 100%" in output.data["text/plain"]
    assert "3/3" in output.data["text/plain"]
