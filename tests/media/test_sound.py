"""What is said in a file is heard as loud as it is and when it is, whatever its channels, tracks and clocks."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks.containers import Recording, locate_burst, write_recording
from dfmm.faces.follow import describe_media
from dfmm.media import sound as sound_module
from dfmm.media.decode import read_media
from dfmm.media.sound import Sound, has_motion

from ..conftest import hum

RATE = 16_000


def write_channels(path: Path, channels: np.ndarray, layout: str, *, rate: int = RATE, codec: str = "flac") -> Path:
    """Write channels, float `[C, S]`, into a file."""
    with av.open(str(path), "w") as container:
        add_channels(container, channels, layout, rate=rate, codec=codec)
    return path


def add_channels(
    container: av.container.OutputContainer, channels: np.ndarray, layout: str, *, rate: int = RATE, codec: str = "flac"
) -> av.AudioStream:
    stream = container.add_stream(codec, rate=rate, layout=layout)
    kind = stream.codec_context.format.name
    for start in range(0, channels.shape[1], 1024):
        piece = channels[:, start : start + 1024]
        values = piece if kind.endswith("p") else piece.T.reshape(1, -1)
        values = values * {"s16": 2**15 - 1, "s32": 2**31 - 1}.get(kind[:3], 1)
        values = values.astype({"s16": np.int16, "s32": np.int32}.get(kind[:3], np.float32))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(values), format=kind, layout=layout)
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), start
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
    return stream


def hear(path: Path, **options: object) -> Sound:
    return read_media(path, keep=bool, **{"sample_rate": RATE, **options}).sound


def measure_db(heard: np.ndarray, meant: np.ndarray) -> float:
    """Return how much louder a sound is than it was, in dB."""
    size = min(len(heard), len(meant))
    return float(20 * np.log10(np.std(heard[:size]) / np.std(meant[:size])))


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    return hum(2.0, RATE)


@pytest.mark.parametrize("rest", [0.0, 0.056])  # nothing, or −25 dB, of what the channels share
def test_a_voice_with_its_opposite_in_the_other_channel_is_heard(
    tmp_path: Path, voice: np.ndarray, rest: float
) -> None:
    path = write_channels(tmp_path / "opposite.mkv", np.stack([voice, (rest - 1) * voice]), "stereo")
    media = read_media(path, keep=bool, sample_rate=RATE)
    assert abs(measure_db(media.sound.samples, voice)) < 0.1
    assert np.corrcoef(media.sound.samples[: len(voice)], voice)[0, 1] > 0.99
    assert describe_media(media).lone_channel == "FL"


@pytest.mark.parametrize(
    ("layout", "place"),
    [("5.1", 2), ("5.1", 0), ("5.1", 4), ("stereo", 0), ("stereo", 1), ("7.1", 2), ("7 channels", 3)],
)
def test_a_voice_in_one_channel_alone_is_as_loud_as_it_is(
    tmp_path: Path, voice: np.ndarray, layout: str, place: int
) -> None:
    channels = np.zeros((av.AudioLayout(layout).nb_channels, len(voice)))
    channels[place] = voice
    path = write_channels(tmp_path / "one.mkv", channels, layout, codec="pcm_s16le" if "channels" in layout else "flac")
    assert abs(measure_db(hear(path).samples, voice)) < 0.1


def test_what_is_softer_in_the_other_channels_makes_a_voice_hardly_softer(tmp_path: Path, voice: np.ndarray) -> None:
    room = np.random.default_rng(0).normal(0, 0.05 * np.std(voice), (6, len(voice)))
    room[2] += voice
    path = write_channels(tmp_path / "film.mkv", room, "5.1")
    assert -2 < measure_db(hear(path).samples, voice) < 0.1


def test_a_rumble_below_all_voices_is_left_out_of_the_mix(tmp_path: Path, voice: np.ndarray) -> None:
    channels = np.zeros((6, len(voice)))
    channels[2], channels[3] = voice, 0.5 * np.sin(2 * np.pi * 40 * np.arange(len(voice)) / RATE)
    for codec in ("flac", "pcm_s16le"):  # without their names in Matroska
        path = write_channels(tmp_path / "rumble.mkv", channels, "5.1", codec=codec)
        assert np.corrcoef(hear(path).samples[: len(voice)], voice)[0, 1] > 0.99


def test_channels_alike_or_unlike_are_simply_averaged_and_nothing_is_said(tmp_path: Path, voice: np.ndarray) -> None:
    noise = np.random.default_rng(0).normal(0, np.std(voice), len(voice))
    for other, loss in ((voice, 0), (noise, -3)):
        path = write_channels(tmp_path / "two.mkv", np.stack([voice, other]), "stereo", codec="pcm_s16le")
        media = read_media(path, keep=bool, sample_rate=RATE)
        assert measure_db(media.sound.samples, voice) == pytest.approx(loss, abs=0.3)
        assert describe_media(media).lone_channel == ""


def test_a_mix_that_is_known_is_kept_to_where_only_a_part_is_read(tmp_path: Path, voice: np.ndarray) -> None:
    """At first one channel speaks, then the other: of its start alone, the mix would be louder."""
    half = np.where(np.arange(len(voice)) < len(voice) // 4, 0.0, 1.0)
    path = write_channels(tmp_path / "late.mkv", np.stack([voice, half * voice]), "stereo")
    whole = hear(path)
    part = hear(path, last_frame=0, sound_until=0.3, mix=whole.mix)
    assert len(part.samples) < len(whole.samples) // 2
    np.testing.assert_array_equal(part.cut(0, 0.3)[0], whole.cut(0, 0.3)[0])
    assert np.abs(hear(path, last_frame=0, sound_until=0.3).cut(0, 0.3)[0] - whole.cut(0, 0.3)[0]).max() > 0.01


def test_of_a_long_sound_the_mix_is_settled_before_all_of_it_is_held(
    tmp_path: Path, voice: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_channels(tmp_path / "long.mkv", np.stack([voice, -voice]), "stereo")
    whole, track = hear(path), sound_module.SoundTrack(RATE)
    monkeypatch.setattr(sound_module, "LISTENING_SECONDS", 0.5)
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            track.take(frame)
            assert sum(len(chunk) for _, chunk in track.waiting) <= 0.6 * RATE
    found = track.finish(0.0)
    np.testing.assert_array_equal(found.samples, whole.samples)
    assert found.mix == whole.mix


OPPOSED = {"late": (0.8, 1.0), "early": (0.0, 0.3), "in the middle": (0.5, 0.6)}  # from and to, of the whole


@pytest.mark.parametrize(("first", "last"), OPPOSED.values(), ids=list(OPPOSED))
@pytest.mark.parametrize("name", ["some.mkv", "some.wav", "some.avi", "some.aiff"])
def test_a_voice_that_is_opposed_for_a_while_is_heard_all_the_time(
    tmp_path: Path, voice: np.ndarray, name: str, first: float, last: float
) -> None:
    codec = {"mkv": "flac", "aiff": "pcm_s16be"}.get(name[-4:].strip("."), "pcm_s16le")
    long, other = np.tile(voice, 3), np.tile(voice, 3)
    part = slice(round(first * len(long)), round(last * len(long)))
    other[part] *= -1
    media = read_media(
        write_channels(tmp_path / name, np.stack([long, other]), "stereo", codec=codec), keep=bool, sample_rate=RATE
    )
    assert abs(measure_db(media.sound.samples[part], long[part])) < 0.1
    assert abs(measure_db(media.sound.samples, long)) < 0.1
    assert describe_media(media).lone_channel == "FL"


def test_a_voice_that_is_opposed_after_a_long_silence_is_heard(
    tmp_path: Path, voice: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sound_module, "LISTENING_SECONDS", 1.0)
    quiet = 1e-3 * np.random.default_rng(0).normal(size=2 * RATE)
    long, other = np.concatenate([quiet, voice]), np.concatenate([quiet, -voice])
    media = read_media(
        write_channels(tmp_path / "late.mkv", np.stack([long, other]), "stereo"), keep=bool, sample_rate=RATE
    )
    assert abs(measure_db(media.sound.samples, long)) < 0.1
    assert (describe_media(media).lone_channel, describe_media(media).has_sound) == ("FL", True)


def test_of_opposed_front_channels_one_is_left_out_and_the_centre_stays(tmp_path: Path, voice: np.ndarray) -> None:
    channels, half = np.zeros((6, len(voice))), len(voice) // 2
    channels[0, :half], channels[1, :half], channels[2, half:] = voice[:half], -voice[:half], voice[half:]
    media = read_media(write_channels(tmp_path / "film.mkv", channels, "5.1"), keep=bool, sample_rate=RATE)
    for part in (slice(0, half), slice(half, 2 * half)):
        assert measure_db(media.sound.samples[part], voice[part]) > -8  # of shares .71 and 1
    assert describe_media(media).lone_channel == "FL+FC+BL+BR"


@pytest.mark.parametrize("default", [None, 0, 1])
def test_the_track_that_is_flagged_is_heard_and_seen(tmp_path: Path, voice: np.ndarray, default: int | None) -> None:
    with av.open(str(tmp_path / "dubbed.mkv"), "w") as container:
        pictures = [container.add_stream("mjpeg", rate=25) for _ in range(2)]
        for stream in pictures:
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        sounds = [container.add_stream("pcm_s16le", rate=RATE, layout="mono") for _ in range(2)]
        for number, (picture, sound) in enumerate(zip(pictures, sounds, strict=True)):
            flag = av.stream.Disposition.default if number == default else av.stream.Disposition.dub
            picture.disposition = sound.disposition = flag.value
        for number, (picture, sound) in enumerate(zip(pictures, sounds, strict=True)):
            image = np.full((48, 64, 3), 60 + 120 * number, np.uint8)
            container.mux(picture.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            samples = (voice[None] * 32767 / (1 + number)).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.pts = RATE, 0
            container.mux(sound.encode(frame))
        for stream in pictures + sounds:
            container.mux(stream.encode(None))
    media = read_media(tmp_path / "dubbed.mkv", keep=lambda number: True, sample_rate=RATE)
    assert media.frames[0].mean() == pytest.approx(180 if default else 60, abs=5)
    assert measure_db(media.sound.samples, voice) == pytest.approx(-6 if default else 0, abs=0.1)


def cut_by_edit_list(path: Path, seconds: float, scales: Sequence[int]) -> None:
    """Let the edit lists of a MOV file's picture and sound, whose clocks have these scales, begin so much later."""
    content, at = bytearray(path.read_bytes()), 0
    for scale in scales:
        at = content.index(b"elst", at) + 4
        entries = struct.unpack_from(">I", content, at + 4)[0]
        begins = at + 8 + 12 * (entries - 1) + 4  # the last entry's, after its duration
        struct.pack_into(">i", content, begins, struct.unpack_from(">i", content, begins)[0] + round(seconds * scale))
    path.write_bytes(content)


@pytest.mark.parametrize("cut", [0.05, 0.08, 0.105, 0.199])  # from where the first frame is shown; frames last 40 ms
@pytest.mark.parametrize("late", [0.0, 0.12])
def test_an_edit_list_that_begins_between_frames_moves_nothing(tmp_path: Path, cut: float, late: float) -> None:
    recording = Recording("mov", audio="pcm_s16le", seconds=1.0, picture_from=late, sample_rate=48_000)
    path = write_recording(tmp_path / "cut.mov", recording)
    cut_by_edit_list(path, cut, (12_800, 48_000))
    media = read_media(path, keep=lambda number: True, sample_rate=RATE)
    flash = int(np.argmax([frame[60:].mean() for frame in media.frames.values()]))
    assert locate_burst(media, media.times[flash]) - media.times[flash] == pytest.approx(0, abs=1e-3)
    assert len(media.times) == len(recording.ticks) - int(np.ceil(round(cut / 0.04, 6)))
    late_part = read_media(
        path, keep=[9].__contains__, sample_rate=RATE, last_frame=9, sound_until=0.7, times=media.times
    )
    assert late_part.sound.start == pytest.approx(media.sound.start, abs=1e-6)


@pytest.mark.parametrize("rates", [(44_100, 48_000), (44_100, 22_050), (32_000, 44_100)])
def test_bare_aac_that_changes_its_rate_keeps_time(tmp_path: Path, rates: tuple[int, int]) -> None:
    """Each part alone says when its burst is heard: an encoder's delay is in it."""
    contents, times, lengths = [], [], []
    for rate in rates:
        samples, length = np.zeros((1, rate)), round(0.02 * rate)
        samples[0, rate // 2 : rate // 2 + length] = 0.7 * np.hanning(length) * np.sin(0.8 * np.arange(length))
        path = write_channels(tmp_path / "part.aac", samples, "mono", rate=rate, codec="aac")
        part = read_media(path, keep=bool, sample_rate=RATE)
        contents.append(path.read_bytes())
        times.append(locate_burst(part, 0.5))
        lengths.append(part.sound.end)
    (tmp_path / "both.aac").write_bytes(b"".join(contents))
    both = read_media(tmp_path / "both.aac", keep=bool, sample_rate=RATE)
    assert locate_burst(both, 0.5) == pytest.approx(times[0], abs=2e-3)
    assert locate_burst(both, lengths[0] + times[1]) == pytest.approx(lengths[0] + times[1], abs=2e-3)
    assert both.sound.end == pytest.approx(sum(lengths), abs=2e-3)


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("codec", ["pcm_s16le", "flac"])
def test_what_never_moves_is_no_sound(tmp_path: Path, rate: int, codec: str) -> None:
    path = write_channels(tmp_path / "constant.mkv", np.full((1, rate), 0.25), "mono", rate=rate, codec=codec)
    track = describe_media(read_media(path, keep=bool, sample_rate=RATE))
    assert not track.has_sound
    assert (track.sound_peak, track.loudness, track.level) == (0, -120, -120)
    assert track.leading_silence == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.m4a", "aac"), ("a.mp3", "libmp3lame"), ("a.webm", "libopus"), ("a.ac3", "ac3")],
)
@pytest.mark.parametrize("constant", [0.25, -0.5])
def test_what_coders_make_of_a_constant_is_no_sound_and_a_soft_voice_is_one(
    tmp_path: Path, name: str, codec: str, constant: float
) -> None:
    """One that stays, and one that a switch cuts off; at −60 dB the voice, alone or beside it."""
    voice, still = hum(2.0, 48_000), np.full(96_000, constant)
    soft = voice * 1e-3 / np.std(voice)
    whole, part = still, np.where(np.arange(96_000) < 40_000, constant, 0.0)
    loud = []
    for sound in (whole, part, soft, soft + 0.5 * still):
        media = read_media(
            write_channels(tmp_path / name, sound[None], "mono", rate=48_000, codec=codec), keep=bool, sample_rate=RATE
        )
        track, start = describe_media(media), media.sound.samples[8_000:18_000]
        assert has_motion(start, RATE) == track.has_sound
        loud.append(round(track.loudness) if track.has_sound else None)
    assert loud[:2] == [None, None]
    assert loud[2] == pytest.approx(-60, abs=2)
    assert loud[3] is not None


def test_a_voice_beside_an_offset_is_heard(tmp_path: Path, voice: np.ndarray) -> None:
    path = write_channels(tmp_path / "offset.mkv", voice[None] * 0.1 + 0.25, "mono")
    assert describe_media(read_media(path, keep=bool, sample_rate=RATE)).has_sound
