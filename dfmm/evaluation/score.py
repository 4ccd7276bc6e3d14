"""Scores of windows, of a split's videos, and of loose files."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from dfmm import figures
from dfmm.bars import show_progress
from dfmm.dataset import make_dense_loader, make_evaluation_loader, make_window_loader, skim_videos
from dfmm.evaluation.evidence import SENSES, Evidence, apply_evidence, describe_evidence
from dfmm.evaluation.localization import describe_stretches, list_stretches, trace_scores
from dfmm.evaluation.synchrony import (
    cut_path,
    describe_looked,
    describe_synchrony,
    format_looked,
    judge_tracks,
    judge_videos,
    tabulate_verdicts,
)
from dfmm.extraction.cures import choose_span
from dfmm.extraction.extract import extract_tracks, tabulate_tracks
from dfmm.extraction.pool import keep_workers
from dfmm.extraction.tracks import Tracks
from dfmm.faces.track import Track
from dfmm.manifest import STREAM_LABELS
from dfmm.metrics import RATIO_DIGITS
from dfmm.model import MultimodalModel, predict
from dfmm.model.aggregation import SCORES, aggregate_windows
from dfmm.model.synchrony import SynchronyModel
from dfmm.people import assign_people
from dfmm.sections import Model
from dfmm.settings import Settings

# Of each video: the share of frames with the followed face, how many faces there are, of how many there was no room in
# a shot, shots, and gaps in the following.
FOUND = ["face_coverage", "faces", "left_out", "shots", "gaps"]
CHUNK = 16  # files scored together: results come out this often

log = logging.getLogger("dfmm")


def score_windows(model: nn.Module, loader: torch.utils.data.DataLoader, *, progress: bool = True) -> pd.DataFrame:
    """Score every window of a loader.

    Returns:
        A row a window: `video_id`, `face`, `window`, `start` in seconds, `label` of the window, `score` (probability
        that it is fake), each stream's `…_score`, `has_face`, `has_sound`, `finite` (are all of the model's answers
        numbers?), and where the model weighs windows `weight`, a logit. A score is NaN where its stream is absent, and
        everywhere where its head never learnt what it is asked (`MultimodalModel.taught`).
    """
    batches = show_progress(predict(model, loader), "scores", unit="batch", total=len(loader), show=progress)
    taught = set(STREAM_LABELS) - set(list_untaught(model))
    tables = [tabulate_batch(outputs, batch, taught) for outputs, batch in batches]
    return pd.concat(tables, ignore_index=True)


def score_timeline(
    model: nn.Module, manifest: pd.DataFrame, settings: Settings, *, split: str | None = None, progress: bool = True
) -> pd.DataFrame:
    """Score windows every `evaluate.stride` seconds over each whole video, of a split or of all rows.

    Returns:
        A row a window, as from `score_windows`, with `end` in seconds: of the window, or of the video where that ends
        first. Scores made of an answer that is no number are NaN.
    """
    loader = make_dense_loader(manifest, settings, split=split, progress=progress)
    timeline, tracks = score_windows(model, loader, progress=progress), loader.dataset.tracks
    spans = {name: choose_span(tracks[name], settings.cure) for name in tracks}
    ends = {name: span.end if span else tracks[name].duration for name, span in spans.items()}
    end = (timeline["start"] + settings.window_seconds).clip(upper=timeline["video_id"].map(ends))
    timeline.insert(timeline.columns.get_loc("start") + 1, "end", end)
    timeline[[*SCORES]] = timeline[[*SCORES]].where(timeline["finite"])
    return timeline


def tabulate_batch(
    outputs: dict[str, torch.Tensor], batch: dict[str, Any], taught: Collection[str] = STREAM_LABELS
) -> pd.DataFrame:
    """Return the rows of `score_windows` for one batch."""
    face, sound = batch["frame_mask"].any(dim=1), batch["sound_mask"].any(dim=1)
    there = {"score": face | sound, "video_fake_score": face, "audio_fake_score": sound, "in_sync_score": face & sound}
    there |= {f"{name}_score": there[f"{name}_score"] & (name in taught) for name in STREAM_LABELS}
    found = {f"{name}_score": outputs[name].sigmoid() for name in STREAM_LABELS}
    found["score"] = outputs["logits"].softmax(dim=1)[:, 1]
    columns = {name: found[name].float().where(there[name], torch.nan).cpu().numpy() for name in SCORES}
    facts = {name: batch[name].cpu().numpy() for name in ("face", "window", "start", "label")}
    presence = {"has_face": face.cpu().numpy(), "has_sound": sound.cpu().numpy()}
    finite = {f"{name}_score": outputs[name].isfinite() for name in STREAM_LABELS}
    finite["score"] = outputs["logits"].isfinite().all(dim=1)
    if "weight" in outputs:
        columns["weight"] = outputs["weight"].float().where(there["score"], torch.nan).cpu().numpy()
        finite["score"] &= outputs["weight"].isfinite()
    columns["finite"] = torch.stack([finite[name] | ~there[name] for name in SCORES]).all(dim=0).cpu().numpy()
    return pd.DataFrame({"video_id": batch["video_id"], **facts, **columns, **presence})


def list_untaught(model: nn.Module, synchrony: SynchronyModel | None = None) -> list[str]:
    """Return the streams of which nothing is said, for the model's training had one kind of their label alone.

    Args:
        synchrony: is asked about mouth and sound in its stead.
    """
    taught = {*getattr(model, "taught", STREAM_LABELS), *(["in_sync"] if synchrony else [])}
    return [name for name in STREAM_LABELS if name not in taught]


def explain_untaught(streams: Collection[str]) -> str:
    """Say of which streams a model says nothing, and why; empty where it was taught them all."""
    names = ", ".join(name.replace("_", " ") for name in streams)
    return f"no score for {names}: training had no label of both kinds" if streams else ""


def find_broken(windows: pd.DataFrame) -> dict[str, str]:
    """Say of each video that has a window to which the model's answer is no number which one that is."""
    broken = windows[~windows["finite"].astype(bool)].drop_duplicates("video_id")
    rows = zip(broken["video_id"], broken["window"], broken["start"], strict=True)
    return {name: f"the model's answer to window {window}, at {at:.2f} s, is no number" for name, window, at in rows}


def score_split(
    model: nn.Module,
    manifest: pd.DataFrame,
    split: str,
    settings: Settings,
    *,
    evidence: Evidence | None = None,
    synchrony: SynchronyModel | None = None,
    progress: bool = True,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score a split's videos.

    Args:
        evidence: how to join what each sense says; without it a video's score is the network's own.
        synchrony: asked as well whether mouth and sound belong together; its answer is the clip's `in_sync_score`.

    Returns:
        The split's rows with `status` (`ok`, `unscored`, `failed`), `reason`, `streams` (what was scored: `both`,
        `video`, `audio` or nothing), `windows`, the network's scores, aggregated as `model.aggregation` says
        (`fusion_score` is that of both streams), `score`, joined from all evidence, with each piece's `…_evidence`, and
        what was found of faces (`FOUND`); and the windows, a row each.
    """
    manifest = assign_people(manifest)  # the whole of it: an original may be in another split
    loader = make_evaluation_loader(manifest, split, settings, progress=progress)
    wanted = manifest[manifest["split"] == split]
    if settings.data.limit:  # debug mode scores only what its loader holds
        wanted = wanted[wanted["video_id"].isin({*loader.dataset.tracks, *loader.dataset.failures})]
    wanted = pd.concat([wanted, loader.dataset.twins], ignore_index=True)
    windows = score_windows(model, loader, progress=progress)
    videos = _join_scores(wanted, windows, loader.dataset.failures, settings.model)
    if synchrony:
        # A twin is forged as it is read: its file would be judged as the real one that it is.
        judged = videos[(videos["status"] == "ok") & ~videos["video_id"].isin(loader.dataset.twins["video_id"])]
        videos = add_synchrony(videos, judge_videos(judged, settings, synchrony, progress=progress))
    videos = _refuse_scores(apply_evidence(videos, evidence) if evidence else videos)
    found = tabulate_tracks(loader.dataset.tracks.manifest, loader.dataset.tracks)[["video_id", *FOUND]]
    return videos.merge(found, on="video_id", how="left"), windows


def add_synchrony(videos: pd.DataFrame, judged: pd.DataFrame) -> pd.DataFrame:
    """Return the videos with what was judged of their synchrony; `in_sync_score` then is that of the clip."""
    videos = videos.join(judged)
    return videos.assign(in_sync_score=videos["in_step"].fillna(videos["in_sync_score"]))


def _join_scores(manifest: pd.DataFrame, windows: pd.DataFrame, failures: dict[str, str], model: Model) -> pd.DataFrame:
    broken = find_broken(windows)
    for name, reason in broken.items():
        log.warning("%s: %s", name, reason)
    whole, failures = windows[~windows["video_id"].isin(broken)], {**failures, **broken}
    videos = manifest.merge(aggregate_windows(whole, model.aggregation), on="video_id", how="left")
    videos["windows"], videos["fusion_score"] = videos["windows"].fillna(0).astype(int), videos["score"]
    failed = videos["video_id"].isin(failures)
    videos["status"] = np.select([failed, videos["windows"] == 0], ["failed", "unscored"], "ok")
    presence = windows.groupby("video_id")[["has_face", "has_sound"]].any()
    rows = zip(presence.index, presence.to_numpy(), strict=True)
    reasons = {name: explain_presence(*row, streams=model.streams) for name, row in rows}
    videos["reason"] = videos["video_id"].map({**reasons, **failures}).fillna("")
    # Of what is there, not of what has a score of its own: a head that was taught nothing gives none.
    there = presence.reindex(videos["video_id"], fill_value=False)
    seen, heard = there["has_face"].to_numpy(bool), there["has_sound"].to_numpy(bool)
    seen, heard = seen & (model.streams != "audio"), heard & (model.streams != "video")
    videos["streams"] = np.select([seen & heard, seen, heard], ["both", "video", "audio"], "")
    return videos


def _refuse_scores(videos: pd.DataFrame) -> pd.DataFrame:
    """Return the videos, of which one whose score, or what it is joined from, is no number has failed."""
    measured = videos[[name for name in ("score", *(sense.column for sense in SENSES.values())) if name in videos]]
    wrong = np.isinf(measured.astype(float)).assign(score=~np.isfinite(videos["score"].astype(float)))
    failed = (videos["status"] == "ok") & wrong.any(axis=1)
    reasons = [f"no number: {', '.join(wrong.columns[row])}" for row in wrong[failed].to_numpy()]
    for name, reason in zip(videos.loc[failed, "video_id"], reasons, strict=True):
        log.warning("%s: %s", name, reason)
    return videos.assign(
        status=videos["status"].mask(failed, "failed"),
        score=videos["score"].mask(failed),
        reason=videos["reason"].mask(failed, pd.Series(reasons, videos.index[failed], dtype=object)),
    )


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


def score_files(
    files: Iterable[str | Path],
    model: MultimodalModel,
    settings: Settings,
    *,
    evidence: Evidence | None = None,
    synchrony: SynchronyModel | None = None,
    details: bool = False,
    stride: float | None = None,
    whole: bool = False,
    progress: bool = True,
) -> Iterator[dict[str, Any]]:
    """Score video files one by one; a bad one costs only itself.

    A long file is decoded around its windows alone, unless `evaluate.stride` asks for all of it.

    Args:
        evidence: how to join what each sense says; without it a score is the network's own.
        synchrony: asked as well whether mouth and sound belong together, unless `synchrony.use` is off.
        details: yield as well what a page draws, which is no JSON: `still` (a frame with the face, a JPEG), `curves`
            (as from `trace_scores`) and `heard` (a `Synchrony`), each None where there is none.
        stride: score windows every so many seconds, where `evaluate.stride` is not set, of files that are decoded as a
            whole anyway.
        whole: decode long files as a whole, too.

    Yields:
        For each file, in order: `path`, `status` (`ok`, `unscored`, `failed`), `reason`, `streams` (what was scored:
        `both`, `video`, `audio` or nothing), `score`, `video_fake`, `audio_fake`, `in_sync` (probabilities, None where
        that stream is absent), `called` (`fake` or `real`, by the `threshold` that validation chose; None for both
        without `evidence`), `face` (whose scores these are; 0 for the first), `windows` (of that face), the video's
        length in `seconds`, what was `looked` at of a long file (as `describe_looked` returns it; None where all was
        decoded), `evidence`: what each piece says, in words, and `log10_ratios`: how many times more often
        it is seen in forgeries, by powers of ten, None where it is missing; with `synchrony` also that, as
        `describe_synchrony` returns it, None where mouth and sound cannot be compared; `in_sync` then is its answer.
        With `evaluate.stride` also `stretches`, where it is forged, as `list_stretches` returns them.
    """
    files, whole = list(dict.fromkeys(map(str, files))), whole or settings.evaluate.stride is not None
    if stride and settings.evaluate.stride is None:
        chosen = settings.evaluate.model_copy(update={"stride": stride})
        settings = settings.model_copy(update={"evaluate": chosen})
    with keep_workers():
        for at in show_progress(range(0, len(files), CHUNK), "files", unit=f"{CHUNK} files", show=progress):
            yield from _score_chunk(files[at : at + CHUNK], model, settings, evidence, synchrony, details, whole)


def _score_chunk(
    files: list[str],
    model: MultimodalModel,
    settings: Settings,
    evidence: Evidence | None,
    synchrony: SynchronyModel | None,
    details: bool,
    whole: bool,
) -> list[dict[str, Any]]:
    labels = dict.fromkeys(("label", *STREAM_LABELS), -1)
    rows = [{"video_id": file, "path": str(Path(file).absolute()), **labels} for file in files]
    table = pd.DataFrame(rows).assign(video_segments="", audio_segments="")
    parts, failures = _extract_files(
        table, settings, talks=synchrony is not None and settings.synchrony.use, whole=whole
    )
    tracks = {name: part for part in parts for name in part}
    verdicts = {name: one for part in parts for name, one in judge_tracks(part, synchrony).items()} if synchrony else {}
    windows = _score_parts(parts, model, settings)
    videos = _join_scores(table, windows, failures, settings.model)
    videos["reason"] = [_add_left_out(*row, tracks) for row in zip(videos["reason"], videos["video_id"], strict=True)]
    videos = add_synchrony(videos, tabulate_verdicts(videos, verdicts)) if synchrony else videos
    videos = _refuse_scores(apply_evidence(videos, evidence) if evidence else videos).set_index("video_id")
    found = {file: tracks[file][file] if file in tracks else None for file in files}
    lines = [_describe_file(file, videos.loc[file], found[file], evidence) for file in files]
    if synchrony is not None:
        judged = {name: describe_synchrony(verdict) for name, verdict in verdicts.items() if not verdict.reason}
        lines = [line | {"synchrony": judged.get(line["path"])} for line in lines]
    curves = {}
    if settings.evaluate.stride:
        curves = _trace_files(table[table["video_id"].isin(list(parts[-1]))], videos, model, settings)
        stretches = {name: list_stretches(of) for name, of in curves.items()}
        lines = [line | {"stretches": stretches.get(line["path"], [])} for line in lines]
    if details:
        stills = [figures.draw_still(tracks.get(of["path"], {}), of["path"], face=of["face"] or 0) for of in lines]
        drawn = zip(lines, stills, strict=True)
        lines = [
            line | {"still": still, "curves": curves.get(line["path"]), "heard": verdicts.get(line["path"])}
            for line, still in drawn
        ]
    return lines


def _extract_files(
    table: pd.DataFrame, settings: Settings, *, talks: bool, whole: bool
) -> tuple[list[Tracks], dict[str, str]]:
    """Return the tracks of long files, which are read in parts, and those of all others; and why some of them failed.

    Where mouths are wanted as well as crops, both are found in one pass.
    """
    skimmed = skim_videos(table.iloc[:0] if whole else table, settings)
    rest = table[~table["video_id"].isin(list(skimmed))].reset_index(drop=True)
    kept = settings.data.read != "videos"
    others, failures = extract_tracks(rest, settings, crops=kept, talks=talks, progress=False)
    return [skimmed, others], failures


def _score_parts(parts: Iterable[Tracks], model: MultimodalModel, settings: Settings) -> pd.DataFrame:
    """Return the windows of all these videos, as `score_windows` does."""
    columns = ["video_id", "face", "window", "start", *SCORES, "weight", "finite", "has_face", "has_sound"]
    options = {"windows": settings.evaluate.windows, "progress": False}
    loaders = [make_window_loader(part.manifest, settings, tracks=part, **options) for part in parts if len(part)]
    scored = [score_windows(model, loader, progress=False) for loader in loaders]
    return pd.concat(scored, ignore_index=True) if scored else pd.DataFrame(columns=columns)


def _trace_files(
    table: pd.DataFrame, videos: pd.DataFrame, model: MultimodalModel, settings: Settings
) -> dict[str, pd.DataFrame]:
    """Return the curves of each file that has a score."""
    scored = table[table["video_id"].map(videos["status"]) == "ok"]
    if scored.empty:
        return {}
    timeline = score_timeline(model, scored, settings, progress=False)
    stride = settings.evaluate.stride
    return {str(name): trace_scores(windows, stride) for name, windows in timeline.groupby("video_id")}


def _add_left_out(reason: str, video_id: str, tracks: Mapping[str, Tracks]) -> str:
    """Say beside a reason how many people are not followed, though all were asked for."""
    count = tracks[video_id][video_id].left_out if video_id in tracks else 0
    said = f"not followed: {count} of the faces, for a shot has too many" if count else ""
    return "; ".join(filter(None, (reason, said)))


def _describe_file(file: str, row: pd.Series, track: Track | None, evidence: Evidence | None) -> dict[str, Any]:
    scores = {
        name.removesuffix("_score"): None if pd.isna(row[name]) else round(float(row[name]), 6) for name in SCORES
    }
    return {
        "path": file,
        "status": row["status"],
        "reason": cut_path(row["reason"], file),
        "streams": row["streams"],
        **scores,
        **_call(scores["score"], evidence),
        "face": None if pd.isna(row["face"]) else int(row["face"]),
        "windows": int(row["windows"]),
        "seconds": None if track is None else round(track.duration, 3),
        "looked": None if track is None else describe_looked(track),
        "evidence": describe_evidence(row, evidence) if evidence and row["status"] == "ok" else {},
        "log10_ratios": _list_ratios(row, evidence) if evidence and row["status"] == "ok" else {},
    }


def _list_ratios(row: pd.Series, evidence: Evidence) -> dict[str, float | None]:
    ratios = {name: row[f"{name}_evidence"] for name in evidence.weighed}
    return {name: None if pd.isna(ratio) else round(float(ratio), RATIO_DIGITS) for name, ratio in ratios.items()}


def _call(score: float | None, evidence: Evidence | None) -> dict[str, Any]:
    """Return what a file is called, and from which score on it would be called fake."""
    if evidence is None or score is None:
        return {"called": None, "threshold": None}
    return {"called": "fake" if score >= evidence.threshold else "real", "threshold": round(evidence.threshold, 6)}


def format_scores(line: dict[str, Any]) -> str:
    """Return a file's scores as a line for people, and below it a line for each piece of evidence and forged stream."""
    if line["status"] != "ok":
        return f"{line['status']:>8}  {line['path']}: {line['reason']}"
    verdict = f"called {line['called']}, fake from {line['threshold']:.3f}" if line["called"] else "not called"
    streams = {"picture": "video_fake", "voice": "audio_fake", "in sync": "in_sync"}
    scores = ", ".join(f"{word} {line[name]:.2f}" for word, name in streams.items() if line[name] is not None)
    reason = f"  {line['reason']}" if line["reason"] else ""
    first = f"{line['score']:8.3f}  {line['path']}: {verdict} ({scores or 'no stream alone'}){reason}"
    said = line["evidence"] | describe_stretches(line.get("stretches", ()))
    looked = format_looked(line)
    return "\n".join(
        [first, *(f"{name:>20}: {says}" for name, says in said.items()), *([f"{'':>20}  {looked}"] * bool(looked))]
    )
