"""Two rivals of the ridge on the same features: canonical correlations, and a small net of two towers.

`python benchmarks/synchrony.py TEST TRAIN --rivals` sets them beside it. Each turns mouth and sound into rows that are
correlated as the ridge's are: at all lags, by the best of those that genuine files have, against other people's speech.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.linalg import cholesky, solve_triangular
from torch import nn

from dfmm.faces.lips import Mouths
from dfmm.media.speech import Speech
from dfmm.model.matching import EARLY, LATE, REACH, SHORTEST, Match, find_peak, has_peak, refine_lag
from dfmm.model.motion import STEP, Heard, Seen, find_bases, hear, see
from dfmm.model.regression import BANK_STEPS, FOLDS, RIDGE, assign_folds, is_usable
from dfmm.model.synchrony import Synchrony

PARTS = 8  # canonical components, of which later ones tell nothing on clips that were not fitted on
WIDTH, ROOM = 16, 50  # of the towers' rows, and steps that they see of a clip
STEPS, BATCH, RATE = 400, 24, 2e-3
SHARPNESS = 20.0  # of the contrast: correlations are small

Rows = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Pairing:
    """Judges as `SynchronyModel` does, by rows made of mouth and sound."""

    bases: dict[str, np.ndarray]
    kind: str
    mouth: Rows
    sound: Rows
    skill: np.ndarray
    bank: np.ndarray

    def judge(self, mouths: Mouths | None, speech: Speech | None) -> Synchrony:
        seen = see(mouths, self.bases)
        heard = hear(speech, seen.times, REACH, self.bases)
        if len(seen.times) < SHORTEST or self.kind not in heard.rows:
            return Synchrony("no features to compare")
        rows = self.sound(heard.rows[self.kind])
        match = Match(replace(seen, rows=self.mouth(seen.rows)), rows, heard.inside, self.skill)
        curve = match.trace_lags()
        if not has_peak(curve):
            return Synchrony("too little to compare")
        (score, step), rivals = find_peak(curve), match.compare_bank(self.bank)
        surprise = float((score - rivals.mean()) / max(rivals.std(), 1e-6))
        seconds = float(match.counted(step).sum() * STEP)
        return Synchrony(score=score, lag_ms=refine_lag(curve), surprise=surprise, seconds=seconds)


@dataclass(frozen=True)
class Example:
    """A genuine clip to learn from."""

    seen: Seen
    heard: Heard
    fold: int


def prepare(
    mouths: Sequence[Mouths], speeches: Sequence[Speech], people: Sequence[str], kind: str
) -> tuple[list[Example], dict[str, np.ndarray]]:
    """Return clips with these features, and the bases they were made by."""
    usable = [n for n, pair in enumerate(zip(mouths, speeches, strict=True)) if is_usable(*pair)]
    bases = find_bases([mouths[n] for n in usable], [speeches[n] for n in usable])
    clips = []
    for number, fold in zip(usable, assign_folds([people[n] for n in usable]), strict=True):
        seen = see(mouths[number], bases)
        heard = hear(speeches[number], seen.times, REACH, bases)
        if kind in heard.rows:
            clips.append(Example(seen, heard, fold))
    return clips, bases


def fit_cca(
    mouths: Sequence[Mouths], speeches: Sequence[Speech], people: Sequence[str], kind: str = "log_mel"
) -> Pairing:
    """Canonical correlations (Hotelling, 1936), both sides regularised; parts count by how they hold on other clips."""
    clips, bases = prepare(mouths, speeches, people, kind)
    skill = np.zeros(PARTS)
    for fold in range(FOLDS):
        left, right = _solve_cca([clip for clip in clips if clip.fold != fold], kind)
        for clip in (clip for clip in clips if clip.fold == fold):
            seen = replace(clip.seen, rows=clip.seen.rows @ left)
            match = Match(seen, clip.heard.rows[kind] @ right, clip.heard.inside, np.ones(PARTS))
            skill += np.nan_to_num(match.correlate_columns(0)) / len(clips)
    left, right = _solve_cca(clips, kind)
    return _pair(clips, bases, kind, lambda rows: rows @ left, lambda rows: rows @ right, np.maximum(skill, 0))


def _solve_cca(clips: Sequence[Example], kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return projections of mouths `[K, PARTS]` and of sounds `[D, PARTS]`."""
    parts = []
    for clip in clips:
        first = slice(REACH, REACH + len(clip.seen.known))
        counted = clip.seen.known & clip.heard.inside[first]
        parts.append((clip.seen.rows[counted], clip.heard.rows[kind][first][counted]))
    seen, heard = (np.concatenate(rows).astype(np.float64) for rows in zip(*parts, strict=True))
    roots = [cholesky(rows.T @ rows + RIDGE * np.eye(rows.shape[1]), lower=True) for rows in (seen, heard)]
    cross = solve_triangular(roots[0], seen.T @ heard, lower=True)
    cross = solve_triangular(roots[1], cross.T, lower=True).T
    left, _, right = np.linalg.svd(cross, full_matrices=False)
    back = [solve_triangular(root.T, side) for root, side in zip(roots, (left, right.T), strict=True)]
    return back[0][:, :PARTS], back[1][:, :PARTS]


class Towers(nn.Module):
    """Mouth and sound, each through two convolutions over time into rows of one space."""

    def __init__(self, mouth: int, sound: int):
        super().__init__()
        self.mouth = nn.Sequential(nn.Conv1d(mouth, 32, 5, padding=2), nn.GELU(), nn.Conv1d(32, WIDTH, 5, padding=2))
        self.sound = nn.Sequential(
            nn.Dropout(0.2), nn.Conv1d(sound, 64, 1), nn.GELU(), nn.Conv1d(64, WIDTH, 5, padding=2)
        )


def fit_towers(
    mouths: Sequence[Mouths], speeches: Sequence[Speech], people: Sequence[str], kind: str = "log_mel"
) -> Pairing:
    """Own sounds, in step, against those of other clips and against the own one out of step, both in one contrast."""
    clips, bases = prepare(mouths, speeches, people, kind)
    torch.manual_seed(0)
    towers = Towers(clips[0].seen.rows.shape[1], clips[0].heard.rows[kind].shape[1])
    optimizer = torch.optim.AdamW(towers.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    rng = np.random.default_rng(0)
    able = [clip for clip in clips if len(clip.seen.rows) >= ROOM]
    for _ in range(STEPS):
        seen, heard = _draw_batch(able, kind, rng)
        optimizer.zero_grad()
        _contrast(towers.mouth(seen), towers.sound(heard)).backward()
        optimizer.step()
        schedule.step()
    towers.eval()

    def embed(tower: nn.Module) -> Rows:
        @torch.inference_mode()
        def rows(values: np.ndarray) -> np.ndarray:
            return tower(torch.from_numpy(values.astype(np.float32)).T[None])[0].T.double().numpy()

        return rows

    return _pair(clips, bases, kind, embed(towers.mouth), embed(towers.sound), np.ones(WIDTH))


def _draw_batch(clips: Sequence[Example], kind: str, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mouths `[B, K, ROOM]` and their sounds `[B, D, ROOM + 2 · REACH]`."""
    seen, heard = [], []
    for number in rng.choice(len(clips), min(BATCH, len(clips)), replace=False):
        clip = clips[number]
        first = rng.integers(len(clip.seen.rows) - ROOM + 1)
        seen.append(clip.seen.rows[first : first + ROOM].T)
        heard.append(clip.heard.rows[kind][first : first + ROOM + 2 * REACH].T)
    return torch.tensor(np.stack(seen), dtype=torch.float32), torch.tensor(np.stack(heard), dtype=torch.float32)


def _contrast(seen: torch.Tensor, heard: torch.Tensor) -> torch.Tensor:
    """Return the cross entropy of each mouth's own sound, at its best lag, among all sounds at all lags."""
    windows = heard.unfold(2, ROOM, 1)  # [B, D, lags, ROOM]
    seen = (seen - seen.mean(2, keepdim=True)) / (seen.std(2, correction=0, keepdim=True) + 1e-3)
    windows = (windows - windows.mean(3, keepdim=True)) / (windows.std(3, correction=0, keepdim=True) + 1e-3)
    found = torch.einsum("adt,bdlt->abl", seen, windows) * (SHARPNESS / (ROOM * WIDTH))
    near = slice(REACH - EARLY, REACH + LATE + 1)
    own = found.diagonal(dim1=0, dim2=1).T  # [B, lags]
    return (found.flatten(1).logsumexp(1) - own[:, near].logsumexp(1)).mean()


def _pair(
    clips: Sequence[Example], bases: dict[str, np.ndarray], kind: str, mouth: Rows, sound: Rows, skill: np.ndarray
) -> Pairing:
    bank = np.concatenate([sound(clip.heard.rows[kind])[REACH:-REACH] for clip in clips[:: max(len(clips) // 40, 1)]])
    return Pairing(bases, kind, mouth, sound, skill, bank[:BANK_STEPS])
