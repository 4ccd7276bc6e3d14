"""Pictures change as they were asked to: by so many pixels, so much detail, so large a part."""

from __future__ import annotations

from collections.abc import Callable

import av
import cv2
import numpy as np
import pytest

from dfmm.degrade import augment_frames
from dfmm.degrade.frames import (
    add_noise,
    blur_frames,
    change_colour,
    compress_h264,
    compress_jpeg,
    cut_out,
    move_frames,
    scale_frames,
    shift_frames,
    split_planes,
)
from dfmm.sections import Augment

from ..conftest import draw_frames


@pytest.fixture
def frames() -> np.ndarray:
    """A window of unlike frames."""
    return np.random.default_rng(0).integers(0, 256, (4, 24, 32, 3), dtype=np.uint8)


def test_a_crop_is_off_the_centre_by_whole_pixels_and_no_more_than_asked() -> None:
    y, x = np.mgrid[0:100, 0:100]
    ramp = np.stack([x, y, 0 * x], axis=2).astype(np.uint8)[None]
    shifted = shift_frames(ramp, right=7, down=-3)[0]
    np.testing.assert_array_equal(shifted[..., 0], np.clip(x - 7, 0, 99))
    np.testing.assert_array_equal(shifted[..., 1], np.clip(y + 3, 0, 99))
    only = Augment(flip=0, crop=0.3, colour=0)
    moved = np.stack([augment_frames(ramp, only, np.random.default_rng(seed))[0, 50, 50, :2] for seed in range(300)])
    moved = moved.astype(int) - 50
    assert moved.min() in (-30, -29)
    assert moved.max() in (29, 30)
    assert abs(np.corrcoef(moved.T)[0, 1]) < 0.2  # across and down are drawn apart
    for seed in range(20):  # in any direction, as far as asked
        right, down = move_frames(ramp, share=0.2, rng=np.random.default_rng(seed))[0, 50, 50, :2].astype(int) - 50
        assert np.hypot(right, down) == pytest.approx(20, abs=0.8)


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


@pytest.mark.parametrize("deviation", [0.7, 4.0, 12.5, 25.0])
def test_noise_is_distributed_as_normal_draws_are(deviation: float) -> None:
    """Of the same mean, spread and tails, and of no more order within a window than they have."""
    grey = np.full((4, 200, 200, 3), 128, np.uint8)
    noise = add_noise(grey, deviation=deviation, rng=np.random.default_rng(0)).astype(float) - 128
    normal = np.rint(np.random.default_rng(1).normal(0, deviation, grey.shape))
    error = deviation / np.sqrt(noise.size)
    assert abs(noise.mean()) < 4 * error
    assert noise.std() == pytest.approx(normal.std(), abs=4 * error)
    shares = np.array([1e-4, 1e-3, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999, 0.9999])
    assert np.abs(np.quantile(noise, shares) - np.quantile(normal, shares)).max() <= max(1, 0.1 * deviation)
    flat = noise.ravel()
    assert max(abs(np.corrcoef(flat[:-lag], flat[lag:])[0, 1]) for lag in (1, 2, 3, 4, 600)) < 4 / np.sqrt(flat.size)


@pytest.mark.parametrize("sigma", [0.2, 0.9, 2.3, 4.0])
def test_a_blur_is_that_of_opencv_up_to_rounding(frames: np.ndarray, sigma: float) -> None:
    for shown in (frames, draw_frames(4, 48, 64)):
        plain = [cv2.GaussianBlur(frame, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE) for frame in shown]
        off = blur_frames(shown, sigma=sigma).astype(int) - np.stack(plain)
        assert np.abs(off).max() <= 1
        assert abs(off.mean()) < 0.05


def test_h264_is_given_the_colours_that_ffmpeg_would_give_it() -> None:
    smooth = draw_frames(4, 48, 64)
    for shown in (smooth, add_noise(smooth, deviation=4, rng=np.random.default_rng(0))):
        plain = [av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv420p") for frame in shown]
        off = split_planes(shown).astype(int) - np.stack([frame.to_ndarray() for frame in plain])
        luma, chroma = np.split(off, [shown.shape[1]], axis=1)
        assert np.abs(luma).max() <= 1
        assert np.abs(chroma).mean() < 0.5  # of one pixel in four it would be 0.6 and 1.7
        assert max(abs(luma.mean()), abs(chroma.mean())) < 0.1


def test_a_lens_and_a_small_picture_take_the_finest_stripes_first() -> None:
    def measure_stripes(period: int, change: Callable[[np.ndarray], np.ndarray]) -> float:
        stripes = (128 + 60 * np.sin(2 * np.pi * np.arange(64) / period)).astype(np.uint8)
        shown = np.broadcast_to(stripes[None, None, :, None], (3, 64, 64, 3))
        return change(shown).std() / shown.std()

    for change, strong in ((blur_by(1), blur_by(3)), (scale_by(0.5), scale_by(0.2))):
        fine, finer = (measure_stripes(4, way) for way in (change, strong))
        assert finer < fine / 2
        assert measure_stripes(32, change) > 0.95
        assert measure_stripes(32, strong) > 0.7


def blur_by(sigma: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda frames: blur_frames(frames, sigma=sigma)


def scale_by(scale: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda frames: scale_frames(frames, scale=scale)


def test_a_blur_is_as_wide_as_asked_both_ways() -> None:
    square = np.zeros((1, 61, 61, 3), np.uint8)
    square[:, 28:33, 28:33] = 255
    for sigma in (1.5, 4):
        shown = blur_frames(square, sigma=sigma)[0, :, :, 0].astype(float)
        for row in (shown.sum(axis=0), shown.sum(axis=1)):
            variance = np.sum(row * (np.arange(61) - 30) ** 2) / row.sum()
            assert np.sqrt(variance - 2) == pytest.approx(sigma, rel=0.1)  # five pixels have a variance of 2


def test_a_picture_is_made_small_both_ways() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    shown = scale_frames(noise, scale=0.25).astype(float)
    for axis in (1, 2):
        assert np.diff(shown, axis=axis).std() < 0.2 * np.diff(noise.astype(float), axis=axis).std()


def test_h264_takes_the_grain_and_jpeg_leaves_its_blocks() -> None:
    smooth = draw_frames(4, 64, 64)
    grainy = add_noise(smooth, deviation=6, rng=np.random.default_rng(0))
    grain = [np.diff(compress_h264(grainy, crf=crf).mean(axis=3), axis=2).std() for crf in (10, 25, 40)]
    assert grain[0] > 1.2 * grain[1] > 2 * grain[2]
    steps = np.abs(np.diff(compress_jpeg(smooth, quality=5).astype(float), axis=2)).mean(axis=(0, 1, 3))
    assert steps[7::8].mean() > 2 * steps[3::8].mean()


def test_odd_sides_and_their_frames_come_back_from_h264_in_order() -> None:
    odd = draw_frames(16, 45, 33)
    shown = compress_h264(odd, crf=15)
    assert (shown.shape, shown.dtype) == (odd.shape, odd.dtype)
    apart = np.abs(shown[:, None].astype(int) - odd[None]).mean(axis=(2, 3, 4))
    np.testing.assert_array_equal(apart.argmin(axis=1), np.arange(16))
    assert apart.diagonal().max() < 4


def test_h264_gives_the_same_whatever_else_is_in_memory() -> None:
    frames = add_noise(draw_frames(16, 48, 48), deviation=4, rng=np.random.default_rng(0))
    shown = set()
    for count in range(15):
        others = [np.random.default_rng(count).integers(0, 255, 5_000 + 1_000 * count, np.uint8) for _ in range(5)]
        shown.add(compress_h264(frames, crf=19).tobytes())
        del others
    assert len(shown) == 1


def test_a_square_of_the_asked_share_is_covered_and_lies_anywhere() -> None:
    frames, corners = draw_frames(4, 48, 64), set()
    for seed in range(20):
        shown = cut_out(frames, share=0.2, rng=np.random.default_rng(seed))
        rows, columns = np.nonzero((shown != frames).any(axis=(0, 3)))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert height * width == pytest.approx(0.2 * 48 * 64, rel=0.08)
        square = shown[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert np.ptp(square.reshape(-1, 3), axis=0).max() == 0
        corners.add((rows.min(), columns.min()))
    assert len(corners) > 15
