"""Synthetic speech: a buzz and a hiss, shaped by formants into syllables, with a voice for each identity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.random import Generator

SAMPLE_RATE = 16000
CONTROL_RATE = 200  # values a second of the curves that steer the voice
WINDOW, HOP = 512, 128  # samples, of the filter that shapes the voice
FREQUENCIES = np.linspace(0, SAMPLE_RATE / 2, WINDOW // 2 + 1, dtype=np.float32)  # Hz

# First three formants of a long vocal tract, Hz.
VOWELS = (
    (730, 1090, 2440),  # father
    (530, 1840, 2480),  # bed
    (270, 2290, 3010),  # see
    (570, 840, 2410),  # saw
    (300, 870, 2240),  # too
    (640, 1190, 2390),  # cut
    (390, 1990, 2550),  # sit
    (660, 1720, 2410),  # cat
)
BANDWIDTHS = (80.0, 100.0, 140.0, 220.0)


@dataclass(frozen=True)
class Voice:
    """How one identity speaks."""

    pitch: float  # Hz
    liveliness: float  # spread of the pitch, octaves
    tract: float  # factor on the formants: higher is a shorter vocal tract
    fourth: float  # fourth formant of a long tract, Hz
    breath: float  # share of noise in voiced sound
    tilt: float  # how fast overtones fall: the power of the frequency
    pace: float  # syllables a second


@dataclass(frozen=True)
class Script:
    """What steers one stretch of speech: curves at `CONTROL_RATE`, arrays `[K]`."""

    voiced: np.ndarray  # amplitude of the buzz
    hissed: np.ndarray  # amplitude of the hiss
    pitch: np.ndarray  # Hz
    formants: np.ndarray  # Hz, [K, 3]
    hiss_centre: np.ndarray  # Hz


def invent_voice(rng: Generator) -> Voice:
    """Draw an identity's voice."""
    high = rng.random()
    return Voice(
        pitch=95 * 2 ** (1.15 * high + rng.normal(0, 0.08)),
        liveliness=rng.uniform(0.08, 0.22),
        tract=1.0 + 0.18 * high + rng.normal(0, 0.03),
        fourth=rng.uniform(3300, 3800),
        breath=rng.uniform(0.02, 0.10),
        tilt=rng.uniform(0.9, 1.5),
        pace=rng.uniform(3.4, 4.8),
    )


def speak(voice: Voice, seconds: float, rng: Generator) -> np.ndarray:
    """Speak nonsense for some seconds, pauses included: float32 `[S]`, loudest about 1, no background."""
    script = write_script(voice, seconds, rng)
    length = round(seconds * SAMPLE_RATE)
    buzz = _buzz(voice, script, length, rng) + voice.breath * rng.standard_normal(length)
    voiced = _filter(buzz * _stretch(script.voiced, length), partial(_shape_vowels, voice=voice, script=script))
    hiss = _filter(rng.standard_normal(length) * _stretch(script.hissed, length), partial(_shape_hiss, script=script))
    speech = voiced / _top(voiced) + 0.12 * hiss / _top(hiss)
    return (speech / _top(speech)).astype(np.float32)


def write_script(voice: Voice, seconds: float, rng: Generator) -> Script:
    """Draw syllables and pauses until the time is full."""
    count = round(seconds * CONTROL_RATE)
    pieces: list[np.ndarray] = []  # each [k, 6]: voiced, hissed, three formants, hiss centre
    while sum(map(len, pieces)) < count + CONTROL_RATE:
        for _ in range(rng.integers(3, 8)):
            pieces.append(_write_syllable(voice, rng))
        pieces.append(_write_pause(pieces[-1][-1], rng.uniform(0.15, 0.45)))
    start = rng.integers(CONTROL_RATE)  # so that speech is as likely in full flow at the start as anywhere
    curves = np.concatenate(pieces)[start : start + count]
    return Script(
        voiced=_smooth(curves[:, 0], 0.012),
        hissed=_smooth(curves[:, 1], 0.006),
        pitch=_write_melody(voice, count, rng),
        formants=np.stack([_smooth(curves[:, 2 + number], 0.030) for number in range(3)], 1) * voice.tract,
        hiss_centre=curves[:, 5],
    )


def measure_loudness(sound: np.ndarray, times: np.ndarray, *, width: float = 0.06) -> np.ndarray:
    """Root mean square of sound `[S]` in a soft window of `width` seconds around each time (seconds), `[N]`."""
    power = _smooth(_measure_power(sound, seconds=0.001), width / 2, rate=1000)
    return np.sqrt(np.interp(times * 1000 - 0.5, np.arange(len(power)), power))


def measure_speech(sound: np.ndarray) -> float:
    """Root mean square over those 20 ms of sound `[S]` that are within 20 dB of the loudest."""
    power = _measure_power(sound, seconds=0.02)
    return float(np.sqrt(power[power >= 0.01 * power.max()].mean()))


def add_room(speech: np.ndarray, *, noise: float, rng: Generator) -> np.ndarray:
    """Put speech `[S]` in a small room: short reverberation and a murmur `noise` dB below the speech."""
    echo = rng.standard_normal(int(0.08 * SAMPLE_RATE)) * np.exp(-np.arange(int(0.08 * SAMPLE_RATE)) / 300)
    echo *= 0.25 / np.linalg.norm(echo)
    echo[0] = 1.0
    size = 1 << (len(speech) + len(echo)).bit_length()
    wet = np.fft.irfft(np.fft.rfft(speech, size) * np.fft.rfft(echo, size), size)[: len(speech)]
    murmur = rng.standard_normal(len(speech))
    murmur = 0.8 * _smooth(murmur, 0.0002, rate=SAMPLE_RATE) + 0.2 * murmur
    return (wet + murmur * (measure_speech(wet) / murmur.std() * 10 ** (-noise / 20))).astype(np.float32)


def revoice(sound: np.ndarray, rng: Generator, *, bands: int, window: int, rounds: int) -> np.ndarray:
    """Reduce sound `[S]` to a mel spectrogram and build it anew by Griffin and Lim's phase reconstruction.

    Args:
        bands: of the mel spectrogram.
        window: samples of the spectra, a multiple of 4.
        rounds: of phase reconstruction; few leave a hollow, wavering voice.
    """
    hop = window // 4
    magnitude = _blur_to_mel(np.abs(_analyse(sound, window, hop)), bands)
    phase = np.exp(2j * np.pi * rng.random(magnitude.shape))
    for _ in range(rounds):
        spectrum = _analyse(_synthesise(magnitude * phase, window, hop, len(sound)), window, hop)
        phase = spectrum / np.maximum(np.abs(spectrum), 1e-9)
    return _synthesise(magnitude * phase, window, hop, len(sound)).astype(np.float32)


# Script


def _write_syllable(voice: Voice, rng: Generator) -> np.ndarray:
    """One syllable's curves `[k, 6]`: a consonant that closes the mouth, and a vowel."""
    count = max(24, round(CONTROL_RATE / voice.pace * rng.uniform(0.75, 1.3)))
    closed = round(count * rng.uniform(0.25, 0.40))
    curves = np.empty((count, 6))
    swell = np.sin(np.pi * (np.arange(count - closed) + 0.5) / (count - closed)) ** 0.7
    curves[:closed, 0] = 0.04
    curves[closed:, 0] = swell * rng.uniform(0.6, 1.0)
    curves[:, 1] = 0
    if rng.random() < 0.6:
        curves[: closed - 2, 1] = rng.uniform(0.3, 1.0)
    curves[:, 2:5] = VOWELS[rng.integers(len(VOWELS))]
    curves[:closed, 2] *= 0.6
    curves[:, 5] = rng.uniform(2500, 6500)
    return curves


def _write_pause(before: np.ndarray, seconds: float) -> np.ndarray:
    curves = np.tile(before, (round(seconds * CONTROL_RATE), 1))
    curves[:, :2] = 0
    return curves


def _write_melody(voice: Voice, count: int, rng: Generator) -> np.ndarray:
    """The pitch in Hz, `[K]`: a slow wander, a faster one, and the trembling of every voice."""
    wander = sum(
        share * _normalise(_smooth(rng.standard_normal(count), seconds))
        for share, seconds in ((0.8, 0.30), (0.5, 0.10), (0.06, 0.01))
    )
    return voice.pitch * 2 ** (voice.liveliness * wander)


# Sources and filters


def _buzz(voice: Voice, script: Script, length: int, rng: Generator) -> np.ndarray:
    """Glottal pulses of unit spread, `[S]`: all overtones below half the sample rate, equally strong."""
    pitch = _stretch(script.pitch, length) * (1 + 0.004 * _smooth(rng.standard_normal(length), 0.004, SAMPLE_RATE))
    half = np.pi * np.cumsum(pitch) / SAMPLE_RATE
    overtones = np.floor(0.48 * SAMPLE_RATE / script.pitch.max())
    sine = np.sin(half)
    sine = np.where(np.abs(sine) < 1e-6, 1e-6, sine)
    pulses = np.sin((2 * overtones + 1) * half) / sine - 1  # the sum of 2 cos(2 k half) for k = 1 … overtones
    return pulses / np.sqrt(2 * overtones)


def _filter(source: np.ndarray, respond: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Shape a source `[S]` by a response that changes with time.

    Args:
        respond: gives the responses `[M, WINDOW / 2 + 1]` at M moments, numbered at `CONTROL_RATE`.
    """
    spectrum = _analyse(source, WINDOW, HOP)
    centres = np.arange(len(spectrum)) * HOP - WINDOW / 2
    last = len(source) / SAMPLE_RATE * CONTROL_RATE - 1
    moments = np.clip(centres / SAMPLE_RATE * CONTROL_RATE, 0, last).astype(int)
    return _synthesise(spectrum * respond(moments), WINDOW, HOP, len(source))


def _shape_vowels(moments: np.ndarray, *, voice: Voice, script: Script) -> np.ndarray:
    """Response of the vocal tract, complex `[M, F]`: a resonance for each formant, and the tilt of the glottis."""
    response = (1 / (1 + (FREQUENCIES / 250) ** voice.tilt)).astype(np.complex64)
    fourth = np.full(len(moments), voice.fourth * voice.tract)
    for centre, width in zip((*script.formants[moments].T, fourth), BANDWIDTHS, strict=True):
        square = np.float32(centre[:, None] ** 2)
        response = response * (square / (square - FREQUENCIES**2 + np.complex64(1j * width) * FREQUENCIES))
    return response


def _shape_hiss(moments: np.ndarray, *, script: Script) -> np.ndarray:
    return np.exp(-(((FREQUENCIES - script.hiss_centre[moments, None]) / 1300) ** 2))


# Spectra


def _analyse(sound: np.ndarray, window: int, hop: int) -> np.ndarray:
    """Short-time spectra of sound `[S]`: complex `[M, window / 2 + 1]`, the first just before it begins."""
    padded = np.pad(sound, window)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    return np.fft.rfft(frames * np.sqrt(_hann(window)))


def _synthesise(spectrum: np.ndarray, window: int, hop: int, length: int) -> np.ndarray:
    """Sound `[length]` of short-time spectra; what `_analyse` gave comes back as it was."""
    frames = np.fft.irfft(spectrum, window) * np.sqrt(_hann(window)) * (2 * hop / window)
    parts = window // hop
    sound = np.zeros((len(frames) + parts - 1, hop))
    for part in range(parts):
        sound[part : part + len(frames)] += frames[:, part * hop : (part + 1) * hop]
    return sound.reshape(-1)[window : window + length]


def _blur_to_mel(magnitude: np.ndarray, bands: int) -> np.ndarray:
    """What is left of magnitudes `[M, F]` after a mel spectrogram of that many bands, as magnitudes `[M, F]`."""
    bins = magnitude.shape[1]
    mels = 2595 * np.log10(1 + np.linspace(0, SAMPLE_RATE / 2, bins) / 700)
    centres = np.linspace(0, mels[-1], bands)
    weights = np.clip(1 - np.abs(mels[:, None] - centres) / (centres[1] - centres[0]), 0, 1)  # [F, bands]
    weights += 1e-9 * np.exp(-np.abs(mels[:, None] - centres) / 50)  # a band between two bins takes the nearest
    power = np.einsum("mf,fb->mb", magnitude**2, weights / weights.sum(0))
    # One value a band, and straight lines between them. einsum, because BLAS may round differently by thread.
    below = np.clip(np.searchsorted(centres, mels, side="right") - 1, 0, bands - 2)
    share = (mels - centres[below]) / (centres[1] - centres[0])
    level = np.log(power + 1e-12)
    return np.exp(0.5 * (level[:, below] * (1 - share) + level[:, below + 1] * share))


# Small tools


def _smooth(curve: np.ndarray, seconds: float, rate: int = CONTROL_RATE) -> np.ndarray:
    """Smooth a curve `[K]` by a bell of about `seconds` to either side."""
    reach = max(1, round(2 * seconds * rate))
    bell = np.hanning(2 * reach + 3)[1:-1]
    padded = np.pad(curve, reach, mode="edge")
    return np.convolve(padded, bell / bell.sum(), mode="valid")


def _measure_power(sound: np.ndarray, *, seconds: float) -> np.ndarray:
    """Mean square of sound `[S]` in pieces of some seconds, `[K]`; what is left over at the end is not counted."""
    step = round(seconds * SAMPLE_RATE)
    pieces = np.asarray(sound, np.float64)[: len(sound) // step * step].reshape(-1, step)
    return (pieces**2).mean(1)


def _stretch(curve: np.ndarray, length: int) -> np.ndarray:
    """Bring a curve from `CONTROL_RATE` to the sample rate."""
    return np.interp(np.arange(length) * CONTROL_RATE / SAMPLE_RATE, np.arange(len(curve)), curve)


def _spread(curve: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(curve, dtype=np.float64))))


def _normalise(curve: np.ndarray) -> np.ndarray:
    return curve / _spread(curve)


def _hann(window: int) -> np.ndarray:
    return np.hanning(window + 1)[:-1]


def _top(sound: np.ndarray) -> float:
    return float(np.abs(sound).max()) + 1e-9
