"""Training learns, resumes to the same weights, and stops with a clear word."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from dfmm.dataset.batches import balance_videos
from dfmm.dataset.dataset import MultimodalDataset
from dfmm.evaluation.evaluate import evaluate_run
from dfmm.manifest import ManifestError
from dfmm.model import load_model
from dfmm.runs import Run, RunError, Stopped, open_run
from dfmm.settings import Settings, load_settings
from dfmm.training import Trainer, check_labels, read_history, require_checkpoint
from dfmm.training.checkpoints import State, list_checkpoints, load_checkpoint
from dfmm.training.losses import Loss
from dfmm.training.machine import TrainingError
from dfmm.training.optimizer import cosine_with_warmup

from ..conftest import Clip, change


@pytest.fixture(scope="session")  # as `manifest`, which asks for it
def tiny(tiny: Settings) -> Settings:
    """These settings with windows read from the cache: decoded anew, they would take longer than the learning."""
    return change(tiny, data={"read": "cache"})


def read_weights(run: Run) -> dict[str, torch.Tensor]:
    return load_checkpoint(run / "checkpoints")["model"]


@pytest.fixture(scope="module")
def finished(tiny: Settings, manifest: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run trained without a break."""
    run = open_run(tmp_path_factory.mktemp("runs") / "whole", tiny)
    Trainer(tiny, manifest, run, progress=False).fit()
    return run


def test_a_run_leaves_what_it_promises(finished: Run, tiny: Settings) -> None:
    record = finished.read()
    assert record["stages"]["train"]["status"] == "done"
    assert record["data_fingerprint"]
    assert record["threads"] >= 1
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if line["kind"] == "epoch"] == [1, 2, 3]
    assert sum(line["kind"] == "step" for line in lines) == 3 * 2  # 12 training videos in batches of 6
    _, settings, facts = load_model(finished.checkpoint)
    assert settings == tiny
    assert 0 < facts["prior"] < 1


def test_freed_memory_is_kept_while_steps_are_taken(
    tiny: Settings, manifest: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, take = [], Trainer._take_steps

    @contextmanager
    def keep() -> Iterator[None]:
        done.append("kept")
        yield
        done.append("handed back")

    def take_steps(trainer: Trainer, batches: Any) -> None:
        done.append("steps")
        take(trainer, batches)

    monkeypatch.setattr("dfmm.training.trainer.keep_memory", keep)
    monkeypatch.setattr(Trainer, "_take_steps", take_steps)
    Trainer(change(tiny, train={"epochs": 1}), manifest, Run(tmp_path), progress=False).fit()
    assert done == ["kept", "steps", "handed back"]


def test_a_finished_run_is_not_trained_again(finished: Run, tiny: Settings, manifest: pd.DataFrame) -> None:
    before = (finished / "metrics.jsonl").read_bytes()
    history = Trainer(tiny, manifest, finished, progress=False).fit()
    assert len(history) == 3
    assert (finished / "metrics.jsonl").read_bytes() == before


BREADTH = {
    "epochs": 3,
    "batch_size": 4,
    "accumulate": 2,
    "ema": 0.9,
    "schedule": "one_cycle",
    "balance": "method",
    "checkpoint_every": 2,
}


@pytest.fixture(scope="module")
def broad(tiny: Settings) -> Settings:
    """Settings with everything on that has a state to lose, dropout and augmentation too."""
    return change(tiny, train=BREADTH, model={"temporal": "transformer", "dropout": 0.5}, augment={"noise": 0.1})


@pytest.fixture(scope="module")
def unbroken(broad: Settings, manifest: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of these settings trained without a break."""
    run = open_run(tmp_path_factory.mktemp("runs") / "unbroken", broad)
    Trainer(broad, manifest, run, progress=False).fit()
    return run


def assert_same_end(run: Run, other: Run) -> None:
    assert (run / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    assert run.checkpoint.read_bytes() == other.checkpoint.read_bytes()
    weights = read_weights(other)
    for name, value in read_weights(run).items():
        assert torch.equal(value, weights[name]), name


@pytest.mark.parametrize(
    ("epoch", "step"),
    [*(pytest.param(*at, marks=pytest.mark.slow) for at in ((1, 1), (2, 0), (2, 2))), (3, 1)],
)
def test_a_killed_run_resumes_to_the_same_end(
    epoch: int,
    step: int,
    unbroken: Run,
    broad: Settings,
    manifest: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = open_run(tmp_path / "broken", broad)
    break_training(broad, manifest, run, monkeypatch, epoch=epoch, step=step)
    Trainer(broad, manifest, run, progress=False).fit()
    assert_same_end(run, unbroken)


def break_training(
    settings: Settings, manifest: pd.DataFrame, run: Run, monkeypatch: pytest.MonkeyPatch, *, epoch: int, step: int
) -> None:
    move_weights = Trainer._move_weights

    def die(self: Trainer) -> torch.Tensor:
        if (self.state.epoch, self.state.step) == (epoch, step):
            raise KeyboardInterrupt
        return move_weights(self)

    monkeypatch.setattr(Trainer, "_move_weights", die)
    with pytest.raises(KeyboardInterrupt):
        Trainer(settings, manifest, run, progress=False).fit()
    monkeypatch.undo()
    assert run.status("train") == "interrupted"


@pytest.mark.parametrize("step", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_killed_run_that_forges_resumes_to_the_same_end(
    step: int,
    tiny: Settings,
    manifest: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train, forge = {"epochs": 2}, {"share": 0.5, "reals_only": True}
    settings = change(tiny, data={"read": "videos"}, train=train, forge=forge)  # as most do who have few
    straight, broken = (open_run(tmp_path / name, settings) for name in ("straight", "broken"))
    Trainer(settings, manifest, straight, progress=False).fit()
    break_training(settings, manifest, broken, monkeypatch, epoch=2, step=step)
    Trainer(settings, manifest, broken, progress=False).fit()
    assert_same_end(broken, straight)


def test_sigterm_ends_the_step_and_saves_it(
    finished: Run, tiny: Settings, manifest: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, move_weights = open_run(tmp_path / "told", tiny), Trainer._move_weights

    def tell(self: Trainer) -> torch.Tensor:
        if (self.state.epoch, self.state.step) == (2, 0):
            os.kill(os.getpid(), signal.SIGTERM)
        return move_weights(self)

    monkeypatch.setattr(Trainer, "_move_weights", tell)
    with pytest.raises(KeyboardInterrupt, match="SIGTERM: stopped in epoch 2 after step 2"):
        Trainer(tiny, manifest, run, progress=False).fit()
    monkeypatch.undo()
    state = load_checkpoint(run / "checkpoints")
    assert (state["epoch"], state["step"]) == (2, 2)
    assert run.status("train") == "interrupted"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    Trainer(tiny, manifest, run, progress=False).fit()
    assert_same_end(run, finished)


def test_a_damaged_checkpoint_costs_only_the_way_back_to_the_one_before(
    unbroken: Run, broad: Settings, manifest: pd.DataFrame, tmp_path: Path
) -> None:
    run = open_run(tmp_path / "damaged", broad)
    shutil.copytree(unbroken / "checkpoints", run / "checkpoints")
    shutil.copy(unbroken / "metrics.jsonl", run / "metrics.jsonl")
    newest, _ = list_checkpoints(run / "checkpoints")
    newest.write_bytes(newest.read_bytes()[:-1000])
    Trainer(broad, manifest, run, progress=False).fit()
    assert f"{newest.name} is damaged" in (run / "log.jsonl").read_text()
    assert_same_end(run, unbroken)


def test_only_so_many_checkpoints_are_kept_and_one_between_epochs(
    tiny: Settings, manifest: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for keep in (1, 3):
        settings = change(tiny, train={"epochs": 2, "checkpoint_every": 1, "keep_checkpoints": keep})
        run = open_run(tmp_path / str(keep), settings)
        Trainer(settings, manifest, run, progress=False).fit()
        assert len(list_checkpoints(run / "checkpoints")) == keep
        run = open_run(tmp_path / f"cut{keep}", settings)
        break_training(settings, manifest, run, monkeypatch, epoch=2, step=1)
        names = [path.stem for path in list_checkpoints(run / "checkpoints")]
        newest = ["epoch-0002-step-000001", "epoch-0002-step-000000", "epoch-0001-step-000002"]
        assert names == newest[: max(keep, 2)]


def test_accumulation_changes_memory_and_nothing_else(tiny: Settings, manifest: pd.DataFrame, tmp_path: Path) -> None:
    histories = []
    model = {"dropout": 0.0, "backbone": "test_vit", "audio_backbone": "test_vit"}  # no batch statistics
    for accumulate in (1, 3):
        settings = change(tiny, train={"accumulate": accumulate}, model=model)
        run = open_run(tmp_path / str(accumulate), settings)
        histories.append(Trainer(settings, manifest, run, progress=False).fit())
    pd.testing.assert_frame_equal(*histories, rtol=1e-4)


def test_the_average_of_weights_is_what_is_kept(tiny: Settings, manifest: pd.DataFrame, tmp_path: Path) -> None:
    settings = change(tiny, train={"ema": 0.999, "epochs": 1})
    run = open_run(tmp_path / "ema", settings)
    Trainer(settings, manifest, run, progress=False).fit()
    state, (model, _, _) = load_checkpoint(run / "checkpoints"), load_model(run.checkpoint)
    assert all(torch.equal(value, state["ema"][name]) for name, value in model.state_dict().items())
    assert any(not torch.equal(value, state["model"][name]) for name, value in model.state_dict().items())


def test_it_can_learn_four_videos_by_heart(tiny: Settings, manifest: pd.DataFrame, tmp_path: Path) -> None:
    nothing = dict.fromkeys(("flip", "crop", "colour", "sound_gain", "drop_stream"), 0.0)
    train = {"epochs": 20, "batch_size": 4, "lr": 5e-3, "patience": 20}
    settings = change(tiny, data={"limit": 4}, augment=nothing, train=train, model={"dropout": 0.0})
    history = Trainer(settings, manifest, open_run(tmp_path / "four", settings), progress=False).fit()
    assert history["train_loss"].iloc[-1] < 0.25 * history["train_loss"].iloc[0]


def test_training_ends_when_validation_no_longer_improves(
    tiny: Settings, manifest: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = change(tiny, data={"limit": 2}, train={"epochs": 9, "patience": 2})
    aucs = iter([0.5, 0.8, 0.7, 0.6, 0.9])
    monkeypatch.setattr(Trainer, "_validate", lambda self: {"val_loss": 1.0, "val_auc": next(aucs)})
    run = open_run(tmp_path / "early", settings)
    assert len(Trainer(settings, manifest, run, progress=False).fit()) == 4
    assert load_model(run.checkpoint)[2]["epoch"] == 2


def test_monitor_decides_which_epoch_is_best(
    tiny: Settings, manifest: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("val_loss", "val_auc", "val_ap", "val_eer")
    for monitor, best in (("auc", 2), ("loss", 3), ("ap", 1), ("eer", 4)):
        settings = change(tiny, data={"limit": 2}, train={"monitor": monitor, "epochs": 4})
        records = iter([(1.0, 0.5, 0.9, 0.5), (0.9, 0.8, 0.5, 0.4), (0.5, 0.7, 0.6, 0.45), (0.9, 0.6, 0.6, 0.1)])
        monkeypatch.setattr(Trainer, "_validate", lambda self, r=records: dict(zip(names, next(r), strict=True)))
        run = open_run(tmp_path / monitor, settings)
        Trainer(settings, manifest, run, progress=False).fit()
        assert load_model(run.checkpoint)[2]["epoch"] == best


def test_a_loss_that_is_no_number_names_the_videos(
    tiny: Settings, manifest: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Loss, "combine", lambda self, sums, counts: sums.sum() * math.nan)
    run = open_run(tmp_path / "nan", tiny)
    with pytest.raises(TrainingError, match=r"train/\d+.*train\.lr"):
        Trainer(tiny, manifest, run, progress=False).fit()
    assert run.status("train") == "failed"


def test_a_gradient_that_is_no_number_is_kept_nowhere(
    tiny: Settings, manifest: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "_move_weights", lambda _: torch.tensor(math.inf))
    run = open_run(tmp_path / "inf", change(tiny, train={"checkpoint_every": 1}))
    with pytest.raises(TrainingError, match=r"gradient is no number in epoch 1, step 0; lower train\.lr"):
        Trainer(load_settings(run / "settings.yaml"), manifest, run, progress=False).fit()
    assert not list_checkpoints(run / "checkpoints")


def test_one_that_is_cut_off_behind_its_last_step_still_learns_synchrony(
    tiny: Settings, manifest: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, asked = change(tiny, train={"epochs": 1}), []

    def tell(*_: object, **__: object) -> None:
        asked.append(0)
        if len(asked) == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("dfmm.training.trainer.fit_run_synchrony", tell)
    run = open_run(tmp_path / "late", settings)
    with pytest.raises(KeyboardInterrupt, match="SIGTERM: stopped, but in no step"):
        Trainer(settings, manifest, run, progress=False).fit()
    assert run.status("train") == "interrupted"
    for _ in range(2):  # the second has nothing left to do
        Trainer(settings, manifest, run, progress=False).fit()
    assert (len(asked), run.status("train")) == (2, "done")


@pytest.mark.parametrize(("device", "told"), [("cpu", False), ("meta", False), ("meta", True)])
def test_a_batch_is_read_ahead_for_a_gpu_alone_and_never_by_who_is_to_stop(
    device: str, told: bool, tiny: Settings, manifest: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, done = Trainer(tiny, manifest, open_run(tmp_path / "run", tiny), progress=False), []
    trainer.told = told
    monkeypatch.setattr(type(trainer.accelerator), "device", torch.device(device))
    monkeypatch.setattr(trainer, "_take_step", lambda batch: done.append(f"take {batch['video_id']}"))
    monkeypatch.setattr(trainer, "_end_step", lambda _, name: done.append(f"end {name}"))
    trainer._take_steps({"video_id": done.append(f"read {name}") or name} for name in "ab")
    ahead = ["read a", "take a", "read b", "end a", "take b", "end b"]
    assert done == (ahead if device == "meta" and not told else sorted(ahead, key=lambda words: words[-1]))


def test_a_model_that_has_blown_up_is_refused(tiny: Settings, manifest: pd.DataFrame, tmp_path: Path) -> None:
    settings = change(tiny, train={"lr": 1e6, "clip": 1e6})
    with pytest.raises(TrainingError, match=r"lower train\.lr"):
        Trainer(settings, manifest, open_run(tmp_path / "wild", settings), progress=False).fit()


def test_one_label_only_is_refused(tiny: Settings, manifest: pd.DataFrame, tmp_path: Path) -> None:
    reals = manifest[(manifest["label"] == 0) | (manifest["split"] != "train")]
    with pytest.raises(TrainingError, match="only real videos"):
        Trainer(tiny, reals, open_run(tmp_path / "reals", tiny), progress=False).fit()


def test_fakes_that_are_forged_where_no_window_is_are_told_of(tiny: Settings, manifest: pd.DataFrame) -> None:
    segments = {"video_segments": "60-61", "audio_segments": "60-61"}
    val = manifest[manifest["split"] == "val"]
    late = val.assign(video_fake=val["label"], audio_fake=val["label"], in_sync=1, **segments)
    check_labels(MultimodalDataset(val, tiny, windows=2, progress=False), "val")
    with pytest.raises(TrainingError, match=r"'val' has only real windows.*none of its fakes is forged .*\(2 each\)"):
        check_labels(MultimodalDataset(late, tiny, windows=2, progress=False), "val")
    early = late.assign(video_segments="0-0.4", audio_segments="0-0.4").query("label == 1")
    check_labels(MultimodalDataset(early, tiny, windows=2, progress=False), "val")  # fakes that have real windows, too


def test_windows_that_tell_nothing_are_no_windows_of_a_label(
    tiny: Settings, manifest: pd.DataFrame, tmp_path: Path, mute_clip: Clip
) -> None:
    """Fakes without a sound, to a model that only listens: known before the first step, not after the first epoch."""
    chosen = change(tiny, model={"streams": "audio"}, data={"root": str(tmp_path)})
    for path in manifest["path"]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).symlink_to(Path(tiny.data.root) / path)
    for path in manifest.loc[(manifest["split"] == "val") & (manifest["label"] == 1), "path"]:
        (tmp_path / path).unlink()
        shutil.copy(mute_clip.path, tmp_path / path)
    run = open_run(tmp_path / "run", chosen)
    with pytest.raises(TrainingError, match="'val' has only real windows"):
        Trainer(chosen, manifest, run, progress=False).fit()
    assert not (run / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("train", "prior", "weights"),
    [
        ({}, 6 / 8, (1, 1)),
        ({"balance": "label"}, 0.5, (1, 1)),
        ({"class_weights": True}, 0.5, (2, 2 / 3)),
        ({"balance": "label", "class_weights": True}, 0.5, (1, 1)),
    ],
    ids=["as it is", "balanced", "weighted", "both"],
)
def test_the_prior_is_what_the_loss_saw(
    train: dict, prior: float, weights: tuple[float, float], tiny: Settings, manifest: pd.DataFrame, tmp_path: Path
) -> None:
    manifest = manifest.assign(video_segments="", audio_segments="")  # a window is what its video is
    rows = manifest[manifest["split"] == "train"]
    few = pd.concat([rows[rows["label"] == label].head(count) for label, count in ((0, 2), (1, 6))])
    settings = change(tiny, train={"epochs": 1, "batch_size": 8, **train})
    trainer = Trainer(
        settings,
        pd.concat([few, manifest[manifest["split"] == "val"]]),
        open_run(tmp_path / "run", settings),
        progress=False,
    )
    trainer.fit()
    assert trainer.loss.class_weights == pytest.approx(weights)  # what is drawn counts, not the table
    assert load_model(trainer.run.checkpoint)[2]["prior"] == pytest.approx(prior)


def test_many_fakes_of_few_reals_are_drawn_by_halves() -> None:
    """As FaceForensics++ is, whose prior was called 0.977."""
    table = pd.DataFrame({"label": np.repeat([0, 1], [500, 21_044]), "method": "real"})
    table.loc[500:, "method"] = [f"m{number % 7}" for number in range(21_044)]
    shares = balance_videos(table, "method").shares
    assert shares @ table["label"] == pytest.approx(0.5)


def test_what_is_forged_in_stretches_counts_as_often_as_it_is_drawn(tiny: Settings, manifest: pd.DataFrame) -> None:
    train = manifest[manifest["split"] == "train"]
    partly = train.assign(video_fake=train["label"], audio_fake=0, in_sync=1)
    partly = partly.assign(video_segments=np.where(train["label"] == 1, "0.5-1.2", ""))
    dataset = MultimodalDataset(partly, tiny, windows=40, sampling="random", augment=True, progress=False)
    dataset.augment = False  # draws, and nothing else
    drawn = np.array([label for label in dataset._label_rows(np.arange(len(partly))) if label >= 0])
    assert 0.1 < drawn.mean() < 0.4 < train["label"].mean()
    assert dataset.estimate_prior() == pytest.approx(drawn.mean(), abs=0.04)


def test_a_checkpoint_holds_the_whole_state_under_the_names_it_always_had(
    unbroken: Run, broad: Settings, manifest: pd.DataFrame, tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(unbroken / "checkpoints")
    facts = {"threads", "batch_size", "epochs"}
    parts = {"model", "optimizer", "schedule", "ema"}  # and on a GPU at half precision `scaler`
    assert set(checkpoint) == {"epoch", "step", "losses", "best_epoch", "finished", "best", "seen", *facts, *parts}
    state = State.read(checkpoint)
    assert state == State(4, 0, [], state.best_epoch, finished=True, best=state.best, seen=[19.0, 17.0])
    # Drawn by halves, but a window beside a forged stretch is real.
    assert State.read({name: checkpoint[name] for name in checkpoint if name != "seen"}).seen == [0, 0]  # of before
    assert isinstance(state.best, tuple)
    history = read_history(unbroken).set_index("epoch")
    assert state.best == (history["val_auc"][state.best_epoch], -history["val_loss"][state.best_epoch])
    with pytest.raises(KeyError):
        State.read({name: checkpoint[name] for name in checkpoint if name != "losses"})


def test_only_the_quick_run_makes_its_own_checkpoint(tiny: Settings, manifest: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="03_train"):
        require_checkpoint(open_run(tmp_path / "named", tiny), tiny, manifest)


def test_a_video_the_model_cannot_score_is_named(
    tiny: Settings, manifest: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, victim = MultimodalDataset.__getitems__, manifest.loc[manifest["split"] == "train", "video_id"].iloc[0]

    def poison(self: MultimodalDataset, indices: list[int]) -> list[dict]:
        samples = read(self, indices)
        return [s | ({"log_mel": s["log_mel"] * math.nan} if s["video_id"] == victim else {}) for s in samples]

    monkeypatch.setattr(MultimodalDataset, "__getitems__", poison)
    settings = change(tiny, model={"audio_backbone": "test_vit"})  # BatchNorm would spread it over the batch
    with pytest.raises(TrainingError, match=rf"from {victim}; lower"):
        Trainer(settings, manifest, open_run(tmp_path / "nan", settings), progress=False).fit()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "best.pt"), "disc is full.*best.pt.*goes on"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
            r"train\.accumulate.*train\.batch_size",
        ),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"), "video.size"),
        (MemoryError(), "train.batch_size"),
    ],
)
def test_a_full_disc_and_a_full_memory_say_what_to_do(
    error: Exception,
    words: str,
    tiny: Settings,
    manifest: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(self: Trainer, record: dict) -> None:
        raise error

    monkeypatch.setattr(Trainer, "_keep_or_stop", fail)
    run = open_run(tmp_path / "full", tiny)
    with pytest.raises(TrainingError, match=words):
        Trainer(tiny, manifest, run, progress=False).fit()
    assert run.status("train") == "failed"


def test_an_empty_split_is_refused(tiny: Settings, manifest: pd.DataFrame, tmp_path: Path) -> None:
    for split in ("train", "val"):
        with pytest.raises((TrainingError, ManifestError), match=split):
            Trainer(tiny, manifest[manifest["split"] != split], open_run(tmp_path / split, tiny), progress=False).fit()


def test_a_tracker_that_is_not_installed_names_the_command(
    tiny: Settings, manifest: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    settings = change(tiny, logging={"trackers": ["wandb"]})
    with pytest.raises(TrainingError, match=r"pip install 'dfmm\[wandb\]'"):
        Trainer(settings, manifest, open_run(tmp_path / "w", settings), progress=False)


def test_fp16_without_a_gpu_is_refused(tiny: Settings, manifest: pd.DataFrame, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    settings = change(tiny, train={"mixed_precision": "fp16"})
    with pytest.raises(TrainingError, match="needs a GPU"):
        Trainer(settings, manifest, open_run(tmp_path / "half", settings), progress=False)


def test_a_tracker_is_told_the_metrics(tiny: Settings, manifest: pd.DataFrame, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    settings = change(tiny, logging={"trackers": ["tensorboard"]})
    run = open_run(tmp_path / "told", settings)
    history = Trainer(settings, manifest, run, progress=False).fit()
    events = accumulator.EventAccumulator(str(run / "trackers" / "dfmm")).Reload()
    assert [event.value for event in events.Scalars("val_loss")] == pytest.approx(list(history["val_loss"]))
    assert [event.step for event in events.Scalars("loss")] == list(range(6))


# Other settings


def read_lines_of(run: Run, kind: str) -> list[dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def test_a_run_goes_on_with_other_settings_and_says_which(
    tiny: Settings, manifest: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_run(tmp_path / "run", tiny)
    break_training(tiny, manifest, run, monkeypatch, epoch=3, step=0)
    (tmp_path / "moved").symlink_to(tiny.data.root)
    new = change(
        tiny,
        data={"root": str(tmp_path / "moved"), "cache": str(tmp_path / "cache")},
        train={"epochs": 4, "batch_size": 4, "accumulate": 2},
        evaluate={"windows": 1},
    )
    with pytest.raises(RunError, match="is not the manifest that"):
        Trainer(new, manifest.iloc[1:], open_run(run.path, new), progress=False).fit()
    run = open_run(run.path, new)
    Trainer(new, manifest, run, progress=False).fit()

    (note,) = run.read()["changes"]
    assert len(note["changed"]) == 6
    assert [line.partition(":")[0] for line in note["changes_weights"]] == [
        f"train.{name}" for name in ("epochs", "batch_size", "accumulate")
    ]
    assert load_settings(run / "settings.yaml") == new
    steps = read_lines_of(run, "step")
    assert [(line["epoch"], line["step"]) for line in steps] == [
        *((epoch, step) for epoch in (1, 2) for step in range(2)),
        *((epoch, step) for epoch in (3, 4) for step in range(3)),
    ]
    climb = max(1, round(12 * new.train.warmup))
    share = cosine_with_warmup(12, climb)
    assert [line["lr"] for line in steps[4:]] == pytest.approx([new.train.lr * share(step) for step in range(6, 12)])
    report = evaluate_run(run, "val", progress=False)[0]
    assert report.window["n"] == report.video["n"]  # one window each, and found where the data are now
    mixed = manifest.assign(split=manifest["split"].map({"train": "test", "test": "train", "val": "val"}))
    mixed.to_csv(tmp_path / "mixed.csv", index=False)
    with pytest.raises(RunError, match="is not the manifest that"):
        Trainer(new, mixed, run, progress=False).fit()
    other = change(new, data={"manifest": str(tmp_path / "mixed.csv")})
    with pytest.raises(RunError, match="is not the manifest that"):
        evaluate_run(open_run(run.path, other), "test", progress=False)


def test_a_finished_training_goes_on_if_it_is_given_more_epochs(
    tiny: Settings, manifest: pd.DataFrame, tmp_path: Path
) -> None:
    run = open_run(tmp_path / "run", change(tiny, train={"epochs": 1}))
    Trainer(change(tiny, train={"epochs": 1}), manifest, run, progress=False).fit()
    run.update("03_train", status="done")
    run.update("01_explore_data", status="done")
    for wrong in ({"epochs": 1, "batch_size": 4}, {"epochs": 1, "lr": 1e-5}):
        with pytest.raises(RunError, match="made with other settings"):
            open_run(run.path, change(tiny, train=wrong))
    run = open_run(run.path, change(tiny, train={"epochs": 2, "batch_size": 4}))
    assert {name: stage["status"] for name, stage in run.read()["stages"].items()} == {
        "train": "outdated", "03_train": "outdated", "01_explore_data": "done"
    }  # fmt: skip
    Trainer(change(tiny, train={"epochs": 2, "batch_size": 4}), manifest, run, progress=False).fit()
    assert run.status("train") == "done"
    assert len(read_history(run)) == 2
    with pytest.raises(RunError, match="may grow only"):
        open_run(run.path, change(tiny, train={"epochs": 1, "batch_size": 4}))


def test_with_other_batches_an_epoch_begins_again(
    tiny: Settings, manifest: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    often = change(tiny, train={"epochs": 2, "batch_size": 4, "checkpoint_every": 1})
    run = open_run(tmp_path / "run", often)
    break_training(often, manifest, run, monkeypatch, epoch=2, step=2)
    new = change(often, train={"batch_size": 6})
    break_training(new, manifest, open_run(run.path, new), monkeypatch, epoch=2, step=1)
    assert [path.stem for path in list_checkpoints(run / "checkpoints")] == [
        f"epoch-0002-step-{step:06d}" for step in (1, 0)
    ]  # those of step 2 with the old batches would be taken for newer
    Trainer(new, manifest, run, progress=False).fit()
    steps = [(line["epoch"], line["step"]) for line in read_lines_of(run, "step")]
    assert steps == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)]


def test_with_other_batches_nothing_is_thrown_away(
    tiny: Settings, manifest: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    often = change(tiny, train={"checkpoint_every": 1})
    run = open_run(tmp_path / "run", often)
    break_training(often, manifest, run, monkeypatch, epoch=2, step=1)
    (run / "checkpoints" / "epoch-0002-step-000000.pt").unlink()
    before = (run / "metrics.jsonl").read_bytes()
    new = change(often, train={"batch_size": 4})
    with pytest.raises(TrainingError, match="no checkpoint between two epochs is left"):
        Trainer(new, manifest, open_run(run.path, new), progress=False).fit()
    assert (run / "metrics.jsonl").read_bytes() == before


def test_a_training_that_ended_early_goes_on_with_more_patience_only(
    tiny: Settings,
    manifest: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    aucs = iter([0.8, 0.7, 0.6, 0.5])
    monkeypatch.setattr(Trainer, "_validate", lambda self: {"val_loss": 1.0, "val_auc": next(aucs)})
    settings = change(tiny, data={"limit": 2}, train={"epochs": 3, "patience": 1})
    run = open_run(tmp_path / "run", settings)
    assert len(Trainer(settings, manifest, run, progress=False).fit()) == 2
    more = change(settings, train={"epochs": 4})
    assert len(Trainer(more, manifest, open_run(run.path, more), progress=False).fit()) == 2
    assert "none of the last 1 epochs was better (train.patience)" in capsys.readouterr().out
    assert run.status("train") == "done"
    patient = change(more, train={"patience": 2})
    assert len(Trainer(patient, manifest, open_run(run.path, patient), progress=False).fit()) == 3


def test_training_starts_from_another_runs_weights(
    finished: Run, tiny: Settings, manifest: pd.DataFrame, tmp_path: Path
) -> None:
    start = load_model(finished.checkpoint)[0].state_dict()
    for number, place in enumerate((finished.path, finished.checkpoint)):
        settings = change(tiny, train={"epochs": 1, "lr": 1e-9, "start_from": str(place)})
        run = open_run(tmp_path / str(number), settings)
        Trainer(settings, manifest, run, progress=False).fit()
        assert run.read()["start"]["file"] == str(finished.checkpoint)
        weights = load_model(run.checkpoint)[0].named_parameters()
        assert all(torch.allclose(value, start[name], atol=1e-6) for name, value in weights)
    other = change(settings, model={"dim": 32})
    with pytest.raises(TrainingError, match=r"another shape \(there → here\):\n  model.dim: 16 → 32"):
        Trainer(other, manifest, open_run(tmp_path / "other", other), progress=False).fit()


def test_a_run_that_is_asked_to_stop_saves_where_it_is_and_goes_on_to_the_same_end(
    finished: Run, tiny: Settings, manifest: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, move_weights = open_run(tmp_path / "asked", tiny), Trainer._move_weights

    def ask(self: Trainer) -> torch.Tensor:
        if (self.state.epoch, self.state.step) == (2, 0):
            Run(run.path).ask_to_stop()  # as another process would
        return move_weights(self)

    monkeypatch.setattr(Trainer, "_move_weights", ask)
    with pytest.raises(Stopped, match="stopped in epoch 2 after step 2, as asked"):
        Trainer(tiny, manifest, run, progress=False).fit()
    monkeypatch.undo()
    assert run.status("train") == "stopped"
    state = load_checkpoint(run / "checkpoints")
    assert (state["epoch"], state["step"]) == (2, 2)
    with pytest.raises(RunError, match="nothing to stop"):
        run.ask_to_stop()
    Trainer(tiny, manifest, run, progress=False).fit()
    assert_same_end(run, finished)
    assert run.status("train") == "done"


def test_an_old_wish_to_stop_stops_nothing(tiny: Settings, manifest: pd.DataFrame, tmp_path: Path) -> None:
    run = open_run(tmp_path / "old", tiny)
    run.update("train", status="running")  # and killed: no process holds it
    assert "no process is at it on this machine" in run.ask_to_stop()
    assert len(Trainer(tiny, manifest, run, progress=False).fit()) == 3


def test_each_term_and_the_interval_are_written_down(finished: Run) -> None:
    steps, epochs = read_lines_of(finished, "step"), read_lines_of(finished, "epoch")
    for line, total in [*((line, "loss") for line in steps), *((line, "val_loss") for line in epochs)]:
        terms = [value for name, value in line.items() if name.startswith(f"{total}_")]
        assert len(terms) > 1
        assert sum(terms) == pytest.approx(line[total], rel=1e-5)  # all weights are 1
    for line in epochs:
        assert 0 <= line["val_auc_low"] <= line["val_auc"] <= line["val_auc_high"] <= 1
        assert line["val_auc_low"] < line["val_auc_high"]
    record = finished.read()
    assert record["plan"] == {"steps": 2, "epochs": 3, "patience": 10, "monitor": "auc"}
    assert record["splits"]["train"]["videos"] == 12
    assert record["splits"]["val"]["reals"] + record["splits"]["val"]["fakes"] == record["splits"]["val"]["videos"]
