"""What do degradations cost? Processor time of reading a window with each, against that of reading it from the cache.

    python benchmarks/augment.py

A window is 16 frames of 112² and their log-mel. Draws its data into a temporary folder. All figures come from one run,
taken in turns; compare ratios only.
"""

from __future__ import annotations

import logging
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


def main() -> None:
    logging.getLogger("dfmm").setLevel("ERROR")
    with tempfile.TemporaryDirectory() as folder:
        ways = make_ways(Path(folder))
        seconds = measure_ways(ways)
    plain = next(iter(ways))
    print(f"\n{VIDEOS} windows a round, median of {ROUNDS} rounds; the cached read alone: ", end="")
    print(f"{1000 * median(seconds[plain]):.2f} ms of processor time\n")
    print("| what is drawn | of the cached read | |\n| --- | --- | --- |")
    for name, times in seconds.items():
        ratio = median(one / other for one, other in zip(times, seconds[plain], strict=True))
        print(f"| {name} | {ratio:.2f} | {'dear' if ratio > DEAR and name in list_single() else ''} |")


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


def measure_ways(ways: dict[str, MultimodalDataset]) -> dict[str, list[float]]:
    """Return processor seconds a window, for every way in every round."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for take_round in range(ROUNDS + 1):
        for name, dataset in ways.items():
            first = take_round * len(dataset)
            began = time.process_time()
            for index in range(first, first + len(dataset)):
                dataset[index]
            if take_round:  # the first one warms up
                seconds[name].append((time.process_time() - began) / len(dataset))
    return seconds


if __name__ == "__main__":
    main()
