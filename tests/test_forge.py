"""Forgeries of real clips: they change what they say, where they say, and nothing trivial tells them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from dfmm.data import acting, load_manifest, portrait
from dfmm.data import voice as voices
from dfmm.data.crops import TEMPLATE, Canvases
from dfmm.data.dataset import MultimodalDataset, make_evaluation_loader
from dfmm.data.degrade import Scene, label_sync, make_scene
from dfmm.data.extract import extract_tracks
from dfmm.data.faces import load_detector
from dfmm.data.forge import METHODS, Forgery, Take, disguise_window, forge_window, list_methods, plan_forgeries
from dfmm.data.forge_frames import (
    OUTLINES,
    blend_face,
    disguise_frames,
    draw_mask,
    draw_outline,
    fit_similarities,
    lay_mask,
    place_face,
    replace_mouth,
)
from dfmm.data.forge_sound import BANDS, Vocoder, draw_vocoder, find_silence, hush, splice, vocode
from dfmm.data.shortcuts import assign_folds, score_together
from dfmm.evaluation import evaluate_run
from dfmm.manifest import select_split
from dfmm.metrics import compute_auc
from dfmm.plots_forge import forge_reals, plot_forged_pictures, plot_forged_sounds, plot_forged_steps
from dfmm.runs import open_run
from dfmm.settings import Settings, SettingsError
from dfmm.trainer import Trainer, TrainingError
from tests.conftest import change, sing

RATE, T, SIZE = 16_000, 6, 96
REAL = {"label": 0, "video_fake": 0, "audio_fake": 0, "in_sync": 1}


@pytest.fixture
def landmarks() -> np.ndarray:
    """Those of a face at rest, `[T, 5, 2]`."""
    return np.repeat(TEMPLATE[None] * SIZE, T, axis=0)


@pytest.fixture
def frames() -> np.ndarray:
    """One picture with something to see everywhere, `[T, SIZE, SIZE, 3]`."""
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    return np.repeat(cv2.GaussianBlur(noise, (0, 0), 1.5)[None], T, axis=0)


@pytest.fixture
def voice() -> np.ndarray:
    return sing(T / 12.5, RATE)


def make_take(frames: np.ndarray, landmarks: np.ndarray, samples: np.ndarray, *, at: float = 0.0) -> Take:
    """A window that begins so many seconds after the clip."""
    scene = make_scene(frames, samples, sample_rate=RATE)
    return Take(replace(scene, shows=scene.shows + at, hears=scene.hears + at), landmarks)


# The picture


@pytest.mark.parametrize("part", OUTLINES)
def test_an_outline_is_convex_and_covers_its_part_of_the_face(part: str) -> None:
    outline = (draw_outline(part) * 1000).astype(np.int32)[:, None]
    assert cv2.contourArea(outline) > 0.995 * cv2.contourArea(cv2.convexHull(outline))
    eye, mouth = ((500, 0), (0, 1000))
    assert cv2.pointPolygonTest(outline, mouth, False) > 0
    assert (cv2.pointPolygonTest(outline, eye, False) > 0) == (part in ("whole", "inner"))


def test_masks_are_soft_bent_anew_for_each_window_and_follow_the_face(landmarks: np.ndarray) -> None:
    masks = [draw_mask("whole", np.random.default_rng(seed)) for seed in range(5)]
    for mask in masks:
        assert mask.min() == 0
        assert mask.max() == pytest.approx(1)
        assert np.abs(np.diff(mask)).max() < 0.5  # no edge from one pixel to the next
    assert all(np.abs(masks[0] - mask).max() > 0.5 for mask in masks[1:])
    landmarks[1] += [7, -4]
    still, moved = lay_mask(masks[0], place_face(landmarks[:2]), SIZE, SIZE)
    np.testing.assert_allclose(np.roll(still, (-4, 7), (0, 1))[10:-10, 10:-10], moved[10:-10, 10:-10], atol=1e-5)


def test_a_blend_is_steady_small_and_only_where_its_mask_says(frames: np.ndarray, landmarks: np.ndarray) -> None:
    sides = set()
    for seed in range(12):
        before = frames.copy()
        forged, masks, plain = blend_face(frames, landmarks, np.random.default_rng(seed))
        np.testing.assert_array_equal(frames, before)  # what was given is not written to
        np.testing.assert_array_equal(forged, np.repeat(forged[:1], T, axis=0))  # one draw for all frames
        around, inside = masks == 0, masks > 0.2
        changed = np.abs(forged.astype(int) - frames).max(axis=-1)
        sides.add(bool(changed[around].any()))
        assert changed[inside].any()
        assert 0.02 < (masks > 0).mean() < 0.8
        np.testing.assert_array_equal(forged[around], plain[around])  # it is what is left without the forgery
        np.testing.assert_array_equal(forged, blend_face(frames, landmarks, np.random.default_rng(seed))[0])
    assert sides == {False, True}  # now the face is the copy, now all around it


def test_all_parts_and_ratios_are_drawn(frames: np.ndarray, landmarks: np.ndarray) -> None:
    masks = [blend_face(frames[:1], landmarks[:1], np.random.default_rng(seed))[1][0] for seed in range(60)]
    eyes, chin = (SIZE * 0.45, SIZE * 0.95)
    assert {round(float(mask.max()), 2) for mask in masks} >= {0.25, 0.5, 0.75, 1.0}
    has_eyes = np.mean([mask[: int(eyes)].max() > 0.1 for mask in masks])
    assert 0.5 < has_eyes < 0.85  # two parts of three
    assert 0.3 < np.mean([mask[int(chin) :].max() > 0.05 for mask in masks]) < 0.85


def test_what_leaves_unforged_is_changed_as_a_whole_or_not_at_all(frames: np.ndarray) -> None:
    left = [np.array_equal(disguise_frames(frames, np.random.default_rng(seed)), frames) for seed in range(60)]
    assert 0.2 < np.mean(left) < 0.6
    flat = np.full((2, 32, 32, 3), 120, np.uint8)
    for seed in range(20):
        done = disguise_frames(flat, np.random.default_rng(seed))
        assert np.ptp(done, axis=(0, 1, 2)).max() == 0  # no seam


def test_similarities_bring_points_home() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(3, 5, 2))
    angle, scale = 0.3, 1.7
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    targets = points @ turn.T + [5, -2]
    fits = fit_similarities(points, targets)
    np.testing.assert_allclose(fits[:, :, :2], np.repeat(turn[None], 3, axis=0), atol=1e-9)
    np.testing.assert_allclose(fits[:, :, 2], [[5, -2]] * 3, atol=1e-9)


def test_a_mouth_comes_from_the_other_face_to_where_the_mouth_is(frames: np.ndarray, landmarks: np.ndarray) -> None:
    others, moved = frames.copy(), np.add(landmarks, [9, -6])
    x, y = np.rint(moved[0, 3:].mean(axis=0)).astype(int)
    others[:, y - 5 : y + 6, x - 5 : x + 6] = (200, 40, 40)  # only the other mouth is red
    forged, masks = replace_mouth(frames, landmarks, others, moved, np.random.default_rng(0))
    at = np.rint(landmarks[0, 3:].mean(axis=0)).astype(int)
    redness = forged[0, at[1], at[0]].astype(int) - frames[0, at[1], at[0]]
    assert redness[0] > 40 > redness[1]
    assert masks[0, at[1], at[0]] > 0.9
    np.testing.assert_array_equal(forged[:, : int(SIZE * 0.5)], frames[:, : int(SIZE * 0.5)])  # eyes are as they were
    np.testing.assert_array_equal(forged[masks == 0], frames[masks == 0])


# The sound


@pytest.mark.parametrize("bands", BANDS)
def test_a_vocoder_keeps_what_is_said_and_how_loud(bands: int, voice: np.ndarray) -> None:
    voice[:500] = 0
    state = torch.random.get_rng_state()
    made = vocode(voice, Vocoder(1024, bands, 20, seed=3), sample_rate=RATE)
    assert torch.equal(torch.random.get_rng_state(), state)  # no other draw depends on it
    assert made.dtype == np.float32
    assert made.shape == voice.shape
    assert not made[:500].any()  # silence stays
    assert np.sqrt(np.mean(made**2)) == pytest.approx(np.sqrt(np.mean(voice**2)), rel=1e-4)
    assert np.abs(np.corrcoef(made, voice)[0, 1]) < 0.9  # the phases are others
    seen = [np.abs(np.fft.rfft(sound)).reshape(-1)[:3200].reshape(64, -1).sum(axis=1) for sound in (made, voice)]
    assert np.corrcoef(*seen)[0, 1] > 0.8
    np.testing.assert_array_equal(made, vocode(voice, Vocoder(1024, bands, 20, seed=3), sample_rate=RATE))


def test_a_vocoder_leaves_no_trace_at_a_windows_ends() -> None:
    rng, powers = np.random.default_rng(0), []
    for seed in range(40):
        given = rng.normal(0, 0.1, 4096).astype(np.float32)
        made = vocode(given, Vocoder(1024, 40, 6, seed), sample_rate=RATE)
        powers.append([(sound.reshape(-1, 64) ** 2).mean(axis=1) for sound in (given, made)])
    given, made = np.mean(powers, axis=0)
    assert np.abs(10 * np.log10(made / given))[[0, 1, -2, -1]].max() < 1  # dB


def test_vocoders_are_many() -> None:
    drawn = [draw_vocoder(np.random.default_rng(seed), sample_rate=RATE) for seed in range(50)]
    assert {one.bands for one in drawn} == set(BANDS)
    assert len({one.window for one in drawn}) == 4
    assert len({(one.window, one.bands, one.rounds) for one in drawn}) > 30


def test_a_splice_is_as_loud_and_has_no_click(voice: np.ndarray) -> None:
    other = 0.1 * np.sin(np.arange(len(voice)) * 0.11).astype(np.float32)
    made = splice(voice, other, first=2000, last=5000, fade=160)
    np.testing.assert_array_equal(made[:1900], voice[:1900])
    np.testing.assert_array_equal(made[5100:], voice[5100:])
    inside = slice(2100, 4900)
    assert np.corrcoef(made[inside], other[inside])[0, 1] > 0.999
    assert np.std(made[inside]) == pytest.approx(np.std(voice[inside]), rel=0.05)
    steepest = max(np.abs(np.diff(sound)).max() for sound in (voice, made[inside]))
    assert np.abs(np.diff(made)).max() < 1.5 * steepest


def test_another_voice_is_silent_where_the_own_is(voice: np.ndarray) -> None:
    voice[1000:1003] = 0  # where a wave crosses zero is no silence
    voice[:500] = voice[3000:3200] = voice[-1600:] = 0
    silent = find_silence(voice)
    assert [int(edge) for edge in np.flatnonzero(np.diff(silent))] == [499, 2999, 3199, len(voice) - 1601]
    other = np.random.default_rng(0).normal(0, 0.1, len(voice)).astype(np.float32)
    made = splice(voice, other, first=300, last=len(voice) - 300, fade=80)
    for sound in (made, hush(other, voice), vocode(voice, Vocoder(512, 0, 4, seed=0), sample_rate=RATE)):
        assert not sound[silent].any()
        assert (sound[1000:1003] != 0).all()


def test_a_splice_lies_within_what_is_heard_of_both(
    frames: np.ndarray, landmarks: np.ndarray, voice: np.ndarray
) -> None:
    other = voice[::-1].copy()
    voice[-2000:], other[:1500] = 0, 0
    take, donor = make_take(frames, landmarks, voice), make_take(frames, landmarks, other)
    for seed in range(20):
        start, end = forge_window("splice", take, donor, np.random.default_rng(seed)).audio_segment
        assert start >= 1500 / RATE
        assert end <= (len(voice) - 2000) / RATE
        assert 0.29 < (end - start) * RATE / (len(voice) - 3500) < 0.71


# What is said of it

TRUTH = {
    "self_blend": {"label": 1, "video_fake": 1, "audio_fake": 0, "in_sync": 1},
    "mouth": {"label": 1, "video_fake": 1, "audio_fake": 0, "in_sync": -1},  # out of step for a part of the window
    "vocoder": {"label": 1, "video_fake": 0, "audio_fake": 1, "in_sync": 1},
    "splice": {"label": 1, "video_fake": 0, "audio_fake": 1, "in_sync": -1},
    "delay": {"label": 1, "video_fake": 0, "audio_fake": 0, "in_sync": 0},
    "swap": {"label": 1, "video_fake": 0, "audio_fake": 0, "in_sync": 0},
}


def forge(method: str, frames: np.ndarray, landmarks: np.ndarray, voice: np.ndarray) -> tuple[Take, Forgery]:
    frames = np.stack([np.roll(frames[0], 3 * step, axis=1) for step in range(T)])
    take = make_take(frames, landmarks, voice)
    others = {
        "mouth": make_take(frames[::-1].copy(), landmarks, voice, at=0.3),
        "delay": make_take(frames, landmarks, np.roll(voice, 3200), at=-0.2),
    }
    shift = replace(others["delay"].scene, shows=take.scene.shows)
    others["delay"] = Take(shift, landmarks)
    other = others.get(method, make_take(frames, landmarks, 0.3 * voice[::-1].copy()))
    return take, forge_window(method, take, other, np.random.default_rng(1))


@pytest.mark.parametrize("method", METHODS)
def test_labels_and_segments_are_those_of_what_changed(
    method: str, frames: np.ndarray, landmarks: np.ndarray, voice: np.ndarray
) -> None:
    take, forgery = forge(method, frames, landmarks, voice)
    assert forgery.method == method
    assert label_sync(REAL | dict(forgery.labels), forgery.scene) == TRUTH[method]
    seen = np.flatnonzero((forgery.scene.frames != take.scene.frames).any(axis=(1, 2, 3)))
    heard = np.flatnonzero(forgery.scene.samples != take.scene.samples)
    assert (len(seen) > 0) == (forgery.video_segment is not None) == (METHODS[method].labels.get("video_fake") == 1)
    assert (len(heard) > 0) == (forgery.audio_segment is not None)
    if len(seen):
        np.testing.assert_allclose(forgery.video_segment, (seen[0] / 12.5, (seen[-1] + 1) / 12.5))
    if len(heard):
        start, end = forgery.audio_segment
        assert heard[0] / RATE >= start - 0.011  # half a cross-fade
        assert heard[-1] / RATE <= end + 0.011


def test_a_mouth_of_nearly_the_same_moment_is_in_step(
    frames: np.ndarray, landmarks: np.ndarray, voice: np.ndarray
) -> None:
    take, near = make_take(frames, landmarks, voice), make_take(frames, landmarks, voice, at=0.03)
    forgery = forge_window("mouth", take, near, np.random.default_rng(0))
    assert label_sync(REAL | dict(forgery.labels), forgery.scene)["in_sync"] == 1


@pytest.mark.parametrize("method", METHODS)
def test_what_cannot_be_forged_stays_real(
    method: str, frames: np.ndarray, landmarks: np.ndarray, voice: np.ndarray
) -> None:
    take = make_take(frames, np.full_like(landmarks, np.nan), np.zeros_like(voice))
    for other in (None, take):
        forgery = forge_window(method, take, other, np.random.default_rng(0))
        assert (forgery.method, forgery.labels, forgery.video_segment) == ("real", {}, None)
        assert forgery.scene is take.scene


# In training and validation


@pytest.fixture(scope="module")
def forging(tiny: Settings) -> Settings:
    """Settings that learn from reals alone."""
    return change(
        tiny,
        forge={"share": 0.5, "reals_only": True},
        train={"epochs": 2, "windows": 2},
        data={"read": "cache"},
        augment={"drop_stream": 0.0},
    )


def open_train(settings: Settings, **options: Any) -> MultimodalDataset:
    reals = select_split(load_manifest(settings, progress=False), "train")
    return MultimodalDataset(reals, settings, sampling="random", augment=True, progress=False, **options)


def test_training_windows_are_forged_as_often_as_asked_and_anew_in_each_round(forging: Settings) -> None:
    dataset = open_train(forging, windows=8)
    assert set(dataset.manifest["label"]) == {0}
    assert (dataset.labels, dataset.prior) == ({0, 1}, 0.5)
    rounds = [[dataset[index + turn * len(dataset)] for index in range(len(dataset))] for turn in range(2)]
    labels = [[sample["label"] for sample in samples] for samples in rounds]
    assert 0.3 < np.mean(labels) < 0.7
    assert labels[0] != labels[1]
    again = open_train(forging, windows=8)[len(dataset) + 3]
    assert all(torch.equal(again[name], rounds[1][3][name]) for name in ("frames", "log_mel"))
    kinds = {tuple(sample[name] for name in REAL) for sample in rounds[0] + rounds[1]}
    assert kinds <= {tuple(labels.values()) for labels in (REAL, *TRUTH.values())} | {(1, 1, 0, 0), (1, 1, 0, 1)}
    assert len(kinds) >= 4


def test_forgeries_are_the_same_from_videos_and_from_the_cache(forging: Settings) -> None:
    for method in METHODS:
        chosen = change(forging, forge={"methods": [method], "share": 0.99})
        one, other = (open_train(change(chosen, data={"read": read})) for read in ("cache", "videos"))
        (take, forgery), (_, same) = one.read_forgery(0), other.read_forgery(0)
        assert forgery.method == same.method == method
        np.testing.assert_array_equal(forgery.scene.frames, same.scene.frames)
        np.testing.assert_array_equal(forgery.scene.samples, same.scene.samples)
        assert torch.equal(one[0]["frames"], other[0]["frames"])
        assert one[0]["label"] == 1
        assert np.isfinite(take.landmarks).all()
        assert (take.landmarks >= 0).all()
        assert (take.landmarks < forging.video.size).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_pair_differs_in_nothing_but_the_forgery(method: str, forging: Settings) -> None:
    dataset, disguised = open_train(change(forging, forge={"methods": [method], "share": 0.99})), 0
    for index in range(len(dataset)):
        (take, _), (real, forgery) = dataset.read_forgery(index), dataset.read_pair(index)
        assert forgery.method == method
        disguised += not np.array_equal(real.frames, take.scene.frames)
        same = (real.frames == forgery.scene.frames).all(axis=-1)
        left, right, low = take.landmarks[:, 3, 0].min(), take.landmarks[:, 4, 0].max(), take.landmarks[:, :2, 1].min()
        margin = 1.2 * (right - left)
        assert same[:, :, : max(int(left - margin), 0)].all()
        assert same[:, : int(low) if method == "mouth" else 2].all()
        assert same.all() == (METHODS[method].labels.get("video_fake") != 1)
        assert np.array_equal(real.samples, take.scene.samples)
        assert np.array_equal(real.samples, forgery.scene.samples) == (forgery.audio_segment is None)
    assert disguised > 1


def test_a_voice_is_another_persons_and_a_delay_is_one_that_is_noticed(forging: Settings) -> None:
    for method in ("swap", "delay"):
        long = {"video": {"frames": 12}, "augment": {"sound_gain": 0.0}}
        dataset = open_train(change(forging, forge={"methods": [method], "share": 0.99}, **long))
        for index in range(len(dataset)):
            take, forgery = dataset.read_forgery(index)
            assert forgery.method == method
            own, made = take.scene.samples, forgery.scene.samples
            if method == "delay":
                late = float(forgery.scene.lag.mean())
                assert 0.2 <= abs(late) <= 0.6
                found = (np.correlate(own, made, "full").argmax() - len(own) + 1) / RATE
                assert found == pytest.approx(late, abs=0.01)
            else:
                assert np.std(made) == pytest.approx(np.std(own), rel=1e-3)
                assert abs(np.corrcoef(own, made)[0, 1]) < 0.5


def test_validation_has_a_fixed_twin_of_each_real_and_test_none(forging: Settings) -> None:
    manifest = load_manifest(forging, progress=False)
    dataset = make_evaluation_loader(manifest, "val", forging, windows=1, progress=False).dataset
    rows = dataset.manifest
    reals = rows[rows["label"] == 0]
    assert sorted(rows.loc[rows["label"] == 1, "original"]) == sorted(reals["video_id"])
    assert dataset.prior == 0.5
    first, second = ([dataset[index] for index in range(len(dataset))] for _ in range(2))
    for one, same, label in zip(first, second, rows["label"], strict=True):
        assert one["label"] == same["label"] == label
        assert torch.equal(one["frames"], same["frames"])
        assert torch.equal(one["log_mel"], same["log_mel"])
    tested = make_evaluation_loader(manifest, "test", forging, windows=1, progress=False).dataset
    assert not tested.forges
    assert set(tested.manifest["video_id"]) == set(manifest.loc[manifest["split"] == "test", "video_id"])
    assert tested.manifest["label"].nunique() == 2


def test_a_twins_window_that_cannot_be_forged_counts_for_nothing(
    forging: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    locate = Canvases.locate_window

    def lose_face(self: Canvases, points: np.ndarray, numbers: np.ndarray, cropped: Sequence[int]) -> np.ndarray:
        return locate(self, points, numbers, cropped) * (1 if numbers[0] == 0 else np.nan)  # but in first windows

    monkeypatch.setattr(Canvases, "locate_window", lose_face)
    reals = select_split(load_manifest(forging, progress=False), "val").query("label == 0")
    chosen = change(forging, forge={"methods": ["self_blend"]})
    dataset = MultimodalDataset(reals, chosen, windows=2, twins=True, progress=False)
    assert len(dataset.twins) == len(reals) > 0
    for index in range(len(dataset)):
        sample, is_twin, is_first = dataset[index], index >= 2 * len(reals), index % 2 == 0
        assert sample["label"] == (0 if not is_twin else 1 if is_first else -1)
        counts = is_first or not is_twin
        assert bool(sample["frame_mask"].any()) == bool(sample["sound_mask"].any()) == counts
        assert bool(sample["frames"].any()) == bool(dataset.read_sound(index).any()) == counts
        assert counts or {sample[name] for name in REAL} == {-1}


def test_methods_are_dealt_evenly_to_what_can_be_forged(manifest: pd.DataFrame, forging: Settings) -> None:
    reals = manifest[manifest["label"] == 0].reset_index(drop=True)
    tracks, _ = extract_tracks(reals, forging, crops=True, progress=False)
    whole = [tracks.load(number) for number in range(len(reals))]
    plan = plan_forgeries(reals, whole, forging)
    counts = plan["method"].value_counts()
    assert counts.max() - counts.min() <= 1
    for number, without in enumerate(({"sound_peak": 0.0}, {"landmarks": whole[0].landmarks[:0]})):
        mute_or_masked = replace(whole[0], **without)
        left = set(list_methods(reals.iloc[0], mute_or_masked, forging))
        assert left == ({"self_blend", "mouth"}, {"vocoder", "splice"})[number]
    assert "delay" not in list_methods({**reals.iloc[0], "in_sync": -1}, whole[0], forging)
    assert not list_methods({**reals.iloc[0], "label": 1}, whole[0], forging)


def test_learning_from_reals_alone_ends_in_an_evaluation_on_true_fakes(forging: Settings, tmp_path: Path) -> None:
    table = load_manifest(forging, progress=False)
    run = open_run(tmp_path / "reals", forging)
    history = Trainer(forging, table, run, progress=False).fit()
    assert history["val_auc"].notna().all()
    report, videos, _ = evaluate_run(run, "test", progress=False)
    assert report["prior"] == 0.5
    assert report["video"]["auc"]["value"] is not None
    assert set(videos["label"]) == {0, 1}
    assert report["unseen"]["videos"] == (videos["label"] == 1).sum()
    report, videos, _ = evaluate_run(run, "val", progress=False)
    assert set(report["methods"]) <= set(METHODS)
    assert (videos["status"] == "ok").all()
    without = change(forging, forge={"share": 0.0})
    with pytest.raises(TrainingError, match=r"only real videos.*forge\.share makes fakes of reals"):
        Trainer(without, table, open_run(tmp_path / "none", without), progress=False).fit()


def test_what_a_model_cannot_notice_is_not_forged(tiny: Settings) -> None:
    with pytest.raises(SettingsError, match="leave mouth, self_blend"):
        change(tiny, forge={"share": 0.5}, model={"streams": "video"})
    change(tiny, forge={"share": 0.5, "methods": ["vocoder"]}, model={"streams": "audio"})


def test_the_gallery_shows_the_forgery_alone_and_says_where_there_is_none(forging: Settings) -> None:
    reals = select_split(load_manifest(forging, progress=False), "train").query("label == 0")
    pairs = forge_reals(reals, forging, "self_blend")
    assert len(pairs) == len(reals)
    for axes in plot_forged_pictures(pairs, note="drawn").axes[2::3]:
        difference = np.asarray(axes.images[0].get_array())
        assert (difference[:, :2] == 128).all()
        assert (difference != 128).any()
    shown = plot_forged_sounds(forge_reals(reals, forging, "vocoder"), forging.audio).axes[2].images[0].get_array()
    assert np.abs(shown).max() > 0
    for figure in (plot_forged_pictures({}), plot_forged_steps({}), plot_forged_sounds({}, forging.audio)):
        assert "none of these" in figure.axes[1].texts[0].get_text()


# What gives nothing away


def describe_window(scene: Scene) -> dict[str, float]:
    """What is no evidence of a forgery: how a window looks and sounds on the whole.

    Evidence is what does not fit together within it: a seam, a face sharper or of another colour than what is around
    it, phases that no voice has, a cut from one voice to another, lips and sound that move apart.
    """
    grey = scene.frames.astype(np.float32).mean(axis=-1)
    edges = np.stack([cv2.Laplacian(one, cv2.CV_32F) for one in grey])
    powers = np.abs(np.fft.rfft(scene.samples)) ** 2
    hertz = np.fft.rfftfreq(len(scene.samples), 1 / scene.sample_rate)
    level = float(np.sqrt(np.mean(scene.samples**2)))
    loud = np.abs(scene.samples) > 5e-4
    return {
        **dict(zip(("red", "green", "blue"), scene.frames.mean(axis=(0, 1, 2)).tolist(), strict=True)),
        "contrast": float(grey.std()),
        "sharpness": float(np.log(edges.var())),
        "noise": float(np.median(np.abs(np.diff(grey, axis=0)))),
        "loudness": 20 * float(np.log10(max(level, 1e-6))),
        "peak": float(np.abs(scene.samples).max()),
        "crest": float(np.abs(scene.samples).max() / max(level, 1e-6)),
        "centroid": float((powers * hertz).sum() / powers.sum()),
        "leading_silence": float(loud.argmax()) if loud.any() else float(len(loud)),
    }


CLIPS, STARTS = 40, (0, 5, 10)  # people, and the frames with which windows of their clips begin


@pytest.fixture(scope="module")
def takes() -> dict[tuple[int, int], Take]:
    """Windows of synthetic people at 12.5 fps, by person and start: none went through a codec."""
    detect, found = load_detector("retinaface"), {}
    for person in range(CLIPS):
        rng = np.random.default_rng(person)
        frames, sound = film_person(rng, 2 * (STARTS[-1] + T))
        faces = detect(list(frames))
        crops, landmarks = crop_person(frames, np.stack([face[0] if len(face) else faces[0][0] for face in faces]))
        for start in STARTS:
            first, steps = round(start / 12.5 * RATE), slice(start, start + T)
            heard = sound[first : first + round(T / 12.5 * RATE)]
            found[person, start] = make_take(crops[steps], landmarks[steps], heard, at=start / 12.5)
    return found


def film_person(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw somebody who speaks, every other of so many frames at 25 fps, and record it."""
    head = portrait.paint_head(portrait.invent_look(rng), portrait.invent_stage(rng))
    speech = voices.speak(voices.invent_voice(rng), count / acting.FPS, rng)
    loudness = voices.measure_loudness(speech, (np.arange(count) + 0.5) / acting.FPS)
    mouth = np.clip(loudness / (1.5 * voices.measure_speech(speech)), 0, 1) ** 0.7
    frames = acting.draw_clip(head, acting.act(head, acting.invent_motion(rng, count), mouth))
    acting.add_grain(frames, head.stage)
    sound = voices.add_room(speech, noise=rng.uniform(32, 48), rng=rng)
    return frames[::2], voices.set_level(sound, loudness=rng.uniform(-28, -20), crest=rng.uniform(11, 14.5))


def crop_person(frames: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return crops around the first frame's face, and landmarks in them, of detections `[N, 15]`."""
    left, top, right, bottom = faces[0, :4]
    scale = SIZE / (1.3 * max(right - left, bottom - top))
    shift = SIZE / 2 - scale * np.array([left + right, top + bottom]) / 2
    matrix = np.column_stack([scale * np.eye(2), shift])
    crops = [cv2.warpAffine(one, matrix, (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE) for one in frames]
    return np.stack(crops), faces[:, 5:].reshape(-1, 5, 2) * scale + shift


def choose_other(method: str, takes: dict[tuple[int, int], Take], person: int, start: int, seed: int) -> Take | None:
    """Return the other window that a method needs: a later or an earlier one, or another person's."""
    if METHODS[method].other == "voice":
        return takes[(person + 1 + seed % (CLIPS - 1)) % CLIPS, start]
    if METHODS[method].other != "moment":
        return None
    later = STARTS[(STARTS.index(start) + 1 + seed % 2) % 3]
    other = takes[person, later]
    return Take(replace(other.scene, shows=takes[person, start].scene.shows), other.landmarks)


def compare_windows(reals: list[Scene], fakes: list[Scene]) -> dict[str, float]:
    """Return the AUC of a trivial classifier that is tested on people it has not met."""
    features = pd.DataFrame([describe_window(scene) for scene in reals + fakes])
    labels = pd.Series(np.repeat([0, 1], len(reals)))
    people = pd.Series(np.tile(np.repeat(np.arange(CLIPS), len(STARTS)), 2).astype(str))
    scores = score_together(features, labels, assign_folds(labels, people))
    return compute_auc(labels, scores, identities=list(people), replicates=200)


@pytest.mark.slow
@pytest.mark.parametrize("method", [*METHODS, "louder"])
def test_nothing_trivial_tells_a_forged_window(method: str, takes: dict[tuple[int, int], Take]) -> None:
    reals, fakes = [], []
    for number, ((person, start), take) in enumerate(takes.items()):
        reals.append(disguise_window(take.scene, "real", np.random.default_rng((0, number))))
        if method == "louder":  # what a shortcut would look like
            fakes.append(replace(reals[-1], samples=1.7 * reals[-1].samples))
            continue
        other = choose_other(method, takes, person, start, number)
        forgery = forge_window(method, take, other, np.random.default_rng((1, number)))
        assert forgery.method == method
        fakes.append(disguise_window(forgery.scene, method, np.random.default_rng((2, number))))
    auc = compare_windows(reals, fakes)
    assert (auc["low"] > 0.5) == (method == "louder"), auc
