"""What is kept → batches: windows of T frames and exactly their sound, placed, forged, degraded and stacked.

Others use what is named below; in which order windows come is this room's own.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "manifests": ["check_manifest", "find_taught", "load_manifest", "open_manifest"],
        "dataset": ["UNKNOWN", "MultimodalDataset"],
        "loaders": [
            "collate_windows",
            "make_dense_loader",
            "make_evaluation_loader",
            "make_training_loader",
            "make_window_loader",
        ],
        "spectrogram": ["compute_log_mel", "place_hertz"],
        "reading": ["read_takes"],
        "skimming": ["skim_videos", "tabulate_files", "track_files"],
        "windows": ["LABELLING", "label_part", "measure_overlap", "place_window"],
    },
)
