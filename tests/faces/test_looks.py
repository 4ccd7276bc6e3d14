"""Faces are detected in few looks where that tells all, in each where it does not, and every look has its faces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from dfmm.faces import looks
from dfmm.faces.detect import Detect
from dfmm.faces.looks import Watcher

from ..conftest import detect_bright


def paint(left: int | None, *, grey: int = 20, side: int = 60) -> np.ndarray:
    """Draw a bright square, or nobody, before a grey wall."""
    frame = np.full((90, 160, 3), grey, np.uint8)
    if left is not None:
        frame[10 : 10 + side, left : left + side] = 150
    return frame


def watch(
    frames: Sequence[np.ndarray], detect: Detect = detect_bright, *, every: int = 5
) -> tuple[list[np.ndarray], list[int]]:
    """Return the faces of each look, and which of them the detector was given."""
    given: list[np.ndarray] = []

    def count(batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        given.extend(batch)
        return detect(batch)

    watcher = Watcher(count, every)
    for number, frame in enumerate(frames):
        watcher.take(number * every, frame)
    watcher.settle()
    assert list(watcher.faces) == list(watcher.thumbnails) == [number * every for number in range(len(frames))]
    looked = [number for number, frame in enumerate(frames) if any(frame is one for one in given)]
    assert len(looked) == len(given)  # each once
    return list(watcher.faces.values()), looked


def test_a_face_at_rest_is_detected_in_few_looks_and_known_in_all() -> None:
    frames = [paint(40 + number // 8) for number in range(30)]  # hardly moves
    faces, looked = watch(frames)
    assert looked == [*range(0, 30, looks.COARSE), 29]
    for found, meant in zip(faces, detect_bright(frames), strict=True):
        assert (found.dtype, found.shape) == (np.float32, (1, 15))
        np.testing.assert_allclose(found, meant, atol=1)
    np.testing.assert_allclose(faces[6][0, 0], 40.5)  # halfway between 40 and 41


def test_looks_that_are_far_apart_are_all_taken() -> None:
    for every, looked in ((1, 5), (10, 9), (20, 17)):
        assert len(watch([paint(40) for _ in range(17)], every=every)[1]) == looked


@pytest.mark.parametrize(
    "change",
    [
        lambda n: paint(20 + 4 * n),  # runs
        lambda n: paint(40, side=30 + 2 * n),  # comes nearer
        lambda n: paint(None),  # is not there
        lambda n: paint(40 if n % 4 else None),  # nor in any of the coarse looks
    ],
)
def test_a_face_that_moves_or_is_missed_is_detected_in_every_look(change: Detect) -> None:
    frames = [change(number) for number in range(17)]
    faces, looked = watch(frames)
    assert looked == list(range(17))
    for found, meant in zip(faces, detect_bright(frames), strict=True):
        np.testing.assert_array_equal(found, meant)


@pytest.mark.parametrize("at", range(5, 8))
def test_what_happens_between_two_coarse_looks_is_looked_at(at: int) -> None:
    """Somebody comes, nods and is back, or there is a cut, after which the face is where it was."""
    comes = [paint(40 if number >= at else None) for number in range(13)]
    nods = [paint(48 if number == at else 40) for number in range(13)]
    cut = [paint(40, grey=60 if number >= at else 20) for number in range(13)]
    for frames in (comes, nods, cut):
        faces, looked = watch(frames)
        assert {at - 1, at} <= set(looked)
        for found, meant in zip(faces, detect_bright(frames), strict=True):
            np.testing.assert_array_equal(found, meant)
    assert len(looked) < 13


def test_two_who_rest_are_told_apart_in_whichever_order_they_come() -> None:
    def detect(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        orders = [1 if frame[0, 0, 0] == 20 else -1 for frame in frames]
        there = 80 * np.isin(np.arange(15), [0, 2])
        pairs = [np.concatenate([faces, faces + there]) for faces in detect_bright(frames)]
        return [pair[::order] for pair, order in zip(pairs, orders, strict=True)]

    faces, looked = watch([paint(5, grey=20 + number // 4 % 2) for number in range(13)], detect)
    assert looked == [0, 4, 8, 12]
    np.testing.assert_allclose(faces[2][:, 0], [5, 85])
    np.testing.assert_allclose(faces[6][:, 0], [85, 5])


def test_where_a_detector_is_not_sure_it_is_asked_again() -> None:
    def doubt(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [faces - 0.1 * (np.arange(15) == 4) for faces in detect_bright(frames)]

    assert watch([paint(40) for _ in range(9)], doubt)[1] == list(range(9))


def test_landmarks_that_move_are_looked_at_though_their_box_does_not() -> None:
    def turn(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        found = [faces.copy() for faces in detect_bright(frames)]
        for faces, frame in zip(found, frames, strict=True):
            faces[:, 9] = 2 * frame[0, 0, 0]
        return found

    frames = [paint(40, grey=20 + 2 * number) for number in range(9)]
    assert watch(frames)[1] == [0, 4, 8]
    assert watch(frames, turn)[1] == list(range(9))


def test_the_size_of_batches_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    lefts = np.random.default_rng(0).normal(0, 1.5, 47).cumsum() + 50
    frames = [paint(int(left)) for left in lefts]
    most: list[int] = []

    def detect(batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        most[-1] = max(most[-1], len(batch))
        return detect_bright(batch)

    results = []
    for batch in (1, 3, 100):
        monkeypatch.setattr(looks, "BATCH_VALUES", batch * frames[0].size)
        most.append(0)
        results.append(watch(frames, detect))
    assert most[:2] == [1, 3]
    for faces, looked in results:
        assert looked == results[0][1]
        np.testing.assert_array_equal(np.concatenate(faces), np.concatenate(results[0][0]))
    assert 12 < len(results[0][1]) < 47
