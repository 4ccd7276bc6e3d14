"""Weights → verdicts: scores, what they say of a detector, and the report.

Others use what is named below.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["synchrony"],
    submod_attrs={
        "lines": ["explain_untaught", "format_scores", "list_untaught"],
        "score": [
            "score_files",
            "score_split",
            "score_timeline",
            "score_windows",
        ],
        "contents": ["FURTHER", "METRICS", "Report", "name_evaluation", "read_report"],
        "compare": [
            "HEAD",
            "align_scored",
            "compare_runs",
            "describe_differences",
            "describe_seeds",
            "format_comparison",
            "open_others",
            "read_scored",
        ],
        "novelty": ["describe_novelty", "measure_methods"],
        "evaluate": [
            "compare_streams",
            "evaluate_run",
            "learn_evidence",
            "load_run",
            "open_synchrony",
            "read_evidence",
        ],
        "foreign": ["describe_import", "import_scores", "is_detector", "read_import", "refuse_unused", "write_import"],
        "kept": ["read_evaluation", "read_timeline"],
        "evidence": ["Evidence", "describe_evidence", "describe_score", "shift_prior"],
        "export": ["export_run"],
        "explain": ["explain_windows"],
        "judge": ["Judge", "Verdict", "open_judge", "tell_stretches", "warn_of"],
        "verdicts": ["describe_verdict", "draw_verdict", "order_verdicts", "tabulate_verdicts", "write_verdicts"],
        "gallery": ["draw_errors", "find_neighbours", "open_gallery", "show_case"],
        "neighbours": ["embed_videos", "find_nearest"],
        "reference": ["ReferenceSetError", "compare_reference", "format_reference", "gather_reference"],
        "protocols": ["evaluate_datasets"],
        "localization": ["describe_stretches", "list_stretches", "locate_video", "measure_timeline", "trace_scores"],
        "robustness": [
            "describe_sweep",
            "find_worst",
            "format_sweep",
            "open_degraded",
            "read_sweep",
            "sweep_degradations",
            "tabulate_sweep",
        ],
        "slices": ["describe_alarms", "describe_worst", "list_slices", "measure_slices"],
        "summary": ["summarise_split", "pair_methods"],
        "synchrony": ["find_verdicts", "judge_files", "judge_videos"],
        "report": ["find_mistakes", "write_report"],
        "publish": ["publish_evaluation"],
    },
)
