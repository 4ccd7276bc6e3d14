"""What a mouth does and what is heard with it, as rows of numbers on one clock, standardised within the clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d

from dfmm.faces.lips import Mouths
from dfmm.media.speech import MEL_RATE, PHONEME_RATE, POWER_FLOOR, Speech

STEP = 0.04  # seconds
CONTEXT = 3  # steps of sound on either side that tell of a mouth
TARGETS = {"darkness": 2, "components": 8, "lips": 3}  # features of a mouth, each with its velocity: K = 2 · 13
SOUNDS = ("log_mel", "log_mel+phonemes")  # features of sound, the better ones last
PHONEME_PARTS = 24  # principal components of the phonemes' log-probabilities
SMALL = (24, 18)  # width and height of the mouths whose components are taken, in pixels
BACKGROUND = 10  # per cent of a band's values that count as silence
LIPS_NEEDED = 0.5  # share of frames in which lips must be found
SHOT_STEPS = 12  # shorter shots are left out: what is standardised within them says nothing
SMOOTHING = 0.7  # steps, deviation of the Gaussian before velocities are taken


@dataclass(frozen=True)
class Seen:
    """A mouth's features in even steps of time."""

    times: np.ndarray  # float64 [T], seconds
    rows: np.ndarray  # float64 [T, K], the features in the order of `TARGETS`, then their velocities; 0 if not there
    known: np.ndarray  # bool [T], is the face seen?
    names: tuple[str, ...]  # which features are there


@dataclass(frozen=True)
class Heard:
    """A sound's features around every step from some before the first to as many after the last."""

    rows: dict[str, np.ndarray]  # float32 [T + 2 · reach, D], by the names in `SOUNDS`
    inside: np.ndarray  # bool [T + 2 · reach], is there sound?


def see(mouths: Mouths, bases: Mapping[str, np.ndarray]) -> Seen:
    """Return a mouth's features in steps of 40 ms."""
    times = np.arange(np.ceil(mouths.times[0] / STEP - 1e-6), np.floor(mouths.times[-1] / STEP + 1e-6) + 1) * STEP
    nearest = np.clip(np.searchsorted(mouths.times, times), 1, len(mouths.times) - 1)
    nearest -= times - mouths.times[nearest - 1] < mouths.times[nearest] - times
    usual = float(np.median(np.diff(mouths.times)))
    known = np.abs(mouths.times[nearest] - times) <= 1.5 * max(usual, STEP)
    values = {"darkness": mouths.darkness}
    if "components" in bases:
        values["components"] = shrink_mouths(mouths.crops) @ bases["components"]
    found = np.isfinite(mouths.lips).all(axis=1)
    if found.mean() > LIPS_NEEDED:
        values["lips"] = mouths.lips
    columns = [
        _sample(mouths.times, values[name], times) if name in values else np.zeros((len(times), width))
        for name, width in TARGETS.items()
    ]
    shots = np.where(known, mouths.shots[nearest], -1)
    rows, known = _standardise_shots(np.concatenate(columns, axis=1), shots)
    return Seen(times, rows, known, tuple(values))


def _sample(times: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Interpolate values `[M, K]`, of which rows may be NaN."""
    there = np.isfinite(values).all(axis=1)
    return np.stack([np.interp(at, times[there], column) for column in values[there].T], axis=1)


def _standardise_shots(values: np.ndarray, shots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return features and velocities `[T, 2K]`, standardised within each shot, and where they are known, `[T]`."""
    rows, known = np.zeros((len(values), 2 * values.shape[1])), np.zeros(len(values), bool)
    for shot in np.unique(shots[shots >= 0]):
        inside = np.flatnonzero(shots == shot)
        if len(inside) < SHOT_STEPS:
            continue
        part = _standardise(values[inside])
        velocity = np.gradient(gaussian_filter1d(part, SMOOTHING, axis=0), axis=0)
        rows[inside], known[inside] = np.concatenate([part, _standardise(velocity)], axis=1), True
    return rows, known


def _standardise(rows: np.ndarray) -> np.ndarray:
    spread = rows.std(axis=0)
    return (rows - rows.mean(axis=0)) / np.where(spread > 1e-5, spread, np.inf)


def shrink_mouths(crops: np.ndarray) -> np.ndarray:
    """Return what changes in mouths `[M, 36, 48]`, float32 `[M, 432]`: without their light, mean and contrast."""
    small = np.array([cv2.resize(crop, SMALL, interpolation=cv2.INTER_AREA) for crop in crops], np.float32)
    small = small.reshape(len(crops), -1)
    small -= small.mean(axis=1, keepdims=True)
    contrast = small.std()
    return (small - small.mean(axis=0)) / max(contrast, 1e-3)


def hear(speech: Speech, times: np.ndarray, reach: int, bases: Mapping[str, np.ndarray]) -> Heard:
    """Return a sound's features around each of these steps `[T]`, and around `reach` more before and after."""
    around = reach + CONTEXT
    at = times[0] + STEP * np.arange(-around, len(times) + around)
    inside = (at >= speech.start - STEP / 2) & (at <= speech.end + STEP / 2)
    core = inside & (np.arange(len(at)) >= around) & (np.arange(len(at)) < len(at) - around)
    log_mel = _average(_raise_background(speech.log_mel), at, start=speech.start, rate=MEL_RATE)
    parts = {"log_mel": [log_mel]}
    if speech.phonemes.shape[1] and "phonemes" in bases:
        start = speech.start + 0.5 / PHONEME_RATE
        phonemes = _average(speech.phonemes, at, start=start, rate=PHONEME_RATE) @ bases["phonemes"]
        parts["log_mel+phonemes"] = [log_mel, phonemes]
    rows = {}
    for name, values in parts.items():
        values = np.concatenate(values, axis=1)
        reference = values[core] if core.any() else values
        spread = reference.std(axis=0)
        values = (values - reference.mean(axis=0)) / np.where(spread > 1e-4, spread, np.inf)
        rows[name] = _stack_context(np.where(inside[:, None], values, 0).astype(np.float32))
    return Heard(rows, inside[CONTEXT:-CONTEXT])


def _raise_background(log_mel: np.ndarray) -> np.ndarray:
    """Lift what is quieter than the background: digital silence would weigh more than all that is said."""
    live = log_mel[log_mel.max(axis=1) > np.log(POWER_FLOOR) + 1.5]
    return np.maximum(log_mel, np.percentile(live, BACKGROUND, axis=0)) if len(live) else log_mel


def _average(rows: np.ndarray, at: np.ndarray, *, start: float, rate: float) -> np.ndarray:
    """Return the means, float64 `[n, D]`, of the rows within a step around each time."""
    width = max(round(STEP * rate), 1)
    sums = np.cumsum(np.concatenate([np.zeros((1, rows.shape[1])), rows]), axis=0)
    first = np.rint((at - start) * rate - width / 2 + 0.5).astype(int)
    low = np.clip(first, 0, len(rows) - 1)
    high = np.maximum(np.clip(first + width, 1, len(rows)), low + 1)
    return (sums[high] - sums[low]) / (high - low)[:, None]


def _stack_context(rows: np.ndarray) -> np.ndarray:
    """Return each row beside those around it, `[n − 2 · CONTEXT, (2 · CONTEXT + 1) · D]`."""
    count = len(rows) - 2 * CONTEXT
    return np.concatenate([rows[shift : shift + count] for shift in range(2 * CONTEXT + 1)], axis=1)


def find_basis(rows: np.ndarray, parts: int) -> np.ndarray:
    """Return the first principal components of rows `[n, D]`, float32 `[D, parts]`, their signs fixed."""
    rows = rows - rows.mean(axis=0)
    _, vectors = np.linalg.eigh(rows.T @ rows / max(len(rows), 1))
    basis = vectors[:, ::-1][:, :parts]
    return (basis * np.sign(basis[np.abs(basis).argmax(axis=0), np.arange(parts)])).astype(np.float32)


def find_bases(mouths: Sequence[Mouths], speeches: Sequence[Speech]) -> dict[str, np.ndarray]:
    """Return the bases of mouths' components and, where they were recognised, of phonemes."""
    bases = {"components": find_basis(np.concatenate([shrink_mouths(m.crops) for m in mouths]), TARGETS["components"])}
    told = [speech.phonemes for speech in speeches if speech.phonemes.shape[1] > PHONEME_PARTS and len(speech.phonemes)]
    if told:
        rows = np.concatenate([(rows - rows.mean(axis=0)) / (rows.std(axis=0) + 1e-3) for rows in told])
        bases["phonemes"] = find_basis(rows, PHONEME_PARTS)
    return bases
