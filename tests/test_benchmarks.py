"""The benchmarks: each says how it is called, and none has the name of a package that something imports."""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = [script for script in sorted(FOLDER.glob("*.py")) if "def main(" in script.read_text()]
# Imported where they are found, and often not installed: a script's folder comes first, so that ours would be taken.
OPTIONAL = {"coverage"}  # by numba, and so by librosa
NEEDS = {"voices": ("pyworld", "hibari")}  # what a benchmark says to install for itself


def test_no_benchmark_hides_a_package() -> None:
    taken = OPTIONAL | set(sys.stdlib_module_names)
    assert not [path.name for path in FOLDER.glob("*.py") if path.stem in taken or PathFinder.find_spec(path.stem)]


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_each_benchmark_says_how_it_is_called(script: Path) -> None:
    for name in NEEDS.get(script.stem, ()):
        pytest.importorskip(name)
    done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, timeout=120)
    assert not done.returncode, done.stderr
    assert f"python benchmarks/{script.name}" in done.stdout
