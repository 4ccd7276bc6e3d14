"""Numbers from scores: metrics, curves, thresholds and differences, with intervals that stay honest for small samples.

Label 1 = fake (the positive class), 0 = real. A score is the probability that the video is fake, and a video is
predicted fake where score >= threshold. Ranking metrics, curves and thresholds take any finite score.

Others use what is named below.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "people": ["MetricError"],
        "ranking": ["compute_det", "compute_eer", "compute_precision_recall", "compute_roc"],
        "decisions": ["choose_threshold"],
        "intervals": ["Interval"],
        "costs": [
            *("BINS", "RATIO_DIGITS", "TELLING", "Calibration", "Costs", "bound_ratios", "is_telling"),
            *("measure_calibration", "move_scores"),
        ],
        "localization": ["AP_IOUS", "COUNTS", "compute_localization", "measure_iou", "measure_localization"],
        "compare": ["SURE", "Difference", "compare_aucs", "compare_metrics", "compute_drop"],
        "compute": [
            *("compute_accuracy", "compute_auc", "compute_error", "compute_macro_auc", "compute_metrics"),
            "compute_roc_band",
        ],
    },
)
