"""How often does each interval hold the truth?

    python benchmarks/interval_coverage.py [--simulations 1000] [--replicates 1000] [--metrics auc eer …]

Scores are drawn from two normal distributions whose true AUC, and so the truth of every metric, is known; as
probabilities they are overconfident, their log-odds 1.3 times what they should be. Without people every video is its
own. With them, each person has a share of the reals and of the fakes, and those of one label have half of their
variance in common. A second detector, with a true AUC lower by 0.05, shares four fifths of the noise with the first; in
the rows that start with "difference" both are measured on the same videos, and DeLong's is of the AUC. Printed is the
share of simulations whose 95 % interval holds the truth; a star marks what is outside .93 to .97, where a class has
fewer than 30 videos what is below .93. The standard error of a share of .95 is .007 at 1,000 simulations.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm

from dfmm.metrics import BINS, Costs, compare_metrics, compute_macro_auc, compute_metrics

CASES = ((20, 60, 0.9), (100, 100, 0.9), (100, 300, 0.95), (44, 109, 0.85))  # reals, fakes, true AUC
PEOPLE = (20, 50, 50, 22)  # of each case
OVERCONFIDENCE = 1.3
WORSE, SHARED = 0.05, 0.8  # by how much the second detector's AUC is lower, and what it shares of the noise
METHODS = 3  # among which fakes are dealt out, for the mean of their AUCs
GRID = 100_000  # quantiles of each class that stand for all videos


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--metrics", nargs="+", help="only these")
    options = parser.parse_args()
    columns = {}
    for case, people in zip(CASES, PEOPLE, strict=True):
        for crowd in (None, people):
            columns[case, crowd] = cover(case, crowd, options.simulations, options.replicates)
    print(
        "| metric |", *(f"{r}/{f} {auc:g}{f', {people} people' if people else ''} |" for (r, f, auc), people in columns)
    )
    print("| --- |" + " --- |" * len(columns))
    for name in options.metrics or next(iter(columns.values())):
        print(f"| {name} |", *(f"{mark(shares[name], case)} |" for (case, _), shares in columns.items()))


def mark(share: float, case: tuple[int, int, float]) -> str:
    if np.isnan(share):
        return "–"
    wrong = share < 0.93 or (share > 0.97 and min(case[:2]) >= 30)
    return f"{share:.3f}{'*' if wrong else ''}"


def cover(case: tuple[int, int, float], people: int | None, simulations: int, replicates: int) -> dict[str, float]:
    """Return for each metric in how many of the simulations its interval holds the truth; NaN where undefined."""
    truth, held = find_truth(*case), {}
    other = find_truth(case[0], case[1], case[2] - WORSE)
    truth |= {"macro_auc": case[2], "difference of delong": WORSE}
    truth |= {f"difference of {name}": truth[name] - other[name] for name in other}
    for seed in range(simulations):
        labels, scores, second, names = draw_scores(*case, people, np.random.default_rng(seed))
        options = {"identities": names, "replicates": replicates, "seed": seed}
        found = compute_metrics(labels, scores, threshold=0.5, prior=0.5, **options)
        found["macro_auc"] = compute_macro_auc(labels, scores, np.arange(labels.size) % METHODS, **options)
        pair = compare_metrics(labels, scores, second, thresholds=(0.5, 0.5), priors=(0.5, 0.5), **options)
        found |= {f"difference of {name}": value for name, value in pair.items()}
        for name, true in truth.items():
            if found[name]["low"] is not None:
                held.setdefault(name, []).append(found[name]["low"] <= true <= found[name]["high"])
    return {name: float(np.mean(held[name])) if name in held else np.nan for name in truth}


def draw_scores(
    reals: int, fakes: int, auc: float, people: int | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Sequence[str] | None]:
    """Return labels, two detectors' probabilities at even odds, and who is in each video."""
    labels = np.repeat([0, 1], [reals, fakes])
    noise, names = rng.normal(size=labels.size), None
    if people:
        person = np.concatenate([np.arange(reals) % people, np.arange(fakes) % people])
        noise = np.sqrt(0.5) * (noise + rng.normal(size=(2, people))[labels, person])
        names = [f"person {number}" for number in person]
    second = np.sqrt(SHARED) * noise + np.sqrt(1 - SHARED) * rng.normal(size=labels.size)
    scores = [
        to_probability(drawn + np.sqrt(2) * norm.ppf(one) * labels, one)
        for drawn, one in ((noise, auc), (second, auc - WORSE))
    ]
    return labels, *scores, names


def to_probability(values: np.ndarray, auc: float) -> np.ndarray:
    shift = np.sqrt(2) * norm.ppf(auc)
    return expit(OVERCONFIDENCE * (shift * values - shift**2 / 2))


def find_truth(reals: int, fakes: int, auc: float) -> dict[str, float]:
    """Return every metric of infinitely many videos, with as many fakes for a real as there are here."""
    share, shift, costs = fakes / (reals + fakes), np.sqrt(2) * norm.ppf(auc), Costs()
    quantiles = norm.ppf((np.arange(GRID) + 0.5) / GRID)
    values = np.stack([quantiles, quantiles + shift])  # of reals and of fakes
    ratios, odds = OVERCONFIDENCE * (shift * values - shift**2 / 2), logit(share)
    scores = expit(ratios + odds)
    cut = shift / 2  # where the score at even odds is 0.5
    tpr, fpr = norm.sf(cut - shift), norm.sf(cut)
    precision = share * tpr / (share * tpr + (1 - share) * fpr)
    at_fakes = norm.sf(values[1] - shift), norm.sf(values[1])
    miss, alarm = costs.weights
    bayes = (costs.log_ratio / OVERCONFIDENCE + shift**2 / 2) / shift
    best = (costs.log_ratio + shift**2 / 2) / shift
    weights = np.array([1 - share, share]) / GRID
    return {
        "auc": auc,
        "ap": float(np.mean(share * at_fakes[0] / (share * at_fakes[0] + (1 - share) * at_fakes[1]))),
        "eer": norm.sf(shift / 2),
        "fpr_at_95_tpr": norm.sf(norm.isf(0.95) + shift),
        **{f"tpr_at_{percent}_fpr": norm.sf(norm.isf(percent / 100) - shift) for percent in (10, 1)},
        "accuracy": share * tpr + (1 - share) * (1 - fpr),
        "balanced_accuracy": (tpr + 1 - fpr) / 2,
        "precision": precision,
        "recall": tpr,
        "f1": 2 / (1 / precision + 1 / tpr),
        "log_loss": float(weights @ np.stack([-np.log1p(-scores[0]), -np.log(scores[1])]).sum(axis=1)),
        "brier": float(weights @ np.stack([scores[0] ** 2, (1 - scores[1]) ** 2]).sum(axis=1)),
        "ece": find_ece(scores, weights, min(BINS, (reals + fakes) // 10)),
        "cllr": cost_ratios(ratios),
        "min_cllr": cost_ratios(ratios / OVERCONFIDENCE),
        "act_dcf": miss * norm.cdf(bayes - shift) + alarm * norm.sf(bayes),
        "min_dcf": miss * norm.cdf(best - shift) + alarm * norm.sf(best),
    }


def cost_ratios(ratios: np.ndarray) -> float:
    """Return Cllr of log-likelihood ratios of reals and of fakes."""
    return float(np.logaddexp(0, ratios[0]).mean() + np.logaddexp(0, -ratios[1]).mean()) / 2 / np.log(2)


def find_ece(scores: np.ndarray, weights: np.ndarray, bins: int) -> float:
    order = np.argsort(scores.ravel())
    mass = np.repeat(weights, GRID)[order]
    labels = np.repeat([0, 1], GRID)[order]
    which = np.minimum((np.cumsum(mass) * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(which, mass * (scores.ravel()[order] - labels))).sum())


if __name__ == "__main__":
    main()
