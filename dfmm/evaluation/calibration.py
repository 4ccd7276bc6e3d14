"""Is a score the probability that it claims to be? Its errors, and how often videos of each score are fake."""

from __future__ import annotations

import pandas as pd
from scipy.special import expit

from dfmm.metrics import Calibration, find_odds, measure_calibration


def compare_calibration(scored: pd.DataFrame, *, prior: float, trained: float) -> dict[str, Calibration]:
    """Return the calibration of the network's own scores and of those joined from all evidence, on the same videos.

    Both are moved from the prior they assume to the share of fakes among these videos: what is left is not the prior's.

    Args:
        prior, trained: what the joined scores assume, and the network's own.
    """
    labels, wanted = scored["label"], find_odds(scored["label"].mean())
    return {
        name: measure_calibration(labels, expit(find_odds(scored[column]) + wanted - find_odds(assumed)))
        for name, column, assumed in (("network", "fusion_score", trained), ("evidence", "score", prior))
    }
