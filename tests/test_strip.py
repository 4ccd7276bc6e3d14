"""No commit holds what a notebook showed of somebody's clips; the shipped notebooks stay as they are."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat import NotebookNode

from dfmm.cli import main
from dfmm.strip import StripError, strip_files

ROOT = Path(__file__).parents[1]
SMALLEST = ROOT / "notebooks" / "03_train.ipynb"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with one of the shipped notebooks, as it is committed."""
    for file in (SMALLEST, ROOT / "params" / "quick.yaml"):
        target = tmp_path / file.relative_to(ROOT)
        target.parent.mkdir()
        shutil.copy(file, target)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    commit(tmp_path)
    return tmp_path


def commit(project: Path) -> None:
    """Commit all that is there."""
    name = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    for words in (("add", "."), ("commit", "-qm", "all")):
        subprocess.run(["git", *name, *words], cwd=project, check=True)


def write_player(file: Path) -> None:
    """Write a notebook that shows a player, a thumbnail and a widget, run by papermill."""
    html = "<b>anna</b><video src='data:video/mp4;base64,AAAA'></video>"
    output = nbformat.v4.new_output("display_data", {"text/html": html, "image/png": "iVBORw0KGgo="})
    player = nbformat.v4.new_code_cell("play()", execution_count=3, outputs=[output])
    player.metadata |= {"tags": ["keep"], "papermill": {"duration": 1}}
    text = nbformat.v4.new_markdown_cell("what I think")
    told = {"papermill": {"parameters": {"run": "outputs/anna"}}, "widgets": {"state": {"value": "anna"}}}
    nbformat.write(nbformat.v4.new_notebook(cells=[text, player], metadata=told), file)


def edit(file: Path, change: str) -> None:
    notebook: NotebookNode = nbformat.read(file, as_version=4)
    if change == "a parameter":
        notebook.cells[1].source = notebook.cells[1].source.replace("params/quick.yaml", "params/mine.yaml")
    elif change == "another cell":
        notebook.cells.append(nbformat.v4.new_code_cell("figures.play_video('anna.mp4')"))
    elif change == "run again":
        notebook.cells[2].execution_count = 77
    nbformat.write(notebook, file)


def test_a_notebook_with_a_player_is_stripped_and_keeps_what_was_written(tmp_path: Path) -> None:
    file = tmp_path / "mine.ipynb"
    write_player(file)
    assert main(["strip", str(file)]) == 1
    text = file.read_text()
    assert not re.search("video|anna|iVBOR|papermill", text)
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    assert [cell.source for cell in notebook.cells] == ["what I think", "play()"]
    assert notebook.cells[1].metadata == {"tags": ["keep"]}
    assert main(["strip", str(file)]) == 0  # nothing is left to be done


@pytest.mark.parametrize(
    ("change", "kept"), [("", True), ("run again", True), ("a parameter", False), ("another cell", False)]
)
def test_a_shipped_notebook_is_kept_unless_its_cells_are_others(project: Path, change: str, kept: bool) -> None:
    file = project / "notebooks" / SMALLEST.name
    edit(file, change)
    before = file.read_bytes()
    assert strip_files([file]) == ([] if kept else [file])
    assert (file.read_bytes() == before) is kept
    assert ("image/png" in file.read_text()) is kept


def test_one_that_was_run_with_other_settings_under_the_same_name_is_not_kept(project: Path) -> None:
    (project / "params" / "quick.yaml").write_text("data: {root: /anna}\n")
    assert strip_files([project / "notebooks" / SMALLEST.name])


def test_one_named_from_its_own_folder_is_judged_alike(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project / "notebooks")
    assert strip_files([SMALLEST.name]) == []
    (project / "params" / "quick.yaml").write_text("data: {root: /anna}\n")
    assert strip_files([SMALLEST.name]) == [Path(SMALLEST.name)]


@pytest.mark.parametrize(
    "data",
    [
        "root: /anna",
        "root: data/quick, manifest: anna.csv, sample_videos: 80",
        "sample_videos: x",
        "no: mapping: at",
    ],
)
def test_where_the_committed_settings_are_not_of_the_sample_nothing_is_kept(project: Path, data: str) -> None:
    (project / "params" / "quick.yaml").write_text(f"data: {{{data}}}\n")
    commit(project)
    assert strip_files([project / "notebooks" / SMALLEST.name])


def test_cells_that_were_changed_in_a_commit_without_outputs_are_not_taken_for_shipped(project: Path) -> None:
    file = project / "notebooks" / SMALLEST.name
    executed = file.read_text()
    edit(file, "a parameter")
    changed = file.read_text()
    assert changed != executed
    assert strip_files([file])
    commit(project)
    file.write_text(changed)  # run again, with other people's clips
    assert strip_files([file])


def test_outside_of_a_repository_nothing_is_taken_for_shipped(tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    shutil.copy(SMALLEST, tmp_path / "notebooks")
    assert strip_files([tmp_path / "notebooks" / SMALLEST.name])


def test_what_is_no_notebook_is_an_error_and_stays(tmp_path: Path) -> None:
    file = tmp_path / "x.ipynb"
    for content in ("{", "[]", "{}"):
        file.write_text(content)
        with pytest.raises(StripError, match=r"x\.ipynb: expected a notebook"):
            strip_files([file])
        assert file.read_text() == content


def test_nothing_is_written_where_one_file_is_no_notebook(tmp_path: Path) -> None:
    shutil.copy(SMALLEST, good := tmp_path / "ok.ipynb")
    before = good.read_bytes()
    (bad := tmp_path / "note.txt").write_text("a note")
    with pytest.raises(StripError, match=r"note\.txt: expected a notebook"):
        strip_files([good, bad])
    assert good.read_bytes() == before
    assert strip_files([good]) == [good]  # which it would have done


def test_the_hook_runs_a_command_that_there_is() -> None:
    ((hook,),) = [repo["hooks"] for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]]
    assert hook["entry"] == "dfmm strip"
    assert re.search(hook["files"], "somewhere/mine.ipynb")
    assert f"SKIP={hook['id']}" in (ROOT / ".pre-commit-config.yaml").read_text()
