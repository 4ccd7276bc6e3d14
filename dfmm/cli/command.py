"""What a command is: a function with a name, its arguments, and an exit status that it returns."""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

Argument = tuple[tuple[str, ...], dict[str, Any]]  # what `ArgumentParser.add_argument` takes
COMMANDS: list[tuple[str, Callable[[argparse.Namespace], int | None], Sequence[Argument], dict[str, Any]]] = []


def argument(*names: str, **options: Any) -> Argument:
    """Return an argument or option of a command."""
    return names, options


def command(name: str, *, arguments: Sequence[Argument] = (), **texts: Any) -> Callable[[Callable], Callable]:
    """Make a function a command of this name with these arguments; what it returns is its exit status."""

    def add(function: Callable[[argparse.Namespace], int | None]) -> Callable:
        COMMANDS.append((name, function, arguments, texts))
        return function

    return add


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
