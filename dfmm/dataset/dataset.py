"""Windows of videos as tensors: `MultimodalDataset`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset

from dfmm.dataset.batches import EMPTY
from dfmm.dataset.forging import Forger
from dfmm.dataset.reading import read_takes
from dfmm.dataset.requests import DEGRADE, DISGUISE, PICTURE, SOUND, START, STREAMS, Plan, Reading, Request
from dfmm.dataset.spectrogram import compute_log_mel
from dfmm.dataset.windows import (
    LABELLING,
    Window,
    count_dense,
    delay_window,
    follow_scene,
    label_window,
    place_dense,
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
from dfmm.extraction.extract import extract_tracks
from dfmm.extraction.store import CacheError
from dfmm.extraction.tracks import Tracks
from dfmm.faces.track import Track
from dfmm.forge import Forgery, Take, disguise_window, plan_forgeries
from dfmm.manifest import STREAM_LABELS
from dfmm.media.container import MediaError
from dfmm.settings import Settings

UNKNOWN = -1  # a label that takes no part in the loss
LOOKS, PLACES = 500, 16  # videos looked at, and windows of each, to tell how many windows are fake

log = logging.getLogger("dfmm")


class MultimodalDataset(Dataset):
    """Windows of the videos of a manifest, read from the videos or, the very same, from what is kept of them.

    A sample is a dict: `frames` uint8 `[T, 3, H, W]`; `frame_mask` bool `[T]`, False where there is no face or no
    frame, and the frame then is zeros; `log_mel` float32 `[1, n_mels, F]`; `sound_mask` bool `[T]`, False where
    nothing is heard; `label`, `video_fake`, `audio_fake`, `in_sync` (1, 0 or -1 unknown); `video_id`, `face`, `window`
    and `start` in seconds. `read_sound` returns the waveform behind a log-mel.

    What `settings.cure` asks for is done to every video alike; `start` stays on the clock of its file. A file without a
    picture is heard only, on the clock of its sound.

    With `video.face: all` every face of a video has as many windows as a video has otherwise; `face` is 0 for the
    largest of all. All have the labels of their video.

    A frame is cropped to a square around the face, as `video.crop` says, out of a canvas that is the same whatever
    window it is seen in. With `data.read: cache` canvases and sound are extracted once; samples are equal to the bit.

    What is random depends on the seed and the index alone. An index past the end means another round of draws:
    `round * len(dataset) + index`; `BatchOrder` says how epochs are laid out in rounds. The index `EMPTY` is a sample
    of no video that shows nothing and counts for nothing.

    A sample's way: its index is a `Request`; a `Plan` says what to read for it; the `Reading` is forged and degraded;
    the frames and sound of the `Scene` that comes of it become tensors.

    Args:
        manifest: rows of one or more splits.
        windows: of each video, its samples; window w of video v has index `v * windows + w`.
        stride: instead, dense windows over each whole video, one every so many seconds and one that ends with it: their
            number is the video's own (`counts`), and they have indices one after the other.
        sampling: `uniform` spaces them evenly, `random` draws them, a number is the second they all start at.
        augment: draw the augmentations of `settings.augment`, and forge what `settings.forge` says of the reals.
        twins: add a forgery of each real that can be forged, the same whenever it is read: more rows of `manifest`.
            What of its windows cannot be, such as one without a face, is empty.
        degrade: done to every window that is not augmented, given its `Scene` and, as `rng`, a generator of its own.
        late: by how many seconds the sound of every such window is late, or early, as `delay_window` says.
        tracks: what is kept of all of these videos, where that is known already.
    """

    def __init__(
        self,
        manifest: pd.DataFrame,
        settings: Settings,
        *,
        windows: int = 1,
        stride: float | None = None,
        sampling: Literal["uniform", "random"] | float = "uniform",
        augment: bool = False,
        twins: bool = False,
        degrade: Callable[..., Scene] | None = None,
        late: float = 0.0,
        tracks: Tracks | None = None,
        progress: bool = True,
    ):
        self.settings, self.windows, self.augment = settings, windows, augment
        self.degrade, self.late = degrade, late
        self.forges = twins or (augment and settings.forge.share > 0)
        kept = settings.data.read != "videos"
        found = (
            (tracks, {}) if tracks is not None else extract_tracks(manifest, settings, crops=kept, progress=progress)
        )
        self.tracks, self.failures = found
        self.manifest, self.twins = self.tracks.manifest, self.tracks.manifest.iloc[:0]
        self.videos = np.arange(len(self.manifest))  # of each row, the row that has its file and its true labels
        self.faces = np.zeros(len(self.manifest), int)  # and which face of that video it shows
        if twins:
            self._add_twins()
        if settings.video.face == "all":
            self._add_faces()
        self.place_window = partial(place_window, settings=settings, of=windows, sampling=sampling)
        self.counts = np.full(len(self.manifest), windows)
        if stride:
            self.place_window = partial(place_dense, settings=settings, stride=stride)
            tracks = map(self.tracks.load, self.videos)
            self.counts = np.array([count_dense(track, settings, stride=stride) for track in tracks], int)
        self.ends = np.cumsum(self.counts)
        self.label_window = partial(label_window, settings=settings)
        self.disguise = partial(disguise_window, coarse="patch" in settings.forge.methods)
        self.forger = Forger(self.tracks, self.place_window, draws=self.forges and augment)

    def _add_twins(self) -> None:
        """Let a forgery of each real that can be forged have a row of its own, after all videos."""
        self.twins = plan_forgeries(self.manifest, map(self.tracks.load, self.videos), self.settings)
        self.videos = np.concatenate([self.videos, self.twins.pop("row").to_numpy(int)])
        self.faces = np.zeros(len(self.videos), int)
        self.tracks = self.tracks.take(self.videos, pd.concat([self.manifest, self.twins], ignore_index=True))
        self.manifest = self.tracks.manifest

    def _add_faces(self) -> None:
        """Let every face beside the one that is followed first have a row of its own, after all others."""
        videos = range(len(self.videos) - len(self.twins))
        others = [(video, face) for video in videos for face in range(1, self.tracks.load(video).followable)]
        videos, faces = np.array(others, int).reshape(-1, 2).T
        self.videos, self.faces = np.concatenate([self.videos, videos]), np.concatenate([self.faces, faces])
        self.manifest = pd.concat([self.manifest, self.manifest.iloc[videos]], ignore_index=True)

    def __len__(self) -> int:
        return int(self.counts.sum())

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return many samples, decoding each video once for all of its windows among them."""
        by_row: dict[int, dict[int, Request]] = {}
        for index in indices:
            if index != EMPTY:
                request = self._locate(index)
                by_row.setdefault(request.row, {})[index] = request
        nothing = {"video_id": "", "face": 0, "window": 0, "start": 0.0}
        samples = {EMPTY: nothing | self._make_empty()} if EMPTY in indices else {}
        for requests in by_row.values():
            samples.update(zip(requests, self._make_samples([*requests.values()]), strict=True))
        return [samples[index] for index in indices]

    def _locate(self, index: int) -> Request:
        """Take an index apart."""
        row = int(np.searchsorted(self.ends, index % len(self), side="right"))
        window = int(index % len(self) - self.ends[row] + self.counts[row])
        video, face = int(self.videos[row]), int(self.faces[row])
        is_second = self.forger.pairs and index % 2 == 1
        return Request(
            row=row,
            video=video,
            face=face,
            window=window,
            seed=(self.settings.seed, *divmod(index - is_second, len(self))),
            twin=str(self._columns["method"][row]) if video != row and not face else "",
            is_second=is_second,
        )

    @cached_property
    def _columns(self) -> dict[str, Any]:
        """The manifest's columns that every sample looks into: to find one there takes longer than to read crops."""
        names = [name for name in ("video_id", "method", *LABELLING) if name in self.manifest]
        return {name: self.manifest[name].array for name in names}

    def _find_truth(self, request: Request) -> dict[str, Any]:
        """Return what the manifest says of a request's video."""
        return {column: self._columns[column][request.video] for column in LABELLING}

    def _make_samples(self, requests: Sequence[Request]) -> Iterator[dict[str, Any]]:
        """Make the samples of some windows of one row, one after the other."""
        name = self._columns["video_id"][requests[0].row]
        truth, readings = self._find_truth(requests[0]), self._read(requests)
        for number, request in enumerate(requests):
            facts = {"video_id": name, "face": request.face, "window": request.window}
            if readings is None:
                yield {**facts, "start": 0.0, **self._make_empty()}
            else:
                window, forgery = readings[number].plan.window, self._make_scene(readings[number])
                labels = self.label_window(truth, follow_scene(window, forgery.scene)) | forgery.labels
                yield {
                    **facts,
                    "start": float(window.moments[0]),
                    **self._make_tensors(request, forgery.scene),
                    **label_sync(labels, forgery.scene),
                }

    def _read(self, requests: Sequence[Request], *, look: bool = True) -> list[Reading] | None:
        """Read some windows of one row; None, said in the log, where a file that was readable no longer is."""
        row, video, face = requests[0].row, requests[0].video, requests[0].face
        try:
            track = self.tracks.load(video).follow(face)
            plans = [self._plan(request, track) for request in requests]
            windows = [plan.window for plan in plans] + [plan.moment for plan in plans if plan.moment]
            takes = read_takes(self.tracks, video, track, windows, look=look, locate=self.forges)
        except (MediaError, CacheError) as error:
            log.warning("%s: its windows stay empty: %s", self.manifest["video_id"].iat[row], error)
            return None
        moments = iter(takes[len(plans) :])
        return [
            Reading(plan, take, next(moments) if plan.moment else self.forger.read_voice(plan))
            for plan, take in zip(plans, takes, strict=False)
        ]

    def _plan(self, request: Request, track: Track) -> Plan:
        """Choose how a window is forged, if it is, where it lies, and what is heard in it, late or not."""
        method = self.forger.choose_method(request, track)
        window = self.place_window(track, number=request.window, rng=request.draw(START))
        # Only what is in step: a window that is out of it, or may be, could fall into it.
        if self.augment and method != "delay" and self._columns["in_sync"][request.video] == 1:
            window = delay_window(window, track, seconds=draw_offset(self.settings.augment, request.draw))
        elif self.late and not self.augment:
            window = delay_window(window, track, seconds=self.late)
        return Plan(request, window, method, self.forger.find_moment(request, method, window, track))

    def _make_scene(self, reading: Reading) -> Forgery:
        """Forge a window, if it is to be, and degrade it by what is drawn for its index, forged or not."""
        forgery, augment, draw = self.forger.forge(reading), self.settings.augment, reading.plan.request.draw
        scene = forgery.scene
        if self.forges:
            scene = self.disguise(scene, forgery.method, draw(DISGUISE))
        if not self.augment:
            scene = code_scene(scene, augment, draw) if self.forges else scene
            return replace(forgery, scene=self.degrade(scene, rng=draw(DEGRADE)) if self.degrade else scene)
        scene = change_picture(scene, lambda frames: augment_frames(frames, augment, draw(PICTURE)))
        samples = augment_sound(scene.samples, augment, draw(SOUND), sample_rate=scene.sample_rate)
        return replace(forgery, scene=augment_scene(replace(scene, samples=samples), augment, draw))

    def _make_tensors(self, request: Request, scene: Scene) -> dict[str, torch.Tensor]:
        frames, frame_mask, sound_mask = scene.frames, scene.frame_mask.copy(), scene.sound_mask.copy()
        log_mel, augment = compute_log_mel(torch.from_numpy(scene.samples), self.settings.audio), self.settings.augment
        if self.augment:
            log_mel = augment_log_mel(log_mel, augment, request.draw)
            rng = request.draw(STREAMS)
            if frame_mask.any() and sound_mask.any() and rng.random() < augment.drop_stream:
                (frame_mask if rng.random() < 0.5 else sound_mask)[:] = False
                frames[~frame_mask] = 0
        return {
            "frames": torch.from_numpy(frames).permute(0, 3, 1, 2),
            "frame_mask": torch.from_numpy(frame_mask),
            "log_mel": log_mel,
            "sound_mask": torch.from_numpy(sound_mask),
        }

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

    # What else can be asked of it

    def read_sound(self, index: int) -> np.ndarray:
        """Return the waveform that a sample's log-mel is made of, float32 `[S]` at `audio.sample_rate`."""
        readings = self._read([self._locate(index)], look=self.forges)
        if readings is None:
            return np.zeros(round(self.settings.window_seconds * self.settings.audio.sample_rate), np.float32)
        return self._make_scene(readings[0]).scene.samples

    def read_forgery(self, index: int) -> tuple[Take, Forgery]:
        """Return a window as it was read, and what is forged of it, before either is degraded.

        Raises:
            MediaError: its video can no longer be read.
        """
        request = self._locate(index)
        readings = self._read([request])
        if readings is None:
            raise MediaError(f"{self.manifest['video_id'].iat[request.row]}: cannot be read")
        return readings[0].take, self.forger.forge(readings[0])

    def read_pair(self, index: int) -> tuple[Scene, Forgery]:
        """Return a window left real, and forged, by the very same draws: in nothing but the forgery do they differ.

        Both are disguised, as whatever leaves this dataset, but not degraded.

        Raises:
            MediaError: its video can no longer be read.
        """
        draw, (_, forgery) = self._locate(index).draw, self.read_forgery(index)
        plain, scene = (
            self.disguise(scene, forgery.method, draw(DISGUISE)) for scene in (forgery.plain, forgery.scene)
        )
        return plain, replace(forgery, scene=scene)

    def estimate_prior(self, shares: np.ndarray | None = None) -> float:
        """Return the share of fakes, about, among the windows with a label that are drawn of its videos.

        Of what is forged in stretches, and of reals that may be forged, `LOOKS` videos at most are looked at.

        Args:
            shares: of each row among all that is drawn, float64 `[rows]`; None for all alike.
        """
        labels = self.manifest["label"].to_numpy()
        chances, forged = np.stack([labels == 0, labels == 1], axis=1).astype(float), (labels == 0) & self.forger.draws
        for kind, measure in ((self._find_partly(), self._measure_partly), (forged, self._measure_real)):
            rows = np.flatnonzero(kind)
            looked = rows[np.linspace(0, len(rows) - 1, min(len(rows), LOOKS)).round().astype(int)]
            if len(looked):
                found = np.array([measure(row) for row in looked.tolist()])
                chances[rows], chances[looked] = found.mean(axis=0), found
        real, fake = chances.mean(axis=0) if shares is None else shares @ chances
        return float(fake / (real + fake))

    def _find_partly(self) -> np.ndarray:
        """Return which rows are forged in stretches only, bool `[rows]`."""
        stretches = self.manifest[["video_segments", "audio_segments"]]
        return ((self.manifest["label"] == 1) & (stretches != "").any(axis=1)).to_numpy()

    def _measure_partly(self, row: int) -> tuple[float, float]:
        """Return the chances that a window of a video that is forged in stretches is real, and that it is fake."""
        with suppress(MediaError, CacheError):
            track, truth = self.tracks.load(int(self.videos[row])), self._find_truth(self._locate(row * self.windows))
            windows = [place_window(track, self.settings, number=number, of=PLACES) for number in range(PLACES)]
            labels = [self.label_window(truth, window)["label"] for window in windows]
            return labels.count(0) / PLACES, labels.count(1) / PLACES
        return 0.0, 0.0

    def _measure_real(self, row: int) -> tuple[float, float]:
        """Return the chances that a window of a real is left one, and that it is forged."""
        share = self.settings.forge.share * self.forger.can_forge([int(self.videos[row])])
        return 1 - share, share

    def find_labels(self) -> set[int]:
        """Return which labels its windows have; of windows that are drawn anew in each round, which they can have.

        It looks until it has found both. A twin's windows are made for it, but only where there are no other fakes.
        """
        labels, found = self.manifest["label"].to_numpy(), set()
        if self.augment:
            forged, partly = self.forger.draws and self.forger.can_forge(), self._find_partly().any()
            return set(labels.tolist()) | ({1} if forged else set()) | ({0} if partly else set())
        for label in (0, 1):
            for one in self._label_rows(np.flatnonzero(labels == label)):
                found |= {one} - {UNKNOWN}
                if found >= {0, label}:
                    break
        return found

    def _label_rows(self, rows: np.ndarray) -> Iterator[int]:
        """Yield the labels of these rows' windows, of which only a twin's are read; what cannot be read has none."""
        for row in rows.tolist():
            requests = [self._locate(row * self.windows + window) for window in range(self.windows)]
            if requests[0].twin:
                yield from (sample["label"] for sample in self._make_samples(requests))
                continue
            with suppress(MediaError, CacheError):
                track, truth = self.tracks.load(requests[0].video), self._find_truth(requests[0])
                windows = [self._plan(request, track).window for request in requests]
                yield from (self.label_window(truth, each)["label"] for each in windows if self._tells(each, track))

    def _tells(self, window: Window, track: Track) -> bool:
        """Is there anything to see or to hear in a window, of what the model may look at?"""
        streams = self.settings.model.streams
        seen = streams != "audio" and window.inside.any() and not window.unseen
        return bool(seen or (streams != "video" and track.has_sound))
