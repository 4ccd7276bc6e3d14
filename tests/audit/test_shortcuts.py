"""What gives fakes away is named, what does not is not, and nobody is tested on people the classifier has met."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dfmm.audit import marks, shortcuts
from dfmm.audit.shortcuts import (
    TOGETHER,
    UNITS,
    assign_folds,
    find_shortcuts,
    group_people,
    measure_trivia,
    score_alone,
    score_together,
    score_trivia,
)
from dfmm.manifest import complete_manifest
from dfmm.metrics import compute_auc
from dfmm.settings import Settings


def list_videos(count: int = 120, *, people: int = 40, **columns: object) -> pd.DataFrame:
    """Reals and fakes in turn, each person in both."""
    number = np.arange(count)
    table = pd.DataFrame({"path": [f"{n:03d}.mp4" for n in number], "split": "train", "label": number % 2})
    table["identities"] = [f"person{n}" for n in number // 2 % people]
    table["method"] = np.where(table["label"] == 1, "swap", "real")
    return complete_manifest(table.assign(**columns))


def draw_features(videos: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Features as of an honest dataset: some vary, some are the same in all videos."""
    rng = np.random.default_rng(seed)
    n = len(videos)
    table = pd.DataFrame(
        {
            "duration": rng.choice([2.0, 2.5, 3.0], n),
            "fps": 25.0,
            "video_codec": rng.choice(["h264", "vp9"], n),
            "video_bit_rate": rng.lognormal(12, 0.5, n),
            "face_size": rng.normal(0.5, 0.1, n),
            "has_audio": 1.0,
            "leading_silence": rng.exponential(0.1, n),
            "loudness": rng.normal(-24, 3, n),
        },
        index=pd.Index(videos["video_id"], name="video_id"),
    )
    return table.astype({"video_codec": object})


def plant(features: pd.DataFrame, videos: pd.DataFrame, name: str) -> pd.DataFrame:
    """Change one feature of the fakes."""
    fake = (videos["label"] == 1).to_numpy()
    spoilt = {
        "leading_silence": np.where(fake, features["leading_silence"] + 0.3, features["leading_silence"]),
        "loudness": np.where(fake, features["loudness"] + 6, features["loudness"]),
        "video_bit_rate": np.where(fake, features["video_bit_rate"] / 3, features["video_bit_rate"]),
        "fps": np.where(fake, 30.0, 25.0),
        "has_audio": np.where(fake, 0.0, 1.0),
        "face_size": np.where(fake, features["face_size"] + 0.2, features["face_size"]),
        "duration": np.where(fake, 2.5, features["duration"]),  # neither longer nor shorter, but more even
        "video_codec": np.where(fake, "h264", features["video_codec"]),
    }[name]
    changed = features.assign(**{name: spoilt})
    if name == "has_audio":
        changed.loc[fake, ["leading_silence", "loudness"]] = np.nan
    return changed


def name_shortcuts(table: pd.DataFrame) -> set[str]:
    return set(table.loc[table["matters"] | table["marked"], "feature"])


@pytest.mark.parametrize(
    "name",
    ["leading_silence", "loudness", "video_bit_rate", "fps", "has_audio", "face_size", "duration", "video_codec"],
)
def test_a_planted_shortcut_is_named_and_no_other(name: str) -> None:
    videos = list_videos()
    table = find_shortcuts(videos, plant(draw_features(videos), videos, name), replicates=100)
    assert name_shortcuts(table) == {name, TOGETHER}
    row = table.set_index("feature").loc[name]
    assert row["fakes_have"] != row["reals_have"]
    assert 0.5 < row["sure_low"] < row["low"] < row["value"]


@pytest.mark.parametrize("seed", range(3))
def test_honest_data_has_no_shortcut(seed: int) -> None:
    videos = list_videos(seed=seed)
    table = find_shortcuts(videos, draw_features(videos, seed), replicates=100)
    assert name_shortcuts(table) == set()
    assert table.set_index("feature").loc[["fps", "has_audio"], "value"].isna().all()  # the same in all videos


def test_what_marks_a_person_is_no_shortcut() -> None:
    videos = list_videos(label=np.repeat(np.arange(30) % 2, 4), identities=np.repeat([f"p{n}" for n in range(30)], 4))
    features = draw_features(videos)
    features["loudness"] = np.repeat(np.random.default_rng(1).normal(-24, 3, 30), 4)  # of each person's voice
    assert name_shortcuts(find_shortcuts(videos, features, replicates=100)) == set()


@pytest.mark.parametrize(
    ("name", "value", "mark"),
    [("video_codec", "hevc", "hevc"), ("leading_silence", 1.5, "1.5 s"), ("loudness", np.nan, "above -")],
)
def test_a_perfect_mark_on_some_fakes_is_named_though_the_auc_is_nearly_that_of_chance(
    name: str, value: object, mark: str
) -> None:
    videos = list_videos(240, people=80)
    features, rng = draw_features(videos), np.random.default_rng(1)
    marked = (videos["label"] == 1).to_numpy() & (rng.random(240) < 0.16)
    spread = features["loudness"].max() + rng.random(240) if name == "loudness" else value
    table = find_shortcuts(videos, features.assign(**{name: features[name].mask(marked, spread)}), replicates=100)
    row = table.set_index("feature").loc[name]
    assert row["marked"]
    assert row["chance"] < 0.01
    assert row["told"] == pytest.approx(marked.sum() / 120, abs=0.01)
    assert row["mark"].startswith(mark)
    assert row["value"] < 0.62
    assert set(table.loc[table["marked"], "feature"]) == {name}


@pytest.mark.parametrize("column", ["identities", "original"])
def test_the_mark_of_one_person_or_one_original_is_none(column: str) -> None:
    videos = list_videos(240, people=80)
    features, theirs = draw_features(videos), videos.index[videos["label"] == 1][:18]
    videos.loc[theirs, column] = "one"
    features.iloc[theirs, features.columns.get_loc("video_codec")] = "theirs"
    table = find_shortcuts(videos, features, replicates=100)
    assert table.set_index("feature").loc["video_codec", "told"] == pytest.approx(18 / 120)
    assert not table["marked"].any()


def test_what_is_dealt_out_anew_keeps_families_and_people_together() -> None:
    groups, families = np.repeat([0, 1, 2], [4, 4, 2]), np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    dealt = [marks.deal_videos(groups, families, np.random.default_rng(seed)) for seed in range(20)]
    for rows in dealt:
        for owners in (groups, families):
            assert all(len(set(owners[rows[owners == owner]])) == 1 for owner in set(owners))
    assert {groups[rows[0]] for rows in dealt} == {0, 1, 2}  # and do not stay where they were


def test_a_shortcut_to_one_method_is_named_though_it_hides_in_the_pool() -> None:
    method = np.where(np.arange(240) % 2, np.where(np.arange(240) % 20 == 1, "odd", "swap"), "real")
    videos = list_videos(240, people=80, method=method)
    features = draw_features(videos)
    features.loc[method == "odd", "leading_silence"] += 0.5
    table = find_shortcuts(videos, features, replicates=100)
    found = table[table["matters"]]
    assert set(found["method"]) == {"odd"}
    assert "leading_silence" in set(found["feature"])
    assert set(table["method"]) == {"", "odd", "swap"}
    assert table.loc[table["method"] == "odd", "fakes"].max() == 12


def test_where_a_video_comes_from_is_looked_at_and_left_out() -> None:
    source = np.where(np.arange(120) % 2, "studio", "street") + np.where(np.arange(120) % 20 < 2, "x", "")
    videos = list_videos(source=source)
    assert find_shortcuts(videos, draw_features(videos), replicates=100).set_index("feature").loc["source", "matters"]
    videos = list_videos(source=np.where(np.arange(120) % 6 < 4, "studio", "street"))
    features = draw_features(videos)
    loud = (videos["label"] == 1).to_numpy() == (videos["source"] == "studio").to_numpy()
    features["loudness"] = np.where(loud, -10.0, -30.0)  # in one source fakes are loud, in the other reals
    row = find_shortcuts(videos, features, replicates=100).set_index("feature").loc["loudness"]
    assert row["new_source_value"] == 0
    one = find_shortcuts(list_videos(source="studio"), features, replicates=100)
    assert one["new_source_value"].isna().all()
    assert "source" not in set(one["feature"])


def test_no_person_and_no_original_is_in_two_folds() -> None:
    identities = [f"p{n // 2}|p{n // 2 + 1}" if n % 4 == 3 else f"p{n // 2}" for n in range(40)]
    videos = list_videos(40, identities=identities)
    videos.loc[[0, 20], "identities"] = ""
    videos.loc[[1, 20], "original"] = "000"
    groups, kept_apart = group_people(videos)
    folds = pd.Series(assign_folds(videos["label"], groups))
    assert kept_apart
    assert folds.nunique() == 5
    people = videos.assign(fold=folds, name=videos["identities"].str.split("|")).explode("name")
    assert (people[people["name"] != ""].groupby("name")["fold"].nunique() == 1).all()
    assert folds[[0, 1, 20]].nunique() == 1


def test_where_swaps_link_everyone_the_first_person_decides() -> None:
    identities = [f"p{n // 2}|p{(n // 2 + 1) % 20}" if n % 2 else f"p{n // 2}" for n in range(40)]
    groups, kept_apart = group_people(list_videos(40, identities=identities))
    assert not kept_apart
    assert list(groups) == [f"p{n // 2}" for n in range(40)]


def test_one_person_is_too_few() -> None:
    videos = list_videos(identities="bob")
    assert assign_folds(videos["label"], group_people(videos)[0]) is None
    table = find_shortcuts(videos, plant(draw_features(videos), videos, "fps"))
    assert table["value"].isna().all()
    assert not table["matters"].any()


@pytest.mark.parametrize("name", ["fps", "video_codec", TOGETHER])
def test_labels_of_the_tested_people_do_not_matter(name: str) -> None:
    videos = list_videos()
    features = plant(draw_features(videos), videos, "fps")
    labels, folds = videos["label"].set_axis(features.index), np.arange(120) // 2 % 4

    def score(labels: pd.Series) -> np.ndarray:
        return (
            score_together(features, labels, folds) if name == TOGETHER else score_alone(features[name], labels, folds)
        )

    tested = folds == 0
    np.testing.assert_array_equal(score(labels.mask(tested, 1 - labels))[tested], score(labels)[tested])
    assert (score(labels.mask(~tested, 1 - labels)) != score(labels))[tested].all()


def test_equal_values_stay_equal_across_folds() -> None:
    rng = np.random.default_rng(0)
    values, labels = pd.Series(rng.integers(0, 2, 90).astype(float)), pd.Series(rng.integers(0, 2, 90))
    labels = labels.where(rng.random(90) < 0.5, values.astype(int))
    scores = score_alone(values, labels, np.arange(90) % 3)
    assert len(np.unique(scores)) == 2


def test_trivia_learnt_on_some_videos_score_others_with_what_was_never_seen() -> None:
    videos = list_videos()
    features = plant(draw_features(videos), videos, "has_audio").drop(columns="has_audio")  # known by what is missing
    features.iloc[-1, features.columns.get_loc("video_codec")] = "av1"
    scores = score_trivia(features[:80], videos["label"][:80], features[80:])
    assert compute_auc(videos["label"][80:], scores)["value"] == 1
    assert ((scores >= 0) & (scores <= 1)).all()


def test_every_readable_video_has_its_features(tiny: Settings, manifest: pd.DataFrame) -> None:
    more = pd.concat([manifest, manifest.tail(1).assign(video_id="gone", path="gone.mp4")])
    features = measure_trivia(more, tiny, progress=False)
    assert list(features.index) == list(manifest["video_id"])
    assert list(features.columns) == list(UNITS)
    assert features["duration"].between(1.9, 3.1).all()
    assert features["face_size"].between(0.3, 0.9).all()
    assert (features["has_audio"] == 1).all()


def test_units_say_what_is_a_kind() -> None:
    assert {name for name, unit in UNITS.items() if unit is None} == {"video_codec", "audio_codec"}
    assert shortcuts.format_value(44_100) == "44,100"
    assert shortcuts.format_value(0.12345) == "0.123"
