"""What is read for windows of one video: decoded from its file or, the very same, taken from what is kept of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dfmm.dataset.windows import Window, cut_sound
from dfmm.degrade import Scene
from dfmm.extraction.cures import choose_gain
from dfmm.extraction.store import ArrayFile, read_crops, read_sound
from dfmm.extraction.tracks import Tracks
from dfmm.faces.crops import Canvases
from dfmm.faces.follow import crop_faces
from dfmm.faces.track import Track
from dfmm.forge import Take
from dfmm.media.sound import Sound
from dfmm.settings import Settings

Heard = tuple[np.ndarray, np.ndarray]  # a window's sound, float32 [S], and at which moments there is any, bool [T]
Parts = tuple[dict[int, np.ndarray], list[Heard]]  # canvases by frame number, and the sound of each window


def read_takes(
    tracks: Tracks, video: int, track: Track, windows: Sequence[Window], *, look: bool = True, locate: bool = False
) -> list[Take]:
    """Read windows of one video, in one pass.

    Args:
        tracks: where the video is, and what is kept of it.
        video: its row there.
        track: of it, with the face followed that is to be seen.
        look: read the pictures too, not the sound alone.
        locate: say where the face's landmarks are; forgeries need them.

    Raises:
        MediaError: the video can no longer be read.
        CacheError: what was kept of it can no longer be read, nor made again.
    """
    settings, canvases = tracks.settings, track.lay_canvases(tracks.settings)
    wanted = {int(number) for window in windows for number in window.numbers[window.inside]} if look else set()
    gain = choose_gain(track, settings.cure)

    def cut(sound: Sound | None) -> list[Heard]:
        return [cut_sound(sound, window, settings, gain=gain) for window in windows]

    if tracks.crops:
        laid, sounds = _read_kept(tracks, video, track, wanted, cut)
    else:
        until = max(window.sound_start + window.sound_seconds for window in windows)
        laid, sounds = _decode(tracks, video, track, canvases, wanted, cut, until=until)
    way = track.trace_face(settings.video) if locate else None
    takes = []
    for window, heard in zip(windows, sounds, strict=True):
        crops = canvases.crop_window(laid, window.numbers[window.inside])
        landmarks = canvases.locate_window(way.landmarks, window.numbers, list(crops)) if way else None
        takes.append(Take(_make_scene(window, crops, heard, settings), landmarks))
    return takes


def _read_kept(
    tracks: Tracks, video: int, track: Track, wanted: set[int], cut: Callable[[Sound | None], list[Heard]]
) -> Parts:
    """Take the canvases of the wanted frames, and each window's sound, from the file that is kept of the video."""

    def read(file: ArrayFile) -> Parts:  # its sound is read as it is cut: what is damaged there is made again as well
        sounds = cut(read_sound(file))
        return read_crops(file, wanted, face=track.face), sounds

    return tracks.read(video, read)


def _decode(
    tracks: Tracks,
    video: int,
    track: Track,
    canvases: Canvases,
    wanted: set[int],
    cut: Callable[[Sound | None], list[Heard]],
    *,
    until: float,
) -> Parts:
    """Decode the same from the video itself, with its sound up to a second."""
    laid: dict[int, np.ndarray] = {}
    sound = crop_faces(
        tracks.source(video),
        canvases,
        tracks.settings,
        numbers=wanted,
        take=laid.__setitem__,
        sound_until=until,
        times=track.times,
        mix=track.mix,
    )
    return laid, cut(sound)


def _make_scene(window: Window, crops: Mapping[int, np.ndarray], heard: Heard, settings: Settings) -> Scene:
    """Put together what was read of a window: zeros where nothing is seen.

    Args:
        crops: uint8 `[size, size, 3]` by frame number; none where no face is.
    """
    T, size = settings.video.frames, settings.video.size
    frames, seen = np.zeros((T, size, size, 3), np.uint8), np.zeros(T, bool)
    for step in np.flatnonzero(window.inside):
        if window.numbers[step] in crops:
            frames[step], seen[step] = crops[window.numbers[step]], True
    hears = window.moments
    if settings.video.fps != "spread":
        hears = hears + (window.sound_start - hears[0])
    return Scene(frames, seen, *heard, settings.audio.sample_rate, window.moments, hears)
