"""How the weights move: what decays, at which rate, and the average of them that is kept."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LinearLR, OneCycleLR, ReduceLROnPlateau

from dfmm.sections import Train

CYCLES = 3  # of warm restarts, each twice as long as the one before (SGDR, Loshchilov & Hutter 2017: T_mult = 2)
PLATEAU = 3  # the rate is halved after this part of the patience that would end training


def make_optimizer(model: nn.Module, train: Train) -> AdamW:
    """Return AdamW (Loshchilov & Hutter, 2019) over what learns, the backbone at its own rate; fused on a GPU."""
    fused = next(model.parameters()).is_cuda or None
    return AdamW(group_parameters(model, train), lr=train.lr, fused=fused)


def group_parameters(model: nn.Module, train: Train) -> list[dict[str, Any]]:
    """Return optimizer groups: of the backbone and of the rest, what decays and what does not.

    Norms and biases, all vectors, never decay; a frozen parameter is in no group.
    """
    encoder = getattr(model, "frame_encoder", None)  # which another detector than ours lacks
    backbone = {id(parameter) for parameter in encoder.backbone.parameters()} if encoder else set()
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            rate = train.backbone_lr if train.backbone_lr and id(parameter) in backbone else train.lr
            decay = train.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": chosen, "lr": rate, "weight_decay": decay} for (rate, decay), chosen in groups.items()]


class Schedule:
    """The learning rate over a training: moved after every step, and after an epoch where it waits for a plateau."""

    def __init__(self, optimizer: Optimizer, train: Train, steps: int):
        self.after_epoch: ReduceLROnPlateau | None = None
        climb = max(1, round(steps * train.warmup))
        if train.schedule == "one_cycle":
            peaks = [group["lr"] for group in optimizer.param_groups]
            share = min(max(2, climb) / (steps + 1), 1.0)  # its climb is over one step before the share it is given
            self.after_step: Any = OneCycleLR(optimizer, peaks, total_steps=steps + 1, pct_start=share)
        elif train.schedule == "plateau":
            # Both of these scale the rate as it stands, so the climb and the halvings go together.
            self.after_step = LinearLR(optimizer, start_factor=1 / climb, total_iters=climb - 1)
            patience = max(1, train.patience // PLATEAU) - 1  # PyTorch counts the epochs beyond it
            self.after_epoch = ReduceLROnPlateau(optimizer, "max", factor=0.5, patience=patience, threshold=0)
        else:
            cycles = CYCLES if train.schedule == "warm_restarts" else 1
            self.after_step = LambdaLR(optimizer, cosine_with_warmup(steps, climb, cycles=cycles))
        self.optimizer = optimizer

    @property
    def rates(self) -> list[float]:
        """The rates of the optimizer's groups, as they stand."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def step(self) -> None:
        """Move on by one step of the training."""
        self.after_step.step()

    def end_epoch(self, score: float) -> None:
        """Take note of how good validation was; larger is better."""
        if self.after_epoch is not None:
            self.after_epoch.step(score)

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on; the rates themselves are in the optimizer's."""
        parts = {"after_step": self.after_step, "after_epoch": self.after_epoch}
        return {name: part.state_dict() for name, part in parts.items() if part is not None}

    def load_state_dict(self, state: dict[str, Any], *, step: int | None = None) -> None:
        """Go on from where `state_dict` was taken.

        Args:
            step: given where the training has become longer or its steps others: how many of today's were taken. A
                rate that falls by a plan goes on where the new plan is by then.
        """
        if step is not None and self.after_epoch is None:
            with warnings.catch_warnings():  # of steps of the optimizer, which are not taken again
                warnings.simplefilter("ignore")
                for _ in range(step):
                    self.after_step.step()
            return
        self.after_step.load_state_dict(state["after_step"])
        if self.after_epoch is not None:
            self.after_epoch.load_state_dict(state["after_epoch"])


def cosine_with_warmup(steps: int, climb: int, *, cycles: int = 1) -> Callable[[int], float]:
    """Return step → share of the peak rate: a linear climb, then half cosines, each twice as long as the one before."""
    unit = max(1, steps - climb) / (2**cycles - 1)

    def share(step: int) -> float:
        if step < climb:
            return (step + 1) / climb
        done = (step - climb) / unit
        cycle = min(int(math.log2(done + 1)), cycles - 1)
        return 0.5 * (1 + math.cos(math.pi * min((done + 1) / 2**cycle - 1, 1.0)))

    return share
