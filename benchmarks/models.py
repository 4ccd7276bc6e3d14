"""How large the model is and what a window costs, for each way to build it: `python benchmarks/models.py`.

Prints Markdown tables. Parameters and floating-point operations (a multiply-add counts as two) are counted, not
measured, so they are the same on every machine; ratios are to the first row of each table.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, get_args

import torch
from torch import Tensor

from dfmm.model import MultimodalModel, count_flops
from dfmm.sections import Model
from dfmm.settings import Settings, validate_settings

BACKBONES = [
    "mobilenetv3_small_050",
    "mobilenetv3_large_100",
    "resnet18",
    "resnet50",
    "tf_efficientnet_lite0",
    "efficientnet_b0",
    "efficientnet_b4",
    "vit_tiny_patch16_224",
    "vit_small_patch16_224",
]
AUDIO_BACKBONES = ["cnn", "mobilenetv3_small_050", "resnet18", "efficientnet_b0", "vit_tiny_patch16_224"]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    default = Settings()
    video, audio = default.video, default.audio
    print(
        f"One window: {video.frames} frames of {video.size} × {video.size} pixels and {default.window_seconds:g} s of "
        f"sound in {audio.n_mels} bands. Settings not named are the defaults.\n"
    )
    fusions, temporal = (get_args(Model.model_fields[name].annotation) for name in ("fusion", "temporal"))
    heads = [{"fusion": fusion, "temporal": kind} for fusion in fusions for kind in temporal]
    print_table("How the streams are read and meet", heads)
    print_table("The picture's backbone", [{"backbone": name} for name in BACKBONES])
    print_table("The sound's", [{"audio_backbone": name} for name in AUDIO_BACKBONES])
    print_table("How windows are aggregated", [{"aggregation": how} for how in ("mean", "attention")])


def print_table(title: str, choices: list[dict[str, Any]]) -> None:
    """Print a row for each choice of model settings, the first being what the others are compared with."""
    names = list(choices[0])
    print(f"### {title}\n")
    print(f"| {' | '.join(names)} | parameters | ratio | GFLOPs a window | ratio |")
    print("|" + " --- |" * len(names) + " ---: |" * 4)
    first = measure_model(choices[0])
    for choice in choices:
        parameters, flops = measure_model(choice)
        ratios = [f"{parameters / first[0]:.2f}", f"{flops / first[1]:.2f}"]
        said = [*(f"`{choice[name]}`" for name in names), f"{parameters:,}", ratios[0], f"{flops / 1e9:.3f}", ratios[1]]
        print(f"| {' | '.join(said)} |", flush=True)
    print()


def measure_model(choice: Mapping[str, Any]) -> tuple[int, int]:
    """Return a model's parameters and the operations of a window."""
    windows = {"windows": 2} if choice.get("aggregation") == "attention" else {}
    settings = validate_settings({"model": dict(choice), "train": windows})
    model = MultimodalModel(settings)
    return sum(value.numel() for value in model.parameters()), count_flops(model, make_window(settings))


def make_window(settings: Settings) -> dict[str, Tensor]:
    """Return a batch of one blank window, all of it unmasked."""
    steps, side = settings.video.frames, settings.video.size
    columns = round(settings.window_seconds / (settings.audio.hop_ms / 1000))
    return {
        "frames": torch.zeros(1, steps, 3, side, side, dtype=torch.uint8),
        "frame_mask": torch.ones(1, steps, dtype=torch.bool),
        "log_mel": torch.zeros(1, 1, settings.audio.n_mels, columns),
        "sound_mask": torch.ones(1, steps, dtype=torch.bool),
    }


if __name__ == "__main__":
    main()
