"""Forgeries in training, in validation and in their gallery: how often, of which clips, by which draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from dfmm.dataset import load_manifest
from dfmm.dataset.dataset import MultimodalDataset
from dfmm.dataset.loaders import make_evaluation_loader, make_training_loader
from dfmm.evaluation.evaluate import evaluate_run
from dfmm.extraction.extract import extract_tracks
from dfmm.faces.crops import Canvases
from dfmm.figures.forge import forge_reals, plot_forged_pictures, plot_forged_sounds, plot_forged_steps
from dfmm.forge import METHODS, list_methods, plan_forgeries
from dfmm.manifest import select_split
from dfmm.runs import open_run
from dfmm.settings import Settings, SettingsError
from dfmm.training import Trainer, check_labels
from dfmm.training.machine import TrainingError
from tests.conftest import change

from .test_forge import RATE, REAL, TRUTH

ATTENTION = {"model": {"aggregation": "attention"}, "train": {"windows": 2, "batch_size": 8}}


@pytest.fixture(scope="module")
def forging(tiny: Settings) -> Settings:
    """Settings that learn from reals alone."""
    return change(
        tiny,
        forge={"share": 0.5, "reals_only": True},
        train={"epochs": 2, "windows": 2},
        data={"read": "cache"},
        augment={"drop_stream": 0.0},
    )


def open_train(settings: Settings, **options: Any) -> MultimodalDataset:
    reals = select_split(load_manifest(settings, progress=False), "train")
    return MultimodalDataset(reals, settings, sampling="random", augment=True, progress=False, **options)


def test_training_windows_are_forged_as_often_as_asked_and_anew_in_each_round(forging: Settings) -> None:
    dataset = open_train(forging, windows=8)
    assert set(dataset.manifest["label"]) == {0}
    assert (dataset.find_labels(), dataset.estimate_prior()) == ({0, 1}, 0.5)
    rounds = [[dataset[index + turn * len(dataset)] for index in range(len(dataset))] for turn in range(2)]
    labels = [[sample["label"] for sample in samples] for samples in rounds]
    assert 0.3 < np.mean(labels) < 0.7
    assert labels[0] != labels[1]
    again = open_train(forging, windows=8)[len(dataset) + 3]
    assert all(torch.equal(again[name], rounds[1][3][name]) for name in ("frames", "log_mel"))
    kinds = {tuple(sample[name] for name in REAL) for sample in rounds[0] + rounds[1]}
    assert kinds <= {tuple(labels.values()) for labels in (REAL, *TRUTH.values())} | {(1, 1, 0, 0), (1, 1, 0, 1)}
    assert len(kinds) >= 4


def test_pairs_are_of_one_place_and_one_of_each_is_forged(forging: Settings) -> None:
    paired = change(forging, forge={"pairs": True, "methods": ["vocoder", "mouth"]}, train={"windows": 4})
    loader = make_training_loader(load_manifest(paired, progress=False), paired, progress=False)
    for batch in loader:
        pairs = {name: batch[name].unflatten(0, (-1, 2)) for name in ("label", "start", "window", "frames", "log_mel")}
        assert (pairs["label"] == torch.tensor([0, 1])).all()
        assert (pairs["start"][:, 0] == pairs["start"][:, 1]).all()
        assert (pairs["window"][:, 0] + 1 == pairs["window"][:, 1]).all()
        alike = [(pairs[name][:, 0] == pairs[name][:, 1]).flatten(1).all(dim=1) for name in ("frames", "log_mel")]
        assert (alike[0] ^ alike[1]).all()  # in the stream that is not forged, degraded alike, they are the same
    starts = loader.dataset[0]["start"], loader.dataset[2]["start"]
    assert starts[0] != starts[1]
    seen = MultimodalDataset(loader.dataset.manifest, paired, windows=4, progress=False)
    assert len({seen[index]["start"] for index in range(4)}) == 4


def test_pairs_that_could_not_stay_together_are_refused(forging: Settings) -> None:
    for values in (
        {"train": {"windows": 3}},
        {"train": {"batch_size": 9}},
        {"forge": {"share": 0.4, "pairs": True}},
        ATTENTION,
    ):
        with pytest.raises(SettingsError, match=r"forge\.pairs"):
            change(forging, **{"forge": {"pairs": True}, **values})


def test_forgeries_are_the_same_from_videos_and_from_the_cache(forging: Settings) -> None:
    for method in METHODS:
        chosen = change(forging, forge={"methods": [method], "share": 0.99})
        one, other = (open_train(change(chosen, data={"read": read})) for read in ("cache", "videos"))
        (take, forgery), (_, same) = one.read_forgery(0), other.read_forgery(0)
        assert forgery.method == same.method == method
        np.testing.assert_array_equal(forgery.scene.frames, same.scene.frames)
        np.testing.assert_array_equal(forgery.scene.samples, same.scene.samples)
        assert torch.equal(one[0]["frames"], other[0]["frames"])
        assert one[0]["label"] == 1
        assert np.isfinite(take.landmarks).all()
        assert (take.landmarks >= 0).all()
        assert (take.landmarks < forging.video.size).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_pair_differs_in_nothing_but_the_forgery(method: str, forging: Settings) -> None:
    dataset, disguised = open_train(change(forging, forge={"methods": [method], "share": 0.99})), 0
    for index in range(len(dataset)):
        (take, _), (real, forgery) = dataset.read_forgery(index), dataset.read_pair(index)
        assert forgery.method == method
        disguised += not np.array_equal(real.frames, take.scene.frames)
        same = (real.frames == forgery.scene.frames).all(axis=-1)
        left, right, low = take.landmarks[:, 3, 0].min(), take.landmarks[:, 4, 0].max(), take.landmarks[:, :2, 1].min()
        margin = 1.2 * (right - left)
        if method not in ("patch", "redraw"):  # these go further out, up to all of the picture
            assert same[:, :, : max(int(left - margin), 0)].all()
            assert same[:, : int(low) if method == "mouth" else 2].all()
        assert same.all() == (METHODS[method].labels.get("video_fake") != 1)
        assert np.array_equal(real.samples, take.scene.samples)
        assert np.array_equal(real.samples, forgery.scene.samples) == (forgery.audio_segment is None)
    assert disguised > 1


def test_a_voice_is_another_persons_and_a_delay_is_one_that_is_noticed(forging: Settings) -> None:
    for method in ("swap", "delay"):
        long = {"video": {"frames": 12}, "augment": {"sound_gain": 0.0}}
        dataset = open_train(change(forging, forge={"methods": [method], "share": 0.99}, **long))
        for index in range(len(dataset)):
            take, forgery = dataset.read_forgery(index)
            assert forgery.method == method
            own, made = take.scene.samples, forgery.scene.samples
            if method == "delay":
                late = float(forgery.scene.lag.mean())
                assert 0.2 <= abs(late) <= 0.6
                found = (np.correlate(own, made, "full").argmax() - len(own) + 1) / RATE
                assert found == pytest.approx(late, abs=0.01)
            else:
                assert np.std(made) == pytest.approx(np.std(own), rel=1e-3)
                assert abs(np.corrcoef(own, made)[0, 1]) < 0.5


def test_validation_has_a_fixed_twin_of_each_real_and_test_none(forging: Settings) -> None:
    manifest = load_manifest(forging, progress=False)
    dataset = make_evaluation_loader(manifest, "val", forging, windows=1, progress=False).dataset
    rows = dataset.manifest
    reals = rows[rows["label"] == 0]
    assert sorted(rows.loc[rows["label"] == 1, "original"]) == sorted(reals["video_id"])
    assert dataset.estimate_prior() == 0.5
    first, second = ([dataset[index] for index in range(len(dataset))] for _ in range(2))
    for one, same, label in zip(first, second, rows["label"], strict=True):
        assert one["label"] == same["label"] == label
        assert torch.equal(one["frames"], same["frames"])
        assert torch.equal(one["log_mel"], same["log_mel"])
    tested = make_evaluation_loader(manifest, "test", forging, windows=1, progress=False).dataset
    assert not tested.forges
    assert set(tested.manifest["video_id"]) == set(manifest.loc[manifest["split"] == "test", "video_id"])
    assert tested.manifest["label"].nunique() == 2


def test_forged_or_not_each_window_is_disguised_by_a_draw_of_its_own(forging: Settings) -> None:
    reals = select_split(load_manifest(forging, progress=False), "train").query("label == 0")
    chosen = change(forging, forge={"methods": ["splice"]})
    dataset = MultimodalDataset(reals, chosen, windows=3, twins=True, progress=False)
    made = [dataset.read_forgery(index) for index in range(len(dataset))]
    left = [dataset[index]["frames"].permute(0, 2, 3, 1).numpy() for index in range(len(dataset))]
    changed = [not np.array_equal(one, take.scene.frames) for one, (take, _) in zip(left, made, strict=True)]
    half = len(dataset) // 2
    assert set(changed[:half]) == set(changed[half:]) == {False, True}
    assert len({forgery.audio_segment for _, forgery in made[half:]}) == half


def test_a_twins_window_that_cannot_be_forged_counts_for_nothing(
    forging: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    locate = Canvases.locate_window

    def lose_face(self: Canvases, points: np.ndarray, numbers: np.ndarray, cropped: Sequence[int]) -> np.ndarray:
        return locate(self, points, numbers, cropped) * (1 if numbers[0] == 0 else np.nan)  # but in first windows

    monkeypatch.setattr(Canvases, "locate_window", lose_face)
    reals = select_split(load_manifest(forging, progress=False), "val").query("label == 0")
    chosen = change(forging, forge={"methods": ["self_blend"]})
    dataset = MultimodalDataset(reals, chosen, windows=2, twins=True, progress=False)
    assert len(dataset.twins) == len(reals) > 0
    for index in range(len(dataset)):
        sample, is_twin, is_first = dataset[index], index >= 2 * len(reals), index % 2 == 0
        assert sample["label"] == (0 if not is_twin else 1 if is_first else -1)
        counts = is_first or not is_twin
        assert bool(sample["frame_mask"].any()) == bool(sample["sound_mask"].any()) == counts
        assert bool(sample["frames"].any()) == bool(dataset.read_sound(index).any()) == counts
        assert counts or {sample[name] for name in REAL} == {-1}


def test_twins_that_all_come_out_empty_are_told_of_before_the_first_step(
    forging: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Canvases, "locate_window", lambda self, points, numbers, cropped: np.full((4, 5, 2), np.nan))
    chosen, run = change(forging, forge={"methods": ["self_blend"]}), open_run(tmp_path / "empty", forging)
    with pytest.raises(TrainingError, match=r"'val' has only real.*forged twin.*what self_blend needs"):
        Trainer(chosen, load_manifest(chosen, progress=False), run, progress=False).fit()
    assert not (run / "metrics.jsonl").exists()


def test_reals_that_no_method_fits_are_told_of(forging: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfmm.dataset.forging.list_methods", lambda *given: [])
    dataset = open_train(forging)
    assert dataset.find_labels() == {0}
    assert dataset.estimate_prior() == 0  # nothing is forged of what cannot be
    with pytest.raises(TrainingError, match=r"none of its reals has what self_blend, .* needs"):
        check_labels(dataset, "train")


def test_methods_are_dealt_evenly_to_what_can_be_forged(manifest: pd.DataFrame, forging: Settings) -> None:
    reals = manifest[manifest["label"] == 0].reset_index(drop=True)
    tracks, _ = extract_tracks(reals, forging, crops=True, progress=False)
    whole = [tracks.load(number) for number in range(len(reals))]
    plan = plan_forgeries(reals, whole, forging)
    counts = plan["method"].value_counts()
    assert counts.max() - counts.min() <= 1
    for number, without in enumerate(({"sound_peak": 0.0}, {"landmarks": whole[0].landmarks[:0]})):
        mute_or_masked = replace(whole[0], **without)
        left = set(list_methods(reals.iloc[0], mute_or_masked, forging))
        assert left == ({"self_blend", "mouth"}, {"vocoder", "splice"})[number]
    for video in ({"frames": 200}, {"fps": "spread"}):  # there is no other moment
        left = set(list_methods(reals.iloc[0], whole[0], change(forging, video=video)))
        assert left == {"self_blend", "vocoder", "splice", "swap"}
    assert "delay" not in list_methods({**reals.iloc[0], "in_sync": -1}, whole[0], forging)
    assert not list_methods({**reals.iloc[0], "label": 1}, whole[0], forging)


def test_learning_from_reals_alone_ends_in_an_evaluation_on_true_fakes(forging: Settings, tmp_path: Path) -> None:
    table = load_manifest(forging, progress=False)
    run = open_run(tmp_path / "reals", forging)
    history = Trainer(forging, table, run, progress=False).fit()
    assert history["val_auc"].notna().all()
    report, videos, _ = evaluate_run(run, "test", progress=False)
    assert 0 < report.prior < 1  # of so few windows the draws decide
    assert [doubt.partition(":")[0] for doubt in report.threshold.doubts] == ["no true fake is in validation"]
    assert report.video["auc"]["value"] is not None
    assert set(videos["label"]) == {0, 1}
    assert report.unseen.videos == (videos["label"] == 1).sum()
    report, videos, _ = evaluate_run(run, "val", progress=False)
    assert set(report.methods) <= set(METHODS)
    assert (videos["status"] == "ok").all()
    without = change(forging, forge={"share": 0.0})
    with pytest.raises(TrainingError, match=r"only real videos.*forge\.share makes fakes of reals"):
        Trainer(without, table, open_run(tmp_path / "none", without), progress=False).fit()


def test_what_a_model_cannot_notice_is_not_forged(tiny: Settings) -> None:
    with pytest.raises(SettingsError, match="leave mouth, patch, redraw, self_blend"):
        change(tiny, forge={"share": 0.5}, model={"streams": "video"})
    change(tiny, forge={"share": 0.5, "methods": ["vocoder"]}, model={"streams": "audio"})


def test_the_gallery_shows_the_forgery_alone_and_says_where_there_is_none(forging: Settings) -> None:
    reals = select_split(load_manifest(forging, progress=False), "train").query("label == 0")
    pairs = forge_reals(reals, forging, "self_blend")
    assert len(pairs) == len(reals)
    for axes in plot_forged_pictures(pairs, note="drawn").axes[2::3]:
        difference = np.asarray(axes.images[0].get_array())
        assert (difference[:, :2] == 128).all()
        assert (difference != 128).any()
    shown = plot_forged_sounds(forge_reals(reals, forging, "vocoder"), forging.audio).axes[2].images[0].get_array()
    assert np.abs(shown).max() > 0
    for figure in (plot_forged_pictures({}), plot_forged_steps({}), plot_forged_sounds({}, forging.audio)):
        assert "none of these" in figure.axes[1].texts[0].get_text()
