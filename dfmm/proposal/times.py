"""How long a run will take on this machine: a few clips extracted and a training step timed, and the rest reckoned."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from dfmm.extraction.pool import count_cores, run_tasks
from dfmm.extraction.tracks import Tracks, make_key, time_entry
from dfmm.manifest import SPLITS
from dfmm.media.container import MediaError
from dfmm.proposal.folder import spread_numbers
from dfmm.settings import Settings, resolve_path
from dfmm.training import time_stages

CLIPS = 3  # that are extracted; the first one warms up
CPU_WINDOWS = 2  # that a CPU is given at once to learn how long one takes; a GPU is given a batch


def estimate_times(manifest: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Return how long each stage of a run will take here, by a few clips extracted and a training step timed.

    What is extracted for it is not kept. Clips of other lengths than these, a busier machine, or a training that ends
    early (`train.patience`) make it another number.

    Returns:
        `seconds` by stage (`extraction`, `training`, `evaluation`), and `megabytes` that it leaves in `data.cache`.

    Raises:
        MediaError: none of the clips that were tried can be extracted.
    """
    windows = settings.train.batch_size if torch.cuda.is_available() else CPU_WINDOWS
    with tempfile.TemporaryDirectory() as cache:
        here = _change_settings(settings, cache, windows)
        used = manifest[manifest["split"].isin(SPLITS)]
        clips = used.iloc[spread_numbers(len(used), CLIPS)].reset_index(drop=True)
        start, each, clips = _time_extraction(clips, here)
        size = sum(file.stat().st_size for file in Path(cache).rglob("*") if file.is_file()) / len(clips) / 1e6
        stages = time_stages(clips, here, reads=("cache",), repeats=1) / 1000 / windows  # seconds a window
    cores = min(settings.extract.workers or count_cores(), len(used))
    rows = {
        "extraction": {"seconds": start + each * len(used) / cores, "megabytes": size * len(used)},
        "training": {"seconds": _sum_training(used, settings, stages), "megabytes": 0.0},
        "evaluation": {"seconds": _sum_evaluation(used, settings, stages), "megabytes": 0.0},
    }
    return pd.DataFrame(rows).T


def _change_settings(settings: Settings, cache: str, windows: int) -> Settings:
    """Return the settings with which it is timed: apart from all that is kept, one worker, so many windows at once."""
    changed = {
        "data": {"read": "cache", "cache": cache, "limit": None},
        "extract": {"engine": "local", "workers": 1},
        "train": {"batch_size": windows},
    }
    return settings.model_copy(
        update={name: getattr(settings, name).model_copy(update=values) for name, values in changed.items()}
    )


def _time_extraction(clips: pd.DataFrame, settings: Settings) -> tuple[float, float, pd.DataFrame]:
    """Extract these clips; return the seconds that workers took to begin, those of a clip, and what can be read."""
    began = time.perf_counter()
    root = resolve_path(settings.data.root).resolve()
    clips = clips[[(root / path).is_file() for path in clips["path"]]].reset_index(drop=True)
    keys = np.array([make_key(str(root / path), settings) for path in clips["path"]], "S24")
    files = map(Tracks(clips, keys, settings, crops=True).name_files, range(len(clips)))
    tasks = [(path, track, crops, settings, talk) for path, track, crops, talk in files]
    results = dict(sorted(run_tasks(time_entry, tasks, settings.extract)))
    spent = {number: value for number, value in results.items() if not isinstance(value, MediaError)}
    if not spent:
        raise MediaError(
            f"{settings.data.root}: none of the clips tried can be read: {results.get(0, 'no such files')}"
        )
    start = time.perf_counter() - began - sum(spent.values())
    warm = list(spent.values())[1:] or list(spent.values())
    return start, float(np.median(warm)), clips.iloc[list(spent)].reset_index(drop=True)


def _sum_training(videos: pd.DataFrame, settings: Settings, stages: pd.Series) -> float:
    """Return the seconds of all epochs, validation among them."""
    train, counts = settings.train, videos["split"].value_counts()
    beside = settings.data.workers > 0  # windows are read while the model learns
    learnt = counts.get("train", 0) * train.windows * (stages.sum() - beside * stages["read from cache"])
    checked = counts.get("val", 0) * train.val_windows * (stages["read from cache"] + stages["forward"])
    return train.epochs * (learnt + checked)


def _sum_evaluation(videos: pd.DataFrame, settings: Settings, stages: pd.Series) -> float:
    """Test and, for the threshold, validation are scored."""
    windows = videos["split"].isin(("val", "test")).sum() * settings.evaluate.windows
    return windows * (stages["read from cache"] + stages["forward"])


def format_times(times: pd.DataFrame) -> str:
    """Say what `estimate_times` found, a line a stage."""
    lines = [f"{stage:11} {format_duration(seconds)}" for stage, seconds in times["seconds"].items()]
    size = times["megabytes"].sum()
    return "\n".join([*lines, f"disk        {f'{size / 1000:.1f} GB' if size >= 1000 else f'{size:.0f} MB'}"])


def format_duration(seconds: float) -> str:
    """Return `40 s`, `6 min`, `3 h` or `2 days`: an estimate is worth no more digits."""
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"about {seconds / size:.0f} {unit}"
    return f"about {max(seconds, 1):.0f} s"
