"""With `video.face: all` everybody is looked at, and the most suspicious makes the score of the video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from dfmm.dataset.dataset import MultimodalDataset
from dfmm.dataset.loaders import make_window_loader
from dfmm.evaluation.score import score_files, score_windows
from dfmm.extraction.extract import extract_tracks
from dfmm.extraction.tracks import lay_relays
from dfmm.faces import follow, link
from dfmm.media.encode import write_video
from dfmm.model.aggregation import aggregate_windows
from dfmm.settings import Settings, validate_settings

from ..conftest import sing

BRIGHT, GREY = 250, 120
FACES = ("largest", "longest", "all")


@pytest.fixture
def together(tmp_path: Path, detectors: dict, decoded: list[str]) -> Settings:
    """Settings for two videos: a large grey square beside a small bright one that comes late; and a grey one alone."""
    frames = np.zeros((100, 160, 240, 3), np.uint8)
    frames[:, 20:100, 10:90] = GREY
    write_video(tmp_path / "alone.mp4", frames)
    frames[30:, 64:104, 164:204] = BRIGHT  # so small that it is no cut
    write_video(tmp_path / "two.mp4", frames, sound=sing(4.0, 16_000))

    def detect(given: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.array(list(find_squares(frame)), np.float32).reshape(-1, 15) for frame in given]

    def find_squares(frame: np.ndarray) -> Sequence[list[float]]:
        for low, high in ((GREY - 30, GREY + 30), (BRIGHT - 30, 255)):
            y, x = np.nonzero((frame.min(axis=2) >= low) & (frame.max(axis=2) <= high))
            if len(x) > 500:
                box = [x.min(), y.min(), x.max() + 1, y.max() + 1]
                yield [*box, 0.99, *np.tile([np.mean(box[::2]), np.mean(box[1::2])], 5)]

    detectors["retinaface"] = detect
    return validate_settings(
        {
            "data": {"root": str(tmp_path), "cache": str(tmp_path / "cache"), "workers": 0, "read": "videos"},
            "video": {"frames": 8, "fps": 12.5, "size": 32, "margin": 0, "face": "all"},
            "evaluate": {"windows": 4},
        }
    )


def set_face(settings: Settings, face: str, read: str = "videos") -> Settings:
    values = settings.model_dump()
    values["video"]["face"], values["data"]["read"] = face, read
    return validate_settings(values)


def make_table(*names: str) -> pd.DataFrame:
    facts = {"label": 0, "video_fake": 0, "audio_fake": 0, "in_sync": 1, "video_segments": "", "audio_segments": ""}
    return pd.DataFrame([{"video_id": name, "path": f"{name}.mp4", **facts} for name in names])


@pytest.fixture
def table() -> pd.DataFrame:
    return make_table("two", "alone")


def test_every_face_has_windows_and_the_first_is_the_one_that_is_followed(
    together: Settings, table: pd.DataFrame
) -> None:
    all_faces, largest = (
        MultimodalDataset(table, set_face(together, face), windows=3, progress=False) for face in ("all", "largest")
    )
    samples = [all_faces[index] for index in range(len(all_faces))]
    assert [(sample["video_id"], sample["face"]) for sample in samples[::3]] == [("two", 0), ("alone", 0), ("two", 1)]
    for sample, other in zip(samples, (largest[index] for index in range(len(largest))), strict=False):
        assert torch.equal(sample["frames"], other["frames"])
    shown = [sample["frames"][sample["frame_mask"]].float().mean() for sample in samples if sample["frame_mask"].any()]
    assert shown[:6] == pytest.approx([GREY] * 6, abs=15)
    assert shown[6:] == pytest.approx([BRIGHT] * len(shown[6:]), abs=15)
    assert 0 < len(shown[6:]) < 4


def test_the_cache_holds_all_of_them(together: Settings, table: pd.DataFrame, decoded: list[str]) -> None:
    videos, cache = (
        MultimodalDataset(table, set_face(together, "all", read), windows=3, progress=False)
        for read in ("videos", "cache")
    )
    for index in range(len(videos)):
        read, kept = videos[index], cache[index]
        assert all(torch.equal(read[name], kept[name]) for name in ("frames", "frame_mask", "log_mel", "sound_mask"))
    assert len(decoded) == 4
    extract_tracks(table, set_face(together, "all", "cache"), crops=True, progress=False)
    assert len(decoded) == 4


def test_many_shots_of_one_person_each_are_cut_in_one_pass(
    tmp_path: Path, detectors: dict, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty people, a cut before each: all have crops, mouths and scores of their own, and nobody sees another's."""
    greys = [40 + 10 * shot for shot in range(20)]
    frames = np.stack([np.full((96, 96, 3), grey, np.uint8) for grey in greys for _ in range(10)])
    write_video(tmp_path / "many.mp4", frames)
    row = np.array([20, 20, 76, 76, 0.999, *[40, 40, 56, 40, 48, 50, 42, 60, 54, 60]], np.float32)
    detectors["retinaface"] = lambda given: [row[None] for _ in given]
    monkeypatch.setattr(follow, "find_cuts", lambda *args, **options: np.arange(10, 200, 10))
    data = {"root": str(tmp_path), "cache": str(tmp_path / "cache"), "workers": 0, "read": "cache"}
    video = {"frames": 4, "fps": 12.5, "size": 32, "face": "all", "detect_every": 1}
    settings = validate_settings({"data": data, "video": video, "synchrony": {"mesh": "never", "phonemes": "never"}})
    dataset = MultimodalDataset(make_table("many"), settings, progress=False)
    track = dataset.tracks.load(0)
    assert (len(dataset), track.followable, track.left_out) == (20, 20, 0)
    assert [len(relay.laid) for relay in lay_relays(track, settings)] == [20]
    samples = sorted((dataset[number] for number in range(20)), key=lambda sample: sample["start"])
    np.testing.assert_allclose([sample["frames"].float().mean() for sample in samples], greys, atol=4)
    assert [len(dataset.tracks.read_talk(0, face=face)[0].times) for face in range(20)] == [10] * 20


class Brightness(nn.Module):
    """Takes what is bright for fake, and what is masked for nothing."""

    streams = "both"

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1))

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        light = batch["frames"].float().mean(dim=(1, 2, 3, 4)) / 64 - 3
        streams = dict.fromkeys(("video_fake", "audio_fake", "in_sync"), light)
        return {"logits": torch.stack([-light, light], dim=1), **streams}


def test_the_most_suspicious_face_makes_the_score(together: Settings, table: pd.DataFrame, tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.mp4" for name in table["video_id"]]
    found = {face: list(score_files(files, Brightness(), set_face(together, face), progress=False)) for face in FACES}
    for face, (two, alone) in found.items():
        assert alone["face"] == 0
        assert alone["score"] < 0.5
        assert (two["score"] > 0.5, two["face"]) == (face == "all", int(face == "all"))
    # Each has windows where it is there: the bright square came late.
    assert found["all"][0]["windows"] == found["largest"][0]["windows"] == 4


def test_who_is_left_out_is_said(together: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "MOST_FACES", 1)
    two, alone = score_files([tmp_path / "two.mp4", tmp_path / "alone.mp4"], Brightness(), together, progress=False)
    assert two["face"] == 0
    assert two["reason"].endswith("not followed: 1 of the faces, for a shot has too many")
    assert "not followed" not in alone["reason"]


def test_a_row_a_video_comes_of_it_in_their_order(together: Settings, table: pd.DataFrame) -> None:
    loader = make_window_loader(table, together, windows=4, progress=False)
    windows = score_windows(Brightness(), loader, progress=False)
    assert len(windows) == 12
    for how in ("mean", "max", "confident"):
        videos = aggregate_windows(windows, how)
        assert videos["video_id"].tolist() == ["two", "alone"]
        assert videos["face"].tolist() == [1, 0]
        seen = windows[(windows["face"] == 1) & windows["has_face"]]
        assert videos["windows"].tolist() == [len(seen), 4]
        assert videos["score"][0] == pytest.approx(
            seen["score"].max() if how == "max" else seen["score"].mean(), abs=0.06
        )
