"""The nearest training videos are those whose features are most alike, by what two videos both have."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
import torch

from dfmm.evaluation.neighbours import Embeddings, embed_videos, find_nearest
from dfmm.model import MultimodalModel
from dfmm.settings import Settings

from ..conftest import change


def embed(features: np.ndarray, there: np.ndarray | None = None, *, name: str = "v") -> Embeddings:
    """Return embeddings of these features `[n, 3, D]`, where they are there."""
    there = np.ones(features.shape[:2], bool) if there is None else there
    videos = pd.DataFrame({"video_id": [f"{name}{row}" for row in range(len(features))], "face": 0})
    return Embeddings(videos, (features * there[..., None]).astype(np.float32), there)


def test_neighbours_are_those_that_every_cosine_says() -> None:
    rng = np.random.default_rng(0)
    training, asked = rng.normal(5, 1, (300, 3, 8)), rng.normal(5, 1, (7, 3, 8))
    found = find_nearest(embed(asked, name="q"), embed(training), count=5)
    centre = training.mean(axis=0)
    known, question = ((values - centre).reshape(len(values), -1) for values in (training, asked))
    known, question = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (known, question))
    for number, rows in found.groupby("video_id", sort=False):
        likeness = known @ question[int(number[1:])]
        best = np.argsort(-likeness)[:5]
        assert rows["nearest"].tolist() == [f"v{row}" for row in best]
        np.testing.assert_allclose(rows["similarity"], likeness[best], atol=1e-5)
        assert rows["rank"].tolist() == [1, 2, 3, 4, 5]


def test_a_video_without_sound_is_near_to_others_by_its_picture() -> None:
    rng = np.random.default_rng(0)
    training = rng.normal(0, 1, (50, 3, 8))
    asked = training[[9]].copy()
    asked[:, 1:] = 1e3  # of what is not there
    silent = np.array([[True, False, False]])
    there = np.ones((50, 3), bool)
    there[:3] = [False, True, False]  # nothing in common with it
    nearest = find_nearest(embed(asked, silent, name="q"), embed(training, there), count=50)
    assert nearest["nearest"].iloc[0] == "v9"
    assert nearest["similarity"].iloc[0] == pytest.approx(1, abs=1e-4)
    assert len(nearest) == 47
    assert find_nearest(embed(asked, ~silent & False, name="q"), embed(training)).empty


def test_twenty_thousand_videos_take_seconds_and_little_memory() -> None:
    rng = np.random.default_rng(0)
    training = embed(rng.normal(size=(20_000, 3, 128)).astype(np.float32))
    asked = Embeddings(training.videos[:500], training.features[:500], training.there[:500])
    start = time.monotonic()
    found = find_nearest(asked, training, count=1)
    assert (found["nearest"] == found["video_id"]).all()
    assert time.monotonic() - start < 20


def test_features_are_those_the_heads_read_averaged_over_windows(tiny: Settings, manifest: pd.DataFrame) -> None:
    torch.manual_seed(0)
    model, rows = MultimodalModel(tiny).eval(), manifest.head(3)
    found = embed_videos(model, rows, tiny, progress=False)
    assert found.videos["video_id"].tolist() == rows["video_id"].tolist()
    assert found.features.shape == (3, 3, tiny.model.dim)
    assert found.features.dtype == np.float32
    one, two = (embed_videos(model, rows, change(tiny, evaluate={"windows": n}), progress=False) for n in (1, 2))
    assert not np.allclose(one.features, two.features)
    model.streams = "video"
    alone = embed_videos(model, rows, tiny, progress=False)
    assert alone.there.tolist() == [[True, False, False]] * 3
    np.testing.assert_allclose(alone.features[:, 0], found.features[:, 0], atol=1e-5)
    assert not alone.features[:, 1:].any()
