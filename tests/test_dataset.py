"""Windows are what the manifest, the clock and the seed say, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dfmm.data.dataset import (
    EpochSampler,
    MultimodalDataset,
    collate_windows,
    label_window,
    make_evaluation_loader,
    make_training_loader,
    place_window,
)
from dfmm.data.extract import Track
from dfmm.data.media import write_video
from dfmm.settings import Settings

from .conftest import change


def same(one: dict, other: dict) -> bool:
    return all(torch.equal(v, other[k]) if isinstance(v, torch.Tensor) else v == other[k] for k, v in one.items())


@pytest.fixture
def videos(tiny: Settings, manifest: pd.DataFrame) -> pd.DataFrame:
    return manifest[manifest["split"] == "test"].reset_index(drop=True)


def make_track(duration: float, fps: float = 25) -> Track:
    times = np.arange(round(duration * fps)) / fps
    empty = np.zeros((0, 4), np.float32)
    return Track(times, 64, 48, 9, "centre", np.zeros(0), empty, np.zeros((0, 5, 2)), 0.0, duration, 0.5, -20.0, 0.0)


def test_a_sample_has_the_shapes_it_promises(tiny: Settings, videos: pd.DataFrame) -> None:
    sample = MultimodalDataset(videos, tiny)[0]
    assert sample["frames"].shape == (4, 3, 48, 48)
    assert sample["frames"].dtype == torch.uint8
    assert sample["log_mel"].shape == (1, 32, 32)  # 4 frames at 12.5 fps are 0.32 s, in steps of 10 ms
    assert sample["frame_mask"].all()
    assert sample["sound_mask"].all()


def test_uniform_windows_span_the_video_and_random_ones_stay_inside(tiny: Settings) -> None:
    track = make_track(3.0)
    starts = [place_window(track, tiny, number=n, of=3).moments[0] for n in range(3)]
    assert starts == pytest.approx([0, (3 - 0.32) / 2, 3 - 0.32])
    rng = np.random.default_rng(0)
    drawn = [place_window(track, tiny, sampling="random", rng=rng).moments[0] for _ in range(50)]
    assert 0 <= min(drawn) < 0.5
    assert 2.2 < max(drawn) <= 3 - 0.32


def test_start_at_begins_at_the_second_asked_for(tiny: Settings) -> None:
    window = place_window(make_track(3.0), tiny, sampling=1.2)
    assert window.moments == pytest.approx([1.2, 1.28, 1.36, 1.44])
    assert window.numbers.tolist() == [30, 32, 34, 36]
    assert window.sound_start == pytest.approx(1.2)


def test_spread_lays_the_frames_over_the_whole_video(tiny: Settings) -> None:
    window = place_window(make_track(8.0), change(tiny, video={"fps": "spread"}))
    assert window.moments == pytest.approx([1, 3, 5, 7])
    assert (window.sound_start, window.sound_seconds) == pytest.approx((3.0, 2.0))


def test_a_short_video_is_masked_past_its_end(tiny: Settings) -> None:
    window = place_window(make_track(0.2), tiny)
    assert window.inside.tolist() == [True, True, True, False]


def test_forged_segments_decide_the_label_of_a_window(tiny: Settings) -> None:
    row = pd.Series(
        {"label": 1, "video_fake": 1, "audio_fake": 0, "in_sync": 1, "video_segments": "1.0-1.5", "audio_segments": ""}
    )
    track = make_track(3.0)
    before, during = (label_window(row, place_window(track, tiny, sampling=start)) for start in (0.2, 1.2))
    assert (before["label"], before["video_fake"]) == (0, 0)
    assert (during["label"], during["video_fake"]) == (1, 1)
    assert label_window(row.replace("1.0-1.5", ""), place_window(track, tiny, sampling=0.2))["label"] == 1


def test_the_sound_of_a_window_is_that_of_its_frames(tiny: Settings, tmp_path: Path) -> None:
    """A flash and a click at the same moment come out at the same step of a window."""
    frames = np.full((75, 64, 64, 3), 40, np.uint8)
    sound = np.zeros(3 * 16_000, np.float32)
    frames[40:42] = 250  # 1.6 s to 1.68 s
    sound[25_600:26_880] = np.random.default_rng(0).normal(0, 0.3, 1280)
    write_video(tmp_path / "flash.mp4", frames, sound=sound)
    settings = change(tiny, data={"root": str(tmp_path)}, video={"frames": 10, "detector": "none"})
    row = {"video_id": "flash", "path": "flash.mp4", "label": 0, "video_fake": 0, "audio_fake": 0, "in_sync": 1}
    table = pd.DataFrame([{**row, "video_segments": "", "audio_segments": ""}])
    sample = MultimodalDataset(table, settings, sampling=1.12)[0]
    flash = sample["frames"].float().mean(dim=(1, 2, 3)).argmax()
    click = sample["log_mel"][0].mean(dim=0).unflatten(0, (10, -1)).mean(dim=1).argmax()
    assert flash == click == 6


def test_samples_depend_on_seed_epoch_and_index_alone(tiny: Settings, videos: pd.DataFrame) -> None:
    dataset = MultimodalDataset(videos, tiny, windows=2, sampling="random", augment=True)
    alone, together = dataset[3], dataset.__getitems__([0, 3, 2])[1]
    assert same(alone, together)
    assert not same(alone, dataset[3 + len(dataset)])  # the next epoch
    other = MultimodalDataset(videos, tiny.model_copy(update={"seed": 1}), windows=2, sampling="random")
    assert alone["start"] != other[3]["start"]


def test_the_number_of_workers_changes_nothing(tiny: Settings, manifest: pd.DataFrame) -> None:
    def read(workers: int) -> list[dict]:
        loader = make_training_loader(manifest, change(tiny, data={"workers": workers}), progress=False)
        loader.sampler.epoch = 3
        return list(loader)

    for one, other in zip(read(0), read(2), strict=True):
        assert same(one, other)


def test_every_epoch_visits_all_in_another_order() -> None:
    sampler = EpochSampler(10, seed=0)
    first = list(sampler)
    sampler.epoch = 1
    second = list(sampler)
    assert sorted(first) == list(range(10))
    assert sorted(second) == list(range(10, 20))
    assert first != [index - 10 for index in second]


def test_augmentations_off_is_the_plain_window(tiny: Settings, videos: pd.DataFrame) -> None:
    nothing = dict.fromkeys(("flip", "crop", "colour", "noise", "sound_gain", "sound_noise", "drop_stream"), 0.0)
    off = MultimodalDataset(videos, change(tiny, augment=nothing), augment=True)
    assert same(off[0], MultimodalDataset(videos, tiny)[0])


@pytest.mark.parametrize("name", ["flip", "crop", "colour", "noise", "sound_gain", "sound_noise", "drop_stream"])
def test_each_augmentation_changes_something(name: str, tiny: Settings, videos: pd.DataFrame) -> None:
    nothing = dict.fromkeys(("flip", "crop", "colour", "noise", "sound_gain", "sound_noise", "drop_stream"), 0.0)
    strong = {**nothing, name: 6.0 if name == "sound_gain" else 0.5 if name in ("crop", "colour", "noise") else 1.0}
    plain, changed = (MultimodalDataset(videos, change(tiny, augment=a), augment=True)[1] for a in (nothing, strong))
    assert not same(plain, changed)


def test_a_clip_without_sound_or_face_is_masked(tiny: Settings, tmp_path: Path) -> None:
    write_video(tmp_path / "mute.mp4", np.random.default_rng(0).integers(0, 99, (20, 64, 64, 3), np.uint8))
    row = {"video_id": "mute", "path": "mute.mp4", "label": 0, "video_fake": 0, "audio_fake": 0, "in_sync": 1}
    table = pd.DataFrame([{**row, "video_segments": "", "audio_segments": ""}])
    sample = MultimodalDataset(table, change(tiny, data={"root": str(tmp_path)}))[0]
    assert not sample["frame_mask"].any()
    assert not sample["sound_mask"].any()


def test_a_file_that_vanishes_costs_only_its_windows(tiny: Settings, videos: pd.DataFrame) -> None:
    dataset = MultimodalDataset(videos, tiny)
    dataset.manifest.loc[1, "path"] = "gone.mp4"
    batch = collate_windows(dataset.__getitems__([0, 1]))
    assert batch["label"].tolist()[1] == -1
    assert batch["frame_mask"].any(dim=1).tolist() == [True, False]


def test_debug_mode_keeps_few_of_both_labels(tiny: Settings, manifest: pd.DataFrame) -> None:
    loader = make_evaluation_loader(manifest, "test", change(tiny, data={"limit": 4}), progress=False)
    labels = loader.dataset.manifest["label"].tolist()
    assert len(labels) == 4
    assert set(labels) == {0, 1}
