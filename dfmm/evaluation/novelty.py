"""What several runs find of each method: of those that their training saw, and of those that were kept from it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from dfmm.evaluation.compare import Scored
from dfmm.figures import format_interval, name_runs
from dfmm.metrics import compute_auc

COLUMNS = ("run", "method", "videos", "unseen", "value", "low", "high")


def measure_methods(scored: Sequence[Scored]) -> pd.DataFrame:
    """Return how well each run tells each method's fakes from all reals.

    Args:
        scored: runs on the same videos, as from `align_scored`.

    Returns:
        A row a run and method: `run`, `method`, its `videos`, the AUC's `value`, `low` and `high`, and whether it was
        `unseen`: no part of the method was in what the run was trained on; None of imported scores, for nobody knows.
        No row where the videos are of one label: that takes reals and fakes.
    """
    rows = [row for one in scored for row in _measure_run(one)]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"unseen": object})


def _measure_run(one: Scored) -> list[dict[str, object]]:
    videos, replicates, rows = one.videos, one.settings.evaluate.replicates, []
    methods = sorted(set(videos.loc[videos["label"] == 1, "method"])) if videos["label"].nunique() == 2 else []
    for method in methods:
        some = videos[(videos["label"] == 0) | (videos["method"] == method)]
        auc = compute_auc(some["label"], some["score"], identities=list(some["identities"]), replicates=replicates)
        unseen = None if one.foreign else method in one.unseen
        told = {"run": one.name, "method": method, "videos": int(some["label"].sum()), "unseen": unseen}
        rows.append(told | {end: auc[end] for end in ("value", "low", "high")})
    return rows


def describe_novelty(methods: pd.DataFrame) -> list[str]:
    """Return a line a method that some of the runs had seen and some had not: what it is found by, seen and unseen.

    Args:
        methods: as from `measure_methods`.
    """
    short = dict(zip(names := list(methods["run"].unique()), name_runs(names), strict=True))
    told = methods.assign(said=[f"{format_interval(row)} ({short[row['run']]})" for row in methods.to_dict("records")])
    lines = []
    for method, rows in told.groupby("method"):
        seen, unseen = ("; ".join(rows.loc[rows["unseen"].eq(is_new), "said"]) for is_new in (False, True))
        if seen and unseen:
            lines.append(f"{method}: AUC {seen} where training saw it, {unseen} where it did not.")
    return lines
