"""What the world does to frames and sound: nothing at strength 0, the same to all frames, as much as was asked."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from dfmm.data.degrade import (
    add_noise,
    add_sound_noise,
    augment_frames,
    augment_sound,
    change_colour,
    shift_frames,
    shift_pitch,
)
from dfmm.settings import Augment

RATE = 16_000
OFF = Augment(flip=0, crop=0, colour=0, noise=0, sound_gain=0, sound_noise=0, pitch=0)
STRONG = Augment(flip=0.5, crop=0.3, colour=0.5, noise=0.1, sound_gain=10, sound_noise=1, pitch=0)


@pytest.fixture
def frames() -> np.ndarray:
    """A window of unlike frames."""
    return np.random.default_rng(0).integers(0, 256, (4, 24, 32, 3), dtype=np.uint8)


@pytest.fixture
def sound() -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, 16_000).astype(np.float32)


def test_at_strength_zero_nothing_changes(frames: np.ndarray, sound: np.ndarray) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        np.testing.assert_array_equal(augment_frames(frames, OFF, rng), frames)
        np.testing.assert_array_equal(augment_sound(sound, OFF, rng, sample_rate=RATE), sound)


def test_one_draw_is_for_all_frames_of_a_window(frames: np.ndarray) -> None:
    static = np.repeat(frames[:1], 4, axis=0)
    smooth = STRONG.model_copy(update={"noise": 0.0})
    results = [augment_frames(static, smooth, np.random.default_rng(seed)) for seed in range(8)]
    for result in results:
        np.testing.assert_array_equal(result, np.repeat(result[:1], 4, axis=0))
    assert len({result.tobytes() for result in results}) == 8
    assert (np.ptp(augment_frames(static, STRONG, np.random.default_rng(0)), axis=0) > 0).any()  # a sensor's noise


def test_a_flip_mirrors_left_and_right_as_often_as_asked(frames: np.ndarray) -> None:
    always, half = OFF.model_copy(update={"flip": 1.0}), OFF.model_copy(update={"flip": 0.25})
    np.testing.assert_array_equal(augment_frames(frames, always, np.random.default_rng(0)), frames[:, :, ::-1])
    rng = np.random.default_rng(0)
    flipped = [not np.array_equal(augment_frames(frames, half, rng), frames) for _ in range(400)]
    assert np.mean(flipped) == pytest.approx(0.25, abs=0.07)


def test_the_same_generator_gives_the_same_result(frames: np.ndarray, sound: np.ndarray) -> None:
    hear = functools.partial(augment_sound, sample_rate=RATE)
    for function, given in ((augment_frames, frames), (hear, sound)):
        before = given.copy()
        first, second, other = (function(given, STRONG, np.random.default_rng(seed)) for seed in (3, 3, 4))
        np.testing.assert_array_equal(first, second)
        assert not np.array_equal(first, other)
        assert first.dtype == given.dtype
        np.testing.assert_array_equal(given, before)  # what was given is not written to


def test_a_crop_is_off_the_centre_by_whole_pixels_and_no_more_than_asked() -> None:
    y, x = np.mgrid[0:100, 0:100]
    ramp = np.stack([x, y, 0 * x], axis=2).astype(np.uint8)[None]
    shifted = shift_frames(ramp, right=7, down=-3)[0]
    np.testing.assert_array_equal(shifted[..., 0], np.clip(x - 7, 0, 99))
    np.testing.assert_array_equal(shifted[..., 1], np.clip(y + 3, 0, 99))
    only = OFF.model_copy(update={"crop": 0.3})
    moved = np.stack([augment_frames(ramp, only, np.random.default_rng(seed))[0, 50, 50, :2] for seed in range(300)])
    moved = moved.astype(int) - 50
    assert moved.min() in (-30, -29)
    assert moved.max() in (29, 30)
    assert abs(np.corrcoef(moved.T)[0, 1]) < 0.2  # across and down are drawn apart


def test_colours_change_as_they_are_asked_to(frames: np.ndarray) -> None:
    def change(brightness: float = 1, contrast: float = 1, saturation: float = 1) -> np.ndarray:
        return change_colour(frames, brightness=brightness, contrast=contrast, saturation=saturation).astype(float)

    np.testing.assert_array_equal(change(), frames)
    strengths = (0.4, 0.7, 1.0, 1.3)
    for measured in (
        [change(brightness=strength).mean() for strength in strengths],
        [change(contrast=strength).std() for strength in strengths],
        [np.ptp(change(saturation=strength), axis=-1).mean() for strength in strengths],
    ):
        assert measured == sorted(set(measured))
    np.testing.assert_allclose(change(brightness=0.5), frames * 0.5, atol=0.51)
    assert np.ptp(change(saturation=0), axis=-1).max() <= 1
    assert np.ptp(change(contrast=0)) <= 1
    assert change(contrast=0.5).mean() == pytest.approx(frames.mean(), abs=1)


def test_noise_has_the_deviation_that_was_asked() -> None:
    grey = np.full((2, 100, 100, 3), 128, np.uint8)
    noise = add_noise(grey, deviation=9.0, rng=np.random.default_rng(0)).astype(float) - 128
    assert noise.std() == pytest.approx(9, rel=0.02)
    assert noise.mean() == pytest.approx(0, abs=0.2)
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.03


def test_sound_noise_has_the_ratio_that_was_asked(sound: np.ndarray) -> None:
    for ratio in (0, 20, 35):
        noise = add_sound_noise(sound, snr=ratio, rng=np.random.default_rng(1)) - sound
        assert 10 * np.log10(np.mean(sound**2) / np.mean(noise**2)) == pytest.approx(ratio, abs=0.2)
    silence = np.zeros(100, np.float32)
    np.testing.assert_array_equal(add_sound_noise(silence, snr=10, rng=np.random.default_rng(0)), silence)


def test_loudness_changes_within_its_range_and_nothing_else(sound: np.ndarray) -> None:
    louder = Augment(sound_gain=6, sound_noise=0)
    rng = np.random.default_rng(0)
    gains = []
    for _ in range(200):
        changed = augment_sound(sound, louder, rng, sample_rate=RATE)
        gains.append(20 * np.log10(np.abs(changed).max() / np.abs(sound).max()))
        np.testing.assert_allclose(changed, sound * 10 ** (gains[-1] / 20), rtol=1e-4)
    assert -6 <= min(gains) < -5
    assert 5 < max(gains) <= 6


def play(frequency: float, seconds: float = 0.64) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def find_pitch(sound: np.ndarray) -> float:
    """Return the frequency of a tone, in Hz, to a fraction of a cent."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 1 << 18))
    return spectrum.argmax() * RATE / (1 << 18)


@pytest.mark.parametrize("semitones", [-12, -3.3, -0.4, 0.4, 3.3, 12])
def test_a_tone_moves_by_the_semitones_that_were_asked_and_nothing_else_does(semitones: float) -> None:
    tone = play(500)
    shifted = shift_pitch(tone, semitones=semitones, sample_rate=RATE)
    assert (shifted.shape, shifted.dtype) == (tone.shape, tone.dtype)
    assert 12 * np.log2(find_pitch(shifted[2_000:-2_000]) / 500) == pytest.approx(semitones, abs=0.02)
    assert np.sqrt(np.mean(shifted**2)) == pytest.approx(np.sqrt(np.mean(tone**2)), rel=1e-3)
    time = np.arange(len(tone)) / RATE
    for at in (0.15, 0.3, 0.5):
        burst = shift_pitch(
            tone * np.exp(-(((time - at) / 0.02) ** 2)).astype(np.float32), semitones=semitones, sample_rate=RATE
        )
        centre = np.sum(time * burst**2) / np.sum(burst**2)
        assert centre == pytest.approx(at, abs=0.005 if abs(semitones) < 4 else 0.015)  # a frame is 0.04


def test_the_shift_is_drawn_evenly_up_to_its_largest() -> None:
    tone, only = play(500), OFF.model_copy(update={"pitch": 2.0})
    shifts = []
    for seed in range(60):
        shifted = augment_sound(tone, only, np.random.default_rng(seed), sample_rate=RATE)
        shifts.append(12 * np.log2(find_pitch(shifted[2_000:-2_000]) / 500))
    assert -2.03 < min(shifts) < -1.6
    assert 1.6 < max(shifts) < 2.03
    assert abs(np.mean(shifts)) < 0.45
    silence = np.zeros(10_240, np.float32)
    np.testing.assert_array_equal(shift_pitch(silence, semitones=3, sample_rate=RATE), silence)
