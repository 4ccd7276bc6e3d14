"""A folder of one's own: what is said of it, what is proposed for it, and that the proposal runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dfmm import proposal
from dfmm.cli import main
from dfmm.dataset import load_manifest
from dfmm.manifest import complete_manifest, read_manifest
from dfmm.proposal import times
from dfmm.proposal.choices import Choice, ProposalError
from dfmm.proposal.times import format_duration
from dfmm.settings import Settings, list_changed, load_settings

from ..conftest import change


@pytest.fixture
def folder(tiny: Settings, tmp_path: Path) -> Path:
    root = Path(tiny.data.root)
    return proposal.make_folder(read_manifest(root / "manifest.csv", root), root, tmp_path / "own", videos=12)


def make_manifest(people: int, each: int = 2, **columns: object) -> pd.DataFrame:
    """Return a manifest in which every person has so many reals and so many fakes, a split as large as another."""
    rows = [
        {
            "path": f"{person}/{label}{number}.mp4",
            "split": ("train", "val", "test")[person % 3],
            "label": label,
            "identities": f"p{person}",
            "method": "swap" if label else "real",
            **dict.fromkeys(("video_fake", "audio_fake"), label),
            "in_sync": 1 - label,
            **columns,
        }
        for person in range(people)
        for label in (0, 1)
        for number in range(each)
    ]
    return complete_manifest(pd.DataFrame(rows))


def look(faults: int = 0, **columns: object) -> pd.DataFrame:
    """Return what was seen of ten files."""
    seen = pd.DataFrame({"label": [0, 1] * 5, "picture": True, "sound": True, "fault": ""})
    seen.loc[: faults - 1, "fault"] = "a.mp4: no such file"
    return seen.assign(**columns)


def test_enough_of_all_that_is_known_is_not_complained_of() -> None:
    assert proposal.list_shortfalls(make_manifest(120), look()) == []


@pytest.mark.parametrize(
    ("manifest", "looked", "said"),
    [
        (make_manifest(6, 2), look(), "no number will mean much"),
        (make_manifest(120, identities=""), look(), "480 of 480 videos name nobody"),
        (make_manifest(3, 1, identities=""), look(), "train has 1 real and 1 fake of people whom nobody names"),
        (make_manifest(120, audio_fake=-1), look(), "no score for voice alone (audio_fake)"),
        (make_manifest(120, method=""), look(), "no fake names its method"),
        (make_manifest(120).query("split != 'val'"), look(), "val has no reals and no fakes"),
        (make_manifest(120).query("split != 'test' or label == 0"), look(), "test has no fakes"),
        (make_manifest(120), look(sound=False), "10 of 10 files looked at have no sound."),
        (make_manifest(120), look(sound=[True, False] * 5), "0 reals, 5 fakes"),
        (
            make_manifest(120),
            look(sound=[False] + [True] * 9),
            "1 of 10 files looked at has no sound (1 real, 0 fakes:",
        ),
        (make_manifest(120), look(2), "2 of 10 files looked at cannot be opened: a.mp4: no such file"),
    ],
)
def test_what_is_too_little_or_unknown_is_said(manifest: pd.DataFrame, looked: pd.DataFrame, said: str) -> None:
    assert any(said in line for line in proposal.list_shortfalls(manifest, looked))


def test_the_interval_that_is_told_narrows_with_people_not_with_clips() -> None:
    def tell(people: int, each: int) -> bool:
        return any(
            "test" in line and "mean much" in line
            for line in proposal.list_shortfalls(make_manifest(people, each), look())
        )

    assert tell(12, 2)
    assert tell(12, 40)
    assert not tell(120, 2)


def test_people_are_counted_split_by_split_and_who_is_not_named_apart() -> None:
    manifest = make_manifest(6).assign(identities=lambda table: table["identities"].where(table["split"] != "val", ""))
    counts = proposal.count_splits(manifest)
    assert counts["people"].to_dict() == {"train": 2, "val": 0, "test": 2}
    assert counts["unnamed"].to_dict() == {"train": 0, "val": 8, "test": 0}
    assert (counts["reals"] + counts["fakes"] == counts["videos"]).all()


def test_a_folder_of_reals_and_fakes_becomes_a_params_file_that_loads(folder: Path, tmp_path: Path) -> None:
    manifest = proposal.open_folder(folder).table
    assert manifest["label"].tolist() == [int(path.startswith("fake/")) for path in manifest["path"]]
    choices = proposal.propose_settings(manifest, folder, proposal.look_at_files(manifest, folder))
    file = proposal.write_proposal(proposal.format_proposal(choices, "mine\nand why"), tmp_path / "mine.yaml")
    settings = load_settings(file)
    assert settings == proposal.build_settings(choices)
    assert list_changed(settings) == {name: value for name, value, _ in choices}  # nothing that is so by default
    assert all(why in file.read_text() for *_, why in choices)
    with pytest.raises(ProposalError, match="says something else"):
        proposal.write_proposal("seed: 1\n", file)


def test_files_of_both_labels_are_looked_at_alike(folder: Path) -> None:
    manifest = proposal.open_folder(folder).table
    (folder / manifest.loc[manifest["label"] == 1, "path"].iloc[0]).write_bytes(b"broken")
    seen = proposal.look_at_files(manifest, folder, most=4)
    assert seen["label"].value_counts().to_dict() == {0: 2, 1: 2}
    assert seen["fault"].ne("").tolist() == [False, False, True, False]
    assert seen.loc[seen["fault"] == "", ["picture", "sound"]].all(axis=None)
    assert len(proposal.look_at_files(manifest[manifest["label"] == 0], folder)) == 6


def test_what_the_data_lacks_is_not_asked_of_the_model() -> None:
    for columns, streams in (({"sound": False}, "video"), ({"picture": False}, "audio"), ({}, "both")):
        choices = proposal.propose_settings(make_manifest(30), "data/x", look(**columns))
        assert proposal.build_settings(choices).model.streams == streams


def test_more_videos_are_seen_less_often() -> None:
    steps = []
    for people in (6, 60, 600, 6000):
        train = proposal.build_settings(proposal.propose_settings(make_manifest(people), "x", look())).train
        steps.append((train.epochs, train.batch_size))
    epochs, batches = zip(*steps, strict=True)
    assert list(epochs) == sorted(epochs, reverse=True)
    assert list(batches) == sorted(batches)
    assert epochs[0] > epochs[-1]


def test_a_manifest_of_ones_own_is_taken_as_it_is(folder: Path) -> None:
    (folder / "manifest.csv").write_text(
        "path,split,label\n" + f"{next((folder / 'real').iterdir()).relative_to(folder)},test,0\n"
    )
    assert proposal.open_folder(folder).table["split"].tolist() == ["test"]


def test_times_grow_with_what_is_to_be_done_and_nothing_is_kept(folder: Path, tmp_path: Path, tiny: Settings) -> None:
    manifest = proposal.open_folder(folder).table
    (folder / manifest["path"].iloc[0]).write_bytes(b"broken")  # the first of those that are tried
    settings = change(tiny, data={"root": str(folder), "cache": str(tmp_path / "kept")})
    times = proposal.estimate_times(manifest, settings)["seconds"]
    assert (times > 0).all()
    assert not (tmp_path / "kept").exists()
    more = change(settings, train={"epochs": 50 * settings.train.epochs})
    assert proposal.estimate_times(manifest, more)["seconds"]["training"] > 5 * times["training"]


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> pd.Series:
    """What a window costs: 1 s read, 2 forward, 4 backward, 8 the step; a clip 3 s, and a worker 5 to begin."""
    seconds = pd.Series({"read from cache": 1.0, "forward": 2.0, "backward": 4.0, "step": 8.0})
    monkeypatch.setattr(times, "_time_extraction", lambda clips, settings: (5.0, 3.0, clips))
    monkeypatch.setattr(times, "time_stages", lambda _, settings, **__: 1000 * settings.train.batch_size * seconds)
    return seconds


@pytest.mark.parametrize(("workers", "beside"), [(0, 0), (2, 1)])
def test_times_are_what_each_video_costs_times_how_often_it_is_seen(
    stages: pd.Series, workers: int, beside: int
) -> None:
    settings = change(Settings(), data={"workers": workers}, extract={"workers": 4}, evaluate={"windows": 5})
    settings = change(settings, train={"epochs": 7, "windows": 2, "val_windows": 3})
    manifest = make_manifest(6)  # 8 videos in each split
    found = proposal.estimate_times(pd.concat([manifest, manifest.assign(split="none")]), settings)["seconds"]
    assert found["extraction"] == pytest.approx(5 + 3 * 24 / 4)
    assert found["training"] == pytest.approx(7 * (8 * 2 * (15 - beside) + 8 * 3 * (1 + 2)))
    assert found["evaluation"] == pytest.approx(16 * 5 * (1 + 2))


def test_times_are_told_a_line_a_stage() -> None:
    table = pd.DataFrame({"seconds": [61.0, 7200.0], "megabytes": [1500.0, 0.0]}, index=["extraction", "training"])
    assert proposal.format_times(table).splitlines() == [
        "extraction  about 61 s",
        "training    about 2 h",
        "disk        1.5 GB",
    ]


def test_an_estimate_is_told_in_few_digits() -> None:
    told = [format_duration(seconds) for seconds in (0.2, 42.4, 400, 9000, 200_000)]
    assert told == ["about 1 s", "about 42 s", "about 7 min", "about 2 h", "about 2 days"]


def test_the_command_writes_only_when_asked(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    took = pd.DataFrame({"seconds": [61.0], "megabytes": [1.0]}, index=["extraction"])
    monkeypatch.setattr("dfmm.proposal.estimate_times", lambda *_: took)
    before = sorted(tmp_path.rglob("*"))
    assert main(["propose", str(folder)]) == 0
    assert sorted(tmp_path.rglob("*")) == before
    assert "no number will mean much" in capsys.readouterr().out
    assert main(["propose", str(folder), "--out", str(tmp_path / "mine.yaml")]) == 0
    assert load_manifest(load_settings(tmp_path / "mine.yaml")).equals(proposal.open_folder(folder).table)
    assert main(["propose", str(tmp_path / "nowhere")]) == 1


def test_a_proposal_made_outside_of_the_repository_holds_wherever_it_is_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dfmm.proposal.format_times", lambda _: "some time")
    monkeypatch.setattr("dfmm.proposal.estimate_times", lambda *_: None)
    (tmp_path / "below").mkdir()
    for here, target in ((tmp_path, "params/mine.yaml"), (tmp_path / "below", "params/mine.yaml")):
        monkeypatch.chdir(here)  # from below the second time, where both are looked for above
        assert main(["propose", folder.name, "--out", target]) == 0
        assert f"holds dfmm's notebooks/: dfmm run all {tmp_path / target}\n" in capsys.readouterr().out
        assert load_settings(tmp_path / target).data.root == str(folder)
    assert not [*(tmp_path / "below").iterdir()]
    (tmp_path / "notebooks").mkdir()
    (tmp_path / target).unlink()
    assert main(["propose", folder.name, "--out", target]) == 0
    assert f"; next: dfmm run all {target}\n" in capsys.readouterr().out
    assert load_settings(tmp_path / target).data.root == folder.name


def test_what_is_odd_in_a_folder_is_told_and_a_wrong_target_before_the_work(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dfmm.proposal.format_times", lambda _: "some time")
    worked: list[object] = []
    monkeypatch.setattr("dfmm.proposal.estimate_times", lambda *of: worked.append(of))
    (folder / "real" / "notes.txt").write_text("no video")
    (folder / "elsewhere.mp4").write_bytes(b"neither real nor fake")
    assert main(["propose", str(folder)]) == 0
    said = capsys.readouterr().out
    assert all(line in said for line in proposal.open_folder(folder).describe())
    assert "12 of 12 videos divided" in said
    assert "elsewhere.mp4" in said
    (tmp_path / "mine.yaml").write_text("seed: 1\n")
    for target in ("mine.yaml", "own"):
        assert main(["propose", str(folder), "--out", str(tmp_path / target)]) == 1
        assert "name another file" in capsys.readouterr().err
    assert len(worked) == 1


def test_a_value_of_any_kind_is_written_so_that_it_is_read_back(tmp_path: Path) -> None:
    """Notes, too, are kept from being read as anything else."""
    awkward = ["a: b # c", "yes", "0123", "1e5", "{x}", "ä'\"ö", " end "]
    for value in awkward:
        choices = [Choice("data.root", value, "why: # [this]\nand that"), Choice("train.lr", np.pi / 1e6, "small")]
        file = proposal.write_proposal(
            proposal.format_proposal(choices, "# title"), tmp_path / f"{len(value)}{value[0]}.yaml"
        )
        settings = load_settings(file)
        assert (settings.data.root, settings.train.lr) == (value, np.pi / 1e6)
