"""Packets on one clock: where a file's own starts again, as in recordings that were joined, parts follow each other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import av

from dfmm.media.container import LONGEST_SECONDS, warn_once

# A stream begins again at a keyframe that goes back by more; others may be told in another order than they are shown.
RESTART_SECONDS, DISORDER_SECONDS = 0.3, 2.0
WOVEN_SECONDS = 2.0  # no container weaves its streams more coarsely: within it all of them begin a part


def restarts(seconds: float, before: float, *, keyframe: bool = True) -> bool:
    """Does a clock start again that tells this time after that? FFmpeg takes one far back for one that has run over."""
    allowed = RESTART_SECONDS if keyframe else DISORDER_SECONDS
    return seconds < before - allowed or before + LONGEST_SECONDS < seconds < math.inf


def count_seconds(ticks: int, base: Fraction) -> float:
    """Return what `float(ticks * base)` is, to the bit and ten times as fast: no fraction is made."""
    return ticks * base.numerator / base.denominator


@dataclass
class Line:
    """How far a stream has come in a part of its file, in seconds by the part's own clock."""

    part: int = 0
    start: float = math.inf
    end: float = -math.inf
    before: tuple[float, float] = (math.inf, math.inf)  # of the last two packets: one alone may be damaged
    woven: float = 0.0  # how much has come since another stream began the next part

    def begins(self, packet: av.Packet, seconds: float) -> bool:
        """Does another part begin with this packet?"""
        return all(
            restarts(seconds, before, keyframe=packet.is_keyframe) for before in self.before if before < math.inf
        )

    def go_on(self, packet: av.Packet, seconds: float, base: Fraction) -> None:
        shown, lasts = packet.pts if packet.pts is not None else packet.dts, packet.duration or 0
        self.start = min(self.start, count_seconds(shown, base))
        self.end = max(self.end, count_seconds(shown + lasts, base))
        self.woven += count_seconds(lasts, base)
        self.before = self.before[1], seconds


class Joiner:
    """Lets the parts of a file, each with a clock of its own, follow each other, picture and sound alike in step.

    A part begins as early as it can without cutting off what came before, in any stream. Its packets wait until all
    streams have begun it, or seem not to: then what does not is let alone.
    """

    def __init__(self, name: str):
        self.name = name
        self.shifts = [0.0]  # by how many seconds each part is later than it tells
        self.lines: dict[int, Line] = {}  # by the index of a stream
        self.ends: dict[int, float] = {}  # where its part before the one that waits ends, on the clock of all
        self.waiting: list[av.Packet] = []

    def join(self, packets: Iterable[av.Packet]) -> Iterator[av.Packet]:
        """Yield packets, those of later parts with later times."""
        for packet in packets:
            told = packet.pts if packet.dts is None else packet.dts
            if told is not None:
                yield from self._find_part(packet, told)
            elif not packet.size:  # the end, at which decoders give out what they hold
                yield from self._settle()
            line = self.lines.get(packet.stream.index)
            if line and line.part == len(self.shifts):
                self.waiting.append(packet)
            else:
                yield self._shift(packet)
            if self.waiting and self._has_begun():
                yield from self._settle()
        yield from self._settle()

    def _find_part(self, packet: av.Packet, told: int) -> Iterator[av.Packet]:
        """Note to which part a packet belongs; yield what waited for that."""
        base = packet.time_base  # made anew whenever it is asked for
        seconds = count_seconds(told, base)
        index, latest = packet.stream.index, len(self.shifts) - (not self.waiting)
        line = self.lines.setdefault(index, Line(latest))
        if line.before[1] < math.inf and line.begins(packet, seconds):
            if line.part == len(self.shifts):
                yield from self._settle()
            if line.part == len(self.shifts) - 1 and not self.waiting:  # nobody began it before
                for other in self.lines.values():
                    other.woven = 0.0
            self.ends[index] = line.end + self.shifts[line.part]
            line = self.lines[index] = Line(max(line.part + 1, latest))
        if line.before == (seconds, seconds):
            warn_once(f"{self.name}: its clock stands still, as where MXF files were joined: what follows is lost")
        line.go_on(packet, seconds, base)

    def _has_begun(self) -> bool:
        """Have all streams begun the part that waits, as far as they ever will?"""
        latest, lines = len(self.shifts), self.lines.values()
        waited = any(line.part == latest and line.woven > WOVEN_SECONDS for line in lines)
        return waited or all(line.part == latest or line.woven > WOVEN_SECONDS for line in lines)

    def _settle(self) -> Iterator[av.Packet]:
        """Choose by how much the part that waits is shifted, and yield it."""
        if not self.waiting:
            return
        begun = {index: line for index, line in self.lines.items() if line.part == len(self.shifts)}
        others = [
            line for line in self.lines.values() if line.part < len(self.shifts) and line.woven > WOVEN_SECONDS / 2
        ]
        shift = max(self.ends[index] - line.start for index, line in begun.items() if index in self.ends)
        if any(abs(line.end - other.end) < WOVEN_SECONDS for line in begun.values() for other in others):
            shift = self.shifts[-1]  # for a while its times were wrong, and are no longer
        elif others:
            warn_once(f"{self.name}: a clock starts again, of its picture or its sound alone: they may be out of step")
        self.shifts.append(shift)
        yield from map(self._shift, self.waiting)
        self.waiting = []

    def _shift(self, packet: av.Packet) -> av.Packet:
        line = self.lines.get(packet.stream.index)
        shift = self.shifts[line.part] if line else 0.0
        if shift:
            ticks = round(shift / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
        return packet
