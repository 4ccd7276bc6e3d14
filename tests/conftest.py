"""What several tests share: small clips of known content, and what the package says in its log."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from dfmm.extraction import extract
from dfmm.extraction.pool import keep_workers
from dfmm.faces import follow as tracking
from dfmm.manifest import read_manifest
from dfmm.media.container import MediaError
from dfmm.media.encode import write_video
from dfmm.sample import acting, make_sample, portrait
from dfmm.settings import Settings, validate_settings

NOBODY = np.zeros((0, 15), np.float32)  # a frame without a face


@dataclass(frozen=True)
class Clip:
    """A video file and what was put into it."""

    path: Path
    frames: np.ndarray  # uint8 RGB [N, H, W, 3]
    fps: float
    sound: np.ndarray | None = None  # float32 [S]
    sample_rate: int = 16_000


def draw_frames(count: int, height: int, width: int) -> np.ndarray:
    """Draw smooth colours and a soft blob that wanders through them: easy to encode, different in every frame."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j].astype(np.float32)
    frames = []
    for share in np.linspace(0, 1, count):
        blob = np.exp(-(((x - share) / 0.15) ** 2) - ((y - 0.5 + 0.3 * np.sin(6 * share)) / 0.2) ** 2)
        frames.append(np.stack([0.2 + 0.5 * x + 0.2 * blob, 0.7 - 0.4 * y, 0.3 + 0.6 * blob], axis=2))
    return (np.stack(frames) * 255).astype(np.uint8)


def sing(seconds: float, sample_rate: int) -> np.ndarray:
    """Make a rising tone that swells and fades, float32 `[S]`: it looks like itself only where it is in time."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    tone = np.sin(2 * np.pi * (300 + 400 * time) * time) * (0.3 + 0.2 * np.sin(2 * np.pi * 1.7 * time))
    return tone.astype(np.float32)


def hum(seconds: float, sample_rate: int) -> np.ndarray:
    """Make something like a voice, float32 `[S]`: a gliding pitch with its overtones, pauses, a little noise."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    overtones = range(1, 30)
    voice = sum(np.sin(2 * np.pi * n * (110 + 60 * time) * time) / n for n in overtones if 170 * n < sample_rate / 2)
    noise = np.random.default_rng(0).standard_normal(len(time))
    return (0.1 * voice * (np.sin(2 * np.pi * 4.3 * time) > -0.5) + 0.003 * noise).astype(np.float32)


def find_delay(heard: np.ndarray, meant: np.ndarray) -> int:
    """Return by how many samples one sound comes after the other, by their cross-correlation."""
    size = len(heard) + len(meant)
    correlation = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(meant, size)), size)
    return int(correlation.argmax() + size // 2) % size - size // 2


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """Two seconds of picture, 96 × 128 at 25 fps, and sound, without a face."""
    frames, sound = draw_frames(50, 96, 128), sing(2.0, 16_000)
    path = write_video(tmp_path_factory.mktemp("clips") / "clip.mp4", frames, sound=sound)
    return Clip(path, frames, 25, sound)


@pytest.fixture(scope="session")
def mute_clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """A little more than a second of picture at 29.97 fps, without an audio track."""
    frames = draw_frames(32, 64, 96)
    return Clip(write_video(tmp_path_factory.mktemp("clips") / "mute.mp4", frames, fps=29.97), frames, 29.97)


@pytest.fixture(scope="session")
def face_clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """Twenty frames of a drawn face, 256 × 256 at 25 fps, with sound."""
    rng = np.random.default_rng(1)
    head = portrait.paint_head(portrait.invent_look(rng), portrait.invent_stage(rng))
    frames = acting.draw_clip(head, acting.act(head, acting.invent_motion(rng, 20), np.linspace(0, 1, 20)))
    sound = sing(0.8, 16_000)
    return Clip(write_video(tmp_path_factory.mktemp("clips") / "face.mp4", frames, sound=sound), frames, 25, sound)


def detect_bright(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Stand in for a detector: the bright square of a frame is its face."""
    found = []
    for frame in frames:
        y, x = np.nonzero(frame.min(axis=2) > 128)
        side = x.max() + 1 - x.min() if len(x) else 0
        box = [x.min(), y.min(), x.min() + side, y.min() + side] if len(x) else []
        found.append(np.array([[*box, 0.99, *[0] * 10]], np.float32) if len(x) else NOBODY)
    return found


def detect_nobody(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [NOBODY for _ in frames]


def write_square(path: Path, frames: int, *, visible: Callable[[int], bool] = lambda number: True) -> Path:
    """Write a video in which a bright square of 64 moves right by two pixels a frame."""
    picture = np.zeros((frames, 160, 240, 3), np.uint8)
    for number in filter(visible, range(frames)):
        picture[number, 40:104, 2 * number : 2 * number + 64] = 255
    return write_video(path, picture)


@pytest.fixture
def detectors(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable | None]:
    """What stands in for the detectors, by name."""
    stand_ins: dict[str, Callable | None] = {"retinaface": detect_nobody, "mtcnn": detect_nobody}
    monkeypatch.setattr(tracking, "load_detector", stand_ins.get)
    return stand_ins


@pytest.fixture(scope="session", autouse=True)
def keep_extractors() -> Iterator[None]:
    """Let who extracts for one test wait for the next one that asks: each takes seconds of a core to start."""
    with keep_workers():
        yield


@pytest.fixture(autouse=True)
def restore_log() -> Iterator[None]:
    """Give the package's log back as it was: `open_run` sends it to the run's folder."""
    log = logging.getLogger("dfmm")
    level, handlers, propagate = log.level, list(log.handlers), log.propagate
    yield
    for handler in set(log.handlers) - set(handlers):
        handler.close()
    log.setLevel(level)  # which also forgets which levels it was found to be open for
    log.handlers, log.propagate = handlers, propagate


@pytest.fixture
def said() -> Iterator[list[str]]:
    """The messages of the package's log, as they come."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    log = logging.getLogger("dfmm")
    log.addHandler(handler)
    yield messages
    log.removeHandler(handler)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are extracted, one by one and in this process."""
    names: list[str] = []

    def make(files: list[tuple], settings: Settings, *more: object) -> Iterator[tuple[int, str | MediaError]]:
        for number, (path, track, crops, talk) in enumerate(files):
            names.append(Path(path).name)
            try:
                yield number, extract.make_entry(path, track, crops, settings, talk, *more)
            except MediaError as error:
                yield number, error

    monkeypatch.setattr(extract, "_extract_in_parallel", make)
    return names


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: begun last, it would keep one process busy and the others idle."""
    items.sort(key=lambda item: "test_demo" not in item.nodeid)


def share_folder(factory: pytest.TempPathFactory, name: str) -> Path:
    """Return the path of a folder that the test processes of one session have in common."""
    base = factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name


def share_sample(factory: pytest.TempPathFactory, videos: int) -> Path:
    """Return the folder of a sample, drawn once for all tests of all processes: nobody may change it."""
    folder = share_folder(factory, f"sample{videos}")
    with FileLock(folder.with_suffix(".lock")):
        make_sample(folder, videos=videos, progress=False)
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a small model on 24 synthetic videos."""
    sample = share_sample(tmp_path_factory, 24)
    return validate_settings(
        {
            "data": {"root": str(sample), "cache": str(tmp_path_factory.mktemp("cache")), "workers": 0},
            "video": {"frames": 4, "fps": 12.5, "size": 48},
            "audio": {"n_mels": 32},
            "model": {"backbone": "test_resnet", "dim": 16},
            "train": {"epochs": 3, "batch_size": 6},
            "evaluate": {"windows": 2, "replicates": 100},
            "extract": {"workers": 1},  # each takes seconds to start
            "synchrony": {"use": False},  # a second pass through each video: who tests it turns it on
        }
    )


@pytest.fixture(scope="session")
def manifest(tiny: Settings) -> pd.DataFrame:
    """The manifest of these videos."""
    return read_manifest(Path(tiny.data.root) / "manifest.csv", tiny.data.root)


def change(settings: Settings, **values: object) -> Settings:
    """Return settings with some of them changed: `change(settings, train={"epochs": 1})`."""
    sections = {name: {**getattr(settings, name).model_dump(), **new} for name, new in values.items()}
    return validate_settings({**settings.model_dump(), **sections})
