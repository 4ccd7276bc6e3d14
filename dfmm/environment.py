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
        "git": describe_code(Path(__file__).parent),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "threads": torch.get_num_threads(),
    }


def describe_code(package: Path) -> dict[str, Any] | None:
    """Return the commit of a package's code, and whether it is `dirty`; None outside a repository.

    Dirty is what differs from the commit, and a module that is not in it; a params file of one's own is no code.
    """

    def ask(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=package, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = ask("status", "--porcelain", "--untracked-files=no")
        added = ask("ls-files", "--others", "--exclude-standard", "--", "*.py")  # below the package
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(changed or added)}
    except (OSError, subprocess.CalledProcessError):
        return None
