"""What do degradations cost? Processor time of reading a window with each, against that of reading it from the cache.

    python benchmarks/augment.py [--against CHECKOUT]

A window is 16 frames of 112² and their log-mel. Draws its data into a temporary folder. All figures come from one run,
taken in turns; compare ratios only. With another checkout of dfmm, such as an older one (`git worktree add`), both are
measured in turns, round by round, in units of the other's cached read.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from dfmm.dataset import load_manifest
from dfmm.dataset.dataset import MultimodalDataset
from dfmm.degrade import DEGRADATIONS
from dfmm.sections import Augment
from dfmm.settings import Settings, load_settings, validate_settings

ROUNDS, VIDEOS = 7, 24  # rounds in which all ways are measured in turn, one window of each video in each
DEAR = 2  # times the cached read
NOTHING = dict.fromkeys(Augment.model_fields, 0.0)
# Largest amounts of what is drawn in units of its own; what has a chance is always drawn.
UNITS = {"flip": 1, "crop": 0.3, "colour": 0.5, "noise": 0.2, "sound_gain": 20, "sound_noise": 1, "pitch": 6}
HERE = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--against", metavar="CHECKOUT", type=Path, help="another checkout, measured in turns with this"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)  # a process that measures one of the checkouts
    options = parser.parse_args()
    if options.serve:
        serve_rounds(options.serve)
        return
    checkouts = [HERE, *([options.against.resolve()] if options.against else [])]
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure_checkouts(checkouts, Path(folder), options.rounds)
    if options.against:
        print_comparison(*seconds)
    else:
        print_costs(*seconds)


def print_costs(seconds: dict[str, list[float]]) -> None:
    plain = next(iter(seconds))
    print_head(seconds, "the cached read alone")
    print("| what is drawn | of the cached read | |\n| --- | --- | --- |")
    for name, times in seconds.items():
        ratio = compare_rounds(times, seconds[plain])
        print(f"| {name} | {ratio:.2f} | {'dear' if ratio > DEAR and name in list_single() else ''} |")


def print_comparison(after: dict[str, list[float]], before: dict[str, list[float]]) -> None:
    """Print both, and what is left of that by which a window with a degradation costs more than one without."""
    plain = next(iter(before))
    print_head(before, "the other checkout's cached read alone")
    print("| what is drawn | before | after | left of what it adds |\n| --- | --- | --- | --- |")
    for name in before:
        ratios = [compare_rounds(times[name], before[plain]) for times in (before, after)]
        adds = [median(times[name]) - median(times[plain]) for times in (before, after)]
        left = f"{adds[1] / adds[0]:.2f}" if adds[0] > 0.1 * median(before[plain]) else ""
        print(f"| {name} | {ratios[0]:.2f} | {ratios[1]:.2f} | {left} |")


def print_head(seconds: dict[str, list[float]], what: str) -> None:
    plain = next(iter(seconds.values()))
    print(f"\n{VIDEOS} windows a round, median of {len(plain)} rounds; {what}: ", end="")
    print(f"{1000 * median(plain):.2f} ms of processor time\n")


def compare_rounds(times: list[float], others: list[float]) -> float:
    return median(one / other for one, other in zip(times, others, strict=True))


def measure_checkouts(checkouts: list[Path], folder: Path, rounds: int) -> list[dict[str, list[float]]]:
    """Return processor seconds a window in every round, by way, for each checkout, in a process of its own."""
    command = [sys.executable, __file__, "--serve", str(folder)]
    servers = []
    for checkout in checkouts:
        environment = os.environ | {"PYTHONPATH": str(checkout)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        servers.append(subprocess.Popen(command, env=environment, cwd=HERE, **pipes))
        servers[-1].stdout.readline()  # the data is drawn
    found: list[dict[str, list[float]]] = [{} for _ in servers]
    for take_round in range(rounds + 1):
        for server, seconds in zip(servers, found, strict=True):
            print(file=server.stdin, flush=True)
            measured = json.loads(server.stdout.readline())
            for name, value in measured.items() if take_round else ():  # the first one warms up
                seconds.setdefault(name, []).append(value)
    for server in servers:
        server.communicate()
    return found


def serve_rounds(folder: Path) -> None:
    """Measure one round for every line that comes in."""
    logging.getLogger("dfmm").setLevel("ERROR")
    ways = make_ways(folder)
    print(flush=True)
    for take_round, _ in enumerate(sys.stdin):
        print(json.dumps(measure_round(ways, take_round)), flush=True)


def make_ways(folder: Path) -> dict[str, MultimodalDataset]:
    """Return datasets that read the same windows: plain, in both mixes, and with one degradation in each window."""
    plain = make_settings(folder, NOTHING)
    manifest = load_manifest(plain, progress=False)

    def open_windows(augment: dict[str, float], *, draw: bool = True) -> MultimodalDataset:
        settings = make_settings(folder, augment)
        return MultimodalDataset(manifest, settings, sampling="random", augment=draw, progress=False)

    robust = load_settings("params/robust.yaml").augment.model_dump()
    ways = {
        "nothing: the cached read": open_windows(NOTHING, draw=False),
        "the default mix": open_windows(Augment().model_dump()),
        "the strong mix, params/robust.yaml": open_windows(robust),
    }
    for name, largest in list_single().items():
        ways[name] = open_windows({**NOTHING, "chance": 1.0, name: largest})
    return ways


def list_single() -> dict[str, float]:
    """Return the setting of every degradation, and its largest value here."""
    return {one.setting or one.name: UNITS.get(one.setting or one.name, 1.0) for one in DEGRADATIONS}


def make_settings(folder: Path, augment: dict[str, float]) -> Settings:
    data = {"root": str(folder / "sample"), "cache": str(folder / "cache"), "sample_videos": VIDEOS, "read": "cache"}
    return validate_settings({"data": data, "video": {"frames": 16, "size": 112}, "augment": augment})


def measure_round(ways: dict[str, MultimodalDataset], take_round: int) -> dict[str, float]:
    """Return processor seconds a window, for every way."""
    seconds = {}
    for name, dataset in ways.items():
        first = take_round * len(dataset)
        began = time.process_time()
        for index in range(first, first + len(dataset)):
            dataset[index]
        seconds[name] = (time.process_time() - began) / len(dataset)
    return seconds


if __name__ == "__main__":
    main()
