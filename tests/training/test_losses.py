"""The loss counts what is known, weighs it as told, and is the same in one piece or in many."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from dfmm.settings import Settings
from dfmm.training.losses import Loss
from dfmm.training.machine import derive_seed
from dfmm.training.trainer import split_batch

from ..conftest import change

STREAMS = ("video_fake", "audio_fake", "in_sync")


def make_outputs(rows: int, **more: torch.Tensor) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    outputs = {"logits": torch.randn(rows, 2, generator=generator)}
    outputs |= {name: torch.randn(rows, generator=generator) for name in STREAMS}
    return {name: value.requires_grad_() for name, value in {**outputs, **more}.items()}


def make_batch(label: list[int], **more: list) -> dict[str, torch.Tensor]:
    there = [[True]] * len(label)
    batch = {"label": label, **dict.fromkeys(STREAMS, label), "frame_mask": there, "sound_mask": there, **more}
    return {name: torch.tensor(value) for name, value in batch.items()}


def test_unknown_labels_and_absent_streams_teach_nothing() -> None:
    outputs = make_outputs(4)
    batch = make_batch(
        [1, 0, 1, 0],
        video_fake=[1, -1, 0, 0],
        audio_fake=[1, 0, 1, 0],
        in_sync=[1, 1, 0, 0],
        frame_mask=[[True], [True], [False], [False]],
        sound_mask=[[True], [True], [True], [False]],
    )
    Loss(Settings(), prior=0.5)(outputs, batch).backward()
    taught = {name: (value.grad.reshape(4, -1) != 0).any(dim=1).tolist() for name, value in outputs.items()}
    assert taught["logits"] == [True, True, True, False]
    assert taught["video_fake"] == [True, False, False, False]
    assert taught["audio_fake"] == [True, True, True, False]
    assert taught["in_sync"] == [True, True, False, False]


def test_without_stream_loss_it_is_cross_entropy(tiny: Settings) -> None:
    outputs, batch = make_outputs(5), make_batch([1, 0, 0, 1, -1])
    loss = Loss(change(tiny, train={"stream_loss": 0}), prior=0.5)(outputs, batch)
    torch.testing.assert_close(loss, functional.cross_entropy(outputs["logits"], batch["label"], ignore_index=-1))
    twice = Loss(change(tiny, train={"stream_loss": 2}), prior=0.5)(outputs, batch)
    once = Loss(change(tiny, train={"stream_loss": 1}), prior=0.5)(outputs, batch)
    torch.testing.assert_close(twice - once, once - loss)


def test_parts_and_processes_add_up_to_the_whole_batch(tiny: Settings) -> None:
    outputs, batch = make_outputs(6), make_batch([1, 0, -1, 1, 0, 0])
    loss = Loss(change(tiny, train={"class_weights": True}), prior=0.3)
    whole = loss(outputs, batch)
    names = {"video_id": list("abcdef")}
    parts = zip(split_batch({**outputs, **names}, 3), split_batch({**batch, **names}, 3), strict=True)
    counts = loss.count(batch)
    torch.testing.assert_close(sum(loss.combine(loss.sum(*part), counts) for part in parts), whole)


def test_smoothing_moves_the_best_logit_away_from_certainty(tiny: Settings) -> None:
    batch = make_batch([1])
    loss = Loss(change(tiny, train={"label_smoothing": 0.1}), prior=0.5)
    losses = {}
    for logit in (2.0, 2.2, 2.4, 5.0):  # the best one is ln(.9 / .1) = 2.197
        outputs = {"logits": torch.tensor([[0.0, logit]]), **{name: torch.tensor([logit]) for name in STREAMS}}
        losses[logit] = float(loss(outputs, batch))
    assert min(losses, key=losses.get) == 2.2


def test_focal_loss_forgets_what_is_sure(tiny: Settings) -> None:
    plain, focal = (Loss(change(tiny, train={"loss": kind}), prior=0.5) for kind in ("cross_entropy", "focal"))
    for logit, wrong in ((3.0, 1 / (1 + 20.0855)), (-3.0, 20.0855 / 21.0855)):
        outputs = {"logits": torch.tensor([[0.0, logit]]), **{name: torch.tensor([logit]) for name in STREAMS}}
        ratio = float(focal(outputs, make_batch([1])) / plain(outputs, make_batch([1])))
        assert ratio == pytest.approx(wrong**2, rel=1e-3)  # (1 - p)², Lin et al., equation 4


def test_class_weights_make_both_labels_count_the_same(tiny: Settings) -> None:
    outputs, batch = make_outputs(4), make_batch([1, 1, 1, 0])
    Loss(change(tiny, train={"class_weights": True, "stream_loss": 0}), prior=0.75)(outputs, batch).backward()
    wrong = outputs["logits"].detach().softmax(dim=1)[range(4), 1 - batch["label"]]
    pulls = outputs["logits"].grad[:, 1].abs() / wrong
    assert float(pulls[:3].sum()) == pytest.approx(float(pulls[3]), rel=1e-5)


def test_a_video_is_as_fake_as_its_most_fake_window(tiny: Settings) -> None:
    outputs = make_outputs(4, weight=torch.zeros(4))
    loss = Loss(change(tiny, train={"stream_loss": 0}), prior=0.5, windows=2)
    batch = make_batch([0, 1, 0, 0], frame_mask=[[True], [True], [True], [False]], sound_mask=[[True]] * 3 + [[False]])
    loss(outputs, batch).backward()
    assert loss.count(batch)[-1] == 2
    assert (outputs["weight"].grad[:2] != 0).all()  # which window to trust is learnt
    assert outputs["weight"].grad[3] == 0  # but not from one that shows nothing


@pytest.mark.parametrize(("labels", "known"), [([0, -1], 0), ([1, -1], 1), ([-1, -1], 0), ([0, 0], 1)])
def test_a_video_with_a_doubtful_window_is_real_to_nobody(tiny: Settings, labels: list[int], known: int) -> None:
    loss = Loss(tiny, prior=0.5, windows=2)
    assert loss.count(make_batch(labels))[-1] == known
    unseen = make_batch(labels, frame_mask=[[True], [False]], sound_mask=[[True], [False]])
    assert loss.count(unseen)[-1] == (labels[0] != -1)  # what shows nothing is in doubt of nothing


def test_every_number_matters_to_a_seed() -> None:
    seeds = {derive_seed(*numbers) for numbers in [(0, 1, 2, 3), (1, 1, 2, 3), (0, 2, 2, 3), (0, 1, 3, 3)]}
    assert len(seeds) == 4
