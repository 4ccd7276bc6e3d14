"""The still of a video: a frame that shows the face, small, with the square that was followed where it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from dfmm.extraction import extract_tracks
from dfmm.extraction.tracks import Tracks
from dfmm.faces.crops import FacePath
from dfmm.figures import draw_still
from dfmm.figures.frame import SHORT_SIDE, choose_frame, frame_face
from dfmm.media.encode import write_video
from dfmm.settings import Settings

from ..conftest import change, detect_bright, write_square


def track(settings: Settings, file: Path) -> Tracks:
    """Follow the face of one video, `a`."""
    settings = change(settings, data={"root": str(file.parent)}, extract={"workers": 1})
    tracks, failures = extract_tracks(pd.DataFrame([{"video_id": "a", "path": file.name}]), settings)
    assert not failures
    return tracks


def read_still(tracks: Tracks) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(draw_still(tracks, "a"), np.uint8), cv2.IMREAD_COLOR)


@pytest.fixture(autouse=True)
def bright(detectors: dict[str, Callable | None], decoded: list[str]) -> None:
    """The bright square is the face, also in extraction, which happens in this process."""
    detectors["retinaface"] = detect_bright


def find_square(line: np.ndarray) -> list[int]:
    """Return where a row or column of a still, `[n, 3]`, is bright, from and to, with a dark line in between."""
    bright = np.flatnonzero(line.min(axis=1) > 128)
    assert (line[bright[0] : bright[-1]].max(axis=1) < 64).any()
    return [int(bright[0]), int(bright[-1])]


def test_a_still_shows_the_square_that_was_followed(tiny: Settings, tmp_path: Path) -> None:
    file = write_square(tmp_path / "square.mp4", 20)
    tracks = track(tiny, file)
    still = read_still(tracks)
    assert still.shape == (160, 240, 3)
    assert find_square(still[72]) == pytest.approx([20, 84], abs=4)  # in the middle one of the frames
    assert find_square(still[:, 52]) == pytest.approx([40, 104], abs=4)
    assert draw_still(tracks, "b") is None
    file.unlink()
    assert draw_still(tracks, "a") is None


def test_a_large_picture_is_made_small_and_its_square_with_it(tiny: Settings, tmp_path: Path) -> None:
    large = np.zeros((20, 2 * SHORT_SIDE, 3 * SHORT_SIDE, 3), np.uint8)
    large[:, 100:300, 200:400] = 255
    still = read_still(track(tiny, write_video(tmp_path / "large.mp4", large)))
    assert still.shape[:2] == (SHORT_SIDE, 3 * SHORT_SIDE // 2)
    assert find_square(still[100]) == pytest.approx([100, 200], abs=4)
    assert find_square(still[:, 150]) == pytest.approx([50, 150], abs=4)


def test_the_middle_of_the_frames_that_show_the_face_soon_is_chosen() -> None:
    sides = np.where(np.arange(400) % 2, 40.0, np.nan)
    path = FacePath(np.zeros(400, int), np.zeros((400, 2)), sides, np.zeros((400, 5, 2)))
    times = np.arange(400) / 25
    assert choose_frame(times, path) in (125, 127)  # of ten seconds
    assert choose_frame(times + 60, path) == 0


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_faces_square_is_drawn_where_it_is(scale: float) -> None:
    path = FacePath(np.zeros(1, int), np.array([[60.0, 40.0]]), np.array([40.0]), np.full((1, 5, 2), np.nan))
    marked = frame_face(np.zeros((100, 100, 3), np.uint8), path, 0, scale=scale)
    y, x = np.nonzero(marked.max(axis=2))
    found = np.array([x.min(), x.max(), y.min(), y.max()])
    assert found == pytest.approx(scale * np.array([40, 80, 20, 60]), abs=2)
    assert marked[int(40 * scale), int(60 * scale)].max() == 0
    lost = replace(path, sides=np.array([np.nan]))
    assert frame_face(np.zeros((9, 9, 3), np.uint8), lost, 0, scale=scale).max() == 0
