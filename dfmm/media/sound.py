"""Mono sound on the clock of its video, and how it comes about while a file is decoded."""

from __future__ import annotations

import functools
from array import array
from dataclasses import dataclass

import av
import av.error
import numpy as np

from dfmm.media.container import LONGEST_SECONDS

# Sound that is out of step with its timestamps by more than this is put right: silence fills a gap, an overlap is cut.
# Half a frame at 60 fps, which is what sound and picture may differ by; above what containers round times to (1 ms),
# below the shortest packet that is usually lost (20 ms).
CLOCK_TOLERANCE_SECONDS = 0.008

# Of the sound in a file, in Hz. A resampler between rates that lie further apart takes gigabytes for its filters.
LOWEST_RATE, HIGHEST_RATE = 2_000, 768_000
LOUDEST = 16  # of full scale 1


@dataclass
class Sound:
    """Mono sound on the clock of its video: sample 0 is heard `start` seconds after the first frame.

    Where there is no picture, the clock is the sound's own, and `start` is 0.
    """

    samples: np.ndarray  # float32 [S]
    sample_rate: int
    start: float

    @property
    def end(self) -> float:
        """Seconds after the first frame at which the sound ends."""
        return self.start + len(self.samples) / self.sample_rate

    def cut(self, start: float, seconds: float) -> tuple[np.ndarray, float]:
        """Return the samples from `start` for `seconds`, zero where there is none, and the share there was."""
        length = round(seconds * self.sample_rate)
        first = round((start - self.start) * self.sample_rate)
        piece = np.zeros(length, np.float32)
        low, high = max(first, 0), min(first + length, len(self.samples))
        if high <= low:
            return piece, 0.0
        piece[low - first : high - first] = self.samples[low:high]
        return piece, (high - low) / length


class SoundTrack:
    """Collects one unbroken stream of mono sound while it comes in."""

    def __init__(self, sample_rate: int):
        self.sample_rate = sample_rate
        self.samples = array("f")  # grows in place, so that an hour of sound is held once
        self.start: float | None = None
        self.resampler: av.AudioResampler | None = None
        self.kind: tuple[str, str, int] | None = None
        self.gain = np.float32(1)

    def expect(self, packet: av.Packet) -> None:
        """Nothing: sound always has its times."""

    def take(self, frame: av.AudioFrame) -> None:
        if not LOWEST_RATE <= frame.sample_rate <= HIGHEST_RATE:
            raise ValueError(f"it has sound of {frame.sample_rate:,} Hz")
        if self.start is None:
            self.start = frame.time or 0.0
        told, frame.pts = frame.time, None  # the resampler is given one unbroken stream; gaps are filled here
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind != self.kind:  # streams may change midway, and a damaged packet may claim to
            layout, self.gain = _choose_mix(frame.layout.name)
            self.resampler, self.kind = av.AudioResampler("flt", layout, self.sample_rate), kind
        gap = 0.0 if told is None else told - self.start - len(self.samples) / self.sample_rate
        chunk = self._resample(frame)
        if CLOCK_TOLERANCE_SECONDS < gap <= LONGEST_SECONDS:
            self._append_silence(round(gap * self.sample_rate))
        elif -LONGEST_SECONDS <= gap < -CLOCK_TOLERANCE_SECONDS:
            chunk = chunk[round(-gap * self.sample_rate) :]
        self._append(chunk)

    def reaches(self, seconds: float | None, times: list[float]) -> bool:
        """Is this second after the first frame there, if one is asked for?"""
        if seconds is None or self.start is None:
            return seconds is None
        origin = times[0] if times else self.start
        return self.start - origin + len(self.samples) / self.sample_rate >= seconds

    def finish(self, origin: float) -> Sound | None:
        if self.start is None:
            return None
        self._append(self._resample(None))
        return Sound(np.frombuffer(self.samples, np.float32), self.sample_rate, self.start - origin)

    def _resample(self, frame: av.AudioFrame | None) -> np.ndarray:
        mixed = [self._mix(chunk) for chunk in self.resampler.resample(frame)] if self.resampler else []
        return mixed[0] if len(mixed) == 1 else np.concatenate([np.zeros(0, np.float32), *mixed])

    def _mix(self, chunk: av.AudioFrame) -> np.ndarray:
        samples = np.frombuffer(chunk.planes[0], np.float32)
        if self.gain == 1:
            return samples[: chunk.samples]
        channels = chunk.layout.nb_channels
        return samples[: chunk.samples * channels].reshape(-1, channels).sum(axis=1) / self.gain

    def _append(self, chunk: np.ndarray) -> None:
        self._check_room(len(chunk))
        if not np.abs(chunk).max(initial=0) < LOUDEST:  # damaged floats may be anything, or no numbers
            chunk = np.nan_to_num(chunk, posinf=0, neginf=0).clip(-LOUDEST, LOUDEST)
        self.samples.frombytes(chunk.view(np.uint8))

    def _append_silence(self, length: int) -> None:
        self._check_room(length)
        for start in range(0, length, 1 << 20):  # hours of it are not to be in memory twice
            self.samples.frombytes(bytes(4 * min(1 << 20, length - start)))

    def _check_room(self, length: int) -> None:
        if len(self.samples) + length > LONGEST_SECONDS * self.sample_rate:
            raise ValueError(f"its sound lasts longer than {LONGEST_SECONDS / 3600:g} hours")


@functools.cache
def _choose_mix(layout: str) -> tuple[str, np.float32]:
    """Return what channels are mixed down to, and by how much that makes sound louder that is the same in all of them.

    FFmpeg adds channels up: without a correction the same voice is 3 dB louder in stereo than in mono. Channels of
    which it does not know where they belong stay as they are; their mean is taken.
    """
    channels = av.AudioLayout(layout).nb_channels
    frame = av.AudioFrame.from_ndarray(np.ones((1, 1024 * channels), np.float32), format="flt", layout=layout)
    frame.sample_rate = HIGHEST_RATE
    try:
        mixed = av.AudioResampler("flt", "mono", HIGHEST_RATE).resample(frame)[0].to_ndarray()
    except av.error.ArgumentError:
        return layout, np.float32(channels)
    return "mono", max(mixed[0, -1], np.float32(1))


def set_level(sound: np.ndarray, *, loudness: float, crest: float) -> np.ndarray:
    """Bring sound `[S]` to a loudness (dB re full scale) and a crest factor (dB of its peak above that).

    The crest is reached by soft limiting, so that neither level nor peak tells how the sound was made.
    """
    sound = np.asarray(sound, np.float64) / _measure_rms(sound)
    low, high = 0.05, 20.0  # drive into the limiter, found by bisection: more drive, smaller crest
    for _ in range(14):
        drive = np.sqrt(low * high)
        limited = np.tanh(drive * sound)
        too_peaky = np.abs(limited).max() / _measure_rms(limited) > 10 ** (crest / 20)
        low, high = (drive, high) if too_peaky else (low, drive)
    return (limited / _measure_rms(limited) * 10 ** (loudness / 20)).astype(np.float32)


def _measure_rms(sound: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(sound, dtype=np.float64))))
