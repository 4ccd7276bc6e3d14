"""Is a score the probability that it claims to be? Its errors, and how often videos of each score are fake."""

from __future__ import annotations

import pandas as pd

from dfmm.metrics import Calibration, measure_calibration, move_scores


def compare_calibration(scored: pd.DataFrame, *, prior: float, trained: float) -> dict[str, Calibration] | None:
    """Return the calibration of the network's own scores and of those joined from all evidence, on the same videos.

    Both are moved from the prior they assume to the share of fakes among these videos: what is left is not the prior's.
    None where all have one label: there is no share to move them to.

    Args:
        prior, trained: what the joined scores assume, and the network's own.
    """
    labels = scored["label"]
    if labels.nunique() < 2:
        return None
    return {
        name: measure_calibration(labels, move_scores(scored[column], assumed, labels.mean()))
        for name, column, assumed in (("network", "fusion_score", trained), ("evidence", "score", prior))
    }
