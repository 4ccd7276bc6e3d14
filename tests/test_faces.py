"""Of the faces in a video one is followed, and it stays the same one."""

from __future__ import annotations

import numpy as np
import pytest

from dfmm.data import faces
from dfmm.data.faces import follow_face, load_detector

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
