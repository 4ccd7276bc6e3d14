"""Faces of a long video in few of its frames: glances all along it, and all the usual looks in some stretches."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from dataclasses import replace

import numpy as np

from dfmm.faces.crops import CUT_GROWTH
from dfmm.faces.detect import BOX
from dfmm.faces.follow import (
    CUT_CERTAIN,
    describe_media,
    find_cuts,
    lay_track,
    look_for_faces,
    look_through,
)
from dfmm.faces.link import SAME_FACE_IOU, measure_areas, measure_overlaps
from dfmm.faces.looks import COARSE_FRAMES, measure_changes
from dfmm.faces.track import Track
from dfmm.media.skim import Skim, SkimError
from dfmm.sections import Video

MOST_GLANCES = 64  # keyframes that are looked at, evenly spaced


class Glances:
    """What is seen of a video in its keyframes, and in stretches as in a video that is decoded as a whole.

    Between two glances the faces in both go from the one place to the other, and who is in one of them only is taken to
    be there up to the middle. So is all that is seen where the picture has become another: a cut is taken to be there.

    Raises:
        SkimError: the file cannot be read in parts, or nobody is seen at a glance.
    """

    def __init__(self, skim: Skim, video: Video):
        self.skim, self.video, self.track = skim, video, describe_media(skim.media)
        keys = skim.keys
        chosen = np.unique(np.linspace(0, len(keys) - 1, MOST_GLANCES).round().astype(int))
        looks, self.detector = look_for_faces(skim, video, numbers=keys[chosen].tolist())
        if self.detector == "nobody":
            raise SkimError(f"{skim.path}: nobody is seen at a glance")
        self.side, self.faces, self.thumbnails = looks.side, dict(looks.faces), dict(looks.thumbnails)
        self.spans: list[range] = []  # stretches of frames, apart from each other
        self.cuts: set[int] = set()  # in them

    def covers(self, span: range) -> bool:
        """Do these frames lie in a stretch that was looked at?"""
        return any(one.start <= span.start and span.stop <= one.stop for one in self.spans)

    def plan(self, spans: Collection[range]) -> list[range]:
        """Return the stretches that there are once these have been looked at: those that meet are one."""
        joined: list[range] = []
        for span in sorted([*self.spans, *spans], key=lambda span: span.start):
            if joined and span.start <= joined[-1].stop:
                joined[-1] = range(joined[-1].start, max(joined[-1].stop, span.stop))
            else:
                joined.append(span)
        return joined

    def look_around(self, spans: Collection[range]) -> None:
        """Look for faces and cuts in these stretches of frames as in a whole video."""
        before, self.spans = self.spans, self.plan(spans)
        for span in self.spans:
            if span not in before:
                self._look_through(span)

    def _look_through(self, span: range) -> None:
        kept = [number for number in self.faces if number not in span]
        self.faces, self.thumbnails = ({at: of[at] for at in kept if at in of} for of in (self.faces, self.thumbnails))
        if self.detector == "none":
            return
        numbers = [number for number in span if number % self.video.detect_every == 0]
        looks = look_through(self.skim, self.video, numbers, detector=self.detector, side=self.side)
        self.faces |= looks.faces
        self.thumbnails |= looks.thumbnails
        self.cuts = {cut for cut in self.cuts if cut not in span} | set(find_cuts(self.skim, looks.thumbnails).tolist())

    def lay_track(self) -> Track:
        """Return the track as far as it is known, and guessed where it is not."""
        faces, cuts = self._guess()
        track = lay_track(self.track, faces, np.array(sorted(cuts), int), self.video, self.detector)
        times, step = self.track.times, self.track.frame_seconds
        stretches = [(times[span.start], times[span.stop - 1] + step) for span in self.spans]
        alone = [(times[at], times[at]) for at in self.faces if not any(at in span for span in self.spans)]
        return replace(track, looked=np.array(sorted([*stretches, *alone])).reshape(-1, 2))

    def _guess(self) -> tuple[dict[int, np.ndarray], set[int]]:
        """Return the faces in all looks, and all cuts."""
        every, numbers = self.video.detect_every, sorted(self.faces)
        faces, cuts = {}, set(self.cuts)
        for one, other in itertools.pairwise([*numbers, len(self.track.times)]):
            faces[one] = self.faces[one]
            between = np.arange((one // every + 1) * every, other, every)
            if not len(between):
                continue
            after = self.faces.get(other, self.faces[one])  # there is none after the last
            middle, pairs = (one + other) / 2, self._pair_faces(one, other) if other in self.faces else None
            if pairs is None:
                cuts |= set(between[between >= middle][:1].tolist()) if other in self.faces else set()
                pairs = np.zeros((0, 2), int)
            shares = (between - one) / (other - one)
            lines = self.faces[one][pairs[:, 0]] + shares[:, None, None] * (
                after[pairs[:, 1]] - self.faces[one][pairs[:, 0]]
            )
            lone = np.delete(self.faces[one], pairs[:, 0], axis=0), np.delete(after, pairs[:, 1], axis=0)
            for number, rows in zip(between.tolist(), lines, strict=True):
                faces[number] = np.concatenate([rows, lone[number >= middle]]).astype(np.float32)
        return faces, cuts

    def _pair_faces(self, one: int, other: int) -> np.ndarray | None:
        """Return which faces of two looks are the same, int64 `[n, 2]`; None where there seems to be a cut between."""
        before, after = self.faces[one], self.faces[other]
        if measure_changes([self.thumbnails[one], self.thumbnails[other]])[0] > CUT_CERTAIN:
            return None
        if not len(before) or not len(after):
            return np.zeros((0, 2), int)
        overlaps = measure_overlaps(before, after)
        match = overlaps.argmax(axis=1)
        growth = np.sqrt(measure_areas(after[match]) / np.maximum(measure_areas(before), 1e-9))
        same = (overlaps.max(axis=1) >= SAME_FACE_IOU) & (np.maximum(growth, 1 / growth) <= CUT_GROWTH)
        same &= overlaps.argmax(axis=0)[match] == np.arange(len(before))
        pairs = np.stack([np.flatnonzero(same), match[same]], axis=1)
        largest = measure_areas(before[:, BOX]).argmax(), measure_areas(after[:, BOX]).argmax()
        return pairs if largest[0] in pairs[:, 0] and largest[1] in pairs[:, 1] else None


def align_span(first: int, last: int, count: int) -> range:
    """Return a stretch of the frames of a video that holds these and begins where a whole video is looked at, too."""
    return range(max(first // COARSE_FRAMES, 0) * COARSE_FRAMES, min(last + 1, count))
