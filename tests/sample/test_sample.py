"""The synthetic sample: the same from the same seed, well formed, in step where it should be, and without shortcuts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dfmm import sample
from dfmm.manifest import COLUMNS, parse_segments
from dfmm.media.decode import read_media
from dfmm.sample import make_sample, make_video
from dfmm.sample.acting import FPS
from dfmm.sample.forgeries import FADE, choose_speech
from dfmm.sample.recipes import PAIRS, SINGLES, STRETCHED, Recipe, describe_video, plan_sample, set_scene
from dfmm.sample.scenes import MARGIN, act_scene
from dfmm.sample.voice import SAMPLE_RATE

from ..conftest import share_sample

SMALL, FULL = 48, 320  # videos
FEATURES = ("duration", "frames", "file size", "bit rate", "sound's bit rate", "loudness", "peak", "leading silence")


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return share_sample(tmp_path_factory, SMALL)


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Path:
    """The default sample."""
    return share_sample(tmp_path_factory, FULL)


def read_table(root: Path) -> pd.DataFrame:
    table = pd.read_csv(root / "manifest.csv", keep_default_na=False)
    return table.assign(person=table.identities.str.split("|").str[0])


def read_files(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def measure_file(path: Path) -> list[float]:
    """What a lazy classifier would look at, in the order of `FEATURES`."""
    media = read_media(path, keep=lambda number: False, sample_rate=16000)
    sound = media.sound.samples.astype(np.float64)
    with av.open(str(path)) as container:
        sound_bytes = sum(packet.size for packet in container.demux(container.streams.audio[0]))
    envelope = np.sqrt((sound[: len(sound) // 160 * 160].reshape(-1, 160) ** 2).mean(1))
    size, seconds = path.stat().st_size, media.times[-1] + 0.04
    return [
        seconds,
        len(media.times),
        np.log(size),
        np.log(size / seconds),
        np.log(sound_bytes / seconds),
        10 * np.log10((sound**2).mean()),
        20 * np.log10(np.abs(sound).max()),
        np.argmax(envelope > 0.1 * envelope.max()) * 0.01,
    ]


@pytest.fixture(scope="module")
def measured(small) -> np.ndarray:
    """What there is to look at in each video, `[V, F]`, in the order of the table."""
    return np.array([measure_file(small / path) for path in read_table(small).path])


def find_shortcut(features: np.ndarray, labels: np.ndarray, people: np.ndarray) -> float:
    """AUC of a classifier on features `[V, F]` alone, cross-validated by identity."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    scores = cross_val_predict(classifier, features, labels, groups=people, cv=folds, method="predict_proba")
    return roc_auc_score(labels, scores[:, 1])


def bound_chance(fakes: int, reals: int) -> float:
    """The AUC that chance passes once in two hundred times (the normal limit of Mann and Whitney's statistic)."""
    return 0.5 + 2.58 * np.sqrt((fakes + reals + 1) / (12 * fakes * reals))


def measure_step(path: Path) -> float:
    """Plain correlation of mouth darkness with loudness, frame by frame at 25 a second."""
    media = read_media(path, keep=lambda number: True, sample_rate=16000)
    count = len(media.times)
    # Where mouths are in these pictures; green, because lips are dark there too.
    mouths = np.stack([media.frames[number][135:205, 88:168, 1] for number in range(count)])
    darkness = -np.percentile(mouths.reshape(count, -1), 4, axis=1)
    darkness -= cv2.GaussianBlur(darkness[:, None], (0, 0), 8)[:, 0]  # what the moving head does to it
    sound = media.sound.cut(0, count / 25)[0]
    loudness = np.sqrt((sound.reshape(count, -1) ** 2).mean(1)) ** 0.7
    return float(np.corrcoef(darkness, loudness)[0, 1])


def tell_desync(root: Path) -> float:
    table = read_table(root)
    table = table[table.method.isin(["real", "desync"])]
    return roc_auc_score(table.in_sync, [measure_step(root / path) for path in table.path])


def test_same_seed_gives_same_files_even_after_a_kill(tmp_path):
    make_sample(tmp_path / "straight", videos=12, seed=3, workers=1, progress=False)
    code = "import sys; from dfmm.sample import make_sample; make_sample(sys.argv[1], videos=12, seed=3, workers=2)"
    command = [sys.executable, "-c", code, str(tmp_path / "killed")]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    while len(list(tmp_path.glob("killed/*/[0-9]*.mp4"))) < 3:
        assert process.poll() is None, "the sample was complete before it could be interrupted"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    early = {path: path.stat().st_mtime_ns for path in tmp_path.glob("killed/*/[0-9]*.mp4")}
    assert not (tmp_path / "killed/manifest.csv").exists()
    (tmp_path / "killed/train/.0000.partial1.mp4").write_bytes(b"half a file")

    make_sample(tmp_path / "killed", videos=12, seed=3, workers=2, progress=False)
    assert {path: path.stat().st_mtime_ns for path in early} == early
    assert read_files(tmp_path / "killed") == read_files(tmp_path / "straight")


def test_other_seed_gives_other_files(small, tmp_path):
    recipe = plan_sample(SMALL, seed=0)[0]
    again, other = (make_video(recipe, root=tmp_path / str(seed), seed=seed).read_bytes() for seed in (0, 1))
    assert again == (small / recipe.path).read_bytes()
    assert again != other


def test_finished_sample_is_left_alone(small):
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*.mp4")}
    make_sample(small, videos=SMALL, progress=False)
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*.mp4")} == before


def test_another_sample_in_the_folder_is_refused(small, tmp_path):
    with pytest.raises(ValueError, match="holds another sample"):
        make_sample(small, videos=SMALL, seed=1)
    (tmp_path / "manifest.csv").write_text("video_id\n")
    with pytest.raises(ValueError, match=r"no sample\.json"):
        make_sample(tmp_path)
    with pytest.raises(ValueError, match="at least 12"):
        make_sample(tmp_path / "tiny", videos=4)


def test_manifest_is_well_formed(small):
    table = read_table(small)
    assert tuple(table.columns[:-1]) == COLUMNS
    assert table.video_id.is_unique
    assert all((small / path).is_file() for path in table.path)
    assert json.loads((small / "sample.json").read_text())["videos"] == len(table) == SMALL
    assert set(table.dataset) == {"sample"}
    assert set(table.source) == {"synthetic"}
    assert not any("|" in people for people in table.identities[table.method == "real"])


@pytest.mark.parametrize("videos", [12, 24, 40, 320])
def test_splits_share_nobody_and_have_both_labels(videos):
    recipes = plan_sample(videos, seed=0)
    assert len(recipes) == videos
    people = {split: set() for split in ("train", "val", "test")}
    for recipe in recipes:
        people[recipe.split] |= {recipe.person, recipe.donor} - {None}
        original = recipes[recipe.original]
        assert (original.split, original.method, original.person) == (recipe.split, "real", recipe.person)
        assert (recipe.original == recipe.number) == (recipe.method == "real")
    assert sum(map(len, people.values())) == len(set.union(*people.values()))
    for split in people:
        assert len({recipe.method == "real" for recipe in recipes if recipe.split == split}) == 2


def test_default_is_large_enough_to_measure_each_method():
    recipes = plan_sample(320, seed=0)
    test = [recipe.method for recipe in recipes if recipe.split == "test"]
    assert len({recipe.person for recipe in recipes}) >= 40
    assert len(test) >= 100
    assert test.count("real") >= 40
    assert min(test.count(method) for method in SINGLES) >= 11
    assert 0.2 < sum(map(test.count, PAIRS)) / (len(test) - test.count("real")) < 0.3
    assert set(PAIRS) <= set(test)


def test_labels_follow_from_the_method():
    labels = {
        "real": (0, 0, 0, 1),
        "blend": (1, 1, 0, 1),
        "lipsync": (1, 1, 0, 1),
        "vocoder": (1, 0, 1, 1),
        "desync": (1, -1, -1, 0),
        "blend+vocoder": (1, 1, 1, 1),
        "lipsync+vocoder": (1, 1, 1, 1),
        "blend+desync": (1, 1, -1, 0),
        "vocoder+desync": (1, -1, 1, 0),
    }
    rows = [describe_video(recipe) for recipe in plan_sample(320, seed=0)]
    for row in rows:
        assert (row["label"], row["video_fake"], row["audio_fake"], row["in_sync"]) == labels[row["method"]]
    assert {row["method"] for row in rows} == set(labels)


def list_stretched() -> dict[str, Recipe]:
    """Return the first clip of each method that is forged in a stretch only."""
    recipes = plan_sample(320, seed=0)
    return {method: next(one for one in recipes if one.method == method and one.stretch) for method in STRETCHED}


def test_some_forgeries_are_in_a_stretch_only():
    recipes = plan_sample(320, seed=0)
    for split in ("train", "val", "test"):
        for method in STRETCHED:
            some = [bool(recipe.stretch) for recipe in recipes if (recipe.split, recipe.method) == (split, method)]
            assert 0.2 < np.mean(some) < 0.4
    stretched = [recipe for recipe in recipes if recipe.stretch]
    assert {recipe.method for recipe in stretched} == set(STRETCHED)
    for recipe in stretched:
        (first, after), frames = recipe.stretch, set_scene(recipe, seed=0)[1]
        assert 0 <= first < after <= frames
        assert after - first >= 0.8 * FPS
        assert 0.39 < (after - first) / frames < 0.61
        row = describe_video(recipe)
        cells = row["video_segments"], row["audio_segments"]
        (pair,) = parse_segments("".join(cells))
        assert np.multiply(pair, FPS).round(6).tolist() == [first, after]
        assert bool(cells[1]) == (recipe.method == "vocoder")


@pytest.mark.parametrize("method", STRETCHED)
def test_beside_its_stretch_a_clip_is_what_it_would_be_unforged(method, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(sample, "finish_video", lambda path, frames, sound, quality: made.append((frames, sound)))
    recipe = list_stretched()[method]
    for one in (recipe, replace(recipe, method="real")):
        make_video(one, root=tmp_path, seed=0)
    (frames, sound), (plain, heard) = made
    first, after = recipe.stretch
    changed = np.abs(frames.astype(int) - plain).max(axis=(1, 2, 3)) > 0
    expected = np.zeros(len(frames), bool)
    expected[first:after] = method != "vocoder"
    assert changed.tolist() == expected.tolist()
    time = np.arange(len(sound)) / SAMPLE_RATE
    outside = (time < first / FPS - FADE) | (time > after / FPS + FADE)
    if method != "lipsync":  # its room murmurs otherwise: what is said there is compared below
        np.testing.assert_array_equal(sound[outside], heard[outside])
        assert (np.abs(sound - heard)[~outside].max() > 0.01) == (method == "vocoder")
    jumps = np.abs(np.diff(sound, append=sound[-1]))
    for border in (first / FPS, after / FPS):  # no click tells
        near = np.abs(time - border) < 2 * FADE
        assert jumps[near].max() <= jumps[~near].max()


def test_beside_its_stretch_a_lipsync_says_what_was_said():
    recipe = list_stretched()["lipsync"]
    take = act_scene(recipe, seed=0)
    words, shift = choose_speech(recipe, take, np.random.default_rng(0), seed=0)
    time = np.arange(len(words)) / SAMPLE_RATE - MARGIN
    first, after = np.divide(recipe.stretch, FPS)
    outside = (time < first - FADE) | (time > after + FADE)
    np.testing.assert_array_equal(words[outside], take.speech[outside])
    inside = (time > first + FADE) & (time < after - FADE)
    assert abs(np.corrcoef(words[inside], take.speech[inside])[0, 1]) < 0.2
    assert shift == 0


def test_sound_lasts_as_long_as_the_picture(small):
    for path in read_table(small).path[:12]:
        media = read_media(small / path, keep=lambda number: number == 0, sample_rate=16000)
        assert media.frames[0].shape == (256, 256, 3)
        assert 2.0 <= len(media.times) / 25 <= 3.0
        assert media.sound.start == pytest.approx(0, abs=0.002)
        assert media.sound.end == pytest.approx(len(media.times) / 25, abs=0.07)


def test_mouth_and_loudness_tell_desync(small):
    assert tell_desync(small) > 0.9  # 19 reals and 5 fakes; the slow test asks for more of more


def test_no_shortcut_tells_fakes(small, measured):
    table = read_table(small)
    auc = find_shortcut(measured, table.label, table.person)
    assert auc < bound_chance(sum(table.label == 1), sum(table.label == 0))


@pytest.mark.parametrize("method", SINGLES)
def test_forging_leaves_the_lazy_features_alone(small, measured, tmp_path, method):
    """A fake differs from its twin, made the same way but not forged, far less than reals do among each other."""
    table = read_table(small)
    usual = np.std(measured[table.label == 0], axis=0)
    changes = []
    for recipe in [recipe for recipe in plan_sample(SMALL, seed=0) if recipe.method == method][:4]:
        twin = make_video(replace(recipe, method="real"), root=tmp_path, seed=0)
        (forged,) = measured[table.path == recipe.path]
        changes.append((forged - measure_file(twin)) / usual)
    mean = np.mean(changes, axis=0)
    # A shift of .15 spreads would by itself give an AUC of .54. Other words bring some chance with them.
    other_words = method in ("lipsync", "desync")
    limits = 0.15 + other_words * np.std(changes, axis=0, ddof=1)  # two standard errors of the mean of four
    shifts = {name: shift for name, shift, limit in zip(FEATURES, mean, limits, strict=True) if abs(shift) > limit}
    shifts.pop("sound's bit rate", None)  # varies by 1 % among reals, too little for this measure
    assert shifts == {}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fake", *SINGLES])
def test_no_shortcut_tells_fakes_at_full_size(full, method):
    table = read_table(full)
    if method != "fake":
        table = table[table.method.isin(["real", method])]
    features = np.array([measure_file(full / path) for path in table.path])
    auc = find_shortcut(features, table.label, table.person)
    assert auc < bound_chance(sum(table.label == 1), sum(table.label == 0))


@pytest.mark.slow
def test_mouth_and_loudness_tell_desync_at_full_size(full):
    assert tell_desync(full) > 0.95


@pytest.mark.slow
def test_both_detectors_find_the_faces(full):
    import retinaface
    from facenet_pytorch import MTCNN

    mtcnn = MTCNN()
    found = []
    for row in read_table(full).groupby("method").head(4).itertuples():
        frames = read_media(full / row.path, keep=lambda number: number % 20 == 5, sample_rate=16000).frames
        for frame in frames.values():
            found.append((row.method, bool(retinaface.detect_faces(frame)), mtcnn.detect(frame)[0] is not None))
    coverage = pd.DataFrame(found, columns=["method", "retinaface", "mtcnn"]).groupby("method").mean()
    assert coverage.min(axis=None) >= 0.95, coverage
