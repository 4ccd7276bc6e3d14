"""Does the demo hold what the README says, whatever the seed and the number of threads?

    python benchmarks/demo_seeds.py                  ten trainings: five seeds, each with one thread and with two
    python benchmarks/demo_seeds.py --seeds 0 1      fewer seeds
    python benchmarks/demo_seeds.py --quick          two of one epoch, to see that it runs

Runs go to outputs/demo_seeds/; what is done there is not done again. Sums over another number of threads round
otherwise: that is one more seed, and so is another processor. Epoch, evidence and threshold are chosen on validation;
the test split is scored once, at the end. The table ends with the worst of each method, and the rivals.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from dfmm.dataset import load_manifest
from dfmm.extraction.extract import extract_tracks
from dfmm.files import write_json
from dfmm.settings import load_settings

PARAMS = "params/sample.yaml"
FOLDER = Path("outputs/demo_seeds")
METHODS = ("blend", "lipsync", "vocoder", "desync")
THREADS = (1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=range(5), help="(default: 0 to 4)")
    parser.add_argument("--threads", type=int, nargs="+", default=THREADS, help="(default: 1 and 2)")
    parser.add_argument("--quick", action="store_true", help="two trainings of one epoch")
    options = parser.parse_args()
    folder, more = (FOLDER / "quick", ["train.epochs=1"]) if options.quick else (FOLDER, [])
    trials = [(seed, threads) for seed in options.seeds for threads in options.threads][: 2 if options.quick else None]
    settings = load_settings(PARAMS)
    extract_tracks(load_manifest(settings), settings, crops=True)  # draws the sample; no training's time has it
    reports = []
    print_row("seed", "threads", *METHODS, "all", "network's Brier", "evidence's Brier", "seconds")
    print_row(*["---"] * 10)
    for seed, threads in trials:
        report = train_and_evaluate(folder / f"seed{seed}-threads{threads}", seed, threads, more)
        reports.append(report)
        briers = (f"{report['calibration'][name]['brier']:.3f}" for name in ("network", "evidence"))
        print_row(seed, threads, *map(format_auc, list_aucs(report)), *briers, f"{report['seconds']:.0f}")
    worst = [f"{min(auc['value'] for auc in column):.3f}" for column in zip(*map(list_aucs, reports), strict=True)]
    print_row("**worst**", "", *worst, "", "", "")
    for name, rival in (("*trivial features*", "trivia"), ("*mouth and loudness*", "synchrony")):
        report = reports[0]
        aucs = [*(report["methods"][method][rival] for method in METHODS), report["rivals"][rival]]
        print_row(name, "", *map(format_auc, aucs), "", "", "")


def train_and_evaluate(run: Path, seed: int, threads: int, more: list[str]) -> dict[str, Any]:
    """Return the report on the test split, with the seconds that training took."""
    kept = run / "benchmark.json"
    if not kept.is_file():
        start = time.perf_counter()
        run_command("train", PARAMS, f"seed={seed}", *more, "--run", str(run), threads=threads)
        seconds = time.perf_counter() - start
        run_command("evaluate", str(run), threads=threads)
        write_json({"seconds": seconds}, kept)
    report = json.loads((run / "evaluations" / "sample-test" / "report.json").read_text())
    return report | json.loads(kept.read_text())


def run_command(*words: str, threads: int) -> None:
    """Run a `dfmm` command of so many threads."""
    count = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-m", "dfmm", *words], env=os.environ | count, stdout=subprocess.DEVNULL)
    if done.returncode:
        raise RuntimeError(f"dfmm {' '.join(words)} failed; its reason stands above")


def list_aucs(report: dict[str, Any]) -> list[dict[str, float]]:
    """Return each method's AUC, and that over all fakes."""
    return [*(report["methods"][method]["auc"] for method in METHODS), report["video"]["auc"]]


def format_auc(auc: dict[str, float]) -> str:
    return f"{auc['value']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}]"


def print_row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
