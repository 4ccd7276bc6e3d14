"""Pictures come as players show them: upright, of square pixels, whole, and in the colours that were filmed."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from dfmm.faces.follow import crop_faces, find_track
from dfmm.media import decode
from dfmm.media.container import MediaError
from dfmm.media.decode import Media, Recording, read_media
from dfmm.media.encode import write_video
from dfmm.media.reencode import encode_file
from dfmm.sections import Cure
from dfmm.settings import validate_settings

from ..conftest import detect_bright

FAST = {"libx264": {"preset": "ultrafast", "crf": "12"}, "mpeg2video": {"b": "8000000"}}
CORNERS = {"upper left": (0, 0), "upper right": (0, -1), "lower left": (-1, 0), "lower right": (-1, -1)}


def read(path: Path | Recording, **options: Any) -> Media:
    return read_media(path, keep=lambda number: True, **{"sample_rate": 16_000, **options})


def write(
    path: Path,
    frames: Iterable[np.ndarray | av.VideoFrame],
    codec: str = "libx264",
    *,
    options: dict[str, str] | None = None,
    ratio: Fraction | None = None,
    prepare: Callable[[av.VideoCodecContext], None] = lambda context: None,
    pix_fmt: str = "yuv420p",
) -> Path:
    """Write frames at 25 fps, RGB `[H, W, 3]` or as they are to be encoded."""
    with av.open(str(path), "w") as container:
        for packet in encode(container.add_stream(codec, rate=25), frames, codec, options, ratio, prepare, pix_fmt):
            container.mux(packet)
    return path


def encode(
    stream: av.VideoStream,
    frames: Iterable[np.ndarray | av.VideoFrame],
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    ratio: Fraction | None = None,
    prepare: Callable[[av.VideoCodecContext], None] = lambda context: None,
    pix_fmt: str = "yuv420p",
) -> list[av.Packet]:
    stream.options, stream.pix_fmt, packets = {**FAST.get(codec, {}), **(options or {})}, pix_fmt, []
    for number, frame in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(frame, format="rgb24") if isinstance(frame, np.ndarray) else frame
        if not number:
            stream.width, stream.height, stream.codec_context.thread_count = frame.width, frame.height, 1
            stream.codec_context.sample_aspect_ratio = ratio or Fraction(1)
            prepare(stream.codec_context)
        frame.pts, frame.time_base = number, Fraction(1, 25)
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def draw_circle(height: int, width: int, *, shape: float = 1.0, grey: int = 230) -> np.ndarray:
    """Draw what is a circle where pixels are so many times wider than high."""
    y, x = np.mgrid[:height, :width]
    inside = np.hypot((x + 0.5 - width / 2) * shape, y + 0.5 - height / 2) < 0.3 * min(height, width * shape)
    return np.where(inside, grey, 20).astype(np.uint8)[..., None].repeat(3, axis=2)


def measure_circle(frame: np.ndarray) -> float:
    """Return how many times wider than high what is bright is."""
    y, x = np.nonzero(frame.min(axis=2) > 125)
    return float((x.max() + 1 - x.min()) / (y.max() + 1 - y.min()))


# Upright


@pytest.mark.parametrize(
    ("matrix", "white", "grey"),  # a, b, c and d; where the upper left corner goes, and the upper right
    [
        ((1, 0, 0, 1), "upper left", "upper right"),
        ((0, 1, -1, 0), "upper right", "lower right"),
        ((-1, 0, 0, -1), "lower right", "lower left"),
        ((0, -1, 1, 0), "lower left", "upper left"),
        ((-1, 0, 0, 1), "upper right", "upper left"),
        ((1, 0, 0, -1), "lower left", "lower right"),
        ((0, 1, 1, 0), "upper left", "lower left"),
        ((0, -1, -1, 0), "lower right", "upper right"),
    ],
)
def test_a_picture_is_turned_and_mirrored_as_its_matrix_says(
    tmp_path: Path, matrix: Sequence[int], white: str, grey: str
) -> None:
    frames = np.full((3, 64, 96, 3), 20, np.uint8)
    frames[:, :16, :16], frames[:, :16, -16:] = 230, 130
    content = write_video(tmp_path / "flat.mp4", frames).read_bytes()
    one, nine = 1 << 16, struct.Struct(">9i")
    plain = nine.pack(one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    a, b, c, d = (value * one for value in matrix)
    at = content.index(plain, content.index(b"tkhd"))
    turned = content[:at] + nine.pack(a, b, 0, c, d, 0, 0, 0, 1 << 30) + content[at + nine.size :]
    (tmp_path / "turned.mp4").write_bytes(turned)
    recording = Recording(tmp_path / "turned.mp4")
    for media in (read(recording), read(recording), read(recording, short_side=32)):
        assert (media.width, media.height) == ((96, 64) if matrix[0] else (64, 96))
        small = media.frames[1].mean(axis=2)
        side = min(small.shape) // 8
        for corner, level in ((white, 230), (grey, 130)):
            y, x = (side // 2 if at == 0 else -1 - side // 2 for at in CORNERS[corner])
            assert small[y, x] == pytest.approx(level, abs=12)


# In its own shape


def write_turned(path: Path, codec: str, *, first: int = 10) -> Path:
    """Write a call on a phone that is turned after some frames: a circle in 96 × 160, then in 160 × 96."""
    upright, lying = draw_circle(160, 96), draw_circle(96, 160)
    with av.open(str(path), "w") as container, av.open(str(path.with_suffix(".other" + path.suffix)), "w") as other:
        options = {"deadline": "realtime", "cpu-used": "8"} if codec.startswith("libvpx") else None
        stream = container.add_stream(codec, rate=25)
        packets = encode(stream, [upright] * first, codec, options)
        late = encode(other.add_stream(codec, rate=25), [lying] * 10, codec, options)
        for packet in packets:
            container.mux(packet)
        for packet in late:
            shift = round(Fraction(first, 25) / packet.time_base)
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            packet.stream = stream
            container.mux(packet)
    return path


@pytest.mark.parametrize(
    ("name", "codec"),
    [("call.webm", "libvpx"), ("call.webm", "libvpx-vp9"), ("call.ts", "libx264"), ("call.mkv", "libvpx")],
)
def test_a_picture_that_is_turned_midway_keeps_its_shape(tmp_path: Path, name: str, codec: str) -> None:
    recording = Recording(write_turned(tmp_path / name, codec))
    for media in (read(recording), read(recording), read(recording, short_side=48)):
        assert (media.width, media.height) == (96, 160)
        np.testing.assert_array_equal(media.sizes, [[10, 160, 96]])
        scale = media.frames[0].shape[1] / 96
        for number, frame in media.frames.items():
            assert frame.shape[:2] == tuple(round(side * scale) for side in ((160, 96) if number < 10 else (96, 160)))
            assert measure_circle(frame) == pytest.approx(1, abs=0.05)


def test_a_turn_is_a_cut_and_a_face_is_found_and_cropped_in_both_shapes(tmp_path: Path, detectors: dict) -> None:
    detectors["retinaface"] = detect_bright
    path = write_turned(tmp_path / "call.webm", "libvpx", first=13)
    for detector, side in (("retinaface", 360), ("retinaface", 64), ("none", 360)):
        settings = validate_settings(
            {"video": {"size": 32, "margin": 0.2, "detector": detector, "detect_side": side, "detect_every": 2}}
        )
        track = find_track(path, settings.video)
        np.testing.assert_allclose(track.cut_times * 25, [13], atol=0.03)
        assert set(track.trace_face(settings.video).shots[:13]) != set(track.trace_face(settings.video).shots[13:])
        crops: dict[int, np.ndarray] = {}
        crop_faces(path, track.lay_canvases(settings), settings, numbers=range(23), take=crops.__setitem__)
        assert len(crops) == 23
        for crop in crops.values():
            assert measure_circle(crop) == pytest.approx(1, abs=0.1)


def test_a_picture_that_is_turned_midway_is_encoded_anew_in_one_shape(tmp_path: Path) -> None:
    encode_file(write_turned(tmp_path / "call.webm", "libvpx"), tmp_path / "one.mp4", Cure(reencode=True))
    media = read(tmp_path / "one.mp4")
    assert len(media.sizes) == 0
    assert len(media.times) == 20
    assert {frame.shape for frame in media.frames.values()} == {(160, 96, 3)}
    assert [measure_circle(frame) for frame in media.frames.values()] == pytest.approx([1] * 20, abs=0.08)


# Of square pixels


@pytest.mark.parametrize(
    ("ratio", "shown"),
    [
        (Fraction(64, 45), (205, 96)),
        (Fraction(8, 9), (144, 108)),
        (Fraction(4, 3), (192, 96)),
        (Fraction(1279, 1280), (144, 96)),  # rounded by whoever scaled it
        (Fraction(50), (144, 96)),  # nonsense
    ],
)
@pytest.mark.parametrize(
    ("name", "codec"), [("dvd.mp4", "libx264"), ("dvd.mkv", "libx264"), ("dvd.ts", "mpeg4"), ("dvd.avi", "mpeg4")]
)
def test_pixels_that_are_not_square_are_made_so(
    tmp_path: Path, name: str, codec: str, ratio: Fraction, shown: tuple[int, int]
) -> None:
    shape = float(ratio) if 0.5 < ratio < 2 else 1.0
    path = write(tmp_path / name, [draw_circle(96, 144, shape=shape)] * 3, codec, ratio=ratio)
    for media in (read(path), read(path, short_side=48)):
        assert (media.width, media.height) == shown
        assert measure_circle(media.frames[1]) == pytest.approx(1, abs=0.08)
    assert read(path).frames[1].shape[:2] == shown[::-1]


def test_boxes_and_crops_are_of_square_pixels_too(tmp_path: Path, detectors: dict) -> None:
    detectors["retinaface"] = detect_bright
    path = write(tmp_path / "dvd.mp4", [draw_circle(96, 144, shape=1.5)] * 5, ratio=Fraction(3, 2))
    settings = validate_settings({"video": {"size": 32, "margin": 0.2}})
    track = find_track(path, settings.video)
    assert (track.width, track.height) == (216, 96)
    np.testing.assert_allclose(track.boxes, [[79, 19, 137, 77]], atol=2)
    crops: dict[int, np.ndarray] = {}
    crop_faces(path, track.lay_canvases(settings), settings, numbers=range(5), take=crops.__setitem__)
    assert measure_circle(crops[2]) == pytest.approx(1, abs=0.1)


def test_pixels_may_not_make_a_picture_larger_than_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfmm.media.picture.LARGEST_PICTURE", 96 * 200)
    path = write(tmp_path / "wide.mp4", [draw_circle(96, 144)] * 2, ratio=Fraction(2))
    with pytest.raises(MediaError, match="picture of 288×96 pixels is too large"):
        read(path)


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_pixels_that_change_their_shape_midway_do_so_with_their_frame(tmp_path: Path, codec: str) -> None:
    parts = [
        write(tmp_path / "part.ts", [draw_circle(96, 128)] * 8, codec, ratio=ratio, options={"bf": "2"}).read_bytes()
        for ratio in (Fraction(1), Fraction(4, 3))
    ]
    (tmp_path / "switched.ts").write_bytes(b"".join(parts))
    media = read(tmp_path / "switched.ts")
    assert (media.width, media.height, media.sizes.tolist()) == (128, 96, [[8, 171, 96]])
    assert [frame.shape[1] for frame in media.frames.values()] == [128] * 8 + [171] * 8


# Whole


def weave(count: int, *, height: int = 96, width: int = 160) -> list[np.ndarray]:
    """Draw a bar that has moved on by five pixels from one field to the next."""
    frames = np.full((count, height, width, 3), 20, np.uint8)
    for number in range(count):
        for field in range(2):
            left = 10 + 5 * (2 * number + field)
            frames[number, field::2, left : left + 40] = 220
    return list(frames)


def measure_combs(frame: np.ndarray) -> float:
    """Return by how much lines differ from their neighbours, in grey levels."""
    grey = frame.mean(axis=2)
    return float(np.abs(grey[1:-1] - (grey[:-2] + grey[2:]) / 2).mean())


INTERLACED = {
    "mpeg2video": {"flags": "+ildct+ilme"},
    "libx264": {"x264-params": "interlaced=1", "preset": "veryfast"},
}


@pytest.mark.parametrize(("name", "codec"), [("tv.mpg", "mpeg2video"), ("tv.ts", "libx264"), ("tv.mp4", "libx264")])
def test_woven_fields_are_taken_apart(tmp_path: Path, name: str, codec: str) -> None:
    frames = weave(10)
    recording = Recording(write(tmp_path / name, frames, codec, options=INTERLACED[codec]))
    once, again = read(recording), read(recording)
    np.testing.assert_allclose(once.times, np.arange(10) / 25, atol=1e-3)
    assert list(once.frames) == list(again.frames) == list(range(10))
    assert measure_combs(frames[4]) > 10
    for number, frame in once.frames.items():
        assert measure_combs(frame) < 2
        np.testing.assert_array_equal(frame, again.frames[number])
        left = np.flatnonzero(frame[40].mean(axis=1) > 120)[0]
        assert left == pytest.approx(12 + 10 * number, abs=4)  # each is where it was


def test_what_does_not_say_that_it_is_woven_is_left_as_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "lines.mp4", weave(6))
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            assert not frame.interlaced_frame
            plain = frame.reformat(format="rgb24", interpolation="AREA", threads=1).to_ndarray()
            np.testing.assert_array_equal(read(path).frames[number], plain)


def test_a_leap_into_woven_fields_brings_the_same_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "LATE_SECONDS", 1.0)
    options = {**INTERLACED["libx264"], "g": "20"}
    path = write(tmp_path / "tv.mp4", [frame for _ in range(8) for frame in weave(10)], options=options)
    whole = read(path)
    for first, last in ((60, 64), (61, 79)):
        keep = {"keep": range(first, last + 1).__contains__, "last_frame": last}
        late = read_media(path, sample_rate=16_000, times=whole.times, **keep)
        assert list(late.frames) == list(range(first, last + 1))
        for number, frame in late.frames.items():
            np.testing.assert_array_equal(frame, whole.frames[number])


# In its colours


@pytest.mark.parametrize(("width", "lines"), [(96, 480), (96, 576), (96, 578), (1248, 544), (1344, 544), (96, 1080)])
@pytest.mark.parametrize("tagged", [False, True])
def test_colours_that_do_not_say_how_they_are_coded_are_told_by_the_size(
    tmp_path: Path, width: int, lines: int, tagged: bool
) -> None:
    colours = np.array([[254, 20, 20], [30, 200, 40], [224, 172, 140]])
    image = np.repeat(colours, width // 3, axis=0)[None].repeat(lines, axis=0).astype(np.uint8)
    space, number = ("ITU709", 1) if lines > 576 or width >= 1280 or tagged else ("ITU601", 6)
    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
    frame = frame.reformat(format="yuv444p", dst_colorspace=space)

    def tag(context: av.VideoCodecContext) -> None:
        context.colorspace = number if tagged else 2

    frame.colorspace = number if tagged else 2
    path = write(tmp_path / "hd.mp4", [frame], prepare=tag, pix_fmt="yuv444p")
    found = read(path).frames[0][lines // 2, width // 6 :: width // 3]
    np.testing.assert_allclose(found, colours, atol=5)


SKIN = np.array([224, 172, 140])
TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])


def code_pq(nits: np.ndarray) -> np.ndarray:
    root = (nits / 10_000) ** (2610 / 16_384)
    return ((0.8359375 + 18.8515625 * root) / (1 + 18.6875 * root)) ** (2523 / 32)


def code_hlg(scene: np.ndarray) -> np.ndarray:
    late = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), late)


def light_scene(nits: np.ndarray) -> np.ndarray:
    """Return the scene's light, of 1, that a display of 1000 cd/m² shows so (ITU-R BT.2100)."""
    return nits / 1000 * (nits / 1000 @ [0.2627, 0.6780, 0.0593])[..., None] ** (1 / 1.2 - 1)


def write_hdr(path: Path, codes: np.ndarray, transfer: int) -> Path:
    """Write a picture `[H, W, 3]` of BT.2020 values, from 0 to 1, in ten bits."""
    luma = codes @ [0.2627, 0.6780, 0.0593]
    blue, red = (codes[..., 2] - luma) / 1.8814, (codes[..., 0] - luma) / 1.4746
    frame = av.VideoFrame(codes.shape[1], codes.shape[0], "yuv444p10le")
    for plane, values in zip(frame.planes, (64 + 876 * luma, 512 + 896 * blue, 512 + 896 * red), strict=True):
        rows = np.zeros((codes.shape[0], plane.line_size // 2), np.uint16)
        rows[:, : codes.shape[1]] = np.rint(values)
        plane.update(rows.tobytes())
    tags = {"color_primaries": 9, "color_trc": transfer, "colorspace": 9, "color_range": 1}

    def tag(what: av.VideoFrame | av.VideoCodecContext) -> None:
        for name, value in tags.items():
            setattr(what, name, value)

    tag(frame)
    return write(path, [frame], prepare=tag, pix_fmt="yuv444p10le")


@pytest.mark.parametrize(
    ("kind", "gamma"), [("pq", 2.2), ("pq", 2.4), ("hlg", 2.2), ("hlg", 2.4), ("hlg of the scene", 2.2)]
)
def test_skin_in_hdr_is_what_it_is_on_an_ordinary_display(tmp_path: Path, kind: str, gamma: float) -> None:
    """White is at 203 cd/m², or 0.265 of the scene (ITU-R BT.2408)."""
    light = (SKIN / 255) ** gamma @ TO_BT2020.T
    codes = {
        "pq": code_pq(203 * light),
        "hlg": code_hlg(light_scene(203 * light)),
        "hlg of the scene": code_hlg(0.265 * light),
    }[kind]
    path = write_hdr(tmp_path / "phone.mp4", np.broadcast_to(codes, (48, 64, 3)), 16 if kind == "pq" else 18)
    for short_side in (None, 24):
        np.testing.assert_allclose(read(path, short_side=short_side).frames[0][10, 10], SKIN, atol=12)


def test_greys_in_hdr_rise_evenly_and_lights_are_told_from_white(tmp_path: Path) -> None:
    nits = np.geomspace(0.1, 1000, 64)
    for transfer, codes in ((16, code_pq(nits)), (18, code_hlg(light_scene(nits[:, None].repeat(3, 1))[:, 0]))):
        path = write_hdr(tmp_path / "ramp.mp4", codes[None, :, None].repeat(16, 0).repeat(3, 2), transfer)
        found = read(path).frames[0][8].astype(int)
        assert np.ptp(found, axis=1).max() <= 3
        grey = found[:, 1]
        assert (np.diff(grey) >= 0).all()
        dim = nits < 150
        np.testing.assert_allclose(grey[dim], 255 * (nits[dim] / 203) ** (1 / 2.4), atol=3)
        assert grey[np.searchsorted(nits, 203)] > 240
        assert grey[-1] == 255


def test_an_ordinary_picture_passes_no_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfmm.media.picture.narrow_colours", None)
    assert len(read(write(tmp_path / "plain.mp4", [draw_circle(96, 128)] * 2)).frames) == 2
