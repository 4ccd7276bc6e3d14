"""Decoded frames → pictures as players show them: deinterlaced, upright, of square pixels, in ordinary colours."""

from __future__ import annotations

import math
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
import av.error
import cv2
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import VideoReformatter

from dfmm.media.colour import is_wide, narrow_colours
from dfmm.media.container import LARGEST_PICTURE

# The shape of a pixel, its width by its height: what is nearer to a square than this is left as it is, because encoders
# write 1279:1280 for what they have rounded; what is further from it is no shape that anybody films in.
SQUARE, OBLONG = 1.01, 4
# What is as wide, or has more lines, is taken for BT.709 where it does not say how its colours are coded, as mpv does
# (mp_csp_guess_colorspace): also a film without the black bars above and below it.
HD_WIDTH, SD_LINES = 1280, 576
LATEST = 64  # packets, more than there are in any decoder
UNSPECIFIED = 2  # matrix coefficients, by their number in ITU-T H.273


class PixelShape:
    """Tells how wide a stream's pixels are by their height, which its frames do not say."""

    def __init__(self, stream: av.VideoStream):
        self.context = stream.codec_context
        told = stream.sample_aspect_ratio
        # What the container says holds for all; what the codec says may change with the picture's size.
        self.told = told if told and told != self.context.sample_aspect_ratio else None
        self.by_size: dict[tuple[int, int], Fraction] = {}
        self.by_time: dict[int, Fraction] = {}  # of the latest packets

    def note(self, packet: av.Packet) -> None:
        """Note what the decoder knows after a packet: its frame may come packets later, when that has changed."""
        if packet.pts is not None and not self.told:
            self.by_time[packet.pts] = self.context.sample_aspect_ratio or Fraction(1)
            if len(self.by_time) > LATEST:
                del self.by_time[next(iter(self.by_time))]

    def tell(self, frame: av.VideoFrame) -> Fraction:
        """Return the ratio for a frame that was just decoded."""
        size = frame.width, frame.height
        if self.told:
            return self.told
        if frame.pts in self.by_time:
            return self.by_time[frame.pts]
        if size == (self.context.width, self.context.height) or size not in self.by_size:  # else it came late
            self.by_size[size] = self.context.sample_aspect_ratio or Fraction(1)
        return self.by_size[size]


class Converter:
    """Turns decoded frames into pictures, scaled down to a short side if there is one."""

    def __init__(self, short_side: int | None):
        self.short_side = short_side
        self.reformatter = VideoReformatter()

    def convert(self, frame: av.VideoFrame, ratio: Fraction) -> np.ndarray:
        """Return a frame as it is shown, uint8 RGB `[H, W, 3]`; `ratio` is that of its pixels' sides."""
        width, height = square_pixels(frame.width, frame.height, ratio)
        scale = 1.0 if self.short_side is None else min(1.0, self.short_side / min(width, height))
        mirrored, turns = read_orientation(frame)
        image = self._draw(frame, round(width * scale), round(height * scale))
        if mirrored:
            image = image[:, ::-1]
        return np.ascontiguousarray(np.rot90(image, turns)) if mirrored or turns else image

    def _draw(self, frame: av.VideoFrame, width: int, height: int) -> np.ndarray:
        wide = is_wide(frame.color_trc, frame.color_primaries)
        kind, matrix = "rgb48le" if wide else "rgb24", None
        if frame.colorspace == UNSPECIFIED and not frame.format.is_rgb:
            large = frame.width >= HD_WIDTH or frame.height > SD_LINES
            matrix = "BT2020" if wide else "ITU709" if large else None
        options = {"src_colorspace": matrix, "interpolation": "AREA", "threads": 1}
        image = self.reformatter.reformat(frame, width, height, kind, **options).to_ndarray()
        return narrow_colours(image, frame.color_trc, frame.color_primaries) if wide else image


def measure_picture(frame: av.VideoFrame, ratio: Fraction) -> tuple[int, int]:
    """Return the width and height of a frame as it is shown, before any scaling, in pixels.

    Raises:
        ValueError: it is too large.
    """
    width, height = square_pixels(frame.width, frame.height, ratio)
    if width * height > LARGEST_PICTURE:
        raise ValueError(f"its picture of {width}×{height} pixels is too large")
    return (height, width) if read_orientation(frame)[1] % 2 else (width, height)


def square_pixels(width: int, height: int, ratio: Fraction) -> tuple[int, int]:
    """Return the size that a picture has in square pixels: nothing of it is scaled down."""
    if ratio == 1:
        return width, height
    share = float(max(ratio, 1 / ratio)) if ratio > 0 else 1.0
    if not SQUARE <= share <= OBLONG:
        return width, height
    return (round(width * share), height) if ratio > 1 else (width, round(height * share))


def fit_picture(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return a picture `[H, W, 3]` in another size, black around it where that has another shape."""
    if picture.shape[:2] == (height, width):
        return picture
    scale = min(width / picture.shape[1], height / picture.shape[0])
    sides = zip(picture.shape[1::-1], (width, height), strict=True)
    size = tuple(max(min(round(side * scale), most), 1) for side, most in sides)
    fitted, left, top = np.zeros((height, width, 3), np.uint8), (width - size[0]) // 2, (height - size[1]) // 2
    fitted[top : top + size[1], left : left + size[0]] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return fitted


def read_orientation(frame: av.VideoFrame) -> tuple[bool, int]:
    """Return whether a frame is to be mirrored, left to right, and then by how many quarters it is to be turned left.

    `frame.rotation` knows no mirrors. A display matrix (ISO 14496-12) brings the point (x, y) of a frame to
    (a·x + c·y, b·x + d·y), with its rows a, b, · and c, d, ·.
    """
    matrix = frame.side_data.get(Type.DISPLAYMATRIX)
    if matrix is None:
        return False, 0
    a, b, _, c, d = struct.unpack_from("=5i", bytes(matrix))
    mirrored = a * d - b * c < 0
    angle = math.atan2(-b, -a) if mirrored else math.atan2(b, a)  # to the right
    return mirrored, -round(2 * angle / math.pi) % 4


class Deinterlacer:
    """Makes whole pictures of frames that say they were woven of two fields; passes all others on.

    From the first such frame on frames come one late: each is shown beside the one that follows.
    """

    def __init__(self) -> None:
        self.graph: av.filter.Graph | None = None
        self.kind: tuple[int, int, str] | None = None
        self.waiting: deque[av.VideoFrame] = deque()  # frames that are in the filter

    def take(self, frame: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """Yield the frames that are ready once this one is there."""
        if self.graph and self.kind != _tell_kind(frame):
            yield from self.finish()
        if self.graph is None and frame.interlaced_frame:
            self.graph, self.kind = _build_graph(frame), _tell_kind(frame)
        if self.graph is None:
            yield frame
            return
        self.waiting.append(frame)
        self.graph.push(frame)
        yield from self._pull()

    def finish(self) -> Iterator[av.VideoFrame]:
        """Yield what is left."""
        if self.graph:
            self.graph.push(None)
            yield from self._pull()
        self.graph, self.kind = None, None
        self.waiting.clear()

    def _pull(self) -> Iterator[av.VideoFrame]:
        while self.waiting:
            try:
                frame = self.graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            meant = self.waiting.popleft()
            frame.pts, frame.time_base = meant.pts, meant.time_base
            yield frame


def _tell_kind(frame: av.VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name


def _build_graph(frame: av.VideoFrame) -> av.filter.Graph | None:
    """Return a filter for such frames; None for those it does not take."""
    graph = av.filter.Graph()
    graph.threads = 1
    size = {"width": frame.width, "height": frame.height, "format": frame.format}
    try:
        nodes = [graph.add_buffer(**size, time_base=frame.time_base or Fraction(1, 25))]
        nodes += [graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink")]
        graph.link_nodes(*nodes).configure()
    except av.error.FFmpegError:
        return None
    return graph


def deinterlace(frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Yield the frames of a stretch, whole."""
    deinterlacer = Deinterlacer()
    for frame in frames:
        yield from deinterlacer.take(frame)
