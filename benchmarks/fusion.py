"""Which fusion, which temporal encoder? Each trained on the synthetic sample, its AUC by method on held-out people.

    python benchmarks/fusion.py            the whole table: 19 trainings
    python benchmarks/fusion.py --quick    two of one epoch, to see that it runs

Runs go to outputs/fusion/; what is done there is not done again. Two trainings run side by side, of one thread each;
their time is that of the processor. Epochs are chosen on validation; the test split is scored once, at the end.

Below the settings: what a model of both streams says of clips that lack one, against a model that was trained on the
other alone; and the two rivals that a detector has to beat.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from dfmm.dataset import load_manifest
from dfmm.evaluation.evaluate import compare_streams
from dfmm.extraction.extract import extract_tracks
from dfmm.files import write_json
from dfmm.runs import Run
from dfmm.settings import load_settings

PARAMS = "params/sample.yaml"
FOLDER = Path("outputs/fusion")
OPTIONS = ["data.read=cache", "data.workers=0"]
METHODS = ("blend", "lipsync", "vocoder", "desync")
SEEDS = {("concat", "transformer"): 5, ("cross_modal", "transformer"): 5}
ALONE = (("concat", "transformer", "both"), ("cross_modal", "transformer", "both"))
WITHHELD = {"video": "both, sound withheld", "audio": "both, picture withheld"}


@dataclass(frozen=True)
class Trial:
    """One training: what is set, and the seed."""

    fusion: str
    temporal: str
    streams: str
    seed: int
    folder: Path = FOLDER

    @property
    def run(self) -> Path:
        return self.folder / f"{self.fusion}-{self.temporal}-{self.streams}-{self.seed}"

    @property
    def overrides(self) -> list[str]:
        model = [f"model.{name}={getattr(self, name)}" for name in ("fusion", "temporal", "streams")]
        return [*OPTIONS, *model, f"seed={self.seed}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two trainings of one epoch")
    quick = parser.parse_args().quick
    trials = list(list_trials())
    if quick:  # what one epoch gives is not to pass for the whole
        trials = [replace(trial, folder=FOLDER / "quick") for trial in trials[:2]]
    more = ["train.epochs=1"] if quick else []
    settings = load_settings(PARAMS)
    extract_tracks(load_manifest(settings), settings, crops=True)  # draws the sample; no training's time has it
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
    """Return the report on the test split, with the seconds of training and what is said of each stream alone."""
    kept = trial.run / "benchmark.json"
    if not kept.is_file():
        seconds = run_command("train", PARAMS, *trial.overrides, *more, "--run", str(trial.run))
        run_command("evaluate", str(trial.run))
        write_json({"seconds": seconds, "alone": compare_streams(Run(trial.run), progress=False)}, kept)
    report = json.loads((trial.run / "evaluations" / "sample-test" / "report.json").read_text())
    return report | json.loads(kept.read_text())


def run_command(*words: str) -> float:
    """Run a `dfmm` command of one thread and return the processor's seconds that it took."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "dfmm", *words], env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"dfmm {' '.join(words)} failed; its reason stands above")
    return used.ru_utime + used.ru_stime


def print_table(reports: dict[Trial, dict[str, Any]]) -> None:
    """Print a row a setting: the AUC of each method against all reals, and the time of the first setting's."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for trial, report in reports.items():
        groups.setdefault((trial.fusion, trial.temporal, trial.streams), []).append(report)
    first = mean(report["seconds"] for report in next(iter(groups.values())))
    print(f"| fusion | temporal | streams | seeds | {' | '.join(METHODS)} | all | time |")
    print("| --- " * (6 + len(METHODS)) + "|")
    for kind, found in groups.items():
        time = mean(report["seconds"] for report in found) / first
        print_row(*kind, len(found), [list_aucs(report) for report in found], f"{time:.2f}")
    for (fusion, temporal, streams), found in groups.items():
        if (fusion, temporal, streams) in ALONE:
            for stream, what in WITHHELD.items():
                print_row(fusion, temporal, what, len(found), [report["alone"][stream] for report in found], "")
    any_report = next(iter(reports.values()))
    for name, rival in (("*trivial features*", "trivia"), ("*mouth and loudness*", "synchrony")):
        aucs = {method: facts[rival] for method, facts in any_report["methods"].items()}
        print_row(name, "", "", "", [aucs | {"all": any_report["rivals"][rival]}], "")


def print_row(fusion: str, temporal: str, streams: str, seeds: object, runs: list[dict[str, Any]], time: str) -> None:
    cells = [format_aucs([aucs[method] for aucs in runs]) for method in (*METHODS, "all")]
    print(f"| {fusion} | {temporal} | {streams} | {seeds} | {' | '.join(cells)} | {time} |")


def list_aucs(report: dict[str, Any]) -> dict[str, Any]:
    """Return each method's AUC, and that over all fakes."""
    return {method: facts["auc"] for method, facts in report["methods"].items()} | {"all": report["video"]["auc"]}


def format_aucs(aucs: list[dict[str, float]]) -> str:
    """Return `.912 [.851, .954]`; over several seeds the means of all three and the span of the first: `(.87–.93)`."""
    if any(auc["value"] is None for auc in aucs):
        return "–"
    value, low, high = (mean(auc[name] for auc in aucs) for name in ("value", "low", "high"))
    span = f" ({min(auc['value'] for auc in aucs):.3f}–{max(auc['value'] for auc in aucs):.3f})"
    return f"{value:.3f} [{low:.3f}, {high:.3f}]" + (span if len(aucs) > 1 else "")


if __name__ == "__main__":
    main()
