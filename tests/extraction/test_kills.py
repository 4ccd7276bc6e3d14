"""`dfmm extract` as a process: killed anywhere it goes on to the same cache, and every engine makes the same one."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dfmm.settings import Settings, save_settings

from ..conftest import Clip, change

KILLS = 20


def start(params: Path, *overrides: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "dfmm", "extract", str(params), *overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, text=True, env=environment, start_new_session=True, **pipes)


def finish(params: Path, *overrides: str, status: int) -> str:
    process = start(params, *overrides)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == status, said
    return said


def hash_files(folder: Path) -> dict[str, str]:
    """Return a digest of every file below a folder, whatever its name, but locks."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def params(request: pytest.FixtureRequest, tiny: Settings, clip: Clip, tmp_path: Path) -> Path:
    """A params file of 24 good videos, or so many of each split, two broken ones and one that is not there."""
    root = tmp_path / "data"
    shutil.copytree(tiny.data.root, root)
    (root / "zeros.mp4").write_bytes(bytes(5000))
    (root / "half.mp4").write_bytes(clip.path.read_bytes()[:3000])
    table = pd.read_csv(root / "manifest.csv").groupby("split").head(getattr(request, "param", 24))
    names = ["zeros", "half", "none"]
    more = table.iloc[:3].assign(video_id=names, path=[f"{name}.mp4" for name in names])
    pd.concat([table, more]).to_csv(root / "manifest.csv", index=False)
    settings = change(tiny, data={"root": str(root), "cache": str(tmp_path / "cache")}, extract={"workers": 2})
    save_settings(settings, tmp_path / "params.yaml")
    return tmp_path / "params.yaml"


@pytest.mark.parametrize("params", [3], indirect=True)
def test_the_command_extracts_once_names_what_failed_and_lists_it(params: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert "none failed" in finish(params, "data.limit=2", "extract.workers=1", status=0)
    assert len(list(cache.glob("crops/*/*"))) == 6
    said = finish(params, status=1)
    assert "extracting 5 of 12 videos" in said
    assert "100%" in said
    assert re.search(r"file/s|s/file", said)  # whichever reads better at its speed
    before, times = hash_files(cache), {path: path.stat().st_mtime_ns for path in cache.glob("[ct]r*/*/*")}
    assert len(times) == 18
    listed = pd.concat(pd.read_csv(file) for file in (cache / "failures").glob("*.csv"))
    assert list(listed["video_id"]) == ["zeros", "half", "none"]
    assert "cannot be decoded" in listed["reason"].iloc[0]
    assert "no such file" in listed["reason"].iloc[2]
    assert all(f"{name} is left out" in said for name in listed["video_id"])
    finish(params, "extract.workers=1", status=1)
    assert hash_files(cache) == before
    assert {path: path.stat().st_mtime_ns for path in cache.glob("[ct]r*/*/*")} == times


@pytest.mark.slow
def test_twenty_kills_change_nothing(params: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "cache"
    finish(params, f"data.cache={whole}", status=1)
    total, rng, partials = len(list(whole.glob("[ct]r*/*/*.safetensors"))), np.random.default_rng(0), 0
    for number, wanted in enumerate(np.linspace(0, total - 2, KILLS).astype(int)):
        process = start(params)
        while len(list(broken.glob("[ct]r*/*/*.safetensors"))) < wanted and process.poll() is None:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.3 if wanted else 3))  # anywhere within a file, or before the first
        if number % 4 == 3:
            process.terminate()
        else:
            os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate(timeout=60)
        assert process.returncode in (143, -signal.SIGKILL, -signal.SIGTERM), said  # the last before it was all there
        partials += len(list(broken.glob("*/*/.*partial*")))
    assert partials > 0, "not one kill met a file that was being written"
    finish(params, status=1)
    assert hash_files(broken) == hash_files(whole)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ray", "dask"])
def test_every_engine_makes_the_same_cache(engine: str, params: Path, tmp_path: Path) -> None:
    pytest.importorskip({"dask": "distributed"}.get(engine, engine))
    for name in ("local", engine):
        finish(params, f"extract.engine={name}", f"data.cache={tmp_path / name}", status=1)
    assert hash_files(tmp_path / "local") == hash_files(tmp_path / engine)
    assert len(hash_files(tmp_path / engine)) > 48
