"""What the world does to a clip: every degradation, with its strength, and what labels still hold.

`DEGRADATIONS` lists them, training draws of them; `degrade.frames` and `degrade.sound` do the work. A new one is a
function there, a row here, and a share in `sections.Augment`.
"""

from __future__ import annotations

import functools
import inspect
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from dfmm.degrade.frames import (
    add_noise,
    blur_frames,
    change_colour,
    compress_h264,
    compress_jpeg,
    cut_out,
    mirror_frames,
    move_frames,
    scale_frames,
    shift_frames,
)
from dfmm.degrade.sound import (
    add_sound_noise,
    change_loudness,
    compress_sound,
    limit_band,
    mask_log_mel,
    reverberate,
    shift_pitch,
    stretch_time,
)
from dfmm.sections import Augment

__all__ = [
    "DEGRADATIONS",
    "OFFSET",
    "Degradation",
    "Scene",
    "augment_frames",
    "augment_log_mel",
    "augment_scene",
    "augment_sound",
    "change_picture",
    "code_scene",
    "delay_sound",
    "draw_offset",
    "frames",
    "label_sync",
    "make_scene",
]

# Sound that is ahead of the picture, or behind it, by more seconds than these is noticed (ITU-R BT.1359-1).
NOTICED_AHEAD, NOTICED_BEHIND = 0.045, 0.125


@dataclass(frozen=True)
class Scene:
    """A window's picture and sound, and which moments of the clip they are of."""

    frames: np.ndarray  # uint8 [T, H, W, 3], zeros where nothing is seen
    frame_mask: np.ndarray  # bool [T], where something is
    samples: np.ndarray  # float32 [S], as long as the T frames last
    sound_mask: np.ndarray  # bool [T], when something is heard
    sample_rate: int  # Hz
    shows: np.ndarray  # float64 [T], the moment that is seen at each step, in seconds of the clip
    hears: np.ndarray  # float64 [T], the moment that is heard then

    @property
    def fps(self) -> float:
        """Steps a second."""
        return len(self.frames) * self.sample_rate / len(self.samples)

    @property
    def speed(self) -> float:
        """How fast the clip's time passes in the sound: 1 as it was, -1 backwards."""
        return float(self.hears[1] - self.hears[0]) * self.fps if len(self.hears) > 1 else 1.0

    @property
    def lag(self) -> np.ndarray:
        """By how many seconds the picture comes later than its sound at each step, float64 `[T]`."""
        return (self.hears - self.shows) / self.speed


def make_scene(frames: np.ndarray, samples: np.ndarray, *, sample_rate: int) -> Scene:
    """Return the scene of frames, uint8 `[T, H, W, 3]`, and their sound, float32 `[S]`, all of it seen and heard."""
    steps = len(frames)
    moments = np.arange(steps) * len(samples) / sample_rate / steps
    everywhere = np.ones(steps, bool)
    return Scene(frames, everywhere, samples, everywhere.copy(), sample_rate, moments, moments.copy())


# Both streams: where one is moved in time, the other goes with it or the scene says so.


def delay_sound(scene: Scene, *, seconds: float) -> Scene:
    """Let the sound come later, or earlier; silence comes in where there is nothing, and is masked."""
    steps, samples = np.arange(len(scene.frames)), np.zeros_like(scene.samples)
    late = int(np.clip(round(seconds * scene.sample_rate), -len(samples), len(samples)))  # all of it is gone then
    kept = slice(max(late, 0), len(samples) + min(late, 0))
    samples[kept] = scene.samples[max(-late, 0) : len(samples) - max(late, 0)]
    sources = np.floor(steps + 0.5 - seconds * scene.fps).astype(int)
    inside = (sources >= 0) & (sources < len(steps))
    mask = scene.sound_mask[np.clip(sources, 0, len(steps) - 1)] & inside
    return replace(scene, samples=samples, sound_mask=mask, hears=scene.hears - seconds * scene.speed)


def reverse_time(scene: Scene) -> Scene:
    """Play picture and sound backwards."""
    names = ("frames", "frame_mask", "samples", "sound_mask", "shows", "hears")
    return replace(scene, **{name: np.ascontiguousarray(getattr(scene, name)[::-1]) for name in names})


def change_speed(scene: Scene, *, speed: float) -> Scene:
    """Play picture and sound faster, or slower, the voice at its own pitch.

    From its first moment on: what is faster ends early, and the rest is masked; the end of what is slower is cut off.
    """
    steps = np.arange(len(scene.frames))
    places = (steps + 0.5) * speed  # of each step's middle
    sources = np.minimum(places.astype(int), len(steps) - 1)
    inside = places < len(steps)
    samples = stretch_time(scene.samples, speed=speed, sample_rate=scene.sample_rate)[: len(scene.samples)]
    hears = scene.hears[0] + (places - 0.5) * scene.speed / scene.fps
    return replace(
        show_steps(scene, sources, inside),
        samples=np.pad(samples, (0, len(scene.samples) - len(samples))),
        sound_mask=scene.sound_mask[sources] & inside,
        shows=hears - (scene.hears - scene.shows)[sources],  # a frame lasts: all that is heard meanwhile is in time
        hears=hears,
    )


def lower_frame_rate(scene: Scene, *, share: float) -> Scene:
    """Keep this share of the frames, each shown until the next one."""
    kept = np.floor(np.arange(len(scene.frames)) * share + 1e-9)
    return show_steps(scene, np.ceil(kept / share - 1e-9).astype(int))


def freeze_frame(scene: Scene, *, share: float, rng: np.random.Generator) -> Scene:
    """Let one frame stand for this share of the window, while the sound goes on, and catch up then."""
    sources = np.arange(len(scene.frames))
    count = min(round(share * len(sources)), len(sources) - 1)
    first = int(rng.random() * (len(sources) - count))
    sources[first : first + count + 1] = first
    return show_steps(scene, sources)


def drop_frames(scene: Scene, *, share: float, rng: np.random.Generator) -> Scene:
    """Lose this share of the frames here and there: nothing is seen in their place."""
    steps = np.arange(len(scene.frames))
    lost = rng.permutation(steps)[: round(share * len(steps))]
    return show_steps(scene, steps, ~np.isin(steps, lost))


def show_steps(scene: Scene, sources: np.ndarray, inside: np.ndarray | None = None) -> Scene:
    """Show at each step the frame of another, int `[T]`, or nothing where it is not `inside`, bool `[T]`."""
    mask = scene.frame_mask[sources] & (True if inside is None else inside)
    frames = scene.frames[sources]
    frames[~mask] = 0
    return replace(scene, frames=frames, frame_mask=mask, shows=scene.shows[sources])


def label_sync(labels: Mapping[str, int], scene: Scene) -> dict[str, int]:
    """Return a window's labels as they are true of a scene made of it.

    Where the picture of a window in sync comes noticeably too late or too early all the time, `in_sync` is 0, and the
    window is a fake as any clip is whose sound was shifted. Where it does for a part of the time only, as when a frame
    freezes, `in_sync` is unknown, -1.
    """
    both = scene.frame_mask & scene.sound_mask
    lag = scene.lag[both].round(6)
    noticed = (lag > NOTICED_AHEAD) | (lag < -NOTICED_BEHIND)
    if labels["in_sync"] != 1 or not noticed.any():
        return dict(labels)
    if noticed.all():
        return {**labels, "in_sync": 0, "label": 1}
    return {**labels, "in_sync": -1}


# The table


class Degradation(NamedTuple):
    """One thing the world does, from strength 0, which changes nothing to the bit, to strength 1."""

    name: str
    stream: Literal["both", "picture", "sound", "log_mel"]  # what `function` is given: a scene, or that part of it
    function: Callable[..., Any]
    keyword: str  # of the function's argument that the strength sets; empty where it is done or not
    none: float  # the argument that strength 0 stands for, in `unit`
    severe: float  # and the one of strength 1
    unit: str
    curve: Literal["linear", "log"] = "linear"  # the way from one to the other
    two_sided: bool = False  # are strengths below 0, down to -1, the other way round?
    setting: str = ""  # of the section `augment`, by which training draws it, where it is not the name

    def measure(self, strength: float) -> float:
        """Return the amount, in `unit`, that a strength from 0, or -1 where there are two sides, to 1 stands for."""
        lowest = -1 if self.two_sided else 0
        if not lowest <= strength <= 1:
            raise ValueError(f"{self.name}: expected a strength from {lowest} to 1, got {strength}")
        if self.curve == "log":
            return self.none * (self.severe / self.none) ** strength
        return self.none + (self.severe - self.none) * strength

    def apply(self, scene: Any, strength: float, rng: np.random.Generator) -> Any:
        """Degrade a `Scene`, or, where `stream` is `log_mel`, a log-mel, float32 `[1, n_mels, F]`.

        The same strength and the same state of `rng` give the same; what is given is not written to. What is only
        done or not is done at any strength above 0.
        """
        amount = self.measure(strength)
        if not strength:
            return scene
        if self.stream == "picture":
            return change_picture(scene, lambda frames: self._call(frames, amount, rng=rng))
        if self.stream == "sound":
            return _change_sound(scene, lambda sound: self._call(sound, amount, rng=rng, sample_rate=scene.sample_rate))
        return self._call(scene, amount, rng=rng)

    def _call(self, given: Any, amount: float, **known: Any) -> Any:
        """Call the function with the amount and with those of the things known that it takes."""
        taken = _list_parameters(self.function)
        options = {name: value for name, value in known.items() if name in taken}
        return self.function(given, **options, **({self.keyword: amount} if self.keyword else {}))


@functools.cache
def _list_parameters(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def change_picture(scene: Scene, change: Callable[[np.ndarray], np.ndarray]) -> Scene:
    """Return a scene with those of its frames changed, uint8 `[N, H, W, 3]`, in which anything is seen."""
    seen = scene.frame_mask
    if not seen.any():
        return scene
    if seen.all():
        return replace(scene, frames=change(scene.frames))
    frames = np.zeros_like(scene.frames)
    frames[seen] = change(scene.frames[seen])
    return replace(scene, frames=frames)


def _change_sound(scene: Scene, change: Callable[[np.ndarray], np.ndarray]) -> Scene:
    return replace(scene, samples=change(scene.samples)) if scene.samples.any() else scene


OFFSET = Degradation("offset", "both", delay_sound, "seconds", 0, 0.5, "s late", two_sided=True)
SPEC_AUGMENT = Degradation("spec_augment", "log_mel", mask_log_mel, "share", 0, 0.5, "of each axis")
# In the order in which training applies them: as a clip is made, filmed, edited, coded and sent.
DEGRADATIONS = (
    OFFSET,
    Degradation("reverse", "both", reverse_time, "", 0, 1, "(played backwards)"),
    Degradation("time_stretch", "both", change_speed, "speed", 1, 1.5, "× speed", "log", True),
    Degradation("frame_rate", "both", lower_frame_rate, "share", 1, 0.2, "of the frame rate"),
    Degradation("freeze", "both", freeze_frame, "share", 0, 0.75, "of the window frozen"),
    Degradation("flip", "picture", mirror_frames, "", 0, 1, "(mirrored)"),
    Degradation("crop", "picture", move_frames, "share", 0, 0.3, "of the side"),
    Degradation("brightness", "picture", change_colour, "brightness", 1, 0.25, "× brightness", "log", True, "colour"),
    Degradation("contrast", "picture", change_colour, "contrast", 1, 0.25, "× contrast", "log", True, "colour"),
    Degradation("saturation", "picture", change_colour, "saturation", 1, 0, "× saturation", "linear", True, "colour"),
    Degradation("blur", "picture", blur_frames, "sigma", 0, 4, "pixels"),
    Degradation("noise", "picture", add_noise, "deviation", 0, 50, "grey levels"),
    Degradation("cutout", "picture", cut_out, "share", 0, 0.4, "of the picture"),
    Degradation("downscale", "picture", scale_frames, "scale", 1, 0.125, "of the side", "log"),
    Degradation("jpeg", "picture", compress_jpeg, "quality", 100, 5, "quality"),
    Degradation("h264", "picture", compress_h264, "crf", 0, 51, "CRF"),
    Degradation("drop_frames", "both", drop_frames, "share", 0, 0.75, "of the frames lost"),
    Degradation("pitch", "sound", shift_pitch, "semitones", 0, 6, "semitones", two_sided=True),
    Degradation("reverb", "sound", reverberate, "seconds", 0, 1, "s to fall by 60 dB"),
    Degradation("sound_noise", "sound", add_sound_noise, "snr", 60, 0, "dB above the noise"),
    Degradation("sound_gain", "sound", change_loudness, "gain", 0, -30, "dB", two_sided=True),
    Degradation("high_pass", "sound", limit_band, "low", 20, 1_000, "Hz and above", "log"),
    Degradation("low_pass", "sound", limit_band, "high", 8_000, 1_000, "Hz and below", "log"),
    Degradation("mp3", "sound", partial(compress_sound, codec="mp3"), "kilobits", 64, 8, "kbit/s", "log"),
    Degradation("aac", "sound", partial(compress_sound, codec="aac"), "kilobits", 64, 8, "kbit/s", "log"),
    Degradation("opus", "sound", partial(compress_sound, codec="opus"), "kilobits", 64, 8, "kbit/s", "log"),
    SPEC_AUGMENT,
)


# What training draws


CODING = ("downscale", "jpeg", "h264", "mp3", "aac", "opus")
# Drawn by `augment_frames` and `augment_sound`, in units of their own.
BASIC = ("flip", "crop", "colour", "noise", "sound_gain", "sound_noise", "pitch")
Draw = Callable[[int], np.random.Generator]  # a window's generators, by number


def augment_frames(frames: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
    """Mirror, crop, recolour and add noise to a window's frames, uint8 `[T, H, W, 3]`: one draw for all of them."""
    if rng.random() < augment.flip:
        frames = mirror_frames(frames)
    # By whole pixels: to resample once more would blur the very traces that a forgery leaves.
    right, down = np.rint(rng.uniform(-augment.crop, augment.crop, size=2) * frames.shape[1]).astype(int)
    brightness, contrast, saturation = 1 + rng.uniform(-augment.colour, augment.colour, size=3)
    deviation = rng.uniform(0, augment.noise) * 255
    if right or down:
        frames = shift_frames(frames, right=right, down=down)
    if augment.colour:
        frames = change_colour(frames, brightness=brightness, contrast=contrast, saturation=saturation)
    if deviation:
        frames = add_noise(frames, deviation=deviation, rng=rng)
    return np.ascontiguousarray(frames)


def augment_sound(samples: np.ndarray, augment: Augment, rng: np.random.Generator, *, sample_rate: int) -> np.ndarray:
    """Change pitch and loudness of a window's sound, float32 `[S]`, and sometimes lay white noise under it."""
    gain = rng.uniform(-augment.sound_gain, augment.sound_gain)
    noisy, ratio = rng.random() < augment.sound_noise, rng.uniform(15, 40)
    semitones = rng.uniform(-augment.pitch, augment.pitch)
    if semitones:
        samples = shift_pitch(samples, semitones=semitones, sample_rate=sample_rate)
    samples = change_loudness(samples, gain=gain)
    return add_sound_noise(samples, snr=ratio, rng=rng) if noisy else samples


def augment_scene(scene: Scene, augment: Augment, draw: Draw) -> Scene:
    """Degrade a window by all that is drawn for it, but for the offset, which is drawn where its sound is read."""
    for one in DEGRADATIONS:
        if one.stream != "log_mel" and one is not OFFSET and (one.setting or one.name) not in BASIC:
            scene = _apply_drawn(one, scene, augment, draw)
    return scene


def code_scene(scene: Scene, augment: Augment, draw: Draw) -> Scene:
    """Degrade a window only by what is drawn for it of the ways in which it may be scaled, coded and sent."""
    for one in DEGRADATIONS:
        if one.name in CODING:
            scene = _apply_drawn(one, scene, augment, draw)
    return scene


def augment_log_mel(log_mel: torch.Tensor, augment: Augment, draw: Draw) -> torch.Tensor:
    """Hide what is drawn of a log-mel, float32 `[1, n_mels, F]`."""
    return _apply_drawn(SPEC_AUGMENT, log_mel, augment, draw)


def draw_offset(augment: Augment, draw: Draw) -> float:
    """Return by how many seconds the sound of a window shall be late."""
    return OFFSET.measure(draw_strength(OFFSET, augment, draw(_number_name("offset"))))


def _apply_drawn(one: Degradation, given: Any, augment: Augment, draw: Draw) -> Any:
    """Degrade by a strength that is drawn, by a generator of this degradation's own: none changes another's draws."""
    if not getattr(augment, one.name):
        return given
    rng = draw(_number_name(one.name))
    return one.apply(given, draw_strength(one, augment, rng), rng)


def _number_name(name: str) -> int:
    return zlib.crc32(name.encode())  # Python's own hash differs from process to process


def draw_strength(one: Degradation, augment: Augment, rng: np.random.Generator) -> float:
    """Return with what strength a window undergoes a degradation, 0 where it does not."""
    largest = getattr(augment, one.name)
    chance, share, side = rng.random(3)
    if not one.keyword:
        return float(chance < largest)
    if chance >= augment.chance:
        return 0.0
    return largest * share * (-1 if one.two_sided and side < 0.5 else 1)
