"""Forgeries of real clips: they change what they say, and where they say."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.signal import stft

from dfmm.degrade import label_sync, make_scene
from dfmm.faces.crops import TEMPLATE
from dfmm.forge import METHODS, Forgery, Take, choose_donors, disguise_window, draw_moment, forge_window
from dfmm.forge.frames import (
    OUTLINES,
    Jitter,
    blend_face,
    change_frames,
    disguise_frames,
    draw_jitter,
    draw_mask,
    draw_outline,
    fit_similarities,
    lay_mask,
    place_face,
    replace_mouth,
)
from dfmm.forge.sound import BANDS, Vocoder, draw_vocoder, find_silence, hush, splice, vocode
from tests.conftest import hum, sing

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


def test_face_and_mask_are_moved_together(landmarks: np.ndarray) -> None:
    spot = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    cv2.circle(spot[0], (SIZE // 2, SIZE // 2), 6, (255, 255, 255), -1)
    ways = []
    for seed in range(30):
        forged, masks, _ = blend_face(spot, landmarks[:1], np.random.default_rng(seed), part="inner")
        if masks.max() > 0.99:  # nothing of the spot stays where it was
            ways.append([find_middle(forged[0].min(axis=-1) > 100), find_middle(masks[0])])
    spots, middles = np.moveaxis(ways, 1, 0)
    assert spots.std(axis=0).min() > 0.5  # pixels
    moved = [(found - found.mean(axis=0)).ravel() for found in (spots, middles)]
    assert np.corrcoef(*moved)[0, 1] > 0.8


def find_middle(weights: np.ndarray) -> np.ndarray:
    """Return the centre of gravity of a picture, x and y."""
    y, x = np.indices(weights.shape)
    return np.array([(weights * x).sum(), (weights * y).sum()]) / weights.sum()


def test_copies_are_coarser_or_sharper_and_on_the_average_of_no_other_colour(frames: np.ndarray) -> None:
    drawn = [draw_jitter(np.random.default_rng(seed)) for seed in range(400)]
    np.testing.assert_allclose(np.mean([one.matrix[:, :3] for one in drawn], axis=0), np.eye(3), atol=0.03)
    assert np.abs(np.mean([one.matrix[:, 3] for one in drawn], axis=0)).max() < 3  # grey levels
    greys = [one.matrix @ [128, 128, 128, 1] for one in drawn]
    assert 10 < np.abs(np.subtract(greys, 128)).max() < 40
    plain = Jitter(np.eye(3, 4, dtype=np.float32), 1.0, 0.0)
    given = measure_detail(frames)
    for one in drawn[:40]:
        changed = change_frames(frames[:1].astype(np.float32), replace(plain, scale=one.scale, sharpness=one.sharpness))
        assert (measure_detail(changed) < given) == (one.scale < 1) == (one.sharpness == 0)
    assert 0.5 < np.mean([one.scale < 1 for one in drawn]) < 0.7


def measure_detail(frames: np.ndarray) -> float:
    return float(np.mean(cv2.Laplacian(frames[0].astype(np.float32), cv2.CV_32F) ** 2))


def test_what_leaves_unforged_is_changed_as_a_whole_or_not_at_all(frames: np.ndarray) -> None:
    small = frames[:1, :12, :12]
    left = [np.array_equal(disguise_frames(small, np.random.default_rng(seed)), small) for seed in range(400)]
    assert 0.3 < np.mean(left) < 0.45  # half are recoloured, a quarter are shifted
    flat = np.full((2, 32, 32, 3), 120, np.uint8)
    for seed in range(20):
        done = disguise_frames(flat, np.random.default_rng(seed))
        assert np.ptp(done, axis=(0, 1, 2)).max() == 0  # no seam


def test_whoever_was_not_blended_is_disguised(frames: np.ndarray, landmarks: np.ndarray, voice: np.ndarray) -> None:
    scene = make_take(frames, landmarks, voice).scene
    for method in ("real", *METHODS):
        left = [disguise_window(scene, method, np.random.default_rng(seed)) for seed in range(8)]
        changed = [not np.array_equal(one.frames, frames) for one in left]
        assert any(changed) == (method not in ("self_blend", "patch"))
        assert all(one.samples is scene.samples for one in left)


def test_where_parts_are_resampled_coarsely_some_of_the_rest_is_as_a_whole(frames: np.ndarray) -> None:
    scene = make_scene(frames[:1], np.zeros(1280, np.float32), sample_rate=RATE)
    plain, coarse = (
        [disguise_window(scene, "real", np.random.default_rng(seed), coarse=coarse).frames for seed in range(100)]
        for coarse in (False, True)
    )
    changed = [not np.array_equal(*pair) for pair in zip(plain, coarse, strict=True)]
    assert 0.15 < np.mean(changed) < 0.45
    for seed in np.flatnonzero(changed)[:5]:
        left = disguise_window(scene, "patch", np.random.default_rng(seed), coarse=True)
        np.testing.assert_array_equal(left.frames, frames[:1])


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


def test_a_mouth_is_as_bright_as_what_it_stands_for_and_coarser(frames: np.ndarray, landmarks: np.ndarray) -> None:
    for seed in range(5):
        forged, masks = replace_mouth(frames, landmarks, frames // 2, landmarks, np.random.default_rng(seed))
        there = masks > 0.9
        assert forged[there].mean() == pytest.approx(frames[there].mean(), rel=0.06)
        inside = forged[0][there[0]], frames[0][there[0]]
        assert np.diff(inside[0].astype(int), axis=0).std() < 0.9 * np.diff(inside[1].astype(int), axis=0).std()


def test_where_the_other_picture_ends_a_mouth_has_no_black_border(landmarks: np.ndarray) -> None:
    flat = np.full((T, SIZE, SIZE, 3), 120, np.uint8)
    beyond = np.add(landmarks, [0, 0.3 * SIZE])  # of the other face only the upper half is in the picture
    forged, _ = replace_mouth(flat, landmarks, flat, beyond, np.random.default_rng(0))
    assert np.abs(forged.astype(int) - 120).max() < 8


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


def test_fewer_bands_leave_less_of_a_voice_and_none_makes_it_peakier() -> None:
    voice = hum(0.5, RATE)
    lost = []
    for bands in (0, 40):
        made = vocode(voice, Vocoder(1024, bands, 20, seed=0), sample_rate=RATE)
        given, left = (np.abs(stft(sound, nperseg=1024)[2]) for sound in (voice, made))
        lost.append(np.linalg.norm(left - given) / np.linalg.norm(given))
        assert np.abs(made).max() < 1.05 * np.abs(voice).max()
    assert lost[1] > 1.5 * lost[0]


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
    "patch": {"label": 1, "video_fake": 1, "audio_fake": 0, "in_sync": 1},
    "redraw": {"label": 1, "video_fake": 1, "audio_fake": 0, "in_sync": 1},
    "mouth": {"label": 1, "video_fake": 1, "audio_fake": 0, "in_sync": -1},  # out of step for a part of the window
    "vocoder": {"label": 1, "video_fake": 0, "audio_fake": 1, "in_sync": 1},
    "predict": {"label": 1, "video_fake": 0, "audio_fake": 1, "in_sync": 1},
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


def test_a_blend_leaves_frames_alone_in_which_the_face_is_not_known(
    frames: np.ndarray, landmarks: np.ndarray, voice: np.ndarray
) -> None:
    landmarks[[0, 3]] = np.nan
    forgery = forge_window("self_blend", make_take(frames, landmarks, voice), None, np.random.default_rng(0))
    changed = (forgery.scene.frames != frames).any(axis=(1, 2, 3))
    assert changed.tolist() == [False, True, True, False, True, True]
    assert forgery.video_segment == pytest.approx((1 / 12.5, 6 / 12.5))
    np.testing.assert_array_equal(forgery.plain.frames[[0, 3]], frames[[0, 3]])


def test_another_clips_sound_is_as_loud_and_ends_where_the_own_does(
    frames: np.ndarray, landmarks: np.ndarray, voice: np.ndarray
) -> None:
    other = make_take(frames, landmarks, 0.3 * voice[::-1].copy())
    voice[-1500:] = 0
    take = make_take(frames, landmarks, voice)
    made = forge_window("swap", take, other, np.random.default_rng(0)).scene.samples
    assert not made[-1500:].any()
    assert np.std(made) == pytest.approx(np.std(voice), rel=1e-3)
    short = replace(other.scene, sound_mask=np.arange(T) < 3)  # it ends before the own one
    assert forge_window("swap", take, replace(other, scene=short), np.random.default_rng(0)).method == "real"


def test_a_delay_says_which_moments_are_heard(frames: np.ndarray, landmarks: np.ndarray, voice: np.ndarray) -> None:
    take, other = (make_take(frames, landmarks, voice, at=at) for at in (1.0, 1.4))
    scene = forge_window("delay", take, other, np.random.default_rng(0)).scene
    np.testing.assert_allclose(scene.lag, 0.4)
    np.testing.assert_array_equal(scene.shows, take.scene.shows)


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


# Of whom, and when


def test_donors_are_other_reals_and_other_people_first() -> None:
    identities = pd.Series(["ann", "ann", "bob", "bob|cat", "dan", "eve"])
    reals, drawn = np.array([0, 1, 2, 4]), set()
    for seed in range(40):
        donors = choose_donors(identities, reals, 0, np.random.default_rng(seed))
        drawn |= set(donors)
        same = [identities[number] == "ann" for number in donors]
        assert same == sorted(same)
    assert drawn == {1, 2, 4}  # not itself, no fake


def test_another_moment_is_far_enough_to_be_noticed_and_within_the_clip() -> None:
    drawn = [draw_moment(1.0, [(0.5, 2.0)], np.random.default_rng(seed), farthest=0.6) for seed in range(200)]
    far = np.subtract(drawn, 1.0)
    assert np.abs(far).min() >= 0.2  # from there on anybody notices
    assert far.min() >= -0.5
    assert far.max() <= 0.6
    assert 0.45 < np.mean(far > 0) < 0.7  # 0.3 s of room before, 0.4 s after
    assert draw_moment(1.0, [(0.9, 1.1)], np.random.default_rng(0)) is None
    places = [draw_moment(1.0, [(0.9, 1.4), (7.0, 7.6)], np.random.default_rng(seed)) for seed in range(200)]
    assert all(1.2 <= at <= 1.4 or 7.0 <= at <= 7.6 for at in places)
    assert np.mean([at < 2 for at in places]) == pytest.approx(0.25, abs=0.1)
