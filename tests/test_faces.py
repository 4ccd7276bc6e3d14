"""Faces are followed and cropped steadily; tracks are found once, kept, and found again where they must be."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from dfmm.data import extract, faces
from dfmm.data.extract import Track, extract_tracks, find_track, load_track, locate_track, save_track, tabulate_tracks
from dfmm.data.faces import crop_square, find_faces, follow_face, square_box
from dfmm.data.media import MediaError, write_video
from dfmm.settings import Settings, Video, validate_settings

if TYPE_CHECKING:
    from conftest import Clip

NOBODY = np.zeros((0, 15), np.float32)
FRAME = np.zeros((8, 8, 3), np.uint8)


def face(left: float, top: float, side: float) -> np.ndarray:
    """A detection: a square box, a score and landmarks in its middle, `[15]`."""
    return np.array([left, top, left + side, top + side, 0.99, *[left + side / 2, top + side / 2] * 5], np.float32)


def detect_bright(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Stand in for a detector: the bright square of a frame is its face."""
    found = []
    for frame in frames:
        y, x = np.nonzero(frame.min(axis=2) > 128)
        found.append(face(x.min(), y.min(), x.max() + 1 - x.min())[None] if len(x) else NOBODY)
    return found


def detect_nobody(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [NOBODY for _ in frames]


@pytest.fixture
def detectors(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable | None]:
    """What stands in for the detectors, by name."""
    stand_ins: dict[str, Callable | None] = {"retinaface": detect_nobody, "mtcnn": detect_nobody}
    monkeypatch.setattr(faces, "load_detector", stand_ins.get)
    return stand_ins


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


# Cropping


def test_the_square_is_steady_and_holds_the_boxes_and_their_margin() -> None:
    boxes = np.array([[10, 20, 50, 80], [12, 20, 52, 80], [300, 0, 301, 1]], float)  # the last is a slip
    np.testing.assert_allclose(square_box(boxes, margin=0.25), [32, 50, 90])


def test_a_crop_inside_the_frame_is_the_frame_itself() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    np.testing.assert_array_equal(crop_square(frame, np.array([30, 20, 16]), 16), frame[12:28, 22:38])
    assert crop_square(frame, np.array([30.3, 20.2, 23.7]), 64).shape == (64, 64, 3)


def test_a_crop_over_the_edge_repeats_it() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    padded = np.pad(frame, ((50, 50), (50, 50), (0, 0)), mode="edge")
    for x, y, side in ((0, 0, 20), (60, 40, 20), (30, 0, 16), (30, 20, 90)):
        expected = padded[50 + y - side // 2 : 50 + y + side // 2, 50 + x - side // 2 : 50 + x + side // 2]
        np.testing.assert_array_equal(crop_square(frame, np.array([x, y, side]), side), expected)
    assert crop_square(frame, np.array([-100, 20, 20]), 32).max() == 0  # nothing of it is in the frame
    assert crop_square(frame, np.array([30, 20, 0]), 32).shape == (32, 32, 3)


# Detecting


def test_the_other_detector_is_asked_where_the_first_finds_nobody(detectors: dict) -> None:
    frames = [FRAME] * 20
    assert find_faces(frames, "retinaface")[1] == "centre"
    detectors["mtcnn"] = lambda frames: [face(1, 1, 4)[None] for _ in frames]
    detections, detector = find_faces(frames, "retinaface")
    assert detector == "mtcnn"
    assert [len(found) for found in detections] == [1] * 20
    detectors["retinaface"] = detect_bright
    assert find_faces([FRAME, FRAME + 255], "retinaface")[1] == "retinaface"
    assert find_faces([FRAME, FRAME + 255], "mtcnn")[1] == "mtcnn"
    detections, detector = find_faces([FRAME + 255] * 3, "none")
    assert (detector, [len(found) for found in detections]) == ("centre", [0, 0, 0])


def test_the_fallback_looks_at_all_frames_only_where_it_sees_somebody(detectors: dict) -> None:
    looks = []

    def detect(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        looks.append(len(frames))
        return detect_bright(frames)

    detectors["mtcnn"] = detect
    find_faces([FRAME] * 400, "retinaface")
    assert 0 < sum(looks) <= faces.SECOND_LOOK
    detections, detector = find_faces([FRAME] * 200 + [FRAME + 255] * 200, "retinaface")
    assert detector == "mtcnn"
    assert [len(found) for found in detections] == [0] * 200 + [1] * 200
    assert max(looks) <= faces.BATCH


def test_a_detector_that_is_not_installed_is_said_once_and_passed_over(
    monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    def fail() -> None:
        raise ImportError("No module named 'retinaface'")

    monkeypatch.setattr(faces, "_load_retinaface", fail)
    monkeypatch.setattr(faces, "_load_mtcnn", lambda: detect_bright)
    faces.load_detector.cache_clear()
    try:
        for _ in range(3):
            assert find_faces([FRAME + 255], "retinaface")[1] == "mtcnn"
    finally:
        faces.load_detector.cache_clear()
    assert len(said) == 1
    assert "retinaface is not available" in said[0]


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


# Tracks


def test_a_track_is_in_pixels_of_the_video_and_interpolates_between_detections(tmp_path: Path, detectors: dict) -> None:
    detectors["retinaface"] = detect_bright
    frames = np.zeros((21, 160, 240, 3), np.uint8)
    for number, frame in enumerate(frames):
        frame[40:104, 4 * number : 4 * number + 64] = 255
    path = write_video(tmp_path / "square.mp4", frames)
    track = find_track(path, Video(detect_side=80, detect_every=5))
    assert (track.width, track.height, track.looked_at, track.has_face) == (240, 160, 5, True)
    np.testing.assert_allclose(track.box_times, [0, 0.2, 0.4, 0.6, 0.8], atol=1e-3)
    moments = np.arange(21) / 25
    expected = np.stack([4 * np.arange(21), [40] * 21, 4 * np.arange(21) + 64, [104] * 21], axis=1)
    np.testing.assert_allclose(track.boxes_at(moments), expected, atol=3)
    assert track.duration == pytest.approx(21 / 25, abs=1e-3)
    assert not track.has_sound


def test_a_track_survives_its_file_and_a_damaged_file_is_none(tmp_path: Path, clip: Clip) -> None:
    track, path = find_track(clip.path, Video(detector="none")), tmp_path / "track.npz"
    assert (track.detector, track.has_face, track.has_sound) == ("centre", False, True)
    assert track.sound_end == pytest.approx(2, abs=0.1)
    assert load_track(path) is None
    save_track(track, path)
    assert list(tmp_path.iterdir()) == [path]
    assert_same(load_track(path), track)
    content = path.read_bytes()
    for at in range(0, len(content), 7):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        if (loaded := load_track(path)) is not None:  # a byte that means nothing, such as a date
            assert_same(loaded, track)
        path.write_bytes(content[:at])
        assert load_track(path) is None


def assert_same(one: Track | None, other: Track) -> None:
    assert one is not None
    for name in Track.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


# Extraction


@pytest.fixture
def videos(tmp_path: Path, clip: Clip, mute_clip: Clip) -> tuple[pd.DataFrame, Settings]:
    """Two good videos around a broken and a missing one, in which nobody looks for faces."""
    root = tmp_path / "videos"
    root.mkdir()
    shutil.copy(clip.path, root / "clip.mp4")
    shutil.copy(mute_clip.path, root / "mute.mp4")
    (root / "broken.mp4").write_bytes(clip.path.read_bytes()[:999])
    names = ["clip", "broken", "missing", "mute"]
    table = pd.DataFrame({"video_id": names, "path": [f"{name}.mp4" for name in names]})
    data = {"root": str(root), "cache": str(tmp_path / "cache")}
    return table, validate_settings({"data": data, "video": {"detector": "none"}})


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded, one by one and in this process."""
    names: list[str] = []

    def find(paths: list[Path], places: list[Path], settings: Settings) -> Iterator[Track | str]:
        for path, place in zip(paths, places, strict=True):
            names.append(path.name)
            try:
                yield extract._find_and_save(path, place, settings.video)
            except MediaError as error:
                yield str(error)

    monkeypatch.setattr(extract, "_find_in_parallel", find)
    return names


def test_workers_find_what_one_process_finds_and_a_broken_file_costs_itself(
    videos: tuple[pd.DataFrame, Settings], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table, settings = videos
    tracks, failures = extract_tracks(table, settings, progress=False)
    assert list(tracks) == ["clip", "mute"]
    for name, track in tracks.items():
        assert_same(track, find_track(Path(settings.data.root) / f"{name}.mp4", settings.video))
    assert set(failures) == {"broken", "missing"}
    for name, reason in {"broken": "cannot be decoded", "missing": "no such file"}.items():
        assert failures[name].startswith(f"{Path(settings.data.root) / name}.mp4: {reason}")
    assert sum("is left out" in message for message in said) == 2
    # The second time, nothing that is kept is decoded again, and what failed is tried.
    tried = []
    monkeypatch.setattr(extract, "_find_in_parallel", lambda paths, *_: tried.extend(paths) or ["still broken"])
    again, failures = extract_tracks(table, settings, progress=False)
    assert [path.name for path in tried] == ["broken.mp4"]
    assert failures["broken"] == "still broken"
    for name, track in again.items():
        assert_same(track, tracks[name])


def test_a_changed_video_a_damaged_entry_and_other_settings_are_done_again(
    videos: tuple[pd.DataFrame, Settings], decoded: list[str]
) -> None:
    table, settings = videos
    table = table[table["video_id"].isin(["clip", "mute"])]
    path = Path(settings.data.root) / "clip.mp4"

    def extract_again(settings: Settings) -> list[str]:
        decoded.clear()
        assert len(extract_tracks(table, settings, progress=False)[0]) == 2
        return list(decoded)

    assert extract_again(settings) == ["clip.mp4", "mute.mp4"]
    assert extract_again(settings) == []
    locate_track(path.resolve(), settings).write_bytes(b"PK\x03\x04 damaged")
    assert extract_again(settings) == ["clip.mp4"]
    os.utime(path, ns=(1, 1))
    assert extract_again(settings) == ["clip.mp4"]
    other = settings.model_copy(update={"video": Video(detector="none", detect_every=9)})
    assert extract_again(other) == ["clip.mp4", "mute.mp4"]
    larger = settings.model_copy(update={"video": Video(detector="none", size=224, frames=4)})
    assert extract_again(larger) == []  # what only concerns windows finds the same track


def test_a_video_without_a_face_is_reported_once(
    videos: tuple[pd.DataFrame, Settings], decoded: list[str], detectors: dict, said: list[str]
) -> None:
    table, settings = videos
    settings = settings.model_copy(update={"video": Video()})
    extract_tracks(table, settings, progress=False)
    assert said[2:] == ["2 of 2 videos: no face, centre crop"]
    extract_tracks(table, settings, progress=False)
    assert not any("centre crop" in message for message in said[3:])


def test_the_table_of_tracks_has_a_row_a_video(videos: tuple[pd.DataFrame, Settings], decoded: list[str]) -> None:
    table, settings = videos
    table = table.iloc[[3, 0]].assign(split="test", label=1, method="x")
    rows = tabulate_tracks(table, extract_tracks(table, settings, progress=False)[0])
    assert list(rows["video_id"]) == ["mute", "clip"]
    assert list(rows["fps"]) == pytest.approx([29.97, 25], abs=0.01)
    assert list(rows["has_sound"]) == [False, True]
    assert list(rows["seconds"]) == pytest.approx([32 / 29.97, 2], abs=0.01)


class DeadlyPath:
    """A path that ends the process which opens it, as a crash of its decoder would."""

    def __fspath__(self) -> str:
        os._exit(9)


class EndlessPath:
    """A path that keeps whoever opens it for long."""

    def __fspath__(self) -> str:
        time.sleep(20)
        return "endless.mp4"


def test_a_worker_that_dies_costs_its_file_and_an_interrupt_waits_for_nobody(
    videos: tuple[pd.DataFrame, Settings], tmp_path: Path
) -> None:
    settings, root = videos[1], Path(videos[1].data.root)
    paths = [root / "clip.mp4", DeadlyPath(), root / "mute.mp4", EndlessPath(), EndlessPath(), EndlessPath()]
    places = [tmp_path / f"{number}.npz" for number in range(len(paths))]
    results = extract._find_in_parallel(paths, places, settings)
    first, dead, third = (next(results) for _ in range(3))
    assert isinstance(first, Track)
    assert isinstance(third, Track)
    assert "its decoder crashed" in dead
    started = time.monotonic()
    results.close()
    assert time.monotonic() - started < 10
