"""How long does a first answer take, by the processor and by the clock, as a multiple of `import torch`?

    python benchmarks/first_answer.py [--run outputs/sample] [--rounds 3]
    python benchmarks/first_answer.py --many 100

A clip of the sample is drawn, and judged by `dfmm score` without a run and, if one is named, by that run's model; each
command, and each import beside it, is a process of its own. The least of some rounds, taken in turns, counts.

With `--many` so many clips of the sample are judged without a run, and scored by a model that has learnt nothing, with
one worker and with two, by the clock: what the start of Python and its imports take is among it. The model works beside
the workers on a thread of its own, so that one worker and two share two cores with it.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dfmm.sample import make_sample

MANY = """
import sys, tempfile
from pathlib import Path
from dfmm.evaluation.synchrony import judge_files
from dfmm.model.synchrony import load_synchrony
from dfmm.settings import validate_settings
def judge(files, settings):
    if sys.argv[3] == "no run":
        return judge_files(files, settings=settings)
    from dfmm.evaluation.score import score_files
    from dfmm.model import MultimodalModel
    return score_files(files, MultimodalModel(settings), settings, synchrony=load_synchrony(), progress=False)
if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as cache:
        chosen = {"data": {"cache": cache, "workers": 0}, "extract": {"workers": int(sys.argv[2])}}
        files = sorted(Path(sys.argv[1]).rglob("*.mp4"))
        assert all(line["status"] == "ok" for line in judge(files, validate_settings(chosen)))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", help="a trained run's folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--many", type=int, metavar="CLIPS", help="score so many clips, with one worker and with two")
    options = parser.parse_args()
    if options.many:
        compare_workers(options.many, options.rounds)
        return
    with tempfile.TemporaryDirectory() as folder:
        make_sample(Path(folder), videos=24, progress=False)
        clip = str(next(Path(folder).rglob("*.mp4")))
        commands = {
            "import torch": ["-c", "import torch"],
            "import timm": ["-c", "import timm"],
            "import dfmm.model.multimodal": ["-c", "import dfmm.model.multimodal"],
            "import dfmm.evaluation.score": ["-c", "import dfmm.evaluation.score"],
            "dfmm --help": ["-m", "dfmm", "--help"],
            "dfmm score, no run": ["-m", "dfmm", "score", clip],
        }
        if options.run:
            commands["dfmm score --run"] = ["-m", "dfmm", "score", clip, "--run", options.run]
        rounds = [{name: spend(words) for name, words in commands.items()} for _ in range(options.rounds)]
    least = {name: [min(each) for each in zip(*(one[name] for one in rounds), strict=True)] for name in commands}
    print("| | processor seconds | times import torch | seconds by the clock | times import torch |")
    print("| --- | --- | --- | --- | --- |")
    for name, seconds in least.items():
        shown = (f"{one:.2f} | {one / base:.2f}" for one, base in zip(seconds, least["import torch"], strict=True))
        print(f"| {name} | {' | '.join(shown)} |")


def compare_workers(clips: int, rounds: int) -> None:
    """Print the seconds that many clips take with one worker and with two, the least of some rounds in turns."""
    with tempfile.TemporaryDirectory() as folder:
        make_sample(Path(folder), videos=clips, progress=False)
        for judge in ("no run", "a model"):
            taken = [[time_many(folder, workers, judge) for workers in (1, 2)] for _ in range(rounds)]
            one, two = map(min, zip(*taken, strict=True))
            print(f"{clips} clips, {judge}: {one:.1f} s with one worker, {two:.1f} with two, {one / two:.2f} × as fast")


def time_many(folder: str, workers: int, judge: str) -> float:
    """Return the seconds, by the clock, in which all clips of a folder are judged with so many workers."""
    script, start = Path(folder) / "many.py", time.perf_counter()
    script.write_text(MANY)  # a file, for workers import what started them
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, str(script), folder, str(workers), judge], check=True, env=environment)
    return time.perf_counter() - start


def spend(words: list[str]) -> tuple[float, float]:
    """Return the seconds that Python takes for this: the processor's, its children's among them, and the clock's."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    clock, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, clock


if __name__ == "__main__":
    main()
