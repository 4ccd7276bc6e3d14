"""What a run will need, asked before anything is done: what cannot work is said at once, all of it together."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import pandas as pd

from dfmm.dataset import MultimodalDataset, load_manifest
from dfmm.extraction.tracks import Tracks, choose_extra, find_root, make_key
from dfmm.manifest import select_videos
from dfmm.media.container import open_media
from dfmm.model import BackboneError, DetectorError, ModelFileError, make_model
from dfmm.runs import Run
from dfmm.settings import Settings, SettingsError, resolve_path
from dfmm.training.checkpoints import load_start
from dfmm.training.machine import TrainingError, check_machine

PROBED = 10  # files whose headers are read for how long such videos are
FRAME_SHARE = 1.1  # bytes of a kept crop over those of its pixels: some canvases are larger than a crop
TALK_BYTES = 2500  # of mouth and speech, a frame
COPIES = 4  # of the weights in a checkpoint: their own, the optimizer's two moments, the average
NAMED = 3  # files that are named


def check_needs(settings: Settings, run: Run, *, restart: bool = False) -> None:
    """Raise unless a training of these settings can begin and end.

    Args:
        run: in whose folder checkpoints will lie; one that has a model needs no weights to start from.
        restart: its model is going to be made anew.

    Raises:
        TrainingError: it names all that is missing, and what to do.
        ManifestError: there is no manifest, or it is none.
    """
    missing = list(_check_packages(settings))
    root = resolve_path(settings.data.root)
    if settings.data.sample_videos == 0 or (root / settings.data.manifest).is_file():  # else it is drawn, and fits
        missing += _list_data(load_manifest(settings, progress=False), settings)
    wants_model = restart or not run.checkpoint.is_file()
    if wants_model and not (missing and settings.model.detector):  # which may read all of the data as it is made
        missing += _check_model(settings, run)
    _refuse(missing)


def check_data(manifest: pd.DataFrame, settings: Settings) -> None:
    """Raise a `TrainingError` unless splits, labels and files are there to train on, and room for what is kept."""
    _refuse(_list_data(manifest, settings))


def _list_data(manifest: pd.DataFrame, settings: Settings) -> list[str]:
    used = select_videos(manifest, limit=settings.data.limit)
    return [*_check_splits(used, settings), *_check_files(used, settings)]


def _refuse(missing: list[str]) -> None:
    if missing:
        raise TrainingError("this run cannot work:\n  " + "\n  ".join(missing))


def _check_packages(settings: Settings) -> Iterator[str]:
    """Say which extras are asked for and not installed, and what this machine cannot do."""
    try:
        check_machine(settings)
    except TrainingError as error:
        yield str(error)
    engine = {"ray": "ray", "dask": "distributed"}.get(settings.extract.engine)
    if engine and find_spec(engine) is None:
        extra = settings.extract.engine
        yield f"extract.engine: {extra} is not installed: pip install 'dfmm[{extra}]'"
    for name in ("mesh", "phonemes") if settings.synchrony.use else ():
        try:
            choose_extra(name, settings)
        except SettingsError as error:
            yield str(error)


def _check_model(settings: Settings, run: Run) -> Iterator[str]:
    """Make the model as the training will, with the weights that it starts from; and ask for room for checkpoints."""
    start = settings.train.start_from
    try:
        model = make_model(settings, pretrained=False if start else None)
        if start:
            load_start(model, settings)
    except (BackboneError, DetectorError, ModelFileError, TrainingError) as error:
        yield str(error)
    else:
        weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
        files = settings.train.keep_checkpoints + 2  # the best model, and the next checkpoint before the oldest goes
        yield from _check_room(run.path, weights * COPIES * files, "train.keep_checkpoints")


def _check_splits(manifest: pd.DataFrame, settings: Settings) -> Iterator[str]:
    """Say which splits lack the videos that learning and choosing take; a test may come from elsewhere, or later."""
    wanted = {"real"} if settings.forge.share else {"real", "fake"}  # fakes are then made of reals
    for split, use in (("train", "to learn from"), ("val", "to choose the epoch and the threshold by")):
        labels = set(manifest.loc[manifest["split"] == split, "label"].map({0: "real", 1: "fake"}))
        lacks = sorted(wanted - labels)
        if not labels:
            yield f"no video is in the split {split!r}: there is nothing {use}"
        elif lacks:
            hint = "; forge.share makes fakes of reals" if lacks == ["fake"] else ""
            yield f"the split {split!r} has only {labels.pop()} videos; it needs both labels, {use}{hint}"


def _check_files(manifest: pd.DataFrame, settings: Settings) -> Iterator[str]:
    """Say that no file is where the manifest says, or that what is to be kept of them has no room."""
    if settings.data.read == "shards":
        return
    root, used = find_root(settings), manifest[manifest["split"].isin(["train", "val", "test"])]
    there = np.array([os.path.isfile(os.path.join(root, path)) for path in used["path"]], bool)
    if len(used) and not there.any():
        some = ", ".join(used["path"].iloc[:NAMED])
        yield f"data.root={settings.data.root}: none of the manifest's {len(used)} files is there ({some}, …)"
    elif len(used):
        room = _estimate_cache(used[there], settings)
        yield from _check_room(resolve_path(settings.data.cache), room, "data.cache")


def _estimate_cache(manifest: pd.DataFrame, settings: Settings) -> float:
    """Return about how many bytes will be kept of the videos of which nothing is kept yet."""
    crops, root = settings.data.read == "cache", find_root(settings)
    frame = settings.video.size**2 * 3 * FRAME_SHARE if crops else 0
    talk = TALK_BYTES if settings.synchrony.use else 0
    if not frame + talk:
        return 0.0
    keys = [make_key(os.path.join(root, path), settings) for path in manifest["path"]]
    tracks = Tracks(manifest, np.array(keys, "S24"), settings, crops=crops)
    missing = [number for number in range(len(tracks)) if not tracks.is_kept(number)]
    probed = missing[:: max(1, len(missing) // PROBED)][:PROBED]
    counts = [count_frames(tracks.path(number)) for number in probed]
    return len(missing) * float(np.mean(counts or [0])) * (frame + talk)


def count_frames(path: str) -> float:
    """Return about how many frames a file has, by its header: 0 where that says nothing, or there is no picture."""
    try:
        with open_media(path) as container:
            if not container.streams.video or not container.duration:
                return 0.0
            return container.duration / av.time_base * float(container.streams.video[0].average_rate or 0)
    except Exception:  # a broken file costs only itself, later, with a reason
        return 0.0


def _check_room(folder: Path, needed: float, setting: str) -> Iterator[str]:
    """Say that a folder's disk has less room than is needed."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        yield f"{setting}: about {needed / 1e9:.1f} GB are needed in {folder}, and {free / 1e9:.1f} GB are free there"


def check_labels(dataset: MultimodalDataset, split: str) -> None:
    """Raise a `TrainingError`, which says what is missing and why, unless a split's windows have both labels."""
    labels = dataset.find_labels()
    if {0, 1} <= labels:
        return
    what = "windows" if dataset.manifest["label"].nunique() == 2 else "videos"
    have = f"only real {what}" if 0 in labels else f"only fake {what}" if 1 in labels else f"no {what} with a label"
    why = "; the epoch to keep is chosen there" if split == "val" else ""
    cure = "" if 1 in labels else f"; {_explain_no_fakes(dataset)}"
    raise TrainingError(f"the split {split!r} has {have} that can be read; it needs both labels{why}{cure}")


def _explain_no_fakes(dataset: MultimodalDataset) -> str:
    """Say why a dataset has none, and what would change that."""
    methods, windows = ", ".join(dataset.settings.forge.methods), dataset.windows
    if len(dataset.twins):
        return (
            f"of each of {len(dataset.twins)} reals a forged twin was to be made, but in none of their windows "
            f"({windows} each) is what {methods} needs; set other forge.methods, or more train.val_windows"
        )
    if (dataset.manifest["label"] == 1).any():
        return (
            f"none of its fakes is forged enough (data.forged_share) where its windows are ({windows} each), and shown "
            "or sounded there; set more train.val_windows"
        )
    if dataset.forges:
        return f"and none of its reals has what {methods} needs; set other forge.methods"
    return "forge.share makes fakes of reals"
