"""A run learns synchrony from its reals, its evaluation says it of every video, and loose files need no run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from dfmm.cli import main
from dfmm.evaluation.evaluate import open_synchrony
from dfmm.evaluation.summary import summarise_split
from dfmm.evaluation.synchrony import (
    COLUMNS,
    UNJUDGED,
    format_synchrony,
    judge_files,
    judge_tracks,
    judge_videos,
    tell_genuine,
)
from dfmm.extraction.pool import count_cores
from dfmm.media.encode import write_video
from dfmm.model.synchrony import Synchrony, load_synchrony
from dfmm.runs import Run
from dfmm.settings import Settings, validate_settings
from dfmm.training.synchrony import choose_genuine, find_synchrony, fit_run_synchrony

from ..conftest import Clip, change

CLIPS = Path(__file__).parents[3] / "shared" / "clips"
PLAIN = {"use": True, "mesh": "never", "phonemes": "never"}


@pytest.fixture(scope="module")
def learnt(tiny: Settings, manifest: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Settings]:
    """A run that has learnt synchrony from all of the sample's reals, and nothing else."""
    settings, run = change(tiny, synchrony=PLAIN), Run(tmp_path_factory.mktemp("run"))
    reals = manifest.assign(split=np.where(manifest["label"] == 0, "train", manifest["split"]))
    fit_run_synchrony(reals, settings, run, progress=False)
    return run, settings


def test_only_genuine_training_videos_are_learnt_from(manifest: pd.DataFrame) -> None:
    chosen = choose_genuine(manifest)
    assert set(chosen["split"]) == {"train"}
    assert set(chosen["label"]) == {0}
    assert (chosen["in_sync"] != 0).all()
    many = pd.concat([chosen] * 300, ignore_index=True)
    assert len(choose_genuine(many)) == min(400, len(many))


def test_a_run_keeps_what_it_learnt_and_reports_it(
    learnt: tuple[Run, Settings], manifest: pd.DataFrame, said: list[str]
) -> None:
    run, settings = learnt
    file = find_synchrony(run.checkpoint)
    assert file == run.path / "checkpoints" / "synchrony.safetensors"
    videos = manifest[manifest["split"] == "test"].reset_index(drop=True)
    judged = judge_videos(videos, settings, load_synchrony(file), progress=False)
    assert list(judged) == list(COLUMNS)
    assert judged["sync_surprise"].notna().mean() > 0.5
    assert judged.loc[judged["in_step"].notna(), "in_step"].between(0, 1).all()
    assert judged["lag_ms"].abs().max() <= 620
    swapped = videos["in_sync"] == 0
    assert judged.loc[~swapped, "sync_surprise"].mean() > judged.loc[swapped, "sync_surprise"].mean()


@pytest.mark.parametrize("streams", ["both", "video", "audio"])
def test_a_detector_of_one_stream_is_told_nothing_of_the_other(
    streams: str, learnt: tuple[Run, Settings], manifest: pd.DataFrame, tmp_path: Path
) -> None:
    run, settings = learnt
    settings = change(settings, model={"streams": streams})
    assert (open_synchrony(run.checkpoint, settings) is None) == (streams != "both")
    reals = manifest.assign(split=np.where(manifest["label"] == 0, "train", manifest["split"]))
    fit_run_synchrony(reals, settings, Run(tmp_path), progress=False)
    assert (tmp_path / "checkpoints" / "synchrony.safetensors").is_file() == (streams == "both")


def test_too_few_reals_leave_the_packages_weights(
    tiny: Settings, manifest: pd.DataFrame, tmp_path: Path, said: list[str]
) -> None:
    run, few = Run(tmp_path), manifest[manifest["split"] == "train"].head(3)
    assert fit_run_synchrony(few, change(tiny, synchrony=PLAIN), run, progress=False) is None
    assert "weights in the package" in said[-1]
    assert load_synchrony(find_synchrony(run.checkpoint)).facts["fitted_on"] == "GRID"
    assert fit_run_synchrony(manifest, change(tiny, synchrony={"use": False}), run, progress=False) is None


def test_the_report_shows_it_beside_the_plain_correlation() -> None:
    rng, count = np.random.default_rng(0), 40
    names = [f"v{number}" for number in range(count)]
    scores = {name: rng.random(count) for name in ("score", "video_fake_score", "audio_fake_score", "in_sync_score")}
    label = np.arange(count) % 2
    facts = {"video_id": names, "label": label, "identities": names, "original": "", "status": "ok"}
    videos = pd.DataFrame({**facts, **scores})
    videos = videos.assign(method=np.where(label, "swap", "real"), source="", dataset="", streams="both", reason="")
    videos = videos.assign(face_coverage=1.0, faces=1, shots=1, gaps=0, trivia_score=np.nan, predicted=label)
    videos = videos.assign(mouth_loudness=rng.random(count), sync_log_ratio=3.0 - 4 * label + rng.random(count))
    windows = videos[["video_id", "label", "score"]].assign(window=0)
    report = summarise_split(videos, windows, split="test", threshold=0.5, replicates=100)
    assert report["rivals"]["ridge"]["value"] == 1.0
    assert report["methods"]["swap"]["ridge"]["value"] == 1.0
    assert 0.2 < report["methods"]["swap"]["synchrony"]["value"] < 0.8
    for name, ridge in (("sync_surprise", True), ("unknown", False)):  # former evaluations had one column, or none
        older = videos.rename(columns={"sync_log_ratio": name})
        report = summarise_split(older, windows, split="test", threshold=0.5, replicates=100)
        assert ("ridge" in report["rivals"]) == ridge


def test_of_several_faces_the_one_that_fits_best_speaks_not_the_briefest() -> None:
    said = [Synchrony(surprise=0.2, log_ratio=-0.5), Synchrony(surprise=1.5, log_ratio=-40.0), Synchrony("no face")]

    class Faces(dict):
        def load(self, number: int) -> SimpleNamespace:
            return SimpleNamespace(followable=len(said))

        def read_talk(self, number: int, *, face: int) -> tuple[int]:
            return (face,)

    assert judge_tracks(Faces(clip=None), SimpleNamespace(judge=lambda face: said[face])) == {"clip": said[1]}


def test_loose_files_are_judged_without_a_run(
    clip: Clip, mute_clip: Clip, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    assert main(["score", str(clip.path), str(mute_clip.path), str(broken), "--json"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["status"] for line in lines] == ["unscored", "unscored", "failed"]
    assert [line["reason"] for line in lines[:2]] == ["no face", "no face"]
    assert main(["score", str(clip.path)]) == 0
    said = capsys.readouterr().out
    assert "no face" in said
    assert UNJUDGED not in said  # where nothing is judged at all
    assert main(["score", str(broken), str(mute_clip.path)]) == 1
    said = capsys.readouterr().out
    assert said.count(str(broken)) == 1
    assert said.endswith("\n2 files: 2 × not judged\n")
    assert "copy it again" in said


def test_a_verdict_is_said_in_words() -> None:
    found = {"lag_ms": -83.2, "confidence": 0.4, "correlation": 0.5, "surprise": 4.0, "foreign": 0.0, "in_step": 0.97}
    found |= {"clips": 141, "people": 1, "genuine": 0.31}
    found |= {"worst": [2.0, 4.0, 0.2], "seconds": 6.0, "features": ["darkness", "log_mel"]}
    said = format_synchrony({"path": "clip.mp4", "status": "ok", "reason": "", "synchrony": found})
    for part in (
        "clip.mp4: mouth and sound seem to belong together; the sound fits best",
        "83 ms early",
        "in step: 0.97",
        "31% of 141 genuine clips of one person look as bad or worse",
        "worst from 2.0 to 4.0 s (correlation 0.20 there, 0.50 over all)",
    ):
        assert part in said
    doubted = {"path": "clip.mp4", "status": "ok", "reason": "", "synchrony": found | {"in_step": 0.342}}
    assert "in step: 0.34 (never below 0.33, for 1 person taught it); 31%" in format_synchrony(doubted)
    assert tell_genuine(found | {"people": 3}) == "31% of 141 genuine clips of 3 people look as bad or worse"
    assert tell_genuine({"genuine": 0.31}) == "31% of genuine clips look as bad or worse"


def test_many_files_are_read_side_by_side_and_told_in_their_order(tmp_path: Path, decoded: list[str]) -> None:
    frames, settings = np.zeros((6, 64, 64, 3), np.uint8), validate_settings({"extract": {"workers": 2}})
    files = [write_video(tmp_path / f"{number}.mp4", frames) for number in range(9)]
    files.insert(4, tmp_path / "missing.mp4")
    lines = judge_files(files, settings=settings, details=True)
    first = next(lines)
    assert decoded[:2] == ["0.mp4", "1.mp4"]
    assert len(decoded) <= 5  # at most the next four are under way, one of which is missing
    rest = list(lines)
    assert [line["path"] for line in (first, *rest)] == list(map(str, files))
    assert [line["status"] for line in rest] == ["unscored"] * 3 + ["failed"] + ["unscored"] * 5
    assert {frozenset(line) for line in rest} == {frozenset(first)}
    assert decoded == [f"{number}.mp4" for number in range(9)]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_who_ends_the_command_finds_nothing_left(number: int, code: int, face_clip: Clip, tmp_path: Path) -> None:
    folder, scratch = tmp_path / "videos", tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    shutil.copy(face_clip.path, folder / "00000.mp4")
    for at in range(1, 200 * count_cores()):  # many seconds of work, whatever the machine
        os.link(folder / "00000.mp4", folder / f"{at:05}.mp4")
    words = [sys.executable, "-m", "dfmm", "score", str(folder)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    listen = partial(signal.signal, number, signal.SIG_DFL)  # who tests behind a shell's & ignores Ctrl-C, children too
    command = subprocess.Popen(words, env=os.environ | {"TMPDIR": str(scratch)}, preexec_fn=listen, **options)
    assert command.stdout.readline().startswith(str(folder))
    assert list(scratch.iterdir())
    command.send_signal(number)
    said = command.communicate(timeout=60)[1]
    assert command.returncode == code, said
    assert "Traceback" not in said
    assert not list(scratch.iterdir())


@pytest.mark.skipif(not CLIPS.is_dir(), reason="no real clips here")
def test_real_clips_are_in_step_and_a_shifted_one_is_late() -> None:
    names = ("SadTalker__WDA_AlexandriaOcasioCortez_000.mp4", "LipNet__bbaf2n.mpg")
    for line in judge_files([CLIPS / name for name in names]):
        assert line["status"] == "ok"
        assert line["synchrony"]["in_step"] > 0.9
        assert -100 < line["synchrony"]["lag_ms"] < 200
        assert line["synchrony"]["foreign"] < 0.05
