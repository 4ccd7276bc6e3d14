"""Who judges new files: a run's model, or synchrony alone; what it says of each, and how far its word goes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from dfmm.evaluation.evidence import SENSES, Evidence, Sense, describe_score, doubt_threshold, shift_prior
from dfmm.evaluation.lines import explain_untaught, format_scores, list_untaught
from dfmm.evaluation.localization import describe_stretches
from dfmm.evaluation.synchrony import (
    UNJUDGED,
    explain_fit,
    format_looked,
    format_synchrony,
    judge_files,
    tell_fit,
    tell_genuine,
    tell_least,
    tells_fit,
)
from dfmm.files import hash_file
from dfmm.model.synchrony import Synchrony, SynchronyModel, load_synchrony
from dfmm.runs import Run, RunError, find_run
from dfmm.settings import Settings, validate_settings

if TYPE_CHECKING:  # PyTorch is imported with the first model: synchrony alone can do without
    from dfmm.model import MultimodalModel

DRAWN = "This model has seen drawn faces alone: what it says of real clips means nothing."
UNLEARNT = "the network's own scores; dfmm evaluate lets a run learn how to join evidence"
# What no verdict tells, whoever gives it.
LIMITS = (
    "No score is proof, and nobody should be accused on the ground of one.",
    "A clip that is genuine in a false context is genuine here, and a forgery in step with its sound shows none in "
    "synchrony.",
)
OF_A_MODEL = (
    "Other cameras, codecs, languages and methods of forgery than those of training and validation have error rates of "
    "their own, which nobody has measured here: genuine clips of the same kind, as dfmm score --reference takes them, "
    "say how a score is to be read.",
    "What is not the followed face and the sound, such as background, hands and text, is not looked at.",
)


@dataclass(frozen=True)
class Verdict:
    """What is said of one file, and what a page draws of it."""

    line: dict[str, Any]  # as `score_files` or `judge_files` yields it
    still: bytes | None = None  # a frame with the face, a JPEG
    curves: pd.DataFrame | None = None  # scores over time, as from `trace_scores`
    heard: Synchrony | None = None
    size: int | None = None  # bytes
    sha256: str = ""

    @property
    def path(self) -> str:
        return self.line["path"]

    @property
    def title(self) -> str:
        """The verdict in a few words."""
        line = self.line
        if line["status"] != "ok":
            return "Not judged"
        if "score" in line:
            return f"Called {line['called']}" if line["called"] else "Not called"
        return tell_fit(line["synchrony"]["in_step"])

    @property
    def kind(self) -> str:
        """`suspicious`, `plain`, or `none` where nothing is called."""
        called = self.line.get("called")
        in_step = (self.line.get("synchrony") or {}).get("in_step") if "score" not in self.line else None
        if called is None and (in_step is None or not tells_fit(in_step)):
            return "none"
        return "suspicious" if called == "fake" or (in_step is not None and in_step < 0.5) else "plain"


@dataclass(frozen=True)
class Judge:
    """A model, how what its senses say is joined, and where it comes from; or synchrony alone."""

    settings: Settings
    synchrony: SynchronyModel | None
    model: MultimodalModel | None = None
    evidence: Evidence | None = None
    checkpoint: Path | None = None
    run: Run | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)  # saved beside the model
    stride: float | None = None  # seconds from window to window over time, where the settings have none
    whole: bool = False  # are long files decoded as a whole?

    def judge(self, files: Iterable[str | Path], *, details: bool = False, progress: bool = True) -> Iterator[Verdict]:
        """Judge files one by one; a bad one costs only itself.

        Args:
            details: what a page draws is wanted as well.
        """
        if self.model is None:
            lines = judge_files(files, self.synchrony, self.settings, details=details, whole=self.whole)
        else:
            from dfmm.evaluation.score import score_files

            options = {"evidence": self.evidence, "synchrony": self.synchrony, "stride": self.stride}
            options |= {"whole": self.whole, "details": details, "progress": progress}
            lines = score_files(files, self.model, self.settings, **options)
        for line in lines:
            drawn = {name: line.pop(name, None) for name in ("still", "curves", "heard")}
            yield Verdict(line, **drawn, **(_identify(Path(line["path"])) if details else {}))

    @property
    def untaught(self) -> list[str]:
        """The streams of which the model says nothing."""
        return list_untaught(self.model, self.synchrony) if self.model else []

    @property
    def warning(self) -> str:
        """What is to be read before any of its verdicts; empty where nothing is."""
        return UNJUDGED if self.model is None else DRAWN if self.facts.get("synthetic") else ""

    def format(self, line: Mapping[str, Any]) -> str:
        """Return a file's line for people."""
        return format_scores(line) if self.model else format_synchrony(line)

    def introduce(self) -> list[str]:
        """Say what its scores are, and what it has never seen."""
        if self.model is None:
            return []
        return [f"A score is {describe_score(self.evidence)}.", *([DRAWN] if self.facts.get("synthetic") else [])]

    def list_cautions(self) -> list[str]:
        """Return what is to be said beside each of its verdicts, as sentences."""
        if self.model is None:
            return [UNJUDGED, *LIMITS]
        said = [DRAWN] if self.facts.get("synthetic") else []
        said += [f"A score is {describe_score(self.evidence)}. Where forgeries are rarer, scores are too high."]
        said += [f"Threshold: {doubt}." for doubt in (doubt_threshold(self.evidence) if self.evidence else [])]
        said += [write_sentence(explain_untaught(self.untaught))] if self.untaught else []
        if self.settings.model.streams != "both":
            said.append(f"This model was made for {self.settings.model.streams} alone: the other stream is not judged.")
        return [*said, *OF_A_MODEL, *LIMITS]

    # In words, of one file

    def explain(self, line: Mapping[str, Any]) -> str:
        """Say how sure a verdict is, and from when on it would be another; where there is none, why."""
        if line["status"] != "ok":
            return write_sentence(line["reason"])
        if self.model is None:
            return f"{UNJUDGED} {write_sentence(explain_fit(line))}"
        if not line["called"]:
            return f"Score {line['score']:.3f}: {describe_score(self.evidence)}."
        said = f"Score {line['score']:.3f}, called fake from {line['threshold']:.3f} on"
        if self.evidence and self.evidence.pieces:
            said += f"; {describe_score(self.evidence)}"
        return (
            f"{said}. Judged from {'picture and sound' if line['streams'] == 'both' else line['streams'] + ' alone'}."
        )

    def list_senses(self, line: Mapping[str, Any]) -> list[dict[str, str]]:
        """Return a row a sense: its `name`, the `value` it measured, what that `says`, and how this is `known`.

        Empty where the file is not judged.
        """
        if line["status"] != "ok":
            return []
        if self.model is None:
            return _list_compared(line["synchrony"])
        return [
            {
                "name": name,
                "value": _tell_value(name, line),
                "says": line["evidence"].get(name, "not counted in the score"),
                "known": self._tell_known(name, sense),
            }
            for name, sense in SENSES.items()
        ]

    def _tell_known(self, name: str, sense: Sense) -> str:
        """Say what taught a sense what its values mean."""
        if sense.label in self.untaught:
            return explain_untaught([sense.label])
        if self.evidence is None:
            return "not calibrated"
        piece = self.evidence.pieces.get(name)
        if piece is None:
            return "found nothing on validation, or is off"
        if not piece.forged:
            return "calibrated on other clips, and not checked here: validation has no forgery of its kind"
        weighs = "" if piece.weight > 0 else "; weighs nothing beside the others"
        return f"calibrated on {self.evidence.teachers}: {piece.forged} forged, {piece.genuine} genuine{weighs}"

    def list_facts(self) -> dict[str, Any]:
        """Return what a page says of the model: run, checkpoint, training, data, prior, threshold."""
        if self.model is None:
            return {
                "Model": "none: synchrony alone",
                **{f"Synchrony, {k}": v for k, v in _tell(self.synchrony).items()},
            }
        record = self.run.read() if self.run else {}
        known = {
            "Run": self.run.name if self.run else "",
            "Checkpoint": self.checkpoint.name if self.checkpoint else "",
            "Its SHA-256": hash_file(self.checkpoint) if self.checkpoint and self.checkpoint.is_file() else "",
            "Trained": record.get("stages", {}).get("train", {}).get("ended"),
            "Trained by code": (record.get("git") or {}).get("commit", "")[:12],
            "Training data": record.get("data_fingerprint"),
            "Epoch": self.facts.get("epoch"),
            "Prior": self.evidence.prior if self.evidence else self.facts.get("prior"),
            "Threshold": self.evidence.threshold if self.evidence else None,
            "Rule": f"{self.evidence.rule}, on validation" if self.evidence else "",
            "Evidence learnt from": self.evidence.learnt_on if self.evidence else "",
        }
        return known | {f"Synchrony, {name}": value for name, value in _tell(self.synchrony).items()}


def open_judge(
    run: str | Path | Run | None = None,
    *,
    model: str | Path | None = None,
    face: str | None = None,
    dense: bool = False,
    whole: bool = False,
) -> Judge:
    """Return who judges files: a run's best model, one from a file, or with neither of them synchrony alone.

    Args:
        face: whom to judge, as `video.face`; by default whom the model was trained on.
        dense: score windows over time also where `evaluate.stride` is not set, each half over the one before; of long
            files only where they are decoded as a whole.
        whole: decode long files as a whole, not around their windows alone.

    Raises:
        RunError: there is no such run, or it has no model.
    """
    if run is None and model is None:
        settings = validate_settings({"video": {"face": face or "largest"}})
        return Judge(settings, load_synchrony(), whole=whole)
    found = None if model else find_run(run.path if isinstance(run, Run) else run)
    checkpoint = Path(model) if model else found.checkpoint
    if found:
        found.refuse_imported()
    if found and not checkpoint.is_file():
        raise RunError(f"{found.name} has no trained model yet; run 03_train for it first (dfmm run 03_train …)")
    from dfmm.evaluation.evaluate import load_run, open_synchrony, read_evidence
    from dfmm.model import find_device, load_model

    net, settings, facts = load_run(found) if found else load_model(checkpoint)
    net.to(find_device())
    if face:
        settings = settings.model_copy(update={"video": settings.video.model_copy(update={"face": face})})
    stride = settings.window_seconds / 2 if dense and settings.video.fps != "spread" else None
    learnt = read_evidence(facts)
    evidence = shift_prior(learnt, settings.evaluate.prior) if learnt else None
    told = {"checkpoint": checkpoint, "run": found, "facts": facts, "stride": stride, "whole": whole}
    return Judge(settings, open_synchrony(checkpoint, settings), net, evidence, **told)


def warn_of(judge: Judge) -> None:
    """Say on the error stream what a reader of lines alone would miss."""
    said = [UNLEARNT] if judge.model and judge.evidence is None else []
    said += [explain_untaught(judge.untaught)] if judge.untaught else []
    print(*(f"dfmm: {text}" for text in said), sep="\n", end="\n" * bool(said), file=sys.stderr)


def _identify(file: Path) -> dict[str, Any]:
    """Return a file's `size` and `sha256`; nothing where it cannot be read."""
    try:
        return {"size": file.stat().st_size, "sha256": hash_file(file)}
    except OSError:
        return {}


def tell_looked(line: Mapping[str, Any]) -> str:
    """Return what was looked at of a long file, and how all of it would be, as a sentence; empty where all was."""
    looked = format_looked(line)
    return f"{write_sentence(looked)} dfmm score --whole looks at all of it." if looked else ""


def write_sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}." if text else ""


def tell_stretches(line: Mapping[str, Any]) -> list[str]:
    """Return where a file is found to be forged, a sentence for each stream that has such a stretch."""
    return [f"Over time, {name}: {times}." for name, times in describe_stretches(line.get("stretches", ())).items()]


def _tell(synchrony: SynchronyModel | None) -> dict[str, Any]:
    """Return those facts of a synchrony model that are single values."""
    facts = synchrony.facts if synchrony else {}
    return {name.replace("_", " "): value for name, value in facts.items() if isinstance(value, (str, int, float))}


def _tell_value(name: str, line: Mapping[str, Any]) -> str:
    """Return what a sense measured of a file."""
    heard = line.get("synchrony") or {}
    if name == "lag":
        return tell_lag(heard.get("lag_ms"))
    columns = {"picture": "video_fake", "voice": "audio_fake", "synchrony": "in_sync"}
    if name not in columns:
        return "–"
    value, word = line[columns[name]], "in step" if name == "synchrony" else "forged, uncalibrated"
    return "–" if value is None else f"{value:.2f} {word}"


def tell_lag(lag_ms: float | None) -> str:
    """Return `80 ms late`: the sound against the mouth."""
    if lag_ms is None:
        return "–"
    return f"{abs(lag_ms):.0f} ms {'late' if lag_ms >= 0 else 'early'}"


def _list_compared(found: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the rows of `list_senses` where synchrony is all there is."""
    known = f"calibrated on genuine clips and on clips with another's voice; {tell_least(found)}"
    in_step, foreign = found["in_step"], f"{found['foreign']:.0%} of other people's speech fits as well"
    genuine = "" if found["genuine"] is None else f"; {tell_genuine(found)}"
    sure = f"confidence {found['confidence']:.2f}"
    return [
        {
            "name": "synchrony",
            "value": "–" if in_step is None else f"{in_step:.2f} in step",
            "says": foreign + genuine,
            "known": "not calibrated" if in_step is None else known,
        },
        {"name": "lag", "value": tell_lag(found["lag_ms"]), "says": sure, "known": "not calibrated"},
    ]
