"""A notebook's page is one file: what it shows is in it, and nothing is fetched or run."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest

from dfmm.cli import main
from dfmm.runs import Run
from dfmm.webpage import write_webpage

from .test_notebooks import NOTEBOOKS, project, write_notebook  # noqa: F401 – a fixture

PLAYER = "<video controls src='data:video/mp4;base64,AAAA'></video>"
WIDGET = "application/vnd.jupyter.widget-view+json"
# What a browser would fetch: attributes of elements, imports of scripts and of styles.
FETCHES = re.compile(r"""(?:\b(?:src|srcset|poster|data)\s*=|@?\bimport\b|\burl\()\s*\(?\s*["']?(?:https?:)?//""", re.I)


class Reader(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))


def write_executed(folder: Path, html: str) -> Path:
    """A notebook with a formula, a picture, a widget that is gone, and an output of this HTML."""
    data = {"text/html": html, "image/png": "iVBORw0KGgo=", WIDGET: {"model_id": "gone"}, "text/plain": "seen"}
    outputs = [nbformat.v4.new_output("display_data", {name: data[name]}) for name in ("text/html", "image/png")]
    outputs += [nbformat.v4.new_output("display_data", {WIDGET: data[WIDGET], "text/plain": "its still"})]
    cells = [nbformat.v4.new_markdown_cell("$x^2$"), nbformat.v4.new_code_cell("show()", outputs=outputs)]
    state = {"application/vnd.jupyter.widget-state+json": {"state": {}, "version_major": 2, "version_minor": 0}}
    file = folder / "01_look.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"widgets": state}), file)
    return file


def find_loads(html: str) -> list[str]:
    """Return what the page would run or fetch from elsewhere."""
    tags = Reader(html).tags
    scripts = [tag for tag, _ in tags if tag in ("script", "iframe", "object", "embed")]
    links = [attributes["href"] for tag, attributes in tags if tag == "link"]
    return scripts + links + FETCHES.findall(html)


def test_a_page_holds_what_the_notebook_shows_and_loads_nothing(tmp_path: Path) -> None:
    page = write_webpage(write_executed(tmp_path, PLAYER))
    assert page == tmp_path / "01_look.html"
    html = page.read_text(encoding="utf-8")
    assert find_loads(html) == []
    assert ("video", {"controls": "", "src": "data:video/mp4;base64,AAAA"}) in Reader(html).tags
    assert "data:image/png;base64,iVBORw0KGgo=" in html
    assert "its still" in html
    assert "x^2" in html
    assert sorted(file.name for file in tmp_path.iterdir()) == ["01_look.html", "01_look.ipynb"]


def test_each_picture_says_in_words_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = {"a": "<Figure size 800x600 with 1 Axes>", "b": 'Threshold and prior\ncalled: 1 "fake" < 2'}
    outputs = [
        nbformat.v4.new_output("display_data", {"image/png": "iVBORw0KGgo=", "text/plain": text})
        for text in said.values()
    ]
    cells = [nbformat.v4.new_markdown_cell("# Look\n\n## Errors\n"), nbformat.v4.new_code_cell("", outputs=outputs)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "01_look.ipynb")
    tags = Reader(write_webpage(tmp_path / "01_look.ipynb").read_text(encoding="utf-8")).tags
    assert [attributes["alt"] for tag, attributes in tags if tag == "img"] == ["A figure of: Errors", said["b"]]
    assert "Alternative text is missing" not in "".join(capsys.readouterr())


def test_scripts_of_an_output_are_gone_and_what_it_asks_for_is_refused(tmp_path: Path) -> None:
    html = write_webpage(
        write_executed(tmp_path, "<SCRIPT src='https://x.example/a.js'></SCRIPT ><script>alert(1)\n</script>")
    ).read_text(encoding="utf-8")
    assert find_loads(html) == []
    tags = Reader(html).tags
    (policy,) = [attributes for tag, attributes in tags if attributes.get("http-equiv") == "Content-Security-Policy"]
    assert policy["content"].startswith("default-src 'none';")
    assert "script-src" not in policy["content"]
    assert "http" not in policy["content"]
    before = [tag for tag, _ in tags[: [one for one, _ in tags].index("style")]]
    assert "link" not in before
    assert before.count("meta") >= 1  # the policy stands before all that it rules


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_pages_of_the_projects_notebooks_load_nothing(file: Path, tmp_path: Path) -> None:
    copied = tmp_path / file.name
    copied.write_bytes(file.read_bytes())
    html = write_webpage(copied).read_text(encoding="utf-8")
    assert find_loads(html) == []
    shown = [
        output.data["text/html"]
        for cell in nbformat.read(file, as_version=4).cells
        for output in cell.get("outputs", [])
        if "text/html" in output.get("data", {})
    ]
    players = [attributes["src"] for tag, attributes in Reader(html).tags if tag in ("video", "audio")]
    assert len(players) == sum(text.count("<video") + text.count("<audio") for text in shown)
    assert all(player.startswith("data:") for player in players)


def test_the_command_writes_a_page_beside_each_notebook(project: Path) -> None:  # noqa: F811
    write_notebook(project, "01_look", "print('seen')")
    assert main(["run", "01_look", "params/small.yaml"]) == 0
    run = Run("outputs/small")
    assert not (run / "01_look.html").exists()
    assert main(["run", "all", "params/small.yaml", "--html"]) == 0  # which is done already
    assert "seen" in (run / "01_look.html").read_text(encoding="utf-8")
    run.forget("01_look")
    assert not (run / "01_look.html").exists()
