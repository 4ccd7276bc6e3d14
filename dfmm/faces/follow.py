"""One video from file to face: where its face is in every frame, and what a model sees and hears of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dfmm.faces.crops import Canvases, Relay, cut_square
from dfmm.faces.detect import BOX, LANDMARKS, Detect, load_detector
from dfmm.faces.link import FaceTrack, choose_faces, count_faces, count_left_out, drop_false_alarms, link_faces
from dfmm.faces.looks import COARSE_FRAMES, CUT_CHANGE, Watcher, measure_changes, shrink_frame
from dfmm.faces.track import FOLLOWED, OTHERS, Track
from dfmm.media.decode import Media, Recording, read_media
from dfmm.media.sound import Mix, Sound, has_motion
from dfmm.sections import Video
from dfmm.settings import Settings

SAMPLE_RATE = 16_000  # at which a sound's peak, loudness and onset are measured
ONSET = 5e-4  # a sample above this ends the leading silence (the reference rule of arXiv 2412.00175)
SECOND_LOOK = 32  # frames in which a slower way to look must find a face before it is taken in all of them
MISSED = 0.1  # of a video's looks: where so many find nobody, they are taken again in larger frames
LARGER = 3  # times the size of frames at a second look: a face of less than a twelfth of the height is missed in small
# A cut changes the picture by more than `CUT_CHANGE`, and by so many times more than is usual between two looks or by
# more than any motion usually does, 255 being black to white; this share of it happens from one frame to the next.
CUT_OUTLIER, CUT_CERTAIN, CUT_SHARE = 4, 40, 0.7
DETECTORS = {"retinaface": ("retinaface", "mtcnn"), "mtcnn": ("mtcnn", "retinaface"), "none": ()}


def find_track(path: str | Path | Recording, video: Video) -> Track:
    """Decode a video, small and only every `detect_every`-th frame, and follow faces in it; no frame is kept.

    A file without a picture has no frame times, nobody is seen in it, and its clock is that of its sound.

    Raises:
        MediaError: the file is missing, broken, or has neither picture nor sound.
    """
    looks, detector = look_for_faces(path, video)
    cuts = find_cuts(path, looks.thumbnails, turns=looks.media.sizes[:, 0])
    return lay_track(describe_media(looks.media), looks.faces, cuts, video, detector)


def lay_track(track: Track, faces: Mapping[int, np.ndarray], cuts: np.ndarray, video: Video, detector: str) -> Track:
    """Return a video's track with the faces that are followed of all that were found.

    Args:
        track: of the video, as from `describe_media`.
        faces: detections `[K, 15]` by the number of their frame, in order.
        cuts: numbers of the frames with which another shot begins, int64 `[C]`.
    """
    numbers = np.array(list(faces), int)
    starts = set(np.searchsorted(numbers, cuts).tolist())
    tracks = drop_false_alarms(link_faces(list(faces.values()), starts=starts), len(numbers), starts=starts)
    chosen = choose_faces(tracks, video.face, starts=starts)
    times = track.times[numbers]
    return replace(
        track,
        look_times=times,
        cut_times=track.times[cuts],
        faces=count_faces(tracks),
        left_out=count_left_out(tracks, chosen) if video.face == "all" else 0,
        detector=detector,
        **dict(zip(FOLLOWED, _stack_faces(chosen[:1], times), strict=True)),
        other_faces=np.repeat(np.arange(1, max(len(chosen), 1)), [len(face) for face in chosen[1:]]),
        **dict(zip(OTHERS, _stack_faces(chosen[1:], times), strict=True)),
    )


def _stack_faces(faces: Sequence[FaceTrack], times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return when faces were found, of the times of all looks, their boxes and landmarks, face after face."""
    looks = np.array([look for face in faces for look in face], int)
    rows = np.array([row for face in faces for row in face.values()], np.float32).reshape(-1, 15)
    return times[looks], rows[:, BOX], rows[:, LANDMARKS].reshape(-1, 5, 2)


def describe_media(media: Media) -> Track:
    """Return the track of a whole video, its sound at `SAMPLE_RATE`, in which no face was looked for."""
    sound = media.sound
    return Track(
        times=media.times,
        width=media.width,
        height=media.height,
        look_times=np.zeros(0),
        cut_times=np.zeros(0),
        faces=0,
        detector="nobody",
        box_times=np.zeros(0),
        boxes=np.zeros((0, 4), np.float32),
        landmarks=np.zeros((0, 5, 2), np.float32),
        sizes=media.sizes,
        mix=dict(sound.mix) if sound else {},
        sound_start=sound.start if sound else np.nan,
        sound_end=sound.end if sound else np.nan,
        **measure_sound(sound.samples if sound else np.zeros(0, np.float32), sample_rate=SAMPLE_RATE),
    )


@dataclass(frozen=True)
class Looks:
    """What is found in every `detect_every`-th frame, by its number."""

    media: Media  # the video without its frames
    faces: dict[int, np.ndarray]  # detections [K, 15], in pixels of the video
    thumbnails: dict[int, np.ndarray]
    side: int = 0  # of the frames that they were found in, the short one, in pixels

    @property
    def found(self) -> bool:
        return any(map(len, self.faces.values()))


def look_for_faces(
    path: str | Path | Recording, video: Video, *, numbers: Sequence[int] | None = None
) -> tuple[Looks, str]:
    """Detect faces, in larger frames or with the other detector where the first finds none in the whole video.

    Looks of a video in which one is found, but not in all looks, are looked at again larger, too: it may be small.

    Args:
        numbers: of frames that are far apart, if only these are to be looked at.

    Returns:
        What was found, and the detector that found it.
    """
    looks, side = None, video.detect_side
    every = video.detect_every if numbers is None else COARSE_FRAMES
    for name, size in [(name, size) for name in DETECTORS[video.detector] for size in (side, LARGER * side)]:
        detect = load_detector(name)
        if detect is None or (size > side and (looks is None or min(looks.media.width, looks.media.height) <= side)):
            continue
        if looks is not None:  # a second look
            stride = -(-len(looks.faces) // SECOND_LOOK)
            few = None if numbers is None else numbers[::stride]
            if not _detect_faces(path, detect, side=size, every=every * stride, numbers=few).found:
                continue
        looks = _detect_faces(path, detect, side=size, every=every, numbers=numbers)
        if looks.found:
            return (_look_closer(path, detect, looks, side=LARGER * side) if size == side else looks), name
        if not len(looks.media.times):  # there is only sound
            break
    if looks is None:
        looks = Looks(read_media(path, keep=lambda number: False, sample_rate=SAMPLE_RATE), {}, {})
    return looks, "none" if video.detector == "none" and len(looks.media.times) else "nobody"


def look_through(
    path: str | Path | Recording, video: Video, numbers: Sequence[int], *, detector: str, side: int
) -> Looks:
    """Detect faces in every `detect_every`-th frame of a stretch, as another look at the same video has found them.

    Args:
        numbers: of these frames.
        detector, side: that found faces, and the short side of the frames in which it did.
    """
    detect = load_detector(detector)
    looks = _detect_faces(path, detect, side=side, every=video.detect_every, numbers=numbers)
    return _look_closer(path, detect, looks, side=LARGER * side) if side == video.detect_side else looks


def _look_closer(path: str | Path | Recording, detect: Detect, looks: Looks, *, side: int) -> Looks:
    """Look again, in frames of a larger short side, where nobody was found; first in few of these looks."""
    missed = [number for number, faces in looks.faces.items() if not len(faces)]
    if len(missed) < MISSED * len(looks.faces) or min(looks.media.width, looks.media.height) <= side // LARGER:
        return looks
    few = missed[:: -(-len(missed) // SECOND_LOOK)]
    closer = _detect_faces(path, detect, side=side, every=COARSE_FRAMES, numbers=few)
    if closer.found and len(few) < len(missed):
        closer = _detect_faces(path, detect, side=side, every=COARSE_FRAMES, numbers=missed)
    return replace(looks, faces=looks.faces | closer.faces)


def _detect_faces(
    path: str | Path | Recording,
    detect: Detect,
    *,
    side: int,
    every: int,
    numbers: Collection[int] | None = None,
) -> Looks:
    """Decode a video and find the faces in every so-manieth frame of this short side, most of them without a look.

    Args:
        numbers: of the frames, where they are not those.
    """
    watcher, wanted = Watcher(detect, every), None if numbers is None else frozenset(numbers)
    media = read_media(
        path,
        keep=(lambda number: number % every == 0) if wanted is None else wanted.__contains__,
        sample_rate=SAMPLE_RATE,
        short_side=side,
        take=watcher.take,
    )
    watcher.settle()
    if not watcher.faces:
        return Looks(media, {}, {}, side)
    faces = {
        number: rows * _scale_rows(media, number, watcher.shapes[number]) for number, rows in watcher.faces.items()
    }
    return Looks(media, faces, watcher.thumbnails, side)


def _scale_rows(media: Media, number: int, shape: tuple[int, int]) -> np.ndarray:
    """Return the factors, float32 `[15]`, from a small copy of a frame, height and width, to the frame itself."""
    width, height = media.measure_frame(number)
    across, down = width / shape[1], height / shape[0]
    return np.array([across, down, across, down, 1, *[across, down] * 5], np.float32)


def find_cuts(
    path: str | Path | Recording, thumbnails: Mapping[int, np.ndarray], *, turns: Sequence[int] = ()
) -> np.ndarray:
    """Return the numbers of the frames, int64 `[C]`, with which another shot begins.

    Where the picture changes much from one look to the next, the frames between are decoded as well: at a cut nearly
    all of the change happens at once, in a fast pan or a shake it does not.

    Args:
        thumbnails: of the frames looked at, by number.
        turns: frames with which the picture's size changes: each is a cut.
    """
    numbers = np.array(list(thumbnails), int)
    changes = measure_changes(list(thumbnails.values()))
    much = max(CUT_CHANGE, min(CUT_OUTLIER * float(np.median(changes)), CUT_CERTAIN)) if len(changes) else 0
    spans = [(numbers[at], numbers[at + 1], changes[at]) for at in np.flatnonzero(changes > much)]
    spans = [(first, last, change) for first, last, change in spans if not any(first < at <= last for at in turns)]
    if not spans:
        return np.array(turns, int)
    between = {int(number) for first, last, _ in spans for number in range(first, last + 1)}
    frames: dict[int, np.ndarray] = {}
    read_media(
        path,
        keep=between.__contains__,
        sample_rate=SAMPLE_RATE,
        short_side=2 * 18,
        last_frame=max(between),
        take=lambda number, frame: frames.__setitem__(number, shrink_frame(frame)),
    )
    cuts = list(turns)
    for first, last, change in spans:
        steps = measure_changes([frames[number] for number in range(first, last + 1)])
        if steps.max() > CUT_SHARE * change:
            cuts.append(first + 1 + steps.argmax())
    return np.array(sorted(cuts), int)


def measure_sound(samples: np.ndarray, *, sample_rate: int) -> dict[str, float]:
    """Return peak, loudness, level and the silence at both ends of mono sound `[S]`; -120 dB where there is none.

    What never moves, such as the offset of a microphone that is switched off, is none.
    """
    samples = samples if has_motion(samples, sample_rate) else np.zeros_like(samples)
    above = (samples > ONSET) | (samples < -ONSET)  # an hour's copy is a quarter of a gigabyte: none that need not be
    return {
        "sound_peak": float(max(samples.max(initial=0), -samples.min(initial=0))),
        "loudness": _measure_level(samples**2),
        "level": _measure_level(gate_power(samples, sample_rate=sample_rate)),
        "leading_silence": (int(above.argmax()) if above.any() else len(samples)) / sample_rate,
        "trailing_silence": (int(above[::-1].argmax()) if above.any() else len(samples)) / sample_rate,
    }


def _measure_level(power: np.ndarray) -> float:
    """Return the root mean square in dB of full scale, never below -120."""
    return 10 * float(np.log10(max(float(np.mean(power)), 1e-12))) if len(power) else -120.0


def gate_power(samples: np.ndarray, *, sample_rate: int) -> np.ndarray:
    """Return the mean square of those stretches of a sound `[S]` in which there is something to hear, `[n]`.

    The gates of ITU-R BS.1770-4, without its weighting of frequencies: stretches of 0.4 s, three quarters of each
    shared with the next, above -70 dB and then above 10 dB less than their mean. Silence that somebody has added
    changes little.
    """
    hop = sample_rate // 10
    steps = np.add.reduceat(samples**2, np.arange(0, len(samples), hop)) / hop if len(samples) else np.zeros(0)
    width = min(4, len(steps))
    power = np.convolve(steps, np.full(width, 1 / width), "valid") if width else steps
    power = power[power > 10**-7]
    return power[power > 0.1 * power.mean()] if len(power) else power


def crop_faces(
    path: str | Path | Recording,
    canvases: Canvases | Relay,
    settings: Settings,
    *,
    numbers: Collection[int],
    take: Callable[[int, np.ndarray], None],
    sound_until: float | None = None,
    times: np.ndarray | None = None,
    mix: Mix | None = None,
    watch: Callable[[int, np.ndarray], None] | None = None,
    watched: Collection[int] = (),
) -> Sound | None:
    """Decode a video, up to the last of some frames, and hand over their canvases one by one.

    The one way from a file to what a model sees and hears, whether it is kept or not.

    Args:
        canvases: of all frames, as `Track.lay_canvases` returns them; there is none where there is no face.
        take: is given a frame's number and its canvas, uint8 `[side, side, 3]`.
        sound_until: seconds of sound wanted; None for all.
        times: of all frames; with them, a stretch late in a long video is leapt to.
        mix: of the sound's channels, as the track tells.
        watch: is given the number and all of a frame, uint8 `[H, W, 3]`, of those that are `watched` or cut.

    Returns:
        The sound, mono at `audio.sample_rate`, at least as far as it was wanted; None without an audio track.

    Raises:
        MediaError: the file is missing, broken, or has neither picture nor sound.
    """
    seen, rate = canvases.seen, settings.audio.sample_rate
    wanted = {number for number in numbers if seen[number]}
    decoded = wanted | {number for number in watched if seen[number]}

    def hand_over(number: int, frame: np.ndarray) -> None:
        if watch is not None:
            watch(number, frame)
        if number in wanted:
            take(number, _limit_pixels(canvases.cut(frame, number), settings))

    media = read_media(
        path,
        keep=decoded.__contains__,
        sample_rate=rate,
        sound_until=None if sound_until is None else sound_until + 1 / rate,  # both ends of a cut are rounded
        last_frame=None if sound_until is None else max(decoded, default=0),
        take=hand_over,
        times=times,
        mix=mix,
    )
    return media.sound


def _limit_pixels(canvas: np.ndarray, settings: Settings) -> np.ndarray:
    """With `cure.face_pixels`, take a canvas through so few pixels that a crop of it has that many, and back."""
    size, pixels, side = settings.video.size, settings.cure.face_pixels, len(canvas)
    if pixels is None or pixels >= size:
        return canvas
    fewer = round(side * pixels / size)
    return cut_square(cut_square(canvas, 0, 0, side / fewer, fewer), 0, 0, fewer / side, side)
