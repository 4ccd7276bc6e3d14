"""A run and a split → the report and the tables of scores, written into the run's folder."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.utils.data import DataLoader

from dfmm.bars import show_progress
from dfmm.dataset import find_taught, make_evaluation_loader, open_manifest
from dfmm.environment import describe_environment
from dfmm.evaluation.calibration import compare_calibration
from dfmm.evaluation.contents import VERSION, Report, Threshold, name_evaluation, read_report
from dfmm.evaluation.evidence import (
    SENSES,
    Evidence,
    apply_evidence,
    choose_window_threshold,
    doubt_threshold,
    fit_evidence,
    shift_prior,
)
from dfmm.evaluation.foreign import evaluate_scores
from dfmm.evaluation.kept import write_evaluation
from dfmm.evaluation.lines import list_untaught
from dfmm.evaluation.localization import measure_timeline
from dfmm.evaluation.rivals import add_rivals
from dfmm.evaluation.score import (
    add_synchrony,
    find_broken,
    score_split,
    score_timeline,
    tabulate_batch,
)
from dfmm.evaluation.slices import choose_slices, slice_errors
from dfmm.evaluation.summary import UNNAMED, choose_costs, name_dataset, pair_methods, score_column, summarise_split
from dfmm.evaluation.synchrony import judge_videos
from dfmm.extraction.cures import describe_cures
from dfmm.files import hash_file
from dfmm.manifest import fingerprint_manifest, read_manifest
from dfmm.model import MultimodalModel, find_device, load_model, move_batch, save_model, withhold_streams
from dfmm.model.aggregation import aggregate_windows
from dfmm.model.synchrony import SynchronyModel, load_synchrony
from dfmm.people import assign_people
from dfmm.runs import Run, RunError, adopt_changes
from dfmm.settings import Settings, list_changed, load_settings, resolve_path
from dfmm.training.synchrony import find_synchrony

log = logging.getLogger("dfmm")


def learn_evidence(run: Run, *, manifest: pd.DataFrame | None = None, progress: bool = True) -> Evidence:
    """Learn on the run's validation split how to join what each sense says, and keep it in the model's file.

    What is kept there is returned while data and settings are those it was learnt with.

    Args:
        manifest: of the run's data, where it is at hand.

    Raises:
        RunError: the run has no checkpoint.
    """
    run.refuse_imported()
    if not run.checkpoint.is_file():
        raise RunError(f"{run.name} has no checkpoint to evaluate; run 03_train on it first")
    model, saved, facts = load_model(run.checkpoint)
    settings = read_settings(run, saved)
    manifest = open_manifest(run, settings, progress=progress) if manifest is None else manifest
    learnt_on, found = describe_lesson(manifest, settings), read_evidence(facts)
    if not found or found.learnt_on != learnt_on:
        model.to(find_device())
        options = {"synchrony": open_synchrony(run.checkpoint, settings), "progress": progress}
        videos, windows = score_split(model, manifest, "val", settings, **options)
        lesson = {"rule": settings.evaluate.threshold, "twins": set(videos["video_id"]) - set(manifest["video_id"])}
        found = fit_evidence(
            videos[videos["status"] == "ok"],
            prior=facts["prior"],
            taught=list_taught(manifest, settings),
            learnt_on=learnt_on,
            **lesson,
        )
        found = replace(found, window_threshold=choose_window_threshold(windows, **lesson))
        save_model(model.cpu(), saved, run.checkpoint, **{**facts, "evidence": found.dump()})
    for doubt in doubt_threshold(found):
        log.warning("%s: %s", run.name, doubt)
    return found


def describe_lesson(manifest: pd.DataFrame, settings: Settings) -> str:
    """Return what evidence is learnt from, in words: where it changes, it is learnt anew."""
    windows, how = settings.evaluate.windows, settings.model.aggregation
    heard = "with" if settings.judges_synchrony else "without"
    rule = settings.evaluate.threshold
    return f"data {fingerprint_manifest(manifest)}, {windows} windows ({how}), {heard} synchrony, threshold by {rule}"


def open_synchrony(checkpoint: str | Path, settings: Settings) -> SynchronyModel | None:
    """Return what was learnt of mouths and speech beside a checkpoint, else the package's; None where it is not asked.

    A detector of one stream is to know nothing of the other, and what one that is not ours finds must be its own.
    """
    return load_synchrony(find_synchrony(Path(checkpoint))) if settings.judges_synchrony else None


def read_evidence(facts: Mapping[str, Any]) -> Evidence | None:
    """Return the evidence that a model's file says how to join, as `load_model` returned its facts; None of before."""
    return Evidence.load(facts["evidence"]) if "evidence" in facts else None


def list_taught(manifest: pd.DataFrame, settings: Settings) -> list[str]:
    """Return the senses that learnt from both kinds of their label: a head that saw one kind says nothing."""
    heads = {"label", *find_taught(manifest, settings)}
    # Synchrony is learnt from genuine clips alone.
    return [name for name, sense in SENSES.items() if sense.label in heads or sense.otherwise]


def load_run(run: Run) -> tuple[MultimodalModel, Settings, dict[str, Any]]:
    """Return a run's best model, with the run's settings as they are now, and the facts saved beside the model.

    Since the model was saved, its data may have moved, or another threshold be wanted: what a run may change.
    """
    model, saved, facts = load_model(run.checkpoint)
    return model, read_settings(run, saved), facts


def read_settings(run: Run, saved: Settings) -> Settings:
    """Return a run's settings as they are now; those saved with its model where it has none."""
    file = run / "settings.yaml"
    return adopt_changes(saved, load_settings(file)) if file.is_file() else saved


def evaluate_run(
    run: Run,
    split: str = "test",
    *,
    manifest: str | Path | None = None,
    root: str | Path | None = None,
    progress: bool = True,
) -> tuple[Report, pd.DataFrame, pd.DataFrame]:
    """Evaluate a run's best checkpoint on a split, with evidence and threshold as its own validation split taught.

    Methods of which no part was in the run's training split are marked as unseen.

    Args:
        manifest, root: another dataset than the run's own, to test on. Its folder is its own, too: where another
            manifest's videos were evaluated under the same name, it is named after its folder and file as well.

    Returns:
        The report, the videos' table and the windows' table, as written to `evaluations/<dataset>-<split>/`.

    Raises:
        RunError: the run has no checkpoint, or another dataset is asked of scores that were imported.
        ManifestError: no such split, a manifest that is wrong, or a column to slice by that there is not.
    """
    if run.imported.is_file():
        if manifest is not None:
            raise RunError(f"{run.name} holds imported scores of its own videos; import those of {manifest} as a run")
        return evaluate_scores(run, split)
    evidence = learn_evidence(run, progress=progress)
    model, settings, facts = load_run(run)
    model.to(find_device())
    own = open_manifest(run, settings, progress=progress)
    table, trained = own, settings
    if manifest is not None:
        table, settings = _open_other(manifest, root, settings)
    columns = choose_slices(settings.evaluate.slices, own, table)
    evidence = shift_prior(evidence, settings.evaluate.prior)
    synchrony = open_synchrony(run.checkpoint, settings)
    senses = {"evidence": evidence, "synchrony": synchrony}
    videos, windows = score_split(model, table, split, settings, **senses, progress=progress)
    videos = add_rivals(own, videos, trained, settings)
    videos["predicted"] = (videos["score"] >= evidence.threshold).where(videos["status"] == "ok").astype("Int64")
    known = _describe_run(run, table, settings, evidence, synchrony, facts)
    known["untaught"] = list_untaught(model, synchrony)
    thresholds = {"threshold": evidence.threshold, "window_threshold": known["threshold"].window}
    options = _choose_options(own, settings, evidence)
    known |= summarise_split(videos, windows, split=split, **thresholds, **options)
    priors = {"prior": evidence.prior, "trained": facts["prior"]}
    known["calibration"] = compare_calibration(videos[videos["status"] == "ok"], **priors)
    if columns:
        known["slices"] = slice_errors(videos, columns, settings, evidence.threshold)
    stride, replicates = settings.evaluate.stride, settings.evaluate.replicates
    timeline = score_timeline(model, table, settings, split=split, progress=progress) if stride else None
    if timeline is not None:
        known["localization"] = measure_timeline(timeline, videos, stride, replicates=replicates)
    if manifest is not None:
        known |= {"manifest": str(resolve_path(manifest)), "root": settings.data.root}
        known["dataset"] = _name_apart(known, run, own=name_dataset(own))
    report = Report.model_validate(known)
    write_evaluation(report, videos, windows, timeline, run)
    return report, videos, windows


def _choose_options(own: pd.DataFrame, settings: Settings, evidence: Evidence) -> dict[str, Any]:
    """Return how a scored split is summed up, as `summarise_split` takes it."""
    chosen = settings.evaluate
    return {
        "replicates": chosen.replicates,
        "streams": settings.model.streams,
        "seen": own.loc[(own["split"] == "train") & (own["label"] == 1), "method"].unique(),
        "prior": evidence.prior,
        "costs": choose_costs(settings),
    }


def _describe_run(
    run: Run,
    table: pd.DataFrame,
    settings: Settings,
    evidence: Evidence,
    synchrony: SynchronyModel | None,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what a report says of the detector and of how it was asked."""
    own = evidence.window_threshold
    return {
        "version": VERSION,
        "run": run.name,
        "origin": {
            **describe_environment(),
            "trained": run.read()["stages"].get("train", {}).get("ended"),
            "seed": settings.seed,
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "settings": list_changed(settings),
        },
        "data_fingerprint": fingerprint_manifest(table),
        "checkpoint": {"file": run.checkpoint.name, "sha256": hash_file(run.checkpoint)[:16], **_leave_out(facts)},
        "prior": evidence.prior,
        "threshold": Threshold(
            value=evidence.threshold,
            rule=evidence.rule,
            chosen_on="val",
            window=evidence.threshold if own is None else own,
            doubts=doubt_threshold(evidence),
        ),
        "evidence": evidence,
        "aggregation": settings.model.aggregation,
        "cures": describe_cures(settings),
        "synchrony": dict(synchrony.facts) if synchrony else None,
    }


def _leave_out(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's facts without what the report tells elsewhere."""
    return {name: value for name, value in facts.items() if name != "evidence"}


def _open_other(manifest: str | Path, root: str | Path | None, settings: Settings) -> tuple[pd.DataFrame, Settings]:
    """Return the table of another dataset, and settings that read its videos."""
    root = resolve_path(root) if root else resolve_path(manifest).parent
    table = read_manifest(resolve_path(manifest), root)
    return table, settings.model_copy(update={"data": settings.data.model_copy(update={"root": str(root)})})


def _name_apart(known: Mapping[str, Any], run: Run, *, own: str) -> str:
    """Return what to call another dataset, so that its folder is neither the run's own nor another manifest's.

    Args:
        known: what is known of the report, so far: `dataset`, `split`, `manifest` and `root`.
    """
    name, file = known["dataset"], Path(known["manifest"])
    folder = Path(known["root"]).name
    names = [name] if name != UNNAMED else []
    names += [folder if name == UNNAMED else f"{name}-{folder}"]
    names += [f"{names[-1]}-{file.stem}"]
    numbered = (f"{names[-1]}-{number}" for number in itertools.count(2))
    return next(one for one in itertools.chain(names, numbered) if _is_free(one, known, run, own))


def _is_free(dataset: str, known: Mapping[str, Any], run: Run, own: str) -> bool:
    """Is there no evaluation of this name, or an earlier one of the same manifest and root?"""
    evaluation = name_evaluation(dataset, known["split"])
    if evaluation == name_evaluation(own, known["split"]):
        return False
    file = run / "evaluations" / evaluation / "report.json"
    if not file.is_file():
        return True
    try:
        before = read_report(file)
    except RunError:
        return False  # whose it is cannot be told, so it stays
    return (before.manifest, before.root) == (known["manifest"], known["root"])


@torch.no_grad()
def compare_streams(run: Run, split: str = "test", *, progress: bool = True) -> dict[str, dict[str, Any]]:
    """Return the AUC of the joint score, over all fakes and for each method, with both streams and with each alone.

    A stream is withheld by its mask, as if the clip had none; its evidence is missing then. All are of the same videos,
    those with a score in each case, so that with each stream alone its `difference` says how much less that is.
    """
    model, settings, facts = load_run(run)
    evidence, synchrony = read_evidence(facts), open_synchrony(run.checkpoint, settings)
    manifest = assign_people(open_manifest(run, settings, progress=progress))
    loader = make_evaluation_loader(manifest, split, settings, progress=progress)
    windows = _withhold_each(model, loader, progress=progress)
    table, videos = pd.concat([manifest, loader.dataset.twins]), {}
    for streams, found in windows.items():
        found = found[~found["video_id"].isin(find_broken(found))]
        scored = table.merge(aggregate_windows(found, settings.model.aggregation), on="video_id")
        scored["fusion_score"] = scored["score"]
        if streams == "both" and synchrony:
            scored = add_synchrony(scored, judge_videos(scored, settings, synchrony, progress=False))
        scored = apply_evidence(scored, evidence) if evidence else scored
        videos[streams] = scored.set_index("video_id")
    scores = pd.DataFrame({streams: scored["score"] for streams, scored in videos.items()})
    rows = videos["both"].loc[scores.dropna(axis=1, how="all").dropna().index]
    groups = {"all": rows, **{method: some for method, _, some in pair_methods(rows)}}
    return {
        streams: {name: _compare_stream(some, scores, streams, settings) for name, some in groups.items()}
        for streams in videos
    }


def _withhold_each(model: MultimodalModel, loader: DataLoader, *, progress: bool) -> dict[str, pd.DataFrame]:
    """Return the windows' scores with both streams and with each alone, read once and on one device."""
    device = find_device()
    model.to(device).eval()
    tables: dict[str, list[pd.DataFrame]] = {"both": [], "video": [], "audio": []}
    for batch in show_progress(loader, "streams", unit="batch", show=progress):
        batch = withhold_streams(move_batch(batch, device), model.streams)
        for streams, parts in tables.items():
            left = withhold_streams(batch, streams)
            parts.append(tabulate_batch(model(left), left, model.taught))
    return {streams: pd.concat(parts) for streams, parts in tables.items()}


def _compare_stream(rows: pd.DataFrame, scores: pd.DataFrame, streams: str, settings: Settings) -> dict[str, Any]:
    found = scores.loc[rows.index]
    ahead = None if streams == "both" else found["both"]
    return score_column(rows, found[streams], settings.evaluate.replicates, ahead=ahead)
