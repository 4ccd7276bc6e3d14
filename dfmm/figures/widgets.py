"""Looking at clips in JupyterLab: players that show and sound the same wherever the notebook is opened."""

from __future__ import annotations

import html
import io
import tempfile
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from IPython.display import HTML, Audio
from numpy.typing import NDArray
from PIL import Image

from dfmm.media.container import MediaError
from dfmm.media.decode import Media, read_media
from dfmm.media.encode import write_video
from dfmm.media.picture import fit_picture

PREVIEW_SIDE = 192  # pixels of the short side, and seconds: a preview is stored in the notebook, so it stays small
PREVIEW_SECONDS = 3.0
MOST_FPS = 60  # of faster videos the preview is shorter
WAVE_HEIGHT = 48  # pixels
STILL_COLOURS = 64  # a notebook keeps each of its stills
# Of a style JupyterLab takes no notice where the notebook is not trusted: only there these words are seen.
ADVICE = (
    "<style>.dfmm-untrusted {display: none}</style><div class='dfmm-untrusted'>Does it not play? "
    "This notebook is not trusted: choose File → Trust Notebook, or run the cell.</div>"
)


@dataclass(frozen=True)
class Player:
    """A sound or a video in a notebook, with a label; where it cannot be played, a still and words.

    The label and the player are one output: headless, what is printed would come to stand above all players of a cell.
    The address stands at the player itself, not at a `<source>` in it: JupyterLab 4.6 removes that one in a notebook
    that is not trusted, and a black box is left.
    """

    tag: str  # `video` or `audio`
    data: bytes
    mimetype: str
    frame: NDArray[np.uint8] | None  # [H, W, 3], the first one
    wave: NDArray[np.uint8] | None  # [h, W, 3], a waveform, as wide
    label: str = ""  # of one line, or more

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {
            "text/html": self._repr_html_(),
            "image/png": _encode_still(np.concatenate([x for x in (self.frame, self.wave) if x is not None])),
            "text/plain": self.label or f"player: {self.tag}",
        }

    def _repr_html_(self) -> str:
        poster = "" if self.frame is None else f" poster='data:image/png;base64,{_encode_still(self.frame)}'"
        source = f"data:{self.mimetype};base64,{b64encode(self.data).decode()}"
        return f"{_write_label(self.label)}<{self.tag} controls{poster} src='{source}'></{self.tag}>{ADVICE}"


def play_video(path: str | Path, *, start: float = 0.0, seconds: float = PREVIEW_SECONDS, label: str = "") -> Player:
    """Return a player of a short, small copy of a video with its sound, or of the sound alone where that is all.

    The original may be of any format and length.

    Raises:
        MediaError: the file is missing, broken, or has neither picture nor sound, or is over at the start.
    """
    end = start + seconds
    last = round(end * MOST_FPS)  # what comes after is not decoded
    media = read_media(
        path,
        keep=lambda number: number <= last,
        sample_rate=16_000,
        short_side=PREVIEW_SIDE,
        last_frame=last,
        sound_until=end,
    )
    over = max([*media.times[-1:], media.sound.end if media.sound else 0.0])
    if over <= start > 0:
        raise MediaError(f"{path}: is over after {over:.2f} s; nothing is to be played from {start:g} s on")
    if not len(media.times):
        return play_sound(media.sound.cut(start, min(seconds, media.sound.end - start))[0], 16_000, label=label)
    frames, fps = _cut_frames(media, start, seconds)
    sound = None if media.sound is None else media.sound.cut(start, len(frames) / fps)[0]
    with tempfile.TemporaryDirectory() as folder:
        copy = write_video(Path(folder) / "preview.mp4", frames, fps=fps, sound=sound, crf=28)
        wave = None if sound is None else _draw_wave(sound, frames.shape[2])
        return Player("video", copy.read_bytes(), "video/mp4", frames[0], wave, label)


def play_labelled(path: str | Path, *lines: str) -> Player | HTML:
    """Return what `play_video` does with lines of text above it, in one piece; where it cannot be played, why."""
    try:
        return play_video(path, label="\n".join(lines))
    except MediaError as error:
        return HTML(_write_label("\n".join([*lines, f"cannot be played: {error}"])))


def play_sound(sound: np.ndarray, sample_rate: int, *, label: str = "") -> Player:
    """Return a player of a sound, float `[S]`, as loud as it is: left to itself, IPython makes all equally loud."""
    sound = np.clip(sound, -1, 1)
    wav = Audio(sound, rate=sample_rate, normalize=False).data
    return Player("audio", wav, "audio/wav", None, _draw_wave(sound, PREVIEW_SIDE), label)


def _write_label(label: str) -> str:
    """Return a label's lines as HTML, the first of them bold."""
    first, *others = map(html.escape, label.split("\n"))
    return "".join([f"<div><b>{first}</b></div>" if first else "", *(f"<div>{line}</div>" for line in others)])


def _draw_wave(sound: np.ndarray, width: int) -> NDArray[np.uint8]:
    """Return a waveform as a picture, uint8 `[WAVE_HEIGHT, width, 3]`: grey on white, from full scale to full scale."""
    if not len(sound):
        return np.full((WAVE_HEIGHT, width, 3), 255, np.uint8)
    edges = np.linspace(0, len(sound), width, endpoint=False).astype(int)
    peaks = np.maximum.reduceat(np.abs(sound), edges)
    inside = np.abs(np.linspace(-1, 1, WAVE_HEIGHT))[:, None] <= np.maximum(peaks, 1 / WAVE_HEIGHT)
    return np.repeat(np.where(inside, 112, 255).astype(np.uint8)[..., None], 3, axis=2)


def _encode_still(still: NDArray[np.uint8]) -> str:
    target = io.BytesIO()
    Image.fromarray(still).quantize(STILL_COLOURS).save(target, "PNG", optimize=True)
    return b64encode(target.getvalue()).decode()


def _cut_frames(media: Media, start: float, seconds: float) -> tuple[np.ndarray, float]:
    """Return the frames of a stretch, uint8 `[N, H, W, 3]` with even sides, at a constant rate of at most 25 fps."""
    end = min(start + seconds, float(media.times[max(media.frames)]) + 0.04)
    moments = np.arange(start, max(end, start + 0.04), 0.04)
    numbers = np.clip(np.searchsorted(media.times, moments + 5e-4, side="right") - 1, 0, len(media.times) - 1)
    height, width = media.frames[numbers[0]].shape[:2]
    frames = np.stack([fit_picture(media.frames[number], width, height) for number in numbers])
    return frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2], 25.0
