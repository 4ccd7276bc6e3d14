"""Windows of videos as tensors: `MultimodalDataset`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset

from dfmm.dataset.batches import EMPTY
from dfmm.dataset.spectrogram import compute_log_mel
from dfmm.dataset.windows import (
    LABELLING,
    Window,
    cut_sound,
    delay_window,
    find_moment,
    follow_scene,
    label_window,
    place_window,
)
from dfmm.degrade import (
    Scene,
    augment_frames,
    augment_log_mel,
    augment_scene,
    augment_sound,
    change_picture,
    code_scene,
    draw_offset,
    label_sync,
)
from dfmm.extraction.cures import choose_gain
from dfmm.extraction.extract import extract_tracks
from dfmm.extraction.store import ArrayFile, CacheError, read_crops, read_sound
from dfmm.faces.crops import Canvases
from dfmm.faces.follow import crop_faces
from dfmm.faces.track import Track
from dfmm.forge import (
    METHODS,
    Forgery,
    Take,
    choose_donors,
    disguise_window,
    drop_window,
    forge_window,
    list_methods,
    plan_forgeries,
)
from dfmm.manifest import STREAM_LABELS
from dfmm.media.container import MediaError
from dfmm.settings import Settings

UNKNOWN = -1  # a label that takes no part in the loss
# What is drawn for a sample, each by a generator of its own.
PLACE, PICTURE, SOUND, STREAMS, METHOD, OTHER, FORGERY, DISGUISE = range(8)

Heard = tuple[np.ndarray, np.ndarray]  # a window's sound, float32 [S], and at which moments there is any, bool [T]

log = logging.getLogger("dfmm")


@dataclass(frozen=True)
class Reading:
    """What was read for one window."""

    window: Window
    crops: dict[int, np.ndarray]  # uint8 [size, size, 3] by frame number; none where no face is seen
    samples: np.ndarray  # float32 [S]
    heard: np.ndarray  # bool [T]
    landmarks: np.ndarray | None = None  # float64 [T, 5, 2] in pixels of the crops; asked for where windows are forged
    method: str = ""  # by which the window is to be forged, empty for none
    other: Reading | None = None  # the other window which that takes something from


class MultimodalDataset(Dataset):
    """Windows of the videos of a manifest, read from the videos or, the very same, from what is kept of them.

    A sample is a dict: `frames` uint8 `[T, 3, H, W]`; `frame_mask` bool `[T]`, False where there is no face or no
    frame, and the frame then is zeros; `log_mel` float32 `[1, n_mels, F]`; `sound_mask` bool `[T]`, False where
    nothing is heard; `label`, `video_fake`, `audio_fake`, `in_sync` (1, 0 or -1 unknown); `video_id`, `face`, `window`
    and `start` in seconds. `read_sound` returns the waveform behind a log-mel.

    What `settings.cure` asks for is done to every video alike; `start` stays on the clock of its file. A file without a
    picture is heard only, on the clock of its sound.

    With `video.face: all` every face of a video has as many windows as a video has otherwise; `face` is 0 for that
    which `largest` follows. All have the labels of their video.

    A frame is cropped to a square around the face, as `video.crop` says, out of a canvas that is the same whatever
    window it is seen in. With `data.read: cache` canvases and sound are extracted once; samples are equal to the bit.

    What is random depends on the seed and the index alone. An index past the end means another round of draws:
    `round * len(dataset) + index`; `BatchOrder` says how epochs are laid out in rounds. The index `EMPTY` is a sample
    of no video that shows nothing and counts for nothing.

    Args:
        manifest: rows of one or more splits.
        windows: of each video, its samples; window w of video v has index `v * windows + w`.
        sampling: `uniform` spaces them evenly, `random` draws them, a number is the second they all start at.
        augment: draw the augmentations of `settings.augment`, and forge what `settings.forge` says of the reals.
        twins: add a forgery of each real that can be forged, the same whenever it is read: more rows of `manifest`.
            What of its windows cannot be, such as one without a face, is empty.
    """

    def __init__(
        self,
        manifest: pd.DataFrame,
        settings: Settings,
        *,
        windows: int = 1,
        sampling: Literal["uniform", "random"] | float = "uniform",
        augment: bool = False,
        twins: bool = False,
        progress: bool = True,
    ):
        self.settings, self.windows, self.sampling, self.augment = settings, windows, sampling, augment
        self.pairs = augment and settings.forge.pairs
        self.cached, self.forges = settings.data.read != "videos", twins or (augment and settings.forge.share > 0)
        self.tracks, self.failures = extract_tracks(manifest, settings, crops=self.cached, progress=progress)
        self.rows = np.arange(len(self.tracks))  # of the manifest, in which a row's video and its true labels are
        self.reals = np.flatnonzero(self.tracks.manifest["label"] == 0)
        self.twins = self.tracks.manifest.iloc[:0]
        if twins:
            self.twins = plan_forgeries(self.tracks.manifest, map(self.tracks.load, self.rows), settings)
            self.rows = np.concatenate([self.rows, self.twins.pop("row").to_numpy(int)])
            self.tracks = self.tracks.take(self.rows, pd.concat([self.tracks.manifest, self.twins], ignore_index=True))
        self.manifest, self.places = self.tracks.manifest, np.zeros(len(self.rows), int)
        if settings.video.face == "all":
            self._add_faces()
        # Taking a row out of a table costs as much as reading its crops; taking these values costs little.
        self.columns = {name: self.manifest[name] for name in ("video_id", *LABELLING)}

    def _add_faces(self) -> None:
        """Let every face beside the one that is followed first have a row of its own, after all others."""
        videos = len(self.rows) - len(self.twins)
        faces = [(row, place) for row in range(videos) for place in range(1, self.tracks.load(row).places)]
        rows, places = np.array(faces, int).reshape(-1, 2).T
        self.rows, self.places = np.concatenate([self.rows, rows]), np.concatenate([self.places, places])
        self.manifest = pd.concat([self.manifest, self.manifest.iloc[rows]], ignore_index=True)

    @property
    def labels(self) -> set[int]:
        """Which labels its windows can have."""
        can = self.forges and any(self._list_methods(number, self.tracks.load(number)) for number in self.reals)
        return {*self.manifest["label"].tolist(), *([1] if can else [])}

    @property
    def prior(self) -> float:
        """Share of fakes among the windows, about: with those that are forged of reals."""
        fakes, drawn = float(self.manifest["label"].mean()), self.forges and self.augment
        return fakes + (1 - fakes) * self.settings.forge.share * drawn

    def __len__(self) -> int:
        return len(self.manifest) * self.windows

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return many samples, decoding each video once for all of its windows among them."""
        by_video: dict[int, list[int]] = {}
        samples = {}
        for index in dict.fromkeys(indices):
            if index == EMPTY:
                samples[index] = {"video_id": "", "face": 0, "window": 0, "start": 0.0, **self._make_empty()}
            else:
                by_video.setdefault(index % len(self) // self.windows, []).append(index)
        for number, wanted in by_video.items():
            samples.update(zip(wanted, self._read_samples(number, wanted), strict=True))
        return [samples[index] for index in indices]

    def read_sound(self, index: int) -> np.ndarray:
        """Return the waveform that a sample's log-mel is made of, float32 `[S]` at `audio.sample_rate`."""
        readings = self._read_windows(index % len(self) // self.windows, [index], look=self.forges)
        if readings is None:
            return np.zeros(round(self.settings.window_seconds * self.settings.audio.sample_rate), np.float32)
        return self._make_scene(index, readings[0]).scene.samples

    def read_forgery(self, index: int) -> tuple[Take, Forgery]:
        """Return a window as it was read, and what is forged of it, before either is degraded.

        Raises:
            MediaError: its video can no longer be read.
        """
        number = index % len(self) // self.windows
        readings = self._read_windows(number, [index])
        if readings is None:
            raise MediaError(f"{self.columns['video_id'].iat[number]}: cannot be read")
        return self._make_take(readings[0]), self._forge(index, readings[0])

    def read_pair(self, index: int) -> tuple[Scene, Forgery]:
        """Return a window left real, and forged, by the very same draws: in nothing but the forgery do they differ.

        Both are disguised, as whatever leaves this dataset, but not degraded.

        Raises:
            MediaError: its video can no longer be read.
        """
        _, forgery = self.read_forgery(index)
        plain, scene = (
            self._disguise(one, forgery.method, self._draw(index, DISGUISE)) for one in (forgery.plain, forgery.scene)
        )
        return plain, replace(forgery, scene=scene)

    def _disguise(self, scene: Scene, method: str, rng: np.random.Generator) -> Scene:
        return disguise_window(scene, method, rng, coarse="patch" in self.settings.forge.methods)

    def _draw(self, index: int, what: int) -> np.random.Generator:
        index -= index % 2 if self.pairs else 0  # both of a pair by the same draws
        return np.random.default_rng((self.settings.seed, *divmod(index, len(self)), what))

    def _find_row(self, number: int) -> dict[str, Any]:
        """Return what the labels of a video's windows come from."""
        return {name: self.columns[name].iat[number] for name in LABELLING}

    def _read_samples(self, number: int, indices: list[int]) -> Iterator[dict[str, Any]]:
        row, name = self._find_row(self.rows[number]), self.columns["video_id"].iat[number]
        readings = self._read_windows(number, indices)
        for at, index in enumerate(indices):
            facts = {"video_id": name, "face": int(self.places[number]), "window": index % self.windows}
            if readings is None:
                yield {**facts, "start": 0.0, **self._make_empty()}
            else:
                window, forgery = readings[at].window, self._make_scene(index, readings[at])
                labels = label_window(row, follow_scene(window, forgery.scene)) | forgery.labels
                yield {
                    **facts,
                    "start": float(window.moments[0]),
                    **self._make_tensors(index, forgery.scene),
                    **label_sync(labels, forgery.scene),
                }

    def _read_windows(self, number: int, indices: list[int], *, look: bool = True) -> list[Reading] | None:
        """Read a video's windows; None, said in the log, where a file that was readable no longer is."""
        row = int(self.rows[number])
        try:
            track = self.tracks.load(row).follow(self.places[number])
            methods = [self._choose_method(number, index, track) for index in indices]
            windows = [self._place_window(track, *what) for what in zip(indices, methods, strict=True)]
            moments = [
                find_moment(method, window, track, self.settings, self._draw(index, OTHER))
                for index, method, window in zip(indices, methods, windows, strict=True)
            ]
            found = self._read(row, track, windows + [other for other in moments if other], look=look)
        except (MediaError, CacheError) as error:
            log.warning("%s: its windows stay empty: %s", self.columns["video_id"].iat[number], error)
            return None
        others = iter(found[len(windows) :])
        return [
            replace(reading, method=method, other=next(others) if moment else self._read_voice(row, index, method))
            for reading, method, moment, index in zip(found, methods, moments, indices, strict=False)
        ]

    def _choose_method(self, number: int, index: int, track: Track) -> str:
        """Return by which method a window is to be forged, empty for none."""
        if self._is_twin(number):
            return str(self.manifest["method"].iat[number])
        rng = self._draw(index, METHOD)
        drawn = index % 2 == 1 if self.pairs else rng.random() < self.settings.forge.share
        if not (self.forges and self.augment and drawn):
            return ""
        possible = self._list_methods(number, track)
        return str(rng.choice(possible)) if possible else ""

    def _is_twin(self, number: int) -> bool:
        return bool(self.rows[number] != number) and not self.places[number]  # another face of a video is none

    def _list_methods(self, number: int, track: Track) -> list[str]:
        return list_methods(self._find_row(number), track, self.settings)

    def _place_window(self, track: Track, index: int, method: str) -> Window:
        number, rng = index % self.windows, self._draw(index, PLACE)
        window = place_window(track, self.settings, number=number, of=self.windows, sampling=self.sampling, rng=rng)
        # Only what is in step: a window that is out of it, or may be, could fall into it.
        row = self.rows[index % len(self) // self.windows]
        if self.augment and method != "delay" and self.columns["in_sync"].iat[row] == 1:
            late = draw_offset(self.settings.augment, partial(self._draw, index))
            return delay_window(window, track, seconds=late)
        return window

    def _read_voice(self, row: int, index: int, method: str) -> Reading | None:
        """Read the sound of another real that a forgery takes some of, if it is of that kind: best another person's."""
        if not method or METHODS[method].other != "voice":
            return None
        rng = self._draw(index, OTHER)
        for number in choose_donors(self.manifest["identities"], self.reals, row, rng):
            try:
                track = self.tracks.load(number)
                place = {"number": index % self.windows, "of": self.windows, "sampling": self.sampling}
                window = place_window(track, self.settings, **place, rng=rng)
                reading = self._read(number, track, [window], look=False)[0]
            except (MediaError, CacheError) as error:
                log.warning("%s: no sound for a forgery: %s", self.columns["video_id"].iat[number], error)
                continue
            if reading.heard.any():
                return reading
        return None

    def _read(self, row: int, track: Track, windows: list[Window], *, look: bool) -> list[Reading]:
        wanted = {int(frame) for window in windows for frame in window.numbers[window.inside]} if look else set()
        canvases, read = track.lay_canvases(self.settings), self._read_cache if self.cached else self._decode
        found, sounds = read(row, track, canvases, windows, wanted)
        path = track.trace_face(self.settings.video) if self.forges else None
        readings = []
        for window, sound in zip(windows, sounds, strict=True):
            crops = canvases.crop_window(found, window.numbers[window.inside])
            landmarks = canvases.locate_window(path.landmarks, window.numbers, list(crops)) if path else None
            readings.append(Reading(window, crops, *sound, landmarks))
        return readings

    def _decode(
        self, number: int, track: Track, canvases: Canvases, windows: list[Window], wanted: set[int]
    ) -> tuple[dict[int, np.ndarray], list[Heard]]:
        """Decode the video: the canvases of the wanted frames by number, and each window's sound."""
        found: dict[int, np.ndarray] = {}
        sound = crop_faces(
            self.tracks.source(number),
            canvases,
            self.settings,
            numbers=wanted,
            take=found.__setitem__,
            sound_until=max(window.sound_start + window.sound_seconds for window in windows),
            times=track.times,
        )
        gain = choose_gain(track, self.settings.cure)
        return found, [cut_sound(sound, window, self.settings, gain=gain) for window in windows]

    def _read_cache(
        self, number: int, track: Track, canvases: Canvases, windows: list[Window], wanted: set[int]
    ) -> tuple[dict[int, np.ndarray], list[Heard]]:
        """Read the same from the cache."""
        gain = choose_gain(track, self.settings.cure)

        def read(file: ArrayFile) -> tuple[dict[int, np.ndarray], list[Heard]]:
            sound = read_sound(file)
            crops = read_crops(file, wanted, place=track.place)
            return crops, [cut_sound(sound, window, self.settings, gain=gain) for window in windows]

        return self.tracks.read(number, read)

    def _make_take(self, reading: Reading) -> Take:
        """Put together what was read of a window."""
        window, hears = reading.window, reading.window.moments
        if self.settings.video.fps != "spread":
            hears = hears + (window.sound_start - hears[0])
        rate, (frames, frame_mask) = self.settings.audio.sample_rate, self._stack_crops(reading)
        scene = Scene(frames, frame_mask, reading.samples, reading.heard, rate, window.moments, hears)
        return Take(scene, reading.landmarks)

    def _forge(self, index: int, reading: Reading) -> Forgery:
        take, other = self._make_take(reading), self._make_take(reading.other) if reading.other else None
        if not reading.method:
            return Forgery(take.scene, take.scene)
        forgery = forge_window(reading.method, take, other, self._draw(index, FORGERY))
        # A twin's window that could not be forged is no fake, and as a real it is there already.
        is_twin = self._is_twin(index % len(self) // self.windows)
        return drop_window(take.scene) if is_twin and forgery.method == "real" else forgery

    def _make_scene(self, index: int, reading: Reading) -> Forgery:
        """Forge a window, if it is to be, and degrade it by what is drawn for this index, forged or not."""
        forgery, augment, draw = self._forge(index, reading), self.settings.augment, partial(self._draw, index)
        scene = forgery.scene
        if self.forges:
            scene = self._disguise(scene, forgery.method, draw(DISGUISE))
        if not self.augment:
            return replace(forgery, scene=code_scene(scene, augment, draw) if self.forges else scene)
        scene = change_picture(scene, lambda frames: augment_frames(frames, augment, draw(PICTURE)))
        samples = augment_sound(scene.samples, augment, draw(SOUND), sample_rate=scene.sample_rate)
        return replace(forgery, scene=augment_scene(replace(scene, samples=samples), augment, draw))

    def _make_tensors(self, index: int, scene: Scene) -> dict[str, torch.Tensor]:
        frames, frame_mask, sound_mask = scene.frames, scene.frame_mask.copy(), scene.sound_mask.copy()
        log_mel, augment = compute_log_mel(torch.from_numpy(scene.samples), self.settings.audio), self.settings.augment
        if self.augment:
            log_mel = augment_log_mel(log_mel, augment, partial(self._draw, index))
            rng = self._draw(index, STREAMS)
            if frame_mask.any() and sound_mask.any() and rng.random() < augment.drop_stream:
                (frame_mask if rng.random() < 0.5 else sound_mask)[:] = False
                frames[~frame_mask] = 0
        return {
            "frames": torch.from_numpy(frames).permute(0, 3, 1, 2),
            "frame_mask": torch.from_numpy(frame_mask),
            "log_mel": log_mel,
            "sound_mask": torch.from_numpy(sound_mask),
        }

    def _stack_crops(self, reading: Reading) -> tuple[np.ndarray, np.ndarray]:
        """Return a window's crops `[T, size, size, 3]`, zeros where there is none, and where there are any."""
        T, size = self.settings.video.frames, self.settings.video.size
        window, crops = reading.window, reading.crops
        frames, seen = np.zeros((T, size, size, 3), np.uint8), np.zeros(T, bool)
        for step in np.flatnonzero(window.inside):
            if window.numbers[step] in crops:
                frames[step], seen[step] = crops[window.numbers[step]], True
        return frames, seen

    def _make_empty(self) -> dict[str, Any]:
        """Return a sample that shows nothing, says nothing and counts for nothing."""
        video, audio = self.settings.video, self.settings.audio
        silence = torch.zeros(round(self.settings.window_seconds * audio.sample_rate))
        return {
            "frames": torch.zeros(video.frames, 3, video.size, video.size, dtype=torch.uint8),
            "frame_mask": torch.zeros(video.frames, dtype=torch.bool),
            "log_mel": compute_log_mel(silence, audio),
            "sound_mask": torch.zeros(video.frames, dtype=torch.bool),
            **dict.fromkeys(("label", *STREAM_LABELS), UNKNOWN),
        }
