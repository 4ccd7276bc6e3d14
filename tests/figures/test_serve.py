"""A file reaches a browser on this machine in parts, by an address nobody guesses, and nothing else does."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dfmm.figures.serve import LISTEN_SECONDS, FileServer, find_url

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    (tmp_path / "clip.mp4").write_bytes(CONTENT)
    (tmp_path / "other.mp4").write_bytes(b"secret")
    server = FileServer(tmp_path / "clip.mp4")
    yield server
    server.close()


def ask(server: FileServer, part: str | None = None, *, path: str | None = None, method: str = "GET"):
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(server.url).port, timeout=30)
    connection.request(method, path or urlsplit(server.url).path, headers={"Range": part} if part else {})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


@pytest.mark.parametrize(
    ("part", "first", "last"),
    [
        ("bytes=0-", 0, 255_999),
        ("bytes=10-19", 10, 19),
        ("bytes=255990-", 255_990, 255_999),
        ("bytes=-5", 255_995, 255_999),
        ("bytes=255990-999999", 255_990, 255_999),
    ],
)
def test_a_part_is_answered_with_its_bytes(server: FileServer, part: str, first: int, last: int) -> None:
    response, body = ask(server, part)
    assert response.status == 206
    assert response.headers["Content-Range"] == f"bytes {first}-{last}/256000"
    assert response.headers["Content-Type"] == "video/mp4"
    assert body == CONTENT[first : last + 1]


def test_the_whole_is_there_for_who_asks_for_no_part(server: FileServer) -> None:
    for part in (None, "frames=1-2", "bytes=-"):
        response, body = ask(server, part)
        assert (response.status, body) == (200, CONTENT)
    response, body = ask(server, "bytes=5-9", method="HEAD")
    assert (response.status, response.headers["Content-Length"], body) == (206, "5", b"")


@pytest.mark.parametrize("part", ["bytes=256000-", "bytes=9-5", "bytes=-0"])
def test_a_part_that_is_not_there_is_refused(server: FileServer, part: str) -> None:
    response, body = ask(server, part)
    assert (response.status, response.headers["Content-Range"], body) == (416, "bytes */256000", b"")


def test_nothing_but_the_file_is_found(server: FileServer) -> None:
    whole = urlsplit(server.url).path
    others = [whole + "x", whole[:-1], f"{whole}/../other.mp4", f"{whole}?x=1", "/%C3%BC"]
    assert len(server.token) >= 40
    assert server.server.server_address[0] == "127.0.0.1"
    for path in ("/", "/other.mp4", *others):
        assert ask(server, path=path)[0].status == 404
    server.path.unlink()
    assert ask(server)[0].status == 404


def test_once_closed_it_answers_no_more(server: FileServer) -> None:
    server.close()
    with contextlib.suppress(OSError):  # it is refused as soon as nobody listens any more
        assert ask(server)[0].status == 404
    time.sleep(2 * LISTEN_SECONDS)
    with pytest.raises(ConnectionError):
        ask(server)


def test_the_jupyter_server_of_this_kernel_serves_what_is_below_its_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("JPY_PARENT_PID", "7")
    assert find_url(tmp_path / "a.mp4") is None
    (tmp_path / "jpserver-7.json").write_text(json.dumps({"root_dir": str(tmp_path / "root"), "base_url": "/user/me/"}))
    assert find_url(tmp_path / "root" / "da ta" / "50%.mp4") == "/user/me/files/da%20ta/50%25.mp4"
    for outside in ("other/a.mp4", "root/.cache/a.mp4", "root/../a.mp4"):
        assert find_url(os.path.join(tmp_path, outside)) is None


def test_a_process_with_an_open_server_ends(tmp_path: Path) -> None:
    """A kernel that is shut down must not wait for a thread."""
    code = "from dfmm.figures.serve import FileServer; import atexit; s = FileServer('x'); atexit.register(s.close)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
