"""Voices spoken anew from pitch and spectral envelope alone, by linear prediction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy  # whose parts are imported when they are used

from dfmm.forge.sound import hush, match_level

EMPHASIS = 0.97
PITCHES = (70, 400)  # Hz, of human voices
FRAMES, HOPS = (0.020, 0.035), (0.005, 0.008, 0.010, 0.0125)  # seconds
ORDERS = (14, 26)  # coefficients at 16 kHz: two for a formant, and some for lips and glottis
PERIODIC = (0.25, 0.45)  # autocorrelation at a pitch's period, from which on a frame is voiced
TRANSPOSED = 2  # semitones up or down, at most
HISS = 0.15  # of noise, in what is voiced
MARGIN = 0.25  # seconds by which a sound is mirrored at its ends


@dataclass(frozen=True)
class Speaker:
    """How a voice is taken apart and spoken anew."""

    order: int  # coefficients of linear prediction
    frame: int  # samples
    hop: int  # samples
    pitch: float  # times
    periodic: float
    seed: int  # of the noise


def draw_speaker(rng: np.random.Generator, *, sample_rate: int) -> Speaker:
    """Draw one of many ways to speak, so that none is learnt."""
    order = round(int(rng.integers(ORDERS[0], ORDERS[1] + 1)) * sample_rate / 16_000)
    frame, hop = (round(seconds * sample_rate) for seconds in (rng.uniform(*FRAMES), rng.choice(HOPS)))
    pitch = 2 ** (rng.uniform(-TRANSPOSED, TRANSPOSED) / 12)
    return Speaker(order, frame, hop, pitch, float(rng.uniform(*PERIODIC)), int(rng.integers(2**31)))


def speak_anew(samples: np.ndarray, speaker: Speaker, *, sample_rate: int) -> np.ndarray:
    """Speak a sound, float32 `[S]`, anew: as loud as it was, silent where it was."""
    if not samples.any():
        return samples
    # Mirrored beyond its ends, as in `sound.vocode`: no window's ends are to tell that this one was spoken anew.
    margin = min(round(MARGIN * sample_rate), len(samples) - 1)
    sound = speak_predicted(np.pad(samples, margin, mode="reflect"), speaker, sample_rate=sample_rate)
    return match_level(hush(sound[margin : margin + len(samples)].astype(np.float32), samples), samples)


def speak_predicted(samples: np.ndarray, speaker: Speaker, *, sample_rate: int) -> np.ndarray:
    """Drive filters of linear prediction by pulses and noise (Atal and Hanauer, JASA 1971): float `[S]` → the same."""
    size, rng = speaker.frame, np.random.default_rng(speaker.seed)
    window = np.hanning(size + 2)[1:-1]
    heard = scipy.signal.lfilter([1, -EMPHASIS], [1], np.pad(samples.astype(float), size))
    sound, weight, pulse = np.zeros(len(heard)), np.zeros(len(heard)), 0
    for start in range(0, len(heard) - size, speaker.hop):
        power = np.correlate(heard[start : start + size] * window, heard[start : start + size] * window, "full")
        power = power[size - 1 :] * np.r_[1.0001, np.ones(size - 1)]  # a little white noise, for silence to be solved
        if power[0] < 1e-7:
            continue
        filters = scipy.linalg.solve_toeplitz(power[: speaker.order], power[1 : speaker.order + 1])
        left = max(power[0] - filters @ power[1 : speaker.order + 1], 1e-9)
        period = find_period(power, speaker, sample_rate=sample_rate)
        pulse = max(pulse, start)
        driven = _drive(size, period, pulse - start, rng)
        if period:  # pulses go on from frame to frame
            pulse += period * -(-max(start + speaker.hop - pulse, 0) // period)
        spoken = scipy.signal.lfilter([1], np.r_[1, -filters], driven * np.sqrt(left / (window**2).sum()))
        sound[start : start + size] += spoken * window
        weight[start : start + size] += window**2
    sound = scipy.signal.lfilter([1], [1, -EMPHASIS], sound / np.sqrt(np.maximum(weight, 0.3)))
    return sound[size : size + len(samples)]


def find_period(power: np.ndarray, speaker: Speaker, *, sample_rate: int) -> int:
    """Return the period of a voice in samples from a frame's autocorrelation, `[n]`; 0 where it is unvoiced."""
    low, high = (round(sample_rate / pitch) for pitch in PITCHES[::-1])
    lags = power[low:high]
    if not len(lags) or lags.max() < speaker.periodic * power[0]:
        return 0
    return max(round((low + int(lags.argmax())) / speaker.pitch), 2)


def _drive(size: int, period: int, first: int, rng: np.random.Generator) -> np.ndarray:
    """Return what drives a filter, float64 `[size]`: pulses from a given sample on, or noise where the period is 0."""
    noise = rng.standard_normal(size)
    if not period:
        return noise
    driven = HISS * noise
    driven[first::period] += np.sqrt(period)
    return driven
