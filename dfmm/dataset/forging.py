"""Which windows of a dataset are forged, by which method, and what is read of elsewhere for it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property

import numpy as np
import pandas as pd

from dfmm.dataset.reading import read_takes
from dfmm.dataset.requests import FORGERY, METHOD, OTHER, Plan, Reading, Request
from dfmm.dataset.windows import Window, find_starts
from dfmm.extraction.cures import Span
from dfmm.extraction.store import CacheError
from dfmm.extraction.tracks import Tracks
from dfmm.faces.track import Track
from dfmm.forge import (
    LATE,
    METHODS,
    Forgery,
    Take,
    choose_donors,
    draw_moment,
    drop_window,
    forge_window,
    list_methods,
)
from dfmm.media.container import MediaError
from dfmm.people import name_people

log = logging.getLogger("dfmm")


class Forger:
    """Forges windows of reals: twins always, others as often as `forge.share` says where `draws` is set.

    Args:
        tracks: of a dataset's videos and their twins, a row each.
        place_window: as in `windows`, with all that is the same for the whole dataset.
        draws: forge some of the windows that are no twins.
    """

    def __init__(self, tracks: Tracks, place_window: Callable[..., Window], *, draws: bool):
        self.tracks, self.place_window, self.draws, self.settings = tracks, place_window, draws, tracks.settings
        self.pairs = draws and self.settings.forge.pairs
        self.reals = np.flatnonzero(tracks.manifest["label"] == 0)

    @cached_property
    def people(self) -> pd.Series:
        """Whom each row belongs to."""
        return name_people(self.tracks.manifest)

    def can_forge(self, videos: Iterable[int] | None = None) -> bool:
        """Is there a real among these videos, or among all, that can be forged by any of the methods asked for?"""
        return any(self._list_methods(video, self.tracks.load(video)) for video in videos or self.reals)

    def _list_methods(self, video: int, track: Track) -> list[str]:
        row = {name: self.tracks.manifest[name].iat[video] for name in ("label", "in_sync")}
        return list_methods(row, track, self.settings)

    def choose_method(self, request: Request, track: Track) -> str:
        """Return by which method a window is to be forged, empty for none."""
        if request.twin or not self.draws:
            return request.twin
        rng = request.draw(METHOD)
        wanted = request.is_second if self.pairs else rng.random() < self.settings.forge.share
        possible = self._list_methods(request.video, track) if wanted else []
        return str(rng.choice(possible)) if possible else ""

    def find_moment(self, request: Request, method: str, window: Window, track: Track) -> Window | None:
        """Return where another moment of the same clip is that a forgery shows or sounds; None where it needs none."""
        if not method or METHODS[method].other != "moment":
            return None
        rng, span = request.draw(OTHER), window.span or Span(0.0, track.duration)
        if method == "delay":
            low, high = max(span.start, track.sound_start), min(span.end, track.sound_end) - window.sound_seconds
            start = draw_moment(window.sound_start, [(low, high)], rng, farthest=LATE[1])
            return None if start is None else replace(window, sound_start=start)
        seconds = self.settings.window_seconds
        spans = find_starts(track, self.settings, span.start, max(span.end - seconds, span.start), seconds)
        start = draw_moment(window.moments[0], spans, rng)
        return None if start is None else self.place_window(track, sampling=start)

    def read_voice(self, plan: Plan) -> Take | None:
        """Read the sound of another real, best of another person, where a forgery takes some; None where it does not.

        What cannot be read, or is silent, is passed over.
        """
        if not plan.method or METHODS[plan.method].other != "voice":
            return None
        request, rng = plan.request, plan.request.draw(OTHER)
        for donor in choose_donors(self.people, self.reals, request.video, rng):
            try:
                track = self.tracks.load(donor)
                window = self.place_window(track, number=request.window, rng=rng)
                take = read_takes(self.tracks, donor, track, [window], look=False)[0]
            except (MediaError, CacheError) as error:
                log.warning("%s: no sound for a forgery: %s", self.tracks.manifest["video_id"].iat[donor], error)
                continue
            if take.scene.sound_mask.any():
                return take
        return None

    def forge(self, reading: Reading) -> Forgery:
        """Forge a window that was read, or leave it as it is where no method was chosen."""
        take, method, request = reading.take, reading.plan.method, reading.plan.request
        if not method:
            return Forgery(take.scene, take.scene)
        forgery = forge_window(method, take, reading.other, request.draw(FORGERY))
        # A twin's window that could not be forged is no fake, and as a real it is there already.
        return drop_window(take.scene) if request.twin and forgery.method == "real" else forgery
