"""What is kept of many videos: under which names, and read, or made again, when asked for."""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from dfmm.extraction.store import (
    ArrayFile,
    ArrayWriter,
    CacheError,
    name_crops,
    read_mouths,
    read_speech,
    read_track,
    write_mouths,
    write_sound,
    write_speech,
    write_track,
)
from dfmm.faces.crops import Relay
from dfmm.faces.follow import crop_faces, find_track
from dfmm.faces.lips import MouthFinder, Mouths, has_mesh, load_mesh
from dfmm.faces.track import Track, measure_span
from dfmm.media.decode import Recording, read_media
from dfmm.media.reencode import list_profile, prepare_file
from dfmm.media.sound import Sound
from dfmm.media.speech import SAMPLE_RATE, Speech, describe_speech, has_phonemes
from dfmm.settings import Settings, SettingsError, resolve_path

ROOM = 128 << 20  # bytes for a video's frames: one that fits is decoded once, for its track and its crops
FORMAT = 8  # of the cache: a higher number makes older entries void (8: pictures and sound as players show them)
TALK_FORMAT = 1  # of what is kept of mouths and speech, alike

# Tracks are small, but to read one and lay its canvases takes longer than to read a window: so many are remembered, if
# they have no more frames than that. Together they never take more than some 0.5 GB, and usually 20 MB.
MOST_RECENT, LONGEST_RECENT = 1024, 10_000

T = TypeVar("T")

log = logging.getLogger("dfmm")


def save_track(track: Track, file: Path) -> None:
    """Write a track; the file appears whole or not at all."""
    with ArrayWriter(file) as writer:
        write_track(writer, track)


def load_track(file: Path) -> Track | None:
    """Read a saved track; None if there is none, or it is damaged and must be found again."""
    try:
        return read_track(ArrayFile(file))
    except CacheError:
        return None


@dataclass(frozen=True)
class Part:
    """What is kept of a video, where that is not all."""

    looked: Collection[int] | None  # frames that are decoded, for their mouths; None for all,
    shown: Collection[int]  # and those of them whose canvases are kept
    spans: Sequence[tuple[float, float]]  # from when to when its sound is kept, in seconds


ChoosePart = Callable[[Track, Settings], Part]


def save_crops(
    path: str | Path | Recording,
    track: Track,
    file: Path,
    settings: Settings,
    *,
    talk_file: Path | None = None,
    part: Part | None = None,
) -> None:
    """Write a video's track, the canvases of all frames with a face, and its sound; no frame is kept in memory.

    Args:
        talk_file: where to write mouths and speech, which are found as the frames go by.
        part: of the video, if not all of it is kept; phonemes are recognised in what is decoded as a whole.

    Raises:
        MediaError: the video cannot be read.
        CacheError: the disk does not take it.
    """
    finders = find_mouths(track, settings) if talk_file else None
    with ArrayWriter(file, more=2 * (track.followable - 1)) as writer:
        relays = lay_relays(track, settings)
        sounds = [_write_crops(writer, path, track, relay, finders, settings, part) for relay in relays]
        write_sound(writer, sounds[0], spans=part.spans if part else ())
        write_track(writer, track)
    if talk_file:
        sound = sounds[0]
        if sound is not None and sound.sample_rate != SAMPLE_RATE:
            sound = read_media(path, keep=lambda number: False, sample_rate=SAMPLE_RATE, mix=track.mix).sound
        whole = part is None or part.looked is None
        save_talk(finders, sound, talk_file, phonemes=choose_extra("phonemes", settings) and whole)


def lay_relays(track: Track, settings: Settings) -> list[Relay]:
    """Return the canvases of all faces of a video, in as few passes as can be: one where there is never a second."""
    relays: list[Relay] = []
    for face in sorted(range(track.followable), key=lambda face: track.follow(face).box_times.min(initial=np.inf)):
        canvases = track.follow(face).lay_canvases(settings)
        if not any(relay.add(face, canvases) for relay in relays):
            relays.append(Relay(len(track.times)))
            relays[-1].add(face, canvases)
    return relays


def _write_crops(
    writer: ArrayWriter,
    path: str | Path | Recording,
    track: Track,
    relay: Relay,
    finders: list[MouthFinder] | None,
    settings: Settings,
    part: Part | None,
) -> Sound | None:
    """Write the canvases of the faces of one pass, face after face; return the sound."""
    numbers: dict[int, list[int]] = {face: [] for face in relay.laid}

    def take(number: int, crop: np.ndarray) -> None:
        face = int(relay.owners[number])
        writer.append(name_crops(face)[0], crop[None])
        numbers[face].append(number)

    def watch(number: int, frame: np.ndarray) -> None:
        finders[relay.owners[number]].take(number, frame)

    every = range(len(track.times))
    looked = every if part is None or part.looked is None else part.looked
    looking = {"watch": watch, "watched": looked} if finders else {}
    wanted = every if part is None else part.shown
    sound = crop_faces(path, relay, settings, numbers=wanted, take=take, mix=track.mix, **looking)
    for face, canvases in relay.laid.items():
        crops, names = name_crops(face)
        writer.append(crops, np.zeros((0, canvases.side, canvases.side, 3), np.uint8))  # there, even if never seen
        writer.append(names, np.array(numbers[face], np.int64))
    return sound


def find_mouths(track: Track, settings: Settings) -> list[MouthFinder]:
    """Return what finds the mouth of each face that a track can follow."""
    mesh = load_mesh() if choose_extra("mesh", settings) else None
    return [MouthFinder(track.follow(face), settings.video, mesh) for face in range(track.followable)]


def save_talk(finders: list[MouthFinder], sound: Sound | None, file: Path, *, phonemes: bool) -> None:
    """Write the mouths that were found in a video, and what is said in its sound."""
    with ArrayWriter(file, more=len(Mouths.__dataclass_fields__) * (len(finders) - 1)) as writer:
        for face, finder in enumerate(finders):
            write_mouths(writer, finder.finish(), face=face)
        write_speech(writer, describe_speech(sound, phonemes=phonemes))


def find_talk(path: str | Path | Recording, track: Track, file: Path, settings: Settings) -> None:
    """Decode a video for its mouths and speech alone, and write them.

    Raises:
        MediaError: the video cannot be read.
        CacheError: the disk does not take it.
    """
    finders = find_mouths(track, settings)

    def take(number: int, frame: np.ndarray) -> None:
        for finder in finders:
            finder.take(number, frame)

    media = read_media(
        path,
        keep=lambda number: number < len(track.times) and any(finder.wants(number) for finder in finders),
        sample_rate=SAMPLE_RATE,
        take=take,
        mix=track.mix,
    )
    save_talk(finders, media.sound, file, phonemes=choose_extra("phonemes", settings))


def choose_extra(name: str, settings: Settings) -> bool:
    """Is this extra, `mesh` or `phonemes`, to be used?

    Raises:
        SettingsError: it is asked for and not installed.
    """
    wanted, there = getattr(settings.synchrony, name), {"mesh": has_mesh, "phonemes": has_phonemes}[name]()
    if wanted == "always" and not there:
        raise SettingsError(f"synchrony.{name}: always, but it is not installed: pip install 'dfmm[{name}]'")
    return wanted != "never" and there


class Tracks(Mapping[str, Track]):
    """The tracks of many videos by `video_id`, read from the cache when asked for: a million cost but their keys.

    What is found damaged is made again.

    Args:
        manifest: the videos' rows.
        keys: of their entries in the cache, `[n]`, as from `make_key`.
        crops: are they read from the files that hold crops and sound as well?
        talks: are mouths and speech asked for?
        choose_part: of a video's crops and sound that is kept; all of them without.
    """

    def __init__(
        self,
        manifest: pd.DataFrame,
        keys: np.ndarray,
        settings: Settings,
        *,
        crops: bool,
        talks: bool = False,
        choose_part: ChoosePart | None = None,
    ):
        self.manifest, self.keys, self.settings, self.crops, self.talks = manifest, keys, settings, crops, talks
        self.choose_part = choose_part
        self.root, self.cache = find_root(settings), resolve_path(settings.data.cache)
        self.recent: OrderedDict[int, Track] = OrderedDict()  # the last ones used, unless they are long

    def __len__(self) -> int:
        return len(self.manifest)

    def __iter__(self) -> Iterator[str]:
        return iter(self.manifest["video_id"])

    def __contains__(self, video_id: object) -> bool:
        return video_id in self._index

    def __getitem__(self, video_id: str) -> Track:
        return self.load(self._index.get_loc(video_id))

    @functools.cached_property
    def _index(self) -> pd.Index:
        return pd.Index(self.manifest["video_id"])

    def take(self, rows: np.ndarray, manifest: pd.DataFrame) -> Tracks:
        """Return the tracks of a manifest whose row n stands for the video of this one's row `rows[n]`."""
        taken = copy.copy(self)
        taken.manifest, taken.keys = manifest, self.keys[rows]
        taken.recent = OrderedDict()  # by rows, as they were
        taken.__dict__.pop("_index", None)
        return taken

    def path(self, number: int) -> str:
        """Return where the video of this row is."""
        return os.path.join(self.root, self.manifest["path"].iat[number])

    def source(self, number: int) -> Path:
        """Return the file that is decoded for this row: the video, or its new encoding, made again if it is gone.

        Raises:
            MediaError: it cannot be made.
        """
        return prepare_file(self.path(number), self.settings)

    def entry(self, number: int, *, crops: bool) -> Path:
        """Return where what is kept of it is: its track alone, or its crops and sound too."""
        key = self.keys[number].decode()
        if crops:
            part = list_part_settings(self.settings) if self.choose_part else []
            key = hash_values([key, *list_crop_settings(self.settings).values(), *part])
        return self.cache / ("crops" if crops else "tracks") / key[:2] / f"{key}.safetensors"

    def talk_entry(self, number: int) -> Path:
        """Return where this row's mouths and speech are; found in another way, or without an extra, elsewhere."""
        found = [choose_extra(name, self.settings) for name in ("mesh", "phonemes")]
        key = hash_values([self.keys[number].decode(), TALK_FORMAT, *found])
        return self.cache / "talks" / key[:2] / f"{key}.safetensors"

    def name_files(self, number: int) -> tuple[str, Path, Path | None, Path | None]:
        """Return the video's file and those that are to be made of it: of its track, its crops, its mouths and speech.

        Whatever cuts crops sees all frames: mouths come with them.
        """
        crops = self.entry(number, crops=True) if self.crops else None
        talks = self.talks or (self.crops and self.settings.synchrony.use)
        return self.path(number), self.entry(number, crops=False), crops, self.talk_entry(number) if talks else None

    def is_kept(self, number: int) -> bool:
        kept = self.entry(number, crops=self.crops).is_file()
        return kept and (not self.talks or self.talk_entry(number).is_file())

    def load(self, number: int) -> Track:
        """Read the track of this row's video, or return it as it was read not long ago.

        Raises:
            MediaError: it is damaged, and the video can no longer be read.
        """
        track = self.recent.pop(number, None) or self.read(number, read_track)
        if len(track.times) <= LONGEST_RECENT:
            self.recent[number] = track
            if len(self.recent) > MOST_RECENT:
                self.recent.popitem(last=False)
        return track

    def read(self, number: int, read: Callable[[ArrayFile], T]) -> T:
        """Apply a function to the file kept of this row's video, made again where it is damaged."""
        file = self.entry(number, crops=self.crops)
        try:
            return read(ArrayFile(file))
        except CacheError as error:
            log.warning("%s; it is made again", error)
            path, track, crops, _ = self.name_files(number)
            make_entry(path, track, crops, self.settings, None, self.choose_part)
            return read(ArrayFile(file))

    def drop_parts(self) -> None:
        """Remove the parts that were kept of crops and sound, as far as the disk lets them go."""
        for number in range(len(self) if self.choose_part else 0):
            with suppress(OSError):
                self.entry(number, crops=True).unlink()

    def read_talk(self, number: int, *, face: int = 0) -> tuple[Mouths, Speech | None] | None:
        """Return the mouth of this face, and what is said in this row's video; made again where damaged.

        None where it was not kept.

        Raises:
            MediaError: it is damaged, and the video can no longer be read.
        """
        file = self.talk_entry(number)
        try:
            return _read_talk(ArrayFile(file), face)
        except CacheError as error:
            log.warning("%s; it is made again", error)
            file.unlink(missing_ok=True)
            make_entry(self.path(number), self.entry(number, crops=False), None, self.settings, file)
            return _read_talk(ArrayFile(file), face)


def _read_talk(file: ArrayFile, face: int) -> tuple[Mouths, Speech | None]:
    return read_mouths(file, face=face), read_speech(file)


def find_root(settings: Settings) -> str:
    """Return the data's root, links followed."""
    return os.path.realpath(resolve_path(settings.data.root))


def make_key(path: str, settings: Settings) -> str:
    """Return the name of a video's track: another file, time of change, encoding or way to look, another name.

    Raises:
        OSError: there is no such file.
    """
    state = os.stat(path)
    return hash_values([FORMAT, path, state.st_size, state.st_mtime_ns, *list_track_settings(settings).values()])


def list_track_settings(settings: Settings) -> dict[str, Any]:
    """Return the settings that a track depends on."""
    looked = {name: getattr(settings.video, name) for name in ("detector", "detect_side", "detect_every", "face")}
    if settings.video.face == "all":
        looked["face"] = "all of each shot"  # it once was 16 of the whole video
    return {"reencoded": list(list_profile(settings.cure)), **looked}


def list_crop_settings(settings: Settings) -> dict[str, Any]:
    """Return the settings that crops and sound depend on, beside their track."""
    video = settings.video
    return {
        "margin": video.margin,
        "size": video.size,
        "crop": video.crop,
        "span": str(measure_span(settings)),
        "face_pixels": settings.cure.face_pixels,
        "sample_rate": settings.audio.sample_rate,
    }


def list_part_settings(settings: Settings) -> list[Any]:
    """Return the settings that the places of a video's windows depend on, and so which part of it they show."""
    video, of = settings.video.model_dump(), settings.evaluate.windows
    return [of, video, settings.model.streams, settings.cure.model_dump()]


def hash_values(values: list[Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:24]


def make_entry(
    path: str | Path,
    track_file: Path,
    crops_file: Path | None,
    settings: Settings,
    talk_file: Path | None = None,
    choose_part: ChoosePart | None = None,
) -> str:
    """Find a video's track, unless it is kept already; its crops and sound, its mouths and speech, if asked for.

    Args:
        choose_part: of its crops and sound that is kept; all of them without.

    Returns:
        The detector that found the face.
    """
    video, track = prepare_file(path, settings), load_track(track_file)
    if talk_file is not None and talk_file.is_file():  # found when other crops were cut
        talk_file = None
    if track is None:
        video = Recording(video, room=ROOM if crops_file or talk_file else 0)
        track = find_track(video, settings.video)
        save_track(track, track_file)
    if crops_file is not None:
        part = choose_part(track, settings) if choose_part else None
        save_crops(video, track, crops_file, settings, talk_file=talk_file, part=part)
    elif talk_file is not None:
        find_talk(video, track, talk_file, settings)
    return track.detector


def time_entry(*task: Any) -> float:
    """Do what `make_entry` does, in a worker; return the seconds that it took."""
    began = time.perf_counter()
    make_entry(*task)
    return time.perf_counter() - began
