"""What each sense says of a clip → one score: pieces of evidence, weighed as validation teaches."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray
from scipy.special import expit, log_expit, logit

from dfmm.audit.shortcuts import assign_folds, group_people
from dfmm.metrics import TELLING, bound_ratios, choose_threshold, is_telling
from dfmm.people import mark_nameless
from dfmm.words import count_noun

Floats = NDArray[np.float64]

SURE = 1e-7  # a float32 probability nearer to 0 or 1 has lost its odds
LAG_STEP = 40.0  # ms: from the usual lag to this one more is as much as from here to three
# How stiffly weights are held to what they are believed to be before a video is seen, about as many videos overrule it:
# that pieces are independent and calibrated, and that what repeats them adds nothing.
STIFFNESS, REPEATS_STIFFNESS = 1.0, 10.0


@dataclass(frozen=True)
class Sense:
    """Where a piece of evidence comes from, and which label says whether it is right."""

    column: str  # of the video table
    label: str  # the manifest's column
    forged: int  # the label's value where this sense has something to find
    words: tuple[str, str]  # what it suggests where it speaks for forgery, and where against
    otherwise: str = ""  # the label, 1 for forged, that stands in where the first is of one kind
    calibrated: bool = False  # is it a probability at even odds already, to be trusted where no label can check it?


SENSES = {
    "picture": Sense("video_fake_score", "video_fake", 1, ("a forged picture", "a genuine picture")),
    "voice": Sense("audio_fake_score", "audio_fake", 1, ("a forged voice", "a genuine voice")),
    "synchrony": Sense(
        "in_step", "in_sync", 0, ("sound that is not the mouth's", "the mouth's own sound"), "label", calibrated=True
    ),
    "lag": Sense("lag_ms", "in_sync", 0, ("sound moved in time", "sound in its place"), "label"),
    "fusion": Sense("fusion_score", "label", 1, ("a forgery", "a genuine clip")),
}
# What the network's fusion says repeats what its two streams say: it is held to weigh nothing beside them.
REPEATS = "fusion"


@dataclass(frozen=True)
class Piece:
    """How one sense's value becomes a log-likelihood ratio, and what that weighs in the score."""

    usual: float  # of what is measured in genuine clips of validation: how far others are from it counts of a lag
    centre: float  # of the value on validation, and its spread
    scale: float
    slope: float  # of the log-likelihood ratio, never negative
    offset: float
    share: float  # of fakes that are forged where this sense looks
    weight: float = 1.0  # never negative
    forged: int = 0  # people of validation that taught it, as forged and as genuine; 0 where it is trusted unchecked
    genuine: int = 0

    @property
    def bounds(self) -> tuple[int, int]:
        """How many times at most it vouches for a genuine clip, and for a forged one: by how many people taught it."""
        return (self.forged or self.genuine) + 1, self.genuine + 1


@dataclass(frozen=True)
class Evidence:
    """All pieces and how they are joined. What a clip lacks weighs nothing, and is not guessed.

    Each piece alone is calibrated against its own label by a logistic regression: L_i, how many times more often such a
    value is seen where that stream is forged. A fake need not be forged there: if a share s_i of fakes is, what the
    piece says of the clip is z_i = log(1 − s_i + s_i L_i), so that a genuine voice excuses a forged picture no further
    than it can. A missing piece has L_i = 1 and z_i = 0. The score's log-odds are logit(prior) + bias + Σ w_i z_i.
    """

    pieces: dict[str, Piece]
    bias: float
    prior: float  # share of fakes that the score assumes
    threshold: float
    rule: str  # by which the threshold was chosen
    apart: bool  # was it chosen on scores of people whom the fit had not seen?
    learnt_on: str = ""  # the data's fingerprint
    reals: int = 0  # videos that the threshold was chosen on; 0 of them where nobody counted
    fakes: int = 0
    twins: int = 0  # of these fakes, those that were forged of validation's reals
    window_threshold: float | None = None  # of the network's scores of windows; None where it was not chosen
    trained: float | None = None  # the prior that training saw, where `prior` is another one (`shift_prior`)
    named: bool = True  # did a video of validation name anybody? Else each family stood in for a person

    @property
    def teachers(self) -> str:
        """Of whom a piece's `forged` and `genuine` are so many."""
        return "people of validation" if self.named else "videos of validation, which name nobody"

    @property
    def weighed(self) -> list[str]:
        """The names of the pieces that weigh something in the score."""
        return [name for name, piece in self.pieces.items() if piece.weight > 0]

    def dump(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def load(cls, values: Mapping[str, Any]) -> Evidence:
        """Take up what `dump` returned."""
        return cls(**{**values, "pieces": {name: Piece(**piece) for name, piece in values["pieces"].items()}})


def fit_evidence(
    videos: pd.DataFrame,
    *,
    prior: float,
    rule: str,
    taught: Collection[str] = tuple(SENSES),
    twins: Collection[str] = (),
    learnt_on: str = "",
) -> Evidence:
    """Learn from scored validation videos how to join what each sense says.

    The threshold is chosen on scores of people that the fit behind them had not seen, and on true fakes, unless there
    are none. Where no sense finds anything, there are no pieces, and the score stays the network's own.

    Args:
        videos: with the manifest's columns and those of `SENSES`, as far as they are there.
        prior: share of fakes that the score is to assume, that of training.
        rule: of `choose_threshold`.
        taught: the senses that had both kinds of their label to learn from.
        twins: the videos that are forgeries of others, made for validation.
        learnt_on: the data's fingerprint.

    Raises:
        MetricError: the videos are all real or all fake.
    """
    videos = videos[videos["label"].isin((0, 1)) & videos["fusion_score"].notna()].reset_index(drop=True)
    pieces, bias = _fit_pieces(videos, taught)
    made = videos["video_id"].isin(twins).to_numpy()
    chosen = ~made if (videos["label"][~made] == 1).any() else made | True
    alike = _level_twins(videos, made) if made[chosen].any() else videos
    unseen = _score_unseen(alike, taught, prior)
    scores = join_evidence(alike, pieces, bias, prior)["score"] if unseen is None else unseen
    labels = videos["label"][chosen]
    threshold = choose_threshold(labels, scores[chosen], rule=rule)
    counts = {"reals": int((labels == 0).sum()), "fakes": int(labels.sum()), "twins": int((made & chosen).sum())}
    counts["named"] = not mark_nameless(videos).all()
    return Evidence(pieces, bias, prior, threshold, rule, unseen is not None, learnt_on, **counts)


def choose_window_threshold(windows: pd.DataFrame, *, rule: str, twins: Collection[str] = ()) -> float | None:
    """Return from which of its own scores on a window is called fake; None where validation's windows have one label.

    A video's score is made of its windows' and lies elsewhere, the more so the more of them there are.

    Args:
        windows: of validation, as from `score_split`.
        rule, twins: as in `fit_evidence`.
    """
    known = windows[np.isfinite(windows["score"]) & windows["label"].isin((0, 1))]
    true = known[~known["video_id"].isin(twins)]
    known = true if (true["label"] == 1).any() else known
    return choose_threshold(known["label"], known["score"], rule=rule) if known["label"].nunique() == 2 else None


def apply_evidence(videos: pd.DataFrame, evidence: Evidence) -> pd.DataFrame:
    """Return the videos with `score` joined from all pieces, and each piece's own `<name>_evidence`.

    The latter is log10 of its likelihood ratio: 1 is ten times as often seen in forgeries, −1 in genuine clips. A video
    that the network could not score has no score; one without a single piece has the prior.
    """
    if evidence.pieces or evidence.trained is None:
        return join_evidence(videos, evidence.pieces, evidence.bias, evidence.prior)
    moved = logit(evidence.prior) - logit(evidence.trained)
    odds = logit(np.clip(videos["fusion_score"].astype(float), SURE, 1 - SURE))
    return videos.assign(score=expit(odds + moved))


def shift_prior(evidence: Evidence, wanted: float | None) -> Evidence:
    """Return evidence whose scores assume another share of fakes; its threshold calls the same videos fake.

    By Bayes' rule the odds of all scores change by the same factor (Saerens et al., "Adjusting the outputs of a
    classifier to new a priori probabilities", Neural Computation 2002).

    Args:
        wanted: None leaves it at what training saw.
    """
    if wanted is None:
        return evidence
    threshold, moved = evidence.threshold, logit(wanted) - logit(evidence.prior)
    threshold = float(expit(logit(threshold) + moved)) if 0 < threshold < 1 else threshold
    return replace(evidence, prior=wanted, threshold=threshold, trained=evidence.prior)


def join_evidence(videos: pd.DataFrame, pieces: Mapping[str, Piece], bias: float, prior: float) -> pd.DataFrame:
    """Do what `apply_evidence` says."""
    if not pieces:
        return videos.assign(score=videos["fusion_score"])
    ratios = _list_ratios(videos, pieces)
    odds = sum(piece.weight * _say_of_clip(ratios[name], piece) for name, piece in pieces.items())
    columns = {f"{name}_evidence": ratio / np.log(10) for name, ratio in ratios.items()}
    there = ~np.all([np.isnan(ratio) for ratio in ratios.values()], axis=0)
    odds = logit(prior) + np.where(there, bias + odds, 0.0)
    scored = videos["fusion_score"].notna()
    return videos.assign(score=np.where(scored, expit(odds), np.nan), **columns)


def _fit_pieces(videos: pd.DataFrame, taught: Collection[str]) -> tuple[dict[str, Piece], float]:
    """Return the pieces that say something, with their weights, and the bias."""
    groups = group_people(videos)[0]
    found = {name: _calibrate(videos, sense, groups) for name, sense in SENSES.items() if name in taught}
    pieces = {name: piece for name, piece in found.items() if piece is not None}
    if not pieces or videos["label"].nunique() < 2:
        return {}, 0.0
    ratios = _list_ratios(videos, pieces)
    parts = np.stack([_say_of_clip(ratios[name], piece) for name, piece in pieces.items()], axis=1)
    repeats = np.array([name == REPEATS and len(pieces) > 1 for name in pieces])
    # What no label could check was learnt from nothing here, and keeps the weight 1.
    free = np.array([piece.forged > 0 for piece in pieces.values()])
    weights, bias = np.ones(len(pieces)), 0.0
    if free.any():
        weights[free], bias = _weigh(parts[:, free], videos["label"].to_numpy(float), repeats[free])
    weighed = zip(pieces.items(), weights.tolist(), strict=True)
    return {name: replace(piece, weight=weight) for (name, piece), weight in weighed}, bias


def _level_twins(videos: pd.DataFrame, made: NDArray[np.bool_]) -> pd.DataFrame:
    """Return the videos without what no twin has: it would lie between reals and twins, and no fake that has a file.

    A twin is forged as it is read, and nobody judges the synchrony of its file.
    """
    columns = [sense.column for sense in SENSES.values() if sense.column in videos]
    lacking = [name for name in columns if videos.loc[made, name].isna().all()]
    return videos.assign(**dict.fromkeys(lacking, np.nan))


def _calibrate(videos: pd.DataFrame, sense: Sense, groups: pd.Series) -> Piece | None:
    """Return what a sense's values mean, or None: its label is of one kind, or it finds nothing.

    Args:
        groups: whose each video is, as from `group_people`.
    """
    from sklearn.linear_model import LogisticRegression  # which takes seconds, and scoring does not need it

    if sense.column not in videos:
        return None
    forged = _list_forged(videos, sense)
    usual = float(np.nan_to_num(videos[sense.column].where(forged == 0).median()))
    values = _read_values(videos, sense, usual)
    fakes = forged[(videos["label"] == 1).to_numpy() & np.isfinite(forged)]
    share = float((fakes.sum() + 1) / (len(fakes) + 2))  # Laplace's rule: never none, never all
    known = np.isfinite(values) & np.isfinite(forged)
    values, forged = values[known], forged[known]
    if len(set(forged)) < 2:
        people = groups[known].nunique()
        trusted = Piece(usual, centre=0.0, scale=1.0, slope=1.0, offset=0.0, share=share, genuine=people)
        return trusted if sense.calibrated and people else None
    centre, scale = float(values.mean()), float(values.std()) or 1.0
    # Balanced, so that what comes out is a likelihood ratio without any prior.
    fit = LogisticRegression(class_weight="balanced").fit((values[:, None] - centre) / scale, forged)
    slope, offset = float(fit.coef_[0, 0]), float(fit.intercept_[0])
    people = groups[known]
    counts = {name: people[forged == value].nunique() for name, value in (("forged", 1), ("genuine", 0))}
    return Piece(usual, centre, scale, slope, offset, share, **counts) if slope > 0 else None


def _list_forged(videos: pd.DataFrame, sense: Sense) -> Floats:
    """Return whether each video is forged where a sense looks, `[n]`: 1, 0 or NaN for unknown."""
    own = _mark(videos[sense.label], sense.forged)
    if sense.otherwise and not _has_both(own, videos[sense.column]):
        other = _mark(videos[sense.otherwise], 1)
        return other if _has_both(other, videos[sense.column]) else own
    return own


def _mark(labels: pd.Series, value: int) -> Floats:
    return (labels == value).where(labels.isin((0, 1))).to_numpy(float)


def _has_both(forged: Floats, values: pd.Series) -> bool:
    return len(set(forged[np.isfinite(forged) & values.notna().to_numpy()])) == 2


def _read_values(videos: pd.DataFrame, sense: Sense, usual: float) -> Floats:
    """Return a sense's values, `[n]`: the larger, the more suspicious; NaN where it is missing."""
    values = videos[sense.column].to_numpy(float)
    if sense.column == "lag_ms":
        return np.log1p(np.abs(values - usual) / LAG_STEP)
    odds = logit(np.clip(values, SURE, 1 - SURE))
    return odds if sense.forged else -odds


def _list_ratios(videos: pd.DataFrame, pieces: Mapping[str, Piece]) -> dict[str, Floats]:
    """Return each piece's log-likelihood ratio, `[n]`, NaN where it is missing."""
    ratios = {}
    for name, piece in pieces.items():
        there = SENSES[name].column in videos
        values = _read_values(videos, SENSES[name], piece.usual) if there else np.full(len(videos), np.nan)
        ratios[name] = bound_ratios(piece.slope * (values - piece.centre) / piece.scale + piece.offset, *piece.bounds)
    return ratios


def _say_of_clip(ratio: Floats, piece: Piece) -> Floats:
    """Return what a piece says of the whole clip, `[n]`; 0 where it is missing."""
    return np.logaddexp(np.log1p(-piece.share), np.log(piece.share) + np.nan_to_num(ratio))


def _weigh(parts: Floats, labels: Floats, repeats: NDArray[np.bool_]) -> tuple[Floats, float]:
    """Return weights `[pieces]`, none of them negative, and a bias, by a logistic regression held to 1 and 0.

    Pieces that are independent and calibrated need no correction, and a few dozen videos are to prove that these are
    not. Both labels count alike, so that the prior comes in afterwards.

    Args:
        parts: `[n, pieces]`.
        repeats: bool `[pieces]`, those that are held to 0 instead.
    """
    signs = 2 * labels - 1
    counts = np.where(labels == 1, 0.5 / labels.mean(), 0.5 / (1 - labels.mean()))
    inputs, centre = np.column_stack([parts, np.ones(len(parts))]), np.append(~repeats, 0.0)
    stiffness = np.append(np.where(repeats, REPEATS_STIFFNESS, STIFFNESS), STIFFNESS)

    def lose(values: Floats) -> tuple[float, Floats]:
        odds, moved = signs * (inputs @ values), values - centre
        slopes = inputs.T @ (-counts * signs * expit(-odds)) + stiffness * moved
        return float(-(counts * log_expit(odds)).sum() + (stiffness * moved**2).sum() / 2), slopes

    bounds = [(0, None)] * len(repeats) + [(None, None)]
    found = scipy.optimize.minimize(lose, centre, jac=True, bounds=bounds, method="L-BFGS-B").x
    return found[:-1], float(found[-1])


def _score_unseen(videos: pd.DataFrame, taught: Collection[str], prior: float) -> Floats | None:
    """Return scores `[n]`, each from a fit that had not seen the people of its video; None where they are too few."""
    folds = assign_folds(videos["label"], group_people(videos)[0])
    if folds is None:
        return None
    scores = np.full(len(videos), np.nan)
    for fold in np.unique(folds):
        fitted = _fit_pieces(videos[folds != fold].reset_index(drop=True), taught)
        scores[folds == fold] = join_evidence(videos[folds == fold], *fitted, prior)["score"]
    return scores


# In words


def describe_score(evidence: Evidence | None) -> str:
    """Say what a score is: a probability where validation taught what each piece means, else only an order."""
    if evidence is None or not evidence.pieces:
        return "the network's own, which nobody calibrated: it puts videos in order, and is no probability"
    counts = f"{count_noun(evidence.reals, 'real')} and {count_noun(evidence.fakes, 'fake')}"
    taught = counts if evidence.reals else "videos"
    assumed = f"where {100 * evidence.prior:.0f} % of videos are one"
    return f"the probability of a forgery {assumed}, calibrated on {taught} of validation"


def doubt_threshold(evidence: Evidence) -> list[str]:
    """Say what speaks against a threshold: reals that are too few for its rate, fakes that are none.

    The lowest threshold that only k of n reals reach is one that a new real reaches with a probability distributed as
    Beta(k + 1, n − k), its mean (k + 1) / (n + 1): to hold a rate takes some 3 / rate reals (the rule of three).
    """
    doubts, n = [], evidence.reals
    rate = float(evidence.rule.removeprefix("fpr=")) if evidence.rule.startswith("fpr=") else 0.0
    if 0 < n * rate < 3:
        k = int(rate * n + 1e-9)
        doubts.append(
            f"{n} reals of validation are too few to hold a false-positive rate of {rate:g}, which takes "
            f"{np.ceil(3 / rate):.0f}: new reals are called fake in up to {(k + 1) / (n + 1):.1%} of cases on "
            f"average, and with 95 % confidence in no more than {scipy.stats.beta.ppf(0.95, k + 1, n - k):.1%}"
        )
    if evidence.twins:
        doubts.append(
            f"no true fake is in validation: the threshold was chosen on {evidence.twins} forgeries of its own reals"
        )
    return doubts


def describe_evidence(video: Mapping[str, Any], evidence: Evidence) -> dict[str, str]:
    """Say of a video, for each piece that has a weight, what it says and how strongly; or that it is missing."""
    said = {}
    for name in evidence.weighed:
        ratio = video.get(f"{name}_evidence")
        missing = ratio is None or pd.isna(ratio)
        said[name] = "missing, and left out" if missing else say_ratio(ratio, name)
        if name == "lag" and not missing:
            said[name] += f" ({say_lag(video['lag_ms'], video.get('lag_confidence'), evidence.pieces[name].usual)})"
    return said


def say_lag(lag: float, confidence: float | None, usual: float) -> str:
    """Return `the sound fits best 120 ms late, confidence 0.31; genuine clips 10 ms late`."""
    found, others = (f"{abs(value):.0f} ms {'late' if value >= 0 else 'early'}" for value in (lag, usual))
    sure = "" if confidence is None or pd.isna(confidence) else f", confidence {confidence:.2f}"
    return f"the sound fits best {found}{sure}; that of genuine clips {others}"


def say_ratio(log10_ratio: float, name: str) -> str:
    """Return `strong support for a forged picture: 150 times as often seen there`.

    The scale is that of the European Network of Forensic Science Institutes (guideline for evaluative reporting, 2015).
    """
    ratio, forged = 10 ** abs(log10_ratio), log10_ratio > 0
    words, others = SENSES[name].words if forged else SENSES[name].words[::-1]
    if not is_telling(log10_ratio):
        return f"says nothing: less than {TELLING:g} times as often seen of {words} as of {others}"
    steps = ((10, "weak"), (100, "moderate"), (1000, "moderately strong"), (10_000, "strong"), (np.inf, "very strong"))
    strength = next(word for limit, word in steps if ratio < limit)
    return f"{strength} support for {words}: {ratio:.0f} times as often seen there as of {others}"
