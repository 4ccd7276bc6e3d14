"""Faces are followed steadily and cropped to a fraction of a pixel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import pytest

from dfmm.data import faces
from dfmm.data.faces import crop_square, follow_face, load_detector, trace_face

NOBODY = np.zeros((0, 15), np.float32)


def face(left: float, top: float, side: float) -> np.ndarray:
    """A detection: a square box, a score and landmarks in its middle, `[15]`."""
    return np.array([left, top, left + side, top + side, 0.99, *[left + side / 2, top + side / 2] * 5], np.float32)


# Following


def test_a_moving_face_is_followed_and_strangers_are_not() -> None:
    moving = [face(10 + 6 * n, 20, 40) for n in range(12)]
    stranger = face(200, 100, 30)
    detections = [np.stack([stranger, row] if n % 2 else [row]) for n, row in enumerate(moving)]
    np.testing.assert_array_equal(np.stack(follow_face(detections)), np.stack(moving))


def test_of_two_faces_the_one_that_covers_most_is_kept_and_it_does_not_jump() -> None:
    large, small = face(10, 10, 50), face(100, 10, 40)
    detections = [np.stack([large, small][:: 1 if n % 2 else -1]) for n in range(10)]
    detections[4] = small[None]
    followed = follow_face(detections)
    assert followed[4] is None
    assert all(np.array_equal(row, large) for n, row in enumerate(followed) if n != 4)
    for n in range(3, 9):  # too short a stay for its size
        detections[n] = small[None]
    assert [row is not None and row[0] for row in follow_face(detections)] == [100] * 10


def test_what_is_seen_once_in_many_looks_is_no_face() -> None:
    stray = [NOBODY] * 3 + [face(10, 10, 50)[None]] + [NOBODY] * 3
    assert follow_face(stray) == [None] * 7
    assert follow_face([NOBODY] * 7) == [None] * 7
    assert follow_face(stray[3:5])[0] is not None  # of few looks, one is enough
    stray[5] = face(100, 100, 20)[None]
    stray[6] = face(101, 100, 20)[None]
    assert [row is not None for row in follow_face(stray)] == [False] * 5 + [True] * 2


# Tracing

EVERY, REACH = 5, 0.42  # frames between two looks, and seconds for which a detection speaks


def trace(squares: np.ndarray, *, fps: float = 25, seen: Sequence[int] | None = None) -> np.ndarray:
    """Trace a face that is detected in every fifth frame where `squares` `[N, 3]` say, or in these frames alone."""
    times = np.arange(len(squares)) / fps
    seen = np.arange(0, len(squares), EVERY) if seen is None else np.array(seen, int)
    x, y, side = squares[seen].T
    boxes = np.stack([x - side / 2, y - side / 2, x + side / 2, y + side / 2], axis=1).astype(np.float32)
    return trace_face(times, times[seen], boxes, reach=REACH)


@pytest.mark.parametrize("fps", [23.976, 25, 30])
def test_a_path_stays_close_to_a_nodding_face_and_steadier_than_its_detector(fps: float) -> None:
    """Within 2 % of the side where detections err by 0.6 %; frame to frame nothing that an eye or a network sees."""
    rng, time, side = np.random.default_rng(0), np.arange(250) / fps, 120.0
    truth = np.stack([300 + 9 * time, 200 + 0.1 * side * np.sin(2 * np.pi * time), np.full(250, side)], axis=1)
    found = truth + side * rng.normal(0, [0.006, 0.006, 0.015], size=(250, 3))
    path = trace(found, fps=fps)
    inner = slice(5, -5)
    assert np.sqrt(np.mean((path - truth)[inner, :2] ** 2)) < 0.02 * side
    assert np.abs(path[:, 2] - side).max() < 0.02 * side
    steps = np.abs(np.diff(path - truth, axis=0))[inner]
    assert steps[:, :2].max() < 0.01 * side
    assert steps[:, 2].max() < 0.0015 * side
    jolts = np.diff(path, n=2, axis=0)[inner]
    nod = 0.1 * side * (2 * np.pi / fps) ** 2  # its own largest change of speed from one frame to the next
    assert np.abs(jolts[:, :2]).max() < 1.5 * nod
    assert np.abs(jolts[:, 2]).max() < 2e-4 * side


def test_a_face_at_rest_has_one_square_and_an_even_motion_stays_even() -> None:
    still = np.tile([300.0, 200.0, 120.0], (40, 1))
    np.testing.assert_allclose(trace(still), still, atol=1e-4)
    moving = still + np.outer(np.arange(41 - 1), [4.0, -2.0, 0.0])
    np.testing.assert_allclose(trace(moving)[:30], moving[:30], atol=0.3)  # and does not lag where it begins


def test_one_slip_of_the_detector_does_not_make_the_crop_breathe() -> None:
    squares = np.tile([300.0, 200.0, 120.0], (60, 1))
    squares[30, 2] = 170
    np.testing.assert_allclose(trace(squares)[:, 2], 120, atol=1e-3)


def test_a_path_does_not_glide_through_a_cut() -> None:
    wide, close = [300.0, 200.0, 100.0], [320.0, 210.0, 160.0]  # the boxes overlap: it may be one person
    squares = np.array([wide] * 52 + [close] * 48)
    path = trace(squares)
    assert not np.isnan(path).any()
    in_wide = np.abs(path - wide).max(axis=1) < 0.01
    in_close = np.abs(path - close).max(axis=1) < 0.01
    assert (in_wide ^ in_close).all()
    assert in_wide[:50].all()
    assert in_close[55:].all()


def test_where_no_detection_is_near_there_is_no_square_and_no_glide() -> None:
    squares = np.tile([300.0, 200.0, 100.0], (100, 1))
    squares[50:, 0] += 30
    path = trace(squares, seen=[*range(0, 31, 5), *range(70, 96, 5)])
    masked = np.isnan(path[:, 0])
    assert np.flatnonzero(masked).tolist() == list(range(41, 60))  # 0.42 s are ten frames
    np.testing.assert_allclose(path[:41], squares[:41], atol=1e-3)
    np.testing.assert_allclose(path[60:], squares[60:], atol=1e-3)
    assert np.isnan(trace(squares, seen=[])).all()
    lone = trace(squares, seen=[20])
    assert np.flatnonzero(~np.isnan(lone[:, 0])).tolist() == list(range(10, 31))
    np.testing.assert_allclose(lone[10:31], squares[:21], atol=1e-3)


# Cropping


def paint(function: Callable, height: int = 160, width: int = 200, *, shift: float = 0.0) -> np.ndarray:
    """Sample a function of x and y, in pixels, into a frame; `shift` moves the picture right and down."""
    y, x = np.mgrid[0:height, 0:width] + 0.5 - shift
    return np.clip(np.rint(function(x, y)), 0, 255).astype(np.uint8)[:, :, None].repeat(3, axis=2)


def test_a_crop_inside_the_frame_is_the_frame_itself() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    np.testing.assert_array_equal(crop_square(frame, np.array([30, 20, 16]), 16), frame[12:28, 22:38])
    assert crop_square(frame, np.array([30.3, 20.2, 23.7]), 64).shape == (64, 64, 3)


def test_a_crop_over_the_edge_repeats_it() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    padded = np.pad(frame, ((90, 90), (90, 90), (0, 0)), mode="edge")
    for x, y, side in ((0, 0, 20), (60, 40, 20), (30, 0, 16), (30, 20, 90), (-40, 20, 32)):
        expected = padded[90 + y - side // 2 : 90 + y + side // 2, 90 + x - side // 2 : 90 + x + side // 2]
        np.testing.assert_array_equal(crop_square(frame, np.array([x, y, side]), side), expected)
    assert crop_square(frame, np.array([30, 20, 0]), 32).shape == (32, 32, 3)


def test_a_crop_is_as_good_at_its_edge_as_in_its_middle() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (160, 200, 3), dtype=np.uint8)
    for side in (24, 48, 51):
        small = crop_square(frame, np.array([100.3, 80.6, side]), 32)
        wide = crop_square(frame, np.array([100.3, 80.6, 2 * side]), 64)[16:48, 16:48]
        assert np.abs(small.astype(int) - wide).max() <= 1


@pytest.mark.parametrize("side", [40, 64, 100.6, 150])
def test_a_crop_moves_with_the_face_by_half_a_pixel(side: float) -> None:
    def blob(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return 20 + 200 * np.exp(-((x - 100) ** 2 + (y - 80) ** 2) / (2 * (side / 8) ** 2))

    def locate(crop: np.ndarray) -> np.ndarray:
        weights = crop[:, :, 0].astype(float) - 20
        grid = np.arange(64) + 0.5
        return np.array([weights.sum(axis=0) @ grid, weights.sum(axis=1) @ grid]) / weights.sum()

    square = np.array([100, 80, side])
    here, moved = (crop_square(paint(blob, shift=shift), square, 64) for shift in (0, 0.5))
    followed = crop_square(paint(blob, shift=0.5), square + np.array([0.5, 0.5, 0]), 64)
    assert locate(here) == pytest.approx([32, 32], abs=0.02)
    assert locate(moved) == pytest.approx(np.array([32, 32]) + 0.5 * 64 / side, abs=0.02)
    assert np.abs(followed.astype(int) - here).max() <= 3
    assert np.abs(followed.astype(int) - here).mean() < 0.3


@pytest.mark.parametrize("side", [30, 64, 97.3, 140])
def test_a_plain_gradient_is_reproduced(side: float) -> None:
    def plain(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return 20 + 0.6 * x + 0.4 * y

    crop = crop_square(paint(plain), np.array([101.3, 79.6, side]), 64)
    grid = (np.arange(64) + 0.5) * side / 64 - side / 2
    expected = plain(101.3 + grid[None, :], 79.6 + grid[:, None])
    assert np.abs(crop[:, :, 0] - expected).max() < 1.1  # both are rounded


@pytest.mark.parametrize("side", [140, 151.7, 160])
def test_what_is_too_fine_for_a_crop_turns_grey_instead_of_false_stripes(side: float) -> None:
    stripes = paint(lambda x, y: 255 * ((x.astype(int) + y.astype(int)) % 2))
    crop = crop_square(stripes, np.array([100.2, 80.3, side]), 48)
    assert crop.std() < 3
    assert cv2.resize(stripes, (48, 48), interpolation=cv2.INTER_LINEAR).std() > 10


# Detecting


def test_a_detector_that_is_not_installed_is_said_once(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    def fail() -> None:
        raise ImportError("No module named 'retinaface'")

    monkeypatch.setattr(faces, "_load_retinaface", fail)
    load_detector.cache_clear()
    try:
        assert [load_detector("retinaface") for _ in range(3)] == [None] * 3
    finally:
        load_detector.cache_clear()
    assert len(said) == 1
    assert "retinaface is not available" in said[0]
