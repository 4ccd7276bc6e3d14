"""Synthetic talking heads, real and forged, as mp4 files with a manifest: the embedded default data."""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.random import Generator

from dfmm.manifest import complete_manifest, format_segments, write_manifest
from dfmm.media.decode import read_media
from dfmm.media.encode import write_video
from dfmm.media.sound import set_level
from dfmm.processes import hide_main
from dfmm.runs import show_progress, write_json
from dfmm.sample import acting, portrait, voice
from dfmm.sample.acting import FPS, Action, Motion
from dfmm.sample.portrait import Head
from dfmm.sample.voice import SAMPLE_RATE, Voice

__all__ = ["make_sample"]

VERSION = 2  # of what is made: to be raised whenever the same seed gives other files
SPLITS = {"train": 0.50, "val": 0.16, "test": 0.34}  # shares of the videos
REALS = 0.4  # share in each split
IDENTITIES = 0.16  # for each video
FEWEST_PEOPLE = 5  # in a split with as many reals: fewer say next to nothing about others
FEWEST_VIDEOS = 12  # with fewer, a split could lack reals or fakes

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
FADE = 0.01  # seconds over which sound goes over into forged sound and back: without a click
SHIFT = (0.12, 0.60)  # seconds by which sound is moved to put it out of step
MARGIN = 0.7  # seconds of speech before and after the part that is used, so that moving it uncovers no silence
FIRST_CRF, LAST_CRF = (18, 24), (18, 26)  # lowest and highest of the two encodings that every video goes through
SOUND_BIT_RATE = 40_000  # low enough for the encoder to keep to it: above it would spend more on vocoded sound
FIRST_LEVEL = {"loudness": -20.0, "crest": 13.5}  # dB
LAST_LOUDNESS, LAST_CREST = (-28.0, -20.0), (11.0, 14.5)  # dB


class SampleError(ValueError):
    """A sample that cannot be drawn as asked; the message says what to change."""


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


@dataclass(frozen=True)
class Take:
    """A scene before the camera: who, where, how moved and what was said, `MARGIN` before and after included."""

    head: Head
    motion: Motion
    voice: Voice
    speech: np.ndarray  # float32 [S]
    noise: float  # of the room, dB below the speech
    lag: float  # seconds by which the mouth follows the sound
    crf: int

    @property
    def seconds(self) -> float:
        return len(self.motion) / FPS


def make_sample(
    root: str | Path, *, videos: int = 320, seed: int = 0, workers: int | None = None, progress: bool = True
) -> Path:
    """Write a sample of synthetic talking heads, mp4 files and `manifest.csv`, and return the manifest's path.

    The same seed gives the same files. The manifest comes last, so where it is the sample is complete; called
    again after a kill, only missing files are made.

    Args:
        root: folder of the sample; videos go to `root/<split>/<number>.mp4`.
        videos: how many, reals and fakes together.
        workers: processes; one a core unless given, and 1 works without starting any.
    """
    root = Path(root)
    claim_folder(root, videos=videos, seed=seed)
    recipes = plan_sample(videos, seed=seed)
    missing = [recipe for recipe in recipes if not (root / recipe.path).is_file()]
    target = root / "manifest.csv"
    if not missing and target.is_file():
        return target
    target.unlink(missing_ok=True)
    make = partial(make_video, root=root, seed=seed)
    done = _work_off(make, missing, workers=workers or os.cpu_count() or 1)
    for _ in show_progress(done, "drawing", unit="video", total=len(missing), show=progress):
        pass
    for left in root.glob("*/.*.partial*"):  # by a run that was killed
        left.unlink()
    table = pd.DataFrame([describe_video(recipe) for recipe in recipes])
    return write_manifest(complete_manifest(table), target)


def claim_folder(root: Path, *, videos: int, seed: int) -> None:
    """Note in `root/sample.json` which sample the folder holds; raise if it holds another."""
    if videos < FEWEST_VIDEOS:
        raise SampleError(
            f"a sample needs at least {FEWEST_VIDEOS} videos to have both labels in each split, got {videos}"
        )
    wanted = {"version": VERSION, "videos": videos, "seed": seed}
    note = root / "sample.json"
    if note.is_file():
        found = json.loads(note.read_text())
        if found != wanted:
            raise SampleError(f"{root} holds another sample: {found}, wanted {wanted}; choose or empty a folder")
    elif (root / "manifest.csv").exists():
        raise SampleError(f"{root} holds a manifest.csv but no sample.json: other data; choose another folder")
    else:
        root.mkdir(parents=True, exist_ok=True)
        write_json(wanted, note)


# What to make


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
        recipes += _plan_split(split, count, reals, len(recipes), cast, _seeded(seed, "plan", len(recipes)))
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
    rng, frames = _seeded(seed, "stretch", recipe.number), set_scene(recipe, seed=seed)[1]
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


# One video


def make_video(recipe: Recipe, *, root: Path, seed: int) -> Path:
    """Act, record, forge, encode. Reals go through all of it but the forging, and so does what is beside a stretch."""
    take = act_scene(recipe, seed=seed)
    rng = _seeded(seed, "forge", recipe.number)
    speech, shift = choose_speech(recipe, take, rng, seed=seed)
    action = acting.act(take.head, take.motion, move_mouth(take, take.speech))
    frames, sound = record_scene(take, action, speech, shift=shift, rng=rng)
    recorded = frames.copy(), sound
    if "blend" in recipe.parts:
        blend_face(frames, take, action, cast_look(recipe.donor, seed=seed), rng)
    if "lipsync" in recipe.parts:
        redraw_mouth(frames, take, move_mouth(take, speech), rng)
    if "vocoder" in recipe.parts:
        sound = vocode_sound(sound, rng)
    if recipe.stretch:
        first, after = recipe.stretch
        frames[:first], frames[after:] = recorded[0][:first], recorded[0][after:]
        sound = splice_sound(recorded[1], sound, start=first / FPS, end=after / FPS)
    return finish_video(root / recipe.path, frames, sound, recipe.quality)


def act_scene(recipe: Recipe, *, seed: int) -> Take:
    """Act the scene of a recipe's original: a fake and its original are the same scene."""
    stage, frames, rng = set_scene(recipe, seed=seed)
    speaker = cast_voice(recipe.person, seed=seed)
    return Take(
        head=portrait.paint_head(cast_look(recipe.person, seed=seed), stage),
        motion=acting.invent_motion(rng, frames),
        voice=speaker,
        speech=voice.speak(speaker, frames / FPS + 2 * MARGIN, rng),
        noise=rng.uniform(32, 48),
        lag=rng.uniform(0.0, 0.03),
        crf=int(rng.integers(*FIRST_CRF, endpoint=True)),
    )


def set_scene(recipe: Recipe, *, seed: int) -> tuple[portrait.Stage, int, Generator]:
    """Return the stage of a recipe's scene, its number of frames, and what all else in it is drawn with."""
    rng = _seeded(seed, "scene", recipe.original)
    stage = portrait.invent_stage(rng)
    return stage, int(rng.integers(*FRAMES, endpoint=True)), rng


def choose_speech(recipe: Recipe, take: Take, rng: Generator, *, seed: int) -> tuple[np.ndarray, float]:
    """Choose what is heard: speech as long as the take's, and by how many seconds it is moved."""
    length = take.seconds + 2 * MARGIN
    if "lipsync" in recipe.parts:
        words = voice.speak(take.voice, length, rng)
        if recipe.stretch:
            start, end = (MARGIN + frame / FPS for frame in recipe.stretch)
            words = splice_sound(take.speech, words, start=start, end=end)
        return words, 0.0
    if "desync" not in recipe.parts:
        return take.speech, 0.0
    if recipe.borrows_voice:
        return voice.speak(cast_voice(recipe.donor, seed=seed), length, rng), 0.0
    return take.speech, rng.uniform(*SHIFT) * rng.choice([-1, 1])


def move_mouth(take: Take, speech: np.ndarray) -> np.ndarray:
    """How far the mouth is open in each frame, 0 to 1, `[N]`: it follows the loudness."""
    middles = (np.arange(len(take.motion)) + 0.5) / FPS
    loudness = voice.measure_loudness(speech, MARGIN + middles - take.lag)
    full = voice.measure_speech(speech) * 1.5
    return np.clip(loudness / full, 0, 1) ** 0.7


def record_scene(
    take: Take, action: Action, speech: np.ndarray, *, shift: float, rng: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Film a take: frames `[N, SIZE, SIZE, 3]` and sound `[S]` as they come back from a first encoding."""
    frames = acting.draw_clip(take.head, action)
    acting.add_grain(frames, take.head.stage)
    first, length = round((MARGIN + shift) * SAMPLE_RATE), round(take.seconds * SAMPLE_RATE)
    sound = voice.add_room(speech, noise=take.noise, rng=rng)[first : first + length]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "camera.mp4"
        _encode(path, frames, set_level(sound, **FIRST_LEVEL), crf=take.crf)
        media = read_media(path, keep=lambda number: True, sample_rate=SAMPLE_RATE)
    return np.stack([*media.frames.values()]), media.sound.cut(0, take.seconds)[0]


def finish_video(path: Path, frames: np.ndarray, sound: np.ndarray, quality: tuple[float, float, float]) -> Path:
    """Encode what is done, the same way for reals and fakes.

    Forged faces are smoother and vocoded sound is less peaky, so they would show in the size of the file and in
    the peak. Level, crest and quality vary by video instead, over ranges far wider than what forging does to them.
    """
    ranges = (LAST_LOUDNESS, LAST_CREST, LAST_CRF)
    loudness, crest, crf = (low + place * (high - low) for place, (low, high) in zip(quality, ranges, strict=True))
    return _encode(path, frames, set_level(sound, loudness=loudness, crest=crest), crf=round(crf))


def _encode(path: Path, frames: np.ndarray, sound: np.ndarray, *, crf: int) -> Path:
    return write_video(path, frames, fps=FPS, sound=sound, crf=crf, sound_bit_rate=SOUND_BIT_RATE)


# Forgeries


def blend_face(frames: np.ndarray, take: Take, action: Action, look: portrait.Look, rng: Generator) -> None:
    """Swap the face, in place, for another identity's in the same pose: resampled, off in colour, softly masked."""
    other = portrait.paint_head(look, take.head.stage)
    faces = acting.draw_clip(other, action)
    region = acting.draw_region((0, 0.17), (rng.uniform(0.42, 0.48), rng.uniform(0.50, 0.56)), softness=0.3)
    masks = acting.draw_masks(region, action)
    tone = _match_tone(faces, frames, masks) * _miss_tone(rng, 0.08)
    _lay_over(frames, faces, masks, tone=tone, factor=rng.uniform(2.4, 3.6))


def redraw_mouth(frames: np.ndarray, take: Take, mouth: np.ndarray, rng: Generator) -> None:
    """Draw the mouth anew, in place, to follow other speech: resampled, a little off in colour, softly masked."""
    action = acting.act(take.head, take.motion, mouth)
    faces = acting.draw_clip(take.head, action)
    centre = (0, portrait.find_mouth(take.head.look) + 0.10)
    region = acting.draw_region(centre, (rng.uniform(0.36, 0.42), rng.uniform(0.34, 0.40)), softness=0.4)
    masks = acting.draw_masks(region, action)
    _lay_over(frames, faces, masks, tone=_miss_tone(rng, 0.06), factor=rng.uniform(2.2, 3.2))


def splice_sound(sound: np.ndarray, other: np.ndarray, *, start: float, end: float) -> np.ndarray:
    """Put a stretch of another sound into a sound, both `[S]`, from one second to another."""
    time = np.arange(len(sound)) / SAMPLE_RATE
    share = (np.minimum(time - start, end - time) / FADE + 0.5).clip(0, 1)
    return (sound + share * (other - sound)).astype(np.float32)


def vocode_sound(sound: np.ndarray, rng: Generator) -> np.ndarray:
    """Rebuild sound `[S]` from a mel spectrogram; settings vary, so that no single vocoder is learned."""
    return voice.revoice(
        sound,
        rng,
        bands=int(rng.integers(48, 80, endpoint=True)),
        window=int(rng.choice([384, 512, 640])),
        rounds=int(rng.integers(2, 12, endpoint=True)),
    )


def _lay_over(
    frames: np.ndarray, faces: np.ndarray, masks: list[np.ndarray], *, tone: np.ndarray, factor: float
) -> None:
    """Lay faces over frames, both uint8 `[N, H, W, 3]`, in place, where masks `[H, W]` are 1.

    Args:
        tone: factors `[3]` on the faces' colours.
        factor: by which the faces are scaled down and up again, as a generator of low resolution leaves them.
    """
    table = np.clip(np.arange(256)[:, None] * tone + 0.5, 0, 255).astype(np.uint8)[:, None]
    size = frames.shape[2], frames.shape[1]
    small = round(size[0] / factor), round(size[1] / factor)
    for frame, face, mask in zip(frames, faces, masks, strict=True):
        face = cv2.resize(cv2.LUT(face, table), small, interpolation=cv2.INTER_AREA)
        face = cv2.resize(face, size, interpolation=cv2.INTER_LINEAR)
        cv2.blendLinear(frame, face, 1 - mask, mask, dst=frame)


def _match_tone(faces: np.ndarray, frames: np.ndarray, masks: list[np.ndarray]) -> np.ndarray:
    """Factors `[3]` that give faces the mean colour of the frames under the masks."""
    some = slice(None, None, 10)
    weights = np.stack(masks[some])[..., None]
    return (frames[some] * weights).sum((0, 1, 2)) / np.maximum((faces[some] * weights).sum((0, 1, 2)), 1)


def _miss_tone(rng: Generator, spread: float) -> np.ndarray:
    """Factors `[3]` that leave a colour a little wrong: off 1 by a half to a whole `spread`."""
    return 1 + rng.choice([-1, 1], 3) * rng.uniform(0.5 * spread, spread, 3)


# The cast, chance, files and processes


def cast_look(person: int, *, seed: int) -> portrait.Look:
    return portrait.invent_look(_seeded(seed, "look", person))


def cast_voice(person: int, *, seed: int) -> Voice:
    return voice.invent_voice(_seeded(seed, "voice", person))


def _seeded(seed: int, purpose: str, number: int) -> Generator:
    """Chance of its own for each purpose and video, so that neither order nor workers matter."""
    return np.random.default_rng([seed, *purpose.encode(), number])


def _work_off(make: partial, recipes: list[Recipe], *, workers: int) -> Iterator[Path]:
    """Make videos in any order, in this process or several, and yield their paths."""
    if workers == 1 or len(recipes) < 2:
        yield from map(make, recipes)
        return
    # Spawned, not forked: a fork of a process with threads (PyTorch, OpenCV) may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(recipes)), context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        with hide_main():
            futures = [pool.submit(make, recipe) for recipe in recipes]
        try:
            yield from (future.result() for future in as_completed(futures))
        finally:
            pool.shutdown(cancel_futures=True)
