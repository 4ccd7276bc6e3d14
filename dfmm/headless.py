"""Notebooks run from the command line through papermill, with a status that is true whatever happens."""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
import papermill
import yaml
from nbformat.sign import NotebookNotary
from traitlets.config import Config

from dfmm.files import name_partial
from dfmm.runs import Run, Stopped, open_run, terminate_as_interrupt
from dfmm.settings import Settings, diff_settings, find_project, load_settings
from dfmm.webpage import write_webpage

# A socket file instead of a TCP port: what a notebook shows stays on this machine and with this user.
KERNEL_CONFIG = Config({"KernelManager": {"transport": "ipc" if os.name == "posix" else "tcp"}})

# What is run by its name only, not with `all`: the first leads to the others, galleries are the same whatever was
# trained, a comparison needs other runs, a sweep scores the test split many times, new files are new each time, and
# another's code is run by who names it.
APART = (
    "00_start_here", "06_degradations", "07_forgeries", "08_compare_runs", "09_robustness", "10_score_videos",
    "11_other_detectors",
)  # fmt: skip
TRAINS = ("02_debug_run", "03_train")  # and so need weights, both labels, …
COMMON = ("params", "overrides", "run")  # the parameters of every notebook; some have more

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
    parameters: Mapping[str, Any] | None = None,
    restart: bool = False,
    html: bool = False,
) -> Run:
    """Execute one notebook, or `all` but those `APART`, into its folder; what is done already is not done again.

    Args:
        run: the run's folder; by default outputs/ and the params file's name.
        parameters: those that one notebook has besides `COMMON`, such as `others`; with other values it is run again.
        restart: begin again; a single notebook only forgets its own result, unless the settings have changed.
        html: write each executed notebook also as a page beside it, which loads nothing from elsewhere.

    Raises:
        NotebookError: no such notebook or parameter, or a notebook failed; those after it are not started.
        RunError: the run exists with other settings, or another process is at it.
    """
    notebooks = list_notebooks()
    name = name if name == "all" else find_notebook(name, list(notebooks))
    parameters = dict(parameters or {})
    _check_parameters(name, notebooks, parameters)
    settings = load_settings(params, overrides)
    target = Run(run or Path("outputs") / Path(params).stem)
    if restart and name != "all":
        target.forget(name)
    # Notebooks of one run belong together: with other settings, none of the old results may stay.
    file = target / "settings.yaml"
    changed = file.is_file() and bool(diff_settings(load_settings(file), settings))
    wanted = [one for one in notebooks if one not in APART] if name == "all" else [name]
    _check_needs(wanted, target, settings, restart=restart)
    target = open_run(target.path, settings, restart=restart and (name == "all" or changed))
    for chosen in wanted:
        if target.status(chosen) == "done" and target.read()["stages"][chosen].get("parameters", {}) == parameters:
            log.info("%s is done already in %s (--restart does it again)", chosen, target.name)
        else:
            log.info("%s …", chosen)
            with terminate_as_interrupt(), target.stage(chosen):
                target.update(chosen, parameters=parameters)
                _execute(notebooks[chosen], target, params, overrides, parameters)
        if html:
            log.info("page: %s", write_webpage(target / notebooks[chosen].name))
    return target


def _check_needs(wanted: Sequence[str], run: Run, settings: Settings, *, restart: bool) -> None:
    """Say what cannot work before anything is done, not after 01 has read all videos, if something is to be trained."""
    if any(restart or run.status(one) != "done" for one in wanted if one in TRAINS):
        from dfmm.training import check_needs  # seconds of imports, which a run that is done need not wait for

        check_needs(settings, run, restart=restart)


def find_notebook(name: str, names: Sequence[str]) -> str:
    """Return the notebook that is meant by its whole name, its number or a word of it: `3` and `train` are `03_train`.

    Raises:
        NotebookError: none is, or several are.
    """
    found = [one for one in names if one == name or one.split("_")[0].lstrip("0") == name.lstrip("0")]
    words = {one: one.partition("_")[2] for one in names}
    found = found or [one for one in names if name in words[one].split("_")]
    found = found or [one for one in names if name in words[one]]
    if len(found) == 1:
        return found[0]
    several = f"{name!r} may be {' or '.join(found)}" if found else f"no notebook {name!r}"
    raise NotebookError(f"{several}; there are: {', '.join(names)}, or all")


def read_parameters(text: str) -> dict[str, Any]:
    """Read a notebook's parameters from YAML, such as `others: [outputs/lr]`.

    Raises:
        NotebookError: it is none, or not names with values.
    """
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise NotebookError(f"parameters {text!r}: not YAML: {error}") from error
    if not isinstance(values, dict):
        raise NotebookError(f"parameters {text!r}: expected names and values, such as 'others: [outputs/lr]'")
    return values


def _check_parameters(name: str, notebooks: Mapping[str, Path], parameters: Mapping[str, Any]) -> None:
    """Raise unless the notebook has these parameters: papermill would set a variable that nothing reads."""
    if parameters and name == "all":
        raise NotebookError(f"{', '.join(parameters)}: parameters of one notebook; name it instead of all")
    known = set(papermill.inspect_notebook(notebooks[name])) - set(COMMON) if parameters else set()
    if unknown := [one for one in parameters if one not in known]:
        has = f"it has {', '.join(sorted(known))}" if known else "it has none of its own"
        raise NotebookError(f"{name}: no parameter {', '.join(unknown)}; {has}")


def _execute(
    notebook: Path, run: Run, params: str, overrides: Sequence[str] | None, parameters: Mapping[str, Any]
) -> None:
    target = run / notebook.name
    partial = name_partial(target)
    values = {"params": params, "overrides": list(overrides or ()), "run": str(run.path), **parameters}
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
        if error.ename == Stopped.__name__:
            raise Stopped(error.evalue) from None
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
