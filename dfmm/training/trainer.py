"""The training loop: one pass after another over the training split, the best one kept by validation."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate.utils import broadcast, gather_object, set_seed
from filelock import FileLock
from torch import Tensor

from dfmm.bars import show_progress
from dfmm.dataset import (
    UNKNOWN,
    check_manifest,
    find_taught,
    make_evaluation_loader,
    make_training_loader,
)
from dfmm.manifest import STREAM_LABELS, fingerprint_manifest, is_synthetic
from dfmm.memory import keep_memory
from dfmm.model import PluginModel, make_model, move_batch, predict, save_model, withhold_streams
from dfmm.model.zoo import ModelEmaV3
from dfmm.people import assign_people
from dfmm.runs import Run, RunError, Stopped
from dfmm.settings import Settings, flatten_settings
from dfmm.training.checkpoints import State, drop_later_checkpoints, load_checkpoint, load_start, save_checkpoint
from dfmm.training.concerns import SMALLER_IS_BETTER
from dfmm.training.history import keep_lines, read_history
from dfmm.training.launch import launch_training
from dfmm.training.losses import TERMS, Loss
from dfmm.training.machine import (
    TrainingError,
    catch_termination,
    compile_backbone,
    derive_seed,
    explain_failures,
    make_accelerator,
    name_tracked_run,
    share_cores,
)
from dfmm.training.needs import check_data, check_labels
from dfmm.training.optimizer import Schedule, make_optimizer
from dfmm.training.synchrony import fit_run_synchrony
from dfmm.training.validation import count_videos, explain_loss, explain_numbers, measure_windows

PLANNED = ("epochs", "patience", "monitor")  # and steps an epoch: what one who watches must know
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
        self.stepping = self.told = False
        self.stopping = ""  # who wants it to end, once all processes have agreed

    def fit(self) -> pd.DataFrame:
        """Train to the end and return the history: a row an epoch.

        Raises:
            TrainingError: no or only one label to learn from, a loss that is no number any more, memory or disc full.
        """
        self.run.refuse_imported()
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
        stage = self._record_stage() if self.rank == 0 else nullcontext()
        with stage, explain_failures(self.run), catch_termination(self._end), keep_memory():
            check_data(self.manifest, self.settings)
            self._make_model(checkpoint)
            if isinstance(self.raw_model, PluginModel) and not self.raw_model.learns:
                self._keep_untrained()
                return read_history(self.run)
            self._prepare(checkpoint)
            self.stepping = True
            try:
                while not self.state.finished:
                    self._run_epoch()
            finally:
                self.stepping = False
                self.accelerator.end_training()
            if self.rank == 0:
                fit_run_synchrony(self.manifest, self.settings, self.run, progress=self.progress)
        return read_history(self.run)

    def _end(self) -> None:
        """Note that SIGTERM came, for the loop to see between two steps; before the first and after the last, end."""
        if not self.stepping:
            raise KeyboardInterrupt("SIGTERM: stopped, but in no step; the same command goes on from there")
        self.told = True

    @contextmanager
    def _record_stage(self) -> Iterator[None]:
        """Record the training in `run.json`; a wish to stop that is older, or comes too late, is forgotten."""
        with self.run.stage("train"):
            self.run.forget_stop()
            try:
                yield
            finally:
                self.run.forget_stop()

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
        """Say that there is nothing to train, and why, and that what other settings called outdated is not.

        One that was cut off behind its last step learns what is learnt there.
        """
        early = state.epoch - 1 < self.settings.train.epochs
        why = f": none of the last {self.settings.train.patience} epochs was better (train.patience)" if early else ""
        log.info("training is done already in %s%s", self.run.name, why)
        if self.rank == 0 and self.run.status("train") == "outdated":
            self.run.update("train", status="done")
        elif self.rank == 0 and self.run.status("train") in ("crashed", "interrupted", "failed"):
            with self._record_stage(), explain_failures(self.run):
                fit_run_synchrony(self.manifest, self.settings, self.run, progress=self.progress)

    def _make_model(self, checkpoint: dict[str, Any] | None) -> None:
        settings, device = self.settings, self.accelerator.device
        set_seed(settings.seed)
        if device.type == "cpu":
            share_cores(settings.data.workers, self.world, threads=checkpoint["threads"] if checkpoint else None)
        start = settings.train.start_from
        self.raw_model = make_model(settings, pretrained=False if start else None).to(device)

    def _keep_untrained(self) -> None:
        """Keep a detector that has nothing to train as it is: what is then evaluated is that."""
        log.info("%s has no parameters to train: it is only evaluated", self.settings.model.detector)
        prior = float(self.manifest.loc[self.manifest["split"] == "train", "label"].mean())
        if self.rank == 0:
            self.run.describe(data_fingerprint=fingerprint_manifest(self.manifest))
            facts = {"epoch": 0, "prior": prior, "taught": [], "synthetic": is_synthetic(self.manifest)}
            save_model(self.raw_model, self.settings, self.run.checkpoint, **facts)

    def _prepare(self, checkpoint: dict[str, Any] | None) -> None:
        """Make all that a training needs, and put it where a checkpoint left it."""
        settings, start = self.settings, self.settings.train.start_from
        started = load_start(self.raw_model, settings) if start and not checkpoint else None
        self._open_data()  # after the model: whether there are its weights is known sooner than all videos are read
        self.ema = ModelEmaV3(self.raw_model, settings.train.ema, use_warmup=True) if settings.train.ema else None
        optimizer = make_optimizer(self.raw_model, settings.train)
        self.schedule = Schedule(optimizer, settings.train, settings.train.epochs * self.steps)
        if settings.train.compile:
            compile_backbone(self.raw_model, settings.video.size)
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
        self.people = assign_people(pd.concat([self.manifest, self.val_loader.dataset.twins], ignore_index=True))
        self.steps = len(self.train_loader.batch_sampler)
        balance, grouped = self.train_loader.batch_sampler.balance, self.settings.model.aggregation == "attention"
        drawn = self.train_loader.dataset.estimate_prior(balance and balance.shares)
        self.loss = Loss(self.settings, drawn, windows=self.settings.train.windows if grouped else 0)
        self.val_loss = Loss(self.settings, drawn)

    def _describe(self) -> None:
        loaders = {"train": self.train_loader, "val": self.val_loader}
        read = {name: loader.dataset.manifest["video_id"] for name, loader in loaders.items()}
        self.run.describe(
            splits={name: count_videos(self.people[self.people["video_id"].isin(read[name])]) for name in read},
            plan={"steps": self.steps, **{name: getattr(self.settings.train, name) for name in PLANNED}},
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
        self._take_steps(show_progress(self.train_loader, title, unit="batch", total=left, show=self.progress))
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

    def _take_steps(self, batches: Iterable[dict[str, Any]]) -> None:
        """Take a step with each batch; the next one is read while a GPU is at it, unless somebody wants to stop."""
        waiting = None
        for batch in batches:
            if waiting:
                self._end_step(*waiting)
            waiting = self._take_step(batch), batch["video_id"]
            if self.told or self.accelerator.device.type == "cpu":
                waiting = self._end_step(*waiting)
        if waiting:
            self._end_step(*waiting)

    def _end_step(self, numbers: Tensor, names: Sequence[str]) -> None:
        self.state.losses.append(self._note_step(numbers, names))
        self.state.step += 1
        self._save_if_due()

    def _take_step(self, batch: dict[str, Any]) -> Tensor:
        """Move the weights by one batch, in as many forward passes as the settings say.

        Nothing in here waits for a GPU: what is to be known of the step is returned where it was computed, to be read
        once by `_note_step`: each row's answer is a number or not `[B]`, then sums, who wants to stop, counts, norm.
        """
        torch.manual_seed(derive_seed(self.settings.seed, self.state.epoch, self.state.step, self.rank))
        self.model.train()
        batch = withhold_streams(batch, self.settings.model.streams)
        counts = self._add_up(torch.cat([self.loss.count_labels(batch), self.loss.count(batch)]))
        parts = split_batch(batch, self.settings.train.accumulate)
        sums, finite = torch.zeros_like(counts[2:]), []
        for number, part in enumerate(parts, start=1):
            part = move_batch(part, self.accelerator.device)
            # Gradients cross processes once a step, with the last part.
            with nullcontext() if number == len(parts) else self.accelerator.no_sync(self.model):
                outputs = self.model(part)
                part_sums = self.loss.sum(outputs, part)
                # Processes' gradients are averaged, but it is their sum that belongs to the whole batch.
                self.accelerator.backward(self.loss.combine(part_sums, counts[2:]) * self.world)
                sums += part_sums.detach()
                finite.append(outputs["logits"].isfinite().all(dim=1))
        added = self._add_up(torch.cat([sums, self._wish().to(sums, non_blocking=True)]))
        return torch.cat([*finite, added, counts, self._move_weights()[None]])

    def _move_weights(self) -> Tensor:
        """Move the weights along their gradients, and return the norm of these."""
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.train.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema:
            self.ema.update(self.raw_model, step=self._count_steps() + 1)
        return norm

    def _note_step(self, numbers: Tensor, names: Sequence[str]) -> float:
        """Read what a step found, write it down, and return its loss."""
        widths = [len(names), len(TERMS), 2, 2, len(TERMS), 1]
        finite, sums, told, seen, counts, norm = numbers.cpu().split(widths)
        loss, at = self.loss.combine(sums, counts).item(), f"epoch {self.state.epoch}, step {self.state.step}"
        if not math.isfinite(loss):
            raise TrainingError(explain_loss(loss, at, names, finite.tolist()))
        if not math.isfinite(norm) and self.accelerator.scaler is None:  # else it has left the weights as they were
            raise TrainingError(f"the gradient is no number in {at}; lower train.lr, or look at {', '.join(names)}")
        self._agree(told)
        self.state.seen = [sum(both) for both in zip(self.state.seen, seen.tolist(), strict=True)]
        terms = {f"loss_{name}": mean for name, mean in self.loss.describe(sums, counts).items()}
        step = {"kind": "step", "epoch": self.state.epoch, "step": self.state.step}
        self._log_metrics({**step, "loss": loss, **terms, "grad_norm": norm.item(), "lr": self.schedule.rates[-1]})
        self.schedule.step()
        return loss

    def _wish(self) -> Tensor:
        """Was this process told to stop, and was the run asked to, `[2]`? Processes add it up, so that all agree."""
        asked = self.rank == 0 and self.run.asked_to_stop
        return torch.tensor([float(self.told), float(asked)])

    def _agree(self, wishes: Tensor) -> None:
        told, asked = wishes.tolist()
        self.stopping = "SIGTERM" if told else "asked" if asked else ""

    def _add_up(self, values: Tensor) -> Tensor:
        """Return the sum over processes, on the device."""
        return self.accelerator.reduce(values.to(self.accelerator.device, non_blocking=True), reduction="sum")

    def _validate(self) -> dict[str, float]:
        """Return each loss, AUC with its interval, AP and EER over windows of the validation videos."""
        model = self.ema.module if self.ema else self.raw_model
        for buffer in model.buffers():  # BatchNorm's statistics differ between processes; the first one's are kept
            broadcast(buffer)
        sums = counts = torch.zeros(len(self.val_loss.term_weights), device=self.accelerator.device)
        rows: list[tuple[str, int, float]] = []
        for outputs, batch in predict(model, self.val_loader):
            sums, counts = sums + self.val_loss.sum(outputs, batch), counts + self.val_loss.count(batch)
            labels, scores = self.val_loss.list_labels(batch)["label"], outputs["logits"].softmax(dim=1)[:, 1]
            rows += zip(batch["video_id"], labels.tolist(), scores.tolist(), strict=True)
        sums, counts = self._add_up(sums), self._add_up(counts)
        self._agree(self._add_up(self._wish()))
        loss, terms = float(self.val_loss.combine(sums, counts)), self.val_loss.describe(sums, counts)
        windows = pd.DataFrame(gather_object(rows), columns=["video_id", "label", "score"])
        windows = windows[windows["label"] != UNKNOWN]
        numbers = measure_windows(windows, self.people.set_index("video_id")["identities"])
        if not math.isfinite(loss):
            raise TrainingError(explain_numbers(windows["video_id"].iloc[:0]))
        return {"val_loss": loss, **numbers, **{f"val_loss_{name}": mean for name, mean in terms.items()}}

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
                facts["synthetic"] = is_synthetic(self.manifest)
                validation = {name: record[name] for name in record if re.match("val_(?!loss_)", name)}
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
            if self.stopping == "asked":
                raise Stopped(f"stopped in {at}, as asked; the same again goes on from there")
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
    if run.imported.is_file():  # a run that there is nothing to train of
        return run.imported
    if not run.checkpoint.is_file():
        if not run.is_quick:
            raise RunError(f"{run.name} has no trained model yet; run 03_train for it first (dfmm run 03_train …)")
        log.info("the quick run has no model yet: training one")
        with FileLock(run.path / "locks" / "train-once.lock"):  # notebooks side by side train it once
            Trainer(settings, manifest, run, progress=progress).fit()
    return run.checkpoint
