"""Which forgeries made of reals teach to find others? By a classifier of frozen features, in minutes.

    python benchmarks/recipes.py FOLDER    learnt from the training split's reals, asked about the validation split's

FOLDER is that of benchmarks/reals.py; its fakes are not looked at, so that recipes can be chosen by this. Pictures of
the training reals are forged by each recipe; all of them, forged or not, are scaled, blurred and coded by draws of
their own. A logistic regression on means and deviations of a frozen backbone's early channels, and on the spectrum,
learns from one recipe, or several, and is asked about each: the AUC over clips. `autoencoder` is trained here on the
training reals, for seconds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from dfmm.dataset import MultimodalDataset, load_manifest
from dfmm.degrade.frames import blur_frames, compress_jpeg, scale_frames
from dfmm.forge.frames import blend_face, to_bytes
from dfmm.forge.patches import patch_face, redraw_face
from dfmm.forge.redraw import find_detail, redraw_frames, resize_frames
from dfmm.model.backbone import make_backbone
from dfmm.people import name_people
from dfmm.settings import Settings, load_settings

Draw = np.random.Generator
Recipe = Callable[[np.ndarray, np.ndarray, Draw], np.ndarray]
PICTURES = 2  # of each clip
STAGES, SIZE, STEPS = 4, 64, 250  # of the backbone; side of what the autoencoders learn from, and for how long
RINGS = 28  # of a picture's spectrum
ENLARGE = ("nearest", "bilinear", "transposed", "shuffle")
MIXES = {  # what one could train on
    "seams": ("self_blend",),
    "seams of every kind": ("self_blend", "self_blend", "patch"),
    "reals.yaml": ("patch", "redraw"),
    "seams and wholes": ("self_blend", "redraw"),
    "seams and resampled wholes": ("self_blend", "redraw", "resampled", "texture"),
    "seams and autoencoders": ("self_blend", "autoencoder"),
    "wholes of every kind": ("redrawn", "resampled", "texture", "warped", "autoencoder"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with a manifest.csv")
    parser.add_argument("overrides", nargs="*", metavar="NAME=VALUE", help="settings laid over params/reals.yaml")
    options = parser.parse_args()
    torch.set_num_threads(1)
    given = [f"data.root={options.folder.resolve()}", "data.cache=outputs/reals/cache", *options.overrides]
    settings = load_settings("params/reals.yaml", given)
    train, val = (read_pictures(settings, split) for split in ("train", "val"))
    recipes = {**RECIPES, "autoencoder": learn_recipe(train["frames"])}
    describe = make_describe(settings)
    learnt = {name: describe(forge(train, recipe, seed=1)) for name, recipe in recipes.items()}
    asked = {name: describe(forge(val, recipe, seed=2)) for name, recipe in recipes.items()}
    real, genuine = (describe(forge(split, None, seed=0)) for split in (train, val))
    print("| learnt from | " + " | ".join(recipes) + " |\n" + "| --- " * (1 + len(recipes)) + "|")
    for mix, names in (MIXES | {name: (name,) for name in recipes}).items():
        model = fit(real, train["people"], [learnt[name] for name in names])
        cells = [f"{compare(val, model, genuine, rows):.3f}" for rows in asked.values()]
        print(f"| {mix} | {' | '.join(cells)} |", flush=True)


# Recipes: frames uint8 [1, H, W, 3], landmarks [1, 5, 2] and draws → frames


def resample(frames: np.ndarray, landmarks: np.ndarray, rng: Draw) -> np.ndarray:
    """Shrink all of a picture and enlarge it, and often sharpen it."""
    height, width = frames.shape[1:3]
    by = np.exp(rng.uniform(*np.log((1.25, 3))))
    down = int(rng.choice([cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC]))
    up = int(rng.choice([cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4]))
    small = resize_frames(frames.astype(np.float32), round(height / by), round(width / by), down)
    done = resize_frames(small, height, width, up)
    return to_bytes(done + np.float32(rng.uniform(0.3, 1.5) * (rng.random() < 0.5)) * find_detail(done, 1.0))


def change_texture(frames: np.ndarray, landmarks: np.ndarray, rng: Draw) -> np.ndarray:
    """Smooth texture by a bilateral or a median filter, or make it up: as strong as it was, but noise."""
    way = rng.integers(3)
    if way == 0:
        colour, space = rng.uniform(12, 45), rng.uniform(1.5, 4)
        return np.stack([cv2.bilateralFilter(frame, 0, colour, space) for frame in frames])
    if way == 1:
        return np.stack([cv2.medianBlur(frame, int(rng.choice([3, 5]))) for frame in frames])
    before = frames.astype(np.float32)
    detail, noise = find_detail(before, 1.2), rng.standard_normal(before.shape).astype(np.float32)
    made = np.stack([cv2.GaussianBlur(one, (0, 0), 0.6) for one in noise])
    strength = np.sqrt(np.stack([cv2.GaussianBlur(one**2, (0, 0), 4) for one in detail]))
    made *= strength / made.std() * np.float32(rng.uniform(0.3, 1))
    return to_bytes(before + np.float32(rng.uniform(0.4, 1)) * (made - detail))


def warp(frames: np.ndarray, landmarks: np.ndarray, rng: Draw) -> np.ndarray:
    """Bend all of a picture smoothly, as what animates a still does."""
    height, width = frames.shape[1:3]
    nodes = rng.standard_normal((5, 5, 2)).astype(np.float32) * np.float32(rng.uniform(1, 3.5))
    bend = cv2.resize(nodes, (width, height), interpolation=cv2.INTER_CUBIC)
    across, down = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    how = int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC]))
    places = across + bend[..., 0], down + bend[..., 1]
    return np.stack([cv2.remap(frame, *places, how, borderMode=cv2.BORDER_REFLECT_101) for frame in frames])


RECIPES: Mapping[str, Recipe] = {
    "self_blend": lambda *given: blend_face(*given).frames,
    "patch": lambda *given: patch_face(*given).frames,
    "redraw": lambda *given: redraw_face(*given).frames,
    "redrawn": lambda frames, landmarks, rng: to_bytes(redraw_frames(frames.astype(np.float32), rng)),  # all of it
    "resampled": resample,
    "texture": change_texture,
    "warped": warp,
}


class Autoencoder(nn.Sequential):
    """Pictures `[N, 3, H, W]` → the same, through codes at a quarter of their size."""

    def __init__(self, enlarge: str, codes: int):
        shrink = [nn.Conv2d(3, 24, 4, 2, 1), nn.LeakyReLU(0.1), nn.Conv2d(24, 48, 4, 2, 1), nn.LeakyReLU(0.1)]
        middle = [nn.Conv2d(48, codes, 3, padding=1), nn.Conv2d(codes, 48, 3, padding=1), nn.LeakyReLU(0.1)]
        enlarged = [*_enlarge(enlarge, 48, 24), nn.LeakyReLU(0.1), *_enlarge(enlarge, 24, 16), nn.LeakyReLU(0.1)]
        super().__init__(*shrink, *middle, *enlarged, nn.Conv2d(16, 3, 3, padding=1))


def _enlarge(how: str, before: int, after: int) -> list[nn.Module]:
    if how == "transposed":
        return [nn.ConvTranspose2d(before, after, 4, 2, 1)]
    if how == "shuffle":
        return [nn.Conv2d(before, 4 * after, 3, padding=1), nn.PixelShuffle(2)]
    return [nn.Upsample(scale_factor=2, mode=how), nn.Conv2d(before, after, 3, padding=1)]


def learn_recipe(pictures: np.ndarray) -> Recipe:
    """Train an autoencoder for each way to enlarge, and return the recipe that draws a picture anew by one of them."""
    nets = [learn_autoencoder(pictures, how, seed) for seed, how in enumerate(ENLARGE)]

    @torch.no_grad()
    def draw_anew(frames: np.ndarray, landmarks: np.ndarray, rng: Draw) -> np.ndarray:
        height, width = frames.shape[1:3]
        side = 4 * round(width * np.exp(rng.uniform(*np.log((0.7, 1.3)))) / 4)
        given = resize_frames(frames.astype(np.float32), side, side, cv2.INTER_AREA)
        drawn = nets[rng.integers(len(nets))](torch.from_numpy(given).movedim(-1, 1) / 255)
        return to_bytes(resize_frames(255 * drawn.movedim(1, -1).numpy(), height, width, cv2.INTER_CUBIC))

    return draw_anew


def learn_autoencoder(pictures: np.ndarray, how: str, seed: int) -> nn.Module:
    """Train one on pieces of pictures, uint8 `[N, H, W, 3]`, for `STEPS` steps of ten."""
    torch.manual_seed(seed)
    rng, net = np.random.default_rng(seed), Autoencoder(how, codes=8 + 2 * seed)
    optimizer, room = torch.optim.Adam(net.parameters(), 3e-3), pictures.shape[1] - SIZE
    for _ in range(STEPS):
        places = zip(rng.integers(len(pictures), size=10), *rng.integers(room + 1, size=(2, 10)), strict=True)
        batch = np.stack([pictures[one, top : top + SIZE, left : left + SIZE] for one, top, left in places])
        wanted = torch.from_numpy(batch).movedim(-1, 1).float() / 255
        loss = (net(wanted) - wanted).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


# Pictures, features, scores


def read_pictures(settings: Settings, split: str) -> dict[str, np.ndarray]:
    """Return pictures of each real of a split: `frames`, `landmarks`, `video_id` and `people`, a row each."""
    manifest = load_manifest(settings)
    chosen = (manifest["split"] == split) & (manifest["label"] == 0)
    videos = manifest[chosen].reset_index(drop=True)
    data = MultimodalDataset(videos, settings, windows=PICTURES, twins=True, progress=False)
    rows, takes = [], []
    for index in range(PICTURES * (len(data.manifest) - len(data.twins))):
        take = data.read_forgery(index)[0]
        if take.known.all():
            rows.append(index // PICTURES)
            takes.append(take)
    table, people = data.manifest.iloc[rows], name_people(data.manifest).iloc[rows]
    facts = {"video_id": table["video_id"].to_numpy(), "people": people.to_numpy()}
    frames, landmarks = [take.scene.frames[0] for take in takes], [take.landmarks[0] for take in takes]
    return {**facts, "frames": np.stack(frames), "landmarks": np.stack(landmarks)}


def forge(pictures: Mapping[str, np.ndarray], recipe: Recipe | None, *, seed: int) -> np.ndarray:
    """Forge each picture, unless there is no recipe, and let the world do to it what it may."""
    done = []
    for number, (frame, landmarks) in enumerate(zip(pictures["frames"], pictures["landmarks"], strict=True)):
        rng = np.random.default_rng((seed, number))
        made = recipe(frame[None], landmarks[None], rng) if recipe else frame[None]
        done.append(degrade(made, rng)[0])
    return np.stack(done)


def degrade(frames: np.ndarray, rng: Draw) -> np.ndarray:
    scaled, blurred, coded = rng.random(3) < (0.35, 0.2, 0.7)
    frames = scale_frames(frames, scale=rng.uniform(0.5, 0.95)) if scaled else frames
    frames = blur_frames(frames, sigma=rng.uniform(0.4, 1.2)) if blurred else frames
    return compress_jpeg(frames, quality=rng.uniform(35, 95)) if coded else frames


def make_describe(settings: Settings) -> Callable[[np.ndarray], np.ndarray]:
    """Return what makes features `[N, D]` of pictures, uint8 `[N, H, W, 3]`: early channels and the spectrum."""
    net = make_backbone(settings.model.backbone, settings.model.pretrained, size=settings.video.size).eval()
    mean, deviation = (255 * torch.tensor(net.pretrained_cfg[name]).view(3, 1, 1) for name in ("mean", "std"))

    @torch.no_grad()
    def describe(pictures: np.ndarray) -> np.ndarray:
        found = []
        for few in np.array_split(pictures, max(len(pictures) // 16, 1)):
            values = net.bn1(net.conv_stem((torch.from_numpy(few).movedim(-1, 1).float() - mean) / deviation))
            parts = [values]
            for stage in net.blocks[:STAGES]:
                parts.append(stage(parts[-1]))
            found.append(torch.cat([of for part in parts for of in (part.mean((2, 3)), part.std((2, 3)))], 1).numpy())
        return np.concatenate([np.concatenate(found), measure_spectra(pictures)], axis=1)

    return describe


def measure_spectra(pictures: np.ndarray) -> np.ndarray:
    """Return the logarithm of the power of each picture's green in rings of its spectrum, `[N, RINGS]`."""
    height, width = pictures.shape[1:3]
    across, down = np.meshgrid(np.fft.rfftfreq(width), np.fft.fftfreq(height))
    rings = np.minimum((np.hypot(across, down) / np.sqrt(0.5) * RINGS).astype(int), RINGS - 1).ravel()
    window, counts = np.outer(np.hanning(height), np.hanning(width)), np.bincount(rings, minlength=RINGS)
    powers = [np.abs(np.fft.rfft2((one[..., 1] - one[..., 1].mean()) * window)) ** 2 for one in pictures]
    return np.log(np.stack([np.bincount(rings, power.ravel(), RINGS) / counts for power in powers]) + 1)


def fit(real: np.ndarray, people: np.ndarray, forged: list[np.ndarray]) -> Pipeline:
    """Learn to tell forged pictures from real ones; who has many clips counts for little more."""
    _, whose, counts = np.unique(people, return_inverse=True, return_counts=True)
    weights, count = counts[whose] ** -0.5, len(forged)
    rows, labels = np.concatenate([real, *forged]), np.repeat([0, 1], [len(real), count * len(real)])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.02, max_iter=500))
    return model.fit(rows, labels, logisticregression__sample_weight=np.r_[weights, np.tile(weights / count, count)])


def compare(pictures: Mapping[str, np.ndarray], model: Pipeline, genuine: np.ndarray, forged: np.ndarray) -> float:
    """Return the AUC of a recipe's forgeries of clips against these clips themselves, each by its pictures' mean."""
    scores = [pd.Series(model.decision_function(rows)) for rows in (genuine, forged)]
    clips = np.concatenate([each.groupby(pictures["video_id"]).mean() for each in scores])
    return float(roc_auc_score(np.repeat([0, 1], len(clips) // 2), clips))


if __name__ == "__main__":
    main()
