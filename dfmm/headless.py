"""Notebooks run from the command line through papermill, with a status that is true whatever happens."""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
import papermill
from nbformat.sign import NotebookNotary
from traitlets.config import Config

from dfmm.files import name_partial
from dfmm.runs import Run, open_run, terminate_as_interrupt
from dfmm.settings import diff_settings, find_project, load_settings

# A socket file instead of a TCP port: what a notebook shows stays on this machine and with this user.
KERNEL_CONFIG = Config({"KernelManager": {"transport": "ipc" if os.name == "posix" else "tcp"}})

# What tells nothing of a run is run by its name only, not with `all`: a gallery is the same whatever was trained.
APART = ("06_degradations", "07_forgeries")

log = logging.getLogger("dfmm")


class NotebookError(RuntimeError):
    """A notebook that failed; the message says where, and where to read it."""


def list_notebooks() -> dict[str, Path]:
    """Return the project's numbered notebooks by name, in their order."""
    folder = find_project() / "notebooks"
    return {file.stem: file for file in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}


def run_notebooks(
    name: str,
    params: str,
    overrides: Sequence[str] | None = (),
    *,
    run: str | Path | None = None,
    restart: bool = False,
) -> Run:
    """Execute one notebook, or `all` that tell of a run, into its folder; what is done already is not done again.

    Args:
        run: the run's folder; by default outputs/ and the params file's name.
        restart: begin again; a single notebook only forgets its own result, unless the settings have changed.

    Raises:
        NotebookError: no such notebook, or one failed; those after it are not started.
        RunError: the run exists with other settings, or another process is at it.
    """
    notebooks = list_notebooks()
    if name != "all" and name not in notebooks:
        raise NotebookError(f"no notebook {name!r}; there are: {', '.join(notebooks)}, or all")
    settings = load_settings(params, overrides)
    target = Run(run or Path("outputs") / Path(params).stem)
    if restart and name != "all":
        target.forget(name)
    # Notebooks of one run belong together: with other settings, none of the old results may stay.
    file = target / "settings.yaml"
    changed = file.is_file() and bool(diff_settings(load_settings(file), settings))
    target = open_run(target.path, settings, restart=restart and (name == "all" or changed))
    for chosen in [one for one in notebooks if one not in APART] if name == "all" else [name]:
        if target.status(chosen) == "done":
            log.info("%s is done already in %s (--restart does it again)", chosen, target.name)
            continue
        log.info("%s …", chosen)
        with terminate_as_interrupt(), target.stage(chosen):
            _execute(notebooks[chosen], target, params, overrides)
    return target


def _execute(notebook: Path, run: Run, params: str, overrides: Sequence[str] | None) -> None:
    target = run / notebook.name
    partial = name_partial(target)
    values = {"params": params, "overrides": list(overrides or ()), "run": str(run.path)}
    os.environ["DFMM_HEADLESS"] = "1"  # the kernel inherits it: lines instead of bars
    logging.getLogger("papermill").setLevel(logging.WARNING)
    try:
        papermill.execute_notebook(
            notebook,
            partial,
            parameters=values,
            kernel_name="python3",
            cwd=find_project(),
            progress_bar=False,
            stdout_file=sys.stdout,
            coalesce_streams=True,
            config=KERNEL_CONFIG,
        )
        _check_whole(partial)
        _sign(partial, target.name)
    except papermill.PapermillExecutionError as error:
        raise NotebookError(
            f"{notebook.stem}, cell {error.exec_count}: {error.ename}: {error.evalue}\nread {run.name}/{notebook.name}"
        ) from None
    except RuntimeError as error:  # nbclient's DeadKernelError and CellTimeoutError among them
        raise NotebookError(f"{notebook.stem}: {error}\nread {run.name}/{notebook.name}") from error
    finally:
        if partial.is_file():  # also when it failed: the error is read there
            partial.replace(target)


def _sign(executed: Path, name: str) -> None:
    """Trust what was made here, as `jupyter trust` does: JupyterLab then shows its players and widgets."""
    notebook, why = nbformat.read(executed, as_version=4), ""
    try:
        NotebookNotary().sign(notebook)
        signed = NotebookNotary().check_signature(notebook)  # by another one: the first may keep it in memory alone
    except (OSError, sqlite3.Error) as error:
        signed, why = False, f" ({error})"
    if not signed:
        log.warning("%s could not be signed%s: in JupyterLab choose File → Trust Notebook", name, why)


def _check_whole(executed: Path) -> None:
    """Raise unless every cell was run: papermill takes `sys.exit(0)` in a cell for the notebook's happy end."""
    cells = [cell for cell in nbformat.read(executed, as_version=4).cells if cell.cell_type == "code" and cell.source]
    missed = sum(cell.execution_count is None for cell in cells)
    if missed:
        raise RuntimeError(f"ended early: {missed} of {len(cells)} cells were not run")
