"""Video and audio files in and out: one pass decodes both streams, on one clock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from av.video.reformatter import VideoReformatter

# A container may restart its audio clock by a few samples between packets; only a jump longer
# than this is a real gap, filled with silence (or an overlap, cut) to keep sound and picture together.
CLOCK_TOLERANCE_SECONDS = 0.04


class MediaError(Exception):
    """A file that cannot be decoded; the message says which, and why."""


@dataclass
class Sound:
    """Mono sound on the clock of its video: sample 0 is heard `start` seconds after the first frame."""

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


@dataclass
class Media:
    """What `read_media` decoded from a file."""

    frames: dict[int, np.ndarray]  # wanted frames by number, uint8 RGB [H, W, 3]
    times: np.ndarray  # of every decoded frame, float64 [N], in seconds after the first
    sound: Sound | None  # up to where decoding stopped; None without an audio track
    width: int  # of the picture as it is shown, before any scaling, in pixels
    height: int


class Recording:
    """A file that is to be read twice and decoded once: its frames are held as they come from the decoder.

    Given to `read_media` in place of a path, it is decoded as any file; then, if that went to the end, whatever it
    holds comes from memory, the same to the bit. What it does not hold is decoded again.

    Args:
        spread: hold so many frames only, evenly spaced by what the file says of their number, if it says anything.
        room: bytes; once they are used up nothing is held.
    """

    def __init__(self, path: str | Path, *, spread: int | None = None, room: int = 128 << 20):
        self.path, self.spread, self.room = path, spread, room
        self.chosen: frozenset[int] | None = None  # of the frames; all of them, where it is not known how many
        self.frames: dict[int, av.VideoFrame] = {}
        self.media: Media | None = None  # once it was decoded to its end, but for the frames

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def expect(self, count: int) -> None:
        """Choose the frames to hold, before the first one comes."""
        if self.spread and count:
            self.chosen = frozenset(spread_numbers(count, self.spread).tolist())

    def hold(self, number: int, frame: av.VideoFrame) -> None:
        """Hold a frame, or none any more where there is no more room."""
        if self.media is None and self.room > 0 and (self.chosen is None or number in self.chosen):
            self.room -= sum(plane.buffer_size for plane in frame.planes)
            self.frames[number] = frame
            if self.room <= 0:
                self.frames.clear()

    def holds(self, keep: Callable[[int], bool], sample_rate: int) -> bool:
        """Is all of this there?"""
        if self.media is None or (self.media.sound is not None and self.media.sound.sample_rate != sample_rate):
            return False
        return all(number in self.frames for number in range(len(self.media.times)) if keep(number))


def spread_numbers(count: int, frames: int) -> np.ndarray:
    """Return the numbers of evenly spaced frames out of so many, from the first to the last, int64 `[frames]`."""
    return np.linspace(0, count - 1, frames).astype(int)


@contextmanager
def open_media(path: str | Path) -> Iterator[av.container.InputContainer]:
    """Open a file for decoding; everything that goes wrong with it inside becomes one `MediaError`."""
    if not Path(path).is_file():
        raise MediaError(f"{path}: no such file")
    try:
        with av.open(str(path), metadata_errors="replace") as container:  # old files have titles in any encoding
            if not container.streams.video:
                raise MediaError(f"{path}: has no video stream")
            yield container
    except (av.error.FFmpegError, OSError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise MediaError(f"{path}: cannot be decoded ({reason})") from error


def read_media(
    path: str | Path | Recording,
    *,
    keep: Callable[[int], bool],
    sample_rate: int,
    short_side: int | None = None,
    last_frame: int | None = None,
    sound_until: float | None = None,
    take: Callable[[int, np.ndarray], None] | None = None,
) -> Media:
    """Decode a file once from its start: its wanted frames, all frame times, and its sound.

    Args:
        keep: is the frame of this number wanted? Only wanted frames are converted to RGB.
        sample_rate: of the returned mono sound, in Hz.
        short_side: wanted frames are scaled down to this many pixels on their short side.
        last_frame, sound_until: stop early, once this frame and this second of sound are there.
        take: is handed each wanted frame with its number as it comes, so that a long video need not fit into memory.

    Raises:
        MediaError: the file is missing, broken, or has no picture.
    """
    recording = path if isinstance(path, Recording) else None
    reader = _Reader(keep, sample_rate, short_side, take, recording)
    if recording and recording.holds(keep, sample_rate):
        return reader.replay(recording)
    with open_media(path) as container:
        if recording:
            recording.expect(container.streams.video[0].frames)
        for frame in _decode_streams(container):
            reader.take(frame)
            if last_frame is not None and reader.has(last_frame, sound_until, container):
                break
        if not reader.times:
            raise MediaError(f"{path}: not one frame could be decoded")
        media = reader.finish()
        if recording and last_frame is None and recording.room > 0:  # else its sound alone would be of no use
            recording.media = replace(media, frames={})
        return media


def _decode_streams(container: av.container.InputContainer) -> Iterator[av.VideoFrame | av.AudioFrame]:
    """Yield the frames of the first video and the first audio stream in file order.

    A packet that does not decode is passed over, as players do: one damaged packet costs itself, not the file.
    """
    streams = [container.streams.video[0], *container.streams.audio[:1]]
    for stream in streams:
        stream.codec_context.thread_count = 1  # parallel over files; threads inside slow small clips down
    for packet in container.demux(streams):
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            continue


class _Reader:
    """Collects what `read_media` returns while frames come in."""

    def __init__(
        self,
        keep: Callable[[int], bool],
        sample_rate: int,
        short_side: int | None,
        take: Callable[[int, np.ndarray], None] | None,
        recording: Recording | None,
    ):
        self.keep, self.sample_rate, self.short_side, self.recording = keep, sample_rate, short_side, recording
        self.frames: dict[int, np.ndarray] = {}  # stays empty where somebody takes them
        self.take_frame = take or self.frames.__setitem__
        self.times: list[float] = []
        self.width = self.height = 0
        self.chunks: list[np.ndarray] = []
        self.sound_start: float | None = None
        self.samples = 0
        self.reformatter = VideoReformatter()
        self.resampler: av.AudioResampler | None = None
        self.sound_kind: tuple[str, str, int] | None = None

    def take(self, frame: av.VideoFrame | av.AudioFrame) -> None:
        if isinstance(frame, av.AudioFrame):
            self._take_sound(frame)
            return
        if not self.times:
            sideways = round(frame.rotation / 90) % 2
            self.width, self.height = (frame.height, frame.width) if sideways else (frame.width, frame.height)
        if self.recording:
            self.recording.hold(len(self.times), frame)
        if self.keep(len(self.times)):
            self.take_frame(len(self.times), self._convert_frame(frame))
        # Raw streams carry no timestamps: count on from the frame before.
        self.times.append(frame.time if frame.time is not None else self._guess_next_time())

    def replay(self, recording: Recording) -> Media:
        """Return the same once more, from what was held."""
        for number, frame in recording.frames.items():
            if self.keep(number):
                self.take_frame(number, self._convert_frame(frame))
        return replace(recording.media, frames=self.frames)

    def has(self, last_frame: int, sound_until: float | None, container: av.container.InputContainer) -> bool:
        """Is everything asked for there, so that decoding may stop?"""
        if len(self.times) <= last_frame:
            return False
        if sound_until is None or not container.streams.audio:
            return True
        if self.sound_start is None:
            return False
        return self.sound_start - self.times[0] + self.samples / self.sample_rate >= sound_until

    def finish(self) -> Media:
        origin, sound = self.times[0], None
        if self.sound_start is not None:
            self.chunks += [chunk.to_ndarray()[0] for chunk in self.resampler.resample(None)]
            sound = Sound(np.concatenate(self.chunks), self.sample_rate, self.sound_start - origin)
        return Media(self.frames, np.array(self.times) - origin, sound, self.width, self.height)

    def _take_sound(self, frame: av.AudioFrame) -> None:
        time = frame.time if frame.time is not None else 0.0
        if self.sound_start is None:
            self.sound_start = time
        frame.pts = None  # the resampler is given one unbroken stream; gaps are filled here
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind != self.sound_kind:  # streams may change midway, and a damaged packet may claim to
            self.resampler, self.sound_kind = av.AudioResampler("flt", "mono", self.sample_rate), kind
        chunks = [chunk.to_ndarray()[0] for chunk in self.resampler.resample(frame)]
        chunk = np.concatenate(chunks) if chunks else np.zeros(0, np.float32)
        gap = time - self.sound_start - self.samples / self.sample_rate
        if gap > CLOCK_TOLERANCE_SECONDS:
            chunk = np.concatenate([np.zeros(round(gap * self.sample_rate), np.float32), chunk])
        elif gap < -CLOCK_TOLERANCE_SECONDS:
            chunk = chunk[round(-gap * self.sample_rate) :]
        self.chunks.append(chunk)
        self.samples += len(chunk)

    def _convert_frame(self, frame: av.VideoFrame) -> np.ndarray:
        scale = 1.0 if self.short_side is None else min(1.0, self.short_side / min(frame.width, frame.height))
        image = self.reformatter.reformat(
            frame, round(frame.width * scale), round(frame.height * scale), "rgb24", interpolation="AREA"
        ).to_ndarray()
        turns = round(frame.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(image, turns)) if turns else image

    def _guess_next_time(self) -> float:
        if len(self.times) < 2:
            return 0.04 * len(self.times)
        return 2 * self.times[-1] - self.times[-2]


def write_video(
    target: str | Path,
    frames: np.ndarray,
    *,
    fps: float = 25,
    sound: np.ndarray | None = None,
    sample_rate: int = 16000,
    crf: int = 18,
    sound_bit_rate: int = 64_000,
) -> Path:
    """Write an H.264 mp4 with AAC sound; the file appears whole or not at all.

    Args:
        frames: uint8 RGB `[N, H, W, 3]`, H and W even.
        sound: float mono `[S]` in [-1, 1], starting with the first frame; None writes no audio track.
        crf: x264's constant rate factor, 0 (lossless) to 51.
        sound_bit_rate: bits a second. At 16 kHz, 48,000 and less is kept to whatever the sound; more is not.
    """
    if frames.ndim != 4 or not len(frames) or frames.shape[1] % 2 or frames.shape[2] % 2:
        raise ValueError(f"expected frames [N, H, W, 3] with N ≥ 1 and even H and W, got {list(frames.shape)}")
    if sound is not None and not len(sound):
        raise ValueError("expected at least one sample of sound; None writes no audio track")
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.stem}.partial{os.getpid()}.mp4")
    try:
        with av.open(str(partial), "w", format="mp4") as container:
            sound_rates = None if sound is None else (sample_rate, sound_bit_rate)
            video, audio = _add_streams(container, frames, fps, crf, sound_rates)
            _encode_frames(container, video, frames)
            if audio is not None:
                _encode_sound(container, audio, np.asarray(sound, np.float32))
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _add_streams(
    container: av.container.OutputContainer,
    frames: np.ndarray,
    fps: float,
    crf: int,
    sound_rates: tuple[int, int] | None,
) -> tuple[av.VideoStream, av.AudioStream | None]:
    options = {"crf": str(crf), "preset": "veryfast"}
    video = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options=options)
    video.height, video.width = frames.shape[1:3]
    video.pix_fmt = "yuv420p"
    video.codec_context.thread_count = 1
    if sound_rates is None:
        return video, None
    audio = container.add_stream("aac", rate=sound_rates[0], layout="mono")
    audio.bit_rate = sound_rates[1]
    return video, audio


def _encode_frames(container: av.container.OutputContainer, stream: av.VideoStream, frames: np.ndarray) -> None:
    for image in frames:
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
    container.mux(stream.encode(None))


def _encode_sound(container: av.container.OutputContainer, stream: av.AudioStream, sound: np.ndarray) -> None:
    frame = av.AudioFrame.from_ndarray(np.clip(sound, -1, 1)[None], format="fltp", layout="mono")
    frame.sample_rate = stream.rate
    frame.pts = 0
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
