"""The manifest that settings name: the sample is drawn where it is not there, and what is not to be learnt left out."""

from __future__ import annotations

import logging

import pandas as pd
from filelock import FileLock

from dfmm.manifest import (
    NO_SPLIT,
    STREAM_LABELS,
    fingerprint_manifest,
    leave_out_fakes,
    leave_out_methods,
    read_manifest,
)
from dfmm.runs import Run, RunError
from dfmm.sample import make_sample
from dfmm.settings import Settings, resolve_path

log = logging.getLogger("dfmm")


def load_manifest(settings: Settings, *, progress: bool = True) -> pd.DataFrame:
    """Read the manifest that the settings name; where they ask for sample data that is not there, draw it first.

    Fakes of the methods in `data.leave_out`, or with `forge.reals_only` all, are in train and val no longer, but in the
    split `none`.
    """
    root = resolve_path(settings.data.root)
    if settings.data.sample_videos:
        root.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(root.parent / f".{root.name}.lock"):  # two notebooks side by side draw it once
            if not (root / "manifest.csv").is_file():
                log.info("drawing %d synthetic videos into %s", settings.data.sample_videos, settings.data.root)
            make_sample(root, videos=settings.data.sample_videos, progress=progress)
    manifest = read_manifest(root / settings.data.manifest, root)
    if settings.data.leave_out:
        table = leave_out_methods(manifest, settings.data.leave_out)
        out = int(((table["split"] == NO_SPLIT) & (manifest["split"] != NO_SPLIT)).sum())
        log.info("%s: %d fakes are kept out of train and val", ", ".join(settings.data.leave_out), out)
        manifest = table
    return leave_out_fakes(manifest) if settings.forge.reals_only else manifest


def open_manifest(run: Run, settings: Settings, *, progress: bool = True) -> pd.DataFrame:
    """Read the manifest of a run that has begun, as `load_manifest` does.

    Raises:
        RunError: it is not the one that the run was trained on.
    """
    manifest = load_manifest(settings, progress=progress)
    check_manifest(run, manifest, settings)
    return manifest


def find_taught(manifest: pd.DataFrame, settings: Settings) -> list[str]:
    """Return the streams of whose label training has both kinds; the head of any other learns nothing to be asked."""
    from dfmm.forge import METHODS  # and with it PyTorch, which who only reads a manifest does not wait for

    if settings.train.stream_loss == 0 or settings.model.detector:  # which answers for both together
        return []
    train = manifest[manifest["split"] == "train"]
    forged = {name for method in settings.forge.methods for name in METHODS[method].labels if settings.forge.share > 0}
    return [
        name for name in STREAM_LABELS if {0, 1} <= set(train[name]) or (name in forged and (train["label"] == 0).any())
    ]


def check_manifest(run: Run, manifest: pd.DataFrame, settings: Settings) -> None:
    """Refuse another manifest than a run began with: what it was trained on could be in another split there.

    Raises:
        RunError: it is another one.
    """
    then, now = run.read().get("data_fingerprint"), fingerprint_manifest(manifest)
    if then not in (None, now):
        raise RunError(
            f"{settings.data.manifest} in {settings.data.root} is not the manifest that {run.name} began with "
            f"(fingerprint {then}, now {now}): put that one back; other videos are scored by `dfmm evaluate … "
            "--manifest`, and learnt by another run, with train.start_from if it is to go on from here"
        )
