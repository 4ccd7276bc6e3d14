"""What an inspector shows is true of its clip, and a saved notebook keeps a still of it."""

from __future__ import annotations

import html
import io
import json
from base64 import b64decode
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from dfmm.dataset import MultimodalDataset, compute_log_mel
from dfmm.dataset.spectrogram import place_hertz
from dfmm.extraction import extract_tracks
from dfmm.figures import footage as footage_module
from dfmm.figures.footage import Clip, Footage, open_footage, read_thumbnail
from dfmm.figures.inspector import Inspector, inspect_clip, read_clip
from dfmm.figures.still import VIEW
from dfmm.figures.widgets import play_sound, play_video
from dfmm.media.decode import read_media
from dfmm.settings import Settings

from ..conftest import Clip as Video
from ..conftest import change


@pytest.fixture(scope="module")
def footage(tiny: Settings, manifest: pd.DataFrame) -> Footage:
    return open_footage(manifest.iloc[0], tiny)


def make_windows(video_id: str, starts: list[float]) -> pd.DataFrame:
    names = ["score", "video_fake_score", "audio_fake_score", "in_sync_score"]
    rows = [{"video_id": video_id, "face": 0, "start": start, **dict.fromkeys(names, 0.9)} for start in starts]
    return pd.DataFrame([*rows, {"video_id": "another", "face": 0, "start": 0.0, **dict.fromkeys(names, 0.1)}])


def read_jpeg(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)


def test_frames_carry_their_times_and_the_face_that_is_followed(footage: Footage) -> None:
    frames, track = footage.list_frames(), footage.track
    np.testing.assert_allclose(frames[:, 0], track.times, atol=1e-6)
    at = np.searchsorted(track.times, track.box_times)
    middles = (track.boxes[:, :2] + track.boxes[:, 2:]) / 2
    assert np.abs(frames[at, 1:3] - middles).max() < 0.1 * np.nanmean(frames[:, 3])
    shown = read_media(footage.file, keep=lambda number: number == 5, sample_rate=16_000).frames[5]
    assert np.abs(read_jpeg(footage.read_frames(5, 1)[0]) - shown).mean() < 3


def test_a_page_is_drawn_on_the_clock_of_its_clip(footage: Footage, tiny: Settings) -> None:
    page, rate = footage.draw_page(0), tiny.audio.sample_rate
    samples = footage.sound.cut(0, footage.track.duration)[0]
    assert (page["start"], page["end"]) == (0, footage.track.duration)
    assert max(page["wave"]["high"]) == pytest.approx(samples.max(), abs=1e-3)
    loudest = np.argmax(page["wave"]["high"]) / len(page["wave"]["high"]) * footage.track.duration
    assert loudest == pytest.approx(samples.argmax() / rate, abs=0.01)
    times, level = np.array(page["loudness"]).T
    assert np.all(np.diff(times) > 0)
    middle = samples[round((times[9] - 0.02) * rate) : round((times[9] + 0.02) * rate)]
    assert level[9] == pytest.approx(10 * np.log10((middle**2).mean()), abs=0.2)
    painted = np.array(Image.open(io.BytesIO(page["log_mel"])))
    log_mel = compute_log_mel(torch.from_numpy(samples), tiny.audio)[0].numpy()
    assert painted.shape == (*log_mel.shape, 3)
    brightness = painted[::-1].sum(axis=2).ravel()  # the lowest band is at the bottom
    assert np.corrcoef(brightness, log_mel.ravel())[0, 1] > 0.95


def test_mouths_are_shown_where_they_are_kept(footage: Footage, tiny: Settings, manifest: pd.DataFrame) -> None:
    assert footage.draw_page(0)["mouth"] == []  # these settings ask for no synchrony
    kept = open_footage(manifest.iloc[0], change(tiny, synchrony={"use": True, "mesh": "never", "phonemes": "never"}))
    page, (mouths, _) = kept.draw_page(0), kept.tracks.read_talk(0)
    assert page["mouth_told"] == "mouth dark"
    np.testing.assert_allclose(page["mouth"], np.column_stack([mouths.times, mouths.darkness[:, 0]]), atol=1e-3)


def test_frequencies_stand_where_their_tones_are(tiny: Settings) -> None:
    time = np.arange(tiny.audio.sample_rate, dtype=np.float32) / tiny.audio.sample_rate
    for hertz in (500, 2000, 4000):
        tone = torch.from_numpy(np.sin(2 * np.pi * hertz * time))
        loudest = compute_log_mel(tone, tiny.audio)[0].mean(dim=1).argmax()
        assert place_hertz([hertz], tiny.audio)[0] == pytest.approx(int(loudest), abs=1)


def test_long_clips_are_drawn_page_by_page(footage: Footage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footage_module, "PAGE_SECONDS", footage.track.duration / 3.1)
    monkeypatch.setattr(footage_module, "COLUMNS", 10)
    pages = [footage.draw_page(number) for number in range(footage.pages)]
    assert len(pages) == 3
    assert [page["end"] for page in pages[:-1]] == [page["start"] for page in pages[1:]]
    assert pages[-1]["end"] == pytest.approx(footage.track.duration)
    assert len(pages[1]["wave"]["low"]) == 10
    assert Image.open(io.BytesIO(pages[1]["log_mel"])).width <= 10
    assert footage.draw_page(99)["number"] == 2


def test_crops_are_those_that_the_model_saw(footage: Footage, tiny: Settings, manifest: pd.DataFrame) -> None:
    dataset = MultimodalDataset(manifest.iloc[:1], tiny, windows=2, progress=False)
    for number in range(2):
        sample = dataset[number]
        crops = footage.read_window(sample["start"])
        for crop, seen, there in zip(crops, sample["frames"], sample["frame_mask"], strict=True):
            assert (crop is not None) == bool(there)
            assert crop is None or np.abs(read_jpeg(crop) - seen.permute(1, 2, 0).numpy()).mean() < 4
    assert footage.spread_windows() == pytest.approx([dataset[0]["start"], dataset[1]["start"]])
    assert footage.list_moments() == pytest.approx(np.arange(4) / 12.5)


def test_scores_and_stretches_are_those_of_the_tables(footage: Footage, manifest: pd.DataFrame) -> None:
    row = manifest.iloc[0].to_dict() | {
        "label": 1,
        "video_fake": 1,
        "audio_fake": 0,
        "video_segments": "0.25-0.5|1-1.5",
    }
    found = pd.DataFrame([{"stream": "joint", "start": 0.2, "end": 0.6, "confidence": 0.9}])
    windows = make_windows(row["video_id"], [0.4, 0.0])
    told = Clip(row, footage, windows.iloc[:2], found=found, threshold=0.5).describe()
    json.dumps(told, allow_nan=False)
    assert [lane["stretches"] for lane in told["lanes"]] == [[(0.25, 0.5), (1.0, 1.5)], [], [(0.2, 0.6)]]
    assert [lane["said"] for lane in told["lanes"]] == ["", "genuine", ""]
    curves = {curve["look"]["label"]: curve["points"] for curve in told["curves"]}
    assert curves["all streams"] == [[0.0, 0.32, 0.9], [0.4, 0.72, 0.9]]
    assert curves["out of sync"][0][2] == pytest.approx(0.1)
    assert dict(told["facts"])["picture forged"] == "0.25–0.50 s, 1.00–1.50 s"
    whole = Clip(row | {"video_segments": "", "audio_fake": -1}, footage).list_lanes()
    assert whole[0]["stretches"] == [(0.0, footage.track.duration)]
    assert whole[1]["said"] == "not known"


def test_a_widget_holds_what_is_shown_and_answers(tiny: Settings, manifest: pd.DataFrame) -> None:
    row = manifest.iloc[0]
    widget = Inspector(read_clip(row, tiny, make_windows(row["video_id"], [0.0, 0.5])))
    sent = []
    widget.send = lambda content, parts=None: sent.append((content, parts))
    count = len(widget.shown.footage.track.times)
    assert len(widget.frames) == count * 16
    assert len(widget.clip["looks"]) == 2
    assert widget.look["number"] == 0
    widget._answer(widget, {"kind": "look", "number": 1}, [])
    assert widget.look["number"] == 1
    widget._answer(widget, {"kind": "frames", "first": count - 2, "count": 25}, [])
    assert len(sent[-1][1]) == 2
    widget._answer(widget, {"kind": "sound"}, [])
    assert sent[-1][1][0][:4] == b"RIFF"
    first = widget.server
    assert widget.clip["sources"] == [first.url]
    widget._answer(widget, {"kind": "serve"}, [])
    assert sent[-1][0]["url"] == widget.server.url != first.url
    assert first.closed.is_set()
    widget.close()
    assert widget.server is None


def test_a_video_that_is_gone_is_told_in_words(tmp_path: Path, tiny: Settings, clip: Video) -> None:
    settings = change(tiny, data={"root": str(tmp_path), "cache": str(tmp_path / "cache")}, video={"detector": "none"})
    path = tmp_path / "a.mp4"
    path.write_bytes(clip.path.read_bytes())
    row = {"video_id": "a", "path": "a.mp4", "label": -1}
    assert read_thumbnail(row, settings) is None
    extract_tracks(pd.DataFrame([row]), settings, progress=False)
    before = read_jpeg(read_thumbnail(row, settings))  # of the track alone
    widget = Inspector(read_clip(row, settings, None))
    after = read_jpeg(read_thumbnail(row, settings))  # of crops that are kept
    assert before.shape == after.shape == (88, 88, 3)
    assert 0 < np.abs(before - after).mean() < 60  # the first frame, and the middle one
    path.unlink()
    sent = []
    widget.send = lambda content, parts=None: sent.append(content)
    widget._answer(widget, {"kind": "frames", "first": 0, "count": 1}, [])
    assert "a.mp4" in sent[0]["why"]
    widget.close()


def test_names_that_are_not_there_are_answered_with_near_ones(tiny: Settings, manifest: pd.DataFrame) -> None:
    name = manifest["video_id"].iat[0]
    with pytest.raises(KeyError, match=f"the nearest are.*{name[:-1]}"):
        inspect_clip(name[:-1], tiny, videos=manifest)
    with pytest.raises(KeyError, match="videos=table"):
        inspect_clip(name, tiny)
    assert inspect_clip(name, tiny, videos=manifest).title == name


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    bundles: list[dict] = []

    class Handle:
        def update(self, bundle: dict, raw: bool) -> None:
            bundles.append({"updated": True, **bundle})

    def display(bundle: dict, raw: bool, display_id: bool = False) -> Handle:
        bundles.append(bundle)
        return Handle()

    monkeypatch.setattr("dfmm.figures.still.display", display)
    return bundles


def test_a_still_stays_and_headless_is_all_there_is(
    tiny: Settings, manifest: pd.DataFrame, shown: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    still = inspect_clip(manifest.iloc[0], tiny)
    monkeypatch.setenv("DFMM_HEADLESS", "1")
    still._ipython_display_()
    assert not any(VIEW in bundle for bundle in shown)
    assert shown[-1]["image/png"].startswith("iVBOR")
    assert "face found in: " in shown[-1]["text/plain"]
    shown.clear()
    monkeypatch.delenv("DFMM_HEADLESS")
    still._ipython_display_()
    assert [VIEW in bundle for bundle in shown] == [False, False, True, False]
    assert shown[-1]["updated"]
    assert shown[-1]["image/png"].startswith("iVBOR")
    still.widget.close()


def test_names_never_become_html(tiny: Settings, manifest: pd.DataFrame, shown: list[dict], monkeypatch) -> None:
    evil = "<img src=x onerror=alert(1)>'\""
    monkeypatch.setenv("DFMM_HEADLESS", "1")
    row = manifest.iloc[0].to_dict() | {"video_id": evil}
    inspect_clip(row, tiny)._ipython_display_()
    assert evil not in shown[0]["text/html"]
    assert html.escape(evil) in shown[0]["text/html"]
    assert shown[0]["text/plain"] == evil
    player = play_sound(np.zeros(100, np.float32), 16_000, label=evil)._repr_mimebundle_()
    assert evil not in player["text/html"]
    for file in (Path(footage_module.__file__).parent).glob("*.js"):
        code = file.read_text(encoding="utf-8")
        assert "innerHTML" not in code
        assert "insertAdjacentHTML" not in code
        assert "import " not in code  # nothing is loaded from elsewhere
        assert "http:" not in code.replace("http://www.w3.org/2000/svg", "")
        assert "https:" not in code


def test_a_player_has_its_label_still_and_words_in_one_output(clip: Video) -> None:
    bundle = play_video(clip.path, label="real · a & b")._repr_mimebundle_()
    assert "<b>real · a &amp; b</b><" in bundle["text/html"].replace("</div>", "")
    assert "<video controls" in bundle["text/html"]
    assert " src='data:video/mp4;base64," in bundle["text/html"]
    assert "<source" not in bundle["text/html"]  # which JupyterLab empties where the notebook is not trusted
    assert "Trust Notebook" in bundle["text/html"]
    assert bundle["text/plain"] == "real · a & b"
    still = Image.open(io.BytesIO(b64decode(bundle["image/png"])))
    assert still.size == (128, 96 + 48)
    assert np.abs(np.array(still.convert("RGB"))[:96].astype(int) - clip.frames[0]).mean() < 12
