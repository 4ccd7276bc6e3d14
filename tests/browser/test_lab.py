"""Widgets in a real JupyterLab and a real browser: they work, and a saved notebook shows stills instead of errors."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import av
import nbformat
import numpy as np
import pandas as pd
import pytest

from dfmm.dataset import load_manifest
from dfmm.figures.annotations import read_annotations
from dfmm.settings import Settings, load_settings, save_settings

from ..conftest import change, draw_frames

pytestmark = pytest.mark.browser
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 180_000  # ms: a kernel imports PyTorch, on a busy machine
TOKEN = "test"
ROOT = Path(__file__).parents[2]

SETUP = """
import dfmm, pandas as pd
from pathlib import Path
from dfmm import figures
settings, elsewhere, old = (dfmm.load_settings(f"{name}.yaml") for name in ("below", "elsewhere", "old"))
videos = pd.read_csv("scores.csv", dtype={"video_id": str})
windows = pd.read_csv("windows.csv", dtype={"video_id": str})
name = videos["video_id"].iloc[0]
"""
CELLS = (
    "figures.inspect_clip(name, settings, windows, videos=videos, threshold=0.5)",
    "figures.inspect_clip(name, elsewhere, windows, videos=videos)",
    "figures.inspect_clip({'video_id': 'old', 'path': 'old.mpg', 'label': -1}, old)",
    "figures.browse_clips(videos, settings, windows, annotations=Path('run') / 'annotations.csv', who='ben')",
    "figures.play_video(dfmm.resolve_path(settings.data.root) / videos['path'].iloc[0], label='<i>a player</i>')",
    "figures.edit_settings('below.yaml', target='mine.yaml')",
)


def write_mpeg(path: Path) -> None:
    """Write what no browser plays: MPEG-2 with MP2 sound."""
    with av.open(str(path), "w", format="mpeg") as container:
        video, audio = container.add_stream("mpeg2video", rate=25), container.add_stream("mp2", rate=16_000)
        video.width, video.height, video.pix_fmt = 128, 96, "yuv420p"
        for frame in draw_frames(50, 96, 128):
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode(None))
        samples = (8000 * np.sin(np.arange(32_000) / 10)).astype(np.int16)[None]
        sound = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        sound.sample_rate, sound.pts = 16_000, 0
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny: Settings) -> Path:
    """What JupyterLab is started on: a notebook, settings, tables, and a copy of the sample."""
    folder, cache = tmp_path_factory.mktemp("lab"), tmp_path_factory.mktemp("kept")
    shutil.copytree(tiny.data.root, folder / "data")
    (folder / "old").mkdir()
    write_mpeg(folder / "old" / "old.mpg")
    for name, root in (("below", folder / "data"), ("elsewhere", tiny.data.root), ("old", folder / "old")):
        settings = change(tiny, data={"root": str(root), "cache": str(cache)})
        save_settings(
            change(settings, video={"detector": "none"}) if name == "old" else settings, folder / f"{name}.yaml"
        )
    videos = load_manifest(change(tiny, data={"root": str(folder / "data")}), progress=False)
    score = np.linspace(0.1, 0.9, len(videos))
    scored = {"score": score, "predicted": (score > 0.5).astype(float), "status": "ok", "reason": "", "face": 0}
    videos.assign(**scored).to_csv(folder / "scores.csv", index=False)
    rows = [{"video_id": videos["video_id"].iat[0], "face": 0, "start": start} for start in (0.0, 0.3, 0.6)]
    streams = ("score", "video_fake_score", "audio_fake_score", "in_sync_score")
    pd.DataFrame(rows).assign(**dict.fromkeys(streams, 0.7)).to_csv(folder / "windows.csv", index=False)
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in (SETUP, *CELLS)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "look.ipynb")
    return folder


@pytest.fixture(scope="module")
def lab(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a JupyterLab of its own, which leaves nothing in the home folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = tmp_path_factory.mktemp("home")
    places = {name: str(home / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
    environment = {**os.environ, **places, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop("DFMM_HEADLESS", None)
    options = [f"--port={port}", f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}", "--allow-root"]
    quiet = [
        "--no-browser",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    command = [sys.executable, "-m", "jupyter", "lab", *options, *quiet]
    with (home / "lab.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + PATIENCE / 1000
        while True:
            try:
                ask(address, "api")
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=60)


def ask(address: str, path: str, method: str = "GET") -> Any:
    request = urllib.request.Request(f"{address}/{path}?token={TOKEN}", method=method)
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read() or "null")


@contextmanager
def open_notebook(address: str, name: str, *, kernel: bool) -> Iterator[Any]:
    """Open a notebook in a browser that was never there before, with a kernel or without one."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed: on Debian and Ubuntu, apt install chromium")
    with playwright.sync_playwright() as tool:
        # As root, Chromium has no sandbox; and a test may play without a click.
        options = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        browser = tool.chromium.launch(executable_path=CHROMIUM, args=options)
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(PATIENCE)
        page.goto(f"{address}/lab/tree/{name}?token={TOKEN}&reset")
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        if not kernel:
            # JupyterLab does not always ask; a kernel that it starts by itself knows nothing of the widgets either.
            with suppress(playwright.TimeoutError):
                page.get_by_role("button", name="No Kernel").first.click(timeout=30_000)
        yield page
        browser.close()


def run_all(page: Any) -> None:
    page.wait_for_selector("text=| Idle")
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()


def seek(inspector: Any, share: float) -> float:
    """Click on the log-mel at a share of what it shows; return where the cursor then is, in pixels."""
    place = inspector.locator(".dfmm-mel").bounding_box()
    x = 76 + share * (place["width"] - 86)
    inspector.locator(".dfmm-mel").click(position={"x": x, "y": place["height"] / 2})
    return inspector.locator(".dfmm-panels .dfmm-cursor").bounding_box()["x"] - place["x"]


def check_seeks(inspector: Any) -> None:
    """The cursor goes where one clicks, through all panels, and takes the picture along."""
    inspector.scroll_into_view_if_needed()
    slider, cursor = inspector.get_by_role("slider"), inspector.locator(".dfmm-panels .dfmm-cursor")
    duration = float(slider.get_attribute("aria-valuemax"))
    for share in (0.3, 0.7):
        x = seek(inspector, share)
        time = float(slider.get_attribute("aria-valuenow"))
        assert time == pytest.approx(share * duration, abs=0.05)
        width = inspector.locator(".dfmm-mel").bounding_box()["width"] - 86
        assert x == pytest.approx(76 + time / duration * width, abs=2)
    line = cursor.bounding_box()
    for name in ("wave", "mel", "mouth", "scores", "lanes"):
        panel = inspector.locator(f".dfmm-{name}").bounding_box()
        assert line["y"] <= panel["y"] + 1
        assert line["y"] + line["height"] >= panel["y"] + panel["height"] - 1
    before = float(slider.get_attribute("aria-valuenow"))
    inspector.press("ArrowRight")
    assert float(slider.get_attribute("aria-valuenow")) == pytest.approx(before + 0.04, abs=0.01)


def check_videos(page: Any) -> None:
    below, elsewhere, old = (page.locator(".dfmm-inspector").nth(number) for number in range(3))
    for inspector, address in ((below, "/files/data/"), (elsewhere, "http://127.0.0.1:")):
        page.wait_for_function("node => node.dataset.ready === 'video'", arg=inspector.element_handle())
        check_seeks(inspector)
        video = inspector.locator("video").element_handle()
        assert address in video.evaluate("video => video.currentSrc")
        time = float(inspector.get_by_role("slider").get_attribute("aria-valuenow"))
        assert video.evaluate("video => video.currentTime") == pytest.approx(time + 0.02, abs=0.01)
        inspector.get_by_role("button", name="¼×").click()
        assert video.evaluate("video => video.playbackRate") == 0.25
    page.wait_for_function("node => node.dataset.ready === 'frames'", arg=old.element_handle())
    check_seeks(old)
    assert "cannot play the file (mpeg2video)" in old.inner_text()
    canvas = old.locator(".dfmm-picture canvas").element_handle()
    page.wait_for_function("canvas => canvas.width === 128", arg=canvas)


def check_table(page: Any, folder: Path) -> None:
    table, opened = page.locator(".dfmm-table"), page.locator(".dfmm-inspector").nth(3)
    videos = pd.read_csv(folder / "scores.csv")
    table.scroll_into_view_if_needed()
    page.wait_for_selector(f".dfmm-table[data-total='{len(videos)}']")
    assert opened.is_hidden()
    table.locator("select[data-filter=label]").select_option("real")
    page.wait_for_selector(f".dfmm-table[data-total='{(videos['label'] == 0).sum()}']")
    table.locator("th", has_text="score").first.click()
    best = videos[videos["label"] == 0].sort_values("score").iloc[-1]
    row = table.locator("tbody tr").first
    playwright.expect(row).to_contain_text(best["video_id"], timeout=PATIENCE)
    row.locator("select").select_option("unsure")
    row.locator("td").nth(1).click()
    playwright.expect(opened).to_be_visible(timeout=PATIENCE)
    deadline = time.monotonic() + 60
    while read_annotations(folder / "run" / "annotations.csv").empty and time.monotonic() < deadline:
        time.sleep(0.2)
    said = read_annotations(folder / "run" / "annotations.csv")
    assert said[["who", "video_id", "verdict"]].to_numpy().tolist() == [["ben", best["video_id"], "unsure"]]


def check_form(page: Any, folder: Path) -> None:
    """What is wrong is said beside its field, a word finds some, and the button writes what loads."""
    form = page.locator(".dfmm-form")
    form.scroll_into_view_if_needed()
    word, said = form.get_by_label("find a setting"), form.get_by_role("status")
    word.fill("learnig")
    playwright.expect(said).to_contain_text("did you mean learning")
    word.fill("peak")
    row = form.locator("[data-name='train.lr']")
    playwright.expect(row).to_be_visible()
    playwright.expect(form.locator("[data-name='train.epochs']")).to_be_hidden()
    row.locator("input").fill("-1")
    playwright.expect(row.locator(".dfmm-fault")).to_contain_text("greater than 0")
    form.get_by_role("button").click()
    playwright.expect(said).to_contain_text("not written")
    row.locator("input").fill("1e-4")
    playwright.expect(row.locator(".dfmm-usual")).to_contain_text("0.002")
    form.get_by_role("button").click()
    playwright.expect(said).to_contain_text("written: mine.yaml")
    assert load_settings(folder / "mine.yaml").train.lr == 1e-4


def check_saved(page: Any) -> None:
    """Without a kernel there are stills, and no error."""
    page.wait_for_timeout(5000)  # JupyterLab looks for a widget for two seconds before it gives up
    stills = page.locator(".jp-OutputArea-output img[src^='data:image/png']")
    for number in range(5):
        stills.nth(number).scroll_into_view_if_needed()
        assert stills.nth(number).bounding_box()["width"] > 300
        # Cells that are out of sight may be none of the page's.
        seen = stills.nth(number).locator("xpath=ancestor::*[contains(@class, 'jp-CodeCell')]").inner_text()
        assert "Error displaying widget" not in seen
        assert "Loading widget" not in seen
        assert "Run this cell in JupyterLab" in seen


def check_untrusted(page: Any) -> None:
    """A player plays in a notebook that is not trusted, too, and its words say what to do if it does not."""
    player = page.locator("video[controls]")
    player.scroll_into_view_if_needed()
    page.wait_for_function("video => video.readyState >= 2", arg=player.element_handle())
    seen = page.locator(".jp-Notebook").inner_text()
    assert "choose File → Trust Notebook" in seen
    assert "<i>a player</i>" in seen


def test_inspectors_and_the_table_work_and_leave_their_stills(lab: str, folder: Path) -> None:
    with open_notebook(lab, "look.ipynb", kernel=True) as page:
        run_all(page)
        for number in range(3):
            page.wait_for_function(f"() => document.querySelectorAll('.dfmm-inspector[data-drawn]').length > {number}")
        page.wait_for_selector("video[controls]", state="attached")
        page.wait_for_selector("text=| Idle")
        assert not page.locator("[data-mime-type='application/vnd.jupyter.stderr']").count()
        assert not page.locator("[data-mime-type='application/vnd.jupyter.error']").count()
        check_videos(page)
        check_table(page, folder)
        check_form(page, folder)
        assert "Run this cell in JupyterLab" not in page.locator(".jp-Notebook").inner_text()  # it lives
        page.keyboard.press("Control+s")
        page.wait_for_timeout(3000)
    for session in ask(lab, "api/sessions"):
        urllib.request.urlopen(
            urllib.request.Request(f"{lab}/api/sessions/{session['id']}?token={TOKEN}", method="DELETE")
        ).close()
    with open_notebook(lab, "look.ipynb", kernel=False) as page:
        check_saved(page)
    notebook = nbformat.read(folder / "look.ipynb", as_version=4)
    notebook.cells[0].source += "\n# changed by somebody else"
    nbformat.write(notebook, folder / "foreign.ipynb")
    with open_notebook(lab, "foreign.ipynb", kernel=False) as page:
        check_untrusted(page)
        check_saved(page)
