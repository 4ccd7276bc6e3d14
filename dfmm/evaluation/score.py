"""Scores of windows, of a split's videos, and of loose files."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from dfmm import figures
from dfmm.bars import show_progress
from dfmm.dataset import make_dense_loader, make_evaluation_loader, make_window_loader, tabulate_files, track_files
from dfmm.evaluation.evidence import SENSES, Evidence, apply_evidence
from dfmm.evaluation.lines import add_left_out, describe_file, explain_presence, list_untaught
from dfmm.evaluation.localization import list_stretches, trace_scores
from dfmm.evaluation.synchrony import (
    describe_synchrony,
    judge_tracks,
    judge_videos,
    tabulate_verdicts,
)
from dfmm.extraction.cures import choose_span
from dfmm.extraction.extract import tabulate_tracks
from dfmm.extraction.pool import keep_workers, look_ahead, split_files
from dfmm.extraction.tracks import Tracks
from dfmm.manifest import STREAM_LABELS
from dfmm.model import MultimodalModel, predict
from dfmm.model.aggregation import SCORES, aggregate_windows
from dfmm.model.synchrony import SynchronyModel
from dfmm.people import assign_people
from dfmm.sections import Model
from dfmm.settings import Settings

# Of each video: the share of frames with the followed face, how many faces there are, of how many there was no room in
# a shot, shots, and gaps in the following.
FOUND = ["face_coverage", "faces", "left_out", "shots", "gaps"]

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
    videos = _refuse_scores(_join_senses(videos, evidence) if evidence else videos)
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


def _join_senses(videos: pd.DataFrame, evidence: Evidence) -> pd.DataFrame:
    """Return the videos as `apply_evidence` does, without a score where all that counts is missing: a prior judges
    nobody.
    """
    videos, counted = apply_evidence(videos, evidence), evidence.weighed
    if not counted:
        return videos
    bare = (videos["status"] == "ok") & videos[[f"{name}_evidence" for name in counted]].isna().all(axis=1)
    told = videos["reason"].str.replace(": scored from the (?:picture|sound) alone", "; ", regex=True)
    reasons = told + f"nothing that counts in the score can be judged ({', '.join(counted)})"
    return videos.assign(
        status=videos["status"].mask(bare, "unscored"),
        score=videos["score"].mask(bare),
        streams=videos["streams"].mask(bare, ""),
        reason=videos["reason"].mask(bare, reasons),
    )


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
    if settings.data.read == "shards":  # where no loose file lies
        settings = settings.model_copy(update={"data": settings.data.model_copy(update={"read": "videos"})})
    talks = synchrony is not None and settings.synchrony.use
    find = partial(_find_files, settings=settings, talks=talks, whole=whole)
    # Processes of their own may read windows over time, and are not to be forked beside a thread that extracts.
    forks = settings.evaluate.stride and settings.data.workers
    ahead = map if forks else partial(look_ahead, drop=_drop_found)
    with keep_workers(), show_progress(None, "files", unit="file", total=len(files), show=progress) as bar:
        for found in ahead(find, split_files(files, settings.extract)):
            try:
                lines = _score_chunk(*found, model, settings, evidence, synchrony, details)
            finally:
                _drop_found(found)
            bar.update(len(lines))
            yield from lines


def _score_chunk(
    table: pd.DataFrame,
    parts: list[Tracks],
    failures: dict[str, str],
    model: MultimodalModel,
    settings: Settings,
    evidence: Evidence | None,
    synchrony: SynchronyModel | None,
    details: bool,
) -> list[dict[str, Any]]:
    files = list(table["video_id"])
    tracks = {name: part for part in parts for name in part}
    verdicts = {name: one for part in parts for name, one in judge_tracks(part, synchrony).items()} if synchrony else {}
    windows = _score_parts(parts, model, settings)
    videos = _join_scores(table, windows, failures, settings.model)
    videos["reason"] = [add_left_out(*row, tracks) for row in zip(videos["reason"], videos["video_id"], strict=True)]
    videos = add_synchrony(videos, tabulate_verdicts(videos, verdicts)) if synchrony else videos
    videos = _refuse_scores(_join_senses(videos, evidence) if evidence else videos).set_index("video_id")
    found = {file: tracks[file][file] if file in tracks else None for file in files}
    lines = [describe_file(file, videos.loc[file], found[file], evidence) for file in files]
    if synchrony is not None:
        judged = {name: describe_synchrony(verdict) for name, verdict in verdicts.items() if not verdict.reason}
        lines = [line | {"synchrony": judged.get(line["path"])} for line in lines]
    curves = {}
    if settings.evaluate.stride:
        curves = _trace_files(table[table["video_id"].isin(list(parts[-1]))], videos, model, settings)
        level = evidence.window_threshold if evidence else None
        stretches = {name: list_stretches(of, level) for name, of in curves.items()}
        lines = [line | {"stretches": stretches.get(line["path"], [])} for line in lines]
    if details:
        stills = [figures.draw_still(tracks.get(of["path"], {}), of["path"], face=of["face"] or 0) for of in lines]
        drawn = zip(lines, stills, strict=True)
        lines = [
            line | {"still": still, "curves": curves.get(line["path"]), "heard": verdicts.get(line["path"])}
            for line, still in drawn
        ]
    return lines


def _find_files(
    files: Sequence[str], settings: Settings, *, talks: bool, whole: bool
) -> tuple[pd.DataFrame, list[Tracks], dict[str, str]]:
    table = tabulate_files(files)
    return table, *track_files(table, settings, crops=True, talks=talks, whole=whole)


def _drop_found(found: tuple[pd.DataFrame, list[Tracks], dict[str, str]]) -> None:
    """Remove what was kept for these files' windows alone."""
    for tracks in found[1]:
        tracks.drop_parts()


def _score_parts(parts: Iterable[Tracks], model: MultimodalModel, settings: Settings) -> pd.DataFrame:
    """Return the windows of all these videos, as `score_windows` does.

    All that they show is kept, and read faster than another process is forked.
    """
    alone = settings.model_copy(update={"data": settings.data.model_copy(update={"workers": 0})})
    columns = ["video_id", "face", "window", "start", *SCORES, "weight", "finite", "has_face", "has_sound"]
    options = {"windows": settings.evaluate.windows, "progress": False}
    loaders = [make_window_loader(part.manifest, alone, tracks=part, **options) for part in parts if len(part)]
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
