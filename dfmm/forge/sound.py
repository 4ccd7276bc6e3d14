"""Forged sounds made of real ones: a voice that went through a vocoder, a stretch from another voice."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy.ndimage import binary_opening
from torchaudio.functional import griffinlim, melscale_fbanks

from dfmm.media.sound import set_level

# Vocoders differ, and so do these: windows of n samples at 16 kHz, mel bands (0: all that the window has, so that only
# the phases are made anew) and rounds of phase reconstruction.
WINDOWS = (400, 512, 800, 1024)
BANDS = (0, 40, 64, 80, 128)
ROUNDS = (4, 40)
FADE = (0.004, 0.02)  # seconds in which one voice goes over into another
SPLICED = (0.3, 0.7)  # share of what is heard of a window
HUSHED = 32  # zeros in a row are silence; fewer, where a wave crosses zero, are none


@dataclass(frozen=True)
class Vocoder:
    """A way to make a sound anew from what is heard of it."""

    window: int  # samples
    bands: int  # mel bands, 0 for none
    rounds: int
    seed: int  # of the phases it begins with


def draw_vocoder(rng: np.random.Generator, *, sample_rate: int) -> Vocoder:
    """Draw one of many vocoders, so that none is learnt."""
    window = 2 * round(int(rng.choice(WINDOWS)) * sample_rate / 32_000)
    rounds = round(np.exp(rng.uniform(*np.log(ROUNDS))))
    bands = [count for count in BANDS if count <= window // 8]  # more would leave some empty
    return Vocoder(window, int(rng.choice(bands)), rounds, int(rng.integers(2**31)))


def vocode(samples: np.ndarray, vocoder: Vocoder, *, sample_rate: int) -> np.ndarray:
    """Make a sound, float32 `[S]`, anew from its magnitudes in mel bands: as loud as it was, silent where it was.

    Phases are those of Griffin and Lim (IEEE Transactions on Acoustics, Speech and Signal Processing 1984), with the
    momentum of Perraudin et al. (WASPAA 2013).
    """
    if not samples.any():
        return samples
    n_fft, hop, window = vocoder.window, vocoder.window // 4, torch.hann_window(vocoder.window)
    # Mirrored beyond its ends: whole clips go through vocoders, and no window's ends are to tell that this one did.
    margin = min(n_fft, len(samples) - 1)
    longer = torch.from_numpy(np.pad(samples, margin, mode="reflect"))
    spectrum = torch.stft(longer, n_fft, hop, window=window, pad_mode="constant", return_complex=True)
    magnitudes = spectrum.abs()
    if vocoder.bands:
        magnitudes = _pass_bands(n_fft, vocoder.bands, sample_rate) @ magnitudes
    with torch.random.fork_rng(devices=[]):  # what else draws from PyTorch's generator does not notice
        torch.manual_seed(vocoder.seed)
        sound = griffinlim(
            magnitudes.clamp(min=0), window, n_fft, hop, n_fft, 1.0, vocoder.rounds, 0.9, len(longer), True
        ).numpy()
    return match_level(hush(sound[margin : margin + len(samples)], samples), samples)


@lru_cache(maxsize=32)
def _pass_bands(n_fft: int, bands: int, sample_rate: int) -> torch.Tensor:
    """Return what becomes of magnitudes, `[n_fft // 2 + 1]` squared, that only their mel bands are left of.

    Least squares, as torchaudio's `InverseMelScale`, without solving it anew for every sound.
    """
    filters = melscale_fbanks(n_fft // 2 + 1, 0.0, sample_rate / 2, bands, sample_rate, norm="slaney")
    return torch.linalg.pinv(filters.T.double()).float() @ filters.T


def splice(samples: np.ndarray, other: np.ndarray, *, first: int, last: int, fade: int) -> np.ndarray:
    """Let another sound be heard from one sample on to before another, as loud as what it stands for.

    Args:
        samples, other: float32 `[S]`.
        fade: samples in which one goes over into the other, half of them on either side.
    """
    steps = np.arange(len(samples))
    ramps = [np.clip((at - steps) / max(fade, 1) + 0.5, 0, 1) for at in (first, last)]
    share = ((1 - ramps[0]) * ramps[1]).astype(np.float32)
    heard = slice(max(first - fade, 0), last + fade)
    piece = np.zeros_like(samples)
    piece[heard] = match_level(other[heard], samples[heard])
    return samples + share * (hush(piece, samples) - samples)


def find_silence(samples: np.ndarray) -> np.ndarray:
    """Return where a sound, float32 `[S]`, is digital silence, as past a clip's end: bool `[S]`."""
    return binary_opening(samples == 0, np.ones(HUSHED))


def hush(sound: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return a sound, float32 `[S]`, silent where another is."""
    return np.where(find_silence(wanted), np.float32(0), sound)


def match_level(sound: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return a sound, float32 `[S]`, as loud as another, and no peakier: phases made anew add up to higher peaks."""
    sound, crest = match_loudness(sound, wanted), _measure_crest(wanted)
    if _measure_crest(sound) <= crest:
        return sound
    return match_loudness(set_level(sound, loudness=0.0, crest=crest), wanted)


def match_loudness(sound: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return a sound, float32 `[S]`, as loud as another."""
    return (sound * np.sqrt(np.mean(wanted**2) / max(np.mean(sound**2), 1e-12))).astype(np.float32)


def _measure_crest(samples: np.ndarray) -> float:
    """Return by how many dB a sound's peak is above its level."""
    return float(20 * np.log10(np.abs(samples).max() / max(np.sqrt(np.mean(samples**2)), 1e-9) + 1e-9))
