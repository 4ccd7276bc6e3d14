"""The command line: which files are scored, and what is said of the others."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path

import av
import numpy as np
import pytest
from av.format import ContainerFormat

from dfmm.cli import main
from dfmm.cli.command import keep_garbage, read_seed
from dfmm.cli.verdicts import _print_evaluation
from dfmm.evaluation.contents import Localization, Stretches
from dfmm.layouts.search import list_files, search_folder
from dfmm.manifest import AUDIO_ENDINGS, VIDEO_ENDINGS, ManifestError
from dfmm.media.container import FORMATS, open_media
from dfmm.runs import Run, find_run
from dfmm.settings import validate_settings

from .evaluation.test_report import make_results

PICTURES = {
    ".ts": ("mpegts", "mpeg2video"), ".mts": ("mpegts", "h264"), ".3gp": ("3gp", "mpeg4"),
    ".vob": ("vob", "mpeg2video"), ".gif": ("gif", "gif"), ".apng": ("apng", "apng"), ".h264": ("h264", "h264"),
    ".mxf": ("mxf", "mpeg2video"), ".y4m": ("yuv4mpegpipe", "wrapped_avframe"), ".rm": ("rm", "rv10"),
}  # fmt: skip
SOUNDS = {
    ".mp3": ("mp3", "mp3"), ".m4a": ("ipod", "aac"), ".opus": ("ogg", "libopus"),
    ".aiff": ("aiff", "pcm_s16be"), ".ac3": ("ac3", "ac3"), ".au": ("au", "pcm_s16be"),
    ".mka": ("matroska", "pcm_s16le"),
}  # fmt: skip
STILLS = {"avif", "heic", "heif", "mpo"}  # of FFmpeg's endings: one picture
SUBTITLES = {"mks"}
OTHERS = {"h26l", "ism", "psp", "afc"}  # that nobody meets, or that mean something else as well


def write_picture(path: Path, kind: str, codec: str) -> None:
    with av.open(str(path), "w", format=kind) as container:
        stream = container.add_stream(codec, rate=25)
        formats = stream.codec_context.codec.video_formats or [av.VideoFormat("yuv420p")]
        stream.width, stream.height, stream.pix_fmt = 176, 144, formats[0].name
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((144, 176, 3), 40 * number, np.uint8), "rgb24")
            container.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
        container.mux(stream.encode())


def write_sound(path: Path, kind: str, codec: str) -> None:
    with av.open(str(path), "w", format=kind) as container:
        stream = container.add_stream(codec, rate=48_000, layout="mono")
        resampler = av.AudioResampler(stream.codec_context.codec.audio_formats[0], "mono", 48_000, 1024)
        frame = av.AudioFrame.from_ndarray(np.sin(np.arange(24_000) / 20)[None].astype(np.float32), "fltp", "mono")
        frame.sample_rate = 48_000
        for part in resampler.resample(frame):
            container.mux(stream.encode(part))
        container.mux(stream.encode())


def test_what_is_read_is_found_by_its_ending(tmp_path: Path) -> None:
    for kinds, write in ((PICTURES, write_picture), (SOUNDS, write_sound)):
        for ending, (kind, codec) in kinds.items():
            write(tmp_path / f"clip{ending.upper() if ending == '.ts' else ending}", kind, codec)
    found, left_out = search_folder(str(tmp_path))
    assert sorted(found) == sorted(str(file) for file in tmp_path.iterdir())
    assert left_out == ""
    for file in found:
        with open_media(file) as container:
            assert next(container.decode(container.streams[0]))


def test_no_ending_of_a_format_that_is_read_is_forgotten() -> None:
    known = {ending[1:] for ending in (*VIDEO_ENDINGS, *AUDIO_ENDINGS)}
    for name in FORMATS:
        for mode in "rw":
            try:
                endings = ContainerFormat(name, mode).extensions
            except ValueError:  # not both read and written
                continue
            assert endings - known <= STILLS | SUBTITLES | OTHERS, name


def test_what_is_left_out_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "deep" / ".trash").mkdir(parents=True)
    for name in ("a.mp4", "._a.mp4", ".b.mov", "deep/c.TS", "deep/.trash/d.mp4", "deep/notes.txt", "e.mp4.part"):
        (tmp_path / name).touch()
    files = list_files([str(tmp_path), str(tmp_path / "._a.mp4")])  # who names a file wants it
    assert [os.path.relpath(file, tmp_path) for file in files] == ["a.mp4", "deep/c.TS", "._a.mp4"]
    said = capsys.readouterr().err
    assert "3 × hidden file" in said
    assert "2 × other file" in said


def test_a_still_png_is_no_video_and_one_with_several_frames_is(tmp_path: Path) -> None:
    for name, frames in (("still.png", 1), ("moves.PNG", 3)):
        with av.open(str(tmp_path / name), "w", format="apng") as container:
            stream = container.add_stream("apng", rate=5)
            stream.width, stream.height, stream.pix_fmt = 32, 32, "rgb24"
            for level in range(frames):
                picture = np.full((32, 32, 3), 80 * level, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
    found, left_out = search_folder(str(tmp_path))
    assert found == [str(tmp_path / "moves.PNG")]
    assert left_out == "1 × other file"
    with open_media(found[0]) as container:
        assert len(list(container.decode(video=0))) == 3


def test_links_are_scored_where_they_lie(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.mp4").touch()
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "one.mp4").symlink_to(tmp_path / "there" / "a.mp4")
    (tmp_path / "here" / "all").symlink_to(tmp_path / "there")
    found, left_out = search_folder(str(tmp_path / "here"))
    assert found == [str(tmp_path / "here" / "one.mp4")]
    assert left_out == "1 × outside the root"


def test_an_empty_folder_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.mp4").touch()
    (tmp_path / "empty" / "._x.mp4").touch()
    with pytest.raises(ManifestError, match=r"no videos in .*empty; left out: 1 × hidden file"):
        list_files([str(tmp_path / "empty")])
    files = list_files([str(tmp_path / "empty"), str(tmp_path / "full")])
    assert files == [str(tmp_path / "empty"), str(tmp_path / "full" / "a.mp4")]
    assert "no videos in" in capsys.readouterr().err


def test_a_second_manifest_does_not_find_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("real/a.mp4", "fake/b.mp4"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    for _ in range(2):
        assert main(["manifest", "realfake", str(tmp_path)]) == 0
        assert "nothing that does not fit" in capsys.readouterr().out


def test_what_is_written_is_called_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.mp4").touch()
    (tmp_path / "params.yaml").write_text(f"data: {{root: {tmp_path}}}", encoding="utf-8")
    before, made = {*tmp_path.rglob("*")}, ["manifest", "realfake", str(tmp_path), "--out"]
    for words, name, right in (
        (made, "a.xlsx", ".csv or .parquet or .pq or .json or .jsonl"),
        (made, "a", ".csv or .parquet or .pq or .json or .jsonl"),
        (["extract", str(tmp_path / "params.yaml"), "--failures"], "a.json", ".csv"),
        (["score", str(tmp_path / "real" / "a.mp4"), "--report"], "a.pdf", ".html or .htm"),
    ):
        assert main([*words, str(tmp_path / name)]) == 1
        assert f"{name}: expected a name that ends in {right}," in capsys.readouterr().err
        assert main([*words, str(tmp_path)]) == 1
        assert f"{tmp_path} is a folder; name a file, such as" in capsys.readouterr().err
    assert {*tmp_path.rglob("*")} == before


def test_arguments_that_are_missing_or_contradict_each_other_are_a_wrong_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in ([], ["foo"], ["folders", str(tmp_path), "--verify", "--out", "a.csv"]):
        assert main(["manifest", *words]) == 2
        assert "dfmm: " in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path), "--root", str(tmp_path)]) == 2
    assert "--root is where the paths of --manifest start" in capsys.readouterr().err


def test_a_model_is_named_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = tmp_path / "clip.mp4"
    clip.touch()
    assert main(["score", str(clip), "--run", str(tmp_path), "--model", str(tmp_path / "a.safetensors")]) == 2
    assert "--run and --model each name a model: leave one of them out" in capsys.readouterr().err


def test_a_folder_of_runs_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(tmp_path / "typo")]) == 1
    assert f"{tmp_path / 'typo'}: no such folder; expected one that runs lie in" in capsys.readouterr().err
    assert main(["runs", str(tmp_path)]) == 0
    assert f"no run in {tmp_path}" in capsys.readouterr().out


def test_each_missing_file_gets_its_line_of_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    (tmp_path / "there.mp4").touch()
    for names in (["gone.mp4", "there.mp4"], ["gone.mp4"]):
        assert main(["score", *(str(tmp_path / name) for name in names), "--json"]) == 1
        said.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])
    assert said[1] == said[0][:1]
    assert (said[1][0]["status"], said[1][0]["path"]) == ("failed", str(tmp_path / "gone.mp4"))


def test_a_command_that_is_none_is_told_apart_from_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scor", "clip.mp4"]) == 2
    assert "no command 'scor'; did you mean score?" in capsys.readouterr().err
    assert main(["qqq"]) == 2
    assert "There are sample, manifest," in capsys.readouterr().err


@pytest.mark.parametrize("seed", ["-1", "4294967296", "99999999999999999999", "1.5", "one"])
def test_a_seed_is_one_for_every_command(seed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["sample", str(tmp_path), "--seed"], ["manifest", "realfake", str(tmp_path), "--split-seed"]):
        with pytest.raises(SystemExit, match="2"):
            main([*words, seed])
        assert f"{words[-1]}: expected a whole number from 0 to 4294967295, got '{seed}'" in capsys.readouterr().err
    (tmp_path / "mine.yaml").touch()
    assert main(["train", str(tmp_path / "mine.yaml"), f"seed={seed}"]) == 1
    assert "seed: " in capsys.readouterr().err
    assert read_seed("4294967295") == validate_settings({"seed": 4294967295}).seed  # the last that there is


def test_a_params_file_that_is_nearly_there_is_meant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("mine", "faceforensics"):
        (tmp_path / f"{name}.yaml").touch()
    assert main(["train", str(tmp_path / "mien.yaml")]) == 1
    assert f"no such params file; did you mean {tmp_path / 'mine.yaml'}?\n" in capsys.readouterr().err
    assert main(["train", str(tmp_path / "zzzzzz.yaml")]) == 1
    assert "(in that folder: faceforensics.yaml, mine.yaml)" in capsys.readouterr().err


@pytest.mark.parametrize(("command", "goes_on"), [("run", True), ("score", False)])
def test_what_is_cut_off_says_whether_it_goes_on(
    command: str, goes_on: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt("SIGTERM")

    monkeypatch.setattr("dfmm.headless.run_notebooks", stop)
    monkeypatch.setattr("dfmm.layouts.search.list_files", stop)
    assert main([command, "all", "x.yaml"]) == 143
    said = capsys.readouterr().err
    assert "interrupted SIGTERM" in said
    assert ("the same command, without --restart, goes on from here" in said) == goes_on


def test_runs_that_are_there_are_named_where_one_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "run.json").write_text('{"stages": {}}')
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"")
    for words in (["evaluate"], ["robustness"], ["score", str(clip), "--run"]):
        assert main([*words, str(tmp_path / "two")]) == 1
        assert f"two is no run: there are {tmp_path / 'one'}" in capsys.readouterr().err
    copied = Run(tmp_path / "copied")  # without its record
    copied.checkpoint.parent.mkdir(parents=True)
    copied.checkpoint.write_bytes(b"")
    assert find_run(copied.path).path == copied.path
    assert main(["evaluate", str(tmp_path / "far" / "two")]) == 1
    assert "none is beside it" in capsys.readouterr().err


def test_a_training_is_asked_to_stop_where_one_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(tmp_path / "run")
    run.describe(seed=0)
    assert main(["stop", str(run.path)]) == 1
    assert "no training is running (it is none); nothing to stop" in capsys.readouterr().err
    with run.stage("train"):
        assert main(["stop", str(run.path)]) == 0
        assert run.asked_to_stop
    assert "ends after its step, with a checkpoint" in capsys.readouterr().out


def test_a_file_that_is_not_there_is_told_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dfmm.evaluation.open_judge", lambda *_, **__: pytest.fail("loaded"))
    assert main(["score", "gone.mp4", "--run", "outputs/quick"]) == 1
    assert "no such file: gone.mp4" in capsys.readouterr().err


def test_what_is_forged_may_be_known_of_one_stream_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, scores, windows = make_results()
    value = {"value": 0.5, "low": 0.2, "high": 0.8}
    found = {"videos": 1, "segments": 1, "found": 1, "whole": 0, "ap": {"0.5": value}, "ar": {"10": value}}
    stretches = Stretches(**found, official={"ap": {}, "ar": {}})
    monkeypatch.setattr("dfmm.evaluation.publish_evaluation", lambda *_: "page")
    for name, said in (("joint", True), ("video_fake", False)):
        located = Localization(stride=0.2, streams={name: stretches}, partly={})
        shown = report.model_copy(update={"localization": located})
        _print_evaluation(Run(tmp_path), shown, scores, windows)
        assert ("ap of stretches" in capsys.readouterr().out) == said


def test_a_reference_that_is_missing_is_told_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dfmm.extraction.pool.keep_workers", lambda **_: pytest.fail("a worker was started"))
    clip = tmp_path / "clip.mp4"
    clip.touch()
    assert main(["score", str(clip), "--reference", str(tmp_path / "genuine")]) == 1
    assert f"no such file: {tmp_path / 'genuine'}" in capsys.readouterr().err


@pytest.mark.parametrize(("more", "ready"), [([], 2), (["--run", "outputs/nothing"], 1), (["--model", "m"], 1)])
def test_no_worker_is_started_that_a_run_may_not_want(
    more: list[str], ready: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, clips = [], [tmp_path / "one.mp4", tmp_path / "two.mp4"]

    def stop(ready: int) -> None:
        asked.append(ready)
        raise KeyboardInterrupt

    monkeypatch.setattr("dfmm.extraction.pool.keep_workers", stop)
    monkeypatch.setattr("dfmm.extraction.pool.count_cores", lambda: 8)
    for clip in clips:
        clip.touch()
    assert main(["score", *map(str, clips), *more]) == 130
    assert asked == [ready]


def test_garbage_is_collected_again_once_all_is_imported() -> None:
    with keep_garbage():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(KeyError), keep_garbage():
        {}["a command that fails"]
    assert gc.isenabled()
