"""Notebooks in a real JupyterLab: they run without an error, and what is saved shows no dead player or widget."""

from __future__ import annotations

import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import nbformat
import pytest

from .test_lab import ROOT, TOKEN, ask, lab, open_notebook, run_all  # noqa: F401 – `lab` is a fixture

pytestmark = pytest.mark.browser
QUICK = ("01_explore_data", "06_degradations")  # train nothing; a training is watched in test_live.py
NOTEBOOKS = [
    pytest.param(file.stem, marks=() if file.stem in QUICK else pytest.mark.slow)
    for file in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
]
WIDGET = "application/vnd.jupyter.widget-view+json"
BROKEN = ("Error displaying widget", "Loading widget", "model not found", "Javascript Error")
PLAYERS_LIVE = """() => [...document.querySelectorAll('.jp-OutputArea-output video')].every(
    video => video.readyState > 0 || video.closest('.jp-OutputArea').querySelector('img'))"""
SCROLL = """() => {
    const panel = document.querySelector('.jp-NotebookPanel .jp-WindowedPanel-outer')
    const before = panel.scrollTop
    panel.scrollTop += 600
    return panel.scrollTop === before
}"""
RUN_PATIENCE = 1200  # seconds: the first that needs a model trains one, on a busy machine
REST = 6  # seconds without work, after which all cells have run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the project as it is committed or lies here, with nothing that was made in it."""
    folder = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def end_sessions(address: str) -> None:
    for session in ask(address, "api/sessions"):
        url = f"{address}/api/sessions/{session['id']}?token={TOKEN}"
        urllib.request.urlopen(urllib.request.Request(url, method="DELETE")).close()


def run_and_save(page: Any, address: str) -> None:
    """Run all cells and save, once the kernel has had nothing to do for a while: between two cells it is idle, too."""
    run_all(page)
    rest, deadline = 0, time.monotonic() + RUN_PATIENCE
    while rest < REST and time.monotonic() < deadline:
        page.wait_for_timeout(1000)
        idle = {kernel["execution_state"] for kernel in ask(address, "api/kernels")} == {"idle"}
        rest = rest + 1 if idle else 0
    assert rest == REST, "a kernel was still at work"
    page.keyboard.press("Control+s")
    page.wait_for_timeout(3000)


def check_outputs(file: Path) -> None:
    """All cells ran, none with an error, and a cell with a widget or a player holds a picture as well."""
    notebook = nbformat.read(file, as_version=4)
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        assert cell.execution_count, cell.source
        data = [output.get("data", {}) for output in cell.outputs]
        pages = [each.get("text/html", "") for each in data]
        assert not any(output.output_type == "error" for output in cell.outputs), cell.source
        if any(WIDGET in each for each in data) or any("<video" in page for page in pages):
            pictures = any("image/png" in each for each in data) or any("<img" in page for page in pages)
            assert pictures, cell.source


def look_through(page: Any) -> None:
    """Scroll through what was saved, without a kernel: no widget is broken, and no player without a picture."""
    page.wait_for_timeout(5000)  # JupyterLab looks for a widget for two seconds before it gives up
    while True:
        seen = page.locator(".jp-Notebook").inner_text()
        assert not [words for words in BROKEN if words in seen]
        page.wait_for_function(PLAYERS_LIVE)
        if page.evaluate(SCROLL):
            return
        page.wait_for_timeout(200)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_and_what_it_saves_is_whole(lab: str, folder: Path, name: str) -> None:  # noqa: F811
    with open_notebook(lab, f"notebooks/{name}.ipynb", kernel=True) as page:
        run_and_save(page, lab)
    end_sessions(lab)
    check_outputs(folder / "notebooks" / f"{name}.ipynb")
    with open_notebook(lab, f"notebooks/{name}.ipynb", kernel=False) as page:
        look_through(page)
    end_sessions(lab)  # JupyterLab may have started a kernel unasked
