"""A run and a split → the report and the tables of scores, written into the run's folder."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate.utils import send_to_device
from torch.utils.data import DataLoader

from dfmm.audit.shortcuts import measure_trivia, score_trivia
from dfmm.audit.synchrony import correlate_videos
from dfmm.dataset import find_taught, load_manifest, make_evaluation_loader, open_manifest
from dfmm.evaluation.calibration import compare_calibration
from dfmm.evaluation.contents import VERSION, Report, Slices, Threshold, name_evaluation, read_report
from dfmm.evaluation.evidence import (
    SENSES,
    Evidence,
    apply_evidence,
    choose_window_threshold,
    doubt_threshold,
    fit_evidence,
    shift_prior,
)
from dfmm.evaluation.localization import measure_timeline
from dfmm.evaluation.score import (
    add_synchrony,
    find_broken,
    list_untaught,
    score_split,
    score_timeline,
    tabulate_batch,
)
from dfmm.evaluation.slices import KNOWN, check_columns, describe_videos, measure_slices
from dfmm.evaluation.summary import UNNAMED, name_dataset, pair_methods, score_column, summarise_split
from dfmm.evaluation.synchrony import COLUMNS, judge_videos
from dfmm.extraction.cures import describe_cures
from dfmm.files import write_whole
from dfmm.manifest import TEXT_COLUMNS, fingerprint_manifest, read_manifest
from dfmm.metrics import Costs
from dfmm.model import MultimodalModel, load_model, save_model, withhold_streams
from dfmm.model.aggregation import SCORES, aggregate_windows
from dfmm.model.synchrony import SynchronyModel, load_synchrony
from dfmm.people import assign_people
from dfmm.runs import Run, RunError, adopt_changes, describe_environment, hash_file, show_progress, write_json
from dfmm.settings import Settings, list_changed, load_settings, resolve_path
from dfmm.training.synchrony import find_synchrony

log = logging.getLogger("dfmm")

# Columns of the video table: what pieces of evidence are made of, and what they say.
EVIDENCE = (*(sense.column for sense in SENSES.values()), *(f"{name}_evidence" for name in SENSES))


def learn_evidence(run: Run, *, manifest: pd.DataFrame | None = None, progress: bool = True) -> Evidence:
    """Learn on the run's validation split how to join what each sense says, and keep it in the model's file.

    What is kept there is returned while data and settings are those it was learnt with.

    Args:
        manifest: of the run's data, where it is at hand.

    Raises:
        RunError: the run has no checkpoint.
    """
    if not run.checkpoint.is_file():
        raise RunError(f"{run.name} has no checkpoint to evaluate; run 03_train on it first")
    model, saved, facts = load_model(run.checkpoint)
    settings = read_settings(run, saved)
    manifest = open_manifest(run, settings, progress=progress) if manifest is None else manifest
    learnt_on, found = describe_lesson(manifest, settings), read_evidence(facts)
    if not found or found.learnt_on != learnt_on:
        model.to("cuda" if torch.cuda.is_available() else "cpu")
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
    heard = "with" if settings.synchrony.use else "without"
    rule = settings.evaluate.threshold
    return f"data {fingerprint_manifest(manifest)}, {windows} windows ({how}), {heard} synchrony, threshold by {rule}"


def open_synchrony(checkpoint: str | Path, settings: Settings) -> SynchronyModel | None:
    """Return what was learnt of mouths and speech beside a checkpoint, else the package's; None where it is off."""
    return load_synchrony(find_synchrony(Path(checkpoint))) if settings.synchrony.use else None


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
        RunError: the run has no checkpoint.
        ManifestError: no such split, a manifest that is wrong, or a column to slice by that there is not.
    """
    evidence = learn_evidence(run, progress=progress)
    model, settings, facts = load_run(run)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    own = open_manifest(run, settings, progress=progress)
    table, trained = own, settings
    if manifest is not None:
        table, settings = _open_other(manifest, root, settings)
    columns = choose_slices(settings.evaluate.slices, own, table)
    evidence = shift_prior(evidence, settings.evaluate.prior)
    synchrony = open_synchrony(run.checkpoint, settings)
    senses = {"evidence": evidence, "synchrony": synchrony}
    videos, windows = score_split(model, table, split, settings, **senses, progress=progress)
    videos["trivia_score"] = score_by_trivia(own, videos, trained, settings)
    videos["mouth_loudness"] = videos["video_id"].map(correlate_videos(videos[videos["status"] == "ok"], settings))
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
    _write_evaluation(report, videos, windows, timeline, run)
    return report, videos, windows


def _choose_options(own: pd.DataFrame, settings: Settings, evidence: Evidence) -> dict[str, Any]:
    """Return how a scored split is summed up, as `summarise_split` takes it."""
    chosen = settings.evaluate
    return {
        "replicates": chosen.replicates,
        "streams": settings.model.streams,
        "seen": own.loc[(own["split"] == "train") & (own["label"] == 1), "method"].unique(),
        "prior": evidence.prior,
        "costs": Costs(chosen.dcf_prior, chosen.false_alarm_cost, chosen.miss_cost),
    }


def choose_slices(columns: Sequence[str], own: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    """Return by which of these columns a table can be sliced; another dataset than the run's own may lack some.

    Raises:
        ManifestError: neither of the tables has such a column.
    """
    check_columns(columns, table.join(own[own.columns.difference(table.columns)].head(0)))
    chosen = [name for name in columns if name in table or name in KNOWN]
    if missing := sorted(set(columns) - set(chosen)):
        log.warning("errors are not told apart by %s: this dataset has no such column", ", ".join(missing))
    return chosen


def slice_errors(videos: pd.DataFrame, columns: Sequence[str], settings: Settings, threshold: float) -> Slices:
    """Return what `measure_slices` finds in the videos that were scored."""
    scored = videos[videos["status"] == "ok"]
    if not set(columns) <= set(scored):
        scored = describe_videos(scored, measure_trivia(scored, settings, progress=False))
    return measure_slices(scored, columns, threshold=threshold, replicates=settings.evaluate.replicates)


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


def _write_evaluation(
    report: Report, videos: pd.DataFrame, windows: pd.DataFrame, timeline: pd.DataFrame | None, run: Run
) -> None:
    folder = run / "evaluations" / report.name
    write_json(report.model_dump(mode="json"), folder / "report.json")
    write_table(videos, folder / "scores.csv")
    write_table(windows, folder / "windows.csv")
    if timeline is None:
        (folder / "timeline.csv").unlink(missing_ok=True)  # of an evaluation before this one
    else:
        write_table(timeline, folder / "timeline.csv")


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


def score_by_trivia(own: pd.DataFrame, videos: pd.DataFrame, trained: Settings, settings: Settings) -> pd.Series:
    """Return what trivial features alone, learnt on the run's training split, say of scored videos; NaN for others.

    Args:
        own, trained: the run's manifest and settings.
        videos, settings: the scored videos, and the settings that say where their files are.
    """
    train = own[own["split"] == "train"]
    pairs = ((train, trained), (videos[videos["status"] == "ok"], settings))
    features = [measure_trivia(table, chosen, progress=False) for table, chosen in pairs]
    labels = train.set_index("video_id")["label"].loc[features[0].index]
    if labels.nunique() < 2:  # training forged its fakes itself: their files would be those of the reals
        return pd.Series(np.nan, index=videos.index)
    scores = pd.Series(score_trivia(features[0], labels, features[1]), index=features[1].index)
    return videos["video_id"].map(scores)


def read_evaluation(run: Run, split: str = "test") -> tuple[Report, pd.DataFrame, pd.DataFrame] | None:
    """Return what `evaluate_run` wrote for the run's own data and its present checkpoint; None if it did not.

    A report that cannot be read is named, and counts as none.
    """
    own = fingerprint_manifest(load_manifest(load_settings(run / "settings.yaml"), progress=False))
    for file in sorted(run.path.glob("evaluations/[!.]*/report.json")):
        try:
            report = read_report(file)
        except RunError as error:
            log.warning("%s", error)
            continue
        same_model = report.checkpoint.sha256 == hash_file(run.checkpoint)[:16]
        if same_model and report.split == split and report.data_fingerprint == own:
            videos = assign_people(read_table(file.with_name("scores.csv")))  # one of before says what the manifest did
            return report, videos, read_table(file.with_name("windows.csv"))
    return None


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
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device).eval()
    tables: dict[str, list[pd.DataFrame]] = {"both": [], "video": [], "audio": []}
    for batch in show_progress(loader, "streams", unit="batch", show=progress):
        batch = withhold_streams(send_to_device(batch, device), model.streams)
        for streams, parts in tables.items():
            left = withhold_streams(batch, streams)
            parts.append(tabulate_batch(model(left), left, model.taught))
    return {streams: pd.concat(parts) for streams, parts in tables.items()}


def _compare_stream(rows: pd.DataFrame, scores: pd.DataFrame, streams: str, settings: Settings) -> dict[str, Any]:
    found = scores.loc[rows.index]
    ahead = None if streams == "both" else found["both"]
    return score_column(rows, found[streams], settings.evaluate.replicates, ahead=ahead)


def read_timeline(folder: Path) -> pd.DataFrame | None:
    """Return the dense windows of an evaluation, by its folder, as `score_timeline` has them; None if it has none."""
    return read_table(folder / "timeline.csv") if (folder / "timeline.csv").is_file() else None


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV; the file appears whole or not at all."""
    write_whole(table.to_csv(index=False), path)


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV that `write_table` wrote: empty means no score, but is a text like any other in a text's column."""
    names = (*SCORES, "weight", "trivia_score", "mouth_loudness", "predicted", *COLUMNS, *EVIDENCE)
    numbers = {name: [""] for name in names}
    return pd.read_csv(path, dtype=dict.fromkeys(TEXT_COLUMNS, str), keep_default_na=False, na_values=numbers)
