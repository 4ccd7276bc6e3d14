"""Do picture and sound stay together? Clips with flashes and bursts at known times, in every container and codec.

    python benchmarks/containers.py                the whole table
    python benchmarks/containers.py --only avi     what has this in its name
    python benchmarks/containers.py --folder DIR   keep the clips there

Each clip is written by PyAV, read by `read_media`, and compared with what was planted. Every frame carries its number
as a pattern of bars. `frames` is the largest error of a frame's time after the first frame, `sync` that of the time
from a flash to its burst, both in ms; half a frame is what is promised. A codec that the container does not take, or
for which PyAV brings no encoder, is left out. What AVI cannot tell shows: neither when a stream starts, nor a late
frame among B-frames, nor by how much an encoder of AAC or MP3 delays.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

os.environ["SVT_LOG"] = "1"  # the AV1 encoder reports errors only

import av
import av.error
import numpy as np

from dfmm.media.container import MediaError
from dfmm.media.decode import Media, read_media

SECONDS = 3.0
MARKS = (0.6, 2.2)  # seconds near which there is a flash, and a burst with it
BARS, BAR = 8, 16  # a frame's number in bits, each this many pixels wide
BURST_SECONDS = 0.02
READ_RATE = 16_000

VIDEO_OPTIONS = {
    "libx264": {"preset": "ultrafast", "bf": "2", "b-adapt": "0", "crf": "18"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:bframes=2:b-adapt=0:pools=1:frame-threads=1"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
    "mpeg2video": {"bf": "2", "b": "4000000"},
    "mpeg1video": {"bf": "2", "b": "4000000"},
    "mpeg4": {"bf": "2", "b": "4000000"},
    "mjpeg": {},
}
RATES = {  # exact, as written into the file
    "12.5": Fraction(25, 2),
    "23.976": Fraction(24000, 1001),
    "25": Fraction(25),
    "29.97": Fraction(30000, 1001),
    "50": Fraction(50),
    "60": Fraction(60),
}


@dataclass(frozen=True)
class Recording:
    """How a clip is written. Times in seconds."""

    container: str
    video: str = "libx264"
    audio: str | None = "aac"
    fps: str = "25"
    pix_fmt: str = "yuv420p"
    size: tuple[int, int] = (BARS * BAR, 96)  # width, height
    sample_rate: int = 44_100
    layout: str = "mono"
    sound_from: float = 0.0
    picture_from: float = 0.0
    uneven: bool = False  # frames on no fixed clock
    seconds: float = SECONDS

    @property
    def name(self) -> str:
        parts = [self.video, self.audio, self.fps, self.pix_fmt, "x".join(map(str, self.size)), str(self.sample_rate)]
        parts += [self.layout, *(f"{name}{value:g}" for name, value in self.shifts.items() if value)]
        return "-".join(map(str, parts)) + f".{self.container}"

    @property
    def shifts(self) -> dict[str, float]:
        return {"sound": self.sound_from, "picture": self.picture_from, "uneven": float(self.uneven)}

    @property
    def ticks(self) -> list[int]:
        """When each frame is shown, in units of a frame."""
        first, last = round(self.picture_from * RATES[self.fps]), round(self.seconds * RATES[self.fps])
        ticks = range(first, last)
        return [tick for tick in ticks if tick % 7 not in (2, 3, 5)] if self.uneven else list(ticks)

    @property
    def times(self) -> np.ndarray:
        """Of the frames, in seconds."""
        return np.array(self.ticks) / float(RATES[self.fps])

    @property
    def flashes(self) -> list[int]:
        """The frames that flash, by number."""
        return [int(np.abs(self.times - mark).argmin()) for mark in MARKS if mark < self.seconds]


def write_recording(path: Path, recording: Recording) -> Path:
    """Write a clip.

    Raises:
        av.error.FFmpegError, ValueError: the container does not take the codec, or there is no encoder for it.
    """
    options = {"strict": "-2"}  # some muxers call Opus and FLAC experimental
    with av.open(str(path), "w", container_options=options) as container:
        video = add_picture(container, recording)
        packets = [] if recording.audio is None else encode_sound(add_sound(container, recording), recording)
        packets += encode_picture(video, recording)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def add_picture(container: av.container.OutputContainer, recording: Recording) -> av.VideoStream:
    """Add the video stream."""
    stream = container.add_stream(recording.video, rate=RATES[recording.fps], options=VIDEO_OPTIONS[recording.video])
    stream.width, stream.height = recording.size
    stream.pix_fmt = recording.pix_fmt.replace("yuv4", "yuvj4") if recording.video == "mjpeg" else recording.pix_fmt
    stream.codec_context.thread_count = 1
    return stream


def add_sound(container: av.container.OutputContainer, recording: Recording) -> av.AudioStream:
    """Add the audio stream."""
    stream = container.add_stream(recording.audio, rate=recording.sample_rate, layout=recording.layout)
    if recording.audio == "vorbis":
        stream.codec_context.options = {"strict": "-2"}
    return stream


def draw_frame(number: int, *, flash: bool, size: tuple[int, int]) -> np.ndarray:
    """Draw a frame, uint8 RGB `[H, W, 3]`: its number in bars above, below noise, bright where it flashes.

    The noise makes a frame as heavy as a real one: of those that share a packet of a program stream, only the first
    has a time.
    """
    width, height = size
    noise = np.random.default_rng(number).integers(0, 50, (height, width, 1), np.uint8)
    frame = np.repeat(noise + np.uint8(190 if flash else 20), 3, axis=2)
    bars = np.repeat([200 if number >> bit & 1 else 50 for bit in range(BARS)], BAR)
    frame[: height // 2, : len(bars)] = bars[:width, None]
    return frame


def encode_picture(stream: av.VideoStream, recording: Recording) -> list[av.Packet]:
    """Encode all frames."""
    packets, flashes = [], set(recording.flashes)
    for number, tick in enumerate(recording.ticks):
        image = draw_frame(number, flash=number in flashes, size=recording.size)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts, frame.time_base = tick, 1 / RATES[recording.fps]
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def make_sound(recording: Recording) -> np.ndarray:
    """Make silence with bursts at the flashes, float32 `[S]`."""
    rate = recording.sample_rate
    sound = np.zeros(round(recording.seconds * rate), np.float32)
    length = round(BURST_SECONDS * rate)
    burst = 0.7 * np.hanning(length) * np.sin(2 * np.pi * 900 * np.arange(length) / rate)
    for flash in recording.flashes:
        first = round(recording.times[flash] * rate)
        sound[first : first + length] = burst[: len(sound) - first]
    return sound[round(recording.sound_from * rate) :]


def encode_sound(stream: av.AudioStream, recording: Recording, sound: np.ndarray | None = None) -> list[av.Packet]:
    """Encode the sound, the same in every channel."""
    sound = make_sound(recording) if sound is None else sound
    rate, first, packets = recording.sample_rate, round(recording.sound_from * recording.sample_rate), []
    layout = av.AudioLayout(recording.layout)
    for start in range(0, len(sound), 1024):
        piece = np.tile(sound[start : start + 1024], (layout.nb_channels, 1))
        frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=recording.layout)
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), first + start
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def read_numbers(media: Media) -> list[int]:
    """Read the frames' numbers off their bars."""
    numbers = []
    for frame in media.frames.values():
        bars = frame[4 : frame.shape[0] // 2 - 4].mean(axis=(0, 2))[: BARS * BAR].reshape(-1, BAR)[:, 4:-4].mean(axis=1)
        numbers.append(int(sum(int(bar > 125) << bit for bit, bar in enumerate(bars))))
    return numbers


def locate_burst(media: Media, near: float) -> float:
    """Return when the burst near this time begins, by the middle of its energy; NaN where it is silent."""
    assert media.sound is not None
    piece, _ = media.sound.cut(near - 0.3, 0.6)
    energy = piece.astype(np.float64) ** 2
    energy[energy < 0.01 * energy.max(initial=0)] = 0
    if not energy.any():
        return float("nan")
    return float((energy * np.arange(len(energy))).sum() / energy.sum() / media.sound.sample_rate + near - 0.3) - 0.01


def measure_errors(media: Media, recording: Recording) -> tuple[float, float]:
    """Return the largest error of a frame's time, and of the time from a flash to its burst, in seconds.

    Raises:
        ValueError: a frame is missing, comes twice, or out of order.
    """
    numbers = read_numbers(media)
    if numbers != list(range(len(recording.ticks))):
        raise ValueError(f"expected {len(recording.ticks)} frames in order, got {len(numbers)}: {numbers[:12]} …")
    late = media.times - (recording.times - recording.times[0])
    sync = [locate_burst(media, media.times[flash]) - media.times[flash] for flash in recording.flashes]
    return float(np.abs(late).max()), max(sync, key=abs)


def list_recordings() -> Iterator[Recording]:
    """Yield every container with every codec it may take, then what is odd about pictures, sounds and clocks."""
    audios = ["aac", "libmp3lame", "mp2", "libopus", "vorbis", "flac", "pcm_s16le"]
    for container in ("mp4", "mov", "mkv", "webm", "avi", "mpg", "ts"):
        video = {"mpg": "mpeg2video", "webm": "libvpx-vp9"}.get(container, "libx264")
        audio = {"mpg": "mp2", "webm": "libopus", "avi": "pcm_s16le"}.get(container, "aac")
        plain = Recording(container, video, audio, sample_rate=48_000)
        yield from (replace(plain, video=name) for name in VIDEO_OPTIONS)
        yield from (replace(plain, audio=name, layout="stereo") for name in audios)
        yield from (replace(plain, fps=fps) for fps in RATES)
        yield replace(plain, uneven=True)
        if container != "avi":  # which has no way to say so
            yield from (replace(plain, sound_from=0.4), replace(plain, picture_from=0.4))
        yield from (replace(plain, pix_fmt=name) for name in ("yuv420p10le", "gray", "yuv444p"))
        yield from (replace(plain, size=(BARS * BAR + 1, 97)), replace(plain, layout="5.1"))
        yield from (replace(plain, sample_rate=rate) for rate in (8_000, 11_025, 16_000, 22_050, 44_100, 96_000))


def measure_recording(path: Path, recording: Recording) -> list[str]:
    """Return a row of the table; empty where the container does not take these codecs."""
    try:
        write_recording(path, recording)
        with av.open(str(path)) as container:  # a muxer may write what nobody reads
            if len(container.streams) < 2 or not all(stream.codec_context for stream in container.streams):
                return []
    except (av.error.FFmpegError, ValueError):
        return []
    half = 500 / float(RATES[recording.fps])
    try:
        frames, sync = measure_errors(read_media(path, keep=lambda number: True, sample_rate=READ_RATE), recording)
    except (MediaError, ValueError) as error:
        errors = ["", "", str(error).replace(str(path), path.name)]
    else:
        verdict = "" if frames * 1000 <= half and abs(sync) * 1000 <= half else f"more than half a frame ({half:.1f})"
        errors = [f"{1000 * frames:.2f}", f"{1000 * sync:.2f}", verdict]
    codec = f"{recording.video} {recording.pix_fmt} {recording.size[0]}×{recording.size[1]}"
    sound = f"{recording.audio} {recording.sample_rate / 1000:g} kHz {recording.layout}"
    oddity = ", ".join(f"{name} from {value:g} s" for name, value in recording.shifts.items() if value)
    return [recording.container, codec, sound, recording.fps, oddity.replace("uneven from 1 s", "uneven"), *errors]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="part of a clip's name")
    parser.add_argument("--folder", type=Path, help="where the clips are kept")
    arguments = parser.parse_args()
    recordings = [one for one in dict.fromkeys(list_recordings()) if arguments.only in one.name]
    print("| container | picture | sound | fps | clock | frames, ms | sync, ms | |\n| --- " + "| --- " * 7 + "|")
    with tempfile.TemporaryDirectory() as folder:
        place = arguments.folder or Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        for recording in recordings:
            row = measure_recording(place / recording.name, recording)
            if row:
                print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
