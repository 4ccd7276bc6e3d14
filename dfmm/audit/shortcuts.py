"""What tells fakes from reals without being evidence: a trivial classifier on facts of the files, and perfect marks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

from dfmm.audit.facts import Facts, extract_facts
from dfmm.audit.marks import CHANCE, LEAST_TOLD, find_marks
from dfmm.extraction.extract import extract_tracks
from dfmm.extraction.pool import keep_workers
from dfmm.faces.track import Track
from dfmm.metrics import compute_auc
from dfmm.people import ALONE, connect_nodes, name_families, name_people
from dfmm.settings import Settings

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

PICTURE = {  # each feature's unit; None for a kind instead of a number
    "duration": "s",
    "frames": "",
    "fps": "",
    "width": "pixels",
    "height": "pixels",
    "file_size": "bytes",
    "video_codec": None,
    "video_bit_rate": "bit/s",
    "face_size": "of the picture's height",
    "face_coverage": "of the frames",
}
SOUND = {
    "has_audio": "",
    "audio_codec": None,
    "audio_bit_rate": "bit/s",
    "sample_rate": "Hz",
    "channels": "",
    "sound_start": "s",
    "sound_overhang": "s",
    "leading_silence": "s",
    "trailing_silence": "s",
    "loudness": "dB",
    "peak": "of full scale",
}
UNITS = PICTURE | SOUND
TOGETHER = "all together"
ORIGINS = ("source", "dataset")  # columns of the manifest: no fact of a file, but what may decide its label

EFFECT = 0.6  # an AUC below this is no shortcut worth a name, however sure
CONFIDENCE = 0.95
FOLDS = 5
FEWEST_FAKES = 10  # of a method, for it to be looked at by itself
LARGEST_GROUP = 0.6  # of the videos: where more hang together through the people they name, links are not followed
SOURCE_FOLDS = 20  # sources are left out one by one, of more than these several at a time


def measure_trivia(manifest: pd.DataFrame, settings: Settings, *, progress: bool = True) -> pd.DataFrame:
    """Return the trivial features of each video that can be read, in the manifest's order, by `video_id`."""
    with keep_workers():
        facts, _ = extract_facts(manifest, settings, progress=progress)
        tracks, _ = extract_tracks(manifest, settings, progress=progress)
    return tabulate_features(manifest, facts, tracks, settings)


def tabulate_features(
    manifest: pd.DataFrame, facts: Mapping[str, Facts], tracks: Mapping[str, Track], settings: Settings
) -> pd.DataFrame:
    """Return a row a video of which both facts and track are known: numbers, NaN where there is no such thing."""
    names = [name for name in manifest["video_id"] if name in facts and name in tracks]
    rows = [_describe_video(facts[name], tracks[name], settings) for name in names]
    table = pd.DataFrame(rows, index=pd.Index(names, name="video_id"), columns=list(UNITS))
    kinds = {name: float if unit is not None else object for name, unit in UNITS.items()}
    return table.astype(kinds)


def _describe_video(facts: Facts, track: Track, settings: Settings) -> dict[str, Any]:
    face = {
        "face_size": _measure_face(track, settings) if len(track.boxes) else None,
        "face_coverage": track.face_coverage if len(track.times) else None,
    }
    return {name: face[name] if name in face else getattr(facts, name) for name in UNITS}


def _measure_face(track: Track, settings: Settings) -> float:
    """Return the face's height as a share of the picture's.

    With `cure.face_pixels` the picture is the crop, in which all faces are of one size: of it, the share of its pixels
    that the file really has.
    """
    side, pixels = float(np.median(track.boxes[:, 3] - track.boxes[:, 1])), settings.cure.face_pixels
    if pixels is None:
        return side / track.height
    crop = float(np.nanmedian(track.lay_canvases(settings).steps)) * settings.video.size
    return min(crop / min(pixels, settings.video.size), 1.0) / (1 + 2 * settings.video.margin)


# The trivial classifier


def score_trivia(train: pd.DataFrame, labels: pd.Series, others: pd.DataFrame) -> NDArray[np.float64]:
    """Return the probability of fake, `[n]`, that trivial features learnt on some videos give to others."""
    return make_classifier(len(train)).fit(train, labels.to_numpy()).predict_proba(others)[:, 1]


def make_classifier(videos: int) -> Pipeline:
    """Return a logistic regression on ranks and their squares: it sees what is more, less, or more even in fakes.

    That a feature is missing is a feature, too.

    Args:
        videos: how many it will be fitted on.
    """
    from sklearn.compose import (  # which takes seconds, and scoring does not need it
        make_column_selector,
        make_column_transformer,
    )
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, QuantileTransformer

    ranks = QuantileTransformer(n_quantiles=min(100, videos), random_state=0)
    columns = make_column_transformer(
        (make_pipeline(ranks, FunctionTransformer(_square_ranks)), _list_numbers),
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")),
    )
    return make_pipeline(columns, LogisticRegression(class_weight="balanced", max_iter=1000))


def _list_numbers(features: pd.DataFrame) -> list[str]:
    return [name for name, values in features.select_dtypes("number").items() if values.notna().any()]


def _square_ranks(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    missing = np.isnan(ranks)
    centred = np.where(missing, 0, 2 * ranks - 1)
    return np.hstack([centred, centred**2, missing])


# Who is tested on whom


def group_people(manifest: pd.DataFrame) -> tuple[pd.Series, bool]:
    """Return a group for each video, so that no two groups share a person or an original, and whether that held.

    Where swaps link nearly everyone to everyone, no such groups are left. Then the first person named decides, who
    by custom is the one to be seen.
    """
    people, everyone = name_people(manifest).str.split("|"), np.arange(len(manifest))
    videos = np.append(np.repeat(everyone, people.str.len()), everyone)
    codes = pd.factorize(pd.concat([people.explode(), ALONE + name_families(manifest)]))[0]
    groups = connect_nodes(videos, len(manifest) + codes, len(manifest) + len(codes))[: len(manifest)]
    linked = pd.Series(groups, index=manifest.index).astype(str)
    if linked.value_counts(normalize=True).max() <= LARGEST_GROUP:
        return linked, True
    return people.str[0], False


def assign_folds(labels: pd.Series, groups: pd.Series) -> NDArray[np.int64] | None:
    """Return the fold in which each video is tested; None where either label has only one group."""
    from sklearn.model_selection import StratifiedGroupKFold  # which takes seconds, and scoring does not need it

    folds = min(FOLDS, groups[labels == 1].nunique(), groups[labels == 0].nunique())
    if folds < 2:
        return None
    assigned = np.zeros(len(labels), np.int64)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    for fold, (_, tested) in enumerate(splitter.split(labels, labels, groups)):
        assigned[tested] = fold
    return assigned


def score_together(features: pd.DataFrame, labels: pd.Series, folds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how fake, `[n]`, each video looks to a trivial classifier that was fitted on the other folds.

    In standard deviations of what it was fitted on; NaN where that holds one label only.
    """
    scores = np.full(len(labels), np.nan)
    for fitted, tested in _part_folds(labels, folds):
        model = make_classifier(int(fitted.sum())).fit(features[fitted], labels[fitted])
        known, new = (model.decision_function(features[rows]) for rows in (fitted, tested))
        scores[tested] = (new - known.mean()) / max(known.std(), 1e-9)
    return scores


def score_alone(values: pd.Series, labels: pd.Series, folds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how fake, `[n]`, each video looks by one feature without a missing value.

    Numbers are looked at in four ways: more, less, nearer to the median or further from it. The other folds only
    decide which of them means fake, so that equal values of different folds stay equal. Kinds are put in the order
    of their share of fakes in the other folds. NaN where these hold one label only.
    """
    scores = np.full(len(labels), np.nan)
    ranks = None if values.dtype == object else (values.rank().to_numpy() - 0.5) / len(values) - 0.5
    for fitted, tested in _part_folds(labels, folds):
        if ranks is None:
            scores[tested] = values[tested].map(_order_kinds(values[fitted], labels[fitted], values.unique()))
        else:
            ways = np.stack([ranks, -ranks, np.abs(ranks), -np.abs(ranks)])
            scores[tested] = _choose_way(ways[:, fitted], labels[fitted], ways[:, tested])
    return scores


def _choose_way(known: NDArray[np.float64], labels: pd.Series, new: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return, of several scores of new videos, `[ways, n]`, the one that ranks known fakes highest: by its AUC."""
    fakes = scipy.stats.rankdata(known, axis=1)[:, labels == 1]  # their mean, and the AUC, rise with each other
    return new[fakes.sum(axis=1).argmax()]


def _order_kinds(values: pd.Series, labels: pd.Series, kinds: Sequence[str]) -> pd.Series:
    """Return each kind's place when they are ordered by their share of fakes; one that is not there is in between."""
    fakes, reals = (values[labels == label].value_counts().reindex(kinds, fill_value=0) for label in (1, 0))
    return np.log((fakes / fakes.sum() + 0.01) / (reals / reals.sum() + 0.01)).rank()


def _part_folds(labels: pd.Series, folds: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Yield which videos a classifier is fitted on and tested on, where it can be fitted."""
    for fold in np.unique(folds):
        if labels[folds != fold].nunique() == 2:
            yield folds != fold, folds == fold


# The table


def find_shortcuts(manifest: pd.DataFrame, features: pd.DataFrame, *, replicates: int = 1000) -> pd.DataFrame:
    """Return what each feature alone, all together, and where a file comes from say about its label.

    The AUCs are of videos whose people the classifier has not met: chance is 0.5, and what is below is chance, too.
    Beside them stand perfect marks, which few fakes have, but no real (`dfmm.audit.marks`). In honest data a row of the
    table matters, or is marked, by chance in 5 of 100 tables.

    Args:
        manifest: the rows of the videos in `features`, in that order.
        features: some or all columns of `UNITS`, by `video_id`.

    Returns:
        A row for each feature over all fakes (`method` is empty), and for each method of at least `FEWEST_FAKES`
        against all reals: `feature`, `method`, `videos`, `fakes`; `value`, `low` and `high`, its AUC with the 95 %
        interval; `sure_low`, the lower end once the interval is widened for the number of AUCs in the table
        (Bonferroni); `matters`, where that is above 0.5 and the value at least `EFFECT`; `new_source_value`, `…_low`
        and `…_high`, the AUC on sources that the classifier was not fitted on; `fakes_have` and `reals_have`, what is
        usual; `told`, the share of the fakes that the feature's strongest `mark` tells without a false alarm, the
        `chance` of one as strong in honest data, and `marked`, where that is small and the share at least `LEAST_TOLD`.
        Numbers are NaN where they are undefined: a feature that all videos share, too few people, fewer than two
        sources with both labels.
    """
    videos = _arrange_videos(manifest)
    trials = list(_list_trials(videos, features))
    scores = [_score_trial(columns, videos.loc[columns.index], "fold") for _, _, columns in trials]
    looks = max(sum(score is not None for score in scores), 1)
    rows = []
    for (feature, method, columns), score in zip(trials, scores, strict=True):
        chosen = videos.loc[columns.index]
        new = None if method or feature in ORIGINS else _score_trial(columns, chosen, "source_fold")
        row = {"feature": feature, "method": method, "videos": len(chosen), "fakes": int(chosen["label"].sum())}
        for prefix, values in (("", score), ("new_source_", new)):
            row |= _measure_auc(values, chosen, CONFIDENCE, replicates, prefix)
        row |= {"sure_low": _measure_auc(score, chosen, 1 - (1 - CONFIDENCE - CHANCE) / looks, replicates)["low"]}
        rows.append(row | _describe_values(columns, chosen["label"]))
    table = pd.DataFrame(rows)
    table = table.assign(matters=(table["sure_low"] > 0.5) & (table["value"] >= EFFECT))
    return table.merge(_tabulate_marks(videos, features, replicates), on=["feature", "method"], how="left").assign(
        marked=lambda table: (table["chance"] <= CHANCE) & (table["told"] >= LEAST_TOLD) & table["value"].notna()
    )


def _tabulate_marks(videos: pd.DataFrame, features: pd.DataFrame, replicates: int) -> pd.DataFrame:
    """Return `told`, `mark`, in words, and `chance` for each feature, over all fakes and for each method."""
    marks = find_marks(features, videos, tried=_list_methods(videos), replicates=replicates)
    words = [_name_mark(row.side, row.bound, UNITS.get(row.feature)) if row.side else "" for row in marks.itertuples()]
    return marks.assign(mark=words)[["feature", "method", "told", "mark", "chance"]]


def _name_mark(side: str, bound: Any, unit: str | None) -> str:
    text = str(bound) if unit is None else f"{format_value(bound)} {unit}".strip()
    return text if side == "at" else f"{side} {text}"


def _arrange_videos(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return label, method, people, origins and folds by `video_id`; a fold is -1 where there can be none."""
    groups, _ = group_people(manifest)
    folds = assign_folds(manifest["label"], groups)
    mixed = int((manifest.groupby("source")["label"].nunique() == 2).sum()) if (manifest["source"] != "").all() else 0
    return manifest.assign(
        people=name_people(manifest),
        group=groups,
        family=name_families(manifest),
        fold=-1 if folds is None else folds,
        source_fold=pd.factorize(manifest["source"])[0] % SOURCE_FOLDS if mixed > 1 else -1,
    ).set_index("video_id")


def _list_trials(videos: pd.DataFrame, features: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield a feature's name, the method it is tried on, and its column in the videos that have it."""
    methods = _list_methods(videos)
    for name in [*features, TOGETHER]:
        columns = features if name == TOGETHER else features[[name]].dropna()
        yield name, "", columns
        label, method = (videos.loc[columns.index, column] for column in ("label", "method"))
        if columns.nunique().max() > 1:
            yield from ((name, one, columns[(label == 0) | (method == one)]) for one in methods)
    for name in ORIGINS:
        if videos[name].nunique() > 1:
            yield name, "", videos[[name]].astype(object)


def _list_methods(videos: pd.DataFrame) -> list[str]:
    """Return the methods that are looked at by themselves: none where all fakes are of one."""
    fakes = videos.loc[videos["label"] == 1, "method"].value_counts()
    return sorted(map(str, fakes[fakes >= FEWEST_FAKES].index)) if len(fakes) > 1 else []


def _score_trial(columns: pd.DataFrame, videos: pd.DataFrame, by: str) -> NDArray[np.float64] | None:
    """Return how fake each video looks, `[n]`; None where nothing can be learnt or tested."""
    labels, folds = videos["label"], videos[by].to_numpy()
    if columns.nunique().max() < 2 or (folds < 0).all() or labels.nunique() < 2:
        return None
    if columns.shape[1] == 1:
        return score_alone(columns.iloc[:, 0], labels, folds)
    return score_together(columns, labels, folds)


def _measure_auc(
    scores: NDArray[np.float64] | None, videos: pd.DataFrame, confidence: float, replicates: int, prefix: str = ""
) -> dict[str, float]:
    there = np.isfinite(scores) if scores is not None else np.zeros(len(videos), bool)
    if videos.loc[there, "label"].nunique() < 2:
        return {f"{prefix}{name}": np.nan for name in ("value", "low", "high")}
    people, labels = list(videos.loc[there, "people"]), videos.loc[there, "label"]
    auc = compute_auc(labels, scores[there], identities=people, confidence=confidence, replicates=replicates)
    return {f"{prefix}{name}": value for name, value in auc.items()}


def _describe_values(columns: pd.DataFrame, labels: pd.Series) -> dict[str, str]:
    """Say what fakes and reals usually have of one feature."""
    if columns.shape[1] > 1:
        return {"fakes_have": "", "reals_have": ""}
    values = columns.iloc[:, 0]
    return {
        name: _describe_usual(values[labels == label], UNITS.get(values.name))
        for name, label in (("fakes_have", 1), ("reals_have", 0))
    }


def _describe_usual(values: pd.Series, unit: str | None) -> str:
    """Say the most common kind and its share, or the median and the quarters around it."""
    if values.empty:
        return "none"
    if unit is None:
        shares = values.value_counts(normalize=True)
        return f"{shares.index[0]} ({shares.iloc[0]:.0%})"
    low, middle, high = (format_value(value) for value in np.quantile(values, [0.25, 0.5, 0.75]))
    return f"{f'{middle} {unit}'.strip()} ({low} to {high})" if low != high else f"{middle} {unit}".strip()


def format_value(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
