"""Waveform → log-mel spectrogram."""

from __future__ import annotations

import functools
import warnings

import torch
from torchaudio.transforms import MelSpectrogram

from dfmm.settings import Audio

# Log-mel energies of speech at usual levels lie between about −14 (silence) and 6;
# this brings them near zero mean and unit spread, the same for every clip, so loudness is kept.
LOG_MEAN, LOG_SPREAD = -5.0, 4.0
FLOOR = 1e-6


def compute_log_mel(samples: torch.Tensor, audio: Audio) -> torch.Tensor:
    """Return the scaled log-mel spectrogram of mono sound.

    Args:
        samples: float32 `[S]` at `audio.sample_rate`.

    Returns:
        float32 `[1, n_mels, S // hop]`; frame i is centred on sample i · hop.
    """
    hop = _count_samples(audio.hop_ms, audio)
    energies = _make_transform(audio)(samples)[:, : len(samples) // hop]
    return ((torch.log(energies + FLOOR) - LOG_MEAN) / LOG_SPREAD)[None]


def _count_samples(milliseconds: float, audio: Audio) -> int:
    return round(milliseconds / 1000 * audio.sample_rate)


@functools.cache
def _make_transform(audio: Audio) -> MelSpectrogram:
    window = _count_samples(audio.window_ms, audio)
    size = 1 << (window - 1).bit_length()
    with warnings.catch_warnings():
        # Many bands on a short transform leave the lowest one empty; it is constant and harms nothing.
        warnings.filterwarnings("ignore", message="At least one mel filterbank")
        return MelSpectrogram(
            audio.sample_rate,
            n_fft=size,
            win_length=window,
            hop_length=_count_samples(audio.hop_ms, audio),
            f_min=20.0,
            n_mels=audio.n_mels,
        )
