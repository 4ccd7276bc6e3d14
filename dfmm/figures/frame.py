"""One frame of a video with the square of the face that was followed: a still for a page."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dfmm.extraction.store import CacheError
from dfmm.extraction.tracks import Tracks
from dfmm.faces.crops import FacePath
from dfmm.figures.footage import SOON_SECONDS, encode_picture
from dfmm.media.container import MediaError
from dfmm.media.decode import read_media

SHORT_SIDE = 270  # pixels
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def draw_still(tracks: Tracks, name: str, *, face: int = 0) -> bytes | None:
    """Return a frame near a video's start as a JPEG, with the square of the face where one was followed.

    None where there is no picture, or the video cannot be read.

    Args:
        name: the video's `video_id`.
        face: which one is followed; 0 for the first.
    """
    if name not in tracks:
        return None
    try:
        track = tracks[name].follow(face)
        if not len(track.times):
            return None
        path = track.trace_face(tracks.settings.video)
        at = choose_frame(track.times, path)
        file, short = tracks.source(list(tracks).index(name)), min(SHORT_SIDE, track.width, track.height)
        options = {"short_side": short, "last_frame": at, "sound_until": 0.0, "times": track.times}
        picture = read_media(file, keep=lambda number: number == at, sample_rate=16_000, **options).frames[at]
    except (MediaError, CacheError, OSError, KeyError):
        return None
    return encode_picture(frame_face(picture, path, at, scale=len(picture) / track.height))


def choose_frame(times: NDArray[np.floating], path: FacePath) -> int:
    """Return the number of the middle one of the frames that show the face and are soon decoded; else the first."""
    shown = np.flatnonzero(np.isfinite(path.sides) & (times < SOON_SECONDS))
    return int(shown[len(shown) // 2]) if len(shown) else 0


def frame_face(picture: NDArray[np.uint8], path: FacePath, at: int, *, scale: float) -> NDArray[np.uint8]:
    """Return a picture, RGB `[H, W, 3]`, with the face's square in white on black, which shows on any ground."""
    marked = np.ascontiguousarray(picture)
    if np.isfinite(path.sides[at]):
        half = path.sides[at] / 2
        corners = ((path.centres[at] + sign * half) * scale for sign in (-1, 1))
        first, last = (tuple(int(value) for value in corner) for corner in corners)
        for colour, width in ((BLACK, 4), (WHITE, 2)):
            cv2.rectangle(marked, first, last, colour, width)
    return marked
