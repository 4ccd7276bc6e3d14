"""Is a score the probability that it claims to be? Its errors, and how often videos of each score are fake."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from dfmm.metrics import MetricError

BINS = 10
EDGE = 1e-7  # a probability of 0 or 1 has no odds


def measure_calibration(labels: ArrayLike, scores: ArrayLike, *, bins: int = BINS) -> dict[str, Any]:
    """Return how far scores are from being probabilities.

    Args:
        labels: [n], 1 = fake, 0 = real.
        scores: [n], probabilities of fake.
        bins: of equally many videos each, for `ece` and `bins`; fewer where there are fewer than ten videos for each.

    Returns:
        `brier`, the mean squared error (Brier, 1950); `ece`, the mean distance of score and share of fakes over bins,
        weighted by their videos (Naeini et al., 2015), which is above 0 by chance too where videos are few; and `bins`,
        each with its mean `score`, `share` of fakes and number of `videos`.

    Raises:
        MetricError: no video, or a score that is no probability.
    """
    labels, scores = np.asarray(labels, float), np.asarray(scores, float)
    if not len(scores) or not ((scores >= 0) & (scores <= 1)).all():
        raise MetricError(f"expected probabilities, at least one, got {len(scores)} scores: leave out what has none")
    order = np.argsort(scores, kind="stable")
    parts = np.array_split(order, max(1, min(bins, len(scores) // 10)))
    found = [
        {"score": float(scores[part].mean()), "share": float(labels[part].mean()), "videos": len(part)}
        for part in parts
    ]
    distances = [abs(each["score"] - each["share"]) * each["videos"] for each in found]
    return {"brier": float(np.mean((scores - labels) ** 2)), "ece": sum(distances) / len(scores), "bins": found}


def compare_calibration(scored: pd.DataFrame, *, prior: float) -> dict[str, Any]:
    """Return the calibration of the network's own scores and of those joined from all evidence, on the same videos.

    Both are moved from the prior they assume to the share of fakes among these videos: what is left is not the prior's.
    """
    labels = scored["label"]
    shift = _find_odds(labels.mean()) - _find_odds(prior)
    return {
        name: measure_calibration(labels, expit(_find_odds(scored[column]) + shift))
        for name, column in (("network", "fusion_score"), ("evidence", "score"))
    }


def _find_odds(scores: Any) -> Any:
    return logit(np.clip(scores, EDGE, 1 - EDGE))
