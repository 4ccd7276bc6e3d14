"""An executed notebook as a page that is one file, runs no script and loads nothing from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import nbformat
from nbconvert import HTMLExporter

from dfmm.files import write_whole

# Nothing but what the page itself holds: pictures, players, styles. Whatever an output asks for besides is refused.
POLICY = "default-src 'none'; img-src data:; media-src data:; font-src data:; style-src 'unsafe-inline'"
SCRIPT = re.compile(r"<script\b.*?</script\s*>", re.DOTALL | re.IGNORECASE)
HEAD = re.compile(r"<head\b[^>]*>", re.IGNORECASE)
HEADING = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)
OBJECT = re.compile(r"<.*>", re.DOTALL)  # `<Figure size 800x600 with 1 Axes>`: that it is one, and no more
WIDGETS = "application/vnd.jupyter.widget"  # how the mimetypes of what only a kernel shows begin


def write_webpage(notebook: str | Path) -> Path:
    """Write an executed notebook as a page beside it, under the same name, whole or not at all.

    Its pictures, tables and players stay; formulas stay as they were typed, and of a widget its still.
    """
    file = Path(notebook)
    page = render_notebook(nbformat.read(file, as_version=4), title=file.stem, folder=file.parent)
    return write_whole(page, file.with_suffix(".html"))


def render_notebook(notebook: nbformat.NotebookNode, *, title: str, folder: Path) -> str:
    """Return a notebook as HTML, by nbconvert's template, without its scripts and what they would load.

    Args:
        folder: where pictures lie that its texts name.
    """
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            for kind in [kind for kind in output.get("data", {}) if kind.startswith(WIDGETS)]:
                del output["data"][kind]
    notebook.metadata.pop("widgets", None)
    describe_pictures(notebook)
    html, _ = HTMLExporter(template_name="lab", embed_images=True).from_notebook_node(
        notebook, resources={"metadata": {"name": title, "path": str(folder)}}
    )
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    return HEAD.sub(lambda found: found.group() + policy, SCRIPT.sub("", html), count=1)


def describe_pictures(notebook: nbformat.NotebookNode) -> None:
    """Give each picture an alternative text: what its output says in words, or else the heading that it stands under.

    By its template nbconvert gives it none, and warns of that, which who runs a notebook can do nothing about; of an
    output's HTML it takes what is there.
    """
    heading = "notebook"
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = next(iter(reversed(HEADING.findall(cell.source))), heading)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            kind = next((kind for kind in ("image/png", "image/jpeg") if kind in data), None)
            if kind and "text/html" not in data:
                said = "".join(data.get("text/plain", ""))
                text = f"A figure of: {heading}" if not said or OBJECT.fullmatch(said) else said
                data["text/html"] = _write_picture(kind, data[kind], text, output.metadata.get(kind, {}))


def _write_picture(kind: str, content: str, text: str, known: Mapping[str, Any]) -> str:
    size = "".join(f' {name}="{int(known[name])}"' for name in ("width", "height") if name in known)
    source = escape(f"data:{kind};base64,{''.join(content.split())}")
    return f'<div class="jp-RenderedImage"><img src="{source}" alt="{escape(text)}"{size}></div>'
