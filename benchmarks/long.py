"""What does `dfmm score` of a long file take, read in parts and decoded as a whole, and do both say the same?

    python benchmarks/long.py [--minutes 10 60] [--whole 10]
    python benchmarks/long.py --same FILE … --run outputs/sample

Ten seconds of 1080p H.264 with stereo AAC are encoded once and their packets repeated. Each way is a process of its own
that scores the file with a model that has learnt nothing: seconds of the processor, its workers' and all imports among
them, and by how many megabytes the process and its worker grew beyond what they held before they opened it. Files
longer than `--whole` minutes are not decoded as a whole: what the longest one that was took is told in proportion.

With `--same` files are scored both ways by a run's model, and their scores are set side by side.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import av
import numpy as np

SECONDS, BITS = 10, 4_000_000  # of the clip; of its picture in a second, as of a talking head on the web
NAMES = ("score", "video_fake", "audio_fake", "in_sync")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, nargs="+", default=[10, 60], help="lengths of the files")
    parser.add_argument("--whole", type=int, default=10, help="the longest file that is decoded as a whole, in minutes")
    parser.add_argument("--same", nargs="+", metavar="FILE", help="files of which both ways' scores are compared")
    parser.add_argument("--run", help="whose model scores them")
    parser.add_argument("--score", nargs=2, metavar=("FILE", "WAY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.score:
        print(json.dumps(score_once(*options.score)))
    elif options.same:
        compare_scores(options.same, options.run)
    else:
        with tempfile.TemporaryDirectory() as folder:
            compare_lengths(Path(folder), options.minutes, options.whole)


def repeat_packets(source: Path, target: Path, turns: int) -> Path:
    """Write a clip of `SECONDS` as often as asked, by its packets, without the sound that reaches past its end."""
    with av.open(str(source)) as clip, av.open(str(target), "w") as container:
        streams = [clip.streams.video[0], clip.streams.audio[0]]
        packets = [packet for packet in clip.demux(streams) if packet.size]
        targets = {stream.index: container.add_stream_from_template(stream) for stream in streams}
        inside = [
            packet
            for packet in packets
            if packet.pts >= 0 and packet.pts + packet.duration <= SECONDS / packet.time_base
        ]
        for turn in range(turns):
            for packet in inside:
                copy, later = av.Packet(bytes(packet)), round(Fraction(SECONDS * turn) / packet.time_base)
                copy.stream, copy.time_base = targets[packet.stream.index], packet.time_base
                copy.pts, copy.dts = packet.pts + later, packet.dts + later
                copy.duration, copy.is_keyframe = packet.duration, packet.is_keyframe
                container.mux(copy)
    return target


def compare_lengths(folder: Path, minutes: list[int], longest: int) -> None:
    from extract import make_phone_video  # with all that its rivals need

    clip, known = make_phone_video(folder / "clip.mp4", bits=BITS), None
    print("| minutes | in parts, s | as a whole, s | times faster | MB beyond: process, worker |\n|" + " --- |" * 5)
    for length in sorted(minutes):
        file = repeat_packets(clip, folder / "long.mp4", 60 * length // SECONDS)
        idle, parts = measure_way(file, "nothing")["held"], measure_way(file, "parts")
        if length <= longest or known is None:
            whole = measure_way(file, "whole")
            known, told = (
                (length, whole["seconds"]),
                f"{whole['seconds']:.0f} ({', '.join(map(str, whole['held'] - idle))} MB)",
            )
        else:
            told = f"{known[1] * length / known[0]:.0f}, in proportion"
        ratio = known[1] * length / known[0] / parts["seconds"]
        grown = ", ".join(map(str, parts["held"] - idle))
        print(f"| {length} | {parts['seconds']:.0f} | {told} | {ratio:.1f} | {grown} |", flush=True)


def measure_way(file: Path, way: str) -> dict[str, float | np.ndarray]:
    """Return the processor's seconds of a process that scores a file, and the megabytes it and its worker held."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [sys.executable, __file__, "--score", str(file), way]
    told = subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"seconds": sum(after[:2]) - sum(before[:2]), "held": np.array(json.loads(told)["held"])}


def measure_memory(*_: object) -> int:
    """Return the megabytes this process holds, with all imported that scoring a file needs."""
    from dfmm.dataset import skim_videos
    from dfmm.faces.detect import load_detector

    assert skim_videos

    load_detector("retinaface")
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1_000_000


def score_once(file: str, way: str) -> dict[str, list[int]]:
    """Score a file, or nothing; return how many megabytes this process and its worker held at most."""
    import long  # as workers import it

    from dfmm.evaluation.score import score_files
    from dfmm.extraction.pool import run_tasks
    from dfmm.model import MultimodalModel
    from dfmm.model.synchrony import load_synchrony
    from dfmm.settings import validate_settings

    with tempfile.TemporaryDirectory() as folder:
        settings = validate_settings({"data": {"cache": folder, "workers": 0}})
        model, synchrony = MultimodalModel(settings), load_synchrony()
        if way == "nothing":
            ((_, worker),) = run_tasks(long.measure_memory, [(file,)], settings.extract)
            return {"held": [measure_memory(), worker]}
        (line,) = score_files([file], model, settings, synchrony=synchrony, whole=way == "whole", progress=False)
        assert line["status"] == "ok", line["reason"]
        assert (line["looked"] is None) == (way == "whole")
    most = [
        resource.getrusage(who).ru_maxrss * 1024 // 1_000_000
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    return {"held": most}


def compare_scores(files: list[str], run: str) -> None:
    """Print the scores of files, read in parts beside decoded as a whole."""
    from dfmm.evaluation import open_judge

    judge, differences = open_judge(run), []
    with tempfile.TemporaryDirectory() as folder:
        changes = {"data": {"cache": folder}, "evaluate": {"stride": None}}
        settings = judge.settings.model_copy(
            update={name: getattr(judge.settings, name).model_copy(update=of) for name, of in changes.items()}
        )
        judge = replace(judge, settings=settings)
        print(
            f"| file | {' | '.join(f'{name}, in parts and whole' for name in NAMES)} |\n|" + " --- |" * (len(NAMES) + 1)
        )
        for file in files:
            one, other = (next(iter(replace(judge, whole=whole).judge([file]))).line for whole in (False, True))
            cells = [f"{one[name]} {other[name]}" for name in NAMES]
            print(f"| {Path(file).name} | {' | '.join(cells)} |", flush=True)
            differences.append(abs(one["score"] - other["score"]))
    print(f"largest difference of scores: {max(differences):.3f}")


if __name__ == "__main__":
    main()
