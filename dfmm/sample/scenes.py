"""One scene before the camera: acted, recorded, and encoded as every video of a sample is."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator

from dfmm.media.decode import read_media
from dfmm.media.encode import write_video
from dfmm.media.sound import set_level
from dfmm.sample import acting, portrait, voice
from dfmm.sample.acting import FPS, Action, Motion
from dfmm.sample.portrait import Head
from dfmm.sample.recipes import Recipe, cast_look, cast_voice, set_scene
from dfmm.sample.voice import SAMPLE_RATE, Voice

MARGIN = 0.7  # seconds of speech before and after the part that is used, so that moving it uncovers no silence
FIRST_CRF, LAST_CRF = (18, 24), (18, 26)  # lowest and highest of the two encodings that every video goes through
SOUND_BIT_RATE = 40_000  # low enough for the encoder to keep to it: above it would spend more on vocoded sound
FIRST_LEVEL = {"loudness": -20.0, "crest": 13.5}  # dB
LAST_LOUDNESS, LAST_CREST = (-28.0, -20.0), (11.0, 14.5)  # dB


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
