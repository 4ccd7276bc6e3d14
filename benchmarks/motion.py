"""Does a forged face move as faces do? Learnt from reals alone, asked about a test split's true fakes, by generator.

    python benchmarks/motion.py FOLDER          needs the extra `mesh`: 10 ms a frame, once
    python benchmarks/motion.py FOLDER --val    does not look at the test split, to choose by

FOLDER is that of benchmarks/reals.py. Points of a face mesh, at 25 Hz, are parted into lips and eyelids as the face has
them, and the head: how it rolls, turns, nods and comes nearer. Its shift is left out, as a camera's is. Windows of
a second are described by frequencies of 1 to 6 Hz, which clips of 24 frames a second hold as well as faster ones; what
is slower is left out (benchmarks/motion_signals.py). A score's direction is fixed by reals: how far windows are from
those of training reals (`far`); what a logistic regression says that was taught those and their motion forged
(`forged`); how rare it is to blink so seldom. Last stand facts that are no motion, larger being more suspicious.

AUC with 95 % intervals that resample people: validation reals forged, and encoded coarsely, against themselves (.5: a
score does not mind); test reals, as if they were fakes, against those of validation (.5: it does not mind who films);
each generator against all test reals; all fakes against validation's reals, and against test reals with all clips cut
to 6 s, without shorter ones; sources that hold both.
"""

from __future__ import annotations

import argparse
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from motion_signals import (
    ABOVE,
    LENGTH,
    PARTS,
    RATE,
    RECIPES,
    Motion,
    count_blinks,
    cut_windows,
    describe_window,
    find_power,
    let_tremble,
    part_motion,
)
from scipy.stats import poisson
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from dfmm.extraction.extract import extract_tracks
from dfmm.faces.lips import EYES
from dfmm.manifest import read_manifest
from dfmm.metrics import compute_auc
from dfmm.people import name_people
from dfmm.settings import validate_settings
from dfmm.training.synchrony import read_talks

SLOWEST = 23.5  # frames a second of a clip that is judged
LONG = 6  # seconds to which clips are cut that are to be of one length
MOST = 100  # windows of a person that are learnt from, of each kind: one person has most of them
COARSE = {"crf 28": (480, 28), "crf 40": (480, 40), "144 lines": (144, 28)}  # short side at most, and x264's crf


@dataclass(frozen=True)
class Clip:
    """A clip's stretches of motion, its row in the manifest, and facts that are no motion."""

    motions: list[Motion]
    row: Mapping[str, Any]
    facts: Mapping[str, float]


def read_clips(videos: pd.DataFrame, root: Path, cache: Path, **cure: Any) -> list[Clip]:
    """Return the clips of a manifest that show a face for a second."""
    found = {"synchrony": {"mesh": "always", "phonemes": "never"}, "extract": {"workers": 1}, "cure": cure}
    settings = validate_settings({"data": {"root": str(root), "cache": str(cache)}, **found})
    tracks, _ = extract_tracks(videos.reset_index(drop=True), settings, talks=True)
    clips = []
    for number, (mouths, _) in read_talks(tracks):
        times = tracks.load(number).times
        fps = (len(times) - 1) / max(times[-1] - times[0], 1e-9)
        motions = part_motion(mouths) if fps >= SLOWEST else []
        if motions:
            size = np.nanmedian(np.linalg.norm(mouths.points[:, EYES[0]] - mouths.points[:, EYES[1]], axis=1))
            trembling = np.log(np.mean([find_power(window["firm"], ABOVE).sum() for window in cut_windows(motions)]))
            facts = {"frames a second": fps, "seconds": times[-1], "size of the face": size, "trembling": trembling}
            clips.append(Clip(motions, tracks.manifest.iloc[number].to_dict(), facts))
    return clips


def cut_clips(clips: Sequence[Clip]) -> list[Clip]:
    """Return the first 6 s of those clips that show a face for so long."""
    cut = []
    for clip in clips:
        left, motions = LONG * RATE, []
        for motion in clip.motions:
            motions.append({name: signal[:left] for name, signal in motion.items()})
            left -= len(motions[-1]["eyes"])
        if left == 0:
            whole = [motion for motion in motions if len(motion["eyes"]) >= LENGTH]
            cut.append(replace(clip, motions=whole, facts={**clip.facts, "seconds": LONG}))
    return cut


def describe_clips(clips: Sequence[Clip]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the features of all windows, `[N, F]` for each part, and the number of the clip that each is of."""
    told = [(number, describe_window(one)) for number, clip in enumerate(clips) for one in cut_windows(clip.motions)]
    rows = {part: np.array([one[part] for _, one in told]) for part in PARTS}
    return rows, np.array([number for number, _ in told])


def forge_clips(clips: Sequence[Clip], recipes: Sequence[Callable[..., Motion]], seed: int) -> list[Clip]:
    """Return every clip with its motion forged by each recipe."""
    rng, forged = np.random.default_rng(seed), []

    def forge(recipe: Callable[..., Motion], motion: Motion, other: Motion) -> Motion:
        changed = recipe(motion, rng, other)
        return motion | {name: let_tremble(motion[name], signal, rng) for name, signal in changed.items()}

    for number, clip in enumerate(clips):
        for recipe in recipes:
            other = clips[(number + rng.integers(1, len(clips))) % len(clips)].motions[0]
            forged.append(replace(clip, motions=[forge(recipe, motion, other) for motion in clip.motions]))
    return forged


# What is learnt, and what it says


def learn(rows: np.ndarray, forged: np.ndarray | None = None) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Return what says of windows, `[N, F]`, how suspicious they are: by reals alone, and by their forgeries."""
    scaler = StandardScaler().fit(rows)

    def scale(asked: np.ndarray) -> np.ndarray:
        return np.clip(scaler.transform(asked), -6, 6)

    def square(asked: np.ndarray) -> np.ndarray:  # a forgery may move too much or too little
        return np.concatenate([scale(asked), scale(asked) ** 2], axis=1)

    normal = LedoitWolf().fit(scale(rows))
    ways = {"far": lambda asked: np.sqrt(normal.mahalanobis(scale(asked)))}
    if forged is not None:
        regression = LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000)
        regression.fit(square(np.concatenate([rows, forged])), np.repeat([0, 1], [len(rows), len(forged)]))
        ways["forged"] = lambda asked: regression.decision_function(square(asked))
    return ways


def choose_windows(clips: Sequence[Clip], which: np.ndarray, most: int) -> np.ndarray:
    """Return numbers of windows: all of a person, or as many as are learnt from."""
    people = pd.Series([clips[number].row["person"] for number in which]).sample(frac=1, random_state=0)
    return people.groupby(people).head(most).index.to_numpy()


def learn_parts(clips: Sequence[Clip]) -> dict[str, dict[str, Callable[[np.ndarray], np.ndarray]]]:
    """Return what judges each part of a face, and, as `*facts*`, what is no motion."""
    (rows, which), judges = describe_clips(clips), {}
    chosen = choose_windows(clips, which, MOST)
    for part in PARTS:
        recipes = [recipe for recipe, parts in RECIPES.items() if part in parts]
        forged = forge_clips(clips, recipes, seed=1)
        twins, of = describe_clips(forged)
        judges[part] = learn(rows[part][chosen], twins[part][choose_windows(forged, of, MOST * len(recipes))])
    facts = pd.DataFrame([clip.facts for clip in clips]).to_numpy()
    return judges | {"*facts*": learn(facts)}


def find_rates(clips: Sequence[Clip]) -> np.ndarray:
    """Return the blinks a minute of each person; whose clips are short, nearer to those of all."""
    people = [clip.row["person"] for clip in clips]
    counts = pd.DataFrame([count_blinks(clip.motions) for clip in clips]).groupby(people).sum()
    return ((counts[0] + 1) / (counts[1] + 1 / (counts[0] / counts[1]).mean())).to_numpy()


def score_clips(clips: Sequence[Clip], judges: Mapping[str, Any], rates: np.ndarray) -> pd.DataFrame:
    """Return a row a clip: its scores, larger where more suspicious, its facts, and its `person`."""
    rows, which = describe_clips(clips)
    facts = pd.DataFrame([clip.facts for clip in clips])
    told = {f"{part}, {way}": tell(rows[part]) for part in PARTS for way, tell in judges[part].items()}
    counts = [count_blinks(clip.motions) for clip in clips]
    seldom = [-np.log(poisson.cdf(blinks, rates * minutes).mean()) for blinks, minutes in counts]
    return (
        pd.DataFrame(told)
        .groupby(which)
        .mean()
        .assign(**{"blinks, too few": seldom, **facts, "these facts, far": judges["*facts*"]["far"](facts.to_numpy())})
        .assign(person=[clip.row["person"] for clip in clips])
    )


# Tables


def compare(genuine: pd.DataFrame, suspects: pd.DataFrame, scores: str = "") -> dict[str, str]:
    """Return the AUC of each score whose name begins so, with its interval."""
    both, cells = pd.concat([genuine, suspects], ignore_index=True), {}
    for score in both.columns.drop("person"):
        if score.startswith(scores):
            labels = np.repeat([0, 1], [len(genuine), len(suspects)])
            found = compute_auc(labels, both[score], identities=list(both["person"]))
            cells[score] = f"{found['value']:.3f} [{found['low']:.2f}, {found['high']:.2f}]"
    return cells


def print_table(columns: Mapping[str, Mapping[str, str]]) -> None:
    print(f"\n| | {' | '.join(columns)} |\n| --- {'| --- ' * len(columns)}|")
    for row in dict.fromkeys(name for cells in columns.values() for name in cells):
        print(f"| {row} | {' | '.join(cells.get(row, '–') for cells in columns.values())} |")


def ask_validation(
    read: Callable[..., list[Clip]], score: Callable[[Sequence[Clip]], pd.DataFrame], videos: pd.DataFrame
) -> pd.DataFrame:
    """Print what is said of validation reals, forged and encoded coarsely; return what is said of them as they are."""
    clips, columns = read(videos), {}
    genuine = score(clips)
    for name in ("forged", *(recipe.__name__ for recipe in RECIPES)):
        columns[name] = {}
        for part in PARTS:
            recipes = [one for one, parts in RECIPES.items() if part in parts and name in ("forged", one.__name__)]
            if recipes:
                columns[name] |= compare(genuine, score(forge_clips(clips, recipes, seed=2)), f"{part},")
    for name, (side, crf) in COARSE.items():
        coarse = read(videos, reencode=True, reencode_side=side, reencode_crf=crf)
        columns[name] = compare(genuine, score(coarse))
    print_table(columns)
    return genuine


def ask_test(clips: Sequence[Clip], score: Callable[[Sequence[Clip]], pd.DataFrame], known: pd.DataFrame) -> None:
    """Print what is said of the test split, by generator and within sources, and how often its people blink."""
    told, rows = score(clips), pd.DataFrame([clip.row for clip in clips])
    fake = rows["label"] == 1
    columns = {f"{(~fake).sum()} reals, against {len(known)}": compare(known, told[~fake])}
    for method, chosen in [*told[fake].groupby(rows["method"][fake]), ("all", told[fake])]:
        columns[f"{method} ({len(chosen)})"] = compare(told[~fake], chosen)
    columns[f"all ({fake.sum()}), against validation's {len(known)}"] = compare(known, told[fake])
    of_one_length = [cut_clips([clip for clip in clips if clip.row["label"] == label]) for label in (0, 1)]
    if all(of_one_length):
        name = "{1} and {0} reals, {2} s of each".format(*map(len, of_one_length), LONG)
        columns[name] = compare(*map(score, of_one_length))
    for source in rows["source"][fake].unique():
        reals, fakes = (told[(rows["source"] == source) & (fake == of)] for of in (False, True))
        if min(len(reals), len(fakes)) > 1:
            columns[f"{len(fakes)} and {len(reals)} of {source}"] = compare(reals, fakes)
    print_table(columns)
    counts = pd.DataFrame([count_blinks(clip.motions) for clip in clips]).groupby(rows["method"]).sum()
    told = [f"{name} {row[0] / row[1]:.0f} in {row[1]:.1f}" for name, row in counts.iterrows()]
    print(f"\nBlinks a minute, and in how many: {', '.join(told)}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with a manifest.csv")
    parser.add_argument("--val", action="store_true", help="do not look at the test split")
    parser.add_argument("--cache", type=Path, default=Path("outputs/reals/cache"), help="(default %(default)s)")
    options = parser.parse_args()
    logging.basicConfig(level="WARNING")
    root = options.folder.resolve()
    manifest = read_manifest(root / "manifest.csv", root)
    manifest = manifest.assign(person=name_people(manifest))
    train, val = (manifest[(manifest["split"] == name) & (manifest["label"] == 0)] for name in ("train", "val"))
    read = functools.partial(read_clips, root=root, cache=options.cache.resolve())
    lessons = read(train)
    rates = find_rates(lessons)
    score = functools.partial(score_clips, judges=learn_parts(lessons), rates=rates)
    told = f"{rates.min():.0f} to {rates.max():.0f} times a minute"
    print(f"Learnt from {len(lessons)} reals of {len(rates)} people who blink {told}")
    known = ask_validation(read, score, val)
    if not options.val:
        ask_test(read(manifest[manifest["split"] == "test"]), score, known)


if __name__ == "__main__":
    main()
