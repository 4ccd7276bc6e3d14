"""What a batch teaches: the loss of the label, of each stream, and of a video over its windows."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from dfmm.dataset import UNKNOWN
from dfmm.manifest import STREAM_LABELS
from dfmm.model.aggregation import pool_windows
from dfmm.settings import Settings

TERMS = ("label", *STREAM_LABELS, "video_label")  # the last one only where windows are weighed by attention
RAREST = 1e-3  # share of a label by which it is weighed where it was not met among the windows looked at
FOCUS = 2.0  # γ of the focal loss (Lin et al., 2017, section 3.2)


class Loss:
    """A sum over terms, each a mean over the labels that are known.

    Sums and counts are kept apart, so that a step's windows can be spread over forward passes and processes: the
    counts of the whole step come first, each part then adds its share, and the gradient is that of one large batch.

    Args:
        settings: of the run.
        prior: share of fakes among the windows that are drawn, for `train.class_weights`.
        windows: so many rows in turn are of one video, whose label counts too (0: rows in any order).
    """

    def __init__(self, settings: Settings, prior: float, *, windows: int = 0):
        self.train, self.windows = settings.train, windows
        prior = min(max(prior, RAREST), 1 - RAREST)
        self.class_weights = (0.5 / (1 - prior), 0.5 / prior) if settings.train.class_weights else (1.0, 1.0)
        stream_loss = 0.0 if settings.model.detector else settings.train.stream_loss
        self.term_weights = torch.tensor([1.0, *[stream_loss] * len(STREAM_LABELS), float(self.windows > 0)])

    def count(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return how much each term's labels weigh in a batch, `[terms]`."""
        weights = [self._weigh(name, label).sum() for name, label in self.list_labels(batch).items()]
        return torch.stack(weights)

    def count_labels(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return how much the reals and the fakes of a batch weigh in the loss of the joint label, `[2]`."""
        label = self.list_labels(batch)["label"]
        weights = self._weigh("label", label)
        return torch.stack([(weights * (label == kind)).sum() for kind in (0, 1)])

    def sum(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Return each term's weighted sum over a batch, `[terms]`; what is unknown or absent adds nothing."""
        logits = self._list_logits(outputs, batch)
        sums = [
            (self._measure(logits[name], label) * self._weigh(name, label)).sum()
            for name, label in self.list_labels(batch).items()
        ]
        return torch.stack(sums)

    def combine(self, sums: Tensor, counts: Tensor) -> Tensor:
        """Return the loss: each term's sum over its count, weighted; a term without a known label is left out."""
        return (self.term_weights.to(sums, non_blocking=True) * sums / counts.clamp(min=1e-6)).sum()

    def describe(self, sums: Tensor, counts: Tensor) -> dict[str, float]:
        """Return each term's mean by name, unweighted; those without a known label are left out."""
        pairs = zip(TERMS, sums.tolist(), counts.tolist(), strict=True)
        return {name: total / count for name, total, count in pairs if count > 0}

    def __call__(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of one batch by itself."""
        return self.combine(self.sum(outputs, batch), self.count(batch))

    def list_labels(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return each term's labels, `UNKNOWN` also where the stream that would show them is absent."""
        face, sound = batch["frame_mask"].any(dim=1), batch["sound_mask"].any(dim=1)
        there = {"label": face | sound, "video_fake": face, "audio_fake": sound, "in_sync": face & sound}
        labels = {name: batch[name].masked_fill(~seen, UNKNOWN) for name, seen in there.items()}
        labels["video_label"] = labels["label"][:0]
        if self.windows:  # a video is as fake as its most fake window, and unknown with one that may be
            windows = labels["label"].unflatten(0, (-1, self.windows))
            doubtful = (batch["label"].eq(UNKNOWN) & there["label"]).unflatten(0, (-1, self.windows)).any(dim=1)
            most = windows.amax(dim=1)
            labels["video_label"] = most.masked_fill(doubtful & (most == 0), UNKNOWN)
        return labels

    def _list_logits(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return each term's logit of `1`: of two classes, the difference of theirs."""
        joint = outputs["logits"]
        logits = {"label": joint[:, 1] - joint[:, 0], **{name: outputs[name] for name in STREAM_LABELS}}
        if self.windows:
            there = batch["frame_mask"].any(dim=1) | batch["sound_mask"].any(dim=1)
            pooled = pool_windows(joint, outputs["weight"], there, self.windows)
            logits["video_label"] = pooled[:, 1] - pooled[:, 0]
        else:
            logits["video_label"] = joint[:0, 0]
        return logits

    def _weigh(self, name: str, labels: Tensor) -> Tensor:
        real, fake = self.class_weights if "label" in name else (1.0, 1.0)
        weights = torch.where(labels == 1, fake, real)
        return weights.masked_fill(labels == UNKNOWN, 0.0)

    def _measure(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return each row's loss; that of an unknown label is a number without meaning."""
        labels = labels.clamp(min=0).to(logits)
        smoothed = labels + self.train.label_smoothing * (1 - 2 * labels)
        losses = functional.binary_cross_entropy_with_logits(logits, smoothed, reduction="none")
        if self.train.loss == "focal":
            missed = torch.sigmoid(logits * (1 - 2 * labels))  # probability of the wrong class
            losses = losses * missed**FOCUS
        return losses
