"""Weights decay, rates rise and fall, each as its setting says."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from dfmm.model import MultimodalModel
from dfmm.sections import Train
from dfmm.settings import Settings
from dfmm.training.optimizer import Schedule, group_parameters, make_optimizer

from ..conftest import change


def trace_rates(train: Train, steps: int, scores: list[float] | None = None) -> list[float]:
    """Return the rate at each step; with scores, an epoch ends after each tenth step."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule, rates = Schedule(optimizer, train, steps), []
    for step in range(steps):
        rates += schedule.rates
        optimizer.step()
        schedule.step()
        if scores and step % 10 == 9:
            schedule.end_epoch(scores[step // 10])
    return rates


def test_only_weights_decay(tiny: Settings) -> None:
    model = MultimodalModel(tiny)
    groups = group_parameters(model, change(tiny, train={"weight_decay": 0.1}).train)
    decayed = {id(parameter) for group in groups if group["weight_decay"] for parameter in group["params"]}
    assert all((id(parameter) in decayed) == (parameter.ndim > 1) for parameter in model.parameters())


def test_the_backbone_has_a_rate_of_its_own(tiny: Settings) -> None:
    settings = change(tiny, train={"backbone_lr": 1e-5})
    model = MultimodalModel(settings)
    groups = make_optimizer(model, settings.train).param_groups
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    backbone = {id(parameter) for parameter in model.frame_encoder.backbone.parameters()}
    assert {rates[name] for name in backbone} == {1e-5}
    assert {rate for name, rate in rates.items() if name not in backbone} == {settings.train.lr}


def test_what_is_frozen_is_in_no_group(tiny: Settings) -> None:
    model = MultimodalModel(tiny)
    model.frame_encoder.backbone.requires_grad_(False)
    listed = {id(parameter) for group in group_parameters(model, tiny.train) for parameter in group["params"]}
    assert not listed & {id(parameter) for parameter in model.frame_encoder.backbone.parameters()}


def test_a_cosine_climbs_and_falls() -> None:
    rates = trace_rates(Train(warmup=0.1), 100)
    assert rates[0] == pytest.approx(0.1)
    assert rates.index(max(rates)) in (9, 10)
    assert max(rates) == 1
    assert rates[99] < 0.001
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[10:]))


def test_warm_restarts_are_three_and_double_in_length() -> None:
    rates = trace_rates(Train(schedule="warm_restarts", warmup=0), 71)
    jumps = [step for step in range(2, 71) if rates[step] > rates[step - 1]]
    assert jumps == [11, 31]  # 1 climbing, then 10, 20 and 40
    assert all(rates[step] > 0.99 for step in jumps)


def test_one_cycle_climbs_for_its_share_and_ends_near_zero() -> None:
    rates = trace_rates(Train(schedule="one_cycle", warmup=0.3), 100)
    assert rates[0] == pytest.approx(1 / 25)
    assert 28 <= rates.index(max(rates)) <= 30
    assert rates[99] < 1e-3
    assert trace_rates(Train(schedule="one_cycle", warmup=0), 1)  # even a single step


def test_a_plateau_halves_the_rate_after_its_climb() -> None:
    train = Train(schedule="plateau", warmup=0.05, patience=6)  # a third of 6: two epochs without a better one
    rates = trace_rates(train, 60, scores=[0.5, 0.6, 0.6, 0.6, 0.6, 0.6])
    assert rates[0] == pytest.approx(1 / 3)
    assert [rates[10 * epoch + 5] for epoch in range(6)] == pytest.approx([1, 1, 1, 1, 0.5, 0.5])


@pytest.mark.parametrize("kind", ["cosine", "warm_restarts", "plateau", "one_cycle"])
def test_a_schedule_goes_on_where_it_was(kind: str) -> None:
    def make() -> tuple[torch.optim.Optimizer, Schedule]:
        optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        return optimizer, Schedule(optimizer, Train(schedule=kind, patience=3), 40)

    whole, broken = make(), make()
    for step in range(40):
        if step == 17:
            states = [part.state_dict() for part in broken]
            broken = make()
            for part, state in zip(broken, states, strict=True):
                part.load_state_dict(state)
        for optimizer, schedule in (whole, broken):
            optimizer.step()
            schedule.step()
            if step % 5 == 4:
                schedule.end_epoch(math.sin(step))
        assert whole[1].rates == broken[1].rates, step
