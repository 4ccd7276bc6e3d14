"""How a trained model stands what the world does to a clip: every degradation, over its strengths.

What is kept of the videos, crops and sound, is degraded as it is read, so that a split is extracted once. The network's
windows are scored and joined as in an evaluation. The synchrony of whole clips is judged from what is kept of their
mouths, which no degradation reaches: it stays that of the clip as it is, and a drop says nothing of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from dfmm.bars import show_progress
from dfmm.dataset import MultimodalDataset, make_window_loader, open_manifest
from dfmm.degrade import DEGRADATIONS, OFFSET, Degradation
from dfmm.evaluation.contents import name_evaluation
from dfmm.evaluation.evaluate import learn_evidence, load_run, open_synchrony
from dfmm.evaluation.evidence import Evidence, apply_evidence
from dfmm.evaluation.score import score_windows
from dfmm.evaluation.slices import measure_rate
from dfmm.evaluation.summary import name_dataset, score_column
from dfmm.evaluation.synchrony import judge_videos
from dfmm.figures import format_difference, format_interval, tell_amount
from dfmm.files import hash_file, write_json, write_whole
from dfmm.manifest import fingerprint_manifest, is_synthetic, select_split
from dfmm.metrics import Interval, compute_drop
from dfmm.model import MultimodalModel, find_device
from dfmm.model.aggregation import aggregate_windows
from dfmm.model.synchrony import SynchronyModel
from dfmm.people import assign_people
from dfmm.runs import Run, RunError
from dfmm.settings import Settings

SWEPT = (
    *("h264", "downscale", "blur", "noise", "brightness", "frame_rate"),
    *("mp3", "aac", "opus", "sound_noise", "reverb", "offset"),
)
STRENGTHS = (0.25, 0.5, 0.75, 1.0)
CLEAN = "none"  # the row of the videos as they are
FACTS = ["video_id", "label", "identities"]
RATES = {"fpr": "Reals called fake", "fnr": "Fakes called real"}
ENDS = {"": "value", "_low": "low", "_high": "high"}  # of a number's columns, and its part

Step = tuple[Degradation | None, float]  # and its strength; None and 0: the videos as they are


@dataclass(frozen=True)
class Sweep:
    """What is swept: a run's model and the videos of a split, and the folder that keeps what was found."""

    folder: Path
    of: dict[str, Any]  # what the results in the folder depend on
    model: MultimodalModel
    settings: Settings
    evidence: Evidence
    synchrony: SynchronyModel | None
    videos: pd.DataFrame


def sweep_degradations(
    run: Run,
    split: str = "test",
    *,
    names: Sequence[str] = SWEPT,
    strengths: Sequence[float] = STRENGTHS,
    restart: bool = False,
    progress: bool = True,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Score a split under each degradation and strength, and keep each result as soon as it is there.

    `robustness/<dataset>-<split>/` in the run's folder holds `sweep.csv`, a row each, `scores.csv`, the scores of all
    videos behind it, and `summary.json`. What is there already, of the same model, data and settings, is not done
    again, and what was not asked for now stays there. Picture and sound are degraded by the same draws at every
    strength.

    Args:
        names: of `dfmm.degrade.DEGRADATIONS`; one of a stream that the model does not use is left out.
        strengths: above 0, up to 1; those with two sides are done to the other side as well.
        restart: do what is there already again.

    Returns:
        The rows asked for, as in `sweep.csv`: `degradation`, `strength`, `amount` in `unit`; `videos` and `fakes`
        scored; `auc`, and at the run's own threshold `fpr` and `fnr`, each with `_low` and `_high`; `drop`, by how much
        the AUC falls, with a paired interval; `labels_hold`, False where a sound that was moved makes fakes of reals.
        And what `summarise_sweep` returns, with `unfelt`, the degradations that nothing which counts
        in the score can notice: they are in no drop.

    Raises:
        RunError: the run has no checkpoint, or there is no such degradation or strength.
    """
    sweep = open_sweep(run, split, progress=progress)
    steps = list_steps(names, strengths, sweep.settings.model.streams)
    rows, scores = score_steps(sweep, steps, restart=restart, progress=progress)
    found = {(row["degradation"], row["strength"]): row for row in rows}
    table = pd.DataFrame([found[step] for step in map(_key_step, steps)])
    unfelt = sorted({one.name for one, _ in steps if one and not is_felt(one, sweep.evidence)})
    felt = table[~table["degradation"].isin(unfelt)]
    summary = {"of": sweep.of, **summarise_sweep(felt, scores, sweep.settings.evaluate.replicates), "unfelt": unfelt}
    write_json(summary, sweep.folder / "summary.json")
    return table, summary


def open_sweep(run: Run, split: str, *, progress: bool = True) -> Sweep:
    """Return what of a run a sweep is of: its model, what it learnt on validation, and the videos of the split."""
    evidence = learn_evidence(run, progress=progress)
    model, settings, _ = load_run(run)
    model.to(find_device())
    settings, chosen = _open_videos(run, settings, split, progress=progress)
    synchrony = open_synchrony(run.checkpoint, settings)
    name = name_evaluation(name_dataset(chosen), split)
    of = {
        "run": run.name,
        "name": name,
        "data": fingerprint_manifest(chosen),
        "checkpoint": hash_file(run.checkpoint)[:16],
        "windows": settings.evaluate.windows,
        "threshold": evidence.threshold,
        "synchrony": synchrony is not None,
        "synthetic": is_synthetic(chosen),
    }
    return Sweep(run / "robustness" / name, of, model, settings, evidence, synchrony, chosen)


def _open_videos(run: Run, settings: Settings, split: str, *, progress: bool) -> tuple[Settings, pd.DataFrame]:
    """Return the settings with which a split's videos are read from what is kept of them, and these videos."""
    if settings.data.read == "videos":
        settings = settings.model_copy(update={"data": settings.data.model_copy(update={"read": "cache"})})
    manifest = assign_people(open_manifest(run, settings, progress=progress))
    return settings, select_split(manifest, split, limit=settings.data.limit)


def score_steps(
    sweep: Sweep, steps: Sequence[Step], *, restart: bool = False, progress: bool = True
) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """Score the steps that are missing, keep each as soon as it is there, and return all rows and scores that are."""
    rows, scores = ([], None) if restart else read_sweep(sweep.folder, sweep.of)
    done = {(row["degradation"], row["strength"]) for row in rows}
    missing = [step for step in steps if _key_step(step) not in done]
    chosen, settings = sweep.videos, sweep.settings
    if missing and sweep.synchrony:
        chosen = chosen.join(judge_videos(chosen, settings, sweep.synchrony, progress=progress))
    for one, strength in show_progress(missing, "robustness", unit="pass", total=len(missing), show=progress):
        found, held = score_degraded(sweep.model, chosen, settings, sweep.evidence, one, strength)
        scores, column = _add_scores(scores, found, one, strength)
        row = {**_name_step(one, strength), "labels_hold": held, **measure_step(scores, column, sweep.of, settings)}
        rows.append(row)
        _keep_sweep(sweep.folder, rows, scores, sweep.of)
    return rows, scores


def list_steps(names: Sequence[str], strengths: Sequence[float], streams: str) -> list[Step]:
    """Return what is to be scored: the videos as they are, then every degradation at every strength, the mild first."""
    table = {one.name: one for one in DEGRADATIONS if one.stream != "log_mel"}
    unknown = [name for name in names if name not in table]
    if unknown:
        raise RunError(f"no degradation {', '.join(unknown)}; there are {', '.join(table)}")
    if not strengths or not all(0 < strength <= 1 for strength in strengths):
        raise RunError(f"expected strengths above 0 and up to 1, got {', '.join(map(str, strengths))}")
    steps: list[Step] = [(None, 0.0)]
    for one in (table[name] for name in dict.fromkeys(names) if is_noticed(table[name], streams)):
        amounts = sorted({1.0} if not one.keyword else {float(strength) for strength in strengths})
        steps += [(one, strength) for strength in amounts]
        steps += [(one, -strength) for strength in amounts if one.two_sided]
    return steps


def is_noticed(one: Degradation, streams: str) -> bool:
    """Could a model that uses these streams, as `model.streams` says, notice this degradation at all?"""
    if one is OFFSET:
        return streams == "both"
    heard = {"both": ("picture", "sound", "both"), "video": ("picture", "both"), "audio": ("sound",)}[streams]
    return one.stream in heard


def is_felt(one: Degradation, evidence: Evidence) -> bool:
    """Does a degradation reach anything that counts in the score? Mouth and sound are judged in videos as they are."""
    if not evidence.pieces:
        return True  # the score is the network's own
    reached = {"picture": {"picture"}, "sound": {"voice"}, "both": set()}[one.stream]
    return bool({*reached, "fusion"} & {*evidence.weighed})


@torch.no_grad()
def score_degraded(
    model: MultimodalModel,
    chosen: pd.DataFrame,
    settings: Settings,
    evidence: Evidence,
    one: Degradation | None,
    strength: float,
) -> tuple[pd.DataFrame, bool]:
    """Return the videos with their `score` under a degradation, and whether reals are real still."""
    change = _choose_change(one, strength)
    loader = make_window_loader(chosen, settings, windows=settings.evaluate.windows, **change, progress=False)
    windows = score_windows(model, loader, progress=False)
    videos = chosen.merge(aggregate_windows(windows, settings.model.aggregation), on="video_id")
    videos = apply_evidence(videos.assign(fusion_score=videos["score"]), evidence)
    reals = videos.loc[videos["label"] == 0, "video_id"]
    held = not (windows["video_id"].isin(reals) & (windows["label"] == 1)).any()
    return videos[videos["score"].notna()], held


def _choose_change(one: Degradation | None, strength: float) -> dict[str, Any]:
    """Return how a dataset is asked to degrade its windows."""
    if one is OFFSET:  # the sound of another moment: silence moved in would tell what was shifted
        return {"late": one.measure(strength)}
    return {"degrade": partial(one.apply, strength=strength)} if one else {}


def open_degraded(run: Run, split: str, name: str, strength: float) -> MultimodalDataset:
    """Return a split's windows as a sweep scores them under one degradation, to be looked at and listened to.

    Args:
        name: as in a sweep's table, `none` for the videos as they are.
    """
    settings, chosen = _open_videos(run, load_run(run)[1], split, progress=False)
    one = {each.name: each for each in DEGRADATIONS}.get(name)
    options = {"windows": settings.evaluate.windows, **_choose_change(one, strength)}
    return MultimodalDataset(chosen, settings, **options, progress=False)


def _key_step(step: Step) -> tuple[str, float]:
    """Return how a step is known in the table."""
    one, strength = step
    return one.name if one else CLEAN, strength


def _name_step(one: Degradation | None, strength: float) -> dict[str, Any]:
    if one is None:
        return {"degradation": CLEAN, "strength": 0.0, "amount": 0.0, "unit": ""}
    return {"degradation": one.name, "strength": strength, "amount": one.measure(strength), "unit": one.unit}


def _add_scores(
    scores: pd.DataFrame | None, found: pd.DataFrame, one: Degradation | None, strength: float
) -> tuple[pd.DataFrame, str]:
    """Return the table of all scores with a column more, and its name; its videos are those scored undegraded."""
    name = f"{one.name} {strength:g}" if one else CLEAN
    table = found[FACTS].reset_index(drop=True) if scores is None else scores
    return table.assign(**{name: table["video_id"].map(found.set_index("video_id")["score"])}), name


def measure_step(scores: pd.DataFrame, name: str, of: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Return `videos`, `fakes`, `auc`, `fpr`, `fnr` and `drop` of one column of scores, with their intervals."""
    rows, replicates = scores[scores[name].notna()], settings.evaluate.replicates
    labelled = rows.assign(score=rows[name])
    found = {
        "auc": score_column(rows, rows[name], replicates),
        "fpr": measure_rate(labelled[labelled["label"] == 0], of["threshold"], replicates),
        "fnr": measure_rate(labelled[labelled["label"] == 1], of["threshold"], replicates),
        "drop": measure_drop(scores, [name], replicates),
    }
    columns = {f"{one}{end}": found[one][key] for one in found for end, key in ENDS.items()}
    return {"videos": len(rows), "fakes": int(rows["label"].sum()), **columns}


def _keep_sweep(folder: Path, rows: Sequence[dict[str, Any]], scores: pd.DataFrame, of: dict[str, Any]) -> None:
    """Write the scores first: a row that is there has its scores."""
    write_whole(scores.to_csv(index=False), folder / "scores.csv")
    write_whole(pd.DataFrame(rows).to_csv(index=False), folder / "sweep.csv")
    write_json({"of": of}, folder / "summary.json")


def read_sweep(folder: Path, of: dict[str, Any]) -> tuple[list[dict[str, Any]], pd.DataFrame | None]:
    """Return the rows and scores that are there; none where they are of another model, other data or settings."""
    files = [folder / name for name in ("summary.json", "sweep.csv", "scores.csv")]
    if not all(file.is_file() for file in files):
        return [], None
    if json.loads(files[0].read_text(encoding="utf-8")).get("of") != of:
        return [], None
    scores = pd.read_csv(files[2], dtype={"video_id": str, "identities": str}, keep_default_na=False, na_values={})
    numbers = [name for name in scores if name not in FACTS]
    scores[numbers] = scores[numbers].apply(pd.to_numeric)
    table = pd.read_csv(files[1], dtype={"unit": str})
    return table.assign(unit=table["unit"].fillna("")).to_dict("records"), scores


def summarise_sweep(table: pd.DataFrame, scores: pd.DataFrame, replicates: int) -> dict[str, Any]:
    """Return the `mean_drop` of the AUC, of each degradation and over all of them, which count alike.

    Strengths at which labels no longer hold are left out, and named in `left_out`.
    """
    swept = table[table["degradation"] != CLEAN]
    held = swept[swept["labels_hold"].astype(bool)]
    names = {
        str(name): [f"{name} {strength:g}" for strength in rows["strength"]]
        for name, rows in held.groupby("degradation", sort=False)
    }
    drops = {name: measure_drop(scores, columns, replicates) for name, columns in names.items()}
    shares = {column: 1 / len(columns) for columns in names.values() for column in columns}
    left_out = swept[~swept["labels_hold"].astype(bool)]
    return {
        "mean_drop": measure_drop(scores, list(shares), replicates, shares=list(shares.values())),
        "drops": drops,
        "left_out": [f"{row.degradation} {row.strength:g}" for row in left_out.itertuples()],
    }


# Paired intervals


def measure_drop(
    scores: pd.DataFrame,
    columns: Sequence[str],
    replicates: int,
    *,
    shares: Sequence[float] | None = None,
) -> Interval:
    """Return by how much the AUC of these columns is below that of the videos as they are, on average.

    The 95 % interval is paired (`compute_drop`). It is undefined, as the value is, for videos of one label, and where
    people are too few for one.

    Args:
        shares: the weight of each column in the average.
    """
    rows = scores[scores[[CLEAN, *columns]].notna().all(axis=1)]
    if not len(columns) or rows["label"].nunique() < 2:
        return {"value": None, "low": None, "high": None}
    others, options = [rows[name] for name in columns], {"identities": list(rows["identities"]), "shares": shares}
    found = compute_drop(rows["label"], rows[CLEAN], others, **options, replicates=replicates)
    return {"value": found["difference"], "low": found["low"], "high": found["high"]}


# In words


def format_sweep(table: pd.DataFrame, summary: dict[str, Any]) -> str:
    """Return the sweep as lines of text: a row each, and the mean drop."""
    lines = [f"{'degradation':12}{'AUC':>22}  {'false alarms':>12}  {'misses':>8}  {'drop of AUC':>11}  how much"]
    for row in table.to_dict("records"):
        amount = "" if row["degradation"] == CLEAN else tell_amount(row["amount"], row["unit"])
        numbers = [_format(row[name]) for name in ("auc", "auc_low", "auc_high", "fpr", "fnr", "drop")]
        auc = f"{numbers[0]} [{numbers[1]}, {numbers[2]}]"
        note = "" if row["labels_hold"] else "  no longer real: sound and picture part noticeably"
        lines.append(
            f"{row['degradation']:12}{auc:>22}  {numbers[3]:>12}  {numbers[4]:>8}  {numbers[5]:>11}  {amount}{note}"
        )
    drop = summary["mean_drop"]
    lines += [f"mean drop of the AUC: {_format(drop['value'])} [{_format(drop['low'])}, {_format(drop['high'])}]"]
    return "\n".join([*lines, *_describe_unfelt(summary)])


def _format(value: float | None) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:.3f}"


def tabulate_sweep(table: pd.DataFrame) -> pd.DataFrame:
    """Return a sweep's rows for people: what was done how strongly, and each number with its 95 % interval."""
    titles = {"auc": "AUC", **RATES, "drop": "Drop of the AUC"}
    amounts = [tell_amount(row.amount, row.unit).strip() if row.strength else "" for row in table.itertuples()]
    rows = table.to_dict("records")
    numbers = {title: [format_interval(_read_interval(row, name)) for row in rows] for name, title in titles.items()}
    return table[["degradation", "strength"]].assign(amount=amounts, **numbers)


def _read_interval(row: Mapping[str, Any], name: str) -> Interval:
    """Return a number of a row with its interval; what a table holds as NaN is undefined."""
    return {key: None if pd.isna(value := row[f"{name}{end}"]) else float(value) for end, key in ENDS.items()}


def find_worst(table: pd.DataFrame, summary: Mapping[str, Any]) -> tuple[str, float]:
    """Return the degradation under which the AUC falls most on average, and its strength at which it falls most.

    Of equal drops the severest; where nothing can be measured, or no label holds, the last of the sweep.
    """
    known = {name: drop["value"] for name, drop in summary["drops"].items() if drop["value"] is not None}
    held = table[(table["degradation"] != CLEAN) & table["labels_hold"].astype(bool)]
    rows = held[held["degradation"] == max(known, key=known.__getitem__)].iloc[::-1] if known else table
    worst = rows.loc[rows["drop"].astype(float).idxmax()] if known else rows.iloc[-1]
    return str(worst["degradation"]), float(worst["strength"])


def describe_sweep(table: pd.DataFrame, summary: Mapping[str, Any]) -> list[str]:
    """Return sentences: the mean drop, what hurts most, what surely and what not at all, and where errors are most."""
    drops = {name: drop for name, drop in summary["drops"].items() if drop["value"] is not None}
    left_out = summary["left_out"]
    lines = _describe_unfelt(summary)
    lines += [f"Left out of all drops, since labels no longer hold there: {', '.join(left_out)}."] if left_out else []
    if not drops:
        return [*lines, "By how much the AUC falls cannot be told: that takes reals and fakes whose labels hold."]
    lines.append(f"Mean drop of the AUC over all degradations: {_format_drop(summary['mean_drop'])}.")
    worst = max(drops, key=lambda name: drops[name]["value"])
    if drops[worst]["value"] > 0:
        lines.append(f"It falls most under {worst}: by {_format_drop(drops[worst])}, on average over its strengths.")
    kinds: dict[str, list[str]] = {}
    for name, drop in drops.items():
        kinds.setdefault(_judge_drop(drop), []).append(name)
    lines += [f"It {kind}: {', '.join(names)}." for kind, names in kinds.items()]
    return lines + [_describe_errors(table, name, what) for name, what in RATES.items()]


def _describe_unfelt(summary: Mapping[str, Any]) -> list[str]:
    """Say under which degradations the score cannot move: that it stays the same there is no strength of it."""
    unfelt = ", ".join(summary.get("unfelt", ()))
    why = "no evidence that counts in the score hears or sees them, and mouth and sound are judged in clips as they are"
    return [f"Not tested by {unfelt}: {why}."] if unfelt else []


def _format_drop(drop: Interval) -> str:
    return format_difference({**drop, "difference": drop["value"]})


def _judge_drop(drop: Interval) -> str:
    """Say of an AUC what its drop and the interval of it say."""
    if drop["value"] == 0:
        return "stays the same under"
    if drop["low"] is None:
        return "moves, with too few people or errors for an interval, under"
    if drop["low"] <= 0 <= drop["high"]:
        return "moves by no more than luck may, the interval taking in 0, under"
    return f"surely {'falls' if drop['low'] > 0 else 'rises'} under"


def _describe_errors(table: pd.DataFrame, name: str, what: str) -> str:
    """Return a sentence on the step at which a kind of error is most frequent, beside the videos as they are."""
    clean, rows = table[table["degradation"] == CLEAN].iloc[0], table[table["labels_hold"].astype(bool)]
    values = rows[name].astype(float)
    if values.isna().all():
        return f"{what}: there is none that could be."
    most = rows.loc[values.idxmax()]
    before, after = (format_interval(_read_interval(row, name)) for row in (clean, most))
    if most[name] <= clean[name]:
        return f"{what}: nowhere more than {before}, as of the videos as they are."
    return (
        f"{what}: most under {most['degradation']} {most['strength']:g}, {after}; of the videos as they are {before}."
    )
