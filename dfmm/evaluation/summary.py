"""What a scored split says of a detector: coverage, and metrics with intervals, by method and by source."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict
from typing import Any

import pandas as pd

from dfmm.evaluation.contents import FURTHER, METRICS
from dfmm.manifest import find_unseen, is_synthetic
from dfmm.metrics import Costs, compare_aucs, compute_auc, compute_macro_auc, compute_metrics
from dfmm.people import assign_people
from dfmm.runs import RunError
from dfmm.settings import Settings

UNNAMED = "unnamed"  # a dataset whose manifest does not say


def name_dataset(manifest: pd.DataFrame) -> str:
    """Return the names of the datasets whose videos these are."""
    return " and ".join(sorted(set(manifest["dataset"]) - {""})) or UNNAMED


def summarise_split(
    videos: pd.DataFrame,
    windows: pd.DataFrame,
    *,
    split: str,
    threshold: float,
    window_threshold: float | None = None,
    replicates: int,
    streams: str = "both",
    seen: Collection[str] | None = None,
    prior: float | None = None,
    costs: Costs | None = None,
) -> dict[str, Any]:
    """Return coverage and metrics of a scored split, as a `Report` holds them.

    Args:
        videos, windows: as from `score_split`.
        threshold, window_threshold: from which score on a video, and a window, is called fake; both chosen on
            validation, each on its own kind. Without the second a window is judged as a video is.
        streams: that the model uses, as `model.streams`: no video is without what is not looked for.
        seen: the methods of the fakes that the model was trained on; None where nobody knows.
        prior: the share of fakes that scores assume; None: that of this split.
        costs: of wrong decisions.
    """
    videos = assign_people(videos)
    videos = videos.assign(identities=videos["identities"].astype(object))  # read again and again, and fast so
    scored = videos[videos["status"] == "ok"]
    if scored.empty:
        raise RunError(f"not one of the {len(videos)} videos of {split!r} could be scored; see their reasons above")
    known = windows[windows["score"].notna() & windows["label"].isin((0, 1))]
    known = known[known["video_id"].isin(scored["video_id"])]
    people = known["video_id"].map(videos.set_index("video_id")["identities"])
    options = {"threshold": threshold, "replicates": replicates, "prior": prior, "costs": costs or Costs()}
    video = compute_metrics(scored["label"], scored["score"], identities=list(scored["identities"]), **options)
    return {
        "dataset": name_dataset(videos),
        "split": split,
        "videos": len(videos),
        "replicates": replicates,
        "costs": asdict(options["costs"]),
        "synthetic": is_synthetic(videos),
        "coverage": _count_coverage(videos, streams),
        "one_label": describe_one_label(video),
        "video": video,
        "macro_auc": _average_methods(scored, replicates),
        "window": _measure_windows(
            known, list(people), **options | {"threshold": threshold if window_threshold is None else window_threshold}
        ),
        "rivals": _score_rivals(scored, replicates),
        "pieces": _score_pieces(scored, replicates, ahead=scored["score"]),
        **_score_novelty(scored, replicates, seen),
        "methods": _score_methods(scored, replicates),
        "sources": _score_sources(scored, replicates),
    }


def _measure_windows(known: pd.DataFrame, people: list[str], **options: Any) -> dict[str, Any]:
    """Return the metrics of windows; those of none are undefined, where scores were imported video by video."""
    if known.empty:
        nothing = {"value": None, "low": None, "high": None}
        counts = {"confusion": dict.fromkeys(("tn", "fp", "fn", "tp"), 0), "n": 0, "n_fake": 0}
        return dict.fromkeys(METRICS | FURTHER, nothing) | counts
    return compute_metrics(known["label"], known["score"], identities=people, **options)


def choose_costs(settings: Settings) -> Costs:
    """Return what wrong decisions cost, as the settings say."""
    chosen = settings.evaluate
    return Costs(chosen.dcf_prior, chosen.false_alarm_cost, chosen.miss_cost)


def describe_one_label(video: dict[str, Any]) -> dict[str, Any] | None:
    """Say what is left to tell where all scored videos are fakes, or all reals; None where there are both.

    Args:
        video: as from `compute_metrics`.

    Returns:
        `why` the metrics that compare are undefined, and of those that are not the one that says it all: its `name`
        and `rate`, with its interval.
    """
    if 0 < video["n_fake"] < video["n"]:
        return None
    only, other = ("fakes", "reals") if video["n_fake"] else ("reals", "fakes")
    found = video["recall"]
    if only == "reals":  # what is not right is called fake
        right = video["accuracy"]
        found = {"value": 1 - right["value"], "low": 1 - right["high"], "high": 1 - right["low"]}
    return {
        "why": f"AUC, average precision and error rates compare fakes with reals, and all {video['n']} scored videos "
        f"are {only}: they are undefined without {other}",
        "name": "recall (fakes called fake)" if only == "fakes" else "false alarms (reals called fake)",
        "rate": found,
    }


def _count_coverage(videos: pd.DataFrame, streams: str) -> dict[str, Any]:
    counts = videos["status"].value_counts()
    scored = videos[videos["status"] == "ok"]
    kinds = ("both", "video", "audio") if "streams" in videos else ()  # of imported scores nobody knows
    scored_from = {name: int((scored["streams"] == name).sum()) for name in kinds}
    left_out = videos[videos["status"] != "ok"]
    return {
        "scored": int(counts.get("ok", 0)),
        "unscored": int(counts.get("unscored", 0)),
        "failed": int(counts.get("failed", 0)),
        "share": float((videos["status"] == "ok").mean()),
        "streams": scored_from,
        "without_face": scored_from.get("audio", 0) if streams != "audio" else 0,
        "without_sound": scored_from.get("video", 0) if streams != "video" else 0,
        "faces": _count_faces(scored) if "faces" in scored else None,
        "reasons": dict(zip(left_out["video_id"], left_out["reason"], strict=True)),
    }


def _count_faces(scored: pd.DataFrame) -> dict[str, Any]:
    return {
        "followed": float(scored["face_coverage"].mean()),
        "several": int((scored["faces"] > 1).sum()),
        "cut": int((scored["shots"] > 1).sum()),
        "lost": int((scored["gaps"] > 0).sum()),
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
            "auc": score_column(rows, rows["score"], replicates),
            "streams": {name: score_column(rows, scores, replicates) for name, scores in suspicions.items()},
            "pieces": _score_pieces(rows, replicates),
            **_score_rivals(rows, replicates),
        }
    return methods


def _average_methods(scored: pd.DataFrame, replicates: int) -> dict[str, float | None]:
    """Return the mean of the methods' AUCs: the pooled one is that of the method with most videos."""
    people, options = list(scored["identities"]), {"replicates": replicates}
    return compute_macro_auc(scored["label"], scored["score"], scored["method"], identities=people, **options)


def _score_novelty(scored: pd.DataFrame, replicates: int, seen: Collection[str] | None) -> dict[str, Any]:
    """Return the AUC of all fakes of seen methods, and of all of unseen ones, each against all reals.

    Where nobody knows what the detector was trained on, there is neither.
    """
    if seen is None:
        return {}
    fakes = scored[scored["label"] == 1]
    methods = sorted(fakes["method"].unique())
    unseen = find_unseen(methods, seen)
    groups: dict[str, Any] = {"trained_methods": sorted(seen)}
    for name, members in (("seen", sorted(set(methods) - set(unseen))), ("unseen", unseen)):
        rows = scored[(scored["label"] == 0) | scored["method"].isin(members)]
        videos = int(fakes["method"].isin(members).sum())
        groups[name] = {"methods": members, "videos": videos, "auc": score_column(rows, rows["score"], replicates)}
    return groups


def _score_pieces(rows: pd.DataFrame, replicates: int, *, ahead: pd.Series | None = None) -> dict[str, Any]:
    """Return the AUC of each piece of evidence alone, over the videos that have it, and how far a score is ahead."""
    names = [name.removesuffix("_evidence") for name in rows if name.endswith("_evidence")]
    return {name: score_column(rows, rows[f"{name}_evidence"], replicates, ahead=ahead) for name in names}


def _score_rivals(rows: pd.DataFrame, replicates: int) -> dict[str, Any]:
    """Return each rival's AUC, and how far the detector is ahead of it on the videos that it scored, too."""
    rivals = _list_rivals(rows)
    return {name: score_column(rows, scores, replicates, ahead=rows["score"]) for name, scores in rivals.items()}


def _list_rivals(videos: pd.DataFrame) -> dict[str, pd.Series]:
    """Return how suspicious each video is to what a detector must beat: trivial features, and synchrony.

    `synchrony` is the plain correlation of mouth and loudness, `ridge` how mouths move with what is said.
    """
    rivals = {"trivia": videos["trivia_score"], "synchrony": -videos["mouth_loudness"]}
    ridge = videos.get("sync_log_ratio", videos.get("sync_surprise"))  # the latter of former evaluations
    return rivals | ({} if ridge is None else {"ridge": -ridge})


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
        str(source): {"videos": len(rows), "auc": score_column(rows, rows["score"], replicates)}
        for source, rows in mixed.items()
    }


def score_column(
    rows: pd.DataFrame, scores: pd.Series, replicates: int, *, ahead: pd.Series | None = None
) -> dict[str, Any]:
    """Return the AUC of a score over the rows that have it.

    Args:
        ahead: another score, which all rows have: its AUC less this one, on the same rows, is told as `difference`.
    """
    rows, scores = rows[scores.notna()], scores.dropna()
    if rows["label"].nunique() < 2:
        return {"value": None, "low": None, "high": None}
    options = {"identities": list(rows["identities"]), "replicates": replicates}
    if ahead is None:
        return compute_auc(rows["label"], scores, **options)
    found = compare_aucs(rows["label"], ahead[rows.index], scores, **options)
    return {**found["b"], "difference": found["difference"]}
