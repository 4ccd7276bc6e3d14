"""Every setting: typed, ranged and documented; `load_settings` reads a params file and its overrides."""

from __future__ import annotations

import difflib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from dfmm.sections import (
    Audio,
    Augment,
    Cure,
    Data,
    Evaluate,
    Extract,
    Forge,
    Logging,
    Model,
    Section,
    Synchrony,
    Train,
    Video,
)


class SettingsError(ValueError):
    """A params file or an override that is wrong; the message names every fault, and what would be right.

    `faults` holds each with the setting or section that it is in, "" where it lies between several.
    """

    def __init__(self, message: str, faults: Iterable[tuple[str, str]] = ()):
        super().__init__(message)
        self.faults = list(faults)


LARGEST_SEED = 2**32 - 1  # NumPy's own generator takes no larger one
STORED = "settings.yaml"  # a run's own settings: what these name, nobody has named
_NAMED: set[str] = set()  # the detectors whose code this process may run


class _Loader(yaml.SafeLoader):
    """YAML in which `0123` and `1:30` are texts: YAML 1.1 would read 83 and 90, which nobody means."""


_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag not in _NUMBERS]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_NUMBERS[0], re.compile(r"^[-+]?(0|[1-9][0-9_]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    _NUMBERS[1],
    re.compile(r"^[-+]?([0-9][0-9_]*\.[0-9_]*([eE][-+]?[0-9]+)?|\.[0-9][0-9_]*([eE][-+]?[0-9]+)?|\.inf|\.nan)$"),
    list("-+.0123456789"),
)


class Settings(Section):
    """All settings of a run; `settings.video.frames` is written `video.frames` in a params file's override."""

    seed: int = Field(0, ge=0, le=LARGEST_SEED, description="of everything random in training")
    data: Data = Field(default_factory=Data)
    video: Video = Field(default_factory=Video)
    audio: Audio = Field(default_factory=Audio)
    cure: Cure = Field(default_factory=Cure)
    extract: Extract = Field(default_factory=Extract)
    augment: Augment = Field(default_factory=Augment)
    forge: Forge = Field(default_factory=Forge)
    model: Model = Field(default_factory=Model)
    synchrony: Synchrony = Field(default_factory=Synchrony)
    train: Train = Field(default_factory=Train)
    evaluate: Evaluate = Field(default_factory=Evaluate)
    logging: Logging = Field(default_factory=Logging)

    @property
    def window_seconds(self) -> float:
        """How much sound belongs to a window."""
        if self.video.fps == "spread":
            return self.audio.spread_seconds
        return self.video.frames / self.video.fps

    @property
    def judges_synchrony(self) -> bool:
        """Is it asked whether mouth and sound belong together? Not with one stream alone, nor of another's model."""
        return self.synchrony.use and self.model.streams == "both" and not self.model.detector

    @model_validator(mode="after")
    def check_batch(self) -> Settings:
        """A step's windows are shared out evenly; where windows are weighed, those of a video stay together."""
        train, parts = self.train, self.train.processes * self.train.accumulate
        if self.model.aggregation == "attention":
            if train.windows < 2:
                raise ValueError(
                    "model.aggregation: attention learns from several windows of a video; set train.windows"
                )
            parts *= train.windows
        if train.batch_size % parts:
            what = "train.processes · train.accumulate" + " · train.windows" * (self.model.aggregation == "attention")
            raise ValueError(f"train.batch_size ({train.batch_size}) must be a multiple of {what} ({parts})")
        return self

    @model_validator(mode="after")
    def check_detector(self) -> Settings:
        """Another detector gives windows logits, and no weights."""
        if self.model.detector and self.model.aggregation == "attention":
            raise ValueError("model.aggregation: attention is of our model; with model.detector take mean or max")
        return self

    @model_validator(mode="after")
    def check_pairs(self) -> Settings:
        """A pair stays together, in one step of one process."""
        train, parts = self.train, 2 * self.train.processes * self.train.accumulate
        if not self.forge.pairs:
            return self
        if self.model.aggregation == "attention":
            raise ValueError(
                "forge.pairs: a forged window in every video leaves model.aggregation=attention no real video to learn "
                "from; take another aggregation, or set forge.pairs to false"
            )
        if self.forge.share != 0.5:
            raise ValueError(f"forge.pairs: of two windows one is forged; set forge.share to 0.5 ({self.forge.share})")
        if train.windows % 2 or train.batch_size % parts:
            raise ValueError(
                f"forge.pairs: train.windows ({train.windows}) must be even, and train.batch_size ({train.batch_size}) "
                f"a multiple of 2 · train.processes · train.accumulate ({parts})"
            )
        return self

    @model_validator(mode="after")
    def check_time(self) -> Settings:
        """Where the sound is not that of the frames, they cannot be moved in time together."""
        moved = [name for name in ("offset", "reverse", "time_stretch") if getattr(self.augment, name)]
        if moved and self.video.fps == "spread":
            names = ", ".join(f"augment.{name}" for name in moved)
            raise ValueError(f"{names}: moves frames and their sound in time; set video.fps to frames per second")
        return self

    @model_validator(mode="after")
    def check_stride(self) -> Settings:
        """A window that is spread over the whole video says nothing of when."""
        if self.evaluate.stride and self.video.fps == "spread":
            raise ValueError("evaluate.stride: asks when; set video.fps to frames per second, or the stride to null")
        if self.evaluate.stride and self.evaluate.stride > self.window_seconds:
            raise ValueError(
                f"evaluate.stride ({self.evaluate.stride:g} s) is longer than a window ({self.window_seconds:g} s): "
                "what lies between two windows would be scored by none"
            )
        return self

    @model_validator(mode="after")
    def check_forgeries(self) -> Settings:
        """What cannot be noticed in the streams that are looked at would be learnt by heart."""
        seen = {
            "video": {"self_blend", "patch", "redraw", "mouth"},
            "audio": {"vocoder", "predict", "splice"},
        }.get(self.model.streams)
        lost = [name for name in self.forge.methods if seen is not None and name not in seen]
        if self.forge.share and lost:
            raise ValueError(
                f"forge.methods: {', '.join(lost)} cannot be told with model.streams={self.model.streams}; "
                f"leave {', '.join(sorted(seen))}"
            )
        return self

    @model_validator(mode="after")
    def check_alignment(self) -> Settings:
        """Every time step of the picture needs sound of its own."""
        steps = self.window_seconds / (self.audio.hop_ms / 1000)
        if steps < self.video.frames:
            raise ValueError(
                f"a window has {self.video.frames} frames but only {steps:.0f} spectrogram frames; "
                "lower audio.hop_ms or video.fps"
            )
        return self


def find_project() -> Path:
    """Return the folder relative paths start from: the nearest one, from here upwards, that holds `params/`."""
    here = Path.cwd()
    return next((folder for folder in [here, *here.parents] if (folder / "params").is_dir()), here)


def resolve_path(path: str | os.PathLike[str]) -> Path:
    """Return an absolute path; a relative one starts from the project, so notebooks/ and the root agree."""
    return find_project() / Path(path).expanduser()


def load_settings(params: str | Path, overrides: Sequence[str] | None = ()) -> Settings:
    """Read a params file, lay overrides such as `train.lr=1e-4` over it, and validate the whole.

    Raises:
        SettingsError: the file is missing or no YAML mapping, a name is unknown, or a value is out of range.
    """
    settings = validate_settings(lay_over(read_params(params), overrides), origin=str(params))
    named = "model.detector" in (parse_override(override)[0] for override in overrides or ())
    if settings.model.detector and (named or Path(params).name != STORED):
        name_detector(settings.model.detector)
    return settings


def name_detector(path: str) -> None:
    """Let this process run the code of a detector: for what a person wrote, never for what is read from a run."""
    _NAMED.add(path)


def is_named(path: str) -> bool:
    """Has somebody named this detector to this process?"""
    return path in _NAMED


def lay_over(values: dict[str, Any], overrides: Sequence[str] | None) -> dict[str, Any]:
    """Return nested values with overrides such as `train.lr=1e-4` laid over them.

    Raises:
        SettingsError: an override is none.
    """
    if isinstance(overrides, str):  # it would be read letter by letter
        raise SettingsError(f"overrides: expected a list such as ['train.lr=1e-4', 'seed=1'], got {overrides!r}")
    for override in overrides or ():
        name, value = parse_override(override)
        section = values
        *sections, last = name.split(".")
        for part in sections:
            section = section.setdefault(part, {})
            if not isinstance(section, dict):
                raise SettingsError(f"{override!r}: {part!r} is a value, not a section")
        section[last] = value
    return values


def read_params(params: str | Path) -> dict[str, Any]:
    """Read a YAML mapping; an empty file is an empty mapping."""
    path = resolve_path(params)
    if not path.is_file():
        there = sorted(file.name for file in path.parent.glob("[!.]*.yaml"))
        near = difflib.get_close_matches(path.name, there, n=1, cutoff=0.75)  # all end alike
        meant = f"; did you mean {Path(params).with_name(near[0])}?" if near else ""
        nearby = meant or f" (in that folder: {', '.join(there) or 'no params file'})"
        raise SettingsError(f"{params}: no such params file{nearby}")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{params}: not YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(f"{params}: expected sections such as `train:`, got a {type(values).__name__}")
    # An empty section (`train:` with all its lines commented out) means its defaults.
    return {name: {} if value is None and name in _sections() else value for name, value in values.items()}


def parse_override(override: str) -> tuple[str, Any]:
    """Split `train.lr=1e-4` into its dotted name and its value, read as YAML."""
    name, equals, text = override.partition("=") if isinstance(override, str) else ("", "", "")
    if not equals or not all(name.strip().split(".")):
        raise SettingsError(f"override {override!r}: expected name=value, such as train.lr=1e-4")
    if another := _find_another(text):
        raise SettingsError(
            f"override {override!r}: holds several; give {another} as one of its own "
            f"(in quotes it is all one value: {name.strip()}='\"…\"')"
        )
    try:
        return name.strip(), yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise SettingsError(f"override {override!r}: the value is not YAML: {error}") from error


def _find_another(text: str) -> str | None:
    """Return the setting, perhaps misspelt, that is set in the text of another one's value, unless that is quoted."""
    if text.strip()[:1] in ("'", '"'):
        return None
    names = re.findall(r"[\s,;]-*(\w+(?:\.\w+)*)\s*=", text)
    meant = (name for name in names if name in _fields() or ("." in name and name.split(".")[0] in _sections()))
    return next(meant, None)


def validate_settings(values: dict[str, Any], *, origin: str = "settings") -> Settings:
    """Make `Settings` of nested values, or raise one `SettingsError` that lists every fault."""
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        faults = list(dict.fromkeys(_explain_fault(fault) for fault in error.errors()))
        lines = [f"{name}: {said}" if name else said for name, said in faults]
        raise SettingsError("\n  ".join([f"{origin}:", *lines]), faults) from None


def _explain_fault(fault: dict[str, Any]) -> tuple[str, str]:
    """Return the setting or section that a fault is in, and what is wrong."""
    names = [part for part in fault["loc"] if isinstance(part, str)]
    name = next((dotted for n in (2, 1) if (dotted := ".".join(names[:n])) in _fields()), ".".join(names))
    if fault["type"] == "extra_forbidden":
        near = _suggest_setting(name)
        return name, "no such setting" + (f"; did you mean {near}?" if near else "; `dfmm settings` lists them")
    said = fault["msg"].removeprefix("Value error, ")
    return name, said + ("" if isinstance(fault["input"], (dict, Section)) else f", got {fault['input']!r}")


def _suggest_setting(name: str) -> str | None:
    """Return the setting or section a misspelt name most likely means."""
    known = {dotted: dotted for dotted in [*_fields(), *_sections()]}
    last = {dotted.split(".")[-1]: dotted for dotted in _fields()}
    if name.split(".")[-1] in last:  # right, in the wrong section
        return last[name.split(".")[-1]]
    for wanted, names in ((name, known), (name.split(".")[-1], last)):
        if near := difflib.get_close_matches(wanted, names, n=1):
            return names[near[0]]
    return None


def iterate_settings() -> Iterator[tuple[str, FieldInfo]]:
    """Yield every setting's dotted name and field, in the order of the params files."""
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            yield from ((f"{name}.{key}", inner) for key, inner in section.model_fields.items())
        else:
            yield name, field


def _fields() -> list[str]:
    return [name for name, _ in iterate_settings()]


def _sections() -> set[str]:
    return {name.split(".")[0] for name in _fields() if "." in name}


def describe_settings(word: str = "") -> str:
    """Return every setting, or those with a word in their name or meaning, with default and meaning: a Markdown table.

    Raises:
        SettingsError: the word is in none.
    """
    rows = ["| setting | default | choices or type | meaning |", "| --- | --- | --- | --- |"]
    for name, field in find_settings(word):
        default = json.dumps(field.default)
        rows.append(f"| `{name}` | `{default}` | {describe_type(field)} | {field.description} |")
    return "\n".join(rows) + "\n"


def find_settings(word: str = "") -> list[tuple[str, FieldInfo]]:
    """Return the settings that have a word in their name, their choices or their meaning; all of them without one.

    Raises:
        SettingsError: none has; the message says what may be meant.
    """
    settings = list(iterate_settings())
    found = [(name, field) for name, field in settings if word.lower() in _tell_setting(name, field).lower()]
    if found:
        return found
    words = {part for name, field in settings for part in re.findall(r"\w{3,}", _tell_setting(name, field).lower())}
    near = next(iter(difflib.get_close_matches(word.lower(), sorted(words), n=1)), None) or _suggest_setting(word)
    raise SettingsError(f"no setting has {word!r} in its name or meaning" + (f"; did you mean {near}?" if near else ""))


def _tell_setting(name: str, field: FieldInfo) -> str:
    return f"{name} {describe_type(field)} {field.description}"


def describe_type(field: FieldInfo) -> str:
    """Return a setting's choices, or its type and limits, in words."""
    options = get_args(field.annotation)
    if get_origin(field.annotation) is list:
        return "list of " + (", ".join(f"`{choice}`" for choice in get_args(options[0])) or _name_type(options[0]))
    choices = [choice for choice in options if isinstance(choice, str)]
    if choices and len(choices) == len(options):
        return ", ".join(f"`{choice}`" for choice in choices)
    limits = [
        f"{sign} {getattr(rule, key)}"
        for rule in field.metadata
        for key, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"), ("multiple_of", "a multiple of"))
        if getattr(rule, key, None) is not None
    ]
    kinds = [_name_type(option) for option in options] or [_name_type(field.annotation)]
    return " or ".join(kinds) + "".join(f", {limit}" for limit in limits)


def _name_type(annotation: Any) -> str:
    """Return `float`, `none`, or the one allowed word of a Literal; an Annotated type goes by what it annotates."""
    if get_origin(annotation) is Literal:
        return f"`{get_args(annotation)[0]}`"
    annotation = getattr(annotation, "__origin__", annotation)
    return "none" if annotation is type(None) else annotation.__name__


def flatten_settings(settings: Settings) -> dict[str, Any]:
    """Return every setting by its dotted name."""
    values = settings.model_dump()
    return {
        name: values[name] if "." not in name else values[name.split(".")[0]][name.split(".")[1]] for name in _fields()
    }


def diff_settings(old: Settings, new: Settings) -> list[str]:
    """Return a line for each setting in which the two differ, such as `train.lr: 0.002 → 0.001`."""
    before, after = flatten_settings(old), flatten_settings(new)
    return [f"{name}: {before[name]} → {after[name]}" for name in before if before[name] != after[name]]


def list_changed(settings: Settings) -> dict[str, Any]:
    """Return the settings that differ from the defaults, by their dotted names."""
    usual = flatten_settings(Settings())
    return {name: value for name, value in flatten_settings(settings).items() if value != usual[name]}


def format_params(values: Mapping[str, Any], *, notes: Mapping[str, str] | None = None, title: str = "") -> str:
    """Return settings by their dotted names as the text of a params file, a note behind each that has one."""
    lines, opened = [f"# {line}" for line in title.splitlines()], ""
    for name in (name for name in _fields() if name in values):
        section, _, key = name.rpartition(".")
        if section != opened:
            lines.append(f"{section}:")
            opened = section
        text = yaml.safe_dump({key: values[name]}, default_flow_style=True, width=math.inf, allow_unicode=True)
        note = (notes or {}).get(name, "")
        lines.append("  " * bool(section) + text.strip()[1:-1] + (f"  # {' '.join(note.split())}" if note else ""))
    return "\n".join(lines) + "\n"


def save_settings(settings: Settings, path: str | Path) -> None:
    """Write all settings as a params file that `load_settings` reads back to the same."""
    Path(path).write_text(yaml.safe_dump(settings.model_dump(), sort_keys=False), encoding="utf-8")
