"""Looking at clips in JupyterLab: players that show and sound the same wherever the notebook is opened."""

from __future__ import annotations

import html
import tempfile
from pathlib import Path

import numpy as np
from IPython.display import HTML, Audio, Video

from dfmm.media.container import MediaError
from dfmm.media.decode import Media, read_media
from dfmm.media.encode import write_video
from dfmm.media.picture import fit_picture

PREVIEW_SIDE = 192  # pixels of the short side, and seconds: a preview is stored in the notebook, so it stays small
PREVIEW_SECONDS = 3.0
MOST_FPS = 60  # of faster videos the preview is shorter


def play_video(path: str | Path, *, start: float = 0.0, seconds: float = PREVIEW_SECONDS) -> Video | Audio:
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
        return play_sound(media.sound.cut(start, min(seconds, media.sound.end - start))[0], 16_000)
    frames, fps = _cut_frames(media, start, seconds)
    sound = None if media.sound is None else media.sound.cut(start, len(frames) / fps)[0]
    with tempfile.TemporaryDirectory() as folder:
        copy = write_video(Path(folder) / "preview.mp4", frames, fps=fps, sound=sound, crf=28)
        return Video(copy.read_bytes(), embed=True, mimetype="video/mp4", html_attributes="controls")


def play_labelled(path: str | Path, *lines: str) -> HTML:
    """Return what `play_video` does with lines of text beside it, in one piece; where it cannot be played, why."""
    try:
        player = play_video(path)._repr_html_()
    except MediaError as error:
        player = html.escape(f"cannot be played: {error}")
    first, *others = map(html.escape, lines)
    said = "".join([f"<b>{first}</b>", *(f"<br>{line}" for line in others)])
    return HTML(f"<div style='display: flex; gap: 1em'><div>{player}</div><div>{said}</div></div>")


def play_sound(sound: np.ndarray, sample_rate: int) -> Audio:
    """Return a player of a sound, float `[S]`, as loud as it is: left to itself, IPython makes all equally loud."""
    return Audio(np.clip(sound, -1, 1), rate=sample_rate, normalize=False)


def _cut_frames(media: Media, start: float, seconds: float) -> tuple[np.ndarray, float]:
    """Return the frames of a stretch, uint8 `[N, H, W, 3]` with even sides, at a constant rate of at most 25 fps."""
    end = min(start + seconds, float(media.times[max(media.frames)]) + 0.04)
    moments = np.arange(start, max(end, start + 0.04), 0.04)
    numbers = np.clip(np.searchsorted(media.times, moments + 5e-4, side="right") - 1, 0, len(media.times) - 1)
    height, width = media.frames[numbers[0]].shape[:2]
    frames = np.stack([fit_picture(media.frames[number], width, height) for number in numbers])
    return frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2], 25.0
