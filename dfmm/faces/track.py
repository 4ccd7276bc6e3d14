"""One video as later steps see it: when its frames are, whose face is where, how loud it is."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace

import numpy as np

from dfmm.faces.crops import Canvases, FacePath, lay_canvases, trace_path
from dfmm.media.sound import SILENCE, name_lone_channel
from dfmm.sections import Video
from dfmm.settings import Settings

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

RECENT = 16  # faces of one video that are remembered with their canvases: a long film has hundreds
FOLLOWED = ("box_times", "boxes", "landmarks")  # what a track holds of a face,
OTHERS = ("other_times", "other_boxes", "other_landmarks")  # and of those beside it


@dataclass
class Track:
    """One video as later steps see it. Boxes and landmarks are in pixels, times in seconds after the first frame.

    It follows one face, that of number 0. Where `video.face` is `all`, `follow` returns the same video with one of the
    others followed.
    """

    times: np.ndarray  # float64 [N], of every frame
    width: int  # of the first frame, in square pixels
    height: int
    look_times: np.ndarray  # float64 [L], of the frames in which a face was looked for, or told from those around
    cut_times: np.ndarray  # float64 [C], of the frames with which another shot begins
    faces: int  # at once, at most
    detector: str  # that found the face; `none` where none was asked for, `nobody` where all found none
    box_times: np.ndarray  # float64 [M], frames in which the followed face was found
    boxes: np.ndarray  # float32 [M, 4]
    landmarks: np.ndarray  # float32 [M, 5, 2]
    sound_start: float  # both NaN without an audio track
    sound_end: float
    sound_peak: float  # of full scale 1
    loudness: float  # root mean square in dB of full scale
    leading_silence: float  # seconds of sound before the first sample above `ONSET`
    trailing_silence: float = 0.0  # and after the last
    level: float = -120.0  # loudness of what is no pause, as `gate_power` tells
    mix: dict[str, list[float]] = field(default_factory=dict)  # of the sound's channels, by layout; empty for mono
    # Where the picture's size changes midway: the number of a frame, its width and its height, int64 [K, 3].
    sizes: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.int64))
    face: int = 0  # which one is followed
    left_out: int = 0  # faces that cannot be, where all are asked for: a shot had too many
    # Of a long video that was not decoded as a whole: from when to when it was, and frames that were looked at alone,
    # whose start and end are one; float64 [K, 2], empty where all of it was. Between them faces are guessed.
    looked: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    other_faces: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # int64 [K], 1 and more
    other_times: np.ndarray = field(default_factory=lambda: np.zeros(0))  # float64 [K], frames they were found in
    other_boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))  # float32 [K, 4]
    other_landmarks: np.ndarray = field(default_factory=lambda: np.zeros((0, 5, 2), np.float32))  # float32 [K, 5, 2]

    _laid = None  # the settings that canvases were last laid for, and these

    @functools.cached_property
    def frame_seconds(self) -> float:
        """The usual time between two frames."""
        return float(np.median(np.diff(self.times))) if len(self.times) > 1 else 0.04

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the end of the last; of the sound, where that is all there is."""
        if not len(self.times):
            return self.sound_end
        return float(self.times[-1]) + self.frame_seconds

    @property
    def uses_centre(self) -> bool:
        """Was no detector asked, so that the centre of the picture is taken for the face?"""
        return self.detector == "none"

    @property
    def has_face(self) -> bool:
        return self.uses_centre or len(self.boxes) > 0

    @property
    def has_sound(self) -> bool:
        """Is there an audio track that is not silent throughout?"""
        return self.sound_peak > SILENCE

    @property
    def lone_channel(self) -> str:
        """What is heard of channels that would cancel each other out; empty where all are mixed."""
        return name_lone_channel(self.mix)

    @property
    def face_coverage(self) -> float:
        """Share of the frames looked at in which the followed face was found."""
        return 1.0 if self.uses_centre else len(self.boxes) / max(len(self.look_times), 1)

    @property
    def shots(self) -> int:
        """How many pieces the cuts divide it into."""
        return len(self.cut_times) + 1

    @property
    def gaps(self) -> int:
        """How often the followed face is lost, or not there to begin with."""
        missing = ~np.isin(self.look_times, self.box_times)
        return int(missing[:1].sum() + (missing[1:] & ~missing[:-1]).sum())

    @property
    def followable(self) -> int:
        """How many faces can be followed; one where there is none."""
        return 1 + int(self.other_faces.max(initial=0))

    def follow(self, face: int) -> Track:
        """Return the track that follows this face."""
        if not face:
            return self
        track = self._recent.pop(face, None)
        if track is None:
            rows = self.other_faces == face
            found = {name: getattr(self, other)[rows] for name, other in zip(FOLLOWED, OTHERS, strict=True)}
            track = replace(self, face=face, **found)
        self._recent[face] = track
        if len(self._recent) > RECENT:
            del self._recent[next(iter(self._recent))]
        return track

    @functools.cached_property
    def _recent(self) -> dict[int, Track]:
        """The last faces that were followed, by number."""
        return {}

    def trace_face(self, video: Video) -> FacePath:
        """Return where the followed face is in every frame; without a detector, the centre of the picture.

        It is known where it was found at most two looks away.
        """
        if self.uses_centre:
            shots = np.searchsorted(self.sizes[:, 0], np.arange(len(self.times)), side="right")
            shapes = np.concatenate([[[self.width, self.height]], self.sizes[:, 1:]])[shots].astype(np.float64)
            return FacePath(shots, shapes / 2, shapes.min(axis=1), np.full((len(shots), 5, 2), np.nan))
        reach = (2 * video.detect_every + 0.5) * self.frame_seconds  # the half frame forgives rounded clocks
        known = (self.box_times, self.boxes, self.landmarks)
        return trace_path(self.times, *known, cut_times=self.cut_times, reach=reach)

    def lay_canvases(self, settings: Settings) -> Canvases:
        """Return how every frame is cut. The centre of the picture has no margin, and nothing to align."""
        if self._laid is None or self._laid[0] is not settings:
            self._laid = settings, self._lay_canvases(settings)
        return self._laid[1]

    def _lay_canvases(self, settings: Settings) -> Canvases:
        video, times = settings.video, self.times
        until = np.searchsorted(times, times + measure_span(settings), side="right")
        return lay_canvases(
            self.trace_face(video),
            margin=0 if self.uses_centre else video.margin,
            size=video.size,
            crop="follow" if self.uses_centre else video.crop,
            window=int((until - np.arange(len(times))).max(initial=0)),
        )


def measure_span(settings: Settings) -> float:
    """Return the seconds of a window for which canvases have room: 0 for none, where crops do not need any.

    Rounded up to a power of two, so that other windows seldom need other canvases.
    """
    if settings.video.crop != "steady":
        return 0.0
    return np.inf if settings.video.fps == "spread" else 2.0 ** np.ceil(np.log2(settings.window_seconds))
