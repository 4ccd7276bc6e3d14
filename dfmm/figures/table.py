"""The table of clips: all that were scored, sorted and filtered, with faces, and what a person says of each.

Only the rows in sight are sent: 100,000 are no slower than ten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import traitlets
from ipywidgets import VBox
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dfmm.extraction.store import CacheError
from dfmm.figures.annotations import VERDICTS, append_annotation, find_latest, find_login, read_annotations
from dfmm.figures.footage import TOLD, Clip, Stretches, read_thumbnail
from dfmm.figures.inspector import Inspector, read_clip
from dfmm.figures.still import Still, read_view
from dfmm.figures.style import style_figure
from dfmm.figures.words import format_number, shorten_text
from dfmm.media.container import MediaError
from dfmm.settings import Settings
from dfmm.words import count_noun

SCORES = {
    "score": "score",
    "video_fake_score": "video fake",
    "audio_fake_score": "audio fake",
    "in_sync_score": "in sync",
}
PLAIN = ("split", "method", "source")  # columns of the video table that are shown as they are
MOST_VALUES = 300  # of a column, in the list to choose from
MOST_ROWS = 200  # that are sent at once
STILL_ROWS = 12
HINT = "Run this cell in JupyterLab to sort, to filter, to open a clip, and to write down a verdict."


class Listing:
    """The rows of the table as they are shown, and which of them are asked for, in which order.

    Args:
        videos: the video table, or the manifest.
        slices: further columns of it to filter by.
    """

    def __init__(self, videos: pd.DataFrame, slices: Sequence[str] = ()):
        self.videos = videos.reset_index(drop=True)
        columns = {"video_id": self.videos["video_id"].astype(str)}
        plain = [name for name in dict.fromkeys([*PLAIN, *slices]) if name in self.videos]
        plain = [name for name in plain if self.videos[name].nunique(dropna=False) > 1]  # else it tells nothing apart
        columns |= {name: self.videos[name].astype(object).fillna("").astype(str) for name in plain}
        label, called = (self._tell(name) for name in ("label", "predicted"))
        columns["label"] = label
        if "predicted" in self.videos:
            columns |= {"called": called, "outcome": self._tell_outcomes(label, called)}
        columns |= {title: self.videos[name].astype(float) for name, title in SCORES.items() if name in self.videos}
        reason = self.videos.get("reason", pd.Series("", self.videos.index)).astype(object).fillna("").astype(str)
        columns |= {"reason": reason} if (reason != "").any() else {}
        self.table = pd.DataFrame(columns)
        self.shown = [name for name in columns if name != "called"]  # which follows from label and outcome
        self.filters = [*plain, *(name for name in ("label", "called", "outcome") if name in columns)]
        self._orders: dict[str, NDArray[np.int64]] = {}

    def _tell(self, name: str) -> pd.Series:
        if name not in self.videos:
            return pd.Series("", self.videos.index)
        return self.videos[name].map(TOLD).fillna("")

    def _tell_outcomes(self, label: pd.Series, called: pd.Series) -> NDArray[Any]:
        unscored = called == ""
        if "status" in self.videos:
            unscored |= self.videos["status"] != "ok"
        tests = [unscored, label == "", label == called, label == "fake"]
        return np.select(tests, ["not scored", "called " + called, "right", "missed fake"], "false alarm")

    def list_values(self) -> dict[str, list[str]]:
        """Return what each column can be filtered by; the most frequent values, where there are very many."""
        counts = {name: self.table[name].value_counts() for name in self.filters}
        return {name: sorted(filter(None, found.index[:MOST_VALUES])) for name, found in counts.items()}

    def choose(
        self, filters: Mapping[str, str], *, text: str = "", sort: str = "", descending: bool = False
    ) -> NDArray[np.int64]:
        """Return the numbers of the rows that have these values and this text in their name, in order, int64 `[n]`.

        What has no value comes last, whichever way the others are sorted.
        """
        chosen = np.ones(len(self.table), bool)
        for name, value in filters.items():
            if value and name in self.filters:
                chosen &= (self.table[name] == value).to_numpy()
        if text:
            chosen &= self.table["video_id"].str.contains(text, case=False, regex=False).to_numpy(bool)
        order = self._sort(sort, descending) if sort in self.table else np.arange(len(self.table))
        return order[chosen[order]]

    def _sort(self, name: str, descending: bool) -> NDArray[np.int64]:
        key = f"{name} {descending}"
        if key not in self._orders:
            values = self.table[name].mask(self.table[name] == "")
            ordered = values.sort_values(ascending=not descending, kind="stable")
            self._orders[key] = ordered.index.to_numpy()
        return self._orders[key]

    def list_rows(self, numbers: NDArray[np.int64]) -> list[dict[str, Any]]:
        """Return rows ready for JSON: `number`, and `cells`, a text for each of the columns `shown`."""
        part = self.table[self.shown].iloc[numbers]
        scores = set(SCORES.values())
        texts = {name: part[name].map(format_number) if name in scores else part[name] for name in part}
        cells = zip(*(texts[name].tolist() for name in texts), strict=True)
        return [{"number": int(at), "cells": list(row)} for at, row in zip(numbers, cells, strict=True)]


class ClipTable(anywidget.AnyWidget):
    """The widget: it is told how many rows there are, and asks for those in sight.

    Args:
        inspector: shows the clip that is chosen, as `read` opens it by its number.
        annotations: the file of what people say, or None for no such columns; `who` is at work here.
    """

    _esm, _css = read_view(__file__)
    about = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        listing: Listing,
        settings: Settings,
        inspector: Inspector,
        read: Callable[[int], Clip],
        *,
        annotations: Path | None = None,
        who: str = "",
    ):
        super().__init__()
        self.listing, self.settings, self.inspector, self.read = listing, settings, inspector, read
        self.annotations, self.who = annotations, who
        self.order, self.wanted = np.arange(len(listing.table)), []
        self.about = {
            "columns": listing.shown,
            "scores": list(SCORES.values()),
            "values": listing.list_values(),
            "total": len(listing.table),
            "who": who if annotations else "",
            "verdicts": list(VERDICTS) if annotations else [],
        }
        self.on_msg(self._answer)

    def _answer(self, _: Any, asked: dict[str, Any], buffers: Sequence[memoryview]) -> None:
        kind, parts = asked["kind"], []
        try:
            if kind == "rows":
                asked |= self._find_rows(asked)
            elif kind == "faces":
                faces = [read_thumbnail(self.listing.videos.iloc[at], self.settings) for at in asked["numbers"]]
                parts = [face or b"" for face in faces]
            elif kind == "open":
                self.inspector.show(self.read(asked["number"]))
            elif kind == "annotate":
                video_id = self.listing.table["video_id"].iat[asked["number"]]
                said = {"verdict": asked["verdict"], "note": asked["note"]}
                append_annotation(self.annotations, who=self.who, video_id=video_id, **said)
        except (MediaError, CacheError, OSError, ValueError) as error:
            asked["why"] = str(error)
        self.send(asked, parts)

    def _find_rows(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Return the rows from `first` on of those that are chosen, with what was said of them."""
        wanted = [asked[name] for name in ("filters", "text", "sort", "descending")]
        if wanted != self.wanted or asked["filters"].get("verdict"):  # else somebody scrolls
            filters, text, sort, descending = self.wanted = wanted
            self.order = self.listing.choose(filters, text=text, sort=sort, descending=descending)
        said = find_latest(read_annotations(self.annotations)) if self.annotations else None
        if said is not None and asked["filters"].get("verdict"):
            mine = said[said["who"] == self.who].set_index("video_id")["verdict"]
            verdicts = self.listing.table["video_id"].iloc[self.order].map(mine).fillna("").replace("", "none yet")
            self.order = self.order[(verdicts == asked["filters"]["verdict"]).to_numpy()]
        first = int(asked["first"])
        rows = self.listing.list_rows(self.order[first : first + min(int(asked["count"]), MOST_ROWS)])
        return {"total": len(self.order), "rows": rows if said is None else self._add_said(rows, said)}

    def _add_said(self, rows: list[dict[str, Any]], said: pd.DataFrame) -> list[dict[str, Any]]:
        """Add to each row the own `verdict` and `note`, and what `others` say."""
        shown = self.listing.table["video_id"].iloc[[row["number"] for row in rows]].tolist()
        said = said[said["video_id"].isin(shown)]
        for row, name in zip(rows, shown, strict=True):
            of = said[said["video_id"] == name]
            mine, others = of[of["who"] == self.who], of[of["who"] != self.who]
            row |= mine[["verdict", "note"]].iloc[0].to_dict() if len(mine) else {"verdict": "", "note": ""}
            row["others"] = [": ".join(filter(None, cells)) for cells in others[["who", "verdict", "note"]].to_numpy()]
        return rows


def browse_clips(
    videos: pd.DataFrame,
    settings: Settings,
    windows: pd.DataFrame | None = None,
    *,
    found: Mapping[str, Stretches] | None = None,
    threshold: float | None = None,
    annotations: str | Path | None = None,
    who: str | None = None,
) -> Still:
    """Return the table of clips with an inspector below it, as a cell's last value or given to `display`.

    Args:
        videos: the video table, or the manifest.
        settings: of the run; the columns that `evaluate.slices` names can be filtered by.
        windows: the window table.
        found: stretches found to be forged, by `video_id`.
        threshold: from which score on a window is called fake.
        annotations: where verdicts and notes are kept, such as `run / "annotations.csv"`; without it there are none.
        who: reads the clips; by default whoever is logged in.
    """
    listing = Listing(videos, settings.evaluate.slices)

    def read(number: int) -> Clip:
        video = listing.videos.iloc[number]
        return read_clip(video, settings, windows, found=(found or {}).get(video["video_id"], ()), threshold=threshold)

    def make() -> VBox:
        inspector, path = Inspector(), Path(annotations) if annotations else None
        table = ClipTable(listing, settings, inspector, read, annotations=path, who=who or find_login())
        return VBox([table, inspector])

    words = {"clips": f"{len(listing.table)}"}
    words |= {name: _tell_counts(listing.table[name]) for name in listing.filters}
    return Still("Table of clips", words, HINT, lambda: plot_faces(listing, settings), make)


def _tell_counts(column: pd.Series) -> str:
    counts = column[column != ""].value_counts()
    rest = len(counts) - 8
    return ", ".join(f"{name} {count}" for name, count in counts.iloc[:8].items()) + (f", {rest} more" * (rest > 0))


@style_figure
def plot_faces(listing: Listing, settings: Settings) -> Figure:
    """The faces of the clips with the highest scores, or the first ones, with their names, labels and scores."""
    numbers = listing.choose({}, sort="score", descending=True)[:STILL_ROWS]
    columns = 6
    rows = max(-(-len(numbers) // columns), 1)
    figure, grid = plt.subplots(rows, columns, figsize=(8, 1.75 * rows + 0.4), squeeze=False)
    what = "the highest scores" if "score" in listing.table else "the first ones"
    figure.suptitle(f"{count_noun(len(listing.table), 'clip')}; {what}", fontsize=11)
    for axes in grid.ravel():
        axes.set_axis_off()
    for axes, number in zip(grid.ravel(), numbers, strict=False):
        face, row = read_thumbnail(listing.videos.iloc[number], settings), listing.table.iloc[number]
        if face:
            axes.imshow(cv2.imdecode(np.frombuffer(face, np.uint8), cv2.IMREAD_COLOR)[..., ::-1])
        else:
            axes.text(0.5, 0.5, "no face\nis kept", ha="center", va="center", transform=axes.transAxes)
        score = f" {format_number(row['score'])}" if "score" in row else ""
        axes.set_title(f"{shorten_text(row['video_id'], 16)}\n{row['label']}{score}", fontsize=8, pad=3)
    return figure
