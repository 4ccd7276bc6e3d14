"""What do threads that wait cost, alone and where other processes want the cores as well?

    python benchmarks/threads.py [--threads 2] [--busy 2] [--steps 10]
    python benchmarks/threads.py --demo

Training steps of the quick run's backbone are timed in processes of their own, in turns: with PyTorch's threads waiting
as OpenMP has them (they count to 300,000 before they sleep), asleep at once, and as dfmm sets it
(`GOMP_SPINCOUNT=10000`), first alone, then beside so many processes that do nothing but count.

With `--demo` all of `dfmm run all params/sample.yaml` is timed, once each way; the sample is drawn before, and
what is found in it and trained goes to outputs/busy/, which is emptied each time.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dfmm.dataset import load_manifest
from dfmm.settings import load_settings

WAYS = {"as OpenMP has it": {}, "asleep at once": {"GOMP_SPINCOUNT": "0"}, "asleep soon": {"GOMP_SPINCOUNT": "10000"}}
PARAMS, FOLDER = "params/sample.yaml", Path("outputs/busy")
STEPS = """
import json, sys, time, timm, torch
torch.manual_seed(0)
torch.set_num_threads(int(sys.argv[1]))
model, picture = timm.create_model("tf_efficientnet_lite0", num_classes=2), torch.rand(16, 3, 112, 112)
model(picture).sum().backward()
wall, busy = time.perf_counter(), time.process_time()
for _ in range(int(sys.argv[2])):
    model(picture).sum().backward()
print(json.dumps([time.perf_counter() - wall, time.process_time() - busy]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("threads", 2), ("busy", 2), ("steps", 10), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--demo", action="store_true", help="time the whole demo, alone and beside the busy ones")
    options = parser.parse_args()
    if options.demo:
        time_demo(options.busy)
        return
    print("| | seconds | seconds of the processor | as long as the first row |\n| --- | --- | --- | --- |")
    for beside in (0, options.busy):
        with keep_busy(beside):
            rounds = [{way: take_steps(options, extra) for way, extra in WAYS.items()} for _ in range(options.rounds)]
        best = {way: min(one[way] for one in rounds) for way in WAYS}
        for way, (wall, cpu) in best.items():
            ratio = wall / best[next(iter(WAYS))][0]
            print(f"| {way}, beside {beside} others | {wall:.1f} | {cpu:.1f} | {ratio:.2f} |")


def time_demo(busy: int) -> None:
    """Print how long the demo takes alone, beside so many busy processes, and how much longer that is."""
    settings, seconds = load_settings(PARAMS), []
    load_manifest(settings)  # draws the sample
    for beside in (0, busy):
        shutil.rmtree(FOLDER, ignore_errors=True)
        words = ["run", "all", PARAMS, f"data.cache={FOLDER / 'cache'}", "--run", str(FOLDER / "run")]
        with keep_busy(beside):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-m", "dfmm", *words], check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - start)
        print(
            f"beside {beside} busy processes: {seconds[-1]:.0f} s, {seconds[-1] / seconds[0]:.2f} × as long as alone",
            flush=True,
        )


def take_steps(options: argparse.Namespace, extra: dict[str, str]) -> tuple[float, float]:
    """Return the seconds that the steps take, by the clock and of the processor."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "OMP_"))}
    command = [sys.executable, "-c", STEPS, str(options.threads), str(options.steps)]
    done = subprocess.run(command, env=environment | extra, check=True, capture_output=True, text=True)
    return tuple(json.loads(done.stdout))


@contextmanager
def keep_busy(count: int) -> Iterator[None]:
    """Have so many processes count for as long as the block lasts."""
    others = [multiprocessing.Process(target=count_on, daemon=True) for _ in range(count)]
    for other in others:
        other.start()
    try:
        yield
    finally:
        for other in others:
            other.terminate()


def count_on() -> None:
    while True:
        pass


if __name__ == "__main__":
    main()
