"""What is read from shards is what is read from the cache, by us and by webdataset, each video once."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import torch

from dfmm.audit.synchrony import correlate_videos
from dfmm.dataset import load_manifest
from dfmm.dataset.dataset import MultimodalDataset
from dfmm.dataset.loaders import make_evaluation_loader, make_training_loader
from dfmm.extraction.extract import extract_tracks
from dfmm.extraction.shards import MANIFEST, write_shards
from dfmm.manifest import ManifestError
from dfmm.settings import Settings

from ..conftest import change


@pytest.fixture(scope="module")
def kept(tiny: Settings) -> Settings:
    return change(tiny, data={"read": "cache"})


@pytest.fixture(scope="module")
def sharded(kept: Settings, manifest: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings that read the same videos from five shards or so."""
    tracks, _ = extract_tracks(manifest, kept, crops=True, progress=False)
    size = sum(tracks.entry(number, crops=True).stat().st_size for number in range(len(tracks)))
    folder = write_shards(tracks, tmp_path_factory.mktemp("shards"), shard_bytes=size // 5, progress=False)
    assert 4 <= len(list(folder.glob("*.tar"))) <= 6
    return change(kept, data={"root": str(folder), "manifest": MANIFEST, "read": "shards"})


def read_all(settings: Settings, **options: object) -> list[dict]:
    dataset = MultimodalDataset(load_manifest(settings), settings, windows=2, progress=False, **options)
    return [dataset[index] for index in range(2 * len(dataset))]


def test_samples_are_those_of_the_cache_to_the_bit(kept: Settings, sharded: Settings) -> None:
    for options in ({}, {"sampling": "random", "augment": True}):
        for one, other in zip(read_all(kept, **options), read_all(sharded, **options), strict=True):
            assert one.keys() == other.keys()
            for name, value in one.items():
                assert torch.equal(value, other[name]) if torch.is_tensor(value) else value == other[name]
    manifests = [load_manifest(settings) for settings in (kept, sharded)]
    pd.testing.assert_series_equal(*map(correlate_videos, manifests, (kept, sharded)))


@pytest.mark.parametrize(("world", "workers"), [(1, 0), (2, 2), (3, 3)])
def test_each_video_comes_once_over_ranks_and_workers(sharded: Settings, world: int, workers: int) -> None:
    settings = change(sharded, data={"workers": workers}, train={"batch_size": 6})
    manifest = load_manifest(settings)
    for split, make in {"test": make_evaluation_loader, "train": make_training_loader}.items():
        seen: Counter[str] = Counter()
        for rank in range(world):
            where = (split, settings) if split == "test" else (settings,)
            for batch in make(manifest, *where, rank=rank, world=world, progress=False):
                seen.update(name for name in batch["video_id"] if name)
        windows = settings.evaluate.windows if split == "test" else 1
        assert seen == dict.fromkeys(manifest.loc[manifest["split"] == split, "video_id"], windows)


def test_webdataset_reads_them(sharded: Settings, kept: Settings, manifest: pd.DataFrame) -> None:
    webdataset = pytest.importorskip("webdataset")
    shards = sorted(map(str, Path(sharded.data.root).glob("*.tar")))
    tracks, _ = extract_tracks(manifest, kept, crops=True, progress=False)
    found = list(webdataset.WebDataset(shards, shardshuffle=False))
    assert len(found) == len(manifest)
    for number, sample in enumerate(found):
        assert json.loads(sample["json"])["video_id"] == tracks.manifest["video_id"].iat[number]
        assert sample["safetensors"] == tracks.entry(number, crops=True).read_bytes()


def test_the_same_shards_are_written_twice(sharded: Settings, kept: Settings, tmp_path: Path) -> None:
    tracks, _ = extract_tracks(load_manifest(kept), kept, crops=True, progress=False)
    for _ in range(2):
        write_shards(tracks, tmp_path, progress=False)
        assert len(list(tmp_path.glob("*.tar"))) == 1
        files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        assert len(files) == 3
        assert files == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_what_is_damaged_or_leads_elsewhere_stays_empty(sharded: Settings, said: list[str]) -> None:
    manifest, root = load_manifest(sharded), Path(sharded.data.root)
    shutil.copy(root / "shard-000000.tar", root.parent)
    spoilt = {"shard": "../shard-000000.tar", "shard_offset": 1 << 40, "shard_bytes": 77}
    for column, value in spoilt.items():
        dataset = MultimodalDataset(manifest.head(3).assign(**{column: value}), sharded, progress=False)
        assert not any(dataset[index]["frame_mask"].any() for index in range(3))
    assert len(said) == 9


def test_other_settings_and_other_manifests_are_refused(sharded: Settings, kept: Settings) -> None:
    with pytest.raises(ManifestError, match="size: 48 → 64"):
        read_all(change(sharded, video={"size": 64}))
    with pytest.raises(ManifestError, match="has no shard"):
        read_all(change(kept, data={"read": "shards"}))
    read_all(change(sharded, video={"frames": 5}, audio={"n_mels": 40}))
