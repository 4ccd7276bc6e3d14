"""Mouths: cut where the mouth is whatever the head does, darker the wider it is open, NaN where no mesh is."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from dfmm.faces import lips
from dfmm.faces.crops import TEMPLATE, align_landmarks
from dfmm.faces.follow import find_track
from dfmm.faces.lips import MouthFinder, cut_mouth, has_mesh, load_mesh, measure_darkness, measure_lips, warp_region
from dfmm.media.decode import read_media
from dfmm.sections import Video
from tests.conftest import Clip

SHARED = Path(__file__).resolve().parents[3] / "shared"


def place_face(x: float, y: float, side: float, degrees: float = 0.0) -> np.ndarray:
    """Return the five landmarks `[1, 5, 2]` of a face of this side, turned around its upper left corner."""
    turn = np.exp(1j * np.radians(degrees))
    points = (TEMPLATE @ [1, 1j]) * side * turn + x + 1j * y
    return np.stack([points.real, points.imag], axis=-1)[None]


def draw_face(landmarks: np.ndarray, opening: float, size: int = 400) -> np.ndarray:
    """Draw a grey frame with a dark ellipse for a mouth, `opening` of its width high."""
    frame = np.full((size, size, 3), 160, np.uint8)
    left, right = landmarks[0, 3:]
    width = float(np.linalg.norm(right - left))
    angle = float(np.degrees(np.arctan2(*(right - left)[::-1])))
    middle = tuple(np.rint((left + right) / 2).astype(int).tolist())
    axes = (round(0.4 * width), max(round(opening * width / 2), 1))
    return cv2.ellipse(frame, middle, axes, angle, 0, 360, (20, 20, 20), -1, cv2.LINE_AA)


@pytest.mark.parametrize("place", [(60, 60, 150, 0), (20, 90, 260, 0), (200, 60, 150, 25), (120, 150, 60, -20)])
def test_the_mouth_is_in_one_place_whatever_the_head_does(place: tuple[float, ...]) -> None:
    landmarks = place_face(*place)
    mouth = cut_mouth(draw_face(landmarks, 0.5), align_landmarks(landmarks, margin=0, size=1)[0])
    dark = np.argwhere(mouth < 90)
    assert mouth.shape == (lips.HEIGHT, lips.WIDTH)
    np.testing.assert_allclose(dark.mean(axis=0), [15.5, 23.5], atol=1.0)
    assert np.ptp(dark[:, 1]) == pytest.approx(0.8 * lips.WIDTH * lips.MOUTH_WIDTH / lips.REGION, abs=3)


def test_a_mouth_is_darker_the_wider_it_is_open() -> None:
    landmarks = place_face(100, 80, 200)
    face = align_landmarks(landmarks, margin=0, size=1)[0]
    mouths = [cut_mouth(draw_face(landmarks, opening), face) for opening in (0.02, 0.12, 0.6)]
    assert (np.diff(measure_darkness(np.stack(mouths)).sum(axis=1)) > 5).all()
    assert measure_darkness(np.zeros((0, lips.HEIGHT, lips.WIDTH), np.uint8)).shape == (0, 2)


def test_what_is_far_larger_is_averaged_and_edges_are_repeated() -> None:
    checks = (np.indices((400, 400)).sum(axis=0) % 2 * 255).astype(np.uint8)
    shrunk = warp_region(checks, np.array([0.0, 0.0, 8.0, 0.0]), 50, 50)
    assert np.abs(shrunk[2:-2, 2:-2].astype(int) - 127).max() < 20  # no moiré
    beyond = warp_region(np.full((20, 20), 77, np.uint8), np.array([-500.0, -500.0, 1.0, 0.0]), 8, 8)
    assert (beyond == 77).all()


def test_distances_do_not_depend_on_scale_and_place() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 100, (3, lips.POINTS, 2)).astype(np.float32)
    np.testing.assert_allclose(measure_lips(3 * points + 40), measure_lips(points), rtol=1e-3)
    points[1] = np.nan
    assert np.isnan(measure_lips(points)).all(axis=1).tolist() == [False, True, False]
    assert np.isnan(measure_lips(np.zeros((4, 0, 2), np.float32))).all()


def test_a_drawn_face_has_a_mouth_in_every_frame_in_which_it_is_known(face_clip: Clip) -> None:
    track = find_track(face_clip.path, Video())
    finder = MouthFinder(track, Video())
    media = read_media(face_clip.path, keep=finder.wants, sample_rate=16_000)
    for number, frame in media.frames.items():
        finder.take(number, frame)
    mouths = finder.finish()
    assert len(mouths.times) == len(face_clip.frames) == len(mouths.crops)
    assert mouths.points.shape == (len(mouths.times), 0, 2)
    assert np.isnan(mouths.lips).all()
    assert mouths.crops.std() > 5


@pytest.mark.skipif(not has_mesh(), reason="the extra `mesh` is not installed")
@pytest.mark.skipif(not SHARED.is_dir(), reason="no real clips here")
def test_the_mesh_agrees_with_the_detector_and_opens_with_the_mouth() -> None:
    path = SHARED / "grid" / "bbaf3s.mpg"
    track = find_track(path, Video())
    finder = MouthFinder(track, Video(), load_mesh())
    read_media(path, keep=finder.wants, sample_rate=16_000, take=finder.take)
    mouths = finder.finish()
    assert np.isfinite(mouths.lips).all()
    corners = mouths.points[:, [61, 291]].mean(axis=1)
    seen = np.isin(mouths.times, track.box_times)
    found = track.landmarks[np.isin(track.box_times, mouths.times), 3:].mean(axis=1)
    eyes = np.linalg.norm(mouths.points[:, 33] - mouths.points[:, 263], axis=1).mean()
    assert np.linalg.norm(corners[seen] - found, axis=1).mean() < 0.1 * eyes
    assert np.corrcoef(mouths.lips[:, 0], mouths.darkness[:, 0])[0, 1] > 0.3
