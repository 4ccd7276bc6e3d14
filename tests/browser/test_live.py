"""In a real JupyterLab curves grow, the Stop button ends in a checkpoint that goes on, and sliders move numbers."""

from __future__ import annotations

import json
import shutil
import time
import urllib.request
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest

from dfmm.figures.sliders import open_decisions
from dfmm.runs import Run, read_lines
from dfmm.settings import Settings, save_settings
from dfmm.training.checkpoints import list_checkpoints

from ..conftest import change
from .test_lab import PATIENCE, TOKEN, ask, lab, open_notebook, run_all  # noqa: F401 – `lab` is a fixture

pytestmark = pytest.mark.browser
EPOCHS = 30
SETUP = """
import dfmm
from dfmm import figures
settings = dfmm.load_settings("settings.yaml")
run = dfmm.open_run("run", settings)
manifest = dfmm.load_manifest(settings)
"""
TRAIN = """
with figures.watch_training(run):
    dfmm.Trainer(settings, manifest, run).fit()
"""
SLIDE = """
import pandas as pd
from dfmm import figures
figures.try_thresholds(pd.read_csv("scores.csv"), 0.45, prior=0.4)
"""
WATCH = "import os; os.chdir('..')\nfrom dfmm import figures\nfigures.watch_training('run')"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny: Settings) -> Path:
    """What JupyterLab is started on: a notebook that trains, and one that looks on."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "notebooks").mkdir()
    shutil.copytree(tiny.data.root, folder / "data")
    data = {"root": str(folder / "data"), "cache": str(folder / "kept"), "read": "cache"}
    settings = change(tiny, data=data, train={"epochs": EPOCHS, "patience": EPOCHS})
    save_settings(settings, folder / "settings.yaml")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    make_scores().to_csv(folder / "scores.csv", index=False)
    notebooks = {"train.ipynb": (SETUP, TRAIN), "notebooks/watch.ipynb": (WATCH,), "slide.ipynb": (SLIDE,)}
    for name, sources in notebooks.items():
        cells = [nbformat.v4.new_code_cell(source.strip()) for source in sources]
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / name)
    return folder


def make_scores() -> pd.DataFrame:
    """A video table of 40 videos."""
    scores = np.linspace(0.02, 0.98, 40)
    table = pd.DataFrame({"label": (scores + 0.2 * np.sin(40 * scores) > 0.5).astype(int), "score": scores})
    return table.assign(status="ok", identities=[f"p{number}" for number in range(40)])


def count_points(page: Any) -> int:
    return int(page.locator(".dfmm-panel").first.get_attribute("data-points"))


def wait_for_points(page: Any, more_than: int) -> int:
    page.wait_for_function(f"() => document.querySelector('.dfmm-panel')?.dataset.points > {more_than}")
    return count_points(page)


def wait_for_status(page: Any, *statuses: str) -> None:
    page.wait_for_selector(", ".join(f".dfmm-run[data-status={status}]" for status in statuses))


@pytest.mark.slow  # many minutes where others use the cores: `pytest -m "browser and slow"`
def test_curves_grow_a_stopped_run_goes_on_and_another_notebook_looks_on(lab: str, folder: Path) -> None:  # noqa: F811
    run = Run(folder / "run")
    with open_notebook(lab, "train.ipynb", kernel=True) as page:
        run_all(page)
        first = wait_for_points(page, 2)
        assert run.status("train") == "running"
        wait_for_points(page, first)  # while the kernel trains
        page.get_by_role("button", name="Stop").click()
        wait_for_status(page, "stopped")
        assert run.status("train") == "stopped"
        assert list_checkpoints(run / "checkpoints")
        stopped = len(read_lines(run / "metrics.jsonl"))
        assert stopped < EPOCHS * 3  # two steps and an epoch
        page.wait_for_selector("text=stopped in epoch")
        page.wait_for_selector("text=| Idle")
        page.keyboard.press("Control+s")
        page.wait_for_timeout(3000)
    for session in ask(lab, "api/sessions"):  # the kernel is gone
        address = f"{lab}/api/sessions/{session['id']}?token={TOKEN}"
        urllib.request.urlopen(urllib.request.Request(address, method="DELETE")).close()
    with open_notebook(lab, "train.ipynb", kernel=False) as page:
        page.wait_for_timeout(5000)
        seen = page.locator(".jp-Notebook").inner_text()
        assert "Error displaying widget" not in seen
        assert page.locator(".jp-OutputArea-output img[src^='data:image/png']").bounding_box()["width"] > 300
    with open_notebook(lab, "notebooks/watch.ipynb", kernel=True) as page:
        run_all(page)
        wait_for_status(page, "stopped")
        before = count_points(page)
        page.get_by_role("button", name="Go on").click()
        wait_for_points(page, before)  # it is another process now
        wait_for_status(page, "done")
        assert "Training has not fallen" not in page.locator(".dfmm-concerns").inner_text()
        assert "4 videos" in page.locator(".dfmm-concerns").inner_text()
    deadline = time.monotonic() + PATIENCE / 1000
    while run.status("train") != "done" and time.monotonic() < deadline:
        time.sleep(0.5)
    epochs = [line["epoch"] for line in read_lines(run / "metrics.jsonl") if line["kind"] == "epoch"]
    assert epochs == list(range(1, EPOCHS + 1))


def read_found(page: Any) -> dict[str, Any]:
    return json.loads(page.locator(".dfmm-sliders").get_attribute("data-found"))


def check_found(found: dict[str, Any]) -> None:
    expected = open_decisions(make_scores(), 0.45, 0.4, replicates=10).measure(found["threshold"], found["prior"])
    for name, value in expected.items():
        assert found[name] == pytest.approx(value), name


def test_sliders_move_the_numbers_and_say_that_this_is_choosing_on_test(lab: str, folder: Path) -> None:  # noqa: F811
    with open_notebook(lab, "slide.ipynb", kernel=True) as page:
        run_all(page)
        page.wait_for_selector(".dfmm-sliders[data-found]")
        first = read_found(page)
        assert (first["threshold"], first["prior"]) == pytest.approx((0.45, 0.4))
        check_found(first)
        threshold, prior = page.locator(".dfmm-slider input").all()
        counts = ("tn", "fp", "fn", "tp")
        assert "This is the threshold of validation" in page.locator(".dfmm-mind").inner_text()
        rates = page.locator(".dfmm-numbers").inner_text
        assert rates().count("[") == 2
        threshold.fill("1.5")
        second = read_found(page)
        check_found(second)
        assert second["fp"] + second["tp"] < first["fp"] + first["tp"]
        assert "chosen here, on test" in page.locator(".dfmm-mind").inner_text()
        assert "[" not in rates()  # an interval of what was chosen on these very videos would be none
        prior.fill("-4")
        third = read_found(page)
        check_found(third)
        assert third["tp"] < second["tp"]
        page.get_by_role("button", name="validation's").click()
        fourth = read_found(page)  # moved along, the threshold calls the same videos fake
        assert [fourth[name] for name in counts] == [first[name] for name in counts]
        assert fourth["precision_at_prior"] < first["precision_at_prior"]
        assert rates().count("[") == 2
        assert page.locator(".dfmm-found td").all_inner_texts() == [
            str(first[name]) for name in ("tn", "fp", "fn", "tp")
        ]
