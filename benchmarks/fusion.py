"""Which fusion, which temporal encoder? Each trained on the synthetic sample, its AUC by method on held-out people.

    python benchmarks/fusion.py            the whole table: 19 trainings
    python benchmarks/fusion.py --quick    two of one epoch, to see that it runs

Runs go to outputs/fusion/; what is done there is not done again. Two trainings run side by side, of one thread each.
Epochs are chosen on validation; the test split is scored once, at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

PARAMS = "params/sample.yaml"
FOLDER = Path("outputs/fusion")
OPTIONS = ["data.read=cache", "data.workers=0"]
METHODS = ("blend", "lipsync", "vocoder", "desync")
SEEDS = {("concat", "transformer"): 5, ("cross_modal", "transformer"): 5}


@dataclass(frozen=True)
class Trial:
    """One training: what is set, and the seed."""

    fusion: str
    temporal: str
    streams: str
    seed: int

    @property
    def run(self) -> Path:
        return FOLDER / f"{self.fusion}-{self.temporal}-{self.streams}-{self.seed}"

    @property
    def overrides(self) -> list[str]:
        model = [f"model.{name}={getattr(self, name)}" for name in ("fusion", "temporal", "streams")]
        return [*OPTIONS, *model, f"seed={self.seed}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two trainings of one epoch")
    quick = parser.parse_args().quick
    trials = list(list_trials())[:2] if quick else list(list_trials())
    more = ["train.epochs=1"] if quick else []
    run_command("train", PARAMS, *trials[0].overrides, *more, "--run", str(trials[0].run))  # draws the sample
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(lambda trial: train_and_evaluate(trial, more), trials))
    print_table(dict(zip(trials, reports, strict=True)))


def list_trials() -> Iterator[Trial]:
    """Yield every fusion with every temporal encoder, and each stream alone."""
    for fusion in ("concat", "attention", "cross_modal"):
        for temporal in ("avg_pool", "tconv", "transformer"):
            for seed in range(SEEDS.get((fusion, temporal), 1)):
                yield Trial(fusion, temporal, "both", seed)
    for streams in ("video", "audio"):
        yield Trial("concat", "transformer", streams, 0)


def train_and_evaluate(trial: Trial, more: list[str]) -> dict[str, Any]:
    """Return the report on the test split, with the seconds that the training took."""
    run_command("train", PARAMS, *trial.overrides, *more, "--run", str(trial.run))
    report = trial.run / "evaluations" / "sample-test" / "report.json"
    if not report.is_file():
        run_command("evaluate", str(trial.run))
    stage = json.loads((trial.run / "run.json").read_text())["stages"]["train"]
    return json.loads(report.read_text()) | {"seconds": stage["seconds"]}


def run_command(*words: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "dfmm", *words], env=environment, check=True, stdout=subprocess.DEVNULL)


def print_table(reports: dict[Trial, dict[str, Any]]) -> None:
    """Print a row a setting: AUC of each method against all reals; over seeds their mean and span."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for trial, report in reports.items():
        groups.setdefault((trial.fusion, trial.temporal, trial.streams), []).append(report)
    first = mean(report["seconds"] for report in next(iter(groups.values())))
    print(f"| fusion | temporal | streams | seeds | {' | '.join(METHODS)} | all | time |")
    print("| --- " * (6 + len(METHODS)) + "|")
    for (fusion, temporal, streams), found in groups.items():
        cells = [format_aucs([find_auc(report, method) for report in found]) for method in (*METHODS, None)]
        time = mean(report["seconds"] for report in found) / first
        print(f"| {fusion} | {temporal} | {streams} | {len(found)} | {' | '.join(cells)} | {time:.2f} |")
    any_report = next(iter(reports.values()))
    for name, rival in (("trivial features", "trivia"), ("mouth and loudness", "synchrony")):
        cells = [format_aucs([any_report["methods"][method][rival]]) for method in METHODS]
        print(f"| *{name}* | | | | {' | '.join(cells)} | {format_aucs([any_report['rivals'][rival]])} | |")


def find_auc(report: dict[str, Any], method: str | None) -> dict[str, float]:
    """Return a method's AUC, or that over all fakes."""
    return report["methods"][method]["auc"] if method else report["video"]["auc"]


def format_aucs(aucs: list[dict[str, float]]) -> str:
    """Return `.912 [.851, .954]`, or over several seeds their mean, least and greatest: `.90 (.87–.93)`."""
    values = [auc["value"] for auc in aucs]
    if len(values) > 1:
        return f"{mean(values):.3f} ({min(values):.3f}–{max(values):.3f})"
    return f"{values[0]:.3f} [{aucs[0]['low']:.3f}, {aucs[0]['high']:.3f}]"


if __name__ == "__main__":
    main()
