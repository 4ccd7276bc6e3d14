"""What the README and docs/ say is there: links lead somewhere, commands parse, settings exist, params files load."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dfmm import figures
from dfmm.cli import make_parser
from dfmm.cli.command import COMMANDS
from dfmm.runs import MADE
from dfmm.settings import iterate_settings, validate_settings

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SETTINGS = {name for name, _ in iterate_settings()}
SECTIONS = {name.split(".")[0] for name in SETTINGS if "." in name}

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def find_spans(text: str) -> list[str]:
    """Return what stands in backticks, outside of blocks."""
    return re.findall(r"`([^`]+)`", BLOCK.sub("", text))


def find_commands(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the words after each `dfmm `, and whether it stands in a block: there it is meant to be run."""
    for kind, block in BLOCK.findall(text):
        for line in block.splitlines() if kind in ("", "sh", "bash") else ():
            if found := re.search(r"(?:^|\s)dfmm (.*)", line.split(" #")[0]):
                yield found[1], True
    for span in find_spans(text):
        if found := re.search(r"(?:^|\s)dfmm (.*)", " ".join(span.split())):
            yield found[1], False


def find_fault(words: str, *, whole: bool) -> str:
    """Return why a command is none; one that is only mentioned may lack what it needs, but has the options named."""
    parts = shlex.split(re.sub(r"\[(--?[^\]]*)\]", r"\1", words))  # what may be left out
    if parts[0].isupper():  # COMMAND
        return ""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            make_parser().parse_args(parts)
    except SystemExit:
        options = {name: [one for names, _ in arguments for one in names] for name, _, arguments, _ in COMMANDS}
        known = parts[0] in options and {one for one in parts[1:] if one.startswith("-")} <= set(options[parts[0]])
        return "" if known and not whole else said.getvalue()
    return ""


def name_anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives a page's headings."""
    heads = re.findall(r"^#+ (.*)$", BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def list_dead(page: Path) -> list[str]:
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        if not file.exists() or (anchor and anchor not in name_anchors(file)):
            dead.append(target)
    return dead


def is_there(name: str) -> bool:
    """Is it a setting, or something of a room of that name?"""
    room, _, member = name.partition(".")
    with contextlib.suppress(ModuleNotFoundError):
        return name in SETTINGS or hasattr(importlib.import_module(f"dfmm.{room}"), member)
    return name in SETTINGS


@pages
def test_links_lead_somewhere(page: Path) -> None:
    assert list_dead(page) == []


@pages
def test_commands_are_what_the_parser_takes(page: Path) -> None:
    for words, whole in find_commands(page.read_text(encoding="utf-8")):
        assert not (fault := find_fault(words, whole=whole)), f"dfmm {words}: {fault}"


@pages
def test_settings_and_figures_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    blocks = " ".join(block for kind, block in BLOCK.findall(text) if kind != "mermaid")
    named = re.findall(r"(?<![\w./])([a-z]+\.[a-z_]+)(?![\w.(/])", " ".join([*find_spans(text), blocks]))
    strange = {name for name in named if name.split(".")[0] in SECTIONS and not is_there(name)}
    assert strange <= {"model.safetensors"}  # a file
    assert {name for name in re.findall(r"figures\.(\w+)\(", text) if name not in figures.__all__} == set()


@pages
def test_params_files_that_are_shown_load(page: Path) -> None:
    for kind, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        if kind == "yaml":
            validate_settings(yaml.safe_load(block))


def test_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        code = "\n".join([*find_spans(text), *(block for _, block in BLOCK.findall(text))])
        assert set(re.findall(r"^make ([a-z]+)", code, re.MULTILINE)) <= targets


def test_every_page_is_named_in_the_readme() -> None:
    text = PAGES[0].read_text(encoding="utf-8")
    assert [page.name for page in PAGES[1:] if f"docs/{page.name}" not in text] == []


def test_the_table_of_a_runs_folder_names_all_that_a_run_makes() -> None:
    table = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8").partition("## A run's folder")[2]
    first = "".join(re.findall(r"^\|([^|]*)\|", table, re.MULTILINE))
    named = {name.split("/")[0] for name in re.findall(r"`([^`]+)`", first)}
    assert named == {*MADE, "NN_name.ipynb", "annotations.csv"}


def test_what_is_wrong_in_a_page_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One, two\n[a](#one-two) [b](#three) [c](nowhere.md) [d](page.md#one-two) [e](https://x.org)\n")
    assert list_dead(page) == ["#three", "nowhere.md"]
    text = (
        "`dfmm bake`, `dfmm extract --shards`, `dfmm run --gently`\n```\nx -m dfmm train # it\ndfmm runs outputs\n```\n"
    )
    found = [bool(find_fault(words, whole=whole)) for words, whole in find_commands(text)]
    assert found == [True, False, True, False, True]
    assert not is_there("train.rate")
