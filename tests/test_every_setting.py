"""No setting is accepted and ignored: each, when changed, changes what it says it changes."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from dfmm.dataset import load_manifest
from dfmm.dataset.dataset import MultimodalDataset
from dfmm.dataset.loaders import make_evaluation_loader, make_training_loader
from dfmm.evaluation import summary
from dfmm.evaluation.evaluate import evaluate_run
from dfmm.model import MultimodalModel, load_model, make_model
from dfmm.runs import open_run, start_logging
from dfmm.sample.recipes import plan_sample
from dfmm.settings import Settings, flatten_settings, iterate_settings, name_detector, validate_settings
from dfmm.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("decoded")  # workers, of which each takes seconds to start, are not the question

# With these, each of the settings below has something to act on.
BASE = {
    "augment.flip": 0.5,
    "augment.noise": 0.05,
    "augment.sound_noise": 0.0,
    "augment.chance": 1.0,
    "model.temporal": "tconv",
    "train.epochs": 1,
    "train.batch_size": 4,
    "train.clip": 1e6,
}


@pytest.fixture
def settings(tiny: Settings, tmp_path: Path) -> Settings:
    return set_values(tiny, **BASE)


def set_values(settings: Settings, **values: Any) -> Settings:
    """Return settings with some changed by dotted name."""
    nested = settings.model_dump()
    for name, value in values.items():
        *section, last = name.split(".")
        (nested[section[0]] if section else nested)[last] = value
    return validate_settings(nested)


def read_cached(settings: Settings) -> Settings:
    """Have windows read from the cache: all that does not ask how crops are cut shares one extraction."""
    return set_values(settings, **{"data.read": "cache"})


def hash_values(values: Any) -> str:
    """Return a digest of nested tensors, arrays and plain values."""
    if isinstance(values, dict):
        return hash_values([f"{name}={hash_values(value)}" for name, value in sorted(values.items())])
    if isinstance(values, (list, tuple)):
        return hashlib.sha256("".join(map(hash_values, values)).encode()).hexdigest()
    if isinstance(values, torch.Tensor):
        values = values.detach().numpy()
    return hashlib.sha256(values.tobytes() if isinstance(values, np.ndarray) else repr(values).encode()).hexdigest()


def show_samples(settings: Settings, folder: Path) -> str:
    """What training reads of a fake and a real."""
    train = load_manifest(settings, progress=False).query("split == 'train'").iloc[1:3]
    dataset = MultimodalDataset(train, settings, sampling="random", augment=True, progress=False)
    return hash_values([dataset[index] for index in range(len(dataset))])


def show_order(settings: Settings, folder: Path) -> str:
    """Which windows training draws, in which batches."""
    loader = make_training_loader(load_manifest(settings, progress=False), settings, progress=False)
    return hash_values([loader.num_workers, list(loader.batch_sampler)])


def show_model(settings: Settings, folder: Path) -> str:
    """What a fresh model makes of a batch, and how much of it can learn."""
    torch.manual_seed(0)
    if settings.model.detector:
        name_detector(settings.model.detector)
    model = make_model(settings).train()
    torch.manual_seed(1)
    outputs = model(make_batch(settings))
    return hash_values([outputs, sum(p.numel() for p in model.parameters() if p.requires_grad)])


def make_batch(settings: Settings) -> dict[str, torch.Tensor]:
    cached = read_cached(settings)
    return next(iter(make_evaluation_loader(load_manifest(cached, progress=False), "train", cached, progress=False)))


def show_training(settings: Settings, folder: Path) -> str:
    """What a training writes, and how many forward passes it takes."""
    passes = []
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda module, *_: passes.append(1) if isinstance(module, MultimodalModel) else None
    )
    settings = read_cached(settings)
    run = open_run(folder / hash_values(flatten_settings(settings)), settings)
    try:
        Trainer(settings, load_manifest(settings, progress=False), run, progress=False).fit()
    finally:
        hook.remove()
    weights = load_model(run.checkpoint)[0].state_dict()
    names = sorted(path.name for path in run.checkpoint.parent.iterdir())
    return hash_values([(run / "metrics.jsonl").read_text(), weights, names, len(passes)])


TRAINED: dict[str, Path] = {}  # the checkpoints of what was trained to be evaluated, by its settings


def show_report(settings: Settings, folder: Path) -> str:
    """What an evaluation says of a model that these settings trained, or others but for `evaluate`."""
    settings = read_cached(settings)
    run = open_run(folder / hash_values(flatten_settings(settings)), settings)
    trained = settings.model_dump_json(exclude={"evaluate"})
    if trained in TRAINED:
        shutil.copytree(TRAINED[trained], run / "checkpoints")
    else:
        Trainer(settings, load_manifest(settings, progress=False), run, progress=False).fit()
        TRAINED[trained] = run / "checkpoints"
    report, videos, _ = evaluate_run(run, "train", progress=False)
    shown = [getattr(report, name) for name in ("video", "threshold", "rivals", "slices", "localization")]
    return hash_values([shown, videos["score"].to_numpy()])


def show_batches(settings: Settings, folder: Path) -> str:
    """How many windows an evaluation takes at once."""
    loader = make_evaluation_loader(load_manifest(settings, progress=False), "train", settings, progress=False)
    return hash_values([len(batch["video_id"]) for batch in loader])


def show_videos(settings: Settings, folder: Path) -> str:
    """Which videos are read."""
    manifest = load_manifest(settings, progress=False)
    loader = make_training_loader(manifest, settings, progress=False)
    return hash_values([len(manifest), list(loader.dataset.manifest["path"])])


def show_log(settings: Settings, folder: Path) -> str:
    """What the terminal and a tracker are told."""
    run = open_run(folder / hash_values(flatten_settings(settings)), settings)
    screen = io.StringIO()
    with contextlib.redirect_stdout(screen):
        start_logging(run, settings)
        logging.getLogger("dfmm").debug("a detail")
        logging.getLogger("dfmm").warning("a warning")
    trackers = Trainer(settings, load_manifest(settings, progress=False), run, progress=False).accelerator.log_with
    said = screen.getvalue()
    return hash_values(["a detail" in said, said.startswith("{"), [str(tracker) for tracker in trackers]])


Probe = Callable[[Settings, Path], str]


# Every setting with another value of it, by what shows the change; in TRAINING also what must be set for it to matter.
SAMPLES = {
    "seed": 1,
    "video.frames": 3,
    "video.fps": 25.0,
    "video.size": 64,
    "video.detector": "none",
    "video.detect_side": 120,
    "video.detect_every": 3,
    "video.margin": 0.4,
    "video.crop": "align",
    "audio.library": "librosa",
    "audio.sample_rate": 8000,
    "audio.n_mels": 40,
    "audio.window_ms": 40.0,
    "audio.hop_ms": 8.0,
    "cure.start_jitter": 1.0,
    "cure.loudness": -40.0,
    "cure.face_pixels": 16,
    "cure.reencode": True,
    "augment.flip": 1.0,
    "augment.crop": 0.5,
    "augment.colour": 0.9,
    "augment.noise": 0.5,
    "augment.sound_gain": 30.0,
    "augment.sound_noise": 1.0,
    "augment.pitch": 6.0,
    "augment.drop_stream": 1.0,
    "augment.offset": 1.0,
    "augment.reverse": 1.0,
    "augment.time_stretch": 1.0,
    "augment.frame_rate": 1.0,
    "augment.freeze": 1.0,
    "augment.blur": 1.0,
    "augment.cutout": 1.0,
    "augment.downscale": 1.0,
    "augment.jpeg": 1.0,
    "augment.h264": 1.0,
    "augment.drop_frames": 1.0,
    "augment.reverb": 1.0,
    "augment.high_pass": 1.0,
    "augment.low_pass": 1.0,
    "augment.mp3": 1.0,
    "augment.aac": 1.0,
    "augment.opus": 1.0,
    "augment.spec_augment": 1.0,
}
MODELS = {
    "model.detector": "detectors.frames:build",
    "model.backbone": "test_efficientnet",
    "model.frozen": 0.5,
    "model.streams": "video",
    "model.audio_backbone": "test_resnet",
    "model.dim": 32,
    "model.temporal": "transformer",
    "model.fusion": "attention",
    "model.dropout": 0.9,
}
TRAINING = (
    ("train.epochs", 2, {}),
    ("train.batch_size", 6, {}),
    ("train.accumulate", 2, {}),
    ("train.loss", "focal", {}),
    ("train.label_smoothing", 0.2, {}),
    ("train.class_weights", True, {}),
    ("train.stream_loss", 0.1, {}),
    ("train.lr", 1e-4, {}),
    ("train.backbone_lr", 1e-6, {}),
    ("train.schedule", "one_cycle", {}),
    ("train.warmup", 0.6, {}),
    ("train.weight_decay", 5.0, {}),
    ("train.clip", 0.01, {}),
    ("train.ema", 0.9, {}),
    ("train.checkpoint_every", 1, {"train.keep_checkpoints": 50}),
    ("train.keep_checkpoints", 1, {"train.checkpoint_every": 1}),
    ("train.mixed_precision", "bf16", {}),
)
OTHERS = (
    ("audio.spread_seconds", 1.0, show_samples, {"video.fps": "spread"}),
    ("forge.share", 0.9, show_samples, {}),
    ("forge.methods", ["vocoder"], show_samples, {"forge.share": 0.9}),
    ("forge.pairs", True, show_samples, {"forge.share": 0.5, "train.windows": 2}),
    ("forge.reals_only", True, show_videos, {"forge.share": 0.5}),
    ("augment.chance", 0.0, show_samples, {"augment.jpeg": 1.0}),
    ("cure.reencode_fps", 10.0, show_samples, {"cure.reencode": True}),
    ("cure.reencode_side", 96, show_samples, {"cure.reencode": True}),
    ("cure.reencode_crf", 40, show_samples, {"cure.reencode": True}),
    ("cure.reencode_sample_rate", 8000, show_samples, {"cure.reencode": True}),
    ("cure.reencode_bit_rate", 16_000, show_samples, {"cure.reencode": True}),
    ("data.leave_out", ["blend"], show_videos, {}),
    ("model.aggregation", "attention", show_model, {"train.windows": 2}),
    ("train.windows", 3, show_order, {}),
    ("train.val_windows", 3, show_training, {}),
    ("train.balance", "method", show_order, {}),
    ("data.workers", 1, show_order, {}),
    ("evaluate.windows", 3, show_report, {}),
    ("evaluate.stride", 0.16, show_report, {}),
    ("evaluate.threshold", "fpr=0.3", show_report, {}),
    ("evaluate.prior", 0.01, show_report, {}),
    ("evaluate.dcf_prior", 0.2, show_report, {}),
    ("evaluate.false_alarm_cost", 4.0, show_report, {}),
    ("evaluate.miss_cost", 3.0, show_report, {}),
    ("evaluate.batch_size", 5, show_batches, {}),
    ("evaluate.slices", ["codec", "face_size", "several_faces"], show_report, {}),
    ("data.limit", 2, show_videos, {}),
    ("logging.level", "debug", show_log, {}),
    ("logging.format", "json", show_log, {}),
)


def list_changes() -> Iterator[tuple[str, Any, Probe, dict[str, Any]]]:
    """Yield every setting, another value of it, what shows the change, and what else is set for it to matter."""
    yield from ((name, value, show_samples, {}) for name, value in SAMPLES.items())
    yield from ((name, value, show_model, {}) for name, value in MODELS.items())
    yield from ((name, value, show_training, others) for name, value, others in TRAINING)
    yield from OTHERS


# Shown elsewhere, each by a test of its own.
ELSEWHERE = {
    "data.root": "test_where_data_comes_from",
    "data.manifest": "test_where_data_comes_from",
    "data.sample_videos": "test_where_data_comes_from",
    "cure.trim_silence": "test_cures.test_the_cache_and_the_videos_give_the_same_to_the_bit",  # on files with silence
    "evaluate.datasets": "test_protocols.test_each_dataset_has_its_report_and_one_that_fails_costs_only_itself",
    "data.cache": "test_where_the_cache_lies_and_what_is_in_it",
    "video.face": "test_tracking.test_gaps_and_several_faces_are_told",
    "data.forged_share": "test_windows.test_how_much_of_a_stretch_makes_a_window_fake_is_a_setting",
    "data.read": "test_where_the_cache_lies_and_what_is_in_it",
    "extract.engine": "test_pool.test_a_missing_engine_says_how_to_install_it",
    "extract.workers": "test_pool.test_so_many_workers_are_started",
    "extract.address": "test_pool.test_an_address_is_where_the_cluster_is_looked_for",
    "model.pretrained": "test_a_backbone_starts_from_a_file",
    "synchrony.use": "test_synchrony.test_too_few_reals_leave_the_packages_weights",
    "synchrony.mesh": "test_talks.test_other_extras_are_other_entries_and_a_missing_one_is_named",
    "synchrony.phonemes": "test_talks.test_other_extras_are_other_entries_and_a_missing_one_is_named",
    "train.processes": "test_several_processes_are_started",
    "train.compile": "test_machine.test_a_backbone_is_compiled_or_the_log_says_why_not",
    "train.start_from": "test_trainer.test_training_starts_from_another_runs_weights",
    "train.patience": "test_trainer.test_training_ends_when_validation_no_longer_improves",
    "evaluate.replicates": "test_the_bootstrap_is_as_long_as_asked",
    "train.monitor": "test_trainer.test_monitor_decides_which_epoch_is_best",
    "logging.trackers": "test_trainer.test_a_tracker_is_told_the_metrics",
}

SHOWN: dict[tuple[Probe, str], Any] = {}  # with settings as they were: the same for many a setting


@pytest.mark.parametrize(
    ("name", "value", "probe", "others"), [pytest.param(*row, id=row[0]) for row in list_changes()]
)
def test_a_setting_changes_what_it_is_for(
    name: str, value: Any, probe: Probe, others: dict[str, Any], settings: Settings, tmp_path: Path
) -> None:
    before = set_values(settings, **others)
    assert flatten_settings(before)[name] != value
    shown = probe, before.model_dump_json()
    if shown not in SHOWN:
        SHOWN[shown] = probe(before, tmp_path / "before")
    assert SHOWN[shown] != probe(set_values(before, **{name: value}), tmp_path / "after")


@pytest.mark.parametrize("probe", [show_samples, show_order, show_model, show_training, show_report])
def test_what_is_shown_is_the_same_twice(probe: Probe, settings: Settings, tmp_path: Path) -> None:
    assert probe(settings, tmp_path / "once") == probe(settings, tmp_path / "twice")


def test_no_setting_is_forgotten() -> None:
    shown = [name for name, *_ in list_changes()]
    assert sorted([*shown, *ELSEWHERE]) == sorted(name for name, _ in iterate_settings())


def test_where_data_comes_from(tiny: Settings, manifest: pd.DataFrame, tmp_path: Path) -> None:
    root = Path(tiny.data.root)
    other = tmp_path / "other"
    other.mkdir()
    shutil.copytree(root / "train", other / "train")
    manifest[manifest["split"] == "train"].to_csv(other / "some.csv", index=False)
    moved = set_values(tiny, **{"data.root": str(other), "data.manifest": "some.csv"})
    assert len(load_manifest(moved)) == (manifest["split"] == "train").sum()
    recipes = plan_sample(12, seed=0)
    for recipe in recipes[1:]:  # as after a kill: one is left to be drawn
        (tmp_path / "new" / recipe.path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "new" / recipe.path).touch()
    drawn = set_values(tiny, **{"data.root": str(tmp_path / "new"), "data.sample_videos": 12})
    assert len(load_manifest(drawn, progress=False)) == 12
    assert (tmp_path / "new" / recipes[0].path).stat().st_size > 0


def test_where_the_cache_lies_and_what_is_in_it(settings: Settings, tmp_path: Path) -> None:
    sizes = {}
    for read in ("videos", "cache"):
        chosen = set_values(settings, **{"data.cache": str(tmp_path / read), "data.read": read})
        show_samples(chosen, tmp_path)
        sizes[read] = sum(path.stat().st_size for path in (tmp_path / read).rglob("*") if path.is_file())
    assert 0 < sizes["videos"] < sizes["cache"] / 5


def test_a_backbone_starts_from_a_file(settings: Settings, tmp_path: Path) -> None:
    torch.manual_seed(5)
    backbone = MultimodalModel(settings).frame_encoder.backbone
    torch.save(backbone.state_dict(), tmp_path / "weights.pth")
    chosen = set_values(settings, **{"model.pretrained": str(tmp_path / "weights.pth")})
    found = MultimodalModel(chosen).frame_encoder.backbone.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in backbone.state_dict().items())


def test_several_processes_are_started(
    settings: Settings, manifest: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    monkeypatch.setattr("dfmm.training.trainer.launch_training", lambda *what: started.append(what))
    chosen = set_values(settings, **{"train.processes": 2})
    Trainer(chosen, manifest, open_run(tmp_path / "two", chosen), progress=False).fit()
    assert len(started) == 1


def test_the_bootstrap_is_as_long_as_asked(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, compute = [], summary.compute_metrics
    monkeypatch.setattr(
        summary, "compute_metrics", lambda *args, **options: [asked.append(options), compute(*args, **options)][1]
    )
    show_report(set_values(settings, **{"evaluate.replicates": 150}), tmp_path)
    assert {options["replicates"] for options in asked} == {150}


def test_aggregation_makes_another_score(settings: Settings, tmp_path: Path) -> None:
    reports = {
        how: show_report(set_values(settings, **{"model.aggregation": how}), tmp_path) for how in ("mean", "max")
    }
    assert reports["mean"] != reports["max"]
