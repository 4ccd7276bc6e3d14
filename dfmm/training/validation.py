"""What a step or an epoch is worth: numbers of its windows, and of how many videos and people these are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score

from dfmm.metrics import compute_auc, compute_eer
from dfmm.people import ALONE, count_people
from dfmm.training.machine import TrainingError

REPLICATES = 200  # of people, behind an epoch's interval
NAMED = 5  # videos that an error names


def measure_windows(windows: pd.DataFrame, people: pd.Series) -> dict[str, float]:
    """Return AUC with its 95 % interval, average precision and equal error rate.

    Args:
        windows: `video_id`, `label` and `score` of those with a label.
        people: whom each video belongs to, by `video_id`; the interval draws them again.

    Raises:
        TrainingError: scores that are no numbers, or one label only.
    """
    labels, scores = windows["label"], windows["score"]
    if not np.isfinite(scores).all():
        raise TrainingError(explain_numbers(windows.loc[~np.isfinite(scores), "video_id"]))
    if labels.nunique() < 2:
        raise TrainingError(f"of {len(labels)} validation windows that could be read, all have one label")
    names = list(windows["video_id"].map(people))
    interval = compute_auc(labels, scores, identities=names, replicates=REPLICATES)
    return {
        "val_auc": float(roc_auc_score(labels, scores)),
        **{f"val_auc_{end}": interval[end] for end in ("low", "high")},
        "val_ap": float(average_precision_score(labels, scores)),
        "val_eer": compute_eer(labels, scores),
    }


def explain_loss(loss: float, at: str, names: Sequence[str], finite: Sequence[float]) -> str:
    """Say which videos of a batch the model could no longer score, or, if it scored all, which these were.

    Args:
        at: epoch and step, in words.
        finite: of each video, was what the model said of it a number?
    """
    wrong = [name for name, scored in zip(names, finite, strict=True) if not scored]
    which = f"from {', '.join(wrong)}" if wrong else f"on the videos {', '.join(names)}"
    return f"the loss is {loss} in {at}, {which}; lower train.lr or train.clip, or look at these videos"


def explain_numbers(names: pd.Series) -> str:
    """Say that a model scores validation no more, and of which videos first, if that is known."""
    wrong = ", ".join(names.unique()[:NAMED])
    return (
        f"the model's scores on validation are no numbers any more{wrong and f', first of {wrong}'}; "
        "lower train.lr or train.clip, or look at these videos"
    )


def count_videos(videos: pd.DataFrame) -> dict[str, int]:
    """Return how many videos, reals, fakes and people there are, for `run.json`, and how many videos name nobody.

    Args:
        videos: of a table in which `assign_people` has said whom they belong to.
    """
    counts = {name: int((videos["label"] == label).sum()) for name, label in (("reals", 0), ("fakes", 1))}
    nameless = int(videos["identities"].str.startswith(ALONE).sum())
    return {"videos": len(videos), **counts, "people": count_people(videos), "nameless": nameless}
