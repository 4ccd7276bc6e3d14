"""What the world does to a clip: nothing at strength 0, more and more up to 1, alike for all frames, truly labelled."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from dfmm.dataset.spectrogram import compute_log_mel
from dfmm.degrade import (
    BASIC,
    DEGRADATIONS,
    Scene,
    augment_frames,
    augment_log_mel,
    augment_scene,
    augment_sound,
    change_speed,
    delay_sound,
    draw_offset,
    draw_strength,
    freeze_frame,
    label_sync,
    lower_frame_rate,
    make_scene,
    reverse_time,
)
from dfmm.sections import Audio, Augment

from ..conftest import draw_frames, find_delay, hum

RATE = 16_000
OFF = Augment(flip=0, crop=0, colour=0, noise=0, sound_gain=0, sound_noise=0, pitch=0)
STRONG = Augment(flip=0.5, crop=0.3, colour=0.5, noise=0.1, sound_gain=10, sound_noise=1, pitch=0)


@pytest.fixture
def frames() -> np.ndarray:
    """A window of unlike frames."""
    return np.random.default_rng(0).integers(0, 256, (4, 24, 32, 3), dtype=np.uint8)


@pytest.fixture
def sound() -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, 16_000).astype(np.float32)


# Every degradation of the table

TABLE = {one.name: one for one in DEGRADATIONS}
STRENGTHS = (1 / 3, 2 / 3, 1.0)


@pytest.fixture
def scene() -> Scene:
    """Sixteen frames at 25 fps, a smooth picture that moves, and a voice-like sound with pauses."""
    return make_scene(draw_frames(16, 48, 64), hum(0.64, RATE), sample_rate=RATE)


@pytest.fixture
def log_mel(scene: Scene) -> torch.Tensor:
    return compute_log_mel(torch.from_numpy(scene.samples), Audio())


def degrade(name: str, given: Any, strength: float, seed: int = 0) -> Any:
    return TABLE[name].apply(given, strength, np.random.default_rng(seed))


def list_arrays(given: Any) -> dict[str, np.ndarray]:
    """Return what a scene or a log-mel holds."""
    if isinstance(given, torch.Tensor):
        return {"log_mel": given.numpy()}
    return {name: np.asarray(value) for name, value in vars(given).items()}


def give(name: str, scene: Scene, log_mel: torch.Tensor) -> Any:
    return log_mel if TABLE[name].stream == "log_mel" else scene


@pytest.mark.parametrize("name", TABLE)
def test_strength_zero_is_the_identity_and_any_other_changes_its_stream_only(
    name: str, scene: Scene, log_mel: torch.Tensor
) -> None:
    given = give(name, scene, log_mel)
    before = {key: value.copy() for key, value in list_arrays(given).items()}
    same, once, twice = (list_arrays(degrade(name, given, strength, seed=3)) for strength in (0, 0.5, 0.5))
    untouched = {"picture": {"samples", "sound_mask", "hears"}, "sound": {"frames", "frame_mask", "shows"}}
    for key, value in list_arrays(given).items():
        np.testing.assert_array_equal(value, before[key])  # what was given is not written to
        np.testing.assert_array_equal(same[key], before[key])
        np.testing.assert_array_equal(once[key], twice[key])
        assert (once[key].shape, once[key].dtype) == (value.shape, value.dtype)
        if key in untouched.get(TABLE[name].stream, ()):
            np.testing.assert_array_equal(once[key], before[key])
    assert any(not np.array_equal(once[key], before[key]) for key in before)


@pytest.mark.parametrize("name", [name for name, one in TABLE.items() if one.stream == "picture" and one.keyword])
def test_a_picture_is_the_further_from_what_it_was_the_stronger(name: str, scene: Scene) -> None:
    def measure_psnr(strength: float) -> float:
        shown = degrade(name, scene, strength).frames.astype(float)
        return 10 * np.log10(255**2 / np.mean((shown - scene.frames) ** 2))

    strengths = (0.1, *STRENGTHS)
    found = [measure_psnr(strength) for strength in strengths]
    assert found == sorted(found, reverse=True)
    assert found[-1] < found[0] - 5


@pytest.mark.parametrize("name", [name for name, one in TABLE.items() if one.stream == "picture"])
def test_only_what_is_seen_is_degraded_and_all_of_it_alike(name: str, scene: Scene) -> None:
    still = replace(scene, frames=np.repeat(scene.frames[:1], 16, axis=0))
    still.frames[4:7], still.frame_mask[4:7] = 0, False
    shown = degrade(name, still, 0.7).frames
    assert not shown[4:7].any()
    if name not in ("noise", "h264"):  # a sensor's noise is new in each frame, and so is what a coder adds to the last
        np.testing.assert_array_equal(shown[still.frame_mask], np.repeat(shown[:1], 13, axis=0))
    unseen = replace(still, frame_mask=np.zeros(16, bool))
    assert degrade(name, unseen, 0.7) is unseen


@pytest.mark.parametrize("name", [name for name, one in TABLE.items() if one.stream == "sound"])
def test_silence_stays_silent(name: str, scene: Scene) -> None:
    silent = replace(scene, samples=np.zeros_like(scene.samples))
    assert not degrade(name, silent, 0.9).samples.any()


def test_what_is_out_of_range_is_refused() -> None:
    for name, strength in (("jpeg", 1.1), ("jpeg", -0.1), ("pitch", -1.1)):
        with pytest.raises(ValueError, match=rf"{name}: expected a strength from .* got {strength}"):
            TABLE[name].measure(strength)
    assert [round(TABLE["pitch"].measure(s), 6) for s in (-1, 0, 0.5)] == [-6, 0, 3]
    assert TABLE["time_stretch"].measure(-1) == pytest.approx(1 / 1.5)


def test_bands_and_steps_of_a_log_mel_are_hidden_behind_its_mean(log_mel: torch.Tensor) -> None:
    _, bands, steps = log_mel.shape
    starts = set()
    for seed in range(20):
        hidden = degrade("spec_augment", log_mel, 0.5, seed)
        changed = (hidden != log_mel)[0]
        assert changed.all(dim=1).sum() == round(0.25 * bands)
        assert changed.all(dim=0).sum() == round(0.25 * steps)
        assert torch.equal(hidden[0][changed], log_mel.mean().expand(int(changed.sum())))
        starts.add((int(changed.all(dim=1).int().argmax()), int(changed.all(dim=0).int().argmax())))
    assert len(starts) > 15


# Time: what belongs together stays together, or the labels say so


def flash_and_click(step: int) -> Scene:
    """A scene in which one frame is bright, and in the middle of its time a tone is heard."""
    frames = np.full((16, 8, 8, 3), 20, np.uint8)
    frames[step] = 200
    time = np.arange(10_240) / RATE
    burst = np.exp(-(((time - (step + 0.5) / 25) / 0.01) ** 2)) * np.sin(2 * np.pi * 1000 * time)
    return make_scene(frames, burst.astype(np.float32), sample_rate=RATE)


def find_flash_and_click(scene: Scene) -> tuple[float, float]:
    """Return when the middle of the flash is seen and of the tone heard, in seconds."""
    bright = np.flatnonzero(scene.frames.mean(axis=(1, 2, 3)) > 100)
    energy = scene.samples.astype(float) ** 2
    return (bright.mean() + 0.5) / 25, float((energy * np.arange(10_240)).sum() / energy.sum() / RATE)


@pytest.mark.parametrize("name", ["reverse", "time_stretch"])
def test_what_is_seen_and_heard_at_once_still_is(name: str) -> None:
    for step in (2, 6, 9):
        for strength in (0.4, 1.0) if name == "reverse" else (-1.0, -0.4, 0.4, 1.0):
            moved = degrade(name, flash_and_click(step), strength)
            seen, heard = find_flash_and_click(moved)
            assert seen == pytest.approx(heard, abs=0.03)  # half a frame, and what the phase vocoder smears
            speed = TABLE[name].measure(strength)
            expected = 0.64 - (step + 0.5) / 25 if name == "reverse" else (step + 0.5) / 25 / speed
            assert heard == pytest.approx(expected, abs=0.015)
            np.testing.assert_allclose(moved.lag, 0, atol=1e-9)
            assert label_sync(IN_SYNC, moved) == IN_SYNC


def test_the_end_of_what_is_faster_is_masked_and_of_what_is_slower_cut() -> None:
    scene = flash_and_click(1)
    fast, slow = (change_speed(scene, speed=speed) for speed in (1.5, 0.75))
    assert fast.frame_mask.tolist() == fast.sound_mask.tolist() == [True] * 11 + [False] * 5
    assert not fast.frames[11:].any()
    assert not fast.samples[round(10_240 / 1.5) :].any()
    assert slow.frame_mask.all()
    assert slow.sound_mask.all()
    assert slow.shows.max() == pytest.approx(11.125 / 25)
    assert change_speed(delay_sound(scene, seconds=0.3), speed=1.5).lag == pytest.approx(-0.2)


@pytest.mark.parametrize("seconds", [-0.2, -0.08, 0.04, 0.32])
def test_a_late_sound_is_as_late_as_asked_and_its_absence_is_masked(scene: Scene, seconds: float) -> None:
    late = delay_sound(scene, seconds=seconds)
    assert find_delay(late.samples, scene.samples) == round(seconds * RATE)
    np.testing.assert_array_equal(late.frames, scene.frames)
    np.testing.assert_allclose(late.lag, -seconds, atol=1e-9)
    steps = round(abs(seconds) * 25)
    assert (~late.sound_mask).sum() == steps
    assert not late.sound_mask[:steps].any() if seconds > 0 else not late.sound_mask[16 - steps :].any()


def test_a_sound_later_than_its_window_is_long_is_gone(scene: Scene) -> None:
    for seconds in (5.0, -5.0):
        late = delay_sound(scene, seconds=seconds)
        assert not late.samples.any()
        assert not late.sound_mask.any()


IN_SYNC = {"label": 0, "video_fake": 0, "audio_fake": 0, "in_sync": 1}


@pytest.mark.parametrize(
    ("seconds", "in_sync"), [(-0.3, 0), (-0.05, 0), (-0.04, 1), (0.0, 1), (0.12, 1), (0.13, 0), (0.4, 0)]
)
def test_an_offset_that_one_would_notice_is_labelled(scene: Scene, seconds: float, in_sync: int) -> None:
    """ITU-R BT.1359: sound is noticed 45 ms early and 125 ms late."""
    late = delay_sound(scene, seconds=seconds)
    assert label_sync(IN_SYNC, late) == {**IN_SYNC, "in_sync": in_sync, "label": 1 - in_sync}
    assert label_sync({**IN_SYNC, "in_sync": -1}, late)["in_sync"] == -1
    # Played backwards, what came late comes early.
    assert label_sync(IN_SYNC, reverse_time(late)) == label_sync(IN_SYNC, delay_sound(scene, seconds=-seconds))
    np.testing.assert_allclose(reverse_time(late).lag, seconds, atol=1e-9)
    np.testing.assert_allclose(delay_sound(reverse_time(scene), seconds=seconds).lag, -seconds, atol=1e-9)


def test_frames_are_held_at_a_lower_rate_and_the_sound_goes_on(scene: Scene) -> None:
    half = lower_frame_rate(scene, share=0.5)
    np.testing.assert_array_equal(half.frames, scene.frames[np.arange(16) // 2 * 2])
    np.testing.assert_allclose(half.lag, np.arange(16) % 2 / 25, atol=1e-9)
    assert label_sync(IN_SYNC, half) == IN_SYNC  # late by 40 ms at most
    counts = [len(np.unique(degrade("frame_rate", scene, s).frames, axis=0)) for s in (0, 0.1, *STRENGTHS)]
    assert counts == [16, 14, 12, 8, 4]
    assert label_sync(IN_SYNC, degrade("frame_rate", scene, 1.0)) == {**IN_SYNC, "in_sync": -1}


def test_a_frozen_frame_stands_for_the_asked_share_and_the_rest_is_on_time(scene: Scene) -> None:
    for seed in range(10):
        frozen = freeze_frame(scene, share=0.5, rng=np.random.default_rng(seed))
        held = (frozen.frames[1:] == frozen.frames[:-1]).all(axis=(1, 2, 3))
        assert held.sum() == 8
        assert np.ptp(np.flatnonzero(held)) == 7  # in one piece
        moving = frozen.lag == 0
        assert moving.sum() == 8
        np.testing.assert_array_equal(frozen.frames[moving], scene.frames[moving])
        np.testing.assert_array_equal(frozen.samples, scene.samples)
        assert label_sync(IN_SYNC, frozen) == {**IN_SYNC, "in_sync": -1}


def test_lost_frames_are_masked_and_those_of_a_weaker_loss_among_them(scene: Scene) -> None:
    lost = [~degrade("drop_frames", scene, strength).frame_mask for strength in STRENGTHS]
    assert [int(mask.sum()) for mask in lost] == [4, 8, 12]
    assert (lost[0] <= lost[1]).all()
    assert (lost[1] <= lost[2]).all()
    shown = degrade("drop_frames", scene, 1.0)
    assert not shown.frames[lost[2]].any()
    np.testing.assert_array_equal(shown.frames[~lost[2]], scene.frames[~lost[2]])
    assert label_sync(IN_SYNC, shown) == IN_SYNC


# What training draws

DRAWN = {one.name: one for one in DEGRADATIONS if one.name in Augment.model_fields and one.name not in BASIC}


def draw_from(seed: int) -> Callable[[int], np.random.Generator]:
    return lambda number: np.random.default_rng((seed, number))


def test_every_degradation_has_a_setting_and_its_meaning_is_the_tables() -> None:
    assert {one.setting or one.name for one in DEGRADATIONS} - set(BASIC) == set(DRAWN)
    assert {*DRAWN, *BASIC, "drop_stream", "chance"} == set(Augment.model_fields)
    for name, one in DRAWN.items():
        field = Augment.model_fields[name]
        assert field.default == 0
        assert not one.keyword or f"{one.severe:g} {one.unit.removesuffix(' late')}" in field.description


def test_what_one_draws_does_not_depend_on_what_else_is_drawn(scene: Scene) -> None:
    def show(**largest: float) -> Scene:
        return augment_scene(scene, Augment(chance=0.7, **largest), draw_from(5))

    for seed in range(6):
        alone = [draw_strength(TABLE["jpeg"], Augment(jpeg=1, blur=b), np.random.default_rng(seed)) for b in (0, 1)]
        assert alone[0] == alone[1]
    cut, cut_and_more = show(cutout=1.0), show(cutout=1.0, drop_frames=1.0, freeze=0.5, mp3=1.0)
    covered = (cut.frames != scene.frames).any(axis=(0, 3))
    assert covered.any()
    both = cut_and_more.frame_mask & (cut_and_more.lag == 0)
    assert both.any()
    np.testing.assert_array_equal(cut_and_more.frames[both][:, ~covered], scene.frames[both][:, ~covered])
    assert (cut_and_more.frames[both][:, covered] != scene.frames[both][:, covered]).any()


@pytest.mark.parametrize("name", DRAWN)
def test_a_degradation_is_drawn_as_often_and_as_strongly_as_asked(name: str) -> None:
    one, rng = DRAWN[name], np.random.default_rng(0)
    augment = Augment(chance=0.4, **{name: 0.6})
    drawn = np.array([draw_strength(one, augment, rng) for _ in range(2_000)])
    if not one.keyword:
        assert set(drawn) == {0.0, 1.0}
        assert drawn.mean() == pytest.approx(0.6, abs=0.04)
        return
    assert (drawn != 0).mean() == pytest.approx(0.4, abs=0.04)
    assert np.abs(drawn).max() == pytest.approx(0.6, abs=0.01)
    assert np.abs(drawn[drawn != 0]).mean() == pytest.approx(0.3, abs=0.02)
    assert (drawn < 0).mean() == pytest.approx(0.2 if one.two_sided else 0, abs=0.03)
    assert not any(draw_strength(one, Augment(**{name: 1.0}, chance=0.0), rng) for _ in range(50))


def test_the_draws_of_a_window_are_their_own_generators(scene: Scene, log_mel: torch.Tensor) -> None:
    """Each is asked for once, none twice, and none that is off."""
    asked: list[int] = []

    def draw(number: int) -> np.random.Generator:
        asked.append(number)
        return np.random.default_rng(number)

    assert augment_scene(scene, Augment(), draw) is scene
    assert augment_log_mel(log_mel, Augment(), draw) is log_mel
    assert not asked
    everything = Augment(chance=1, **dict.fromkeys(DRAWN, 0.3))
    augment_scene(scene, everything, draw)
    augment_log_mel(log_mel, everything, draw)
    draw_offset(everything, draw)
    assert len(asked) == len(set(asked)) == len(DRAWN)
    assert min(asked) > 10  # the dataset's own are 0 to 3


# What training has always drawn


def test_at_strength_zero_nothing_changes(frames: np.ndarray, sound: np.ndarray) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        np.testing.assert_array_equal(augment_frames(frames, OFF, rng), frames)
        np.testing.assert_array_equal(augment_sound(sound, OFF, rng, sample_rate=RATE), sound)


def test_one_draw_is_for_all_frames_of_a_window(frames: np.ndarray) -> None:
    static = np.repeat(frames[:1], 4, axis=0)
    smooth = STRONG.model_copy(update={"noise": 0.0})
    results = [augment_frames(static, smooth, np.random.default_rng(seed)) for seed in range(8)]
    for result in results:
        np.testing.assert_array_equal(result, np.repeat(result[:1], 4, axis=0))
    assert len({result.tobytes() for result in results}) == 8
    assert (np.ptp(augment_frames(static, STRONG, np.random.default_rng(0)), axis=0) > 0).any()  # a sensor's noise


def test_a_flip_mirrors_left_and_right_as_often_as_asked(frames: np.ndarray) -> None:
    always, half = OFF.model_copy(update={"flip": 1.0}), OFF.model_copy(update={"flip": 0.25})
    np.testing.assert_array_equal(augment_frames(frames, always, np.random.default_rng(0)), frames[:, :, ::-1])
    rng = np.random.default_rng(0)
    flipped = [not np.array_equal(augment_frames(frames, half, rng), frames) for _ in range(400)]
    assert np.mean(flipped) == pytest.approx(0.25, abs=0.07)


def test_the_same_generator_gives_the_same_result(frames: np.ndarray, sound: np.ndarray) -> None:
    hear = functools.partial(augment_sound, sample_rate=RATE)
    for function, given in ((augment_frames, frames), (hear, sound)):
        before = given.copy()
        first, second, other = (function(given, STRONG, np.random.default_rng(seed)) for seed in (3, 3, 4))
        np.testing.assert_array_equal(first, second)
        assert not np.array_equal(first, other)
        assert first.dtype == given.dtype
        np.testing.assert_array_equal(given, before)  # what was given is not written to


def test_loudness_changes_within_its_range_and_nothing_else(sound: np.ndarray) -> None:
    louder = Augment(sound_gain=6, sound_noise=0)
    rng = np.random.default_rng(0)
    gains = []
    for _ in range(200):
        changed = augment_sound(sound, louder, rng, sample_rate=RATE)
        gains.append(20 * np.log10(np.abs(changed).max() / np.abs(sound).max()))
        np.testing.assert_allclose(changed, sound * 10 ** (gains[-1] / 20), rtol=1e-4)
    assert -6 <= min(gains) < -5
    assert 5 < max(gains) <= 6
