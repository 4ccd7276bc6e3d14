"""What a media file may be and demand, before anything of it is decoded."""

from __future__ import annotations

import functools
import logging
import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import av
import av.error

# What a file may demand. H.264 and HEVC keep up to 16 pictures beside the one they draw, of three bytes a pixel at
# 10 bits: 4096 × 4096 pixels (4K either way up fits, 8K does not) are 0.86 GB. Three hours of sound at 16 kHz are
# 0.69 GB.
LARGEST_PICTURE = 4096 * 4096
LONGEST_SECONDS = 3 * 3600
MOST_STREAMS = 64

SAME_SECONDS = 1e-6  # two times that differ by less are one

# Demuxers that read one file, and nothing it names: no playlists (hls, dash, concat, sdp, imf), devices, or images.
FORMATS = (
    *("mov", "matroska", "avi", "mpeg", "mpegts", "flv", "asf", "ogg", "rm", "mxf", "nut", "ivf", "dv", "wtv"),
    *("h264", "hevc", "m4v", "mpegvideo", "mjpeg", "obu", "yuv4mpegpipe", "gif", "apng"),
    *("wav", "w64", "aiff", "caf", "flac", "mp3", "aac", "ac3", "eac3", "amr", "au"),
)
OPEN_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": ",".join(FORMATS),
    "max_streams": str(MOST_STREAMS),
}
# Of decoders. Not to be given to `av.open` as well: PyAV 17 crashes there on program and transport streams.
DECODE_OPTIONS = {"max_pixels": str(LARGEST_PICTURE)}

# Boxes of an MP4 or QuickTime file that hold others (ISO 14496-12), and those that promise samples. The demuxer makes
# room for every sample that is promised, before it looks for one.
HOLDERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"udta", b"edts", b"dinf", b"mvex", b"wave"}
DEEPEST = 10  # the demuxer goes no deeper either


log = logging.getLogger("dfmm")


class MediaError(Exception):
    """A file that cannot be decoded; the message says which, and why."""


@functools.lru_cache(maxsize=1024)  # a file is read several times
def warn_once(message: str) -> None:
    """Say what is to be known of a file, once in a process."""
    log.warning(message)


@contextmanager
def open_media(path: str | Path) -> Iterator[av.container.InputContainer]:
    """Open a file for decoding; everything that goes wrong with it inside becomes one `MediaError`.

    Only regular files of the formats in `FORMATS` are opened, and none that they name, in this file or elsewhere.
    """
    if not Path(path).is_file():
        raise MediaError(f"{path}: {'not a regular' if Path(path).exists() else 'no such'} file")
    try:
        check_promises(path)
        with _open(path) as container:
            streams = find_streams(container)
            if not streams:
                raise MediaError(f"{path}: has neither a picture nor sound")
            _check_picture(streams[0])
            yield container
    except (av.error.FFmpegError, OSError, ValueError, EOFError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        broken = isinstance(error, (av.error.InvalidDataError, EOFError))
        cure = ": no video, or one that is damaged or cut off; copy it again" if broken else ""
        raise MediaError(f"{path}: cannot be decoded ({reason}){cure}") from error


def _open(path: str | Path) -> av.container.InputContainer:
    try:
        return av.open(
            f"file:{path}",  # the prefix keeps a name such as `concat:a|b` a name
            container_options=OPEN_OPTIONS,
            metadata_errors="replace",  # old files have titles in any encoding
        )
    except av.error.ArgumentError as error:
        raise ValueError("it is of no format that is read, or its header makes no sense") from error


def find_streams(container: av.container.InputContainer) -> list[av.VideoStream | av.AudioStream]:
    """Return the video stream that players show, never a cover picture, and the audio stream, where there are any.

    That is the first of those flagged as default; where none is flagged, the first. One for which there is no decoder
    is returned only where there is none for the others either.
    """
    covers, default = av.stream.Disposition.attached_pic, av.stream.Disposition.default
    pictures = [stream for stream in container.streams.video if not stream.disposition & covers]
    return [
        max(streams, key=lambda stream: (stream.codec_context is not None, bool(stream.disposition & default)))
        for streams in (pictures, container.streams.audio)
        if streams
    ]


def measure_lateness(stream: av.VideoStream, told: float) -> float:
    """Return by how many seconds the first frame shown of an MP4 or QuickTime file is later than it tells.

    Where an edit list begins between two frames, FFmpeg drops what lies before, and moves all pictures so that the next
    frame is at the very beginning, but not the sound. Without its `advanced_editlist` frames keep their times.
    """
    container = stream.container
    if not container.format.name.startswith("mov"):
        return 0.0
    plain = {**OPEN_OPTIONS, "advanced_editlist": "0"}
    with av.open(container.name, container_options=plain, metadata_errors="replace") as again:
        shown = math.inf
        for packet in again.demux(again.streams[stream.index]):
            if packet.pts is None or packet.dts is None or packet.dts * packet.time_base > shown:
                break  # no frame that comes later in the file is shown earlier
            time = float(packet.pts * packet.time_base)
            shown = min(shown, time if time > told - SAME_SECONDS else math.inf)
        return max(shown - told, 0.0) if shown < math.inf else 0.0


def _check_picture(stream: av.VideoStream | av.AudioStream) -> None:
    """Refuse a picture that is too large to be drawn."""
    if stream.type == "video" and stream.codec_context and stream.width * stream.height > LARGEST_PICTURE:
        raise ValueError(f"its picture of {stream.width}×{stream.height} pixels is too large")


def check_promises(path: str | Path) -> None:
    """Refuse an MP4 or QuickTime file that promises more samples than it has bytes.

    Raises:
        ValueError: it does.
    """
    size, promised, films = os.stat(path).st_size, 0, 0
    with open(path, "rb") as file:
        for kind, at in _list_boxes(file, 0, size):
            if kind == b"cmov":
                raise ValueError("its index is compressed")
            films += kind == b"moov"
            promised += _count_samples(file, kind, at)
    if promised > size:
        raise ValueError(f"it promises {promised:,} samples in {size:,} bytes")
    if films > 1:
        warn_once(f"{path}: holds {films} films, one after the other; only the first is read, as players do")


def _list_boxes(file: BinaryIO, at: int, end: int, depth: int = 0) -> Iterator[tuple[bytes, int]]:
    """Yield the kind of each box, and where its content begins, the boxes in boxes included."""
    if depth > DEEPEST:
        raise ValueError("its boxes are nested too deeply")
    while at + 8 <= end:
        file.seek(at)
        header = file.read(16)
        size, kind = struct.unpack(">I4s", header[:8])
        content = at + 8
        if size == 1 and len(header) == 16:
            size, content = struct.unpack(">Q", header[8:])[0], at + 16
        following = at + size if size >= content - at else end  # 0 is as far as there is
        yield kind, content
        if kind in HOLDERS:
            yield from _list_boxes(file, content, min(following, end), depth + 1)
        at = following


def _count_samples(file: BinaryIO, kind: bytes, at: int) -> int:
    """Return how many samples a box promises without an entry for each."""
    if kind not in (b"stsz", b"trun"):
        return 0
    file.seek(at)
    content = file.read(12)
    if len(content) < 12:
        return 0
    flags, first, second = struct.unpack(">3I", content)
    if kind == b"trun":  # any of these flags, and each sample has its entry
        return 0 if flags & 0xF00 else first
    return second if first else 0
