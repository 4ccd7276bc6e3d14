"""Do maps of where a model looked find what it learnt? On artefacts whose place is known, beside Grad-CAM by stage.

    python benchmarks/explain.py            four networks, three seeds each: some minutes on a processor
    python benchmarks/explain.py --quick    the smallest, one seed

The share of a map that lies on the artefact, of windows that have it, over the artefact's share of the area (1: chance;
at most 16 for faces, 8 for sounds): of the head of the stream, and of the joint one. Before that, of how many windows
the heads of picture, sound and both are right. Below each, the same network with its weights shuffled.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from dfmm.evaluation.explain import explain_windows, measure_odds
from dfmm.model import MultimodalModel
from dfmm.settings import Settings, validate_settings
from dfmm.training.losses import Loss

CORNER = 4  # the artefact of faces takes this part of a side: above, to the right
BAND = (5, 6)  # eighths of the mel bands between which that of the sound lies
STEPS, ROWS = 60, 16  # of the training
TESTED = 24  # windows
# Backbones, the size of faces, and the stages of the picture's and of the sound's at which Grad-CAM is tried.
NETWORKS = (
    ("test_resnet", 48, ("layer2", "layer3", "layer4"), ("5", "8", "11")),
    ("mobilenetv3_small_050", 64, ("blocks.1", "blocks.3", "blocks.5"), ("5", "8", "11")),
    ("resnet18", 64, ("layer2", "layer3", "layer4"), ("5", "8", "11")),
    ("efficientnet_b0", 64, ("blocks.2", "blocks.4", "blocks.6"), ("5", "8", "11")),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one network, one seed")
    quick = parser.parse_args().quick
    for backbone, size, *stages in NETWORKS[:1] if quick else NETWORKS:
        for seed in range(1 if quick else 3):
            settings = make_settings(backbone, size=size)
            model, batch = train(settings, seed=seed), plant(settings, TESTED)
            for name, some in ((backbone, model), ("  shuffled", shuffle_weights(model, seed))):
                rows = [*measure_all(some, batch, *stages)]
                print(f"{name} (seed {seed}):", "; ".join([describe_skill(some, batch), *rows]), flush=True)


@torch.no_grad()
def describe_skill(model: MultimodalModel, batch: dict[str, Tensor]) -> str:
    """Say how many windows each head is right about: what was not learnt cannot be looked at."""
    odds = measure_odds(model(batch))
    labels = {"video_fake": batch["video_fake"], "audio_fake": batch["audio_fake"], "joint": batch["label"]}
    shares = [((odds[head] > 0) == (label == 1)).float().mean().item() for head, label in labels.items()]
    return f"right {' / '.join(f'{100 * share:.0f} %' for share in shares)}"


def measure_all(model: MultimodalModel, batch: dict[str, Tensor], seen: tuple, heard: tuple) -> Iterator[str]:
    """Yield for each method what it finds in faces and in sounds, by the stream's own head and by the joint one."""
    found = explain_windows(model, batch)
    for stream, label, stages in (("looked", "video_fake", seen), ("heard", "audio_fake", heard)):
        there = batch[label] == 1
        maps = {"ours": [getattr(found[head], stream) for head in (label, "joint")]}
        encoder = model.frame_encoder.backbone if stream == "looked" else model.sound_encoder.layers
        like = maps["ours"][0]
        for stage in stages:
            layer = encoder.get_submodule(stage)
            maps[f"Grad-CAM {stage}"] = [draw_cam(model, batch, layer, head, like) for head in (label, "joint")]
        for name, both in maps.items():
            shares = (measure_share(one)[there].mean().item() / find_area(one) for one in both)
            yield f"{stream}, {name} {' / '.join(f'{share:.1f}' for share in shares)}"


def draw_cam(model: MultimodalModel, batch: dict[str, Tensor], layer: nn.Module, head: str, like: Tensor) -> Tensor:
    """Return Grad-CAM (Selvaraju et al., ICCV 2017, equations 1 and 2) at a layer, in the shape of another map."""
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[0]

    hook = layer.register_forward_hook(keep)
    with torch.enable_grad():
        odds = measure_odds(model(batch))[head]
    hook.remove()
    (slopes,) = torch.autograd.grad(odds.sum(), kept)
    cam = (slopes.mean(dim=(2, 3), keepdim=True) * kept[0].detach()).sum(dim=1, keepdim=True).clamp(min=0)
    return interpolate(cam, size=like.shape[-2:], mode="bilinear").view(like.shape)


def find_area(maps: Tensor) -> float:
    """Return which share of a map's area the artefact has."""
    return float(measure_share(torch.ones_like(maps))[0])


# Windows and models


def make_settings(backbone: str, audio: str = "cnn", *, size: int = 48) -> Settings:
    """Return settings of a small model for windows of four frames."""
    model = {"backbone": backbone, "audio_backbone": audio, "dim": 16, "dropout": 0.0}
    return validate_settings(
        {"video": {"size": size, "frames": 4, "fps": 12.5}, "audio": {"n_mels": 32}, "model": model}
    )


def plant(settings: Settings, count: int) -> dict[str, Tensor]:
    """Return a batch of smooth colours and smooth sounds, in half of which an artefact lies.

    Neither artefact stands out: a map of what is bright or loud would not find it. It is noise in the corner of faces,
    weaker than their colours, and in the band a hum that flickers evenly where elsewhere it flickers at random.
    """
    steps, size, bands = settings.video.frames, settings.video.size, settings.audio.n_mels
    columns = round(settings.window_seconds * 1000 / settings.audio.hop_ms)
    video, audio = torch.randint(0, 2, (2, count))
    frames = 20 + 200 * _draw_smooth(3 * count, (size, size)).view(count, 1, 3, size, size)
    frames = frames + 12 * torch.randn(count, steps, 3, size, size)
    side = size // CORNER
    noise = 40 * torch.randn(count, steps, 1, side, side)
    frames[..., :side, -side:] += noise * video.view(-1, 1, 1, 1, 1)
    flicker, (low, high) = 0.5 * torch.randn(count, 1, bands, columns), (bands * eighth // 8 for eighth in BAND)
    even = 0.5 * torch.tensor([1.0, -1.0]).repeat(columns)[:columns] * torch.randn(count, 1, high - low, 1).sign()
    flicker[:, :, low:high] = torch.where(audio.view(-1, 1, 1, 1) == 1, even, flicker[:, :, low:high])
    there = torch.ones(count, steps, dtype=torch.bool)
    return {
        "frames": frames.clamp(0, 255).to(torch.uint8),
        "log_mel": 2 * _draw_smooth(count, (bands, columns)) - 1 + flicker,
        "frame_mask": there,
        "sound_mask": there.clone(),
        "label": video | audio,
        "video_fake": video,
        "audio_fake": audio,
        "in_sync": torch.full((count,), -1),
    }


def _draw_smooth(count: int, size: tuple[int, int]) -> Tensor:
    """Return smooth pictures `[count, 1, H, W]` from 0 to 1."""
    return interpolate(torch.rand(count, 1, 6, 6), size=size, mode="bicubic").clamp(0, 1)


def train(settings: Settings, *, seed: int = 0, rate: float = 2e-3) -> MultimodalModel:
    """Return a model that has learnt the artefacts, in evaluation mode."""
    torch.manual_seed(seed)
    model, loss = MultimodalModel(settings, pretrained=False), Loss(settings, prior=0.5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    model.train()
    for _ in range(STEPS):
        batch = plant(settings, ROWS)
        optimizer.zero_grad()
        loss(model(batch), batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


def shuffle_weights(model: MultimodalModel, seed: int) -> MultimodalModel:
    """Return a copy of a model, each of its weights somewhere else in its tensor: it knows nothing any more."""
    shuffled, rng = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    for value in shuffled.parameters():
        value.data = value.data.flatten()[torch.randperm(value.numel(), generator=rng)].view(value.shape)
    return shuffled


def measure_share(maps: Tensor) -> Tensor:
    """Return which share of each map lies on the artefact, `[B]`: of faces `[B, T, H, W]` or log-mels `[B, M, N]`."""
    if maps.ndim == 4:
        side = maps.shape[-1] // CORNER
        inside = maps[:, :, :side, -side:]
    else:
        low, high = (maps.shape[1] * eighth // 8 for eighth in BAND)
        inside = maps[:, low:high]
    return inside.flatten(1).sum(dim=1) / maps.flatten(1).sum(dim=1).clamp(min=1e-9)


if __name__ == "__main__":
    main()
