"""Which training videos are most like a video to the model: the nearest by the features that its heads read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from dfmm.bars import show_progress
from dfmm.dataset import make_window_loader
from dfmm.model import MultimodalModel, move_batch, withhold_streams
from dfmm.settings import Settings

PARTS = 3  # of a video's features: what is seen, what is heard, and both
CHUNK = 256  # videos whose neighbours are looked for at a time


@dataclass(frozen=True)
class Embeddings:
    """The features of some videos, each face of a video by itself."""

    videos: pd.DataFrame  # `video_id` and `face`, a row each
    features: NDArray[np.float32]  # [n, PARTS, D], the mean of the windows; 0 where there is no such stream
    there: NDArray[np.bool_]  # [n, PARTS]


@torch.no_grad()
def embed_videos(
    model: MultimodalModel, manifest: pd.DataFrame, settings: Settings, *, progress: bool = True
) -> Embeddings:
    """Return the features of a manifest's videos, as far as they can be read, from the windows that evaluation scores.

    It takes as long as scoring them; what is kept is 3 · D numbers a video, 30 MB of 20,000 videos at the default.
    """
    loader = make_window_loader(manifest, settings, windows=settings.evaluate.windows, progress=progress)
    device = next(model.parameters()).device
    model.eval()
    sums: dict[tuple[str, int], NDArray[np.float32]] = {}
    counts: dict[tuple[str, int], NDArray[np.float32]] = {}
    for batch in show_progress(loader, "features", unit="batch", total=len(loader), show=progress):
        batch = withhold_streams(move_batch(batch, device), model.streams)
        face, sound = batch["frame_mask"].any(dim=1), batch["sound_mask"].any(dim=1)
        there = torch.stack([face, sound, face & sound], dim=1).float()
        features = torch.stack(model.embed(batch), dim=1) * there[..., None]
        names = zip(batch["video_id"], batch["face"].tolist(), strict=True)
        for name, some, found in zip(names, features.cpu().numpy(), there.cpu().numpy(), strict=True):
            sums[name], counts[name] = sums.get(name, 0) + some, counts.get(name, 0) + found
    videos = pd.DataFrame(list(sums), columns=["video_id", "face"])
    counted = np.array(list(counts.values()), np.float32).reshape(-1, PARTS)
    totals = np.array(list(sums.values()), np.float32).reshape(len(videos), PARTS, len(model.video_absent))
    return Embeddings(videos, totals / np.maximum(counted, 1)[..., None], counted > 0)


def find_nearest(videos: Embeddings, training: Embeddings, *, count: int = 3) -> pd.DataFrame:
    """Return the training videos that are most like each video, by the cosine between their features.

    From all features the mean of training is taken first: what all have in common says nothing. Two videos are compared
    by what both have, so that one without sound is near to others by its picture.

    Returns:
        A row a neighbour, the nearest first: `video_id` and `face` of the video, `rank` from 1 on, `nearest` and
        `nearest_face`, the neighbour's, and `similarity` from -1 to 1. None where two have no stream in common.
    """
    shared = np.maximum(training.there.sum(axis=0), 1)[:, None]
    mean = training.features.sum(axis=0) / shared
    known, lengths = _centre(training, mean)
    tables = [pd.DataFrame(columns=["video_id", "face", "rank", "nearest", "nearest_face", "similarity"])]
    for at in range(0, len(videos.videos), CHUNK):
        rows = slice(at, at + CHUNK)
        some = Embeddings(videos.videos[rows], videos.features[rows], videos.there[rows])
        asked, lengths_asked = _centre(some, mean)
        # What one lacks is zero and adds nothing to the product; nor may it to the other's length.
        squares = (lengths_asked @ training.there.T) * (some.there @ lengths.T)
        likeness = asked @ known.T / np.sqrt(np.where(squares > 0, squares, np.inf))
        likeness[some.there.astype(np.float32) @ training.there.T == 0] = np.nan
        tables += [_list_nearest(*row, training, count) for row in zip(some.videos.itertuples(), likeness, strict=True)]
    return pd.concat([table for table in tables if len(table)] or tables, ignore_index=True)


def _centre(videos: Embeddings, mean: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return centred features `[n, PARTS · D]`, and the squared length of each part `[n, PARTS]`."""
    features = (videos.features - mean) * videos.there[..., None]
    return features.reshape(len(features), -1), (features**2).sum(axis=2)


def _list_nearest(video: tuple, likeness: NDArray[np.float32], training: Embeddings, count: int) -> pd.DataFrame:
    order = np.argsort(-likeness, kind="stable")[:count]
    order = order[np.isfinite(likeness[order])]
    found = training.videos.iloc[order]
    return pd.DataFrame(
        {
            "video_id": video.video_id,
            "face": video.face,
            "rank": np.arange(1, len(order) + 1),
            "nearest": found["video_id"].to_numpy(),
            "nearest_face": found["face"].to_numpy(),
            "similarity": likeness[order],
        }
    )
