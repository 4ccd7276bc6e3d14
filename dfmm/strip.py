"""What a notebook holds of the clips it was run on, taken out before it is committed; the shipped ones are kept."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from dfmm.files import write_whole
from dfmm.sections import Data
from dfmm.settings import SettingsError, read_params, validate_settings

SHIPPED = re.compile(r"(^|/)notebooks/\d\d_\w+\.ipynb$")
QUICK = "params/quick.yaml"  # what the shipped ones were run with
RUN_BY = ("papermill", "execution", "widgets")  # metadata of a run: paths, times, and the state of widgets


class StripError(ValueError):
    """A file that is no notebook; the message says which."""


def strip_files(files: Iterable[str | Path]) -> list[Path]:
    """Strip every notebook but those that are shipped and as they were; return the files that have changed.

    Raises:
        StripError: one of them is no notebook; then nothing is written.
    """
    changed, paths = [], [Path(file) for file in files]
    for file, notebook in [(file, _parse(_read(file), file)) for file in paths]:
        if is_shipped(file, notebook):
            continue
        before = nbformat.writes(notebook)
        if nbformat.writes(strip_notebook(notebook)) != before:
            write_whole(nbformat.writes(notebook) + "\n", file)
            changed.append(file)
    return changed


def strip_notebook(notebook: NotebookNode) -> NotebookNode:
    """Take all outputs out of a notebook, in place, and what a run left in its metadata; return it.

    What was typed or pasted by hand stays, pictures in texts among it.
    """
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        for name in RUN_BY:
            cell.metadata.pop(name, None)
    for name in RUN_BY:
        notebook.metadata.pop(name, None)
    return notebook


def is_shipped(file: Path, notebook: NotebookNode) -> bool:
    """Is it one of the numbered notebooks, with not a cell other than as last committed, and run on the sample?

    Its outputs then are of drawn people. A changed parameter, an added cell or another params file is reason to doubt;
    so is one that was committed without outputs: its cells may have been changed then.
    """
    file = file.resolve()
    project = file.parent.parent
    if not SHIPPED.search(file.as_posix()) or _ask_git(project, "diff", "--quiet", "HEAD", "--", QUICK) is None:
        return False
    committed = _ask_git(file.parent, "show", f"HEAD:./{file.name}")
    if committed is None or not is_of_sample(project / QUICK):
        return False
    before = _parse(committed, file)
    shown = any(cell.get("outputs") for cell in before.cells)
    return shown and [_tell(cell) for cell in notebook.cells] == [_tell(cell) for cell in before.cells]


def is_of_sample(params: Path) -> bool:
    """Do these settings name the drawn sample? A folder that holds anything else is refused by `make_sample`."""
    try:
        data = validate_settings(read_params(params)).data
    except SettingsError:
        return False
    return data.sample_videos > 0 and data.manifest == Data().manifest


def _tell(cell: NotebookNode) -> tuple[str, str]:
    return cell.cell_type, cell.source


def _ask_git(folder: Path, *words: str) -> str | None:
    """Return what git answers, None where it fails or is not there."""
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.decode()


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StripError(f"{file}: expected a notebook, but it cannot be read: {error}") from error


def _parse(text: str, file: Path) -> NotebookNode:
    try:
        return nbformat.reads(text, as_version=4)
    except Exception as error:  # of many types: no JSON, no cells, an unknown version
        raise StripError(f"{file}: expected a notebook, got something else: {error}") from error
