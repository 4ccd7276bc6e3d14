"""What gives a forged window away must be the forgery: nothing trivial tells it from a real."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest

from dfmm.audit.shortcuts import assign_folds, score_together
from dfmm.degrade import Scene
from dfmm.faces.detect import load_detector
from dfmm.forge import METHODS, Take, disguise_window, forge_window
from dfmm.media.sound import set_level
from dfmm.metrics import compute_auc
from dfmm.sample import acting, portrait
from dfmm.sample import voice as voices

from .test_forge import RATE, SIZE, T, make_take


def describe_window(scene: Scene) -> dict[str, float]:
    """What is no evidence of a forgery: how a window looks and sounds on the whole.

    Evidence is what does not fit together within it: a seam, a face sharper or of another colour than what is around
    it, phases that no voice has, a cut from one voice to another, lips and sound that move apart.
    """
    grey = scene.frames.astype(np.float32).mean(axis=-1)
    edges = np.stack([cv2.Laplacian(one, cv2.CV_32F) for one in grey])
    powers = np.abs(np.fft.rfft(scene.samples)) ** 2
    hertz = np.fft.rfftfreq(len(scene.samples), 1 / scene.sample_rate)
    level = float(np.sqrt(np.mean(scene.samples**2)))
    loud = np.abs(scene.samples) > 5e-4
    return {
        **dict(zip(("red", "green", "blue"), scene.frames.mean(axis=(0, 1, 2)).tolist(), strict=True)),
        "contrast": float(grey.std()),
        "sharpness": float(np.log(edges.var())),
        "noise": float(np.median(np.abs(np.diff(grey, axis=0)))),
        "loudness": 20 * float(np.log10(max(level, 1e-6))),
        "peak": float(np.abs(scene.samples).max()),
        "crest": float(np.abs(scene.samples).max() / max(level, 1e-6)),
        "centroid": float((powers * hertz).sum() / powers.sum()),
        "leading_silence": float(loud.argmax()) if loud.any() else float(len(loud)),
    }


CLIPS, STARTS = 40, (0, 5, 10)  # people, and the frames with which windows of their clips begin


@pytest.fixture(scope="module")
def takes() -> dict[tuple[int, int], Take]:
    """Windows of synthetic people at 12.5 fps, by person and start: none went through a codec."""
    detect, found = load_detector("retinaface"), {}
    for person in range(CLIPS):
        rng = np.random.default_rng(person)
        frames, sound = film_person(rng, 2 * (STARTS[-1] + T))
        faces = detect(list(frames))
        crops, landmarks = crop_person(frames, np.stack([face[0] if len(face) else faces[0][0] for face in faces]))
        for start in STARTS:
            first, steps = round(start / 12.5 * RATE), slice(start, start + T)
            heard = sound[first : first + round(T / 12.5 * RATE)]
            found[person, start] = make_take(crops[steps], landmarks[steps], heard, at=start / 12.5)
    return found


def film_person(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw somebody who speaks, every other of so many frames at 25 fps, and record it."""
    head = portrait.paint_head(portrait.invent_look(rng), portrait.invent_stage(rng))
    speech = voices.speak(voices.invent_voice(rng), count / acting.FPS, rng)
    loudness = voices.measure_loudness(speech, (np.arange(count) + 0.5) / acting.FPS)
    mouth = np.clip(loudness / (1.5 * voices.measure_speech(speech)), 0, 1) ** 0.7
    frames = acting.draw_clip(head, acting.act(head, acting.invent_motion(rng, count), mouth))
    acting.add_grain(frames, head.stage)
    sound = voices.add_room(speech, noise=rng.uniform(32, 48), rng=rng)
    return frames[::2], set_level(sound, loudness=rng.uniform(-28, -20), crest=rng.uniform(11, 14.5))


def crop_person(frames: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return crops around the first frame's face, and landmarks in them, of detections `[N, 15]`."""
    left, top, right, bottom = faces[0, :4]
    scale = SIZE / (1.3 * max(right - left, bottom - top))
    shift = SIZE / 2 - scale * np.array([left + right, top + bottom]) / 2
    matrix = np.column_stack([scale * np.eye(2), shift])
    crops = [cv2.warpAffine(one, matrix, (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE) for one in frames]
    return np.stack(crops), faces[:, 5:].reshape(-1, 5, 2) * scale + shift


def choose_other(method: str, takes: dict[tuple[int, int], Take], person: int, start: int, seed: int) -> Take | None:
    """Return the other window that a method needs: a later or an earlier one, or another person's."""
    if METHODS[method].other == "voice":
        return takes[(person + 1 + seed % (CLIPS - 1)) % CLIPS, start]
    if METHODS[method].other != "moment":
        return None
    later = STARTS[(STARTS.index(start) + 1 + seed % 2) % 3]
    other = takes[person, later]
    return Take(replace(other.scene, shows=takes[person, start].scene.shows), other.landmarks)


def compare_windows(reals: list[Scene], fakes: list[Scene]) -> dict[str, float]:
    """Return the AUC of a trivial classifier that is tested on people it has not met."""
    features = pd.DataFrame([describe_window(scene) for scene in reals + fakes])
    labels = pd.Series(np.repeat([0, 1], len(reals)))
    people = pd.Series(np.tile(np.repeat(np.arange(CLIPS), len(STARTS)), 2).astype(str))
    scores = score_together(features, labels, assign_folds(labels, people))
    return compute_auc(labels, scores, identities=list(people), replicates=200)


# What trivial features tell of forgeries that are resampled or spoken anew, at most: measured .60 [.50, .68] and
# .73 [.64, .81]. Their sharpness and noise are what the forgery leaves, but a detector of these alone would pass.
TOLD = {"patch": 0.7, "predict": 0.85}


@pytest.mark.slow
# A picture that is drawn anew has another texture: sharpness and noise are its traces.
@pytest.mark.parametrize("method", [*(method for method in METHODS if method != "redraw"), "louder"])
def test_nothing_trivial_tells_a_forged_window(method: str, takes: dict[tuple[int, int], Take]) -> None:
    reals, fakes = [], []
    for number, ((person, start), take) in enumerate(takes.items()):
        reals.append(disguise_window(take.scene, "real", np.random.default_rng((0, number)), coarse=method == "patch"))
        if method == "louder":  # what a shortcut would look like
            fakes.append(replace(reals[-1], samples=1.7 * reals[-1].samples))
            continue
        other = choose_other(method, takes, person, start, number)
        forgery = forge_window(method, take, other, np.random.default_rng((1, number)))
        assert forgery.method == method
        fakes.append(disguise_window(forgery.scene, method, np.random.default_rng((2, number))))
    auc = compare_windows(reals, fakes)
    if method in TOLD:
        assert auc["value"] < TOLD[method], auc
    else:
        assert (auc["low"] > 0.5) == (method == "louder"), auc
