"""Seams of many shapes: a part of a face that was recoloured, resampled or drawn anew, pasted back hard or soft.

Broader than the blends of `frames`: boxes and ellipses, as lip-sync and swapping programs paste them, and copies that
were drawn at a fraction of the size.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from dfmm.forge.frames import (
    CANVAS,
    RATIOS,
    Blend,
    bend_mask,
    draw_jitter,
    draw_move,
    draw_outline,
    fill_outline,
    lay_mask,
    move_frames,
    place_face,
    to_bytes,
)
from dfmm.forge.redraw import find_detail, redraw_frames, resize_frames

Shape = Literal["box", "lower", "ellipse", "hull"]
SHAPES: dict[Shape, float] = {"box": 1 / 6, "lower": 1 / 6, "ellipse": 0.4, "hull": 4 / 15}  # chance of each
# In a face's own coordinates, as `frames.OUTLINES`: half the width, upper and lower edge of a box around the mouth.
BOX = ((0.45, 1.1), (0.25, 0.7), (1.45, 2.0))
ELLIPSE = ((0.8, 1.2), (0.95, 1.4), (0.4, 0.75))  # half its width and height, and how far its middle is below the eyes
LANDMARKS = np.array([(-0.5, 0), (0.5, 0), (0, 0.55), (-0.38, 1), (0.38, 1)])
ENLARGED = (1.35, 1.8)  # times, the hull of the landmarks
HARD, SOFT = 0.004, (0.01, 0.06)  # of the canvas, deviation of the blur of an edge
SHRUNK, RESAMPLED = (1.6, 4.0), 0.65  # times, and how often a copy is shrunk and enlarged again rather than sharpened
SHARP = (0.4, 1.5)  # share of the detail that is added once more
DOWN = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_NEAREST, cv2.INTER_CUBIC)
UP = {cv2.INTER_LINEAR: 0.4, cv2.INTER_CUBIC: 0.3, cv2.INTER_NEAREST: 0.15, cv2.INTER_LANCZOS4: 0.15}
WHOLE = 0.6  # how often all of the picture is drawn anew, without a seam
FACE_DRAWN = 0.8  # how often it is the face, and not what is around it, where a part is
RECOLOURED = 0.3  # how often what is drawn anew has other colours, too


def draw_shape(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Draw the outline of a patch in a face's own coordinates, float64 `[n, 2]`."""
    if shape == "box":
        half, top, bottom = (rng.uniform(*limits) for limits in BOX)
        return np.array([(-half, top), (half, top), (half, bottom), (-half, bottom)])
    if shape == "lower":
        return draw_outline("lower") * rng.uniform(0.9, 1.25, 2)
    if shape == "ellipse":
        width, height, middle = (rng.uniform(*limits) for limits in ELLIPSE)
        around = np.linspace(0, 2 * np.pi, 96, endpoint=False)
        return np.stack([width * np.cos(around), middle + height * np.sin(around)], axis=-1)
    points = cv2.convexHull((LANDMARKS + rng.normal(0, 0.05, LANDMARKS.shape)).astype(np.float32))[:, 0]
    return points.mean(axis=0) + rng.uniform(*ENLARGED) * (points - points.mean(axis=0))


def draw_patch(rng: np.random.Generator) -> np.ndarray:
    """Draw the mask of a patch, float32 `[CANVAS, CANVAS]` from 0 to 1; boxes are straight, all others bent."""
    shape = str(rng.choice(list(SHAPES), p=list(SHAPES.values())))
    mask = fill_outline(draw_shape(shape, rng))
    mask = mask if shape == "box" else bend_mask(mask, rng)
    soft = HARD if rng.random() < 0.4 else np.exp(rng.uniform(*np.log(SOFT)))
    mask = cv2.GaussianBlur(mask, (0, 0), soft * CANVAS)
    return mask / max(float(mask.max()), 1e-6)


def resample_frames(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shrink and enlarge frames, float32 `[T, H, W, 3]`, in one of many ways, or sharpen them."""
    height, width = frames.shape[1:3]
    if rng.random() >= RESAMPLED:
        return frames + np.float32(rng.uniform(*SHARP)) * find_detail(frames, 1.0)
    by = np.exp(rng.uniform(*np.log(SHRUNK)))
    down, up = int(rng.choice(DOWN)), int(rng.choice(list(UP), p=list(UP.values())))
    small = resize_frames(frames, max(round(height / by), 1), max(round(width / by), 1), down)
    return resize_frames(small, height, width, up)


def patch_face(frames: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator) -> Blend:
    """Paste a part of a face, or all around it, recoloured, resampled and a little shifted: one draw for all frames.

    Args:
        frames: uint8 `[T, H, W, 3]`.
        landmarks: eyes, nose and corners of the mouth in pixels, `[T, 5, 2]`; what is on the left comes first.
    """
    height, width = frames.shape[1:3]
    mask = draw_patch(rng) * np.float32(rng.choice(RATIOS))
    move, inside = draw_move(rng, height, width), rng.random() < 0.5
    before = frames.astype(np.float32)
    after = resample_frames(_recolour(before, rng), rng)
    face, around = (after, before) if inside else (before, after)
    masks = move_frames(lay_mask(mask, place_face(landmarks), height, width), move)
    return _paste(around, move_frames(face, move), masks)


def redraw_face(frames: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator) -> Blend:
    """Draw all of the picture anew, or a part of the face, or what is around that: as `patch_face`."""
    before = frames.astype(np.float32)
    after = _recolour(before, rng) if rng.random() < RECOLOURED else before
    after = redraw_frames(after, rng)
    if rng.random() < WHOLE:
        return Blend(to_bytes(after), np.ones(frames.shape[:3], np.float32), frames)
    mask = draw_patch(rng) * np.float32(rng.choice(RATIOS))
    face, around = (after, before) if rng.random() < FACE_DRAWN else (before, after)
    return _paste(around, face, lay_mask(mask, place_face(landmarks), *frames.shape[1:3]))


def _recolour(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    matrix = draw_jitter(rng).matrix
    return np.stack([cv2.transform(frame, matrix) for frame in frames])


def _paste(around: np.ndarray, face: np.ndarray, masks: np.ndarray) -> Blend:
    return Blend(to_bytes(around + masks[..., None] * (face - around)), masks, to_bytes(around))
