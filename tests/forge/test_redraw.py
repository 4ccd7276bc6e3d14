"""Pictures drawn anew, and patches: they leave the traces they are meant to, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from dfmm.faces.crops import TEMPLATE
from dfmm.forge.frames import CANVAS, CORNER, SPAN
from dfmm.forge.patches import SHAPES, draw_patch, draw_shape, patch_face, redraw_face, resample_frames
from dfmm.forge.redraw import (
    MEANS,
    SIDES,
    change_spectrum,
    decode_frames,
    draw_decoder,
    make_basis,
    redraw_frames,
    upsample_frames,
)

SIZE, T = 96, 3


@pytest.fixture
def frames() -> np.ndarray:
    """One picture with something to see at every scale, as a photograph has it: float32 `[T, SIZE, SIZE, 3]`."""
    rng, picture = np.random.default_rng(0), np.zeros((SIZE, SIZE, 3), np.float32)
    for deviation in (0.7, 2, 6, 18):
        layer = cv2.GaussianBlur(rng.standard_normal((SIZE, SIZE, 3)).astype(np.float32), (0, 0), deviation)
        picture += deviation**0.7 * layer / layer.std()
    return np.repeat((128 + 8 * picture)[None].clip(0, 255), T, axis=0).astype(np.float32)


@pytest.fixture
def landmarks() -> np.ndarray:
    return np.repeat(TEMPLATE[None] * SIZE, T, axis=0)


@pytest.mark.parametrize("side", SIDES)
def test_a_decoder_that_keeps_every_code_draws_the_picture_itself(side: int, frames: np.ndarray) -> None:
    basis = torch.from_numpy(make_basis(side))
    flat = basis.flatten(1)
    np.testing.assert_allclose(flat @ flat.T, np.eye(len(flat)), atol=1e-4)
    whole = replace(
        draw_decoder(np.random.default_rng(0)),
        analysis=basis,
        synthesis=basis,
        window=torch.ones(1, 1, side, side),
        step=side // 2,
        turn=torch.eye(len(basis) - MEANS),
        bend="none",
        level=False,
    )
    np.testing.assert_allclose(decode_frames(frames, whole), frames, atol=0.01)


def test_the_fewer_codes_the_smoother_and_colours_go_before_shapes(frames: np.ndarray) -> None:
    basis, ramp = torch.from_numpy(make_basis(8)), torch.hann_window(10)[1:-1]

    def keep(count: int) -> np.ndarray:
        decoder = replace(
            draw_decoder(np.random.default_rng(0)),
            analysis=basis[:count],
            synthesis=basis[:count],
            window=torch.outer(ramp, ramp)[None, None],
            step=2,
            turn=torch.eye(count - MEANS),
            bend="none",
            level=False,
        )
        return decode_frames(frames, decoder)

    detail = [measure_detail(keep(count)) for count in (6, 24, 96)] + [measure_detail(frames)]
    assert detail == sorted(detail)
    grey_of_first = np.abs(make_basis(8)[MEANS : MEANS + 4].sum(axis=1)).max(axis=(1, 2))
    assert (grey_of_first > 0.1).all()  # the first codes after the means are of brightness


@pytest.mark.parametrize("bend", ["none", "shrink", "round", "rectify", "noise"])
def test_each_bend_keeps_the_picture_and_changes_its_texture(bend: str, frames: np.ndarray) -> None:
    drawn = [replace(draw_decoder(np.random.default_rng(seed)), bend=bend, level=False) for seed in range(6)]
    for decoder in drawn:
        done = decode_frames(frames, decoder)
        assert np.isfinite(done).all()
        far = cv2.GaussianBlur(done[0] - frames[0], (0, 0), 8)
        assert np.abs(far).max() < 12  # from afar it is the same picture, in grey levels
        assert np.abs(done - frames).mean() > 0.3
        np.testing.assert_array_equal(done, decode_frames(frames, decoder))


def test_levelled_codes_are_as_strong_as_before(frames: np.ndarray) -> None:
    decoder = replace(draw_decoder(np.random.default_rng(3)), bend="round", amount=0.7)
    smooth, level = (decode_frames(frames, replace(decoder, level=level)) for level in (False, True))
    given = measure_detail(decode_frames(frames, replace(decoder, bend="none", level=False)))
    assert abs(measure_detail(level) - given) <= abs(measure_detail(smooth) - given)


def test_an_upsampling_leaves_a_lattice_of_two_pixels() -> None:
    flat = np.full((1, 64, 64, 3), 120, np.float32)
    parts = []
    for seed in range(10):
        done = upsample_frames(flat, np.random.default_rng(seed))[0, 8:-8, 8:-8, 0]
        assert done.mean() == pytest.approx(120, abs=1)
        spectrum = np.abs(np.fft.fft2(done - done.mean())) ** 2
        lattice = spectrum[0, 24] + spectrum[24, 0] + spectrum[24, 24]
        parts.append(lattice / spectrum.sum())
    assert min(parts) > 0.99


def test_a_spectrum_is_changed_at_high_frequencies_alone(frames: np.ndarray) -> None:
    across, down = np.meshgrid(np.fft.rfftfreq(SIZE), np.fft.fftfreq(SIZE))
    low = np.hypot(across, down) < 0.1
    high = np.hypot(across, down) > 0.3
    gains = []
    for seed in range(8):
        done = change_spectrum(frames, np.random.default_rng(seed))
        before, after = (np.fft.rfft2(one[0, ..., 1]) for one in (frames, done))
        np.testing.assert_allclose(after[low], before[low], rtol=0.01, atol=1)
        gains.append(np.median(np.abs(after[high]) / np.abs(before[high])))
    assert min(gains) < 0.9 < 1.1 < max(gains)  # now weaker, now stronger


def test_what_is_drawn_anew_is_steady_and_the_same_from_the_same_draw(frames: np.ndarray) -> None:
    done = {}
    for seed in range(12):
        before = frames.copy()
        drawn = redraw_frames(frames, np.random.default_rng(seed))
        np.testing.assert_array_equal(frames, before)  # what was given is not written to
        np.testing.assert_allclose(drawn, np.repeat(drawn[:1], T, axis=0), atol=1e-3)  # one draw for all frames
        np.testing.assert_array_equal(drawn, redraw_frames(frames, np.random.default_rng(seed)))
        done[seed] = drawn[0]
    assert all(np.abs(done[0] - done[seed]).mean() > 0.1 for seed in range(1, 12))


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_cover_the_mouth_and_are_not_all_alike(shape: str) -> None:
    outlines = [draw_shape(shape, np.random.default_rng(seed)).astype(np.float32) for seed in range(20)]
    for outline in outlines:
        assert cv2.pointPolygonTest(outline[:, None], (0, 1), False) > 0
        assert ((outline > CORNER) & (outline < CORNER + SPAN)).all()  # none is cut off by the canvas
    assert np.std([cv2.contourArea(outline) for outline in outlines]) > 0.05
    eyes = {cv2.pointPolygonTest(outline[:, None], (0.5, 0), False) > 0 for outline in outlines}
    assert (True in eyes) == (shape in ("ellipse", "hull"))


def test_edges_of_patches_are_hard_and_soft() -> None:
    steps = [np.abs(np.diff(draw_patch(np.random.default_rng(seed)), axis=1)).max() for seed in range(60)]
    assert 0.25 < np.mean(np.array(steps) > 0.4) < 0.55
    assert min(steps) < 0.1
    assert draw_patch(np.random.default_rng(0)).shape == (CANVAS, CANVAS)


def test_copies_are_resampled_in_two_cases_of_three_and_else_sharper(frames: np.ndarray) -> None:
    given = measure_detail(frames)
    drawn = [measure_detail(resample_frames(frames[:1], np.random.default_rng(seed))) for seed in range(200)]
    sharper = np.mean([one > given for one in drawn])
    assert 0.3 < sharper < 0.55  # what is sharpened, and what nearest neighbours make of some


def test_a_patch_is_only_where_its_mask_says(frames: np.ndarray, landmarks: np.ndarray) -> None:
    frames, sides = frames.astype(np.uint8), set()
    for seed in range(12):
        forged, masks, plain = patch_face(frames, landmarks, np.random.default_rng(seed))
        around = masks == 0
        np.testing.assert_array_equal(forged[around], plain[around])
        np.testing.assert_array_equal(forged, np.repeat(forged[:1], T, axis=0))
        assert (forged[masks > 0.2] != plain[masks > 0.2]).any()
        sides.add(bool((plain != frames).any()))
    assert sides == {False, True}  # now the face is the copy, now all around it


def test_most_of_what_is_drawn_anew_has_no_seam(frames: np.ndarray, landmarks: np.ndarray) -> None:
    frames = frames.astype(np.uint8)
    drawn = [redraw_face(frames[:1], landmarks[:1], np.random.default_rng(seed)) for seed in range(60)]
    assert 0.45 < np.mean([(one.masks == 1).all() for one in drawn]) < 0.75
    for forged, masks, plain in drawn:
        np.testing.assert_array_equal(forged[masks == 0], plain[masks == 0])
        assert (forged != plain).any()


def measure_detail(frames: np.ndarray) -> float:
    return float(np.mean(cv2.Laplacian(frames[0], cv2.CV_32F) ** 2))
