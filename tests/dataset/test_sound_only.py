"""Files without a picture, from the manifest to a score."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import torch

from dfmm.audit import audit_data, format_audit
from dfmm.audit.facts import measure_file
from dfmm.dataset.dataset import MultimodalDataset
from dfmm.evaluation.evaluate import evaluate_run
from dfmm.evaluation.score import score_files, score_split
from dfmm.evaluation.summary import summarise_split
from dfmm.extraction.cures import cure_media
from dfmm.extraction.extract import extract_tracks, tabulate_tracks
from dfmm.faces.follow import find_track
from dfmm.figures.widgets import play_video
from dfmm.layouts import build_manifest
from dfmm.layouts.search import list_files
from dfmm.manifest import complete_manifest, write_manifest
from dfmm.media.container import MediaError
from dfmm.media.decode import read_media
from dfmm.media.encode import write_video
from dfmm.media.reencode import encode_file
from dfmm.model import MultimodalModel, load_model
from dfmm.runs import open_run
from dfmm.sections import Cure, Video
from dfmm.settings import Settings, load_settings, validate_settings
from dfmm.training.trainer import Trainer

from ..conftest import change, draw_frames, sing

RATE = 16_000
FOLDERS = {"train": ("train", "trn"), "dev": ("dev", "trl"), "eval": ("eval", "trl")}


def write_flac(path: Path, sound: np.ndarray, *, cover: bool = False) -> Path:
    """Write mono sound, float `[S]`, as FLAC; a cover is a video stream to FFmpeg."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        picture = container.add_stream("mjpeg", rate=1) if cover else None
        stream = container.add_stream("flac", rate=RATE, layout="mono")
        if picture:
            picture.width, picture.height, picture.pix_fmt = 64, 64, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
            image = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 99, np.uint8), format="rgb24")
            container.mux([*picture.encode(image), *picture.encode(None)])
        frame = av.AudioFrame.from_ndarray((sound[None] * 32_000).astype(np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return path


def speak(number: int, *, fake: bool, seconds: float = 1.5) -> np.ndarray:
    """A voice, and for a fake one with a whistle."""
    time = np.arange(round(seconds * RATE)) / RATE
    voice = 0.3 * np.sin(2 * np.pi * (120 + 3 * number) * time) * (1 + 0.5 * np.sin(2 * np.pi * 3 * time + number))
    return (voice + 0.1 * fake * np.sin(2 * np.pi * 3_000 * time)).astype(np.float32)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A small tree in the shape of ASVspoof 2019, its manifest, and the settings of its params file."""
    root = tmp_path_factory.mktemp("asvspoof") / "LA"
    for at, (word, (name, ending)) in enumerate(FOLDERS.items()):
        lines = []
        for number in range(8):
            file, fake = f"LA_{word[0].upper()}_{number:07d}", number % 2 == 1
            write_flac(root / f"ASVspoof2019_LA_{name}/flac/{file}.flac", speak(number + at, fake=fake))
            lines.append(f"LA_{at}{number // 2:03d} {file} - {'A01 spoof' if fake else '- bonafide'}")
        protocol = root / f"ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.{word}.{ending}.txt"
        protocol.parent.mkdir(exist_ok=True)
        protocol.write_text("\n".join(lines) + "\n")
    write_manifest(build_manifest("asvspoof", root).table, root / "manifest.csv")
    overrides = [f"data.root={root}", f"data.cache={root.parent / 'cache'}", "data.workers=0", "video.frames=10"]
    small = ["train.epochs=6", "train.batch_size=8", "model.dim=16", "audio.n_mels=32", "model.backbone=test_resnet"]
    return load_settings("params/asvspoof.yaml", [*overrides, *small, "evaluate.replicates=100"])


@pytest.fixture
def table(settings: Settings) -> pd.DataFrame:
    from dfmm.dataset import load_manifest

    return load_manifest(settings)


def test_the_clock_is_that_of_the_sound(settings: Settings, table: pd.DataFrame, decoded: list[str]) -> None:
    tracks, failures = extract_tracks(table, settings, progress=False)
    assert not failures
    track = next(iter(tracks.values()))
    assert (len(track.times), track.has_face, track.has_sound, track.detector) == (0, False, True, "nobody")
    assert track.duration == track.sound_end == pytest.approx(1.5)
    assert tabulate_tracks(table, tracks)["fps"].isna().all()
    dataset = MultimodalDataset(table, settings, windows=3, progress=False)
    samples = [dataset[index] for index in range(3)]
    assert [sample["start"] for sample in samples] == pytest.approx([0, 0.35, 0.7])
    for sample in samples:
        assert not sample["frame_mask"].any()
        assert not sample["frames"].any()
        assert sample["sound_mask"].all()
    whole = read_media(dataset.tracks.path(0), keep=lambda number: True, sample_rate=RATE).sound
    np.testing.assert_array_equal(dataset.read_sound(1), whole.cut(0.35, 0.8)[0])


@pytest.mark.parametrize("detector", ["none", "retinaface"])
def test_no_detector_finds_a_face_where_there_is_no_picture(tmp_path: Path, detector: str) -> None:
    track = find_track(write_flac(tmp_path / "a.flac", sing(1.0, RATE)), Video(detector=detector))
    assert (track.has_face, track.face_coverage, track.detector) == (False, 0, "nobody")


def test_a_cover_is_no_picture(tmp_path: Path) -> None:
    path = write_flac(tmp_path / "a.flac", sing(1.0, RATE), cover=True)
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1
    media = read_media(path, keep=lambda number: True, sample_rate=RATE)
    assert (len(media.times), media.frames, media.width) == (0, {}, 0)
    assert media.sound.end == pytest.approx(1.0)


def test_the_cache_gives_the_same_to_the_bit(settings: Settings, table: pd.DataFrame, decoded: list[str]) -> None:
    cure = {"trim_silence": "both", "start_jitter": 0.3, "loudness": -30.0, "reencode": True}
    for some in ({}, cure):
        one, other = (
            MultimodalDataset(table.head(2), change(settings, data={"read": read}, cure=some), progress=False)[1]
            for read in ("videos", "cache")
        )
        for name, value in one.items():
            assert torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name]


def test_files_without_a_picture_are_measured_and_cured(tmp_path: Path) -> None:
    path = write_flac(tmp_path / "a.flac", np.concatenate([np.zeros(RATE // 2, np.float32), sing(1.0, RATE)]))
    facts = measure_file(path)
    assert (facts.frames, facts.fps, facts.width, facts.video_codec, facts.scene) == (0, None, None, None, None)
    assert (facts.duration, facts.leading_silence) == pytest.approx((1.5, 0.5), abs=0.01)
    assert facts.audio_codec == "flac"
    cut = measure_file(path, Cure(trim_silence="start"))
    assert (cut.duration, cut.leading_silence) == pytest.approx((1.0, 0.0), abs=0.01)
    media = cure_media(read_media(path, keep=lambda n: True, sample_rate=RATE), Cure(trim_silence="start"))
    assert media.sound.start == 0
    encode_file(path, tmp_path / "b.mp4", Cure(reencode=True))
    assert measure_file(tmp_path / "b.mp4").audio_codec.startswith("aac")
    assert measure_file(tmp_path / "b.mp4").duration == pytest.approx(1.5, abs=0.07)


def test_the_audit_looks_at_what_there_is(settings: Settings, table: pd.DataFrame) -> None:
    for streams in ("audio", "both"):
        audit = audit_data(table, change(settings, model={"streams": streams}), progress=False)
        assert len(audit.features) == len(table)
        assert not audit.failures
        assert "`has_audio`" not in format_audit(audit)
    assert audit.features["duration"].between(1.4, 1.6).all()
    assert audit.features[["fps", "face_size", "video_bit_rate"]].isna().all(axis=None)


def test_a_detector_of_sound_is_trained_evaluated_and_scores(
    settings: Settings, table: pd.DataFrame, tmp_path: Path
) -> None:
    run = open_run(tmp_path / "run", settings)
    Trainer(settings, table, run, progress=False).fit()
    report, videos, _ = evaluate_run(run, "test", progress=False)
    assert report.coverage.streams == {"both": 0, "video": 0, "audio": 8}
    assert report.coverage.without_face == 0  # of a model that looks at none
    assert report.video["auc"]["value"] > 0.9  # a whistle is easily heard
    assert videos["video_fake_score"].isna().all()
    model, known, _ = load_model(run.checkpoint)
    files = list_files([settings.data.root + "/ASVspoof2019_LA_eval"])
    assert len(files) == 8
    for line, score in zip(score_files(files, model, known, progress=False), videos["fusion_score"], strict=True):
        assert (line["status"], line["streams"], line["video_fake"]) == ("ok", "audio", None)
        assert line["score"] == pytest.approx(score, abs=1e-5)
        assert line["seconds"] == pytest.approx(1.5)


def test_in_a_run_that_wants_pictures_it_is_scored_from_its_sound(tmp_path: Path, decoded: list[str]) -> None:
    for number in range(4):
        write_flac(tmp_path / f"{number}.flac", speak(number, fake=number % 2 == 1))
    write_video(tmp_path / "4.mp4", draw_frames(50, 96, 128), sound=sing(2.0, RATE))
    rows = pd.DataFrame(
        {"path": [*(f"{n}.flac" for n in range(4)), "4.mp4"], "split": "test", "label": [0, 1, 0, 1, 0]}
    )
    settings = validate_settings(
        {
            "data": {"root": str(tmp_path), "cache": str(tmp_path / "cache"), "workers": 0},
            "video": {"frames": 4, "size": 48, "detector": "none"},
            "model": {"backbone": "test_resnet", "dim": 16},
        }
    )
    model = MultimodalModel(settings).eval()
    videos, windows = score_split(model, complete_manifest(rows), "test", settings, progress=False)
    videos = videos.assign(trivia_score=np.nan, mouth_loudness=np.nan)
    report = summarise_split(videos, windows, split="test", threshold=0.5, replicates=100)
    assert report["coverage"]["streams"] == {"both": 1, "video": 0, "audio": 4}
    assert list(videos["reason"]) == ["no face: scored from the sound alone"] * 4 + [""]


def test_it_is_played(tmp_path: Path) -> None:
    player = play_video(write_flac(tmp_path / "a.flac", sing(1.0, RATE)))
    assert (player.tag, player.mimetype) == ("audio", "audio/wav")
    with pytest.raises(MediaError, match=r"is over after 1.00 s; nothing is to be played from 5 s on"):
        play_video(tmp_path / "a.flac", start=5)
