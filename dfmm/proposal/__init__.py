"""From a folder of videos to a first run: what is too little of them, settings to begin with, the time they take."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "folder": ["count_splits", "list_shortfalls", "look_at_files", "make_folder", "open_folder"],
        "choices": [
            "build_settings",
            "check_target",
            "format_proposal",
            "propose_settings",
            "tell_next",
            "write_proposal",
        ],
        "times": ["estimate_times", "format_times"],
    },
)
