"""Whom videos belong to is decided once: by the people they name, their original, or themselves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from dfmm.audit.leaks import find_leaks
from dfmm.audit.shortcuts import group_people
from dfmm.dataset.batches import balance_videos
from dfmm.evaluation import summary
from dfmm.forge import choose_donors
from dfmm.layouts.split import check_split, split_by_identity
from dfmm.manifest import complete_manifest
from dfmm.metrics import compute_auc
from dfmm.metrics.people import find_people
from dfmm.people import (
    assign_people,
    count_named,
    count_people,
    describe_nameless,
    find_shared,
    name_people,
    tell_nameless,
)
from dfmm.words import count_noun


def list_videos(*rows: tuple[str, str, str]) -> pd.DataFrame:
    """A row each of video_id, identities and original, reals and fakes in turn."""
    table = pd.DataFrame(rows, columns=["video_id", "identities", "original"])
    label = (table["original"] != "").astype(int)
    return complete_manifest(table.assign(path=table["video_id"] + ".mp4", split="test", label=label))


@pytest.mark.parametrize(
    ("rows", "people"),
    [
        ([("a", "ann", ""), ("b", " ann |bob|ann|", ""), ("c", "|", "")], ["ann", "ann|bob", "video:c"]),
        ([("a", "", ""), ("b", "", "a"), ("c", "", "gone"), ("d", "", "gone")], ["video:a"] * 2 + ["video:gone"] * 2),
        ([("a", "ann", ""), ("b", "", "a"), ("c", "bob", "a"), ("d", "ann", "a")], ["ann", "ann", "bob|ann", "ann"]),
        ([("c", "", "b"), ("b", "", "a"), ("a", "ann | eve", "")], ["ann|eve"] * 3),  # a fake of a fake
        ([("a", "", ""), ("b", "bob", "a")], ["video:a", "bob|video:a"]),
        (
            [("a", "", "b"), ("b", "", "a"), ("c", "", "c"), ("d", "", "b")],
            ["video:a", "video:a", "video:c", "video:a"],
        ),
        ([("x|a", "", ""), ("x|b", "", "")], ["video:x/a", "video:x/b"]),  # a bar parts people, not names of files
    ],
    ids=["named", "nobody is named", "by the original", "chain", "half named", "circle", "bars"],
)
def test_a_video_belongs_to_whom_it_names_else_its_original_else_itself(rows: list, people: list[str]) -> None:
    videos = list_videos(*rows)
    assert [*name_people(videos)] == people
    for _, alone in assign_people(videos).groupby("video_id"):  # a part says what the whole said
        assert [*name_people(alone)] == [people[alone.index[0]]]
    order = np.random.default_rng(0).permutation(len(videos))
    assert [*name_people(videos.iloc[order])] == [people[row] for row in order]


def test_what_names_nobody_is_counted_and_is_no_reassurance() -> None:
    assert describe_nameless(list_videos(("a", "ann", ""), ("b", "", "a"))) == ""
    said = describe_nameless(list_videos(("a", "ann", ""), ("b", "", ""), ("c", "", "gone")))
    assert said == "2 of 3 videos name nobody: whether a person is in two splits is not known"


def test_people_that_are_named_are_counted_apart_from_those_that_may_be() -> None:
    videos = assign_people(list_videos(("a", "ann|bob", ""), ("b", "", "a"), ("c", "", ""), ("d", "eve", "c")))
    assert (count_named(videos), count_people(videos)) == (3, 4)
    assert count_named(videos.iloc[[2]]) == 0
    assert count_named(videos.iloc[:0]) == 0


def test_one_video_names_nobody_and_two_name_nobody() -> None:
    assert [tell_nameless(*of) for of in ((1,), (2,), (1, 5), (0, 1))] == [
        "1 video names nobody",
        "2 videos name nobody",
        "1 of 5 videos names nobody",
        "0 of 1 video name nobody",
    ]
    assert [count_noun(n, "person", "people") for n in (0, 1, 2)] == ["0 people", "1 person", "2 people"]


def test_all_who_ask_get_one_answer() -> None:
    """Two reals and two fakes of one family and of a man who is written in two ways."""
    videos = list_videos(("a", "ann | bob", ""), ("b", "", "a"), ("c", "bob", ""), ("d", "", "c"), ("e", "eve", ""))
    others = list_videos(*((f"o{n}", f"p{n}", "") for n in range(5)))
    assert group_people(pd.concat([videos, others]))[0].nunique() == 2 + 5
    assert len(set(balance_videos(videos, "identity").groups)) == 5  # ann|bob, bob and eve, within each label
    assert split_by_identity(videos.assign(split=""), shares={"train": 0.5, "test": 0.5}).unnamed == 0
    apart = videos.assign(split=["train", "train", "val", "test", "test"])
    found = find_leaks(apart, {})
    assert set(zip(found["kind"], found["name"], strict=True)) == {("identity", "bob"), ("original", "c")}
    assert list(check_split(apart)["detail"]) == ["train 2, val 1, test 1", "val 1, test 1"]
    shelved = videos.assign(split=["none", "test", "train", "train", "val"])  # the original's man is its fake's, still
    assert [*check_split(shelved)["name"]] == ["bob"]
    people = name_people(videos)
    for seed in range(20):  # the fake's own man comes last, though the fake does not name him
        donors = choose_donors(people, np.array([0, 2, 4]), 3, np.random.default_rng(seed))
        assert [number != 4 for number in donors] == sorted(number != 4 for number in donors)


def test_the_report_resamples_the_families_of_videos_that_name_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, measure = [], summary.compute_metrics

    def listen(labels: pd.Series, scores: pd.Series, *, identities: list[str], **options: object) -> dict:
        asked.append(identities)
        return measure(labels, scores, identities=identities, **options)

    monkeypatch.setattr(summary, "compute_metrics", listen)
    videos = list_videos(("a", "", ""), ("b", "", "a"), ("c", " ann", ""), ("d", "ann|bob ", "gone"))
    videos = videos.assign(status="ok", reason="", streams="both", faces=1, shots=1, gaps=0, face_coverage=1.0)
    videos = videos.assign(score=[0.1, 0.9, 0.2, 0.8], video_fake_score=0.5, audio_fake_score=0.5, in_sync_score=0.5)
    videos = videos.assign(trivia_score=0.5, mouth_loudness=0.5)
    windows = videos[["video_id", "label", "score"]].iloc[[0, 0, 1, 2, 3]]
    summary.summarise_split(videos, windows, split="test", threshold=0.5, replicates=100)
    assert asked[0] == ["video:a", "video:a", "ann", "ann|bob"]
    assert asked[1] == ["video:a", "video:a", "video:a", "ann", "ann|bob"]


@pytest.mark.slow
def test_intervals_hold_where_originals_are_named_and_people_are_not() -> None:
    """Ten fakes of each of twenty originals, which make them easy or hard to find; fakes lie higher by 1 in all."""
    videos = list_videos(*((f"r{n}", "", "") for n in range(200)), *((f"f{n}", "", f"o{n // 10}") for n in range(200)))
    people, truth = list(name_people(videos)), norm.cdf(1 / np.sqrt(2))
    rng, covered = np.random.default_rng(0), np.zeros((200, 2))
    for row in covered:
        shared, own = np.repeat(rng.normal(size=20), 10), rng.normal(size=(2, 200))
        scores = np.concatenate([own[0], 1 + 0.9 * shared + np.sqrt(1 - 0.9**2) * own[1]])
        for column, names in enumerate((people, list(videos["video_id"]))):
            auc = compute_auc(videos["label"], scores, identities=names, replicates=200)
            row[column] = auc["low"] <= truth <= auc["high"]
    by_family, by_video = covered.mean(axis=0)
    assert by_family >= 0.92
    assert by_video < 0.75  # what it was while nobody looked at originals


def test_looking_for_what_two_splits_share_needs_no_column_but_those() -> None:
    table = pd.DataFrame({"video_id": ["a", "b", "c"], "identities": ["ann", "ann", ""], "original": ["", "", "a"]})
    shared = find_shared(table.assign(split=["train", "test", "test"]))
    assert shared[["kind", "name", "video_id"]].to_numpy().tolist() == [
        ["identity", "ann", "b"], ["identity", "ann", "c"], ["identity", "ann", "a"],
        ["original", "a", "c"], ["original", "a", "a"],
    ]  # fmt: skip


def test_a_person_is_the_same_in_whatever_form_of_unicode() -> None:
    composed, decomposed = "\u00c9lodie", "E\u0301lodie"  # as Linux and as macOS write a name
    videos = pd.DataFrame({"video_id": ["a", "b"], "identities": [composed, f"{decomposed}|Zoe"], "original": ""})
    assert name_people(videos).tolist() == [composed, f"{composed}|Zoe"]
    assert find_people([composed, decomposed], 2).people == 1
