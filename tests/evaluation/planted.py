"""Windows with an artefact whose place is known, and models that learn it: what maps of where a model looked are held to."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from dfmm.model import MultimodalModel
from dfmm.settings import Settings, validate_settings
from dfmm.training.losses import Loss

CORNER = 4  # the artefact of faces takes this part of a side: above, to the right
BAND = (5, 6)  # eighths of the mel bands between which that of the sound lies
STEPS, ROWS = 60, 16  # of the training


def make_settings(backbone: str, audio: str = "cnn", *, size: int = 48) -> Settings:
    """Return settings of a small model for windows of four frames."""
    model = {"backbone": backbone, "audio_backbone": audio, "dim": 16, "dropout": 0.0}
    return validate_settings({"video": {"size": size, "frames": 4, "fps": 12.5}, "audio": {"n_mels": 32}, "model": model})


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
