"""Detectors that are not ours: code that somebody named, imported and asked for logits or scores."""

from __future__ import annotations

import importlib
import logging
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dfmm.settings import Settings, find_project, is_named

log = logging.getLogger("dfmm")


class DetectorError(ValueError):
    """A detector that may not be run, is not there, or does not answer as it should; the message says what to do."""


def build_detector(settings: Settings, path: str) -> Any:
    """Import what a path such as `mypackage.mymodule:build` names, and return what it makes of the settings.

    That runs code which is not dfmm's, so somebody must have named it to this process (`settings.name_detector`): what
    is only stored, in a run or a model's file, is refused.

    Raises:
        DetectorError: nobody named it, or there is no such thing.
    """
    if not is_named(path):
        raise DetectorError(
            f"model.detector: {path} is code that is not dfmm's, and nothing that is stored may have it run. If you "
            f"trust it, name it yourself: --detector {path} or, among settings, model.detector={path}"
        )
    module, _, name = path.partition(":")
    if (here := str(find_project())) not in sys.path:
        sys.path.append(here)  # where `dfmm` is a script, the folder it is called in is not looked in
    try:
        build = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise DetectorError(
            f"model.detector: {path} cannot be imported ({error}); expected package.module:function, installed or "
            f"below {here}"
        ) from error
    file = getattr(sys.modules[module], "__file__", None) or module
    log.info("model.detector: running %s of %s", name, file.removeprefix(f"{here}{os.sep}"))
    return build(settings)


def read_logits(answer: Any, path: str, count: int) -> Tensor:
    """Return a detector's answer to windows as the logits of real and fake, `[B, 2]`.

    Args:
        answer: `[B]` or `[B, 1]`, the log-odds of a forgery, or `[B, 2]`, the logits of real and fake.
        count: B.

    Raises:
        DetectorError: it is of another shape.
    """
    found = answer if isinstance(answer, Tensor) else torch.as_tensor(np.asarray(answer), dtype=torch.float32)
    if found.shape == (count, 2):
        return found
    if found.shape in ((count,), (count, 1)):
        odds = found if found.ndim == 1 else found[:, 0]  # a reshape to `count` would be exported with that number
        return torch.stack([torch.zeros_like(odds), odds], dim=1)
    raise DetectorError(
        f"{path}: expected log-odds [{count}] or logits of real and fake [{count}, 2] of {count} windows, got "
        f"{tuple(found.shape)}"
    )


def score_with(path: str, settings: Settings, files: Sequence[Path]) -> list[float | None]:
    """Return a score of each file, the higher the more suspicious, by a detector that reads files itself.

    Raises:
        DetectorError: it has no `score_files`, or does not return a finite number, or None, for each.
    """
    score: Callable | None = getattr(build_detector(settings, path), "score_files", None)
    if score is None:
        raise DetectorError(
            f"{path} has no score_files(paths): one that takes windows is trained and evaluated as model.detector"
        )
    return read_answers(score(list(files)), path, files)


def read_answers(answer: Any, path: str, files: Sequence[Path]) -> list[float | None]:
    """Return a detector's answer to files as a score of each, None of one that it leaves without.

    Raises:
        DetectorError: it is anything else; NaN does not say whether that was meant.
    """
    expected = f"{path}: expected score_files to return a finite number, or None, for each of {len(files)} files"
    try:
        scores = list(answer)
    except TypeError:
        raise DetectorError(f"{expected}, got {type(answer).__name__}") from None
    if len(scores) != len(files):
        raise DetectorError(f"{expected}, got {len(scores)}")
    wrong = [f"{one!r} for {file}" for one, file in zip(scores, files, strict=True) if not _is_answer(one)]
    if wrong:
        raise DetectorError(f"{expected}, got {wrong[0]}" + f" and {len(wrong) - 1} more such" * (len(wrong) > 1))
    return [None if one is None else float(one) for one in scores]


def _is_answer(one: Any) -> bool:
    try:
        return one is None or (not isinstance(one, (bool, np.bool_)) and math.isfinite(one))
    except (TypeError, ValueError, RuntimeError):  # a text; several numbers, as an array or as a tensor
        return False
