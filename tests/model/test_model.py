"""The model masks what is absent, keeps time, and comes back from its file unchanged."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.models import print_table
from dfmm.model import frames as frames_module
from dfmm.model.aggregation import pool_windows
from dfmm.model.frames import FrameEncoder, average_steps, normalise_frames
from dfmm.model.fusion import REACH, AttentionFusion, compare_lags
from dfmm.model.multimodal import (
    FUSIONS,
    ModelFileError,
    MultimodalModel,
    count_flops,
    load_model,
    move_batch,
    save_model,
    withhold_streams,
)
from dfmm.model.sound import SoundEncoder
from dfmm.settings import Settings

from ..conftest import change

TEMPORAL = ["avg_pool", "tconv", "transformer"]
FAMILIES = ["resnet18", "efficientnet_b0", "vit_tiny_patch16_224", "mobilenetv3_small_050"]


def make_batch(settings: Settings, size: int = 3) -> dict[str, Tensor]:
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


def add_up(outputs: dict[str, Tensor]) -> Tensor:
    return sum(value.square().sum() for value in outputs.values())


def list_unlearning(model: nn.Module) -> list[str]:
    """Names of the parameters that no finite gradient reached, of those that are to learn."""
    learning = [(name, value.grad) for name, value in model.named_parameters() if value.requires_grad]
    return [name for name, grad in learning if grad is None or not grad.isfinite().all()]


@pytest.mark.parametrize("aggregation", ["mean", "attention"])  # the others have the model of `mean`
@pytest.mark.parametrize("audio", ["cnn", "test_resnet", "test_vit"])
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("temporal", TEMPORAL)
def test_every_combination_learns_saves_and_loads(
    temporal: str, fusion: str, audio: str, aggregation: str, tiny: Settings, tmp_path: Path
) -> None:
    chosen = {"temporal": temporal, "fusion": fusion, "audio_backbone": audio, "aggregation": aggregation}
    settings = change(tiny, model=chosen, train={"windows": 2})
    model, batch = make_model(settings).train(), make_batch(settings, size=2)
    add_up(model(batch)).backward()
    assert not list_unlearning(model)
    outputs = model.eval()(batch)
    assert outputs["logits"].shape == (2, 2)
    names = {"video_fake", "audio_fake", "in_sync"} | ({"weight"} if aggregation == "attention" else set())
    assert {name for name, value in outputs.items() if value.shape == (2,)} == names
    save_model(model, settings, tmp_path / "model.safetensors", prior=0.5)
    loaded, same_settings, facts = load_model(tmp_path / "model.safetensors")
    assert same_settings == settings
    assert facts == {"prior": 0.5}
    for name, value in loaded(batch).items():
        assert torch.equal(value, outputs[name])


def test_only_attention_over_windows_adds_to_the_model(tiny: Settings) -> None:
    parts = {
        how: set(make_model(change(tiny, model={"aggregation": how}, train={"windows": 2})).state_dict())
        for how in ("mean", "max", "confident", "attention")
    }
    assert parts["mean"] == parts["max"] == parts["confident"] < parts["attention"]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_usual_families_learn_but_where_they_are_frozen(name: str) -> None:
    """Half frozen: the first stages keep weights and statistics through two steps, and all others change."""
    torch.manual_seed(0)
    encoder = FrameEncoder(name, pretrained=False, dim=8, size=32, frozen=0.5)
    before = deepcopy(encoder.state_dict())
    frames, mask = torch.randint(0, 256, (2, 2, 3, 32, 32)), torch.ones(2, 2, dtype=torch.bool)
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.1)
    for _ in range(2):  # some weights have no gradient before others have moved
        optimizer.zero_grad()
        (encoder(frames, mask) * torch.arange(8)).square().sum().backward()
        assert not list_unlearning(encoder)
        optimizer.step()
    same = {key for key, value in encoder.state_dict().items() if torch.equal(value, before[key])}
    parts = [(place, part) for place, part in encoder.named_modules() if part in encoder.frozen]
    frozen = {f"{place}.{key}" for place, part in parts for key in part.state_dict()}
    frozen |= {key for key, value in encoder.named_parameters() if not value.requires_grad}
    assert same == frozen
    assert {"mean", "var"} <= {key.split("_")[-1] for key in frozen} or "vit" in name
    assert 0.2 < len(frozen) / len(before) < 0.8


def test_a_wholly_frozen_backbone_builds_no_graph_and_stays_as_it_is(tiny: Settings) -> None:
    settings = change(tiny, model={"frozen": 1})
    model, batch = make_model(settings).train(), make_batch(settings)
    backbone = model.frame_encoder.backbone
    before = deepcopy(backbone.state_dict())
    assert not backbone(torch.rand(2, 3, 48, 48)).requires_grad
    add_up(model(batch)).backward()
    assert not list_unlearning(model)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    assert not any(module.training for module in backbone.modules())
    assert model.frame_encoder.project.training


@pytest.mark.parametrize("fusion", FUSIONS)
def test_what_an_absent_stream_holds_cannot_matter(fusion: str, tiny: Settings) -> None:
    settings = change(tiny, model={"fusion": fusion})
    model, batch = make_model(settings), make_batch(settings)
    for mask, content in (("frame_mask", "frames"), ("sound_mask", "log_mel")):
        masked = {**batch, mask: torch.zeros_like(batch[mask])}
        withheld = withhold_streams(move_batch(batch, "cpu"), "audio" if mask == "frame_mask" else "video")
        for name, value in model(masked).items():
            torch.testing.assert_close(value, model(withheld)[name])
        other = {**masked, content: torch.zeros_like(batch[content])}
        for name, value in model(masked).items():
            torch.testing.assert_close(value, model(other)[name])
        assert not torch.allclose(model(batch)["logits"], model(masked)["logits"])


@pytest.mark.parametrize("listed", [False, True], ids=["asked there", "listed"])
@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("temporal", TEMPORAL)
def test_what_is_masked_teaches_nothing_not_even_a_statistic(
    temporal: str, backbone: str, listed: bool, tiny: Settings
) -> None:
    settings = change(tiny, model={"temporal": temporal, "backbone": backbone, "audio_backbone": backbone})
    model, batch = make_model(settings).train(), make_batch(settings)
    batch["frame_mask"][:, 2:] = False
    batch["sound_mask"][1] = False
    other = {**batch, "frames": batch["frames"].clone(), "log_mel": batch["log_mel"].clone()}
    other["frames"][:, 2:] = 0
    other["log_mel"][1] += 100
    twin, results = deepcopy(model), []
    for each, seen in ((model, batch), (twin, other)):
        torch.manual_seed(2)
        outputs = each(move_batch(seen, "cpu") if listed else seen)
        add_up(outputs).backward()
        results.append(outputs)
    for name, value in results[0].items():
        torch.testing.assert_close(value, results[1][name])
    for (name, value), same in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(value.grad, same.grad, msg=lambda said, name=name: f"{name}: {said}")
    for name, value in model.state_dict().items():
        assert torch.equal(value, twin.state_dict()[name]), name


@pytest.mark.parametrize("frames", [0, 1])
def test_a_batch_with_hardly_a_face_trains(frames: int) -> None:
    """At this size the last map is a single pixel: a frame alone has no variance for a batch statistic."""
    encoder = FrameEncoder("resnet18", pretrained=False, dim=8, size=32).train()
    before = deepcopy(encoder.state_dict())
    mask = torch.zeros(2, 3, dtype=torch.bool)
    mask[1, :frames] = True
    features = encoder(torch.randint(0, 256, (2, 3, 3, 32, 32)), mask)
    features.square().sum().backward()
    assert not list_unlearning(encoder)
    assert (features.abs().sum(dim=2) > 0).equal(mask)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert all(module.training for module in encoder.modules())
    assert any(value.grad.any() for value in encoder.parameters()) == bool(frames)


def test_batches_without_a_stream_train_in_parallel_too(tiny: Settings, tmp_path: Path) -> None:
    """DistributedDataParallel fails at the second step if a parameter had no part in the first."""
    settings = change(tiny, model={"fusion": "attention", "aggregation": "attention"}, train={"windows": 2})
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(make_model(settings).train())
        for mask in ("frame_mask", "sound_mask", "frame_mask"):
            batch = make_batch(settings)
            batch[mask][:] = False
            add_up(model(batch)).backward()
            assert not list_unlearning(model)
    finally:
        torch.distributed.destroy_process_group()


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


@pytest.mark.parametrize("backbone", ["cnn", "test_resnet", "test_efficientnet", "test_vit", "test_mambaout"])
def test_the_sound_encoder_keeps_time(backbone: str) -> None:
    """What is heard in one step moves that step most, or one next to it, and what is far away much less."""
    torch.manual_seed(0)
    encoder = SoundEncoder(backbone, 16, n_mels=40, steps=8).eval()
    quiet, mask = torch.randn(1, 1, 40, 32), torch.ones(1, 8, dtype=torch.bool)
    for step in range(8):
        burst = quiet.clone()
        burst[..., 4 * step : 4 * step + 4] += 3
        moved = (encoder(burst, mask) - encoder(quiet, mask)).abs().sum(dim=2)[0]
        far = (torch.arange(8) - step).abs() > 3
        assert abs(int(moved.argmax()) - step) <= 1
        assert moved[far].max() < 0.2 * moved.max()


def test_lags_find_the_offset_of_one_stream_against_the_other() -> None:
    torch.manual_seed(0)
    video = torch.randn(2, 40, 8)
    audio = video.roll(3, dims=1)
    mask = torch.ones(2, 40, dtype=torch.bool)
    assert compare_lags(video, audio, mask, mask).argmax(dim=1).tolist() == [REACH + 3, REACH + 3]


def test_attention_picks_a_step_of_either_stream_and_nothing_where_there_is_none() -> None:
    torch.manual_seed(0)
    fusion = AttentionFusion(8)
    video, audio = torch.randn(3, 4, 8, requires_grad=True), torch.randn(3, 4, 8, requires_grad=True)
    video_mask, audio_mask = torch.zeros(2, 3, 4, dtype=torch.bool)
    video_mask[0, 1] = audio_mask[1, 2] = True  # a frame, a sound, and nothing
    mixed = fusion(video, audio, video_mask, audio_mask)
    mixed.square().sum().backward()
    for stream, mask in ((video, video_mask), (audio, audio_mask)):
        assert (stream.grad.abs().sum(dim=2) > 0).equal(mask)
    assert not mixed[2].any()
    assert mixed[:2].any(dim=1).all()


def test_the_average_is_over_unmasked_steps() -> None:
    steps = torch.tensor([[[1.0], [3.0], [100.0]]])
    assert average_steps(steps, torch.tensor([[True, True, False]])).item() == 2
    assert average_steps(steps, torch.zeros(1, 3, dtype=torch.bool)).item() == 0


def test_windows_weigh_what_they_should_and_absent_ones_nothing() -> None:
    logits = torch.tensor([[0.0, 4.0], [0.0, 0.0], [9.0, 9.0], [1.0, 2.0], [5.0, 5.0], [5.0, 5.0]])
    weight = torch.tensor([3.0, 3.0, 50.0, 0.0, 90.0, 1.0], requires_grad=True)
    there = torch.tensor([True, True, False, True, False, False])
    pooled = pool_windows(logits, weight, there, 3)
    assert torch.allclose(pooled, torch.tensor([[0.0, 2.0], [1.0, 2.0]]))
    assert torch.equal(pool_windows(logits, weight, torch.zeros(6, dtype=torch.bool), 3), torch.zeros(2, 2))
    cross_entropy(pooled, torch.tensor([1, 1])).backward()
    assert weight.grad[0] < 0 < weight.grad[1]  # the window that says fake is to weigh more, in a fake video
    assert not weight.grad[~there].any()


def test_operations_are_counted_attention_among_them(tiny: Settings) -> None:
    layer, steps, dim = nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=16, batch_first=True), 6, 8
    products = 4 * steps * dim * dim + 2 * steps * steps * dim + 2 * steps * dim * 16
    assert count_flops(layer, torch.zeros(1, steps, dim)) == 2 * products
    settings = change(tiny, model={"backbone": "test_vit", "temporal": "transformer"})
    model = MultimodalModel(settings)
    with torch.no_grad():
        counts = [count_flops(model, make_batch(settings, size=size)) for size in (1, 2)]
    assert counts[1] == 2 * counts[0] > 0
    assert model.training


def test_the_benchmark_compares_with_its_first_row(capsys: pytest.CaptureFixture) -> None:
    print_table("Backbones", [{"backbone": name} for name in ("test_resnet", "test_vit")])
    first, second = capsys.readouterr().out.splitlines()[4:6]
    assert first.split("|")[3:6:2] == [" 1.00 ", " 1.00 "]
    assert second.split("|")[3] != " 1.00 "


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such model file"):
        load_model(tmp_path / "nothing.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(ModelFileError, match="not a safetensors file"):
        load_model(tmp_path / "text.safetensors")
    save_file({"weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelFileError, match="expected a dfmm"):
        load_model(tmp_path / "other.safetensors")


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_frames_are_normalised_as_by_the_formula_whatever_their_layout(layout: torch.memory_format) -> None:
    frames = torch.randint(0, 256, (3, 3, 5, 7), dtype=torch.uint8).to(memory_format=layout)
    mean, std = torch.tensor([120.0, 110.0, 100.0]), torch.tensor([50.0, 60.0, 70.0])
    found = normalise_frames(frames, mean, std)
    assert torch.equal(found, (frames.float() - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_frames_are_encoded_in_pieces_where_nothing_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same features; in training a batch's statistics are those of all its frames, which stay together."""
    torch.manual_seed(0)
    encoder = FrameEncoder("resnet18", pretrained=False, dim=8, size=32).eval()
    frames, mask = torch.randint(0, 256, (2, 5, 3, 32, 32), dtype=torch.uint8), torch.ones(2, 5, dtype=torch.bool)
    sizes: list[int] = []
    encoder.backbone.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    whole = encoder(frames, mask)
    monkeypatch.setattr(frames_module, "PIXELS_AT_ONCE", 4 * 32 * 32)
    with torch.no_grad():
        torch.testing.assert_close(encoder(frames, mask), whole.detach())
        encoder.train()(frames, mask)
    encoder.eval()(frames, mask)
    assert sizes == [10, 4, 4, 2, 10, 10]
