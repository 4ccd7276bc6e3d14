"""What was put into a file is measured; what was measured is kept; a broken file costs only itself."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dfmm.audit import facts
from dfmm.audit.facts import extract_facts, measure_file
from dfmm.media.container import MediaError
from dfmm.media.encode import write_video
from dfmm.sections import Cure
from dfmm.settings import Settings, validate_settings

from ..conftest import Clip, change, draw_frames, sing

RATE = 16_000


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return validate_settings({"data": {"root": str(tmp_path), "cache": str(tmp_path / "cache")}})


def list_videos(folder: Path) -> pd.DataFrame:
    return pd.DataFrame({"path": sorted(path.name for path in folder.glob("*.mp4"))}).assign(
        video_id=lambda table: table["path"].str.removesuffix(".mp4")
    )


def test_what_was_put_into_a_file_is_measured(tmp_path: Path) -> None:
    silence = np.zeros(RATE // 2, np.float32)
    tone = 0.25 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32)
    sound = np.concatenate([silence, tone, silence[: RATE // 4]])
    path = write_video(tmp_path / "a.mp4", draw_frames(22, 64, 96), fps=12.5, sound=sound, sound_bit_rate=40_000)
    found = measure_file(path)
    assert (found.frames, found.width, found.height, found.fps) == (22, 96, 64, 12.5)
    assert found.duration == pytest.approx(1.76)
    assert found.file_size == path.stat().st_size
    assert found.video_codec.startswith("h264 ")
    assert found.audio_codec.startswith("aac")
    assert (found.has_audio, found.sample_rate, found.channels) == (True, RATE, 1)
    assert found.leading_silence == pytest.approx(0.5, abs=0.07)  # AAC rings before a tone begins
    assert found.trailing_silence == pytest.approx(0.25, abs=0.07)
    assert found.loudness == pytest.approx(20 * np.log10(0.25 * np.sqrt(1 / 2 / 1.75)), abs=0.5)
    assert found.sound_start == pytest.approx(0, abs=0.07)


def test_bit_rates_are_those_of_the_streams_in_the_file(tmp_path: Path) -> None:
    frames, sound = draw_frames(50, 96, 128), sing(2.0, RATE)
    fine, coarse = (measure_file(write_video(tmp_path / "a.mp4", frames, sound=sound, crf=crf)) for crf in (10, 40))
    assert fine.video_bit_rate > 4 * coarse.video_bit_rate
    assert fine.audio_bit_rate == coarse.audio_bit_rate
    payload = (fine.video_bit_rate + fine.audio_bit_rate) * fine.duration / 8
    assert 0.8 * fine.file_size < payload < fine.file_size


def test_a_file_without_sound_has_no_facts_of_a_sound(mute_clip: Clip) -> None:
    found = measure_file(mute_clip.path)
    assert not found.has_audio
    assert found.fps == pytest.approx(29.97, abs=0.02)
    missing = {name for name, value in asdict(found).items() if value is None}
    assert missing == {
        "audio_codec", "audio_bit_rate", "sample_rate", "channels", "sound_start", "sound_overhang",
        "leading_silence", "trailing_silence", "loudness", "peak", "sound",
    }  # fmt: skip


def test_what_a_detector_gets_to_see_can_be_measured_instead(clip: Clip) -> None:
    whole, quiet = measure_file(clip.path), measure_file(clip.path, Cure(loudness=-40))
    assert quiet.loudness == pytest.approx(-40, abs=1)
    assert quiet.loudness < whole.loudness - 20
    assert quiet.peak == pytest.approx(whole.peak * 10 ** ((quiet.loudness - whole.loudness) / 20), rel=1e-3)
    late = measure_file(clip.path, Cure(start_jitter=1.0))
    assert 1 < late.duration < whole.duration == 2
    assert late.frames < whole.frames
    assert (late.file_size, late.sha256) == (whole.file_size, whole.sha256)
    assert (late.sound_start, late.sound_overhang) == pytest.approx((0, 0), abs=1e-3)
    assert late.audio_bit_rate == whole.audio_bit_rate  # of the file: not all its bits in less time


def test_a_broken_file_costs_only_itself(tmp_path: Path, settings: Settings, clip: Clip) -> None:
    (tmp_path / "good.mp4").write_bytes(clip.path.read_bytes())
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    videos = pd.concat([list_videos(tmp_path), pd.DataFrame({"path": ["gone.mp4"], "video_id": ["gone"]})])
    found, failures = extract_facts(videos, settings, progress=False)
    assert list(found) == ["good"]
    assert found["good"] == measure_file(clip.path)
    assert set(failures) == {"bad", "gone"}
    assert "cannot be decoded" in failures["bad"]
    with pytest.raises(MediaError, match="no such file"):
        measure_file(tmp_path / "gone.mp4")


def test_what_was_measured_is_kept_until_the_file_changes(
    tmp_path: Path, settings: Settings, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.mp4").write_bytes(clip.path.read_bytes())
    videos, asked = list_videos(tmp_path), []
    run = facts.run_tasks
    monkeypatch.setattr(facts, "run_tasks", lambda *work: asked.append(len(work[1])) or run(*work))
    first, _ = extract_facts(videos, settings, progress=False)
    assert extract_facts(videos, settings, progress=False)[0] == first
    assert asked == [1, 0]
    quiet = change(settings, cure={"loudness": -40})
    assert extract_facts(videos, quiet, progress=False)[0]["a"].loudness == pytest.approx(-40, abs=1)
    assert asked == [1, 0, 1]
    os.utime(tmp_path / "a.mp4", ns=(0, 0))
    extract_facts(videos, settings, progress=False)
    for kept in (tmp_path / "cache").rglob("*.json"):
        kept.write_text("{")  # cut off
    assert extract_facts(videos, settings, progress=False)[0] == first
    assert asked == [1, 0, 1, 1, 1]
