"""Pages that are one file and load nothing: their template, their pictures, their numbers in words."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from dfmm import figures
from dfmm.words import count_noun

MIMETYPES = {"svg": "image/svg+xml", "png": "image/png", "jpg": "image/jpeg"}


@dataclass(frozen=True)
class Picture:
    """A figure of a page and the sentence below it that says what to see."""

    name: str
    figure: Figure
    caption: str

    @property
    def alt(self) -> str:
        return (self.figure.get_suptitle() or self.figure.axes[0].get_title()).replace("\n", ", ")

    def encode(self, form: str) -> bytes:
        """The figure as `png`, or as `svg` that is the same whenever it is drawn."""
        buffer = io.BytesIO()
        with plt.rc_context({"svg.hashsalt": "dfmm"}):
            self.figure.savefig(buffer, format=form, metadata={"Date": None} if form == "svg" else None)
        return buffer.getvalue()

    def embed(self, form: str = "svg", image: bytes | None = None) -> dict[str, str]:
        """Return what a page needs of it: the image itself, where it is encoded already, as `uri`, `alt`, `caption`."""
        return {"uri": write_uri(image or self.encode(form), form), "alt": self.alt, "caption": self.caption}


def write_uri(image: bytes, form: str) -> str:
    """Return an image as an address that holds the whole of it."""
    return f"data:{MIMETYPES[form]};base64,{base64.b64encode(image).decode('ascii')}"


def render_page(template: str, **values: Any) -> str:
    """Fill a template of this folder. All that comes from outside is escaped: a file's name never becomes HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "plain": format_plain,
        "number": figures.format_number,
        "share": figures.format_share,
        "interval": figures.format_interval,
        "difference": figures.format_difference,
        "names": mark_names,
        "noun": count_noun,
    }
    written = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return environment.get_template(template).render(written=written, **values)


def mark_names(text: str) -> markupsafe.Markup:
    """Return a text, escaped, with what stands in backticks set as code."""
    return markupsafe.Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(markupsafe.escape(text))))


def format_plain(value: Any) -> str:
    """A value as text: numbers to four digits, and `–` for what is not known, or for a list of nothing."""
    if isinstance(value, (list, tuple)):
        value = ", ".join(map(format_plain, value))
    if value is None or value == "" or (isinstance(value, float) and pd.isna(value)):
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
