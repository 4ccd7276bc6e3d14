"""The form of settings: what is typed is judged where it stands, and what it writes runs headless."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dfmm.figures.form import Draft, SettingsForm, edit_settings, plot_differences, write_value
from dfmm.settings import Settings, SettingsError, flatten_settings, load_settings, parse_override

QUICK = "params/quick.yaml"


@pytest.fixture
def draft(tmp_path: Path) -> Draft:
    return Draft(load_settings(QUICK), Settings(), tmp_path / "mine.yaml")


class Wire(SettingsForm):
    """The form without a browser: what it would send is kept."""

    def send(self, content: Any, buffers: Any = None) -> None:
        self.sent = content

    def ask(self, **asked: Any) -> dict[str, Any]:
        self._take(self, asked, [])
        return self.sent


def test_what_is_written_holds_what_differs_and_loads_as_the_same(draft: Draft) -> None:
    for name, text in {"train.lr": "1e-4", "train.mixed_precision": "'no'", "forge.methods": "[patch, mouth]"}.items():
        draft.change(name, text)
    assert draft.write() == "written: mine.yaml"
    text = draft.target.read_text()
    written, (settings, faults) = load_settings(draft.target), draft.judge()
    assert not faults
    assert written == settings
    assert (written.train.lr, written.forge.methods) == (1e-4, ["patch", "mouth"])
    assert text.count("lr:") == 2  # and backbone_lr
    assert "weight_decay" not in text
    assert "mixed_precision" not in text
    draft.change("seed", "5")
    assert draft.write() == "written: mine.yaml"  # its own
    assert load_settings(draft.target).seed == 5


def test_a_params_file_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "mine.yaml"
    target.write_text("seed: 1 # precious\n")
    assert "there already" in Draft(Settings(), Settings(), target).write()
    assert target.read_text() == "seed: 1 # precious\n"
    assert edit_settings(target, target=target).make().draft.write() == "written: mine.yaml"


@pytest.mark.parametrize(
    ("typed", "where", "said"),
    [
        ({"train.lr": "-1"}, "train.lr", "greater than 0"),
        ({"train.lr": "fast"}, "train.lr", "valid number"),
        ({"train.clip": "["}, "train.clip", "not YAML"),
        ({"data.read": "tape"}, "data.read", "'videos'"),
        ({"augment.flip": "1.5"}, "augment.flip", "less than or equal to 1"),
        ({"forge.methods": "[magic]"}, "forge.methods", "'self_blend'"),
        ({"audio.hop_ms": "30"}, "audio.hop_ms", "sound is lost"),
        ({"train.batch_size": "7", "train.accumulate": "2"}, "train.batch_size", "multiple of"),
    ],
)
def test_what_is_wrong_is_said_beside_its_field_and_nothing_is_written(
    draft: Draft, typed: dict[str, str], where: str, said: str
) -> None:
    for name, text in typed.items():
        draft.change(name, text)
    settings, faults = draft.judge()
    assert settings is None
    assert list(faults) == [where]
    assert said in faults[where]
    assert draft.write() == "not written: 1 setting is wrong"
    assert not draft.target.exists()
    for name in typed:
        draft.change(name, write_value(draft.against[name]))
    assert draft.judge()[1] == {}


def test_every_setting_is_typed_back_as_it_is_shown() -> None:
    """Each choice, too, among them `no`, which YAML takes for false."""
    form = SettingsForm(Draft(Settings(), Settings(), Path("x.yaml")), against="the defaults")
    values = flatten_settings(Settings())
    assert [field["name"] for field in form.about["fields"]] == list(values)
    for field in form.about["fields"]:
        assert parse_override(f"{field['name']}={field['text']}")[1] == values[field["name"]]
        assert field["meaning"]
        for shown, text in field["choices"]:
            draft = Draft(Settings(), Settings(), Path("x.yaml"))
            draft.change(field["name"], text)
            assert str(draft.values[field["name"]]).lower() == shown
            assert "Input should" not in " ".join(draft.judge()[1].values())  # it may want others beside it
        if field["choices"]:
            assert field["text"] in [text for _, text in field["choices"]]


def test_the_form_answers_what_differs_and_finds_by_a_word(tmp_path: Path) -> None:
    form = Wire(Draft(Settings(), load_settings(QUICK), tmp_path / "mine.yaml"), against=QUICK)
    before = form.about["answer"]["differs"]
    assert "train.epochs" in before
    answer = form.ask(kind="change", name="train.epochs", text="16")
    assert answer["differs"] == [name for name in before if name != "train.epochs"]
    assert form.ask(kind="change", name="train.backbone_lr", text="5e-4")["faults"] == {}
    assert "train.backbone_lr" not in form.sent["differs"]
    assert form.ask(kind="find", word="silence")["found"] == ["cure.trim_silence"]
    assert form.ask(kind="find", word="learnig")["found"] == []
    assert "did you mean" in form.sent["said"]
    assert form.ask(kind="change", name="no.such", text="1")["faults"] == {}
    assert form.ask(kind="write")["said"] == "written: mine.yaml"


def test_an_answer_judges_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    form, judged = Wire(Draft(Settings(), Settings(), tmp_path / "mine.yaml"), against=QUICK), []
    judge = form.draft.judge
    monkeypatch.setattr(form.draft, "judge", lambda: judged.append(1) or judge())
    assert form.ask(kind="change", name="seed", text="5")["differs"] == ["seed"]
    assert len(judged) == 1


def test_its_still_tells_what_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    still = edit_settings(QUICK)
    assert "train.epochs: 16 (the defaults: 20)" in still.text
    assert "weight_decay" not in still.text
    assert edit_settings(QUICK, against=QUICK).text.endswith("differs: nothing")
    texts = {text.get_text() for text in still.draw().axes[0].texts}
    assert {"train.epochs", "16", "20", "the defaults"} <= texts
    assert "nothing differs" in {text.get_text() for text in plot_differences([], "x").axes[0].texts}
    with pytest.raises(SettingsError, match="no such params file"):
        edit_settings("params/nowhere.yaml")
