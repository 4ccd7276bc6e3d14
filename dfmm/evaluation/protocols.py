"""One model, other datasets: each is tested for itself, with a report of its own."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pandas as pd

from dfmm.evaluation.contents import Report
from dfmm.evaluation.evaluate import evaluate_run, load_run
from dfmm.runs import Run

log = logging.getLogger("dfmm")


def evaluate_datasets(
    run: Run, split: str = "test", *, progress: bool = True
) -> Iterator[tuple[str, tuple[Report, pd.DataFrame, pd.DataFrame] | str]]:
    """Evaluate a run on each of the other datasets that `evaluate.datasets` lists; one that fails costs only itself.

    Yields:
        The manifest's path, and what `evaluate_run` returns, or why it failed.
    """
    if run.imported.is_file():  # scores are of their own videos alone
        return
    _, settings, _ = load_run(run)
    for file in settings.evaluate.datasets:
        try:
            yield file, evaluate_run(run, split, manifest=file, progress=progress)
        except (ValueError, RuntimeError, OSError) as error:
            log.warning("%s is not evaluated: %s", file, error)
            yield file, str(error)
