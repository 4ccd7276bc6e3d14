"""What becomes of an index of the dataset: what it asks for, what is to be read for it, and what was read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dfmm.dataset.windows import Window
from dfmm.forge import Take

# What is drawn for a window, each by a generator of its own.
START, PICTURE, SOUND, STREAMS, METHOD, OTHER, FORGERY, DISGUISE, DEGRADE = range(9)


@dataclass(frozen=True)
class Request:
    """An index, taken apart: one window of one row, in one round of draws."""

    row: int  # of the dataset's manifest: a video, its forged twin, or another face of it
    video: int  # the row that has the file and its true labels; `row` itself but for a twin and another face
    face: int  # which of the video's faces, 0 for the first
    window: int  # which of the row's windows
    seed: tuple[int, int, int]  # of the settings, the round, and the window's number in it, in a pair the first one's
    twin: str = ""  # the method by which this row is always forged; empty where it is no twin
    is_second: bool = False  # of a pair: the one that is forged

    def draw(self, purpose: int) -> np.random.Generator:
        """Return the generator of one of the draws above, or of the number of a degradation."""
        numbers = (*self.seed, purpose)
        # Told as the words that numpy would make of them, they are taken in half the time.
        return np.random.default_rng(np.array(numbers, np.uint32) if max(numbers) < 1 << 32 else numbers)


@dataclass(frozen=True)
class Plan:
    """What is to be read for a request, all of it in one pass through its video."""

    request: Request
    window: Window
    method: str = ""  # by which the window is to be forged, empty for none
    moment: Window | None = None  # another one of the same clip, where the forgery takes something from there


@dataclass(frozen=True)
class Reading:
    """What was read of a plan."""

    plan: Plan
    take: Take
    other: Take | None = None  # what the forgery takes from: that other moment, or another clip's sound
