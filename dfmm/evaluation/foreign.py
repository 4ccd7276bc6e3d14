"""Scores of a detector that is not ours → a run like any other: a table is read, turned, calibrated and evaluated."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit

from dfmm.dataset import load_manifest, open_manifest
from dfmm.environment import describe_environment
from dfmm.evaluation.calibration import compare_calibration
from dfmm.evaluation.contents import VERSION, Foreign, Report, Threshold
from dfmm.evaluation.evidence import Evidence, choose_window_threshold, doubt_threshold
from dfmm.evaluation.kept import write_evaluation, write_table
from dfmm.evaluation.rivals import add_rivals
from dfmm.evaluation.scorefile import ScoresError, label_rows, read_scores
from dfmm.evaluation.slices import choose_slices, slice_errors
from dfmm.evaluation.summary import choose_costs, summarise_split
from dfmm.figures import format_interval
from dfmm.files import hash_file
from dfmm.manifest import fingerprint_manifest, select_split
from dfmm.metrics import choose_threshold, compute_auc
from dfmm.model.aggregation import SCORES, SURE_FAKE, SURE_REAL, aggregate_windows
from dfmm.model.detector import score_with
from dfmm.people import assign_people
from dfmm.runs import Run
from dfmm.settings import Settings, list_changed, load_settings, parse_override, resolve_path
from dfmm.words import count_noun

POLARITIES = ("fake_high", "real_high")
EDGE = 1e-15  # a probability nearer to 0 or 1 has lost its odds
USED = ("data", "evaluate", "model.aggregation")  # settings of a table's evaluation: sections, and one of another
NOTED = ("seed", "logging")  # the seed that a comparison of runs names, and what is told of it all
MEASURED = ("extract", "cure")  # how files are read, where rivals are measured
SHOWN = 10  # of the videos without a score, named in words
STEEPEST = 30.0  # log-odds beyond which neighbouring probabilities are the same float

log = logging.getLogger("dfmm")


@dataclass(frozen=True)
class Scale:
    """What numbers of validation taught the others of a table to mean: probabilities, and from which one on is fake."""

    slope: float  # of the log-odds; 1 where nobody calibrated
    offset: float
    prior: float | None  # share of fakes that scores assume; None where nobody knows
    threshold: float
    rule: str
    chosen_on: str
    doubts: tuple[str, ...]
    reals: int = 0  # of validation
    fakes: int = 0


def import_scores(source: str | Path, run: Run, settings: Settings, **chosen: Any) -> Foreign:
    """Take a table of somebody's scores into a run's folder, for `evaluate_scores` and all that compares runs.

    Args:
        source, settings, chosen: as of `read_import`.

    Raises:
        ScoresError: as `read_import` does.
        RunError: the folder holds what was trained.
    """
    run.refuse_trained()
    facts, table, manifest = read_import(source, settings, **chosen)
    write_import(run, facts, table, manifest)
    return facts


def read_import(
    source: str | Path,
    settings: Settings,
    *,
    polarity: str | None = None,
    video: str | None = None,
    score: str | None = None,
    rivals: bool = False,
) -> tuple[Foreign, pd.DataFrame, pd.DataFrame]:
    """Return what is known of a table of somebody's scores, its rows, and the manifest; no run's folder is touched.

    Args:
        source: a file, as of `read_scores`, or a detector that scores files, `package.module:function`.
        settings: of the run; those that count are `data`, `evaluate` and `model.aggregation`.
        polarity: `fake_high` or `real_high`; None has validation prove it.
        video, score: as of `read_scores`.
        rivals: measure trivial features and mouth and loudness as well, which reads every video.

    Raises:
        ScoresError: the table is wrong, which way round its scores are is neither said nor proven, or they cannot be
            joined as `model.aggregation` says.
    """
    if is_detector(source) and (video or score):
        raise ScoresError(f"--video and --score name columns of a table, and {source} is code: leave them out")
    manifest, root = load_manifest(settings), resolve_path(settings.data.root)
    if is_detector(source):
        table, polarity = ask_detector(str(source), manifest, settings), polarity or POLARITIES[0]
    else:
        table = read_scores(source, manifest, root, video=video, score=score)
    facts = Foreign(
        table=str(source) if is_detector(source) else Path(source).name,
        sha256="" if is_detector(source) else hash_file(Path(source)),
        level=table.attrs["level"],
        rows=len(table),
        probabilities=bool(table["score"].between(0, 1).all()),
        polarity=polarity or POLARITIES[0],
        known="as it was said",
        rivals=rivals,
    )
    _refuse_confident(table["score"], facts, settings)
    val = join_videos(manifest, turn_rows(table, facts), facts, settings).query("split == 'val' and status == 'ok'")
    facts = facts.model_copy(update=prove_polarity(val, settings, facts, said=bool(polarity)))
    return facts, table, manifest


def write_import(run: Run, facts: Foreign, table: pd.DataFrame, manifest: pd.DataFrame) -> None:
    """Keep in a run's folder what `read_import` returned."""
    with run.stage("import"):
        write_table(table, run.imported)
        run.describe(foreign=facts.model_dump(), data_fingerprint=fingerprint_manifest(manifest))


def _refuse_confident(scores: pd.Series, facts: Foreign, settings: Settings) -> None:
    """Raise a `ScoresError` where several scores of a video are to be joined by how sure each is, and none tells."""
    if settings.model.aggregation == "confident" and facts.level != "video" and not facts.probabilities:
        raise ScoresError(
            f"model.aggregation=confident is for probabilities, sure above {SURE_FAKE} or below {SURE_REAL}, and these "
            f"scores reach from {scores.min():g} to {scores.max():g}: take mean or max"
        )


def refuse_unused(source: str | Path, overrides: Sequence[str], *, rivals: bool) -> None:
    """Raise a `ScoresError` where a setting is given that changes nothing of a table; a detector is told them all."""
    used = (*USED, *NOTED, *(MEASURED if rivals else ()))
    names = [] if is_detector(source) else [parse_override(override)[0] for override in overrides]
    unused = [name for name in names if name not in used and name.partition(".")[0] not in used]
    if unused:
        more = "" if rivals else f", and with --rivals {' and '.join(MEASURED)}"
        raise ScoresError(
            f"{', '.join(unused)}: changes nothing of scores that are there already; of settings {', '.join(used)} "
            f"count{more}: leave the others out"
        )


def is_detector(source: str | Path) -> bool:
    """Is it the import path of a detector, and no file?"""
    return bool(re.fullmatch(r"[\w.]+:\w+", str(source))) and not Path(source).is_file()


def ask_detector(path: str, manifest: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Return, as `read_scores` does, what a detector says of the files of validation and test; None is no row."""
    asked = manifest[manifest["split"].isin(("val", "test"))]
    root = resolve_path(settings.data.root)
    scores = pd.Series(score_with(path, settings, [root / one for one in asked["path"]]), asked.index, dtype=float)
    table = asked[["video_id"]].assign(window=0, start=np.nan, end=np.nan, score=scores)[scores.notna()]
    table.attrs["level"] = "video"
    return table


def prove_polarity(val: pd.DataFrame, settings: Settings, facts: Foreign, *, said: bool) -> dict[str, str]:
    """Return which `polarity` scores have, and how that is `known`: as it was said, or as validation surely shows.

    Args:
        val: the validation videos that have a score, turned as the facts say.
        said: do the facts tell what somebody said, or is that to be found out?

    Raises:
        ScoresError: it was not said, and validation does not show it. Test is not asked.
    """
    auc = _measure_auc(val, settings)
    told = f"AUC {format_interval(auc)} on {len(val)} videos of validation" if auc else ""
    right, wrong = (auc["low"] > 0.5, auc["high"] < 0.5) if auc else (False, False)
    other = next(name for name in POLARITIES if name != facts.polarity)
    if said:
        if wrong:
            log.warning("%s was said, but validation surely shows %s: %s", facts.polarity, other, told)
        return {"known": f"as it was said, though validation shows {other}: {told}" if wrong else "as it was said"}
    if right or wrong:
        return {"polarity": other if wrong else facts.polarity, "known": f"{told} if fakes are taken for high"}
    why = f"validation does not tell ({told})" if told else "the table has no validation videos of both labels"
    raise ScoresError(
        f"which way round are the scores? {why[0].upper()}{why[1:]}, and test is not to be asked: "
        "say --polarity fake_high or --polarity real_high"
    )


def _measure_auc(videos: pd.DataFrame, settings: Settings) -> dict[str, Any] | None:
    if videos["label"].nunique() < 2:
        return None
    options = {"identities": list(videos["identities"]), "replicates": settings.evaluate.replicates}
    found = compute_auc(videos["label"], videos["odds"], **options)
    return found if found["low"] is not None else None


def turn_rows(table: pd.DataFrame, facts: Foreign) -> pd.DataFrame:
    """Return the rows with scores that are the higher, the more suspicious, and what else `aggregate_windows` needs."""
    scores = table["score"]
    if facts.polarity == "real_high":
        scores = 1 - scores if facts.probabilities else -scores
    blank = dict.fromkeys(SCORES, np.nan) | {"face": 0, "has_face": True, "has_sound": True, "finite": True}
    return table.assign(**blank | {"score": scores})


def join_videos(manifest: pd.DataFrame, rows: pd.DataFrame, facts: Foreign, settings: Settings) -> pd.DataFrame:
    """Return the manifest's rows with each video's `odds`, from all its rows; one without a row is `unscored`.

    Args:
        rows: as from `turn_rows`.
    """
    joined = aggregate_windows(rows, settings.model.aggregation)[["video_id", "score", "windows"]]
    videos = assign_people(manifest).merge(joined.rename(columns={"score": "odds"}), on="video_id", how="left")
    missing = videos["odds"].isna()
    return videos.assign(
        face=0,
        windows=videos["windows"].fillna(0).astype(int),
        odds=find_log_odds(videos["odds"], facts),
        status=np.where(missing, "unscored", "ok"),
        reason=np.where(missing, f"no row in {facts.table}", ""),
    )


def find_log_odds(scores: pd.Series, facts: Foreign) -> pd.Series:
    """Return scores as log-odds, or read as such; where these are beyond what a float can tell, all are shrunk."""
    if facts.probabilities:
        return pd.Series(logit(np.clip(scores, EDGE, 1 - EDGE)), scores.index)
    return scores / max(1.0, scores.abs().max() / STEEPEST)


def fit_scale(val: pd.DataFrame, settings: Settings) -> Scale:
    """Learn on validation what scores mean (Platt scaling) and from which one on a video is called fake.

    The order of the scores stays. Without validation videos of both labels, and where these speak against the scores,
    they are taken as they came.

    Args:
        val: the validation videos that have a score.
    """
    labels, odds, rule = val["label"].to_numpy(), val["odds"].to_numpy(float), settings.evaluate.threshold
    if len(set(labels)) < 2:
        why = "the table has no validation videos of both labels: scores are taken as they came, and fake from 0.5 on"
        doubts = (f"{why}, which nobody chose or calibrated", *_doubt_prior(settings))
        return Scale(1.0, 0.0, None, 0.5, "one half", "nothing", doubts)
    (slope, offset), prior = fit_platt(odds, labels), float(labels.mean())
    doubts: tuple[str, ...] = ()
    if slope <= 0:
        slope, offset, prior = 1.0, 0.0, None
        why = "validation speaks against these scores: they are not calibrated; look at their polarity"
        doubts = (why, *_doubt_prior(settings))
    elif settings.evaluate.prior:
        offset += float(logit(settings.evaluate.prior) - logit(prior))
        prior = settings.evaluate.prior
    threshold = choose_threshold(labels, expit(slope * odds + offset), rule=rule)
    counts = {"reals": int((labels == 0).sum()), "fakes": int((labels == 1).sum())}
    lesson = Evidence({}, 0.0, prior or 0.5, threshold, rule, apart=False, **counts)
    return Scale(slope, offset, prior, threshold, rule, "val", (*doubts, *doubt_threshold(lesson)), **counts)


def fit_platt(odds: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[float, float]:
    """Return slope and offset of the log-odds of fake, learnt from scores `[n]` of both labels.

    Platt scaling ("Probabilistic outputs for support vector machines", 1999): no weight is held to 0, which would make
    calibrated scores unsure; that a few videos are told apart without an error makes no score certain, since their
    labels are taken for as likely as Laplace's rule has it.
    """
    from sklearn.linear_model import LogisticRegression

    fakes, reals = np.count_nonzero(labels), np.count_nonzero(labels == 0)
    fake = np.where(labels == 1, (fakes + 1) / (fakes + 2), 1 / (reals + 2))
    centre, spread = odds.mean(), odds.std() or 1.0
    inputs, ones = np.tile((odds[:, None] - centre) / spread, (2, 1)), np.ones(len(odds))
    fit = LogisticRegression(C=np.inf, tol=1e-8).fit(inputs, [*ones, *(0 * ones)], sample_weight=[*fake, *(1 - fake)])
    slope = float(fit.coef_[0, 0]) / spread
    return slope, float(fit.intercept_[0]) - slope * centre


def _doubt_prior(settings: Settings) -> list[str]:
    """Say that a prior was asked for, where nobody knows which one the scores assume."""
    prior = settings.evaluate.prior
    return [f"evaluate.prior={prior:g} changes nothing: only calibrated scores can be moved to it"] if prior else []


def evaluate_scores(run: Run, split: str = "test") -> tuple[Report, pd.DataFrame, pd.DataFrame]:
    """Evaluate the scores that a run imported, on a split of its manifest; what comes back is as from `evaluate_run`.

    Raises:
        RunError: not one video of the split has a score.
    """
    settings = load_settings(run / "settings.yaml")
    manifest, facts = open_manifest(run, settings), Foreign.model_validate(run.read()["foreign"])
    columns = choose_slices(settings.evaluate.slices, manifest, manifest)
    rows = turn_rows(_read_imported(run), facts)
    everything = join_videos(manifest, rows, facts, settings)
    scale = fit_scale(everything[(everything["split"] == "val") & (everything["status"] == "ok")], settings)
    videos = score_videos(select_split(everything, split, limit=settings.data.limit), scale)
    videos = add_rivals(manifest, videos, settings, settings) if facts.rivals else videos
    windows = _score_windows(rows, manifest, facts, settings)
    own = choose_window_threshold(windows[windows["split"] == "val"], rule=settings.evaluate.threshold)
    windows = windows[windows["video_id"].isin(videos["video_id"])].drop(columns="split")
    known = _describe_import(run, manifest, settings, facts, scale) | {"aggregation": settings.model.aggregation}
    known["threshold"] = known["threshold"].model_copy(update={"window": own})
    options = {"replicates": settings.evaluate.replicates, "prior": scale.prior, "costs": choose_costs(settings)}
    thresholds = {"threshold": scale.threshold, "window_threshold": own}
    known |= summarise_split(videos, windows, split=split, **thresholds, **options)
    scored = videos[videos["status"] == "ok"]
    known["prior"] = float(scored["label"].mean()) if scale.prior is None else scale.prior
    if scale.prior is not None:  # theirs are taken to assume the share of fakes that validation has
        trained = scale.fakes / (scale.reals + scale.fakes)
        known["calibration"] = compare_calibration(scored, prior=scale.prior, trained=trained)
    if columns:
        known["slices"] = slice_errors(videos, columns, settings, scale.threshold)
    report = Report.model_validate(known)
    write_evaluation(report, videos, windows, None, run)
    return report, videos, windows


def _read_imported(run: Run) -> pd.DataFrame:
    empty = {"start": [""], "end": [""]}  # and no other cell: a video may be called NA
    return pd.read_csv(run.imported, dtype={"video_id": str}, keep_default_na=False, na_values=empty)


def score_videos(videos: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """Return videos with what the video table of an evaluation holds of each; streams have no score of their own."""
    scores = expit(scale.slope * videos["odds"] + scale.offset)
    blank = dict.fromkeys((*SCORES[1:], "trivia_score", "mouth_loudness"), np.nan)
    called = (scores >= scale.threshold).where(videos["status"] == "ok").astype("Int64")
    scored = videos.assign(**blank, fusion_score=expit(videos["odds"]), score=scores, predicted=called)
    return scored.drop(columns="odds")


def _score_windows(rows: pd.DataFrame, manifest: pd.DataFrame, facts: Foreign, settings: Settings) -> pd.DataFrame:
    """Return the windows' table, with the `split` of each; without a row where the table has one score a video."""
    rows = rows if facts.level != "video" else rows.head(0)
    rows = label_rows(rows, manifest, settings.data.forged_share)
    split = rows["video_id"].map(manifest.set_index("video_id")["split"])
    return rows.assign(split=split, score=expit(find_log_odds(rows["score"], facts)))


def _describe_import(
    run: Run, manifest: pd.DataFrame, settings: Settings, facts: Foreign, scale: Scale
) -> dict[str, Any]:
    """Return what a report says of the detector, as far as anybody knows, and of what its scores were taken to mean."""
    origin = {"trained": None, "seed": settings.seed, "device": "none", "settings": list_changed(settings)}
    taught = {"reals": scale.reals, "fakes": scale.fakes} if scale.prior is not None else {}
    chosen = {"value": scale.threshold, "rule": scale.rule, "chosen_on": scale.chosen_on, "doubts": list(scale.doubts)}
    return {
        "version": VERSION,
        "run": run.name,
        "foreign": facts.model_copy(update=taught),
        "origin": describe_environment() | origin,
        "data_fingerprint": fingerprint_manifest(manifest),
        "checkpoint": {"file": run.imported.name, "sha256": hash_file(run.imported)[:16]},
        "threshold": Threshold(**chosen),
    }


# In words


def describe_import(facts: Foreign, report: Report) -> list[str]:
    """Say what was imported, which way round it is, what was chosen on validation, and which videos have no score."""
    high = "fakes" if facts.polarity == "fake_high" else "reals"
    said = [f"{facts.table}: {count_noun(facts.rows, 'row')}, a score a {facts.level}; {high} are high ({facts.known})"]
    if report.foreign and report.foreign.reals:
        said.append(
            f"calibrated, and fake from {report.threshold.value:.3f} on, as "
            f"{count_noun(report.foreign.reals, 'real')} and {count_noun(report.foreign.fakes, 'fake')} of validation "
            "taught"
        )
    said += report.threshold.doubts
    missing = list(report.coverage.reasons)
    if missing:
        more = f" and {len(missing) - SHOWN} more (in scores.csv)" if len(missing) > SHOWN else ""
        have = "has" if len(missing) == 1 else "have"
        said.append(f"{len(missing)} of {report.videos} videos {have} no score: {', '.join(missing[:SHOWN])}{more}")
    return said
