"""What the world does to frames and sound: functions with a strength, and the draw that training makes of them."""

from __future__ import annotations

import numpy as np

from dfmm.settings import Augment

GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601 luma


def draw_square(square: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
    """Return a smaller square somewhere inside a crop's square (centre x, centre y, side): a random crop."""
    cut = rng.uniform(0, augment.crop) * square[2]
    shift = rng.uniform(-cut / 2, cut / 2, size=2)
    return np.array([square[0] + shift[0], square[1] + shift[1], square[2] - cut])


def augment_frames(frames: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
    """Flip, recolour and add noise to a window's frames, uint8 `[T, H, W, 3]`: one draw for all of them."""
    if rng.random() < augment.flip:
        frames = frames[:, :, ::-1]
    brightness, contrast, saturation = 1 + rng.uniform(-augment.colour, augment.colour, size=3)
    deviation = rng.uniform(0, augment.noise) * 255
    if augment.colour:
        frames = change_colour(frames, brightness=brightness, contrast=contrast, saturation=saturation)
    if deviation:
        frames = add_noise(frames, deviation=deviation, rng=rng)
    return np.ascontiguousarray(frames)


def change_colour(frames: np.ndarray, *, brightness: float, contrast: float, saturation: float) -> np.ndarray:
    """Scale brightness, contrast around the mean grey, and saturation; 1 changes nothing. uint8 `[T, H, W, 3]`."""
    # The three steps are linear in the pixel, so they are one matrix and one offset.
    mix = brightness * contrast * (saturation * np.eye(3, dtype=np.float32) + (1 - saturation) * GREY[None, :])
    mean = float((frames.reshape(-1, 3).mean(axis=0) @ GREY) * brightness)
    changed = frames.astype(np.float32) @ mix.T.astype(np.float32) + np.float32(mean * (1 - contrast))
    return np.clip(changed + 0.5, 0, 255).astype(np.uint8)


def add_noise(frames: np.ndarray, *, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise of this standard deviation, in grey levels, drawn anew for each pixel as a sensor does."""
    noise = rng.standard_normal(frames.shape, dtype=np.float32) * np.float32(deviation)
    return np.clip(frames + noise + 0.5, 0, 255).astype(np.uint8)


def augment_sound(samples: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
    """Change the loudness of a window's sound, float32 `[S]`, and sometimes lay white noise under it."""
    gain = 10 ** (rng.uniform(-augment.sound_gain, augment.sound_gain) / 20)
    noisy, ratio = rng.random() < augment.sound_noise, rng.uniform(15, 40)
    samples = samples * np.float32(gain)
    return add_sound_noise(samples, snr=ratio, rng=rng) if noisy else samples


def add_sound_noise(samples: np.ndarray, *, snr: float, rng: np.random.Generator) -> np.ndarray:
    """Add white noise at a signal-to-noise ratio in dB; silence stays silent."""
    level = np.sqrt(np.mean(samples**2)) * 10 ** (-snr / 20)
    return samples + rng.standard_normal(samples.shape, dtype=np.float32) * np.float32(level)
