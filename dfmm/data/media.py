"""Video and audio files in and out: one pass decodes both streams, on one clock."""

from __future__ import annotations

import functools
import os
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from av.video.reformatter import VideoReformatter

from dfmm.data.container import DECODE_OPTIONS, LONGEST_SECONDS, MediaError, find_streams, open_media

# Sound that is out of step with its timestamps by more than this is put right: silence fills a gap, an overlap is cut.
# Half a frame at 60 fps, which is what sound and picture may differ by; above what containers round times to (1 ms),
# below the shortest packet that is usually lost (20 ms).
CLOCK_TOLERANCE_SECONDS = 0.008

# Of the sound in a file, in Hz. A resampler between rates that lie further apart takes gigabytes for its filters.
LOWEST_RATE, HIGHEST_RATE = 2_000, 768_000
LOUDEST = 16  # of full scale 1

# A keyframe later than this is leapt to: a second opening of the file costs less than a second of a small picture.
LATE_SECONDS = 10.0
DEEPEST = 16  # frames by which the order of decoding may differ from the order of showing
SAME_SECONDS = 1e-6  # two times that differ by less are one

# These tell of a packet only where it stands in the file: the frames, in the order they are shown, take these places.
UNTIMED = ("avi", "h264", "hevc", "m4v", "mpegvideo", "obu")
# A packet that fails so is passed over, as players do: one damaged packet costs itself, not the file.
DAMAGE = (av.error.InvalidDataError, av.error.ArgumentError, av.error.PatchWelcomeError, av.error.ExternalError)


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


@dataclass
class Media:
    """What `read_media` decoded from a file."""

    frames: dict[int, np.ndarray]  # wanted frames by number, uint8 RGB [H, W, 3]
    times: np.ndarray  # of every decoded frame, float64 [N], in seconds after the first; empty without a picture
    sound: Sound | None  # up to where decoding stopped; None without an audio track
    width: int  # of the picture as it is shown, before any scaling, in pixels
    height: int


def read_media(
    path: str | Path,
    *,
    keep: Callable[[int], bool],
    sample_rate: int,
    short_side: int | None = None,
    last_frame: int | None = None,
    sound_until: float | None = None,
    take: Callable[[int, np.ndarray], None] | None = None,
    times: np.ndarray | None = None,
) -> Media:
    """Decode a file once from its start: its wanted frames, all frame times, and its sound.

    Args:
        keep: is the frame of this number wanted? Only wanted frames are converted to RGB.
        sample_rate: of the returned mono sound, in Hz.
        short_side: wanted frames are scaled down to this many pixels on their short side.
        last_frame, sound_until: stop early, once this frame and this second of sound are there.
        take: is handed each wanted frame with its number as it comes, so that a long video need not fit into memory.
        times: of all frames, as an earlier call returned them. With `last_frame` they allow for a leap to a keyframe
            late in the video: the same frames and the same sound come back, and these times.

    Raises:
        MediaError: the file is missing, broken, has neither picture nor sound, or demands more than this module allows.
    """
    frames: dict[int, np.ndarray] = {}  # stays empty where somebody takes them
    hand_over, given = take or frames.__setitem__, []
    if times is not None and last_frame is not None:
        wanted = [number for number in range(min(last_frame + 1, len(times))) if keep(number)]
        late, given = _read_late(path, wanted, times, short_side, hand_over)
        if late is not None:
            return Media(
                frames, times, _read_sound(path, late.origin, sample_rate, sound_until), late.width, late.height
            )
    with open_media(path) as container:
        streams = find_streams(container)
        pictures, sound = _Pictures(streams[0], keep, short_side, hand_over), _SoundTrack(sample_rate)
        if given:
            pictures.keep = lambda number: number not in given and keep(number)
        if streams[-1].type == "video":
            sound_until = None
        for packet in _demux(streams, path):
            taker = pictures if packet.stream.type == "video" else sound
            taker.expect(packet)
            for frame in _decode(packet):
                taker.take(frame)
            if last_frame is not None and pictures.reaches(last_frame) and sound.reaches(sound_until, pictures.times):
                break
        if not pictures.times and (streams[0].type == "video" or sound.start is None):
            raise MediaError(f"{path}: not one frame could be decoded")
        # Frames come in the order they are shown in; times that do not rise were told for another order.
        times = np.sort(np.array(pictures.times, np.float64))
        origin = times[0] if len(times) else sound.start
        frames = dict(sorted(frames.items())) if given else frames
        return Media(frames, times - origin, sound.finish(origin), pictures.width, pictures.height)


def _read_late(
    path: str | Path,
    wanted: list[int],
    times: np.ndarray,
    short_side: int | None,
    hand_over: Callable[[int, np.ndarray], None],
) -> tuple[_Pictures | None, list[int]]:
    """Leap to the keyframe before the first wanted frame, and tell frames by their times.

    Returns:
        What is known of the picture, or None where a leap does not pay or a wanted frame did not come back, so that the
        file is to be decoded from its start; and the frames that were handed over.
    """
    given: list[int] = []
    if not wanted or times[wanted[0]] < LATE_SECONDS:
        return None, given
    with open_media(path) as container:
        picture = find_streams(container)[0]
        decoded = (frame for packet in _demux([picture], path) for frame in _decode(packet))
        first = next(decoded, None)
        if first is None or first.time is None or not _leap(picture, first.time, times[max(wanted[0] - DEEPEST, 0)]):
            return None, given
        pictures = _Pictures(picture, set(wanted).__contains__, short_side, hand_over)
        pictures.measure(first)
        for frame in decoded:
            time = (frame.time or 0.0) - first.time
            number = int(np.searchsorted(times, time - SAME_SECONDS))
            if number > wanted[-1]:
                break
            if pictures.keep(number) and abs(times[number] - time) < SAME_SECONDS and number not in given:
                hand_over(number, pictures.convert(frame))
                given.append(number)
    return (pictures if given == wanted else None), given


def _leap(picture: av.VideoStream, start: float, seconds: float) -> bool:
    """Go to the last keyframe before these seconds after the start, if that is late and the container tells where."""
    if not picture.container.format.name.startswith("mov"):
        return False
    target = round((start + seconds) / picture.time_base)
    entry = picture.index_entries.search_timestamp(target)
    if entry < 0 or picture.index_entries[entry].timestamp * picture.time_base - start < LATE_SECONDS:
        return False
    picture.container.seek(target, stream=picture)
    return True


def _read_sound(path: str | Path, origin: float, sample_rate: int, sound_until: float | None) -> Sound | None:
    """Decode a file's sound alone, from its start; the picture begins at `origin` on the file's clock."""
    with open_media(path) as container:
        if not container.streams.audio:
            return None
        find_streams(container)[0].discard = av.stream.Discard.all  # nor is it read
        sound = _SoundTrack(sample_rate)
        for packet in _demux([container.streams.audio[0]], path):
            for frame in _decode(packet):
                sound.take(frame)
            if sound_until is not None and sound.reaches(sound_until, [origin]):
                break
        return sound.finish(origin)


def _demux(streams: list[av.VideoStream | av.AudioStream], path: str | Path) -> Iterator[av.Packet]:
    """Yield the packets of these streams in file order."""
    for stream in streams:
        if stream.codec_context is None:
            raise MediaError(f"{path}: there is no decoder for its {stream.type}")
        stream.codec_context.thread_count = 1  # parallel over files; threads inside slow small clips down
        stream.codec_context.options = DECODE_OPTIONS
    try:
        yield from streams[0].container.demux(streams)
    except IndexError:  # PyAV's, at the very end, about streams that appeared midway
        return


def _decode(packet: av.Packet) -> list[av.VideoFrame] | list[av.AudioFrame]:
    try:
        return packet.decode()
    except DAMAGE:
        return []


class _Pictures:
    """Hands over the wanted frames, and collects the times of all; of a stream of sound there are none."""

    def __init__(
        self,
        stream: av.VideoStream | av.AudioStream,
        keep: Callable[[int], bool],
        short_side: int | None,
        hand_over: Callable[[int, np.ndarray], None],
    ):
        self.keep, self.short_side, self.hand_over = keep, short_side, hand_over
        self.origin = 0.0  # of the first frame, on the file's clock
        self.times: list[float] = []
        self.width = self.height = 0
        self.size = (0, 0)  # of converted frames, before they are turned
        self.reformatter = VideoReformatter()
        self.expected = stream.type == "video"
        self.seconds = float(1 / ((self.expected and stream.average_rate) or 25))  # a frame's, where it does not tell
        self.slots = deque[float]() if stream.container.format.name in UNTIMED else None

    def expect(self, packet: av.Packet) -> None:
        """Note the place of a packet in the file where that is all there is."""
        if self.slots is not None and packet.dts is not None:
            self.slots.append(float(packet.dts * packet.time_base))

    def take(self, frame: av.VideoFrame) -> None:
        if not self.times:
            self.measure(frame)
        if self.keep(len(self.times)):
            self.hand_over(len(self.times), self.convert(frame))
        self.times.append(self._tell_time(frame))

    def reaches(self, last_frame: int) -> bool:
        """Is this frame there, if there are any?"""
        return len(self.times) > last_frame or not self.expected

    def measure(self, frame: av.VideoFrame) -> None:
        self.origin = frame.time or 0.0
        sideways = round(frame.rotation / 90) % 2
        self.width, self.height = (frame.height, frame.width) if sideways else (frame.width, frame.height)
        scale = 1.0 if self.short_side is None else min(1.0, self.short_side / min(frame.width, frame.height))
        self.size = round(frame.width * scale), round(frame.height * scale)

    def convert(self, frame: av.VideoFrame) -> np.ndarray:
        image = self.reformatter.reformat(frame, *self.size, "rgb24", interpolation="AREA", threads=1).to_ndarray()
        turns = round(frame.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(image, turns)) if turns else image

    def _tell_time(self, frame: av.VideoFrame) -> float:
        time = frame.time
        if self.slots is not None:
            time = self.slots.popleft() if self.slots else None
        if not self.times:
            return time or 0.0
        if time is None or abs(time - self.times[-1]) > LONGEST_SECONDS:
            time = self.times[-1] + self.seconds
        if time - self.times[0] > LONGEST_SECONDS:
            raise ValueError(f"it lasts longer than {LONGEST_SECONDS / 3600:g} hours")
        return time


class _SoundTrack:
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
