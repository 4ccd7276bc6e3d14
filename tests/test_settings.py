"""Settings: what a params file and its overrides mean, and what a wrong one says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from dfmm.settings import (
    Settings,
    SettingsError,
    describe_settings,
    diff_settings,
    find_settings,
    flatten_settings,
    iterate_settings,
    load_settings,
    resolve_path,
    save_settings,
    validate_settings,
)

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def params(tmp_path: Path) -> Path:
    """A params file that sets two values and leaves one section empty."""
    path = tmp_path / "some.yaml"
    path.write_text("seed: 3\ntrain:\n  lr: 1e-4\naudio:\n", encoding="utf-8")
    return path


def refuse(params: Path, text: str | None = None, *overrides: str) -> str:
    """Return what the error says."""
    if text is not None:
        params.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as error:
        load_settings(params, overrides)
    return str(error.value)


def name_values(values: dict[str, Any]) -> set[str]:
    return {
        name if not isinstance(value, dict) else f"{name}.{key}"
        for name, value in values.items()
        for key in (value if isinstance(value, dict) else [name])
    }


def test_a_number_without_a_dot_in_its_mantissa_is_a_number(params: Path) -> None:
    assert load_settings(params).train.lr == 1e-4  # YAML 1.1 reads a text
    assert load_settings(params, ["train.lr=2e-5"]).train.lr == 2e-5


def test_the_rest_are_the_defaults_also_of_an_empty_section_and_file(params: Path) -> None:
    settings = load_settings(params)
    assert settings.seed == 3
    assert settings.audio == Settings().audio
    params.write_text("# all commented out\n", encoding="utf-8")
    assert load_settings(params) == Settings()


def test_an_override_wins_and_leaves_its_neighbours(params: Path) -> None:
    settings = load_settings(params, ["train.epochs=7", "video.fps=spread", "data.limit=null", "model.pretrained=true"])
    assert (settings.train.epochs, settings.train.lr) == (7, 1e-4)
    assert (settings.video.fps, settings.data.limit, settings.model.pretrained) == ("spread", None, True)


def test_a_misspelt_name_is_answered_with_the_nearest(params: Path) -> None:
    assert "train.batchsize: no such setting; did you mean train.batch_size?" in refuse(params, "train: {batchsize: 4}")
    assert "did you mean train?" in refuse(params, "trian: {lr: 0.1}")
    assert "did you mean train.lr?" in refuse(params, "lr: 0.1")
    assert "did you mean video.frames?" in refuse(params, "", "data.frames=8")


def test_every_fault_is_listed_at_once(params: Path) -> None:
    text = "video: {frames: 0, size: big, colour: 1}\ntrain: {lr: -1}\nseed: [1]"
    message = refuse(params, text, "augment.flip=1.5")
    for name in ("video.frames", "video.size", "video.colour", "train.lr", "seed", "augment.flip"):
        assert f"\n  {name}: " in message
    assert "got -1" in message
    assert str(params) in message


def test_numbers_out_of_range_are_refused(params: Path) -> None:
    for override in ("video.fps=0", "video.size=16", "evaluate.replicates=10", "data.limit=1", "train.epochs=2.5"):
        assert f"\n  {override.split('=')[0]}: " in refuse(params, None, override)
    for override in ("train.lr=.inf", "train.weight_decay=.nan"):
        assert "finite" in refuse(params, None, override)


def test_sound_that_cannot_follow_the_picture_is_refused(params: Path) -> None:
    assert "sound is lost" in refuse(params, "audio: {hop_ms: 30}")
    message = refuse(params, "video: {frames: 100, fps: 120}")
    assert "\n  a window has 100 frames but only 83 spectrogram frames" in message


def test_a_missing_file_lists_its_neighbours(params: Path) -> None:
    assert "some.yaml" in refuse(params.with_name("sum.yaml"))
    assert "no params file" in refuse(params.parent / "nowhere" / "sum.yaml")


def test_what_is_no_mapping_of_sections_is_refused(params: Path) -> None:
    assert "not YAML" in refuse(params, "train: [")
    assert "got a list" in refuse(params, "- train")
    assert "got a list" in refuse(params, "[]")
    assert "got a str" in refuse(params, "train")
    assert "train: " in refuse(params, "train: 3")


def test_an_override_that_is_none_is_refused(params: Path) -> None:
    for override in ("train.lr", "=3", "train.=3", ".lr=3", ""):
        assert "expected name=value" in refuse(params, None, override)
    assert "not YAML" in refuse(params, None, "train.lr=[")
    assert "'lr' is a value, not a section" in refuse(params, None, "train.lr.peak=3")
    assert "train: " in refuse(params, None, "train=3")


def test_an_unknown_threshold_rule_is_refused(params: Path) -> None:
    for rule in ("balanced_accuracy", "eer", "fpr=0.01"):
        assert load_settings(params, [f"evaluate.threshold={rule}"]).evaluate.threshold == rule
    for rule in ("f1", "fpr", "fpr=0", "fpr=1", "fpr=often", "fpr=nan", "eer=0.1"):
        assert "expected balanced_accuracy, eer or fpr=RATE" in refuse(params, None, f"evaluate.threshold={rule}")


def test_saved_settings_load_as_the_same(tmp_path: Path) -> None:
    values = {
        "seed": 7,
        "data": {"root": "Gesichter/größer: #1", "limit": 4},
        "video": {"fps": "spread"},
        "train": {"lr": 1e-5, "clip": 1e22},
        "model": {"pretrained": True, "backbone": "no"},
        "evaluate": {"threshold": "fpr=0.01"},
    }
    for settings in (Settings(), validate_settings(values)):
        save_settings(settings, tmp_path / "saved.yaml")
        assert load_settings(tmp_path / "saved.yaml") == settings


def test_settings_cannot_change_after_loading() -> None:
    settings = Settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.train.lr = 0.1
    with pytest.raises(ValidationError, match="frozen"):
        settings.seed = 1


def test_windows_whose_sound_is_elsewhere_cannot_be_moved_in_time(params: Path) -> None:
    said = refuse(params, "video: {fps: spread}\naugment: {offset: 0.1, reverse: 0.5, blur: 0.5}")
    assert "augment.offset, augment.reverse: moves frames and their sound in time" in said
    load_settings(params, ["augment.offset=0", "augment.reverse=0"])


def test_the_table_describes_every_setting() -> None:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in describe_settings().splitlines()[2:]]
    assert {name.strip("`") for name, *_ in rows} == name_values(Settings().model_dump())
    assert all(len(row) == 4 and all(row) for row in rows)


def test_the_documented_table_is_that_of_the_code() -> None:
    """docs/settings.md is made by `dfmm settings`; run it again after changing a setting."""
    assert (
        (Path(__file__).parents[1] / "docs" / "settings.md").read_text(encoding="utf-8").endswith(describe_settings())
    )


def test_settings_are_found_by_a_word_of_their_name_or_meaning() -> None:
    assert [name for name, _ in find_settings("Silence")] == ["cure.trim_silence"]
    assert {"train.lr", "train.backbone_lr"} <= {name for name, _ in find_settings("rate")}
    assert describe_settings("silence").count("\n") == 3
    assert len(find_settings()) == len(list(iterate_settings()))
    with pytest.raises(SettingsError, match=r"'learnig'.* did you mean learning"):
        find_settings("learnig")
    with pytest.raises(SettingsError, match=r"meaning$"):
        find_settings("xyzzy")


def test_flat_names_hold_the_values_of_the_sections() -> None:
    flat = flatten_settings(validate_settings({"seed": 5, "train": {"lr": 0.5}}))
    assert set(flat) == name_values(Settings().model_dump())
    assert (flat["seed"], flat["train.lr"]) == (5, 0.5)


def test_a_difference_shows_only_what_differs() -> None:
    old, new = Settings(), validate_settings({"seed": 1, "train": {"lr": 0.001}})
    assert diff_settings(old, old) == []
    assert diff_settings(old, new) == ["seed: 0 → 1", "train.lr: 0.002 → 0.001"]


def test_notebooks_and_the_root_resolve_the_same_path(monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (REPOSITORY, REPOSITORY / "notebooks", REPOSITORY / "tests"):
        monkeypatch.chdir(folder)
        assert resolve_path("outputs/quick") == REPOSITORY / "outputs" / "quick"
        assert resolve_path("/elsewhere") == Path("/elsewhere")


def test_every_params_file_of_the_repository_loads() -> None:
    files = sorted((REPOSITORY / "params").glob("*.yaml"))
    assert files
    for file in files:
        settings = load_settings(file)
        for section, values in yaml.safe_load(file.read_text(encoding="utf-8")).items():
            assert getattr(settings, section).model_dump().items() >= values.items()


def test_overrides_in_one_text_are_told_apart_or_refused() -> None:
    with pytest.raises(SettingsError, match=r"expected a list such as \['train.lr=1e-4', 'seed=1'\], got 'seed=1'"):
        load_settings("params/quick.yaml", "seed=1")
    with pytest.raises(SettingsError, match="holds several; give seed as one of its own"):
        load_settings("params/quick.yaml", ["train.lr=1e-4 seed=1"])
    for text, name in (
        ("data.root=a,seed=1", "seed"),
        ("data.root=a; train.lr =1", "train.lr"),
        ("data.root=a model.sizee=3", "model.sizee"),
        ("train.lr=1e-4,train.warmup.x=1", "train.warmup.x"),
        ("data.root=a --seed=1", "seed"),
    ):
        with pytest.raises(SettingsError, match=f"holds several; give {name} as one of its own"):
            load_settings("params/quick.yaml", [text])
    for text in ("a b=c/d", "runs/lr=1,dim=2", '"runs/lr=1,seed=2"', "a.b=c, x.y=d"):
        assert load_settings("params/quick.yaml", [f"data.root={text}"]).data.root == text.strip('"')
    assert load_settings("params/quick.yaml", None) == load_settings("params/quick.yaml")
    with pytest.raises(SettingsError, match="expected name=value"):
        load_settings("params/quick.yaml", [["seed=1"]])


def test_a_yes_is_no_number(params: Path) -> None:
    for override in ("video.fps=yes", "seed=true", "video.frames=on", "train.lr=yes", "augment.flip=true"):
        assert f"{override.split('=')[0]}: takes neither true nor false" in refuse(params, None, override)
    assert "data.leave_out: takes neither" in refuse(params, None, "data.leave_out=[a, no]")
    assert load_settings(params, ["model.pretrained=yes"]).model.pretrained is True


def test_numbers_are_read_as_people_write_them(tmp_path: Path) -> None:
    """YAML 1.1 reads 0123 as 83, for it is octal there, and 1:30 as 90."""
    assert load_settings("params/quick.yaml", ["seed=0123"]).seed == 123
    assert load_settings("params/quick.yaml", ["data.root=0123"]).data.root == "0123"
    (tmp_path / "p.yaml").write_text("seed: 0123\ntrain:\n  lr: 1e-4\n  clip: .5\n  epochs: 1_0\n")
    settings = load_settings(tmp_path / "p.yaml")
    assert (settings.seed, settings.train.lr, settings.train.clip, settings.train.epochs) == (123, 1e-4, 0.5, 10)
    save_settings(
        settings.model_copy(update={"data": settings.data.model_copy(update={"root": "0123"})}), tmp_path / "q"
    )
    assert load_settings(tmp_path / "q").data.root == "0123"
    with pytest.raises(SettingsError, match="seed"):
        load_settings("params/quick.yaml", ["seed=1:30"])
