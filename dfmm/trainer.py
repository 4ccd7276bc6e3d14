"""The training loop: one pass after another over the training split, the best one kept by validation."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from filelock import FileLock
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from dfmm.data.dataset import UNKNOWN, make_evaluation_loader, make_training_loader
from dfmm.manifest import STREAM_LABELS, fingerprint_manifest
from dfmm.model import MultimodalModel, save_model, withhold_streams
from dfmm.runs import Run, RunError, read_lines, show_progress
from dfmm.settings import Settings

log = logging.getLogger("dfmm")


class TrainingError(RuntimeError):
    """Training that cannot start or go on; the message says why, and what to change."""


class Trainer:
    """Trains a `MultimodalModel` on the manifest's training split and keeps what it learns in a run's folder.

    Writes `metrics.jsonl` (a line a step, a line an epoch), `checkpoints/last.pt` after each epoch and
    `checkpoints/best.safetensors` where validation was best. Called again on the same run, it goes on after the
    last whole epoch, and comes to the same weights as if it had never stopped.
    """

    def __init__(self, settings: Settings, manifest: pd.DataFrame, run: Run, *, progress: bool = True):
        self.settings, self.manifest, self.run, self.progress = settings, manifest, run, progress
        self.accelerator = Accelerator(mixed_precision=settings.train.mixed_precision)
        self.metrics_file = run / "metrics.jsonl"
        self.last_file = run / "checkpoints" / "last.pt"

    def fit(self) -> pd.DataFrame:
        """Train to the end and return the history: a row an epoch.

        Raises:
            TrainingError: no or only one label to learn from, or the loss is no number any more.
        """
        if self._read_last().get("finished") and self.run.checkpoint.is_file():
            log.info("training is done already in %s", self.run.name)
            return read_history(self.run)
        with self.run.stage("train"):
            self._prepare()
            self.run.describe(
                data_fingerprint=fingerprint_manifest(self.manifest),
                threads=torch.get_num_threads(),
                parameters=sum(parameter.numel() for parameter in self.model.parameters()),
            )
            for epoch in range(self._restore() + 1, self.settings.train.epochs + 1):
                self._run_epoch(epoch)
                if self.finished:
                    break
        return read_history(self.run)

    def _prepare(self) -> None:
        settings = self.settings
        set_seed(settings.seed)
        if self.accelerator.device.type == "cpu":
            share_cores(settings.data.workers)
        train = make_training_loader(self.manifest, settings, progress=self.progress)
        val = make_evaluation_loader(self.manifest, "val", settings, windows=1, progress=self.progress)
        for split, loader in (("train", train), ("val", val)):
            check_labels(loader.dataset.manifest["label"], split)
        self.sampler = train.sampler
        self.prior = float(train.dataset.manifest["label"].mean())
        self.raw_model = MultimodalModel(settings)
        optimizer = AdamW(group_parameters(self.raw_model, settings.train.weight_decay), lr=settings.train.lr)
        scheduler = LambdaLR(optimizer, cosine_with_warmup(settings.train.epochs * len(train), settings.train.warmup))
        self.model, self.optimizer, self.train_loader, self.val_loader, self.scheduler = self.accelerator.prepare(
            self.raw_model, optimizer, train, val, scheduler
        )
        self.best: tuple[float, float] | None = None
        self.best_epoch, self.finished = 0, False

    def _run_epoch(self, epoch: int) -> None:
        """Train one epoch, validate, keep what is best, and save where to go on from."""
        # Seeded anew each epoch: dropout then depends on (seed, epoch) alone, and a resumed run draws the same.
        set_seed(self.settings.seed * 1_000_003 + epoch)
        self.sampler.epoch = epoch
        losses = [self._take_step(batch, epoch, step) for step, batch in enumerate(self._show_batches(epoch))]
        record = {
            "kind": "epoch",
            "epoch": epoch,
            "train_loss": sum(losses) / len(losses),
            "lr": self.scheduler.get_last_lr()[0],
            **self._validate(),
        }
        self._log_metrics(record)
        # Two epochs with the same AUC are told apart by the loss.
        score = (-record["val_loss"], 0.0) if self.settings.train.monitor == "loss" else (
            record["val_auc"], -record["val_loss"]
        )  # fmt: skip
        if self.best is None or score > self.best:
            self.best, self.best_epoch = score, epoch
            facts = {"epoch": epoch, "prior": self.prior, "val_auc": record["val_auc"], "val_loss": record["val_loss"]}
            save_model(self.raw_model, self.settings, self.run.checkpoint, **facts)
        waited = epoch - self.best_epoch
        self.finished = epoch == self.settings.train.epochs or waited >= self.settings.train.patience
        self._save_last(epoch)
        log.info(
            "epoch %d/%d  loss %.3f  val loss %.3f  val AUC %.3f%s",
            *(epoch, self.settings.train.epochs, record["train_loss"], record["val_loss"], record["val_auc"]),
            "  best" if waited == 0 else "",
        )

    def _show_batches(self, epoch: int) -> Iterator[dict[str, Any]]:
        what = f"epoch {epoch}/{self.settings.train.epochs}"
        return show_progress(self.train_loader, what, unit="batch", show=self.progress)

    def _take_step(self, batch: dict[str, Any], epoch: int, step: int) -> float:
        self.model.train()
        batch = withhold_streams(batch, self.settings.model.streams)
        with self.accelerator.autocast():
            loss = compute_loss(self.model(batch), batch, stream_loss=self.settings.train.stream_loss)
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value} in epoch {epoch}, step {step}, on the videos {', '.join(batch['video_id'])}; "
                "lower train.lr or train.clip, or look at these videos"
            )
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.train.clip)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        self._log_metrics({"kind": "step", "epoch": epoch, "step": step, "loss": value, "grad_norm": float(norm)})
        return value

    def _validate(self) -> dict[str, float]:
        """Return loss and AUC over one window of each validation video."""
        losses, labels, scores = [], [], []
        for outputs, batch in predict(self.model, self.val_loader):
            losses.append(float(compute_loss(outputs, batch, stream_loss=self.settings.train.stream_loss)))
            known = batch["label"] != UNKNOWN
            labels += batch["label"][known].tolist()
            scores += outputs["logits"].softmax(dim=1)[known, 1].tolist()
        if not all(map(math.isfinite, [*losses, *scores])):
            raise TrainingError(
                "the model's scores on validation are no numbers any more; lower train.lr or train.clip"
            )
        return {"val_loss": sum(losses) / len(losses), "val_auc": float(roc_auc_score(labels, scores))}

    def _log_metrics(self, record: dict[str, Any]) -> None:
        self.metrics_file.parent.mkdir(parents=True, exist_ok=True)
        with self.metrics_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def _save_last(self, epoch: int) -> None:
        state = {
            "epoch": epoch,
            "finished": self.finished,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "model": self.raw_model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
        }
        self.last_file.parent.mkdir(parents=True, exist_ok=True)
        partial = self.last_file.with_name(f".last.partial{os.getpid()}.pt")
        self.accelerator.save(state, partial)
        partial.replace(self.last_file)

    def _read_last(self) -> dict[str, Any]:
        if not self.last_file.is_file():
            return {}
        return torch.load(self.last_file, map_location="cpu", weights_only=True)

    def _restore(self) -> int:
        """Take up the last whole epoch, if any, and return its number; lines of a broken-off one are dropped."""
        state = self._read_last()
        epoch = state.get("epoch", 0)
        keep_epochs(self.metrics_file, epoch)
        if not state:
            return 0
        log.info("going on after epoch %d", epoch)
        self.raw_model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.best, self.best_epoch = tuple(state["best"]), state["best_epoch"]
        return epoch


def share_cores(workers: int) -> None:
    """Leave the workers that decode their cores: threads that wait for a core hold up all the others."""
    torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) - workers)))


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


def compute_loss(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor], *, stream_loss: float) -> Tensor:
    """Return the joint cross-entropy plus `stream_loss` times each stream's own, where its label is known.

    A stream that is absent from a window teaches nothing: its label is left out.
    """
    there = {
        "video_fake": batch["frame_mask"].any(dim=1),
        "audio_fake": batch["sound_mask"].any(dim=1),
    }
    there["in_sync"] = there["video_fake"] & there["audio_fake"]
    logits, labels = outputs["logits"], batch["label"]
    labels = labels.where(there["video_fake"] | there["audio_fake"], torch.full_like(labels, UNKNOWN))
    total = functional.cross_entropy(logits, labels, ignore_index=UNKNOWN, reduction="sum")
    loss = total / (labels != UNKNOWN).sum().clamp(min=1)
    for name in STREAM_LABELS:
        known = (batch[name] != UNKNOWN) & there[name]
        each = functional.binary_cross_entropy_with_logits(outputs[name], batch[name].float(), reduction="none")
        loss = loss + stream_loss * (each * known).sum() / known.sum().clamp(min=1)
    return loss


@torch.no_grad()
def predict(model: nn.Module, loader: DataLoader) -> Iterator[tuple[dict[str, Tensor], dict[str, Any]]]:
    """Yield the model's outputs for every batch, and the batch, in evaluation mode on the model's device."""
    model.eval()
    device = next(model.parameters()).device
    for batch in loader:
        batch = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
        batch = withhold_streams(batch, model.streams)  # what was not used is not scored either
        yield model(batch), batch


def group_parameters(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return optimizer groups in which only weights decay, never biases, norms or single vectors."""
    weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return [{"params": weights, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def cosine_with_warmup(steps: int, warmup: float) -> Any:
    """Return step → share of the peak rate: a linear climb, then half a cosine down to zero."""
    climb = max(1, round(steps * warmup))

    def share(step: int) -> float:
        if step < climb:
            return (step + 1) / climb
        return 0.5 * (1 + math.cos(math.pi * (step - climb) / max(1, steps - climb)))

    return share


def check_labels(labels: pd.Series, split: str) -> None:
    """Raise a `TrainingError` unless both labels are there."""
    if labels.nunique() < 2:
        have = {0: "only real videos", 1: "only fakes"}.get(labels.iloc[0] if len(labels) else None, "no video")
        raise TrainingError(f"the split {split!r} has {have} that can be read; it needs both labels")


def read_history(run: Run) -> pd.DataFrame:
    """Return a run's epochs, a row each, from its `metrics.jsonl`."""
    epochs = [record for record in read_lines(run / "metrics.jsonl") if record["kind"] == "epoch"]
    return pd.DataFrame(epochs).drop(columns="kind", errors="ignore")


def keep_epochs(file: Path, last: int) -> None:
    """Drop the lines of later epochs, which a resumed run writes again."""
    if not file.is_file():
        return
    kept = [json.dumps(record) + "\n" for record in read_lines(file) if record["epoch"] <= last]
    partial = file.with_name(f".{file.name}.partial{os.getpid()}")
    partial.write_text("".join(kept), encoding="utf-8")
    partial.replace(file)
