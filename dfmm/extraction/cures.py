"""What is done to every video alike, real or fake, so that facts that are no evidence no longer tell the two apart.

What each of them cures, and what it does not:

- `cure.trim_silence`: silence before the first sound. Windows are placed, and the video ends, where something is heard.
  A fade-in, or what a codec makes of an abrupt start, is still there; `cure.start_jitter` cuts into it. So is what the
  silence did to the rest of its file: an encoder gives more bits to what follows, and the audit names that bit rate.
- `cure.start_jitter`: that windows begin where the file does. It blurs what happens at a start, and removes none of it.
- `cure.loudness`: level. Clipping, compression and the noise that was raised with the voice stay.
- `cure.face_pixels`: how many pixels a face has. What is smaller in its file than that stays blurred.
- `cure.reencode`: frame rate, codec, profile, sample rate, channels, where the sound begins and ends, and the largest
  size. See `dfmm.media.reencode` for what it leaves.
- `model.streams`: whether there is a stream at all. What is withheld cannot tell anything.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from dfmm.faces.follow import describe_media
from dfmm.faces.track import Track
from dfmm.media.decode import Media
from dfmm.sections import Cure
from dfmm.settings import Settings

QUIET = -70.0  # dB: what is nowhere louder has no level that could be brought anywhere


class Span(NamedTuple):
    """The part of a video that is left, in seconds on the file's own clock: forged segments stay where they are."""

    start: float
    end: float


def choose_span(track: Track, cure: Cure) -> Span | None:
    """Return what is left of a video once silence is trimmed and its start is jittered; None for all of it.

    What is nowhere loud enough to be heard is not trimmed.
    """
    if cure.trim_silence == "none" and not cure.start_jitter:
        return None
    start, end = 0.0, track.duration
    heard = (track.sound_start + track.leading_silence, track.sound_end - track.trailing_silence)
    if cure.trim_silence != "none" and max(heard[0], start) < min(heard[1], end):  # never where there is no sound
        start = max(start, heard[0])
        end = min(end, heard[1]) if cure.trim_silence == "both" else end
    return Span(start + min(cure.start_jitter, (end - start) / 2) * _draw_share(track), end)


def _draw_share(track: Track) -> float:
    """Return a number in [0, 1) that depends on what is in the file, not on its name or on who asks."""
    content = track.times.tobytes() + np.array([track.sound_end, track.sound_peak, track.loudness]).tobytes()
    return float(np.random.default_rng(zlib.crc32(content)).random())


def choose_gain(track: Track, cure: Cure) -> float:
    """Return the factor that brings a video's sound to the level asked for; 1 where there is none."""
    if cure.loudness is None or track.level <= QUIET:
        return 1.0
    return float(10 ** ((cure.loudness - track.level) / 20))


def limit_sound(samples: np.ndarray, start: float, span: Span, *, sample_rate: int) -> np.ndarray:
    """Return samples `[S]`, the first of them heard at `start`, with silence outside of the span."""
    first, last = (round((edge - start) * sample_rate) for edge in span)
    limited = np.zeros_like(samples)
    limited[max(first, 0) : max(last, 0)] = samples[max(first, 0) : max(last, 0)]
    return limited


def cure_media(media: Media, cure: Cure) -> Media:
    """Return a whole video as the dataset would cut and level it, on a clock that begins with what is left of it.

    Args:
        media: all frame times and the whole sound at `SAMPLE_RATE`.
    """
    track = describe_media(media)
    gain, sound = choose_gain(track, cure), media.sound
    if sound is not None and gain != 1:
        sound = replace(sound, samples=sound.samples * np.float32(gain))
    span = choose_span(track, cure)
    if span is None:
        return replace(media, sound=sound)
    if sound is not None:
        start, end = max(span.start, sound.start), min(span.end, sound.end)
        samples, _ = sound.cut(start, max(end - start, 0.0))
        sound = replace(sound, samples=samples, start=start - span.start) if len(samples) else None
    # Windows show the last frame that began by their start: it is the first that is left.
    shown = np.searchsorted(media.times, [span.start + 5e-4, span.end - 5e-4], side="right") - [1, 0]
    numbers = range(max(int(shown[0]), 0), int(shown[1]))
    frames = {number - numbers.start: media.frames[number] for number in numbers if number in media.frames}
    times = np.maximum(media.times[numbers.start : numbers.stop] - span.start, 0)
    sizes = media.sizes - [numbers.start, 0, 0]
    return replace(media, frames=frames, times=times, sound=sound, sizes=sizes)


def describe_cures(settings: Settings) -> list[str]:
    """Return the cures that are on, each as its setting and value."""
    off, cure = Cure(), settings.cure
    names = [name for name in Cure.model_fields if not name.startswith("reencode_")]
    on = [f"cure.{name}={getattr(cure, name)}" for name in names if getattr(cure, name) != getattr(off, name)]
    if cure.reencode:
        profile = f"{cure.reencode_fps:g} fps, {cure.reencode_side} pixels, CRF {cure.reencode_crf}"
        on[-1] += f" ({profile}, {cure.reencode_sample_rate} Hz, {cure.reencode_bit_rate} bit/s)"
    return on + ([f"model.streams={settings.model.streams}"] if settings.model.streams != "both" else [])
