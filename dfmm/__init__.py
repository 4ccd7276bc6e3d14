"""dfmm: a research workbench for multimodal deepfake detection; the names a notebook needs."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "dfmm.settings": ("load_settings", "resolve_path"),
    "dfmm.manifest": ("read_manifest", "summarise_manifest"),
    "dfmm.runs": ("open_run",),
    "dfmm.data.dataset": ("MultimodalDataset", "collate_windows"),
    "dfmm.data.layouts": ("build_manifest",),
    "dfmm.data.sample": ("make_sample",),
    "dfmm.data.split": ("split_by_identity",),
    "dfmm.model": ("MultimodalModel", "load_model"),
    "dfmm.trainer": ("Trainer",),
    "dfmm.evaluation": ("evaluate_run", "score_files"),
}
__all__ = [name for names in _HOMES.values() for name in names]


def __getattr__(name: str) -> Any:
    # Imported on first use: `dfmm --help` and the workers that only decode need no PyTorch.
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'dfmm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
