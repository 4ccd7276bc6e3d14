"""What is learnt of mouths and speech: shifts and swaps are found, what is missing is left out, nothing is drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dfmm.faces.lips import HEIGHT, WIDTH, Mouths
from dfmm.media.speech import MEL_RATE, Speech
from dfmm.metrics import compute_auc
from dfmm.model.regression import fit_synchrony
from dfmm.model.synchrony import Calibration, SynchronyError, SynchronyModel, load_synchrony, save_synchrony


def talk(seed: int, seconds: float = 4.0, *, late: float = 0.0, lips: bool = True) -> tuple[Mouths, Speech]:
    """Make up somebody who speaks: syllables that open the mouth, each with one of two vowels, heard `late` seconds."""
    rng = np.random.default_rng(seed)
    clock = np.arange(-1, seconds + 2, 1 / MEL_RATE)
    opening, rounding = np.zeros((2, len(clock)))
    at = 0.1
    while at < seconds:
        syllable = np.exp(-(((clock - at) / 0.06) ** 2)) * rng.uniform(0.5, 1)
        opening, rounding = opening + syllable, rounding + syllable * rng.integers(2)
        at += rng.uniform(0.15, 0.4)
    times = np.arange(0, seconds, 0.04)
    open_, round_ = (np.interp(times, clock, values) for values in (opening, rounding))
    crops = draw_mouths(open_, round_, rng)
    widths = np.stack([open_, -round_, open_ + 0.3 * round_], axis=1) + 0.05 * rng.standard_normal((len(times), 3))
    lips = widths.astype(np.float32) if lips else np.full((len(times), 3), np.nan, np.float32)
    darkness = (open_[:, None] * [60, 40] + rng.standard_normal((len(times), 2))).astype(np.float32)
    mouths = Mouths(times, np.zeros(len(times), int), crops, darkness, lips, np.zeros((len(times), 0, 2), np.float32))
    tilt = np.linspace(0, 1, 40)
    power = opening[:, None] * (1 - tilt) * 6 + rounding[:, None] * tilt * 6
    log_mel = (power - 8 + 0.3 * rng.standard_normal(power.shape)).astype(np.float32)
    heard = (clock >= 0) & (clock < seconds)
    return mouths, Speech(late, log_mel[heard], np.zeros((0, 0), np.float32))


def draw_mouths(opening: np.ndarray, rounding: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    wide = 0.6 - 0.2 * rounding[:, None, None]
    hole = np.exp(-((x / wide) ** 2) - (y / (0.05 + 0.3 * opening[:, None, None])) ** 2)
    return (180 - 120 * hole + rng.standard_normal(hole.shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def model() -> SynchronyModel:
    clips = [talk(seed) for seed in range(20)]
    return fit_synchrony([mouths for mouths, _ in clips], [speech for _, speech in clips])


@pytest.mark.parametrize("late", [-0.4, -0.16, 0.0, 0.1, 0.4])
def test_a_planted_lag_is_found_with_its_sign(model: SynchronyModel, late: float) -> None:
    found = [model.judge(*talk(seed, late=late)).lag_ms for seed in range(100, 110)]
    assert np.abs(np.array(found) - 1e3 * late).max() < 25


def test_sound_that_is_too_late_or_early_is_out_of_step(model: SynchronyModel) -> None:
    own, late, early = (model.judge(*talk(100, late=late)) for late in (0.08, 0.4, -0.3))
    assert own.probability > 0.9 > 0.5 > max(late.probability, early.probability)
    assert own.foreign < 0.02
    assert own.genuine > 0.1


def test_swapped_sound_is_told_from_own(model: SynchronyModel) -> None:
    clips = [talk(seed) for seed in range(100, 120)]
    own = [model.judge(mouths, speech) for mouths, speech in clips]
    swapped = [model.judge(mouths, clips[number - 1][1]) for number, (mouths, _) in enumerate(clips)]
    labels = np.repeat([0, 1], len(clips))
    assert compute_auc(labels, [-found.surprise for found in own + swapped], replicates=100)["value"] > 0.98
    assert np.mean([found.probability > 0.5 for found in own]) > 0.9
    assert np.mean([found.probability < 0.5 for found in swapped]) > 0.9
    assert np.mean([found.foreign for found in swapped]) > 0.2


def test_clips_of_any_length_are_ranked_together(model: SynchronyModel) -> None:
    lengths = (1.2, 2.5, 5, 20)
    talks = [talk(300 + at, seconds) for at, seconds in enumerate(np.repeat(lengths, 5))]
    own = [model.judge(*pair) for pair in talks]
    swapped = [model.judge(mouths, talk(400 + at, mouths.times[-1] + 0.04)[1]) for at, (mouths, _) in enumerate(talks)]
    labels = np.repeat([1, 0], len(talks))
    assert compute_auc(labels, [found.log_ratio for found in own + swapped], replicates=100)["value"] > 0.97
    for calibration in model.calibrations.values():  # what speaks for a short clip speaks against a long one
        assert calibration.weigh(2.5, seconds=1.2) > 0 > calibration.weigh(2.5, seconds=20)
    assert min(found.genuine for found in own[15:]) < 0.9  # no clip looks better than all for being long


def test_a_file_that_knew_one_length_says_of_that_what_it_said(model: SynchronyModel, tmp_path: Path) -> None:
    seconds = model.facts["seconds"] / model.facts["clips"]
    root = np.sqrt(seconds)
    former = {
        name: Calibration(one.slope * root, one.intercept * seconds, one.genuine * root)
        for name, one in model.calibrations.items()
    }
    path = save_synchrony(replace(model, calibrations=former), tmp_path / "former.safetensors")
    path.write_bytes(path.read_bytes().replace(b"dfmm-synchrony-2", b"dfmm-synchrony-1"))
    for name, one in load_synchrony(path).calibrations.items():
        assert (one.slope, one.intercept) == pytest.approx(
            (model.calibrations[name].slope, model.calibrations[name].intercept)
        )
        assert one.genuine == pytest.approx(model.calibrations[name].genuine, rel=1e-5)


def test_nothing_is_told_more_surely_than_people_and_other_speech_vouch_for(model: SynchronyModel) -> None:
    few, many = (replace(model, facts={**model.facts, "people": people}) for people in (1, 99))
    talks = [talk(seed) for seed in range(100, 104)]
    pairs = [*talks, *((talks[at][0], talks[at - 1][1]) for at in range(4))]
    taught_by_one, by_many = (np.array([one.judge(*pair).probability for pair in pairs]) for one in (few, many))
    assert taught_by_one.min() >= 1 / 3  # that a clip is out of step, twice as probable at most
    assert by_many.min() < 0.05
    assert max(taught_by_one.max(), by_many.max()) < 0.995  # other speech does not fit at some dozens of places
    order = np.argsort([few.judge(*pair).log_ratio for pair in pairs])
    assert (np.diff(taught_by_one[order]) >= 0).all()


def test_the_same_clips_give_the_same_file_and_a_file_the_same_verdicts(model: SynchronyModel, tmp_path: Path) -> None:
    clips = [talk(seed) for seed in range(20)]
    again = fit_synchrony([mouths for mouths, _ in clips], [speech for _, speech in clips])
    files = [save_synchrony(made, tmp_path / name) for made, name in ((model, "one"), (again, "two"))]
    assert files[0].read_bytes() == files[1].read_bytes()
    kept, own = load_synchrony(files[0]).judge(*talk(100)), model.judge(*talk(100))
    assert kept.surprise == pytest.approx(own.surprise, abs=0.05)
    np.testing.assert_allclose(kept.curve, own.curve, atol=5e-3)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no weights")
    with pytest.raises(SynchronyError, match="no file of synchrony"):
        load_synchrony(tmp_path / "text")
    with pytest.raises(SynchronyError, match="missing"):
        load_synchrony(tmp_path / "missing")


def test_lips_that_are_missing_are_left_out(model: SynchronyModel) -> None:
    found = model.judge(*talk(100, lips=False))
    assert "lips" not in found.features
    assert found.probability > 0.5
    mouths, speech = talk(100)
    mouths.lips[::3] = np.nan  # a mesh that was found in most frames
    assert "lips" in model.judge(mouths, speech).features


def test_nothing_is_said_of_silence_noise_or_a_mouth_that_rests(model: SynchronyModel) -> None:
    mouths, speech = talk(100)
    silent = replace(speech, log_mel=np.full_like(speech.log_mel, np.log(1e-8)))
    noise = replace(speech, log_mel=np.random.default_rng(0).normal(-5, 0.2, speech.log_mel.shape).astype(np.float32))
    still = Mouths(**{name: np.repeat(rows[:1], len(rows), axis=0) for name, rows in vars(mouths).items()})
    still = replace(still, times=mouths.times)
    short = Mouths(**{name: rows[:8] for name, rows in vars(mouths).items()})
    for pair, reason in (
        ((mouths, silent), "nobody speaks"),
        ((mouths, noise), "nobody speaks"),
        ((still, speech), "rests"),
        ((short, speech), "too short"),
        ((mouths, None), "no sound"),
        ((None, speech), "no face"),
    ):
        found = model.judge(*pair)
        assert reason in found.reason
        assert np.isnan(found.probability)
        assert np.isnan(found.lag_ms)
        assert found.worst is None


def test_loudness_and_light_take_no_part(model: SynchronyModel) -> None:
    mouths, speech = talk(100)
    louder = replace(speech, log_mel=speech.log_mel + 2)
    darker = replace(mouths, darkness=2 * mouths.darkness - 30, lips=3 * mouths.lips + 1)
    assert model.judge(darker, louder).surprise == pytest.approx(model.judge(mouths, speech).surprise, abs=0.05)


def test_the_stretch_with_another_sound_fits_worst(model: SynchronyModel) -> None:
    mouths, speech = talk(100, seconds=10)
    _, other = talk(7, seconds=10)
    mixed = speech.log_mel.copy()
    mixed[600:800] = other.log_mel[600:800]
    found = model.judge(mouths, replace(speech, log_mel=mixed))
    start, end, correlation = found.worst
    assert 5.4 <= start <= 6.6
    assert end == pytest.approx(start + 2)
    assert correlation < 0.5 * found.score


def test_a_long_clip_is_asked_once_where_somebody_speaks(
    model: SynchronyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for each of its stretches, which made a verdict grow with the square of the length."""
    calls, find = [], Speech.find_voice
    monkeypatch.setattr(Speech, "find_voice", lambda speech: calls.append(1) or find(speech))
    asked = []
    for seconds in (8.0, 32.0):
        calls.clear()
        assert model.judge(*talk(40, seconds)).reason == ""
        asked.append(len(calls))
    assert asked[0] == asked[1]


def test_a_cut_to_another_scale_does_no_harm(model: SynchronyModel) -> None:
    mouths, speech = talk(100, seconds=8)
    later = mouths.times >= 4
    cut = replace(
        mouths,
        shots=later.astype(int),
        darkness=np.where(later[:, None], 0.2 * mouths.darkness + 100, mouths.darkness).astype(np.float32),
        lips=np.where(later[:, None], 0.5 * mouths.lips + 1, mouths.lips).astype(np.float32),
    )
    assert model.judge(cut, speech).score > 0.95 * model.judge(mouths, speech).score


def test_too_few_clips_teach_nothing() -> None:
    clips = [talk(seed) for seed in range(5)]
    with pytest.raises(SynchronyError, match="at least 8 clips of somebody who speaks, got 5"):
        fit_synchrony([mouths for mouths, _ in clips], [speech for _, speech in clips])
