"""The model masks what is absent, keeps time, and comes back from its file unchanged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dfmm.model import ModelFileError, MultimodalModel, load_model, save_model
from dfmm.model.frames import average_steps
from dfmm.model.fusion import REACH, compare_lags
from dfmm.model.pretrained import BackboneError, make_backbone
from dfmm.settings import Settings

from .conftest import change


def make_batch(settings: Settings, size: int = 3) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    steps, side = settings.video.frames, settings.video.size
    return {
        "frames": torch.randint(0, 256, (size, steps, 3, side, side), dtype=torch.uint8),
        "frame_mask": torch.ones(size, steps, dtype=torch.bool),
        "log_mel": torch.randn(size, 1, settings.audio.n_mels, 32),
        "sound_mask": torch.ones(size, steps, dtype=torch.bool),
    }


def make_model(settings: Settings) -> MultimodalModel:
    torch.manual_seed(1)
    return MultimodalModel(settings).eval()


@pytest.mark.parametrize("fusion", ["concat", "cross_modal"])
@pytest.mark.parametrize("temporal", ["avg_pool", "tconv", "transformer"])
def test_every_combination_learns_saves_and_loads(temporal: str, fusion: str, tiny: Settings, tmp_path: Path) -> None:
    settings = change(tiny, model={"temporal": temporal, "fusion": fusion})
    model, batch = make_model(settings), make_batch(settings)
    outputs = model(batch)
    assert outputs["logits"].shape == (3, 2)
    assert all(outputs[name].shape == (3,) for name in ("video_fake", "audio_fake", "in_sync"))
    sum(value.square().sum() for value in outputs.values()).backward()
    still = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.isfinite().all()]
    assert not still
    save_model(model, settings, tmp_path / "model.safetensors", prior=0.5)
    loaded, same_settings, facts = load_model(tmp_path / "model.safetensors")
    assert same_settings == settings
    assert facts == {"prior": 0.5}
    for name, value in loaded(batch).items():
        assert torch.equal(value, outputs[name])


@pytest.mark.parametrize("fusion", ["concat", "cross_modal"])
def test_what_an_absent_stream_holds_cannot_matter(fusion: str, tiny: Settings) -> None:
    settings = change(tiny, model={"fusion": fusion})
    model, batch = make_model(settings), make_batch(settings)
    for mask, content in (("frame_mask", "frames"), ("sound_mask", "log_mel")):
        masked = {**batch, mask: torch.zeros_like(batch[mask])}
        other = {**masked, content: torch.zeros_like(batch[content])}
        for name, value in model(masked).items():
            torch.testing.assert_close(value, model(other)[name])
        assert not torch.allclose(model(batch)["logits"], model(masked)["logits"])


@pytest.mark.parametrize("temporal", ["avg_pool", "tconv", "transformer"])
def test_masked_steps_cannot_matter(temporal: str, tiny: Settings) -> None:
    settings = change(tiny, model={"temporal": temporal})
    model, batch = make_model(settings), make_batch(settings)
    batch["frame_mask"][:, 2:] = False
    other = {**batch, "frames": batch["frames"].clone()}
    other["frames"][:, 2:] = 0
    for name, value in model(batch).items():
        torch.testing.assert_close(value, model(other)[name])


def test_a_stream_of_its_own_sees_only_that_stream(tiny: Settings) -> None:
    batch = make_batch(tiny)
    model = make_model(change(tiny, model={"streams": "video"}))
    deaf = {**batch, "log_mel": torch.zeros_like(batch["log_mel"])}
    assert torch.equal(model(batch)["logits"], model(deaf)["logits"])
    model = make_model(change(tiny, model={"streams": "audio"}))
    blind = {**batch, "frames": torch.zeros_like(batch["frames"])}
    assert torch.equal(model(batch)["logits"], model(blind)["logits"])


def test_the_video_head_does_not_hear_and_the_audio_head_does_not_see(tiny: Settings) -> None:
    model, batch = make_model(tiny), make_batch(tiny)
    changed = {**batch, "log_mel": torch.zeros_like(batch["log_mel"])}
    assert torch.equal(model(batch)["video_fake"], model(changed)["video_fake"])
    changed = {**batch, "frames": torch.zeros_like(batch["frames"])}
    assert torch.equal(model(batch)["audio_fake"], model(changed)["audio_fake"])


def test_the_sound_encoder_keeps_time(tiny: Settings) -> None:
    """A burst in the last quarter of the sound moves the last step most, and the first not at all."""
    encoder = make_model(tiny).sound_encoder
    quiet = torch.zeros(1, 1, 32, 64)
    burst = quiet.clone()
    burst[..., 52:60] = 3
    moved = (encoder(burst, 4) - encoder(quiet, 4)).abs().sum(dim=2)[0]
    assert moved.argmax() == 3
    assert moved[0] == 0


def test_lags_find_the_offset_of_one_stream_against_the_other() -> None:
    torch.manual_seed(0)
    video = torch.randn(2, 40, 8)
    audio = video.roll(3, dims=1)
    mask = torch.ones(2, 40, dtype=torch.bool)
    assert compare_lags(video, audio, mask, mask).argmax(dim=1).tolist() == [REACH + 3, REACH + 3]


def test_the_average_is_over_unmasked_steps() -> None:
    steps = torch.tensor([[[1.0], [3.0], [100.0]]])
    assert average_steps(steps, torch.tensor([[True, True, False]])).item() == 2
    assert average_steps(steps, torch.zeros(1, 3, dtype=torch.bool)).item() == 0


def test_a_misspelt_backbone_gets_its_neighbours() -> None:
    with pytest.raises(BackboneError, match="resnet18"):
        make_backbone("resnet_18", pretrained=False)


def test_pretrained_weights_come_from_a_local_file(tmp_path: Path) -> None:
    original = make_backbone("test_resnet", pretrained=False)
    save_file(original.state_dict(), tmp_path / "weights.safetensors")
    loaded = make_backbone("test_resnet", pretrained=str(tmp_path / "weights.safetensors"))
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in original.state_dict().items())


def test_pretrained_without_hub_or_file_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackboneError, match="no such file"):
        make_backbone("test_resnet", pretrained=str(tmp_path / "nothing.pth"))
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(BackboneError, match="does not hold weights"):
        make_backbone("test_resnet", pretrained=str(tmp_path / "text.pth"))

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("timm.create_model", fail)
    with pytest.raises(BackboneError, match="local file"):
        make_backbone("test_resnet", pretrained=True)


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such model file"):
        load_model(tmp_path / "nothing.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(ModelFileError, match="not a safetensors file"):
        load_model(tmp_path / "text.safetensors")
    save_file({"weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelFileError, match="expected a dfmm"):
        load_model(tmp_path / "other.safetensors")
