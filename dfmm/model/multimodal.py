"""Batch → logits: `MultimodalModel`, or a detector that is not ours, and its file."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader

from dfmm.files import write_beside
from dfmm.manifest import STREAM_LABELS
from dfmm.model.aggregation import WindowAttention
from dfmm.model.backbone import check_reading, evaluation_mode
from dfmm.model.detector import DetectorError, build_detector, read_logits
from dfmm.model.frames import FrameEncoder, TemporalEncoder, average_steps
from dfmm.model.fusion import AttentionFusion, ConcatFusion, CrossModalFusion
from dfmm.model.sound import SoundEncoder
from dfmm.settings import Settings, validate_settings

FORMAT = "dfmm-model-2"
# Where a batch on a device lists what a mask lets by: to ask the mask there would wait for the device.
LISTED = {"frame_mask": "seen_frames", "sound_mask": "heard_rows"}
FUSIONS = {"concat": ConcatFusion, "attention": AttentionFusion, "cross_modal": CrossModalFusion}


class ModelFileError(ValueError):
    """A file that holds no model of ours; the message says what it is instead."""


class MultimodalModel(nn.Module):
    """Is this window forged, in which stream, and do mouth and sound belong together?

    Logits: `logits` `[B, 2]` (real, fake) from both streams; `video_fake`, `audio_fake`, `in_sync` `[B]`, the first
    two from their own stream alone; where windows are aggregated by attention also `weight` `[B]`, the window's among
    those of its video. Masked frames are not looked at, and a stream whose mask is all False is replaced by a learnt
    "absent" feature, so that its content cannot matter. `taught` names the streams whose head saw both kinds of its
    label in training: what any other says means nothing.
    """

    taught: Collection[str] = STREAM_LABELS

    def __init__(self, settings: Settings, *, pretrained: bool | str | None = None):
        super().__init__()
        chosen = settings.model
        dim, self.streams = chosen.dim, chosen.streams
        self.frame_encoder = FrameEncoder(
            chosen.backbone,
            pretrained=chosen.pretrained if pretrained is None else pretrained,
            dim=dim,
            size=settings.video.size,
            frozen=chosen.frozen,
        )
        if pretrained is None:  # made anew, not as it was made before
            check_reading(self.frame_encoder.backbone, chosen.backbone, settings.video.size)
        self.sound_encoder = SoundEncoder(
            chosen.audio_backbone, dim, n_mels=settings.audio.n_mels, steps=settings.video.frames
        )
        self.video_temporal = TemporalEncoder(chosen.temporal, dim)
        self.audio_temporal = TemporalEncoder(chosen.temporal, dim)
        self.video_absent = nn.Parameter(torch.zeros(dim))
        self.audio_absent = nn.Parameter(torch.zeros(dim))
        self.fusion = FUSIONS[chosen.fusion](dim)
        self.dropout = nn.Dropout(chosen.dropout)
        self.joint_head = nn.Linear(3 * dim, 2)
        self.video_head = nn.Linear(dim, 1)
        self.audio_head = nn.Linear(dim, 1)
        self.sync_head = nn.Linear(dim, 1)
        self.window_attention = WindowAttention(3 * dim, dim) if chosen.aggregation == "attention" else None

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Score a batch as `MultimodalDataset` and `collate_windows` make it."""
        seen, heard, met = self.embed(batch)
        joint = torch.cat([seen, heard, met], dim=1)
        outputs = {
            "logits": self.joint_head(self.dropout(joint)),
            "video_fake": self.video_head(self.dropout(seen))[:, 0],
            "audio_fake": self.audio_head(self.dropout(heard))[:, 0],
            "in_sync": self.sync_head(self.dropout(met))[:, 0],
        }
        if self.window_attention is not None:
            outputs["weight"] = self.window_attention(joint)
        return outputs

    def embed(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the features that the heads read, `[B, D]` each: of what is seen, of what is heard, and of both."""
        batch = withhold_streams(batch, self.streams)
        video_mask, audio_mask = batch["frame_mask"], batch["sound_mask"]
        video = self.frame_encoder(batch["frames"], video_mask, batch.get("seen_frames"))
        audio = self.sound_encoder(batch["log_mel"], audio_mask, batch.get("heard_rows"))
        video, audio = self.video_temporal(video, video_mask), self.audio_temporal(audio, audio_mask)
        seen = _average_or(self.video_absent, video, video_mask)
        heard = _average_or(self.audio_absent, audio, audio_mask)
        return seen, heard, self.fusion(video, audio, video_mask, audio_mask)


class PluginModel(nn.Module):
    """Somebody's detector in the place of ours: it is given batches, and answers for both streams together.

    Logits: `logits` `[B, 2]`; those of single streams are zeros that mean nothing, and `taught` names none. What of
    the detector is a module is trained and saved; another callable is only asked.

    Raises:
        DetectorError: as of `build_detector`, or it cannot be called.
    """

    taught: Collection[str] = ()

    def __init__(self, settings: Settings):
        super().__init__()
        self.path, self.streams = settings.model.detector, settings.model.streams
        self.detector = build_detector(settings, self.path)
        if not callable(self.detector):
            raise DetectorError(
                f"{self.path} returned {type(self.detector).__name__}, which cannot be called with a batch of windows"
                + ("; dfmm import evaluates what scores files" if hasattr(self.detector, "score_files") else "")
            )
        self.place = nn.Parameter(torch.zeros(()), requires_grad=False)  # tells the device where nothing else does

    @property
    def learns(self) -> bool:
        """Is there anything to train?"""
        return any(parameter.requires_grad for parameter in self.parameters())

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Score a batch as `MultimodalDataset` and `collate_windows` make it."""
        count = len(batch["frame_mask"])
        answer = self.detector(withhold_streams(batch, self.streams))
        logits = read_logits(answer, self.path, count).to(self.place.device)
        return {"logits": logits, **dict.fromkeys(STREAM_LABELS, logits.new_zeros(count))}


def make_model(settings: Settings, *, pretrained: bool | str | None = None) -> MultimodalModel | PluginModel:
    """Return a fresh model: ours, or the one that `model.detector` names."""
    return PluginModel(settings) if settings.model.detector else MultimodalModel(settings, pretrained=pretrained)


def withhold_streams(batch: Mapping[str, Any], streams: str) -> dict[str, Any]:
    """Return the batch with the mask of the stream that may not be used all False, as if the clips had none."""
    masks = {"frame_mask": "audio", "sound_mask": "video"}  # with the one stream that does without it
    held = {name: torch.zeros_like(batch[name]) for name, alone in masks.items() if streams == alone}
    listed = {name: batch[name][:0] for mask, name in LISTED.items() if mask in held and name in batch}
    return {**batch, **held, **listed}


def _average_or(absent: Tensor, steps: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask.any(dim=1, keepdim=True), average_steps(steps, mask), absent)


@torch.enable_grad()  # without it, attention takes a fused path that the counter does not know
def count_flops(model: nn.Module, batch: Mapping[str, Any]) -> int:
    """Return the floating-point operations of a forward pass in evaluation mode; a multiply-add counts as two."""
    from torch.utils.flop_counter import FlopCounterMode  # brings a compiler, which no other command needs

    with evaluation_mode(model), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(batch)
    return counter.get_total_flops()


def find_device() -> torch.device:
    """Return what a run computes on, in training as in evaluation: a GPU of NVIDIA or AMD, if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def move_batch(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Return a batch with its tensors on a device; what is pinned for a GPU is copied while the processor goes on.

    What its masks let through is listed first (`seen_frames`, `heard_rows`): asked there, a GPU would have to be waited
    for. Whoever changes a mask later leaves these out, or empties them, as `withhold_streams` does.
    """
    seen, heard = batch["frame_mask"].flatten(), batch["sound_mask"].any(dim=1)
    batch = {**batch, "seen_frames": seen.nonzero()[:, 0], "heard_rows": heard.nonzero()[:, 0]}
    ahead = torch.device(device).type == "cuda"
    return {
        name: value.to(device, non_blocking=ahead) if isinstance(value, Tensor) else value
        for name, value in batch.items()
    }


@torch.no_grad()
def predict(model: MultimodalModel, loader: DataLoader) -> Iterator[tuple[dict[str, Tensor], dict[str, Any]]]:
    """Yield the model's outputs for every batch, and the batch, in evaluation mode on the model's device."""
    model.eval()
    device = next(model.parameters()).device
    for batch in loader:
        batch = withhold_streams(move_batch(batch, device), model.streams)  # what was not used is not scored either
        yield model(batch), batch


def save_model(model: MultimodalModel, settings: Settings, path: str | Path, **facts: Any) -> Path:
    """Write weights as safetensors, with settings and facts (the prior, the epoch, …) as JSON in the header."""
    # One entry: several would be written in any order, and the same model would not give the same file.
    header = json.dumps({"format": FORMAT, "settings": settings.model_dump(), "facts": facts})
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    with write_beside(path) as partial:
        save_file(weights, partial, metadata={"dfmm": header})
    return Path(path)


def load_model(path: str | Path) -> tuple[MultimodalModel | PluginModel, Settings, dict[str, Any]]:
    """Return a saved model in evaluation mode, the settings it was trained with, and the facts saved beside.

    Raises:
        ModelFileError: no such file, no safetensors, or another program's.
        DetectorError: it is of a detector that is not ours, and nobody has named that.
    """
    header, weights = read_header(path), load_file(path)
    settings = validate_settings(header["settings"], origin=f"{path} (header)")
    model = make_model(settings, pretrained=False)
    model.load_state_dict(weights)
    model.taught = header["facts"].get("taught", STREAM_LABELS)  # one of before does not say
    return model.eval(), settings, header["facts"]


def read_header(path: str | Path) -> dict[str, Any]:
    """Return what stands in a saved model's header: the `settings` it was trained with, and `facts`.

    Raises:
        ModelFileError: no such file, no safetensors, or another program's.
    """
    if not Path(path).is_file():
        raise ModelFileError(f"{path}: no such model file; a run keeps its model in checkpoints/best.safetensors")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("dfmm", "{}"))
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise ModelFileError(f"{path}: not a safetensors file ({error})") from error
    if header.get("format") != FORMAT:
        raise ModelFileError(f"{path}: expected a {FORMAT} file, its header says {header.get('format')!r}")
    return header
