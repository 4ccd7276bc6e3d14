"""A model for others: ONNX that scores as ours does, and a card that says what it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
import yaml

from detectors import frames
from dfmm.evaluation import evaluate_run, summary
from dfmm.evaluation.card import write_card
from dfmm.evaluation.contents import Report
from dfmm.evaluation.export import TOLERANCE, check_export, export_run
from dfmm.files import write_whole
from dfmm.manifest import STREAM_LABELS
from dfmm.model import MultimodalModel, PluginModel, save_model
from dfmm.model.export import ExportError, export_onnx, open_onnx, take_windows
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
    for wrong in (1e-3, float("nan")):
        ours.joint_head.bias.data[1] += wrong
        with pytest.raises(ExportError, match=r"scores otherwise: by up to (1\.0e-03|\d\.\de-04|nan) on"):
            check_export(ours, file, [draw_batch(3)])
    silent = export_onnx(ours, draw_batch(3), tmp_path / "silent.onnx")
    with pytest.raises(ExportError, match="NaN never"):  # though both say the same
        check_export(ours, silent, [draw_batch(3)])


@pytest.mark.parametrize(("windows", "count"), [(7, "7 windows"), (2, "1 window")])
def test_a_transformer_over_time_is_refused(windows: int, count: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    ours = MultimodalModel(make_settings(temporal="transformer"), pretrained=False).eval()
    file = export_onnx(ours, draw_batch(3), tmp_path / "model.onnx")
    with pytest.raises(ExportError, match=f"does not take {count} at once"):  # two were traced
        check_export(ours, file, [take_windows(draw_batch(7), windows)])


class Asking(torch.nn.Module):
    """A detector of others, that asks for something of a batch."""

    def __init__(self, wanted: str, find: Callable[[torch.Tensor], torch.Tensor]):
        super().__init__()
        self.wanted, self.find = wanted, find

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self.find(batch[self.wanted])


def test_of_detectors_of_others_modules_are_exported_and_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    settings, batch = make_settings(detector="theirs:build"), draw_batch(5)

    def export(detector: object) -> tuple[PluginModel, Path]:
        monkeypatch.setattr("dfmm.model.multimodal.build_detector", lambda *_: detector)
        model = PluginModel(settings).eval()
        return model, export_onnx(model, take_windows(batch, 1), tmp_path / "a.onnx")

    assert check_export(*export(frames.build(settings)), [batch])["clips"] == 5
    with pytest.raises(ExportError, match=r"onnxruntime cannot run the export: .*CumSum"):
        check_export(*export(Asking("frame_mask", lambda seen: seen.cumsum(dim=1)[:, -1].float())), [batch])
    (tmp_path / "a.onnx").unlink()
    with pytest.raises(ExportError, match=r"theirs:build returned function, which is code alone: .* torch\.nn\.Module"):
        export(lambda batch: batch["log_mel"].numpy().mean(axis=(1, 2, 3)))
    with pytest.raises(ExportError, match="this model cannot be exported: KeyError: 'label'"):
        export(Asking("label", torch.Tensor.float))
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


def test_a_card_names_all_methods_of_training() -> None:
    """Not only those that the split has as well: what a detector was taught is no matter of what it is tested on."""
    report, scores, _ = make_results()
    told = summary._score_novelty(scores[scores["status"] == "ok"], 100, ["swap", "elsewhere"])
    assert (told["seen"]["methods"], told["trained_methods"]) == (["swap"], ["elsewhere", "swap"])
    known = report.model_dump() | told
    for trained, shown in ((["elsewhere", "swap"], "elsewhere, swap"), ([], "swap")):  # as of a report without them
        card = write_card(Report.model_validate(known | {"trained_methods": trained}), make_settings(), {"prior": 0.5})
        assert f"- Methods seen in training: {shown}\n" in card


def test_an_export_of_a_run_tells_how_windows_are_made_and_no_folder_of_this_machine(
    tiny: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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

    before = files[0].read_bytes()
    # Whatever goes wrong does so behind the export itself, which takes longest.
    monkeypatch.setattr("dfmm.evaluation.export.export_onnx", lambda model, batch, path: write_whole(before, path))
    for error in (ExportError, MemoryError, KeyboardInterrupt):
        monkeypatch.setattr("dfmm.evaluation.export.score_onnx", Mock(side_effect=error))
        with pytest.raises(error):
            export_run(run, "onnx", tmp_path / "export")
        with pytest.raises(error):
            export_run(run, "onnx", tmp_path / "other")
    assert files[0].read_bytes() == before
    assert len(list(files[0].parent.iterdir())) == 3
    assert list((tmp_path / "other").iterdir()) == []


def test_what_has_no_model_is_not_exported(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    with pytest.raises(RunError, match="has no checkpoint: there is no model to export"):
        export_run(run, "card", tmp_path)
    write_whole("", run.imported)
    with pytest.raises(RunError, match="holds imported scores"):
        export_run(run, "card", tmp_path)
