"""Video and audio files in: one pass decodes both streams, on one clock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np

from dfmm.media.clock import Joiner
from dfmm.media.container import (
    DECODE_OPTIONS,
    LONGEST_SECONDS,
    SAME_SECONDS,
    MediaError,
    find_streams,
    measure_lateness,
    open_media,
    warn_once,
)
from dfmm.media.picture import Converter, Deinterlacer, PixelShape, deinterlace, measure_picture
from dfmm.media.sound import Mix, Sound, SoundTrack

# A keyframe later than this is leapt to: a second opening of the file costs less than a second of a small picture.
LATE_SECONDS = 10.0
DEEPEST = 16  # frames by which the order of decoding may differ from the order of showing

# These tell of a packet only where it stands in the file: the frames, in the order they are shown, take these places.
UNTIMED = ("avi", "h264", "hevc", "m4v", "mpegvideo", "obu")
# And these hold sound alone, without times: FFmpeg counts on as if all packets lasted as long as the first.
# Where an Ogg file goes on at another rate, it counts the samples of that as if they were of the first, too.
COUNTED = ("aac", "mp3", "ac3", "eac3", "amr", "flac", "ogg")
# Of what is joined to these FFmpeg reads nothing, or one part more.
ENDED, SMALL_REST = ("flv", "asf", "matroska,webm"), 0.1  # of all bytes: what is less may be an index
# A packet that fails so is passed over, as players do: one damaged packet costs itself, not the file.
DAMAGE = (av.error.InvalidDataError, av.error.ArgumentError, av.error.PatchWelcomeError, av.error.ExternalError)


@dataclass
class Media:
    """What `read_media` decoded from a file."""

    frames: dict[int, np.ndarray]  # wanted frames by number, uint8 RGB [H, W, 3]
    times: np.ndarray  # of every decoded frame, float64 [N], in seconds after the first; empty without a picture
    sound: Sound | None  # up to where decoding stopped; None without an audio track
    width: int  # of the first picture as it is shown, before any scaling, in pixels
    height: int
    # Where the picture's size changes midway: the number of a frame, its width and its height, int64 [K, 3].
    sizes: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.int64))

    def measure_frame(self, number: int) -> tuple[int, int]:
        """Return the width and height of the frame of this number as it is shown."""
        at = int(np.searchsorted(self.sizes[:, 0], number, side="right"))
        return tuple(self.sizes[at - 1, 1:].tolist()) if at else (self.width, self.height)


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
        self.frames: dict[int, tuple[av.VideoFrame, Fraction]] = {}  # and the ratio of their pixels' sides
        self.media: Media | None = None  # once it was decoded to its end, but for the frames

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def expect(self, count: int) -> None:
        """Choose the frames to hold, before the first one comes."""
        if self.spread and count:
            self.chosen = frozenset(spread_numbers(count, self.spread).tolist())

    def hold(self, number: int, frame: av.VideoFrame, ratio: Fraction) -> None:
        """Hold a frame, or none any more where there is no more room."""
        if self.media is None and self.room > 0 and (self.chosen is None or number in self.chosen):
            self.room -= sum(plane.buffer_size for plane in frame.planes)
            self.frames[number] = frame, ratio
            if self.room <= 0:
                self.frames.clear()

    def holds(self, keep: Callable[[int], bool], sample_rate: int) -> bool:
        """Is all of this there?"""
        if self.media is None or (self.media.sound is not None and self.media.sound.sample_rate != sample_rate):
            return False
        return all(number in self.frames for number in range(len(self.media.times)) if keep(number))

    def replay(
        self, keep: Callable[[int], bool], short_side: int | None, hand_over: Callable[[int, np.ndarray], None]
    ) -> None:
        """Hand over the wanted frames once more."""
        converter = Converter(short_side)
        for number, (frame, ratio) in self.frames.items():
            if keep(number):
                hand_over(number, converter.convert(frame, ratio))


def spread_numbers(count: int, frames: int) -> np.ndarray:
    """Return the numbers of evenly spaced frames out of so many, from the first to the last, int64 `[frames]`."""
    return np.linspace(0, count - 1, frames).astype(int)


def read_media(
    path: str | Path | Recording,
    *,
    keep: Callable[[int], bool],
    sample_rate: int,
    short_side: int | None = None,
    last_frame: int | None = None,
    sound_until: float | None = None,
    take: Callable[[int, np.ndarray], None] | None = None,
    times: np.ndarray | None = None,
    mix: Mix | None = None,
) -> Media:
    """Decode a file once from its start: its wanted frames, all frame times, and its sound.

    Args:
        keep: is the frame of this number wanted? Only wanted frames are converted to RGB.
        sample_rate: of the returned mono sound, in Hz.
        short_side: wanted frames are scaled down to this many pixels on their short side.
        last_frame, sound_until: stop early, once this frame and this second of sound are there.
        take: is handed each wanted frame with its number as it comes, so that a long video need not fit into memory.
        times: of all frames, as an earlier call returned them. With `last_frame` they allow for a leap to a keyframe
            late in an MP4 or QuickTime file: the same frames and the same sound come back, and these times. Only of
            damage that no decoder notices may the picture differ.
        mix: how the sound's channels are mixed, as an earlier call returned it; where it is not given and decoding
            stops early, by what was heard until then.

    Raises:
        MediaError: the file is missing, broken, has neither picture nor sound, or demands more than this module allows.
    """
    frames: dict[int, np.ndarray] = {}  # stays empty where somebody takes them
    hand_over, given = take or frames.__setitem__, set()
    if isinstance(path, Recording) and path.holds(keep, sample_rate):
        path.replay(keep, short_side, hand_over)
        return replace(path.media, frames=frames)
    if times is not None and last_frame is not None:
        wanted = [number for number in range(min(last_frame + 1, len(times))) if keep(number)]
        late, given = _read_late(path, wanted, times, short_side, hand_over)
        if late is not None:
            sound = read_sound(path, late.origin, SoundTrack(sample_rate, mix), sound_until)
            return Media(frames, times, sound, *late.size)
    with open_media(path) as container:
        streams = find_streams(container)
        pictures = Pictures(streams[0], lambda number: number not in given and keep(number), short_side, hand_over)
        sound = SoundTrack(sample_rate, mix, counted=container.format.name in COUNTED)
        media = _read_streams(path, streams, pictures, sound, last_frame, sound_until)
        return replace(media, frames=dict(sorted(frames.items())))


def _read_streams(
    path: str | Path | Recording,
    streams: list[av.VideoStream | av.AudioStream],
    pictures: Pictures,
    sound: SoundTrack,
    last_frame: int | None,
    sound_until: float | None,
) -> Media:
    """Decode both streams in one pass, as far as they are asked for; frames are handed over, and none is returned."""
    recording = path if isinstance(path, Recording) else None
    if recording and pictures.expected:
        recording.expect(streams[0].frames)
        pictures.hold = recording.hold
    if streams[-1].type == "video":
        sound_until = None
    takers = [pictures if stream.type == "video" else sound for stream in streams]
    for packet in demux(streams, path):
        # By identity: where streams appear midway, PyAV tells wrong types.
        taker = takers[0] if packet.stream is streams[0] else takers[-1]
        taker.expect(packet)
        frames = decode_packet(packet)
        taker.note(packet)
        for frame in frames:
            taker.take(frame)
        if last_frame is not None and pictures.reaches(last_frame) and sound.reaches(sound_until, pictures.times):
            break
    else:
        pictures.flush()
    if not pictures.times and (pictures.expected or sound.start is None):
        raise MediaError(f"{path}: not one frame could be decoded")
    if not sound.timed and streams[-1].container.format.name == "flac":
        warn_once(f"{path}: its sample rate changes midway, and FFmpeg's reader of bare FLAC repeats what follows")
    # Frames come in the order they are shown in; times that do not rise were told for another order.
    times = np.sort(np.array(pictures.times, np.float64))
    origin = times[0] if len(times) else sound.start
    heard = finish_sound(path, sound, origin + pictures.late, sound_until)
    media = Media({}, times - times[0] if len(times) else times, heard, *pictures.size, pictures.list_sizes())
    if recording and last_frame is None and recording.room > 0:  # else its sound alone would be of no use
        recording.media = media
    return media


def finish_sound(
    path: str | Path | Recording, sound: SoundTrack, origin: float, sound_until: float | None
) -> Sound | None:
    """Return the sound that was collected; decoded once more where what came late asks for another mix of all."""
    heard = sound.finish(origin)
    if better := sound.find_better():
        return read_sound(path, origin, SoundTrack(sound.sample_rate, better, counted=sound.counted), sound_until)
    return heard


def _read_late(
    path: str | Path,
    wanted: list[int],
    times: np.ndarray,
    short_side: int | None,
    hand_over: Callable[[int, np.ndarray], None],
) -> tuple[Pictures | None, set[int]]:
    """Leap to the keyframe before the first wanted frame, and tell frames by their times.

    Returns:
        What is known of the picture, or None where a leap does not pay or a wanted frame did not come back, so that the
        file is to be decoded from its start; and the frames that were handed over.
    """
    given: set[int] = set()
    if not wanted or times[wanted[0]] < LATE_SECONDS:
        return None, given
    with open_media(path) as container:
        picture = find_streams(container)[0]
        pictures = Pictures(picture, set(wanted).__contains__, short_side, hand_over)
        decoded = decode_whole(demux([picture], path), pictures)
        first = next(decoded, None)
        if first is None or first.time is None:
            return None, given
        pictures.measure(first)
        if not _leap(picture, first.time, times[max(wanted[0] - DEEPEST, 0)]):
            return None, given
        following = None
        for frame in deinterlace(decoded):
            time = (frame.time or 0.0) - first.time
            number = int(np.searchsorted(times, time - SAME_SECONDS))
            if number > wanted[-1] or abs(times[number] - time) > SAME_SECONDS or following not in (None, number):
                break
            following = number + 1
            if pictures.keep(number):
                pictures.show(number, frame)
                given.add(number)
    return (pictures if given == set(wanted) else None), given


def decode_whole(packets: Iterable[av.Packet], pictures: Pictures) -> Iterator[av.VideoFrame]:
    """Yield frames up to the first that is damaged: what a decoder makes of it depends on all that went before."""
    for packet in packets:
        pictures.expect(packet)
        try:
            frames = packet.decode()
        except DAMAGE:
            return
        pictures.note(packet)
        for frame in frames:
            if frame.is_corrupt:
                return
            yield frame


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


def read_sound(
    path: str | Path | Recording, origin: float, sound: SoundTrack, sound_until: float | None
) -> Sound | None:
    """Decode a file's sound alone, from its start; the picture, if any, begins at `origin` on the file's clock."""
    with open_media(path) as container:
        streams = find_streams(container)
        if streams[-1].type == "video":
            return None
        if container.format.name.startswith("mov"):  # its clock never starts again, so that the picture is not needed
            streams = streams[-1:]
        for packet in demux(streams, path):
            for frame in decode_packet(packet) if packet.stream is streams[-1] else ():
                sound.take(frame)
            if sound_until is not None and sound.reaches(sound_until, [origin]):
                break
        return sound.finish(origin)


def demux(streams: list[av.VideoStream | av.AudioStream], path: str | Path) -> Iterator[av.Packet]:
    """Yield the packets of these streams in file order."""
    for stream in streams:
        if stream.codec_context is None:
            raise MediaError(f"{path}: there is no decoder for its {stream.type}")
        stream.codec_context.thread_count = 1  # parallel over files; threads inside slow small clips down
        stream.codec_context.options = DECODE_OPTIONS
    packets = streams[0].container.demux(streams)
    if streams[0].type == "video" and not streams[0].container.format.name.startswith("mov"):
        packets = Joiner(str(path)).join(packets)
    read, size = 0, os.stat(path).st_size
    try:
        for packet in packets:
            read = max(read, (packet.pos or 0) + packet.size)
            yield packet
        if streams[0].container.format.name in ENDED and size - read > SMALL_REST * size:
            warn_once(f"{path}: {size - read:,} of its {size:,} bytes are not read, as where files were joined")
    except IndexError:  # PyAV's, at the very end, about streams that appeared midway
        warn_once(f"{path}: more streams begin in the middle of the file; what they hold is not read")


def decode_packet(packet: av.Packet) -> list[av.VideoFrame] | list[av.AudioFrame]:
    try:
        return packet.decode()
    except DAMAGE:
        return []


class Pictures:
    """Hands over the wanted frames, and collects the times of all; of a stream of sound there are none."""

    def __init__(
        self,
        stream: av.VideoStream | av.AudioStream,
        keep: Callable[[int], bool],
        short_side: int | None,
        hand_over: Callable[[int, np.ndarray], None],
    ):
        self.keep, self.hand_over, self.converter = keep, hand_over, Converter(short_side)
        self.hold: Callable[[int, av.VideoFrame, Fraction], None] | None = None  # is given every frame as it is
        self.origin = self.late = 0.0  # of the first frame on the file's clock; by how much it tells too early a time
        self.times: list[float] = []
        self.sizes: list[tuple[int, int, int]] = []  # numbers of frames with which it changes, widths and heights
        self.expected = stream.type == "video"
        self.cut: bool | None = None  # does it begin with what an edit list cuts off?
        self.stream, self.deinterlacer = stream, Deinterlacer()
        self.shape = PixelShape(stream) if self.expected and stream.codec_context else None
        self.seconds = float(1 / ((self.expected and stream.average_rate) or 25))  # a frame's, where it does not tell
        self.slots = deque[float]() if stream.container.format.name in UNTIMED else None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the first picture; zeros where there is none."""
        return self.sizes[0][1:] if self.sizes else (0, 0)

    def list_sizes(self) -> np.ndarray:
        """Return at which frames the size changes, and to what, int64 `[K, 3]`."""
        return np.array(self.sizes[1:], np.int64).reshape(-1, 3)

    def expect(self, packet: av.Packet) -> None:
        """Note the place of a packet in the file where that is all there is."""
        if self.slots is not None and packet.dts is not None:
            self.slots.append(float(packet.dts * packet.time_base))
        if self.cut is None:
            self.cut = packet.is_discard

    def note(self, packet: av.Packet) -> None:
        """Note what is known once a packet was decoded."""
        if self.shape:
            self.shape.note(packet)

    def take(self, frame: av.VideoFrame) -> None:
        for whole in self.deinterlacer.take(frame):
            self._take(whole)

    def flush(self) -> None:
        """Take what is still to come once all is decoded."""
        for frame in self.deinterlacer.finish():
            self._take(frame)

    def _take(self, frame: av.VideoFrame) -> None:
        number = len(self.times)
        self.measure(frame)
        if self.hold:
            self.hold(number, frame, self.ratio)
        if self.keep(number):
            self.show(number, frame)
        self.times.append(self._tell_time(frame))

    def show(self, number: int, frame: av.VideoFrame) -> None:
        """Hand over a frame."""
        self.hand_over(number, self.converter.convert(frame, self.shape.tell(frame)))

    def reaches(self, last_frame: int) -> bool:
        """Is this frame there, if there are any?"""
        return len(self.times) > last_frame or not self.expected

    def measure(self, frame: av.VideoFrame) -> None:
        """Take note of what a frame says of its size, and the first of all of the clock."""
        self.ratio = self.shape.tell(frame)
        size = measure_picture(frame, self.ratio)
        if not self.sizes:
            self.late = measure_lateness(self.stream, frame.time or 0.0) if self.cut else 0.0
            self.origin = (frame.time or 0.0) + self.late
        if not self.sizes or size != self.sizes[-1][1:]:
            self.sizes.append((len(self.times), *size))

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
