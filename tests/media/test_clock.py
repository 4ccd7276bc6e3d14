"""Where a file's clock starts again, its parts follow each other: picture with sound, or sound alone."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks.containers import Recording, locate_burst, write_recording
from dfmm.media.clock import Joiner
from dfmm.media.decode import Media, read_media

from .test_sound import write_channels

RATE = 16_000


def read(path: Path) -> Media:
    return read_media(path, keep=lambda number: True, sample_rate=RATE)


def join_recordings(folder: Path, *recordings: Recording) -> Path:
    """Write recordings of one kind into one file, as `cat` does."""
    path = folder / f"joined.{recordings[0].container}"
    contents = [write_recording(folder / f"part.{one.container}", one).read_bytes() for one in recordings]
    path.write_bytes(b"".join(contents))
    return path


JOINED = [
    Recording("ts", sample_rate=48_000, seconds=1.0),
    Recording("ts", sample_rate=48_000, seconds=1.0, sound_from=0.3),
    Recording("ts", sample_rate=48_000, seconds=1.0, picture_from=0.3),
    Recording("mpg", "mpeg2video", "mp2", seconds=1.0),
    Recording("mkv", "libx264", "aac", seconds=1.0),
    Recording("webm", "libvpx", "libopus", sample_rate=48_000, seconds=1.0),
]


@pytest.mark.parametrize("recording", JOINED, ids=lambda recording: recording.name)
def test_recordings_that_were_joined_follow_each_other_and_stay_in_step(
    tmp_path: Path, recording: Recording, said: list[str]
) -> None:
    alone = read(write_recording(tmp_path / f"alone.{recording.container}", recording))
    (at,) = recording.flashes
    step = locate_burst(alone, alone.times[at]) - alone.times[at]
    media, count = read(join_recordings(tmp_path, *[recording] * 2)), len(alone.times)
    assert len(media.times) == 2 * count
    assert np.diff(media.times).min() > 0.03
    for part in range(2):
        number = part * count + at
        assert media.frames[number][60:].mean() > 120
        heard = locate_burst(media, media.times[number])
        assert heard - media.times[number] == pytest.approx(step, abs=2e-3)
        length = max(alone.times[-1] + 0.04, alone.sound.end) - min(0, alone.sound.start)
        assert media.times[number] == pytest.approx(part * length + alone.times[at], abs=0.08)
    assert not said


@pytest.mark.parametrize(
    ("ending", "codec", "rates"),
    [
        ("opus", "libopus", (48_000, 48_000)),
        ("flac", "flac", (44_100, 44_100)),
        ("ogg", "flac", (44_100, 44_100)),
        ("ogg", "flac", (44_100, 48_000)),
    ],
)
def test_sounds_that_were_joined_follow_each_other(
    tmp_path: Path, ending: str, codec: str, rates: tuple[int, int]
) -> None:
    contents, times, lengths = [], [], []
    for rate in rates:
        samples, length = np.zeros((1, rate)), round(0.02 * rate)
        samples[0, rate // 2 : rate // 2 + length] = 0.7 * np.hanning(length) * np.sin(0.8 * np.arange(length))
        path = write_channels(tmp_path / f"part.{ending}", samples, "mono", rate=rate, codec=codec)
        part = read(path)
        contents.append(path.read_bytes())
        times.append(locate_burst(part, 0.5))
        lengths.append(part.sound.end)
    (tmp_path / f"both.{ending}").write_bytes(b"".join(contents))
    both = read(tmp_path / f"both.{ending}")

    assert both.sound.end == pytest.approx(sum(lengths), abs=2e-3)
    assert locate_burst(both, 0.5) == pytest.approx(times[0], abs=2e-3)
    assert locate_burst(both, lengths[0] + times[1]) == pytest.approx(lengths[0] + times[1], abs=2e-3)


@pytest.mark.parametrize(
    ("recording", "words"),
    [
        (Recording("mp4", seconds=1.0), "holds 3 films"),
        (Recording("flv", seconds=1.0), "are not read"),
        (Recording("mkv", seconds=1.0), "are not read"),
        (Recording("mxf", "mpeg2video", "pcm_s16le", sample_rate=48_000, seconds=1.0), "clock stands still"),
    ],
    ids=lambda value: getattr(value, "container", ""),
)
def test_what_cannot_be_joined_is_said_once(tmp_path: Path, recording: Recording, words: str, said: list[str]) -> None:
    assert read(write_recording(tmp_path / f"alone.{recording.container}", recording))
    assert not said
    path = join_recordings(tmp_path, *[recording] * 3)
    read(path)
    read(path)
    assert len(said) == 1
    assert words in said[0]


def test_bare_flac_that_goes_on_at_another_rate_is_said_to_be_misread(tmp_path: Path, said: list[str]) -> None:
    parts = [
        write_channels(tmp_path / "part.flac", np.ones((1, rate)) * 0.1, "mono", rate=rate).read_bytes()
        for rate in (44_100, 48_000)
    ]
    (tmp_path / "both.flac").write_bytes(b"".join(parts))
    read(tmp_path / "both.flac")
    assert ["reader of bare FLAC" in message for message in said] == [True]


# Packets


def list_packets(container: av.container.OutputContainer, times: dict[int, np.ndarray]) -> list[av.Packet]:
    """Return packets of streams by number, each with its times, in seconds, in order of these moments in the file."""
    packets = []
    for number, seconds in times.items():
        for place, moment in enumerate(seconds):
            packet = av.Packet(b"x")
            packet.stream, packet.time_base, packet.duration = container.streams[number], Fraction(1, 1000), 40
            packet.pts = packet.dts = round(1000 * moment)
            packet.is_keyframe = True
            packets.append((place, packet))
    return [packet for _, packet in sorted(packets, key=lambda pair: pair[0])]


def join(times: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Return when the packets of each stream come, in seconds, once they are joined."""
    with av.open("/dev/null", "w", format="matroska") as container:
        container.add_stream("mpeg4", rate=25)
        container.add_stream("pcm_s16le", rate=RATE)
        joined = list(Joiner("file").join(list_packets(container, times)))
    return {
        number: np.array([packet.pts / 1000 for packet in joined if packet.stream.index == number]) for number in times
    }


SECOND = np.arange(100) * 0.04  # four of them


def test_times_that_are_wrong_for_a_while_begin_no_part(said: list[str]) -> None:
    for wrong in (slice(30, 31), slice(30, 34)):
        told = SECOND.copy()
        told[wrong] += 50
        for number in (0, 1):
            np.testing.assert_allclose(join({number: told, 1 - number: SECOND})[number], told, atol=1e-9)
    assert not said


def test_a_clock_that_starts_again_in_one_stream_alone_is_said(said: list[str]) -> None:
    told = SECOND.copy()
    told[:50] += 100
    times = join({0: told, 1: SECOND + 100})
    np.testing.assert_allclose(times[0], SECOND + 100, atol=1e-9)  # goes on as it was
    assert ["a clock starts again" in message for message in said] == [True]


def test_a_clock_that_ran_over_goes_on() -> None:
    """A program stream's, after 26.5 hours: FFmpeg adds these to what was told first."""
    told = np.concatenate([3600 + SECOND[:50], 95_443.7 + SECOND[:50]])
    np.testing.assert_allclose(join({0: told, 1: told})[1], 3600 + SECOND, atol=1e-9)
