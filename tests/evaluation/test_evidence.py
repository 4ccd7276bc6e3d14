"""Evidence: calibrated piece by piece, joined without guessing what is missing, and said in words."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from scipy.special import expit, logit
from scipy.stats import beta
from sklearn.metrics import log_loss, roc_auc_score

from dfmm.evaluation.calibration import compare_calibration, measure_calibration
from dfmm.evaluation.evidence import (
    Evidence,
    apply_evidence,
    choose_window_threshold,
    describe_evidence,
    describe_score,
    doubt_threshold,
    fit_evidence,
    say_ratio,
    shift_prior,
)
from dfmm.figures import plot_evidence
from dfmm.figures.style import GREY
from dfmm.metrics import MetricError, choose_threshold

METHODS = {"real": (0, 0, 0), "swap": (1, 1, 0), "clone": (1, 0, 1), "both": (1, 1, 1)}
PRIOR = 0.6


def draw_videos(n: int = 400, *, seed: int = 0, strength: float = 2.0, sound: bool = True) -> pd.DataFrame:
    """Draw videos whose heads find their own stream's forgery: their log-odds are `strength`, or as much below 0."""
    rng = np.random.default_rng(seed)
    method = rng.choice(list(METHODS), n, p=[0.4, 0.2, 0.2, 0.2])
    labels = pd.DataFrame([METHODS[name] for name in method], columns=["label", "video_fake", "audio_fake"])
    people = [f"p{number % 40}" for number in range(n)]
    facts = {"video_id": [f"v{number}" for number in range(n)], "method": method, "identities": people, "original": ""}
    videos = labels.assign(**facts, in_sync=1, status="ok")
    heard = strength * (2 * labels["audio_fake"] - 1) + rng.normal(0, 1.5, n)
    seen = strength * (2 * labels["video_fake"] - 1) + rng.normal(0, 1.5, n)
    fused = rng.normal(0, 1, n) + labels["label"]
    columns = {"video_fake_score": expit(seen), "audio_fake_score": expit(heard), "fusion_score": expit(fused)}
    videos = videos.assign(**columns)
    return videos if sound else videos.assign(audio_fake_score=np.nan)


def fit(videos: pd.DataFrame, **options: object) -> Evidence:
    return fit_evidence(videos, **{"prior": PRIOR, "rule": "balanced_accuracy"} | options)


def test_a_genuine_voice_excuses_no_forged_picture() -> None:
    """What a sum of log-odds gets wrong: a fake is a fake whichever stream of it is genuine."""
    evidence = fit(draw_videos())
    sure, unsure = 0.999, 0.001
    columns = {"video_fake_score": [sure, sure, unsure], "audio_fake_score": [unsure, sure, unsure]}
    scores = apply_evidence(pd.DataFrame({**columns, "fusion_score": 0.5}), evidence)["score"]
    assert scores[0] > 0.9
    assert scores[1] >= scores[0]
    assert scores[2] < 0.2


def test_joined_evidence_beats_every_piece_of_it_on_other_people() -> None:
    evidence, test = fit(draw_videos()), draw_videos(seed=1)
    joined = apply_evidence(test, evidence)
    for name in ("video_fake_score", "audio_fake_score", "fusion_score"):
        assert roc_auc_score(test["label"], joined["score"]) > roc_auc_score(test["label"], test[name]) + 0.02
    assert set(evidence.pieces) == {"picture", "voice", "fusion"}


@pytest.mark.parametrize("strength", [0.7, 2.0])
def test_the_joined_score_is_a_probability_on_other_people(strength: float) -> None:
    evidence = fit(draw_videos(2000, strength=strength))
    test = apply_evidence(draw_videos(4000, seed=1, strength=strength), evidence)
    found = measure_calibration(test["label"], test["score"])
    assert found["ece"] < 0.05
    assert found["brier"] < measure_calibration(test["label"], test["fusion_score"])["brier"]


@pytest.mark.parametrize("power", [0.37, 3.0])  # focal loss with gamma 2 says .694 where .9 is true; `max` exaggerates
def test_a_network_whose_scores_are_no_probabilities_is_calibrated(power: float) -> None:
    def draw(seed: int) -> pd.DataFrame:
        truth = np.random.default_rng(seed).random(10_000)
        labels = (np.random.default_rng(seed + 1).random(truth.size) < truth).astype(int)
        names = pd.DataFrame({"video_id": [f"v{row}" for row in range(truth.size)]})
        names["identities"] = [f"p{row % 40}" for row in range(truth.size)]
        unknown = dict.fromkeys(("video_fake", "audio_fake", "in_sync"), -1)
        return names.assign(label=labels, original="", fusion_score=expit(power * logit(truth)), **unknown)

    test = apply_evidence(draw(2), fit(draw(0), prior=0.5))
    assert measure_calibration(test["label"], test["fusion_score"])["ece"] > 0.1
    assert measure_calibration(test["label"], test["score"])["ece"] < 0.02


def test_a_score_is_called_what_it_is() -> None:
    evidence = fit(draw_videos())
    assert re.search(r"probability .* where 60 % .* calibrated on \d+ reals and \d+ fakes", describe_score(evidence))
    blind = fit(draw_videos().assign(video_fake_score=0.5, audio_fake_score=0.5, fusion_score=0.5))
    assert not blind.pieces
    for nothing in (blind, None):
        assert "no probability" in describe_score(nothing)


def test_what_is_missing_weighs_nothing() -> None:
    """A clip without sound is scored as if nobody had listened; of one without both only the prior is known."""
    evidence = fit(draw_videos(2000))
    alone = fit(draw_videos(2000), taught=["picture"])
    mute = draw_videos(4000, seed=1, sound=False)
    scored = apply_evidence(mute, evidence)
    assert scored["voice_evidence"].isna().all()
    assert (
        log_loss(mute["label"], scored["score"]) < log_loss(mute["label"], apply_evidence(mute, alone)["score"]) + 0.02
    )
    blind = apply_evidence(mute.assign(video_fake_score=np.nan), fit(draw_videos(), taught=["picture", "voice"]))
    assert blind["score"].to_numpy() == pytest.approx(PRIOR)
    assert apply_evidence(mute.assign(fusion_score=np.nan), evidence)["score"].isna().all()  # it was not scored at all


def test_more_suspicion_of_any_sense_never_lowers_the_score() -> None:
    evidence = fit(draw_videos(60, strength=0.3))
    assert all(piece.slope > 0 and piece.weight >= 0 for piece in evidence.pieces.values())
    grid = np.linspace(0.01, 0.99, 50)
    for name in ("video_fake_score", "audio_fake_score"):
        videos = pd.DataFrame({"video_fake_score": 0.4, "audio_fake_score": 0.4, "fusion_score": 0.5}, index=range(50))
        assert (np.diff(apply_evidence(videos.assign(**{name: grid}), evidence)["score"]) >= 0).all()


def test_a_head_that_learnt_one_kind_of_label_or_finds_nothing_is_no_piece() -> None:
    videos = draw_videos()
    assert set(fit(videos.assign(audio_fake=0)).pieces) == {"picture", "fusion"}
    assert fit(videos.head(50)).pieces["fusion"].weight < fit(draw_videos(4000)).pieces["fusion"].weight
    assert set(fit(videos, taught=["picture"]).pieces) == {"picture"}
    backwards = videos.assign(audio_fake_score=1 - videos["audio_fake_score"])
    assert "voice" not in fit(backwards).pieces
    noise = fit(videos[["label", "video_id", "identities", "original", "fusion_score"]].assign(
        video_fake=-1, audio_fake=-1, in_sync=-1, fusion_score=1 - videos["fusion_score"]
    ))  # fmt: skip
    assert noise.pieces == {}
    assert apply_evidence(videos, noise)["score"].equals(videos["fusion_score"])


def test_synchrony_and_lag_find_what_no_head_does() -> None:
    rng = np.random.default_rng(2)
    videos = draw_videos()
    moved = (videos["method"] == "real") & (rng.random(len(videos)) < 0.4)
    videos.loc[moved, ["label", "in_sync", "video_fake", "audio_fake"]] = [1, 0, -1, -1]
    videos["in_step"] = expit(np.where(moved, -2, 2) + rng.normal(0, 1, len(videos)))
    videos["lag_ms"] = 100 + np.where(moved, rng.uniform(200, 500, len(videos)) * rng.choice([-1, 1], len(videos)), 10)
    evidence = fit(videos)
    assert evidence.pieces["lag"].usual == pytest.approx(110)  # whole sources are late alike: not 0, but that is usual
    rows = apply_evidence(videos, evidence)
    late = rows[moved | (rows["label"] == 0)]
    assert roc_auc_score(late["label"], late["score"]) > 0.95
    assert (rows.loc[moved, "lag_evidence"] > 0).all()
    early = videos[:1].assign(in_step=0.9, lag_ms=[-390.0])
    assert apply_evidence(early, evidence)["lag_evidence"][0] > 0.3  # early is as odd as late


def test_without_swapped_sound_in_validation_synchrony_is_taught_by_the_fakes() -> None:
    videos = draw_videos()
    videos["in_step"] = expit(2 - 2 * videos["label"] + np.random.default_rng(0).normal(0, 1, len(videos)))
    piece = fit(videos).pieces["synchrony"]
    people = videos.groupby("label")["identities"].nunique()
    assert (piece.forged, piece.genuine) == (people[1], people[0])


def test_what_no_label_can_check_is_taken_as_calibrated_and_teaches_nothing_by_being_missing() -> None:
    """Forgeries made of reals as they are read have no file to judge: synchrony is missing in all of them."""
    videos = draw_videos()
    videos["in_step"] = np.where(videos["label"] == 0, expit(2.0), np.nan)
    evidence, without = fit(videos), fit(videos, taught=["picture", "voice", "fusion"])
    piece = evidence.pieces["synchrony"]
    assert (piece.weight, piece.forged) == (1.0, 0)
    assert {name: evidence.pieces[name] for name in without.pieces} == without.pieces
    rows = videos[:1].assign(in_step=[0.001])
    most = np.log10(piece.genuine + 1)
    bounded = most * np.tanh(np.log10(999) / most)
    assert apply_evidence(rows, evidence)["synchrony_evidence"][0] == pytest.approx(bounded, abs=0.01)


def test_what_twins_lack_does_not_move_the_threshold_that_is_chosen_on_them() -> None:
    """The reals' own synchrony would set them apart from their twins, and from no fake whose file is judged."""
    videos = draw_videos()
    fakes = list(videos.loc[videos["label"] == 1, "video_id"])
    judged = videos.assign(in_step=np.where(videos["label"] == 0, expit(4.0), np.nan))
    with_it, without = fit(judged, twins=fakes), fit(videos, twins=fakes)
    assert with_it.pieces["synchrony"].weight == 1.0  # it still speaks
    assert with_it.threshold == pytest.approx(without.threshold)


def test_the_threshold_is_chosen_on_people_the_fit_had_not_seen() -> None:
    """Heads that say nothing: fitted to themselves, a few dozen videos would promise more than chance."""
    apart = [fit(draw_videos(60, seed=seed, strength=0.0)) for seed in range(5)]
    assert all(evidence.apart for evidence in apart)
    one = draw_videos(60).assign(identities="p0", original="same")
    assert not fit(one).apart


def test_the_same_videos_give_the_same_file_and_it_holds_nothing_but_json() -> None:
    videos = draw_videos(80)
    first, second = fit(videos, learnt_on="abc"), fit(videos, learnt_on="abc")
    assert json.dumps(first.dump()) == json.dumps(second.dump())
    again = Evidence.load(json.loads(json.dumps(first.dump(), allow_nan=False)))
    assert again == first
    pd.testing.assert_frame_equal(apply_evidence(videos, again), apply_evidence(videos, first))


@pytest.mark.parametrize("taught", [("picture", "voice", "fusion"), ()])
def test_another_prior_moves_all_scores_and_calls_nothing_otherwise(taught: tuple[str, ...]) -> None:
    videos = draw_videos()
    evidence = fit(videos, taught=taught)
    rare = shift_prior(evidence, 0.01)
    before, after = (apply_evidence(videos, one)["score"] for one in (evidence, rare))
    assert (logit(after) - logit(before)).to_numpy() == pytest.approx(logit(0.01) - logit(PRIOR), abs=1e-4)
    assert ((before >= evidence.threshold) == (after >= rare.threshold)).mean() > 0.99  # but what lies on it
    assert (rare.prior, rare.trained) == (0.01, PRIOR)
    assert shift_prior(evidence, None) == evidence
    calibration = compare_calibration(
        videos.assign(score=after, fusion_score=videos["fusion_score"]), prior=rare.prior, trained=PRIOR
    )
    as_before = compare_calibration(videos.assign(score=before), prior=evidence.prior, trained=PRIOR)
    assert calibration["evidence"]["brier"] == pytest.approx(as_before["evidence"]["brier"], abs=1e-5)


def test_windows_are_called_fake_by_a_threshold_of_their_own() -> None:
    """A fake's highest of eight windows lies far above the others: few of them reach what parts videos."""
    rng, label = np.random.default_rng(0), np.repeat([0, 1], 400)
    windows = pd.DataFrame({"video_id": [f"v{n // 8}" for n in range(800)], "label": label, "score": 0.0})
    windows["score"] = expit(rng.normal(1.5 * label - 1, 1))
    videos = windows.groupby("video_id").max()
    level = choose_threshold(videos["label"], videos["score"], rule="balanced_accuracy")
    own = choose_window_threshold(windows, rule="balanced_accuracy")
    fakes = windows.loc[windows["label"] == 1, "score"]
    assert (fakes >= level).mean() < 0.4 < 0.6 < (fakes >= own).mean()
    twins = {f"v{n}" for n in range(90, 100)}
    assert choose_window_threshold(windows[windows["video_id"].isin(twins)], rule="eer", twins=twins) is None
    few = windows.assign(score=windows["score"].mask(windows["video_id"].isin(twins), 0.0))
    assert choose_window_threshold(few, rule="eer", twins=twins) > choose_window_threshold(few, rule="eer")


def test_the_prior_moves_scores_and_nothing_else() -> None:
    videos = draw_videos()
    odds = [logit(apply_evidence(videos, fit(videos, prior=prior))["score"]) for prior in (0.5, 0.1)]
    assert (odds[0] - odds[1]).to_numpy() == pytest.approx(logit(0.5) - logit(0.1), abs=1e-4)


def test_evidence_vouches_for_no_more_than_validation_can() -> None:
    """Four people, and a sense that is surer than that: its order stays, its certainty does not."""
    few = draw_videos(60, strength=9.0).assign(identities=lambda rows: "p" + (rows.index % 4).astype(str))
    evidence = fit(few)
    piece = evidence.pieces["picture"]
    assert piece.bounds == (5, 5)
    columns = {"video_fake_score": expit([-30.0, -9.0, 9.0, 14.0]), "audio_fake_score": np.nan, "fusion_score": 0.5}
    ratios = apply_evidence(pd.DataFrame(columns), evidence)["picture_evidence"]
    assert ratios.is_monotonic_increasing
    assert ratios.abs().max() <= np.log10(5)
    assert ratios[3] > np.log10(4)
    many = fit(draw_videos(400, strength=9.0)).pieces["picture"]
    assert many.bounds > (30, 30)


def test_pieces_are_told_in_words() -> None:
    evidence = fit(draw_videos(60))
    said = describe_evidence({"picture_evidence": 1.5, "voice_evidence": np.nan}, evidence)
    assert said["voice"] == "missing, and left out"
    assert "moderate support for a forged picture: 32 times as often seen there" in said["picture"]
    assert "a genuine picture" in describe_evidence({"picture_evidence": -0.9}, evidence)["picture"]
    lag = replace(evidence.pieces["picture"], usual=30.0)
    late = {"lag_ms": -200.0, "lag_confidence": 0.31, "lag_evidence": 1.0}
    said = describe_evidence(late, replace(evidence, pieces={"lag": lag}))["lag"]
    assert "200 ms early, confidence 0.31; that of genuine clips 30 ms late" in said
    said = "says nothing: less than 2 times as often seen of a forged picture as of a genuine picture"
    assert describe_evidence({"picture_evidence": 0.3}, evidence)["picture"] == said


def test_a_bar_is_grey_where_the_words_say_nothing() -> None:
    ratios = {"picture_evidence": 0.3, "voice_evidence": -0.3, "lag_evidence": -0.31, "fusion_evidence": 1.0}
    names = [name.removesuffix("_evidence") for name in ratios]
    said = [say_ratio(value, name) for name, value in zip(names, ratios.values(), strict=True)]
    bars = plot_evidence(ratios, names).axes[0].patches
    grey = [bar.get_facecolor() == to_rgba(GREY) for bar in bars]
    assert grey == [words.startswith("says nothing") for words in said] == [True, True, False, False]


@pytest.mark.parametrize("ratio", [np.log10(2), 0.30104, 0.30096, -0.301])
def test_a_bar_drawn_of_what_a_line_tells_rounded_says_what_its_words_do(ratio: float) -> None:
    words = say_ratio(ratio, "picture")
    (bar,) = plot_evidence({"picture_evidence": round(ratio, 4)}, ["picture"]).axes[0].patches
    assert (bar.get_facecolor() == to_rgba(GREY)) is words.startswith("says nothing")


def test_who_taught_a_piece_are_people_only_where_somebody_is_named() -> None:
    videos = draw_videos()
    assert fit(videos).teachers == "people of validation"
    nameless = fit(videos.assign(identities=[f"video:{name}" for name in videos["video_id"]]))
    assert nameless.teachers == "videos of validation, which name nobody"
    assert Evidence.load(nameless.dump()) == nameless
    of_before = {name: value for name, value in nameless.dump().items() if name != "named"}
    assert Evidence.load(of_before).named


def test_calibration_is_told_from_its_lack() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(20_000)
    labels = rng.random(20_000) < truth
    good, bad = measure_calibration(labels, truth), measure_calibration(labels, expit(3 * logit(truth)))
    assert good["ece"] < 0.01 < 0.1 < bad["ece"]
    assert good["brier"] == pytest.approx(1 / 6, abs=0.01)  # the mean of p (1 − p) over even p
    assert sum(each["videos"] for each in good["bins"]) == 20_000
    with pytest.raises(MetricError, match="probabilities"):
        measure_calibration([0, 1], [0.5, np.nan])


# The threshold


@pytest.mark.parametrize(
    ("rule", "reals", "said"),
    [
        ("fpr=0.01", 20, "20 reals .* which takes 300: .* up to 4.8% .* no more than 13.9%"),
        ("fpr=0.01", 44, "44 reals .* up to 2.2% .* no more than 6.6%"),
        ("fpr=1e-2", 150, "up to 1.3%"),
        ("fpr=0.01", 300, ""),
        ("balanced_accuracy", 20, ""),
        ("eer", 2, ""),
    ],
)
def test_a_rate_that_validation_cannot_hold_is_told(rule: str, reals: int, said: str) -> None:
    videos = draw_videos(2 * reals).assign(label=np.repeat([0, 1], reals))
    doubts = doubt_threshold(fit(videos, rule=rule))
    assert len(doubts) == bool(said)
    assert not said or re.search(said, doubts[0])
    assert not doubt_threshold(
        Evidence.load({**fit(videos, rule=rule).dump(), "reals": 0})
    )  # of before: nobody counted


def test_a_rate_is_held_as_told() -> None:
    """Chosen on 44 reals, simulated: new ones are called fake in 2.2 % of cases, not in 1 %."""
    rng, rates = np.random.default_rng(0), []
    for _ in range(2000):
        labels, scores = np.repeat([0, 1], [44, 400]), np.concatenate([rng.random(44), 0.2 + rng.random(400)])
        rates.append(max(1 - choose_threshold(labels, scores, rule="fpr=0.01"), 0))
    (doubt,) = doubt_threshold(replace(fit(draw_videos(88), rule="fpr=0.01"), reals=44))
    assert f"up to {1 / 45:.1%}" in doubt
    assert np.mean(rates) == pytest.approx(1 / 45, abs=0.003)
    assert np.mean(np.array(rates) <= beta.ppf(0.95, 1, 44)) >= 0.94


def test_forged_twins_do_not_mix_with_true_fakes_where_the_threshold_is_chosen() -> None:
    videos = draw_videos(120)
    fakes = list(videos.loc[videos["label"] == 1, "video_id"])
    made = videos.assign(label=1, video_id=videos["video_id"] + "~vocoder")
    both, twins = pd.concat([videos, made], ignore_index=True), list(made["video_id"])
    mixed, apart = fit(both, rule="eer"), fit(both, rule="eer", twins=twins)
    assert (mixed.fakes, apart.fakes, apart.twins) == (len(fakes) + 120, len(fakes), 0)
    assert apart.threshold != mixed.threshold
    assert not doubt_threshold(apart)
    alone = fit(both[~both["video_id"].isin(fakes)], twins=twins)
    assert alone.twins == alone.fakes == 120
    assert doubt_threshold(alone)[0].startswith("no true fake is in validation: the threshold was chosen on 120 forger")
