"""What each video of a sample is to be: whose, said and moved how, forged how, in which split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import cycle

import numpy as np
from numpy.random import Generator

from dfmm.manifest import format_segments
from dfmm.sample import portrait, voice
from dfmm.sample.acting import FPS
from dfmm.sample.voice import Voice

SPLITS = {"train": 0.50, "val": 0.16, "test": 0.34}  # shares of the videos
REALS = 0.4  # share in each split
IDENTITIES = 0.16  # for each video
FEWEST_PEOPLE = 5  # in a split with as many reals: fewer say next to nothing about others

SINGLES = ("blend", "lipsync", "vocoder", "desync")
PAIRS = ("blend+vocoder", "lipsync+vocoder", "blend+desync", "vocoder+desync")
# The order in which a split gets its fakes, over and over: singles first, and three of them for each pair.
ROUND = (*SINGLES, PAIRS[0], *SINGLES[:3], PAIRS[1], SINGLES[3], *SINGLES[:2], PAIRS[2], *SINGLES[2:], PAIRS[3])

FRAMES = (50, 65)  # fewest and most of a video: 2 to 2.6 seconds
ANOTHER_VOICE = 1 / 3  # share of `desync` that has another speaker's sound, not its own moved
STRETCHED = ("blend", "lipsync", "vocoder")  # of which one in so many is forged in a stretch only:
ONE_IN = 4
STRETCH = (0.4, 0.6)  # share of the clip
SHORTEST_STRETCH = 0.8  # seconds


@dataclass(frozen=True)
class Recipe:
    """What one video is made of."""

    number: int
    split: str
    method: str
    original: int  # number of the real video whose person, movements and speech it has: itself for a real one
    person: int
    quality: tuple[float, float, float]  # places within the ranges of loudness, crest and CRF, each 0 to 1
    donor: int | None = None  # the other identity a forgery borrows a face or a voice from
    stretch: tuple[int, int] | None = None  # the first frame that is forged and the first that no longer is; None: all

    @property
    def parts(self) -> list[str]:
        return self.method.split("+")

    @property
    def borrows_voice(self) -> bool:
        return self.method == "desync" and self.donor is not None

    @property
    def video_id(self) -> str:
        return name_video(self.split, self.number)

    @property
    def path(self) -> str:
        return f"{self.video_id}.mp4"


def plan_sample(videos: int, *, seed: int) -> list[Recipe]:
    """Draw up all recipes; splits share no identity, and a fake is made from a real of its split."""
    recipes: list[Recipe] = []
    people = 0
    counts = {split: round(share * videos) for split, share in SPLITS.items()}
    counts["train"] += videos - sum(counts.values())
    for split, count in counts.items():
        reals = max(1, round(REALS * count))
        cast = range(people, people + max(2, min(FEWEST_PEOPLE, reals), round(IDENTITIES * count)))
        people = cast.stop
        recipes += _plan_split(split, count, reals, len(recipes), cast, seed_chance(seed, "plan", len(recipes)))
    return _shorten_some(recipes, seed=seed)


def _shorten_some(recipes: list[Recipe], *, seed: int) -> list[Recipe]:
    """Let some forgeries have a stretch only, in each split: the second of a method, and every fourth after it."""
    seen: Counter[tuple[str, str]] = Counter()
    chosen = []
    for recipe in recipes:
        seen[recipe.split, recipe.method] += 1
        turn = recipe.method in STRETCHED and seen[recipe.split, recipe.method] % ONE_IN == 2
        chosen.append(replace(recipe, stretch=draw_stretch(recipe, seed=seed)) if turn else recipe)
    return chosen


def draw_stretch(recipe: Recipe, *, seed: int) -> tuple[int, int]:
    """Draw from which frame to before which one a clip is forged."""
    rng, frames = seed_chance(seed, "stretch", recipe.number), set_scene(recipe, seed=seed)[1]
    length = max(round(rng.uniform(*STRETCH) * frames), round(SHORTEST_STRETCH * FPS))
    first = int(rng.integers(frames - length, endpoint=True))
    return first, first + length


def _plan_split(split: str, count: int, reals: int, first: int, cast: range, rng: Generator) -> list[Recipe]:
    """Draw up one split's recipes, numbered from `first`, reals and fakes well mixed."""
    numbers = (first + rng.permutation(count)).tolist()
    deal = _deal_quality(rng)
    plan = [
        Recipe(number, split, "real", original=number, person=person, quality=deal("real"))
        for number, person in zip(numbers[:reals], cycle(cast), strict=False)
    ]
    fakes = zip(numbers[reals:], cycle(ROUND), cycle(rng.permutation(reals)), strict=False)
    for number, method, index in fakes:
        real = plan[index]
        others = [person for person in cast if person != real.person]
        needs_other = "blend" in method or (method == "desync" and rng.random() < ANOTHER_VOICE)
        donor = int(rng.choice(others)) if needs_other else None
        plan.append(replace(real, number=number, method=method, quality=deal(method), donor=donor))
    return sorted(plan, key=lambda recipe: recipe.number)


def _deal_quality(rng: Generator) -> Callable[[str], tuple[float, float, float]]:
    """Return a function that deals out qualities to the videos of each method, evenly however few they are.

    Drawn at random, a few dozen fakes could well be louder than the reals, which would be a shortcut.
    """
    steps = 1.2207440846 ** -np.arange(1, 4)  # of Roberts' R3 sequence, which fills the cube without clumps
    places: dict[str, np.ndarray] = {}

    def deal(method: str) -> tuple[float, float, float]:
        places[method] = (places.get(method, rng.random(3)) + steps) % 1
        return tuple(places[method].tolist())

    return deal


def name_video(split: str, number: int) -> str:
    return f"{split}/{number:04d}"


def describe_video(recipe: Recipe) -> dict[str, str | int]:
    """A video's row of the manifest."""
    people = [recipe.person] if recipe.donor is None else [recipe.person, recipe.donor]
    parts = recipe.parts
    in_sync = int("desync" not in parts)
    video_fake, audio_fake = bool({"blend", "lipsync"} & set(parts)), "vocoder" in parts
    segments = format_segments([np.divide(recipe.stretch, FPS)]) if recipe.stretch else ""
    unforged = 0 if in_sync else -1  # which of two streams out of step is the false one, nobody can say
    return {
        "video_id": recipe.video_id,
        "path": recipe.path,
        "split": recipe.split,
        "label": int(recipe.method != "real"),
        "video_fake": 1 if video_fake else unforged,
        "audio_fake": 1 if audio_fake else unforged,
        "in_sync": in_sync,
        "method": recipe.method,
        "identities": "|".join(f"person{who:03d}" for who in people),
        "original": "" if recipe.method == "real" else name_video(recipe.split, recipe.original),
        "video_segments": segments if video_fake else "",
        "audio_segments": segments if audio_fake else "",
        "dataset": "sample",
        "source": "synthetic",
    }


def set_scene(recipe: Recipe, *, seed: int) -> tuple[portrait.Stage, int, Generator]:
    """Return the stage of a recipe's scene, its number of frames, and what all else in it is drawn with."""
    rng = seed_chance(seed, "scene", recipe.original)
    stage = portrait.invent_stage(rng)
    return stage, int(rng.integers(*FRAMES, endpoint=True)), rng


def cast_look(person: int, *, seed: int) -> portrait.Look:
    return portrait.invent_look(seed_chance(seed, "look", person))


def cast_voice(person: int, *, seed: int) -> Voice:
    return voice.invent_voice(seed_chance(seed, "voice", person))


def seed_chance(seed: int, purpose: str, number: int) -> Generator:
    """Chance of its own for each purpose and video, so that neither order nor workers matter."""
    return np.random.default_rng([seed, *purpose.encode(), number])
