"""Windows → video: weights that are learnt from several windows of a video, and every way to make its score."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from scipy.special import expit, logit
from torch import Tensor, nn

from dfmm.runs import RunError

SCORES = ("score", "video_fake_score", "audio_fake_score", "in_sync_score")
SURE_FAKE, SURE_REAL = 0.8, 0.2  # scores beyond which `confident` takes a window at its word


class WindowAttention(nn.Module):
    """A window's weight among those of its video, as a logit: `[B, C]` → `[B]`.

    The gated attention of Ilse et al., "Attention-based Deep Multiple Instance Learning" (ICML 2018), equation 9.
    """

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.content = nn.Linear(width, hidden)
        self.gate = nn.Linear(width, hidden)
        self.score = nn.Linear(hidden, 1)

    def forward(self, features: Tensor) -> Tensor:
        return self.score(self.content(features).tanh() * self.gate(features).sigmoid())[:, 0]


def pool_windows(logits: Tensor, weight: Tensor, there: Tensor, windows: int) -> Tensor:
    """Return each video's logits, its windows' weighted mean: `[V · W, 2]` → `[V, 2]`.

    Logits are averaged, not probabilities: that keeps the log-odds of a sure window, and they can be had again from a
    window's probability alone, so that `weigh_windows` does the same with a table of scores.

    Args:
        logits: of the windows, those of a video one after the other.
        weight: `[V · W]`, a logit each; the softmax over a video's windows is what each weighs.
        there: bool `[V · W]`; False for windows that have nothing to see or hear. They weigh nothing, and a video
            with no other has logits of zero.
        windows: W.
    """
    there = there.unflatten(0, (-1, windows))
    weight = weight.unflatten(0, (-1, windows)).masked_fill(~there, torch.finfo(weight.dtype).min)
    shares = weight.softmax(dim=1) * there
    return (shares[..., None] * logits.unflatten(0, (-1, windows))).sum(dim=1)


def aggregate_windows(windows: pd.DataFrame, how: str = "mean") -> pd.DataFrame:
    """Return each video's scores over the windows that have them, and how many windows were scored.

    Where several faces of a video have windows, each face's scores are made by itself, and those of the most suspicious
    are the video's.

    Args:
        windows: as from `score_windows`.
        how: `mean`; `max`, the most suspicious window's (of `in_sync_score` the lowest); `attention`, see
            `weigh_windows`; or `confident`, see `average_sure`.

    Raises:
        RunError: `attention` is asked of a model that has not learnt to weigh windows.
    """
    if how == "attention" and "weight" not in windows:
        raise RunError(
            "model.aggregation=attention: this model weighs no windows, for it was trained with another aggregation; "
            "take mean, max or confident, or train it anew"
        )
    # Without a sight of it, a window of another face tells again what is heard, and nothing of that face.
    windows = windows[windows["has_face"].astype(bool) | (windows["face"] == 0)].reset_index(drop=True)
    groups = windows.groupby(["video_id", "face"], sort=False).ngroup()
    faces = windows[["video_id", "face"]].groupby(groups).first()
    for name in SCORES:
        faces[name] = _aggregate_column(windows, name, how, groups)
    faces["windows"] = windows["score"].groupby(groups).count()
    worst = faces.sort_values("score", ascending=False, kind="stable").drop_duplicates("video_id")
    return worst.set_index("video_id").loc[windows["video_id"].unique()].rename_axis("video_id").reset_index()


def _aggregate_column(windows: pd.DataFrame, name: str, how: str, videos: pd.Series) -> pd.Series:
    scores = windows[name].astype(float)
    if how == "mean":
        return scores.groupby(videos, sort=False).mean()
    if how == "attention":
        return weigh_windows(scores, windows["weight"].astype(float), videos)
    # In step is the opposite of suspicious.
    suspicion = 1 - scores if name == "in_sync_score" else scores
    if how == "max":
        found = suspicion.groupby(videos, sort=False).max()
    elif how == "confident":
        found = average_sure(suspicion, videos)
    else:
        raise ValueError(f"expected mean, max, attention or confident, got {how!r}")
    return 1 - found if name == "in_sync_score" else found


def weigh_windows(scores: pd.Series, weights: pd.Series, videos: pd.Series) -> pd.Series:
    """Return each video's score by the weights that the model gives its windows, renormalised over those with a score.

    The log-odds are averaged, which is what `pool_windows` does with logits in training.
    """
    there = scores.notna()
    # A float32 probability of 1 has lost its odds.
    odds = logit(scores[there].clip(1e-7, 1 - 1e-7))
    names, weights = videos[there], weights[there]
    shares = np.exp(weights - weights.groupby(names).transform("max"))
    pooled = (shares * odds).groupby(names, sort=False).sum() / shares.groupby(names, sort=False).sum()
    return expit(pooled).reindex(pd.Index(videos.unique(), name=videos.name))


def average_sure(scores: pd.Series, videos: pd.Series) -> pd.Series:
    """Return each video's mean score over the windows that are sure, where enough of them are; over all elsewhere.

    If more than two in five windows are surely fake they alone count; else if more than nine in ten are surely real,
    these alone. So did the winner of the Deepfake Detection Challenge with 32 frames of a video (S. Seferbekov, 2020,
    github.com/selimsef/dfdc_deepfake_challenge, `confident_strategy`). Its further condition of twelve surely fake
    frames, which the share implies for 32, is left out here: this holds for any number of windows.
    """
    fake, real = scores.where(scores > SURE_FAKE), scores.where(scores < SURE_REAL)
    every, fakes, reals = (each.groupby(videos, sort=False) for each in (scores, fake, real))
    found = every.mean().mask(10 * reals.count() > 9 * every.count(), reals.mean())
    return found.mask(5 * fakes.count() > 2 * every.count(), fakes.mean())
