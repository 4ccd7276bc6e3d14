"""Sounds change as they were asked to, and what happens when stays when."""

from __future__ import annotations

import numpy as np
import pytest

from dfmm.degrade import augment_sound
from dfmm.degrade.sound import (
    add_sound_noise,
    compress_sound,
    find_clicks,
    limit_band,
    reverberate,
    shift_pitch,
    stretch_time,
)
from dfmm.sections import Augment

from ..conftest import find_delay, hum

RATE = 16_000


@pytest.fixture
def sound() -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, 16_000).astype(np.float32)


def test_sound_noise_has_the_ratio_that_was_asked(sound: np.ndarray) -> None:
    for ratio in (0, 20, 35):
        noise = add_sound_noise(sound, snr=ratio, rng=np.random.default_rng(1)) - sound
        assert 10 * np.log10(np.mean(sound**2) / np.mean(noise**2)) == pytest.approx(ratio, abs=0.2)
    silence = np.zeros(100, np.float32)
    np.testing.assert_array_equal(add_sound_noise(silence, snr=10, rng=np.random.default_rng(0)), silence)


def play(frequency: float, seconds: float = 0.64) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def find_pitch(sound: np.ndarray) -> float:
    """Return the frequency of a tone, in Hz, to a fraction of a cent."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 1 << 18))
    return spectrum.argmax() * RATE / (1 << 18)


@pytest.mark.parametrize("semitones", [-12, -3.3, -0.4, 0.4, 3.3, 12])
def test_a_tone_moves_by_the_semitones_that_were_asked_and_nothing_else_does(semitones: float) -> None:
    tone = play(500)
    shifted = shift_pitch(tone, semitones=semitones, sample_rate=RATE)
    assert (shifted.shape, shifted.dtype) == (tone.shape, tone.dtype)
    assert 12 * np.log2(find_pitch(shifted[2_000:-2_000]) / 500) == pytest.approx(semitones, abs=0.02)
    assert np.sqrt(np.mean(shifted**2)) == pytest.approx(np.sqrt(np.mean(tone**2)), rel=1e-3)
    time = np.arange(len(tone)) / RATE
    for at in (0.15, 0.3, 0.5):
        burst = shift_pitch(
            tone * np.exp(-(((time - at) / 0.02) ** 2)).astype(np.float32), semitones=semitones, sample_rate=RATE
        )
        centre = np.sum(time * burst**2) / np.sum(burst**2)
        assert centre == pytest.approx(at, abs=0.002)  # a frame is 0.032


@pytest.mark.parametrize("semitones", [-12, -7, -3, -1, 1, 3, 7, 12])
@pytest.mark.parametrize("beside", [0.0, 1.0])
def test_a_click_stays_when_it_was_whatever_the_pitch(semitones: float, beside: float) -> None:
    for at in (0.21, 0.3, 0.456):
        sound = beside * hum(0.64, RATE)
        sound[round(at * RATE)] += 0.9
        shifted = shift_pitch(sound.astype(np.float32), semitones=semitones, sample_rate=RATE)
        assert np.abs(shifted).argmax() / RATE == pytest.approx(at, abs=0.002)


def measure_loudness(sound: np.ndarray, seconds: float) -> np.ndarray:
    window = np.hanning(round(seconds * RATE))
    return np.sqrt(np.convolve(sound.astype(float) ** 2, window / window.sum(), "same"))


@pytest.mark.parametrize("semitones", [-12, -7, 3, 12])
def test_tones_and_syllables_begin_and_end_when_they_did(semitones: float) -> None:
    time = np.arange(RATE) / RATE
    for pitch, first, last in ((220, 0.3, 0.6), (500, 0.311, 0.5)):
        tone = np.where((time >= first) & (time < last), 0.4 * np.sin(2 * np.pi * pitch * time), 0).astype(np.float32)
        loud = [
            measure_loudness(sound, 0.01) for sound in (tone, shift_pitch(tone, semitones=semitones, sample_rate=RATE))
        ]
        ends = [np.flatnonzero(level > 0.5 * level.max())[[0, -1]] / RATE for level in loud]
        np.testing.assert_allclose(*ends, atol=0.002)
    voice = hum(1.0, RATE)
    shifted = shift_pitch(voice, semitones=semitones, sample_rate=RATE)
    before, after = (measure_loudness(sound, 0.02) for sound in (voice, shifted))
    assert abs(find_delay(after - after.mean(), before - before.mean())) <= 0.002 * RATE


def test_of_the_old_pitch_nothing_is_left() -> None:
    """A voice is made as loud as it was over 20 ms: over 10 ms, a quarter of it would keep its pulses."""
    time = np.arange(RATE) / RATE
    voice = sum(np.sin(2 * np.pi * 100 * n * time) / n for n in range(1, 40)).astype(np.float32) / 10
    shifted = shift_pitch(voice, semitones=7, sample_rate=RATE)
    power = np.abs(np.fft.rfft(shifted * np.hanning(RATE))) ** 2
    pitch = 100 * 2 ** (7 / 12)
    apart = np.abs(np.fft.rfftfreq(RATE, 1 / RATE) / pitch % 1 - 0.5) * pitch < pitch / 2 - 12
    assert 10 * np.log10(power[apart].sum() / power.sum()) < -22


def test_a_voice_is_shifted_as_a_whole() -> None:
    """What is taken for clicks, and keeps its pitch, is little of it."""
    voice = hum(0.64, RATE)
    assert np.std(find_clicks(voice, sample_rate=RATE)) < 0.15 * np.std(voice)


def test_the_shift_is_drawn_evenly_up_to_its_largest() -> None:
    tone, only = play(500), Augment(sound_gain=0, pitch=2.0)
    shifts = []
    for seed in range(60):
        shifted = augment_sound(tone, only, np.random.default_rng(seed), sample_rate=RATE)
        shifts.append(12 * np.log2(find_pitch(shifted[2_000:-2_000]) / 500))
    assert -2.03 < min(shifts) < -1.6
    assert 1.6 < max(shifts) < 2.03
    assert abs(np.mean(shifts)) < 0.45
    silence = np.zeros(10_240, np.float32)
    np.testing.assert_array_equal(shift_pitch(silence, semitones=3, sample_rate=RATE), silence)


def measure_snr(heard: np.ndarray, meant: np.ndarray) -> float:
    return 10 * np.log10(np.mean(meant**2) / np.mean((heard - meant) ** 2))


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 48_000])
@pytest.mark.parametrize("codec", ["mp3", "aac", "opus"])
def test_a_coder_delays_nothing_and_costs_the_more_the_fewer_bits_it_has(codec: str, rate: int) -> None:
    voice = hum(0.64, rate)
    ratios = []
    for kilobits in (64, 24, 8):
        heard = compress_sound(voice, codec=codec, kilobits=kilobits, sample_rate=rate)
        assert (heard.shape, heard.dtype) == (voice.shape, voice.dtype)
        assert abs(find_delay(heard, voice)) <= 2 * rate / 8_000
        assert np.abs(heard[-rate // 20 :]).max() > 0.2 * np.abs(voice[-rate // 20 :]).max()  # to its end
        ratios.append(measure_snr(heard, voice))
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] > ratios[-1] + 3


@pytest.mark.parametrize(("side", "limits"), [("low", (100, 300, 1_000)), ("high", (3_500, 2_000, 1_000))])
def test_a_band_ends_where_it_was_asked_to_and_nothing_is_delayed(side: str, limits: tuple[int, ...]) -> None:
    click = np.zeros(10_240, np.float32)
    click[5_000] = 1
    frequencies = np.fft.rfftfreq(len(click), 1 / RATE)
    widths = []
    for limit in limits:
        heard = limit_band(click, sample_rate=RATE, **{side: limit})
        spectrum = np.abs(np.fft.rfft(heard))
        assert np.interp(limit, frequencies, spectrum) == pytest.approx(0.5, abs=0.02)  # 3 dB each way
        outside = limit / 2 if side == "low" else min(limit * 2, RATE / 2)
        assert np.interp(outside, frequencies, spectrum) < 0.01
        assert np.abs(heard).argmax() == 5_000
        widths.append((spectrum > 0.5).sum())
    assert widths == sorted(widths, reverse=True)
    np.testing.assert_array_equal(limit_band(click, sample_rate=RATE, low=9_000, high=8_000), click)


@pytest.mark.parametrize("seconds", [0.2, 0.5, 1.0])
def test_echoes_fall_by_60_db_in_the_time_that_was_asked(seconds: float) -> None:
    click = np.zeros(32_000, np.float32)
    click[1_000] = 1
    room = reverberate(click, seconds=seconds, sample_rate=RATE, rng=np.random.default_rng(0))
    assert np.abs(room).argmax() == 1_000  # the direct sound comes first, and when it came
    assert not np.abs(room[:1_000]).max() > 1e-6
    decay = 10 * np.log10(np.cumsum(room[1_001:][::-1] ** 2)[::-1] + 1e-30)  # Schroeder 1965
    decay -= decay[0]
    early, late = np.searchsorted(-decay, (5, 25))
    assert 3 * (late - early) / RATE == pytest.approx(seconds, rel=0.15)
    assert np.mean(room**2) == pytest.approx(np.mean(click**2), rel=1e-3)
    assert np.sum(room[1_001:] ** 2) / room[1_000] ** 2 == pytest.approx(seconds / 0.5, rel=0.15)


@pytest.mark.parametrize("speed", [1 / 1.5, 0.9, 1.2, 1.5])
def test_a_stretched_sound_lasts_as_long_and_sounds_as_high_as_asked(speed: float) -> None:
    tone = play(500)
    stretched = stretch_time(tone, speed=speed, sample_rate=RATE)
    assert len(stretched) == round(len(tone) / speed)
    assert find_pitch(stretched[1_500:-1_500]) == pytest.approx(500, rel=0.003)
    assert np.sqrt(np.mean(stretched**2)) == pytest.approx(np.sqrt(np.mean(tone**2)), rel=1e-3)
    time = np.arange(len(tone)) / RATE
    for at in (0.1, 0.3, 0.55):
        burst = stretch_time(
            tone * np.exp(-(((time - at) / 0.02) ** 2)).astype(np.float32), speed=speed, sample_rate=RATE
        )
        moments = np.arange(len(burst)) / RATE
        assert np.sum(moments * burst**2) / np.sum(burst**2) == pytest.approx(at / speed, abs=0.015)  # a frame is 0.04
