"""In which frames faces are looked for, and where they are in those between that need not be looked at."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import cv2
import numpy as np

from dfmm.faces.detect import BOX, SCORE, Detect
from dfmm.faces.link import measure_overlaps

# A detector is given four frames of 640 × 360 at once: more take longer, each by some 15 %.
BATCH_VALUES = 4 * 640 * 360 * 3
# First every so-manieth look is taken, but none more than so many frames after the last: meanwhile a head has nodded.
COARSE, COARSE_FRAMES = 4, 20
# Two looks tell where a face is between them if both are as sure as this; if from the one to the other no edge of its
# box and no landmark moves by more than this share of its side; and if meanwhile its picture departs from the line
# between these two by no more than this, 255 being black to white. A detector trembles by 0.01 to 0.03, and the picture
# of a face at rest, which speaks, departs by 2 to 4.
SURE, MOVED, DEPARTED = 0.95, 0.05, 5
CUT_CHANGE = 12  # grey levels by which the whole picture changes at least where a cut is looked for
THUMBNAIL = 32, 18  # width and height


def shrink_frame(frame: np.ndarray) -> np.ndarray:
    """Return a thumbnail, uint8 `[18, 32, 3]`, of a frame `[H, W, 3]`."""
    return cv2.resize(frame, THUMBNAIL, interpolation=cv2.INTER_AREA)


def measure_changes(thumbnails: Sequence[np.ndarray]) -> np.ndarray:
    """Return how much each thumbnail differs from the one before, in grey levels."""
    return np.array([np.abs(a.astype(int) - b).mean() for a, b in itertools.pairwise(thumbnails)])


class Watcher:
    """Finds the faces in a video's looks, frames at a regular distance, of which it gives few to the detector.

    First it detects in every `COARSE`-th look; where these leave a doubt (`tell_between`), in the one halfway as well,
    and so on down to each. Where they leave none, the looks between are filled in along a line, so that all have their
    faces. That is sound because a face which rests is off that line by about as much as the detector trembles, and
    because the path through all looks is interpolated and smoothed anyway. Where nobody is found there is always a
    doubt, and at a cut, so no line goes through one. Who only passes by, for less than `COARSE` looks, while all others
    rest, may be missed.

    Frames come one by one and are let go of a stretch at a time; which of them are looked at does not depend on it.
    """

    def __init__(self, detect: Detect, every: int):
        self.detect = detect
        self.coarse = min(max(COARSE_FRAMES // every, 1), COARSE)
        self.faces: dict[int, np.ndarray] = {}  # detections [K, 15], in pixels of the frames, by number
        self.thumbnails: dict[int, np.ndarray] = {}
        self.shapes: dict[int, tuple[int, int]] = {}  # height and width of the frames
        self._batch = 1  # frames of this size for the detector at once
        self._waiting: dict[int, np.ndarray] = {}  # frames by number, from a stretch's second look on
        self._found: dict[int, np.ndarray] = {}  # detections in a stretch

    def take(self, number: int, frame: np.ndarray) -> None:
        """Be given the frame `[H, W, 3]` of the next look."""
        if self._waiting and next(iter(self._waiting.values())).shape != frame.shape:
            self.settle()  # a detector is given frames of one size
        self.shapes[number] = frame.shape[:2]
        self.thumbnails[number] = shrink_frame(frame)
        self._waiting[number] = frame
        self._batch = -(-BATCH_VALUES // frame.size)
        if not self.faces or len(self._waiting) == self.coarse * self._batch:
            self.settle()

    def settle(self) -> None:
        """Find the faces in all frames that wait, and let go of these."""
        if not self._waiting:
            return
        # A stretch starts where the last ended, unless the picture was turned meanwhile.
        shape = self.shapes[next(iter(self._waiting))]
        last = itertools.islice(reversed(self.faces.items()), 1)
        self._found = {number: rows for number, rows in last if self.shapes[number] == shape}
        numbers = [*self._found, *self._waiting]
        ends = sorted({*range(0, len(numbers), self.coarse), len(numbers) - 1})
        self._look([numbers[at] for at in ends])
        spans = list(itertools.pairwise(ends))
        while spans := [(a, b) for a, b in spans if b - a > 1 and not self._fill(numbers[a : b + 1])]:
            self._look([numbers[(a + b) // 2] for a, b in spans])
            spans = [half for a, b in spans for half in ((a, (a + b) // 2), ((a + b) // 2, b))]
        self.faces.update(sorted(self._found.items()))
        self._waiting.clear()

    def _look(self, numbers: list[int]) -> None:
        """Detect in these frames, but for those in which it has been done, batch by batch."""
        numbers = [number for number in numbers if number not in self._found]
        for at in range(0, len(numbers), self._batch):
            batch = numbers[at : at + self._batch]
            found = self.detect([self._waiting[number] for number in batch])
            self._found.update(zip(batch, found, strict=True))

    def _fill(self, numbers: list[int]) -> bool:
        """Fill in the looks between the first and the last of these, if that is certain."""
        first, *between, last = numbers
        ends, thumbnails = (self._found[first], self._found[last]), [self.thumbnails[number] for number in numbers]
        scale = np.tile(THUMBNAIL, 2) / np.tile(self.shapes[first][::-1], 2)
        rows = tell_between(*ends, np.stack(thumbnails), scale=scale)
        if rows is not None:
            self._found.update(zip(between, rows, strict=True))
        return rows is not None


def tell_between(one: np.ndarray, other: np.ndarray, thumbnails: np.ndarray, *, scale: np.ndarray) -> np.ndarray | None:
    """Return where faces are in the looks between two, float32 `[n, K, 15]`, or None where that is not certain.

    Args:
        one, other: what was found in these two, `[K, 15]`.
        thumbnails: of all looks from the one to the other, `[2 + n, 18, 32, 3]`.
        scale: from a box's left, top, right and bottom to the thumbnails' pixels, `[4]`.
    """
    if len(one) != len(other) or not len(one) or measure_changes(thumbnails).max() > CUT_CHANGE:
        return None
    match = measure_overlaps(one, other).argmax(axis=1)
    other = other[match]
    if len(set(match.tolist())) < len(match) or not _rest(one, other):
        return None
    if _measure_departure(thumbnails, one[:, BOX] * scale, other[:, BOX] * scale) > DEPARTED:
        return None
    return _draw_line(one, other, len(thumbnails)).astype(np.float32)


def _rest(one: np.ndarray, other: np.ndarray) -> bool:
    """Are these the same faces `[K, 15]` for sure, and hardly moved?"""
    sides = np.minimum(_measure_sides(one), _measure_sides(other))
    moves = np.delete(np.abs(other - one), SCORE, axis=1).max(axis=1)
    return bool((moves <= MOVED * sides).all() and min(one[:, SCORE].min(), other[:, SCORE].min()) >= SURE)


def _measure_departure(thumbnails: np.ndarray, one: np.ndarray, other: np.ndarray) -> float:
    """Return by how many grey levels thumbnails `[2 + n, 18, 32, 3]` depart from the line from the first to the last.

    That of the look and the face that do most. Boxes in the first and the last, `[K, 4]`, are in pixels of these.
    """
    departures = np.abs(thumbnails[1:-1] - _draw_line(thumbnails[0], thumbnails[-1], len(thumbnails)))
    starts = np.floor(np.minimum(one, other)[:, :2]).clip(0, np.subtract(THUMBNAIL, 1)).astype(int)
    ends = np.maximum(np.ceil(np.maximum(one, other)[:, 2:]).astype(int), starts + 1)
    faces = [departures[:, y:bottom, x:right] for (x, y), (right, bottom) in zip(starts, ends, strict=True)]
    return max(float(face.mean(axis=(1, 2, 3)).max()) for face in faces)


def _measure_sides(faces: np.ndarray) -> np.ndarray:
    """Return the longer sides `[K]` of boxes `[K, 4+]`."""
    return np.maximum(faces[:, 2] - faces[:, 0], faces[:, 3] - faces[:, 1])


def _draw_line(one: np.ndarray, other: np.ndarray, count: int) -> np.ndarray:
    """Return what is between two arrays, `[count - 2, …]`, at equal steps."""
    return np.linspace(one.astype(np.float64), other.astype(np.float64), count)[1:-1]
