"""Do mouth and speech belong together? Judged by how mouths move with what is said, as `regression` learns it.

A ridge regression predicts the mouth from the sound around each moment. Its prediction is then correlated with the
mouth that was seen, at every lag: genuine clips have a high peak near zero. All is standardised within the clip, so
that who speaks, the camera and the loudness take no part. A forgery whose lips follow its sound is in step, and is not
found; swapped, dubbed and late sound is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy.special import expit

from dfmm.faces.lips import Mouths
from dfmm.files import write_beside
from dfmm.media.speech import Speech
from dfmm.metrics import bound_ratios
from dfmm.model.matching import (
    LAGS,
    REACH,
    SHORTEST,
    STRETCH,
    VOICED_SECONDS,
    Match,
    find_peak,
    has_peak,
    mark_voice,
    measure_confidence,
    measure_surprise,
    refine_lag,
)
from dfmm.model.motion import SOUNDS, STEP, TARGETS, Heard, Seen, hear, see

FORMAT, FORMER = "dfmm-synchrony-2", "dfmm-synchrony-1"
PACKAGED = Path(__file__).with_name("synchrony.safetensors")  # fitted on GRID, see synchrony.md beside it


class SynchronyError(ValueError):
    """What cannot be fitted or loaded; the message says why."""


@dataclass(frozen=True)
class Synchrony:
    """What is said of one face and one sound. All but `reason` is NaN or empty where they cannot be compared."""

    reason: str = ""  # why not
    score: float = np.nan  # correlation of the mouth with the predicted one, at the best lag that genuine files have
    lag_ms: float = np.nan  # at which it is highest, within ±600 ms; positive: the sound is late
    confidence: float = np.nan  # of the lag: how far the highest correlation is above the median of the others
    surprise: float = np.nan  # how far the score is above that of other people's speech, in its standard deviations
    foreign: float = np.nan  # share of other people's speech that fits as well
    log_ratio: float = np.nan  # what `Calibration.weigh` returns: clips of any length are ranked by it
    probability: float = np.nan  # that they belong together, if as many clips do as do not
    genuine: float = np.nan  # share of genuine clips, none of them fitted on, that look as bad or worse
    clips: int = 0  # that these are, and of how many people, 0: unknown
    people: int = 0
    lags_ms: np.ndarray = field(default_factory=lambda: np.zeros(0))  # float64 [31]
    curve: np.ndarray = field(default_factory=lambda: np.zeros(0))  # float64 [31], correlation at each lag
    times: np.ndarray = field(default_factory=lambda: np.zeros(0))  # float64 [n], middles of stretches of 2 s
    trace: np.ndarray = field(default_factory=lambda: np.zeros(0))  # float64 [n], correlation in each; NaN: no voice
    seconds: float = 0.0  # in which mouth and sound were compared
    features: tuple[str, ...] = ()  # what was compared: of the mouth, and of the sound

    @property
    def worst(self) -> tuple[float, float, float] | None:
        """Start and end in seconds of the stretch that fits worst, and its correlation; None without stretches."""
        if not np.isfinite(self.trace).any():
            return None
        at = int(np.nanargmin(self.trace))
        middle = float(self.times[at])
        return middle - STRETCH / 2, middle + STRETCH / 2, float(self.trace[at])


@dataclass(frozen=True)
class Ridge:
    """How mouths move with one kind of sound features."""

    weights: np.ndarray  # float32 [D, K], from the sound around a step to the mouth's features in it
    skill: np.ndarray  # float32 [K], correlation of each with its prediction in clips not fitted on; 0: unknown
    bank: np.ndarray  # float32 [S, K], predicted mouths, clip after clip


@dataclass(frozen=True)
class Calibration:
    """What surprises mean where these features are there.

    How well a mouth fits its own sound does not depend on how long both are; how well it fits others by chance falls
    with the root of that. So of n seconds an own sound's surprise lies near m √n, another's near 0, both with a
    deviation of one, and the logarithm of the likelihood ratio is m √n s − m² n / 2. Both factors are learnt.
    """

    slope: float  # by which √n s counts, s the surprise of n seconds
    intercept: float  # and n
    genuine: np.ndarray  # float32 [n], s / √n of genuine clips not fitted on, in order

    def weigh(self, surprise: float, seconds: float) -> float:
        """Return the natural logarithm of how many times as often own sounds surprise so as others do."""
        return float(self.slope * np.sqrt(seconds) * surprise + self.intercept * seconds)


@dataclass(frozen=True)
class SynchronyModel:
    """Judges whether a mouth and a speech belong together; made by `fit_synchrony` or `load_synchrony`."""

    bases: Mapping[str, np.ndarray]  # of `components` and `phonemes`, float32 [inputs, outputs]
    ridges: Mapping[str, Ridge]  # by sound features
    calibrations: Mapping[str, Calibration]  # by mouth and sound features
    facts: Mapping[str, Any] = field(default_factory=dict)

    def judge(self, mouths: Mouths | None, speech: Speech | None) -> Synchrony:
        """Compare the mouth of a face with a speech, by all features that are there."""
        if mouths is None or len(mouths.times) < 2:
            return Synchrony("no face")
        if speech is None:
            return Synchrony("no sound")
        seen = see(mouths, self.bases)
        if len(seen.times) < SHORTEST:
            return Synchrony("too short")
        voiced = int(mark_voice(speech, seen.times).sum())
        if voiced * STEP < VOICED_SECONDS:
            return Synchrony("nobody speaks")
        heard = hear(speech, seen.times, REACH, self.bases)
        kind = next((kind for kind in reversed(SOUNDS) if kind in self.ridges and kind in heard.rows), None)
        return self._compare(seen, heard, speech, kind) if kind else Synchrony("no features to compare")

    def _compare(self, seen: Seen, heard: Heard, speech: Speech, kind: str) -> Synchrony:
        ridge, names = self.ridges[kind], list_targets(seen)
        match = Match(seen, heard.rows[kind] @ ridge.weights, heard.inside, ridge.skill * mark_columns(names))
        curve = match.trace_lags()
        if not has_peak(curve):
            return Synchrony("too little to compare: the mouth rests, or there is hardly any sound")
        score, step = find_peak(curve)
        rivals = match.compare_bank(ridge.bank)
        surprise, seconds = measure_surprise(match, curve, rivals)
        calibration = self.calibrations.get(f"{'+'.join(names)}|{kind}")
        times, trace = match.trace_stretches(step, speech)
        return Synchrony(
            score=score,
            lag_ms=refine_lag(curve),
            confidence=measure_confidence(curve),
            surprise=surprise,
            foreign=float((rivals >= score).mean()),
            **(_apply(calibration, surprise, seconds, self.facts.get("people", 0), len(rivals)) if calibration else {}),
            people=self.facts.get("people", 0),
            lags_ms=np.arange(-REACH, REACH + 1) * STEP * 1e3,
            curve=curve,
            times=times,
            trace=trace,
            seconds=seconds,
            features=(*names, *kind.split("+")),
        )


def _apply(calibration: Calibration, surprise: float, seconds: float, people: int, rivals: int) -> dict[str, Any]:
    """Return what a surprise of so many seconds means.

    That a mouth and a sound do not belong together follows from how genuine clips look, perhaps of few people; that
    they do, from how the speech of others fits this very mouth, at as many places as do not share their peaks.
    """
    ratio, clips = calibration.weigh(surprise, seconds), len(calibration.genuine)
    probability = expit(bound_ratios(ratio, max(people, 1) + 1, rivals // LAGS + 1))
    below = np.searchsorted(calibration.genuine, surprise / np.sqrt(seconds), side="right")
    return {"log_ratio": ratio, "probability": float(probability), "genuine": float(below / clips), "clips": clips}


def list_targets(seen: Seen) -> tuple[str, ...]:
    """Return the features that a mouth has."""
    return tuple(name for name in TARGETS if name in seen.names)


def mark_columns(names: Sequence[str]) -> np.ndarray:
    """Return 1 for the columns of these features and 0 for all others, float64 `[K]`."""
    marks = np.concatenate([np.full(width, float(name in names)) for name, width in TARGETS.items()])
    return np.tile(marks, 2)  # themselves, and their velocities


def save_synchrony(model: SynchronyModel, path: str | Path) -> Path:
    """Write a model as safetensors, with its facts as JSON in the header; it appears whole or not at all."""
    arrays = {f"bases/{name}": basis.astype(np.float16) for name, basis in model.bases.items()}
    for kind, ridge in model.ridges.items():
        arrays[f"ridges/{kind}/weights"] = ridge.weights.astype(np.float16)
        arrays[f"ridges/{kind}/bank"] = ridge.bank.astype(np.float16)
        arrays[f"ridges/{kind}/skill"] = ridge.skill.astype(np.float32)
    lines = {}
    for name, calibration in model.calibrations.items():
        arrays[f"calibrations/{name}"] = calibration.genuine.astype(np.float32)
        lines[name] = [calibration.slope, calibration.intercept]
    header = json.dumps({"format": FORMAT, "calibrations": lines, "facts": dict(model.facts)}, sort_keys=True)
    with write_beside(path) as partial:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, partial, {"dfmm": header})
    return Path(path)


def load_synchrony(path: str | Path = PACKAGED) -> SynchronyModel:
    """Read a model; by default the one in this package, which was fitted on GRID.

    Raises:
        SynchronyError: no such file, or not one of ours.
    """
    try:
        with safe_open(path, framework="np") as file:
            header = json.loads((file.metadata() or {}).get("dfmm", "{}"))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 it is no mapping
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise SynchronyError(f"{path}: no file of synchrony can be read there ({error})") from error
    if header.get("format") not in (FORMAT, FORMER):
        raise SynchronyError(f"{path}: expected a {FORMAT} file, its header says {header.get('format')!r}")
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    bases = {name.split("/")[1]: array for name, array in arrays.items() if name.startswith("bases/")}
    kinds = [kind for kind in SOUNDS if f"ridges/{kind}/weights" in arrays]
    ridges = {
        kind: Ridge(*(arrays[f"ridges/{kind}/{part}"] for part in ("weights", "skill", "bank"))) for kind in kinds
    }
    lines = header["calibrations"].items()
    calibrations = {name: Calibration(*line, arrays[f"calibrations/{name}"]) for name, line in lines}
    if header["format"] == FORMER:
        seconds = header["facts"]["seconds"] / header["facts"]["clips"]
        calibrations = {name: _bring_up(one, seconds) for name, one in calibrations.items()}
    return SynchronyModel(bases, ridges, calibrations, header["facts"])


def _bring_up(former: Calibration, seconds: float) -> Calibration:
    """Return a calibration that knew one length only, that of the clips it was learnt from, as one of any length."""
    root = np.sqrt(seconds)
    return Calibration(former.slope / root, former.intercept / seconds, former.genuine / root)
