"""Maps of where a model looked light up on what it learnt, and only there; they add up, and leave the model alone."""

from __future__ import annotations

import copy
from statistics import mean

import pytest
import torch
from torch import Tensor

from benchmarks.explain import find_area, make_settings, measure_share, plant, shuffle_weights, train
from dfmm.evaluation.explain import HEADS, explain_windows
from dfmm.model import MultimodalModel

from ..conftest import change

Planted = tuple[MultimodalModel, dict[str, Tensor]]


@pytest.fixture(scope="module")
def planted() -> Planted:
    """A model that has learnt an artefact in a corner of faces and one in a band of sounds, and windows with either."""
    settings = make_settings("test_resnet")
    return train(settings), plant(settings, 12)


def take_first(batch: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """Return the first windows of a batch: each costs a gradient a step and head."""
    return {name: values[:count] for name, values in batch.items()}


def find_shares(model: MultimodalModel, batch: dict[str, Tensor]) -> dict[tuple[str, str], float]:
    """Return the share of maps that lies on the artefacts, of windows that have them, over that of the area."""
    found, shares = explain_windows(model, batch, ["video_fake", "audio_fake", "joint"]), {}
    for name, label in (("looked", "video_fake"), ("heard", "audio_fake")):
        for head in (label, "joint"):
            maps = getattr(found[head], name)[batch[label] == 1]
            shares[name, head] = measure_share(maps).mean().item() / find_area(maps)
    return shares


def test_what_was_learnt_lights_up(planted: Planted) -> None:
    """Of faces the artefact takes a sixteenth, of sounds an eighth: all of a map would be 16 and 8 times as much."""
    shares = find_shares(*planted)
    assert min(shares["looked", head] for head in ("video_fake", "joint")) > 6
    assert min(shares["heard", head] for head in ("audio_fake", "joint")) > 3


def test_an_artefact_does_not_light_up_by_standing_out(planted: Planted) -> None:
    """Else a map of what is bright or loud would pass for one of where the model looked."""
    batch = planted[1]
    for name, label in (("frames", "video_fake"), ("log_mel", "audio_fake")):
        values = batch[name].float()
        contrast = (values - values.mean(dim=(-2, -1), keepdim=True)).abs().mean(dim=-3)
        assert measure_share(contrast[batch[label] == 1]).mean() < 1.5 * find_area(contrast)


def test_with_shuffled_weights_nothing_lights_up_but_by_chance(planted: Planted) -> None:
    model, batch = planted[0], take_first(planted[1], 6)  # it is the weights that must be many
    tries = [find_shares(shuffle_weights(model, seed), batch) for seed in range(6)]
    for name in ("looked", "heard"):
        assert mean(share for shares in tries for (stream, _), share in shares.items() if stream == name) < 1.6


def test_what_the_parts_add_is_the_whole(planted: Planted) -> None:
    """Completeness (Sundararajan et al., 2017, proposition 1), as far as a sum of so many steps is an integral."""
    for found in explain_windows(*planted).values():
        rest = found.odds - found.blank - found.by_picture - found.by_sound
        assert rest.abs().mean() < 0.1 * (found.odds - found.blank).abs().mean()


@pytest.mark.slow
def test_what_was_learnt_lights_up_in_the_default_backbone() -> None:
    settings = make_settings("mobilenetv3_small_050", size=64)
    model, batch = train(settings), plant(settings, 12)
    shares = find_shares(model, batch)
    assert min(shares["looked", head] for head in ("video_fake", "joint")) > 4
    assert min(shares["heard", head] for head in ("audio_fake", "joint")) > 3
    shuffled = find_shares(shuffle_weights(model, 0), batch)
    assert max(shuffled["looked", head] for head in ("video_fake", "joint")) < 2.5


# Whatever the model is made of


@pytest.mark.parametrize(
    ("backbone", "audio", "fusion", "temporal"),
    [
        ("test_resnet", "cnn", "concat", "avg_pool"),
        ("test_vit", "test_vit", "attention", "tconv"),
        ("mobilenetv3_small_050", "test_resnet", "cross_modal", "transformer"),
        ("test_efficientnet", "cnn", "attention", "transformer"),
    ],
)
def test_every_model_is_explained_and_left_as_it_was(backbone: str, audio: str, fusion: str, temporal: str) -> None:
    chosen = {"fusion": fusion, "temporal": temporal, "frozen": 0.5, "aggregation": "attention", "dropout": 0.5}
    settings = change(make_settings(backbone, audio), model=chosen, train={"windows": 2})
    torch.manual_seed(0)
    model, batch = MultimodalModel(settings).train(), plant(settings, 2)
    state, modes = copy.deepcopy(model.state_dict()), [part.training for part in model.modules()]
    draws = torch.get_rng_state()
    found = explain_windows(model, batch)
    assert torch.equal(draws, torch.get_rng_state())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert modes == [part.training for part in model.modules()]
    assert all(value.grad is None for value in model.parameters())
    size, bands = settings.video.size, settings.audio.n_mels
    for head, streams in HEADS.items():
        looked, heard = found[head].looked, found[head].heard
        assert (looked is None, heard is None) == ("frames" not in streams, "log_mel" not in streams)
        assert looked is None or looked.shape == (2, settings.video.frames, size, size)
        assert heard is None or heard.shape == (2, bands, batch["log_mel"].shape[-1])
        for maps in (looked, heard):
            assert maps is None or (maps.min() >= 0 and maps.isfinite().all() and not maps.requires_grad)
            assert maps is None or all(float(one.max()) in (0.0, pytest.approx(1)) for one in maps)
    with torch.no_grad():
        odds = model.eval()(batch)["video_fake"]
    torch.testing.assert_close(found["video_fake"].odds, odds)


def test_what_is_not_there_is_not_explained(planted: Planted) -> None:
    model, batch = planted[0], take_first(planted[1], 2)
    for mask, name in (("frame_mask", "looked"), ("sound_mask", "heard")):
        found = explain_windows(model, {**batch, mask: torch.zeros_like(batch[mask])})
        assert all(getattr(found[head], name) is None for head in HEADS)
    model = copy.deepcopy(model)
    model.streams = "audio"
    assert explain_windows(model, batch, ["joint"])["joint"].looked is None
    masked = {**batch, "frame_mask": batch["frame_mask"].clone()}
    masked["frame_mask"][:, 0] = False
    assert not explain_windows(planted[0], masked, ["video_fake"])["video_fake"].looked[:, 0].any()


def test_a_window_is_explained_alike_in_any_company(planted: Planted) -> None:
    model, batch = planted[0], take_first(planted[1], 4)
    alone = take_first(batch, 1)
    together, single = (
        explain_windows(model, batch, ["joint"])["joint"],
        explain_windows(model, alone, ["joint"])["joint"],
    )
    torch.testing.assert_close(together.looked[:1], single.looked, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(together.heard[:1], single.heard, atol=1e-3, rtol=1e-3)
