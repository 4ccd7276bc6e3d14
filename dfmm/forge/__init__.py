"""Forgeries made of real clips, window by window: what can be forged, how, and what labels are true of it then.

Training draws them, and validation has a fixed one of each real. `forge.frames`, `patches`, `redraw`,
`sound` and `voice` do the work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from dfmm.degrade import Scene, change_picture
from dfmm.faces.track import Track
from dfmm.forge.frames import Blend, blend_face, disguise_frames, replace_mouth, to_bytes
from dfmm.forge.patches import patch_face, redraw_face, resample_frames
from dfmm.forge.sound import FADE, SPLICED, draw_vocoder, find_silence, hush, match_loudness, splice, vocode
from dfmm.forge.voice import draw_speaker, speak_anew
from dfmm.manifest import STREAM_LABELS
from dfmm.media.sound import has_motion
from dfmm.sections import ForgeMethod
from dfmm.settings import Settings

__all__ = [
    "LATE",
    "METHODS",
    "Forgery",
    "Take",
    "choose_donors",
    "disguise_window",
    "draw_moment",
    "drop_window",
    "forge_window",
    "list_methods",
    "plan_forgeries",
]

LATE = (0.2, 0.6)  # seconds by which sound, or a mouth, is out of step: from what anybody notices on
REDRAWN = (0.6, 1.0)  # share of a window in which the mouth is replaced
COARSE = 0.3  # share of unforged pictures that are resampled as a whole, where others are in part
TRIALS = 4  # draws of a donor before a window stays as it is

Segment = tuple[float, float]  # seconds after the window's first moment


class Needs(NamedTuple):
    """What a method needs, and how it labels a real."""

    face: bool
    sound: bool
    other: str  # `moment`: another one of the same clip; `voice`: another clip's sound; empty for neither
    labels: Mapping[str, int]  # stream labels that change; in_sync is -1 where the window decides


METHODS: Mapping[ForgeMethod, Needs] = {
    "self_blend": Needs(True, False, "", {"video_fake": 1}),
    "patch": Needs(True, False, "", {"video_fake": 1}),
    "redraw": Needs(True, False, "", {"video_fake": 1}),
    "mouth": Needs(True, False, "moment", {"video_fake": 1, "in_sync": -1}),
    "vocoder": Needs(False, True, "", {"audio_fake": 1}),
    "predict": Needs(False, True, "", {"audio_fake": 1}),
    "splice": Needs(False, True, "voice", {"audio_fake": 1, "in_sync": -1}),
    # No stream of these two carries a trace: it is only together that they are false.
    "delay": Needs(True, True, "moment", {"in_sync": 0}),
    "swap": Needs(True, True, "voice", {"in_sync": 0}),
}


@dataclass(frozen=True)
class Take:
    """A window of a real clip as it was read: what a forgery is made of."""

    scene: Scene
    landmarks: np.ndarray  # float64 [T, 5, 2] in pixels of its frames: eyes, nose, corners of the mouth; NaN if unknown

    @property
    def known(self) -> np.ndarray:
        """In which frames is the face's place known? Bool `[T]`."""
        return self.scene.frame_mask & np.isfinite(self.landmarks).all(axis=(1, 2))


@dataclass(frozen=True)
class Forgery:
    """A window that was forged, or was not where it could not be."""

    scene: Scene
    plain: Scene  # the window without it, but with what of it is no forgery: all of a picture in other colours
    method: str = "real"
    labels: Mapping[str, int] = field(default_factory=dict)  # those that the method changes
    video_segment: Segment | None = None  # None where that stream is as it was
    audio_segment: Segment | None = None


def forge_window(method: ForgeMethod, take: Take, other: Take | None, rng: np.random.Generator) -> Forgery:
    """Forge one window; one without what the method needs stays real.

    Where a part is shown or heard at another moment, the scene says so, and `degrade.label_sync` knows from it whether
    one notices.

    Args:
        other: for `mouth` and `delay` another moment of the same clip, for `splice` and `swap` a window of another one.
    """
    made = {
        "self_blend": partial(_change_face, blend_face),
        "patch": partial(_change_face, patch_face),
        "redraw": partial(_change_face, redraw_face),
        "mouth": _replace_mouth,
        "vocoder": _vocode,
        "predict": _speak_anew,
        "splice": _splice,
        "delay": _delay,
        "swap": _swap,
    }[method](take, other, rng)
    if made is None:
        return Forgery(take.scene, take.scene)
    labels = {"label": 1, **METHODS[method].labels}
    if made.scene.shows is not take.scene.shows:  # the scene itself says how far it is out of step
        labels.pop("in_sync")
    return Forgery(made.scene, made.plain or take.scene, method, labels, made.video_segment, made.audio_segment)


def drop_window(scene: Scene) -> Forgery:
    """Return a window that shows nothing, says nothing and counts for nothing."""
    nothing = {name: np.zeros_like(getattr(scene, name)) for name in ("frames", "frame_mask", "samples", "sound_mask")}
    empty = replace(scene, **nothing)
    return Forgery(empty, empty, labels=dict.fromkeys(("label", *STREAM_LABELS), -1))


class Made(NamedTuple):
    """What a method makes of a window, in the words of `Forgery`."""

    scene: Scene
    video_segment: Segment | None = None
    audio_segment: Segment | None = None
    plain: Scene | None = None  # None for the window as it was read


def _change_face(change: Callable[..., Blend], take: Take, other: Take | None, rng: np.random.Generator) -> Made | None:
    steps = np.flatnonzero(take.known)
    if not len(steps):
        return None
    frames, plain = take.scene.frames.copy(), take.scene.frames.copy()
    frames[steps], _, plain[steps] = change(frames[steps], take.landmarks[steps], rng)
    scene = replace(take.scene, frames=frames)
    return Made(scene, _time_steps(scene, steps), plain=replace(scene, frames=plain))


def _replace_mouth(take: Take, other: Take | None, rng: np.random.Generator) -> Made | None:
    count = len(take.scene.frames)
    length = max(round(rng.uniform(*REDRAWN) * count), 1)
    first = int(rng.integers(count - length + 1))
    steps = np.arange(first, first + length)
    steps = steps[(take.known & other.known)[steps]] if other else steps[:0]
    if not len(steps):
        return None
    frames, shows = take.scene.frames.copy(), take.scene.shows.copy()
    mouths = other.scene.frames[steps], other.landmarks[steps]
    frames[steps], _ = replace_mouth(frames[steps], take.landmarks[steps], *mouths, rng)
    shows[steps] = other.scene.shows[steps]
    return Made(replace(take.scene, frames=frames, shows=shows), _time_steps(take.scene, steps))


def _vocode(take: Take, other: Take | None, rng: np.random.Generator) -> Made | None:
    scene = take.scene
    vocoder = draw_vocoder(rng, sample_rate=scene.sample_rate)
    if not is_audible(scene.samples, scene.sample_rate):
        return None
    samples = vocode(scene.samples, vocoder, sample_rate=scene.sample_rate)
    return Made(replace(scene, samples=samples), audio_segment=_time_samples(scene, 0, len(samples)))


def _speak_anew(take: Take, other: Take | None, rng: np.random.Generator) -> Made | None:
    scene = take.scene
    speaker = draw_speaker(rng, sample_rate=scene.sample_rate)
    if not is_audible(scene.samples, scene.sample_rate):
        return None
    samples = speak_anew(scene.samples, speaker, sample_rate=scene.sample_rate)
    return Made(replace(scene, samples=samples), audio_segment=_time_samples(scene, 0, len(samples)))


def _splice(take: Take, other: Take | None, rng: np.random.Generator) -> Made | None:
    if other is None:
        return None
    scene, voice = take.scene, other.scene.samples
    # Within what is heard of both: no voice goes on past a clip's end, none is cut off by the other's.
    heard = np.flatnonzero(~(find_silence(scene.samples) | find_silence(voice)))
    low, high = (int(heard[0]), int(heard[-1]) + 1) if len(heard) else (0, 0)
    piece = round(rng.uniform(*SPLICED) * (high - low))
    first, fade = low + int(rng.integers(high - low - piece + 1)), round(rng.uniform(*FADE) * scene.sample_rate)
    last = first + piece
    if not all(is_audible(sound[first:last], scene.sample_rate) for sound in (scene.samples, voice)):
        return None
    samples = splice(scene.samples, voice, first=first, last=last, fade=fade)
    return Made(replace(scene, samples=samples), audio_segment=_time_samples(scene, first, last))


def _delay(take: Take, other: Take | None, rng: np.random.Generator) -> Made | None:
    scene = take.scene
    if other is None or not is_audible(other.scene.samples, other.scene.sample_rate) or not take.scene.frame_mask.any():
        return None
    heard = {name: getattr(other.scene, name) for name in ("samples", "sound_mask", "hears")}
    return Made(replace(scene, **heard), audio_segment=_time_samples(scene, 0, len(scene.samples)))


def _swap(take: Take, other: Take | None, rng: np.random.Generator) -> Made | None:
    scene = take.scene
    if other is None or not (
        is_audible(scene.samples, scene.sample_rate) and is_audible(other.scene.samples, other.scene.sample_rate)
    ):
        return None
    if not (scene.frame_mask.any() and (other.scene.sound_mask >= scene.sound_mask).all()):
        return None
    # What is not heard of this clip is not heard of the other, either.
    samples = match_loudness(hush(other.scene.samples, scene.samples), scene.samples)
    return Made(replace(scene, samples=samples), audio_segment=_time_samples(scene, 0, len(samples)))


def draw_moment(
    start: float, spans: Sequence[tuple[float, float]], rng: np.random.Generator, *, farthest: float = np.inf
) -> float | None:
    """Draw another start, in seconds, of a window out of spans of them, so far away that anybody notices, or None."""
    rooms = [
        room
        for low, high in spans
        for room in (
            (max(low, start - farthest), min(high, start - LATE[0])),
            (max(low, start + LATE[0]), min(high, start + farthest)),
        )
        if room[0] < room[1]
    ]
    if not rooms:
        return None
    lengths = np.diff(rooms)[:, 0]
    return float(rng.uniform(*rooms[rng.choice(len(rooms), p=lengths / lengths.sum())]))


def choose_donors(people: pd.Series, reals: np.ndarray, row: int, rng: np.random.Generator) -> list[int]:
    """Draw rows of reals whose voice may be heard in that of another row, those of other people first.

    Args:
        people: whom each row belongs to, as from `name_people`.
    """
    own = set(people.iat[row].split("|"))
    donors = [int(number) for number in rng.choice(reals, TRIALS) if number != row]
    return sorted(donors, key=lambda number: not own.isdisjoint(people.iat[number].split("|")))


def is_audible(samples: np.ndarray, sample_rate: int) -> bool:
    """Is there anything in a sound that could be told from silence?"""
    return has_motion(samples, sample_rate)


def _time_steps(scene: Scene, steps: np.ndarray) -> Segment:
    return float(steps[0] / scene.fps), float((steps[-1] + 1) / scene.fps)


def _time_samples(scene: Scene, first: int, last: int) -> Segment:
    return first / scene.sample_rate, last / scene.sample_rate


def disguise_window(scene: Scene, method: str, rng: np.random.Generator, *, coarse: bool = False) -> Scene:
    """Give what was not blended the colours and the sharpness that a blend gives.

    Args:
        coarse: some is also resampled as coarsely as patches are: it is a part that differs which makes a fake.
    """
    if method in ("self_blend", "patch"):
        return scene

    def change(frames: np.ndarray) -> np.ndarray:
        frames = disguise_frames(frames, rng)
        return to_bytes(resample_frames(frames.astype(np.float32), rng)) if coarse and rng.random() < COARSE else frames

    return change_picture(scene, change)


# What is forged of which clip


def list_methods(row: Mapping[str, Any], track: Track, settings: Settings) -> list[ForgeMethod]:
    """Return by which of the methods asked for a clip can be forged: none for a fake."""
    if row["label"] != 0:
        return []
    has_face, has_sound = len(track.landmarks) > 0 and not track.uses_centre, track.has_sound
    # Enough on one side of a window in the middle, too.
    room = track.duration - settings.window_seconds > 2 * LATE[0] and settings.video.fps != "spread"

    def fits(method: ForgeMethod) -> bool:
        needs = METHODS[method]
        there = (has_face or not needs.face) and (has_sound or not needs.sound)
        # What is out of step already, or may be, could fall into it.
        return there and (room or needs.other != "moment") and (method != "delay" or row["in_sync"] == 1)

    return [method for method in settings.forge.methods if fits(method)]


def plan_forgeries(
    manifest: pd.DataFrame, tracks: Sequence[Track] | Iterator[Track], settings: Settings
) -> pd.DataFrame:
    """Return a row for a forgery of each real that can be forged: methods come, if they can, as often as named.

    The rows are those of the manifest with another `video_id`, `method` and labels; `original` names the real, and
    `row` is its number.

    Args:
        tracks: of the manifest's videos, in its order.
    """
    rng, counts = np.random.default_rng((settings.seed, len(manifest))), Counter()
    rows = []
    for number, (row, track) in enumerate(zip(manifest.to_dict("records"), tracks, strict=True)):
        possible = list_methods(row, track, settings)
        if possible:
            method = min(possible, key=lambda one: (counts[one] / possible.count(one), rng.random()))
            counts[method] += 1
            new = {"video_id": f"{row['video_id']}~{method}", "original": row["video_id"], "method": method}
            rows.append({**row, **new, "label": 1, **METHODS[method].labels, "row": number})
    return pd.DataFrame(rows, columns=[*manifest.columns, "row"])
