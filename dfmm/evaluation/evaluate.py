"""A run and a split → the report and the tables of scores, written into the run's folder."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from dfmm.audit.shortcuts import measure_trivia, score_trivia
from dfmm.audit.synchrony import correlate_videos
from dfmm.dataset import load_manifest
from dfmm.dataset.loaders import make_evaluation_loader
from dfmm.evaluation.measures import UNNAMED, make_report, name_dataset, name_evaluation, pair_methods, score_column
from dfmm.evaluation.score import score_split, tabulate_batch
from dfmm.extraction.cures import describe_cures
from dfmm.files import write_whole
from dfmm.manifest import TEXT_COLUMNS, fingerprint_manifest, read_manifest
from dfmm.metrics import choose_threshold
from dfmm.model import MultimodalModel, load_model, withhold_streams
from dfmm.model.aggregation import SCORES, aggregate_windows
from dfmm.runs import Run, RunError, adopt_changes, hash_file, show_progress, write_json
from dfmm.settings import Settings, load_settings, resolve_path


def choose_run_threshold(model: nn.Module, manifest: pd.DataFrame, settings: Settings, *, progress: bool) -> float:
    """Return the threshold that the settings' rule picks on the validation split."""
    videos, _ = score_split(model, manifest, "val", settings, progress=progress)
    scored = videos[videos["status"] == "ok"]
    return choose_threshold(scored["label"], scored["score"], rule=settings.evaluate.threshold)


def load_run(run: Run) -> tuple[MultimodalModel, Settings, dict[str, Any]]:
    """Return a run's best model, with the run's settings as they are now, and the facts saved beside the model.

    Since the model was saved, its data may have moved, or another threshold be wanted: what a run may change.
    """
    model, settings, facts = load_model(run.checkpoint)
    file = run / "settings.yaml"
    return model, adopt_changes(settings, load_settings(file)) if file.is_file() else settings, facts


def evaluate_run(
    run: Run,
    split: str = "test",
    *,
    manifest: str | Path | None = None,
    root: str | Path | None = None,
    threshold: float | None = None,
    progress: bool = True,
) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
    """Evaluate a run's best checkpoint on a split, with the threshold chosen on its own validation split.

    Methods of which no part was in the run's training split are marked as unseen.

    Args:
        manifest, root: another dataset than the run's own, to test on. Its folder is its own, too: where another
            manifest's videos were evaluated under the same name, it is named after its folder and file as well.
        threshold: the one chosen on validation, where that is known already.

    Returns:
        The report, the videos' table and the windows' table, as written to `evaluations/<dataset>-<split>/`.

    Raises:
        RunError: the run has no checkpoint.
        ManifestError: no such split, or a manifest that is wrong.
    """
    if not run.checkpoint.is_file():
        raise RunError(f"{run.name} has no checkpoint to evaluate; run 03_train on it first")
    model, settings, facts = load_run(run)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    own = load_manifest(settings, progress=progress)
    if threshold is None:
        threshold = choose_run_threshold(model, own, settings, progress=progress)
    table, trained = own, settings
    if manifest is not None:
        table, settings = _open_other(manifest, root, settings)
    videos, windows = score_split(model, table, split, settings, progress=progress)
    videos["trivia_score"] = score_by_trivia(own, videos, trained, settings)
    videos["mouth_loudness"] = videos["video_id"].map(correlate_videos(videos[videos["status"] == "ok"], settings))
    videos["predicted"] = (videos["score"] >= threshold).where(videos["status"] == "ok").astype("Int64")
    report = {
        "run": run.name,
        "data_fingerprint": fingerprint_manifest(table),
        "checkpoint": {"file": run.checkpoint.name, "sha256": hash_file(run.checkpoint)[:16], **facts},
        "prior": facts["prior"],
        "threshold": {"value": threshold, "rule": settings.evaluate.threshold, "chosen_on": "val"},
        "aggregation": settings.model.aggregation,
        "cures": describe_cures(settings),
    }
    seen = own.loc[(own["split"] == "train") & (own["label"] == 1), "method"].unique()
    options = {"replicates": settings.evaluate.replicates, "streams": settings.model.streams, "seen": seen}
    report |= make_report(videos, windows, split=split, threshold=threshold, **options)
    if manifest is not None:
        report["manifest"] = str(resolve_path(manifest))
        report["root"] = settings.data.root
        report["dataset"] = _name_apart(report, run, own=name_dataset(own))
    folder = run / "evaluations" / name_evaluation(report)
    write_json(report, folder / "report.json")
    write_table(videos, folder / "scores.csv")
    write_table(windows, folder / "windows.csv")
    return report, videos, windows


def _open_other(manifest: str | Path, root: str | Path | None, settings: Settings) -> tuple[pd.DataFrame, Settings]:
    """Return the table of another dataset, and settings that read its videos."""
    root = resolve_path(root) if root else resolve_path(manifest).parent
    table = read_manifest(resolve_path(manifest), root)
    return table, settings.model_copy(update={"data": settings.data.model_copy(update={"root": str(root)})})


def _name_apart(report: dict[str, Any], run: Run, *, own: str) -> str:
    """Return what to call another dataset, so that its folder is neither the run's own nor another manifest's."""
    name, file = report["dataset"], Path(report["manifest"])
    folder = Path(report["root"]).name
    names = [name] if name != UNNAMED else []
    names += [folder if name == UNNAMED else f"{name}-{folder}"]
    names += [f"{names[-1]}-{file.stem}"]
    numbered = (f"{names[-1]}-{number}" for number in itertools.count(2))
    return next(one for one in itertools.chain(names, numbered) if _is_free(one, report, run, own))


def _is_free(dataset: str, report: dict[str, Any], run: Run, own: str) -> bool:
    """Is there no evaluation of this name, or an earlier one of the same manifest and root?"""
    evaluation = name_evaluation({**report, "dataset": dataset})
    if evaluation == name_evaluation({**report, "dataset": own}):
        return False
    page = run / "evaluations" / evaluation / "report.json"
    before = json.loads(page.read_text(encoding="utf-8")) if page.is_file() else report
    return all(before.get(name) == report[name] for name in ("manifest", "root"))


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


def read_evaluation(run: Run, split: str = "test") -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame] | None:
    """Return what `evaluate_run` wrote for the run's own data and its present checkpoint; None if it did not."""
    own = fingerprint_manifest(load_manifest(load_settings(run / "settings.yaml"), progress=False))
    for file in sorted(run.path.glob("evaluations/*/report.json")):
        report = json.loads(file.read_text(encoding="utf-8"))
        same_model = report["checkpoint"]["sha256"] == hash_file(run.checkpoint)[:16]
        if same_model and report["split"] == split and report["data_fingerprint"] == own:
            return report, read_table(file.with_name("scores.csv")), read_table(file.with_name("windows.csv"))
    return None


@torch.no_grad()
def compare_streams(run: Run, split: str = "test", *, progress: bool = True) -> dict[str, dict[str, Any]]:
    """Return the AUC of the joint score, over all fakes and for each method, with both streams and with each alone.

    A stream is withheld by its mask, as if the clip had none.
    """
    model, settings, _ = load_run(run)
    manifest = load_manifest(settings, progress=progress)
    loader = make_evaluation_loader(manifest, split, settings, progress=progress)
    tables: dict[str, list[pd.DataFrame]] = {"both": [], "video": [], "audio": []}
    batches = show_progress(loader, "streams", unit="batch", show=progress)
    for batch in batches:
        batch = withhold_streams(batch, model.streams)
        for streams, parts in tables.items():
            left = withhold_streams(batch, streams)
            parts.append(tabulate_batch(model(left), left))
    aucs, table = {}, pd.concat([manifest, loader.dataset.twins])
    for streams, parts in tables.items():
        videos = table.merge(aggregate_windows(pd.concat(parts), settings.model.aggregation), on="video_id")
        scored = videos[videos["score"].notna()]
        groups = {"all": scored, **{method: rows for method, _, rows in pair_methods(scored)}}
        aucs[streams] = {
            name: score_column(rows, rows["score"], settings.evaluate.replicates) for name, rows in groups.items()
        }
    return aucs


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV; the file appears whole or not at all."""
    write_whole(table.to_csv(index=False), path)


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV that `write_table` wrote: empty means no score, but is a text like any other in a text's column."""
    numbers = {name: [""] for name in (*SCORES, "weight", "trivia_score", "mouth_loudness", "predicted")}
    return pd.read_csv(path, dtype=dict.fromkeys(TEXT_COLUMNS, str), keep_default_na=False, na_values=numbers)
