"""How long do all numbers of a report take the processor, beside an earlier version and scikit-learn in a loop?

    mkdir ../before && git archive eb7cd46 dfmm | tar x -C ../before
    python benchmarks/evaluation.py --before ../before [--videos 20000] [--replicates 2000]

Videos, three windows each, of people with several videos are drawn once: as scores of the detector, its streams, its
pieces of evidence and its rivals. `summarise_split` of this version and of the one in the folder given are timed in
turns, each in a process of its own whose peak of memory is measured, too. This version does more: it knows more
metrics, and tells how far the detector is ahead of its rivals. scikit-learn is timed on a few replicates, of AUC,
average precision and the ROC curve of one column alone, and extrapolated to all replicates and columns.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

METHODS = ("faceswap", "wav2lip", "voice", "faceswap+voice", "desync")
STREAMS = ("video_fake_score", "audio_fake_score", "in_sync_score")
PIECES = ("picture", "voice", "synchrony", "lag", "motion", "fusion")
LOOPS = 3  # replicates that scikit-learn is timed on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="a folder that holds an earlier version's dfmm/")
    parser.add_argument("--videos", type=int, default=20_000)
    parser.add_argument("--people", type=int, default=2_000)
    parser.add_argument("--replicates", type=int, default=2_000)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return report_once(options.worker, options.replicates)
    here = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as folder:
        for table, name in zip(draw_tables(options.videos, options.people), ("videos", "windows"), strict=True):
            table.to_parquet(Path(folder) / name)
        now, before = (time_report(place, folder, options) for place in (here, options.before.resolve()))
        columns = count_columns()
        loop = time_sklearn(draw_tables(options.videos, options.people)[0]) * options.replicates * columns
    print(f"{options.videos} videos with three windows each, {options.people} people, {options.replicates} replicates")
    print("| | processor seconds | times this version | peak memory |\n| --- | --- | --- | --- |")
    for name, (seconds, megabytes) in (("this version", now), ("before", before)):
        print(f"| {name} | {seconds:.1f} | {seconds / now[0]:.1f} | {megabytes:.0f} MB |")
    print(f"| scikit-learn in a loop, {LOOPS} replicates, extrapolated | {loop:.0f} | {loop / now[0]:.0f} | |")


def draw_tables(videos: int, people: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Draw a scored split: half reals, and of the fakes a fifth for each method, with scores that find some."""
    rng = np.random.default_rng(0)
    label = np.arange(videos) % 2
    method = np.where(label == 1, np.array(METHODS)[np.arange(videos) // 2 % len(METHODS)], "real")
    names = [f"video/{number:06}" for number in range(videos)]
    table = pd.DataFrame({"video_id": names, "label": label, "method": method, "status": "ok", "reason": ""})
    table["identities"] = [f"person {number:05}" for number in rng.integers(0, people, videos)]
    nothing = {"original": "", "source": "", "dataset": "drawn", "streams": "both"}
    table = table.assign(**nothing, face_coverage=1.0, faces=1, shots=1, gaps=0)
    for name in ("score", "fusion_score", *STREAMS, "trivia_score"):
        table[name] = 1 / (1 + np.exp(-(rng.normal(size=videos) + rng.uniform(0.2, 1.5) * label)))
    for name in ("mouth_loudness", "sync_surprise", *(f"{piece}_evidence" for piece in PIECES)):
        table[name] = rng.normal(size=videos) + rng.uniform(-1, 1) * label
    windows = table.loc[table.index.repeat(3), ["video_id", "label", "score"]].reset_index(drop=True)
    return table, windows.assign(score=(windows["score"] + rng.uniform(0, 0.2, len(windows))).clip(0, 1))


def time_report(place: Path, folder: str, options: argparse.Namespace) -> tuple[float, float]:
    """Return the seconds that a version's report takes, and its peak of memory in megabytes."""
    command = [sys.executable, __file__, "--before", ".", "--worker", folder, "--replicates", str(options.replicates)]
    environment = os.environ | {"PYTHONPATH": str(place), "OMP_NUM_THREADS": "1"}
    found = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, cwd=place)
    return tuple(json.loads(found.stdout.splitlines()[-1]))


def report_once(folder: Path, replicates: int) -> None:
    from dfmm.evaluation import summary

    videos, windows = (pd.read_parquet(folder / name) for name in ("videos", "windows"))
    started = time.process_time()
    summarise = getattr(summary, "summarise_split", None) or summary.make_report  # its name before
    summarise(videos, windows, split="test", threshold=0.5, replicates=replicates)
    seconds = time.process_time() - started
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def count_columns() -> float:
    """How many columns of scores are measured, in tables of all videos: those of a method hold six tenths of them."""
    of_all = 1 + 3 + 3 + len(PIECES)  # score, windows three times as long, rivals, pieces
    return of_all + 0.6 * len(METHODS) * (1 + len(STREAMS) + len(PIECES) + 3)


def time_sklearn(videos: pd.DataFrame) -> float:
    """Return the seconds of one replicate of one column."""
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

    rng = np.random.default_rng(0)
    labels, scores = videos["label"].to_numpy(), videos["score"].to_numpy()
    codes, names = pd.factorize(videos["identities"])
    started = time.process_time()
    for _ in range(LOOPS):
        weights = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))[codes]
        roc_auc_score(labels, scores, sample_weight=weights)
        average_precision_score(labels, scores, sample_weight=weights)
        roc_curve(labels, scores, sample_weight=weights, drop_intermediate=False)
    return (time.process_time() - started) / LOOPS


if __name__ == "__main__":
    main()
