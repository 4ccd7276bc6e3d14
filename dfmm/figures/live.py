"""Live training: the curves of one run, or several over each other, while they go on; to stop them, and to go on.

What is shown is read from the runs' files, by a thread: it also works while a cell of this kernel trains, and for runs
of other processes, or of other machines over a shared folder. To stop is a file in the run's folder.
"""

from __future__ import annotations

import asyncio
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import anywidget
import matplotlib.pyplot as plt
import traitlets
from IPython.display import display
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dfmm.figures.compare import COLOURS, name_runs
from dfmm.figures.serve import find_url
from dfmm.figures.still import Still, is_headless, read_view
from dfmm.figures.style import GREY, STREAMS, join_title, label_axes, style_figure
from dfmm.figures.words import format_number, shorten_text
from dfmm.runs import STOP, Run, RunError, find_run
from dfmm.settings import STORED
from dfmm.training import Progress, start_training

SECONDS, REPAINT_SECONDS = 1.0, 20.0  # between two looks, and two stills of a run that goes on
REST_SECONDS = 600.0  # after the last run has ended nobody looks any more; another machine's may only have been silent
OVER = "All have ended and are looked at no more: run the cell again to follow what goes on elsewhere."
STOPPED = (0, 130, 143, -signal.SIGTERM)  # of a process that ended well, by Ctrl-C, or by SIGTERM, early or late
AWAY = (OSError, ValueError, RunError)  # of a folder that cannot be read for a while
TERMS = {
    "": "loss, all terms",
    "_label": "loss of real or fake",
    **{f"_{name}": f"loss of {stream['label']}" for name, stream in STREAMS.items()},
    "_video_label": "loss of whole videos",
}
COLUMNS = 4  # of panels, in the still
HINT = "Run this cell in JupyterLab to see the curves grow, to stop a training and to go on."


def list_panels(runs: Sequence[Progress]) -> list[dict[str, Any]]:
    """Return what is drawn, ready for JSON: a panel a term of the loss, one of the AUC, one of the rate.

    A panel has a `title`, the `range` of its values or None, and `lines`; a line the number of its `run`, whether it is
    of validation (`dashed`), `x` in epochs, `y`, and `low` and `high` where there is an interval.
    """
    panels = [
        {
            "title": title,
            "range": None,
            "lines": [line for number, run in enumerate(runs) for line in _list_losses(number, run, term)],
        }
        for term, title in TERMS.items()
    ]
    aucs = [_list_epochs(number, run, "val_auc") for number, run in enumerate(runs)]
    rates = [_list_steps(number, run, "lr") for number, run in enumerate(runs)]
    panels.append({"title": "validation AUC, 95 % interval", "range": [0, 1], "lines": list(filter(None, aucs))})
    panels.append({"title": "learning rate", "range": None, "lines": list(filter(None, rates))})
    return [panel for panel in panels if panel["lines"]]


def _list_losses(number: int, run: Progress, term: str) -> list[dict[str, Any]]:
    lines = [_list_steps(number, run, f"loss{term}"), _list_epochs(number, run, f"val_loss{term}")]
    return [line for line in lines if line]


def _list_steps(number: int, run: Progress, name: str) -> dict[str, Any] | None:
    steps = run.list_steps()
    return {"run": number, "dashed": False, "x": steps["epoch"], "y": steps[name]} if name in steps else None


def _list_epochs(number: int, run: Progress, name: str) -> dict[str, Any] | None:
    epochs = [epoch for epoch in run.epochs if epoch.get(name) is not None]
    if not epochs:
        return None
    ends = {end: [epoch.get(f"{name}_{end}") for epoch in epochs] for end in ("low", "high")}
    ends = ends if all(None not in values for values in ends.values()) else {}
    x, y = ([epoch[key] for epoch in epochs] for key in ("epoch", name))
    return {"run": number, "dashed": True, "x": x, "y": y, **ends}


class LiveCurves(anywidget.AnyWidget):
    """The widget: its kernel looks at the runs once a second and sends what is to be drawn and said."""

    _esm, _css = read_view(__file__)
    panels = traitlets.List().tag(sync=True)
    runs = traitlets.List().tag(sync=True)  # a dict a run: `name`, `colour`, `told`, `concerns`, `status`, `best`, …
    said = traitlets.Unicode().tag(sync=True)  # what came of a wish, or what is wrong

    def __init__(self, runs: Sequence[Progress]):
        super().__init__()
        self.followed, self.started = list(runs), {}
        self.ended, self.looking = threading.Event(), threading.Lock()
        self.thread: threading.Thread | None = None
        self.held = False  # does a cell train just now? Then a run that has not begun again is not over
        self.repaint: Callable[[], None] | None = None  # has the still redrawn, where that can be done
        self.show()
        self.on_msg(self._answer)
        self.follow()

    def close(self) -> None:
        self.ended.set()
        super().close()

    def follow(self) -> None:
        """Look at the runs once a second, in a thread, until the last of them has been over for a while."""
        with self.looking:
            self.active = time.monotonic()
            if self.thread is None and not self.ended.is_set():
                self.thread = threading.Thread(target=self._follow, daemon=True)
                self.thread.start()

    def show(self) -> None:
        """Send where the runs stand, as they were last looked at."""
        self.runs = describe_runs(self.followed)  # first: the panels are drawn in their colours, with their best epochs
        self.panels = list_panels(self.followed)

    def look(self) -> bool:
        """Look at the runs, and send what is new; is it more than the time that is left?"""
        with self.looking:  # the thread does, and whoever asks
            news = sum(run.look() for run in self.followed) > 0  # at all of them
            if news:
                self.show()
            else:
                self.runs = describe_runs(self.followed)
            for name, process in list(self.started.items()):
                if process.poll() is not None:
                    self.said = explain_end(self.started.pop(name), name) or self.said
            return news

    def _follow(self) -> None:
        painted, at = self._tell_apart(), time.monotonic()
        while not self.ended.wait(SECONDS) and not self._is_over():
            try:
                self.look()
            except AWAY as error:
                self.said = f"cannot be read just now: {error}"
            if self.repaint and time.monotonic() > at + REPAINT_SECONDS and painted != self._tell_apart():
                painted, at = self._tell_apart(), time.monotonic()
                self.repaint()

    def _is_over(self) -> bool:
        """Has nothing gone on for so long that nobody need look? Then the thread is given up."""
        with self.looking:
            now = time.monotonic()
            if self.held or self.started or any(run.status in ("none", "running") for run in self.followed):
                self.active = now
            if now < self.active + REST_SECONDS:
                return False
            self.thread, self.said = None, OVER
            return True

    def _tell_apart(self) -> list[tuple[str, int]]:
        """Return what of the runs a new still is worth."""
        return [(run.status, len(run.epochs)) for run in self.followed]

    def _answer(self, _: Any, asked: Mapping[str, Any], buffers: Sequence[memoryview]) -> None:
        run, self.said = self.followed[asked["run"]].run, ""  # else the same answer again would be no news
        try:
            if asked["kind"] == "stop":
                self.said = run.ask_to_stop()
            elif asked["kind"] == "go":
                self.said = self._go_on(run)
        except (RunError, OSError) as error:
            self.said = str(error)
        self.look()
        self.follow()

    def _go_on(self, run: Run) -> str:
        """Let a run go on, once however often it was asked for, and return what comes of it."""
        process = self.started.get(run.name)
        if run.status("train") == "running" or (process is not None and process.poll() is None):
            return f"{run.name} goes on already"
        self.started[run.name] = start_training(run)
        return f"{run.name} goes on in a process of its own, whatever becomes of this notebook"


def describe_runs(runs: Sequence[Progress]) -> list[dict[str, Any]]:
    """Return what is said of each run, ready for JSON."""
    names = name_runs([run.run.name for run in runs])
    return [
        {
            "name": name,
            "colour": COLOURS[number % len(COLOURS)],
            "told": run.tell(),
            "concerns": run.list_concerns(),
            "status": "stopping" if run.status == "running" and run.asked else run.status,
            "best": run.best_epoch,
            "commands": name_commands(run.run),
            "stop_url": find_url(run.run / STOP, service="api/contents"),  # a kernel that trains does not listen
        }
        for number, (name, run) in enumerate(zip(names, runs, strict=True))
    ]


def name_commands(run: Run) -> dict[str, str]:
    """Return what does in a terminal what each button does."""
    name, settings = shlex.quote(run.name), shlex.quote(f"{run.name}/{STORED}")
    return {"stop": f"dfmm stop {name}", "go": f"dfmm train {settings} --run {name}"}


def explain_end(process: subprocess.Popen, name: str) -> str:
    """Say why a process that was to go on with a run has failed; nothing where it has not, or was stopped."""
    return f"{name} did not go on: read its go_on.log" if process.returncode not in STOPPED else ""


class Watch(Still):
    """The live curves of runs and what is left of them in the saved notebook.

    Around a training, `with figures.watch_training(run): …`, the still is that of its end; headless, it is shown then.
    """

    def __init__(self, runs: Sequence[Run], note: str = ""):
        self.runs, self.widget, self.pending = [Progress(run) for run in runs], None, False
        draw, title = (lambda: plot_progress(self.runs, note=note)), ", ".join(filter(None, ("Training", note)))
        super().__init__(title, {}, HINT, draw, self._make_curves)

    def _make_curves(self) -> LiveCurves:
        """The widget follows by itself: its thread reads on while this one may be drawing."""
        return LiveCurves([Progress(run.run) for run in self.runs])

    @property
    def text(self) -> str:
        """Where each run stands, its last epoch and what a person would stop for."""
        return "\n".join(line for run in self.runs for line in tell_run(run))

    def _ipython_display_(self) -> None:
        super()._ipython_display_()
        if self.widget is not None:
            with suppress(RuntimeError):  # a script has no loop
                self.loop = asyncio.get_running_loop()
                self.widget.repaint = self._repaint_later

    def repaint(self) -> None:
        """Put a still of now in the place of the one that is shown."""
        with suppress(*AWAY):
            for run in self.runs:
                run.look()
        super().repaint()

    def _repaint_later(self) -> None:
        """Have the kernel redraw the still once it is idle: pyplot is of one thread."""
        if not self.pending:
            self.pending = True
            self.loop.call_soon_threadsafe(self._repaint_now)

    def _repaint_now(self) -> None:
        self.pending = False
        self.repaint()

    def __enter__(self) -> Watch:
        if not is_headless():
            display(self)
        if self.widget is not None:
            self.widget.held = True
        return self

    def __exit__(self, *_: Any) -> None:
        if self.widget is None:
            for run in self.runs:
                run.look()
            display(self)
        else:
            self.widget.held = False
            self.widget.look()
            self.repaint()


def watch_training(*runs: Run | str | Path, note: str = "") -> Watch:
    """Return the curves of runs, over each other, redrawn as they go on: as a cell's last value, or around a training.

    Args:
        runs: or their folders, also of runs that train in another process, or on another machine.
        note: the title's second line, such as "synthetic data".

    Raises:
        RunError: a folder is no run.
    """
    return Watch([run if isinstance(run, Run) else find_run(run) for run in runs], note)


def tell_run(run: Progress) -> list[str]:
    """Return the lines that are said of a run, without a picture."""
    lines = [f"{run.run.name}: {run.tell()}"]
    if run.epochs:
        last = run.epochs[-1]
        low, high = (format_number(last.get(f"val_auc_{end}")) for end in ("low", "high"))
        losses = f"loss {last['train_loss']:.3f}, validation loss {last['val_loss']:.3f}"
        lines.append(f"epoch {last['epoch']}: {losses}, validation AUC {last['val_auc']:.3f} [{low}, {high}]")
    return lines + run.list_concerns()


@style_figure
def plot_progress(runs: Sequence[Progress], *, note: str = "") -> Figure:
    """A panel a term of the loss, the validation AUC with its interval and the rate; dashed is validation.

    Args:
        runs: over each other; the dotted line is the epoch that is kept.
        note: the title's second line.
    """
    panels, names = list_panels(runs), name_runs([run.run.name for run in runs])
    rows = max(-(-len(panels) // COLUMNS), 1)
    figure, grid = plt.subplots(rows, COLUMNS, figsize=(11, 2.2 * rows + 0.7), squeeze=False)
    figure.suptitle(join_title("Training" if panels else "No step of training when this was drawn", note), fontsize=11)
    for axes in grid.ravel()[len(panels) :]:
        axes.set_axis_off()
    for axes, panel in zip(grid.ravel(), panels, strict=False):
        axes.set_title(panel["title"], fontsize=10, loc="left")
        label_axes(axes, "epoch", "")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=6))
        axes.set_xlim(0, 1.03 * max([1, *(at for line in panel["lines"] for at in line["x"])]))
        for line in panel["lines"]:
            _draw_line(axes, line)
        for number, run in enumerate(runs):
            if run.best_epoch is not None and panel["title"] != "learning rate":
                axes.axvline(
                    run.best_epoch, color=_colour(number) if len(runs) > 1 else GREY, linestyle=":", linewidth=1
                )
        axes.set_ylim(bottom=0)
        if panel["range"]:
            axes.set_ylim(panel["range"][0] - 0.02, panel["range"][1] + 0.02)
            axes.axhline(0.5, color=GREY, linestyle=":", linewidth=0.8)
    _add_key(figure, names)
    return figure


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _draw_line(axes: Any, line: Mapping[str, Any]) -> None:
    look = {"color": _colour(line["run"]), "linewidth": 1.3}
    look |= {"linestyle": "--", "marker": "s", "markersize": 3} if line["dashed"] else {}
    pairs = [(x, y) for x, y in zip(line["x"], line["y"], strict=True) if y is not None]
    axes.plot(*zip(*pairs, strict=True), **look)
    if "low" in line:
        axes.fill_between(line["x"], line["low"], line["high"], color=look["color"], alpha=0.15, linewidth=0)


def _add_key(figure: Figure, names: Sequence[str]) -> None:
    looks = [(shorten_text(name, 40), {"color": _colour(number)}) for number, name in enumerate(names)]
    looks += [("validation", {"color": GREY, "linestyle": "--", "marker": "s", "markersize": 3})]
    looks += [("epoch that is kept", {"color": GREY, "linestyle": ":"})]
    handles = [plt.Line2D([], [], label=label, **look) for label, look in looks]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4))
