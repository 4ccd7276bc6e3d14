"""Mono sound on the clock of its video, and how it comes about while a file is decoded."""

from __future__ import annotations

import functools
import math
from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import av
import numpy as np
import scipy  # whose parts are imported when they are used

from dfmm.media.clock import restarts
from dfmm.media.container import LONGEST_SECONDS

# Sound that is out of step with its timestamps by more than this is put right: silence fills a gap, an overlap is cut.
# Half a frame at 60 fps, which is what sound and picture may differ by; above what containers round times to (1 ms),
# below the shortest packet that is usually lost (20 ms).
CLOCK_TOLERANCE_SECONDS = 0.008

# Of the sound in a file, in Hz. A resampler between rates that lie further apart takes gigabytes for its filters.
LOWEST_RATE, HIGHEST_RATE = 2_000, 768_000
LOUDEST = 16  # of full scale 1

# Of channels in a mix (ITU-R BS.775, one front channel); one whose place is not known counts like the centre.
SHARES = {
    **dict.fromkeys(("FL", "FR", "FLC", "FRC", "WL", "WR"), 0.7071),
    **dict.fromkeys(("BL", "BR", "SL", "SR", "BC"), 0.5),
    "LFE": 0.0,
}
UNNAMED = {2: "stereo", 6: "5.1", 8: "7.1"}  # what so many channels without names are, to players as well
SILENCE = 1e-4  # a sound that never gets louder, of full scale 1, is no evidence: −80 dB
# A constant is what lies below the first of these, in Hz, if it is no less than this share of the peak. Beside one, a
# voice is what moves above the second, by more than coders make of a constant (FFmpeg's AAC 0.0014 of it, others less).
OFFSET_HZ, OFFSET, VOICE_HZ, RIPPLE = 10, 0.05, 150, 0.003
# Where a constant turns by this share of it, begins or ends, coders ring for so long (Opus for 0.17 s): a voice is
# what is louder there than the constant, or lasts.
TURN, RINGING_SECONDS, LASTING_SECONDS, BLOCK_SECONDS, SHORTEST_SECONDS = 0.1, 0.2, 0.6, 0.025, 0.5
# A part of so many seconds is lost where a mix has less than this of its strongest channel's power, and less than that
# of what the channels would have together, if they did not cancel each other out. Of the loudest part's power, what is
# softer is no voice.
PART_SECONDS, LOST, CANCELLED, SOFT = 0.5, 0.1, 0.2, 1e-3
LISTENING_SECONDS = 300  # after which it is settled how channels are mixed: so much of them is held side by side

Mix = Mapping[str, Sequence[float]]  # by the name of a layout, by what each of its channels is multiplied


@dataclass
class Sound:
    """Mono sound on the clock of its video: sample 0 is heard `start` seconds after the first frame.

    Where there is no picture, the clock is the sound's own, and `start` is 0.
    """

    samples: np.ndarray  # float32 [S]
    sample_rate: int
    start: float
    mix: Mix = field(default_factory=dict)  # of which it came about, where there were several channels

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
    """Collects one unbroken stream of mono sound while it comes in.

    How channels are mixed depends on what is in each of them: until that is known, they wait side by side.

    Args:
        mix: as it was found when the same file was read before.
        counted: times are not told, but counted at the first sample rate: another one makes them void.

    Where times start again, what follows is heard after what came before. That is for sound alone: beside a picture,
    packets come with the times of `dfmm.media.clock`.
    """

    def __init__(self, sample_rate: int, mix: Mix | None = None, *, counted: bool = False):
        self.sample_rate, self.mix, self.counted = sample_rate, dict(mix or {}), counted
        self.timed, self.before, self.shift = True, -math.inf, 0.0
        self.samples = array("f")  # grows in place, so that an hour of sound is held once
        self.start: float | None = None
        self.resampler: av.AudioResampler | None = None
        self.kind: tuple[str, str, int] | None = None
        self.layout, self.channels = "mono", 1
        self.waiting: deque[tuple[str, np.ndarray]] = deque()  # layouts and their channels, [n, C]
        self.heard: dict[str, Channels] = {}  # of the layouts whose mix was not given
        self.length = 0  # of all samples, with those that wait

    def expect(self, packet: av.Packet) -> None:
        """Nothing: sound always has its times."""

    def note(self, packet: av.Packet) -> None:
        """Nothing: all there is to know of a frame it says itself."""

    def take(self, frame: av.AudioFrame) -> None:
        if not LOWEST_RATE <= frame.sample_rate <= HIGHEST_RATE:
            raise ValueError(f"it has sound of {frame.sample_rate:,} Hz")
        if self.start is None:
            self.start = frame.time or 0.0
        told, frame.pts = (
            self._tell_time(frame),
            None,
        )  # the resampler is given one unbroken stream; gaps are filled here
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind != self.kind:  # streams may change midway, and a damaged packet may claim to
            self._append(self._resample(None))
            self.timed &= not (self.counted and self.kind and self.kind[2] != frame.sample_rate)
            self.layout, self.channels, self.kind = frame.layout.name, frame.layout.nb_channels, kind
            self.resampler = av.AudioResampler("flt", self.layout, self.sample_rate)
        gap = 0.0 if told is None or not self.timed else told - self.start - self.length / self.sample_rate
        chunk = self._resample(frame)
        if CLOCK_TOLERANCE_SECONDS < gap <= LONGEST_SECONDS:
            self._append_silence(round(gap * self.sample_rate))
        elif -LONGEST_SECONDS <= gap < -CLOCK_TOLERANCE_SECONDS:
            chunk = chunk[round(-gap * self.sample_rate) :]
        self._append(chunk)

    def _tell_time(self, frame: av.AudioFrame) -> float | None:
        """Return when a frame is heard, on the clock of the first part."""
        if frame.time is None:
            return None
        if self.length and restarts(frame.time, self.before):
            self.shift = self.start + self.length / self.sample_rate - frame.time
        self.before = frame.time
        return frame.time + self.shift

    def reaches(self, seconds: float | None, times: list[float]) -> bool:
        """Is this second after the first frame there, if one is asked for?"""
        if seconds is None or self.start is None:
            return seconds is None
        origin = times[0] if times else self.start
        return self.start - origin + self.length / self.sample_rate >= seconds

    def finish(self, origin: float) -> Sound | None:
        if self.start is None:
            return None
        self._append(self._resample(None))
        self._settle()
        mix = {layout: weights for layout, weights in self.mix.items() if len(weights) > 1}
        return Sound(np.frombuffer(self.samples, np.float32), self.sample_rate, self.start - origin, mix)

    def _resample(self, frame: av.AudioFrame | None) -> np.ndarray:
        """Return what comes out of the resampler, float32 `[n, C]`."""
        chunks = self.resampler.resample(frame) if self.resampler else []
        planes = [np.frombuffer(chunk.planes[0], np.float32)[: chunk.samples * self.channels] for chunk in chunks]
        samples = planes[0] if len(planes) == 1 else np.concatenate([np.zeros(0, np.float32), *planes])
        return samples.reshape(-1, self.channels)

    def _append(self, chunk: np.ndarray) -> None:
        self._check_room(len(chunk))
        if not np.abs(chunk).max(initial=0) < LOUDEST:  # damaged floats may be anything, or no numbers
            chunk = np.nan_to_num(chunk, posinf=0, neginf=0).clip(-LOUDEST, LOUDEST)
        if chunk.shape[1] == 1:
            self.mix.setdefault(self.layout, [1.0])
        self._queue(self.layout, chunk)

    def _append_silence(self, length: int) -> None:
        self._check_room(length)
        for start in range(0, length, 1 << 20):  # hours of it are not to be in memory twice
            self._queue("silence", np.zeros((min(1 << 20, length - start), 1), np.float32))

    def _queue(self, layout: str, chunk: np.ndarray) -> None:
        """Let a chunk wait until it is known how to mix it, which may be now."""
        self.waiting.append((layout, chunk))
        self.length += len(chunk)
        if layout not in self.mix and layout not in self.heard and layout != "silence":
            self.heard[layout] = Channels(layout, self.sample_rate)
        if layout in self.heard:
            self.heard[layout].hear(chunk)
        self._mix()
        if self.length - len(self.samples) > LISTENING_SECONDS * self.sample_rate:
            self._settle()

    def _settle(self) -> None:
        """Choose how to mix what waits, by what has been heard of it."""
        for layout in {layout for layout, _ in self.waiting} - {"silence", *self.mix}:
            self.mix[layout] = self.heard[layout].choose_weights()
        self._mix()

    def find_better(self) -> Mix | None:
        """Return the mix that loses less of what was heard once it was settled how channels are mixed, if one does."""
        best = {layout: channels.choose_weights() for layout, channels in self.heard.items()}
        better = any(
            channels.count_lost(best[layout]) < channels.count_lost(self.mix[layout])
            for layout, channels in self.heard.items()
        )
        return {**self.mix, **best} if better else None

    def _mix(self) -> None:
        while self.waiting and (self.waiting[0][0] in self.mix or self.waiting[0][0] == "silence"):
            layout, chunk = self.waiting.popleft()
            mixed = chunk[:, 0] if chunk.shape[1] == 1 else chunk @ np.array(self.mix[layout], np.float32)
            self.samples.frombytes(np.ascontiguousarray(mixed).view(np.uint8))

    def _check_room(self, length: int) -> None:
        if self.length + length > LONGEST_SECONDS * self.sample_rate:
            raise ValueError(f"its sound lasts longer than {LONGEST_SECONDS / 3600:g} hours")


class Channels:
    """What is in the channels of a layout, part by part, and how they are mixed so that no part is lost.

    The shares are those of ITU-R BS.775. What is the same in all channels is as loud as in one of them, and what is in
    one of them alone is, too: a channel counts by how strong it is next to the strongest, and silence not at all. Where
    channels cancel each other out in any part, as a microphone's two wires do, one of them is left out.
    """

    def __init__(self, layout: str, sample_rate: int):
        self.shares = np.array([SHARES.get(name, 1.0) for name in name_channels(layout)])
        self.part = round(PART_SECONDS * sample_rate)
        self.chunks: list[np.ndarray] = []
        self.length = 0  # of these
        self.lengths: list[int] = []  # of the parts
        self.means: list[np.ndarray] = []  # of the channels, [C]
        self.covariances: list[np.ndarray] = []  # [C, C]

    def hear(self, chunk: np.ndarray) -> None:
        """Add samples `[n, C]`."""
        self.chunks.append(chunk)
        self.length += len(chunk)
        if self.length >= self.part:
            self._measure()

    def _measure(self) -> None:
        samples = np.concatenate(self.chunks).astype(np.float64)
        self.lengths.append(len(samples))
        self.means.append(samples.mean(axis=0))
        self.covariances.append(np.cov(samples.T, bias=True).reshape(2 * [len(self.shares)]))
        self.chunks, self.length = [], 0

    def choose_weights(self) -> list[float]:
        """Return by what channels are multiplied before they are added up to mono: all of them, if nothing is lost."""
        if self.length:
            self._measure()
        if not self.covariances:
            return (self.shares / self.shares.sum()).tolist()
        means = np.array(self.means) - np.average(self.means, axis=0, weights=self.lengths)
        power = np.average(self._list_powers() + (self.shares > 0) * means**2, axis=0, weights=self.lengths)
        shares = self.shares if (self.shares * power).any() else np.ones(len(power))
        strength = np.sqrt(power / power.max()) if power.any() else np.ones(len(power))
        self.plain = shares / (shares @ strength)
        each, strongest = np.eye(len(power)), np.argsort(-strength.round(3), kind="stable")
        fewer = [shares * (1 - each[at]) for at in strongest[::-1] if len(power) > 2]
        mixes = [self.plain, *(mix / (mix @ strength) for mix in fewer if mix @ strength > 0), *each[strongest]]
        return min(mixes, key=self.count_lost).tolist()

    def count_lost(self, weights: Sequence[float]) -> int:
        """Return how many parts a mix loses, once `choose_weights` was asked."""
        if not self.covariances:
            return 0
        powers, weights = self._list_powers(), np.array(weights)
        left, strongest = weights @ np.array(self.covariances) @ weights, powers.max(axis=1)
        loud = strongest > max(SOFT * strongest.max(), SILENCE**2)
        return int((loud & (left < LOST * strongest) & (left < CANCELLED * powers @ self.plain**2)).sum())

    def _list_powers(self) -> np.ndarray:
        """Return the power of each channel in each part, `[P, C]`, of those that are in the mix, if any is heard."""
        powers = np.array(self.covariances).diagonal(axis1=1, axis2=2)
        return powers * (self.shares > 0) if (powers * self.shares).any() else powers


def name_channels(layout: str) -> list[str]:
    """Return what the channels of a layout are called; by their number where nothing is known of them."""
    channels = av.AudioLayout(layout).channels
    if all(channel.name == "NONE" for channel in channels) and len(channels) in UNNAMED:
        channels = av.AudioLayout(UNNAMED[len(channels)]).channels
    return [f"channel {at}" if channel.name == "NONE" else channel.name for at, channel in enumerate(channels, 1)]


def name_lone_channel(mix: Mix) -> str:
    """Return the channel that is heard alone, because the others would cancel it out; empty where all are mixed.

    Where of more than two channels one is left out, those that are heard are joined by `+`.
    """
    for layout, weights in mix.items():
        names = name_channels(layout)
        if any(not weight and SHARES.get(name, 1.0) for name, weight in zip(names, weights, strict=True)):
            return "+".join(name for name, weight in zip(names, weights, strict=True) if weight)
    return ""


def has_motion(samples: np.ndarray, sample_rate: int) -> bool:
    """Is there anything to hear in samples `[S]`? What is constant is as silent as what is zero, and so is what coders
    make of it: ripples of a small share of it, and some ringing where it begins and ends.
    """
    pieces = np.array_split(samples, max(round(len(samples) / (10 * sample_rate)), 1))
    return any(
        _moves(piece.astype(np.float64), sample_rate) for piece in pieces if len(piece) and np.ptp(piece) > 2 * SILENCE
    )


def _moves(samples: np.ndarray, sample_rate: int) -> bool:
    if len(samples) < SHORTEST_SECONDS * sample_rate:  # in which a constant is not told from a deep sound
        return True
    means = [part.mean() for part in np.array_split(samples, 10 * len(samples) // sample_rate)]
    if np.abs(means).max() < max(OFFSET * np.abs(samples).max(), 3 * SILENCE):
        return True
    starts = np.arange(0, len(samples), max(round(BLOCK_SECONDS * sample_rate), 1))
    constant, motion = (
        np.maximum.reduceat(
            np.abs(scipy.signal.sosfiltfilt(sections, samples, padlen=min(15, len(samples) - 1))), starts
        )
        for sections in _design_filters(sample_rate)
    )
    rings = min(round(RINGING_SECONDS / BLOCK_SECONDS), len(starts) // 4)
    loud = motion > np.maximum(SILENCE, RIPPLE * scipy.ndimage.maximum_filter1d(constant, 2 * rings + 1))
    turns = (
        scipy.ndimage.maximum_filter1d(constant, 3) - scipy.ndimage.minimum_filter1d(constant, 3)
        > TURN * constant.max()
    )
    turns[[0, -1]] = True
    near = scipy.ndimage.maximum_filter1d(turns, 2 * rings + 1)
    lasting = round(LASTING_SECONDS / BLOCK_SECONDS)
    return bool(
        (loud & (~near | (motion > 2 * constant.max()))).any() or (np.convolve(loud, np.ones(lasting)) >= lasting).any()
    )


@functools.cache
def _design_filters(sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Return second-order sections that let pass what is constant, and what voices are made of."""
    limits = ((OFFSET_HZ, "lowpass"), (VOICE_HZ, "highpass"))
    return tuple(scipy.signal.butter(4, limit, kind, fs=sample_rate, output="sos") for limit, kind in limits)


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
