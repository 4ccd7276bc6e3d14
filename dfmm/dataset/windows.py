"""Where windows lie in a video, and which of its labels are true of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from dfmm.degrade import Scene
from dfmm.extraction.cures import Span, choose_span, limit_sound
from dfmm.faces.track import Track
from dfmm.manifest import STREAM_LABELS, parse_segments
from dfmm.media.sound import Sound, has_motion
from dfmm.settings import Settings

# Columns of the manifest that a window's labels come from.
LABELLING = ("label", *STREAM_LABELS, "video_segments", "audio_segments")


@dataclass(frozen=True)
class Window:
    """T moments of a video, and the stretch of sound that belongs to them."""

    moments: np.ndarray  # float64 [T], seconds after the first frame
    numbers: np.ndarray  # int64 [T], the frames shown at these moments
    inside: np.ndarray  # bool [T], False past the end of a short video
    sound_start: float
    sound_seconds: float
    span: Span | None = None  # what is left of the video, where it was cut


def place_window(
    track: Track,
    settings: Settings,
    *,
    number: int = 0,
    of: int = 1,
    sampling: Literal["uniform", "random"] | float = "uniform",
    rng: np.random.Generator | None = None,
) -> Window:
    """Place window `number` of `of` in what is left of a video once it is cut: where its frames lie, and its sound."""
    T, fps = settings.video.frames, settings.video.fps
    span = choose_span(track, settings.cure)
    begin, end = span or (0.0, track.duration)
    if fps == "spread":
        moments = begin + (np.arange(T) + 0.5) / T * (end - begin)
        start, seconds = (begin + end - settings.window_seconds) / 2, settings.window_seconds
    else:
        seconds = T / fps
        room = max(end - begin - seconds, 0.0)
        if sampling == "random":
            start = begin + float(rng.uniform(0, room))
        elif sampling == "uniform":
            start = begin + (room / 2 if of == 1 else room * number / (of - 1))
        else:
            start = float(sampling)
        moments = start + np.arange(T) / fps
    # The frame shown at a moment is the last that began by then; half a millisecond forgives rounded clocks.
    numbers = np.clip(np.searchsorted(track.times, moments + 5e-4, side="right") - 1, 0, len(track.times) - 1)
    inside = (moments < end - 5e-4) & (len(track.times) > 0)
    return Window(moments, numbers, inside, start, seconds, span)


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
    moments = np.clip([scene.shows.min(), scene.shows.max()], window.moments[0], window.moments[-1])
    return replace(window, moments=moments, sound_start=start, sound_seconds=end - start)


def label_window(row: Mapping[str, Any], window: Window) -> dict[str, int]:
    """Return a window's labels: where a video is forged in places only, what overlaps with the window decides.

    Args:
        row: of the manifest, or what it says in the columns `LABELLING`.
    """
    labels = {name: int(row[name]) for name in ("label", *STREAM_LABELS)}
    # In `spread` the frames cover more than the sound does.
    spans = {
        "video": (window.moments[0], window.moments[-1]),
        "audio": (window.sound_start, window.sound_start + window.sound_seconds),
    }
    partly = False
    left_start, left_end = window.span or (-np.inf, np.inf)
    for stream, (start, end) in spans.items():
        start, end = max(start, left_start), min(end, left_end)
        segments = parse_segments(row[f"{stream}_segments"]) if labels[f"{stream}_fake"] == 1 else []
        if segments:
            partly = True
            labels[f"{stream}_fake"] = int(any(a < end and b > start for a, b in segments))
    if partly and labels["label"] == 1:
        labels["label"] = int(1 in (labels["video_fake"], labels["audio_fake"]) or labels["in_sync"] == 0)
    return labels


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
    return samples, heard & has_motion(samples)
