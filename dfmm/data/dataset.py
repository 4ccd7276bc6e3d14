"""Windows of videos as tensors: `MultimodalDataset`, the order they come in, and how they become a batch."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from dfmm.data.degrade import augment_frames, augment_sound, draw_square
from dfmm.data.extract import SILENCE, Track, extract_tracks
from dfmm.data.faces import crop_square, square_box
from dfmm.data.media import Media, MediaError, read_media
from dfmm.data.spectrogram import compute_log_mel
from dfmm.manifest import STREAM_LABELS, parse_segments, select_split
from dfmm.settings import Settings, resolve_path

UNKNOWN = -1  # a label that takes no part in the loss

log = logging.getLogger("dfmm")


@dataclass(frozen=True)
class Window:
    """T moments of a video, and the stretch of sound that belongs to them."""

    moments: np.ndarray  # float64 [T], seconds after the first frame
    numbers: np.ndarray  # int64 [T], the frames shown at these moments
    inside: np.ndarray  # bool [T], False past the end of a short video
    sound_start: float
    sound_seconds: float


class MultimodalDataset(Dataset):
    """Windows of the videos of a manifest, decoded on the fly.

    A sample is a dict: `frames` uint8 `[T, 3, H, W]`; `frame_mask` bool `[T]`, False where there is no face or no
    frame; `log_mel` float32 `[1, n_mels, F]`; `sound_mask` bool `[T]`, False where nothing is heard; `label`,
    `video_fake`, `audio_fake`, `in_sync` (1, 0 or -1 unknown); `video_id`, `window` and `start` in seconds.

    What is random depends on (seed, epoch, index) alone. An index past the end means a later epoch:
    `epoch * len(dataset) + index`.

    Args:
        manifest: rows of one or more splits.
        windows: of each video, its samples; window w of video v has index `v * windows + w`.
        sampling: `uniform` spaces them evenly, `random` draws them, a number is the second they all start at.
        augment: draw the augmentations of `settings.augment`.
    """

    def __init__(
        self,
        manifest: pd.DataFrame,
        settings: Settings,
        *,
        windows: int = 1,
        sampling: Literal["uniform", "random"] | float = "uniform",
        augment: bool = False,
        progress: bool = True,
    ):
        self.settings, self.windows, self.sampling, self.augment = settings, windows, sampling, augment
        self.root = resolve_path(settings.data.root)
        self.tracks, self.failures = extract_tracks(manifest, settings, progress=progress)
        self.manifest = manifest[manifest["video_id"].isin(self.tracks)].reset_index(drop=True)

    def __len__(self) -> int:
        return len(self.manifest) * self.windows

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return many samples, decoding each video once for all of its windows among them."""
        by_video: dict[int, list[int]] = {}
        for index in indices:
            by_video.setdefault(index % len(self) // self.windows, []).append(index)
        samples = {}
        for number, wanted in by_video.items():
            row = self.manifest.iloc[number]
            samples.update(zip(wanted, self._read_samples(row, wanted), strict=True))
        return [samples[index] for index in indices]

    def _read_samples(self, row: pd.Series, indices: list[int]) -> Iterator[dict[str, Any]]:
        track = self.tracks[row["video_id"]]
        draws = [np.random.default_rng((self.settings.seed, *divmod(index, len(self)))) for index in indices]
        numbers = [index % self.windows for index in indices]
        windows = [self._place_window(track, number, rng) for number, rng in zip(numbers, draws, strict=True)]
        media = self._decode(row, windows)
        for number, window, rng in zip(numbers, windows, draws, strict=True):
            sample = {"video_id": row["video_id"], "window": number, "start": float(window.moments[0])}
            if media is None:
                yield {**sample, **self._make_empty()}
            else:
                yield {**sample, **self._make_sample(row, track, media, window, rng)}

    def _place_window(self, track: Track, number: int, rng: np.random.Generator) -> Window:
        return place_window(track, self.settings, number=number, of=self.windows, sampling=self.sampling, rng=rng)

    def _decode(self, row: pd.Series, windows: list[Window]) -> Media | None:
        """Read what the windows need; None, said in the log, where a file that was readable no longer is."""
        wanted = {int(number) for window in windows for number in window.numbers}
        try:
            return read_media(
                self.root / row["path"],
                keep=wanted.__contains__,
                sample_rate=self.settings.audio.sample_rate,
                last_frame=max(wanted),
                sound_until=max(window.sound_start + window.sound_seconds for window in windows),
            )
        except MediaError as error:
            log.warning("%s: its windows stay empty: %s", row["video_id"], error)
            return None

    def _make_sample(
        self, row: pd.Series, track: Track, media: Media, window: Window, rng: np.random.Generator
    ) -> dict[str, Any]:
        frames, frame_mask = self._crop_frames(track, media, window, rng)
        samples, sound_mask = self._cut_sound(media, window)
        if self.augment:
            frames = augment_frames(frames, self.settings.augment, rng)
            samples = augment_sound(samples, self.settings.augment, rng)
            if frame_mask.any() and sound_mask.any() and rng.random() < self.settings.augment.drop_stream:
                (frame_mask if rng.random() < 0.5 else sound_mask)[:] = False
        return {
            "frames": torch.from_numpy(frames).permute(0, 3, 1, 2),
            "frame_mask": torch.from_numpy(frame_mask),
            "log_mel": compute_log_mel(torch.from_numpy(samples), self.settings.audio),
            "sound_mask": torch.from_numpy(sound_mask),
            **label_window(row, window),
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

    def _crop_frames(
        self, track: Track, media: Media, window: Window, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return face crops `[T, size, size, 3]`, or centre crops where there is no face, and where a face is seen."""
        video = self.settings.video
        decoded = np.isin(window.numbers, list(media.frames))
        seen = window.inside & decoded & near_detection(track, window.moments, video.detect_every)
        if seen.any():
            square = square_box(track.boxes_at(window.moments[seen]), video.margin)
        else:
            square = np.array([track.width / 2, track.height / 2, min(track.width, track.height)])
        if self.augment:
            square = draw_square(square, self.settings.augment, rng)
        crops = {n: crop_square(media.frames[n], square, video.size) for n in set(window.numbers) & set(media.frames)}
        blank = np.zeros((video.size, video.size, 3), np.uint8)
        return np.stack([crops.get(number, blank) for number in window.numbers]), seen

    def _cut_sound(self, media: Media, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Return the window's sound `[S]` and at which of the T moments there is any, unless all of it is silent."""
        steps = len(window.moments)
        if media.sound is None:
            samples = np.zeros(round(window.sound_seconds * self.settings.audio.sample_rate), np.float32)
            return samples, np.zeros(steps, bool)
        samples, _ = media.sound.cut(window.sound_start, window.sound_seconds)
        centres = window.sound_start + (np.arange(steps) + 0.5) / steps * window.sound_seconds
        heard = (centres >= media.sound.start) & (centres < media.sound.end)
        return samples, heard & (np.abs(samples).max() > SILENCE)


def place_window(
    track: Track,
    settings: Settings,
    *,
    number: int = 0,
    of: int = 1,
    sampling: Literal["uniform", "random"] | float = "uniform",
    rng: np.random.Generator | None = None,
) -> Window:
    """Place window `number` of `of` in a video: where its frames lie, and its sound."""
    T, fps = settings.video.frames, settings.video.fps
    if fps == "spread":
        moments = (np.arange(T) + 0.5) / T * track.duration
        start, seconds = (track.duration - settings.window_seconds) / 2, settings.window_seconds
    else:
        seconds = T / fps
        room = max(track.duration - seconds, 0.0)
        if sampling == "random":
            start = float(rng.uniform(0, room))
        elif sampling == "uniform":
            start = room / 2 if of == 1 else room * number / (of - 1)
        else:
            start = float(sampling)
        moments = start + np.arange(T) / fps
    # The frame shown at a moment is the last that began by then; half a millisecond forgives rounded clocks.
    numbers = np.clip(np.searchsorted(track.times, moments + 5e-4, side="right") - 1, 0, len(track.times) - 1)
    return Window(moments, numbers, moments < track.duration - 5e-4, start, seconds)


def near_detection(track: Track, moments: np.ndarray, detect_every: int) -> np.ndarray:
    """At which moments, bool `[T]`, was the followed face found at most two looks away?"""
    if not track.has_face:
        return np.zeros(len(moments), bool)
    reach = 2 * detect_every * track.frame_seconds
    after = np.clip(np.searchsorted(track.box_times, moments), 0, len(track.box_times) - 1)
    before = np.maximum(after - 1, 0)
    gaps = np.minimum(np.abs(track.box_times[after] - moments), np.abs(track.box_times[before] - moments))
    return gaps <= reach


def label_window(row: pd.Series, window: Window) -> dict[str, int]:
    """Return a window's labels: where a video is forged in places only, what overlaps with the window decides."""
    labels = {name: int(row[name]) for name in ("label", *STREAM_LABELS)}
    # In `spread` the frames cover more than the sound does.
    spans = {
        "video": (window.moments[0], window.moments[-1]),
        "audio": (window.sound_start, window.sound_start + window.sound_seconds),
    }
    partly = False
    for stream, (start, end) in spans.items():
        segments = parse_segments(row[f"{stream}_segments"])
        if labels[f"{stream}_fake"] == 1 and segments:
            partly = True
            labels[f"{stream}_fake"] = int(any(a < end and b > start for a, b in segments))
    if partly and labels["label"] == 1:
        labels["label"] = int(1 in (labels["video_fake"], labels["audio_fake"]) or labels["in_sync"] == 0)
    return labels


class EpochSampler(Sampler[int]):
    """Yields `epoch * n + index` for all n samples, shuffled by (seed, epoch): workers learn the epoch from it."""

    def __init__(self, n: int, *, seed: int):
        self.n, self.seed, self.epoch = n, seed, 0

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.n)
        return iter((self.epoch * self.n + order).tolist())


def make_training_loader(manifest: pd.DataFrame, settings: Settings, *, progress: bool = True) -> DataLoader:
    """Return shuffled, augmented random windows of the training split; call `loader.sampler`'s epoch forward."""
    train = select_split(manifest, "train", limit=settings.data.limit)
    dataset = MultimodalDataset(
        train, settings, windows=settings.train.windows, sampling="random", augment=True, progress=progress
    )
    sampler = EpochSampler(len(dataset), seed=settings.seed)
    return _make_loader(dataset, settings, settings.train.batch_size, sampler=sampler)


def make_evaluation_loader(
    manifest: pd.DataFrame, split: str, settings: Settings, *, windows: int | None = None, progress: bool = True
) -> DataLoader:
    """Return evenly spaced windows of a split, in the manifest's order, those of a video one after the other."""
    chosen = select_split(manifest, split, limit=settings.data.limit)
    return make_window_loader(chosen, settings, windows=windows or settings.evaluate.windows, progress=progress)


def make_window_loader(
    manifest: pd.DataFrame, settings: Settings, *, windows: int, progress: bool = True
) -> DataLoader:
    """Return evenly spaced windows of all rows."""
    dataset = MultimodalDataset(manifest, settings, windows=windows, progress=progress)
    return _make_loader(dataset, settings, settings.evaluate.batch_size)


def _make_loader(
    dataset: MultimodalDataset, settings: Settings, batch_size: int, *, sampler: Sampler | None = None
) -> DataLoader:
    workers = min(settings.data.workers, -(-len(dataset) // batch_size))
    return DataLoader(
        dataset,
        batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=collate_windows,
        persistent_workers=workers > 0,
        worker_init_fn=_limit_threads,
    )


def _limit_threads(worker: int) -> None:
    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def collate_windows(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack samples into a batch: tensors `[B, …]`, numbers as tensors `[B]`, texts as lists."""
    return default_collate(list(samples))
