"""How well mouths and speech are told apart that do not belong together: `python benchmarks/synchrony.py TEST TRAIN`.

TEST and TRAIN are manifests (CSV) of genuine clips beside their videos; TRAIN is GRID, or whatever the ridge is to be
fitted on. Clips of a person who is in TRAIN are left out of TEST. Every test clip's own sound is compared with other
clips' sounds, cut to its length, two thirds of them of its own source where that has enough. Printed are, for each set
of features, AUCs within sources, over windows of 2 s and over all, with 95 % intervals that resample people, and how
many of the clips whose sound is moved by up to 400 ms are found at that lag; then what `in_step` costs as a
probability, own sounds counting as much as others.

With `--rivals` two other ways to compare the same features stand beside the ridge (benchmarks/synchrony_rivals.py).
With `--save FILE` the weights fitted on TRAIN are written: those in the package came about so, with the extras `mesh`
and `phonemes` installed.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from synchrony_rivals import Pairing, fit_cca, fit_towers

from dfmm.extraction.extract import extract_tracks
from dfmm.faces.lips import Mouths
from dfmm.manifest import read_manifest
from dfmm.media.speech import MEL_RATE, PHONEME_RATE, Speech
from dfmm.metrics import compute_auc
from dfmm.model.motion import SOUNDS
from dfmm.model.regression import fit_synchrony
from dfmm.model.synchrony import Calibration, SynchronyModel, mark_columns, save_synchrony
from dfmm.people import assign_people
from dfmm.settings import validate_settings
from dfmm.training.synchrony import read_talks

DONORS = 20  # other sounds that a clip is compared with
WINDOW = 2.0  # seconds
SHIFTS = (-0.4, -0.24, -0.12, 0.12, 0.24, 0.4)  # seconds
NEAR = 0.04  # seconds, within which a lag is found
ROWS = {  # features of the mouth, and is the sound told by phonemes, too?
    "darkness, log-mel": (("darkness",), False),
    "darkness and components, log-mel": (("darkness", "components"), False),
    "lips, log-mel": (("lips",), False),
    "all of the mouth, log-mel": (("darkness", "components", "lips"), False),
    "darkness and components, log-mel and phonemes": (("darkness", "components"), True),
    "lips, log-mel and phonemes": (("lips",), True),
    "all of the mouth, log-mel and phonemes": (("darkness", "components", "lips"), True),
}
EXTRAS = {  # what is installed: are there distances of lips, are there phonemes?
    "no extra": (False, False),
    "mesh": (True, False),
    "phonemes": (False, True),
    "both": (True, True),
}


@dataclass(frozen=True)
class Clip:
    """A genuine clip."""

    name: str
    source: str
    person: str
    mouths: Mouths
    speech: Speech


def read_clips(manifest: Path, cache: str) -> list[Clip]:
    """Return the real clips of a manifest that show a face and have a sound."""
    table = assign_people(read_manifest(manifest, manifest.parent))
    table = table[(table["label"] == 0) & (table["in_sync"] == 1)].reset_index(drop=True)
    settings = validate_settings({"data": {"root": str(manifest.parent), "cache": cache}})
    tracks, _ = extract_tracks(table, settings, talks=True)
    clips = []
    for number, (mouths, speech) in read_talks(tracks):
        row = tracks.manifest.iloc[number]
        if speech is not None and len(mouths.times) > 1:
            clips.append(Clip(row["video_id"], row["source"], row["identities"], mouths, speech))
    return clips


def cut_speech(speech: Speech, first: float, seconds: float, start: float) -> Speech:
    """Return a stretch of a speech, from `first` seconds after its start on, heard from `start` on."""
    mel, told = (slice(round(first * rate), round((first + seconds) * rate)) for rate in (MEL_RATE, PHONEME_RATE))
    return Speech(start, speech.log_mel[mel], speech.phonemes[told])


def draw_donors(clip: Clip, others: Sequence[Clip], rng: np.random.Generator) -> Iterator[Speech]:
    """Yield other clips' sounds, as long as this clip."""
    seconds = clip.mouths.times[-1] - clip.mouths.times[0]
    long_enough = [o for o in others if o.name != clip.name and o.speech.end - o.speech.start > 0.95 * seconds]
    near = [other for other in long_enough if other.source == clip.source]
    for number in range(DONORS):
        among = near if len(near) > 2 and number % 3 else long_enough
        donor = among[rng.integers(len(among))].speech
        room = max(donor.end - donor.start - seconds, 0)
        yield cut_speech(donor, rng.uniform(0, room), seconds, clip.mouths.times[0])


def restrict(model: SynchronyModel, names: Sequence[str]) -> SynchronyModel:
    """Return a model that looks at these features of the mouth only."""
    marks = mark_columns(names)
    return replace(model, ridges={k: replace(r, skill=r.skill * marks) for k, r in model.ridges.items()})


def choose_calibration(model: SynchronyModel, phonemes: bool) -> Calibration:
    """Return the calibration of most features of the mouth, by the sound features that are there."""
    kinds = [name for name in model.calibrations if name.endswith(f"|{SOUNDS[phonemes]}")]
    return model.calibrations[max(kinds, key=len)]


def withhold_phonemes(speech: Speech) -> Speech:
    return replace(speech, phonemes=np.zeros((0, 0), np.float32))


def correlate_loudness(mouths: Mouths, speech: Speech) -> float:
    """Return the rival's: the correlation of darkness and loudness, at no lag."""
    darkness = mouths.darkness[:, 0]
    rows = np.clip(np.rint((mouths.times - speech.start) * MEL_RATE).astype(int), 0, len(speech.log_mel) - 1)
    loudness = np.exp(speech.log_mel).sum(axis=1)[rows] ** 0.35
    return float(np.corrcoef(darkness, loudness)[0, 1]) if min(darkness.std(), loudness.std()) > 1e-9 else 0.0


def print_costs(test: Sequence[Clip], others: Sequence[Clip], model: SynchronyModel) -> None:
    """Print what `in_step` costs as a probability, own sounds counting as much as others, and how often it errs."""
    pairs = pair_clips(test, others, windows=False)
    print("\n| `in_step` | log loss (a coin: 0.693) | Brier score (0.25) | own called swapped | swapped called own |")
    print("| --- |" + " --- |" * 4)
    for name, (lips, phonemes) in EXTRAS.items():
        found = [
            model.judge(
                mouths if lips else replace(mouths, lips=np.full_like(mouths.lips, np.nan)),
                speech if phonemes else withhold_phonemes(speech),
            ).probability
            for mouths, speech in zip(pairs["mouths"], pairs["speech"], strict=True)
        ]
        own, swapped = (np.array(found)[(pairs["label"] == label) & np.isfinite(found)] for label in (0, 1))
        log_loss = -(np.log(own).mean() + np.log1p(-swapped).mean()) / 2
        brier = (((1 - own) ** 2).mean() + (swapped**2).mean()) / 2
        print(f"| {name} | {log_loss:.3f} | {brier:.3f} | {(own < 0.5).mean():.2f} | {(swapped >= 0.5).mean():.2f} |")


def cut_windows(mouths: Mouths) -> Iterator[Mouths]:
    """Yield windows of 2 s, side by side."""
    for start in np.arange(mouths.times[0], mouths.times[-1] - WINDOW + 0.05, WINDOW):
        inside = (mouths.times >= start - 1e-6) & (mouths.times < start + WINDOW)
        yield Mouths(**{name: rows[inside] for name, rows in vars(mouths).items()})


def score_pairs(
    pairs: pd.DataFrame, model: SynchronyModel | Pairing | None, phonemes: bool, calibration: Calibration
) -> pd.DataFrame:
    """Return each pair's suspicion: how little mouth and speech belong together; what is not judged says nothing.

    Args:
        calibration: by which all that compares pairs of different lengths does so.
    """
    suspicions = []
    for mouths, speech in zip(pairs["mouths"], pairs["speech"], strict=True):
        if model is None:
            suspicions.append(-correlate_loudness(mouths, speech))
            continue
        found = model.judge(mouths, speech if phonemes else withhold_phonemes(speech))
        suspicions.append(-calibration.weigh(found.surprise, found.seconds))
    return pairs.assign(suspicion=suspicions)


def pair_clips(test: Sequence[Clip], others: Sequence[Clip], *, windows: bool) -> pd.DataFrame:
    """Return a row a pair of mouth and speech: the clip's own, and those of others."""
    rng, rows = np.random.default_rng(0), []
    for clip in test:
        speeches = [clip.speech, *draw_donors(clip, others, rng)]
        for mouths in cut_windows(clip.mouths) if windows else [clip.mouths]:
            facts = {"source": clip.source, "person": clip.person, "mouths": mouths}
            rows += [facts | {"label": int(number > 0), "speech": speech} for number, speech in enumerate(speeches)]
    return pd.DataFrame(rows)


def format_auc(pairs: pd.DataFrame) -> str:
    judged = pairs[pairs["suspicion"].notna()]
    if judged["label"].nunique() < 2:
        return "–"
    found = compute_auc(judged["label"], judged["suspicion"], identities=list(judged["person"]), replicates=1000)
    return f"{found['value']:.3f} [{found['low']:.2f}, {found['high']:.2f}]"


def measure_offsets(test: Sequence[Clip], model: SynchronyModel | Pairing, phonemes: bool) -> str:
    """Return the share of clips of 2 s and more whose sound, moved, is found to have moved by as much."""
    near = []
    for clip in test:
        if clip.mouths.times[-1] - clip.mouths.times[0] < WINDOW:
            continue
        speech = clip.speech if phonemes else withhold_phonemes(clip.speech)
        own = model.judge(clip.mouths, speech).lag_ms
        for shift in SHIFTS:
            moved = model.judge(clip.mouths, replace(speech, start=speech.start + shift)).lag_ms
            near.append(abs(moved - own - 1e3 * shift) <= 1e3 * NEAR)
    return f"{np.mean(near):.2f} of {len(near)}"


def print_table(
    test: Sequence[Clip], others: Sequence[Clip], model: SynchronyModel, rivals: Mapping[str, Pairing]
) -> None:
    sources = list(dict.fromkeys(clip.source for clip in test))
    pairs, windows = (pair_clips(test, others, windows=windows) for windows in (False, True))
    for source in sources:
        people = len({clip.person for clip in test if clip.source == source})
        lengths = [clip.mouths.times[-1] - clip.mouths.times[0] for clip in test if clip.source == source]
        print(f"{source}: {len(lengths)} clips of {people} people, {min(lengths):.1f} to {max(lengths):.1f} s")
    print(f"| features | {' | '.join(sources)} | all | of 2 s and more | windows of 2 s | lags |")
    print("| --- |" + " --- |" * (len(sources) + 4))
    rows = {name: (restrict(model, targets), phonemes) for name, (targets, phonemes) in ROWS.items()}
    rows |= {name: (rival, "phonemes" in rival.kind) for name, rival in rivals.items()}
    for name, (chosen, phonemes) in {"darkness and loudness (the rival)": (None, False), **rows}.items():
        calibration = choose_calibration(model, phonemes)
        scored = score_pairs(pairs, chosen, phonemes, calibration)
        cells = [format_auc(scored[scored["source"] == source]) for source in sources] + [format_auc(scored)]
        cells.append(format_auc(scored[[m.times[-1] - m.times[0] >= WINDOW for m in scored["mouths"]]]))
        cells.append(format_auc(score_pairs(windows, chosen, phonemes, calibration)))
        cells.append(measure_offsets(test, chosen, phonemes) if chosen else "–")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("test", type=Path, metavar="TEST")
    parser.add_argument("train", type=Path, metavar="TRAIN")
    parser.add_argument("--cache", default="data/cache", help="(default %(default)s)")
    parser.add_argument("--rivals", action="store_true", help="beside the ridge: canonical correlations, two towers")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the weights")
    options = parser.parse_args()
    logging.basicConfig(level="WARNING")
    train, test = read_clips(options.train, options.cache), read_clips(options.test, options.cache)
    report(train, test, options.save, rivals=options.rivals)


def fit_rivals(train: Sequence[Clip]) -> dict[str, Pairing]:
    """Return what else could compare mouths and speech, by all features that the clips have."""
    told = all(clip.speech.phonemes.shape[1] for clip in train)
    lessons = [c.mouths for c in train], [c.speech for c in train], [c.person for c in train]
    found = {}
    for kind in SOUNDS[: 1 + told]:
        for name, fit in (("canonical correlations", fit_cca), ("two towers", fit_towers)):
            start = time.process_time()
            found[f"*{name}*: all of the mouth, {kind}"] = fit(*lessons, kind)
            print(f"{name}, {kind}: fitted in {time.process_time() - start:.1f} s of CPU time")
    return found


def report(train: Sequence[Clip], test: Sequence[Clip], save: Path | None = None, *, rivals: bool = False) -> None:
    known = {clip.person for clip in train}
    test = [clip for clip in test if clip.person not in known]
    start = time.process_time()
    people = [clip.person for clip in train]
    facts = {"fitted_on": "GRID", "licence": "CC BY 4.0"} if save else {}
    model = fit_synchrony([c.mouths for c in train], [c.speech for c in train], people=people, facts=facts)
    print(f"fitted on {model.facts} in {time.process_time() - start:.1f} s of CPU time")
    if save:
        print(f"{save_synchrony(model, save)}: {save.stat().st_size} bytes")
    print_table(test, [*test, *train], model, fit_rivals(train) if rivals else {})
    print_costs(test, [*test, *train], model)


if __name__ == "__main__":
    main()
