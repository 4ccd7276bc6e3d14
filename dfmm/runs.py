"""A run's folder: its settings, what happened in it, and whether that is still true."""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType
from typing import Any

from filelock import FileLock, Timeout

from dfmm.environment import describe_environment
from dfmm.files import write_beside, write_json, write_whole
from dfmm.settings import (
    Settings,
    diff_settings,
    find_project,
    load_settings,
    resolve_path,
    save_settings,
    validate_settings,
)

QUICK_RUN = "outputs/quick"  # the notebooks' default: what it lacks is made on the way
STOP = "stop"  # the file that asks a training to end
MADE = (
    *("settings.yaml", "run.json", "log.jsonl", "metrics.jsonl", "checkpoints", "evaluations", "robustness"),
    *("audit", "verdicts.html", "imported.csv", "export", "others"),
    *("debug", "trackers", STOP, "go_on.log"),
)
BOOKKEEPING = ("settings.yaml", "run.json", "log.jsonl", "locks")  # what a run has before anything is done in it
# What may change as a run goes on; the first five change the weights that come of it, the number of epochs may grow.
CHANGES_WEIGHTS = ("train.batch_size", "train.epochs", "train.patience", "train.accumulate", "train.processes")
MAY_CHANGE = (
    *CHANGES_WEIGHTS, "train.checkpoint_every", "train.keep_checkpoints", "data.root", "data.manifest", "data.cache",
    "data.workers",
)  # fmt: skip
MAY_CHANGE_SECTIONS = ("evaluate", "extract", "logging")
PATIENCE = 0.5  # seconds: who only looks whether a stage is running holds its lock for an instant


log = logging.getLogger("dfmm")


class RunError(RuntimeError):
    """A run's folder that does not allow what was asked; the message says what to do."""


class Stopped(KeyboardInterrupt):
    """A training that ended because somebody asked it to; the message says where."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows of it: nothing is wrong, so there is no trace."""
        return [str(self)]


class Run:
    """One experiment's folder under outputs/.

    `run.json` holds a status for every stage (`train`, `04_evaluate`, …). A process that is killed cannot correct
    what it wrote, so a stage also holds a file lock while it works, which the system lifts with the process:
    `running` without a lock is read as `crashed`.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = resolve_path(path)

    def __fspath__(self) -> str:
        """A run stands where a folder does: a notebook's cell that opens it may be run twice."""
        return str(self.path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def name(self) -> str:
        """The folder as a person would write it: from the project's root, if it lies there."""
        return (
            os.path.relpath(self.path, find_project()) if self.path.is_relative_to(find_project()) else str(self.path)
        )

    @property
    def is_quick(self) -> bool:
        """Is this the notebooks' default run?"""
        return self.path == resolve_path(QUICK_RUN)

    @property
    def checkpoint(self) -> Path:
        """The model that was best on validation."""
        return self.path / "checkpoints" / "best.safetensors"

    @property
    def imported(self) -> Path:
        """The scores of a detector that is not ours, where this run holds some."""
        return self.path / "imported.csv"

    @property
    def source(self) -> Path:
        """What its scores come from: its model, or what was imported."""
        return self.imported if self.imported.is_file() else self.checkpoint

    @property
    def is_untouched(self) -> bool:
        """Has nothing come of it yet, but stages that failed, and the notebooks that say why?"""
        stages = self.read()["stages"]
        failed = {name for name, stage in stages.items() if stage["status"] == "failed"}
        told = {f"{name}.{ending}" for name in failed for ending in ("ipynb", "html")}
        left = {path.name for path in self.path.iterdir()} - {*BOOKKEEPING, *told}
        return not left and failed == {*stages}

    def refuse_imported(self) -> None:
        """Raise a `RunError` where this run holds imported scores, and so no model to ask or to train."""
        if self.imported.is_file():
            raise RunError(f"{self.name} holds imported scores and no model; name a run that was trained")

    def refuse_trained(self) -> None:
        """Raise a `RunError` where this run holds what was trained, be it unfinished, and so no place for scores."""
        if any(self.checkpoint.parent.glob("*")):
            raise RunError(f"{self.name} holds a model that was trained; name another folder for scores")

    def read(self) -> dict[str, Any]:
        """Return `run.json` with every stage's true status; an empty one where there is none."""
        file = self.path / "run.json"
        record = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"stages": {}}
        for name, stage in record["stages"].items():
            if stage["status"] == "running" and not self._is_held(name):
                stage["status"] = "crashed"
        return record

    def status(self, stage: str) -> str:
        """Return `none`, `running`, `done`, `failed`, `interrupted`, `stopped`, `crashed`, or `outdated`."""
        return self.read()["stages"].get(stage, {}).get("status", "none")

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Record a stage as running, and then as done, failed, interrupted or, where somebody asked for it, stopped.

        Raises:
            RunError: another process is at this stage now.
        """
        lock = self._lock(name)
        try:
            lock.acquire(timeout=PATIENCE)
        except Timeout:
            raise RunError(f"{self.name}: {name} is running in another process; wait for it or stop it") from None
        started = _now()
        try:
            self.update(name, status="running", **_started(started))
            yield
        except BaseException as error:
            told = "stopped" if isinstance(error, Stopped) else "interrupted"
            status = told if isinstance(error, (KeyboardInterrupt, SystemExit)) else "failed"
            self.update(name, status=status, error=f"{type(error).__name__}: {error}", **_ended(started))
            raise
        else:
            self.update(name, status="done", **_ended(started))
        finally:
            lock.release()

    @property
    def asked_to_stop(self) -> bool:
        """Does somebody want the training to end? It looks between two steps; a shared folder is way enough."""
        return (self.path / STOP).is_file()

    def ask_to_stop(self) -> str:
        """Have the training end after its step, with a checkpoint that it goes on from, and return what comes of it.

        Raises:
            RunError: none is running.
        """
        status = self.status("train")
        if status not in ("running", "crashed"):
            raise RunError(f"{self.name}: no training is running (it is {status}); nothing to stop")
        write_whole(_now().isoformat() + "\n", self / STOP)
        seen = "" if status == "running" else "; no process is at it on this machine, so only another one's will see it"
        return f"{self.name} ends after its step, with a checkpoint that the same command goes on from{seen}"

    def forget_stop(self) -> None:
        """Let nobody's wish to stop be left."""
        (self.path / STOP).unlink(missing_ok=True)

    def update(self, stage: str, **values: Any) -> None:
        """Set values of a stage in `run.json`, safe against other processes doing the same."""
        with FileLock(self._folder("locks") / "run.json.lock"):
            record = self.read()
            record["stages"].setdefault(stage, {}).update(values)
            write_json(record, self.path / "run.json")

    def describe(self, **values: Any) -> None:
        """Set values of the run itself in `run.json`, such as the data's fingerprint."""
        with FileLock(self._folder("locks") / "run.json.lock"):
            write_json({**self.read(), **values}, self.path / "run.json")

    def clear(self) -> None:
        """Remove everything the run made, so that it can begin again; foreign files stay.

        Raises:
            RunError: a process is at work in this run.
        """
        self._refuse_busy()
        executed = (file.name for ending in ("ipynb", "html") for file in self.path.glob(f"[0-9][0-9]_*.{ending}"))
        self._remove([*MADE, *executed])

    def set_aside(self) -> Run | None:
        """Move what was trained beside this folder, named by when it was made, so that this one can begin again.

        Returns:
            Where it is now; None where nothing had been trained, and what was made is removed.

        Raises:
            RunError: a process is at work in this run.
        """
        if not self.checkpoint.is_file():
            self.clear()
            return None
        self._refuse_busy()
        made = "".join(filter(str.isdigit, self.read().get("created", "")))[:14] or "before"
        names = (f"{self.path.name}-{made}-{number}" for number in itertools.count(1))
        kept = next(path for path in map(self.path.with_name, names) if not path.exists())
        self.path.rename(kept)
        return Run(kept)

    def _refuse_busy(self) -> None:
        locks = [lock.stem for lock in self.path.glob("locks/*.lock") if lock.stem != "run.json"]
        busy = [name for name in locks if self._is_held(name)]
        if busy:
            raise RunError(f"{self.name}: {', '.join(busy)} is running; wait for it or stop it before beginning again")

    def forget(self, notebook: str) -> None:
        """Remove what one notebook made, so that it is run again."""
        made = {
            "03_train": ("checkpoints", "metrics.jsonl"),
            "04_evaluate": ("evaluations",),
            "09_robustness": ("robustness",),
            "10_score_videos": ("verdicts.html",),
        }
        self._remove([f"{notebook}.ipynb", f"{notebook}.html", *made.get(notebook, ())])
        stages = {name: stage for name, stage in self.read()["stages"].items() if name != notebook}
        if notebook == "03_train":
            stages.pop("train", None)
        self.describe(stages=stages)

    def _remove(self, names: Iterable[str]) -> None:
        for path in (self.path / name for name in names):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def _lock(self, name: str) -> FileLock:
        return FileLock(self._folder("locks") / f"{name}.lock")

    def _folder(self, name: str) -> Path:
        folder = self.path / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _is_held(self, name: str) -> bool:
        try:
            lock = self._lock(name)
            lock.acquire(timeout=0)
        except Timeout:
            return True
        except OSError:  # a folder that may only be read: nobody can tell, and what is written stands
            return True
        lock.release()
        return False


def open_run(path: str | os.PathLike[str], settings: Settings, *, restart: bool = False) -> Run:
    """Make a run's folder, or open it again with the settings it was made with, and send the log there.

    Some settings may be others as a run goes on (`MAY_CHANGE`): they are written down in `run.json`, under `changes`,
    and what was done with the old ones and depends on them is outdated.

    A run in which nothing was done, as where the first command failed, takes other settings as a new one does.

    The notebooks' quick run begins again with other settings; what was trained with the old ones is kept beside it.

    Args:
        restart: remove what an earlier run made in this folder.

    Raises:
        RunError: the folder belongs to a run with other settings; the message shows the difference.
    """
    run = Run(path)
    if restart:
        run.clear()
    file = run / "settings.yaml"
    changed = diff_settings(load_settings(file), settings) if file.is_file() else []
    refused = _find_refused(run, load_settings(file), settings) if changed else []
    if refused and not run.is_quick and run.is_untouched:
        log.warning("nothing was done in %s yet, so it begins with these settings", run.name)
        run.clear()
        changed = []
    elif refused and not run.is_quick:
        raise RunError(
            f"{run.name} was made with other settings (then → now):\n  " + "\n  ".join(refused) + "\n"
            "Name another run, or begin this one again with `dfmm run … --restart`."
        )
    if changed and run.is_quick:
        kept = run.set_aside()
        before = f"; what was trained before is kept in {kept.name}" if kept else ""
        log.warning("the settings of the quick run have changed, so it begins again%s", before)
    if not file.is_file():
        with write_beside(file) as partial:
            save_settings(settings, partial)
        run.describe(created=_now().isoformat(), seed=settings.seed, **describe_environment())
    elif changed:
        _change_settings(run, settings, changed)
    start_logging(run, settings)
    if changed and not run.is_quick:
        log.warning("%s goes on with other settings (then → now):\n  %s", run.name, "\n  ".join(changed))
        if which := [line for line in changed if _name_setting(line) in CHANGES_WEIGHTS]:
            log.warning("the weights will be others than with the old settings: %s", "; ".join(which))
    return run


def _find_refused(run: Run, old: Settings, new: Settings) -> list[str]:
    """Return those differences with which a run cannot go on, and why where that is not plain."""
    grows = new.train.epochs > old.train.epochs or new.train.patience > old.train.patience
    refused, done = [], run.status("train") == "done" and not grows
    for line in diff_settings(old, new):
        name = _name_setting(line)
        if name not in MAY_CHANGE and name.split(".")[0] not in MAY_CHANGE_SECTIONS:
            refused.append(line)
        elif name == "train.epochs" and new.train.epochs < old.train.epochs:
            refused.append(f"{line} (it may grow only)")
        elif done and name in CHANGES_WEIGHTS:
            refused.append(f"{line} (training is done; it goes on if train.epochs or train.patience grows)")
    return refused


def adopt_changes(settings: Settings, now: Settings) -> Settings:
    """Return the settings a model was saved with, and of those that may change as a run goes on, the ones of now."""
    values, new = settings.model_dump(), now.model_dump()
    for section in MAY_CHANGE_SECTIONS:
        values[section] = new[section]
    for section, name in (name.split(".") for name in MAY_CHANGE):
        values[section][name] = new[section][name]
    return validate_settings(values)


def _name_setting(line: str) -> str:
    return line.partition(":")[0]


def _change_settings(run: Run, settings: Settings, changed: list[str]) -> None:
    """Give a run other settings, note them, and call outdated what was done with the old ones and depends on them."""
    names = [_name_setting(line) for line in changed]
    record = run.read()
    weights = [line for line in changed if _name_setting(line) in CHANGES_WEIGHTS]
    note = {"time": _now().isoformat(), "changed": changed, "changes_weights": weights}
    trains = bool({"train.epochs", "train.patience"} & {*names})
    first = "03" if trains else "04" if any(name.startswith("evaluate.") for name in names) else "99"
    for name, stage in record["stages"].items():
        if stage["status"] == "done" and ((trains and name == "train") or (name[:1].isdigit() and name[:2] >= first)):
            stage["status"] = "outdated"
    run.describe(changes=[*record.get("changes", []), note], stages=record["stages"])
    with write_beside(run / "settings.yaml") as partial:
        save_settings(settings, partial)


def start_logging(run: Run, settings: Settings) -> None:
    """Send the package's log to the terminal, or notebook, and as JSON lines to the run's `log.jsonl`."""
    log.setLevel(settings.logging.level.upper())
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
    screen = logging.StreamHandler(sys.stdout)
    screen.setFormatter(_JsonFormatter() if settings.logging.format == "json" else logging.Formatter("%(message)s"))
    run.path.mkdir(parents=True, exist_ok=True)
    file = logging.FileHandler(run / "log.jsonl", encoding="utf-8")
    file.setFormatter(_JsonFormatter())
    for handler in (screen, file):
        log.addHandler(handler)
    log.propagate = False


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        line = {"time": when, "level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that the status is written and the kernel stopped."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def find_run(folder: str | Path) -> Run:
    """Return the run of a folder; one that was copied without its record is known by its model.

    Raises:
        RunError: it is none; those beside it are named.
    """
    run = Run(folder)
    if (run / "run.json").is_file() or run.checkpoint.is_file():
        return run
    others = sorted(Run(file.parent).name for file in run.path.parent.glob("[!.]*/run.json"))
    there = f"there are {', '.join(others)}" if others else "none is beside it; dfmm run all PARAMS makes one"
    raise RunError(f"{run.name} is no run: {there}")


def read_lines(path: str | Path) -> list[dict[str, Any]]:
    """Read JSON lines; a last line cut off by a kill is left out."""
    path = Path(path)
    lines = path.read_bytes().splitlines() if path.is_file() else []  # bytes: a kill may cut a character in two
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(json.loads(line))
        except ValueError:
            if number < len(lines):
                raise RunError(f"{path}, line {number}: not JSON; remove that line") from None
    return records


def _now() -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0)


def _started(started: datetime) -> dict[str, Any]:
    return {"started": started.isoformat(), "ended": None, "seconds": None, "pid": os.getpid(), "error": None}


def _ended(started: datetime) -> dict[str, Any]:
    return {"ended": _now().isoformat(), "seconds": (_now() - started).total_seconds()}
