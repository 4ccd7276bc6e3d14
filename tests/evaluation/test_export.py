"""A model for others: ONNX that scores as ours does, and a card that says what it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from dfmm.evaluation import evaluate_run
from dfmm.evaluation.card import write_card
from dfmm.evaluation.export import TOLERANCE, check_export, export_run
from dfmm.files import write_whole
from dfmm.manifest import STREAM_LABELS
from dfmm.model import MultimodalModel, save_model
from dfmm.model.export import ExportError, export_onnx, open_onnx
from dfmm.runs import Run, RunError, open_run
from dfmm.settings import Settings, validate_settings

from .test_report import make_results


def make_settings(**model: str) -> Settings:
    video, audio = {"frames": 4, "fps": 12.5, "size": 48}, {"n_mels": 32}
    chosen = {"backbone": "test_resnet", "dim": 16, **model}
    return validate_settings({"video": video, "audio": audio, "model": chosen})


def draw_batch(count: int) -> dict[str, torch.Tensor]:
    """Windows of noise; the first has no face, the second no sound, the third half of its frames."""
    frames = torch.randint(0, 256, (count, 4, 3, 48, 48), dtype=torch.uint8)
    masks = {name: torch.ones(count, 4, dtype=torch.bool) for name in ("frame_mask", "sound_mask")}
    masks["frame_mask"][0], masks["sound_mask"][1], masks["frame_mask"][2, :2] = False, False, False
    return {"frames": frames, "log_mel": torch.randn(count, 1, 32, 33), **masks, "video_id": [""] * count}


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"fusion": "attention"},
        {"fusion": "concat", "temporal": "avg_pool", "audio_backbone": "test_resnet"},
        {"streams": "video"},
    ],
    ids=str,
)
def test_an_export_scores_as_ours_does_for_any_number_of_windows(model: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    torch.manual_seed(0)
    ours = MultimodalModel(make_settings(**model), pretrained=False).eval()
    ours.taught = ("video_fake", "in_sync")
    file = export_onnx(ours, draw_batch(3), tmp_path / "model.onnx")
    tried = check_export(ours, file, [draw_batch(7), draw_batch(4)])
    assert tried["clips"] == 11
    assert tried["difference"] < TOLERANCE
    assert [one.name for one in open_onnx(file).get_outputs()] == ["score", "video_fake", "in_sync"]
    ours.joint_head.bias.data[1] += 1e-3
    with pytest.raises(ExportError, match="scores otherwise"):
        check_export(ours, file, [draw_batch(3)])
    assert not file.exists()


def test_a_transformer_over_time_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    ours = MultimodalModel(make_settings(temporal="transformer"), pretrained=False).eval()
    file = export_onnx(ours, draw_batch(3), tmp_path / "model.onnx")
    with pytest.raises(ExportError, match="does not take 7 windows at once"):
        check_export(ours, file, [draw_batch(7)])
    assert list(tmp_path.iterdir()) == []


def test_a_card_has_the_fields_of_a_hub_and_no_html_of_a_manifest() -> None:
    report = make_results()[0].model_copy(update={"dataset": "<img src=x>|a\n# b", "run": "outputs/mine"})
    card = write_card(report, make_settings(), {"prior": 0.5}, license="cc-by-4.0")
    _, head, body = card.split("---\n", 2)
    fields = yaml.safe_load(head)
    assert (fields["license"], fields["library_name"]) == ("cc-by-4.0", "dfmm")
    (result,) = fields["model-index"][0]["results"]
    found = {one["type"]: one["value"] for one in result["metrics"]}
    assert found["AUC"] == round(report.video["auc"]["value"], 4)
    assert "<img" not in body
    assert "\n# b" not in body
    for part in ("## Data", "## Prior and threshold", "## Metrics", "## Limits", "## Licence"):
        assert part in body
    assert yaml.safe_load(write_card(report, make_settings(), {"prior": 0.5}).split("---\n")[1])["license"] == "other"


def test_an_export_of_a_run_tells_how_windows_are_made_and_no_folder_of_this_machine(
    tiny: Settings, tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    run = open_run(tmp_path / "mine", tiny)
    taught = list(STREAM_LABELS)
    save_model(MultimodalModel(tiny), tiny, run.checkpoint, epoch=1, prior=0.6, taught=taught, synthetic=True)
    evaluate_run(run, progress=False)
    files = export_run(run, "onnx", tmp_path / "export")
    assert [file.name for file in files] == ["detector.onnx", "detector.json", "README.md"]
    told = json.loads(files[1].read_text())
    assert told["settings"]["video"]["frames"] == tiny.video.frames
    assert told["clips"] >= 2
    for file in files[1:]:
        assert str(tmp_path) not in file.read_text()
        assert tiny.data.root not in file.read_text()
    assert "# mine: a detector" in files[2].read_text()


def test_what_has_no_model_is_not_exported(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    with pytest.raises(RunError, match="has no checkpoint: there is no model to export"):
        export_run(run, "card", tmp_path)
    write_whole("", run.imported)
    with pytest.raises(RunError, match="holds imported scores"):
        export_run(run, "card", tmp_path)
