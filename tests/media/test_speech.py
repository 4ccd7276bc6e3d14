"""What is said when: rows are where the sound is, a voice is told from silence and noise, stretches join."""

from __future__ import annotations

import numpy as np
import pytest

from dfmm.media.sound import Sound
from dfmm.media.speech import (
    BANDS,
    MEL_RATE,
    describe_speech,
    has_phonemes,
    measure_log_mel,
    recognise_phonemes,
)
from tests.conftest import hum


def beep(at: float, seconds: float = 2.0, hertz: float = 1000.0, sample_rate: int = 16_000) -> np.ndarray:
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    return (0.3 * np.sin(2 * np.pi * hertz * time) * (np.abs(time - at) < 0.05)).astype(np.float32)


@pytest.mark.parametrize("sample_rate", [16_000, 44_100, 8_000])
def test_a_beep_is_in_the_rows_where_it_is_heard(sample_rate: int) -> None:
    speech = describe_speech(Sound(beep(1.2, sample_rate=sample_rate), sample_rate, -0.25))
    energy = np.exp(speech.log_mel).sum(axis=1)
    middle = (energy * np.arange(len(energy))).sum() / energy.sum() / MEL_RATE
    assert speech.start + middle == pytest.approx(1.2 - 0.25, abs=0.005)
    assert speech.end == pytest.approx(2 - 0.25, abs=0.02)


def test_a_tone_is_in_the_band_of_its_pitch() -> None:
    loudest = [measure_log_mel(beep(1, hertz=hertz))[100].argmax() for hertz in (150, 500, 1500, 5000)]
    assert loudest == sorted(set(loudest))
    assert loudest[-1] < BANDS


def test_a_voice_is_told_from_silence_and_noise() -> None:
    voice = hum(2.0, 16_000)
    quiet = np.concatenate([np.zeros(16_000, np.float32), voice, np.zeros(16_000, np.float32)])
    found = describe_speech(Sound(quiet, 16_000, 0.0)).find_voice()
    assert not found[:95].any()
    assert not found[305:].any()
    assert found[105:295].mean() > 0.4
    noise = np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32)
    assert describe_speech(Sound(noise, 16_000, 0.0)).find_voice().mean() < 0.05
    assert not describe_speech(Sound(np.zeros(16_000, np.float32), 16_000, 0.0)).find_voice().any()


def test_no_sound_is_no_speech() -> None:
    assert describe_speech(None) is None
    assert describe_speech(Sound(np.zeros(0, np.float32), 16_000, 0.0)) is None
    assert describe_speech(Sound(np.zeros(3, np.float32), 16_000, 0.0)).log_mel.shape[1] == BANDS


@pytest.mark.skipif(not has_phonemes(), reason="the extra `phonemes` is not installed")
def test_phonemes_of_a_long_sound_are_those_of_its_parts() -> None:
    sound = np.concatenate([hum(2.0, 16_000)] * 17)
    told = recognise_phonemes(sound)
    assert abs(len(told) - len(sound) / 320) <= 1
    assert np.allclose(np.exp(told).sum(axis=1), 1, atol=1e-3)
    assert np.isfinite(describe_speech(Sound(sound[:100], 16_000, 0.0), phonemes=True).phonemes).all()
