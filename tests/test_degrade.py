"""What the world does to frames and sound: nothing at strength 0, the same to all frames, as much as was asked."""

from __future__ import annotations

import numpy as np
import pytest

from dfmm.data.degrade import add_noise, add_sound_noise, augment_frames, augment_sound, change_colour, draw_square
from dfmm.settings import Augment

OFF = Augment(flip=0, crop=0, colour=0, noise=0, sound_gain=0, sound_noise=0)
STRONG = Augment(flip=0.5, crop=0.3, colour=0.5, noise=0.1, sound_gain=10, sound_noise=1)


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
        np.testing.assert_array_equal(augment_sound(sound, OFF, rng), sound)
        np.testing.assert_array_equal(draw_square(np.array([50.0, 60.0, 40.0]), OFF, rng), [50, 60, 40])


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
    square = np.array([50.0, 60.0, 40.0])
    for function, given in ((augment_frames, frames), (augment_sound, sound), (draw_square, square)):
        before = given.copy()
        first, second, other = (function(given, STRONG, np.random.default_rng(seed)) for seed in (3, 3, 4))
        np.testing.assert_array_equal(first, second)
        assert not np.array_equal(first, other)
        assert first.dtype == given.dtype
        np.testing.assert_array_equal(given, before)  # what was given is not written to


def test_a_random_crop_stays_inside_its_square() -> None:
    rng = np.random.default_rng(0)
    drawn = np.stack([draw_square(np.array([50.0, 60.0, 40.0]), STRONG, rng) for _ in range(500)])
    half = drawn[:, 2:] / 2
    assert (drawn[:, :2] - half >= [30, 40]).all()
    assert (drawn[:, :2] + half <= [70, 80]).all()
    assert 40 * 0.7 <= drawn[:, 2].min() < 29
    assert 39 < drawn[:, 2].max() <= 40


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
        changed = augment_sound(sound, louder, rng)
        gains.append(20 * np.log10(np.abs(changed).max() / np.abs(sound).max()))
        np.testing.assert_allclose(changed, sound * 10 ** (gains[-1] / 20), rtol=1e-4)
    assert -6 <= min(gains) < -5
    assert 5 < max(gains) <= 6
