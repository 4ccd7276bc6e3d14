"""What files of the world do to picture and sound: they stay together in every container, or the file is refused."""

from __future__ import annotations

import csv
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from benchmarks.containers import (
    RATES,
    VIDEO_OPTIONS,
    Recording,
    add_picture,
    add_sound,
    encode_picture,
    encode_sound,
    measure_errors,
    write_recording,
)
from dfmm.media import decode as media_module
from dfmm.media import sound as sound_module
from dfmm.media.container import MediaError
from dfmm.media.decode import Media, read_media

SHARED = Path(__file__).resolve().parents[3] / "shared"  # real clips, which are not part of the project

MP4 = Recording("mp4", seconds=1.0)
RECORDINGS = (
    replace(MP4, fps="23.976", sample_rate=48_000),
    replace(MP4, fps="60", video="libx265", audio="libmp3lame"),
    replace(MP4, video="libsvtav1", audio="libopus", sample_rate=48_000),
    replace(MP4, video="mpeg4", uneven=True),
    replace(MP4, sound_from=0.4, layout="5.1"),
    replace(MP4, picture_from=0.4, pix_fmt="yuv420p10le"),
    replace(MP4, container="mov", video="mjpeg", audio="pcm_s16le", sample_rate=11_025),
    replace(MP4, container="mov", pix_fmt="gray", audio="pcm_f32le", sample_rate=96_000, layout="quad"),
    replace(MP4, container="mkv", fps="29.97", audio="flac"),
    replace(MP4, container="mkv", video="mpeg2video", audio="vorbis", layout="stereo", uneven=True),
    replace(MP4, container="webm", video="libvpx-vp9", audio="libopus", sample_rate=48_000, size=(129, 97)),
    replace(MP4, container="webm", video="libvpx", audio="vorbis", layout="stereo"),
    replace(MP4, container="avi", audio="pcm_s16le"),
    replace(MP4, container="avi", video="mpeg4", audio="pcm_s16le", fps="50"),
    replace(MP4, container="avi", video="mpeg2video", audio="pcm_u8", sample_rate=8_000, fps="29.97"),
    replace(MP4, container="mpg", video="mpeg1video", audio="mp2", fps="29.97"),
    replace(MP4, container="mpg", video="mpeg2video", audio="mp2", sound_from=0.4),
    replace(MP4, container="ts", fps="50"),
    replace(MP4, container="ts", video="libx265", audio="libopus", sample_rate=48_000, picture_from=0.4),
)


def read(path: Path, **options: Any) -> Media:
    return read_media(path, keep=lambda number: True, **{"sample_rate": 16_000, **options})


def refuse(path: Path) -> str:
    """Return what the error says."""
    with pytest.raises(MediaError) as error:
        read(path)
    assert str(path) in str(error.value)
    return str(error.value)


def write(folder: Path, recording: Recording = MP4) -> Path:
    return write_recording(folder / f"clip.{recording.container}", recording)


def mux(path: Path, recording: Recording, change: Callable[[list[av.Packet], list[av.Packet]], None]) -> Path:
    """Write a clip after a change of its packets, of the picture and of the sound."""
    with av.open(str(path), "w") as container:
        picture, sound = add_picture(container, recording), add_sound(container, recording)
        seen, heard = encode_picture(picture, recording), encode_sound(sound, recording)
        change(seen, heard)
        for packet in sorted(seen + heard, key=lambda one: one.dts * one.time_base):
            container.mux(packet)
    return path


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.name)
def test_every_frame_comes_at_its_time_and_its_sound_with_it(tmp_path: Path, recording: Recording) -> None:
    frames, sync = measure_errors(read(write(tmp_path, recording)), recording)
    rounding = 0.0006 if recording.container in ("mkv", "webm") else 0.0001  # to milliseconds
    assert frames <= rounding
    assert abs(sync) <= 0.001 + rounding < 0.5 / float(RATES[recording.fps])


def test_what_an_edit_list_cuts_off_is_not_shown(tmp_path: Path) -> None:
    recording = replace(MP4, audio="pcm_s16le", container="mov", seconds=2.0)
    path = write(tmp_path, recording)
    content, cut, at = bytearray(path.read_bytes()), 10, 0
    for scale in (12_800, recording.sample_rate):  # of the picture's clock, and of the sound's
        at = content.index(b"elst", at) + 4
        entries = struct.unpack_from(">I", content, at + 4)[0]
        begins = at + 8 + 12 * (entries - 1) + 4  # the last entry's, after its duration
        begin = struct.unpack_from(">i", content, begins)[0]
        struct.pack_into(">i", content, begins, begin + cut * scale // 25)
    path.write_bytes(content)
    media = read(path)
    assert len(media.times) == len(recording.ticks) - cut
    whole = replace(recording, seconds=1.6)
    np.testing.assert_allclose(media.times, whole.times, atol=1e-3)
    bursts = np.flatnonzero(np.abs(media.sound.samples) > 0.3)
    assert media.sound.start + bursts[0] / 16_000 == pytest.approx(0.6 - cut / 25, abs=0.01)


def test_one_lost_packet_moves_nothing_that_follows(tmp_path: Path) -> None:
    recording = replace(MP4, container="mkv", sample_rate=48_000)  # whose packets last 21 ms
    path = mux(tmp_path / "lost.mkv", recording, lambda seen, heard: heard.pop(8))
    _, sync = measure_errors(read(path), recording)
    assert abs(sync) < 0.008


def test_times_that_were_told_in_another_order_are_put_in_order(tmp_path: Path) -> None:
    path = write(tmp_path, replace(MP4, audio="pcm_s16le", container="mov"))
    content = path.read_bytes()
    assert content.count(b"ctts") == 1
    # When each frame is shown, rather than decoded, and where that begins.
    path.write_bytes(content.replace(b"ctts", b"free").replace(b"edts", b"free"))
    times = read(path).times
    assert len(times) == 25
    np.testing.assert_allclose(times, np.arange(25) / 25, atol=1e-3)


def test_a_clock_that_leaps_by_days_is_not_believed(tmp_path: Path) -> None:
    def leap(seen: list[av.Packet], heard: list[av.Packet]) -> None:
        for packet in (seen[-1], heard[-1]):
            packet.pts = packet.dts = packet.pts + round(400_000 / packet.time_base)

    media = read(mux(tmp_path / "leap.mkv", replace(MP4, container="mkv", video="mjpeg", audio="pcm_s16le"), leap))
    np.testing.assert_allclose(media.times, np.arange(25) / 25, atol=1e-3)
    assert media.sound.end == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("layout", ["stereo", "5.1", "7 channels"])
def test_channels_are_mixed_down_to_what_mono_would_sound_like(tmp_path: Path, layout: str) -> None:
    mono = replace(MP4, audio="pcm_s16le", container="mkv")
    one = read(write(tmp_path, mono)).sound.samples
    many = read(write(tmp_path, replace(mono, layout=layout))).sound.samples
    np.testing.assert_allclose(many, one, atol=1e-3)


def test_channels_of_unknown_places_are_averaged() -> None:
    frame = av.AudioFrame.from_ndarray(np.full((1, 9 * 4800), 0.5, np.float32), format="flt", layout="9 channels")
    frame.sample_rate, frame.time_base, frame.pts = 16_000, Fraction(1, 16_000), 0
    track = sound_module.SoundTrack(16_000)
    track.take(frame)
    np.testing.assert_allclose(track.finish(0.0).samples, 0.5, atol=1e-6)


def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "song.mp4"), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 48, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic.value
        sound = add_sound(container, MP4)
        for packet in cover.encode(av.VideoFrame(48, 48, "yuvj420p")) + cover.encode(None) + encode_sound(sound, MP4):
            container.mux(packet)
    media = read(tmp_path / "song.mp4")
    assert not len(media.times)
    assert not media.frames
    assert media.sound.start == 0


def test_a_codec_nobody_knows_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, replace(MP4, container="mkv", video="libvpx"))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"V_VP8", b"V_QQQ"))
    assert "no decoder for its video" in refuse(path)
    path.write_bytes(content.replace(b"A_AAC", b"A_QQQ"))
    assert "no decoder for its audio" in refuse(path)


# Files that were made to do harm.


def enlarge_picture(path: Path, *, first: int) -> None:
    """Have the sequence headers of an MPEG-2 file claim 8,000 × 8,000 pixels, from one of them on."""
    content, number, at = bytearray(path.read_bytes()), 0, 0
    while (at := content.find(b"\0\0\1\xb3", at)) >= 0:
        extension = content.index(b"\0\0\1\xb5", at)
        if number >= first:  # twelve bits of each side stand in the header, and two in its extension
            content[at + 4 : at + 7] = (((8000 & 0xFFF) << 12) | (8000 & 0xFFF)).to_bytes(3, "big")
            content[extension + 6] |= (8000 >> 12) << 5
            content[extension + 5] |= (8000 >> 12) >> 1
        number, at = number + 1, at + 4
    assert number > first
    path.write_bytes(content)


@pytest.mark.parametrize("container", ["mkv", "ts", "mpg"])
def test_a_picture_too_large_is_refused(tmp_path: Path, container: str) -> None:
    path = write(tmp_path, replace(MP4, container=container, video="mpeg2video", audio="mp2"))
    content = path.read_bytes()
    enlarge_picture(path, first=0)
    refuse(path)
    path.write_bytes(content)
    enlarge_picture(path, first=1)
    media = read(path)
    assert 5 <= len(media.times) < 25
    assert {frame.shape for frame in media.frames.values()} == {(96, 128, 3)}


def test_a_picture_of_ten_thousand_megapixels_is_refused(tmp_path: Path) -> None:
    (tmp_path / "huge.y4m").write_bytes(b"YUV4MPEG2 W100000 H100000 F25:1 Ip A1:1 C420\nFRAME\n" + bytes(999))
    refuse(tmp_path / "huge.y4m")


def test_more_samples_than_bytes_are_refused_before_room_is_made_for_them(tmp_path: Path) -> None:
    path = write(tmp_path)
    content = bytearray(path.read_bytes())
    struct.pack_into(">II", content, content.index(b"stsz") + 8, 1, 80_000_000)
    path.write_bytes(content)
    assert "promises 80,000,0" in refuse(path)
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    with av.open(str(path), "w", container_options=options) as container:
        for packet in encode_picture(add_picture(container, MP4), MP4):
            container.mux(packet)
    assert len(read(path).times) == 25
    content = bytearray(path.read_bytes())
    struct.pack_into(">II", content, content.index(b"trun") + 4, 0, 80_000_000)
    path.write_bytes(content)
    assert "promises 80,000,000 samples" in refuse(path)
    path.write_bytes(b"".join(struct.pack(">I4s", 8 * (99 - depth), b"moov") for depth in range(99)))
    assert "nested too deeply" in refuse(path)


def test_a_file_opens_no_other(tmp_path: Path) -> None:
    clip = write(tmp_path, replace(MP4, container="ts"))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{clip.name}\n#EXT-X-ENDLIST\n"
    session = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 33\n"
    for name, content in (
        ("list.m3u8", playlist),
        ("list.ts", playlist),
        ("list.ffconcat", f"ffconcat version 1.0\nfile {clip.name}\n"),
        ("list.sdp", session),
    ):
        (tmp_path / name).write_text(content)
        refuse(tmp_path / name)


def test_a_name_is_a_name_whatever_it_looks_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = write(tmp_path).read_bytes()
    Path("http:").mkdir()
    for name in ("concat:a|b.mp4", "http:/a.mp4", "frame%03d.mp4"):
        Path(name).write_bytes(content)
        assert len(read_media(name, keep=bool, sample_rate=16_000).times) == 25
    with pytest.raises(MediaError, match="no such file"):
        read_media("http://127.0.0.1:9/a.mp4", keep=bool, sample_rate=16_000)


@pytest.mark.skipif(os.name == "nt", reason="there are no such files on Windows")
def test_pipes_devices_and_dangling_links_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "nowhere.mp4").symlink_to(tmp_path / "missing.mp4")
    (tmp_path / "zero.mp4").symlink_to("/dev/zero")
    assert "not a regular file" in refuse(tmp_path / "pipe.mp4")
    assert "not a regular file" in refuse(tmp_path / "zero.mp4")
    assert "no such file" in refuse(tmp_path / "nowhere.mp4")


def test_no_video_is_longer_than_memory_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (media_module, sound_module):
        monkeypatch.setattr(module, "LONGEST_SECONDS", 0.5)
    assert "sound lasts longer than" in refuse(write(tmp_path, replace(MP4, picture_from=0.8)))
    assert "it lasts longer than" in refuse(write(tmp_path, replace(MP4, audio=None)))


def test_sound_at_no_sensible_rate_is_refused(tmp_path: Path) -> None:
    assert "1,000 Hz" in refuse(write(tmp_path, replace(MP4, container="mkv", audio="pcm_s16le", sample_rate=1_000)))


# What benchmarks/fuzz.py found.


def test_damaged_floats_are_no_sound(tmp_path: Path) -> None:
    path = write(tmp_path, replace(MP4, container="mkv", audio="pcm_f32le", video="mjpeg"))
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packet = [one for one in container.demux(audio=0) if one.size][5]
    at = content.index(bytes(packet))
    content[at : at + 4000] = b"\xff\xff\xff\xff" * 500 + struct.pack("<f", 3e38) * 500
    path.write_bytes(content)
    samples = read(path).sound.samples
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() <= sound_module.LOUDEST


def test_streams_that_appear_midway_are_passed_over(tmp_path: Path) -> None:
    mute = write_recording(tmp_path / "mute.ts", replace(MP4, container="ts", audio=None)).read_bytes()
    with av.open(str(tmp_path / "many.ts"), "w") as container:
        for stream in [add_sound(container, replace(MP4, audio="mp2")) for _ in range(40)]:
            for packet in encode_sound(stream, MP4)[:3]:
                container.mux(packet)
    late = (tmp_path / "many.ts").read_bytes()
    (tmp_path / "both.ts").write_bytes(mute * 40 + late)  # too late to be looked for
    assert len(read(tmp_path / "both.ts", short_side=16).times) > 25


# Real clips, where there are some.


def list_clips() -> list[Path]:
    return sorted(path for name in ("clips", "grid") for path in SHARED.glob(f"{name}/*") if path.suffix in SUFFIXES)


SUFFIXES = (".mp4", ".mov", ".avi", ".mpg", ".mkv", ".webm")
CLIPS = list_clips()


@pytest.mark.skipif(not CLIPS, reason="there are no real clips beside the repository")
@pytest.mark.parametrize("share", [pytest.param(40, id="some"), pytest.param(1, id="all", marks=pytest.mark.slow)])
def test_real_clips_come_back_as_the_plainest_loop_decodes_them(share: int) -> None:
    table = SHARED / "clips" / "clips.csv"
    with table.open(encoding="utf-8") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    for path in CLIPS[::share]:
        media = read_media(path, keep=lambda number: False, sample_rate=16_000)
        with av.open(str(path), metadata_errors="replace") as container:
            times = np.array([frame.time for frame in container.decode(video=0)])
        np.testing.assert_allclose(media.times, times - times[0], atol=1e-6, err_msg=path.name)
        duration = media.times[-1] + np.median(np.diff(media.times))
        if (row := rows.get(path.name)) is not None:
            assert len(media.times) == int(row["frames"]), path.name
            assert duration == pytest.approx(float(row["seconds"]), abs=0.13), path.name
            assert (media.sound is not None) == (row["has_audio"] == "1"), path.name
        if media.sound is not None:
            with av.open(str(path), metadata_errors="replace") as container:
                heard = [(one.time, one.samples / one.sample_rate) for one in container.decode(audio=0)]
            first = find_first_time(path) if path.suffix in (".mp4", ".mov") else times[0]
            assert media.sound.start == pytest.approx(heard[0][0] - first, abs=1e-3), path.name
            assert media.sound.end == pytest.approx(sum(heard[-1]) - first, abs=0.009), path.name


def find_first_time(path: Path) -> float:
    """Return when the first picture is shown: where an edit list begins between two, FFmpeg would move it there."""
    with av.open(str(path), metadata_errors="replace", options={"advanced_editlist": "0"}) as container:
        return next(frame.time for frame in container.decode(video=0) if frame.time > -5e-4)


# A leap to a late keyframe.


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv", "ts", "mpg"])
def test_a_leap_brings_the_frames_and_the_sound_of_decoding_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, container: str
) -> None:
    leaps, decoded = [], []
    monkeypatch.setattr(
        media_module, "decode_packet", lambda packet: decoded.append(packet.stream.type) or packet.decode()
    )
    monkeypatch.setattr(media_module, "LATE_SECONDS", 1.0)
    monkeypatch.setitem(VIDEO_OPTIONS, "libx264", {**VIDEO_OPTIONS["libx264"], "g": "30", "b-pyramid": "normal"})
    monkeypatch.setattr(media_module, "_leap", lambda *a, leap=media_module._leap: leaps.append(leap(*a)) or leaps[-1])
    video = {"mpg": ("mpeg2video", "mp2")}.get(container, ("libx264", "aac"))
    path = write(
        tmp_path, replace(MP4, container=container, video=video[0], audio=video[1], picture_from=0.2, seconds=4.0)
    )
    times = read(path).times
    for first in (3, 29, 30, 31, 62, 80):
        wanted = {first, first + 1, first + 7}
        options = {"keep": wanted.__contains__, "sample_rate": 16_000, "last_frame": first + 7, "sound_until": 3.3}
        whole = read_media(path, **options)
        decoded.clear()
        late = read_media(path, times=times, **options)
        pictures = decoded.count("video")
        assert (pictures < first) == (container in ("mp4", "mov") and first > 61)
        assert list(late.frames) == sorted(wanted)
        for number in wanted:
            np.testing.assert_array_equal(late.frames[number], whole.frames[number])
        assert (late.sound.start, late.width, late.height) == (whole.sound.start, whole.width, whole.height)
        np.testing.assert_array_equal(late.sound.cut(0, 3.3)[0], whole.sound.cut(0, 3.3)[0])
        taken: list[int] = []
        read_media(path, times=times, take=lambda number, frame: taken.append(number), **options)  # noqa: B023
        assert taken == sorted(wanted)
    assert any(leaps) == (container in ("mp4", "mov"))


def test_times_of_another_file_bring_no_wrong_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_module, "LATE_SECONDS", 1.0)
    monkeypatch.setitem(VIDEO_OPTIONS, "libx264", {**VIDEO_OPTIONS["libx264"], "g": "30"})
    path = write(tmp_path, replace(MP4, seconds=4.0))
    options = {"keep": [70, 71].__contains__, "sample_rate": 16_000, "last_frame": 71}
    whole, late = read_media(path, **options), read_media(path, times=np.arange(100) / 29.97, **options)
    for number in (70, 71):
        np.testing.assert_array_equal(late.frames[number], whole.frames[number])


def test_damage_past_a_keyframe_is_decoded_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_module, "LATE_SECONDS", 1.0)
    monkeypatch.setitem(VIDEO_OPTIONS, "libx264", {**VIDEO_OPTIONS["libx264"], "g": "30"})
    path = write(tmp_path, replace(MP4, seconds=4.0))
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    for at, size in places[63:66]:
        content[at + 40 : at + size - 40] = bytes(size - 80)
    path.write_bytes(content)
    options = {"keep": range(66, 75).__contains__, "sample_rate": 16_000, "last_frame": 74}
    whole, late = read_media(path, **options), read_media(path, times=read(path).times, **options)
    assert list(late.frames) == list(whole.frames)
    for number, frame in whole.frames.items():
        np.testing.assert_array_equal(late.frames[number], frame)
