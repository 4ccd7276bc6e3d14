"""Where windows lie in a video, and which of its labels are true of one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dfmm.extraction.cures import Span, choose_span, limit_sound
from dfmm.faces.track import Track
from dfmm.manifest import STREAM_LABELS, parse_segments
from dfmm.media.sound import Sound, has_motion
from dfmm.settings import Settings

if TYPE_CHECKING:  # its module imports PyTorch, which a worker that places windows can do without
    from dfmm.degrade import Scene

UNKNOWN = -1  # a label that takes no part in the loss
NEARLY = 0.9  # of the most that a window can show, where none can be full of the face, or of what is heard
PAUSE = 0.1  # seconds of silence that a window does not avoid: every voice makes them, and a ring of the codec does

# Columns of the manifest that a window's labels come from.
LABELLING = ("label", *STREAM_LABELS, "video_segments", "audio_segments")

Measure = Callable[[float, float], float]  # the start and end of a forged stretch → the share of it that is in a part


@dataclass(frozen=True)
class Window:
    """T moments of a video, and the stretch of sound that belongs to them."""

    moments: np.ndarray  # float64 [T], seconds after the first frame
    numbers: np.ndarray  # int64 [T], the frames shown at these moments
    inside: np.ndarray  # bool [T], False past the end of a short video
    sound_start: float
    sound_seconds: float
    span: Span | None = None  # what is left of the video, where it was cut
    unseen: bool = False  # is there a picture, but never the followed face in it?


def place_window(
    track: Track,
    settings: Settings,
    *,
    number: int = 0,
    of: int = 1,
    sampling: Literal["uniform", "random"] | float = "uniform",
    rng: np.random.Generator | None = None,
) -> Window:
    """Place window `number` of `of` in what is left of a video once it is cut: where its frames lie, and its sound.

    Windows lie where the followed face is; where no picture is scored, or nobody seen, where the sound is. Only if all
    are told to start at one second they do.
    """
    T, fps = settings.video.frames, settings.video.fps
    span = choose_span(track, settings.cure)
    begin, end = span or (0.0, track.duration)
    if fps == "spread":
        moments = spread_moments(track, settings, begin, end)
        start, seconds = (begin + end - settings.window_seconds) / 2, settings.window_seconds
    else:
        seconds = T / fps
        room = max(end - begin - seconds, 0.0)
        if sampling == "random":
            share = rng.random()
        elif sampling == "uniform":
            share = 0.5 if of == 1 else number / (of - 1)
        starts = find_starts(track, settings, begin, begin + room, seconds) if isinstance(sampling, str) else ()
        start = pick_start(starts, share) if isinstance(sampling, str) else float(sampling)
        moments = start + np.arange(T) / fps
    # The frame shown at a moment is the last that began by then; half a millisecond forgives rounded clocks.
    numbers = np.clip(np.searchsorted(track.times, moments + 5e-4, side="right") - 1, 0, len(track.times) - 1)
    inside = (moments < end - 5e-4) & (len(track.times) > 0)
    shown = track.lay_canvases(settings).seen[numbers[inside]] if inside.any() else np.ones(1, bool)
    return Window(moments, numbers, inside, start, seconds, span, unseen=not shown.any())


def count_dense(track: Track, settings: Settings, *, stride: float) -> int:
    """Return how many windows lie in what is left of a video, one every `stride` seconds; at least one."""
    begin, end = choose_span(track, settings.cure) or (0.0, track.duration)
    room = max(end - begin - settings.window_seconds, 0.0)
    return 1 + int(np.ceil(room / stride - 1e-6))


def place_dense(
    track: Track, settings: Settings, *, stride: float, number: int = 0, rng: np.random.Generator | None = None
) -> Window:
    """Place the window with this number of those that `count_dense` counts: the last of them ends with the video.

    They lie where nobody is seen, too: what is there is asked of every instant.
    """
    begin, end = choose_span(track, settings.cure) or (0.0, track.duration)
    room = max(end - begin - settings.window_seconds, 0.0)
    return place_window(track, settings, sampling=begin + min(number * stride, room))


def find_starts(
    track: Track, settings: Settings, first: float, last: float, seconds: float
) -> list[tuple[float, float]]:
    """Return from when to when windows of so many seconds can start that show, or sound, something all through.

    Where none can, those that do for nearly as long as any.
    """
    places = _list_places(track, settings)
    if not places:
        return [(first, last)]
    edges = np.array(places)
    # How much a window has is a line between these starts: where one of its ends is at an end of a place.
    turns = np.concatenate([[first, last], edges.ravel(), edges.ravel() - seconds])
    turns = np.unique(turns[(turns >= first) & (turns <= last)])
    shares = _measure_shares(edges, turns, seconds)
    enough = shares.max() * (1 if shares.max() > seconds - 1e-6 else NEARLY) - 1e-6
    if shares.max() <= 0 or (shares >= enough).all():
        return [(first, last)]
    spans: list[tuple[float, float]] = []
    for low, high in itertools.pairwise(turns.tolist()):
        one, other = _measure_shares(edges, np.array([low, high]), seconds)
        if max(one, other) < enough:
            continue
        rise = (other - one) / (high - low)
        start = low if one >= enough else low + (enough - one) / rise
        end = high if other >= enough else low + (enough - one) / rise
        if spans and start - spans[-1][1] < 1e-9:
            start = spans.pop()[0]
        spans.append((float(start), float(end)))
    return spans


def _measure_shares(places: np.ndarray, starts: np.ndarray, seconds: float) -> np.ndarray:
    """Return for how many seconds windows with these starts `[n]` lie in places `[K, 2]`, float64 `[n]`."""
    ends = np.minimum(starts[:, None] + seconds, places[:, 1])
    return (ends - np.maximum(starts[:, None], places[:, 0])).clip(min=0).sum(axis=1)


def _list_places(track: Track, settings: Settings) -> list[tuple[float, float]]:
    """Return where the followed face is seen, or else where something is heard, in seconds; empty for everywhere."""
    seen = track.lay_canvases(settings).seen if len(track.times) and settings.model.streams != "audio" else np.ones(0)
    if seen.any():
        if seen.all():
            return []
        return _list_sightings(track, seen, settings.video.detect_every * track.frame_seconds)
    leading, trailing = (s if s > PAUSE else 0.0 for s in (track.leading_silence, track.trailing_silence))
    heard = (track.sound_start + leading, track.sound_end - trailing)
    return [heard] if track.has_sound and heard[0] < heard[1] else []


def _list_sightings(track: Track, seen: np.ndarray, look: float) -> list[tuple[float, float]]:
    """Return from when to when the followed face is there, in seconds.

    Its path goes on for two looks past those that found it, in case one missed it: that is no place to look for it.

    Args:
        seen: in which frames it has a path, bool `[N]`.
        look: seconds from one look to the next.
    """
    ends = np.append(track.times[1:], track.duration)
    places = []
    for first, after in np.flatnonzero(np.diff(np.concatenate([[False], seen, [False]]))).reshape(-1, 2):
        low, high = float(track.times[first]), float(ends[after - 1])
        found = track.box_times[(track.box_times >= low) & (track.box_times < high)]
        if len(found):  # to the edge where there was no look any more that could have missed it
            start, end = float(found[0]), float(found[-1])
            places.append((low if start - low < 1.1 * look else start, high if high - end < 1.1 * look else end))
    return places


def pick_start(spans: list[tuple[float, float]], share: float) -> float:
    """Return the start at this share of all spans, 0 to 1: of each as much as it is long, and of none nothing."""
    if len(spans) == 1:
        low, high = spans[0]
        return low + (high - low) * share
    lengths = np.array([high - low for low, high in spans])
    weights = np.maximum(lengths, 1e-3) / np.maximum(lengths, 1e-3).sum()
    at = min(int(np.searchsorted(np.cumsum(weights), share, side="left")), len(spans) - 1)
    inside = (share - float(weights[:at].sum())) / float(weights[at])
    return spans[at][0] + float(lengths[at]) * min(max(inside, 0.0), 1.0)


def spread_moments(track: Track, settings: Settings, begin: float, end: float) -> np.ndarray:
    """Return moments `[T]` evenly spread over what is left of a video, as far as the followed face is seen."""
    shares = (np.arange(settings.video.frames) + 0.5) / settings.video.frames
    places = [(max(low, begin), min(high, end)) for low, high in _list_places(track, settings)]
    places = [(low, high) for low, high in places if low < high]
    if not places or not track.lay_canvases(settings).seen.any():
        return begin + shares * (end - begin)
    lengths = np.array([high - low for low, high in places])
    ends = np.cumsum(lengths)
    at = np.searchsorted(ends, shares * ends[-1], side="right").clip(max=len(places) - 1)
    return np.array(places)[at, 0] + shares * ends[-1] - (ends - lengths)[at]


def delay_window(window: Window, track: Track, *, seconds: float) -> Window:
    """Let a window hear what was said before, or, where the video has no sound there, as much after; else nothing else.

    Silence in its place would tell a shifted sound from one that is not.
    """
    first, last = track.sound_start, track.sound_end
    if window.span:
        first, last = max(first, window.span.start), min(last, window.span.end)
    for start in (window.sound_start - seconds, window.sound_start + seconds):
        if first <= start and start + window.sound_seconds <= last:
            return replace(window, sound_start=start)
    return window


def follow_scene(window: Window, scene: Scene) -> Window:
    """Return what of a window its scene, which may have been moved in time, still shows and sounds: for its labels."""
    if scene.shows is window.moments:
        return window
    start = max(window.sound_start, float(scene.hears.min()))
    end = min(window.sound_start + window.sound_seconds, float(scene.hears.max()) + abs(scene.speed) / scene.fps)
    moments = np.clip(scene.shows, window.moments[0], window.moments[-1])
    return replace(window, moments=moments, sound_start=start, sound_seconds=end - start)


def label_window(row: Mapping[str, Any], window: Window, settings: Settings) -> dict[str, int]:
    """Return a window's labels: where a video is forged in places only, what of them is in the window decides.

    Args:
        row: of the manifest, or what it says in the columns `LABELLING`.
    """
    measures = {"video": partial(measure_shown, window), "audio": partial(measure_heard, window)}
    labels = label_part(row, measures, settings.data.forged_share)
    return hide_picture(labels) if window.unseen else labels


def label_part(row: Mapping[str, Any], measures: Mapping[str, Measure], least: float) -> dict[str, int]:
    """Return the labels of a part of a video, be it a window of ours or what a score of somebody's is of.

    A stream with less of a forged stretch in it than `least` (`data.forged_share`) is neither fake nor real: unknown,
    as detectors ignore boxes that overlap an object too little to show it and too much to be background (Ren et al.,
    "Faster R-CNN", 2015, section 3.1.2). Nor can the part's label be told while a stream's is unknown, unless another
    is forged there. A stream that is forged, and nobody says where, is forged all through.

    Args:
        row: as of `label_window`.
        measures: for `video` and `audio`, how much of a stretch is in the part; NaN where nobody can tell.
    """
    labels = {name: int(row[name]) for name in ("label", *STREAM_LABELS)}
    partly = False
    for stream, measure in measures.items():
        stretches = parse_segments(row[f"{stream}_segments"]) if labels[f"{stream}_fake"] != 0 else []
        if stretches:
            partly, share = True, max(measure(*stretch) for stretch in stretches)
            labels[f"{stream}_fake"] = 1 if share >= least else 0 if share <= 0 else UNKNOWN
    if partly and labels["label"] == 1 and labels["in_sync"] != 0:
        streams = labels["video_fake"], labels["audio_fake"]
        labels["label"] = 1 if 1 in streams else UNKNOWN if UNKNOWN in streams else 0
    return labels


def measure_shown(window: Window, start: float, end: float) -> float:
    """Return the share of a stretch that a window shows, or of the window's frames where these are fewer."""
    low, high = window.span or (-np.inf, np.inf)
    left = window.moments[(window.moments >= low) & (window.moments < high)]
    step = np.ptp(window.moments) / max(len(window.moments) - 1, 1)
    # Of a stretch shorter than the time between two frames, a frame is all that can be shown.
    most = min(len(left), max((end - start) / step, 1.0) if step else 1.0)
    return float(((left >= start) & (left < end)).sum() / max(most, 1.0))


def measure_heard(window: Window, start: float, end: float) -> float:
    """Return the share of a stretch that a window sounds, or of the window where that is shorter."""
    low, high = window.span or (-np.inf, np.inf)
    return measure_overlap(
        max(window.sound_start, low), min(window.sound_start + window.sound_seconds, high), start, end
    )


def measure_overlap(first: float, last: float, start: float, end: float) -> float:
    """Return the share of a stretch that lies between two seconds, or of what is between them where that is shorter."""
    common = min(end, last) - max(start, first)
    return max(common / min(end - start, last - first), 0.0) if last > first else 0.0


def hide_picture(labels: dict[str, int]) -> dict[str, int]:
    """Return the labels of a window whose picture does not show the face: what is forged there says nothing of it."""
    known = labels["audio_fake"] == 1 or (labels["video_fake"] == 0 and labels["in_sync"] != 0)
    hidden = {"video_fake": 1, "in_sync": 0} | ({} if known else {"label": 1})
    return {name: UNKNOWN if hidden.get(name) == value else value for name, value in labels.items()}


def cut_sound(
    sound: Sound | None, window: Window, settings: Settings, *, gain: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return a window's sound, float32 `[S]`, and at which of its T moments there is any, unless all is silent."""
    steps = len(window.moments)
    if sound is None:
        samples = np.zeros(round(window.sound_seconds * settings.audio.sample_rate), np.float32)
        return samples, np.zeros(steps, bool)
    samples, _ = sound.cut(window.sound_start, window.sound_seconds)
    samples = samples * np.float32(gain) if gain != 1 else samples
    centres = window.sound_start + (np.arange(steps) + 0.5) / steps * window.sound_seconds
    heard = (centres >= sound.start) & (centres < sound.end)
    if window.span:
        samples = limit_sound(samples, window.sound_start, window.span, sample_rate=sound.sample_rate)
        heard &= (centres >= window.span.start) & (centres < window.span.end)
    return samples, heard & has_motion(samples, sound.sample_rate)
