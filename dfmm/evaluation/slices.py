"""Where a detector fails: its errors by any column of the manifest, and by what extraction knows of a video.

Many slices are looked at, and the worst of many is bad by luck alone. So a slice is compared with all other videos, by
an interval that is widened for all comparisons made (Bonferroni), and one of fewer than `FEWEST` videos says nothing.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy

from dfmm.audit.shortcuts import measure_trivia
from dfmm.evaluation.contents import Column, Slices
from dfmm.manifest import COLUMNS, ManifestError
from dfmm.metrics import Interval, compute_auc, compute_error
from dfmm.settings import Settings
from dfmm.words import count_noun

log = logging.getLogger("dfmm")

FEWEST = 20  # reals for a rate of false alarms, fakes for one of misses, of each for an AUC
KINDS = 12  # values of a number up to which each is a slice; numbers of more are cut into `BANDS` of equal counts
BANDS = 3
CONFIDENCE = 0.95
# What extraction and the files themselves tell of a video, and the trivial feature that says it.
KNOWN = {
    "face_size": "face_size",
    "resolution": "height",
    "duration": "duration",
    "codec": "video_codec",
    "has_sound": "has_audio",
    "several_faces": "",
}
MEASURES = {"auc": "AUC", "fpr": "false alarms", "fnr": "misses"}


def check_columns(columns: Sequence[str], manifest: pd.DataFrame) -> None:
    """Raise a ManifestError that names what a manifest could be sliced by, if one of these columns is not there."""
    there = [name for name in manifest if name not in ("video_id", "path")]
    if unknown := [name for name in columns if name not in {*there, *KNOWN}]:
        raise ManifestError(
            f"evaluate.slices: no column {', '.join(unknown)} to slice by; there are {', '.join(there)}, and of what "
            f"extraction knows {', '.join(KNOWN)}"
        )


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


def describe_videos(videos: pd.DataFrame, features: pd.DataFrame) -> pd.DataFrame:
    """Return the videos with the columns `KNOWN`, missing where there is no such thing; a manifest's own stay.

    Args:
        videos: with `faces`, how many there are, as from `score_split`.
        features: as from `measure_trivia`, by `video_id`.
    """
    found = features.reindex(videos["video_id"]).set_axis(videos.index)
    known = {name: found[feature] for name, feature in KNOWN.items() if feature}
    sizes = found[["width", "height"]].astype("Int64").astype(str)
    known["resolution"] = (sizes["width"] + "×" + sizes["height"]).where(found["height"].notna())
    known["has_sound"] = found["has_audio"].map({1.0: "sound", 0.0: "no sound"})
    known["several_faces"] = (videos["faces"] > 1).map({True: "several", False: "one or none"})
    return videos.assign(**{name: values for name, values in known.items() if name not in {*COLUMNS, *videos}})


def measure_slices(scored: pd.DataFrame, columns: Sequence[str], *, threshold: float, replicates: int = 1000) -> Slices:
    """Return what a detector does in each slice of the scored videos.

    Args:
        scored: `label`, `score`, `identities`, and the columns.
        threshold: from which score on a video is called fake, the same in all slices.

    Returns:
        `comparisons`, how many were made; `worst`, the comparison that stands out most, with its `column`, `slice`,
        `measure`, `value` there and in the `rest`, their `difference` (above 0: worse) with its widened interval, and
        whether that makes it `sure`; None if no slice is large enough; and `columns`. Each of these has `false_alarms`,
        the groups with the most and the fewest and the difference between them, and `slices`: `slice`, `n`, `n_fake`,
        `auc`, `fpr` and `fnr` with their 95 % intervals, and `small`, those of them that too few videos say. Where a
        slice has one label, as a method has, its `auc` is against the other label of all videos (`against_all`).
    """
    tables = {column: _measure_column(scored, column, threshold, replicates) for column in columns}
    rows = [(column, row) for column, table in tables.items() for row in table]
    pairs = [(column, row, name) for column, row in rows for name in row["rest"] if name not in row["small"]]
    worst = max((_compare_slice(*pair, len(pairs)) for pair in pairs), key=_stand_out, default=None)
    columns = {
        column: Column(false_alarms=_compare_alarms(table), slices=[_leave_rest(row) for row in table])
        for column, table in tables.items()
    }
    return Slices(threshold=threshold, comparisons=len(pairs), worst=worst, columns=columns)


def slice_errors(videos: pd.DataFrame, columns: Sequence[str], settings: Settings, threshold: float) -> Slices:
    """Return what `measure_slices` finds in the videos that were scored."""
    scored = videos[videos["status"] == "ok"]
    if not set(columns) <= set(scored):
        scored = describe_videos(scored, measure_trivia(scored, settings, progress=False))
    return measure_slices(scored, columns, threshold=threshold, replicates=settings.evaluate.replicates)


def cut_slices(values: pd.Series) -> pd.Series:
    """Return the slice of each video as text, in order: numbers of many values in bands of about as many videos each.

    Equal values stay together; what is missing is a slice of its own.
    """
    if pd.api.types.is_numeric_dtype(values) and values.nunique() > KINDS:
        bands = pd.qcut(values, BANDS, duplicates="drop")
        names = [f"{_format(band.left)} to {_format(band.right)}" for band in bands.cat.categories]
        named = bands.cat.rename_categories(names) if len(set(names)) == len(names) else bands
    else:
        named = values.map(_format).astype(object).astype("category")
    named = named.cat.set_categories([*map(str, named.cat.categories), "unknown"]).fillna("unknown")
    return named.cat.rename_categories({"": "unnamed"}) if "" in named.cat.categories else named


def _format(value: Any) -> Any:
    """Return a number as short as it can be told from others, all else as text; what is missing stays so."""
    if pd.isna(value):
        return np.nan
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _measure_column(scored: pd.DataFrame, column: str, threshold: float, replicates: int) -> list[dict[str, Any]]:
    slices = cut_slices(scored[column])
    names = [name for name in slices.cat.categories if (slices == name).any()]
    rows = []
    for name in names:
        inside, outside = scored[slices == name], scored[slices != name]
        row = {"slice": str(name), "n": len(inside), "n_fake": int(inside["label"].sum())}
        here = measure_errors(inside, scored, threshold, replicates)
        there = measure_errors(outside, scored, threshold, replicates) if len(names) > 1 else {}
        rows.append(row | here | {"rest": _choose_rest(here, there)})
    return rows


def _choose_rest(here: dict[str, Any], there: dict[str, Any]) -> dict[str, Interval]:
    """Return what can be compared of all other videos: not an AUC between all of one label and all of the other, which
    is the same number from both sides.
    """
    if not there:
        return {}
    halves = here["against_all"] and there["against_all"]
    asked = [name for name in MEASURES if not (halves and name == "auc")]
    return {name: there[name] for name in asked if None not in (here[name]["value"], there[name]["value"])}


def measure_errors(rows: pd.DataFrame, scored: pd.DataFrame, threshold: float, replicates: int) -> dict[str, Any]:
    """Return `auc`, `fpr` and `fnr` of some of the scored videos, `against_all` and `small`, as in `measure_slices`."""
    counts = {label: int((rows["label"] == label).sum()) for label in (0, 1)}
    against_all = 0 in counts.values()
    pool = scored[scored["label"] != rows["label"].iloc[0]] if against_all and len(rows) else rows.head(0)
    compared = pd.concat([rows, pool])
    rates = {
        name: measure_rate(rows[rows["label"] == label], threshold, replicates)
        for name, label in (("fpr", 0), ("fnr", 1))
    }
    few = {"auc": min((compared["label"] == label).sum() for label in (0, 1)), "fpr": counts[0], "fnr": counts[1]}
    return {
        "auc": _measure_auc(compared, replicates),
        **rates,
        "against_all": against_all,
        "small": [name for name, count in few.items() if count < FEWEST],
    }


def _measure_auc(rows: pd.DataFrame, replicates: int) -> Interval:
    if rows["label"].nunique() < 2:
        return {"value": None, "low": None, "high": None}
    return compute_auc(rows["label"], rows["score"], identities=list(rows["identities"]), replicates=replicates)


def measure_rate(rows: pd.DataFrame, threshold: float, replicates: int) -> Interval:
    """Return the share of videos of one label that are called the other."""
    if rows.empty:
        return {"value": None, "low": None, "high": None}
    options = {"threshold": threshold, "identities": list(rows["identities"]), "replicates": replicates}
    return compute_error(rows["label"], rows["score"], **options)


def _compare_slice(column: str, row: dict[str, Any], name: str, comparisons: int) -> dict[str, Any]:
    """Compare a slice with all other videos by one measure."""
    here, rest = row[name], row["rest"][name]
    worse = subtract_intervals(rest, here) if name == "auc" else subtract_intervals(here, rest)
    widened = widen_interval(worse, comparisons)
    return {
        "column": column,
        "slice": row["slice"],
        "measure": name,
        "value": here["value"],
        "rest": rest["value"],
        "difference": widened,
        "sure": bool(widened["low"] > 0),
    }


def _stand_out(compared: dict[str, Any]) -> float:
    """Return by how many times its own uncertainty a slice is worse."""
    difference = compared["difference"]
    return difference["value"] / max(difference["value"] - difference["low"], 1e-9)


def subtract_intervals(first: Interval, second: Interval) -> dict[str, float]:
    """Return the difference of two values of different videos with its interval (MOVER; Zou & Donner, Stat. Med. 2008).

    Where the same people are in both, and alike in both, it is wider than need be.
    """
    value = first["value"] - second["value"]
    down = math.hypot(first["value"] - first["low"], second["high"] - second["value"])
    up = math.hypot(first["high"] - first["value"], second["value"] - second["low"])
    return {"value": value, "low": value - down, "high": value + up}


def widen_interval(interval: dict[str, float], comparisons: int) -> dict[str, float]:
    """Return a 95 % interval made wide enough for so many comparisons together (Bonferroni), as a normal one widens."""
    tail = (1 - CONFIDENCE) / 2
    factor = scipy.stats.norm.isf(tail / max(comparisons, 1)) / scipy.stats.norm.isf(tail)
    value, low, high = (interval[name] for name in ("value", "low", "high"))
    return {"value": value, "low": value - factor * (value - low), "high": value + factor * (high - value)}


def _compare_alarms(table: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Compare the slices with the most and the fewest false alarms; None where not two of them have enough reals."""
    groups = [row for row in table if "fpr" not in row["small"]]
    if len(groups) < 2:
        return None
    most, fewest = (choose(groups, key=lambda row: row["fpr"]["value"]) for choose in (max, min))
    difference = subtract_intervals(most["fpr"], fewest["fpr"])
    widened = widen_interval(difference, math.comb(len(groups), 2))
    return {
        "most": most["slice"],
        "fewest": fewest["slice"],
        "difference": widened,
        "sure": bool(widened["low"] > 0),
    }


def _leave_rest(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "rest"}


def list_slices(slices: Slices) -> Iterator[dict[str, Any]]:
    """Yield a row a slice, for a table: its column, what `measure_slices` says of it, and what too few videos say."""
    for column, found in slices.columns.items():
        for row in found.slices:
            yield {"column": column, **row.model_dump()}


def describe_worst(slices: Slices) -> str:
    """Return a sentence on the slice that stands out most."""
    worst = slices.worst
    if worst is None:
        return f"No slice can be compared: that takes {FEWEST} reals or fakes in it, and other slices of its column."
    difference = worst.difference
    named = (
        f"{worst.column} {worst.slice}: {MEASURES[worst.measure]} {worst.value:.3f}, {worst.rest:.3f} in all other "
        f"videos (worse by {difference['value']:.3f} [{difference['low']:.3f}, {difference['high']:.3f}], widened for "
        f"{count_noun(slices.comparisons, 'comparison')})"
    )
    return f"Worst is {named}." if worst.sure else f"No slice is surely worse than the rest; the worst is {named}."


def describe_alarms(slices: Slices) -> list[str]:
    """Return for each column a sentence on the groups of most and of fewest false alarms."""
    said = []
    for column, found in slices.columns.items():
        alarms = found.false_alarms
        if alarms is None:
            said.append(f"False alarms by {column}: not two groups of {FEWEST} reals or more, so nothing can be said.")
            continue
        value, low, high = (alarms.difference[name] for name in ("value", "low", "high"))
        sure = "" if alarms.sure else ", which may be chance"
        said.append(
            f"False alarms by {column}: most in {alarms.most}, fewest in {alarms.fewest}, "
            f"a difference of {value:.3f} [{low:.3f}, {high:.3f}]{sure}."
        )
    return said
