"""Windows are what the manifest, the clock and the seed say, and nothing else."""

from __future__ import annotations

import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.signal import correlate

from dfmm.dataset.batches import EMPTY
from dfmm.dataset.dataset import MultimodalDataset
from dfmm.dataset.loaders import collate_windows, make_evaluation_loader, make_training_loader
from dfmm.dataset.spectrogram import compute_log_mel
from dfmm.dataset.windows import follow_scene, label_window, place_window
from dfmm.degrade import change_speed, make_scene
from dfmm.extraction import extract
from dfmm.extraction.store import HEADER_BYTES
from dfmm.faces.track import Track
from dfmm.manifest import complete_manifest, read_manifest
from dfmm.media.decode import read_media
from dfmm.media.encode import write_video
from dfmm.sections import Augment
from dfmm.settings import Settings

from ..conftest import change, find_delay

if TYPE_CHECKING:
    from ..conftest import Clip


def same(one: dict, other: dict) -> bool:
    return all(torch.equal(v, other[k]) if isinstance(v, torch.Tensor) else v == other[k] for k, v in one.items())


@pytest.fixture
def videos(tiny: Settings, manifest: pd.DataFrame) -> pd.DataFrame:
    return manifest[manifest["split"] == "test"].reset_index(drop=True)


def make_track(duration: float, fps: float = 25) -> Track:
    times = np.arange(round(duration * fps)) / fps
    empty = np.zeros((0, 4), np.float32)
    nobody = {"faces": 0, "detector": "nobody", "boxes": empty, "landmarks": np.zeros((0, 5, 2))}
    looks = dict.fromkeys(("look_times", "cut_times", "box_times"), np.zeros(0))
    sound = {"sound_start": 0.0, "sound_end": duration, "sound_peak": 0.5, "loudness": -20.0, "leading_silence": 0.0}
    return Track(times=times, width=64, height=48, **looks, **nobody, **sound)


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
    track = replace(make_track(3.0), detector="none")  # the centre is its face
    before, during = (label_window(row, place_window(track, tiny, sampling=start), tiny) for start in (0.2, 1.2))
    assert (before["label"], before["video_fake"]) == (0, 0)
    assert (during["label"], during["video_fake"]) == (1, 1)
    assert label_window(row.replace("1.0-1.5", ""), place_window(track, tiny, sampling=0.2), tiny)["label"] == 1


def test_a_forged_picture_says_nothing_of_a_window_without_its_face(tiny: Settings) -> None:
    row = {"label": 1, "video_fake": 1, "audio_fake": 0, "in_sync": 1, "video_segments": "", "audio_segments": ""}
    window = place_window(make_track(3.0), tiny, sampling=1.2)
    labels = label_window(row, window, tiny)
    assert (labels["label"], labels["video_fake"], labels["audio_fake"]) == (-1, -1, 0)


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
        settings = change(tiny, data={"workers": workers}, train={"balance": "method"}, augment={"sound_noise": 0.5})
        loader = make_training_loader(manifest, settings, progress=False)
        loader.batch_sampler.epoch = 3
        return list(loader)

    for one, other in zip(read(0), read(2), strict=True):
        assert same(one, other)


STRONG = {"chance": 0.6, "noise": 0.1, **dict.fromkeys(("h264", "blur", "freeze", "mp3", "drop_stream"), 0.7)}


@pytest.mark.parametrize(
    "changes",
    [
        {"data": {"read": "cache"}},
        {"data": {"read": "videos"}, "video": {"crop": "align"}},
        {"augment": STRONG},
        {"forge": {"share": 0.5, "pairs": True}, "train": {"windows": 2}},
        {"video": {"fps": "spread", "face": "all"}},
        {"audio": {"library": "librosa"}, "cure": {"trim_silence": "both", "loudness": -25}},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_a_batch_holds_what_its_windows_are_one_by_one(changes: dict, tiny: Settings, videos: pd.DataFrame) -> None:
    dataset = MultimodalDataset(videos, change(tiny, **changes), windows=2, sampling="random", augment=True)
    indices = [4, 0, EMPTY, 1, len(dataset) + 5, 0, 3]
    batch = collate_windows(dataset.__getitems__(indices))
    for at, index in enumerate(indices):
        assert same(dataset[index], {name: values[at] for name, values in batch.items()})


NOTHING = dict.fromkeys(Augment.model_fields, 0.0)


def test_augmentations_off_is_the_plain_window(tiny: Settings, videos: pd.DataFrame) -> None:
    off = MultimodalDataset(videos, change(tiny, augment=NOTHING), augment=True)
    assert same(off[0], MultimodalDataset(videos, tiny)[0])


@pytest.mark.parametrize("name", sorted(set(Augment.model_fields) - {"chance"}))
def test_each_augmentation_changes_something(name: str, tiny: Settings, videos: pd.DataFrame) -> None:
    strength = 6.0 if name in ("sound_gain", "pitch") else 0.5 if name in ("crop", "colour", "noise") else 1.0
    strong = {**NOTHING, "chance": 1.0, name: strength}
    ways = [MultimodalDataset(videos, change(tiny, augment=augment), augment=True) for augment in (NOTHING, strong)]
    samples = [[dataset[index] for dataset in ways] for index in range(3)]
    assert not all(same(plain, changed) for plain, changed in samples)
    for plain, changed in samples:
        for mask in ("frame_mask", "sound_mask"):
            assert torch.equal(plain[mask], changed[mask]) or name in ("drop_stream", "drop_frames", "time_stretch")


def degrade_dataset(table: pd.DataFrame, settings: Settings, **augment: float) -> MultimodalDataset:
    """Return windows in which only these degradations are drawn, always."""
    settings = change(settings, augment={**NOTHING, "chance": 1.0, **augment})
    return MultimodalDataset(table, settings, sampling="random", augment=True, progress=False)


def find_piece(piece: np.ndarray, whole: np.ndarray) -> int:
    """Return from which sample on a sound holds another: where the squares of their differences are least."""
    piece, whole = piece.astype(np.float64), whole.astype(np.float64)
    energy = correlate(whole**2, np.ones(len(piece)), "valid", method="fft")
    return int((energy - 2 * correlate(whole, piece, "valid", method="fft")).argmin())


def test_a_planted_offset_is_heard_and_labelled(tiny: Settings, videos: pd.DataFrame) -> None:
    """The sound is that of another moment of the video, never silence; where one would notice, the labels say so."""
    plain, late = degrade_dataset(videos, tiny), degrade_dataset(videos, tiny, offset=0.8)
    files = [Path(tiny.data.root) / path for path in videos["path"]]
    sounds = [read_media(file, keep=lambda number: False, sample_rate=16_000).sound.cut(0, 9)[0] for file in files]
    seen = set()
    for index in range(3 * len(plain)):
        one, other = plain[index], late[index]
        offset = one["start"] - find_piece(late.read_sound(index), sounds[index % len(videos)]) / 16_000
        assert torch.equal(one["frames"], other["frames"])
        assert torch.equal(one["sound_mask"], other["sound_mask"])
        if one["in_sync"] != 1:
            assert same(one, other)
            continue
        assert abs(offset) <= 0.4001
        noticed = not -0.0451 < offset < 0.1251
        assert other["in_sync"] == int(not noticed)
        assert other["label"] == (1 if noticed else one["label"])
        seen.add((noticed, offset > 0))
    assert seen >= {(True, False), (True, True)}


@pytest.mark.parametrize("name", ["reverse", "time_stretch"])
def test_a_window_that_is_moved_in_time_keeps_together(name: str, tiny: Settings, tmp_path: Path) -> None:
    flashes = np.zeros(75)
    flashes[[36, 37, 44, 45, 46]] = 1  # two flashes with their bursts, the second one longer
    frames = np.full((75, 64, 64, 3), 40, np.uint8) + (200 * flashes[:, None, None, None]).astype(np.uint8)
    sound = np.repeat(flashes, 640) * np.random.default_rng(0).normal(0, 0.3, 75 * 640)
    table = list_videos(write_video(tmp_path / "flash.mp4", frames, sound=sound.astype(np.float32)))
    settings = change(tiny, data={"root": str(tmp_path)}, video={"frames": 25, "fps": 25, "detector": "none"})
    dataset = degrade_dataset(table, settings, **{name: 1.0})
    plain = degrade_dataset(table, settings)
    moved = 0
    for index in range(12):
        sample = dataset[index]
        light = sample["frames"].float().mean(dim=(1, 2, 3))
        loud = sample["log_mel"][0, :, :100].mean(dim=0).unflatten(0, (25, 4)).mean(dim=1)
        if sample["frame_mask"].all() and light.max() > 150:
            shift = find_delay((light - light.mean()).numpy(), (loud - loud.mean()).numpy())
            assert abs(shift) <= 1
            assert sample["in_sync"] == 1
            moved += not same(sample, plain[index])
    assert moved >= 4


def test_a_stretch_that_leaves_the_forged_part_out_leaves_no_fake(tiny: Settings, videos: pd.DataFrame) -> None:
    window = place_window(make_track(3.0), tiny, sampling=1.0)
    scene = replace(make_scene(np.zeros((4, 8, 8, 3), np.uint8), np.zeros(5_120, np.float32), sample_rate=16_000))
    scene = replace(scene, shows=window.moments, hears=window.moments)
    assert follow_scene(window, scene) is window
    slow = follow_scene(window, change_speed(scene, speed=0.5))
    assert slow.moments[[0, -1]] == pytest.approx([1.0, 1.1])  # the last step begins with frame 1.25
    assert (slow.sound_start, slow.sound_start + slow.sound_seconds) == pytest.approx((1.0, 1.14))
    row = pd.Series(
        {
            "label": 1,
            "video_fake": 1,
            "audio_fake": 1,
            "in_sync": 1,
            "video_segments": "1.12-2",
            "audio_segments": "1.15-2",
        }
    )
    assert [label_window(row, each, tiny)["label"] for each in (window, slow)] == [1, 0]


def list_videos(*paths: Path) -> pd.DataFrame:
    """Return a manifest of files that lie in one folder."""
    facts = {"label": 0, "video_fake": 0, "audio_fake": 0, "in_sync": 1, "video_segments": "", "audio_segments": ""}
    return pd.DataFrame([{"video_id": path.stem, "path": path.name, **facts} for path in paths])


def test_a_clip_without_sound_or_face_is_masked_and_shows_nothing(
    tiny: Settings, decoded: list, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 99, (20, 64, 64, 3), np.uint8)
    table = list_videos(write_video(tmp_path / "mute.mp4", noise))
    for read in ("videos", "cache"):
        settings = change(tiny, data={"root": str(tmp_path), "read": read})
        for sample in MultimodalDataset(table, settings)[0], MultimodalDataset(table, settings, augment=True)[0]:
            assert not sample["frame_mask"].any()
            assert not sample["sound_mask"].any()
            assert not sample["frames"].any()


def test_without_a_detector_the_centre_of_the_picture_is_seen(tiny: Settings, clip: Clip, decoded: list) -> None:
    settings = change(tiny, data={"root": str(clip.path.parent)}, video={"detector": "none"})
    sample = MultimodalDataset(list_videos(clip.path), settings, sampling=0.4)[0]
    assert sample["frame_mask"].all()
    shown = cv2.resize(clip.frames[10][:, 16:112], (48, 48), interpolation=cv2.INTER_AREA)
    assert np.abs(sample["frames"][0].permute(1, 2, 0).numpy().astype(int) - shown).mean() < 4


@pytest.mark.parametrize("crop", ["follow", "align"])
def test_a_frame_is_cropped_alike_in_every_window(crop: str, tiny: Settings, face_clip: Clip, decoded: list) -> None:
    video = {"fps": 25, "frames": 8, "crop": crop}
    settings = change(tiny, data={"root": str(face_clip.path.parent)}, video=video)
    early, late = (MultimodalDataset(list_videos(face_clip.path), settings, sampling=start)[0] for start in (0.0, 0.2))
    assert early["frame_mask"].all()
    assert torch.equal(early["frames"][5:], late["frames"][:3])
    assert not torch.equal(early["frames"][5], early["frames"][4])


def test_past_the_end_of_a_short_video_there_is_nothing(tiny: Settings, face_clip: Clip, decoded: list) -> None:
    settings = change(tiny, data={"root": str(face_clip.path.parent)}, video={"fps": 25, "frames": 30})
    sample = MultimodalDataset(list_videos(face_clip.path), settings, augment=True)[0]
    assert sample["frame_mask"].tolist() == [True] * 20 + [False] * 10
    assert sample["frames"][:20].flatten(1).any(dim=1).all()
    assert not sample["frames"][20:].any()


def test_a_stream_that_is_withheld_shows_nothing_either(tiny: Settings, videos: pd.DataFrame) -> None:
    dataset = MultimodalDataset(videos, change(tiny, augment={"drop_stream": 1.0}), augment=True)
    samples = [dataset[index] for index in range(len(dataset))]
    assert {(bool(s["frame_mask"].any()), bool(s["sound_mask"].any())) for s in samples} == {
        (True, False),
        (False, True),
    }
    assert all(bool(s["frame_mask"].any()) == bool(s["frames"].any()) for s in samples)


# What is kept gives the same as what is decoded


WAYS = {
    "evenly": {"windows": 3},
    "at random, augmented": {"windows": 3, "sampling": "random", "augment": True},
    "from a second on": {"sampling": 0.55},
    "past the end": {"sampling": 9.0},
}
SPACES = {
    "as the video": {"fps": 25},
    "at an odd rate": {"fps": 11.7},
    "over it all": {"fps": "spread"},
    "longer than it": {"fps": 12.5, "frames": 40, "crop": "align"},
    "by following": {"fps": 25, "crop": "follow"},
}


def assert_same_from_cache(table: pd.DataFrame, settings: Settings, **options: object) -> int:
    """Read every window both ways, as a later epoch would; return how many have both streams."""
    one, other = (
        MultimodalDataset(table, change(settings, data={"read": read}), progress=False, **options)
        for read in ("videos", "cache")
    )
    assert list(one.manifest["video_id"]) == list(other.manifest["video_id"]) == list(table["video_id"])
    whole = 0
    for index in range(7 * len(one), 8 * len(one)):
        sample = one[index]
        assert same(sample, other[index])
        np.testing.assert_array_equal(one.read_sound(index), other.read_sound(index))
        whole += bool(sample["frame_mask"].any() and sample["sound_mask"].any())
    return whole


@pytest.fixture(scope="module")
def odd_clips(clip: Clip, mute_clip: Clip, face_clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sound without a face; neither, at 29.97 fps; both; a very short one; one whose sound ends early, at 44.1 kHz."""
    folder = tmp_path_factory.mktemp("odd")
    for path in (clip.path, mute_clip.path, face_clip.path):
        shutil.copy(path, folder)
    write_video(folder / "blink.mp4", face_clip.frames[:3], sound=clip.sound[:1_900])
    tone = np.sin(np.arange(20_000) / 20).astype(np.float32)
    write_video(folder / "early.mp4", face_clip.frames, fps=23.976, sound=tone, sample_rate=44_100)
    return folder


@pytest.mark.parametrize("way", WAYS)
def test_samples_from_the_cache_are_those_from_the_videos(
    way: str, tiny: Settings, odd_clips: Path, decoded: list
) -> None:
    table = list_videos(*sorted(odd_clips.glob("*.mp4")))
    data = {"root": str(odd_clips), "cache": str(odd_clips / "cache")}  # which the first way fills for all of them
    for name, space in SPACES.items():
        augment = {"noise": 0.1, "sound_noise": 0.5, "h264": 0.5, "freeze": 0.5, "opus": 0.5, "spec_augment": 0.5}
        if name == "as the video":
            augment |= {"pitch": 1.0, "offset": 0.5, "time_stretch": 0.5, "reverse": 0.5}
        settings = change(tiny, data=data, video=space, augment=augment)
        whole = assert_same_from_cache(table, settings, **WAYS[way])
        assert (whole > 0) == (way != "past the end" or space["fps"] == "spread")
    every = change(tiny, data=data, video={"detector": "none"}, audio={"sample_rate": 22_050})
    assert (assert_same_from_cache(table, every, **WAYS[way]) > 0) == (way != "past the end")


def test_the_cache_of_the_sample_gives_the_same_batches(tiny: Settings, manifest: pd.DataFrame) -> None:
    one, other = (
        make_training_loader(manifest, change(tiny, data={"read": read, "workers": 1}), progress=False)
        for read in ("videos", "cache")
    )
    for epoch in (0, 5):
        one.batch_sampler.epoch = other.batch_sampler.epoch = epoch
        for batch, expected in zip(one, other, strict=True):
            assert same(batch, expected)


@pytest.mark.slow
def test_samples_of_real_clips_are_the_same_from_the_cache(tiny: Settings, tmp_path: Path) -> None:
    """On a folder of clips of your own, named in DFMM_CLIPS, with a manifest `clips.csv`."""
    if "DFMM_CLIPS" not in os.environ:
        pytest.skip("DFMM_CLIPS names no folder of real clips")
    root = Path(os.environ["DFMM_CLIPS"])
    table = read_manifest(root / "clips.csv", root)
    data = {"root": str(root), "cache": str(tmp_path)}
    for video in ({"fps": 25, "frames": 16, "size": 112}, {"fps": "spread"}):
        settings = change(tiny, data=data, video=video)
        assert assert_same_from_cache(table, settings, **WAYS["evenly"]) > 0
        assert assert_same_from_cache(table, settings, **WAYS["at random, augmented"]) > 0


def test_a_cache_that_is_damaged_while_it_is_used_costs_nothing(
    tiny: Settings, face_clip: Clip, decoded: list, tmp_path: Path, said: list[str]
) -> None:
    data = {"root": str(face_clip.path.parent), "cache": str(tmp_path), "read": "cache"}
    dataset = MultimodalDataset(list_videos(face_clip.path), change(tiny, data=data), windows=9)
    before, file = [dataset[index] for index in range(9)], dataset.tracks.entry(0, crops=True)
    content = file.read_bytes()
    at = 8 + HEADER_BYTES + 10 * 48 * 48 * 3  # of frame 10, which only some windows show
    file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    for index, sample in enumerate(before):
        assert same(dataset[index], sample)
    assert file.read_bytes() == content
    assert sum("made again" in message for message in said) == 1


def test_the_sound_to_listen_to_is_the_one_the_spectrogram_shows(tiny: Settings, videos: pd.DataFrame) -> None:
    for read in ("videos", "cache"):
        settings = change(tiny, data={"read": read}, augment={"sound_noise": 0.5, "drop_stream": 0.0})
        dataset = MultimodalDataset(videos, settings, windows=2, sampling="random", augment=True)
        for index in (0, 3, 3 + len(dataset)):
            sound = dataset.read_sound(index)
            assert (sound.dtype, sound.shape) == (np.float32, (5120,))
            assert torch.equal(compute_log_mel(torch.from_numpy(sound), settings.audio), dataset[index]["log_mel"])


# A dataset of many videos


def test_the_empty_sample_counts_for_nothing(tiny: Settings, videos: pd.DataFrame) -> None:
    dataset = MultimodalDataset(videos, tiny)
    batch = collate_windows(dataset.__getitems__([2, EMPTY, 0, EMPTY]))
    assert batch["video_id"] == [videos["video_id"][2], "", videos["video_id"][0], ""]
    for name in ("label", "video_fake", "audio_fake", "in_sync"):
        assert (batch[name] == -1).tolist()[1::2] == [True, True]
    for name in ("frame_mask", "sound_mask", "frames"):
        assert batch[name].flatten(1).any(dim=1).tolist() == [True, False, True, False]


def test_several_processes_score_every_video_once(tiny: Settings, manifest: pd.DataFrame) -> None:
    loaders = [make_evaluation_loader(manifest, "test", tiny, progress=False, rank=rank, world=3) for rank in range(3)]
    read = [list(zip(b["video_id"], b["window"].tolist(), strict=True)) for loader in loaders for b in loader]
    windows = [window for batch in read for window in batch if window[0]]
    wanted = manifest[manifest["split"] == "test"]["video_id"]
    assert sorted(windows) == sorted((name, window) for name in wanted for window in (0, 1))


def test_a_million_videos_fit_into_a_worker(tiny: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under 1 GB, that is 1 kB a video, with a manifest as long-winded as they come."""
    names = [f"FakeVideo-FakeAudio/African/men/id{number:05d}/{number:012d}_wavtolip" for number in range(20_000)]
    table = pd.DataFrame({"video_id": names, "path": [f"{name}.mp4" for name in names], "split": "test", "label": 1})
    monkeypatch.setattr(extract, "make_key", lambda path, settings: "0" * 24)
    monkeypatch.setattr(extract.Tracks, "is_kept", lambda self, number: True)
    dataset = MultimodalDataset(complete_manifest(table.assign(original=names, identities=names)), tiny)
    assert len(dataset) == 20_000
    assert len(pickle.dumps(dataset)) < 700 * len(dataset)


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
