"""Batch → logits: `MultimodalModel`, or a detector that is not ours, and its file; and a clip's synchrony.

Others use what is named below.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["aggregation", "detector", "export", "regression", "synchrony", "zoo"],
    submod_attrs={
        "multimodal": [
            "ModelFileError",
            "MultimodalModel",
            "PluginModel",
            "count_flops",
            "find_device",
            "load_model",
            "make_model",
            "move_batch",
            "predict",
            "read_header",
            "save_model",
            "withhold_streams",
        ],
        "backbone": ["evaluation_mode"],
        "detector": ["DetectorError"],
        "pretrained": ["BackboneError"],
    },
)
