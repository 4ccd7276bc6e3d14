"""Voices spoken anew: the same is said as loudly, at the pitch that was drawn, by other waves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import lfilter

from dfmm.forge.voice import ORDERS, Speaker, draw_speaker, find_period, speak_anew, speak_predicted

RATE, PITCH = 16_000, 125.0
STEADY = Speaker(order=18, frame=480, hop=160, pitch=1.0, periodic=0.35, seed=1)


@pytest.fixture
def vowel() -> np.ndarray:
    """A second of pulses at 125 Hz through formants at 700 and 1,200 Hz, float32 `[S]`; its second half is hissed."""
    driven = np.zeros(RATE)
    driven[: RATE // 2 : round(RATE / PITCH)] = 1
    driven[RATE // 2 :] = 0.1 * np.random.default_rng(0).standard_normal(RATE // 2)
    for formant in (700, 1200):
        driven = lfilter([1], [1, -1.9 * np.cos(2 * np.pi * formant / RATE), 0.9], driven)
    return (0.1 * driven / np.abs(driven).max()).astype(np.float32)


def measure_power(sound: np.ndarray) -> np.ndarray:
    """In bands of 125 Hz, in dB: harmonics do not show in them, formants do."""
    return 10 * np.log10((np.abs(np.fft.rfft(sound)) ** 2)[1:].reshape(64, -1).sum(axis=1) + 1e-9)


def find_pitch(sound: np.ndarray) -> float:
    power = np.correlate(sound, sound, "full")[len(sound) - 1 :]
    return RATE / (60 + int(power[60:250].argmax()))


def test_it_says_the_same_as_loudly_by_other_waves(vowel: np.ndarray) -> None:
    vowel[:1000] = 0
    made = speak_anew(vowel, STEADY, sample_rate=RATE)
    assert made.dtype == np.float32
    assert made.shape == vowel.shape
    assert not made[:1000].any()  # silence stays
    assert np.sqrt(np.mean(made**2)) == pytest.approx(np.sqrt(np.mean(vowel**2)), rel=1e-4)
    assert np.corrcoef(measure_power(made), measure_power(vowel))[0, 1] > 0.9  # the formants are where they were
    assert np.abs(np.corrcoef(made, vowel)[0, 1]) < 0.6  # the wave is another
    np.testing.assert_array_equal(made, speak_anew(vowel, STEADY, sample_rate=RATE))
    assert (made != speak_anew(vowel, replace(STEADY, seed=2), sample_rate=RATE)).any()


@pytest.mark.parametrize("pitch", [0.9, 1.0, 1.1])
def test_the_pitch_is_the_one_drawn_from_frame_to_frame(pitch: float, vowel: np.ndarray) -> None:
    made = speak_predicted(vowel, replace(STEADY, pitch=pitch), sample_rate=RATE)
    assert find_pitch(made[1000:7000]) == pytest.approx(pitch * PITCH, rel=0.03)


def test_what_is_hissed_stays_a_hiss(vowel: np.ndarray) -> None:
    halves = vowel[:8000], vowel[8000:]
    powers = [np.correlate(half[1000:1480], half[1000:1480], "full")[479:] for half in halves]
    periods = [find_period(power, STEADY, sample_rate=RATE) for power in powers]
    assert periods == [round(RATE / PITCH), 0]


def test_a_window_ends_as_it_began_and_short_or_silent_ones_are_spoken_too(vowel: np.ndarray) -> None:
    powers = []
    for seed in range(20):
        given = np.random.default_rng(seed).normal(0, 0.1, 4096).astype(np.float32)
        made = speak_anew(given, replace(STEADY, seed=seed), sample_rate=RATE)
        powers.append([(sound.reshape(-1, 128) ** 2).mean(axis=1) for sound in (given, made)])
    given, made = np.mean(powers, axis=0)
    assert np.abs(10 * np.log10(made / given))[[0, 1, -2, -1]].max() < 2  # dB
    for length in (1, 50, 1280):
        assert np.isfinite(speak_anew(vowel[500 : 500 + length], STEADY, sample_rate=RATE)).all()
    silence = np.zeros(500, np.float32)
    np.testing.assert_array_equal(speak_anew(silence, STEADY, sample_rate=RATE), silence)


def test_speakers_are_many_and_keep_to_the_sample_rate() -> None:
    drawn = [draw_speaker(np.random.default_rng(seed), sample_rate=RATE) for seed in range(60)]
    assert {min(ORDERS), max(ORDERS)} <= {one.order for one in drawn}
    assert len({one.hop for one in drawn}) == 4
    assert 0.87 < min(one.pitch for one in drawn) < 0.95 < 1.05 < max(one.pitch for one in drawn) < 1.13
    fast, slow = (draw_speaker(np.random.default_rng(0), sample_rate=rate) for rate in (16_000, 8_000))
    assert fast.frame == pytest.approx(2 * slow.frame, abs=1)
