"""What a detector must beat: trivial features of the files, and the plain correlation of mouth and loudness."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dfmm.audit.shortcuts import measure_trivia, score_trivia
from dfmm.audit.synchrony import correlate_videos
from dfmm.settings import Settings


def add_rivals(own: pd.DataFrame, videos: pd.DataFrame, trained: Settings, settings: Settings) -> pd.DataFrame:
    """Return scored videos with `trivia_score` and `mouth_loudness`; their files are read for it.

    Args:
        own, trained, videos, settings: as of `score_by_trivia`.
    """
    loudness = correlate_videos(videos[videos["status"] == "ok"], settings)
    trivia = score_by_trivia(own, videos, trained, settings)
    return videos.assign(trivia_score=trivia, mouth_loudness=videos["video_id"].map(loudness))


def score_by_trivia(own: pd.DataFrame, videos: pd.DataFrame, trained: Settings, settings: Settings) -> pd.Series:
    """Return what trivial features alone, learnt on the run's training split, say of scored videos; NaN for others.

    Args:
        own, trained: the run's manifest and settings.
        videos, settings: the scored videos, and the settings that say where their files are.
    """
    train = own[own["split"] == "train"]
    pairs = ((train, trained), (videos[videos["status"] == "ok"], settings))
    features = [measure_trivia(table, chosen, progress=False) for table, chosen in pairs]
    labels = train.set_index("video_id")["label"].loc[features[0].index]
    if labels.nunique() < 2:  # training forged its fakes itself: their files would be those of the reals
        return pd.Series(np.nan, index=videos.index)
    scores = pd.Series(score_trivia(features[0], labels, features[1]), index=features[1].index)
    return videos["video_id"].map(scores)
