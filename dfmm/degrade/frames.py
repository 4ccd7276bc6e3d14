"""What the world does to a picture: functions of a window's frames, the same for all of them."""

from __future__ import annotations

import functools
from fractions import Fraction

import av
import cv2
import numpy as np
import scipy  # whose parts are imported when they are used
from av.video.reformatter import VideoReformatter

GREY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601 luma
# From RGB to luma and chroma in studio range, ITU-R BT.601, each row with what is added.
YUV = np.array([[65.481, 128.553, 24.966, 4080], [-37.797, -74.203, 112, 32640], [112, -93.786, -18.214, 32640]]) / 255


def mirror_frames(frames: np.ndarray) -> np.ndarray:
    """Swap left and right, uint8 `[T, H, W, 3]`."""
    tall = np.ascontiguousarray(frames).reshape(
        -1, *frames.shape[2:]
    )  # as one picture: numpy takes thirty times longer
    return cv2.flip(tall, 1).reshape(frames.shape)


def shift_frames(frames: np.ndarray, *, right: int, down: int) -> np.ndarray:
    """Move frames, uint8 `[T, H, W, 3]`, by whole pixels; what comes in repeats their edges."""
    (rows, from_rows), (columns, from_columns) = (
        (slice(max(far, 0), side + min(far, 0)), slice(max(-far, 0), side - max(far, 0)))
        for side, far in zip(frames.shape[1:3], (down, right), strict=True)
    )
    moved = np.empty_like(frames)
    moved[:, rows, columns] = frames[:, from_rows, from_columns]
    moved[:, rows, : columns.start] = moved[:, rows, columns.start, None]
    moved[:, rows, columns.stop :] = moved[:, rows, columns.stop - 1, None]
    moved[:, : rows.start] = moved[:, rows.start, None]
    moved[:, rows.stop :] = moved[:, rows.stop - 1, None]
    return moved


def move_frames(frames: np.ndarray, *, share: float, rng: np.random.Generator) -> np.ndarray:
    """Move frames, uint8 `[T, H, W, 3]`, by this share of their width in one direction or other, by whole pixels."""
    angle = rng.uniform(0, 2 * np.pi)
    far = share * frames.shape[2]
    return shift_frames(frames, right=round(far * np.cos(angle)), down=round(far * np.sin(angle)))


def change_colour(
    frames: np.ndarray, *, brightness: float = 1.0, contrast: float = 1.0, saturation: float = 1.0
) -> np.ndarray:
    """Scale brightness, contrast around the mean grey, and saturation; 1 changes nothing. uint8 `[T, H, W, 3]`."""
    # The three steps are linear in the pixel, so they are one matrix and one offset.
    mix = brightness * contrast * (saturation * np.eye(3) + (1 - saturation) * GREY)
    rows = np.ascontiguousarray(frames).reshape(-1, frames.shape[2], 3)
    mean = np.array(cv2.sumElems(rows)[:3]) / (len(rows) * frames.shape[2]) @ GREY * brightness
    return cv2.transform(rows, np.column_stack([mix, np.full(3, mean * (1 - contrast))])).reshape(frames.shape)


def add_noise(frames: np.ndarray, *, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise of this standard deviation, in grey levels, drawn anew for each pixel as a sensor does."""
    # Four draws from each number of 64 bits, looked up in steps: three times as fast as a normal draw for each.
    drawn = rng.integers(0, 1 << 64, -(-frames.size // 4), dtype=np.uint64).view(np.uint16)[: frames.size]
    noise = np.rint(_list_quantiles() * deviation).astype(np.int16)[drawn]
    rows = (frames.shape[0] * frames.shape[1], -1)
    return cv2.add(frames.reshape(rows), noise.reshape(rows), dtype=cv2.CV_8U).reshape(frames.shape)


@functools.cache
def _list_quantiles() -> np.ndarray:
    """Return values that are equally likely in a normal distribution, of variance 1, float64 `[65536]`."""
    values = scipy.special.ndtri((np.arange(1 << 16) + 0.5) / (1 << 16))
    return values / values.std()


def blur_frames(frames: np.ndarray, *, sigma: float) -> np.ndarray:
    """Blur frames, uint8 `[T, H, W, 3]`, by a Gaussian of this standard deviation in pixels."""
    # As wide as `GaussianBlur`, which takes twice the time for whole numbers, and one grey level off it at most.
    weights = cv2.getGaussianKernel(round(6 * sigma + 1) | 1, sigma, cv2.CV_32F)
    blurred = np.empty(frames.shape, np.uint8)
    for frame, result in zip(frames, blurred, strict=True):
        cv2.sepFilter2D(frame, -1, weights, weights, dst=result, borderType=cv2.BORDER_REPLICATE)
    return blurred


def cut_out(frames: np.ndarray, *, share: float, rng: np.random.Generator) -> np.ndarray:
    """Cover one square of this share of the picture by the mean colour, the same in all frames, uint8 `[T, H, W, 3]`.

    Cutout (DeVries and Taylor 2017), but wholly inside the picture.
    """
    height, width = frames.shape[1:3]
    side = np.sqrt(share * height * width)
    rows, columns = (min(round(side), length) for length in (height, width))
    top, left = (int(rng.random() * (room + 1)) for room in (height - rows, width - columns))
    covered = frames.copy()
    mean = cv2.mean(covered.reshape(-1, width, 3))[:3]
    covered[:, top : top + rows, left : left + columns] = np.rint(mean)
    return covered


def scale_frames(frames: np.ndarray, *, scale: float) -> np.ndarray:
    """Scale frames, uint8 `[T, H, W, 3]`, down to this share of their sides, and up to their size again."""
    height, width = frames.shape[1:3]
    small = (max(round(width * scale), 1), max(round(height * scale), 1))

    def blow_up(frame: np.ndarray) -> np.ndarray:
        fewer = cv2.resize(frame, small, interpolation=cv2.INTER_AREA)
        return cv2.resize(fewer, (width, height), interpolation=cv2.INTER_CUBIC)

    return np.stack([blow_up(frame) for frame in frames])


def compress_jpeg(frames: np.ndarray, *, quality: float) -> np.ndarray:
    """Code each frame, uint8 `[T, H, W, 3]`, as a JPEG of a quality from 1 to 100, and decode it again."""
    options = [cv2.IMWRITE_JPEG_QUALITY, round(quality)]

    def code(frame: np.ndarray) -> np.ndarray:
        coded = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), options)[1]
        return cv2.cvtColor(cv2.imdecode(coded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)

    return np.stack([code(frame) for frame in frames])


def compress_h264(frames: np.ndarray, *, crf: float) -> np.ndarray:
    """Code frames, uint8 `[T, H, W, 3]`, by x264 at a constant rate factor from 0 to 51, and decode them again."""
    height, width = frames.shape[1:3]
    even = frames
    if height % 2 or width % 2:  # 4:2:0 needs even sides
        even = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    encoder, decoder = av.CodecContext.create("libx264", "w"), av.CodecContext.create("h264", "r")
    encoder.height, encoder.width, encoder.pix_fmt = even.shape[1], even.shape[2], "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
    # With its macroblock tree, x264 does not always code the same frames alike; B-frames cost a third of the time more.
    encoder.options = {"crf": f"{crf:.2f}", "preset": "veryfast", "bf": "0", "x264-params": "mbtree=0"}
    encoder.thread_count = decoder.thread_count = 1
    packets = []
    for number, planes in enumerate(split_planes(even)):
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts = number
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    # One for all of them: `to_ndarray` sets it up anew for each frame, which takes longer than the frame.
    back = VideoReformatter()
    coded = (frame for packet in [*packets, None] for frame in decoder.decode(packet))
    return np.stack([back.reformat(frame, format="rgb24").to_ndarray() for frame in coded])[:, :height, :width]


def split_planes(frames: np.ndarray) -> np.ndarray:
    """Return frames of even sides, uint8 `[T, H, W, 3]`, as luma and halved chroma, uint8 `[T, 3 * H / 2, W]`.

    OpenCV's own conversion takes the colour of one pixel in four; this, as FFmpeg's, that of their mean, in a quarter
    of FFmpeg's time.
    """
    steps, height, width = frames.shape[:3]
    tall = np.ascontiguousarray(frames).reshape(steps * height, width, 3)
    halved = cv2.resize(tall, (width // 2, steps * height // 2), interpolation=cv2.INTER_AREA)
    luma, chroma = cv2.transform(tall, YUV[:1]), cv2.split(cv2.transform(halved, YUV))[1:]
    planes = [plane.reshape(steps, -1) for plane in (luma, *chroma)]
    return np.concatenate(planes, axis=1).reshape(steps, -1, width)
