"""How a face moves, for benchmarks/motion.py: from the mesh's points to signals, numbers of a second, and forgeries."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d
from scipy.signal import detrend

from dfmm.faces.lips import EYES, Mouths

Draw = np.random.Generator
Motion = dict[str, np.ndarray]  # float [T, …] at 25 Hz, lengths over the distance of the eyes: `lips` [T, 80], x and y
# of 40 points; `eyes` [T, 2], how far each is open; `head` [T, 4], roll, turn, nod, log of its size; `firm` [T, 50]
RATE, LENGTH, HOP = 25, 25, 12  # Hz; frames of a window, and from one to the next
LARGEST_GAP = 0.1  # seconds without a face that end a stretch
BAND, ABOVE, MIDDLE = (1, 6), (7, 12), 4  # Hz; above, the mesh's trembling is a good part of what lips do
CLOSED, LONGEST_BLINK = 0.65, 15  # of the eyes' usual opening; frames

# Points of MediaPipe's face mesh; those of FIRM hardly move: forehead, temples, bridge, corners of the eyes.
FIRM = [10, 151, 9, 8, 109, 338, 67, 297, 103, 332, 54, 284, 21, 251, 162, 389, 127, 356, 168, 6, 197, 133, 362, *EYES]
UPPER = [185, 40, 39, 37, 0, 267, 269, 270, 409, 191, 80, 81, 82, 13, 312, 311, 310, 415]
LOWER = [146, 91, 181, 84, 17, 314, 405, 321, 375, 95, 88, 178, 87, 14, 317, 402, 318, 324]
LIPS, NOSE = [*UPPER, *LOWER, 61, 78, 291, 308], [1, 4]
LIDS = [[160, 159, 158], [144, 145, 153]], [[385, 386, 387], [380, 374, 373]]  # of each eye, above and below
ALL = "all together"
PARTS = ("lips", "head", "eyes", ALL)


# From mouths to motion


def part_motion(mouths: Mouths) -> list[Motion]:
    """Return the stretches of a second and more in which the face is followed without a cut or a gap, at 25 Hz."""
    known, motions = np.isfinite(mouths.points).all(axis=(1, 2)), []
    times, points = mouths.times[known], mouths.points[known] @ np.array([1, 1j])
    breaks = (np.diff(times) > LARGEST_GAP) | (np.diff(mouths.shots[known]) != 0)
    for stretch in np.split(np.arange(len(times)), np.flatnonzero(breaks) + 1):
        clock = np.arange(times[stretch[0]], times[stretch[-1]] + 2e-3, 1 / RATE) if len(stretch) > 3 else ()
        if len(clock) >= LENGTH:
            motions.append(align_face(CubicSpline(times[stretch], points[stretch])(clock)))
    return motions


def align_face(points: np.ndarray) -> Motion:
    """Part the points of a stretch, complex `[T, 478]`, into a head's similarity and what moves in the face."""
    firm = points[:, FIRM]
    centred, mean = points - firm.mean(axis=1, keepdims=True), firm[0]
    for _ in range(3):  # the mean shape, and each frame's turn and size against it
        mean = (mean - mean.mean()) / (mean[-1] - mean[-2])
        moves = centred[:, FIRM] @ mean.conj() / np.vdot(mean, mean)
        face = centred / moves[:, None]
        mean = face[:, FIRM].mean(axis=0)
    nose = face[:, NOSE].mean(axis=1)
    head = np.stack([np.unwrap(np.angle(moves)), nose.real, nose.imag, np.log(np.abs(moves))], axis=1)
    eyes = np.stack([np.abs(face[:, above] - face[:, below]).mean(axis=1) for above, below in LIDS], axis=1)
    lips, firm = (np.concatenate([face[:, at].real, face[:, at].imag], axis=1) for at in (LIPS, FIRM))
    return {"lips": lips, "eyes": eyes, "head": head, "firm": firm}


# Features of a window


def cut_windows(motions: Sequence[Motion]) -> list[Motion]:
    places = [(motion, start) for motion in motions for start in range(0, len(motion["eyes"]) - LENGTH + 1, HOP)]
    return [{name: signal[start : start + LENGTH] for name, signal in motion.items()} for motion, start in places]


def find_power(signal: np.ndarray, band: tuple[int, int] = BAND) -> np.ndarray:
    """Return the power of a window's signals, `[25, …]`, at each frequency of a band, all of them together."""
    tapered = detrend(signal, axis=0) * np.hanning(LENGTH)[:, None]
    return (np.abs(np.fft.rfft(tapered, axis=0)) ** 2).sum(axis=1)[band[0] : band[1] + 1] + 1e-9


def describe_power(signal: np.ndarray) -> list[float]:
    """Return logs: velocity's power, acceleration's over it, jerk's over that, and that of fast over slow motion."""
    rates = 2 * np.pi * np.arange(BAND[0], BAND[1] + 1)
    velocity, fast = find_power(signal) * rates**2, rates >= 2 * np.pi * MIDDLE
    power, acceleration, jerk = (float((velocity * rates**order).sum()) for order in (0, 2, 4))
    ratios = acceleration / power, jerk / acceleration, velocity[fast].sum() / velocity[~fast].sum()
    return [np.log(power), *np.log(ratios)]


def correlate(one: np.ndarray, other: np.ndarray) -> float:
    """Return the correlation of two velocities, as Fisher's z."""
    steps = [np.diff(signal) - np.diff(signal).mean() for signal in (one, other)]
    return float(np.arctanh(0.99 * np.mean(steps[0] * steps[1]) / (steps[0].std() * steps[1].std() + 1e-9)))


def describe_window(window: Motion) -> dict[str, list[float]]:
    """Return some twenty numbers, by what they are of."""
    lips, eyes, head = (window[name] for name in ("lips", "eyes", "head"))
    upper, lower = (lips[:, part].mean(axis=1) for part in (slice(40, 58), slice(58, 76)))  # how high
    left, right = (lips[:, 58 + LOWER.index(b)] - lips[:, 40 + UPPER.index(a)] for a, b in ((81, 178), (311, 402)))
    spread = np.linalg.svd(np.diff(lips, axis=0), compute_uv=False) ** 2 + 1e-12
    others = spread[1:8].sum() / spread[0]  # ways to move, beside the first
    dip = np.log(np.median(eyes) + 0.02) - np.log(max(eyes.mean(axis=1).min(), 0) + 0.02)
    reach = np.log(np.ptp(gaussian_filter1d(head[:, :3], 2, axis=0), axis=0) + 1e-3)
    speeds = [np.linalg.norm(np.diff(part, axis=0), axis=1) for part in (lips, head)]
    told = {
        "lips": [*describe_power(lips), correlate(left, right), correlate(upper, lower), np.log(others)],
        "head": [*describe_power(head), *reach],
        "eyes": [*describe_power(eyes), correlate(*eyes.T), dip],
    }
    between = correlate(*speeds), correlate(lower - upper, head[:, 2])
    return told | {ALL: [*(number for numbers in told.values() for number in numbers), *between]}


def count_blinks(motions: Sequence[Motion]) -> tuple[int, float]:
    """Return how often both eyes close for a moment, and the minutes in which they were seen."""
    openings = [motion["eyes"].mean(axis=1) for motion in motions]
    usual, blinks = np.median(np.concatenate(openings)), 0
    for opening in openings:
        turns = np.diff(np.concatenate([[0], opening < CLOSED * usual, [0]]).astype(int))
        blinks += int((np.flatnonzero(turns < 0) - np.flatnonzero(turns > 0) <= LONGEST_BLINK).sum())
    return blinks, sum(map(len, openings)) / RATE / 60


# Forgeries: motion, draws, another clip's motion → what of it is changed


def smooth(motion: Motion, rng: Draw, other: Motion) -> Motion:
    width = rng.uniform(1, 2.5)  # frames
    return {name: gaussian_filter1d(signal, width, axis=0) for name, signal in motion.items()}


def shake(motion: Motion, rng: Draw, other: Motion) -> Motion:
    """Add noise, as strong as what is there from frame to frame, or half or twice as strong."""
    share = np.exp2(rng.uniform(-1, 1))
    steps = {name: np.median(np.abs(np.diff(signal, axis=0)), axis=0) for name, signal in motion.items()}
    return {name: motion[name] + share * step * rng.standard_normal(motion[name].shape) for name, step in steps.items()}


def stretch_time(motion: Motion, rng: Draw, other: Motion) -> Motion:
    """Show it slower, or faster where there is enough of it."""
    by, frames = rng.uniform(1.3, 2), np.arange(len(motion["eyes"]))
    clock = np.arange(0, frames[-1], by if len(frames) > 2 * LENGTH and rng.random() < 0.5 else 1 / by)
    return {name: CubicSpline(frames, signal)(clock) for name, signal in motion.items()}


def hold(signal: np.ndarray, share: float) -> np.ndarray:
    return signal.mean(axis=0) + share * (signal - signal.mean(axis=0))


def hold_mouth(motion: Motion, rng: Draw, other: Motion) -> Motion:
    """Take most of the motion from both lips, or from one."""
    held = [np.arange(40), np.arange(18), np.arange(18, 36)][rng.integers(3)]
    part = np.isin(np.arange(80) % 40, held)
    return {"lips": np.where(part, hold(motion["lips"], rng.uniform(0.1, 0.6)), motion["lips"])}


def hold_head(motion: Motion, rng: Draw, other: Motion) -> Motion:
    return {"head": hold(motion["head"], rng.uniform(0.05, 0.5))}


def hold_eyes(motion: Motion, rng: Draw, other: Motion) -> Motion:
    """Let eyes never close by more than a little, and flutter less."""
    opened = np.maximum(motion["eyes"], rng.uniform(0.8, 0.95) * np.median(motion["eyes"], axis=0))
    return {"eyes": hold(opened, rng.uniform(0.3, 1))}


def transplant(motion: Motion, rng: Draw, other: Motion) -> Motion:
    """Let the mouth move as another clip's does."""
    count = min(len(motion["eyes"]), len(other["eyes"]))
    cut, moves = {name: signal[:count] for name, signal in motion.items()}, other["lips"][:count]
    return cut | {"lips": cut["lips"].mean(axis=0) + moves - moves.mean(axis=0)}


RECIPES: dict[Callable[..., Motion], tuple[str, ...]] = {  # and the parts that can tell
    smooth: PARTS,
    shake: PARTS,
    stretch_time: PARTS,
    hold_mouth: ("lips", ALL),
    hold_head: ("head", ALL),
    hold_eyes: ("eyes", ALL),
    transplant: (ALL,),
}


def let_tremble(before: np.ndarray, after: np.ndarray, rng: Draw) -> np.ndarray:
    """Give back what a forgery took of the mesh's trembling, from another moment: a forgery does not calm it."""
    noise = before - gaussian_filter1d(before, 1, axis=0)
    noise /= np.maximum(np.abs(noise) / (3 * np.median(np.abs(noise), axis=0) + 1e-9), 1)  # a blink is no trembling
    noise = noise[(np.arange(len(after)) + rng.integers(len(noise))) % len(noise)]
    rough, left, given = (np.median(np.abs(np.diff(one, 3, axis=0)), axis=0) ** 2 for one in (before, after, noise))
    return after + np.sqrt(np.maximum(rough - left, 0) / (given + 1e-12)) * noise
