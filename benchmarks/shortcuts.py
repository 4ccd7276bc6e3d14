"""What the audit names in made-up tables of features: by the AUC alone, and with perfect marks, in the same data sets.

    python benchmarks/shortcuts.py [--datasets 12] [--videos 240]

Prints for each case in how many of the data sets a feature is named at all, and in how many the one that was planted.
Clean data should stay clean, also where a person's clips are alike, or fakes many and reals few. The planted marks are
perfect, but on few fakes: a codec on 15 % of them, a silence on 18 %, longer than any real's. Two are no marks: a codec
that all fakes of one person have and nobody else, and one that all fakes of one unlisted original have.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import pandas as pd

from dfmm.audit.shortcuts import find_shortcuts
from dfmm.manifest import complete_manifest

Table = tuple[pd.DataFrame, pd.DataFrame]  # videos, and their features
REPLICATES = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", type=int, default=12, help="of each case (default %(default)s)")
    parser.add_argument("--videos", type=int, default=240, help="of each data set (default %(default)s)")
    options = parser.parse_args()
    print("| case | named by AUC | named with marks | planted, by AUC | planted, with marks |\n" + "| --- " * 5 + "|")
    for case, (draw, planted) in CASES.items():
        rngs = [np.random.default_rng([number, options.videos]) for number in range(options.datasets)]
        found = [name_features(*draw(rng, options.videos)) for rng in rngs]
        counts = [sum(bool(names) for names in way) for way in zip(*found, strict=True)]
        hits = [sum(planted in names for names in way) if planted else "–" for way in zip(*found, strict=True)]
        print(f"| {case} | {' | '.join(str(cell) for cell in (*counts, *hits))} |", flush=True)


def name_features(videos: pd.DataFrame, features: pd.DataFrame) -> tuple[set[str], set[str]]:
    """Return the features that are named by their AUC, and those that are named by it or by a mark."""
    table = find_shortcuts(videos, features, replicates=REPLICATES)
    return tuple(set(table.loc[named, "feature"]) for named in (table["matters"], table["matters"] | table["marked"]))


def list_videos(count: int, *, people: int, fakes_each: int = 1, one_label: bool = False) -> pd.DataFrame:
    """Reals and fakes in turn, or so many fakes a real; each person has both, or fakes alone, or reals alone."""
    number = np.arange(count)
    person = number // (1 + fakes_each) % people
    label = person % 2 if one_label else (number % (1 + fakes_each) > 0).astype(int)
    table = pd.DataFrame({"path": [f"{n:04d}.mp4" for n in number], "split": "train", "label": label})
    table["identities"] = [f"person{one}" for one in person]
    return complete_manifest(table.assign(method=np.where(label == 1, "swap", "real")))


def draw_features(videos: pd.DataFrame, rng: np.random.Generator, *, shared: bool = False) -> pd.DataFrame:
    """Draw features that know nothing of the label, video by video, or person by person."""
    number, owners = pd.factorize(videos["identities"]) if shared else (np.arange(len(videos)), videos.index)
    n = len(owners)
    table = {
        "duration": rng.choice([2.0, 2.5, 3.0, 4.0], n),
        "frames": rng.integers(50, 120, n).astype(float),
        "width": rng.choice([256.0, 512.0, 1280.0], n),
        "video_codec": rng.choice(["h264", "vp9", "av1"], n, p=[0.6, 0.3, 0.1]),
        "audio_codec": rng.choice(["aac", "opus"], n),
        "sample_rate": rng.choice([44_100.0, 48_000.0], n),
        **{name: rng.lognormal(12, 0.5, n) for name in ("file_size", "video_bit_rate", "audio_bit_rate")},
        **{name: rng.exponential(0.1, n) for name in ("sound_start", "leading_silence", "trailing_silence")},
        **{name: rng.normal(0.5, 0.1, n) for name in ("face_size", "face_coverage", "peak")},
        "loudness": rng.normal(-24, 3, n),
    }
    found = pd.DataFrame({name: values[number] for name, values in table.items()}, index=videos["video_id"])
    return found.astype({"video_codec": object, "audio_codec": object})


def draw_clean(rng: np.random.Generator, count: int) -> Table:
    videos = list_videos(count, people=count // 3)
    return videos, draw_features(videos, rng)


def draw_alike(rng: np.random.Generator, count: int) -> Table:
    videos = list_videos(count, people=count // 4, one_label=True)
    return videos, draw_features(videos, rng, shared=True)


def draw_many_fakes(rng: np.random.Generator, count: int) -> Table:
    videos = list_videos(count, people=count // 10, fakes_each=9)
    return videos, draw_features(videos, rng)


def plant(name: str, value: object, share: float) -> Callable[[np.random.Generator, int], Table]:
    """Return what draws clean data and gives this value to a share of the fakes."""

    def draw(rng: np.random.Generator, count: int) -> Table:
        videos, features = draw_clean(rng, count)
        marked = (videos["label"] == 1).to_numpy() & (rng.random(count) < share)
        return videos, features.assign(**{name: features[name].mask(marked, value)})

    return draw


def shift_fakes(rng: np.random.Generator, count: int) -> Table:
    videos, features = draw_clean(rng, count)
    return videos, features.assign(loudness=features["loudness"] + 3.0 * (videos["label"] == 1).to_numpy())


def mark_person(rng: np.random.Generator, count: int) -> Table:
    """One person in a dozen fakes, with a codec of their own."""
    videos, features = draw_clean(rng, count)
    theirs = videos.index[videos["label"] == 1][: count // 20]
    videos.loc[theirs, "identities"] = "alone"
    return videos, _mark(features, theirs)


def mark_original(rng: np.random.Generator, count: int) -> Table:
    """A dozen fakes made from one video that is not listed, with its codec, of people who are in reals, too."""
    videos, features = draw_clean(rng, count)
    theirs = videos.index[videos["label"] == 1][: count // 20]
    videos.loc[theirs, "original"] = "unlisted"
    return videos, _mark(features, theirs)


def _mark(features: pd.DataFrame, rows: pd.Index) -> pd.DataFrame:
    marked = np.isin(np.arange(len(features)), rows)
    return features.assign(video_codec=features["video_codec"].mask(marked, "theora"))


CASES: dict[str, tuple[Callable[[np.random.Generator, int], Table], str]] = {
    "clean": (draw_clean, ""),
    "clean, a person's clips are alike and of one label": (draw_alike, ""),
    "clean, nine fakes a real": (draw_many_fakes, ""),
    "a codec that 15 % of the fakes have": (plant("video_codec", "hevc", 0.15), "video_codec"),
    "a silence that 18 % of the fakes have": (plant("leading_silence", 1.5, 0.18), "leading_silence"),
    "all fakes 3 dB louder": (shift_fakes, "loudness"),
    "no mark: a person's own codec": (mark_person, "video_codec"),
    "no mark: an original's codec": (mark_original, "video_codec"),
}

if __name__ == "__main__":
    main()
