"""Windows lie where there is something to see, or else to hear, and one without its face says nothing of a forgery."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dfmm.dataset.windows import Window, find_starts, label_window, place_window
from dfmm.faces.track import Track
from dfmm.settings import Settings, validate_settings

FPS, SECONDS = 25, 30.0


def make_track(*places: tuple[float, float], heard: tuple[float, float] = (0.0, SECONDS)) -> Track:
    """Return a track of 30 s whose face is seen in these stretches, found in every fifth frame."""
    times = np.arange(round(FPS * SECONDS)) / FPS
    looks = times[::5]
    found = looks[np.any([(low <= looks) & (looks < high) for low, high in places] or [looks < 0], axis=0)]
    return Track(
        times=times,
        width=320,
        height=240,
        look_times=looks,
        cut_times=np.unique([edge for place in places for edge in place if 0 < edge < SECONDS]),
        faces=1,
        detector="retinaface",
        box_times=found,
        boxes=np.tile(np.float32([100, 60, 200, 160]), (len(found), 1)),
        landmarks=np.full((len(found), 5, 2), 120, np.float32),
        sound_start=0.0,
        sound_end=SECONDS,
        sound_peak=0.5,
        loudness=-20.0,
        leading_silence=heard[0],
        trailing_silence=SECONDS - heard[1],
    )


def make_settings(**sections: dict[str, Any]) -> Settings:
    return validate_settings({**sections, "video": {"frames": 16, "size": 32, **sections.get("video", {})}})


def place_all(track: Track, settings: Settings, count: int) -> np.ndarray:
    """Return where evenly spaced windows start, in seconds."""
    return np.array([place_window(track, settings, number=n, of=count).moments[0] for n in range(count)])


def test_where_the_face_is_there_throughout_windows_are_spread_over_the_whole() -> None:
    settings = make_settings()
    for track in (make_track((0, SECONDS)), make_track()):
        np.testing.assert_allclose(place_all(track, settings, 3), np.array([0, 0.5, 1]) * (SECONDS - 0.64))


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_face_that_is_seen_for_four_seconds_of_thirty_is_in_every_window(count: int) -> None:
    settings, track = make_settings(), make_track((17, 21))
    starts = place_all(track, settings, count)
    assert (starts >= 17 - 1e-3).all()
    assert (starts + 0.64 <= 21 + 1e-3).all()
    if count > 1:
        assert np.ptp(starts) > 3
    rng = np.random.default_rng(0)
    drawn = [place_window(track, settings, sampling="random", rng=rng) for _ in range(50)]
    assert not any(window.unseen for window in drawn)
    assert np.ptp([window.moments[0] for window in drawn]) > 2.5
    shown = track.lay_canvases(settings).seen
    assert all(shown[window.numbers].all() for window in drawn)


def test_windows_are_shared_out_among_the_places_a_face_is_seen_at() -> None:
    starts = place_all(make_track((2, 4), (20, 26)), make_settings(), 41)
    first = (starts < 5).sum()
    assert first == pytest.approx(41 * 1.4 / (1.4 + 5.4), abs=2)
    assert all(1.9 < at < 3.5 or 19.9 < at < 25.5 for at in starts)


def test_where_no_place_is_as_long_as_a_window_it_holds_as_much_as_can_be() -> None:
    settings = make_settings(video={"frames": 50})
    for start in place_all(make_track((10, 11)), settings, 3):
        assert min(start + 2, 11) - max(start, 10) > 0.85


def test_a_start_that_is_asked_for_is_kept_and_spread_frames_go_where_the_face_is() -> None:
    track = make_track((17, 21))
    asked = place_window(track, make_settings(), sampling=3.0)
    assert asked.moments[0] == 3
    assert asked.unseen
    spread = place_window(track, make_settings(video={"fps": "spread"}))
    assert not spread.unseen
    assert spread.moments.min() > 17
    assert spread.moments.max() < 21
    assert np.diff(spread.moments) == pytest.approx(4 / 16)


def test_where_only_sound_is_scored_windows_lie_where_it_is() -> None:
    for track, streams in ((make_track((17, 21), heard=(3, 6)), "audio"), (make_track(heard=(3, 6)), "both")):
        starts = place_all(track, make_settings(model={"streams": streams}), 4)
        assert (starts > 2.9).all()
        assert (starts + 0.64 < 6.1).all()


def test_silence_that_anybody_makes_moves_no_window() -> None:
    settings = make_settings(model={"streams": "audio"})
    np.testing.assert_allclose(place_all(make_track(heard=(0.05, SECONDS - 0.05)), settings, 2), [0, SECONDS - 0.64])
    assert place_all(make_track(heard=(0.2, SECONDS)), settings, 2)[0] == pytest.approx(0.2, abs=1e-5)


def test_starts_are_those_that_show_nearly_the_most() -> None:
    """By trying them all."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        edges = np.sort(rng.choice(np.arange(1, 140), 6, replace=False)) / 5
        places, seconds = edges.reshape(3, 2), float(rng.choice([0.4, 1.0, 3.0]))
        track, settings = make_track(*places), make_settings()
        spans = find_starts(track, settings, 0.0, SECONDS - seconds, seconds)
        tried = np.linspace(0, SECONDS - seconds, 3001)
        seen, ends = track.lay_canvases(settings).seen, np.append(track.times[1:], SECONDS)
        shares = np.array(
            [(np.minimum(ends, at + seconds) - np.maximum(track.times, at)).clip(min=0)[seen].sum() for at in tried]
        )
        good = np.any([(low - 1e-6 <= tried) & (tried <= high + 1e-6) for low, high in spans], axis=0)
        enough = shares.max() * (1 if shares.max() > seconds - 1e-3 else 0.9)
        assert (shares[good] > enough - 0.02).all()
        assert (shares[~good] < enough + 0.02).all()


ROW = {"label": 1, "video_fake": 1, "audio_fake": 0, "in_sync": 1, "video_segments": "", "audio_segments": ""}


@pytest.mark.parametrize(
    ("facts", "label"),
    [
        ({}, -1),
        ({"audio_fake": 1}, 1),
        ({"video_fake": 0, "audio_fake": 1}, 1),
        ({"video_fake": 0, "in_sync": 0}, -1),
        ({"video_fake": -1, "audio_fake": -1, "in_sync": -1}, -1),
        ({"label": 0, "video_fake": 0}, 0),
    ],
)
def test_a_window_without_its_face_has_no_label_from_what_is_forged_there(facts: dict[str, int], label: int) -> None:
    track, settings = make_track((17, 21)), make_settings()
    unseen, seen = (place_window(track, settings, sampling=at) for at in (3.0, 18.0))
    row = {**ROW, **facts}
    found = label_window(row, unseen, settings)
    assert found["label"] == label
    assert found["video_fake"] == (-1 if row["video_fake"] == 1 else row["video_fake"])
    assert found["audio_fake"] == row["audio_fake"]
    labels = {name: row[name] for name in ("label", "video_fake", "audio_fake", "in_sync")}
    assert label_window(row, seen, settings) == labels


def test_a_file_without_a_picture_keeps_its_label() -> None:
    window = Window(np.zeros(2), np.zeros(2, int), np.zeros(2, bool), 0.0, 0.08)
    assert label_window({**ROW, "video_fake": -1, "audio_fake": -1}, window, make_settings())["label"] == 1


@pytest.mark.parametrize(
    ("facts", "start", "labels"),  # of the window, of its picture, of its sound
    [
        ({"video_fake": -1, "audio_fake": -1, "video_segments": "5-6"}, 0.0, (-1, 0, -1)),
        ({"video_fake": -1, "audio_fake": -1, "video_segments": "5-6"}, 5.2, (1, 1, -1)),
        ({"video_fake": -1, "audio_fake": 0, "video_segments": "5-6"}, 0.0, (0, 0, 0)),
        ({"audio_fake": -1, "video_segments": "5-6"}, 0.0, (-1, 0, -1)),
        ({"audio_fake": -1, "video_segments": "5-6"}, 5.2, (1, 1, -1)),
        ({"video_fake": -1, "audio_fake": 1, "audio_segments": "5-6"}, 0.0, (-1, -1, 0)),
        ({"video_segments": "5-6", "in_sync": -1}, 0.0, (0, 0, 0)),  # nobody says whether it is in sync: LAV-DF
        ({"video_segments": "5-6", "in_sync": 0}, 0.0, (1, 0, 0)),
        ({"video_segments": "5-6"}, 4.41, (-1, -1, 0)),  # one frame of it
        ({"video_fake": 0, "audio_fake": 1, "audio_segments": "5-6"}, 4.37, (-1, 0, -1)),  # 10 ms of it
        ({"video_segments": "5-6", "audio_fake": 1, "audio_segments": "4-5"}, 4.41, (1, -1, 1)),
        ({"video_segments": "5-6", "audio_fake": 1, "audio_segments": "4.9-6"}, 4.7, (1, 1, 1)),
        ({"audio_fake": -1}, 0.0, (1, 1, -1)),  # forged all through: as it was
        ({"video_fake": -1, "audio_fake": -1}, 0.0, (1, -1, -1)),
        ({"label": 0, "video_fake": 0, "audio_fake": -1}, 0.0, (0, 0, -1)),
    ],
)
def test_where_stretches_are_forged_a_window_is_what_it_holds_or_unknown(
    facts: dict[str, Any], start: float, labels: tuple[int, int, int]
) -> None:
    settings = make_settings()
    found = label_window({**ROW, **facts}, place_window(make_track((0, SECONDS)), settings, sampling=start), settings)
    assert (found["label"], found["video_fake"], found["audio_fake"]) == labels


@pytest.mark.parametrize(("least", "labels"), [(0.1, (1, 1, 1, 0)), (0.5, (-1, 1, 1, 0)), (1.0, (-1, -1, 1, 0))])
def test_how_much_of_a_stretch_makes_a_window_fake_is_a_setting(least: float, labels: tuple[int, ...]) -> None:
    """Of windows of 0.64 s: a quarter and three quarters of one, a word of 0.2 s whole, and nothing."""
    settings, track = make_settings(data={"forged_share": least}), make_track((0, SECONDS))
    for stream, other in (("video", "audio"), ("audio", "video")):
        row = {**ROW, f"{stream}_fake": 1, f"{other}_fake": 0, f"{stream}_segments": "5-7|10-10.2"}
        windows = [place_window(track, settings, sampling=at) for at in (4.52, 4.84, 9.8, 8.0)]
        assert tuple(label_window(row, window, settings)[f"{stream}_fake"] for window in windows) == labels


def test_frames_spread_over_a_video_show_what_lies_between_them_to_nobody() -> None:
    settings, row = make_settings(video={"fps": "spread"}), ROW | {"video_segments": "10-10.2"}
    window = place_window(make_track((0, SECONDS)), settings)
    assert label_window(row, window, settings)["label"] == 0
    shown = float(window.moments[4])
    assert label_window(row | {"video_segments": f"{shown}-{shown + 0.2}"}, window, settings)["label"] == 1
