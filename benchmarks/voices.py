"""Which forged voices teach to find others? By a classifier of plain features, in minutes.

    pip install pyworld hibari-tts "setuptools<81"    the last for pyworld, which imports pkg_resources
    python benchmarks/voices.py FOLDER [FOLDER ...]   learnt from training splits' reals, asked about validation splits'

FOLDER is that of benchmarks/reals.py; its fakes are not looked at, so that recipes can be chosen by this. Where people
are few, a second folder in which some of them change places between train and val asks about more of them. Seconds in
which something is said are forged by each recipe; all of them, forged or not, are made louder or softer, limited in
band, laid over noise and coded by draws of their own. A logistic regression learns from one recipe, or several, and is
asked about each: the AUC over clips and `SEEDS` trials, and between mixes its difference with a 95 % interval that
resamples people. Once it hears spectra (log-mel bands; LFCC and their deltas, the plain baseline of Sahidullah et al.,
Interspeech 2015; flatness; modulation; fine detail), once the shape of waves in narrow bands as well.

`neural` is text spoken by a small neural voice: another speaker, other words, another room. Loudness, rough spectrum
and background are made alike, the length of the throat a little. `matched` says what is left: somebody else's genuine
voice, made alike in the same way. What finds it as well has not found the forgery.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyworld
import torch
from hibari import Hibari
from hibari.dsp import synth
from recipes import fit
from scipy.ndimage import uniform_filter1d
from scipy.signal import butter, fftconvolve, firwin2, hilbert, resample_poly, sosfilt, welch
from torchaudio.functional import compute_deltas
from torchaudio.transforms import LFCC

from dfmm.dataset import load_manifest
from dfmm.degrade.sound import add_sound_noise, change_loudness, compress_sound, limit_band
from dfmm.forge.sound import FADE, SPLICED, draw_vocoder, hush, match_level, splice, vocode
from dfmm.forge.voice import draw_speaker, speak_anew
from dfmm.media.decode import read_media
from dfmm.media.sound import Sound
from dfmm.media.speech import MEL_RATE, describe_speech, measure_log_mel
from dfmm.metrics import compare_aucs, compute_auc
from dfmm.people import name_people
from dfmm.settings import Settings, load_settings, resolve_path

Draw = np.random.Generator
Recipe = Callable[[np.ndarray, np.ndarray, Draw], np.ndarray]
RATE, SEEDS = 16_000, 3  # Hz; trials
FROM_CLIP, FROM_PERSON = 6, 60  # seconds, at most
SPOKEN = 0.4  # share of a second in which something is said, at least
TRANSPOSED, THROAT = 2.0, (0.82, 1.1)  # semitones; times as fast as the neural voice speaks
SMOOTHED = (20, 60)  # mel cepstra that are left of WORLD's envelope
ROUGH, QUIET = 12, 10  # cepstra of a recording's spectrum; percentile of a band's power that is background
MODULATION = (1, 4, 8, 16, 32, 50)  # Hz
GRAMMAR = (  # of GRID's sentences (Cooke et al., JASA 2006)
    ("bin", "lay", "place", "set"),
    ("blue", "green", "red", "white"),
    ("at", "by", "in", "with"),
    tuple("ABCDEFGHIJKLMNOPQRSTUVXYZ"),
    ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    ("again", "now", "please", "soon"),
)
BANDS, AVERAGED = 16, 5  # of a spectrogram; cells, beside which the middle one is detail
WAVES = (80, 300, 600, 1000, 1500, 2200, 3000, 4000, 5500, 7500)  # Hz: limits of narrow bands
PIECE = 480  # samples in which a wave has a shape
MIXES = {  # what one could train on
    "vocoder, WORLD changed": ("vocoder", "WORLD changed"),
    "predict, WORLD changed": ("predict", "WORLD changed"),
    "vocoder, predict": ("vocoder", "predict"),
    "vocoder, predict, WORLD changed": ("vocoder", "predict", "WORLD changed"),
    "reals.yaml": ("vocoder", "predict", "splice"),
    "reals.yaml, WORLD changed": ("vocoder", "predict", "splice", "WORLD changed"),
}
PAIRS = {more: more.removesuffix(", WORLD changed") for more in MIXES if more.endswith(", WORLD changed")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="with a manifest.csv")
    options = parser.parse_args()
    torch.set_num_threads(1)
    trials = [ask(folder, seed) for folder in options.folders for seed in range(SEEDS)]
    for kind in KINDS:
        print_table(kind, pd.concat([trial[kind] for trial in trials]))


def ask(folder: Path, seed: int) -> dict[str, pd.DataFrame]:
    """Return by kind of features the scores of clips: `people`, `asked` (a recipe, or empty), a column for each mix."""
    settings = load_settings("params/reals.yaml", [f"data.root={folder.resolve()}"])
    splits = [read_voices(settings, split) for split in ("train", "val")]
    counts = (f"{len(each['samples'])} seconds of {len(set(each['people']))} people" for each in splits)
    print(f"{folder}, trial {seed}: learnt from {', asked about '.join(counts)}", flush=True)
    recipes = list(enumerate((None, *RECIPES.values())))
    forged = [[forge(each, one, seed=(seed, at, kind)) for kind, one in recipes] for at, each in enumerate(splits)]
    return {kind: score(*splits, *forged, describe) for kind, describe in KINDS.items()}


def score(
    train: Mapping[str, np.ndarray],
    val: Mapping[str, np.ndarray],
    learnt: list[np.ndarray],
    asked: list[np.ndarray],
    describe: Callable[[np.ndarray], np.ndarray],
) -> pd.DataFrame:
    """Learn from each mix, and score each clip as it is and as each recipe forged it, by its seconds' mean."""
    real, *made = (describe(sounds) for sounds in learnt)
    rows = np.concatenate([describe(sounds) for sounds in asked])
    made = dict(zip(RECIPES, made, strict=True))
    models = {mix: fit(real, train["people"], [made[name] for name in names]) for mix, names in ROWS.items()}
    scores = pd.DataFrame({mix: model.decision_function(rows) for mix, model in models.items()})
    clips = {name: np.tile(val[name], len(asked)) for name in ("people", "video_id")}
    table = scores.assign(**clips, asked=np.repeat(["", *RECIPES], len(val["people"])))
    return table.groupby(["people", "video_id", "asked"], as_index=False).mean()


def print_table(kind: str, clips: pd.DataFrame) -> None:
    """Print the AUC of each recipe's forgeries by each mix, and by how much more is found with WORLD than without."""
    asked = [clips[clips["asked"].isin(["", name])] for name in RECIPES]
    print(f"\n| {kind}: learnt from | " + " | ".join(RECIPES) + " |\n" + "| --- " * (1 + len(RECIPES)) + "|")
    for mix in ROWS:
        found = (compute_auc(one["asked"] != "", one[mix], identities=list(one["people"])) for one in asked)
        print(f"| {mix} | " + " | ".join(format_value(auc) for auc in found) + " |")
    for more, fewer in PAIRS.items():
        pairs = (
            compare_aucs(one["asked"] != "", one[more], one[fewer], identities=list(one["people"])) for one in asked
        )
        cells = (format_value(pair["difference"], "difference") for pair in pairs)
        print(f"| {more}, less {fewer} | {' | '.join(cells)} |")


# Recipes: samples [S], another person's [S], and draws → samples


def cut_in(samples: np.ndarray, other: np.ndarray, rng: Draw) -> np.ndarray:
    piece = round(rng.uniform(*SPLICED) * len(samples))
    first = int(rng.integers(len(samples) - piece + 1))
    return splice(samples, other, first=first, last=first + piece, fade=round(rng.uniform(*FADE) * RATE))


def pass_world(samples: np.ndarray, other: np.ndarray, rng: Draw) -> np.ndarray:
    """Take a voice apart by WORLD (Morise et al., IEICE Transactions 2016), and put it together."""
    return speak_world(samples, rng, lambda *parts: parts)


def change_world(samples: np.ndarray, other: np.ndarray, rng: Draw) -> np.ndarray:
    """Change its pitch and its breath between that, and smooth its spectrum."""
    return speak_world(samples, rng, lambda *parts: change_parts(*parts, rng))


def change_parts(
    pitch: np.ndarray, envelope: np.ndarray, breath: np.ndarray, rng: Draw
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    size, count = 2 * (envelope.shape[1] - 1), int(rng.integers(*SMOOTHED))
    coded = pyworld.code_spectral_envelope(envelope, RATE, count)
    smooth = pyworld.decode_spectral_envelope(coded, RATE, size)
    if rng.random() < 0.5:  # as what is sent or learnt: a number for each of few bands
        breath = pyworld.decode_aperiodicity(pyworld.code_aperiodicity(breath, RATE), RATE, size)
    raised = pitch * 2 ** (rng.uniform(-TRANSPOSED, TRANSPOSED) / 12)
    return raised, smooth, np.clip(breath ** np.exp(rng.uniform(-0.7, 0.7)), 0.001, 1 - 1e-12)


def speak_world(samples: np.ndarray, rng: Draw, change: Callable[..., tuple[np.ndarray, ...]]) -> np.ndarray:
    margin, hop = len(samples) // 4, float(rng.choice([5.0, 10.0]))  # milliseconds
    heard = np.pad(samples.astype(np.float64), margin, mode="reflect")  # as in `dfmm.forge.sound.vocode`
    pitch, times = find_pitch(heard, hop, careful=rng.random() < 0.2)
    envelope, breath = (find(heard, pitch, times, RATE) for find in (pyworld.cheaptrick, pyworld.d4c))
    made = pyworld.synthesize(*change(pitch, envelope, breath), RATE, hop)
    return match_level(hush(made[margin : margin + len(samples)].astype(np.float32), samples), samples)


def find_pitch(samples: np.ndarray, hop: float = 5.0, *, careful: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return the pitch of a voice in Hz, 0 where there is none, and the seconds of each: float64 `[n]`."""
    if careful:
        return pyworld.harvest(samples, RATE, frame_period=hop)
    rough, times = pyworld.dio(samples, RATE, frame_period=hop)
    return pyworld.stonemask(samples, rough, times, RATE), times


def speak_text(samples: np.ndarray, other: np.ndarray, rng: Draw) -> np.ndarray:
    """Let a neural voice say something, recorded as this was, out of a throat nearer to that of who is heard.

    For that it is played slower or faster: its own pitch is part of the phases that it speaks with, so that by another
    one two would be heard.
    """
    *parts, own = _think(" ".join(str(rng.choice(words)) for words in GRAMMAR), float(rng.uniform(0.8, 1.0)))
    pitch = find_pitch(samples.astype(np.float64))[0]
    ratio = np.median(pitch[pitch > 0]) / np.median(own[own > 0]) if pitch.any() else 1.0
    throat = np.clip(ratio ** (1 / 3) * np.exp(rng.normal(0, 0.03)), *THROAT)  # deep voices come out of long ones
    spoken = resample_poly(synth(*parts, own, rng), 200, round(300 * throat)).astype(np.float32)
    return match_recording(spoken[choose_seconds(spoken)[0] :][:RATE], samples, rng)


def _think(text: str, speed: float) -> list[np.ndarray]:
    """Return what the neural voice makes of a sentence: parts of a spectrum `[601, F]`, and last its pitch `[F]`."""
    voice = _load_voice()
    phonemes = voice.ids(voice.phonemize(text)[0])
    given = {"ids": np.array([phonemes], np.int64), "speed": np.array([speed], np.float32)}
    return [part[0] for part in voice.sess.run(None, given)]


@cache
def _load_voice() -> Hibari:
    return Hibari()


def match_other(samples: np.ndarray, other: np.ndarray, rng: Draw) -> np.ndarray:
    """Let somebody else be heard, genuine, but recorded as this was."""
    return match_recording(other, samples, rng)


def match_recording(sound: np.ndarray, wanted: np.ndarray, rng: Draw) -> np.ndarray:
    """Give a sound the rough spectrum, the background, the level and the coding of another's recording."""
    filtered = _filter(sound, np.exp((smooth_spectrum(wanted) - smooth_spectrum(sound)) / 2))
    lacking = np.maximum(find_background(wanted) - find_background(filtered), 0)  # what is noisy already needs none
    filtered = filtered + _filter(rng.standard_normal(len(wanted)), np.sqrt(lacking))
    filtered, kilobits = match_level(filtered.astype(np.float32), wanted), rng.uniform(48, 96)
    return match_level(compress_sound(filtered, codec="aac", kilobits=kilobits, sample_rate=RATE), wanted)


def smooth_spectrum(samples: np.ndarray) -> np.ndarray:
    """Return the logarithm of a sound's power, rough over pitch, float64 `[257]`."""
    cepstra = np.fft.irfft(np.log(welch(samples, RATE, nperseg=512)[1] + 1e-14))
    cepstra[ROUGH:-ROUGH] = 0
    return np.fft.rfft(cepstra).real


def find_background(samples: np.ndarray) -> np.ndarray:
    """Return the power of what is always there, of white noise of unit deviation 1, float64 `[257]`."""
    return np.percentile(measure_power(samples), QUIET, axis=0)


def measure_power(samples: np.ndarray, size: int = 512, hop: int = 160) -> np.ndarray:
    """Return a sound's power, float64 `[F, size // 2 + 1]`: 1 where it is white noise of unit deviation."""
    window = np.hanning(size)
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[::hop] * window
    return np.abs(np.fft.rfft(frames)) ** 2 / (window**2).sum()


def _filter(samples: np.ndarray, gains: np.ndarray) -> np.ndarray:
    return fftconvolve(samples, firwin2(513, np.linspace(0, 1, len(gains)), gains), "same")


RECIPES: Mapping[str, Recipe] = {
    "vocoder": lambda samples, _, rng: vocode(samples, draw_vocoder(rng, sample_rate=RATE), sample_rate=RATE),
    "predict": lambda samples, _, rng: speak_anew(samples, draw_speaker(rng, sample_rate=RATE), sample_rate=RATE),
    "splice": cut_in,
    "WORLD": pass_world,
    "WORLD changed": change_world,
    "neural": speak_text,
    "matched": match_other,
}
ROWS = {name: (name,) for name in RECIPES} | MIXES


# Voices and features


def read_voices(settings: Settings, split: str) -> dict[str, np.ndarray]:
    """Return seconds of each real of a split in which something is said: `samples` `[N, S]`, `video_id`, `people`."""
    manifest = load_manifest(settings)
    videos = manifest[(manifest["split"] == split) & (manifest["label"] == 0)]
    rows = []
    for video, person in zip(videos.itertuples(), name_people(videos), strict=True):
        path = resolve_path(settings.data.root) / video.path
        sound = read_media(path, keep=lambda number: False, sample_rate=RATE).sound
        samples = np.zeros(0, np.float32) if sound is None else sound.samples
        starts = choose_seconds(samples)[:FROM_CLIP]
        rows += [(rank, samples[at : at + RATE], video.video_id, person) for rank, at in enumerate(starts)]
    # Of who has many clips, the second in which most is said of each before another one of any.
    table = pd.DataFrame(rows, columns=["rank", "samples", "video_id", "people"]).sort_values("rank", kind="stable")
    table = table.groupby("people").head(FROM_PERSON)
    return {"samples": np.stack(table["samples"]), **{name: table[name].to_numpy() for name in ("video_id", "people")}}


def choose_seconds(samples: np.ndarray) -> list[int]:
    """Return where seconds begin, half of one apart or more, that something is said in: those with most of it first."""
    if len(samples) < RATE:
        return []
    voiced = describe_speech(Sound(samples, RATE, 0.0)).find_voice()
    starts = np.arange(0, len(samples) - RATE + 1, RATE // 4)
    shares = np.array([voiced[round(at * MEL_RATE / RATE) :][: round(MEL_RATE)].mean() for at in starts])
    chosen: list[int] = []
    for at in np.argsort(-shares, kind="stable"):
        if shares[at] >= SPOKEN and all(abs(starts[at] - other) >= RATE // 2 for other in chosen):
            chosen.append(int(starts[at]))
    return chosen


def forge(voices: Mapping[str, np.ndarray], recipe: Recipe | None, *, seed: tuple[int, ...]) -> np.ndarray:
    """Forge each second, unless there is no recipe, and let the world do to it what it may."""
    done = []
    for number, samples in enumerate(voices["samples"]):
        rng = np.random.default_rng((*seed, number))
        other = voices["samples"][rng.choice(np.flatnonzero(voices["people"] != voices["people"][number]))]
        done.append(degrade(recipe(samples, other, rng) if recipe else samples, rng))
    return np.stack(done)


def degrade(samples: np.ndarray, rng: Draw) -> np.ndarray:
    coded, limited, noisy = rng.random(3) < (0.7, 0.4, 0.4)
    samples, highest = change_loudness(samples, gain=rng.uniform(-10, 3)), np.exp(rng.uniform(*np.log((3000, 7500))))
    samples = limit_band(samples, sample_rate=RATE, high=highest) if limited else samples
    samples = add_sound_noise(samples, snr=rng.uniform(15, 40), rng=rng) if noisy else samples
    codec, kilobits = ("mp3", "opus")[rng.integers(2)], np.exp(rng.uniform(*np.log((12, 64))))
    return compress_sound(samples, codec=codec, kilobits=kilobits, sample_rate=RATE) if coded else samples


def describe_spectra(sounds: np.ndarray) -> np.ndarray:
    """Return features of sounds, float32 `[N, S]` → `[N, D]`."""
    return np.stack([np.concatenate([*measure_bands(sound), *measure_detail(sound)]) for sound in sounds])


def describe_waves(sounds: np.ndarray) -> np.ndarray:
    """Return these and the shape of waves, float32 `[N, S]` → `[N, D]`."""
    return np.concatenate([describe_spectra(sounds), np.stack([measure_shape(sound) for sound in sounds])], axis=1)


KINDS = {"spectra": describe_spectra, "spectra and waves": describe_waves}


def measure_bands(sound: np.ndarray) -> Iterator[np.ndarray]:
    log_mel = measure_log_mel(sound)
    lfcc = _make_lfcc()(torch.from_numpy(sound))
    slopes = compute_deltas(lfcc)
    bands = np.split(measure_power(sound)[:, 1:] + 1e-10, 4, axis=1)
    flatness = np.stack([np.log(band).mean(axis=1) - np.log(band.mean(axis=1)) for band in bands], axis=1)
    for rows in (log_mel, lfcc.T.numpy(), slopes.T.numpy(), compute_deltas(slopes).T.numpy(), flatness):
        yield rows.mean(axis=0)
        yield rows.std(axis=0)
    grouped = log_mel.reshape(len(log_mel), 8, -1).mean(axis=2)
    waves = np.abs(np.fft.rfft((grouped - grouped.mean(axis=0)) * np.hanning(len(grouped))[:, None], axis=0)) ** 2
    edges = np.searchsorted(np.fft.rfftfreq(len(grouped), 1 / MEL_RATE), MODULATION)
    yield np.log(np.add.reduceat(waves, edges[:-1], axis=0) + 1e-6).ravel()


def measure_detail(sound: np.ndarray) -> Iterator[np.ndarray]:
    """Yield how fine detail of spectrograms, where the sound is loud, is spread and hangs together, band by band."""
    for size, hop in ((256, 80), (1024, 160)):
        levels = np.log(measure_power(sound, size, hop)[:, 1:] + 1e-8)
        loud = find_loud(levels.mean(axis=1))
        for axis in (0, 1):
            detail = (levels - uniform_filter1d(levels, AVERAGED, axis=axis))[loud]
            yield np.concatenate([measure_moments(band) for band in np.split(detail, BANDS, axis=1)])
        for band in np.split(levels[loud] - levels[loud].mean(axis=0), BANDS, axis=1):
            nexts = (band[1:] * band[:-1]).mean(), (band[:, 1:] * band[:, :-1]).mean()
            yield np.array(nexts) / (band**2).mean()


def measure_shape(sound: np.ndarray) -> np.ndarray:
    """Return how peaky waves are in narrow bands, and how fast they swell: by this, phases are heard."""
    found = []
    for section in (*_design_bands(), None):
        wave = sound if section is None else sosfilt(section, sound)
        pieces = wave[: len(wave) // PIECE * PIECE].reshape(-1, PIECE)
        pieces = pieces[find_loud((pieces**2).mean(axis=1))]
        pieces = pieces / (pieces.std(axis=1, keepdims=True) + 1e-9)
        peaks = np.log(np.abs(pieces).max(axis=1) + 1e-9)
        swell = np.abs(hilbert(pieces))
        swell = np.abs(np.fft.rfft(swell - swell.mean(axis=1, keepdims=True))) ** 2
        speeds = [np.log(swell[:, low:high].mean() + 1e-6) for low, high in ((1, 3), (3, 8), (8, 16))]
        found += [*measure_moments(pieces)[1:], peaks.mean(), peaks.std(), *speeds]
    return np.array(found)


def find_loud(levels: np.ndarray) -> np.ndarray:
    return levels > np.percentile(levels, 35)


def measure_moments(values: np.ndarray) -> np.ndarray:
    """Return the logarithm of the deviation of values around 0, their skewness, and the logarithm of their kurtosis."""
    deviation = values.std() + 1e-6
    third, fourth = (((values / deviation) ** power).mean() for power in (3, 4))
    return np.array([np.log(deviation), np.clip(third, -5, 5), np.log(fourth + 1e-6)])


@cache
def _design_bands() -> list[np.ndarray]:
    return [butter(3, pair, "bandpass", fs=RATE, output="sos") for pair in pairwise(WAVES)]


@cache
def _make_lfcc() -> LFCC:
    spectrum = {"n_fft": 512, "win_length": 320, "hop_length": 160}
    return LFCC(RATE, n_filter=20, n_lfcc=20, log_lf=True, speckwargs=spectrum)


def format_value(found: Mapping[str, float | None], name: str = "value") -> str:
    """Return `.91 [.85, .95]` of a value, or a difference, and its interval; a dash where too few tell."""
    if found["low"] is None:
        return "–"
    return "{:.2f} [{:.2f}, {:.2f}]".format(found[name], found["low"], found["high"])


if __name__ == "__main__":
    main()
