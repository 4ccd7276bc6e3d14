"""What a command is: a function with a name, its arguments, and an exit status that it returns."""

from __future__ import annotations

import argparse
import gc
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

Argument = tuple[tuple[str, ...], dict[str, Any]]  # what `ArgumentParser.add_argument` takes
COMMANDS: list[tuple[str, Callable[[argparse.Namespace], int | None], Sequence[Argument], dict[str, Any]]] = []


class UsageError(ValueError):
    """A command without an argument that it needs, or with options of which one would be ignored; status 2."""


def argument(*names: str, **options: Any) -> Argument:
    """Return an argument or option of a command."""
    return names, options


def command(name: str, *, arguments: Sequence[Argument] = (), **texts: Any) -> Callable[[Callable], Callable]:
    """Make a function a command of this name with these arguments; what it returns is its exit status."""

    def add(function: Callable[[argparse.Namespace], int | None]) -> Callable:
        COMMANDS.append((name, function, arguments, texts))
        return function

    return add


def read_seed(text: str) -> int:
    """Return a seed from the command line, within the bounds of the setting `seed`."""
    from dfmm.settings import LARGEST_SEED

    if not re.fullmatch(r"\+?[0-9]{1,20}", text.strip()) or int(text) > LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to {LARGEST_SEED}, got {text!r}")
    return int(text)


PARAMS = (
    argument("params", help="params file, such as params/sample.yaml"),
    argument("overrides", nargs="*", metavar="NAME=VALUE", help="settings laid over the params file"),
)
DETECTOR = argument(
    "--detector",
    metavar="MODULE:NAME",
    help="allow the code that the run's model.detector names to be run: it is not dfmm's",
)
RUN = (
    argument("--run", metavar="FOLDER", help="the run's folder (default: outputs/<name of the params file>)"),
    argument("--restart", action="store_true", help="begin again instead of going on"),
)


@contextmanager
def keep_garbage() -> Iterator[None]:
    """Collect no garbage while modules are imported: what comes stays, and to look through it takes a sixth of that."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
