"""A drawn head in motion: how it moves, where that puts its pixels, and the frames that show it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator

from dfmm.sample.portrait import (
    EYES_Y,
    HALF,
    HEAD_CENTRE,
    HEAD_UNIT,
    SIZE,
    Head,
    Look,
    Stage,
    cut_patch,
    find_mouth,
    grid,
    mix,
    paint_backdrop,
    rise,
    to_bytes,
)

FPS = 25  # frames a second
BYTE = np.float32(1 / 255)
WHITE, PUPIL = np.float32([0.88, 0.86, 0.85]), np.float32([0.03, 0.03, 0.03])  # of the eye
THROAT, TEETH = np.float32([0.13, 0.04, 0.04]), np.float32([0.55, 0.52, 0.49])


@dataclass(frozen=True)
class Motion:
    """How the head moves: one value a frame, arrays `[N]`."""

    shift: np.ndarray  # [N, 2], pixels of the frame
    roll: np.ndarray  # radians
    scale: np.ndarray
    turn: np.ndarray  # [N, 2], canvas units by which the nearest point moves right and down
    lids: np.ndarray  # 0 closed, 1 open
    gaze: np.ndarray  # [N, 2], -1 to 1

    def __len__(self) -> int:
        return len(self.roll)


@dataclass(frozen=True)
class Action:
    """What a head does in a clip of N frames."""

    motion: Motion
    mouth: np.ndarray  # 0 closed, 1 open, [N]
    poses: list[tuple[np.ndarray, np.ndarray]]  # where on the canvas each pixel is, x and y: float32 [SIZE, SIZE]


def invent_motion(rng: Generator, frames: int) -> Motion:
    """Draw smooth head motion, blinks and glances for a number of frames."""
    shift = np.stack([_wander(rng, frames, period=1.6) for _ in range(2)], 1) * (5, 3) + rng.normal(0, 4, 2)
    turn = np.stack([_wander(rng, frames, period=1.4) for _ in range(2)], 1) * (0.055, 0.035)
    return Motion(
        shift=shift,
        roll=0.05 * _wander(rng, frames, period=1.8) + rng.normal(0, 0.03),
        scale=rng.uniform(0.92, 1.08) * (1 + 0.015 * _wander(rng, frames, period=2.0)),
        turn=turn + rng.normal(0, 0.03, 2),
        lids=_blink(rng, frames),
        gaze=np.clip(np.stack([_glance(rng, frames), 0.4 * _glance(rng, frames)], 1), -1, 1),
    )


def act(head: Head, motion: Motion, mouth: np.ndarray) -> Action:
    """Let a head move, with its mouth open from 0 to 1 in each frame, `[N]`."""
    return Action(motion, mouth, list(_pose_frames(head, motion, mouth)))


def draw_clip(head: Head, action: Action) -> np.ndarray:
    """Draw a clip without the camera's noise: uint8 RGB `[N, SIZE, SIZE, 3]`."""
    backdrop = paint_backdrop(head.look, head.stage)
    frames = np.empty((len(action.motion), SIZE, SIZE, 3), np.uint8)
    canvas, painted = head.paint.copy(), None
    for number, (x, y) in enumerate(action.poses):
        eyes = action.motion.lids[number], *action.motion.gaze[number]
        if eyes != painted:  # most of the time they rest
            _paint_eyes(canvas, head, *eyes)
            painted = eyes
        _paint_mouth(canvas, head, action.mouth[number])
        face = cv2.remap(canvas, x, y, cv2.INTER_LINEAR)
        cover = face[..., 3] * BYTE
        frames[number] = cv2.blendLinear(cv2.cvtColor(face, cv2.COLOR_RGBA2RGB), backdrop, cover, 1 - cover)
    return frames


def draw_masks(region: np.ndarray, action: Action) -> list[np.ndarray]:
    """Carry a region of the canvas, float32 `[C, C]`, along with the head: float32 `[SIZE, SIZE]` for each frame."""
    return [cv2.remap(region, x, y, cv2.INTER_LINEAR) for x, y in action.poses]


def draw_region(centre: tuple[float, float], radii: tuple[float, float], *, softness: float) -> np.ndarray:
    """Draw an ellipse on the canvas: 1 inside, falling to 0 at its rim over `softness` radii, `[C, C]`."""
    x, y = grid()
    return rise(1 - np.hypot((x - centre[0]) / radii[0], (y - centre[1]) / radii[1]), softness)


def add_grain(frames: np.ndarray, stage: Stage) -> None:
    """Add the camera's noise to frames, uint8 `[N, SIZE, SIZE, 3]`, in place."""
    rng = np.random.default_rng(stage.texture)
    pool = np.round(stage.grain * rng.standard_normal((SIZE + 96, SIZE + 96), np.float32)).astype(np.int16)
    pool = cv2.merge([pool] * 3)
    # One pool, seen through a window that jumps about: fresh noise for each frame would cost as much as the drawing.
    corners = rng.integers(0, 97, (len(frames), 2)).tolist()
    for frame, (row, column) in zip(frames, corners, strict=True):
        cv2.add(frame, pool[row : row + SIZE, column : column + SIZE], dst=frame, dtype=cv2.CV_8U)


# How it moves, frame by frame


def _pose_frames(head: Head, motion: Motion, mouth: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield where on the canvas the pixels of each frame lie: x and y, float32 `[SIZE, SIZE]`, for `cv2.remap`."""
    columns, rows = np.meshgrid(*2 * [np.arange(SIZE, dtype=np.float32)])
    jaw = _jaw_drop(head.look)
    for number, roll in enumerate(motion.roll):
        centre = HEAD_CENTRE + motion.shift[number]
        zoom = HALF / (HEAD_UNIT * motion.scale[number])
        cos, sin = zoom * np.cos(roll), zoom * np.sin(roll)
        matrix = np.array([[cos, sin, 0], [-sin, cos, 0]])
        matrix[:, 2] = HALF - matrix[:, :2] @ centre
        matrix = matrix.astype(np.float32)
        relief = cv2.warpAffine(head.depth, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        drop = cv2.warpAffine(jaw, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        turn_x, turn_y = (HALF * motion.turn[number]).astype(np.float32)
        x = matrix[0, 0] * columns + matrix[0, 1] * rows + matrix[0, 2] - turn_x * relief
        y = matrix[1, 0] * columns + matrix[1, 1] * rows + matrix[1, 2] - turn_y * relief
        yield x, y - np.float32(HALF * mouth[number]) * drop


def _paint_eyes(canvas: np.ndarray, head: Head, lids: float, gaze_x: float, gaze_y: float) -> None:
    """Paint both eyes into the canvas, uint8 `[C, C, 4]`."""
    for side in (-1, 1):
        _paint_eye(canvas, head, side, lids=lids, gaze=(gaze_x, gaze_y))


def _paint_eye(canvas: np.ndarray, head: Head, side: int, *, lids: float, gaze: tuple[float, float]) -> None:
    """Paint the left (-1) or right (1) eye."""
    look = head.look
    size = look.eye_size
    patch, x, y = cut_patch((side * look.eye_gap, EYES_Y), (1.3 * size, 0.95 * size))
    shade = head.shade[patch]
    arch = np.clip(1 - (x / size) ** 2, -0.5, 1)
    tilt = -look.eye_tilt * side * x
    lower = tilt + 0.36 * size * arch
    upper = tilt + size * arch * (0.36 - lids * 0.92)
    ball = rise(np.minimum(lower - y, y - upper)) * rise(1 - np.abs(x) / size, 0.1)
    from_iris = np.hypot(x - 0.28 * size * gaze[0], y - tilt + 0.10 * size - 0.15 * size * gaze[1]) / (0.44 * size)
    glint = np.exp(-(((x - 0.28 * size * gaze[0] + 0.012) / 0.011) ** 2 + ((y + 0.14 * size) / 0.011) ** 2))

    eye = WHITE * (0.45 + 0.5 * shade) * rise(y - upper, 0.05)[..., None]
    eye = mix(eye, look.iris * (0.6 + 0.5 * shade), rise(1 - from_iris, 0.2))
    eye = mix(eye, PUPIL, rise(0.48 - from_iris, 0.15))
    eye = mix(eye, np.ones(3, np.float32), 0.8 * glint)

    picture = mix(head.paint[patch] * BYTE, eye, ball)
    lash = np.exp(-(((y - upper) / 0.014) ** 2)) * rise(1.12 - np.abs(x) / size, 0.2)
    crease = np.exp(-(((y - upper + 0.035) / 0.012) ** 2)) * rise(1.05 - np.abs(x) / size, 0.3)
    picture *= (1 - 0.75 * lash - 0.22 * crease)[..., None]
    canvas[patch] = to_bytes(picture)


def _paint_mouth(canvas: np.ndarray, head: Head, opening: float) -> None:
    """Paint lips, and between them teeth and the dark of the mouth, into the canvas, uint8 `[C, C, 4]`."""
    look = head.look
    width = look.mouth_width * (1 - 0.10 * opening)
    patch, x, y = cut_patch((0, find_mouth(look) + 0.03), (0.25, 0.17))
    y = y + 0.03
    shade = head.shade[patch]
    y = y + look.smile * np.clip((x / width) ** 2, 0, 1.5)
    arch = np.clip(1 - (x / width) ** 2, 0, 1)
    bow = 1 - 0.35 * np.exp(-((x / (0.16 * width)) ** 2))  # the notch of the upper lip
    gap = 0.12 * opening * arch
    inner_top, inner_low = -0.25 * gap - 0.006 * arch, 0.75 * gap - 0.006 * arch
    top = inner_top - look.lip_thickness * bow * arch**0.8
    low = inner_low + 1.25 * look.lip_thickness * arch**0.7

    lips = rise(np.minimum(y - top, low - y), 0.02) * rise(1 - np.abs(x) / width, 0.1)
    hole = rise(np.minimum(y - inner_top, inner_low - y), 0.014)
    teeth = rise(inner_top + 0.030 * arch - y, 0.012) * rise(0.75 - np.abs(x) / width, 0.2)
    plump = 1 - 0.16 * (y < (inner_top + inner_low) / 2) + 0.10 * np.exp(-(((y - (inner_low + low) / 2) / 0.018) ** 2))

    picture = mix(head.paint[patch] * BYTE, look.lips * shade * plump[..., None], 0.92 * lips)
    inside = mix(THROAT, TEETH * shade, 0.7 * teeth)
    picture = mix(picture, inside, hole)
    seam = np.exp(-(((y - (inner_top + inner_low) / 2) / 0.009) ** 2)) * np.sqrt(arch) * (1 - opening) ** 4
    canvas[patch] = to_bytes(picture * (1 - 0.55 * seam)[..., None])


def _jaw_drop(look: Look) -> np.ndarray:
    """How far each point of the canvas sinks with the mouth wide open, in canvas units, float32 `[C, C]`."""
    x, y = grid()
    down = rise(y - find_mouth(look), 0.20) * rise(1.25 - y, 0.4)
    return (0.05 * down * np.ones_like(x)).astype(np.float32)


def _wander(rng: Generator, frames: int, *, period: float) -> np.ndarray:
    """A smooth random curve of unit spread about 0, slower than `period` seconds, `[N]`."""
    seconds = np.arange(frames) / FPS
    speeds = 2 * np.pi / (period * rng.uniform(1, 2.5, 4))
    return np.sin(seconds[:, None] * speeds + rng.uniform(0, 2 * np.pi, 4)).sum(1) / np.sqrt(2)


def _blink(rng: Generator, frames: int) -> np.ndarray:
    """How open the lids are, `[N]`: a blink of a sixth of a second every few seconds."""
    number = np.arange(frames)
    lids = np.full(frames, rng.uniform(0.85, 1.0))
    start = rng.uniform(0, 3.0) * FPS
    while start < frames:
        lids *= 1 - np.exp(-(((number - start) / 1.7) ** 4))
        start += rng.uniform(1.2, 4.0) * FPS
    return lids


def _glance(rng: Generator, frames: int) -> np.ndarray:
    """Where the eyes look, `[N]`: still, with jumps."""
    jumps = np.cumsum(rng.random(frames) < 0.8 / FPS)
    return rng.normal(0, 0.45, jumps[-1] + 1)[jumps]
