"""A scikit-learn model on features of the sound: `model.detector=detectors.sound:build` fits and evaluates it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from dfmm.dataset import load_manifest, make_evaluation_loader
from dfmm.settings import Settings


class SoundFeatures:
    """Log-odds of a forgery, `[B]`, from how loud each mel band is on average, and how much that varies."""

    def __init__(self, fitted: Pipeline):
        self.fitted = fitted

    def __call__(self, batch: Mapping[str, Any]) -> NDArray[np.float64]:
        heard = batch["sound_mask"].any(dim=1).cpu().numpy()
        return np.where(heard, self.fitted.decision_function(describe_sound(batch)), 0.0)


def describe_sound(batch: Mapping[str, Any]) -> NDArray[np.float32]:
    """Return features of each window's sound, `[B, 2 · n_mels]`."""
    log_mel = batch["log_mel"][:, 0].cpu().numpy()  # float32 [B, n_mels, F]
    return np.concatenate([log_mel.mean(axis=2), log_mel.std(axis=2)], axis=1)


def build(settings: Settings) -> SoundFeatures:
    """Fit it on the training split, in seconds and each time anew: a fitted model in a file would be code, too."""
    features, labels = [], []
    for batch in make_evaluation_loader(load_manifest(settings), "train", settings, progress=False):
        known = (batch["sound_mask"].any(dim=1) & (batch["label"] >= 0)).numpy()
        features.append(describe_sound(batch)[known])
        labels.append(batch["label"].numpy()[known])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
    return SoundFeatures(model.fit(np.concatenate(features), np.concatenate(labels)))
