"""What the world does to a sound: functions of a window's waveform and log-mel; what happens when stays when."""

from __future__ import annotations

import functools
from typing import Literal

import av
import numpy as np
import scipy  # whose parts are imported when they are used
import torch
from torchaudio.functional import phase_vocoder
from torchaudio.transforms import Resample

Codec = Literal["mp3", "aac", "opus"]

# Encoder, its sample format, how to make it fast, decoder, and how many samples come out before the first that was put
# in. Those of MP3 and Opus are marked by the encoder, and the decoder drops them.
CODECS = {
    "mp3": ("libmp3lame", "fltp", {"compression_level": "7"}, "mp3float", 0),
    "aac": ("aac", "fltp", {"aac_coder": "fast"}, "aac", 1024),
    "opus": ("libopus", "flt", {"compression_level": "5"}, "opus", 0),
}
CODED_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)  # Hz, which all three encode
CLICK_MARGIN = 3  # by which a click must stand out more in time than in pitch: else a deep voice has one in each period
LOUDNESS_SECONDS, MOST_GAIN = 0.02, 8.0
EQUAL_SECONDS = 0.5  # reverberation time at which the echoes carry as much energy as the direct sound


def shift_pitch(samples: np.ndarray, *, semitones: float, sample_rate: int) -> np.ndarray:
    """Raise the pitch of a sound, float32 `[S]`; its length, its loudness and what happens when stay as they are.

    A phase vocoder smears a click over its frame, and moves it by up to 20 ms. Clicks have no pitch: they are taken
    out first, and put back as they were (Driedger, Müller & Ewert, SPL 2014). It moves the beginning of a tone by up to
    11 ms: all is given the loudness over 20 ms that it had. From -12 to 12 semitones clicks, tones and speech are heard
    within 2 ms of when they were; a voice's pulses, closer than these 20 ms, fall where the new pitch puts them.
    """
    from librosa.effects import pitch_shift  # imported only when chosen: it takes seconds

    if not samples.any():
        return samples
    # Frames of 32 ms: longer ones keep deep voices purer, but sounds no longer begin on time.
    clicks = find_clicks(samples, sample_rate=sample_rate)
    tones = samples - clicks
    shifted = pitch_shift(tones, sr=sample_rate, n_steps=semitones, n_fft=_find_size(sample_rate))
    shifted = follow_loudness(shifted * _compare_loudness(tones, shifted) + clicks, samples, sample_rate=sample_rate)
    return (shifted * _compare_loudness(samples, shifted)).astype(np.float32)


def follow_loudness(samples: np.ndarray, wanted: np.ndarray, *, sample_rate: int) -> np.ndarray:
    """Make a sound, float32 `[S]`, as loud over 20 ms as another one is then; over less, its pitch would be heard."""
    window = np.hanning(round(LOUDNESS_SECONDS * sample_rate))
    target = _smooth_power(wanted, window)
    floor = 1e-8 * target.max()
    for _ in range(3):  # what is loud hides what is soft beside it
        gain = np.sqrt((target + floor) / (_smooth_power(samples, window) + floor))
        samples = samples * np.clip(gain, 1 / MOST_GAIN**2, MOST_GAIN)
    return samples


def _smooth_power(samples: np.ndarray, window: np.ndarray) -> np.ndarray:
    return np.maximum(scipy.signal.fftconvolve(samples.astype(np.float64) ** 2, window / window.sum(), "same"), 0)


def find_clicks(samples: np.ndarray, *, sample_rate: int) -> np.ndarray:
    """Return of a sound, float32 `[S]`, what is short and of all pitches, float32 `[S]`.

    That is what stands out of its neighbours in time more than of those in pitch (Fitzgerald, DAFx 2010).
    """
    size = _find_size(sample_rate)
    hop, window = size // 4, torch.hann_window(size)
    spectrum = torch.stft(torch.from_numpy(samples), size, hop, window=window, pad_mode="constant", return_complex=True)
    power = spectrum.abs().numpy()
    lasting, wide = (
        scipy.ndimage.median_filter(power, (1, 17), mode="constant"),
        scipy.ndimage.median_filter(power, (31, 1), mode="reflect"),
    )
    share = wide**2 / np.maximum(wide**2 + (CLICK_MARGIN * lasting) ** 2, 1e-12)
    clicks = spectrum * torch.from_numpy(share.astype(np.float32))
    return torch.istft(clicks, size, hop, window=window, length=len(samples)).numpy()


def stretch_time(samples: np.ndarray, *, speed: float, sample_rate: int) -> np.ndarray:
    """Play a sound, float32 `[S]`, faster or slower at its own pitch and loudness: float32 `[round(S / speed)]`.

    A phase vocoder; what happens is heard within 15 ms of when it should be.
    """
    size, length = _find_size(sample_rate), round(len(samples) / speed)
    hop, window = size // 4, torch.hann_window(size)
    spectrum = torch.stft(torch.from_numpy(samples), size, hop, window=window, pad_mode="constant", return_complex=True)
    advance = torch.linspace(0, np.pi * hop, size // 2 + 1)[:, None]
    stretched = torch.istft(phase_vocoder(spectrum, speed, advance), size, hop, window=window, length=length).numpy()
    return stretched * _compare_loudness(samples, stretched)


def _find_size(sample_rate: int) -> int:
    return 1 << round(np.log2(0.032 * sample_rate))


def _compare_loudness(wanted: np.ndarray, found: np.ndarray) -> np.float32:
    """Return by how much to raise a sound to be as loud as it was: where phases do not fit, a vocoder loses some."""
    return np.float32(np.sqrt(np.mean(wanted**2) / max(np.mean(found**2), 1e-12)))


def add_sound_noise(samples: np.ndarray, *, snr: float, rng: np.random.Generator) -> np.ndarray:
    """Add white noise at a signal-to-noise ratio in dB; silence stays silent."""
    level = np.sqrt(np.mean(samples**2)) * 10 ** (-snr / 20)
    return samples + rng.standard_normal(samples.shape, dtype=np.float32) * np.float32(level)


def change_loudness(samples: np.ndarray, *, gain: float) -> np.ndarray:
    """Raise the level of a sound, float32 `[S]`, by so many dB; nothing is clipped."""
    return samples * np.float32(10 ** (gain / 20))


def limit_band(
    samples: np.ndarray, *, sample_rate: int, low: float | None = None, high: float | None = None
) -> np.ndarray:
    """Take away what lies below `low` and above `high`, in Hz; what the sample rate cannot hold is no limit.

    Butterworth filters of order 4 run both ways, so that nothing is delayed: 6 dB are lost at the limits.
    """
    for limit, kind in ((low, "highpass"), (high, "lowpass")):
        if limit is not None and limit < sample_rate / 2:
            samples = scipy.signal.sosfiltfilt(
                scipy.signal.butter(4, limit, kind, fs=sample_rate, output="sos"), samples
            )
    return np.asarray(samples, np.float32)


def reverberate(samples: np.ndarray, *, seconds: float, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Let a sound, float32 `[S]`, echo in a room in which echoes fall by 60 dB in so many seconds.

    The echoes are Gaussian noise that decays (Polack 1988), as strong as the sound itself at half a second. The direct
    sound comes when it came, softened so that the loudness stays.
    """
    time = np.arange(1, round(seconds * sample_rate) + 1) / sample_rate
    # Noise of unit deviation that falls by 60 dB in R seconds has the energy R · rate / (6 ln 10).
    deviation = np.sqrt(6 * np.log(10) / (EQUAL_SECONDS * sample_rate))
    echoes = deviation * rng.standard_normal(len(time)) * 10 ** (-3 * time / seconds)
    echoed = scipy.signal.fftconvolve(samples, np.concatenate([[1.0], echoes]))[: len(samples)]
    return (echoed * _compare_loudness(samples, echoed)).astype(np.float32)


def compress_sound(samples: np.ndarray, *, codec: Codec, kilobits: float, sample_rate: int) -> np.ndarray:
    """Code a sound, float32 `[S]`, at so many kbit/s, and decode it again: as long, and no later than it was."""
    rate = next((rate for rate in CODED_RATES if rate >= sample_rate), CODED_RATES[-1])
    coder, kind, options, decoder_name, early = CODECS[codec]
    encoder, decoder = av.CodecContext.create(coder, "w"), av.CodecContext.create(decoder_name, "r")
    encoder.sample_rate, encoder.layout, encoder.format, encoder.bit_rate = rate, "mono", kind, round(1000 * kilobits)
    encoder.options = options
    encoder.open()
    frame = av.AudioFrame.from_ndarray(
        np.clip(_resample(samples, sample_rate, rate), -1, 1)[None], format=kind, layout="mono"
    )
    frame.sample_rate, frame.pts = rate, 0
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    if encoder.extradata:
        decoder.extradata = encoder.extradata
    heard = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    sound = np.concatenate([frame.to_ndarray()[0] for frame in heard])[early:]
    sound = _resample(sound, heard[0].sample_rate, sample_rate)[: len(samples)]
    return np.pad(sound, (0, len(samples) - len(sound)))


def _resample(samples: np.ndarray, old: int, new: int) -> np.ndarray:
    return samples if old == new else _make_resampler(old, new)(torch.from_numpy(samples)).numpy()


@functools.cache
def _make_resampler(old: int, new: int) -> Resample:
    """Return what resamples from one rate to another; its filter takes as long to make as a window to resample."""
    return Resample(old, new)


def mask_log_mel(log_mel: torch.Tensor, *, share: float, rng: np.random.Generator) -> torch.Tensor:
    """Hide this share of the bands and of the steps of a log-mel, float32 `[1, n_mels, F]`, behind its mean.

    SpecAugment (Park et al. 2019) with one mask each. torchaudio's masks come from PyTorch's global generator, so they
    would depend on what else draws from it.
    """
    hidden, mean = log_mel.clone(), log_mel.mean()
    for axis in (1, 2):
        whole = log_mel.shape[axis]
        length = round(share * whole)
        hidden.narrow(axis, int(rng.random() * (whole - length + 1)), length).fill_(mean)
    return hidden
