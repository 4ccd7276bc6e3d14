"""Synthetic talking heads, real and forged, as mp4 files with a manifest: the embedded default data."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path

import cv2
import pandas as pd

from dfmm.bars import show_progress
from dfmm.files import write_json
from dfmm.manifest import complete_manifest, write_manifest
from dfmm.processes import hide_main
from dfmm.sample import acting
from dfmm.sample.acting import FPS
from dfmm.sample.forgeries import blend_face, choose_speech, redraw_mouth, splice_sound, vocode_sound
from dfmm.sample.recipes import Recipe, cast_look, describe_video, plan_sample, seed_chance
from dfmm.sample.scenes import act_scene, finish_video, move_mouth, record_scene

__all__ = ["make_sample"]

VERSION = 2  # of what is made: to be raised whenever the same seed gives other files
FEWEST_VIDEOS = 12  # with fewer, a split could lack reals or fakes


class SampleError(ValueError):
    """A sample that cannot be drawn as asked; the message says what to change."""


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


def make_video(recipe: Recipe, *, root: Path, seed: int) -> Path:
    """Act, record, forge, encode. Reals go through all of it but the forging, and so does what is beside a stretch."""
    take = act_scene(recipe, seed=seed)
    rng = seed_chance(seed, "forge", recipe.number)
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
