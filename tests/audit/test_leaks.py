"""What is in two splits is named, with its videos; what only looks alike, or may be alike, is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from dfmm.audit import leaks, neighbours
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


def draw_prints(count: int, *, seed: int = 0) -> dict[str, Facts]:
    """Videos of one room; the second half are the first again, with more and more noise: some are borderline."""
    rng, half = np.random.default_rng(seed), count // 2
    shapes = {"scene": (64,), "motion": (8, 256), "sound": (224,)}
    drawn = {name: np.tile(rng.normal(size=(half, *shape)), (2, *[1] * len(shape))) for name, shape in shapes.items()}
    drawn["scene"] = 0.05 * drawn["scene"] + rng.normal(size=64)
    noise = np.r_[np.zeros(half), np.linspace(0, 1.2, count - half)]
    moves, sounds = (noise[:, None, None], np.roll(noise[half:], 20).repeat(2)[:, None])
    drawn["motion"] += moves * rng.normal(size=drawn["motion"].shape)
    drawn["sound"][half:] += sounds[: count - half] * rng.normal(size=(count - half, 224))
    drawn["motion"][: count // 10, :6] = drawn["motion"][half : half + count // 10, :6] = 0  # most of it stands still
    drawn["motion"][-count // 10 :, 4:] = rng.normal(size=(count // 10, 4, 256))  # the same for a half only
    nothing = dict.fromkeys(Facts.__dataclass_fields__)
    prints = {name: np.clip(40 * values, -127, 127).astype(np.int8) for name, values in drawn.items()}
    packed = {name: [row.tobytes().hex() for row in rows] for name, rows in prints.items()}
    return {
        f"v{n:03d}": Facts(**nothing | {"sha256": str(n)} | {k: v[n] for k, v in packed.items()}) for n in range(count)
    }


@pytest.mark.parametrize("crowd", [1024, 3])
def test_not_all_pairs_are_compared_and_the_same_are_found(crowd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = draw_prints(160)
    videos = list_videos(*((name, ("train", "test")[n % 2 ^ n // 80], 0) for n, name in enumerate(facts)))
    first, second = np.triu_indices(len(facts), 1)
    apart = videos["split"].to_numpy()[first] != videos["split"].to_numpy()[second]
    every = leaks.compare_videos(leaks._read_prints(list(facts.values())), first[apart], second[apart])
    expected = leaks.select_same(every)
    monkeypatch.setattr(neighbours, "CROWD", crowd)
    monkeypatch.setattr(leaks, "PAIRS", 2)
    compared = []
    compare = leaks.compare_videos
    monkeypatch.setattr(leaks, "compare_videos", lambda *given: compared.append(len(given[1])) or compare(*given))
    found = leaks.match_videos(videos, facts)
    pd.testing.assert_frame_equal(found, expected.reset_index(drop=True))
    assert 40 < len(found) < 80  # of 80 copies, of which some have changed too much
    assert sum(compared) < len(every) / 50


def test_an_intro_that_all_have_in_common_makes_nobody_neighbours() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 8, 64))
    vectors[:, 0] = vectors[0, 0]
    offered = []
    keep = lambda first, second: (offered.append(len(first)), np.ones(len(first), bool))[1]  # noqa: E731
    assert not list(neighbours.find_neighbours(vectors, cosine=0.86, keep=keep))
    assert sum(offered) < 300**2
