"""The audit passes clean data, names what is planted, and says what it cannot tell."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from dfmm import audit as module
from dfmm.audit import Audit, AuditError, audit_data, describe_audit, format_audit, save_audit
from dfmm.audit.facts import Facts
from dfmm.audit.shortcuts import SOUND
from dfmm.cli import main
from dfmm.figures.audit import plot_audit
from dfmm.manifest import read_manifest, write_manifest
from dfmm.media.decode import read_media
from dfmm.media.encode import write_video
from dfmm.settings import Settings, save_settings, validate_settings

from ..conftest import change, share_sample
from .test_shortcuts import draw_features, list_videos, plant


def list_problems(audit: Audit) -> list[str]:
    return [finding.text for finding in audit.findings if finding.status == "problem"]


def read_texts(figure: Figure) -> list[str]:
    """Draw the figure, which is when matplotlib warns, and return all it says."""
    figure.savefig(io.BytesIO(), format="png")
    return [text.get_text() for text in figure.findobj(plt.Text) if text.get_text()]


@pytest.fixture
def audit_table(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Audit]:
    """Audits a table of features as if it had been measured in files."""

    def audit(
        videos: pd.DataFrame, features: pd.DataFrame, *, settings: dict[str, Any] | None = None, **options: Any
    ) -> Audit:
        facts = {name: Facts(**dict.fromkeys(Facts.__dataclass_fields__)) for name in videos["video_id"]}
        monkeypatch.setattr(module, "extract_facts", lambda *_, **__: (facts, {}))
        monkeypatch.setattr(module, "extract_tracks", lambda *_, **__: ({}, {}))
        monkeypatch.setattr(
            module, "tabulate_features", lambda some, *_: features[features.index.isin(some["video_id"])]
        )
        monkeypatch.setattr(module, "find_leaks", lambda manifest, _: module_find_leaks(manifest, {}))
        return audit_data(videos, validate_settings({"evaluate": {"replicates": 100}, **(settings or {})}), **options)

    module_find_leaks = module.find_leaks
    return audit


@pytest.fixture
def files(tiny: Settings, manifest: pd.DataFrame, tmp_path: Path) -> tuple[Settings, pd.DataFrame]:
    """The tiny sample's files, to be changed, with what is known of them."""
    shutil.copytree(tiny.data.root, tmp_path / "data")
    return change(tiny, data={"root": str(tmp_path / "data")}, video={"detector": "none"}), manifest.copy()


def test_honest_data_passes_and_says_how_much_that_means(audit_table: Callable[..., Audit]) -> None:
    videos = list_videos(400, people=130)
    audit = audit_table(videos, draw_features(videos).drop(columns="fps"))
    assert audit.verdict == "clean"
    assert "The data passes (400 of 400 videos read)." in format_audit(audit)
    assert "No feature is a shortcut" in format_audit(audit)
    assert "could be missed" in format_audit(audit)


def test_a_shortcut_gets_a_sentence_with_numbers(audit_table: Callable[..., Audit]) -> None:
    videos = list_videos()
    audit = audit_table(videos, plant(draw_features(videos), videos, "fps"))
    assert audit.verdict == "problem"
    assert any(
        text.startswith("`fps` alone tells fakes from reals: AUC 1.000 [")
        and text.endswith("on 120 videos; fakes have 30, reals 25.")
        for text in list_problems(audit)
    )


def test_a_shortcut_that_its_cure_leaves_is_named_and_a_cure_that_is_off_is_proposed(
    audit_table: Callable[..., Audit],
) -> None:
    videos = list_videos()
    features = plant(draw_features(videos), videos, "fps")
    features["trailing_silence"] = features["leading_silence"] + 0.5 * (videos["label"] == 1).to_numpy()
    plain = audit_table(videos, features)
    assert not any("survives" in text for text in list_problems(plain))
    assert (
        "remark: What may take these shortcuts away: cure.trim_silence=both (`trailing_silence`); "
        "cure.reencode=True (`fps`). Audit again with it."
    ) in format_audit(plain)
    assert describe_audit(plain)["cures"] == plain.cures == []
    cured = audit_table(videos, features, settings={"cure": {"reencode": True, "trim_silence": "start"}})
    assert any(text.startswith("`fps` survives cure.reencode: this data needs") for text in list_problems(cured))
    assert "away: cure.trim_silence=both (`trailing_silence`). Audit" in format_audit(cured)  # `start` is no cure of it
    assert "(120 of 120 videos read; after cures: cure.trim_silence=start, cure.reencode=True (25 fps" in format_audit(
        cured
    )
    assert describe_audit(cured)["cures"] == cured.cures
    assert "after cures: cure.trim_silence=start" in " ".join(read_texts(plot_audit(cured)))
    level = plant(draw_features(videos), videos, "loudness")
    assert not any("survives" in text for text in list_problems(audit_table(videos, level)))
    levelled = audit_table(videos, level, settings={"cure": {"loudness": -26}})
    assert any(text.startswith("`loudness` survives cure.loudness") for text in list_problems(levelled))


def test_a_shortcut_to_one_method_is_told_from_one_to_all(audit_table: Callable[..., Audit]) -> None:
    method = np.where(np.arange(240) % 2, np.where(np.arange(240) % 20 == 1, "odd", "swap"), "real")
    videos = list_videos(240, people=80, method=method)
    features = draw_features(videos)
    features.loc[method == "odd", "leading_silence"] += 1
    texts = list_problems(audit_table(videos, features))
    assert any(
        text.startswith("`leading_silence` alone tells `odd` from reals, though not fakes as a") for text in texts
    )
    spoilt = list_problems(audit_table(videos, plant(features, videos, "fps")))
    assert sum(text.startswith("`fps` alone tells") for text in spoilt) == 1  # once, not for each method again


def test_a_mark_on_some_fakes_gets_a_sentence_and_its_cure(audit_table: Callable[..., Audit]) -> None:
    videos = list_videos(240, people=80)
    features, some = draw_features(videos), np.flatnonzero(videos["label"] == 1)[::6]
    features.iloc[some, features.columns.get_loc("video_codec")] = "hevc"
    audit = audit_table(videos, features)
    (text,) = list_problems(audit)
    assert text.startswith("`video_codec` marks 17% of the fakes and not one real: hevc (of 240 videos; in honest data")
    assert "cure.reencode=True (`video_codec`)" in format_audit(audit)
    assert "No feature is a shortcut" not in format_audit(audit)
    assert {"a shortcut", "could be chance"} <= set(read_texts(plot_audit(audit)))


def test_what_is_named_first_is_what_tells_most(audit_table: Callable[..., Audit]) -> None:
    videos = list_videos()
    features = plant(plant(draw_features(videos), videos, "loudness"), videos, "fps")
    named = [text for text in list_problems(audit_table(videos, features)) if "alone tells fakes" in text]
    assert [text.split("`")[1] for text in named] == ["fps", "loudness"]
    text = format_audit(audit_table(videos, features))
    assert text.index("problem: ") < text.index("remark: ")


def test_videos_that_are_kept_out_of_all_splits_are_not_looked_at(audit_table: Callable[..., Audit]) -> None:
    videos = list_videos()
    videos["split"] = np.where(np.arange(120) < 60, "train", "test")
    videos.loc[videos["identities"].isin(videos["identities"][:60]) & (videos["split"] == "test"), "split"] = "none"
    audit = audit_table(videos, draw_features(videos))
    assert audit.leaks.empty  # people of train are among those that are kept out: that is why they are
    kept_out = (videos["split"] == "none").sum()
    assert f"{kept_out} more videos are in no split (none)" in format_audit(audit)
    assert audit.videos == 120 - kept_out
    with pytest.raises(AuditError, match="no video is in train, val or test; 120 are kept out"):
        audit_table(videos.assign(split="none"), draw_features(videos))


def test_too_few_people_are_no_pass(audit_table: Callable[..., Audit]) -> None:
    videos = list_videos(24, people=4)
    assert audit_table(videos, draw_features(videos)).verdict == "unknown"
    alone = list_videos(identities="bob")
    audit = audit_table(alone, plant(draw_features(alone), alone, "fps"))
    assert audit.verdict == "unknown"
    assert "fakes of two people and reals of two people" in format_audit(audit)
    assert "undefined: it takes fakes of two people\nand reals of two people" in read_texts(plot_audit(audit))


def test_a_source_that_decides_the_label_is_named(audit_table: Callable[..., Audit]) -> None:
    source = np.where(np.arange(120) % 2, "studio", "street").astype(object)
    source[:2] = "both"
    videos = list_videos(source=source)
    audit = audit_table(videos, draw_features(videos))
    (text,) = list_problems(audit)
    assert "(`source`) tells its label" in text
    assert "2 of 3 hold one label only" in text
    assert text.endswith("Both labels, with so many fakes: both (1 of 2).")
    assert "No two sources hold both labels" in format_audit(audit)


def test_a_detector_is_compared_on_the_videos_it_scored(audit_table: Callable[..., Audit]) -> None:
    videos = list_videos()
    rng = np.random.default_rng(0)
    scores = videos[["video_id"]].assign(score=0.3 * videos["label"] + rng.uniform(0, 0.7, 120))
    scores.loc[:19, "score"] = np.nan
    honest = audit_table(videos, draw_features(videos), scores=scores.iloc[:-2])
    assert honest.verdict == "clean"
    assert honest.detector["videos"] == 98
    assert honest.detector["auc"]["low"] > honest.detector["trivia"]["value"]
    assert honest.detector["difference"]["low"] > 0
    assert any(text.startswith("the detector: 0.") for text in read_texts(plot_audit(honest)))
    spoilt = audit_table(videos, plant(draw_features(videos), videos, "fps"), scores=scores)
    assert any("it may live on them" in text for text in list_problems(spoilt))


def test_features_of_a_stream_that_is_withheld_are_left_out(tiny: Settings, manifest: pd.DataFrame) -> None:
    audit = audit_data(manifest, change(tiny, model={"streams": "video"}), progress=False)
    assert not {*SOUND, "file_size"} & {
        *audit.features,
        *audit.shortcuts["feature"],
    }  # nor the bytes of sounds
    audit = audit_data(manifest, change(tiny, model={"streams": "audio"}), progress=False)
    assert set(audit.features) == {*SOUND, "duration"}
    assert "Left out, as `model.streams` is audio: frames, fps" in format_audit(audit)


def test_planted_leaks_are_named_with_their_videos(files: tuple[Settings, pd.DataFrame]) -> None:
    settings, manifest = files
    root = Path(settings.data.root)
    train, test = (manifest.index[manifest["split"] == split] for split in ("train", "test"))
    real = next(row for row in train if not manifest["label"][row])
    clip = read_media(root / manifest["path"][real], keep=lambda number: True, sample_rate=16_000)
    write_video(
        root / "again.mp4", np.stack([*clip.frames.values()]), sound=clip.sound.samples, crf=32, sound_bit_rate=24_000
    )
    shutil.copy(root / manifest["path"][train[-1]], root / "copy.mp4")
    again = manifest.loc[test[:1]].assign(video_id="again", path="again.mp4", original="", label=0)
    copy = manifest.loc[test[:1]].assign(video_id="copy", path="copy.mp4", original="", label=0)
    manifest.loc[test[-1], "identities"] += "|" + manifest["identities"][real]  # as a donor
    fake = next(row for row in test if manifest["label"][row])
    manifest.loc[fake, "original"] = manifest["video_id"][real]
    manifest = pd.concat([manifest, again, copy], ignore_index=True)
    audit = audit_data(manifest, settings, progress=False)
    assert audit.verdict == "problem"
    found = {kind: set(rows["video_id"]) for kind, rows in audit.leaks.groupby("kind")}
    names = manifest["video_id"]
    assert {names[real], names[test[-1]]} <= found["identity"]
    assert {names[real], names[fake]} <= found["original"]
    assert {names[real], "again"} <= found["duplicate"]
    assert {names[train[-1]], "copy"} == found["copy"]
    text = format_audit(audit)
    for what in ("1 person is in more than one split", "1 original is behind videos of more than one split"):
        assert what in text
    assert f"{names[train[-1]]}: test copy; train {names[train[-1]]}" in text


def test_what_could_not_be_looked_at_is_said(files: tuple[Settings, pd.DataFrame]) -> None:
    settings, manifest = files
    manifest, root = manifest.head(10).assign(original=""), Path(settings.data.root)
    (root / manifest["path"][0]).write_bytes(b"no video")
    manifest.loc[1, ["identities", "original"]] = ["", "gone"]
    audit = audit_data(manifest.assign(split="test"), settings, progress=False)
    assert list(audit.failures) == [manifest["video_id"][0]]
    text = format_audit(audit)
    assert "9 of 10 videos read, synthetic" in text
    assert "1 of 10 videos cannot be read" in text
    assert "1 of 10 videos names nobody" in text
    assert "1 video names an original that is not listed" in text
    assert "All videos are in one split (test)" in text
    with pytest.raises(AuditError, match=r"not one of 1 videos can be read; the first: .*cannot be decoded"):
        audit_data(manifest.head(1), settings, progress=False)


def test_an_audit_is_written_whole_and_as_strict_json(tiny: Settings, manifest: pd.DataFrame, tmp_path: Path) -> None:
    manifest = manifest.copy()
    manifest.loc[0, "split"] = "test"
    audit = audit_data(manifest, tiny, progress=False)
    found = json.loads(save_audit(audit, tmp_path / "out").read_text(), parse_constant=pytest.fail)
    assert found == json.loads(json.dumps(describe_audit(audit)))
    assert found["verdict"] == "problem"
    assert len(pd.read_csv(tmp_path / "out" / "features.csv")) == 24
    leaks = pd.read_csv(tmp_path / "out" / "leaks.csv")
    assert manifest["video_id"][0] in set(leaks["video_id"])
    assert len(pd.read_csv(tmp_path / "out" / "shortcuts.csv")) == len(audit.shortcuts)


def test_the_command_says_by_its_status_what_was_found(
    tiny: Settings, manifest: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = manifest[manifest["split"] != "train"]  # too few people to tell
    write_manifest(few, Path(tiny.data.root) / "audited.csv")
    save_settings(tiny, tmp_path / "tiny.yaml")
    command = ["audit", str(tmp_path / "tiny.yaml"), "data.manifest=audited.csv"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 3
    assert capsys.readouterr().out.startswith("The data is too small to tell (12 of 12 videos read, synthetic).")
    assert (tmp_path / "out" / "audit.png").stat().st_size > 10_000
    moved = manifest.assign(split=["test", *manifest["split"][1:]])
    write_manifest(moved, Path(tiny.data.root) / "audited.csv")
    assert main([*command, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["verdict"] == "problem"
    assert main([*command, "--run", str(tmp_path / "none")]) == 1


# In files: what the tables above stand for


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return share_sample(tmp_path_factory, 160)


def encode_anew(
    sample: Path, folder: Path, spoil: Callable[[dict[str, Any]], None] | None
) -> tuple[pd.DataFrame, Settings]:
    """Encode all videos once more, the fakes after something was done to them."""
    manifest = read_manifest(sample / "manifest.csv", sample)
    for row in manifest.itertuples():
        clip = read_media(sample / row.path, keep=lambda number: True, sample_rate=16_000)
        frames = np.stack([*clip.frames.values()])
        file = {"frames": frames, "sound": clip.sound.cut(0, len(frames) / 25)[0], "crf": 20, "sound_bit_rate": 40_000}
        if spoil and row.label:
            spoil(file)
        write_video(folder / row.path, **file)
    return manifest, validate_settings({"data": {"root": str(folder), "cache": str(folder / "cache")}})


def silence_start(file: dict[str, Any]) -> None:
    """As a machine that speaks does: nothing at first, and all else 0.16 s later."""
    file["sound"] = np.concatenate([np.zeros(2560, np.float32), file["sound"]])
    file["frames"] = np.concatenate([file["frames"][4:0:-1], file["frames"]])


def silence_end(file: dict[str, Any]) -> None:
    file["sound"] = np.concatenate([file["sound"], np.zeros(2560, np.float32)])
    file["frames"] = np.concatenate([file["frames"], file["frames"][-2:-6:-1]])


def raise_level(file: dict[str, Any]) -> None:
    file["sound"] = 2 * file["sound"]


def lower_quality(file: dict[str, Any]) -> None:
    file["crf"] = 30


def raise_rate(file: dict[str, Any]) -> None:
    """The same seconds in more frames: every fifth is shown twice."""
    count = len(file["frames"])
    file["frames"], file["fps"] = file["frames"][np.arange(round(count * 1.2)) * 5 // 6], 30


def strip_sound(file: dict[str, Any]) -> None:
    file["sound"] = None


def come_closer(file: dict[str, Any]) -> None:
    file["frames"] = np.stack([cv2.resize(frame[40:-40, 40:-40], (256, 256)) for frame in file["frames"]])


PLANTED = [
    (silence_start, "leading_silence", {"cure": {"trim_silence": "start"}}),
    (silence_end, "trailing_silence", {"cure": {"trim_silence": "both"}}),
    (raise_level, "loudness", {"cure": {"loudness": -26.0}}),
    (lower_quality, "video_bit_rate", {"cure": {"reencode": True, "reencode_crf": 34}}),
    (raise_rate, "fps", {"cure": {"reencode": True}}),
    (strip_sound, "has_audio", {"model": {"streams": "video"}}),
    (come_closer, "face_size", {"cure": {"face_pixels": 48}}),
]


# What an encoder made of the silence, or of a larger face, is in its file still, and named still.
TRACES = {
    **dict.fromkeys(("leading_silence", "trailing_silence"), ("`audio_bit_rate` alone", "All trivial features")),
    "face_size": ("`video_bit_rate` alone", "`file_size` alone", "All trivial features"),
}


@pytest.mark.slow
def test_files_that_were_all_encoded_alike_pass(sample: Path, tmp_path: Path) -> None:
    audit = audit_data(*encode_anew(sample, tmp_path, None), progress=False)
    assert audit.verdict == "clean", format_audit(audit)
    assert audit.leaks.empty


@pytest.mark.slow
@pytest.mark.parametrize(("spoil", "name", "cure"), PLANTED, ids=[name for _, name, _ in PLANTED])
def test_a_shortcut_planted_in_files_is_named_and_gone_after_its_cure(
    sample: Path, tmp_path: Path, spoil: Callable[[dict[str, Any]], None], name: str, cure: dict[str, Any]
) -> None:
    manifest, settings = encode_anew(sample, tmp_path, spoil)
    audit = audit_data(manifest, settings, progress=False)
    assert audit.verdict == "problem", format_audit(audit)
    assert any(text.startswith(f"`{name}` alone tells fakes from reals") for text in list_problems(audit))
    assert re.search(rf"[a-z.]+ \([^)]*`{name}`", format_audit(audit))  # its cure is named
    assert audit.leaks.empty
    cured = audit_data(manifest, change(settings, **cure), progress=False)
    assert not any(f"`{name}`" in text for text in list_problems(cured)), format_audit(cured)
    assert "; after cures: " in format_audit(cured)
    left = [text for text in list_problems(cured) if not text.startswith(TRACES.get(name, "nothing"))]
    # Each audit holds its 5 % for all that it compares; of seven of them, one may well say something by luck.
    assert len(left) <= 1, format_audit(cured)


@pytest.mark.slow
def test_a_shortcut_that_survives_its_cure_is_named(sample: Path, tmp_path: Path) -> None:
    """What was compressed harder than the profile does has less to encode."""
    manifest, settings = encode_anew(sample, tmp_path, lower_quality)
    audit = audit_data(manifest, change(settings, cure={"reencode": True, "reencode_crf": 22}), progress=False)
    assert any("`video_bit_rate` survives cure.reencode" in text for text in list_problems(audit)), format_audit(audit)


@pytest.mark.filterwarnings("error")
def test_the_figure_states_the_numbers_of_the_table(audit_table: Callable[..., Audit]) -> None:
    source = np.where(np.arange(120) % 4 < 2, "a", "b")
    method = np.where(np.arange(120) % 2, np.where(np.arange(120) % 10 == 1, "odd", "swap"), "real")
    videos = list_videos(source=source, method=method)
    features = draw_features(videos)
    features.loc[method == "odd", "leading_silence"] += 1
    audit = audit_table(videos, features)
    texts = read_texts(plot_audit(audit))
    row = audit.shortcuts.set_index(["feature", "method"]).loc[("loudness", "")]
    assert f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" in texts
    assert {"all together", "leading silence", "source", "a shortcut to one method", "on sources not met"} <= set(texts)
    assert "fps" not in texts  # the same in all videos
    assert "synthetic" not in " ".join(texts)
