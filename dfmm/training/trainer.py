"""The training loop: one pass after another over the training split, the best one kept by validation."""

from __future__ import annotations

import json
import logging
import math
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate.utils import broadcast, gather_object, send_to_device, set_seed
from filelock import FileLock
from sklearn.metrics import average_precision_score, roc_auc_score
from timm.utils import ModelEmaV3
from torch import Tensor
from torch.utils.data import DataLoader

from dfmm.dataset import (
    UNKNOWN,
    MultimodalDataset,
    check_manifest,
    find_taught,
    make_evaluation_loader,
    make_training_loader,
)
from dfmm.files import write_whole
from dfmm.manifest import STREAM_LABELS, fingerprint_manifest
from dfmm.metrics import compute_eer
from dfmm.model import MultimodalModel, save_model, withhold_streams
from dfmm.runs import Run, RunError, read_lines, show_progress
from dfmm.settings import Settings, flatten_settings
from dfmm.training.checkpoints import State, drop_later_checkpoints, load_checkpoint, load_start, save_checkpoint
from dfmm.training.launch import launch_training
from dfmm.training.losses import Loss
from dfmm.training.machine import (
    TrainingError,
    derive_seed,
    explain_failures,
    make_accelerator,
    name_tracked_run,
    share_cores,
)
from dfmm.training.optimizer import Schedule, make_optimizer
from dfmm.training.synchrony import fit_run_synchrony

SMALLER_IS_BETTER = ("loss", "eer")
NAMED = 5  # videos that an error names
PLAN = ("batch_size", "epochs")  # what the schedule's length follows from

log = logging.getLogger("dfmm")


class Trainer:
    """Trains a `MultimodalModel` on the manifest's training split and keeps what it learns in a run's folder.

    Writes `metrics.jsonl` (a line a step, a line an epoch), `checkpoints/epoch-…-step-….pt` to go on from and
    `checkpoints/best.safetensors` where validation was best. Called again on the same run, it goes on after the newest
    checkpoint and comes to the same weights as if it had never stopped: windows are drawn from (seed, epoch, index),
    dropout from (seed, epoch, step, process). SIGTERM ends the step, writes a checkpoint and raises KeyboardInterrupt.

    Started in several processes (`torchrun` or `accelerate launch`, with `-m dfmm train …`), each takes its part of
    every batch; with `train.processes` above one, `fit` starts them itself.
    """

    def __init__(self, settings: Settings, manifest: pd.DataFrame, run: Run, *, progress: bool = True):
        self.settings, self.manifest, self.run = settings, manifest, run
        self.accelerator = make_accelerator(settings, run)
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        self.progress = progress and self.rank == 0
        self.metrics_file, self.folder = run / "metrics.jsonl", run / "checkpoints"
        self.started = self.told = self.stopping = False  # to end: this process was told, all of them have agreed

    def fit(self) -> pd.DataFrame:
        """Train to the end and return the history: a row an epoch.

        Raises:
            TrainingError: no or only one label to learn from, a loss that is no number any more, memory or disc full.
        """
        if self.settings.train.processes > 1 and self.world == 1:
            launch_training(self.settings, self.manifest, self.run)
            return read_history(self.run)
        with self.accelerator.main_process_first():
            checkpoint = self._load_checkpoint()
        if checkpoint:
            check_manifest(self.run, self.manifest, self.settings)
        if checkpoint and self._is_finished(State.read(checkpoint)) and self.run.checkpoint.is_file():
            self._say_finished(State.read(checkpoint))
            return read_history(self.run)
        stage = self.run.stage("train") if self.rank == 0 else nullcontext()
        with stage, explain_failures(self.run), self._catch_termination():
            self._prepare(checkpoint)
            self.started = True
            try:
                while not self.state.finished:
                    self._run_epoch()
            finally:
                self.accelerator.end_training()
            if self.rank == 0:
                fit_run_synchrony(self.manifest, self.settings, self.run, progress=self.progress)
        return read_history(self.run)

    def _load_checkpoint(self) -> dict[str, Any] | None:
        """Return where to go on from: the newest checkpoint, or with other batches the newest between two epochs."""
        checkpoint = load_checkpoint(self.folder)
        size = self.settings.train.batch_size
        if checkpoint and checkpoint["step"] and checkpoint.get("batch_size", size) != size:
            earlier = load_checkpoint(self.folder, between_epochs=True)
            if earlier is None and checkpoint["epoch"] > 1:
                raise TrainingError(
                    f"{self.run.name} is in the middle of epoch {checkpoint['epoch']} with train.batch_size="
                    f"{checkpoint['batch_size']}: no checkpoint between two epochs is left to go on from with {size}"
                )
            log.warning("with another train.batch_size epoch %d begins again", earlier["epoch"] if earlier else 1)
            return earlier
        return checkpoint

    def _is_finished(self, state: State) -> bool:
        """Are all epochs done, or was there none better for long? What a checkpoint says of it, more epochs change."""
        train, done = self.settings.train, state.epoch - 1
        return not state.step and done > 0 and (done >= train.epochs or done - state.best_epoch >= train.patience)

    def _say_finished(self, state: State) -> None:
        """Say that there is nothing to train, and why, and that what other settings called outdated is not."""
        early = state.epoch - 1 < self.settings.train.epochs
        why = f": none of the last {self.settings.train.patience} epochs was better (train.patience)" if early else ""
        log.info("training is done already in %s%s", self.run.name, why)
        if self.rank == 0 and self.run.status("train") == "outdated":
            self.run.update("train", status="done")

    def _prepare(self, checkpoint: dict[str, Any] | None) -> None:
        """Make all that a training needs, and put it where a checkpoint left it."""
        settings, device = self.settings, self.accelerator.device
        set_seed(settings.seed)
        if device.type == "cpu":
            share_cores(settings.data.workers, self.world, threads=checkpoint["threads"] if checkpoint else None)
        self._open_data()
        start = settings.train.start_from
        self.raw_model = MultimodalModel(settings, pretrained=False if start else None).to(device)
        started = load_start(self.raw_model, settings) if start and not checkpoint else None
        self.ema = ModelEmaV3(self.raw_model, settings.train.ema, use_warmup=True) if settings.train.ema else None
        optimizer = make_optimizer(self.raw_model, settings.train)
        self.schedule = Schedule(optimizer, settings.train, settings.train.epochs * self.steps)
        self.model, self.optimizer = self.accelerator.prepare(self.raw_model, optimizer)
        self.state = self._restore(checkpoint) if checkpoint else State()
        self.taught = self._list_taught(started or self.run.read().get("start"))
        if self.rank == 0:
            keep_lines(self.metrics_file, self.state.epoch, self.state.step)
            drop_later_checkpoints(self.folder, self.state)
            self._describe()
            if started:
                self.run.describe(start=started)
        self._start_trackers()

    def _list_taught(self, start: Mapping[str, Any] | None) -> list[str]:
        """Return the streams whose head learns what it is asked, or did so where this training started from."""
        before = start["facts"].get("taught", STREAM_LABELS) if start else ()
        return [name for name in STREAM_LABELS if name in {*before, *find_taught(self.manifest, self.settings)}]

    def _open_data(self) -> None:
        """Open the training and the validation split, each process its part of them."""
        options = {"progress": self.progress, "rank": self.rank, "world": self.world}
        self.train_loader = make_training_loader(self.manifest, self.settings, **options)
        windows = self.settings.train.val_windows
        self.val_loader = make_evaluation_loader(self.manifest, "val", self.settings, windows=windows, **options)
        for split, loader in (("train", self.train_loader), ("val", self.val_loader)):
            check_labels(loader.dataset, split)
        self.steps = len(self.train_loader.batch_sampler)
        balance, grouped = self.train_loader.batch_sampler.balance, self.settings.model.aggregation == "attention"
        drawn = self.train_loader.dataset.estimate_prior(balance and balance.shares)
        self.loss = Loss(self.settings, drawn, windows=self.settings.train.windows if grouped else 0)
        self.val_loss = Loss(self.settings, drawn)

    def _describe(self) -> None:
        self.run.describe(
            data_fingerprint=fingerprint_manifest(self.manifest),
            threads=torch.get_num_threads(),
            processes=self.world,
            parameters=sum(parameter.numel() for parameter in self.raw_model.parameters()),
        )

    def _run_epoch(self) -> None:
        """Train one epoch, or what is left of it, validate, keep what is best, and save where to go on from."""
        state, order = self.state, self.train_loader.batch_sampler
        order.epoch, order.start = state.epoch, state.step
        title, left = f"epoch {state.epoch}/{self.settings.train.epochs}", self.steps - state.step
        for batch in show_progress(self.train_loader, title, unit="batch", total=left, show=self.progress):
            state.losses.append(self._take_step(batch))
            state.step += 1
            self._save_if_due()
        record = {
            "kind": "epoch",
            "epoch": state.epoch,
            "train_loss": sum(state.losses) / len(state.losses),
            "lr": self.schedule.rates[-1],
            **self._validate(),
        }
        self._log_metrics(record)
        self._keep_or_stop(record)
        state.end_epoch()
        self._save()
        self._end_if_stopped()

    def _take_step(self, batch: dict[str, Any]) -> float:
        """Move the weights by one batch, in as many forward passes as the settings say, and return its loss."""
        torch.manual_seed(derive_seed(self.settings.seed, self.state.epoch, self.state.step, self.rank))
        self.model.train()
        batch = withhold_streams(send_to_device(batch, self.accelerator.device), self.settings.model.streams)
        added = self._add_up(torch.cat([self.loss.count_labels(batch), self.loss.count(batch)]))
        seen, counts = added[:2].tolist(), added[2:]
        parts = split_batch(batch, self.settings.train.accumulate)
        sums = torch.zeros_like(counts)
        for number, part in enumerate(parts, start=1):
            # Gradients cross processes once a step, with the last part.
            with nullcontext() if number == len(parts) else self.accelerator.no_sync(self.model):
                part_sums = self.loss.sum(self.model(part), part)
                # Processes' gradients are averaged, but it is their sum that belongs to the whole batch.
                self.accelerator.backward(self.loss.combine(part_sums, counts) * self.world)
                sums += part_sums.detach()
        loss = self.loss.combine(self._add_up(sums), counts).item()
        if not math.isfinite(loss):
            raise TrainingError(self._explain_loss(loss, batch))
        self.state.seen = [sum(both) for both in zip(self.state.seen, seen, strict=True)]
        return self._move_weights(loss)

    def _move_weights(self, loss: float) -> float:
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.train.clip)
        lr = self.schedule.rates[-1]
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        if self.ema:
            self.ema.update(self.raw_model, step=self._count_steps() + 1)
        step = {"kind": "step", "epoch": self.state.epoch, "step": self.state.step}
        self._log_metrics({**step, "loss": loss, "grad_norm": float(norm), "lr": lr})
        return loss

    def _add_up(self, values: Tensor) -> Tensor:
        """Return the sum over processes; they also agree here whether one of them was told to stop."""
        told = values.new_tensor([float(self.told)])
        both = self.accelerator.reduce(torch.cat([values, told]), reduction="sum")
        self.stopping = bool(both[-1] > 0)
        return both[:-1]

    def _explain_loss(self, loss: float, batch: dict[str, Any]) -> str:
        """Say which videos the model can no longer score, or, if it still scores all, which were in the batch."""
        with torch.no_grad():
            wrong = ~self.raw_model(batch)["logits"].isfinite().all(dim=1)
        names = [name for name, is_wrong in zip(batch["video_id"], wrong.tolist(), strict=True) if is_wrong]
        which = f"from {', '.join(names)}" if names else f"on the videos {', '.join(batch['video_id'])}"
        return (
            f"the loss is {loss} in epoch {self.state.epoch}, step {self.state.step}, {which}; "
            "lower train.lr or train.clip, or look at these videos"
        )

    def _validate(self) -> dict[str, float]:
        """Return loss, AUC, average precision and equal error rate over windows of the validation videos."""
        model = self.ema.module if self.ema else self.raw_model
        for buffer in model.buffers():  # BatchNorm's statistics differ between processes; the first one's are kept
            broadcast(buffer)
        sums = counts = torch.zeros(len(self.val_loss.term_weights), device=self.accelerator.device)
        rows: list[tuple[str, int, float]] = []
        for outputs, batch in predict(model, self.val_loader):
            sums, counts = sums + self.val_loss.sum(outputs, batch), counts + self.val_loss.count(batch)
            labels, scores = self.val_loss.list_labels(batch)["label"], outputs["logits"].softmax(dim=1)[:, 1]
            rows += zip(batch["video_id"], labels.tolist(), scores.tolist(), strict=True)
        loss = float(self.val_loss.combine(self._add_up(sums), self._add_up(counts)))
        windows = pd.DataFrame(gather_object(rows), columns=["video_id", "label", "score"])
        windows = windows[windows["label"] != UNKNOWN]
        if not (math.isfinite(loss) and np.isfinite(windows["score"]).all()):
            wrong = ", ".join(windows.loc[~np.isfinite(windows["score"]), "video_id"].unique()[:NAMED])
            raise TrainingError(
                f"the model's scores on validation are no numbers any more{wrong and f', first of {wrong}'}; "
                "lower train.lr or train.clip, or look at these videos"
            )
        labels, scores = windows["label"], windows["score"]
        if labels.nunique() < 2:
            raise TrainingError(f"of {len(labels)} validation windows that could be read, all have one label")
        return {
            "val_loss": loss,
            "val_auc": float(roc_auc_score(labels, scores)),
            "val_ap": float(average_precision_score(labels, scores)),
            "val_eer": compute_eer(labels, scores),
        }

    def _keep_or_stop(self, record: dict[str, Any]) -> None:
        """Keep the model if validation was never better, and find out whether it is time to end."""
        state, train = self.state, self.settings.train
        value = record[f"val_{train.monitor}"] * (-1 if train.monitor in SMALLER_IS_BETTER else 1)
        score = (value, -record["val_loss"])  # two epochs with the same AUC are told apart by the loss
        if state.best is None or score > state.best:
            state.best, state.best_epoch = score, state.epoch
            if self.rank == 0:
                kept = self.ema.module if self.ema else self.raw_model
                facts = {"epoch": state.epoch, "prior": state.prior, "taught": self.taught}
                facts["synthetic"] = bool((self.manifest["source"] == "synthetic").all())
                validation = {name: record[name] for name in record if name.startswith("val_")}
                save_model(kept, self.settings, self.run.checkpoint, **facts, **validation)
        self.schedule.end_epoch(value)
        waited = state.epoch - state.best_epoch
        state.finished = state.epoch == train.epochs or waited >= train.patience
        log.info(
            "epoch %d/%d  loss %.3f  val loss %.3f  val AUC %.3f%s",
            *(state.epoch, train.epochs, record["train_loss"], record["val_loss"], record["val_auc"]),
            "  best" if waited == 0 else "",
        )

    def _log_metrics(self, record: dict[str, Any]) -> None:
        if self.rank == 0:
            self.metrics_file.parent.mkdir(parents=True, exist_ok=True)
            with self.metrics_file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        values = {name: value for name, value in record.items() if name not in ("kind", "step")}
        self.accelerator.log(values, step=self._count_steps())

    def _count_steps(self) -> int:
        """Return how many steps were taken since the beginning."""
        return (self.state.epoch - 1) * self.steps + self.state.step

    def _start_trackers(self) -> None:
        if self.settings.logging.trackers:
            config = {name: str(value) for name, value in flatten_settings(self.settings).items()}
            self.accelerator.init_trackers("dfmm", config, name_tracked_run(self.settings, self.run))

    def _save_if_due(self) -> None:
        every = self.settings.train.checkpoint_every
        if self.stopping or (every and self._count_steps() % every == 0):
            self._save()
        self._end_if_stopped()

    def _end_if_stopped(self) -> None:
        if self.stopping and not self.state.finished:
            at = f"epoch {self.state.epoch} after step {self.state.step}"
            raise KeyboardInterrupt(f"SIGTERM: stopped in {at}; the same command goes on from there")

    def _save(self) -> None:
        if self.rank == 0:
            weights = {name: part.state_dict() for name, part in self._list_parts().items()}
            train = self.settings.train
            facts = {"threads": torch.get_num_threads(), "batch_size": train.batch_size, "epochs": train.epochs}
            checkpoint = {**asdict(self.state), **facts, **weights}
            save_checkpoint(checkpoint, self.folder, keep=self.settings.train.keep_checkpoints)

    def _restore(self, checkpoint: dict[str, Any]) -> State:
        """Put all parts where a checkpoint left them, and return where the training stood."""
        state, train = State.read(checkpoint), self.settings.train
        state.finished = self._is_finished(state)
        for name, part in self._list_parts().items():
            if name != "schedule":
                part.load_state_dict(checkpoint[name])
        same = all(checkpoint.get(name, getattr(train, name)) == getattr(train, name) for name in PLAN)
        taken = (state.epoch - 1) * self.steps + state.step
        self.schedule.load_state_dict(checkpoint["schedule"], step=None if same else taken)
        log.info("going on in epoch %d after step %d", state.epoch, state.step)
        return state

    def _list_parts(self) -> dict[str, Any]:
        """Return all that has weights, or numbers like them, of its own."""
        parts = {
            "model": self.raw_model,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "ema": self.ema and self.ema.module,
            "scaler": self.accelerator.scaler,
        }
        return {name: part for name, part in parts.items() if part is not None}

    @contextmanager
    def _catch_termination(self) -> Iterator[None]:
        """Turn SIGTERM into a flag that the loop sees between two steps; before the first one, end at once."""
        if threading.current_thread() is not threading.main_thread():  # signals reach only that one
            yield
            return

        def stop(number: int, frame: FrameType | None) -> None:
            if not self.started:
                raise KeyboardInterrupt("SIGTERM: stopped before the first step")
            self.told = True

        before = signal.signal(signal.SIGTERM, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)


def split_batch(batch: Mapping[str, Any], parts: int) -> list[dict[str, Any]]:
    """Cut a batch `[B, …]` into so many of equal length."""
    size = -(-len(batch["video_id"]) // parts)
    starts = range(0, len(batch["video_id"]), size)
    return [{name: value[start : start + size] for name, value in batch.items()} for start in starts]


def require_checkpoint(run: Run, settings: Settings, manifest: pd.DataFrame, *, progress: bool = True) -> Path:
    """Return the run's best model; the quick run trains one first if it has none.

    Raises:
        RunError: any other run has none; the message names the notebook to run.
    """
    if not run.checkpoint.is_file():
        if not run.is_quick:
            raise RunError(f"{run.name} has no trained model yet; run 03_train for it first (dfmm run 03_train …)")
        log.info("the quick run has no model yet: training one")
        with FileLock(run.path / "locks" / "train-once.lock"):  # notebooks side by side train it once
            Trainer(settings, manifest, run, progress=progress).fit()
    return run.checkpoint


@torch.no_grad()
def predict(model: MultimodalModel, loader: DataLoader) -> Iterator[tuple[dict[str, Tensor], dict[str, Any]]]:
    """Yield the model's outputs for every batch, and the batch, in evaluation mode on the model's device."""
    model.eval()
    device = next(model.parameters()).device
    for batch in loader:
        batch = withhold_streams(send_to_device(batch, device), model.streams)  # what was not used is not scored either
        yield model(batch), batch


def check_labels(dataset: MultimodalDataset, split: str) -> None:
    """Raise a `TrainingError`, which says what is missing and why, unless a split's windows have both labels."""
    labels = dataset.find_labels()
    if {0, 1} <= labels:
        return
    what = "windows" if dataset.manifest["label"].nunique() == 2 else "videos"
    have = f"only real {what}" if 0 in labels else f"only fake {what}" if 1 in labels else f"no {what} with a label"
    why = "; the epoch to keep is chosen there" if split == "val" else ""
    cure = "" if 1 in labels else f"; {_explain_no_fakes(dataset)}"
    raise TrainingError(f"the split {split!r} has {have} that can be read; it needs both labels{why}{cure}")


def _explain_no_fakes(dataset: MultimodalDataset) -> str:
    """Say why a dataset has none, and what would change that."""
    methods, windows = ", ".join(dataset.settings.forge.methods), dataset.windows
    if len(dataset.twins):
        return (
            f"of each of {len(dataset.twins)} reals a forged twin was to be made, but in none of their windows "
            f"({windows} each) is what {methods} needs; set other forge.methods, or more train.val_windows"
        )
    if (dataset.manifest["label"] == 1).any():
        return (
            f"none of its fakes is forged enough (data.forged_share) where its windows are ({windows} each), and shown "
            "or sounded there; set more train.val_windows"
        )
    if dataset.forges:
        return f"and none of its reals has what {methods} needs; set other forge.methods"
    return "forge.share makes fakes of reals"


def read_history(run: Run) -> pd.DataFrame:
    """Return a run's epochs, a row each, from its `metrics.jsonl`."""
    epochs = [record for record in read_lines(run / "metrics.jsonl") if record["kind"] == "epoch"]
    return pd.DataFrame(epochs).drop(columns="kind", errors="ignore")


def keep_lines(file: Path, epoch: int, step: int) -> None:
    """Drop the lines from this step of this epoch on, which a resumed run writes again."""
    if not file.is_file():
        return
    kept = [
        json.dumps(record) + "\n"
        for record in read_lines(file)
        if (record["epoch"], record.get("step", math.inf)) < (epoch, step)
    ]
    write_whole("".join(kept), file)
