"""What a detector must not live on: facts of a file that are no evidence of forgery."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dfmm.data.extract import Track


def measure_trivia(manifest: pd.DataFrame, tracks: dict[str, Track], root: Path) -> pd.DataFrame:
    """Return each video's trivial features, a row a video in the manifest's order: numbers without a missing one.

    Length, size, rate, loudness, silence at the start, offset of the sound, size of the face: if these tell fakes
    from reals, the data has a shortcut.
    """
    rows = [_describe_file(tracks[row.video_id], (root / row.path).stat().st_size) for row in manifest.itertuples()]
    return pd.DataFrame(rows, index=manifest["video_id"], dtype=float).fillna(0.0)


def _describe_file(track: Track, size: int) -> dict[str, float]:
    sides = track.boxes[:, 2:] - track.boxes[:, :2]
    return {
        "seconds": track.duration,
        "frames": len(track.times),
        "fps": 1 / track.frame_seconds,
        "width": track.width,
        "height": track.height,
        "bytes": np.log(size),
        "bit_rate": np.log(size / track.duration),
        "has_sound": track.has_sound,
        "loudness": track.loudness,
        "peak": track.sound_peak,
        "leading_silence": track.leading_silence,
        "sound_start": track.sound_start,
        "sound_overhang": track.sound_end - track.duration,
        "face_size": np.median(sides) / track.height if len(sides) else 0.0,
        "face_coverage": track.face_coverage,
    }


def score_trivia(train: pd.DataFrame, labels: pd.Series, others: pd.DataFrame) -> np.ndarray:
    """Return the probability of fake, `[n]`, that a logistic regression on trivial features gives other videos."""
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
    return model.fit(train.to_numpy(), labels.to_numpy()).predict_proba(others.to_numpy())[:, 1]
