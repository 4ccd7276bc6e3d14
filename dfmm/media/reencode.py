"""One encoding for all files: each is decoded and encoded once more, and kept in the cache in place of the original.

After this, all videos share a codec and its profile, a frame rate, a container, a sample rate and a channel, and all
sounds run from the first frame to the end of the last. It does not undo what was lost before. A file that was
compressed more coarsely than the profile has less to encode, so that its bit rate stays lower; the blocks and the
smoothness of a first compression, the frames that a change of frame rate doubled, the band that a first sample rate
cut off: all of it is in the pixels and samples, and a detector can find it there. The coarser the profile and the
smaller its pictures, the more of that is covered up, along with traces of forgery. What is still told from bit rates
the audit names.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from dfmm.files import write_beside
from dfmm.media.container import MediaError
from dfmm.media.decode import Media, read_media
from dfmm.media.picture import fit_picture
from dfmm.media.sound import Sound
from dfmm.sections import Cure
from dfmm.settings import Settings, resolve_path

FORMAT = 3  # of the encoding: a higher number makes older files void (3: the same bytes each time)


def list_profile(cure: Cure) -> list[float]:
    """Return the numbers that the encoding depends on; none where there is no such cure."""
    if not cure.reencode:  # asked for each of a million files
        return []
    return [FORMAT, *(getattr(cure, name) for name in Cure.model_fields if name.startswith("reencode_"))]


def locate_file(path: str | Path, settings: Settings) -> Path:
    """Return the file that is decoded in place of this one: itself, or its new encoding in the cache.

    Raises:
        OSError: there is no such file.
    """
    profile = list_profile(settings.cure)
    if not profile:
        return Path(path)
    state = os.stat(path)
    key = [str(path), state.st_size, state.st_mtime_ns, *profile]
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
    return resolve_path(settings.data.cache) / "encoded" / name[:2] / f"{name}.mp4"


def prepare_file(path: str | Path, settings: Settings) -> Path:
    """Return the file that is decoded in place of this one; encode it, once, where the settings ask for that.

    Raises:
        MediaError: the file is missing, broken, or cannot be encoded.
    """
    try:
        place = locate_file(path, settings)
    except OSError as error:
        raise MediaError(f"{path}: no such file") from error
    if place != Path(path) and not place.is_file():
        encode_file(path, place, settings.cure)
    return place


def encode_file(source: str | Path, target: Path, cure: Cure) -> None:
    """Encode a file once more; the new one appears whole or not at all. No more than a frame is kept in memory.

    The first pass reads the clock and the sound, the second the frames: shown at each moment of the new clock is the
    last that began by then.

    Raises:
        MediaError: the file is missing or broken, or cannot be written.
    """
    media = read_media(source, keep=lambda number: False, sample_rate=cure.reencode_sample_rate)
    try:
        with write_beside(target) as partial, av.open(str(partial), "w", format="mp4") as container:
            _encode_media(container, source, media, cure)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"{source}: cannot be encoded into {target.parent} ({error})") from error


def _encode_media(container: av.container.OutputContainer, source: str | Path, media: Media, cure: Cure) -> None:
    rate = Fraction(cure.reencode_fps).limit_denominator(1001)
    seconds = float(rate.denominator / rate.numerator)
    counts = _count_shown(media.times, seconds)
    duration = int(counts.sum()) * seconds if len(counts) else media.sound.end
    video = _add_video(container, rate, media, cure) if len(counts) else None
    sounds = _add_sound(container, media.sound, duration, cure) if media.sound else iter(())
    written = 0

    def take(number: int, frame: np.ndarray) -> None:
        nonlocal written
        if abs(frame.shape[0] - video.height) > 1 or abs(frame.shape[1] - video.width) > 1:  # it was turned midway
            frame = fit_picture(frame, video.width, video.height)
        picture = np.ascontiguousarray(frame[: video.height, : video.width])
        for _ in range(counts[number]):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            written += 1
            if written * seconds % 1 < seconds:  # a second of sound after each second of picture
                next(sounds, None)

    if video is not None:
        last = int(np.flatnonzero(counts)[-1])
        wanted = counts.astype(bool)
        read_media(
            source,
            keep=lambda number: number <= last and bool(wanted[number]),
            sample_rate=cure.reencode_sample_rate,
            short_side=cure.reencode_side,
            last_frame=last,
            take=take,
        )
        container.mux(video.encode(None))
    for _ in sounds:
        pass


def _count_shown(times: np.ndarray, seconds: float) -> np.ndarray:
    """Return how often each frame is shown on the new clock, int `[N]`."""
    if not len(times):
        return np.zeros(0, int)
    usual = float(np.median(np.diff(times))) if len(times) > 1 else 0.04
    moments = np.arange(max(round((float(times[-1]) + usual) / seconds), 1)) * seconds
    numbers = np.clip(np.searchsorted(times, moments + 5e-4, side="right") - 1, 0, len(times) - 1)
    return np.bincount(numbers, minlength=len(times))


def _add_video(
    container: av.container.OutputContainer, rate: Fraction, media: Media, cure: Cure
) -> av.video.stream.VideoStream:
    scale = min(1.0, cure.reencode_side / min(media.width, media.height))
    # With its macroblock tree, x264 does not always code the same frames alike, one thread or not.
    options = {"crf": str(cure.reencode_crf), "preset": "veryfast", "x264-params": "mbtree=0"}
    video = container.add_stream("libx264", rate=rate, options=options)
    # x264 halves the colours' resolution: the last row or column of an odd number of them is left out.
    video.width, video.height = (max(round(side * scale) // 2 * 2, 2) for side in (media.width, media.height))
    video.pix_fmt = "yuv420p"
    video.codec_context.thread_count = 1  # parallel over files
    return video


def _add_sound(container: av.container.OutputContainer, sound: Sound, duration: float, cure: Cure) -> Iterator[None]:
    """Add a stream of sound, and return an iterator that encodes one second after the other."""
    stream = container.add_stream("aac", rate=cure.reencode_sample_rate, layout="mono")
    stream.bit_rate = cure.reencode_bit_rate

    def encode() -> Iterator[None]:
        rate, total = stream.rate, max(round(duration * stream.rate), 1)
        for at in range(0, total, rate):
            samples, _ = sound.cut(at / rate, min(rate, total - at) / rate)
            frame = av.AudioFrame.from_ndarray(np.clip(samples, -1, 1)[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = rate, at
            container.mux(stream.encode(frame))
            yield
        container.mux(stream.encode(None))

    return encode()
