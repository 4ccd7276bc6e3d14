"""The form of settings: every one with its meaning and range, what differs is marked, and a params file comes of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import anywidget
import matplotlib.pyplot as plt
import traitlets
import yaml
from matplotlib.figure import Figure
from pydantic.fields import FieldInfo

from dfmm.figures.still import Still, read_view
from dfmm.figures.style import FAKE, GREY, style_figure
from dfmm.files import write_whole
from dfmm.settings import (
    Settings,
    SettingsError,
    describe_type,
    find_settings,
    flatten_settings,
    format_params,
    iterate_settings,
    list_changed,
    load_settings,
    parse_override,
    resolve_path,
    validate_settings,
)
from dfmm.words import count_noun

HINT = "Run this cell in JupyterLab to look at all settings, to change them, and to write a params file."
MOST_SHOWN = 30  # rows of the still
CELL = 44  # characters of a value in it


class Draft:
    """Settings while they are edited: a value for each, or what is wrong with its text.

    Args:
        settings: to begin with.
        against: with which they are compared.
        target: the params file to write; one that is there already is only replaced where the settings come from it.
    """

    def __init__(self, settings: Settings, against: Settings, target: Path, *, replace: bool = False):
        self.values, self.against, self.target = flatten_settings(settings), flatten_settings(against), target
        self.faults: dict[str, str] = {}
        self.replace = replace

    def change(self, name: str, text: str) -> None:
        """Take what was typed for a setting; YAML, as behind an override's equals sign."""
        self.faults.pop(name, None)
        try:
            self.values[name] = parse_override(f"{name}={text}")[1]
        except SettingsError as error:
            self.faults[name] = str(error).partition(": ")[2].split("\n")[0]

    def judge(self) -> tuple[Settings | None, dict[str, str]]:
        """Return the settings, or None and what is wrong by setting or section ("" where it is in none alone)."""
        if self.faults:
            return None, dict(self.faults)
        nested: dict[str, Any] = {}
        for name, value in self.values.items():
            section, _, key = name.rpartition(".")
            (nested.setdefault(section, {}) if section else nested)[key] = value
        try:
            return validate_settings(nested), {}
        except SettingsError as error:
            return None, {self._place(name, said): said for name, said in error.faults}

    def _place(self, name: str, said: str) -> str:
        """Return where a fault is shown: one that lies between several settings, beside the first that it names."""
        words = re.findall(r"\w+(?:\.\w+)?", said) if name not in self.values else []
        return next((full for word in words for full in (word, f"{name}.{word}") if full in self.values), name)

    def list_differences(self, settings: Settings | None) -> list[str]:
        """Return in which settings a draft differs that is judged to be these; in None, by what was typed."""
        values = flatten_settings(settings) if settings else self.values  # `2e-3` is a text until it is validated
        return [name for name, value in values.items() if value != self.against[name]]

    def write(self) -> str:
        """Write the params file, with what differs from the defaults alone; return what was done, or what is wrong."""
        settings, faults = self.judge()
        if settings is None:
            return f"not written: {count_noun(len(faults), 'setting')} {'is' if len(faults) == 1 else 'are'} wrong"
        if self.target.is_file() and not self.replace:
            return f"not written: {self.target.name} is there already; name another target"
        write_whole(format_params(list_changed(settings), title="What differs from the defaults."), self.target)
        self.replace = True  # from now on it is this form's own
        return f"written: {self.target.name}"


class SettingsForm(anywidget.AnyWidget):
    """The widget: it shows the fields, and sends what is typed; here it is judged."""

    _esm, _css = read_view(__file__)
    about = traitlets.Dict().tag(sync=True)

    def __init__(self, draft: Draft, *, against: str):
        super().__init__()
        self.draft = draft
        self.about = {
            "fields": [_describe_field(name, field, draft) for name, field in iterate_settings()],
            "against": against,
            "target": draft.target.name,
            "answer": self._answer(),
        }
        self.on_msg(self._take)

    def _take(self, _: Any, asked: Mapping[str, Any], buffers: Sequence[memoryview]) -> None:
        said, found = "", None
        if asked["kind"] == "change" and asked["name"] in self.draft.values:
            self.draft.change(asked["name"], str(asked["text"]))
        elif asked["kind"] == "write":
            try:
                said = self.draft.write()
            except OSError as error:
                said = f"not written: {error}"
        elif asked["kind"] == "find":
            try:
                found = [name for name, _ in find_settings(asked["word"])]
            except SettingsError as error:
                found, said = [], str(error)
        self.send(self._answer() | {"said": said, "found": found})

    def _answer(self) -> dict[str, Any]:
        settings, faults = self.draft.judge()
        return {"faults": faults, "differs": self.draft.list_differences(settings)}


def _describe_field(name: str, field: FieldInfo, draft: Draft) -> dict[str, Any]:
    """Return what the form shows of a setting; `choices` are what is read and what is sent, where there is no more."""
    choices = {"true": True, "false": False} if field.annotation is bool else {}
    if get_origin(field.annotation) is Literal:
        choices = {str(choice): choice for choice in get_args(field.annotation)}
    return {
        "name": name,
        "text": write_value(draft.values[name]),
        "usual": write_value(draft.against[name]),
        "kinds": " or ".join(choices) if field.annotation is bool else describe_type(field).replace("`", ""),
        "choices": [[shown, write_value(choice)] for shown, choice in choices.items()],
        "meaning": (field.description or "").replace("`", ""),
    }


def write_value(value: Any) -> str:
    """Return a value as a params file and an override have it: `0.002`, `null`, `[a, b]`."""
    return (
        yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=float("inf")).split("\n...")[0].strip()
    )


def edit_settings(
    params: str | Path | Settings, *, against: str | Path | None = None, target: str | Path | None = None
) -> Still:
    """Return the form of settings, or of a params file's, as a cell's last value or given to `display`.

    Args:
        params: shown first.
        against: another params file; what differs from it is marked (default: what differs from the defaults).
        target: the params file to write; by default `params/mine.yaml`. It is not replaced unless it is `params`.

    Raises:
        SettingsError: a params file is missing or wrong.
    """
    given = isinstance(params, Settings)
    settings, other = params if given else load_settings(params), load_settings(against) if against else Settings()
    name, path = str(against or "the defaults"), resolve_path(target or "params/mine.yaml")
    draft = Draft(settings, other, path, replace=not given and path.resolve() == resolve_path(params).resolve())
    rows = [
        (key, write_value(draft.values[key]), write_value(draft.against[key]))
        for key in draft.list_differences(settings)
    ]
    words = {key: f"{value} ({name}: {usual})" for key, value, usual in rows} or {"differs": "nothing"}
    title = "Settings" + ("" if given else f" of {params}") + f", against {name}"
    return Still(
        title,
        words,
        HINT,
        lambda: plot_differences(rows, name),
        lambda: SettingsForm(draft, against=str(against or "by default")),
    )


@style_figure
def plot_differences(rows: Sequence[tuple[str, str, str]], against: str) -> Figure:
    """What differs: a row a setting, its value, and what it is otherwise."""
    shown = [tuple(text if len(text) <= CELL else text[: CELL - 1] + "…" for text in row) for row in rows[:MOST_SHOWN]]
    figure, axes = plt.subplots(figsize=(8, 0.25 * (len(shown) + 2)))
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(len(shown) + 1, -0.5))
    for x, head in zip((0, 0.32, 0.66), ("setting", "is", against), strict=True):
        axes.text(x, 0, head, weight="bold")
    for y, row in enumerate(shown, start=1):
        for x, text, colour in zip((0, 0.32, 0.66), row, ("black", FAKE, GREY), strict=True):
            axes.text(x, y, text, color=colour, fontsize=9)
    if not rows or len(rows) > MOST_SHOWN:
        axes.text(0, len(shown) + 0.9, f"and {len(rows) - MOST_SHOWN} more" if rows else "nothing differs", fontsize=9)
    return figure
