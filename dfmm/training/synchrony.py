"""What a run learns of mouths and speech: from its training reals, in seconds, kept beside its checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from dfmm.extraction.extract import extract_tracks
from dfmm.extraction.store import CacheError
from dfmm.extraction.tracks import Tracks
from dfmm.faces.lips import Mouths
from dfmm.manifest import select_videos
from dfmm.media.container import MediaError
from dfmm.media.speech import Speech
from dfmm.model.regression import fit_synchrony
from dfmm.model.synchrony import PACKAGED, SynchronyError, SynchronyModel, save_synchrony
from dfmm.people import name_people
from dfmm.runs import Run
from dfmm.settings import Settings

MOST_CLIPS = 400  # of which more is not learnt

log = logging.getLogger("dfmm")


def name_synchrony(checkpoint: Path) -> Path:
    """Return where what was learnt of synchrony is kept: beside a run's checkpoint."""
    return Path(checkpoint).with_name("synchrony.safetensors")


def find_synchrony(checkpoint: Path) -> Path:
    """Return the file of synchrony that goes with a checkpoint: its run's or, where there is none, the package's."""
    own = name_synchrony(checkpoint)
    return own if own.is_file() else PACKAGED


def fit_run_synchrony(
    manifest: pd.DataFrame, settings: Settings, run: Run, *, progress: bool = True
) -> SynchronyModel | None:
    """Learn synchrony from the reals of a run's training split, and keep it in the run.

    Returns:
        None where nobody asks for it (`Settings.judges_synchrony`), or too few reals show somebody who speaks; the log
        then says so.
    """
    if not settings.judges_synchrony:
        return None
    reals = choose_genuine(select_videos(manifest, limit=settings.data.limit))
    tracks, _ = extract_tracks(reals, settings, talks=True, progress=progress)
    talks = [(number, *talk) for number, talk in read_talks(tracks) if talk[1] is not None]
    people = name_people(tracks.manifest).iloc[[number for number, *_ in talks]]
    try:
        model = fit_synchrony([talk[1] for talk in talks], [talk[2] for talk in talks], people=people)
    except SynchronyError as error:
        log.warning("synchrony is not learnt from the training reals (%s): the weights in the package are used", error)
        return None
    save_synchrony(model, name_synchrony(run.checkpoint))
    log.info("synchrony learnt from %d genuine clips, %.0f s", model.facts["clips"], model.facts["seconds"])
    return model


def choose_genuine(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return at most `MOST_CLIPS` training videos, evenly spaced, that are real and not known to be out of step."""
    genuine = (manifest["split"] == "train") & (manifest["label"] == 0) & (manifest["in_sync"] != 0)
    rows = np.flatnonzero(genuine)
    if len(rows) > MOST_CLIPS:
        rows = rows[np.linspace(0, len(rows) - 1, MOST_CLIPS).round().astype(int)]
    return manifest.iloc[rows].reset_index(drop=True)


def read_talks(tracks: Tracks, *, face: int = 0) -> Iterator[tuple[int, tuple[Mouths, Speech | None]]]:
    """Yield the mouth and the speech of every video of which they are kept; what is damaged costs only itself."""
    for number in range(len(tracks)):
        try:
            talk = tracks.read_talk(number, face=face)
        except (MediaError, CacheError) as error:
            log.warning("%s: no mouth and speech: %s", tracks.path(number), error)
            continue
        if talk is not None:
            yield number, talk
