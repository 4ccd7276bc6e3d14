"""What is in two splits is named, with its videos; what only looks alike, or may be alike, is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from dfmm.audit import leaks
from dfmm.audit.facts import Facts, measure_file
from dfmm.audit.leaks import find_leaks
from dfmm.manifest import complete_manifest
from dfmm.media.encode import write_video

RATE = 16_000


def list_videos(*rows: tuple) -> pd.DataFrame:
    columns = ["video_id", "split", "label", "identities", "original"]
    table = pd.DataFrame([(*row, *[""] * (5 - len(row))) for row in rows], columns=columns)
    return complete_manifest(table.assign(path=table["video_id"] + ".mp4"))


def name_leaks(found: pd.DataFrame) -> set[tuple]:
    return {(kind, name, *sorted(rows["video_id"])) for (kind, name), rows in found.groupby(["kind", "name"])}


def film(seed: int, *, seconds: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """One room and one person, who moves otherwise and says something else by each seed: frames and sound."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : 96 * 1j, 0 : 1 : 128 * 1j].astype(np.float32)
    room = 0.35 + 0.2 * x * y + 0.15 * np.sin(9 * x) + 0.15 * np.cos(11 * y + 5 * x)
    steps = np.arange(round(25 * seconds))
    path = np.stack(
        [0.5 + np.interp(steps, steps[::8], rng.uniform(-0.04, 0.04, len(steps[::8]))) for _ in "xy"], axis=1
    )
    heads = (np.exp(-(((x - a) / 0.15) ** 2) - ((y - b) / 0.25) ** 2) for a, b in path)
    frames = np.stack([np.clip(255 * (room + 0.4 * head), 0, 255) for head in heads]).astype(np.uint8)
    time = np.arange(round(seconds * RATE)) / RATE
    loud, pitch = (
        np.interp(time, np.linspace(0, seconds, n), rng.uniform(*ends, n))
        for n, ends in ((40, (0, 0.3)), (20, (200, 2500)))
    )
    sound = loud * np.sin(np.cumsum(2 * np.pi * pitch / RATE))
    return np.repeat(frames[..., None], 3, axis=3), sound.astype(np.float32)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Facts]:
    """Two clips of one person in one room; the first again, encoded anew in five ways."""
    folder = tmp_path_factory.mktemp("films")
    (frames, sound), (others, other_sound) = film(1), film(2)
    small = np.stack([cv2.resize(frame, (96, 72), interpolation=cv2.INTER_AREA) for frame in frames])
    files = {
        "first": {"frames": frames, "sound": sound},
        "second": {"frames": others, "sound": other_sound},
        "coarse": {"frames": frames, "sound": sound, "crf": 32, "sound_bit_rate": 24_000},
        "small": {"frames": small, "sound": sound, "crf": 26},
        "slow": {"frames": frames[::2], "sound": sound, "fps": 12.5},
        "mute": {"frames": frames, "crf": 26},
        "dubbed": {"frames": frames, "sound": other_sound, "crf": 26},
    }
    return {name: measure_file(write_video(folder / f"{name}.mp4", **file)) for name, file in files.items()}


@pytest.mark.parametrize("copy", ["coarse", "small", "slow", "mute", "dubbed"])
def test_a_video_encoded_anew_is_found_in_another_split(films: dict[str, Facts], copy: str) -> None:
    videos = list_videos(("a", "train", 0), ("b", "train", 0), ("c", "test", 1))
    found = find_leaks(videos, {"a": films["first"], "b": films["second"], "c": films[copy]})
    assert name_leaks(found) == {("duplicate", "a", "a", "c")}
    heard = "the same picture and sound" if copy not in ("mute", "dubbed") else "the same picture ("
    assert found["evidence"].iloc[0].startswith(heard)
    assert set(found["evidence"].str[-4:]) == {"as c", "as a"}


def test_two_clips_of_one_person_in_one_room_are_no_duplicates(films: dict[str, Facts]) -> None:
    prints = leaks._read_prints([films["first"], films["second"]])
    pair = leaks.compare_videos(prints, np.array([0]), np.array([1])).loc[0]
    assert pair["scene"] >= leaks.SAME_SCENE  # so that the test is of what moves and what is heard
    videos = list_videos(("a", "train", 0), ("b", "test", 0))
    assert find_leaks(videos, {"a": films["first"], "b": films["second"]}).empty


def test_pictures_that_never_move_are_told_by_scene_and_sound(tmp_path: Path) -> None:
    (frames, sound), (_, other_sound) = film(1), film(2)
    still = np.repeat(frames[:1], 75, axis=0)
    one, same, mute = (
        measure_file(write_video(tmp_path / "a.mp4", still, sound=heard, crf=crf))
        for heard, crf in ((sound, 20), (sound, 30), (None, 30))
    )
    moving = measure_file(write_video(tmp_path / "a.mp4", frames, sound=other_sound))
    videos = list_videos(("a", "train", 0), ("b", "test", 0))
    assert name_leaks(find_leaks(videos, {"a": one, "b": same})) == {("duplicate", "a", "a", "b")}
    assert name_leaks(find_leaks(videos, {"a": one, "b": mute})) == {("duplicate", "a", "a", "b")}
    assert find_leaks(videos, {"a": one, "b": moving}).empty


def test_what_the_manifest_ties_or_keeps_together_is_no_leak(films: dict[str, Facts]) -> None:
    facts = {"a": films["first"], "b": films["coarse"]}
    assert find_leaks(list_videos(("a", "train", 0), ("b", "train", 0)), facts).empty
    assert find_leaks(list_videos(("a", "train", 0, "bob"), ("b", "train", 1, "bob", "a")), facts).empty
    split = list_videos(("a", "train", 0), ("b", "test", 1, "", "a"))
    assert name_leaks(find_leaks(split, facts)) == {("original", "a", "a", "b")}  # named once, for what it is


def test_a_fake_that_looks_like_a_real_it_does_not_name_is_remarked(films: dict[str, Facts]) -> None:
    videos = list_videos(("a", "train", 0), ("b", "train", 1))
    found = find_leaks(videos, {"a": films["first"], "b": films["dubbed"]})
    assert name_leaks(found) == {("unnamed original", "a", "a", "b")}


def test_the_same_file_is_named_across_splits_and_labels(films: dict[str, Facts]) -> None:
    videos = list_videos(("a", "train", 0), ("b", "test", 0), ("c", "val", 0), ("d", "val", 1))
    facts = {"a": films["first"], "b": films["first"], "c": films["second"], "d": films["second"]}
    assert name_leaks(find_leaks(videos, facts)) == {("copy", "a", "a", "b"), ("contradiction", "c", "c", "d")}


def test_a_person_of_two_splits_is_named_be_it_as_a_donor() -> None:
    videos = list_videos(
        ("a", "train", 0, "ann"), ("b", "train", 1, "ann|bob"), ("c", "test", 0, "bob"), ("d", "test", 0, "eve"),
        ("e", "val", 0), ("f", "test", 0),
    )  # fmt: skip
    assert name_leaks(find_leaks(videos, {})) == {("identity", "bob", "b", "c")}


def test_blanks_around_a_name_hide_nobody() -> None:
    videos = list_videos(("a", "train", 0, "ann | bob"), ("b", "test", 0, "bob"))
    assert name_leaks(find_leaks(videos, {})) == {("identity", "bob", "a", "b")}


@pytest.mark.parametrize(
    ("turned", "share", "found"), [(0, 1.0, True), (2, 1.0, False), (8, 1.0, False), (0, 0.95, True), (0, 0.7, False)]
)
def test_only_what_looks_and_moves_alike_is_a_duplicate(turned: int, share: float, found: bool) -> None:
    """Scenes whose 64 waves differ in some signs (they correlate by 0.94, 0.75), and motions of a given correlation."""
    rng, empty, facts = np.random.default_rng(0), Facts(**dict.fromkeys(Facts.__dataclass_fields__)), {}
    move, noise = rng.normal(size=(2, 8 * 256))
    for name, signs, moves in (
        ("a", np.ones(64), move),
        ("b", np.where(np.arange(64) < turned, -1, 1), share * move + np.sqrt(1 - share**2) * noise),
    ):
        prints = {"scene": 100 * signs, "motion": np.clip(25 * moves, -127, 127)}
        facts[name] = replace(empty, sha256=name, **{k: v.astype(np.int8).tobytes().hex() for k, v in prints.items()})
    assert bool(len(find_leaks(list_videos(("a", "train", 0), ("b", "test", 0)), facts))) == found


def test_videos_made_from_one_original_are_named_though_it_is_not_listed() -> None:
    videos = list_videos(
        ("a", "train", 1, "", "gone"), ("b", "test", 1, "", "gone"), ("c", "train", 0), ("d", "val", 1, "", "c"),
        ("e", "val", 1, "", "d"), ("f", "test", 0),
    )  # fmt: skip
    assert name_leaks(find_leaks(videos, {})) == {("original", "gone", "a", "b"), ("original", "c", "c", "d", "e")}


def test_comparing_in_blocks_finds_the_same(films: dict[str, Facts], monkeypatch: pytest.MonkeyPatch) -> None:
    names = list(films) * 2
    facts = {f"v{n}": replace(films[name], sha256=str(n)) for n, name in enumerate(names)}
    videos = list_videos(*((name, ("train", "test", "val")[n % 3], n % 2) for n, name in enumerate(facts)))
    whole = find_leaks(videos, facts)
    monkeypatch.setattr(leaks, "BLOCK", 3)
    monkeypatch.setattr(leaks, "PAIRS", 2)
    assert name_leaks(find_leaks(videos, facts)) == name_leaks(whole)
    assert len(whole) > 6
