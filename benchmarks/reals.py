"""Trained on reals alone, what is found of true forgeries? By generator, on a folder of your own.

    python benchmarks/reals.py FOLDER                 trains params/reals.yaml and params/selfblended.yaml
    python benchmarks/reals.py FOLDER train.epochs=1  the same with settings laid over both, to see that it runs

FOLDER holds a manifest.csv with reals in train, val and test, no person in two of them, and fakes in test, their
generator as `method`. Epochs and thresholds are chosen on validation, where all fakes are forged of its reals; the test
split is scored once, at the end. Each generator is set against all reals of the test split, with 95 % intervals that
resample people; beside the joint score stand picture, voice and synchrony, each alone, and trivial features, which
need fakes in train. Runs go to outputs/reals/; what is done there is not done again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from fusion import format_aucs, list_aucs, run_command

from dfmm.evaluation import compare_streams
from dfmm.files import write_json
from dfmm.runs import Run

FOLDER = Path("outputs/reals")
NOTHING = {"value": None}  # of a generator whose clips lack this stream
COLUMNS = "generator", "fakes", "joint", *(f"{name} alone" for name in ("picture", "voice", "synchrony")), "*trivia*"
PARAMS = (Path("params/reals.yaml"), Path("params/selfblended.yaml"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with a manifest.csv")
    parser.add_argument("overrides", nargs="*", metavar="NAME=VALUE", help="settings laid over the params files")
    options = parser.parse_args()
    more = [f"data.root={options.folder.resolve()}", f"data.cache={FOLDER / 'cache'}", *options.overrides]
    for params in PARAMS:
        print_table(params, *train_and_evaluate(params, more))


def train_and_evaluate(params: Path, more: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the report on the test split, and what is said of each stream alone, with the seconds of training."""
    run = FOLDER / params.stem
    kept = run / "benchmark.json"
    if not kept.is_file():
        seconds = run_command("train", str(params), *more, "--run", str(run))
        run_command("evaluate", str(run))
        write_json({"seconds": seconds, "alone": compare_streams(Run(run), progress=False)}, kept)
    report = next((run / "evaluations").glob("*-test/report.json"))
    return json.loads(report.read_text()), json.loads(kept.read_text())


def print_table(params: Path, report: dict[str, Any], facts: dict[str, Any]) -> None:
    """Print a row a generator: its fakes, and their AUC against all reals by the joint score and by its rivals."""
    counts = {method: found["videos"] for method, found in report["methods"].items()}
    counts["all"] = sum(counts.values())
    trivia = {method: found["trivia"] for method, found in report["methods"].items()}
    trivia["all"] = report["rivals"]["trivia"]
    pieces = {method: found["pieces"] for method, found in report["methods"].items()} | {"all": report["pieces"]}
    print(f"\n{params}: {facts['seconds']:.0f} seconds of the processor, {report['videos'] - counts['all']} reals\n")
    print(f"| {' | '.join(COLUMNS)} |\n{'| --- ' * len(COLUMNS)}|")
    for method, auc in list_aucs(report).items():
        alone = (facts["alone"][stream].get(method, NOTHING) for stream in ("video", "audio"))
        rivals = (*alone, pieces[method].get("synchrony", NOTHING), trivia[method])
        print(f"| {method} | {counts[method]} | {' | '.join(format_aucs([one]) for one in (auc, *rivals))} |")


if __name__ == "__main__":
    main()
