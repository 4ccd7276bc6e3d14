"""Colours of HDR and wide-gamut video → those of an ordinary display.

FFmpeg's scaler does this too (`out_transfer`), but spends seconds on a table before the first frame of each size.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np

PQ, HLG = 16, 18  # transfer characteristics, by their numbers in ITU-T H.273
WHITE = 203  # cd/m² of what is white without being a light (ITU-R BT.2408)
PEAK, SYSTEM_GAMMA = 1000, 1.2  # of the display that HLG is made for (ITU-R BT.2100)
GAMMA = 2.4  # of an ordinary display (ITU-R BT.1886)
KNEE = 0.85  # of white: light above it is compressed, so that highlights keep their shape
BRIGHTEST = 8  # times white, of what is told apart

# From linear light of wider primaries, by their numbers in H.273, to that of BT.709 (ITU-R BT.2087; SMPTE EG 432-1).
TO_BT709 = {
    9: ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)),  # BT.2020
    12: ((1.2249, -0.2247, 0.0), (-0.0420, 1.0419, 0.0), (-0.0197, -0.0786, 1.0979)),  # Display P3
}
LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)  # of BT.2020


def is_wide(transfer: int, primaries: int) -> bool:
    """Is a picture of this transfer and these primaries one that an ordinary display cannot show as it is?"""
    return transfer in (PQ, HLG) or primaries in TO_BT709


def narrow_colours(picture: np.ndarray, transfer: int, primaries: int) -> np.ndarray:
    """Return a picture, uint16 RGB `[H, W, 3]` of full range, as an ordinary display shows it, uint8 `[H, W, 3]`."""
    light = _linearize(transfer)[picture]
    if transfer == HLG:  # the light of the scene; a display adds contrast (BT.2100, its OOTF)
        light *= PEAK / WHITE * np.maximum(light @ LUMINANCE, 1e-6)[..., None] ** np.float32(SYSTEM_GAMMA - 1)
    unknown = TO_BT709[9] if transfer in (PQ, HLG) else np.eye(3)
    matrix = np.eye(3) if primaries == 1 else TO_BT709.get(primaries, unknown)
    light = cv2.transform(light, np.asarray(matrix, np.float32))
    codes = _encode()
    return codes[(light * (len(codes) / BRIGHTEST)).clip(0, len(codes) - 1).astype(np.uint16)]


@functools.cache
def _linearize(transfer: int) -> np.ndarray:
    """Return the linear light of every 16-bit value, float32 `[65536]`: 1 is white, for HLG the most of a scene."""
    value = np.linspace(0, 1, 1 << 16)
    if transfer == PQ:  # SMPTE ST 2084
        root = value ** (32 / 2523)
        light = (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (16384 / 2610) * 10_000 / WHITE
    elif transfer == HLG:
        light = np.where(value <= 0.5, value**2 / 3, (np.exp((value - 0.55991073) / 0.17883277) + 0.28466892) / 12)
    else:
        light = value**GAMMA
    return light.astype(np.float32)


@functools.cache
def _encode() -> np.ndarray:
    """Return the value of every step of light up to `BRIGHTEST` times white, uint8 `[65536]`."""
    light = np.linspace(0, BRIGHTEST, 1 << 16)
    above = np.maximum(light - KNEE, 0)
    light = np.minimum(light, KNEE) + (1 - KNEE) * (1 - np.exp(-above / (1 - KNEE)))
    return np.rint(255 * light ** (1 / GAMMA)).astype(np.uint8)
