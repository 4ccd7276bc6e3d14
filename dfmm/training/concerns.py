"""What a person who watches a training would stop for, in words, computed from its epochs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from dfmm.people import tell_nameless
from dfmm.words import count_noun

FEW_VIDEOS = 10  # of a label in validation, below which each of them moves the AUC visibly
FEW_PEOPLE = 100  # in training, whom a network learns by heart
NEAR_ZERO = 0.1  # loss a term, in nats: right, and 90 % sure of it
EPOCHS = 5  # before one says that nothing comes of it
TIES = 3  # epochs called best at one AUC
RISE = 1.1  # of the validation loss over its lowest
FALL = 0.98  # of the training loss since its first epoch, that is none
SMALLER_IS_BETTER = ("loss", "eer")


def find_concerns(history: pd.DataFrame, record: Mapping[str, Any]) -> list[str]:
    """Return what speaks against going on, or against believing in what is shown: a sentence each, or none at all.

    Args:
        history: a row an epoch, as `read_history` returns it.
        record: the run's `run.json`; what it lacks, as those of before did, is not judged.
    """
    found = list(_judge_validation(record.get("splits", {}).get("val")))
    if len(history):
        plan = {"monitor": "auc", "patience": None, **record.get("plan", {})}
        best = list_best(history, plan["monitor"])
        found += _judge_fit(history, record.get("splits", {}).get("train"))
        found += _judge_best(history, best, plan["patience"])
    return found


def list_best(history: pd.DataFrame, monitor: str) -> list[int]:
    """Return the row numbers of all epochs that were the best so far, the last of which is kept."""
    best, rows = None, []
    for row, (value, loss) in enumerate(zip(history[f"val_{monitor}"], history["val_loss"], strict=True)):
        score = (-value if monitor in SMALLER_IS_BETTER else value, -loss)  # as the trainer tells them apart
        if best is None or score > best:
            best, rows = score, [*rows, row]
    return rows


def _judge_validation(split: Mapping[str, int] | None) -> Iterator[str]:
    whose = ", which name nobody" if _name_nobody(split) else f" of {_count_people(split)}" if split else ""
    fewest = min(split["reals"], split["fakes"]) if split else FEW_VIDEOS
    if fewest < FEW_VIDEOS:
        yield (
            f"Validation has {count_noun(split['videos'], 'video')} ({split['reals']} real, {split['fakes']} fake)"
            f"{whose}: one of them alone moves its AUC by up to {1 / max(fewest, 1):.2f}."
        )


def _judge_fit(history: pd.DataFrame, split: Mapping[str, int] | None) -> Iterator[str]:
    """Is it learnt by heart, or not learnt at all?"""
    first, last = history.iloc[0], history.iloc[-1]
    terms = max(sum(name.startswith("val_loss_") for name in history), 1)
    if split and split["people"] < FEW_PEOPLE and last["train_loss"] < NEAR_ZERO * terms:
        yield (
            f"Training loss is {last['train_loss']:.3f}, near 0, with {_count_people(split)}: "
            "it knows them by heart, and more epochs teach it little about others."
        )
    lowest = history.loc[history["val_loss"].idxmin()]
    if last["val_loss"] > RISE * lowest["val_loss"] and last["train_loss"] < lowest["train_loss"]:
        yield (
            f"Validation loss has risen from {lowest['val_loss']:.3f} in epoch {lowest['epoch']:.0f} to "
            f"{last['val_loss']:.3f}, while training loss fell from {lowest['train_loss']:.3f} to "
            f"{last['train_loss']:.3f}: what it learns now holds for the "
            f"{'videos' if _name_nobody(split) else 'people'} of training alone."
        )
    if len(history) >= EPOCHS and last["train_loss"] > FALL * first["train_loss"]:
        yield (
            f"Training loss has not fallen in {len(history)} epochs ({first['train_loss']:.3f}, now "
            f"{last['train_loss']:.3f}): train.lr may be too low or too high, or nothing here tells fake from real."
        )


def _judge_best(history: pd.DataFrame, best: list[int], patience: int | None) -> Iterator[str]:
    """Does validation still tell epochs apart, and from chance?"""
    if not best:
        return
    kept = history.iloc[best[-1]]
    ties = int((history["val_auc"].iloc[best] == kept["val_auc"]).sum())
    if ties >= TIES:
        yield (
            f"Epoch {kept['epoch']:.0f} is the {name_place(ties)} called best at the same validation AUC, "
            f"{kept['val_auc']:.3f}: only the loss tells them apart."
        )
    if len(history) >= EPOCHS and kept.get("val_auc_low", 1.0) <= 0.5:
        yield (
            f"In epoch {kept['epoch']:.0f}, the best one, validation AUC is {kept['val_auc']:.3f} "
            f"[{kept['val_auc_low']:.3f}, {kept['val_auc_high']:.3f}]: chance is within its interval."
        )
    waited = len(history) - 1 - best[-1]
    if waited >= EPOCHS:
        ends = f"; after {patience} such epochs training ends by itself (train.patience)" if patience else ""
        yield f"None of the last {waited} epochs was better than epoch {kept['epoch']:.0f}{ends}."


def _name_nobody(split: Mapping[str, int] | None) -> bool:
    """Does not one of its videos say who is in it?"""
    return bool(split) and split.get("nameless") == split["videos"]


def _count_people(split: Mapping[str, int]) -> str:
    """`14 people`, or `14 videos` where nobody is named; where some are not, each of those counts as one."""
    if _name_nobody(split):
        return count_noun(split["videos"], "video")
    nameless = split.get("nameless", 0)
    people = count_noun(split["people"], "person", "people")
    return f"{people} at most ({tell_nameless(nameless)})" if nameless else people


def name_place(number: int) -> str:
    """`1st`, `2nd`, `3rd`, `4th`, …, `11th`."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
