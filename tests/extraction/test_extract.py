"""Tracks and crops are found once, kept, found again where they must be, and never held in memory as a whole."""

from __future__ import annotations

import os
import shutil
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from dfmm.extraction import extract
from dfmm.extraction import tracks as kept
from dfmm.extraction.extract import extract_tracks, tabulate_tracks
from dfmm.extraction.store import ArrayFile, read_crops
from dfmm.extraction.tracks import load_track, make_entry, save_track
from dfmm.faces import looks
from dfmm.faces.crops import Canvases
from dfmm.faces.follow import find_track
from dfmm.faces.track import Track
from dfmm.media.container import MediaError
from dfmm.media.decode import read_media
from dfmm.sections import Video
from dfmm.settings import Settings, validate_settings

from ..conftest import change, detect_bright, write_square

if TYPE_CHECKING:
    from ..conftest import Clip

# Keeping


def test_no_more_frames_are_in_memory_than_a_stretch(
    tmp_path: Path, detectors: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames: list[weakref.ref] = []
    most = {"looking": 0, "cropping": 0}

    def count(when: str, given: Sequence[np.ndarray]) -> None:
        frames.extend(map(weakref.ref, given))
        most[when] = max(most[when], sum(frame() is not None for frame in frames))

    def detect(given: Sequence[np.ndarray]) -> list[np.ndarray]:
        count("looking", given)
        return detect_bright(given)

    def cut(self: Canvases, frame: np.ndarray, number: int) -> np.ndarray:
        count("cropping", [frame])
        return cut_canvas(self, frame, number)

    cut_canvas = Canvases.cut
    monkeypatch.setattr(Canvases, "cut", cut)
    detectors["retinaface"] = detect
    path = write_square(tmp_path / "square.mp4", 80)
    monkeypatch.setattr(looks, "BATCH_VALUES", 4 * 160 * 240 * 3)
    settings = validate_settings({"video": {"detect_every": 1}})
    make_entry(path, tmp_path / "track", tmp_path / "crops", settings)
    assert len(frames) == 160
    assert 0 < most["looking"] <= 4 * looks.COARSE + 1
    assert 0 < most["cropping"] <= 2


def test_a_track_survives_its_file_and_a_damaged_file_is_none(tmp_path: Path, clip: Clip) -> None:
    track, path = find_track(clip.path, Video(detector="none")), tmp_path / "track"
    assert (track.has_sound, track.sound_end) == (True, pytest.approx(2, abs=0.1))
    assert load_track(path) is None
    save_track(track, path)
    assert list(tmp_path.iterdir()) == [path]
    assert_same(load_track(path), track)
    content = path.read_bytes()
    path.write_bytes(content[:-9] + b"x" + content[-8:])
    assert load_track(path) is None


def assert_same(one: Track | None, other: Track) -> None:
    assert one is not None
    for name in Track.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_crops_are_kept_of_frames_with_a_face_and_the_sound_as_it_was(tmp_path: Path, detectors: dict) -> None:
    detectors["retinaface"] = detect_bright
    path = write_square(tmp_path / "square.mp4", 60, visible=lambda number: number < 25)
    settings = validate_settings({"video": {"detect_every": 5, "size": 32}})
    make_entry(path, tmp_path / "track", tmp_path / "crops", settings)
    track, file = load_track(tmp_path / "track"), ArrayFile(tmp_path / "crops")
    canvases = track.lay_canvases(settings)
    assert file.read("numbers").tolist() == np.flatnonzero(canvases.seen).tolist() == list(range(25))  # up to the cut
    assert file.count("crops") == 25
    assert file.values["sound"] is None
    frames = read_media(path, keep=lambda number: True, sample_rate=16_000).frames
    for number, crop in read_crops(file, range(60)).items():
        np.testing.assert_array_equal(crop, canvases.cut(frames[number], number))


# Extraction of many


@pytest.fixture
def videos(tmp_path: Path, clip: Clip, mute_clip: Clip) -> tuple[pd.DataFrame, Settings]:
    """Two good videos around a broken and a missing one, in which nobody looks for faces."""
    root = tmp_path / "videos"
    root.mkdir()
    shutil.copy(clip.path, root / "clip.mp4")
    shutil.copy(mute_clip.path, root / "mute.mp4")
    (root / "broken.mp4").write_bytes(clip.path.read_bytes()[:999])
    names = ["clip", "broken", "missing", "mute"]
    table = pd.DataFrame({"video_id": names, "path": [f"{name}.mp4" for name in names]})
    data = {"root": str(root), "cache": str(tmp_path / "cache")}
    return table, validate_settings({"data": data, "video": {"detector": "none"}})


def test_workers_find_what_one_process_finds_and_a_broken_file_costs_itself(
    videos: tuple[pd.DataFrame, Settings], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table, settings = videos
    tracks, failures = extract_tracks(table, settings, crops=True, progress=False)
    assert list(tracks) == list(tracks.manifest["video_id"]) == ["clip", "mute"]
    for name, track in tracks.items():
        assert_same(track, find_track(Path(settings.data.root) / f"{name}.mp4", settings.video))
    assert set(failures) == {"broken", "missing"}
    for name, reason in {"broken": "cannot be decoded", "missing": "no such file"}.items():
        assert failures[name].startswith(f"{Path(settings.data.root) / name}.mp4: {reason}")
        assert name not in tracks
        with pytest.raises(KeyError):
            tracks[name]
    assert sum("is left out" in message for message in said) == 2
    # The second time, nothing that is kept is decoded again, and what failed is tried.
    tried = []

    def fail(files: list[tuple], *_: object) -> list[tuple[int, MediaError]]:
        tried.extend(Path(path).name for path, *_ in files)
        return [(0, MediaError("still broken"))]

    monkeypatch.setattr(extract, "_extract_in_parallel", fail)
    again, failures = extract_tracks(table, settings, crops=True, progress=False)
    assert tried == ["broken.mp4"]
    assert failures["broken"] == "still broken"
    for name, track in again.items():
        assert_same(track, tracks[name])


def test_a_changed_video_and_other_settings_are_done_again_beside_what_is_kept(
    videos: tuple[pd.DataFrame, Settings], decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table, settings = videos
    table = table[table["video_id"].isin(["clip", "mute"])]
    path, both = Path(settings.data.root) / "clip.mp4", ["clip.mp4", "mute.mp4"]
    found, find = [], kept.find_track
    monkeypatch.setattr(kept, "find_track", lambda path, video: found.append(path) or find(path, video))

    def extract_again(settings: Settings, *, crops: bool) -> list[str]:
        decoded.clear()
        assert len(extract_tracks(table, settings, crops=crops, progress=False)[0]) == 2
        return list(decoded)

    assert extract_again(settings, crops=False) == both
    assert extract_again(settings, crops=False) == []
    os.utime(path, ns=(1, 1))
    assert extract_again(settings, crops=False) == ["clip.mp4"]
    assert extract_again(change(settings, video={"detect_every": 9}), crops=False) == both
    assert extract_again(change(settings, video={"size": 64}), crops=False) == []  # finds the same track
    searches = len(found)
    larger, louder = change(settings, video={"size": 128}), change(settings, audio={"sample_rate": 44_100})
    followed, aligned = (change(settings, video={"crop": crop}) for crop in ("follow", "align"))
    for other in (settings, larger, change(settings, video={"margin": 0.3}), louder, followed, aligned):
        assert extract_again(other, crops=True) == both
        assert extract_again(change(other, video={"frames": 14}, audio={"n_mels": 32}), crops=True) == []
    longer = {"frames": 40}  # for which a steady crop needs more room
    assert extract_again(change(settings, video=longer), crops=True) == both
    assert extract_again(change(followed, video=longer), crops=True) == []
    assert extract_again(settings, crops=True) == []  # still there
    assert len(found) == searches  # the tracks they crop by were kept


def test_what_is_damaged_is_made_again_when_it_is_asked_for(
    videos: tuple[pd.DataFrame, Settings], decoded: list[str], said: list[str]
) -> None:
    table, settings = videos
    table = table[table["video_id"] == "clip"]
    for crops in (False, True):
        tracks, _ = extract_tracks(table, settings, crops=crops, progress=False)
        track, file = tracks["clip"], tracks.entry(0, crops=crops)
        good = file.read_bytes()
        file.write_bytes(good[:-1])
        tracks.recent.clear()  # of these the file is not read again
        said.clear()
        assert_same(tracks["clip"], track)
        assert file.read_bytes() == good
        assert "made again" in said[0]
    file.write_bytes(b"")
    tracks.recent.clear()
    Path(tracks.path(0)).unlink()
    tracks.entry(0, crops=False).unlink()
    with pytest.raises(MediaError, match="no such file"):
        tracks["clip"]


def test_a_video_without_a_face_is_reported_once(
    videos: tuple[pd.DataFrame, Settings], decoded: list[str], detectors: dict, said: list[str]
) -> None:
    table, settings = videos
    settings = settings.model_copy(update={"video": Video()})
    extract_tracks(table, settings, progress=False)
    assert "2 of 2 videos: no face was found, their frames are masked (clip, mute)" in said
    said.clear()
    extract_tracks(table, settings, progress=False)
    assert not any("masked" in message for message in said)


def test_the_table_of_tracks_has_a_row_a_video(videos: tuple[pd.DataFrame, Settings], decoded: list[str]) -> None:
    table, settings = videos
    table = table.iloc[[3, 0]].assign(split="test", label=1, method="x")
    rows = tabulate_tracks(table, extract_tracks(table, settings, progress=False)[0])
    assert list(rows["video_id"]) == ["mute", "clip"]
    assert list(rows["fps"]) == pytest.approx([29.97, 25], abs=0.01)
    assert list(rows["has_sound"]) == [False, True]
    assert rows[["faces", "shots", "gaps"]].to_numpy().tolist() == [[0, 1, 0]] * 2
    assert list(rows["seconds"]) == pytest.approx([32 / 29.97, 2], abs=0.01)


def test_of_those_who_ask_at_once_one_does_the_work(
    videos: tuple[pd.DataFrame, Settings], decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table, settings = videos
    make = extract._extract_in_parallel
    monkeypatch.setattr(extract, "_extract_in_parallel", lambda *args: time.sleep(0.5) or make(*args))
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(extract_tracks(table, settings, progress=False)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(decoded) == ["broken.mp4", "clip.mp4", "mute.mp4"]  # what failed is not tried again by who waited
    assert [list(tracks) for tracks, _ in results] == [["clip", "mute"]] * 3
    assert results[0][1] == results[1][1] == results[2][1]


def test_only_so_many_tracks_are_remembered(
    videos: tuple[pd.DataFrame, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    tracks, _ = extract_tracks(*videos, progress=False)
    monkeypatch.setattr(kept, "MOST_RECENT", 1)
    numbers = range(len(tracks))
    first = [tracks.load(number) for number in numbers]
    assert list(tracks.recent) == list(numbers)[-1:]
    assert tracks.load(numbers[-1]) is first[-1]
    assert tracks.load(0) is not first[0]
    monkeypatch.setattr(kept, "LONGEST_RECENT", 1)
    tracks.recent.clear()
    tracks.load(0)
    assert not tracks.recent
