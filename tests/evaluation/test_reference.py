"""A file's rank among genuine clips: how many look as bad, and what may be concluded from that."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dfmm.evaluation import ReferenceSetError, compare_reference, format_reference, gather_reference


def make_line(score: float | None) -> dict[str, Any]:
    return {"path": "a.mp4", "status": "unscored" if score is None else "ok", "reason": "no face", "score": score}


def test_a_file_is_told_how_many_genuine_clips_look_as_bad() -> None:
    reference = gather_reference(map(make_line, (0.9, 0.2, None, 0.5, 0.5)))
    found = [compare_reference(make_line(score), reference)["reference"] for score in (0.1, 0.5, 0.95)]
    assert [one["bad"] for one in found] == [4, 3, 0]
    assert [one["p"] for one in found] == [1.0, 0.8, 0.2]
    assert "3 of 4 look as bad or worse (p = 0.8)" in format_reference(compare_reference(make_line(0.5), reference))
    unscored = compare_reference(make_line(None), reference)
    assert unscored["reference"] is None
    assert format_reference(unscored) == ""


def test_without_a_run_sound_that_fits_less_looks_worse() -> None:
    lines = [{"status": "ok", "reason": "", "synchrony": {"log_ratio": value}} for value in (3.0, 5.0, 1.0)]
    reference = gather_reference(lines[:2])
    assert [compare_reference(line, reference)["reference"]["bad"] for line in lines] == [1, 2, 0]


def test_a_genuine_clip_gets_a_small_p_as_seldom_as_it_says() -> None:
    rng = np.random.default_rng(0)
    scores = rng.beta(2, 5, (4000, 20)).round(2)  # with ties
    p = [
        compare_reference(make_line(row[0]), gather_reference(map(make_line, row[1:])))["reference"]["p"]
        for row in scores.tolist()
    ]
    for alpha in (0.05, 0.1, 0.5):
        assert np.mean(np.array(p) <= alpha) < alpha + 0.02
    assert np.mean(np.array(p) <= 0.5) > 0.4


@pytest.mark.parametrize(("scores", "why"), [((None, None), "none of the 2 .* no face"), ((), "none of the 0 .* none")])
def test_a_reference_that_cannot_be_scored_is_refused(scores: tuple[None, ...], why: str) -> None:
    with pytest.raises(ReferenceSetError, match=why):
        gather_reference(map(make_line, scores))
