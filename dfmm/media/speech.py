"""What is said when: log-mel energies always, phonemes where a package tells them, and where there is a voice."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import scipy  # whose parts are imported when they are used

from dfmm.media.sound import Sound

SAMPLE_RATE = 16_000
BANDS, LOWEST_HZ, HIGHEST_HZ = 40, 60.0, 7600.0
SPECTRUM, WINDOW, HOP = 512, 400, 160  # samples: 25 ms of sound every 10 ms
MEL_RATE = SAMPLE_RATE / HOP  # rows a second
POWER_FLOOR = 1e-8  # of a band: digital silence has a logarithm, too
PHONEME_RATE = 50.0  # rows a second
PHONEME_SECONDS, PHONEME_OVERLAP = 30.0, 1.0  # of a stretch that is recognised at once: memory grows with its square
VOICE_DB = 12.0  # a voice stands out from the background of its own clip by this much, or a third of all there is
STEADY_DB = 6.0  # what rises and falls by less is a hum or noise, or drowned in it


@dataclass(frozen=True)
class Speech:
    """What is heard with a video, on its clock."""

    start: float  # seconds after the first frame: the middle of the first row of `log_mel`, and where phonemes begin
    log_mel: np.ndarray  # float32 [S, 40], `MEL_RATE` rows a second
    phonemes: np.ndarray  # float32 [P, tokens], log-probabilities, `PHONEME_RATE` rows a second; [0, 0] where unknown

    @property
    def end(self) -> float:
        """Seconds after the first frame at which the sound ends."""
        return self.start + max(len(self.log_mel) - 1, 0) / MEL_RATE

    def find_voice(self) -> np.ndarray:
        """In which rows of `log_mel` is something said? Bool `[S]`: by energy, against the clip's own background."""
        if not len(self.log_mel):
            return np.zeros(0, bool)
        level = 10 * np.log10(np.exp(self.log_mel).sum(axis=1))
        sounding = level[level > 10 * np.log10(2 * BANDS * POWER_FLOOR)]
        if not len(sounding):
            return np.zeros(len(level), bool)
        quiet, loud = np.percentile(sounding, [10, 95])
        if loud - quiet < STEADY_DB:
            return np.zeros(len(level), bool)
        return level > max(quiet + min(VOICE_DB, (loud - quiet) / 3), loud - 40)


def describe_speech(sound: Sound | None, *, phonemes: bool = False) -> Speech | None:
    """Return the features of a sound of any rate; None where there is none.

    Args:
        phonemes: recognise them as well; for that `hama` has to be installed.
    """
    if sound is None or not len(sound.samples):
        return None
    samples = np.asarray(sound.samples[:], np.float32)
    if sound.sample_rate != SAMPLE_RATE:
        samples = scipy.signal.resample_poly(samples, SAMPLE_RATE, sound.sample_rate).astype(np.float32)
    told = recognise_phonemes(samples) if phonemes else np.zeros((0, 0), np.float32)
    return Speech(sound.start, measure_log_mel(samples), told)


def measure_log_mel(samples: np.ndarray) -> np.ndarray:
    """Return the logarithm of the power in 40 mel bands (HTK's scale), float32 `[S, 40]`, of a sound at 16 kHz.

    Row n is about the 25 ms around sample n · 160.
    """
    bands, taper = _make_bands(), np.hanning(WINDOW).astype(np.float32)
    rows = [np.abs(np.fft.rfft(block * taper, SPECTRUM)) ** 2 @ bands for block in _list_pieces(samples, 4096)]
    return np.log(np.concatenate(rows) + POWER_FLOOR).astype(np.float32)


def _list_pieces(samples: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yield the samples around every row, `[n, WINDOW]`, so many rows at once: hours of sound are not copied."""
    count = (len(samples) + 2 * (WINDOW // 2) - WINDOW) // HOP + 1
    for row in range(0, count, size):
        first = row * HOP - WINDOW // 2
        last = first + (min(size, count - row) - 1) * HOP + WINDOW
        around = np.pad(samples[max(first, 0) : last], (max(-first, 0), max(last - len(samples), 0)))
        yield np.lib.stride_tricks.sliding_window_view(around, WINDOW)[::HOP]


@functools.cache
def _make_bands() -> np.ndarray:
    """Return the weights `[257, 40]` of triangular bands, evenly spaced on the mel scale."""
    low, high = (2595 * np.log10(1 + hertz / 700) for hertz in (LOWEST_HZ, HIGHEST_HZ))
    edges = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    hertz = np.arange(SPECTRUM // 2 + 1)[:, None] * SAMPLE_RATE / SPECTRUM
    rising = (hertz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hertz) / (edges[2:] - edges[1:-1])
    return np.maximum(np.minimum(rising, falling), 0).astype(np.float32)


def has_phonemes() -> bool:
    """Is the package that recognises phonemes installed?"""
    return find_spec("hama") is not None


def recognise_phonemes(samples: np.ndarray) -> np.ndarray:
    """Return log-probabilities of phonemes, float32 `[P, tokens]`, of a sound at 16 kHz.

    Row n is about the 20 ms from sample n · 320 on. Longer sounds are recognised in stretches that overlap.
    """
    step, overlap = (round(seconds * SAMPLE_RATE) for seconds in (PHONEME_SECONDS, PHONEME_OVERLAP))
    a_row = SAMPLE_RATE / PHONEME_RATE
    parts = []
    for first in range(0, max(len(samples), 1), step):
        before = min(first, overlap)
        piece = samples[first - before : first + step + overlap]
        rows = _run_recogniser(np.clip(piece, -1, 1))[round(before / a_row) :]
        parts.append(rows[: round(step / a_row)])
    return np.concatenate(parts)


def _run_recogniser(samples: np.ndarray) -> np.ndarray:
    recogniser = _load_recogniser()
    waveform = np.pad(samples, (0, max(1600 - len(samples), 0)))  # it takes no less than a tenth of a second
    feeds = {"waveform": waveform[None].astype(np.float32), "waveform_lengths": np.array([len(waveform)], np.int64)}
    found, lengths = recogniser.run(["log_probs", "out_lengths"], feeds)
    return np.asarray(found[0][: int(np.ravel(lengths)[0])], np.float32)


@functools.cache
def _load_recogniser() -> Any:
    """Load hama's recogniser, whose public face keeps the probabilities to itself."""
    from hama import ASRModel

    return ASRModel().session
