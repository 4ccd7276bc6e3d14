"""dfmm: a research workbench for multimodal deepfake detection; the names a notebook needs.

Imported on first use: `dfmm --help` and the workers that only decode need no PyTorch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["audit", "dataset", "degrade", "evaluation", "extraction", "figures", "forge", "model", "training"],
    submod_attrs={
        "settings": ["load_settings", "resolve_path"],
        "manifest": ["read_manifest", "summarise_manifest"],
        "runs": ["open_run"],
        "dataset": ["MultimodalDataset", "collate_windows", "load_manifest"],
        "layouts": ["build_manifest", "split_by_identity"],
        "sample": ["make_sample"],
        "model": ["MultimodalModel", "load_model"],
        "training": ["Trainer"],
        "evaluation": ["evaluate_run", "score_files"],
    },
)
