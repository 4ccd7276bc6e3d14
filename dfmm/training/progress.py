"""Following a run by its files, while it goes on or later: only what is new is read, and long curves are thinned."""

from __future__ import annotations

import json
import time
from collections import deque
from pathlib import Path
from typing import Any

import pandas as pd

from dfmm.runs import Run
from dfmm.training.concerns import find_concerns, list_best

POINTS = 300  # of a curve over steps, at least, once there are so many steps
PACE_SECONDS = 60.0  # over which steps a second are counted
SILENT_SECONDS = 60.0  # without a new line, after which it is said


class Tail:
    """Reads what a file of JSON lines has got since last time; one that was cut or replaced, from its start."""

    def __init__(self, path: Path):
        self.path, self.at, self.last = path, 0, b""

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """Return the records that are new, and whether they are the file's first. Half a line waits for its end."""
        try:
            new, first = self._read_new()
        except FileNotFoundError:
            new, first = b"", True
            self.at, self.last = 0, b""
        whole = new[: new.rfind(b"\n") + 1]
        lines = whole.splitlines(keepends=True)
        self.at, self.last = self.at + len(whole), lines[-1] if lines else self.last
        return [json.loads(line) for line in lines if line.strip()], first

    def _read_new(self) -> tuple[bytes, bool]:
        with self.path.open("rb") as file:
            file.seek(self.at - len(self.last))
            if file.read(len(self.last)) != self.last:  # a training that goes on has dropped lines
                self.at, self.last = 0, b""
                file.seek(0)
            return file.read(), self.at == 0


class Curve:
    """Means over neighbouring steps: from `POINTS` to twice as many points, however many steps there are."""

    def __init__(self) -> None:
        self.width, self.points = 1, []  # steps in a point; its name → sum and number

    def add(self, record: dict[str, Any]) -> None:
        if not self.points or self.points[-1]["step"][1] >= self.width:
            self.points.append({})
        _add_up(self.points[-1], {name: (value, 1) for name, value in record.items() if name != "kind"})
        if len(self.points) > 2 * POINTS:
            for first, second in zip(self.points[::2], self.points[1::2], strict=False):
                _add_up(first, second)
            self.points, self.width = self.points[::2], 2 * self.width

    def list_means(self, name: str) -> list[float | None]:
        """Return a value's mean in each point, None where no step has it."""
        pairs = (point.get(name) for point in self.points)
        return [pair and pair[0] / pair[1] for pair in pairs]


def _add_up(point: dict[str, tuple[float, int]], more: dict[str, tuple[float, int]]) -> None:
    for name, (value, number) in more.items():
        before = point.get(name, (0.0, 0))
        point[name] = (before[0] + value, before[1] + number)


class Progress:
    """One run as its files tell of it: `look` reads on, all else says what was seen. Nothing is written.

    Steps a second, and the time that is left, are what was seen come while it was looked at: lines hold no times, for
    a run that goes on after a break ends with the very lines of one that never stopped.
    """

    def __init__(self, run: Run):
        self.run, self.tail, self.record = run, Tail(run / "metrics.jsonl"), {"stages": {}}
        self.seen: deque[tuple[float, int]] = deque()  # when how many steps were done
        self.changed = time.monotonic()
        self._forget()
        self.look()

    def _forget(self) -> None:
        self.curve, self.epochs, self.here = Curve(), [], (1, 0)  # here: the epoch, and steps of it that are done

    def look(self) -> bool:
        """Read what is new; is anything?"""
        records, first = self.tail.read()
        if first:
            self._forget()
        for line in records:
            self._take(line)
        before, self.record = (self.record, self.asked), self.run.read()
        self.asked = self.run.asked_to_stop
        now = time.monotonic()
        if records and not first:
            self.changed, self.looked = now, True
        self._keep_pace(now)
        return bool(records) or before != (self.record, self.asked)

    asked = False  # to stop
    looked = False  # and seen lines come

    def _take(self, line: dict[str, Any]) -> None:
        if line["kind"] == "step":
            self.curve.add(line)
            self.here = (line["epoch"], line["step"] + 1)
        else:
            self.epochs.append({name: value for name, value in line.items() if name != "kind"})

    def _keep_pace(self, now: float) -> None:
        waits = self.seen and self.done == self.seen[0][1]  # for the first step: it may extract for long before
        if self.status != "running" or waits or (self.seen and self.done < self.seen[-1][1]):
            self.seen.clear()
        self.seen.append((now, self.done))
        while self.seen[-1][0] - self.seen[0][0] > PACE_SECONDS:
            self.seen.popleft()

    @property
    def history(self) -> pd.DataFrame:
        """A row an epoch, as `read_history` has them."""
        return pd.DataFrame(self.epochs)

    @property
    def status(self) -> str:
        """As `Run.status`; where lines come that a crashed run would not write, its lock is out of sight: it runs."""
        status = self.record["stages"].get("train", {}).get("status", "none")
        grows = self.looked and time.monotonic() - self.changed < SILENT_SECONDS
        return "running" if status == "crashed" and grows else status

    @property
    def steps(self) -> int:
        """Steps in an epoch; of a run that does not say, as many as were seen."""
        known = self.record.get("plan", {}).get("steps")
        return known or max((int(step) for step in self.curve.list_means("step")), default=0) + 1

    @property
    def done(self) -> int:
        """Steps since the beginning."""
        return (self.here[0] - 1) * self.steps + self.here[1]

    @property
    def best_epoch(self) -> int | None:
        """The epoch that is kept."""
        best = list_best(self.history, self.record.get("plan", {}).get("monitor", "auc")) if self.epochs else []
        return self.epochs[best[-1]]["epoch"] if best else None

    @property
    def rate(self) -> float | None:
        """Steps a second, validation counted in; None before two were seen."""
        (start, first), (end, last) = self.seen[0], self.seen[-1]
        return (last - first) / (end - start) if last > first else None

    @property
    def seconds_left(self) -> float | None:
        """Until the last epoch is over, if it goes on as fast and does not end early."""
        epochs = self.record.get("plan", {}).get("epochs")
        if not (epochs and self.rate and self.status == "running"):
            return None
        return max(epochs * self.steps - self.done, 0) / self.rate

    def list_concerns(self) -> list[str]:
        return find_concerns(self.history, self.record)

    def list_steps(self) -> dict[str, list[float | None]]:
        """Return the curves over steps: `epoch`, as 2.5 for the middle of the third, and each value by name."""
        names = dict.fromkeys(name for point in self.curve.points for name in point)
        columns = {name: self.curve.list_means(name) for name in names}
        at = zip(columns.pop("epoch", []), columns.pop("step", []), strict=True)
        return {"epoch": [epoch - 1 + (step + 1) / self.steps for epoch, step in at], **columns}

    def tell(self) -> str:
        """Say in one line where it stands."""
        plan, stage = self.record.get("plan", {}), self.record["stages"].get("train", {})
        words = [{"none": "not begun"}.get(self.status, self.status)]
        if self.done:
            of = f" of {plan['epochs']}" if plan else ""
            words.append(f"epoch {self.here[0]}{of}, step {self.here[1]} of {self.steps}")
        if self.status == "running":
            words += [f"{self.rate:.2g} steps a second"] if self.rate else []
            words += [f"{format_seconds(self.seconds_left)} left"] if self.seconds_left is not None else []
            silent = time.monotonic() - self.changed
            words += [f"nothing new for {format_seconds(silent)}"] if silent > SILENT_SECONDS else []
            words += ["asked to stop: it ends after its step"] if self.asked else []
        if self.status == "failed" and stage.get("error"):
            words.append(stage["error"])
        if self.best_epoch:
            words.append(f"best epoch {self.best_epoch}")
        return "; ".join(words)


def format_seconds(seconds: float) -> str:
    """`40 s`, `3 min`, `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
