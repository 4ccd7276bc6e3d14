"""Threshold and prior: the sliders count what the evaluation counts, in the browser too."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit

from dfmm.evaluation.evidence import Evidence, apply_evidence, shift_prior
from dfmm.evaluation.slices import measure_rate
from dfmm.figures import format_interval, sliders
from dfmm.figures.sliders import SURE, UNKNOWN, Decisions, Sliders, open_decisions, plot_decisions, try_thresholds
from dfmm.figures.still import read_view
from dfmm.metrics import compute_metrics
from dfmm.words import count_noun

EVIDENCE = Evidence({}, 0.0, prior=0.4, threshold=0.45, rule="balanced_accuracy", apart=True)


def make_videos(reals: int = 30, fakes: int = 20) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [reals, fakes])
    scores = np.clip(rng.normal(0.35 + 0.3 * labels, 0.2), 0.01, 0.99)
    people = [f"p{number % 13}" for number in range(len(labels))]
    table = pd.DataFrame({"video_id": range(len(labels)), "label": labels, "score": scores, "identities": people})
    return table.assign(status="ok", fusion_score=scores)


@pytest.mark.parametrize("prior", [0.4, 0.01, 0.9])
@pytest.mark.parametrize("threshold", [0.2, 0.45, 0.97])
def test_it_counts_what_evidence_of_another_prior_calls_fake(threshold: float, prior: float) -> None:
    videos = make_videos()
    moved = apply_evidence(videos, shift_prior(EVIDENCE, prior))
    called = moved["score"] >= threshold
    found = open_decisions(videos, EVIDENCE.threshold, EVIDENCE.prior).measure(threshold, prior)
    assert found["tp"] == (called & (videos["label"] == 1)).sum()
    assert found["fp"] == (called & (videos["label"] == 0)).sum()
    assert found["tp"] + found["fn"] == 20
    assert found["tn"] + found["fp"] == 30


def test_a_threshold_that_is_moved_along_calls_the_same_videos_fake() -> None:
    decisions = open_decisions(make_videos(), EVIDENCE.threshold, EVIDENCE.prior)
    here, rare = decisions.measure(EVIDENCE.threshold, EVIDENCE.prior), shift_prior(EVIDENCE, 0.01)
    there = decisions.measure(rare.threshold, rare.prior)
    assert [here[name] for name in ("tn", "fp", "fn", "tp")] == [there[name] for name in ("tn", "fp", "fn", "tp")]
    assert there["precision_at_prior"] < here["precision_at_prior"]  # where fakes are rare, most alarms are false


def test_numbers_and_intervals_are_those_of_the_report() -> None:
    videos = make_videos()
    options = {"threshold": EVIDENCE.threshold, "identities": list(videos["identities"]), "replicates": 50}
    known = compute_metrics(videos["label"], videos["score"], **options)
    decisions = open_decisions(videos, EVIDENCE.threshold, EVIDENCE.prior, replicates=50)
    found = decisions.measure(EVIDENCE.threshold, EVIDENCE.prior)
    assert {name: found[name] for name in ("tn", "fp", "fn", "tp")} == known["confusion"]
    assert found["precision"] == pytest.approx(known["precision"]["value"])
    assert decisions.recall == known["recall"]
    assert decisions.false_alarms == measure_rate(videos[videos["label"] == 0], EVIDENCE.threshold, 50)
    for name in ("recall", "false_alarms"):
        interval = getattr(decisions, name)
        assert interval["low"] < found[name] < interval["high"]
        assert interval["value"] == pytest.approx(found[name])
    share = 20 / 50
    here = open_decisions(videos, 0.45, share).measure(0.45, share)
    assert here["precision_at_prior"] == pytest.approx(found["precision"])


def test_clips_of_few_people_do_not_narrow_the_intervals() -> None:
    def measure_widths(people: int) -> list[float]:
        videos = make_videos(200, 200).assign(identities=[f"p{number % people}" for number in range(400)])
        videos["score"] += 0.2 * (videos["identities"] == "p0")  # of whom all clips look forged
        decisions = open_decisions(videos.assign(score=videos["score"].clip(0.01, 0.99)), 0.45, 0.4, replicates=200)
        return [interval["high"] - interval["low"] for interval in (decisions.recall, decisions.false_alarms)]

    assert all(few > 1.2 * many for few, many in zip(measure_widths(5), measure_widths(400), strict=True))


def test_the_browser_counts_alike() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node.js is installed; tests/browser tries the same in a browser")
    decisions = open_decisions(make_videos(), EVIDENCE.threshold, EVIDENCE.prior)
    asked = [(threshold, prior) for threshold in (0.05, 0.45, 0.8) for prior in (0.001, 0.4, 0.7)]
    given = {"reals": decisions.reals.tolist(), "fakes": decisions.fakes.tolist()}
    code = read_view(sliders.__file__)[0] + (
        f"const given = {json.dumps(given)}; const found = {json.dumps(asked)}.map(([threshold, prior]) =>"
        f" measure({{ ...given, moved: logit(prior) - logit({EVIDENCE.prior}) }}, logit(threshold), prior));"
        "console.log(JSON.stringify(found));"
    )
    said = subprocess.run([node, "--input-type=module"], input=code, capture_output=True, text=True, check=True)
    for (threshold, prior), found in zip(asked, json.loads(said.stdout), strict=True):
        expected = decisions.measure(threshold, prior)
        assert set(found) == set(expected)
        for name, value in expected.items():
            assert found[name] == pytest.approx(value), name


def test_what_cannot_be_told_is_no_number() -> None:
    decisions = open_decisions(make_videos(fakes=0), 0.45, 0.4)
    found = decisions.measure(0.99999, 0.4)
    assert (found["recall"], found["precision"], found["precision_at_prior"]) == (None, None, None)
    assert plot_decisions(decisions)
    assert "recall: –" in try_thresholds(make_videos(fakes=0), 0.45, prior=0.4).text


def test_scores_of_nought_and_one_are_sure_at_any_prior() -> None:
    decisions = Decisions(np.array([-np.inf, 0.0]), np.array([0.0, np.inf]), 0.5, 1 - SURE, UNKNOWN, UNKNOWN)
    found = decisions.measure(0.999, 0.001)
    assert (found["tp"], found["fp"]) == (1, 0)
    assert plot_decisions(decisions)
    assert replace(decisions, prior=0.1).measure(0.001, 0.999)["tn"] == 1


def test_the_still_says_what_validations_threshold_reaches_and_that_choosing_is_on_test() -> None:
    still = try_thresholds(make_videos(), 0.45, prior=0.4)
    decisions = open_decisions(make_videos(), 0.45, 0.4)
    found = decisions.measure(0.45, 0.4)
    assert f"{count_noun(found['tp'], 'fake')} found" in still.text
    assert "choosing on test" in still.text
    assert f"recall: {format_interval(decisions.recall)}" in still.text
    widget = still.make()
    assert isinstance(widget, Sliders)
    assert np.allclose(np.frombuffer(widget.reals, "<f8"), np.sort(logit(make_videos()["score"][:30])))
