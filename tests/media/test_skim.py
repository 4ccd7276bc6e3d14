"""A long file that is read in parts: what comes out is the same to the bit, or it is said that it cannot be read so."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks.containers import Recording, add_picture, add_sound, encode_picture, encode_sound
from dfmm.media.decode import read_media
from dfmm.media.skim import Skim, SkimError, skim_media

KEYS = 12  # frames from one keyframe to the next
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}
CLIPS = {
    "mp4": (Recording("mp4", seconds=3.0, layout="stereo"), {}),
    "cut into fragments": (Recording("mp4", seconds=3.0), FRAGMENTS),
    "mkv": (Recording("mkv", seconds=3.0, sound_from=0.4), {}),
    "ts": (Recording("ts", seconds=3.0, picture_from=0.4), {}),
}
WANTED = {0, *range(30, 45), KEYS * 4, 62, 63}


def write(path: Path, recording: Recording, change: Callable[[list[av.Packet]], None] | None = None, **options) -> Path:
    """Write a clip with a keyframe every `KEYS` frames, after a change of its picture's packets."""
    with av.open(str(path), "w", options=options) as container:
        picture, sound = add_picture(container, recording), add_sound(container, recording)
        picture.options = {**picture.options, "g": str(KEYS), "keyint_min": str(KEYS)}
        seen, heard = encode_picture(picture, recording), encode_sound(sound, recording)
        if change:
            change(seen)
        for packet in sorted([*seen, *heard], key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def read_wanted(source: Path | Skim) -> dict[int, np.ndarray]:
    frames: dict[int, np.ndarray] = {}
    read_media(source, keep=WANTED.__contains__, sample_rate=16_000, take=frames.__setitem__)
    return frames


@pytest.mark.parametrize("name", CLIPS)
def test_parts_are_those_of_the_whole_to_the_bit(name: str, tmp_path: Path) -> None:
    recording, options = CLIPS[name]
    path = write(tmp_path / f"clip.{recording.container}", recording, **options)
    skim = skim_media(path, sample_rate=16_000)
    whole = read_media(path, keep=WANTED.__contains__, sample_rate=16_000)
    assert np.array_equal(skim.media.times, whole.times)
    assert np.array_equal(skim.media.sound.samples, whole.sound.samples)
    assert skim.media.sound.start == whole.sound.start
    found = read_wanted(skim)
    assert list(found) == sorted(WANTED)
    assert all(np.array_equal(found[number], whole.frames[number]) for number in WANTED)
    assert skim.decoded < len(whole.times) - KEYS
    slower = read_media(skim, keep=lambda number: False, sample_rate=8_000).sound
    assert np.array_equal(slower.samples, read_media(path, keep=lambda number: False, sample_rate=8_000).sound.samples)


class Late:
    """A container whose leaps land a second late."""

    def __init__(self, container: av.container.InputContainer):
        self.container, self.leaps = container, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.container, name)

    def seek(self, at: int, *, stream: av.VideoStream) -> None:
        self.leaps += 1
        self.container.seek(at + round(1 / stream.time_base), stream=stream)


def test_a_leap_that_lands_late_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, opened = write(tmp_path / "clip.mp4", CLIPS["mp4"][0]), []
    skim = skim_media(path, sample_rate=16_000)
    show = Skim._show_groups

    def show_late(self: Skim, container: av.container.InputContainer, groups: deque, *rest: object) -> None:
        opened.append(Late(container))
        show(self, opened[-1], groups, *rest)

    monkeypatch.setattr(Skim, "_show_groups", show_late)
    found = read_wanted(skim)
    assert [container.leaps for container in opened] == [1, 0]  # the second time packets are read on
    whole = read_media(path, keep=WANTED.__contains__, sample_rate=16_000)
    assert all(np.array_equal(found[number], whole.frames[number]) for number in WANTED)


def let_two_coincide(packets: list[av.Packet]) -> None:
    later = sorted(packets, key=lambda packet: packet.pts)[20:22]
    later[1].pts = later[0].pts


def test_what_tells_no_times_that_rise_is_to_be_decoded(tmp_path: Path) -> None:
    plain = Recording("mkv", seconds=1.0)
    with pytest.raises(SkimError, match="rise"):
        skim_media(write(tmp_path / "same.mkv", plain, let_two_coincide), sample_rate=16_000)
    with pytest.raises(SkimError, match="times"):
        skim_media(write(tmp_path / "clip.avi", Recording("avi", audio="pcm_s16le", seconds=1.0)), sample_rate=16_000)


def test_a_frame_that_comes_at_another_time_is_not_shown(tmp_path: Path) -> None:
    skim = skim_media(write(tmp_path / "clip.mp4", CLIPS["mp4"][0]), sample_rate=16_000)
    skim.told[34] += 0.004  # as if a frame between were told, and never shown
    with pytest.raises(SkimError, match="another time"):
        read_wanted(skim)
