"""A cure does to every video, however it is read, what it says; what was planted is gone from what a model is given."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from dfmm.audit.facts import extract_facts, measure_file
from dfmm.audit.shortcuts import tabulate_features
from dfmm.dataset.dataset import MultimodalDataset
from dfmm.dataset.windows import label_window, place_window
from dfmm.evaluation.score import score_files, score_split
from dfmm.extraction.cures import QUIET, Span, choose_gain, choose_span, cure_media, describe_cures
from dfmm.extraction.extract import extract_tracks
from dfmm.faces.follow import describe_media, find_track, measure_sound
from dfmm.faces.track import Track
from dfmm.manifest import complete_manifest
from dfmm.media import reencode
from dfmm.media.container import MediaError
from dfmm.media.decode import read_media
from dfmm.media.encode import write_video
from dfmm.media.reencode import encode_file, prepare_file
from dfmm.model import MultimodalModel
from dfmm.sections import Cure, Video
from dfmm.settings import Settings, validate_settings

from ..conftest import Clip, change, draw_frames, sing

RATE = 16_000
ALL = {
    "trim_silence": "both",
    "start_jitter": 0.3,
    "loudness": -30.0,
    "face_pixels": 24,
    "reencode": True,
    "reencode_fps": 20,
    "reencode_side": 128,
    "reencode_sample_rate": 12_000,
}


def make_track(duration: float = 4.0, **values: Any) -> Track:
    empty = np.zeros((0, 4), np.float32)
    times = np.arange(round(duration * 25)) / 25
    sound = {"sound_start": 0.0, "sound_end": duration, "sound_peak": 0.5, "loudness": -20.0, "leading_silence": 0.0}
    known = {
        "look_times": np.zeros(9),
        "cut_times": np.zeros(0),
        "faces": 0,
        "detector": "nobody",
        "box_times": np.zeros(0),
        "boxes": empty,
    }
    return Track(times, 64, 48, **known, landmarks=np.zeros((0, 5, 2)), **(sound | {"level": -20.0} | values))


def write_clip(path: Path, *, before: float = 0.0, after: float = 0.0, gain: float = 1.0, **options: Any) -> Path:
    """Write three seconds of picture and, between two silences, of a tone."""
    sound = gain * sing(3.0, RATE) * 0.5
    sound[: round(before * RATE)] = 0
    sound[len(sound) - round(after * RATE) :] = 0
    return write_video(path, draw_frames(75, 96, 128), sound=sound, **options)


def list_clips(folder: Path, **columns: Any) -> pd.DataFrame:
    names = sorted(path.name for path in folder.glob("*.mp4"))
    return complete_manifest(pd.DataFrame({"path": names, "split": "test", "label": 0, **columns}))


def make_settings(folder: Path, **cure: Any) -> Settings:
    return validate_settings(
        {
            "data": {"root": str(folder), "cache": str(folder / "cache"), "workers": 0},
            "video": {"frames": 4, "fps": 12.5, "size": 48, "detector": "none"},
            "cure": cure,
        }
    )


# Cut


def test_windows_start_where_something_is_heard_and_end_there(tmp_path: Path, decoded: list[str]) -> None:
    write_clip(tmp_path / "a.mp4", before=0.8, after=0.5)
    starts = {}
    for trim in ("none", "start", "both"):
        settings = make_settings(tmp_path, trim_silence=trim)
        dataset = MultimodalDataset(list_clips(tmp_path), settings, windows=2, progress=False)
        samples = [dataset[0], dataset[1]]
        starts[trim] = [sample["start"] for sample in samples]
        silent = not np.abs(dataset.read_sound(0)[: RATE // 10]).max() > 1e-3
        assert silent == (trim == "none")
    assert starts["none"] == pytest.approx([0, 3 - 0.32])
    assert starts["start"] == pytest.approx([0.8, 3 - 0.32], abs=0.07)  # AAC rings before a tone begins
    assert starts["both"] == pytest.approx([0.8, 2.5 - 0.32], abs=0.07)


def test_what_was_cut_off_is_neither_seen_nor_heard() -> None:
    track = make_track(0.6, leading_silence=0.2, trailing_silence=0.2)
    settings = validate_settings({"video": {"frames": 8, "fps": 25.0}, "cure": {"trim_silence": "both"}})
    window = place_window(track, settings)
    assert window.span == pytest.approx((0.2, 0.4))
    assert window.moments[0] == pytest.approx(0.2)
    assert window.inside.tolist() == [True] * 5 + [False] * 3
    spread = place_window(track, change(settings, video={"fps": "spread"}))
    assert spread.moments == pytest.approx(0.2 + (np.arange(8) + 0.5) / 40)
    assert spread.sound_start + spread.sound_seconds / 2 == pytest.approx(0.3)
    drawn = [place_window(make_track(leading_silence=1.0), settings, sampling="random", rng=rng) for rng in _draws(40)]
    assert 1.0 <= min(window.moments[0] for window in drawn) < 1.5


def _draws(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in range(count)]


def test_the_sound_past_the_cut_is_silent(tmp_path: Path, decoded: list[str]) -> None:
    """The window is longer than what is left: a hum below the threshold follows, and must not be heard."""
    sound = np.zeros(RATE, np.float32)
    sound[3200:6400] = sing(0.2, RATE)
    sound[6400:] = 4e-4
    write_video(tmp_path / "a.mp4", draw_frames(25, 96, 128), sound=sound, sound_bit_rate=128_000)
    heard = {}
    for trim in ("none", "both"):
        settings = change(make_settings(tmp_path, trim_silence=trim), video={"frames": 12})
        dataset = MultimodalDataset(list_clips(tmp_path), settings, progress=False)
        heard[trim] = dataset.read_sound(0), dataset[0]["sound_mask"].tolist()
    samples, mask = heard["both"]
    assert mask[:2] == [True, True]
    assert not any(mask[4:])
    assert not samples[round(0.35 * RATE) :].any()
    assert heard["none"][0][round(0.6 * RATE) :].any()


def test_silence_throughout_or_no_sound_is_left_as_it_is() -> None:
    cure = Cure(trim_silence="both")
    assert choose_span(make_track(leading_silence=4.0, trailing_silence=4.0), cure) == (0, 4)
    assert choose_span(make_track(sound_start=np.nan, sound_end=np.nan), cure) == (0, 4)
    early = make_track(sound_start=-1.0, sound_end=6.0, leading_silence=0.5, trailing_silence=0.5)
    assert choose_span(early, cure) == (0, 4)  # heard before the first frame, and after the last
    assert choose_span(make_track(), Cure()) is None


def test_jitter_is_drawn_once_for_each_file_by_its_content(tmp_path: Path, decoded: list[str]) -> None:
    cure = Cure(start_jitter=1.0)
    tracks = [make_track(3.0 + n / 25, loudness=-20.0 - n) for n in range(40)]
    starts = np.array([choose_span(track, cure).start for track in tracks])
    assert np.array_equal(starts, [choose_span(track, cure).start for track in tracks])
    assert (starts >= 0).all()
    assert starts.max() < 1
    assert np.ptp(starts) > 0.7
    assert len(np.unique(starts)) == 40
    assert choose_span(make_track(0.4), Cure(start_jitter=10.0)).start < 0.2
    late = choose_span(make_track(leading_silence=2.0), Cure(trim_silence="start", start_jitter=0.5))
    assert 2 <= late.start < 2.5
    write_clip(tmp_path / "a.mp4")
    shutil.copy(tmp_path / "a.mp4", tmp_path / "b.mp4")
    dataset = MultimodalDataset(list_clips(tmp_path), make_settings(tmp_path, start_jitter=1.0), progress=False)
    assert dataset[0]["start"] == dataset[1]["start"]


def test_forged_segments_stay_where_they_are_in_the_file() -> None:
    row = pd.Series(
        {"label": 1, "video_fake": 0, "audio_fake": 1, "in_sync": 1, "video_segments": "", "audio_segments": "1.5-2"}
    )
    settings = validate_settings({"video": {"frames": 10, "fps": 25.0}, "cure": {"trim_silence": "both"}})
    track = make_track(leading_silence=1.4, trailing_silence=1.0)
    first, last = (place_window(track, settings, number=number, of=2) for number in (0, 1))
    assert label_window(row, first, settings)["audio_fake"] == 1  # 1.4 s to 1.8 s
    assert label_window(row, last, settings)["audio_fake"] == 0  # 2.6 s to 3 s
    short = make_track(leading_silence=1.0, trailing_silence=2.6)  # 1 s to 1.4 s, in a window that is longer
    longer = change(settings, video={"frames": 50})
    assert label_window(row, place_window(short, longer), longer)["label"] == 0


# Level


def test_all_sounds_have_the_level_asked_for(tmp_path: Path, decoded: list[str]) -> None:
    for name, gain in (("a", 1.0), ("b", 0.2)):
        write_clip(tmp_path / f"{name}.mp4", gain=gain, sound_bit_rate=128_000)
    settings = make_settings(tmp_path, loudness=-30)
    dataset = MultimodalDataset(list_clips(tmp_path), change(settings, video={"frames": 36}), progress=False)
    loud, quiet = dataset.read_sound(0), dataset.read_sound(1)
    assert measure_sound(loud, sample_rate=RATE)["level"] == pytest.approx(-30, abs=0.5)
    assert np.sqrt(np.mean((loud - quiet) ** 2)) < 0.1 * np.sqrt(np.mean(loud**2))


def test_silence_does_not_change_the_level() -> None:
    tone = np.concatenate([sing(2.0, RATE), 0.3 * sing(1.0, RATE)])
    alone = measure_sound(tone, sample_rate=RATE)
    padded = measure_sound(np.concatenate([np.zeros(3 * RATE), tone, np.zeros(RATE)]), sample_rate=RATE)
    assert alone["level"] == pytest.approx(padded["level"], abs=0.3)
    assert alone["loudness"] > padded["loudness"] + 3
    steady = 0.1 * np.sin(np.arange(3 * RATE))
    assert measure_sound(steady, sample_rate=RATE)["level"] == pytest.approx(-23.0, abs=0.1)


def test_what_is_nowhere_loud_is_not_raised() -> None:
    cure = Cure(loudness=-20)
    assert choose_gain(make_track(level=-40.0), cure) == pytest.approx(10)
    assert choose_gain(make_track(level=QUIET), cure) == 1
    assert choose_gain(make_track(level=-40.0), Cure()) == 1
    assert measure_sound(np.full(RATE, 1e-4, np.float32), sample_rate=RATE)["level"] == -120


# Pixels


def test_large_faces_are_no_sharper_than_small_ones(tmp_path: Path, decoded: list[str]) -> None:
    rng = np.random.default_rng(0)
    fine = rng.integers(0, 256, (10, 96, 96, 3), dtype=np.uint8)
    write_video(tmp_path / "a.mp4", fine, crf=5)
    sharp, blurred = (
        MultimodalDataset(list_clips(tmp_path), make_settings(tmp_path, face_pixels=pixels), progress=False)[0][
            "frames"
        ]
        for pixels in (None, 16)
    )
    assert sharp.shape == blurred.shape
    steps = [frames[0].float().diff(dim=-1).abs().mean() for frames in (sharp, blurred)]
    assert steps[1] < 0.5 * steps[0]


@pytest.mark.parametrize(("side", "share"), [(80.0, 1.0), (20.0, 0.625)])
def test_face_size_is_then_what_the_file_has_of_the_crops_pixels(side: float, share: float) -> None:
    box = np.array([[10, 5, 10 + side, 5 + side]], np.float32)
    track = replace(make_track(0.4), boxes=box, box_times=np.zeros(1), landmarks=np.zeros((1, 5, 2)), detector="mtcnn")
    facts = {"a": measure_stub()}
    for pixels, expected in ((None, side / 48), (32, share)):
        settings = validate_settings({"video": {"margin": 0.0, "size": 64}, "cure": {"face_pixels": pixels}})
        table = tabulate_features(pd.DataFrame({"video_id": ["a"]}), facts, {"a": track}, settings)
        assert table["face_size"].iat[0] == pytest.approx(expected)


def measure_stub() -> Any:
    from dfmm.audit.facts import Facts

    return Facts(**dict.fromkeys(Facts.__dataclass_fields__))


# A new encoding


def write_stranger(path: Path) -> Path:
    """Write the flash and the click of 1.2 s in another container, codec, size, frame rate and number of channels."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=30)
        video.width, video.height, video.pix_fmt = 321, 203, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=44_100, layout="stereo")
        frames = np.full((60, 203, 321, 3), 40, np.uint8)
        frames[36] = 220
        sound = np.zeros((1, 2 * 44_100 * 2), np.int16)
        sound[:, 2 * 52_920 : 2 * 53_200] = 26_000
        for picture in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(sound, format="s16", layout="stereo")
        frame.sample_rate, frame.pts = 44_100, 0
        container.mux([*audio.encode(frame), *audio.encode(None)])
    return path


def test_every_file_comes_out_in_the_profile_and_on_its_clock(tmp_path: Path, mute_clip: Clip) -> None:
    cure = Cure(reencode=True, reencode_fps=20, reencode_side=100, reencode_sample_rate=12_000)
    sources = {"a": write_stranger(tmp_path / "a.avi"), "b": write_clip(tmp_path / "b.mp4"), "c": mute_clip.path}
    found = {}
    for name, source in sources.items():
        encode_file(source, tmp_path / "out" / f"{name}.mp4", cure)
        found[name] = measure_file(tmp_path / "out" / f"{name}.mp4")
    for name in ("fps", "video_codec", "audio_codec", "sample_rate", "channels", "sound_start"):
        assert getattr(found["a"], name) == getattr(found["b"], name)
    assert (found["a"].fps, found["a"].sample_rate, found["a"].channels) == (20, 12_000, 1)
    assert (found["a"].width, found["a"].height) == (158, 100)
    assert (found["b"].width, found["b"].height, found["c"].width) == (128, 96, 96)  # never larger
    assert [found[name].duration for name in "abc"] == pytest.approx([2, 3, 1.05], abs=0.03)
    assert all(abs(found[name].sound_overhang) < 0.1 for name in "ab")
    assert not found["c"].has_audio
    media = read_media(tmp_path / "out" / "a.mp4", keep=lambda number: True, sample_rate=RATE)
    assert media.times[np.argmax([frame.mean() for frame in media.frames.values()])] == pytest.approx(1.2, abs=0.05)
    click = media.sound.start + np.abs(media.sound.samples).argmax() / RATE
    assert click == pytest.approx(1.2, abs=0.03)


def test_a_file_is_encoded_to_the_same_bytes_each_time(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    large = cv2.resize(rng.integers(0, 255, (40, 53, 3), np.uint8), (384, 304), interpolation=cv2.INTER_CUBIC)
    ways = [(int(16 + 10 * np.sin(at / 5)), int(16 + 10 * np.cos(at / 7))) for at in range(40)]
    moved = np.stack([large[y : y + 240, x : x + 320] for x, y in ways])
    frames = np.clip(moved + rng.integers(-12, 13, moved.shape), 0, 255).astype(np.uint8)
    source = write_video(tmp_path / "source.mp4", frames, crf=0)
    for name in "abcd":
        encode_file(source, tmp_path / f"{name}.mp4", Cure(reencode=True))
    assert len({(tmp_path / f"{name}.mp4").read_bytes() for name in "abcd"}) == 1


def test_a_long_sound_is_encoded_piece_by_piece_without_a_seam(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mp4", sound_bit_rate=128_000)
    encode_file(source, tmp_path / "b.mp4", Cure(reencode=True, reencode_bit_rate=128_000))
    one, other = (read_media(path, keep=lambda n: False, sample_rate=RATE) for path in (source, tmp_path / "b.mp4"))
    before, after = (media.sound.cut(0.1, 2.7)[0] for media in (one, other))
    assert np.corrcoef(before, after)[0, 1] > 0.99
    assert np.sqrt(np.mean((before - after) ** 2)) < 0.1 * before.std()


def test_finer_settings_make_larger_files(tmp_path: Path, clip: Clip) -> None:
    def measure(**values: int) -> Any:
        encode_file(clip.path, tmp_path / "out.mp4", Cure(reencode=True, **values))
        return measure_file(tmp_path / "out.mp4")

    assert measure(reencode_crf=40).video_bit_rate < 0.6 * measure(reencode_crf=20).video_bit_rate
    assert measure(reencode_bit_rate=12_000).audio_bit_rate < 0.8 * measure(reencode_bit_rate=48_000).audio_bit_rate


def test_a_file_is_encoded_once_whole_and_the_same_each_time(
    tmp_path: Path, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(clip.path, tmp_path / "a.mp4")
    settings = make_settings(tmp_path, reencode=True)
    assert prepare_file(tmp_path / "a.mp4", make_settings(tmp_path)) == tmp_path / "a.mp4"
    place = prepare_file(tmp_path / "a.mp4", settings)
    content, state = place.read_bytes(), place.stat().st_mtime_ns
    assert prepare_file(tmp_path / "a.mp4", settings) == place
    assert place.stat().st_mtime_ns == state
    place.unlink()
    assert prepare_file(tmp_path / "a.mp4", settings).read_bytes() == content
    others = {prepare_file(tmp_path / "a.mp4", change(settings, cure={"reencode_crf": crf})) for crf in (20, 30)}
    os.utime(tmp_path / "a.mp4", ns=(0, 0))
    assert len({place, *others, prepare_file(tmp_path / "a.mp4", settings)}) == 4
    (tmp_path / "bad.mp4").write_bytes(clip.path.read_bytes()[:999])
    for name in ("bad.mp4", "gone.mp4"):
        with pytest.raises(MediaError, match=name):
            prepare_file(tmp_path / name, settings)
    monkeypatch.setattr(reencode, "_add_sound", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(MediaError, match="disk full"):
        prepare_file(tmp_path / "a.mp4", change(settings, cure={"reencode_crf": 40}))
    assert len(list((tmp_path / "cache" / "encoded").rglob("*.mp4"))) == 4
    assert not list((tmp_path / "cache").rglob("*.partial*"))


def test_everything_downstream_reads_the_new_file(tmp_path: Path, decoded: list[str]) -> None:
    write_stranger(tmp_path / "a.mp4")
    table, settings = list_clips(tmp_path), make_settings(tmp_path, reencode=True, reencode_side=100)
    for crops in (False, True):
        (track,) = extract_tracks(table, settings, crops=crops, progress=False)[0].values()
        assert (track.width, track.height) == (158, 100)
        assert track.frame_seconds == pytest.approx(1 / 25)
    facts, _ = extract_facts(table, settings, progress=False)
    assert (facts["a"].width, facts["a"].fps, facts["a"].video_codec.split()[0]) == (158, 25, "h264")
    (before,) = extract_tracks(table, make_settings(tmp_path), progress=False)[0].values()
    assert (before.width, before.height) == (321, 203)
    assert MultimodalDataset(table, settings, progress=False)[0]["frame_mask"].all()
    shutil.rmtree(tmp_path / "cache" / "encoded")  # somebody tidies up
    assert MultimodalDataset(table, settings, progress=False)[0]["frame_mask"].all()


# However it is read


@pytest.fixture(scope="module")
def silenced(tiny: Settings, manifest: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of three videos of the tiny sample that begin and end in silence."""
    root = tmp_path_factory.mktemp("silenced")
    for row in manifest[manifest["split"] == "test"].head(3).itertuples():
        clip = read_media(Path(tiny.data.root) / row.path, keep=lambda number: True, sample_rate=RATE)
        sound = clip.sound.cut(0, len(clip.frames) / 25)[0]
        sound[: RATE // 2] = sound[-RATE // 4 :] = 0
        write_video(root / f"{row.Index}.mp4", np.stack([*clip.frames.values()]), sound=sound)
    return change(tiny, data={"root": str(root), "cache": str(root / "cache")})


@pytest.mark.parametrize("cure", [*({name: ALL[name]} for name in list(ALL)[:5]), ALL], ids=lambda cure: "+".join(cure))
def test_the_cache_and_the_videos_give_the_same_to_the_bit(
    silenced: Settings, cure: dict[str, Any], decoded: list[str]
) -> None:
    videos, options = list_clips(Path(silenced.data.root)), {"windows": 2, "sampling": "random", "augment": True}
    plain, cured, cached = (
        MultimodalDataset(videos, change(silenced, data={"read": read}, cure=some), **options, progress=False)
        for read, some in (("videos", {}), ("videos", cure), ("cache", cure))
    )
    changed = 0
    for index in range(len(cured)):
        one, other, before = cured[index], cached[index], plain[index]
        for name, value in one.items():
            assert torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name]
        changed += not (torch.equal(one["frames"], before["frames"]) and torch.equal(one["log_mel"], before["log_mel"]))
    assert changed


def test_a_file_scores_alone_what_it_scores_in_its_split(silenced: Settings, decoded: list[str]) -> None:
    settings, root = change(silenced, cure=ALL), Path(silenced.data.root)
    torch.manual_seed(0)
    model = MultimodalModel(settings).eval()
    videos, _ = score_split(model, list_clips(root), "test", settings, progress=False)
    files = [str(root / path) for path in videos["path"]]
    for line, score in zip(score_files(files, model, settings, progress=False), videos["score"], strict=True):
        assert line["score"] == pytest.approx(score, abs=1e-5)
    plain = next(score_files(files, model, silenced, progress=False))
    assert plain["score"] != pytest.approx(videos["score"][0], abs=1e-5)


def test_the_audit_measures_what_the_dataset_gives(tmp_path: Path, decoded: list[str]) -> None:
    path = write_clip(tmp_path / "a.mp4", before=0.8, after=0.5)
    cure = Cure(trim_silence="both", start_jitter=0.4, loudness=-30.0)
    span = choose_span(find_track(path, Video(detector="none")), cure)
    media = read_media(path, keep=lambda number: True, sample_rate=RATE)
    cured = cure_media(media, cure)
    assert span == choose_span(describe_media(media), cure)
    assert cured.sound.start == 0
    assert cured.sound.end == pytest.approx(span.end - span.start, abs=1e-3)
    assert len(cured.frames) == len(cured.times)
    assert cured.times[0] == 0
    assert cured.times[-1] == pytest.approx(span.end - span.start, abs=0.05)
    settings = make_settings(tmp_path, trim_silence="both", start_jitter=0.4, loudness=-30.0)
    dataset = MultimodalDataset(list_clips(tmp_path), settings, sampling=span.start, progress=False)
    np.testing.assert_allclose(dataset.read_sound(0), cured.sound.cut(0, 0.32)[0], atol=1e-6)
    first = media.frames[int(np.searchsorted(media.times, span.start + 5e-4, side="right")) - 1]
    np.testing.assert_array_equal(cured.frames[0], first)
    whole, cut = measure_file(path), measure_file(path, Cure(trim_silence="both"))
    assert (whole.leading_silence > 0.7, cut.leading_silence, cut.trailing_silence) == (True, 0, 0)
    assert asdict(cut)["duration"] == pytest.approx(1.7, abs=0.15)
    quiet = cure_media(replace(media, sound=None), cure)
    assert quiet.sound is None


def test_cures_that_are_on_are_named() -> None:
    assert describe_cures(Settings()) == []
    named = ", ".join(describe_cures(validate_settings({"cure": ALL, "model": {"streams": "video"}})))
    for text in ("cure.trim_silence=both", "cure.loudness=-30", "20 fps, 128 pixels, CRF 28", "model.streams=video"):
        assert text in named
    assert describe_cures(validate_settings({"cure": {"reencode_crf": 20}})) == []  # nothing is encoded
    assert Span(1.0, 2.0) == (1.0, 2.0)
