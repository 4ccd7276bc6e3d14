"""dfmm: a research workbench for multimodal deepfake detection; the names a notebook needs.

Imported on first use: `dfmm --help` and the workers that only decode need no PyTorch.
"""

import os

import lazy_loader

# What packages report about this machine to others unless they are told not to, before they are imported. Whoever
# wants it sets the variable; processes that are started here inherit them.
for _name, _value in {
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime: a device id and a database of events below the home folder
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface-hub, and all that goes through it
    "GRADIO_ANALYTICS_ENABLED": "False",  # gradio, which some versions of trackio show their pages with
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",  # its crashes, besides the metrics that it is asked to keep
}.items():
    os.environ.setdefault(_name, _value)

# A thread that waits for the others of a parallel loop sleeps soon, and does not count to 300,000 on a core that they
# may need: alone that costs nothing, beside other work it saves much of the time (benchmarks/threads.py). GNU's OpenMP,
# which PyTorch has on Linux, reads it as it is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        *("audit", "dataset", "degrade", "evaluation", "extraction", "figures"),
        *("forge", "model", "proposal", "training"),
    ],
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
