"""Files in and out: picture and sound come back as they were, together in time, or the file is named and why."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest

from dfmm.media import decode as media
from dfmm.media.container import MediaError
from dfmm.media.decode import Media, read_media
from dfmm.media.encode import write_video
from dfmm.media.sound import Sound

if TYPE_CHECKING:
    from conftest import Clip

FPS, FLASH_SECONDS, SECONDS = 25, 1.2, 2.0
HALF_A_FRAME = 0.5 / FPS
SAMPLE_RATE = 16_000  # of what is read


@dataclass(frozen=True)
class Recording:
    """How a clip is written that flashes and clicks at `FLASH_SECONDS`."""

    name: str
    video: str = "libx264"
    audio: str = "aac"
    sample_rate: int = 16_000
    layout: str = "mono"
    sound_from: float = 0.0
    picture_from: float = 0.0


RECORDINGS = (
    Recording("mono.mp4"),
    Recording("stereo.mp4", sample_rate=44_100, layout="stereo"),
    Recording("surround.mp4", sample_rate=48_000, layout="5.1"),
    Recording("late_sound.mp4", sample_rate=44_100, sound_from=0.5),
    Recording("late_sound.mkv", sound_from=0.5),
    Recording("late_picture.mkv", picture_from=8 / FPS),
    Recording("plain.mov", audio="pcm_s16le", sample_rate=48_000),
    Recording("low.avi", video="mpeg4", audio="pcm_s16le", sample_rate=8_000),
    Recording("old.mpg", video="mpeg1video", audio="mp2", sample_rate=44_100),
    Recording("untimed.mpg", audio="mp2", sample_rate=44_100),  # frames so small that most come without a time
    Recording("late_sound.mpg", video="mpeg1video", audio="mp2", sample_rate=44_100, sound_from=0.5),
)


def encode_picture(stream: av.VideoStream, start: float = 0.0) -> list[av.Packet]:
    """Dark frames on a fixed clock, and a bright one at `FLASH_SECONDS`."""
    packets = []
    for number in range(round(start * FPS), round(SECONDS * FPS)):
        level = 220 if number == round(FLASH_SECONDS * FPS) else 40
        frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), level, np.uint8), format="rgb24")
        frame.pts, frame.time_base = number, Fraction(1, FPS)
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def encode_sound(stream: av.AudioStream, start: float = 0.0, end: float = SECONDS) -> list[av.Packet]:
    """Silence, and a click of 5 ms at `FLASH_SECONDS`."""
    rate, channels = stream.rate, stream.codec_context.layout.nb_channels
    samples = np.zeros((channels, round(end * rate)), np.float32)
    click = round(FLASH_SECONDS * rate)
    samples[:, click : click + rate // 200] = 0.8
    samples, kind = samples[:, round(start * rate) :], stream.codec_context.format.name
    packets = []
    for first in range(0, samples.shape[1], 1024):
        piece = samples[:, first : first + 1024]
        if kind == "s16":
            piece = (piece.T.reshape(1, -1) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), format=kind, layout=stream.layout.name)
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), round(start * rate) + first
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def add_picture(container: av.container.OutputContainer, codec: str = "libx264") -> av.VideoStream:
    options = {"preset": "ultrafast", "bf": "2"} if codec == "libx264" else {}
    stream = container.add_stream(codec, rate=FPS, options=options)
    stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
    return stream


def mux(container: av.container.OutputContainer, packets: Sequence[av.Packet]) -> None:
    for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
        container.mux(packet)


def write_recording(folder: Path, recording: Recording) -> Path:
    path = folder / recording.name
    with av.open(str(path), "w") as container:
        video = add_picture(container, recording.video)
        audio = container.add_stream(recording.audio, rate=recording.sample_rate, layout=recording.layout)
        mux(container, encode_picture(video, recording.picture_from) + encode_sound(audio, recording.sound_from))
    return path


def read(path: Path, **options: Any) -> Media:
    return read_media(path, keep=lambda number: True, **{"sample_rate": SAMPLE_RATE, **options})


def find_flash(media: Media) -> float:
    return float(media.times[np.argmax([frame.mean() for frame in media.frames.values()])])


def find_click(media: Media) -> float:
    assert media.sound is not None
    loud = np.abs(media.sound.samples) > 0.5 * np.abs(media.sound.samples).max()
    return media.sound.start + np.flatnonzero(loud)[0] / media.sound.sample_rate


def measure_psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2)))


def refuse(path: Path) -> str:
    """Return what the error says."""
    with pytest.raises(MediaError) as error:
        read(path)
    assert str(path) in str(error.value)
    return str(error.value)


def test_frames_come_back_as_they_were_written(clip: Clip) -> None:
    media = read(clip.path)
    assert list(media.frames) == list(range(50))
    assert (media.width, media.height) == (128, 96)
    for number, frame in media.frames.items():
        assert measure_psnr(frame, clip.frames[number]) > 36
        assert measure_psnr(frame, clip.frames[number]) > measure_psnr(frame, clip.frames[number - 1])
    np.testing.assert_allclose(media.times, np.arange(50) / 25, atol=1e-3)


def test_sound_comes_back_as_it_was_written(clip: Clip) -> None:
    sound = read(clip.path).sound
    assert abs(sound.start) < 0.001
    heard, share = sound.cut(0, 2)
    assert share == 1
    assert np.corrcoef(heard, clip.sound)[0, 1] > 0.98
    assert np.std(heard) == pytest.approx(np.std(clip.sound), rel=0.05)


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.name)
def test_a_flash_and_its_click_stay_together(tmp_path: Path, recording: Recording) -> None:
    media = read(write_recording(tmp_path, recording))
    flash = FLASH_SECONDS - recording.picture_from
    assert find_flash(media) == pytest.approx(flash, abs=HALF_A_FRAME)
    assert find_click(media) == pytest.approx(flash, abs=HALF_A_FRAME)
    # AAC in mp4 may begin with a packet of silence ahead of its time.
    assert media.sound.start == pytest.approx(recording.sound_from - recording.picture_from, abs=0.08)
    assert media.sound.end == pytest.approx(SECONDS - recording.picture_from, abs=0.08)


def test_a_gap_in_the_sound_is_filled_and_what_follows_keeps_its_time(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "gap.mkv"), "w") as container:
        video, audio = add_picture(container), container.add_stream("aac", rate=44_100, layout="mono")
        heard = [packet for packet in encode_sound(audio) if not 0.4 < packet.pts * packet.time_base < 0.9]
        mux(container, encode_picture(video) + heard)
    media = read(tmp_path / "gap.mkv")
    assert find_click(media) == pytest.approx(FLASH_SECONDS, abs=HALF_A_FRAME)
    assert media.sound.end == pytest.approx(SECONDS, abs=0.05)


def test_sound_that_changes_its_kind_midway_is_read_on(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "change.mkv"), "w") as container:
        video, audio = add_picture(container), container.add_stream("mp2", rate=44_100, layout="stereo")
        with av.open(str(tmp_path / "other.mkv"), "w") as other:
            late = encode_sound(other.add_stream("mp2", rate=48_000, layout="mono"), 1.0)
        for packet in late:
            packet.stream = audio
        mux(container, encode_picture(video) + encode_sound(audio, end=1.0) + late)
    media = read(tmp_path / "change.mkv")
    assert find_click(media) == pytest.approx(FLASH_SECONDS, abs=HALF_A_FRAME)
    assert media.sound.end == pytest.approx(SECONDS, abs=0.05)


def test_a_video_without_an_audio_track_has_no_sound(mute_clip: Clip) -> None:
    assert read(mute_clip.path).sound is None


def test_odd_frame_rates_keep_their_time(mute_clip: Clip) -> None:
    np.testing.assert_allclose(read(mute_clip.path).times, np.arange(32) / 29.97, atol=1e-3)


def test_uneven_frame_times_are_kept(tmp_path: Path) -> None:
    numbers = [0, 1, 2, 10, 11, 30]
    with av.open(str(tmp_path / "uneven.mkv"), "w") as container:
        stream = add_picture(container)
        for number in numbers:
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 8 * number, np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    media = read(tmp_path / "uneven.mkv")
    np.testing.assert_allclose(media.times, np.array(numbers) / FPS, atol=1e-3)
    assert [frame.mean() for frame in media.frames.values()] == pytest.approx([8 * n for n in numbers], abs=4)


def test_a_stream_without_times_is_counted_on(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "raw.h264"), "w", format="h264") as container:
        mux(container, encode_picture(add_picture(container)))
    media = read(tmp_path / "raw.h264")
    np.testing.assert_allclose(media.times, np.arange(50) / FPS, atol=1e-3)
    assert find_flash(media) == pytest.approx(FLASH_SECONDS)


def test_a_phone_held_upright_is_shown_upright(tmp_path: Path) -> None:
    frames = np.full((3, 64, 96, 3), 30, np.uint8)
    frames[:, :16, :16] = 230  # the corner on the upper left
    content = write_video(tmp_path / "flat.mp4", frames).read_bytes()
    one, end = 1 << 16, (0, 0, 0, 1 << 30)
    matrix = struct.Struct(">9i")  # of ISO 14496-12: x' = -y, y' = x turns clockwise
    unturned, clockwise = matrix.pack(one, 0, 0, 0, one, *end), matrix.pack(0, one, 0, -one, 0, *end)
    at = content.index(unturned, content.index(b"tkhd"))
    (tmp_path / "turned.mp4").write_bytes(content[:at] + clockwise + content[at + matrix.size :])
    media = read(tmp_path / "turned.mp4", short_side=32)
    assert (media.width, media.height) == (64, 96)
    assert media.frames[0].shape == (48, 32, 3)
    assert media.frames[0][:6, -6:].mean() > 200
    assert media.frames[0][:6, :6].mean() < 60


def test_reading_stops_early_with_the_same_pixels_and_sound(clip: Clip) -> None:
    whole = read(clip.path)
    part = read_media(clip.path, keep=[3, 4, 9].__contains__, sample_rate=SAMPLE_RATE, last_frame=9, sound_until=0.6)
    assert list(part.frames) == [3, 4, 9]
    assert 10 <= len(part.times) < 50
    assert part.sound.end >= 0.6
    for number in part.frames:
        np.testing.assert_array_equal(part.frames[number], whole.frames[number])
    np.testing.assert_array_equal(part.sound.cut(0, 0.6)[0], whole.sound.cut(0, 0.6)[0])


def test_frames_can_be_taken_one_by_one_instead_of_kept(clip: Clip) -> None:
    taken = []
    media = read_media(
        clip.path,
        keep=lambda number: number % 20 == 3,
        sample_rate=16_000,
        take=lambda number, frame: taken.append((number, frame)),
    )
    kept = read_media(clip.path, keep=lambda number: True, sample_rate=16_000)
    assert [number for number, _ in taken] == [3, 23, 43]
    for number, frame in taken:
        np.testing.assert_array_equal(frame, kept.frames[number])
    assert media.frames == {}
    np.testing.assert_array_equal(media.times, kept.times)
    np.testing.assert_array_equal(media.sound.samples, kept.sound.samples)


def test_frames_are_scaled_down_to_their_short_side_and_never_up(clip: Clip) -> None:
    small = read(clip.path, short_side=48)
    assert small.frames[0].shape == (48, 64, 3)
    assert (small.width, small.height) == (128, 96)
    assert measure_psnr(small.frames[20], clip.frames[20].reshape(48, 2, 64, 2, 3).mean((1, 3))) > 30
    assert read(clip.path, short_side=200).frames[0].shape == (96, 128, 3)


def test_sound_is_resampled_to_the_rate_that_is_asked_for(clip: Clip) -> None:
    sound = read(clip.path, sample_rate=8_000).sound
    assert sound.sample_rate == 8_000
    assert np.corrcoef(sound.cut(0, 2)[0], clip.sound[::2])[0, 1] > 0.98


def test_what_is_no_video_is_named(tmp_path: Path, clip: Clip) -> None:
    content = clip.path.read_bytes()
    for name, broken in (("empty.mp4", b""), ("text.mp4", b"hello\n" * 99), ("cut.mp4", content[: len(content) // 2])):
        (tmp_path / name).write_bytes(broken)
        assert "cannot be decoded" in refuse(tmp_path / name)
    assert "no such file" in refuse(tmp_path / "missing.mp4")
    assert "not a regular file" in refuse(tmp_path)
    with av.open(str(tmp_path / "data.ts"), "w") as container:
        packet = av.Packet(b"neither seen nor heard")
        packet.stream, packet.pts, packet.dts = container.add_data_stream("bin_data"), 0, 0
        container.mux(packet)
    assert "neither a picture nor sound" in refuse(tmp_path / "data.ts")


def test_of_a_file_that_was_cut_off_what_is_there_is_read(tmp_path: Path) -> None:
    for recording in (Recording("cut.mkv"), Recording("cut.mpg", "mpeg1video", "mp2", 44_100)):
        path = write_recording(tmp_path, recording)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) * 7 // 10])
        media = read(path)
        assert 0.5 * SECONDS < media.sound.end < 0.9 * SECONDS
        assert 0.4 * SECONDS < media.times[-1] < SECONDS


def test_a_damaged_packet_costs_itself_and_not_the_file(tmp_path: Path, clip: Clip) -> None:
    content = bytearray(clip.path.read_bytes())
    with av.open(str(clip.path)) as container:
        packets = {"video": [], "audio": []}
        for packet in container.demux():
            packets[packet.stream.type].append((packet.pos, packet.size))
    for pos, size in (packets["video"][40], packets["audio"][20]):
        content[pos : pos + size] = bytes(size)
    (tmp_path / "damaged.mp4").write_bytes(content)
    media = read(tmp_path / "damaged.mp4")
    assert 40 <= len(media.times) < 50
    assert media.times[-1] == pytest.approx(1.96, abs=0.001)
    for start in (0.0, 1.5):  # the packet was heard at 1.2 s
        part = slice(round(start * SAMPLE_RATE), round((start + 0.5) * SAMPLE_RATE))
        assert np.corrcoef(media.sound.cut(start, 0.5)[0], clip.sound[part])[0, 1] > 0.98


def test_a_title_in_an_old_encoding_does_no_harm(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "title.mp4"), "w") as container:
        container.metadata["title"] = "Caf#"
        mux(container, encode_picture(add_picture(container)))
    content = (tmp_path / "title.mp4").read_bytes()
    assert content.count(b"Caf#") == 1
    (tmp_path / "title.mp4").write_bytes(content.replace(b"Caf#", "Café".encode("latin-1")))
    assert len(read(tmp_path / "title.mp4").times) == SECONDS * FPS


def test_a_cut_of_sound_is_padded_and_says_how_much_there_was() -> None:
    sound = Sound(np.arange(1, 1001, dtype=np.float32), sample_rate=1000, start=0.5)
    assert sound.end == 1.5
    piece, share = sound.cut(0.75, 0.5)
    assert share == 1
    np.testing.assert_array_equal(piece, np.arange(251, 751))
    piece, share = sound.cut(0.25, 0.5)
    assert share == 0.5
    np.testing.assert_array_equal(piece, np.r_[np.zeros(250), np.arange(1, 251)])
    piece, share = sound.cut(1.25, 1.0)
    assert share == 0.25
    np.testing.assert_array_equal(piece, np.r_[np.arange(751, 1001), np.zeros(750)])
    for start in (-3.0, 0.0, 1.5, 9.0):
        piece, share = sound.cut(start, 0.5)
        assert share == 0
        np.testing.assert_array_equal(piece, np.zeros(500))


def test_a_video_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    frames = np.zeros((5, 32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match="dim"):  # found out when the picture is already written
        write_video(tmp_path / "new" / "video.mp4", frames, sound=np.zeros((2, 9)))
    assert list((tmp_path / "new").iterdir()) == []
    path = write_video(tmp_path / "new" / "video.mp4", frames)
    content = path.read_bytes()
    with pytest.raises(ValueError, match="dtype"):
        write_video(path, frames.astype(np.float32))
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == content


# Decoded once, read twice


@pytest.mark.parametrize("short_side", [None, 48])
def test_a_recording_gives_the_same_once_more_without_decoding(
    clip: Clip, short_side: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, open_media = [], media.open_media
    monkeypatch.setattr(media, "open_media", lambda path: opened.append(path) or open_media(path))
    recording = media.Recording(clip.path)
    options = {"keep": lambda number: number % 7 == 3, "sample_rate": 16_000, "short_side": short_side}
    plain = read_media(clip.path, **options)
    for _ in range(3):
        found = read_media(recording, **options)
        assert list(found.frames) == list(plain.frames)
        for number, frame in plain.frames.items():
            np.testing.assert_array_equal(found.frames[number], frame)
        np.testing.assert_array_equal(found.times, plain.times)
        np.testing.assert_array_equal(found.sound.samples, plain.sound.samples)
    assert len(opened) == 2


def test_a_recording_decodes_again_what_it_does_not_hold(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, open_media = [], media.open_media
    monkeypatch.setattr(media, "open_media", lambda path: opened.append(path) or open_media(path))
    every = {"keep": lambda number: True, "sample_rate": 16_000}
    cases = {
        "no room": (media.Recording(clip.path, room=10 * 96 * 128 * 3 // 2), every),
        "not chosen": (media.Recording(clip.path, spread=9), every),
        "other rate": (media.Recording(clip.path), {**every, "sample_rate": 8_000}),
    }
    for recording, options in cases.values():
        read_media(recording, **every)
        opened.clear()
        assert len(read_media(recording, **options).frames) == 50
        assert len(opened) == 1
    few = media.Recording(clip.path, spread=9)
    read_media(few, **every)
    opened.clear()
    assert len(read_media(few, keep=media.spread_numbers(50, 9).__contains__, sample_rate=16_000).frames) == 9
    assert opened == []
    stopped = media.Recording(clip.path)
    read_media(stopped, **every, last_frame=20)
    assert len(read_media(stopped, **every).frames) == 50
