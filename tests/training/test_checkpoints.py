"""Checkpoints come back whole, make room for newer ones, and one damaged byte is found out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dfmm.training.checkpoints import list_checkpoints, load_checkpoint, save_checkpoint


def make_state(epoch: int, step: int) -> dict:
    return {"epoch": epoch, "step": step, "model": {"weight": torch.full((1000,), float(step))}}


def test_the_newest_comes_back_and_old_ones_go(tmp_path: Path) -> None:
    for epoch, step in [(1, 5), (1, 10), (2, 3), (10, 0)]:
        save_checkpoint(make_state(epoch, step), tmp_path, keep=2)
    state = load_checkpoint(tmp_path)
    assert (state["epoch"], state["step"]) == (10, 0)
    assert set(tmp_path.iterdir()) == set(list_checkpoints(tmp_path))
    assert len(list_checkpoints(tmp_path)) == 2


def test_an_empty_folder_has_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "nothing") is None


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_one_is_passed_over_and_told_of(damage: str, tmp_path: Path, said: list[str]) -> None:
    save_checkpoint(make_state(1, 1), tmp_path, keep=3)
    newest = save_checkpoint(make_state(1, 2), tmp_path, keep=3)
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1  # in the middle of a tensor, where nothing but the checksum can tell
    newest.write_bytes({"cut": data[: len(data) // 2], "flip": data, "empty": b""}[damage])
    assert load_checkpoint(tmp_path)["step"] == 1
    assert any(newest.name in message and "damaged" in message for message in said)
    said.clear()
    save_checkpoint(make_state(1, 2), tmp_path, keep=3)
    assert load_checkpoint(tmp_path)["step"] == 2
    assert not said


def test_nothing_in_it_is_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"epoch": 1, "step": 1, "evil": Evil()}, tmp_path / "epoch-0001-step-000001.pt")
    assert load_checkpoint(tmp_path) is None
    assert not (tmp_path / "ran").exists()
