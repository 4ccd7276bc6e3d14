"""What is cut out of every frame around a face: the path it moves along, and the pixels, on a grid that rests."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter1d, maximum_filter1d, median_filter, minimum_filter1d

# No head grows by a quarter from one look to the next, but the picture does at a cut to a closer one.
CUT_GROWTH = 1.25
SCALE_GROWTH = 1.6  # a shot in which a face grows by more than this, as it comes nearer, is cut in more than one scale
CENTRE_SECONDS = 0.08  # deviation of the Gaussian that a path is smoothed with: it has to follow a nod
SIDE_QUANTILE = 0.9  # of the face's sides in a shot, the one that the shot is cropped for: nearly all of them fit
# A crop stays where it is until its path is further away than this, in its own pixels: a face at rest, found now half a
# pixel to the left and now to the right, does not make it tremble.
SLACK = 0.75
# Frames are scaled by whole multiples of this. All positions on the grid are then exact in Pillow's 32-bit boxes, and
# what a frame's pixel becomes does not depend on where the crop begins.
STEP = 1 / 256

# The five landmarks in a crop of side 1 without margin: both eyes, nose, both corners of the mouth. From ArcFace (Deng
# et al., CVPR 2019), whose 112 × 112 template is that of SphereFace for 96 × 112, moved right by 8:
# https://github.com/deepinsight/insightface/blob/master/python-package/insightface/utils/face_align.py
TEMPLATE = (
    np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]) / 112
)


@dataclass(frozen=True)
class FacePath:
    """Where a face is in every frame, in pixels; NaN where it is not known."""

    shots: np.ndarray  # int64 [N], counted from 0; -1 where the face is not known. What has another scale is another
    centres: np.ndarray  # float64 [N, 2], x and y of the middle of its box
    sides: np.ndarray  # float64 [N], one for a whole shot
    landmarks: np.ndarray  # float64 [N, 5, 2]


def trace_path(
    times: np.ndarray,
    box_times: np.ndarray,
    boxes: np.ndarray,
    landmarks: np.ndarray,
    *,
    cut_times: np.ndarray,
    reach: float,
) -> FacePath:
    """Lay a smooth path through the detections of a face.

    They are interpolated and smoothed separately on either side of a gap or a cut, so that nothing glides from one
    shot into the next.

    Args:
        times: of the frames, float64 `[N]`, in seconds.
        box_times, boxes, landmarks: of the detections, `[M]`, `[M, 4]` and `[M, 5, 2]`.
        cut_times: of the frames with which another shot begins, `[C]`.
        reach: seconds around a detection for which it speaks, up to the next cut.
    """
    shots, values, sides = np.full(len(times), -1), np.full((len(times), 12), np.nan), np.full(len(times), np.nan)
    if len(boxes):
        boxes = boxes.astype(np.float64)
        known = np.column_stack([(boxes[:, :2] + boxes[:, 2:]) / 2, landmarks.reshape(-1, 10)])
        found = median_filter((boxes[:, 2:] - boxes[:, :2]).max(axis=1), 3, mode="nearest")  # one slip does no harm
        frame_shots, box_shots = (np.searchsorted(cut_times, at, side="right") for at in (times, box_times))
        cut = np.append(cut_times, np.inf)[box_shots[:-1]]  # the next one after a detection
        turns = np.where(box_shots[1:] > box_shots[:-1], cut, (box_times[1:] + box_times[:-1]) / 2)
        nearest = np.searchsorted(turns, times, side="right")
        seen = (np.abs(box_times[nearest] - times) <= reach) & (frame_shots == box_shots[nearest])
        for shot, run in enumerate(_split_runs(box_times, found, box_shots, reach)):
            frames = np.flatnonzero(seen & (nearest >= run[0]) & (nearest <= run[-1]))
            if len(frames):
                shots[frames], sides[frames] = shot, np.quantile(found[run], SIDE_QUANTILE)
                values[frames] = _smooth_path(times[frames], box_times[run], known[run])
    return FacePath(shots, values[:, :2], sides, values[:, 2:].reshape(-1, 5, 2))


def _split_runs(box_times: np.ndarray, sides: np.ndarray, shots: np.ndarray, reach: float) -> list[np.ndarray]:
    """Return the numbers of the detections in one go, of one scale, between cuts, gaps in time and jumps in size."""
    growth = np.exp(np.abs(np.diff(np.log(np.maximum(sides, 1)))))
    breaks = (np.diff(box_times) > 2 * reach) | (growth > CUT_GROWTH) | (np.diff(shots) > 0)
    runs = np.split(np.arange(len(sides)), np.flatnonzero(breaks) + 1)
    return [piece for run in runs for piece in _split_scales(run, sides)]


def _split_scales(run: np.ndarray, sides: np.ndarray) -> list[np.ndarray]:
    """Split a run where its smallest and largest side would be too far apart for one scale."""
    starts, least, most = [], sides[run[0]], sides[run[0]]
    for at, side in enumerate(sides[run]):
        least, most = min(least, side), max(most, side)
        if most > SCALE_GROWTH * least:
            starts.append(at)
            least = most = side
    return np.split(run, starts)


def _smooth_path(times: np.ndarray, box_times: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Lay a smooth path `[N, K]` through the values `[M, K]` known in one run of detections."""
    path = np.stack([np.interp(times, box_times, values) for values in known.T], axis=1)
    if len(path) < 2:
        return path
    fps = 1 / max(np.median(np.diff(times)), 1e-3)
    # Mirrored around its ends, as to its sign too: a face that moves is not held back where the run begins and ends.
    extra = int(4 * CENTRE_SECONDS * fps) + 1
    path = np.pad(path, ((extra, extra), (0, 0)), mode="reflect", reflect_type="odd")
    return gaussian_filter1d(path, CENTRE_SECONDS * fps, axis=0)[extra:-extra]


@dataclass(frozen=True)
class Canvases:
    """How every frame is cut: a square canvas, the crop in its middle and `room` around it.

    A canvas is a piece of its frame, scaled and, where faces are aligned, turned: its point (u, v) shows the frame's
    point (x + a·u − b·v, y + b·u + a·v). Pixel (0, 0) covers [0, 1) × [0, 1) in both. Unless they are aligned, all
    canvases of a shot lie on one grid, so a pixel that rests in the picture has the same value in each.
    """

    maps: np.ndarray  # float64 [N, 4]: x, y, a, b; NaN where there is no face
    shots: np.ndarray  # int64 [N]
    size: int  # of a crop, in pixels
    room: int = 0
    aligned: bool = False
    steady: bool = False

    @property
    def side(self) -> int:
        """Height and width of a canvas, in pixels."""
        return self.size + 2 * self.room

    @property
    def seen(self) -> np.ndarray:
        """In which frames is there a face? Bool `[N]`."""
        return ~np.isnan(self.maps[:, 0])

    @property
    def steps(self) -> np.ndarray:
        """How many pixels of its frame go to one of the canvas, float64 `[N]`."""
        return np.hypot(self.maps[:, 2], self.maps[:, 3])

    def cut(self, frame: np.ndarray, number: int) -> np.ndarray:
        """Cut the canvas, uint8 `[side, side, 3]`, out of the frame `[H, W, 3]` of this number."""
        if self.aligned:
            return cut_aligned(frame, self.maps[number], self.side)
        return cut_square(frame, *self.maps[number, :3], self.side)

    def locate(self, points: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Return where points `[M, K, 2]` of these frames `[M]` are in their canvases, in pixels."""
        x, y, a, b = self.maps[numbers].T[:, :, None]
        places = ((points[..., 0] - x) + 1j * (points[..., 1] - y)) / (a + 1j * b)
        return np.stack([places.real, places.imag], axis=-1)

    def crop_window(self, canvases: Mapping[int, np.ndarray], numbers: Sequence[int]) -> dict[int, np.ndarray]:
        """Return the crops `[size, size, 3]` of a window's frames by number, where there are canvases of them.

        What is steady has one place in each shot of the window, in the middle of the way that the face goes; where a
        canvas does not reach that far, its edge is repeated.
        """
        numbers = np.unique([number for number in numbers if number in canvases]).astype(int)
        return {
            number: cut_region(canvases[number], left, top, self.size)
            for number, (left, top) in zip(numbers.tolist(), self._place_crops(numbers).tolist(), strict=True)
        }

    def locate_window(self, points: np.ndarray, numbers: np.ndarray, cropped: Sequence[int]) -> np.ndarray:
        """Return where points `[N, K, 2]` of all frames are in a window's crops, float64 `[T, K, 2]`.

        As in OpenCV, the middle of a crop's first pixel is at (0, 0). NaN where there is no crop.

        Args:
            numbers: of the window's frames, int64 `[T]`.
            cropped: those of them of which `crop_window` returned a crop.
        """
        found = np.full((len(numbers), *points.shape[1:]), np.nan)
        cropped = np.unique(cropped).astype(int)
        seen = np.isin(numbers, cropped)
        places = self.locate(points[cropped], cropped) - self._place_crops(cropped)[:, None] - 0.5
        found[seen] = places[np.searchsorted(cropped, numbers[seen])]
        return found

    def _place_crops(self, numbers: np.ndarray) -> np.ndarray:
        """Return where the crops of all of a window's frames that have one begin in their canvases, int64 `[M, 2]`."""
        places = np.full((len(numbers), 2), self.room)
        if self.steady:
            corners = self._corners[numbers]
            for shot in np.unique(self.shots[numbers]):
                inside = self.shots[numbers] == shot
                middle = (corners[inside].min(axis=0) + corners[inside].max(axis=0)) // 2
                places[inside] += middle - corners[inside]
        return places

    @functools.cached_property
    def _corners(self) -> np.ndarray:
        """Where the canvases begin on their grid, int64 `[N, 2]`."""
        return np.nan_to_num(np.rint(self.maps[:, :2] / self.maps[:, 2:3])).astype(np.int64)


class Relay:
    """The canvases of faces that come one after the other, as of different shots: one pass through a video cuts all."""

    def __init__(self, frames: int):
        self.laid: dict[int, Canvases] = {}  # of each face, in order: of those frames alone in which it is seen
        self.owners = np.full(frames, -1)  # int64 [N], the face that is seen in each frame; -1 for none
        self.rows = np.zeros(frames, np.int64)  # and the number of the frame among those of that face

    @property
    def seen(self) -> np.ndarray:
        """In which frames is there a face? Bool `[N]`."""
        return self.owners >= 0

    def add(self, face: int, canvases: Canvases) -> bool:
        """Let a face come after all that are here, unless one of them is seen after it begins: then say so."""
        frames = np.flatnonzero(canvases.seen)
        if len(frames) and self.seen[frames[0] :].any():
            return False
        self.laid[face] = replace(canvases, maps=canvases.maps[frames], shots=canvases.shots[frames])
        self.owners[frames], self.rows[frames] = face, np.arange(len(frames))
        return True

    def cut(self, frame: np.ndarray, number: int) -> np.ndarray:
        """Cut the canvas of the face that is seen in the frame of this number, as `Canvases.cut` does."""
        return self.laid[int(self.owners[number])].cut(frame, self.rows[number])


def lay_canvases(path: FacePath, *, margin: float, size: int, crop: str, window: int) -> Canvases:
    """Lay canvases along a path.

    Args:
        margin: context around the face, as a share of its side.
        size: of a crop, in pixels.
        crop: `steady`, `follow` or `align`.
        window: the most frames that lie within one window, for which a steady crop is to have room.
    """
    if crop == "align":
        return Canvases(align_landmarks(path.landmarks, margin=margin, size=size), path.shots, size, aligned=True)
    steps = np.maximum(np.floor(path.sides * (1 + 2 * margin) / size / STEP), 1) * STEP
    corners, room = path.centres / steps[:, None] - size / 2, 0
    for shot in np.unique(path.shots[path.shots >= 0]):
        inside = path.shots == shot
        corners[inside] = _walk_pixels(corners[inside])
        if crop == "steady":
            room = max(room, measure_room(corners[inside], window))
    room = min(room, size // 2)  # further away it would hardly show the face at all
    maps = np.column_stack([(corners - room) * steps[:, None], steps, np.where(np.isnan(steps), np.nan, 0)])
    return Canvases(maps, path.shots, size, room=room, steady=crop == "steady")


def _walk_pixels(path: np.ndarray) -> np.ndarray:
    """Return the whole pixels `[n, 2]` at which a crop stands that follows a path `[n, 2]` without trembling."""
    walk = []
    for values in path.T.tolist():
        at = round(values[0])
        for value in values:
            if abs(value - at) > SLACK:
                at = round(value)
            walk.append(at)
    return np.array(walk, np.float64).reshape(2, -1).T


def measure_room(corners: np.ndarray, window: int) -> int:
    """Return how far, in pixels, the middle of the way through a window of so many frames is from its ends."""
    window = min(window, len(corners))
    way = maximum_filter1d(corners, window, axis=0) - minimum_filter1d(corners, window, axis=0)
    return math.ceil(way.max() / 2)


def align_landmarks(landmarks: np.ndarray, *, margin: float, size: int) -> np.ndarray:
    """Return the maps `[N, 4]` of the similarities that bring landmarks `[N, 5, 2]` nearest to the template.

    Least squares in pixels of the crop (Umeyama, PAMI 1991), in closed form for the plane. One for each frame: whoever
    aligns wants the features at rest, and the pixels on the face cannot rest on a grid of the picture then.
    """
    template = ((TEMPLATE - 0.5) / (1 + 2 * margin) + 0.5) @ [1, 1j] * size
    known = ~np.isnan(landmarks[:, 0, 0])
    points = landmarks[known] @ [1, 1j]
    middle = points.mean(axis=1, keepdims=True)
    spread = points - middle
    turn = (spread.conj() * (template - template.mean())).sum(axis=1) / np.maximum((np.abs(spread) ** 2).sum(axis=1), 1)
    turn = 1 / np.where(turn == 0, 1, turn)  # from crop to frame; points that coincide give no scale
    origin = middle[:, 0] - turn * template.mean()
    maps = np.full((len(landmarks), 4), np.nan)
    maps[known] = np.column_stack([origin.real, origin.imag, turn.real, turn.imag])
    return maps


def cut_square(frame: np.ndarray, x: float, y: float, step: float, side: int) -> np.ndarray:
    """Cut a square out of a frame and scale it; over the frame's edges its last pixels are repeated.

    Shrinking filters what would alias (Pillow's bicubic, which grows with the step), enlarging interpolates.

    Args:
        frame: uint8 `[H, W, 3]`.
        x, y: where the square begins in the frame.
        step: pixels of the frame to a pixel of the result.

    Returns:
        uint8 `[side, side, 3]`.
    """
    length = side * step
    image, left, top, shrink = _open_region(frame, x, y, x + length, y + length, step)
    box = ((x - left) / shrink, (y - top) / shrink, (x + length - left) / shrink, (y + length - top) / shrink)
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC, box=box))


def cut_aligned(frame: np.ndarray, similarity: np.ndarray, side: int) -> np.ndarray:
    """Cut a turned square out of a frame: `similarity` is x, y, a and b of `Canvases`; the rest as in `cut_square`."""
    x, y, a, b = similarity.tolist()
    across, down = np.array([0, a, -b, a - b]) * side, np.array([0, b, a, a + b]) * side
    step = math.hypot(a, b)
    image, left, top, shrink = _open_region(
        frame, x + across.min(), y + down.min(), x + across.max(), y + down.max(), step
    )
    finer = max(math.ceil(step / shrink), 1)  # first turned at so many times the size, then shrunk
    a, b, scale = a / finer / shrink, b / finer / shrink, (side * finer, side * finer)
    matrix = (a, -b, (x - left) / shrink, b, a, (y - top) / shrink)
    turned = image.transform(scale, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    return np.asarray(turned.resize((side, side), Image.Resampling.BICUBIC))


def _open_region(
    frame: np.ndarray, left: float, top: float, right: float, bottom: float, step: float
) -> tuple[Image.Image, int, int, int]:
    """Return a piece of a frame with what a filter sees around it, where it begins, and by how much it is shrunk.

    Far too many pixels are first averaged in blocks of a power of two, which lie at the same places of every frame, so
    that what is left of the step is at least 2.
    """
    shrink = 2 ** max(math.floor(math.log2(step)) - 1, 0) if step >= 2 else 1
    around, length = math.ceil(2 * max(step, 1)) + shrink, max(right - left, bottom - top)
    left, top = (math.floor((at - around) / shrink) * shrink for at in (left, top))
    side = math.ceil((length + 2 * around) / shrink + 1) * shrink
    image = Image.fromarray(cut_region(frame, left, top, side))
    return (image.reduce(shrink) if shrink > 1 else image), left, top, shrink


def cut_region(frame: np.ndarray, left: int, top: int, side: int) -> np.ndarray:
    """Cut out a square of whole pixels, and repeat the frame's edges where it goes over them."""
    height, width = frame.shape[:2]
    right, bottom = left + side, top + side
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return np.ascontiguousarray(frame[top:bottom, left:right])
    rows, columns = np.clip(np.arange(top, bottom), 0, height - 1), np.clip(np.arange(left, right), 0, width - 1)
    return frame[rows[:, None], columns]
