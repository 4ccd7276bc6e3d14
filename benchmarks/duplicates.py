"""How long it takes to find videos that are there twice, among many of one scene; beside the search over all pairs.

    python benchmarks/duplicates.py [--videos 20000] [--all-pairs 1000]

Nothing is decoded: fingerprints are drawn, of one room, with motions and sounds that correlate by chance as those of
real clips do (60 of them: standard deviations .14 and .09). One video in fifty is there again, as if it had been
encoded anew, in another split. First the pairs that both searches find among 500 are compared, then each search runs in
a process of its own, for its memory.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dfmm.audit.facts import MOTION_SIZE, SCENE_SIZE, SOUND_SIZE, STRETCHES, Facts
from dfmm.audit.leaks import _correlate, _read_prints, match_videos, select_same
from dfmm.manifest import complete_manifest

PAIRS = 2**14  # of the search over all pairs, compared at a time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=20_000, help="(default %(default)s)")
    parser.add_argument("--all-pairs", type=int, default=1000, help="for the other search (default %(default)s)")
    options = parser.parse_args()
    for seed in range(3):
        found = [set(zip(*search(*draw_videos(500, seed)), strict=True)) for search in (find_pairs, compare_all)]
        print(f"500 videos, draw {seed}: {len(found[0])} pairs found, {len(found[1])} among all pairs,", end=" ")
        print("the same" if found[0] == found[1] else f"not the same: {found[0] ^ found[1]}")
    measure("all pairs", compare_all, options.all_pairs)
    first = measure("neighbours", find_pairs, 1000)
    last = measure("neighbours", find_pairs, options.videos)
    print(f"{options.videos:,} videos take {last / first:.1f} times the processor's time of 1,000")


def measure(name: str, search: object, videos: int) -> float:
    """Print and return the processor's seconds of one search, alone in its process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        seconds, pairs, before, peak = pool.apply(time_search, (search, videos))
    print(f"{name}, {videos:,} videos: {seconds:.1f} s, {pairs} pairs, {peak:.0f} MB, {before:.0f} MB before it began")
    return seconds


def time_search(search: object, videos: int) -> tuple[float, int, float, float]:
    """Return the seconds, the pairs, and the memory in MB before the search and at its peak (Linux)."""
    data = draw_videos(videos, 0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, started = read_peak(), time.process_time()
    pairs = len(search(*data)[0])
    return time.process_time() - started, pairs, before, read_peak()


def read_peak() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1e3


def find_pairs(videos: pd.DataFrame, facts: dict[str, Facts]) -> tuple[NDArray, NDArray]:
    pairs = match_videos(videos, facts)
    return pairs["first"].to_numpy(), pairs["second"].to_numpy()


def compare_all(videos: pd.DataFrame, facts: dict[str, Facts]) -> tuple[NDArray, NDArray]:
    """Compare all pairs of different splits, as was done before there were buckets."""
    prints = _read_prints([facts[name] for name in videos["video_id"]])
    first, second = np.triu_indices(len(videos), 1)
    apart = videos["split"].to_numpy()[first] != videos["split"].to_numpy()[second]
    first, second = first[apart], second[apart]
    tables = []
    for at in range(0, len(first), PAIRS):
        one, other = first[at : at + PAIRS], second[at : at + PAIRS]
        columns = {name: _correlate(prints[name][one], prints[name][other]) for name in ("scene", "sound")}
        columns["motion"] = compare_motion(prints["motion"][one], prints["motion"][other])
        tables.append(select_same(pd.DataFrame({"first": one, "second": other, **columns})))
    pairs = pd.concat(tables)
    return pairs["first"].to_numpy(), pairs["second"].to_numpy()


def compare_motion(first: NDArray[np.int8], second: NDArray[np.int8]) -> NDArray[np.float32]:
    still = ~first.any(axis=2) & ~second.any(axis=2)
    told = np.ma.median(np.ma.masked_array(np.nan_to_num(_correlate(first, second)), still), axis=1)
    return np.where(still.all(axis=1), 1, np.ma.filled(told, 1))


def draw_videos(count: int, seed: int) -> tuple[pd.DataFrame, dict[str, Facts]]:
    """Return a manifest, and the facts of its videos."""
    rng = np.random.default_rng([seed, count])
    copies = count // 50
    sources = np.concatenate([np.arange(count - copies), rng.choice(count - copies, copies, replace=False)])
    prints = {
        "scene": _pack(rng.normal(size=SCENE_SIZE) + 0.05 * rng.normal(size=(count, SCENE_SIZE))),
        "motion": _pack(_draw_alike(rng, sources, (STRETCHES, MOTION_SIZE), decay=0.45)),
        "sound": _pack(_draw_alike(rng, sources, (SOUND_SIZE,), decay=0.3)),
    }
    nothing = dict.fromkeys(Facts.__dataclass_fields__)
    names = [f"{number:05d}" for number in range(count)]
    facts = {
        name: Facts(**nothing | {"sha256": name} | {one: rows[number].tobytes().hex() for one, rows in prints.items()})
        for number, name in enumerate(names)
    }
    split = np.where(np.arange(count) < count - copies, "train", "test")
    split[: count // 2] = "val"
    table = pd.DataFrame({"video_id": names, "path": [f"{name}.mp4" for name in names], "split": split, "label": 0})
    return complete_manifest(table), facts


def _draw_alike(rng: np.random.Generator, sources: NDArray, shape: tuple[int, ...], *, decay: float) -> NDArray:
    """Draw a fingerprint a source, and of each video its source's with some noise; low waves are larger than high."""
    weights = np.arange(1, shape[-1] + 1) ** -decay
    drawn = (rng.normal(size=(sources.max() + 1, *shape)) * weights)[sources]
    return drawn + rng.uniform(0, 0.8, (len(sources), *[1] * len(shape))) * rng.normal(size=drawn.shape) * weights


def _pack(rows: NDArray) -> NDArray[np.int8]:
    return np.rint(127 * rows / np.abs(rows).max(axis=-1, keepdims=True)).astype(np.int8)


if __name__ == "__main__":
    main()
