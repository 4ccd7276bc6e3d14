"""In every frame of a video it is known where its face is, and what was found of it is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from dfmm.faces import follow as tracking
from dfmm.faces.follow import find_track
from dfmm.media.encode import write_video
from dfmm.sections import Video
from dfmm.settings import validate_settings

from ..conftest import detect_bright, detect_nobody, write_square

if TYPE_CHECKING:
    from ..conftest import Clip

# Looking for faces


def test_a_track_is_in_pixels_of_the_video_and_its_path_follows(tmp_path: Path, detectors: dict) -> None:
    detectors["retinaface"] = detect_bright
    path = write_square(tmp_path / "square.mp4", 41)
    video = Video(detect_side=80, detect_every=5, margin=0.25)
    track = find_track(path, video)
    assert (track.width, track.height, len(track.look_times), track.has_face) == (240, 160, 9, True)
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
    assert (track.detector, len(track.look_times), len(track.boxes)) == ("mtcnn", 4, 4)
    detectors["retinaface"] = detect_bright
    assert find_track(path, Video()).detector == "retinaface"
    assert find_track(path, Video(detector="mtcnn")).detector == "mtcnn"
    detectors["retinaface"] = None  # is not installed
    assert find_track(path, Video()).detector == "mtcnn"


def test_a_face_that_is_too_small_is_looked_for_in_larger_frames(tmp_path: Path, detectors: dict) -> None:
    def detect(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [faces[faces[:, 2] - faces[:, 0] > 40] for faces in detect_bright(frames)]

    path = write_square(tmp_path / "square.mp4", 20)
    for name in ("retinaface", "mtcnn"):  # whichever finds it is tried at both sizes
        detectors[name] = detect
        track = find_track(path, Video(detect_side=64))
        assert (track.detector, len(track.boxes)) == (name, 4)
        np.testing.assert_allclose(track.boxes[0], [0, 40, 64, 104], atol=2)
        detectors[name] = detect_nobody
    assert find_track(path, Video(detect_side=64)).detector == "nobody"


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
    assert (track.detector, len(track.look_times), len(track.boxes)) == ("mtcnn", 80, 40)


def test_retinaface_finds_a_drawn_face_and_where_it_is(face_clip: Clip) -> None:
    pytest.importorskip("retinaface")
    track = find_track(face_clip.path, Video(detect_every=4))
    assert (track.detector, len(track.look_times), track.face_coverage) == ("retinaface", 5, 1.0)
    for box, points in zip(track.boxes, track.landmarks, strict=True):
        assert 40 < box[0] < 128 < box[2] < 216
        assert 20 < box[1] < 122 < box[3] < 236
        assert ((points > box[:2]) & (points < box[2:])).all()
        left_eye, right_eye, nose, left_mouth, right_mouth = points
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
        assert left_eye[0] < nose[0] < right_eye[0]


# Shots and gaps


def write_shots(path: Path, shots: Sequence[tuple[int, int, int, int]]) -> Path:
    """Write a video of shots: so many frames, a bright square at this place and of this side, on this grey level."""
    frames = np.concatenate([np.full((count, 160, 240, 3), grey, np.uint8) for count, _, _, grey in shots])
    first = 0
    for count, left, side, _ in shots:
        frames[first : first + count, 40 : 40 + side, left : left + side] = 255
        first += count
    return write_video(path, frames)


def test_cuts_are_found_to_the_frame_and_nothing_glides_through_them(tmp_path: Path, detectors: dict) -> None:
    detectors["retinaface"] = detect_bright
    path = write_shots(tmp_path / "cut.mp4", [(33, 40, 64, 20), (38, 60, 64, 80), (29, 120, 80, 20)])
    track = find_track(path, Video())
    np.testing.assert_allclose(track.cut_times * 25, [33, 71], atol=1e-3)
    assert (track.shots, track.gaps, track.faces, track.face_coverage) == (3, 0, 1, 1.0)
    found = track.trace_face(Video())
    np.testing.assert_allclose(found.centres[:, 0], [72] * 33 + [92] * 38 + [160] * 29, atol=0.5)
    np.testing.assert_allclose(found.sides, [64] * 71 + [80] * 29, atol=1)


def test_a_cut_in_a_short_clip_is_found_as_well(tmp_path: Path, detectors: dict) -> None:
    detectors["retinaface"] = detect_bright
    path = write_shots(tmp_path / "short.mp4", [(4, 40, 64, 20), (3, 60, 64, 90)])
    np.testing.assert_allclose(find_track(path, Video()).cut_times * 25, [4], atol=1e-3)


def test_a_square_that_runs_and_a_picture_that_is_swung_round_are_no_cuts(tmp_path: Path, detectors: dict) -> None:
    detectors["retinaface"] = detect_bright
    track = find_track(write_square(tmp_path / "square.mp4", 80), Video())
    assert (track.shots, track.gaps, len(set(track.trace_face(Video()).shots))) == (1, 0, 1)
    x = np.arange(240) / 12
    frames = [127 + 100 * np.sin(x + (max(0, min(n - 30, 10)) / 3)) * np.ones((160, 1)) for n in range(60)]
    swung = write_video(tmp_path / "swung.mp4", np.stack(frames).astype(np.uint8)[..., None].repeat(3, axis=3))
    thumbnails = tracking._detect_faces(swung, detect_bright, side=360, every=5).thumbnails
    assert tracking.measure_changes(list(thumbnails.values())).max() > 2 * tracking.CUT_CHANGE
    assert len(tracking.find_cuts(swung, thumbnails)) == 0


@pytest.mark.parametrize("hidden", [1, 6, 60])
def test_a_face_that_is_found_in_some_looks_only_is_looked_for_larger_in_the_others(
    tmp_path: Path, detectors: dict, hidden: int
) -> None:
    """In small frames every sixtieth, sixth or single look misses it; large ones are taken of those looks alone."""
    sizes: list[int] = []

    def detect(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        sizes.extend(frame.shape[0] for frame in frames)
        found = detect_bright(frames)
        lefts = [int(rows[0, 0] * 160 / frame.shape[0]) // 2 for rows, frame in zip(found, frames, strict=True)]
        missed = [frame.shape[0] == 80 and left % hidden == 0 for left, frame in zip(lefts, frames, strict=True)]
        return [rows[:0] if miss else rows for rows, miss in zip(found, missed, strict=True)]

    detectors["retinaface"] = detect
    video = Video(detect_side=80, detect_every=1)
    track = find_track(write_square(tmp_path / "square.mp4", 60), video)
    missed = len([number for number in range(60) if number % hidden == 0])
    if missed < 6:  # a blink costs nothing
        assert 160 not in sizes
    else:
        assert track.face_coverage == 1
        assert missed <= sizes.count(160) <= missed + tracking.SECOND_LOOK
        np.testing.assert_allclose(track.boxes[:, 0], 2 * np.arange(60), atol=3)


def test_gaps_and_several_faces_are_told(tmp_path: Path, detectors: dict) -> None:
    def detect(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        second = np.array([[180, 100, 220, 140, 0.99, *[0] * 10]], np.float32)
        return [np.concatenate([faces, second]) for faces in detect_bright(frames)]

    detectors["retinaface"] = detect
    path = write_square(tmp_path / "square.mp4", 70, visible=lambda number: 10 <= number < 30 or 50 <= number < 60)
    track = find_track(path, Video())
    assert (track.faces, track.gaps) == (2, 3)
    assert track.face_coverage == pytest.approx(6 / 14)
    assert find_track(path, Video(face="longest")).face_coverage == 1


def test_canvases_of_other_settings_are_laid_anew(face_clip: Clip) -> None:
    small, large = (validate_settings({"video": {"size": size}}) for size in (48, 96))
    track = find_track(face_clip.path, small.video)
    first = track.lay_canvases(small)
    assert track.lay_canvases(small) is first
    assert track.lay_canvases(large).size == 96
    np.testing.assert_array_equal(track.lay_canvases(small).maps, first.maps)
