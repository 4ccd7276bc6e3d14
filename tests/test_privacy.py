"""Nothing leaves the machine unless a setting says so, and nothing is left below the home folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Clip

QUIET = ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "GRADIO_ANALYTICS_ENABLED", "RAY_USAGE_STATS_ENABLED",
         "MLFLOW_DISABLE_TELEMETRY", "WANDB_ERROR_REPORTING")  # fmt: skip

DETECT = """
import sys
from dfmm.extraction.extract import extract_tracks
from dfmm.manifest import read_manifest
from dfmm.settings import validate_settings
data = {"root": sys.argv[1], "cache": sys.argv[2]}
settings = validate_settings({"data": data, "video": {"frames": 4, "size": 32}, "extract": {"workers": 1}})
tracks, failures = extract_tracks(read_manifest(f"{sys.argv[1]}/manifest.csv"), settings, progress=False)
print([track.detector for track in tracks.values()], failures)
"""

# Imported by every Python that is started, workers and kernels included: none may reach beyond this machine.
NO_NETWORK = """
import os, socket

def refuse(place):
    with open(os.environ["DFMM_TEST_SOCKETS"], "a") as file:
        file.write(f"{place}\\n")
    raise OSError(f"no network in this test: {place}")

def is_here(place):
    return not isinstance(place, tuple) or place[0] in ("127.0.0.1", "::1", "localhost", "", "0.0.0.0", "::")

def guard(name):
    real = getattr(socket.socket, name)
    def call(self, *words):
        return real(self, *words) if is_here(words[-1]) else refuse(words[-1])
    setattr(socket.socket, name, call)

for name in ("connect", "connect_ex", "sendto"):
    guard(name)
find = socket.getaddrinfo
def getaddrinfo(host, *words, **options):
    here = host in (None, "", b"", "localhost", "127.0.0.1", "::1", "0.0.0.0", socket.gethostname())
    return find(host, *words, **options) if here else refuse(host)
socket.getaddrinfo = getaddrinfo
"""


def make_environment(tmp_path: Path) -> dict[str, str]:
    """Return an environment with an empty home, in which nothing is said about anybody's reports."""
    (tmp_path / "home").mkdir()
    kept = {name: value for name, value in os.environ.items() if name not in QUIET and not name.startswith("XDG_")}
    here = os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH"))))
    return {**kept, "HOME": str(tmp_path / "home"), "PYTHONPATH": here, "OMP_NUM_THREADS": "1"}


def list_files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def test_a_detection_leaves_nothing_below_a_fresh_home(tmp_path: Path, face_clip: Clip) -> None:
    pytest.importorskip("retinaface")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "face.mp4").write_bytes(face_clip.path.read_bytes())
    (tmp_path / "data" / "manifest.csv").write_text("path,split,label\nface.mp4,train,0\n")
    run = subprocess.run(
        [sys.executable, "-c", DETECT, str(tmp_path / "data"), str(tmp_path / "cache")],
        env=make_environment(tmp_path), cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.stdout.strip() == "['retinaface'] {}", run.stderr
    assert list_files(tmp_path / "home") == []


def test_who_wants_to_report_may(tmp_path: Path) -> None:
    environment = {**make_environment(tmp_path), "ORT_DISABLE_TELEMETRY": "0"}
    ask = f"import dfmm, os; print([os.environ[name] for name in {QUIET!r}])"
    run = subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "['0', '1', 'False', '0', 'true', 'false']"


@pytest.mark.slow
def test_the_demo_needs_no_network(tmp_path: Path) -> None:
    """All its notebooks, as `make demo` runs them, on little data."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(NO_NETWORK)
    environment = make_environment(tmp_path)
    environment["PYTHONPATH"] = os.pathsep.join((str(tmp_path / "site"), environment["PYTHONPATH"]))
    environment["DFMM_TEST_SOCKETS"] = str(tmp_path / "sockets")
    probe = "import urllib.request; urllib.request.urlopen('http://example.org', timeout=1)"
    assert subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True).returncode
    assert (tmp_path / "sockets").read_text() == "example.org\n"  # the test itself works
    (tmp_path / "sockets").unlink()

    project = Path(__file__).parents[1]
    words = ["run", "all", "params/debug.yaml", f"data.root={tmp_path / 'data'}", f"data.cache={tmp_path / 'cache'}"]
    run = subprocess.run(
        [sys.executable, "-m", "dfmm", *words, "--run", str(tmp_path / "run")],
        env=environment, cwd=project, capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert not (tmp_path / "sockets").exists(), (tmp_path / "sockets").read_text()
    assert not [name for name in list_files(tmp_path / "home") if "onnx" in name.lower() or "device" in name.lower()]
