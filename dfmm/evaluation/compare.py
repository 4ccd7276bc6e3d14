"""Several runs → their differences: settings, metrics, paired intervals, and how far seeds of one setting spread."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from dfmm.dataset import load_manifest
from dfmm.evaluation.contents import FURTHER, METRICS
from dfmm.evaluation.evaluate import evaluate_run
from dfmm.evaluation.kept import read_evaluation
from dfmm.evaluation.summary import choose_costs
from dfmm.figures import name_runs
from dfmm.metrics import SURE, compare_metrics, compute_metrics
from dfmm.runs import Run, RunError, open_run, start_logging
from dfmm.settings import Settings, diff_settings, flatten_settings, load_settings
from dfmm.training import Trainer

UNKNOWN = "–"  # a setting of a detector that is not ours
SHOWN = 3  # videos named where two runs scored others
# Of the metrics, those that a terminal and a notebook show, and of which what is better.
HEAD = {"auc": "more", "eer": "less", "balanced_accuracy": "more", "min_dcf": "less", "cllr": "less"}
NORMAL = 1.96  # standard deviations to either side that hold 95 % of a normal distribution
# What the quick run is compared with where no others are named: the same once more, and with less to look at.
VARIANTS = {"seed-1": "seed=1", "picture": "model.streams=video"}

log = logging.getLogger("dfmm")


@dataclass(frozen=True)
class Scored:
    """A run and what it scored of a split."""

    name: str
    settings: Settings
    videos: pd.DataFrame  # by `video_id`, the scored ones
    threshold: float
    prior: float
    foreign: bool = False  # were its scores imported?
    unseen: tuple[str, ...] = ()  # methods of which its training saw no part


def compare_runs(runs: Sequence[Run], split: str = "test", *, shared: bool = False) -> dict[str, Any]:
    """Compare the evaluations of runs on a split of their data, on the same videos, ready for JSON.

    Args:
        shared: where runs scored different videos, compare them on those that all of them scored.

    Returns:
        `videos`, `fakes`; `settings`, those that differ, a value for each run; `runs`, each with its `name`,
        `threshold` and `metrics` as from `compute_metrics`; `differences`, for each pair `a` and `b` the `metrics` as
        from `compare_metrics`, a - b, to whose p stands `p_holm`, corrected for so many pairs (Holm, 1979); `seeds`,
        for runs that differ in nothing but their seed, each metric's `mean`, standard deviation `between` seeds,
        `least`, `most`, and the mean half-width of the intervals `within` them.

    Raises:
        RunError: fewer than two runs, one without an evaluation of its present model, or runs that scored different
            videos, with what is different.
    """
    if len({run.path for run in runs}) < 2:
        raise RunError(f"expected two runs or more, got {len({run.path for run in runs})}: name another")
    scored = align_scored([read_scored(run, split) for run in runs], shared=shared)
    chosen, first = scored[0].settings.evaluate, scored[0].videos
    options = {
        "identities": list(first["identities"]),
        "replicates": chosen.replicates,
        "costs": choose_costs(scored[0].settings),
    }
    measured = [_measure(one, options) for one in scored]
    return {
        "split": split,
        "videos": len(first),
        "fakes": int(first["label"].sum()),
        "settings": find_differing([one.settings for one in scored], [one.foreign for one in scored]),
        "runs": measured,
        "differences": _correct([_compare(a, b, options) for a, b in itertools.combinations(scored, 2)]),
        "seeds": [_sum_up([measured[place] for place in places]) for places in group_seeds(scored)],
    }


def read_scored(run: Run, split: str) -> Scored:
    """Return what a run scored, as it was evaluated."""
    evaluation = read_evaluation(run, split)
    if evaluation is None:
        raise RunError(
            f"{run.name} has no evaluation of its present model on {split}; run "
            f"dfmm evaluate {run.name} --split {split} first"
        )
    report, videos, _ = evaluation
    videos = videos[videos["status"] == "ok"].set_index("video_id").sort_index()
    settings = load_settings(run / "settings.yaml")
    known = report.threshold.value, report.prior, run.imported.is_file(), tuple(report.unseen.methods)
    return Scored(run.name, settings, videos, *known)


def open_others(run: Run, others: Sequence[str | Path], split: str = "test") -> list[Run]:
    """Return the runs to compare with this one; where none is named, the quick run makes some of its own first.

    They lie in its folder, a short training each (`VARIANTS`), and are made anew where its settings have changed.

    Raises:
        RunError: none is named for any other run.
    """
    if others:
        return [Run(other) for other in others]
    if not run.is_quick:
        raise RunError(f"{run.name} has nothing to be compared with: name other runs' folders in others: [outputs/…]")
    try:
        with FileLock(run.path / "locks" / "others.lock"):  # notebooks side by side make them once
            return [_make_variant(run, name, override, split) for name, override in VARIANTS.items()]
    finally:
        start_logging(run, load_settings(run / "settings.yaml"))  # each of them had taken the log


def _make_variant(run: Run, name: str, override: str, split: str) -> Run:
    """Return a run of the same settings but for one, trained and evaluated, be it now."""
    settings, folder = load_settings(run / "settings.yaml", [override]), Run(run / "others" / name)
    file = folder / "settings.yaml"
    stale = file.is_file() and diff_settings(load_settings(file), settings) != []
    variant = open_run(folder.path, settings, restart=stale)
    if not variant.checkpoint.is_file():
        log.info("the quick run is to be compared with %s (%s): training it", variant.name, override)
    Trainer(settings, load_manifest(settings), variant).fit()
    if read_evaluation(variant, split) is None:
        evaluate_run(variant, split)
    return variant


def align_scored(scored: Sequence[Scored], *, shared: bool = False) -> list[Scored]:
    """Return the runs with the same videos, in the same order.

    Args:
        shared: where they scored different videos, leave those that all of them scored.

    Raises:
        RunError: they scored different videos, or do not agree on their labels; it names some.
    """
    first, *others = scored
    both = first.videos.index
    for one in others:
        if not shared and set(one.videos.index) != set(first.videos.index):
            raise RunError(_explain_videos(first, one))
        both = both.intersection(one.videos.index)
    if both.empty:
        raise RunError(f"no video was scored by all of {', '.join(one.name for one in scored)}: nothing to compare")
    for one in others:
        other = one.videos.loc[both, "label"] != first.videos.loc[both, "label"]
        if other.any():
            names = _name_some(list(both[other]))
            raise RunError(f"{first.name} and {one.name} do not agree on the labels of {names}: evaluate one anew")
    return [replace(one, videos=one.videos.loc[both]) for one in scored]


def _explain_videos(a: Scored, b: Scored) -> str:
    here, there = set(a.videos.index), set(b.videos.index)
    lines = [
        f"  {len(alone)} by {one.name} alone: {_name_some(sorted(alone))}"
        for one, alone in ((a, here - there), (b, there - here))
        if alone
    ]
    return (
        f"{a.name} and {b.name} scored different videos, and their numbers cannot be compared:\n"
        + "\n".join(lines)
        + f"\nCompare them on the {len(here & there)} that both scored with --shared (in a notebook: shared)."
    )


def _name_some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def find_differing(settings: Sequence[Settings], foreign: Sequence[bool] = ()) -> dict[str, list[Any]]:
    """Return the settings in which some differ, a value for each.

    Args:
        foreign: which of them are of imported scores: how those were made nobody knows (`UNKNOWN`).
    """
    values = [flatten_settings(each) for each in settings]
    for each, imported in zip(values, foreign, strict=False):
        each |= {name: UNKNOWN for name in each if imported and not name.startswith(("data.", "evaluate."))}
    columns = {name: [each[name] for each in values] for name in values[0]}
    known = {name: [value for value in found if value != UNKNOWN] for name, found in columns.items()}
    return {name: columns[name] for name, found in known.items() if any(value != found[0] for value in found)}


def group_seeds(scored: Sequence[Scored]) -> list[list[int]]:
    """Return the places of the runs that differ in nothing but their seed, where there are two or more."""
    groups: dict[str, list[int]] = {}
    for place, one in enumerate(scored):
        if one.foreign:  # nobody knows its settings
            continue
        groups.setdefault(str(flatten_settings(one.settings) | {"seed": None}), []).append(place)
    return [places for places in groups.values() if len(places) > 1]


def _measure(one: Scored, options: Mapping[str, Any]) -> dict[str, Any]:
    videos = one.videos
    metrics = compute_metrics(videos["label"], videos["score"], threshold=one.threshold, prior=one.prior, **options)
    return {"name": one.name, "threshold": one.threshold, "metrics": metrics}


def _compare(a: Scored, b: Scored, options: Mapping[str, Any]) -> dict[str, Any]:
    metrics = compare_metrics(
        a.videos["label"],
        a.videos["score"],
        b.videos["score"],
        thresholds=(a.threshold, b.threshold),
        priors=(a.prior, b.prior),
        **options,
    )
    return {"a": a.name, "b": b.name, "metrics": metrics}


def _correct(differences: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add to each p what is left of it once so many pairs were tried (Holm, Scand. J. Stat. 1979)."""
    for name in differences[0]["metrics"]:
        found = [one["metrics"][name] for one in differences if isinstance(one["metrics"][name], dict)]
        known = sorted((each for each in found if each["p"] is not None), key=lambda each: each["p"])
        least = 0.0
        for tried, each in enumerate(known):
            least = max(least, min(1.0, each["p"] * (len(known) - tried)))
            each["p_holm"] = least
    return differences


def _sum_up(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return how each metric spreads between seeds, beside how unsure it is within each for want of videos."""
    found = {name: [run["metrics"][name] for run in runs] for name in runs[0]["metrics"]}
    known = {
        name: each
        for name, each in found.items()
        if all(isinstance(one, dict) and one.get("value") is not None for one in each)
    }
    return {
        "runs": [run["name"] for run in runs],
        "metrics": {
            name: {
                "mean": float(np.mean([one["value"] for one in each])),
                "between": float(np.std([one["value"] for one in each], ddof=1)),
                "least": min(one["value"] for one in each),
                "most": max(one["value"] for one in each),
                "within": float(np.mean([one["high"] - one["low"] for one in each])) / 2,
            }
            for name, each in known.items()
        },
    }


# In words


def format_comparison(found: Mapping[str, Any]) -> str:
    """Return a comparison as tables for people."""
    titles = {name: (METRICS | FURTHER)[name] for name in HEAD}
    names = [run["name"] for run in found["runs"]]
    videos = f"{found['videos']} videos of {found['split']}, {found['fakes']} of them fake"
    parts = [f"{len(names)} runs on the same {videos}."]
    if found["settings"]:
        rows = {name: [str(value) for value in values] for name, values in found["settings"].items()}
        parts.append("Settings that differ\n" + pd.DataFrame(rows, index=names).T.to_string())
    else:
        parts.append("No setting differs.")
    metrics = {titles[name]: [_format(run["metrics"][name], "value") for run in found["runs"]] for name in HEAD}
    parts.append("Each with its 95 % interval\n" + pd.DataFrame(metrics, index=names).to_string())
    pairs = [f"{pair['a']} − {pair['b']}" for pair in found["differences"]]
    rows = {titles[name]: [_format_pair(pair["metrics"][name]) for pair in found["differences"]] for name in HEAD}
    rows["DeLong's p"] = [_format_p(pair["metrics"]["delong"]["p"]) for pair in found["differences"]]
    told = " (after Holm, for so many pairs)" if len(pairs) > 1 else ""
    parts.append(f"Differences, paired, with p{told}\n" + pd.DataFrame(rows, index=pairs).to_string())
    for group in found["seeds"]:
        spread = {titles[name]: values for name, values in group["metrics"].items() if name in HEAD}
        table = pd.DataFrame(spread).T.map(lambda value: f"{value:.3f}").rename(columns={"within": "± within"})
        parts.append(f"Seeds of one setting: {', '.join(group['runs'])}\n{table.to_string()}")
    parts.append("\n".join([*describe_differences(found), *map(describe_seeds, found["seeds"])]))
    return "\n\n".join(parts)


def describe_differences(found: Mapping[str, Any]) -> list[str]:
    """Return for each headline metric a line for each pair of runs of which one is surely better, and one for the rest.

    Sure is a p below `SURE` once so many pairs were tried.
    """
    names = [run["name"] for run in found["runs"]]
    short = dict(zip(names, name_runs(names), strict=True))
    lines = []
    for name, better in HEAD.items():
        title = (METRICS | FURTHER)[name]
        pairs = [(short[pair["a"]], short[pair["b"]], pair["metrics"][name]) for pair in found["differences"]]
        known = [pair for pair in pairs if pair[2]["p"] is not None]
        sure = [pair for pair in known if pair[2]["p_holm"] < SURE]
        lines += [f"{title}: {_describe_pair(*pair, better)}." for pair in sure]
        if open_ := len(known) - len(sure):
            lines.append(f"{title}, {open_} of {len(pairs)} pairs: luck alone may do that.")
        if untold := len(pairs) - len(known):
            lines.append(f"{title}, {untold} of {len(pairs)} pairs: too few people or errors to tell.")
    return lines


def _describe_pair(a: str, b: str, difference: Mapping[str, float], better: str) -> str:
    """Say which of two runs is the better one, by how much, and how sure that is."""
    sign = 1 if difference["difference"] > 0 else -1
    value, *ends = (sign * difference[end] for end in ("difference", "low", "high"))
    is_first = (difference["difference"] > 0) == (better == "more")
    ahead, behind = (a, b) if is_first else (b, a)
    p = _format_p(difference["p_holm"])
    return f"{ahead} is surely better than {behind}, by {value:.3f} [{min(ends):.3f}, {max(ends):.3f}], p {p}"


def describe_seeds(group: Mapping[str, Any], name: str = "auc") -> str:
    """Return a sentence on the seeds of one setting: is a metric more unsure for want of seeds or of videos?"""
    title, count, values = (METRICS | FURTHER)[name], len(group["runs"]), group["metrics"].get(name)
    if values is None:
        return f"{title}: undefined for one of {count} seeds."
    reach = NORMAL * values["between"]
    heavier = "seed" if reach > values["within"] else "draw of test videos"
    return (
        f"{title}, {count} seeds of one setting: from {values['least']:.3f} to {values['most']:.3f}. 95 % of seeds lie "
        f"within about ±{reach:.3f} of their mean; each has a 95 % interval of about ±{values['within']:.3f}: the luck "
        f"of the {heavier} counts for more." + (" So few seeds tell their spread roughly." if count < 5 else "")
    )


def _format(interval: Mapping[str, Any], name: str) -> str:
    if interval[name] is None:
        return "–"
    sign = "+" if name == "difference" else ""
    ends = "" if interval["low"] is None else f" [{interval['low']:.3f}, {interval['high']:.3f}]"
    return f"{interval[name]:{sign}.3f}{ends}"


def _format_pair(difference: Mapping[str, Any]) -> str:
    p = difference.get("p_holm", difference["p"])
    return _format(difference, "difference") + (f" p {_format_p(p)}" if p is not None else "")


def _format_p(p: float | None) -> str:
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"
