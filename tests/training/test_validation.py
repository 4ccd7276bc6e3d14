"""What an epoch is worth: numbers with their interval over people, or a clear word why there are none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dfmm.metrics import compute_auc
from dfmm.training.machine import TrainingError
from dfmm.training.validation import REPLICATES, count_videos, measure_windows


def make_windows() -> tuple[pd.DataFrame, pd.Series]:
    """Three windows of each of twenty videos, of ten people."""
    rng = np.random.default_rng(0)
    names = np.repeat([f"v{number}" for number in range(20)], 3)
    labels = np.repeat(np.arange(20) % 2, 3)
    windows = pd.DataFrame({"video_id": names, "label": labels, "score": rng.normal(labels, 1.0)})
    return windows, pd.Series({f"v{number}": f"p{number // 2}" for number in range(20)})


def test_the_interval_draws_people_and_not_windows() -> None:
    windows, people = make_windows()
    found = measure_windows(windows, people)
    names = list(windows["video_id"].map(people))
    known = compute_auc(windows["label"], windows["score"], identities=names, replicates=REPLICATES)
    assert found["val_auc"] == pytest.approx(known["value"])
    assert (found["val_auc_low"], found["val_auc_high"]) == (known["low"], known["high"])
    alone = measure_windows(windows.assign(video_id=range(60)), pd.Series({n: f"p{n}" for n in range(60)}))
    width, narrower = (one["val_auc_high"] - one["val_auc_low"] for one in (found, alone))
    assert width > narrower  # sixty people would be surer


def test_no_numbers_and_one_label_are_refused() -> None:
    windows, people = make_windows()
    with pytest.raises(TrainingError, match=r"no numbers any more, first of v1; lower train\.lr"):
        measure_windows(windows.assign(score=windows["score"].where(windows["video_id"] != "v1")), people)
    with pytest.raises(TrainingError, match="of 30 validation windows that could be read, all have one label"):
        measure_windows(windows[windows["label"] == 1], people)


def test_videos_and_people_are_counted() -> None:
    videos = pd.DataFrame({"label": [0, 1, 1, -1], "identities": ["a", "a|b", "b", "video:c"]})
    assert count_videos(videos) == {"videos": 4, "reals": 1, "fakes": 2, "people": 3, "nameless": 1}
