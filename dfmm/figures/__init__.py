"""Numbers and clips → pictures and players.

Every function returns a closed `Figure`: as a cell's last value it is shown once, and `figure.savefig` writes it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "scores": [
            "plot_confusion",
            "plot_det",
            "plot_methods",
            "plot_precision_recall",
            "plot_roc",
            "plot_scores",
            "select_scored",
        ],
        "evidence": ["plot_evidence", "plot_reliability", "plot_synchrony"],
        "clips": ["plot_counts", "plot_log_mels", "plot_stretches", "plot_timeline", "select_windows", "show_frames"],
        "explain": ["plot_heard", "plot_looked", "plot_nearest", "plot_slices"],
        "live": ["plot_progress", "watch_training"],
        "sliders": ["try_thresholds"],
        "training": ["plot_curves", "plot_overfit", "plot_stages"],
        "audit": ["plot_audit"],
        "degrade": [
            "STRENGTHS",
            "degrade_scene",
            "format_amount",
            "measure_pictures",
            "measure_sounds",
            "plot_pictures",
            "plot_sounds",
            "plot_times",
        ],
        "robustness": ["plot_degraded", "plot_robustness"],
        "compare": [
            "name_runs",
            "plot_dets",
            "plot_differences",
            "plot_metrics",
            "plot_novelty",
            "plot_rocs",
            "plot_seeds",
        ],
        "forge": ["forge_reals", "plot_forged_pictures", "plot_forged_sounds", "plot_forged_steps"],
        "style": ["STREAMS"],
        "words": [
            "describe_data",
            "format_difference",
            "format_interval",
            "format_number",
            "format_share",
            "tell_amount",
        ],
        "widgets": ["play_labelled", "play_sound", "play_video"],
        "inspector": ["inspect_clip"],
        "table": ["browse_clips"],
        "footage": ["read_thumbnail"],
        "frame": ["draw_still"],
        "form": ["edit_settings"],
        "annotations": ["append_annotation", "read_annotations"],
    },
)
