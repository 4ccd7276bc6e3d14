"""One video from file to face: where its face is in every frame, and what a model sees and hears of it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from dfmm.data.cache import Track
from dfmm.data.faces import BOX, LANDMARKS, Detect, crop_square, follow_face, load_detector
from dfmm.data.media import Media, Recording, Sound, read_media
from dfmm.settings import Settings, Video

SAMPLE_RATE = 16_000  # at which a sound's peak, loudness and onset are measured
ONSET = 5e-4  # a sample above this ends the leading silence (the reference rule of arXiv 2412.00175)
BATCH = 4  # frames a detector is given at once, all that is in memory of a long video; more are slower, each by 15 %
SECOND_LOOK = 32  # frames in which the slow fallback detector must see a face before it looks at all of them
DETECTORS = {"retinaface": ("retinaface", "mtcnn"), "mtcnn": ("mtcnn", "retinaface"), "none": ()}


def find_track(path: str | Path | Recording, video: Video) -> Track:
    """Decode a video, small and only every `detect_every`-th frame, and follow its face; no frame is kept.

    Raises:
        MediaError: the file is missing, broken, or has no picture.
    """
    media, detections, detector = _look_for_faces(path, video)
    faces = zip(detections, follow_face(list(detections.values())), strict=True)
    found = {number: face for number, face in faces if face is not None}
    rows = np.array(list(found.values()), np.float32).reshape(-1, 15)
    sound = media.sound
    return Track(
        times=media.times,
        width=media.width,
        height=media.height,
        looked_at=len(detections),
        detector=detector,
        box_times=media.times[list(found)],
        boxes=rows[:, BOX],
        landmarks=rows[:, LANDMARKS].reshape(-1, 5, 2),
        sound_start=sound.start if sound else np.nan,
        sound_end=sound.end if sound else np.nan,
        **measure_sound(sound.samples if sound else np.zeros(0, np.float32), sample_rate=SAMPLE_RATE),
    )


def _look_for_faces(path: str | Path | Recording, video: Video) -> tuple[Media, dict[int, np.ndarray], str]:
    """Detect faces, with the other detector where the first finds none in the whole video.

    Returns:
        The video without its frames; the detections `[K, 15]` of each frame looked at, by number; who found them.
    """
    media, detections = None, {}
    for name in DETECTORS[video.detector]:
        detect = load_detector(name)
        if detect is None:
            continue
        if media is not None:  # a second opinion
            stride = video.detect_every * -(-len(detections) // SECOND_LOOK)
            if not any(map(len, _detect_faces(path, video, detect, every=stride)[1].values())):
                continue
        media, detections = _detect_faces(path, video, detect, every=video.detect_every)
        if any(map(len, detections.values())):
            return media, detections, name
    if media is None:
        media = read_media(path, keep=lambda number: False, sample_rate=SAMPLE_RATE)
    return media, detections, "none" if video.detector == "none" else "nobody"


def _detect_faces(
    path: str | Path | Recording, video: Video, detect: Detect, *, every: int
) -> tuple[Media, dict[int, np.ndarray]]:
    """Decode a video and detect in every so-manieth frame, batch by batch; detections are in the video's own pixels."""
    found: dict[int, np.ndarray] = {}
    waiting: dict[int, np.ndarray] = {}
    shape = []

    def look() -> None:
        found.update(zip(waiting, detect(list(waiting.values())), strict=True))
        waiting.clear()

    def take(number: int, frame: np.ndarray) -> None:
        shape[:] = frame.shape[:2]
        waiting[number] = frame
        if len(waiting) == BATCH:
            look()

    media = read_media(
        path,
        keep=lambda number: number % every == 0,
        sample_rate=SAMPLE_RATE,
        short_side=video.detect_side,
        take=take,
    )
    if waiting:
        look()
    across, down = media.width / shape[1], media.height / shape[0]
    scale = np.array([across, down, across, down, 1, *[across, down] * 5], np.float32)
    return media, {number: rows * scale for number, rows in found.items()}


def measure_sound(samples: np.ndarray, *, sample_rate: int) -> dict[str, float]:
    """Return peak, loudness and leading silence of mono sound `[S]`; -120 dB where there is none."""
    level = float(np.sqrt(np.mean(samples**2))) if len(samples) else 0.0
    above = np.abs(samples) > ONSET
    return {
        "sound_peak": float(np.abs(samples).max(initial=0)),
        "loudness": 20 * float(np.log10(max(level, 1e-6))),
        "leading_silence": (int(above.argmax()) if above.any() else len(samples)) / sample_rate,
    }


def crop_faces(
    path: str | Path | Recording,
    squares: np.ndarray,
    settings: Settings,
    *,
    numbers: Collection[int],
    take: Callable[[int, np.ndarray], None],
    sound_until: float | None = None,
) -> Sound | None:
    """Decode a video, up to the last of some frames, and hand over their canonical crops one by one.

    The one way from a file to what a model sees and hears, whether it is kept or not.

    Args:
        squares: of all frames, as `Track.trace_squares` returns them; where it is NaN there is no crop.
        take: is given a frame's number and its crop, uint8 `[size, size, 3]`.
        sound_until: seconds of sound wanted; None for all.

    Returns:
        The sound, mono at `audio.sample_rate`, at least as far as it was wanted; None without an audio track.

    Raises:
        MediaError: the file is missing, broken, or has no picture.
    """
    wanted = {number for number in numbers if not np.isnan(squares[number, 0])}
    rate, size = settings.audio.sample_rate, settings.video.size
    media = read_media(
        path,
        keep=wanted.__contains__,
        sample_rate=rate,
        sound_until=None if sound_until is None else sound_until + 1 / rate,  # both ends of a cut are rounded
        last_frame=None if sound_until is None else max(wanted, default=0),
        take=lambda number, frame: take(number, crop_square(frame, squares[number], size)),
    )
    return media.sound
