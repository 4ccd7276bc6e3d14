"""The log-mel spectrogram shows a sound where and when it is, and how loud."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dfmm.dataset.spectrogram import LOG_SPREAD, compute_log_mel, place_hertz
from dfmm.sections import Audio


def play(frequency: float, *, seconds: float = 1.0, sample_rate: int = 16_000) -> torch.Tensor:
    return 0.5 * torch.sin(2 * torch.pi * frequency * torch.arange(round(seconds * sample_rate)) / sample_rate)


def locate_bands(audio: Audio) -> np.ndarray:
    """Return the centres of the mel bands in Hz: O'Shaughnessy's mel scale from 20 Hz, in equal steps."""
    low, high = (2595 * np.log10(1 + f / 700) for f in (20, audio.sample_rate / 2))
    return 700 * (10 ** (np.linspace(low, high, audio.n_mels + 2)[1:-1] / 2595) - 1)


def test_there_is_a_frame_for_each_whole_hop() -> None:
    for audio, hop in ((Audio(), 160), (Audio(sample_rate=44_100, n_mels=40, hop_ms=5, window_ms=20), 220)):
        for samples in (audio.sample_rate, audio.sample_rate + hop - 1, 31 * hop):
            log_mel = compute_log_mel(torch.zeros(samples), audio)
            assert log_mel.shape == (1, audio.n_mels, samples // hop)
            assert log_mel.dtype == torch.float32
            assert torch.isfinite(log_mel).all()


@pytest.mark.parametrize("library", ["torchaudio", "librosa"])
@pytest.mark.parametrize(("seconds", "window_ms"), [(0.04, 100), (0.01, 25), (0.03, 1000)])
def test_a_sound_shorter_than_its_analysis_window_has_its_frames(library: str, seconds: float, window_ms: int) -> None:
    audio = Audio(library=library, window_ms=window_ms)
    log_mel = compute_log_mel(play(1_000, seconds=seconds), audio)
    assert log_mel.shape == (1, 64, round(seconds * 100))
    assert torch.isfinite(log_mel).all()
    nearest = int(np.abs(locate_bands(audio) - 1_000).argmin())
    assert abs(int(log_mel[0].mean(dim=1).argmax()) - nearest) <= 2


def test_a_tone_lights_its_own_band() -> None:
    audio = Audio()
    centres = locate_bands(audio)
    for frequency in (300, 440, 1_000, 2_500, 6_000):
        log_mel = compute_log_mel(play(frequency), audio)[0]
        nearest = int(np.abs(centres - frequency).argmin())
        assert all(abs(int(band) - nearest) <= 1 for band in log_mel[:, 5:-5].argmax(dim=0))


@pytest.mark.parametrize("n_mels", [32, 64])
def test_a_tone_lies_where_its_frequency_is_marked(n_mels: int) -> None:
    audio = Audio(n_mels=n_mels)
    tones = (500, 1000, 2000, 4000, 7000)
    lit = [int(compute_log_mel(play(tone), audio)[0, :, 50].argmax()) for tone in tones]
    np.testing.assert_allclose(place_hertz(tones, audio), lit, atol=0.75)


def test_a_click_lands_in_its_own_frame() -> None:
    for at in (3_200, 8_045, 12_345):
        samples = torch.zeros(16_000)
        samples[at] = 1.0
        loudness = compute_log_mel(samples, Audio())[0].mean(dim=0)
        assert int(loudness.argmax()) == round(at / 160)
        assert loudness[round(at / 160) + 3] == loudness.min()


def test_a_louder_sound_is_louder_by_a_known_step_everywhere() -> None:
    torch.manual_seed(0)
    noise = 0.05 * torch.randn(16_000)
    step = compute_log_mel(10 * noise, Audio()) - compute_log_mel(noise, Audio())
    lit = compute_log_mel(noise, Audio()) > 0  # the floor under the logarithm swallows what is faint
    assert lit.float().mean() > 0.9
    assert step[lit].numpy() == pytest.approx(np.log(100) / LOG_SPREAD, abs=1e-3)


def speak(sample_rate: int) -> torch.Tensor:
    """Make a voice-like sound: harmonics of a gliding pitch that swell and fade in syllables."""
    time = torch.arange(round(1.5 * sample_rate), dtype=torch.float64) / sample_rate
    phase = 2 * torch.pi * torch.cumsum(120 + 30 * torch.sin(8 * time), dim=0) / sample_rate
    harmonics = sum(torch.sin(number * phase) / number for number in range(1, 24))
    return (0.1 * harmonics * torch.sin(12 * time) ** 2).float()


@pytest.mark.parametrize(
    "options",
    [{}, {"sample_rate": 44_100, "n_mels": 80}, {"n_mels": 128}, {"sample_rate": 8_000, "window_ms": 32, "hop_ms": 8}],
    ids=str,
)
def test_both_libraries_agree_to_a_ten_thousandth(options: dict) -> None:
    """Of the result's unit, which is 17 dB: that is less than 0.002 dB."""
    one, other = Audio(**options), Audio(**options, library="librosa")
    torch.manual_seed(0)
    rate = one.sample_rate
    for sound in (speak(rate), 0.05 * torch.randn(rate), 1e-4 * torch.randn(rate), torch.zeros(rate)):
        expected, found = compute_log_mel(sound, one), compute_log_mel(sound, other)
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
