"""Do mouth and sound move together? The plain correlation that a detector of synchrony has to beat."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter1d

from dfmm.extraction.cures import choose_span
from dfmm.extraction.extract import extract_tracks
from dfmm.extraction.store import ArrayFile, CacheError, read_crops, read_sound
from dfmm.extraction.tracks import Tracks
from dfmm.faces.follow import crop_faces
from dfmm.faces.track import Track
from dfmm.media.container import MediaError
from dfmm.media.sound import Sound
from dfmm.settings import Settings

DARKEST = 4  # per cent of the mouth's pixels: an open mouth is dark inside
DRIFT_SECONDS = 0.32  # slower changes of darkness are the head's, not the mouth's
LOUDNESS = 0.35  # power of the energy: about how loud it sounds (Stevens' law is .3 for loudness over intensity)

log = logging.getLogger("dfmm")


def correlate_videos(manifest: pd.DataFrame, settings: Settings) -> pd.Series:
    """Return each video's correlation of mouth and loudness over its whole length, by `video_id`.

    NaN where there is no face, no sound, or too little of either.
    """
    cached = settings.data.read != "videos"
    tracks, _ = extract_tracks(manifest, settings, crops=cached, progress=False)
    found = [_correlate_video(tracks, number, settings, cached=cached) for number in range(len(tracks))]
    return pd.Series(found, index=list(tracks), dtype=float)


def _correlate_video(tracks: Tracks, number: int, settings: Settings, *, cached: bool) -> float:
    try:
        track = tracks.load(number)
        if not len(track.landmarks):
            return np.nan
        crops, sound = (_read_kept if cached else _decode)(tracks, number, track, settings)
    except (MediaError, CacheError) as error:
        log.warning("%s: no correlation of mouth and loudness: %s", tracks.path(number), error)
        return np.nan
    if sound is None:
        return np.nan
    if span := choose_span(track, settings.cure):
        crops = {number: crop for number, crop in crops.items() if span.start <= track.times[number] < span.end}
    return correlate_mouth(track, crops, sound, settings) if len(crops) > 2 else np.nan


def _decode(
    tracks: Tracks, number: int, track: Track, settings: Settings
) -> tuple[dict[int, np.ndarray], Sound | None]:
    crops: dict[int, np.ndarray] = {}
    canvases, numbers = track.lay_canvases(settings), range(len(track.times))
    sound = crop_faces(tracks.source(number), canvases, settings, numbers=numbers, take=crops.__setitem__)
    return crops, sound


def _read_kept(
    tracks: Tracks, number: int, track: Track, settings: Settings
) -> tuple[dict[int, np.ndarray], Sound | None]:
    def read(file: ArrayFile) -> tuple[dict[int, np.ndarray], Sound | None]:
        return read_crops(file, range(len(track.times))), read_sound(file)

    return tracks.read(number, read)


def correlate_mouth(track: Track, crops: dict[int, np.ndarray], sound: Sound, settings: Settings) -> float:
    """Return the correlation over time of how dark the mouth is, and so how open, with how loud the sound is.

    Args:
        crops: the canvases, uint8 `[side, side, 3]`, by number of their frame.
    """
    numbers = np.array(sorted(crops))
    top, bottom, left, right = find_mouth(track, settings)
    mouths = np.stack([crops[number][top:bottom, left:right, 1] for number in numbers])  # green: lips are dark there
    darkness = -np.percentile(mouths.reshape(len(numbers), -1), DARKEST, axis=1)
    darkness -= gaussian_filter1d(darkness, DRIFT_SECONDS / track.frame_seconds)
    loudness = np.array([measure_energy(sound, track.times[number], track.frame_seconds) for number in numbers])
    loudness **= LOUDNESS
    if darkness.std() < 1e-6 or loudness.std() < 1e-6:
        return np.nan
    return float(np.corrcoef(darkness, loudness)[0, 1])


def find_mouth(track: Track, settings: Settings) -> tuple[int, int, int, int]:
    """Return where the mouth is in the canvases, in pixels: top, bottom, left and right."""
    canvases = track.lay_canvases(settings)
    at = np.clip(np.searchsorted(track.times, track.box_times), 0, len(track.times) - 1)
    across, down = np.moveaxis(canvases.locate(track.landmarks[:, 3:5], at), -1, 0)
    width = np.nanmedian(np.abs(across[:, 1] - across[:, 0]))
    middle, height = np.nanmedian(across), np.nanmedian(down)
    edges = [height - 0.4 * width, height + 0.6 * width, middle - 0.6 * width, middle + 0.6 * width]
    top, bottom, left, right = np.clip(np.round(edges), 0, canvases.side - 1).astype(int)
    return top, max(bottom, top + 1), left, max(right, left + 1)


def measure_energy(sound: Sound, start: float, seconds: float) -> float:
    """Return the mean square of a stretch of sound."""
    samples, _ = sound.cut(start, seconds)
    return float(np.mean(samples**2))
