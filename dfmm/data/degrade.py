"""What the world does to frames and sound: functions with a strength, and the draw that training makes of them."""

from __future__ import annotations

import numpy as np
from PIL import Image

from dfmm.settings import Augment

GREY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601 luma


def augment_frames(frames: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
    """Mirror, crop, recolour and add noise to a window's frames, uint8 `[T, H, W, 3]`: one draw for all of them."""
    if rng.random() < augment.flip:
        frames = frames[:, :, ::-1]
    # By whole pixels: to resample once more would blur the very traces that a forgery leaves.
    right, down = np.rint(rng.uniform(-augment.crop, augment.crop, size=2) * frames.shape[1]).astype(int)
    brightness, contrast, saturation = 1 + rng.uniform(-augment.colour, augment.colour, size=3)
    deviation = rng.uniform(0, augment.noise) * 255
    if right or down:
        frames = shift_frames(frames, right=right, down=down)
    if augment.colour:
        frames = change_colour(frames, brightness=brightness, contrast=contrast, saturation=saturation)
    if deviation:
        frames = add_noise(frames, deviation=deviation, rng=rng)
    return np.ascontiguousarray(frames)


def shift_frames(frames: np.ndarray, *, right: int, down: int) -> np.ndarray:
    """Move frames, uint8 `[T, H, W, 3]`, by whole pixels; what comes in repeats their edges."""
    height, width = frames.shape[1:3]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return frames[:, rows[:, None], columns]


def change_colour(frames: np.ndarray, *, brightness: float, contrast: float, saturation: float) -> np.ndarray:
    """Scale brightness, contrast around the mean grey, and saturation; 1 changes nothing. uint8 `[T, H, W, 3]`."""
    # The three steps are linear in the pixel, so they are one matrix and one offset.
    mix = brightness * contrast * (saturation * np.eye(3) + (1 - saturation) * GREY)
    rows = np.ascontiguousarray(frames).reshape(-1, frames.shape[2], 3)
    mean = rows.sum(axis=0, dtype=np.uint64).sum(axis=0) / (len(rows) * frames.shape[2]) @ GREY * brightness
    matrix = np.column_stack([mix, np.full(3, mean * (1 - contrast))])
    return np.asarray(Image.fromarray(rows).convert("RGB", tuple(matrix.ravel()))).reshape(frames.shape)


def add_noise(frames: np.ndarray, *, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise of this standard deviation, in grey levels, drawn anew for each pixel as a sensor does."""
    noise = rng.standard_normal(frames.shape, dtype=np.float32) * np.float32(deviation)
    return np.clip(frames + noise + 0.5, 0, 255).astype(np.uint8)


def augment_sound(samples: np.ndarray, augment: Augment, rng: np.random.Generator, *, sample_rate: int) -> np.ndarray:
    """Change pitch and loudness of a window's sound, float32 `[S]`, and sometimes lay white noise under it."""
    gain = 10 ** (rng.uniform(-augment.sound_gain, augment.sound_gain) / 20)
    noisy, ratio = rng.random() < augment.sound_noise, rng.uniform(15, 40)
    semitones = rng.uniform(-augment.pitch, augment.pitch)
    if semitones:
        samples = shift_pitch(samples, semitones=semitones, sample_rate=sample_rate)
    samples = samples * np.float32(gain)
    return add_sound_noise(samples, snr=ratio, rng=rng) if noisy else samples


def shift_pitch(samples: np.ndarray, *, semitones: float, sample_rate: int) -> np.ndarray:
    """Raise the pitch of a sound, float32 `[S]`; its length, its loudness and what happens when stay as they are."""
    from librosa.effects import pitch_shift  # imported only when chosen: it takes seconds

    if not samples.any():
        return samples
    # A phase vocoder with frames of 32 ms: longer ones keep deep voices purer, but sounds no longer begin on time.
    size = 1 << round(np.log2(0.032 * sample_rate))
    shifted = pitch_shift(samples, sr=sample_rate, n_steps=semitones, n_fft=size)
    lost = np.sqrt(np.mean(samples**2) / max(np.mean(shifted**2), 1e-12))  # where its phases do not fit together
    return (shifted * lost).astype(np.float32)


def add_sound_noise(samples: np.ndarray, *, snr: float, rng: np.random.Generator) -> np.ndarray:
    """Add white noise at a signal-to-noise ratio in dB; silence stays silent."""
    level = np.sqrt(np.mean(samples**2)) * 10 ** (-snr / 20)
    return samples + rng.standard_normal(samples.shape, dtype=np.float32) * np.float32(level)
