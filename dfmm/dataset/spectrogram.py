"""Waveform → log-mel spectrogram, by torchaudio or by librosa."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torchaudio.transforms import MelSpectrogram

from dfmm.sections import Audio

# Log-mel energies of speech at usual levels lie between about −14 (silence) and 6;
# this brings them near zero mean and unit spread, the same for every clip, so loudness is kept.
LOG_MEAN, LOG_SPREAD = -5.0, 4.0
FLOOR = 1e-6
LOWEST = 20.0  # Hz, where the mel bands begin; they are O'Shaughnessy's (HTK), not normalised


def compute_log_mel(samples: torch.Tensor, audio: Audio) -> torch.Tensor:
    """Return the scaled log-mel spectrogram of mono sound.

    Args:
        samples: float32 `[S]` at `audio.sample_rate`.

    Returns:
        float32 `[1, n_mels, S // hop]`; frame i is centred on sample i · hop.
    """
    hop = _count_samples(audio.hop_ms, audio)
    padded = _reflect_ends(samples, _find_size(_count_samples(audio.window_ms, audio)) // 2)
    energies = _make_transform(audio)(padded) if audio.library == "torchaudio" else _use_librosa(padded, audio)
    energies = energies[:, : len(samples) // hop]
    return ((torch.log(energies + FLOOR) - LOG_MEAN) / LOG_SPREAD)[None]


def _reflect_ends(samples: torch.Tensor, around: int) -> torch.Tensor:
    """Reflect a sound `[S]` at its ends: both libraries refuse one that is shorter than what they reflect."""
    if len(samples) <= around:  # over and over
        return torch.from_numpy(np.pad(samples.numpy(), around, mode="reflect"))
    return torch.cat([samples[1 : around + 1].flip(0), samples, samples[-around - 1 : -1].flip(0)])


def place_hertz(hertz: Sequence[float], audio: Audio) -> NDArray[np.float64]:
    """Return where frequencies lie among the mel bands: band i has its middle at i, the lowest being 0."""
    low, *mels, high = 2595 * np.log10(1 + np.array([LOWEST, *hertz, audio.sample_rate / 2]) / 700)
    return (np.array(mels) - low) / (high - low) * (audio.n_mels + 1) - 1


def _count_samples(milliseconds: float, audio: Audio) -> int:
    return round(milliseconds / 1000 * audio.sample_rate)


def _use_librosa(samples: torch.Tensor, audio: Audio) -> torch.Tensor:
    """Do what `_make_transform` does, by librosa."""
    from librosa.feature import melspectrogram  # imported only when chosen: it takes seconds

    window = _count_samples(audio.window_ms, audio)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Empty filters detected")  # as below
        energies = melspectrogram(
            y=samples.numpy(),
            sr=audio.sample_rate,
            n_fft=_find_size(window),
            win_length=window,
            hop_length=_count_samples(audio.hop_ms, audio),
            fmin=LOWEST,
            n_mels=audio.n_mels,
            center=False,
            htk=True,
            norm=None,
        )
    return torch.from_numpy(energies)


def _find_size(window: int) -> int:
    """Return the length of the Fourier transform: the next power of two."""
    return 1 << (window - 1).bit_length()


@functools.cache
def _make_transform(audio: Audio) -> MelSpectrogram:
    window = _count_samples(audio.window_ms, audio)
    with warnings.catch_warnings():
        # Many bands on a short transform leave the lowest one empty; it is constant and harms nothing.
        warnings.filterwarnings("ignore", message="At least one mel filterbank")
        return MelSpectrogram(
            audio.sample_rate,
            n_fft=_find_size(window),
            win_length=window,
            hop_length=_count_samples(audio.hop_ms, audio),
            f_min=LOWEST,
            n_mels=audio.n_mels,
            center=False,
        )
