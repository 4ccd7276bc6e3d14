"""What a saved notebook keeps of a widget: a picture and words, for GitHub, nbconvert and whoever has no kernel.

A widget lives in its kernel; of one that is gone JupyterLab shows an error. So three outputs stand one below the other:
a caption, a still, and the widget. While the widget lives, its stylesheet hides the still; once it is gone, the
caption's hides the error.
"""

from __future__ import annotations

import html
import io
import os
from base64 import b64encode
from collections.abc import Callable, Mapping
from pathlib import Path

from IPython.display import DisplayHandle, display
from ipywidgets import DOMWidget
from matplotlib.figure import Figure

# A widget that is gone, or not there yet, is a line of text without an element in it. In a notebook that is not
# trusted there is neither this style nor the widget.
GONE = ".jp-OutputArea-output:not(:has(*)):is(.jupyter-widgets, .lm-Panel) {display: none}"
VIEW = "application/vnd.jupyter.widget-view+json"


def is_headless() -> bool:
    """Is nobody there to use a widget, as where `dfmm run` executes a notebook?"""
    return "DFMM_HEADLESS" in os.environ


def read_view(file: str) -> tuple[str, Path]:
    """Return a widget's JavaScript, behind what all widgets draw with, and its stylesheet: they lie beside its Python.

    One module each, without an import: a notebook may be open anywhere, and no page can be asked for the rest.
    """
    scripts = Path(file).with_name("nodes.js"), Path(file).with_suffix(".js")
    return "".join(script.read_text(encoding="utf-8") for script in scripts), Path(file).with_suffix(".css")


class Still:
    """A widget, made when it is shown, and what is left of it in the saved notebook; headless, that is all there is.

    Args:
        title: a line, which is shown above both.
        words: what is known, by name; the still's text.
        hint: what one does to have the widget.
        draw: the still.
        make: the widget.
    """

    def __init__(
        self, title: str, words: Mapping[str, str], hint: str, draw: Callable[[], Figure], make: Callable[[], DOMWidget]
    ):
        self.title, self.words, self.hint, self.draw, self.make = title, words, hint, draw, make
        self.place: DisplayHandle | None = None  # where the still is, once it is shown with its widget

    @property
    def text(self) -> str:
        return "\n".join([self.title, *(f"{name}: {value}" for name, value in self.words.items())])

    def _ipython_display_(self) -> None:
        display({"text/html": self._write_caption(), "text/plain": self.title}, raw=True)
        if is_headless():
            display({"image/png": self._paint(), "text/plain": self.text}, raw=True)
            return
        # A still takes longer than a widget.
        self.place = display({"text/plain": self.text}, raw=True, display_id=True)
        self.widget = self.make()
        model = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
        display({VIEW: model, "text/plain": ""}, raw=True)
        self.repaint()

    def repaint(self) -> None:
        """Put a new still in the place of the one that is shown."""
        self.place.update({"image/png": self._paint(), "text/plain": self.text}, raw=True)

    def _write_caption(self) -> str:
        hint = f"<span class='dfmm-hint' style='opacity: 0.7'>{html.escape(self.hint)}</span>"
        return f"<style>{GONE}</style><b>{html.escape(self.title)}</b> {hint}"

    def _paint(self) -> str:
        target = io.BytesIO()
        self.draw().savefig(target, format="png")
        return b64encode(target.getvalue()).decode()
