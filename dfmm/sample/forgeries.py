"""What is forged in a recorded scene: the face, the mouth, the voice, or which sound goes with it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

from dfmm.sample import acting, portrait, voice
from dfmm.sample.acting import FPS, Action
from dfmm.sample.recipes import Recipe, cast_voice
from dfmm.sample.scenes import MARGIN, Take
from dfmm.sample.voice import SAMPLE_RATE

FADE = 0.01  # seconds over which sound goes over into forged sound and back: without a click
SHIFT = (0.12, 0.60)  # seconds by which sound is moved to put it out of step


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
