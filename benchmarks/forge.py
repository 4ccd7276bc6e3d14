"""Trained without a single fake, what is found of true ones? On the synthetic sample, its AUC on held-out people.

    python benchmarks/forge.py            three trainings of the demo's length
    python benchmarks/forge.py --quick    the same of one epoch on 40 videos, to see that it runs

The same model, the same reals: with the sample's own fakes, with nothing but forgeries made of the reals, and with
both. Runs go to outputs/forge/; what is done there is not done again. Epochs are chosen on validation, which has the
same kind of fakes as training; the test split, scored once at the end, has the sample's.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from fusion import METHODS, OPTIONS, PARAMS, format_aucs, list_aucs, run_command

from dfmm.dataset import load_manifest
from dfmm.extraction.extract import extract_tracks
from dfmm.files import write_json
from dfmm.settings import load_settings

FOLDER = Path("outputs/forge")
TRIALS = {
    "true fakes": [],
    # There are two reals in five videos: four windows of each, and it sees at least as many as the others.
    "reals alone": ["forge.share=0.5", "forge.reals_only=true", "forge.pairs=true", "train.windows=4"],
    "true fakes and forged reals": ["forge.share=0.5"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="trainings of one epoch, on the notebooks' small sample")
    parser.add_argument("--root", help="of a sample that is drawn already")
    options = parser.parse_args()
    more = ["train.epochs=1", "data.root=data/quick", "data.sample_videos=40"] if options.quick else []
    more += [f"data.root={options.root}"] if options.root else []
    settings = load_settings(PARAMS, more)
    extract_tracks(load_manifest(settings), settings, crops=True)  # draws the sample; no training's time has it
    folder = FOLDER / "quick" if options.quick else FOLDER  # neither is to pass for the other
    reports = {name: train_and_evaluate(folder, name, [*chosen, *more]) for name, chosen in TRIALS.items()}
    print_table(reports)


def train_and_evaluate(folder: Path, name: str, overrides: list[str]) -> dict[str, Any]:
    """Return the report on the test split, with the processor's seconds of the training."""
    run = folder / name.replace(" ", "-")
    kept = run / "benchmark.json"
    if not kept.is_file():
        seconds = run_command("train", PARAMS, *OPTIONS, *overrides, "--run", str(run))
        run_command("evaluate", str(run))
        write_json({"seconds": seconds}, kept)
    report = json.loads((run / "evaluations" / "sample-test" / "report.json").read_text())
    return report | json.loads(kept.read_text())


def print_table(reports: dict[str, dict[str, Any]]) -> None:
    """Print a row a training: the AUC of each method against all reals, and its time as a share of the first's."""
    first = next(iter(reports.values()))
    print(f"| trained on | {' | '.join(METHODS)} | all | time |")
    print("| --- " * (3 + len(METHODS)) + "|")
    for name, report in reports.items():
        aucs = list_aucs(report)
        cells = [format_aucs([aucs[method]]) for method in (*METHODS, "all")]
        print(f"| {name} | {' | '.join(cells)} | {report['seconds'] / first['seconds']:.2f} |")
    rivals = {method: facts["trivia"] for method, facts in first["methods"].items()}
    rivals |= {"all": first["rivals"]["trivia"]}
    print(f"| *trivial features* | {' | '.join(format_aucs([rivals[method]]) for method in (*METHODS, 'all'))} | |")


if __name__ == "__main__":
    main()
