"""How mouths move with what is said, learnt in closed form from genuine clips, and what is far from it.

Nothing is judged by what was fitted on it: whatever is measured of a clip, its fold's regression was fitted without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dfmm.faces.lips import Mouths
from dfmm.media.speech import Speech
from dfmm.model.matching import REACH, SHORTEST, VOICED_SECONDS, Match, has_peak, mark_voice, measure_surprise
from dfmm.model.motion import SOUNDS, STEP, TARGETS, Heard, Seen, find_bases, hear, see
from dfmm.model.synchrony import Calibration, Ridge, SynchronyError, SynchronyModel, mark_columns

RIDGE = 1000.0  # added to the diagonal, where a step of sound adds about one
FOLDS = 5
FEWEST_CLIPS = 8  # from which anything is learnt
LONGEST = 750  # steps of a clip that is learnt from: 30 s
SWAPS = 4  # other clips' sounds that a clip is calibrated with
BANK_STEPS = 600  # of predicted mouths of other people's speech, which a clip is compared with


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
            yield match is matches[0], *measure_surprise(match, curve, rivals)


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
