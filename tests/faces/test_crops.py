"""A face's path is smooth, the grid its crops lie on rests, and a crop shows what is in the frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import pytest

from dfmm.faces.crops import TEMPLATE, Canvases, FacePath, cut_square, lay_canvases, trace_path

EVERY, REACH = 5, 0.42  # frames between two looks, and seconds for which a detection speaks
SIZE = 64

# The path


def place_landmarks(centres: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Return landmarks `[N, 5, 2]` as a face of these sides has them, upright."""
    return centres[:, None] + (TEMPLATE - 0.5) * np.asarray(sides)[:, None, None]


def trace(
    squares: np.ndarray, *, fps: float = 25, seen: Sequence[int] | None = None, cuts: Sequence[int] = ()
) -> FacePath:
    """Trace a face that is detected in every fifth frame where `squares` `[N, 3]` say, or in these frames alone."""
    times = np.arange(len(squares)) / fps
    seen = np.arange(0, len(squares), EVERY) if seen is None else np.array(seen, int)
    centres, sides = squares[seen, :2], squares[seen, 2]
    boxes = np.column_stack([centres - sides[:, None] / 2, centres + sides[:, None] / 2]).astype(np.float32)
    landmarks = place_landmarks(centres, sides).astype(np.float32)
    return trace_path(times, times[seen], boxes, landmarks, cut_times=times[list(cuts)], reach=REACH)


@pytest.mark.parametrize("fps", [23.976, 25, 30])
def test_a_path_stays_close_to_a_nodding_face_and_steadier_than_its_detector(fps: float) -> None:
    """Within 2 % of the side where detections err by 0.6 %; frame to frame nothing that an eye or a network sees."""
    rng, time, side = np.random.default_rng(0), np.arange(250) / fps, 120.0
    truth = np.stack([300 + 9 * time, 200 + 0.1 * side * np.sin(2 * np.pi * time), np.full(250, side)], axis=1)
    found = truth + side * rng.normal(0, [0.006, 0.006, 0.015], size=(250, 3))
    path = trace(found, fps=fps)
    inner = slice(5, -5)
    nod = 0.1 * side * (2 * np.pi / fps) ** 2  # its own largest change of speed from one frame to the next
    for values, expected in ((path.centres, truth[:, :2]), (path.landmarks[:, 2], truth[:, :2] + [0, 0.1405 * side])):
        assert np.sqrt(np.mean((values - expected)[inner] ** 2)) < 0.02 * side
        assert np.abs(np.diff(values - expected, axis=0))[inner].max() < 0.01 * side
        assert np.abs(np.diff(values, n=2, axis=0)[inner]).max() < 1.5 * nod
    assert len(set(path.sides)) == 1
    assert side < path.sides[0] < 1.04 * side


def test_a_face_at_rest_stays_where_it_is_and_an_even_motion_stays_even() -> None:
    still = np.tile([300.0, 200.0, 120.0], (40, 1))
    np.testing.assert_allclose(trace(still).centres, still[:, :2], atol=1e-4)
    moving = still + np.outer(np.arange(40), [4.0, -2.0, 0.0])
    np.testing.assert_allclose(trace(moving).centres[:30], moving[:30, :2], atol=0.3)  # and does not lag at first


def test_one_slip_of_the_detector_does_not_make_the_crop_larger() -> None:
    squares = np.tile([300.0, 200.0, 120.0], (60, 1))
    squares[30, 2] = 170
    np.testing.assert_allclose(trace(squares).sides, 120, atol=1e-3)


def test_a_path_does_not_glide_through_a_cut() -> None:
    wide, close = [300.0, 200.0, 100.0], [320.0, 210.0, 160.0]  # the boxes overlap: it may be one person
    path = trace(np.array([wide] * 52 + [close] * 48))
    found = np.column_stack([path.centres, path.sides])
    in_wide, in_close = (np.abs(found - square).max(axis=1) < 0.01 for square in (wide, close))
    assert (in_wide ^ in_close).all()
    assert in_wide[:50].all()
    assert in_close[55:].all()
    np.testing.assert_array_equal(path.shots, in_close)


def test_a_face_that_comes_nearer_is_shown_in_few_scales_and_its_path_stays_whole() -> None:
    """Its way is smooth over the change of scale as well, and it never fills more than its share of the crop."""
    sides = np.geomspace(50, 200, 200)
    squares = np.column_stack([np.linspace(300, 340, 200), np.full(200, 200.0), sides])
    path = trace(squares)
    assert path.shots.max() == 2
    assert ((sides / path.sides) < 1.1).all()
    assert ((sides / path.sides) > 0.6).all()
    assert np.abs(path.centres - squares[:, :2]).max() < 1
    leaning = sway() * np.column_stack([np.ones((100, 2)), np.linspace(1, 1.4, 100)])
    assert set(trace(leaning).shots) == {0}


def test_at_a_cut_that_is_known_the_path_jumps_in_that_very_frame() -> None:
    """Though the place is near enough for the same person, and of the same size."""
    squares = np.array([[300.0, 200.0, 100.0]] * 52 + [[330.0, 200.0, 100.0]] * 48)
    path = trace(squares, cuts=[52])
    np.testing.assert_allclose(path.centres, squares[:, :2], atol=1e-3)
    np.testing.assert_array_equal(path.shots, np.arange(100) >= 52)
    # Of a shot between two cuts in which nothing was found, nothing is known, near as the others are.
    path = trace(squares, seen=[*range(0, 50, 5), *range(60, 100, 5)], cuts=[51, 56])
    assert np.flatnonzero(path.shots < 0).tolist() == list(range(51, 56))
    np.testing.assert_allclose(path.centres[:51], squares[:51, :2], atol=1e-3)
    np.testing.assert_allclose(path.centres[56:], squares[56:, :2], atol=1e-3)


def test_where_no_detection_is_near_there_is_no_face_and_no_glide() -> None:
    squares = np.tile([300.0, 200.0, 100.0], (100, 1))
    squares[50:, 0] += 30
    path = trace(squares, seen=[*range(0, 31, 5), *range(70, 96, 5)])
    masked = np.isnan(path.centres[:, 0])
    assert np.flatnonzero(masked).tolist() == list(range(41, 60))  # 0.42 s are ten frames
    np.testing.assert_array_equal(masked, path.shots < 0)
    np.testing.assert_allclose(path.centres[:41], squares[:41, :2], atol=1e-3)
    np.testing.assert_allclose(path.centres[60:], squares[60:, :2], atol=1e-3)
    assert np.isnan(trace(squares, seen=[]).centres).all()
    lone = trace(squares, seen=[20])
    assert np.flatnonzero(lone.shots == 0).tolist() == list(range(10, 31))
    np.testing.assert_allclose(lone.centres[10:31], squares[:21, :2], atol=1e-3)


# Where the crops are


def sway(frames: int = 100, *, reach: float = 12, side: float = 100.7) -> np.ndarray:
    """Squares `[N, 3]` of a face that moves from side to side, detected with some noise."""
    time = np.arange(frames) / 25
    centres = np.stack([160 + reach * np.sin(3 * time), 120 + reach / 2 * np.cos(4 * time)], axis=1)
    noise = np.random.default_rng(1).normal(0, 0.005 * side, size=(frames, 2))
    return np.column_stack([centres + noise, np.full(frames, side)])


def lay(squares: np.ndarray, crop: str, *, window: int = 16, margin: float = 0.15) -> Canvases:
    return lay_canvases(trace(squares), margin=margin, size=SIZE, crop=crop, window=window)


def cut_window(canvases: Canvases, frames: Sequence[np.ndarray], numbers: Sequence[int]) -> dict[int, np.ndarray]:
    return canvases.crop_window({number: canvases.cut(frames[number], number) for number in numbers}, numbers)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)


def test_steady_crops_of_a_picture_at_rest_are_equal_to_the_bit_whatever_moves(picture: np.ndarray) -> None:
    for side in (40.3, 100.7, 190.0):  # enlarged, and shrunk up to where blocks are averaged first
        canvases = lay(sway(side=side), "steady")
        crops = list(cut_window(canvases, [picture] * 100, range(30, 46)).values())
        assert canvases.room > 0
        assert all(np.array_equal(crop, crops[0]) for crop in crops)
        followed = list(cut_window(lay(sway(side=side), "follow"), [picture] * 100, range(30, 46)).values())
        assert not np.array_equal(followed[0], followed[-1])


def test_a_followed_crop_moves_by_whole_pixels_of_its_own_and_rests_with_the_face(picture: np.ndarray) -> None:
    squares = sway()
    canvases = lay(squares, "follow")
    corners = canvases.maps[:, :2] / canvases.maps[:, 2:3]
    np.testing.assert_array_equal(corners, np.rint(corners))
    assert len(set(canvases.maps[:, 2])) == 1
    assert np.abs(np.diff(corners, axis=0)).max() == 1  # it does not jump
    path = trace(squares)
    middles = canvases.maps[:, :2] + canvases.maps[:, 2:3] * SIZE / 2
    assert np.abs(middles - path.centres).max() < 0.8 * canvases.maps[0, 2]
    one, other = (canvases.cut(picture, number) for number in (30, 33))
    right, down = (corners[33] - corners[30]).astype(int)
    assert (right, down) != (0, 0)
    inner = np.s_[4:-4, 4:-4]
    np.testing.assert_array_equal(np.roll(other, (down, right), axis=(0, 1))[inner], one[inner])
    for fraction in np.arange(0, 1, 0.1) * canvases.maps[0, 2]:
        resting = lay(sway(reach=0) + np.array([fraction, 0, 0]), "follow")
        assert (np.abs(np.diff(resting.maps, axis=0)).max(axis=1) > 0).sum() <= 1


def test_a_steady_crop_holds_the_face_all_through_its_window() -> None:
    squares = sway(reach=14)
    canvases = lay(squares, "steady", margin=0.2)
    for first in range(0, 84, 7):
        numbers = np.arange(first, first + 16)
        found = canvases.crop_window({n: mark_corners(canvases, n, squares[n]) for n in numbers}, numbers)
        assert all(crop.sum() == 2 for crop in found.values())


def mark_corners(canvases: Canvases, number: int, square: np.ndarray) -> np.ndarray:
    """Draw a canvas that is black but for two opposite corners of a face."""
    canvas = np.zeros((canvases.side, canvases.side), np.uint8)
    x, y, side = square
    corners = np.array([[[x - side / 2, y - side / 2], [x + side / 2, y + side / 2]]])
    for across, down in np.floor(canvases.locate(corners, np.array([number]))[0]).astype(int):
        canvas[down, across] = 1
    return canvas


def test_a_steady_crop_is_at_one_place_in_each_shot_and_room_has_an_end(picture: np.ndarray) -> None:
    squares = np.concatenate([sway(50), sway(50, side=150)])
    crops = cut_window(lay(squares, "steady"), [picture] * 100, range(40, 60))
    different = {crop.tobytes() for crop in crops.values()}
    assert len(different) == 2
    far = np.column_stack([np.linspace(0, 4000, 100), np.full(100, 120.0), np.full(100, 100.0)])
    canvases = lay(far, "steady", window=100)
    assert canvases.room == SIZE // 2
    assert cut_window(canvases, [picture] * 100, [0, 99])[99].shape == (SIZE, SIZE, 3)


def test_a_window_of_frames_without_a_face_has_no_crops(picture: np.ndarray) -> None:
    canvases = lay(sway(), "steady")
    assert canvases.crop_window({}, [3, 4]) == {}
    assert sorted(canvases.crop_window({4: picture[: canvases.side, : canvases.side]}, [3, 4, 4])) == [4]


@pytest.mark.parametrize(("angle", "side"), [(0, 64), (25, 40), (-40, 150), (10, 600)])
def test_alignment_puts_the_landmarks_where_the_template_says(angle: float, side: float) -> None:
    """Bright dots are drawn at the landmarks of a turned face, and looked for in the crop."""
    turn = side * np.exp(1j * np.deg2rad(angle))
    points = ((TEMPLATE - 0.5) @ [1, 1j]) * turn
    points = np.stack([points.real, points.imag], axis=1) + side
    y, x = np.mgrid[0 : 2 * side, 0 : 2 * side] + 0.5
    path = FacePath(np.zeros(1, int), np.zeros((1, 2)), np.ones(1), points[None])
    canvases = lay_canvases(path, margin=0.25, size=SIZE, crop="align", window=1)
    expected = ((TEMPLATE - 0.5) / 1.5 + 0.5) * SIZE
    np.testing.assert_allclose(canvases.locate(points[None], np.array([0]))[0], expected, atol=1e-6)
    for point, place in zip(points, expected, strict=True):
        dot = 200 * np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / (2 * (side / 25) ** 2))
        crop = canvases.cut(np.rint(dot).astype(np.uint8)[:, :, None].repeat(3, axis=2), 0)
        np.testing.assert_allclose(locate_blob(crop), place, atol=0.1)


def test_without_landmarks_that_make_sense_a_crop_is_still_one(picture: np.ndarray) -> None:
    path = FacePath(
        np.array([0, -1]), np.zeros((2, 2)), np.ones(2), np.stack([np.full((5, 2), 9.0), [[np.nan] * 2] * 5])
    )
    canvases = lay_canvases(path, margin=0.25, size=SIZE, crop="align", window=1)
    assert canvases.seen.tolist() == [True, False]
    assert canvases.cut(picture, 0).shape == (SIZE, SIZE, 3)


# The pixels


def paint(function: Callable, height: int = 160, width: int = 200, *, shift: float = 0.0) -> np.ndarray:
    """Sample a function of x and y, in pixels, into a frame; `shift` moves the picture right and down."""
    y, x = np.mgrid[0:height, 0:width] + 0.5 - shift
    return np.clip(np.rint(function(x, y)), 0, 255).astype(np.uint8)[:, :, None].repeat(3, axis=2)


def locate_blob(crop: np.ndarray) -> np.ndarray:
    """Return the centre of mass of what is bright, x and y."""
    weights = crop[:, :, 0].astype(float) - crop.min()
    return np.array([weights.sum(axis=0) @ (np.arange(SIZE) + 0.5), weights.sum(axis=1) @ (np.arange(SIZE) + 0.5)]) / (
        weights.sum()
    )


def test_a_crop_inside_the_frame_is_the_frame_itself() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    np.testing.assert_array_equal(cut_square(frame, 22, 12, 1, 16), frame[12:28, 22:38])
    assert cut_square(frame, 18.3, 8.2, 0.37, 64).shape == (64, 64, 3)


def test_a_crop_over_the_edge_repeats_it() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    padded = np.pad(frame, ((90, 90), (90, 90), (0, 0)), mode="edge")
    for x, y, side in ((-10, -10, 20), (50, 30, 20), (22, -8, 16), (-15, -25, 90), (-56, 4, 32)):
        expected = padded[90 + y : 90 + y + side, 90 + x : 90 + x + side]
        np.testing.assert_array_equal(cut_square(frame, x, y, 1, side), expected)


def test_a_crop_is_as_good_at_its_edge_as_in_its_middle(picture: np.ndarray) -> None:
    for step in (0.75, 1.5, 3.25, 5.5, 11.0):
        small, wide = cut_square(picture, 30 * step, 20 * step, step, 16), cut_square(picture, 0, 0, step, 64)
        np.testing.assert_array_equal(small, wide[20:36, 30:46])


@pytest.mark.parametrize("step", [0.6, 1.0, 1.5703125, 2.34375, 5.25])
def test_a_plain_gradient_is_reproduced(step: float) -> None:
    def plain(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return 20 + (0.3 * x + 0.2 * y) / step

    crop = cut_square(paint(plain, 500, 500), 50.3, 60.6, step, SIZE)
    grid = (np.arange(SIZE) + 0.5) * step
    expected = plain(50.3 + grid[None, :], 60.6 + grid[:, None])
    assert np.abs(crop[:, :, 0] - expected).max() < 1.1  # both are rounded


@pytest.mark.parametrize("step", [0.625, 1.0, 1.5703125, 2.34375])
def test_a_crop_moves_with_the_face_by_half_a_pixel(step: float) -> None:
    def blob(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return 20 + 200 * np.exp(-((x - 100) ** 2 + (y - 80) ** 2) / (2 * (8 * step) ** 2))

    corner = np.array([100, 80]) - 32 * step
    here, moved = (cut_square(paint(blob, shift=shift), *corner, step, SIZE) for shift in (0, 0.5))
    assert locate_blob(here) == pytest.approx([32, 32], abs=0.02)
    assert locate_blob(moved) == pytest.approx(np.array([32, 32]) + 0.5 / step, abs=0.02)


@pytest.mark.parametrize("side", [140, 151.7, 160])
@pytest.mark.parametrize("crop", ["follow", "align"])
def test_what_is_too_fine_for_a_crop_turns_grey_instead_of_false_stripes(side: float, crop: str) -> None:
    stripes = paint(lambda x, y: 255 * ((x.astype(int) + y.astype(int)) % 2))
    centres, sides = np.array([[100.2, 80.3]]), np.array([side])
    path = FacePath(np.zeros(1, int), centres, sides, place_landmarks(centres, sides))
    shrunk = lay_canvases(path, margin=0, size=48, crop=crop, window=1).cut(stripes, 0)
    assert shrunk.std() < 3
    assert cv2.resize(stripes, (48, 48), interpolation=cv2.INTER_LINEAR).std() > 10
