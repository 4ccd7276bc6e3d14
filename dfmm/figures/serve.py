"""One file of this machine for the browser on it: by HTTP, in the parts that a player asks for."""

from __future__ import annotations

import json
import mimetypes
import os
import re
import secrets
import threading
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from jupyter_core.paths import jupyter_runtime_dir

PIECE = 1 << 16  # bytes that are read and sent at a time
LISTEN_SECONDS = 0.5  # between two looks at whether it is over
RANGE = re.compile(r"bytes=(?:(\d+)-(\d*)|-(\d+))")


class FileServer:
    """Serves one file to this machine alone, at an address that nobody can guess, until it is closed.

    It is bound to 127.0.0.1, and whatever is asked for but the address with its random token is not found. A file is
    never read whole: a player asks for ranges (RFC 9110, section 14).
    """

    def __init__(self, path: str | Path):
        self.path, self.token, self.closed = Path(path), secrets.token_urlsafe(32), threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.server.file, self.server.timeout = self, LISTEN_SECONDS
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{self.token}"

    def close(self) -> None:
        """Answer nothing any more; nobody waits for that, for a kernel that ends has no threads left."""
        self.closed.set()

    def _listen(self) -> None:
        with self.server:
            while not self.closed.is_set():
                self.server.handle_request()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "dfmm", ""

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        file = self.server.file
        if file.closed.is_set() or not secrets.compare_digest(self.path.encode(), f"/{file.token}".encode()):
            return self._refuse(HTTPStatus.NOT_FOUND)
        try:
            opened = file.path.open("rb")
        except OSError:
            return self._refuse(HTTPStatus.NOT_FOUND)
        with opened as source:
            size = os.fstat(source.fileno()).st_size
            asked = RANGE.fullmatch(self.headers.get("Range", ""))  # what is not understood asks for all of it
            first, last = find_part(asked, size) if asked else (0, size)
            if asked and first >= last:
                return self._refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, {"Content-Range": f"bytes */{size}"})
            self.send_response(HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK)
            if asked:
                self.send_header("Content-Range", f"bytes {first}-{last - 1}/{size}")
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Type", mimetypes.guess_type(file.path.name)[0] or "application/octet-stream")
            self.send_header("Content-Length", str(last - first))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            with suppress(ConnectionError):  # a player that leaps elsewhere hangs up
                _send(source, self.wfile, first, last if body else first)

    def _refuse(self, status: HTTPStatus, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing: a notebook's output is no place for a server's log."""


def find_part(asked: re.Match[str], size: int) -> tuple[int, int]:
    """Return the first byte of what a `Range` asks for and the one after the last; none between them, if none is."""
    low, high, ending = asked.groups()
    if ending:
        return max(size - int(ending), 0), size
    return int(low), min(int(high) + 1, size) if high else size


def _send(source: BinaryIO, target: BinaryIO, first: int, last: int) -> None:
    source.seek(first)
    while first < last and (piece := source.read(min(PIECE, last - first))):
        target.write(piece)
        first += len(piece)


def find_url(path: str | Path, *, service: str = "files") -> str | None:
    """Return where the Jupyter server that started this kernel serves a file, by ranges; None if it does not.

    It serves what lies below its root and is not hidden, to whoever is logged in there.

    Args:
        service: `api/contents` is where a file is written.
    """
    record = Path(jupyter_runtime_dir()) / f"jpserver-{os.environ.get('JPY_PARENT_PID', '')}.json"
    try:
        server = json.loads(record.read_text(encoding="utf-8"))
        below = Path(os.path.abspath(path)).relative_to(os.path.abspath(server["root_dir"]))
    except (OSError, ValueError, KeyError):
        return None
    hidden = any(part.startswith(".") for part in below.parts)
    return None if hidden else f"{server['base_url']}{service}/{quote(below.as_posix())}"
