"""Do mouth and speech belong together? How mouths move with what is said, learnt in closed form from genuine clips.

A ridge regression predicts the mouth from the sound around each moment. Its prediction is then correlated with the
mouth that was seen, at every lag: genuine clips have a high peak near zero. All is standardised within the clip, so
that who speaks, the camera and the loudness take no part. A forgery whose lips follow its sound is in step, and is not
found; swapped, dubbed and late sound is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
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
    refine_lag,
)
from dfmm.model.motion import SOUNDS, STEP, TARGETS, Heard, Seen, find_bases, hear, see

FORMAT, FORMER = "dfmm-synchrony-2", "dfmm-synchrony-1"
PACKAGED = Path(__file__).with_name("synchrony.safetensors")  # fitted on GRID, see synchrony.md beside it

RIDGE = 1000.0  # added to the diagonal, where a step of sound adds about one
FOLDS = 5
FEWEST_CLIPS = 8  # from which anything is learnt
LONGEST = 750  # steps of a clip that is learnt from: 30 s
SWAPS = 4  # other clips' sounds that a clip is calibrated with
BANK_STEPS = 600  # of predicted mouths of other people's speech, which a clip is compared with


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
        surprise, seconds = _measure_surprise(match, curve, rivals)
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


class SynchronyError(ValueError):
    """What cannot be fitted or loaded; the message says why."""


@dataclass(frozen=True)
class _Clip:
    """A genuine clip that is learnt from."""

    seen: Seen
    heard: Heard
    fold: int


def fit_synchrony(
    mouths: Sequence[Mouths],
    speeches: Sequence[Speech],
    *,
    people: Sequence[str] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> SynchronyModel:
    """Learn from genuine clips how mouths move with what is said: the same clips in the same order, the same model.

    Args:
        mouths, speeches: of each clip.
        people: who is seen in each; a person is held out as a whole where there are enough of them.
        facts: to be kept with the model.

    Raises:
        SynchronyError: fewer than 8 clips have both a mouth and a voice.
    """
    people = list(people) if people is not None else [str(number) for number in range(len(mouths))]
    enough = [number for number, pair in enumerate(zip(mouths, speeches, strict=True)) if is_usable(*pair)]
    if len(enough) < FEWEST_CLIPS:
        raise SynchronyError(f"expected at least {FEWEST_CLIPS} clips of somebody who speaks, got {len(enough)}")
    mouths, speeches = [mouths[number] for number in enough], [speeches[number] for number in enough]
    bases = find_bases(mouths, speeches)
    folds = assign_folds([people[number] for number in enough])
    clips = [_prepare_clip(*item, bases) for item in zip(mouths, speeches, folds, strict=True)]
    ridges, calibrations = {}, {}
    for kind in SOUNDS:
        members = [clip for clip in clips if kind in clip.heard.rows]
        if len(members) >= FEWEST_CLIPS:
            ridges[kind], predicted = fit_ridge(members, kind)
            calibrations |= calibrate(members, predicted, ridges[kind], kind)
    counts = {"clips": len(clips), "people": len({people[number] for number in enough})}
    counts["seconds"] = round(sum(float(clip.seen.known.sum()) for clip in clips) * STEP, 1)
    return SynchronyModel(bases, ridges, calibrations, {**counts, **(facts or {})})


def is_usable(mouths: Mouths | None, speech: Speech | None) -> bool:
    """Can a clip be learnt from?"""
    if mouths is None or speech is None or len(mouths.times) < SHORTEST:
        return False
    times = np.arange(mouths.times[0], mouths.times[-1], STEP)
    return len(times) >= SHORTEST and mark_voice(speech, times).sum() * STEP >= VOICED_SECONDS


def assign_folds(people: Sequence[str]) -> list[int]:
    """Return each clip's fold: by person where there are enough of them, else clip by clip."""
    names = list(dict.fromkeys(people))
    if len(names) >= 2 * FOLDS:
        return [names.index(name) % FOLDS for name in people]
    return [number % FOLDS for number in range(len(people))]


def _prepare_clip(mouths: Mouths, speech: Speech, fold: int, bases: Mapping[str, np.ndarray]) -> _Clip:
    seen = see(mouths, bases)
    seen = _cut_seen(seen, LONGEST)
    return _Clip(seen, hear(speech, seen.times, REACH, bases), fold)


def fit_ridge(clips: Sequence[_Clip], kind: str) -> tuple[Ridge, list[np.ndarray]]:
    """Solve the normal equations, for all clips and without each fold.

    Returns:
        The regression, and of each clip `[T + 2 · REACH, K]` what the one without it predicts.
    """
    grams, products = zip(*(_multiply(clip, kind) for clip in clips), strict=True)
    count = products[0].shape[1]
    weights = _solve(clips, grams, products, leave_out=None)
    parted = [_solve(clips, grams, products, leave_out=fold) for fold in range(FOLDS)]
    predicted = [clip.heard.rows[kind] @ parted[clip.fold] for clip in clips]
    skills = np.full((len(clips), count), np.nan)
    for row, clip, rows in zip(skills, clips, predicted, strict=True):
        there = mark_columns(clip.seen.names) > 0
        match = Match(clip.seen, rows, clip.heard.inside, np.ones(count))
        row[there] = match.correlate_columns(0)[there]
    known = np.isfinite(skills).sum(axis=0) >= FEWEST_CLIPS
    skill = np.where(known, np.nansum(skills, axis=0) / np.maximum(np.isfinite(skills).sum(axis=0), 1), 0)
    return Ridge(weights, np.maximum(skill, 0).astype(np.float32), _fill_bank(clips, predicted)), predicted


def _multiply(clip: _Clip, kind: str) -> tuple[np.ndarray, np.ndarray]:
    first = slice(REACH, REACH + len(clip.seen.known))
    counted = clip.seen.known & clip.heard.inside[first]
    sound = clip.heard.rows[kind][first][counted].astype(np.float64)
    return sound.T @ sound, sound.T @ clip.seen.rows[counted]


def _solve(
    clips: Sequence[_Clip], grams: Sequence[np.ndarray], products: Sequence[np.ndarray], *, leave_out: int | None
) -> np.ndarray:
    """Return weights `[D, K]`; each feature is learnt from the clips that have it."""
    weights = np.zeros(products[0].shape)
    solved: dict[tuple[int, ...], np.ndarray] = {}
    for name in TARGETS:
        members = tuple(n for n, clip in enumerate(clips) if name in clip.seen.names and clip.fold != leave_out)
        if members and members not in solved:
            gram = sum(grams[number] for number in members) + RIDGE * np.eye(len(grams[0]))
            solved[members] = np.linalg.solve(gram, sum(products[number] for number in members))
        if members:
            columns = mark_columns([name]) > 0
            weights[:, columns] = solved[members][:, columns]
    return weights.astype(np.float32)


def _fill_bank(clips: Sequence[_Clip], predicted: Sequence[np.ndarray]) -> np.ndarray:
    """Return what is predicted for the speech of some of the clips, one after the other."""
    rows = [predicted[number][REACH:-REACH] for number in choose_bank(clips)]
    return np.concatenate(rows)[:BANK_STEPS]


def choose_bank(clips: Sequence[_Clip]) -> list[int]:
    """Return evenly spaced clips, together as long as a bank, but no more than half of all."""
    lengths = [len(clip.seen.times) for clip in clips]
    wanted = min(int(np.ceil(BANK_STEPS / np.mean(lengths))), len(clips) // 2)
    return np.linspace(0, len(clips) - 1, wanted).round().astype(int).tolist()


def calibrate(
    clips: Sequence[_Clip], predicted: Sequence[np.ndarray], ridge: Ridge, kind: str
) -> dict[str, Calibration]:
    """Learn what surprises mean, for each set of mouth features: own sounds against those of other clips.

    Own and other sounds are predicted by a regression fitted on neither, and clips of the bank take no part.
    """
    free = sorted(set(range(len(clips))) - set(choose_bank(clips)))
    found = {}
    for names in ({name for name in TARGETS if name != "lips"}, set(TARGETS)):
        able = [number for number in free if names <= set(clips[number].seen.names)]
        if len(able) < FEWEST_CLIPS // 2:
            continue
        skill = ridge.skill * mark_columns(tuple(names))
        drawn = np.array(list(_draw_surprises(clips, predicted, able, ridge.bank, skill))).reshape(-1, 4)
        if min(np.bincount(drawn[:, 0].astype(int), minlength=2)) >= FEWEST_CLIPS // 2:
            ordered = "+".join(name for name in TARGETS if name in names)
            found[f"{ordered}|{kind}"] = _fit_calibration(*drawn.T)
    return found


def _draw_surprises(
    clips: Sequence[_Clip],
    predicted: Sequence[np.ndarray],
    able: Sequence[int],
    bank: np.ndarray,
    skill: np.ndarray,
) -> Iterator[tuple[bool, float, float, bool]]:
    """Yield what `_compare_sounds` does of clips and of their beginnings, and whether it is the whole clip.

    The other sounds are those of clips in the same fold.
    """
    for at, number in enumerate(able):
        clip = clips[number]
        others = [other for other in (*able[at + 1 :], *able[:at]) if clips[other].fold == clip.fold]
        own = predicted[number], clip.heard.inside
        lent = [_lend_sound(predicted[other], clips[other].heard.inside, len(own[1])) for other in others[:SWAPS]]
        for steps in _list_lengths(len(clip.seen.times)):
            for found in _compare_sounds(_cut_seen(clip.seen, steps), [own, *lent], bank, skill):
                yield *found, steps == len(clip.seen.times)


def _compare_sounds(
    seen: Seen, sounds: Sequence[tuple[np.ndarray, np.ndarray]], bank: np.ndarray, skill: np.ndarray
) -> Iterator[tuple[bool, float, float]]:
    """Yield, of a mouth and each of some sounds: is it its own, the first of them? Its surprise, and of how long."""
    end = len(seen.times) + 2 * REACH
    matches = [Match(seen, rows[:end], inside[:end], skill) for rows, inside in sounds]
    rivals = matches[0].compare_bank(bank)
    for match in matches:
        curve = match.trace_lags(nearby=True)
        if has_peak(curve):
            yield match is matches[0], *_measure_surprise(match, curve, rivals)


def _measure_surprise(match: Match, curve: np.ndarray, rivals: np.ndarray) -> tuple[float, float]:
    """Return how far a score is above what other speech reaches, in standard deviations, and of how many seconds."""
    score, step = find_peak(curve)
    return float((score - rivals.mean()) / max(rivals.std(), 1e-6)), float(match.counted(step).sum() * STEP)


def _cut_seen(seen: Seen, steps: int) -> Seen:
    return Seen(seen.times[:steps], seen.rows[:steps], seen.known[:steps], seen.names)


def _list_lengths(steps: int) -> list[int]:
    """Return a length and its halves, down to the least that says anything."""
    return [steps >> halves for halves in range(steps.bit_length()) if steps >> halves >= 2 * SHORTEST]


def _lend_sound(rows: np.ndarray, inside: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return another clip's sound, cut to a length or made as long with silence, and where it is sound.

    It begins in its middle and goes on with its beginning: where all read sentences of one form, as in GRID, another
    one fits better than speech does.
    """
    rows, inside = np.roll(rows, len(rows) // 2, axis=0), np.roll(inside, len(rows) // 2)
    lacking = max(length - len(rows), 0)
    return np.pad(rows, ((0, lacking), (0, 0)))[:length], np.pad(inside, (0, lacking))[:length]


def _fit_calibration(own: np.ndarray, surprises: np.ndarray, seconds: np.ndarray, whole: np.ndarray) -> Calibration:
    from sklearn.linear_model import LogisticRegression  # which takes seconds, and scoring does not need it

    inputs = np.stack([np.sqrt(seconds) * surprises, seconds], axis=1)
    fit = LogisticRegression(fit_intercept=False, class_weight="balanced").fit(inputs, own)
    genuine = (surprises / np.sqrt(seconds))[(own == 1) & (whole == 1)]
    return Calibration(*fit.coef_[0].tolist(), np.sort(genuine.astype(np.float32)))


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
