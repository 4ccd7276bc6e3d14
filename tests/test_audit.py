"""Trivial features find a planted shortcut, and nothing where there is none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dfmm.data.audit import measure_trivia, score_trivia
from dfmm.data.extract import extract_tracks, measure_sound
from dfmm.metrics import compute_auc
from dfmm.settings import Settings, resolve_path


def test_a_planted_silence_is_found_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    labels = pd.Series(np.arange(200) % 2)
    features = pd.DataFrame({"bytes": rng.normal(size=200), "leading_silence": rng.normal(size=200) + 3 * labels})
    train, test = features[:100], features[100:]
    assert compute_auc(labels[100:], score_trivia(train, labels[:100], test))["value"] > 0.95
    honest = compute_auc(labels[100:], score_trivia(train[["bytes"]], labels[:100], test[["bytes"]]))
    assert honest["low"] < 0.5 < honest["high"]


def test_leading_silence_and_loudness_are_measured() -> None:
    samples = np.concatenate([np.zeros(8000), 0.5 * np.sin(np.arange(8000))]).astype(np.float32)
    sound = measure_sound(samples, sample_rate=16_000)
    assert sound["leading_silence"] == pytest.approx(0.5, abs=0.001)
    assert sound["sound_peak"] == pytest.approx(0.5, abs=0.001)
    assert sound["loudness"] == pytest.approx(20 * np.log10(0.5 / 2), abs=0.1)  # RMS of a sine, half of it silence
    assert measure_sound(np.zeros(0, np.float32), sample_rate=16_000)["loudness"] == -120


def test_every_video_has_every_feature(tiny: Settings, manifest: pd.DataFrame) -> None:
    tracks, _ = extract_tracks(manifest, tiny, progress=False)
    features = measure_trivia(manifest, tracks, resolve_path(tiny.data.root))
    assert list(features.index) == list(manifest["video_id"])
    assert np.isfinite(features.to_numpy()).all()
    assert features["seconds"].between(1.9, 3.1).all()
