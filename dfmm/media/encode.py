"""Video files out: H.264 with AAC sound."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from dfmm.files import write_beside


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
    with write_beside(target) as partial, av.open(str(partial), "w", format="mp4") as container:
        sound_rates = None if sound is None else (sample_rate, sound_bit_rate)
        video, audio = _add_streams(container, frames, fps, crf, sound_rates)
        _encode_frames(container, video, frames)
        if audio is not None:
            _encode_sound(container, audio, np.asarray(sound, np.float32))
    return Path(target)


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
