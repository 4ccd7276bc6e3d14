"""What a result was made with: the code, its versions, the machine."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("dfmm", "torch", "torchaudio", "timm", "accelerate", "av", "opencv-python", "numpy", "pandas")


def describe_environment() -> dict[str, Any]:
    """Return what a result may depend on besides settings and data: code, versions, machine, threads."""
    import torch

    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "git": _describe_git(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "threads": torch.get_num_threads(),
    }


def _describe_git() -> dict[str, Any] | None:
    """Return the commit of the code, and whether files differ from it; None outside a repository."""

    def ask(*words: str) -> str:
        here = Path(__file__).parent
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None
