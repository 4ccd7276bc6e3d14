"""In every frame of a video it is known where its face is, and what was found of it is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from dfmm.data import tracking
from dfmm.data.tracking import find_track
from dfmm.settings import Video, validate_settings

from .conftest import detect_bright, write_square

if TYPE_CHECKING:
    from .conftest import Clip

# Looking for faces


def test_a_track_is_in_pixels_of_the_video_and_its_path_follows(tmp_path: Path, detectors: dict) -> None:
    detectors["retinaface"] = detect_bright
    path = write_square(tmp_path / "square.mp4", 41)
    video = Video(detect_side=80, detect_every=5, margin=0.25)
    track = find_track(path, video)
    assert (track.width, track.height, track.looked_at, track.has_face) == (240, 160, 9, True)
    np.testing.assert_allclose(track.box_times, np.arange(9) / 5, atol=1e-3)
    path = track.trace_face(video)
    np.testing.assert_allclose(path.centres, np.stack([2 * np.arange(41) + 32, [72] * 41], axis=1), atol=2)
    np.testing.assert_allclose(path.sides, 64, atol=2)
    assert track.duration == pytest.approx(41 / 25, abs=1e-3)
    assert not track.has_sound


def test_without_a_detector_the_centre_counts_as_the_face_and_nobody_found_does_not(
    clip: Clip, detectors: dict
) -> None:
    whole, masked = find_track(clip.path, Video(detector="none")), find_track(clip.path, Video())
    assert (whole.detector, whole.has_face, whole.face_coverage) == ("none", True, 1)
    assert (masked.detector, masked.has_face, masked.face_coverage) == ("nobody", False, 0)
    for crop in ("steady", "follow", "align"):
        settings = validate_settings({"video": {"size": 48, "margin": 0.5, "crop": crop}})
        np.testing.assert_array_equal(whole.lay_canvases(settings).maps, [[16, 0, 2, 0]] * 50)
        assert not masked.lay_canvases(settings).seen.any()


def test_the_other_detector_is_asked_where_the_first_finds_nobody(tmp_path: Path, detectors: dict) -> None:
    path = write_square(tmp_path / "square.mp4", 20)
    assert find_track(path, Video()).detector == "nobody"
    detectors["mtcnn"] = detect_bright
    track = find_track(path, Video())
    assert (track.detector, track.looked_at, len(track.boxes)) == ("mtcnn", 4, 4)
    detectors["retinaface"] = detect_bright
    assert find_track(path, Video()).detector == "retinaface"
    assert find_track(path, Video(detector="mtcnn")).detector == "mtcnn"
    detectors["retinaface"] = None  # is not installed
    assert find_track(path, Video()).detector == "mtcnn"


def test_the_fallback_looks_at_all_frames_only_where_it_sees_somebody(tmp_path: Path, detectors: dict) -> None:
    looks = []

    def detect(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        looks.append(len(frames))
        return detect_bright(frames)

    detectors["mtcnn"] = detect
    blank = write_square(tmp_path / "blank.mp4", 80, visible=lambda number: False)
    assert find_track(blank, Video(detect_every=1)).detector == "nobody"
    assert 0 < sum(looks) <= tracking.SECOND_LOOK
    half = write_square(tmp_path / "half.mp4", 80, visible=lambda number: number >= 40)
    track = find_track(half, Video(detect_every=1))
    assert (track.detector, track.looked_at, len(track.boxes)) == ("mtcnn", 80, 40)
    assert max(looks) <= tracking.BATCH


def test_retinaface_finds_a_drawn_face_and_where_it_is(face_clip: Clip) -> None:
    pytest.importorskip("retinaface")
    track = find_track(face_clip.path, Video(detect_every=4))
    assert (track.detector, track.looked_at, track.face_coverage) == ("retinaface", 5, 1.0)
    for box, points in zip(track.boxes, track.landmarks, strict=True):
        assert 40 < box[0] < 128 < box[2] < 216
        assert 20 < box[1] < 122 < box[3] < 236
        assert ((points > box[:2]) & (points < box[2:])).all()
        left_eye, right_eye, nose, left_mouth, right_mouth = points
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
        assert left_eye[0] < nose[0] < right_eye[0]
