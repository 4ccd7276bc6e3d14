"""Pictures drawn anew as a whole, which leave no seam: by small decoders, by upsampling, by another spectrum.

A generator's last layers leave traces that do not depend on what it draws: texture that is smoothed or made up, the
lattice of its upsampling, high frequencies of another strength. These are made here of reals, each draw by a decoder of
its own, so that none is learnt (the idea of Jeong et al., "FingerprintNet", ECCV 2022, with decoders that need no
training: natural pictures' principal components are nearly those of the discrete cosine transform).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, pad

Bend = Literal["none", "shrink", "round", "rectify", "noise"]
WAYS = {"decoder": 0.7, "upsampling": 0.12, "spectrum": 0.18}  # chance of each
WORKING = (0.5, 1.4)  # of the crop's side: the size at which a generator draws
SIDES = (4, 6, 8, 12)  # pixels of a decoder's kernels
KEPT = (0.05, 0.5)  # share of its codes: the fewer, the smoother
MEANS = 3  # the first codes are the patches' mean colours: they stay as they are
AMOUNT = (0.15, 0.7)  # of a code's deviation, by which it is bent
UNLIKE = (0.002, 0.03)  # deviation by which a decoder is not its encoder's inverse, of its weights
LATTICE = (0.01, 0.1)  # deviation of an upsampling's taps, of each
KNOTS = np.linspace(0, np.sqrt(0.5), 7)  # cycles a pixel, up to the corner of the spectrum
PERIODS = (2, 4, 8)  # pixels between a lattice's lines
CUBIC, AREA = cv2.INTER_CUBIC, cv2.INTER_AREA


@dataclass(frozen=True)
class Decoder:
    """A convolutional autoencoder of one layer, and what happens to its codes."""

    analysis: Tensor  # float32 [K, 3, side, side]
    synthesis: Tensor  # float32 [K, 3, side, side]
    window: Tensor  # float32 [1, 1, side, side], how much each pixel of a patch counts where patches overlap
    step: int  # pixels from patch to patch
    turn: Tensor  # float32 [K - 3, K - 3], in whose axes the codes are bent
    bend: Bend
    amount: float
    level: bool  # give each code its strength back: the texture is as strong as before, but not where it was
    seed: int


def draw_decoder(rng: np.random.Generator) -> Decoder:
    """Draw one of many decoders."""
    side = int(rng.choice(SIDES))
    step = max(side // int(rng.integers(1, 4)), 2)
    basis = make_basis(side)
    kept = int(np.clip(round(len(basis) * _draw_between(KEPT, rng)), 2 * MEANS, len(basis)))
    analysis, free = torch.from_numpy(basis[:kept]), kept - MEANS
    turned = np.linalg.qr(rng.standard_normal((free, free)))[0] if rng.random() < 0.5 else np.eye(free)
    unlike = _draw_between(UNLIKE, rng) * np.sqrt(9 / len(basis)) * (rng.random() < 0.5)
    synthesis = analysis + unlike * torch.from_numpy(rng.standard_normal(analysis.shape).astype(np.float32))
    ramp = np.ones(side) if rng.random() < 0.35 else np.hanning(side + 2)[1:-1]
    return Decoder(
        analysis,
        synthesis,
        torch.from_numpy(np.outer(ramp, ramp).astype(np.float32))[None, None],
        step,
        torch.from_numpy(turned.astype(np.float32)),
        str(rng.choice(get_args(Bend))),
        float(rng.uniform(*AMOUNT)),
        bool(rng.random() < 0.4),
        int(rng.integers(2**31)),
    )


@lru_cache(maxsize=len(SIDES))
def make_basis(side: int) -> np.ndarray:
    """Return the cosine transform of a patch in colours, coarse codes first: float32 `[3 · side², 3, side, side]`.

    Its colour axes are grey and two that are orthogonal to it; these have fewer codes, as they have less detail.
    """
    steps = np.arange(side)
    waves = np.sqrt(2 / side) * np.cos(np.pi * (steps[:, None] + 0.5) * steps / side)
    waves[:, 0] /= np.sqrt(2)
    colours = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
    basis = np.einsum("ya,xb,cw->abcwyx", waves, waves, colours).reshape(-1, 3, side, side)
    order = np.hypot(steps[:, None], steps)[..., None] * [1, 2.5, 2.5] + [0, 0.4, 0.4]
    return basis[np.argsort(order.ravel(), kind="stable")].astype(np.float32)


def decode_frames(frames: np.ndarray, decoder: Decoder) -> np.ndarray:
    """Send frames, float32 `[T, H, W, 3]`, through a decoder."""
    height, width = frames.shape[1:3]
    side, step = decoder.window.shape[-1], decoder.step
    pictures = torch.from_numpy(np.moveaxis(frames, -1, 1).copy())
    pictures = pad(pictures, (side, side + step, side, side + step), mode="reflect")
    codes = conv2d(pictures, decoder.analysis, stride=step)
    codes = torch.cat([codes[:, :MEANS], _bend_codes(codes[:, MEANS:], decoder)], dim=1)
    drawn = conv_transpose2d(codes, decoder.synthesis * decoder.window, stride=step)
    weight = conv_transpose2d(torch.ones_like(codes[:1, :1]), decoder.window, stride=step)
    drawn = (drawn / weight.clamp(min=1e-6))[:, :, side : side + height, side : side + width]
    return np.ascontiguousarray(np.moveaxis(drawn.numpy(), 1, -1))


def _bend_codes(codes: Tensor, decoder: Decoder) -> Tensor:
    """Do to codes, `[T, K, h, w]`, what makes a decoder more than a blur."""
    strength = codes.std(dim=(0, 2, 3), keepdim=True) + 1e-3
    codes = torch.einsum("tkhw,kj->tjhw", codes, decoder.turn)
    by = decoder.amount * (codes.std(dim=(0, 2, 3), keepdim=True) + 1e-3)
    if decoder.bend == "shrink":
        codes = codes.sign() * (codes.abs() - by).clamp(min=0)
    elif decoder.bend == "round":
        codes = (codes / (2.5 * by)).round() * 2.5 * by
    elif decoder.bend == "rectify":
        codes = torch.where(codes < 0, codes * (1 - decoder.amount), codes)
    elif decoder.bend == "noise":
        noise = torch.Generator().manual_seed(decoder.seed)
        codes = codes + by * torch.randn(codes.shape[1:], generator=noise)
    codes = torch.einsum("tjhw,kj->tkhw", codes, decoder.turn)
    if decoder.level:
        codes = codes * (strength / (codes.std(dim=(0, 2, 3), keepdim=True) + 1e-3)).clamp(max=3)
    return codes


def decode_anew(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Send frames through a decoder that draws at a size of its own; some of the detail may be left."""
    height, width = frames.shape[1:3]
    side, decoder = round(width * _draw_between(WORKING, rng)), draw_decoder(rng)
    up = int(rng.choice([cv2.INTER_LINEAR, CUBIC, cv2.INTER_LANCZOS4]))
    left = np.float32(rng.uniform(0, 0.5) * (rng.random() < 0.3))
    drawn = decode_frames(resize_frames(frames, side, side, AREA if side < width else CUBIC), decoder)
    drawn = resize_frames(drawn, height, width, AREA if side > width else up)
    return drawn + left * (frames - drawn)


def upsample_frames(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Halve frames and double them by a transposed convolution, whose taps are uneven; some of the detail is left."""
    height, width = frames.shape[1:3]
    deviation = _draw_between(LATTICE, rng)
    taps = np.outer([1, 2, 1], [1, 2, 1]) * np.exp(rng.normal(0, deviation, (3, 3)))
    left = np.float32(rng.uniform(0, 0.7))
    halves = resize_frames(frames, (height + 1) // 2, (width + 1) // 2, AREA)
    apart = np.zeros((len(frames), 2 * halves.shape[1], 2 * halves.shape[2], 3), np.float32)
    apart[:, ::2, ::2] = halves
    drawn = np.stack([cv2.filter2D(one, -1, 4 * taps / taps.sum(), borderType=cv2.BORDER_REFLECT_101) for one in apart])
    return drawn[:, :height, :width] + left * find_detail(frames, 1.2)


def change_spectrum(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change how strong each band of high frequencies is, and often those of a lattice."""
    height, width = frames.shape[1:3]
    across, down = np.meshgrid(np.fft.rfftfreq(width), np.fft.fftfreq(height))
    radius = np.hypot(across, down)
    slope = rng.uniform(-5, 4) * np.clip(KNOTS - 0.12, 0, None)
    gain = np.interp(radius, KNOTS, np.exp(slope + rng.normal(0, 0.25, len(KNOTS)) * (KNOTS > 0.2)))
    if rng.random() < 0.6:
        period = int(rng.choice(PERIODS))
        apart = sum(np.abs(at * period - np.rint(at * period)) for at in (across, down))
        gain *= 1 + _draw_between((0.1, 1.5), rng) * np.exp(-((apart / 0.06) ** 2)) * (radius > 0.1)
    spectrum = np.fft.rfft2(frames, axes=(1, 2)) * gain[..., None]
    return np.fft.irfft2(spectrum, s=(height, width), axes=(1, 2)).astype(np.float32)


def redraw_frames(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw frames anew, all alike, and sharpen some: float32 `[T, H, W, 3]` of 0 to 255 → the same."""
    way = str(rng.choice(list(WAYS), p=list(WAYS.values())))
    drawn = {"decoder": decode_anew, "upsampling": upsample_frames, "spectrum": change_spectrum}[way](frames, rng)
    if rng.random() < 0.4:
        drawn = drawn + np.float32(rng.uniform(0.3, 1.2)) * find_detail(drawn, 1.0)
    return drawn


def find_detail(frames: np.ndarray, deviation: float) -> np.ndarray:
    return np.stack([one - cv2.GaussianBlur(one, (0, 0), deviation) for one in frames])


def resize_frames(frames: np.ndarray, height: int, width: int, how: int) -> np.ndarray:
    return np.stack([cv2.resize(one, (width, height), interpolation=how) for one in frames])


def _draw_between(limits: tuple[float, float], rng: np.random.Generator) -> float:
    """Draw between two limits, as often in each octave."""
    return float(np.exp(rng.uniform(*np.log(limits))))
