"""What `metrics.jsonl` holds of a training: a line a step, a line an epoch."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd

from dfmm.files import write_whole
from dfmm.runs import Run, read_lines


def read_history(run: Run) -> pd.DataFrame:
    """Return a run's epochs, a row each, from its `metrics.jsonl`."""
    epochs = [record for record in read_lines(run / "metrics.jsonl") if record["kind"] == "epoch"]
    return pd.DataFrame(epochs).drop(columns="kind", errors="ignore")


def keep_lines(file: Path, epoch: int, step: int) -> None:
    """Drop the lines from this step of this epoch on, which a resumed run writes again."""
    if not file.is_file():
        return
    kept = [
        json.dumps(record) + "\n"
        for record in read_lines(file)
        if (record["epoch"], record.get("step", math.inf)) < (epoch, step)
    ]
    write_whole("".join(kept), file)
