"""What is measured once in every file for the audit, and kept: its encoding, its sound's edges, its fingerprints."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dfmm.bars import show_progress
from dfmm.extraction.cures import choose_span, cure_media
from dfmm.extraction.pool import run_tasks
from dfmm.faces.follow import SAMPLE_RATE, describe_media
from dfmm.faces.track import Track
from dfmm.files import write_json
from dfmm.media.container import MediaError, find_streams, open_media
from dfmm.media.decode import Media, read_media
from dfmm.media.reencode import list_profile, prepare_file
from dfmm.media.sound import Sound, has_motion
from dfmm.sections import Cure
from dfmm.settings import Settings, resolve_path

FORMAT = 6  # of the cache: a higher number makes older entries void
STRETCHES = 8  # equal parts of a video, each of which gives a mean picture
SIDE = 32  # of these pictures, in pixels
SLICES, BANDS = 32, 8  # of the sound's fingerprint: equal parts of the video, and bands from 200 to 4,000 Hz
SCENE_SIZE, MOTION_SIZE, SOUND_SIZE = 64, 256, SLICES * (BANDS - 1)  # bytes; of motion, for each stretch
STILL = 0.2  # grey levels (root mean square) below which a stretch does not differ from the rest
STEPS = 8  # of the sound's fingerprint in a factor of e
UNCURED = Cure()


@dataclass(frozen=True)
class Facts:
    """One file as the audit sees it. Times in seconds, rates in bits a second, None where there is no such stream."""

    sha256: str
    file_size: int  # bytes
    duration: float
    frames: int
    fps: float | None
    width: int | None
    height: int | None
    video_codec: str | None  # with profile and pixel format
    video_bit_rate: float | None  # of the packets themselves: what containers claim is often wrong
    has_audio: bool
    audio_codec: str | None
    audio_bit_rate: float | None
    sample_rate: int | None
    channels: int | None
    sound_start: float | None  # after the first frame
    sound_overhang: float | None  # by which it ends after the picture
    leading_silence: float | None  # before the first sample above `dfmm.faces.follow.ONSET`, and after the last
    trailing_silence: float | None
    loudness: float | None  # dB of full scale
    peak: float | None  # of full scale 1
    scene: str | None  # fingerprints, in hexadecimal: int8 [SCENE_SIZE]
    motion: str | None  # int8 [STRETCHES, MOTION_SIZE]
    sound: str | None  # int8 [SLICES, BANDS - 1]


def measure_file(path: str | Path, cure: Cure = UNCURED) -> Facts:
    """Measure one file: decoded once, in small.

    Args:
        cure: how picture and sound are cut and levelled before a detector gets to see them: what is left is measured.
            Size, codecs and bit rates stay those of the whole file.

    Raises:
        MediaError: the file is missing or broken.
    """
    encoding = _describe_encoding(path)
    whole = read_media(path, keep=lambda number: True, sample_rate=SAMPLE_RATE, short_side=SIDE)
    seconds = max(describe_media(whole).duration, 1e-3)
    span, media = choose_span(describe_media(whole), cure), cure_media(whole, cure)
    track = describe_media(media)
    duration = min(track.duration, span.end - span.start) if span else track.duration
    seen = {"video_codec": encoding.pop("video_codec"), "video_bit_rate": encoding.pop("video_bits") / seconds}
    heard = {"audio_bit_rate": encoding.pop("audio_bits") / seconds, **encoding}
    content = Path(path).read_bytes()
    return Facts(
        sha256=hashlib.sha256(content).hexdigest(),
        file_size=len(content),
        duration=round(duration, 4),  # clocks differ by less, and that shall not part what is equal
        **_describe_picture(media, track, seen),
        **_describe_sound(media.sound, track, duration, heard),
    )


def _describe_picture(media: Media, track: Track, seen: dict[str, Any]) -> dict[str, Any]:
    """Return all facts of a picture, None each where there is none."""
    names = ("fps", "width", "height", "scene", "motion")
    if not len(track.times):
        return {"frames": 0, **dict.fromkeys([*seen, *names])}
    return {
        "frames": len(track.times),
        "fps": round(1 / track.frame_seconds, 3),
        "width": track.width,
        "height": track.height,
        **seen,
        **_print_picture(media, track.duration),
    }


def _describe_encoding(path: str | Path) -> dict[str, Any]:
    """Read what the container says of its streams, and count their packets' bits."""
    with open_media(path) as container:
        found = {stream.type: stream for stream in find_streams(container)}
        video, audio = found.get("video"), found.get("audio")
        bits = dict.fromkeys(("video", "audio"), 0)
        for packet in container.demux(*found.values()):
            bits[packet.stream.type] += 8 * packet.size
        return {
            "video_codec": _name_codec(video.codec_context, video.codec_context.pix_fmt) if video else None,
            "video_bits": bits["video"],
            "audio_codec": _name_codec(audio.codec_context) if audio else None,
            "audio_bits": bits["audio"],
            "sample_rate": audio.rate if audio else None,
            "channels": audio.channels if audio else None,
        }


def _name_codec(codec: Any, *more: str | None) -> str:
    return " ".join(filter(None, (codec.name, codec.profile, *more)))


def _describe_sound(sound: Sound | None, track: Track, duration: float, heard: dict[str, Any]) -> dict[str, Any]:
    """Return all facts of a sound, None each where there is none."""
    names = ("sound_start", "sound_overhang", "leading_silence", "trailing_silence", "loudness", "peak", "sound")
    if sound is None:
        return {"has_audio": False, **dict.fromkeys([*heard, *names])}
    return {
        "has_audio": True,
        **heard,
        "sound_start": round(sound.start, 4),
        "sound_overhang": round(sound.end - duration, 4),
        "leading_silence": track.leading_silence,
        "trailing_silence": track.trailing_silence,
        "loudness": track.loudness,
        "peak": track.sound_peak,
        "sound": _print_sound(sound, duration),
    }


# Fingerprints. Fixed shares of a video, not seconds, so that another frame rate changes nothing.


def _print_picture(media: Media, duration: float) -> dict[str, str]:
    """Fingerprint the usual picture and, apart from it, what moves, by their lowest frequencies (DCT).

    A perceptual hash with numbers in place of bits, whose signs are chance where a picture is smooth. Clips of one
    person in one room share the picture; what tells them apart is how each stretch differs from the usual one. That is
    the median of all stretches: a mean would carry a flaw of one stretch into all others.
    """
    pictures = _average_stretches(media, duration)
    usual = np.median(pictures, axis=0)
    scene = cv2.dct(usual)[:8, :8].reshape(1, SCENE_SIZE)
    motion = np.stack([cv2.dct(change)[:16, :16] for change in pictures - usual]).reshape(STRETCHES, MOTION_SIZE)
    for waves in (scene, motion):
        waves[:, 0] = 0  # brightness as a whole
    motion[np.linalg.norm(motion, axis=1) < STILL * SIDE] = 0
    # The root keeps the few largest waves, such as a wall that is lit from one side, from drowning the others.
    return {"scene": _pack(np.sign(scene) * np.sqrt(np.abs(scene))), "motion": _pack(motion)}


def _pack(rows: NDArray[np.float32]) -> str:
    """Return rows as hexadecimal int8, each scaled to its largest value."""
    largest = np.maximum(np.abs(rows).max(axis=1, keepdims=True), 1e-6)
    return np.rint(127 * rows / largest).astype(np.int8).tobytes().hex()


def _average_stretches(media: Media, duration: float) -> NDArray[np.float32]:
    """Return the mean grey picture of each stretch, `[STRETCHES, SIDE, SIDE]`."""
    numbers = sorted(media.frames)
    greys = [cv2.cvtColor(media.frames[number], cv2.COLOR_RGB2GRAY) for number in numbers]
    small = np.stack([cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for grey in greys])
    times = media.times[numbers] / duration * STRETCHES
    nearest = [np.abs(times - stretch - 0.5).argmin() for stretch in range(STRETCHES)]
    members = [np.flatnonzero(times.astype(int) == stretch) for stretch in range(STRETCHES)]
    chosen = [inside if len(inside) else [next_to] for inside, next_to in zip(members, nearest, strict=True)]
    return np.stack([small[pictures].mean(axis=0, dtype=np.float32) for pictures in chosen])


def _print_sound(sound: Sound, duration: float) -> str | None:
    """Fingerprint a sound by how its energy is spread over pitch and time, whatever its loudness; None for silence.

    Differences between neighbouring bands, as in Haitsma & Kalker (ISMIR 2002), but kept as numbers.
    """
    samples, _ = sound.cut(0, duration)
    width, hop = 512, 160
    if len(samples) < width or not has_motion(samples, sound.sample_rate):
        return None
    pieces = np.lib.stride_tricks.sliding_window_view(samples, width)[::hop] * np.hanning(width).astype(np.float32)
    power = np.abs(np.fft.rfft(pieces, axis=1)) ** 2
    edges = np.searchsorted(np.fft.rfftfreq(width, 1 / sound.sample_rate), np.geomspace(200, 4000, BANDS + 1))
    bands = np.add.reduceat(power[:, : edges[-1]], edges[:-1], axis=1)
    starts = (np.arange(SLICES) * len(bands)) // SLICES
    counts = np.maximum(np.diff([*starts, len(bands)]), 1)[:, None]
    tilt = np.diff(np.log(np.add.reduceat(bands, starts, axis=0) / counts + 1e-7), axis=1)
    tilt -= tilt.mean(axis=0)
    return np.clip(np.rint(STEPS * tilt), -127, 127).astype(np.int8).tobytes().hex()


# Many files


def extract_facts(
    manifest: pd.DataFrame, settings: Settings, *, progress: bool = True
) -> tuple[dict[str, Facts], dict[str, str]]:
    """Measure every file that has no facts kept yet, in parallel; a broken one costs only itself.

    Files are measured after their cures (`settings.cure`): what a detector gets to see.

    Returns:
        Facts and, for the files that failed, the reason, both by `video_id`.
    """
    root = resolve_path(settings.data.root)
    paths = {row.video_id: (root / row.path).resolve() for row in manifest.itertuples()}
    failures = {name: f"{path}: no such file" for name, path in paths.items() if not path.is_file()}
    files = {name: locate_facts(path, settings) for name, path in paths.items() if name not in failures}
    kept = {name: load_facts(file) for name, file in files.items()}
    missing = [name for name, facts in kept.items() if facts is None]
    found = run_tasks(_measure_and_save, [(paths[name], files[name], settings) for name in missing], settings.extract)
    found = show_progress(found, "facts", unit="video", total=len(missing), show=progress and bool(missing))
    kept.update((missing[number], result) for number, result in found)
    failures |= {name: str(result) for name, result in kept.items() if isinstance(result, MediaError)}
    return {name: kept[name] for name in paths if name not in failures}, failures


def locate_facts(path: Path, settings: Settings) -> Path:
    """Return where a file's facts are kept: another time of change, or cured otherwise, another file."""
    state, cure = path.stat(), settings.cure
    cuts = [cure.trim_silence, cure.start_jitter, cure.loudness]
    key = [FORMAT, str(path), state.st_size, state.st_mtime_ns, *cuts, *list_profile(cure)]
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
    return resolve_path(settings.data.cache) / "facts" / name[:2] / f"{name}.json"


def load_facts(path: Path) -> Facts | None:
    """Read kept facts; None if there are none, or they are damaged and must be measured again."""
    try:
        return Facts(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _measure_and_save(path: Path, file: Path, settings: Settings) -> Facts:
    facts = measure_file(prepare_file(path, settings), settings.cure)
    write_json(asdict(facts), file)
    return facts
