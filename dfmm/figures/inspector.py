"""The clip inspector: a video, its sound, mouth, scores and stretches under one moving cursor, in a notebook.

The video comes to the browser in parts: from the Jupyter server where it lies below its root, else from a server of its
own on this machine (`FileServer`), which ends with the widget. What a browser cannot play comes frame by frame.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import anywidget
import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dfmm.extraction.store import CacheError
from dfmm.figures.clips import select_windows
from dfmm.figures.footage import Clip, Stretches, encode_sound, find_face, open_footage
from dfmm.figures.serve import FileServer, find_url
from dfmm.figures.still import Still, read_view
from dfmm.figures.style import FAKE, GREY, add_legend, label_axes, mark_threshold, style_figure
from dfmm.figures.words import shorten_text
from dfmm.media.container import MediaError
from dfmm.settings import Settings

HINT = "Run this cell in JupyterLab to play the clip, to seek, and to hear it."
BOX = "#F0E442"  # of a face: Okabe and Ito's yellow, on any picture
SOUND_SECONDS = 900  # of a clip that the browser cannot play: of longer ones the sound is not sent


class Inspector(anywidget.AnyWidget):
    """The widget: what it shows of a clip first comes with it, pages and crops when they are looked at."""

    _esm, _css = read_view(__file__)
    clip = traitlets.Dict().tag(sync=True)
    frames = traitlets.Bytes().tag(sync=True)  # float32 [N, 4]: seconds, and x, y and side of the face
    poster = traitlets.Bytes().tag(sync=True)  # the first frame, a JPEG
    page = traitlets.Dict().tag(sync=True)
    look = traitlets.Dict().tag(sync=True)  # the crops of one window
    server: FileServer | None = None

    def __init__(self, clip: Clip | None = None):
        super().__init__()
        self.on_msg(self._answer)
        if clip is not None:
            self.show(clip)

    def show(self, clip: Clip) -> None:
        """Show another clip."""
        self._close_server()
        self.shown = clip
        url = find_url(clip.footage.file)
        with self.hold_sync():
            self.frames = clip.footage.list_frames().tobytes()
            self.poster, self.page, self.look = clip.poster or b"", clip.footage.draw_page(0), clip.show_window(0)
            self.clip = clip.describe() | {"sources": [url or self._serve()]}

    def close(self) -> None:
        self._close_server()
        super().close()

    def _serve(self) -> str:
        self._close_server()
        self.server = FileServer(self.shown.footage.file)
        return self.server.url

    def _close_server(self) -> None:
        if self.server:
            self.server.close()
        self.server = None

    def _answer(self, _: Any, asked: dict[str, Any], buffers: Sequence[memoryview]) -> None:
        """Send what the view asks for; what went wrong is sent as words."""
        kind, footage = asked["kind"], self.shown.footage
        parts: list[bytes] = []
        try:
            if kind == "page":
                self.page = footage.draw_page(asked["number"])
            elif kind == "look":
                self.look = self.shown.show_window(asked["number"])
            elif kind == "serve":
                asked["url"] = self._serve()
            elif kind == "frames":
                parts = footage.read_frames(asked["first"], asked["count"])
            elif kind == "sound" and footage.track.duration <= SOUND_SECONDS:
                samples = footage.cut_sound(0.0, footage.track.duration)
                parts = [] if samples is None else [encode_sound(samples, footage.settings.audio.sample_rate)]
        except (MediaError, CacheError) as error:
            asked["why"] = str(error)
        if kind not in ("page", "look"):
            self.send(asked, parts)


def inspect_clip(
    video: Mapping[str, Any] | str,
    settings: Settings,
    windows: pd.DataFrame | None = None,
    *,
    videos: pd.DataFrame | None = None,
    found: Stretches = (),
    threshold: float | None = None,
) -> Still:
    """Return the inspector of one clip, as a cell's last value or given to `display`.

    Args:
        video: a row of the manifest or of the video table; or a `video_id`, and the table with its row as `videos`.
        settings: of the run that scored it: where its data and what is kept of it lie, and how it is cropped.
        windows: the window table, for scores over time.
        found: stretches found to be forged, as `evaluation.list_stretches` has them.
        threshold: from which score on a window is called fake, drawn as a line.

    Raises:
        MediaError: the video cannot be read.
        KeyError: the table has no such video.
    """
    clip = read_clip(find_video(video, videos), settings, windows, found=found, threshold=threshold)
    return Still(clip.title, clip.tell(), HINT, lambda: plot_clip(clip), lambda: Inspector(clip))


def read_clip(video: Mapping[str, Any], settings: Settings, windows: pd.DataFrame | None, **more: Any) -> Clip:
    """Open a video and find its windows in the window table."""
    if windows is not None:
        windows = select_windows(windows, {"video_id": video["video_id"], "face": find_face(video)})
    return Clip(video, open_footage(video, settings), windows if windows is not None and len(windows) else None, **more)


def find_video(video: Mapping[str, Any] | str, videos: pd.DataFrame | None) -> Mapping[str, Any]:
    """Return the row of a video that is named, or the row that is given."""
    if not isinstance(video, str):
        return video
    if videos is None:
        raise KeyError(f"{video}: expected the table with its row as well: inspect_clip({video!r}, …, videos=table)")
    rows = videos[videos["video_id"] == video]
    if rows.empty:
        near = difflib.get_close_matches(video, videos["video_id"].astype(str), n=3, cutoff=0)
        raise KeyError(f"{video}: no such video in the table; the nearest are {', '.join(near)}")
    return rows.iloc[0]


# The still


@style_figure
def plot_clip(clip: Clip) -> Figure:
    """The first frame with the face's square; beside it the waveform, log-mel and scores of the first page."""
    figure = plt.figure(figsize=(8, 3.8))
    grid = figure.add_gridspec(3, 2, width_ratios=[1, 2.2], height_ratios=[1, 1.3, 1.5])
    picture, wave = figure.add_subplot(grid[:, 0]), figure.add_subplot(grid[0, 1])
    log_mel, scores = (figure.add_subplot(grid[row, 1], sharex=wave) for row in (1, 2))
    figure.suptitle(shorten_text(clip.title, 80), fontsize=11)
    page = clip.footage.draw_page(0)
    _draw_frame(picture, clip)
    _draw_sound(wave, log_mel, page, clip.footage.hertz)
    _draw_scores(scores, clip)
    wave.set_xlim(page["start"], page["end"])
    for axes in (wave, log_mel):
        axes.tick_params(labelbottom=False)
    return add_legend(figure)


def _draw_frame(axes: Axes, clip: Clip) -> None:
    axes.set(xticks=[], yticks=[])
    if clip.poster is None:
        axes.text(0.5, 0.5, "no picture", ha="center", va="center", transform=axes.transAxes, color=GREY)
        return
    frame = cv2.imdecode(np.frombuffer(clip.poster, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    track = clip.footage.track
    axes.imshow(frame, extent=(0, track.width, track.height, 0))
    _, x, y, side = clip.footage.list_frames()[0]
    if np.isfinite(side):
        axes.add_patch(Rectangle((x - side / 2, y - side / 2), side, side, fill=False, edgecolor=BOX, linewidth=1.8))
    axes.set_xlabel("first frame, and the face in it")


def _draw_sound(wave: Axes, log_mel: Axes, page: Mapping[str, Any], hertz: Sequence[tuple[float, str]]) -> None:
    wave.set(ylabel="waveform", yticks=[])
    log_mel.set_ylabel("Hz")
    if page["wave"] is None:
        wave.text(0.5, 0.5, "no sound", ha="center", va="center", transform=wave.transAxes, color=GREY)
        return log_mel.set_yticks([])
    times = np.linspace(page["start"], page["end"], len(page["wave"]["low"]), endpoint=False)
    wave.fill_between(times, page["wave"]["low"], page["wave"]["high"], color=GREY, linewidth=0.5)
    painted = cv2.imdecode(np.frombuffer(page["log_mel"], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    log_mel.imshow(painted, aspect="auto", extent=(page["start"], page["end"], 0, 1), interpolation="nearest")
    log_mel.set_yticks([place for place, _ in hertz[::2]], [name for _, name in hertz[::2]])
    return None


def _draw_scores(axes: Axes, clip: Clip) -> None:
    label_axes(axes, "seconds", "probability")
    axes.set_ylim(-0.03, 1.03)
    for lane in clip.list_lanes():
        for start, end in lane["stretches"] if lane["kind"] == "true" else ():
            axes.axvspan(start, end, color=FAKE, alpha=0.15, linewidth=0)
    for curve in clip.list_curves():
        start, end, values = np.array(curve["points"]).T
        axes.plot((start + end) / 2, values, **curve["look"] | {"linewidth": 1.2, "markersize": 4})
    mark_threshold(axes.axhline, clip.threshold)
    if clip.windows is None:
        axes.text(0.5, 0.5, "not scored", ha="center", va="center", transform=axes.transAxes, color=GREY)
