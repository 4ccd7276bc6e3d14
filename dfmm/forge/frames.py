"""Forged pictures made of a window's own frames: a face blended with itself, a mouth from another moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np
import scipy

from dfmm.degrade.frames import GREY

# Outlines of parts of a face, their right halves from top to bottom. A face's own coordinates have its eyes at
# (-.5, 0) and (.5, 0) and the middle of its mouth at (0, 1), so that they turn and lean with it. Proportions are
# about those of adults: pupils 63 mm apart (Dodgson, Optometry and Vision Science 2004), 72 mm above the line between
# the lips, which is 47 mm above the chin; faces 134 mm wide (Farkas, Anthropometry of the Head and Face, 1994).
OUTLINES = {
    "whole": (
        (0, -0.46), (0.55, -0.46), (0.93, -0.26), (1.07, 0.15), (1.0, 0.66), (0.79, 1.16), (0.43, 1.55), (0, 1.66),
    ),
    "inner": ((0, -0.36), (0.42, -0.35), (0.70, -0.17), (0.75, 0.25), (0.66, 0.75), (0.46, 1.14), (0, 1.30)),
    "lower": ((0, 0.40), (0.48, 0.46), (0.84, 0.66), (0.86, 1.0), (0.68, 1.32), (0.38, 1.57), (0, 1.66)),
    "mouth": ((0, 0.66), (0.36, 0.74), (0.58, 1.0), (0.40, 1.27), (0, 1.36)),
}  # fmt: skip
# Masks are drawn once a window, in a face's coordinates, on this canvas.
CANVAS = 128  # pixels, high and wide
CORNER, SPAN = np.array([-1.7, -1.2]), np.array([3.4, 3.4])  # where it begins, and how far it reaches

PARTS = {"whole": 1 / 3, "inner": 1 / 3, "lower": 1 / 3}  # chance of each to be blended
# The rest of `blend_face` after Shiohara and Yamasaki, "Detecting Deepfakes with Self-Blended Images", CVPR 2022,
# section 3 and the ranges of https://github.com/mapooon/SelfBlendedImages/blob/master/src/utils/sbi.py
RATIOS = (0.25, 0.5, 0.75, 1, 1, 1)
SHIFT = (0.03, 0.015)  # of the side, across and down, at most
ZOOM = 0.95  # or its inverse, at most
CROOKED = 0.02  # of the canvas, the deviation by which a mask is bent
SOFT = (0.008, 0.035)  # of the canvas, deviation of either blur
COLOUR = {"shift": 12.0, "gain": 0.1, "saturation": 0.15, "hue": 4.0}  # at most: grey levels, shares, degrees
COARSE, SHARP = (0.45, 0.9), (0.4, 1.0)  # scale down to; share of the detail that is added once more
RESAMPLED = 0.25  # share of what leaves unforged that is shifted as a whole: as much as faces are on the average

Part = Literal["whole", "inner", "lower", "mouth"]


@dataclass(frozen=True)
class Jitter:
    """How one copy of a window's frames differs from the other."""

    matrix: np.ndarray  # float32 [3, 4], of colours, their offset last
    scale: float  # to which it is shrunk before it is enlarged again
    sharpness: float


def draw_jitter(rng: np.random.Generator) -> Jitter:
    """Draw a change of colours, and of resolution or sharpness."""
    shift = rng.uniform(-1, 1, 3) * COLOUR["shift"] * (rng.random() < 0.5)
    brightness, contrast = 1 + rng.uniform(-1, 1, 2) * COLOUR["gain"]
    saturation = 1 + rng.uniform(-1, 1) * COLOUR["saturation"]
    angle = np.deg2rad(rng.uniform(-1, 1) * COLOUR["hue"])
    # Turning colours around the axis of greys changes their hue (Rodrigues' formula).
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    turn = np.cos(angle) * np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) / 3
    mix = contrast * brightness * (saturation * np.eye(3) + (1 - saturation) * GREY) @ turn
    matrix = np.column_stack([mix, shift + 128 * (1 - contrast)]).astype(np.float32)
    coarse, by = rng.random() < 0.6, rng.random()
    if coarse:
        return Jitter(matrix, float(COARSE[0] * (COARSE[1] / COARSE[0]) ** by), 0.0)
    return Jitter(matrix, 1.0, float(SHARP[0] + (SHARP[1] - SHARP[0]) * by))


def change_frames(frames: np.ndarray, jitter: Jitter) -> np.ndarray:
    """Recolour and resample frames, float32 `[T, H, W, 3]`, all alike."""
    height, width = frames.shape[1:3]
    small = (max(round(width * jitter.scale), 1), max(round(height * jitter.scale), 1))

    def change(frame: np.ndarray) -> np.ndarray:
        frame = cv2.transform(frame, jitter.matrix)
        if jitter.scale < 1:
            frame = cv2.resize(cv2.resize(frame, small, interpolation=cv2.INTER_AREA), (width, height))
        if jitter.sharpness:
            frame = frame + jitter.sharpness * (frame - cv2.GaussianBlur(frame, (0, 0), 1.0))
        return frame

    return np.stack([change(frame) for frame in frames])


def draw_move(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draw a small shift and zoom around the middle of the picture, float32 `[2, 3]`."""
    right, down = rng.uniform(-1, 1, 2) * SHIFT * np.array([width, height])
    zoom = ZOOM ** rng.uniform(-1, 1)
    middle = np.array([width - 1, height - 1]) / 2
    return np.column_stack([zoom * np.eye(2), middle * (1 - zoom) + [right, down]]).astype(np.float32)


def move_frames(frames: np.ndarray, move: np.ndarray) -> np.ndarray:
    """Shift and zoom frames or masks, float32 `[T, H, W, …]`, as `draw_move` says; their edges are mirrored."""
    size = frames.shape[2], frames.shape[1]
    return np.stack([cv2.warpAffine(one, move, size, borderMode=cv2.BORDER_REFLECT_101) for one in frames])


# Masks


def place_face(landmarks: np.ndarray) -> np.ndarray:
    """Return how a face's own coordinates become pixels, float64 `[T, 2, 3]`, from landmarks `[T, 5, 2]`."""
    eyes, mouth = landmarks[:, :2].mean(axis=1), landmarks[:, 3:].mean(axis=1)
    return np.stack([landmarks[:, 1] - landmarks[:, 0], mouth - eyes, eyes], axis=-1)


def draw_outline(part: Part) -> np.ndarray:
    """Return a smooth closed outline of a part of the face in its own coordinates, float64 `[n, 2]`."""
    right = np.array(OUTLINES[part], float)
    around = np.concatenate([right, right[-2:0:-1] * [-1, 1], right[:1]])
    spline, _ = scipy.interpolate.splprep(around.T, s=0, per=True)
    return np.stack(scipy.interpolate.splev(np.linspace(0, 1, 128, endpoint=False), spline), axis=-1)


def fill_outline(points: np.ndarray) -> np.ndarray:
    """Return a mask of all inside an outline in a face's own coordinates, `[n, 2]`: float32 `[CANVAS, CANVAS]`."""
    points = np.rint((points - CORNER) / SPAN * CANVAS * 16).astype(np.int32)
    return cv2.fillPoly(np.zeros((CANVAS, CANVAS), np.float32), [points], 1, shift=4)


def bend_mask(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bend a mask, float32 `[CANVAS, CANVAS]`, smoothly this way and that."""
    bend = cv2.GaussianBlur(rng.uniform(-1, 1, (CANVAS, CANVAS, 2)).astype(np.float32), (0, 0), CANVAS / 12)
    bend *= CROOKED * CANVAS / max(float(bend.std()), 1e-6)
    across, down = np.meshgrid(np.arange(CANVAS, dtype=np.float32), np.arange(CANVAS, dtype=np.float32))
    return cv2.remap(mask, across + bend[..., 0], down + bend[..., 1], cv2.INTER_LINEAR)


def draw_mask(part: Part, rng: np.random.Generator) -> np.ndarray:
    """Draw a mask of a part of a face, bent and twice blurred, float32 `[CANVAS, CANVAS]` from 0 to 1.

    What the first blur made less sure is taken away before the second, so that the mask fades out inside the part.
    """
    mask = bend_mask(fill_outline(draw_outline(part)), rng)
    first, second = rng.uniform(*SOFT, 2) * CANVAS
    mask = cv2.GaussianBlur(mask, (0, 0), first)
    mask = cv2.GaussianBlur(np.where(mask < 0.8, 0, mask), (0, 0), second)
    return mask / max(float(mask.max()), 1e-6)


def lay_mask(mask: np.ndarray, faces: np.ndarray, height: int, width: int) -> np.ndarray:
    """Lay one mask on the face of every frame, whose places are `[T, 2, 3]`: float32 `[T, H, W]`."""
    canvas = np.diag([*(SPAN / CANVAS), 1.0])
    canvas[:2, 2] = CORNER
    return np.stack([cv2.warpAffine(mask, (face @ canvas).astype(np.float32), (width, height)) for face in faces])


# Forgeries


class Blend(NamedTuple):
    """Frames of which a face was blended with itself."""

    frames: np.ndarray  # uint8 [T, H, W, 3]
    masks: np.ndarray  # float32 [T, H, W], how much of each pixel is of the other copy
    plain: np.ndarray  # uint8 [T, H, W, 3], that copy alone which is all around the face


def blend_face(
    frames: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator, *, part: Part | None = None
) -> Blend:
    """Blend a part of a face with the same, a little changed: one draw for all frames.

    The face or all around it is recoloured and resampled, and the face is a little shifted (Shiohara and Yamasaki,
    CVPR 2022).

    Args:
        frames: uint8 `[T, H, W, 3]`.
        landmarks: eyes, nose and corners of the mouth in pixels, `[T, 5, 2]`; what is on the left comes first.
        part: whose mask it is; drawn as `PARTS` says unless it is given.
    """
    height, width = frames.shape[1:3]
    part = part or str(rng.choice(list(PARTS), p=list(PARTS.values())))
    mask = draw_mask(part, rng) * np.float32(rng.choice(RATIOS))
    jitter, move, inside = draw_jitter(rng), draw_move(rng, height, width), rng.random() < 0.5
    before = frames.astype(np.float32)
    after = change_frames(before, jitter)
    face, around = (after, before) if inside else (before, after)
    masks = move_frames(lay_mask(mask, place_face(landmarks), height, width), move)
    mixed = around + masks[..., None] * (move_frames(face, move) - around)
    return Blend(to_bytes(mixed), masks, to_bytes(around))


def disguise_frames(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Recolour and resample frames, uint8 `[T, H, W, 3]`, as a blend would, but all of the picture and without a seam.

    So that colours, sharpness and noise of what was not forged are spread as those of what was.
    """
    jitter, move = draw_jitter(rng), draw_move(rng, *frames.shape[1:3])
    change, shift = rng.random(2) < (0.5, RESAMPLED)
    if not (change or shift):
        return frames
    done = frames.astype(np.float32)
    done = change_frames(done, jitter) if change else done
    return to_bytes(move_frames(done, move) if shift else done)


def replace_mouth(
    frames: np.ndarray,
    landmarks: np.ndarray,
    others: np.ndarray,
    other_landmarks: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Put the mouth of other moments, frame by frame, into a face: as lip-sync forgeries do, coarser and with a seam.

    The other face is laid on this one by the similarity that fits its landmarks best, and coloured like it.

    Args:
        frames, landmarks: `[T, H, W, 3]` and `[T, 5, 2]`.
        others, other_landmarks: the same of as many other moments.

    Returns:
        The frames, and how much of each pixel is from another moment, float32 `[T, H, W]`.
    """
    height, width = frames.shape[1:3]
    part: Part = "mouth" if rng.random() < 0.5 else "lower"
    masks = lay_mask(draw_mask(part, rng), place_face(landmarks), height, width)
    coarse = Jitter(np.eye(3, 4, dtype=np.float32), float(rng.uniform(*COARSE)), 0.0)
    fits = fit_similarities(other_landmarks, landmarks).astype(np.float32)
    warped = zip(change_frames(others.astype(np.float32), coarse), fits, strict=True)
    laid = np.stack([cv2.warpAffine(one, fit, (width, height), borderMode=cv2.BORDER_REPLICATE) for one, fit in warped])
    before = frames.astype(np.float32)
    laid *= _match_colours(laid, before, masks) * (1 + rng.uniform(-0.03, 0.03, 3).astype(np.float32))
    return to_bytes(before + masks[..., None] * (laid - before)), masks


def fit_similarities(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the shifts, turns and scalings, `[T, 2, 3]`, that bring points `[T, K, 2]` nearest to their targets.

    Least squares (Umeyama, PAMI 1991), in closed form for the plane.
    """
    here, there = points @ [1, 1j], targets @ [1, 1j]
    middle, goal = here.mean(axis=1, keepdims=True), there.mean(axis=1, keepdims=True)
    spread = here - middle
    turn = (spread.conj() * (there - goal)).sum(axis=1) / np.maximum((np.abs(spread) ** 2).sum(axis=1), 1e-9)
    shift = goal[:, 0] - turn * middle[:, 0]
    rows = [[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]]
    return np.moveaxis(np.array(rows), -1, 0)


def _match_colours(faces: np.ndarray, frames: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return by how much to multiply each channel of faces to be as bright as the frames under the masks, `[3]`."""
    ours, theirs = (np.einsum("thw,thwc->c", masks, some) for some in (faces, frames))
    return (theirs / np.maximum(ours, 1)).astype(np.float32)


def to_bytes(frames: np.ndarray) -> np.ndarray:
    """Round frames of 0 to 255, of which some may have gone beyond, to uint8."""
    return np.clip(frames + 0.5, 0, 255).astype(np.uint8)
