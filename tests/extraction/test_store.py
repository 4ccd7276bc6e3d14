"""What is written into the cache is what comes out of it, in whatever parts; what was damaged is said to be."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from dfmm.extraction.store import (
    HEADER_BYTES,
    ArrayFile,
    ArrayWriter,
    CacheError,
    read_crops,
    read_sound,
    read_track,
    remove_partials,
    write_sound,
    write_track,
)
from dfmm.faces.follow import describe_media
from dfmm.media.decode import Media
from dfmm.media.sound import Sound

BLOCKS = {"times": 7, "nothing": 1, "sound": 10, "crops": 1}  # rows that are written at once


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "times": np.arange(7) / 25,
        "nothing": np.zeros((0, 4), np.float32),
        "sound": rng.normal(size=37).astype(np.float32),
        "crops": rng.integers(0, 256, (5, 4, 4, 3), dtype=np.uint8),
    }


@pytest.fixture
def file(arrays: dict[str, np.ndarray], tmp_path: Path) -> Path:
    with ArrayWriter(tmp_path / "kept" / "entry.safetensors") as writer:
        for name, array in arrays.items():
            for at in range(0, max(len(array), 1), BLOCKS[name]):
                writer.append(name, array[at : at + BLOCKS[name]])
        writer.values["name"], writer.values["none"] = "Zoë", None
    return writer.path


def test_every_part_of_an_array_is_what_was_written(file: Path, arrays: dict[str, np.ndarray]) -> None:
    opened = ArrayFile(file)
    assert opened.values == {"name": "Zoë", "none": None}
    for name, array in arrays.items():
        assert opened.count(name) == len(array)
        for start in range(len(array) + 1):
            for stop in range(start, len(array) + 1):
                part = opened.read(name, start, stop)
                assert part.dtype == array.dtype
                np.testing.assert_array_equal(part, array[start:stop])


def test_any_reader_of_safetensors_finds_the_same(file: Path, arrays: dict[str, np.ndarray]) -> None:
    found = load_file(file)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


def test_a_damaged_or_missing_file_is_never_taken_for_a_good_one(file: Path, arrays: dict[str, np.ndarray]) -> None:
    content = file.read_bytes()
    places = (*range(0, 1200, 7), *range(1200, HEADER_BYTES, 500), *range(HEADER_BYTES, len(content), 11))
    for at in places:
        for spoilt in (content[:at], content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]):
            file.write_bytes(spoilt)
            with pytest.raises(CacheError, match=re.escape(str(file))):
                read_all(file, list(arrays))
    with pytest.raises(CacheError, match="no such file"):
        ArrayFile(file.with_name("other"))


def read_all(file: Path, names: list[str]) -> None:
    opened = ArrayFile(file)
    for name in names:
        opened.read(name)


def test_an_error_while_writing_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        break_off(tmp_path / "entry")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="cannot be written"):
        break_off(tmp_path / "file" / "entry")


def break_off(place: Path) -> None:
    with ArrayWriter(place) as writer:
        writer.append("times", np.arange(3))
        raise KeyboardInterrupt


def test_of_a_long_sound_only_what_is_cut_out_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = Sound(np.random.default_rng(0).normal(size=100_500).astype(np.float32), 1_000, start=-0.25)
    with ArrayWriter(tmp_path / "sound") as writer:
        write_sound(writer, sound)
    kept = read_sound(ArrayFile(tmp_path / "sound"))
    assert (kept.end, kept.start) == (sound.end, sound.start)
    asked, read = [], ArrayFile.read
    monkeypatch.setattr(ArrayFile, "read", lambda self, *part: asked.append(part) or read(self, *part))
    for start, seconds in ((3.1234, 0.64), (-1, 2), (99.9, 3), (0, 200), (500, 1), (-9, 1)):
        cut, share = kept.cut(start, seconds)
        expected, expected_share = sound.cut(start, seconds)
        np.testing.assert_array_equal(cut, expected)
        assert share == expected_share
    assert asked[0] == ("sound", 3373, 4013)
    with ArrayWriter(tmp_path / "none") as writer:
        write_sound(writer, None)
    assert read_sound(ArrayFile(tmp_path / "none")) is None
    with ArrayWriter(tmp_path / "empty") as writer:
        write_sound(writer, Sound(np.zeros(0, np.float32), 1_000, start=0.5))
    assert read_sound(ArrayFile(tmp_path / "empty")).end == 0.5


def test_crops_are_found_by_the_numbers_of_their_frames(tmp_path: Path) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    with ArrayWriter(tmp_path / "crops") as writer:
        for crop in crops:
            writer.append("crops", crop[None])
        writer.append("numbers", np.array([3, 4, 7, 20]))
    found = read_crops(ArrayFile(tmp_path / "crops"), {20, 5, 4, 100})
    assert sorted(found) == [4, 20]
    np.testing.assert_array_equal(found[4], crops[1])
    np.testing.assert_array_equal(found[20], crops[3])
    assert read_crops(ArrayFile(tmp_path / "crops"), set()) == {}


def test_what_a_killed_process_was_writing_is_removed_and_what_is_being_written_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "tracks" / "ab"
    script = (
        "import os, sys, pathlib, numpy as np\n"
        "from dfmm.extraction.store import ArrayWriter\n"
        "with ArrayWriter(pathlib.Path(sys.argv[1])) as writer:\n"
        "    writer.append('times', np.arange(9))\n"
        "    os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(folder / "dead")], check=True)
    with ArrayWriter(folder / "alive") as writer:
        writer.append("times", np.arange(3))
        assert len(list(folder.iterdir())) == 2
        remove_partials(tmp_path / "tracks")
        assert list(folder.iterdir()) == [writer.partial]
    assert list(folder.iterdir()) == [folder / "alive"]


def test_a_track_is_kept_under_the_names_that_older_files_have(tmp_path: Path) -> None:
    """Files of the cache outlive the names in the code."""
    media = Media({}, np.arange(3) / 25, None, 64, 48)
    track = replace(describe_media(media), face=2, other_faces=np.array([1, 1, 2]))
    with ArrayWriter(tmp_path / "track") as writer:
        write_track(writer, track)
    file = ArrayFile(tmp_path / "track")
    assert file.values["track"]["place"] == 2
    assert file.read("other_places").tolist() == [1, 1, 2]
    back = read_track(file)
    assert (back.face, back.other_faces.tolist(), back.followable) == (2, [1, 1, 2], 3)
