"""Scores for windows and videos, and the report on a split: metrics with intervals, by method and by source."""

from __future__ import annotations

import itertools
import json
import logging
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from dfmm.data import load_manifest
from dfmm.data.cures import describe_cures
from dfmm.data.dataset import make_evaluation_loader, make_window_loader
from dfmm.data.extract import tabulate_tracks
from dfmm.data.shortcuts import measure_trivia, score_trivia
from dfmm.data.synchrony import correlate_videos
from dfmm.manifest import STREAM_LABELS, TEXT_COLUMNS, find_unseen, fingerprint_manifest, read_manifest
from dfmm.metrics import choose_threshold, compute_auc, compute_metrics
from dfmm.model import MultimodalModel, load_model, withhold_streams
from dfmm.model.aggregation import SCORES, aggregate_windows
from dfmm.runs import Run, RunError, hash_file, show_progress, write_json
from dfmm.sections import Model
from dfmm.settings import Settings, load_settings, resolve_path
from dfmm.trainer import predict

# Of each video: the share of frames with the followed face, how many faces there are, shots, and gaps in the following.
FOUND = ["face_coverage", "faces", "shots", "gaps"]
CHUNK = 16  # files scored together: results come out this often
UNNAMED = "unnamed"  # a dataset whose manifest does not say

log = logging.getLogger("dfmm")


def score_windows(model: nn.Module, loader: torch.utils.data.DataLoader, *, progress: bool = True) -> pd.DataFrame:
    """Score every window of a loader.

    Returns:
        A row a window: `video_id`, `face`, `window`, `start` in seconds, `label` of the window, `score` (probability
        that it is fake), each stream's `…_score`, `has_face`, `has_sound`, and where the model weighs windows `weight`,
        a logit. A score is NaN where its stream is absent.
    """
    batches = show_progress(predict(model, loader), "scores", unit="batch", total=len(loader), show=progress)
    tables = [_tabulate_batch(outputs, batch) for outputs, batch in batches]
    return pd.concat(tables, ignore_index=True)


def _tabulate_batch(outputs: dict[str, torch.Tensor], batch: dict[str, Any]) -> pd.DataFrame:
    face, sound = batch["frame_mask"].any(dim=1), batch["sound_mask"].any(dim=1)
    there = {"score": face | sound, "video_fake_score": face, "audio_fake_score": sound, "in_sync_score": face & sound}
    found = {f"{name}_score": outputs[name].sigmoid() for name in STREAM_LABELS}
    found["score"] = outputs["logits"].softmax(dim=1)[:, 1]
    columns = {name: found[name].float().where(there[name], torch.nan).cpu().numpy() for name in SCORES}
    facts = {name: batch[name].cpu().numpy() for name in ("face", "window", "start", "label")}
    presence = {"has_face": face.cpu().numpy(), "has_sound": sound.cpu().numpy()}
    if "weight" in outputs:
        columns["weight"] = outputs["weight"].float().where(there["score"], torch.nan).cpu().numpy()
    return pd.DataFrame({"video_id": batch["video_id"], **facts, **columns, **presence})


def score_split(
    model: nn.Module, manifest: pd.DataFrame, split: str, settings: Settings, *, progress: bool = True
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score a split's videos.

    Returns:
        The split's rows with `status` (`ok`, `unscored`, `failed`), `reason`, `streams` (what was scored: `both`,
        `video`, `audio` or nothing), `windows`, the scores, aggregated as `model.aggregation` says, and what was found
        of faces (`FOUND`); and the windows, a row each.
    """
    loader = make_evaluation_loader(manifest, split, settings, progress=progress)
    wanted = manifest[manifest["split"] == split]
    if settings.data.limit:  # debug mode scores only what its loader holds
        wanted = wanted[wanted["video_id"].isin({*loader.dataset.tracks, *loader.dataset.failures})]
    wanted = pd.concat([wanted, loader.dataset.twins], ignore_index=True)
    windows = score_windows(model, loader, progress=progress)
    videos = _join_scores(wanted, windows, loader.dataset.failures, settings.model)
    found = tabulate_tracks(loader.dataset.tracks.manifest, loader.dataset.tracks)[["video_id", *FOUND]]
    return videos.merge(found, on="video_id", how="left"), windows


def _join_scores(manifest: pd.DataFrame, windows: pd.DataFrame, failures: dict[str, str], model: Model) -> pd.DataFrame:
    videos = manifest.merge(aggregate_windows(windows, model.aggregation), on="video_id", how="left")
    videos["windows"] = videos["windows"].fillna(0).astype(int)
    failed = videos["video_id"].isin(failures)
    videos["status"] = np.select([failed, videos["windows"] == 0], ["failed", "unscored"], "ok")
    presence = windows.groupby("video_id")[["has_face", "has_sound"]].any()
    rows = zip(presence.index, presence.to_numpy(), strict=True)
    reasons = {name: explain_presence(*row, streams=model.streams) for name, row in rows}
    videos["reason"] = videos["video_id"].map({**reasons, **failures}).fillna("")
    seen, heard = videos["video_fake_score"].notna(), videos["audio_fake_score"].notna()
    videos["streams"] = np.select([seen & heard, seen, heard], ["both", "video", "audio"], "")
    return videos


def explain_presence(has_face: bool, has_sound: bool, *, streams: str = "both") -> str:
    """Say which of the streams that a model listens to a score had to do without; empty where it had them all."""
    if streams != "both":
        return {"video": "" if has_face else "no face", "audio": "" if has_sound else "no sound"}[streams]
    return {
        (True, True): "",
        (True, False): "no sound: scored from the picture alone",
        (False, True): "no face: scored from the sound alone",
        (False, False): "neither a face nor any sound",
    }[bool(has_face), bool(has_sound)]


def choose_run_threshold(model: nn.Module, manifest: pd.DataFrame, settings: Settings, *, progress: bool) -> float:
    """Return the threshold that the settings' rule picks on the validation split."""
    videos, _ = score_split(model, manifest, "val", settings, progress=progress)
    scored = videos[videos["status"] == "ok"]
    return choose_threshold(scored["label"], scored["score"], rule=settings.evaluate.threshold)


def evaluate_run(
    run: Run,
    split: str = "test",
    *,
    manifest: str | Path | None = None,
    root: str | Path | None = None,
    threshold: float | None = None,
    taken: Collection[str] = (),
    progress: bool = True,
) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
    """Evaluate a run's best checkpoint on a split, with the threshold chosen on its own validation split.

    Methods of which no part was in the run's training split are marked as unseen.

    Args:
        manifest, root: another dataset than the run's own, to test on.
        threshold: the one chosen on validation, where that is known already.
        taken: names of datasets whose evaluations this one must not overwrite, besides the run's own.

    Returns:
        The report, the videos' table and the windows' table, as written to `evaluations/<dataset>-<split>/`.

    Raises:
        RunError: the run has no checkpoint.
        ManifestError: no such split, or a manifest that is wrong.
    """
    if not run.checkpoint.is_file():
        raise RunError(f"{run.name} has no checkpoint to evaluate; run 03_train on it first")
    model, settings, facts = load_model(run.checkpoint)
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
    options = {"threshold": threshold, "replicates": settings.evaluate.replicates, "seen": seen}
    report |= make_report(videos, windows, split=split, **options)
    if manifest is not None:
        folder = Path(settings.data.root).name
        report["dataset"] = _name_apart(report["dataset"], folder, {*taken, name_dataset(own)})
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


def _name_apart(name: str, folder: str, taken: Collection[str]) -> str:
    """Return a dataset's name; its folder is added where that is taken, then a number."""
    names = [name] if name != UNNAMED else []
    names += [folder if name == UNNAMED else f"{name}-{folder}"]
    numbered = (f"{names[-1]}-{number}" for number in itertools.count(2))
    return next(one for one in itertools.chain(names, numbered) if one not in taken)


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
    model, settings, _ = load_model(run.checkpoint)
    manifest = load_manifest(settings, progress=progress)
    loader = make_evaluation_loader(manifest, split, settings, progress=progress)
    tables: dict[str, list[pd.DataFrame]] = {"both": [], "video": [], "audio": []}
    batches = show_progress(loader, "streams", unit="batch", show=progress)
    for batch in batches:
        batch = withhold_streams(batch, model.streams)
        for streams, parts in tables.items():
            left = withhold_streams(batch, streams)
            parts.append(_tabulate_batch(model(left), left))
    aucs, both = {}, pd.concat([manifest, loader.dataset.twins])
    for streams, parts in tables.items():
        videos = both.merge(aggregate_windows(pd.concat(parts), settings.model.aggregation), on="video_id")
        scored = videos[videos["score"].notna()]
        rows = {"all": scored, **{method: some for method, _, some in pair_methods(scored)}}
        aucs[streams] = {
            name: _score_column(some, some["score"], settings.evaluate.replicates) for name, some in rows.items()
        }
    return aucs


def name_evaluation(report: dict[str, Any]) -> str:
    """Return the evaluation's folder name; what a manifest says of its dataset cannot leave the run."""
    return re.sub(r"[^A-Za-z0-9._-]+|^\.+", "_", f"{report['dataset']}-{report['split']}")


def name_dataset(manifest: pd.DataFrame) -> str:
    """Return the names of the datasets whose videos these are."""
    return " and ".join(sorted(set(manifest["dataset"]) - {""})) or UNNAMED


def make_report(
    videos: pd.DataFrame,
    windows: pd.DataFrame,
    *,
    split: str,
    threshold: float,
    replicates: int,
    seen: Collection[str] | None = None,
) -> dict[str, Any]:
    """Return coverage and metrics of a scored split, ready for JSON.

    Args:
        videos, windows: as from `score_split`.
        seen: the methods of the fakes that the model was trained on; None for those of this split.
    """
    scored = videos[videos["status"] == "ok"]
    if scored.empty:
        raise RunError(f"not one of the {len(videos)} videos of {split!r} could be scored; see their reasons above")
    names = videos.set_index("video_id")["identities"]
    known = windows[windows["score"].notna() & windows["label"].isin((0, 1))]
    options = {"threshold": threshold, "replicates": replicates}
    return {
        "dataset": name_dataset(videos),
        "split": split,
        "videos": len(videos),
        "synthetic": bool((videos["source"] == "synthetic").all()),
        "coverage": _count_coverage(videos),
        "video": compute_metrics(scored["label"], scored["score"], identities=list(scored["identities"]), **options),
        "window": compute_metrics(
            known["label"], known["score"], identities=list(_name_people(known["video_id"], names)), **options
        ),
        "rivals": {name: _score_column(scored, scores, replicates) for name, scores in _list_rivals(scored).items()},
        **_score_novelty(scored, replicates, seen),
        "methods": _score_methods(scored, replicates),
        "sources": _score_sources(scored, replicates),
    }


def _name_people(video_ids: pd.Series, identities: pd.Series) -> pd.Series:
    """Return each window's identities; a video that names none stands for itself, so its windows stay together."""
    named = video_ids.map(identities)
    return named.where(named != "", "video:" + video_ids)


def _count_coverage(videos: pd.DataFrame) -> dict[str, Any]:
    counts = videos["status"].value_counts()
    scored = videos[videos["status"] == "ok"]
    streams = scored["streams"].value_counts()
    left_out = videos[videos["status"] != "ok"]
    return {
        "scored": int(counts.get("ok", 0)),
        "unscored": int(counts.get("unscored", 0)),
        "failed": int(counts.get("failed", 0)),
        "share": float((videos["status"] == "ok").mean()),
        "streams": {name: int(streams.get(name, 0)) for name in ("both", "video", "audio")},
        "without_face": int(streams.get("audio", 0)),
        "without_sound": int(streams.get("video", 0)),
        "faces": {
            "followed": float(scored["face_coverage"].mean()),
            "several": int((scored["faces"] > 1).sum()),
            "cut": int((scored["shots"] > 1).sum()),
            "lost": int((scored["gaps"] > 0).sum()),
        },
        "reasons": dict(zip(left_out["video_id"], left_out["reason"], strict=True)),
    }


def _score_methods(scored: pd.DataFrame, replicates: int) -> dict[str, Any]:
    """Return each method's AUC against all reals: the joint score's, each stream's alone, and the rivals'."""
    methods = {}
    for method, fakes, rows in pair_methods(scored):
        suspicions = {
            "video_fake": rows["video_fake_score"],
            "audio_fake": rows["audio_fake_score"],
            "in_sync": 1 - rows["in_sync_score"],
        }
        methods[method] = {
            "videos": fakes,
            "auc": _score_column(rows, rows["score"], replicates),
            "streams": {name: _score_column(rows, scores, replicates) for name, scores in suspicions.items()},
            **{name: _score_column(rows, scores, replicates) for name, scores in _list_rivals(rows).items()},
        }
    return methods


def _score_novelty(scored: pd.DataFrame, replicates: int, seen: Collection[str] | None) -> dict[str, Any]:
    """Return the AUC of all fakes of seen methods, and of all of unseen ones, each against all reals."""
    fakes = scored[scored["label"] == 1]
    methods = sorted(fakes["method"].unique())
    unseen = find_unseen(methods, methods if seen is None else seen)
    groups = {}
    for name, some in (("seen", sorted(set(methods) - set(unseen))), ("unseen", unseen)):
        rows = scored[(scored["label"] == 0) | scored["method"].isin(some)]
        videos = int(fakes["method"].isin(some).sum())
        groups[name] = {"methods": some, "videos": videos, "auc": _score_column(rows, rows["score"], replicates)}
    return groups


def _list_rivals(videos: pd.DataFrame) -> dict[str, pd.Series]:
    """Return how suspicious each video is to what a detector must beat: trivial features, and plain synchrony."""
    return {"trivia": videos["trivia_score"], "synchrony": -videos["mouth_loudness"]}


def pair_methods(scored: pd.DataFrame) -> Iterator[tuple[str, int, pd.DataFrame]]:
    """Yield every method of forgery, how many fakes it has, and their rows together with those of all reals."""
    reals = scored[scored["label"] == 0]
    for method, fakes in scored[scored["label"] == 1].groupby("method"):
        yield str(method), len(fakes), pd.concat([reals, fakes])


def _score_sources(scored: pd.DataFrame, replicates: int) -> dict[str, Any]:
    """Return the AUC within each source that holds both labels, where files of several are pooled."""
    if scored["source"].nunique() < 2:
        return {}
    mixed = {source: rows for source, rows in scored.groupby("source") if rows["label"].nunique() == 2}
    return {
        str(source): {"videos": len(rows), "auc": _score_column(rows, rows["score"], replicates)}
        for source, rows in mixed.items()
    }


def _score_column(rows: pd.DataFrame, scores: pd.Series, replicates: int) -> dict[str, float | None]:
    """Return the AUC of a score over the rows that have it."""
    rows, scores = rows[scores.notna()], scores.dropna()
    if rows["label"].nunique() < 2:
        return {"value": None, "low": None, "high": None}
    return compute_auc(rows["label"], scores, identities=list(rows["identities"]), replicates=replicates)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    table.to_csv(partial, index=False)
    partial.replace(path)


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV that `write_table` wrote: empty means no score, but is a text like any other in a text's column."""
    numbers = {name: [""] for name in (*SCORES, "weight", "trivia_score", "mouth_loudness", "predicted")}
    return pd.read_csv(path, dtype=dict.fromkeys(TEXT_COLUMNS, str), keep_default_na=False, na_values=numbers)


def score_files(
    files: Iterable[str | Path], model: MultimodalModel, settings: Settings, *, progress: bool = True
) -> Iterator[dict[str, Any]]:
    """Score video files one by one; a bad one costs only itself.

    Yields:
        For each file, in order: `path`, `status` (`ok`, `unscored`, `failed`), `reason`, `streams` (what was scored:
        `both`, `video`, `audio` or nothing), `score`, `video_fake`, `audio_fake`, `in_sync` (probabilities, None where
        that stream is absent), `face` (whose scores these are; 0 for the first), `windows` (of that face), and
        the video's length in `seconds`.
    """
    files = list(dict.fromkeys(map(str, files)))
    for at in show_progress(range(0, len(files), CHUNK), "files", unit=f"{CHUNK} files", show=progress):
        yield from _score_chunk(files[at : at + CHUNK], model, settings)


def _score_chunk(files: list[str], model: MultimodalModel, settings: Settings) -> list[dict[str, Any]]:
    labels = dict.fromkeys(("label", *STREAM_LABELS), -1)
    rows = [{"video_id": file, "path": str(Path(file).absolute()), **labels} for file in files]
    table = pd.DataFrame(rows).assign(video_segments="", audio_segments="")
    loader = make_window_loader(table, settings, windows=settings.evaluate.windows, progress=False)
    tracks, failures = loader.dataset.tracks, loader.dataset.failures
    empty = pd.DataFrame(columns=["video_id", "face", *SCORES, "window", "weight", "has_face", "has_sound"])
    windows = score_windows(model, loader, progress=False) if len(loader.dataset) else empty
    videos = _join_scores(table, windows, failures, settings.model).set_index("video_id")
    return [_describe_file(file, videos.loc[file], tracks[file].duration if file in tracks else None) for file in files]


def _describe_file(file: str, row: pd.Series, seconds: float | None) -> dict[str, Any]:
    scores = {
        name.removesuffix("_score"): None if pd.isna(row[name]) else round(float(row[name]), 6) for name in SCORES
    }
    return {
        "path": file,
        "status": row["status"],
        "reason": row["reason"],
        "streams": row["streams"],
        **scores,
        "face": None if pd.isna(row["face"]) else int(row["face"]),
        "windows": int(row["windows"]),
        "seconds": None if seconds is None else round(seconds, 3),
    }
