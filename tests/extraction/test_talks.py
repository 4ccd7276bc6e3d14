"""Mouths and speech are found once, with the crops or without them, and what was kept before is filled up."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dfmm.extraction import tracks as kept
from dfmm.extraction.extract import extract_tracks
from dfmm.extraction.shards import MANIFEST, write_shards
from dfmm.extraction.tracks import Tracks
from dfmm.manifest import read_manifest
from dfmm.settings import Settings, SettingsError, validate_settings

from ..conftest import Clip, change


@pytest.fixture
def one(face_clip: Clip, tmp_path: Path) -> tuple[pd.DataFrame, Settings]:
    """A folder with one drawn face, and settings that use no extra."""
    root = tmp_path / "videos"
    root.mkdir()
    shutil.copy(face_clip.path, root / "face.mp4")
    table = pd.DataFrame({"video_id": ["face"], "path": ["face.mp4"]})
    data = {"root": str(root), "cache": str(tmp_path / "cache")}
    return table, validate_settings({"data": data, "synchrony": {"mesh": "never", "phonemes": "never"}})


def assert_same_talk(one: Tracks, other: Tracks) -> None:
    for mine, yours in zip(one.read_talk(0), other.read_talk(0), strict=True):
        for name, value in vars(mine).items():
            np.testing.assert_array_equal(value, vars(yours)[name])


def test_mouths_that_come_with_crops_are_those_found_alone(
    one: tuple[pd.DataFrame, Settings], decoded: list[str], tmp_path: Path
) -> None:
    table, settings = one
    alone, _ = extract_tracks(table, settings, talks=True, progress=False)
    mouths, speech = alone.read_talk(0)
    assert len(mouths.times) == 20
    assert len(speech.log_mel) == pytest.approx(80, abs=6)
    other = change(settings, data={"cache": str(tmp_path / "other")})
    together, _ = extract_tracks(table, other, crops=True, progress=False)
    assert_same_talk(alone, together)
    assert decoded == ["face.mp4"] * 2
    assert extract_tracks(table, other, talks=True, progress=False)[0].talk_entry(0).is_file()
    assert decoded == ["face.mp4"] * 2  # they were kept


@pytest.mark.parametrize("sample_rate", [16_000, 44_100])
def test_the_rate_of_kept_sound_does_not_matter(one: tuple[pd.DataFrame, Settings], sample_rate: int) -> None:
    table, settings = one
    tracks, _ = extract_tracks(table, change(settings, audio={"sample_rate": sample_rate}), crops=True, progress=False)
    _, speech = tracks.read_talk(0)
    assert len(speech.log_mel) == pytest.approx(80, abs=6)


def test_a_cache_of_before_is_read_and_filled_up(one: tuple[pd.DataFrame, Settings], decoded: list[str]) -> None:
    table, settings = one
    before = change(settings, synchrony={"use": False})
    tracks, _ = extract_tracks(table, before, crops=True, progress=False)
    assert not tracks.talk_entry(0).exists()
    crops = tracks.entry(0, crops=True)
    written = crops.stat().st_mtime_ns
    extract_tracks(table, settings, crops=True, progress=False)
    assert decoded == ["face.mp4"]  # who wants crops alone need not wait for mouths
    filled, _ = extract_tracks(table, settings, crops=True, talks=True, progress=False)
    assert decoded == ["face.mp4"] * 2
    assert filled.read_talk(0)[0].crops.any()
    assert crops.stat().st_mtime_ns >= written


def test_what_is_taken_of_tracks_is_read_anew(one: tuple[pd.DataFrame, Settings]) -> None:
    table, settings = one
    tracks, _ = extract_tracks(pd.concat([table, table], ignore_index=True), settings, progress=False)
    taken = tracks.take(np.array([1]), tracks.manifest.iloc[[1]].reset_index(drop=True))
    first = tracks.load(0)
    assert tracks.load(0) is first
    assert taken.load(0) is not first  # its row 0 is another video


@pytest.mark.parametrize("name", ["mesh", "phonemes"])
def test_other_extras_are_other_entries_and_a_missing_one_is_named(
    one: tuple[pd.DataFrame, Settings], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, settings = one
    tracks, _ = extract_tracks(table, settings, progress=False)
    plain = tracks.talk_entry(0)
    auto, always = (
        Tracks(tracks.manifest, tracks.keys, change(settings, synchrony={name: wanted}), crops=False)
        for wanted in ("auto", "always")
    )
    monkeypatch.setattr(kept, f"has_{name}", lambda: True)
    assert auto.talk_entry(0) == always.talk_entry(0) != plain
    monkeypatch.setattr(kept, f"has_{name}", lambda: False)
    assert auto.talk_entry(0) == plain
    with pytest.raises(SettingsError, match=rf"pip install 'dfmm\[{name}\]'"):
        always.talk_entry(0)


def test_what_is_damaged_is_found_again(one: tuple[pd.DataFrame, Settings], said: list[str]) -> None:
    table, settings = one
    tracks, _ = extract_tracks(table, settings, talks=True, progress=False)
    place = tracks.talk_entry(0)
    good = place.read_bytes()
    place.write_bytes(good[:-1])
    tracks.read_talk(0)
    assert place.read_bytes() == good
    assert "made again" in said[-1]


def test_shards_hold_them_and_shards_of_before_have_none(
    one: tuple[pd.DataFrame, Settings], face_clip: Clip, tmp_path: Path
) -> None:
    table, settings = one
    facts = {"split": "test", "label": 0, "method": "real"}
    rows = table.assign(**facts)
    rows.to_csv(tmp_path / "videos" / "manifest.csv", index=False)
    manifest = read_manifest(tmp_path / "videos" / "manifest.csv", tmp_path / "videos")
    for talks in (True, False):
        tracks, _ = extract_tracks(manifest, settings, crops=True, talks=talks, progress=False)
        folder = write_shards(tracks, tmp_path / f"shards-{talks}", progress=False)
        data = {"root": str(folder), "manifest": MANIFEST, "read": "shards"}
        sharded = change(settings, data=data)
        found, _ = extract_tracks(read_manifest(folder / MANIFEST, folder), sharded, talks=True)
        if talks:
            assert_same_talk(tracks, found)
        else:
            assert found.read_talk(0) is None
