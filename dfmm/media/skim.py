"""A long file of which few frames are decoded: all packets are counted, and all of its sound is heard."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np

from dfmm.media.container import LONGEST_SECONDS, SAME_SECONDS, MediaError, find_streams, open_media
from dfmm.media.decode import (
    COUNTED,
    UNTIMED,
    Media,
    Pictures,
    Recording,
    decode_packet,
    decode_whole,
    demux,
    finish_sound,
    read_sound,
)
from dfmm.media.picture import Deinterlacer, measure_picture
from dfmm.media.sound import SoundTrack

SEEKABLE = ("mov", "matroska")  # what is worth a try; in all others packets are read on, and few of them decoded
LEAD = 2  # frames before a stretch: what is deinterlaced depends on the one before
APART = 16  # frames from one wanted frame to a later keyframe from which on what is between is not decoded


class SkimError(MediaError):
    """A file that cannot be read in parts, so that it is to be decoded from its start; the message says why."""


@dataclass(frozen=True)
class Mark:
    """A keyframe's packet, by all that tells it from others."""

    number: int  # of its frame, in the order they are shown
    pts: int
    dts: int | None
    size: int

    def is_it(self, packet: av.Packet) -> bool:
        return (packet.pts, packet.dts, packet.size) == (self.pts, self.dts, self.size)

    def is_behind(self, packet: av.Packet) -> bool:
        """Did whoever looks for it go past it?"""
        return packet.dts is not None and self.dts is not None and packet.dts > self.dts


class Skim(Recording):
    """A file whose frame times and sound are known, as whoever decodes it from its start knows them.

    Given to `read_media` in place of a path, only what is wanted of its picture is decoded, each stretch from the
    keyframe before. No leap is trusted: it has to come out at that very packet, else packets are read on from the
    start; and the frames that are decoded must have the times that follow each other in the file.

    Raises:
        SkimError: while it is read so, a frame did not come out as it should.
    """

    def __init__(
        self, path: str | Path, media: Media, told: np.ndarray, marks: list[Mark], origin: float, *, counted: bool
    ):
        super().__init__(path, room=0)
        self.media, self.told, self.marks, self.origin, self.counted = media, told, marks, origin, counted
        self.decoded = 0  # frames, so far

    @property
    def keys(self) -> np.ndarray:
        """The numbers of all keyframes, int64 `[K]`."""
        return np.array([mark.number for mark in self.marks], np.int64)

    def count_decoded(self, numbers: Iterable[int]) -> int:
        """Return how many frames are decoded where these are wanted."""
        return sum(numbers[-1] - mark.number + 1 for mark, numbers in self._group(sorted(numbers)))

    def holds(self, keep: Callable[[int], bool], sample_rate: int) -> bool:
        sound = self.media.sound
        if sound is not None and sound.sample_rate != sample_rate:
            again = read_sound(self.path, self.origin, SoundTrack(sample_rate, sound.mix, counted=self.counted), None)
            self.media = replace(self.media, sound=again)
        return True

    def replay(
        self, keep: Callable[[int], bool], short_side: int | None, hand_over: Callable[[int, np.ndarray], None]
    ) -> None:
        """Decode the wanted frames, in order."""
        groups = deque(self._group([number for number in range(len(self.told)) if keep(number)]))
        for leap in (True, False):
            if groups:
                with open_media(self.path) as container:
                    if not leap or container.format.name.startswith(SEEKABLE):
                        self._show_groups(container, groups, leap, short_side, hand_over)
        if groups:
            raise SkimError(f"{self.path}: the keyframe of frame {groups[0][0].number} is not found again")

    def _group(self, wanted: list[int]) -> list[tuple[Mark, list[int]]]:
        """Return the keyframes to begin at, and the wanted frames that are decoded from each."""
        keys, groups = self.keys, []
        for number in wanted:
            key = keys[max(int(np.searchsorted(keys, number, side="right")) - 1, 0)]
            if groups and key - groups[-1][-1] <= APART:
                groups[-1].append(number)
            else:
                groups.append([number])
        starts = [group[0] - LEAD * (len(group) > 1) for group in groups]
        at = (np.searchsorted(keys, starts, side="right") - 1).clip(min=0)
        return [(self.marks[one], group) for one, group in zip(at.tolist(), groups, strict=True)]

    def _show_groups(
        self,
        container: av.container.InputContainer,
        groups: deque[tuple[Mark, list[int]]],
        leap: bool,
        short_side: int | None,
        hand_over: Callable[[int, np.ndarray], None],
    ) -> None:
        """Show group after group, as long as each one's keyframe is found."""
        streams = find_streams(container)
        pictures, packets = Pictures(streams[0], bool, short_side, hand_over), demux(streams, self.path)
        while groups:
            mark, numbers = groups[0]
            if leap:
                container.seek(mark.pts if mark.dts is None else mark.dts, stream=streams[0])
                packets = container.demux(streams[0])
            ours = (packet for packet in packets if packet.stream is streams[0])
            found = next((packet for packet in ours if mark.is_it(packet) or mark.is_behind(packet)), None)
            if found is None or not mark.is_it(found):
                return
            streams[0].codec_context.flush_buffers()
            if numbers == [mark.number]:  # nobody waits until others push it out
                last = av.Packet()
                last.stream, last.time_base = streams[0], found.time_base
                ours = iter([last])
            self._show_group(itertools.chain([found], ours), numbers, pictures)
            groups.popleft()

    def _show_group(self, packets: Iterator[av.Packet], numbers: list[int], pictures: Pictures) -> None:
        """Hand over these frames; packets come from a keyframe before them on."""
        wanted, following = set(numbers), None
        for frame in _decode(packets, pictures):
            self.decoded += 1
            number = int(np.searchsorted(self.told, (frame.time or 0.0) - SAME_SECONDS))
            if number > numbers[-1]:
                break
            if abs(self.told[number] - (frame.time or 0.0)) > SAME_SECONDS or following not in (None, number):
                raise SkimError(f"{self.path}: frame {following} came out at another time than it tells")
            if number >= numbers[0]:  # those before a keyframe need what was before it
                following = number + 1
            if number in wanted:
                if measure_picture(frame, pictures.shape.tell(frame)) != (self.media.width, self.media.height):
                    raise SkimError(f"{self.path}: the picture's size changes midway")
                pictures.show(number, frame)
                wanted.discard(number)
            if not wanted:
                return
        if wanted:
            raise SkimError(f"{self.path}: frame {min(wanted)} did not come out where it should")


def _decode(packets: Iterable[av.Packet], pictures: Pictures) -> Iterator[av.VideoFrame]:
    """Yield whole frames."""
    deinterlacer = Deinterlacer()
    for frame in decode_whole(packets, pictures):
        yield from deinterlacer.take(frame)
    yield from deinterlacer.finish()


def skim_media(path: str | Path, *, sample_rate: int) -> Skim:
    """Read all packets of a file, and decode of them its sound alone.

    Raises:
        SkimError: it has no picture, or does not tell of each frame when it is shown.
        MediaError: the file is missing or broken.
    """
    with open_media(path) as container:
        streams = find_streams(container)
        if streams[0].type != "video" or container.format.name in UNTIMED:
            raise SkimError(f"{path}: its frames tell no times")
        sound = SoundTrack(sample_rate, counted=container.format.name in COUNTED)
        packets, base = list(_list_packets(streams, path, sound)), streams[0].time_base
    shown = [one for one in packets if not one[4]]
    ticks = np.sort(np.array([one[0] for one in shown], np.int64))
    if len(ticks) < 2 or (np.diff(ticks) <= 0).any():
        raise SkimError(f"{path}: its frames do not tell times that rise")
    told = ticks.astype(np.float64) * base.numerator / base.denominator
    if told[-1] - told[0] > LONGEST_SECONDS:
        raise SkimError(f"{path}: it tells to last longer than {LONGEST_SECONDS / 3600:g} hours")
    marks = [Mark(int(np.searchsorted(ticks, pts)), pts, dts, size) for pts, dts, size, key, _ in shown if key]
    marks = [mark for mark, after in itertools.pairwise([*marks, None]) if after is None or mark.number < after.number]
    pictures = _find_first(path, float(told[0]))
    origin = pictures.origin
    media = Media({}, told - told[0], finish_sound(path, sound, origin, None), *pictures.size)
    return Skim(path, media, told, marks, origin, counted=sound.counted)


def _list_packets(
    streams: list[av.VideoStream | av.AudioStream], path: str | Path, sound: SoundTrack
) -> Iterator[tuple[int, int | None, int, bool, bool]]:
    """Yield of each picture when it is shown and decoded, its bytes, is it a key and is it cut off; take the sound."""
    for packet in demux(streams, path):
        if packet.stream is not streams[0]:
            for frame in decode_packet(packet):
                sound.take(frame)
        elif packet.size:
            if packet.pts is None or packet.is_corrupt:
                raise SkimError(f"{path}: a frame is damaged, or tells no time")
            yield packet.pts, packet.dts, packet.size, packet.is_keyframe, packet.is_discard


def _find_first(path: str | Path, told: float) -> Pictures:
    """Decode the first frame; return what is known of the picture by it."""
    with open_media(path) as container:
        streams = find_streams(container)[:1]
        pictures = Pictures(streams[0], bool, None, lambda number, frame: None)
        first = next(decode_whole(demux(streams, path), pictures), None)
        if first is None or first.time is None or abs(first.time - told) > SAME_SECONDS:
            raise SkimError(f"{path}: its first frame came out at another time than it tells")
        pictures.measure(first)
    return pictures
