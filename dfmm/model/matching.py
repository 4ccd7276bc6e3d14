"""A mouth that was seen beside one that was predicted: correlation at every lag, over time, and by chance."""

from __future__ import annotations

import numpy as np
from scipy.fft import next_fast_len

from dfmm.media.speech import Speech
from dfmm.model.motion import STEP, Seen

REACH = 15  # steps: lags of up to 600 ms are looked at
# Steps by which the sound of genuine files may be early or late: whole sources of them are late, alike.
EARLY, LATE = 3, 5
LAGS = EARLY + LATE + 1
SHORTEST = 12  # steps with mouth and sound, of which a correlation says anything
LEAST_OFFSETS = 300  # at which a mouth is compared with the speech of others
STRETCH, HOP = 2.0, 0.5  # seconds of a stretch of the trace, and to the next
VOICED_SECONDS = 0.4  # of voice, without which there is nothing to judge


class Match:
    """A mouth that was seen beside one that was predicted, by the features that count.

    Args:
        predicted: float `[T + 2 · REACH, K]`, from `REACH` steps before the mouth's first.
        inside: bool `[T + 2 · REACH]`, where there is sound.
        skill: float `[K]`, what each feature counts for; 0 leaves it out.
    """

    def __init__(self, seen: Seen, predicted: np.ndarray, inside: np.ndarray, skill: np.ndarray):
        moving = seen.rows[seen.known].std(axis=0) > 1e-6 if seen.known.any() else np.zeros(len(skill), bool)
        self.width, self.columns = len(skill), np.flatnonzero((skill > 0) & moving)
        weights = skill[self.columns] ** 2
        self.weights = weights / max(weights.sum(), 1e-12)
        self.times, self.known = seen.times, seen.known
        self.seen, self.predicted, self.inside = seen.rows[:, self.columns], predicted[:, self.columns], inside

    def counted(self, step: int) -> np.ndarray:
        """Which steps of the mouth, bool `[T]`, have a sound that is late by so many steps?"""
        first = REACH + step
        return self.known & self.inside[first : first + len(self.known)]

    def correlate(self, step: int, among: slice = slice(None)) -> float:
        """Return the weighted correlation over the features, with a sound late by so many steps; NaN from too few."""
        counted = np.zeros(len(self.known), bool)
        counted[among] = self.counted(step)[among]
        if counted.sum() < SHORTEST or not len(self.columns):
            return np.nan
        first = REACH + step
        predicted = standardise(self.predicted[first : first + len(self.known)][counted])
        return float((standardise(self.seen[counted]) * predicted).mean(axis=0) @ self.weights)

    def correlate_columns(self, step: int) -> np.ndarray:
        """Return the correlation of each feature, float64 `[K]`; NaN from too few steps or where it rests."""
        found, counted, first = np.full(self.width, np.nan), self.counted(step), REACH + step
        if counted.sum() >= SHORTEST:
            predicted = standardise(self.predicted[first : first + len(self.known)][counted])
            found[self.columns] = (standardise(self.seen[counted]) * predicted).mean(axis=0)
        return found

    def trace_lags(self, *, nearby: bool = False) -> np.ndarray:
        """Return the correlation at every lag, float64 `[2 · REACH + 1]`; NaN where there is too little.

        Args:
            nearby: only at the lags that genuine files have, NaN at all others.
        """
        steps = range(-EARLY, LATE + 1) if nearby else range(-REACH, REACH + 1)
        curve = np.full(2 * REACH + 1, np.nan)
        for step in steps:
            curve[REACH + step] = self.correlate(step)
        return curve

    def compare_bank(self, bank: np.ndarray) -> np.ndarray:
        """Return the peaks, float64 `[n]`, that the mouth reaches with the speech of others, at all its offsets."""
        span = len(self.known)
        rows = np.tile(bank[:, self.columns], (-(-(span + LEAST_OFFSETS) // len(bank)), 1))
        mouth = np.where(self.known[:, None], self.seen, 0.0)
        mouth[self.known] = standardise(mouth[self.known])
        size = next_fast_len(len(rows) + span, real=True)
        spectrum = np.fft.rfft(rows, size, axis=0) * np.fft.rfft(mouth, size, axis=0).conj()
        products = np.fft.irfft(spectrum, size, axis=0)[: len(rows) - span + 1]
        sums, squares = (_roll(values, span) for values in (rows, rows**2))
        spread = np.sqrt(np.maximum(squares / span - (sums / span) ** 2, 1e-8))
        curve = products / (max(self.known.sum(), 1) * spread) @ self.weights
        return np.lib.stride_tricks.sliding_window_view(curve, LAGS).max(axis=1)

    def trace_stretches(self, step: int, speech: Speech) -> tuple[np.ndarray, np.ndarray]:
        """Return the middles of overlapping stretches, float64 `[n]`, and the correlation in each.

        At the lag of the clip, or a step beside it. NaN where nobody speaks, or the face is not known.
        """
        length, hop = round(STRETCH / STEP), round(HOP / STEP)
        starts = range(0, max(len(self.known) - length, 0) + 1, hop)
        near = [lag for lag in (step - 1, step, step + 1) if abs(lag) <= REACH]
        trace = []
        voiced, counted = mark_voice(speech, self.times + step * STEP), self.counted(step)
        for first in starts:
            among, enough = slice(first, first + length), length / 2
            spoken = voiced[among].sum() * STEP >= VOICED_SECONDS
            heard = counted[among].sum() >= enough
            found = [self.correlate(lag, among) for lag in near] if spoken and heard else [np.nan]
            trace.append(max(found))
        return np.array([self.times[0] + first * STEP + STRETCH / 2 for first in starts]), np.array(trace)


def _roll(rows: np.ndarray, span: int) -> np.ndarray:
    """Return the sums over every run of so many rows, `[n − span + 1, K]`."""
    sums = np.cumsum(np.concatenate([np.zeros((1, rows.shape[1])), rows]), axis=0)
    return sums[span:] - sums[:-span]


def standardise(rows: np.ndarray) -> np.ndarray:
    """Return rows `[n, K]` of mean 0 and deviation 1 in each column; a column that rests becomes 0."""
    spread = rows.std(axis=0)
    return (rows - rows.mean(axis=0)) / np.where(spread > 1e-6, spread, np.inf)


def has_peak(curve: np.ndarray) -> bool:
    """Could mouth and sound be compared at any lag that genuine files have?"""
    return bool(np.isfinite(curve[REACH - EARLY : REACH + LATE + 1]).any())


def find_peak(curve: np.ndarray) -> tuple[float, int]:
    """Return the highest correlation within the lags that genuine files have, and its lag in steps."""
    near = curve[REACH - EARLY : REACH + LATE + 1]
    return float(np.nanmax(near)), int(np.nanargmax(near)) - EARLY


def measure_surprise(match: Match, curve: np.ndarray, rivals: np.ndarray) -> tuple[float, float]:
    """Return how far a score is above what other speech reaches, in standard deviations, and of how many seconds."""
    score, step = find_peak(curve)
    return float((score - rivals.mean()) / max(rivals.std(), 1e-6)), float(match.counted(step).sum() * STEP)


def refine_lag(curve: np.ndarray) -> float:
    """Return the lag in ms of the highest correlation of all, by the parabola through it and its neighbours."""
    at = int(np.nanargmax(curve))
    around = curve[at - 1 : at + 2]
    shift = 0.0
    if len(around) == 3 and np.isfinite(around).all() and (bend := around[0] - 2 * around[1] + around[2]) < 0:
        shift = float(np.clip((around[0] - around[2]) / (2 * bend), -0.5, 0.5))
    return (at - REACH + shift) * STEP * 1e3


def measure_confidence(curve: np.ndarray) -> float:
    """Return how far the highest correlation is above the median of the lags that are not beside it."""
    at = int(np.nanargmax(curve))
    others = np.abs(np.arange(len(curve)) - at) > 2
    return float(curve[at] - np.nanmedian(curve[others]))


def mark_voice(speech: Speech, times: np.ndarray) -> np.ndarray:
    """At which times, in seconds, is something said? Bool, as long as they."""
    voice = speech.find_voice()
    rows = np.rint((times - speech.start) * (len(voice) - 1) / max(speech.end - speech.start, 1e-6)).astype(int)
    there = (rows >= 0) & (rows < len(voice))
    marks = np.zeros(len(times), bool)
    marks[there] = voice[rows[there]]
    return marks
