"""Long files of which few windows are asked for: the very windows of the whole file, which is decoded where need be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest

from dfmm.dataset import MultimodalDataset, skim_videos, skimming, track_files
from dfmm.extraction.store import ArrayFile
from dfmm.media.container import MediaError
from dfmm.media.skim import Skim
from dfmm.settings import Settings
from tests.conftest import change, detect_bright, hum

FPS, SECONDS, HIDDEN, KEYS = 10, 60, 14.0, 20


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute in which a bright square comes after `HIDDEN` seconds and sways on a ground that changes, with sound."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", rate=FPS, options={"g": str(KEYS), "preset": "ultrafast", "bf": "2"})
        picture.width, picture.height, picture.pix_fmt = 160, 128, "yuv420p"
        sound = container.add_stream("aac", rate=16_000, layout="mono")
        for number in range(FPS * SECONDS):
            frame = np.full((128, 160, 3), number % 100, np.uint8)
            left = 48 + round(12 * np.sin(number / 5))  # crops of a moment depend on where it is around that moment
            frame[32:96, left : left + 64] = 200 + number % 50 if number >= HIDDEN * FPS else 0
            container.mux(picture.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(picture.encode(None))
        samples = av.AudioFrame.from_ndarray(hum(SECONDS, 16_000)[None], "fltp", "mono")
        samples.sample_rate = 16_000
        container.mux(sound.encode(samples))
        container.mux(sound.encode(None))
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, detectors: dict) -> Settings:
    """Settings of three windows, read in this process with a detector that finds what is bright."""
    detectors["retinaface"] = detect_bright

    def run(function: Callable, tasks: list, _: object) -> Iterator[tuple[int, Any]]:
        for number, task in enumerate(tasks):
            try:
                yield number, function(*task)
            except MediaError as error:
                yield number, error

    monkeypatch.setattr(skimming, "run_tasks", run)
    monkeypatch.setattr(skimming, "STRETCH", 4.0)
    monkeypatch.setattr(skimming, "MOST", 0.5)  # of a clip that is none too long
    return change(
        Settings(),
        data={"root": "/", "cache": str(tmp_path / "cache"), "read": "cache", "workers": 0},
        video={"frames": 5, "fps": FPS, "size": 48},
        evaluate={"windows": 3},
    )


def list_files(*paths: Path) -> pd.DataFrame:
    facts = {"label": 0, "video_fake": 0, "audio_fake": 0, "in_sync": 1, "video_segments": "", "audio_segments": ""}
    return pd.DataFrame({"video_id": [path.stem for path in paths], "path": [str(path) for path in paths]}).assign(
        **facts
    )


@pytest.mark.parametrize("stretch", [4.0, 0.0], ids=["with room", "no more than its crops depend on"])
def test_windows_of_a_long_file_are_those_of_the_whole(
    long_clip: Path, here: Settings, decoded: list[str], monkeypatch: pytest.MonkeyPatch, stretch: float
) -> None:
    monkeypatch.setattr(skimming, "STRETCH", stretch)
    table, skims, show = list_files(long_clip), [], Skim.replay
    monkeypatch.setattr(Skim, "replay", lambda self, *what: (skims.append(self), show(self, *what))[1])
    tracks = skim_videos(table, here)
    parts = MultimodalDataset(table, here, windows=3, tracks=tracks)
    assert decoded == []
    assert skims[0].decoded < FPS * SECONDS
    whole = MultimodalDataset(table, here, windows=3)
    assert decoded == ["long.mp4"]
    for index in range(3):
        one, other = parts[index], whole[index]
        assert one["start"] == pytest.approx(other["start"], abs=1e-9)
        assert one["start"] > HIDDEN - 0.001
        assert all(np.array_equal(one[name], other[name]) for name in ("frames", "frame_mask", "log_mel", "sound_mask"))
        assert one["frame_mask"].all()
        assert one["sound_mask"].any()
        assert np.array_equal(parts.read_sound(index), whole.read_sound(index))
    track, known = tracks["long"], whole.tracks["long"]
    assert (track.duration, track.loudness, track.sound_end) == (known.duration, known.loudness, known.sound_end)
    stretches = track.looked[track.looked[:, 1] > track.looked[:, 0]]
    assert len(known.looked) == 0
    assert (stretches[:, 1] - stretches[:, 0]).sum() < 0.4 * SECONDS
    for sample in (parts[index] for index in range(3)):  # every window lies in what was looked at
        assert ((stretches[:, 0] <= sample["start"]) & (stretches[:, 1] >= sample["start"] + 0.5)).any()


def test_of_a_file_that_is_decoded_as_a_whole_its_windows_alone_are_kept(
    long_clip: Path, here: Settings, decoded: list[str]
) -> None:
    table, sparse = list_files(long_clip), change(here, data={"read": "videos"})
    whole = MultimodalDataset(table, here, windows=3)
    skimmed, tracks = track_files(table, sparse, crops=True, talks=True, whole=True)[0]
    assert not len(skimmed)
    parts = MultimodalDataset(table, sparse, windows=3, tracks=tracks)
    for one, other in ((parts[index], whole[index]) for index in range(3)):
        assert all(np.array_equal(one[name], other[name]) for name in ("frames", "frame_mask", "log_mel", "sound_mask"))
    files = [each.tracks.entry(0, crops=True) for each in (parts, whole)]
    assert ArrayFile(files[0]).count("crops") == 15
    assert ArrayFile(files[1]).count("crops") == (SECONDS - HIDDEN) * FPS
    assert decoded == ["long.mp4"] * 2
    assert len(tracks.read_talk(0)[0].times) == len(whole.tracks.read_talk(0)[0].times)  # mouths of all frames
    files[0].write_bytes(b"damaged")
    assert np.array_equal(parts[1]["frames"], whole[1]["frames"])
    tracks.drop_parts()
    whole.tracks.drop_parts()
    assert [file.is_file() for file in files] == [False, True]


def test_who_is_cut_off_keeps_no_parts(long_clip: Path, here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def cut_off(function: Callable, tasks: list[tuple], _: object) -> Iterator[tuple[int, str]]:
        yield 0, function(*tasks[0])
        made.append(tasks[0][2].is_file())
        raise CancelledError

    monkeypatch.setattr("dfmm.extraction.extract.run_tasks", cut_off)
    sparse = change(here, data={"read": "videos"})
    with pytest.raises(CancelledError):
        track_files(list_files(long_clip), sparse, crops=True, talks=False, whole=True)
    assert made == [True]
    assert not list(Path(sparse.data.cache).rglob("crops/*/*.safetensors"))


@pytest.mark.parametrize("setting", [{"evaluate": {"windows": 2}}, {"video": {"frames": 4}}])
@pytest.mark.usefixtures("decoded")
def test_parts_of_other_windows_are_not_taken_for_these(long_clip: Path, here: Settings, setting: dict) -> None:
    both = [
        track_files(list_files(long_clip), change(each, data={"read": "videos"}), crops=True, talks=False, whole=True)
        for each in (here, change(here, **setting))
    ]
    one, other = (parts[1].entry(0, crops=True) for parts, _ in both)
    assert one != other


def test_what_is_short_or_tells_no_times_is_decoded_as_a_whole(long_clip: Path, here: Settings, tmp_path: Path) -> None:
    assert list(skim_videos(list_files(long_clip), here)) == ["long"]
    more = change(here, evaluate={"windows": 20})
    assert list(skim_videos(list_files(long_clip), more)) == []
    spread = change(here, video={"fps": "spread"})
    assert list(skim_videos(list_files(long_clip), spread)) == []
    (tmp_path / "broken.mp4").write_bytes(long_clip.read_bytes()[:3000])
    assert list(skim_videos(list_files(tmp_path / "broken.mp4", tmp_path / "missing.mp4"), here)) == []
