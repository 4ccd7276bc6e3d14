"""What a report holds: `report.json` is written from it, and validates against it when it is read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, with_config
from typing_extensions import TypedDict

from dfmm.evaluation.evidence import Evidence
from dfmm.metrics import Calibration, Costs, Difference, Interval
from dfmm.runs import RunError

VERSION = 1  # of what is written; 0 stands for those of before there was one

METRICS = {
    "auc": "AUC",
    "ap": "Average precision",
    "eer": "Equal error rate",
    "balanced_accuracy": "Balanced accuracy",
    "recall": "Recall",
    "precision": "Precision",
}
FURTHER = {
    "f1": "F1",
    "accuracy": "Accuracy",
    "fpr_at_95_tpr": "False-positive rate at 95 % recall",
    "tpr_at_10_fpr": "Recall at a false-positive rate of 10 %",
    "tpr_at_1_fpr": "Recall at a false-positive rate of 1 %",
    "tpr_at_0.1_fpr": "Recall at a false-positive rate of 0.1 %",
    "log_loss": "Log-loss",
    "brier": "Brier score",
    "ece": "Expected calibration error",
    "cllr": "Cllr",
    "min_cllr": "min Cllr",
    "act_dcf": "actDCF",
    "min_dcf": "minDCF",
}

RIVALS = {
    "trivia": "Trivial features",
    "synchrony": "Correlation of mouth and loudness",
    "ridge": "Mouth and speech",
}

STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Part(BaseModel):
    """A part of a report: a name that is none of its own is refused, and nothing changes once it is made."""

    model_config = STRICT


@with_config(STRICT)
class Rival(Interval, total=False):
    """The AUC of what a detector must beat, or of a piece of its score, and how far it is ahead on the same videos."""

    difference: Difference


class Confusion(TypedDict):
    tn: int
    fp: int
    fn: int
    tp: int


# Every metric by its name, as `compute_metrics` returns them; a report of before lacks what came later.
Metrics = with_config(STRICT)(
    TypedDict(
        "Metrics",
        {**dict.fromkeys(METRICS | FURTHER, Interval), "confusion": Confusion, "n": int, "n_fake": int},
        total=False,
    )
)


class Checkpoint(Part):
    """The model that was evaluated, and what its training measured on validation."""

    model_config = STRICT | {"extra": "allow"}
    file: str
    sha256: str = Field(description="its beginning")
    epoch: int | None = None


class Threshold(Part):
    """From which score on a video, and a window, is called fake."""

    value: float
    rule: str
    chosen_on: str = Field(description="split")
    window: float | None = None
    doubts: list[str] = []


class Faces(Part):
    """Of the scored videos: share of frames with the followed face, and in how many videos it was hard to follow."""

    followed: float
    several: int
    cut: int
    lost: int


class Code(Part):
    """The commit of the code, and whether files differed from it."""

    commit: str
    dirty: bool


class Origin(Part):
    """What a result came from besides model and data."""

    trained: str | None = Field(description="when, UTC")
    seed: int
    git: Code | None
    python: str
    platform: str
    device: str
    threads: int
    versions: dict[str, str | None]
    settings: dict[str, Any] = Field(description="those that differ from the defaults")


class Foreign(Part):
    """A table of somebody's scores, and what they were taken to mean."""

    table: str = Field(description="the file's name")
    sha256: str
    level: str = Field(description="what has a row: video, frame or window")
    rows: int
    polarity: str = Field(description="fake_high or real_high")
    known: str = Field(description="how the polarity is")
    probabilities: bool = Field(description="are all scores between 0 and 1?")
    rivals: bool = False
    reals: int = Field(0, description="of validation, that calibrated the scores; 0 where nobody did")
    fakes: int = 0


class Coverage(Part):
    """How many videos have a score, from which streams, and why the others have none."""

    scored: int
    unscored: int
    failed: int
    share: float
    streams: dict[str, int] = {}
    without_face: int = 0
    without_sound: int = 0
    faces: Faces | None = None
    reasons: dict[str, str] = Field(default={}, description="by video")


class OneLabel(Part):
    """What is left to tell where all scored videos are fakes, or all reals."""

    why: str
    name: str
    rate: Interval


class Method(Part):
    """One method's fakes against all reals."""

    videos: int
    auc: Interval
    streams: dict[str, Interval] = {}
    pieces: dict[str, Interval] = {}
    trivia: Rival | None = None
    synchrony: Rival | None = None
    ridge: Rival | None = None


class Novelty(Part):
    """All fakes of the methods that training saw, or of those that it did not, against all reals."""

    methods: list[str] = []
    videos: int = 0
    auc: Interval | None = None


class Source(Part):
    """One source that holds both labels."""

    videos: int
    auc: Interval


class Slice(Part):
    """What a detector does in some of the videos; `small` are the numbers that too few videos say."""

    slice: str
    n: int
    n_fake: int
    auc: Interval
    fpr: Interval
    fnr: Interval
    against_all: bool
    small: list[str]


class Alarms(Part):
    """The groups of most and of fewest false alarms."""

    most: str
    fewest: str
    difference: Interval
    sure: bool


class Column(Part):
    """The slices by one column."""

    false_alarms: Alarms | None
    slices: list[Slice]


class Worst(Part):
    """The comparison of a slice with all other videos that stands out most."""

    column: str
    slice: str
    measure: str
    value: float
    rest: float
    difference: Interval
    sure: bool


class Slices(Part):
    """Where a detector fails."""

    threshold: float
    comparisons: int
    worst: Worst | None
    columns: dict[str, Column]


class Stretches(Part):
    """How well the stretches that were found fit the true ones; `official` is as published evaluators count."""

    videos: int
    segments: int
    found: int
    whole: int
    ap: dict[str, Interval] = Field(description="by IoU")
    ar: dict[str, Interval] = Field(description="by the number of proposals")
    official: dict[str, dict[str, float | None]]


class Localization(Part):
    """Where in a clip it is forged, by the stream that was asked; `partly` without what is forged all through."""

    stride: float
    streams: dict[str, Stretches]
    partly: dict[str, Stretches]


class Report(Part):
    """All that an evaluation says. What has a default may be missing in a report of before, or for want of videos."""

    version: int = 0
    run: str
    origin: Origin | None = None
    foreign: Foreign | None = Field(None, description="where scores were imported; there is no model then")
    data_fingerprint: str
    checkpoint: Checkpoint
    dataset: str
    split: str
    manifest: str | None = Field(None, description="of another dataset than the run's own")
    root: str | None = None
    prior: float = Field(description="share of fakes that scores assume")
    threshold: Threshold
    evidence: Evidence | None = None
    aggregation: str
    cures: list[str] = []
    untaught: list[str] = Field([], description="streams whose head never saw both kinds of its label: no score")
    synchrony: dict[str, Any] | None = Field(None, description="facts of what was asked about mouth and sound")
    videos: int
    replicates: int = 1000
    costs: Costs | None = None
    synthetic: bool
    coverage: Coverage
    one_label: OneLabel | None = None
    video: Metrics
    window: Metrics
    macro_auc: Interval | None = None
    rivals: dict[str, Rival] = {}
    pieces: dict[str, Rival] = {}
    seen: Novelty = Novelty()
    unseen: Novelty = Novelty()
    trained_methods: list[str] = []  # of all fakes in training, be they here or not; empty where nobody knows
    methods: dict[str, Method]
    sources: dict[str, Source] = {}
    calibration: dict[str, Calibration] | None = None
    slices: Slices | None = None
    localization: Localization | None = None

    @property
    def name(self) -> str:
        """The name of the evaluation's folder."""
        return name_evaluation(self.dataset, self.split)


def name_evaluation(dataset: str, split: str) -> str:
    """Return the evaluation's folder name; what a manifest says of its dataset cannot leave the run."""
    return re.sub(r"[^A-Za-z0-9._-]+|^\.+", "_", f"{dataset}-{split}")


def read_report(file: Path) -> Report:
    """Read a `report.json`; one of before has None, or nothing, where it knew of no such thing.

    Raises:
        RunError: it was written by a later dfmm, or is no report.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        version = values.get("version", 0)
        if version > VERSION:
            raise RunError(f"{file} is a report of version {version}, and this dfmm reads up to {VERSION}: update dfmm")
        return Report.model_validate(values)
    except (ValueError, TypeError, AttributeError) as error:
        raise RunError(f"{file} is no report that this dfmm can read; run dfmm evaluate once more: {error}") from None
