"""Of the faces in a video one is followed, and it stays the same one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from dfmm.faces import detect as faces
from dfmm.faces.detect import NOBODY, load_detector
from dfmm.faces.link import (
    ABSENCE,
    APART,
    MOST_FACES,
    choose_faces,
    count_faces,
    count_left_out,
    drop_false_alarms,
    link_faces,
    measure_overlaps,
)

if TYPE_CHECKING:
    from ..conftest import Clip


def face(left: float, top: float, side: float, score: float = 0.999) -> np.ndarray:
    """A detection: a square box, a score and landmarks in its middle, `[15]`."""
    return np.array([left, top, left + side, top + side, score, *[left + side / 2, top + side / 2] * 5], np.float32)


# Telling one from another


def follow(
    detections: Sequence[np.ndarray], choice: str = "largest", *, starts: Sequence[int] = ()
) -> list[int | None]:
    """Return where, on the left, the face is that is followed in each look."""
    tracks = drop_false_alarms(link_faces(detections, starts=starts), len(detections), starts=starts)
    chosen = next(iter(choose_faces(tracks, choice, starts=starts)), {})
    return [round(float(chosen[look][0])) if look in chosen else None for look in range(len(detections))]


def test_a_moving_face_is_followed_and_strangers_are_not() -> None:
    moving = [face(10 + 6 * n, 20, 40) for n in range(12)]
    stranger = face(200, 100, 30)
    detections = [np.stack([stranger, row] if n % 2 else [row]) for n, row in enumerate(moving)]
    assert follow(detections) == [10 + 6 * n for n in range(12)]


def test_what_is_seen_a_few_times_and_never_surely_is_no_face() -> None:
    def see(looks: int, score: float, of: int = 20) -> int:
        rows = [face(10 + n, 20, 40, score)[None] if n < looks else np.zeros((0, 15), np.float32) for n in range(of)]
        return sum(at is not None for at in follow(rows))

    assert [see(3, 0.96), see(3, 0.999), see(1, 0.999)] == [0, 3, 0]
    assert [see(8, 0.9), see(3, 0.96, of=4)] == [8, 3]  # seen throughout a second, or in a short shot


def test_of_two_faces_the_one_that_covers_most_is_kept_and_it_does_not_jump() -> None:
    large, small = face(10, 10, 50), face(100, 10, 40)
    detections = [np.stack([large, small][:: 1 if n % 2 else -1]) for n in range(10)]
    detections[4] = small[None]
    assert follow(detections) == [10] * 4 + [None] + [10] * 5
    assert follow(detections, "longest") == [100] * 10
    for n in range(3, 9):  # too short a stay for its size
        detections[n] = small[None]
    assert follow(detections) == [100] * 10


def test_everybody_has_a_place_and_those_who_never_meet_may_share_one() -> None:
    large, small, late = face(10, 10, 60), face(100, 10, 40), face(180, 10, 30)
    back = 9 + APART  # the first look at which a path no longer glides from one to the other
    detections = [np.stack([large, *[small] * (n < 10), *[late] * (n >= back)]) for n in range(30)]
    first, second = choose_faces(link_faces(detections), "all")
    assert list(first) == list(range(30))
    assert [(look, round(float(row[0]))) for look, row in second.items()] == [
        *((look, 100) for look in range(10)),
        *((look, 180) for look in range(back, 30)),
    ]
    detections[back - 1] = detections[back]
    assert len(choose_faces(link_faces(detections), "all")) == 3
    crowd = [np.stack([face(50 * n, 10, 20 + n) for n in range(MOST_FACES + 3)])] * 6
    everybody = choose_faces(link_faces(crowd), "all")
    assert [round(float(place[0][0])) // 50 for place in everybody] == list(range(MOST_FACES + 2, 2, -1))
    assert choose_faces([], "all") == []


def test_nobody_is_left_out_for_the_number_of_shots() -> None:
    """Twenty shots of one person each, and one of a crowd: only of the crowd there are too many."""
    alone = [face(10, 10, 40 + shot)[None] for shot in range(20) for _ in range(6)]
    crowd = [np.stack([face(50 * n, 10, 20 + n) for n in range(MOST_FACES + 3)])] * 6
    starts = range(6, 126, 6)
    tracks = link_faces(alone + crowd, starts=starts)
    everybody = choose_faces(tracks, "all", starts=starts)
    assert sorted(look for place in everybody for look in place if look < 120) == list(range(120))
    assert [len(place) for place in everybody] == [6] * (20 + MOST_FACES)
    assert count_left_out(tracks, everybody) == 3
    assert count_left_out(tracks[:20], everybody) == 0


def test_nobody_shares_a_place_with_whoever_comes_after_a_cut() -> None:
    first, second = face(10, 10, 60)[None], face(12, 10, 50)[None]
    tracks = link_faces([first] * 10 + [second] * 8, starts={10})
    everybody = choose_faces(tracks, "all", starts={10})
    assert [list(person) for person in everybody] == [list(range(10)), list(range(10, 18))]
    (largest,) = choose_faces(tracks, "largest", starts={10})
    assert list(largest) == list(range(18))


@pytest.mark.parametrize("hidden", [0, 1, 2])
@pytest.mark.parametrize("speed", [6, 10, 14])
def test_two_who_cross_do_not_change_places(speed: int, hidden: int) -> None:
    """For some looks in the middle only the one in front is found, as overlapping boxes are thinned out."""
    looks = range(-8, 9)
    there = [face(100 + speed * n, 20, 40) for n in looks]
    back = [face(100 + speed - speed * n, 20, 40) for n in looks]  # where the other was a look before
    detections = [
        np.stack([one] if abs(2 * n) < hidden + 1 and hidden else [other, one])
        for n, one, other in zip(looks, there, back, strict=True)
    ]
    tracks = link_faces(detections)
    assert len(tracks) == 2
    assert {tuple(np.sign(np.diff([row[0] for row in track.values()]))) for track in tracks} == {
        (1,) * 16,
        (-1,) * (len(min(tracks, key=len)) - 1),
    }


def test_a_head_that_is_shaken_is_one_face() -> None:
    detections = [face(100 + 20 * (n % 2), 20, 40)[None] for n in range(9)]
    assert len(link_faces(detections)) == 1


def test_two_who_pass_close_by_are_told_apart_by_how_well_all_fits() -> None:
    """The nearer pair taken first, as a greedy method does, would leave two faces without their tracks."""
    before, after = np.stack([face(0, 0, 40), face(26, 0, 40)]), np.stack([face(13, 0, 40), face(39, 0, 40)])
    tracks = link_faces([before, before, after])
    assert [[float(row[0]) for row in track.values()] for track in tracks] == [[0, 0, 13], [26, 26, 39]]


def test_what_is_seen_once_in_many_looks_is_no_face() -> None:
    stray = [NOBODY] * 3 + [face(10, 10, 50)[None]] + [NOBODY] * 3
    assert follow(stray) == [None] * 7
    assert follow([NOBODY] * 7) == [None] * 7
    assert follow([]) == []
    assert follow(stray[3:5])[0] is not None  # of few looks, one is enough
    stray[5] = face(100, 100, 20)[None]
    stray[6] = face(101, 100, 20)[None]
    assert [at is not None for at in follow(stray)] == [False] * 5 + [True] * 2
    assert follow(stray, starts=[3, 5]) == [None] * 3 + [10, None, 100, 101]  # nor where a shot has few


def test_no_track_goes_through_a_cut_and_each_shot_has_its_largest_face() -> None:
    detections = [np.stack([face(10, 10, 40), face(90, 10, 30)])] * 6 + [np.stack([face(12, 10, 40)])] * 5
    detections += [face(60, 10, 20)[None]] * 8
    tracks = link_faces(detections, starts=[6, 11])
    assert sorted(map(len, tracks)) == [5, 6, 6, 8]
    assert follow(detections, starts=[6, 11]) == [10] * 6 + [12] * 5 + [60] * 8
    assert follow(detections, "longest", starts=[6, 11]) == [None] * 11 + [60] * 8
    assert count_faces(tracks) == 2
    assert count_faces([]) == 0


def test_who_comes_back_after_long_is_another_face() -> None:
    for absence, count in ((ABSENCE - 1, 1), (ABSENCE, 2)):
        detections = [face(10, 10, 40)[None]] * 3 + [NOBODY] * absence + [face(10, 10, 40)[None]] * 3
        assert len(link_faces(detections)) == count


# Detecting


SAME_NAMES = {
    "postprocess.py": """import numpy as np
ANCHOR_STRIDES, ANCHOR_SIZES = [8, 16, 32], [[16, 32], [64, 128], [256, 512]]
generate_anchors = lambda *args: np.zeros((1, 8, 4))
rebuild_boxes = rebuild_pts = lambda rows, anchors: rows
filter_results = lambda *rows, **options: (np.ones((1, 4)), np.ones(1), np.ones((1, 10)))
""",
    "preprocess.py": "import numpy as np\nMEAN = np.zeros(3)",
}
OTHER_NETWORK = "from onnxruntime.datasets import get_example\nWEIGHTS = get_example('mul_1.onnx')"


@pytest.mark.parametrize(
    ("init", "files", "reason"),
    [
        ("from retinaface.commons import detect", {}, "No module named"),
        ("class RetinaFace: pass", {}, "No module named"),
        ("raise ValueError('no Keras here')", {}, "no Keras here"),
        ("raise SystemExit('needs TensorFlow')", {}, "needs TensorFlow"),
        ("", {**SAME_NAMES, "weights.py": "WEIGHTS = '/nowhere.onnx'"}, "nowhere.onnx"),
        ("", {**SAME_NAMES, "weights.py": "WEIGHTS = b'junk'"}, "InvalidProtobuf"),
        ("", {**SAME_NAMES, "weights.py": OTHER_NETWORK}, "Required inputs"),
    ],
)
def test_another_package_of_its_name_is_named(
    init: str, files: dict[str, str], reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: list[str]
) -> None:
    (tmp_path / "retinaface").mkdir()
    (tmp_path / "retinaface" / "__init__.py").write_text(init)
    for name, text in files.items():
        (tmp_path / "retinaface" / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "retinaface"]:
        monkeypatch.delitem(sys.modules, name)
    load_detector.cache_clear()
    try:
        assert load_detector("retinaface") is None
    finally:
        load_detector.cache_clear()
        for name in [name for name in sys.modules if name.partition(".")[0] == "retinaface"]:
            del sys.modules[name]
    assert f"the module retinaface in {tmp_path / 'retinaface' / '__init__.py'}" in said[0]
    assert reason in said[0]
    assert "uninstall the other one" in said[0]


def test_a_detector_that_is_not_installed_is_said_once(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    def fail() -> None:
        raise ImportError("No module named 'retinaface'")

    monkeypatch.setattr(faces, "_load_retinaface", fail)
    load_detector.cache_clear()
    try:
        assert [load_detector("retinaface") for _ in range(3)] == [None] * 3
    finally:
        load_detector.cache_clear()
    assert len(said) == 1
    assert "retinaface is not available" in said[0]


@pytest.mark.parametrize("name", ["retinaface", "mtcnn"])
def test_a_detector_finds_a_drawn_face_to_fractions_of_a_pixel(name: str, face_clip: Clip) -> None:
    """And nobody in a black frame beside it, and the same when it is alone."""
    detect = load_detector(name)
    if detect is None:
        pytest.skip(f"{name} is not installed")
    frame = face_clip.frames[0]
    halfway = ((frame[:, :-1].astype(int) + frame[:, 1:] + 1) // 2).astype(np.uint8)  # moved left by half a pixel
    blank, here, there = detect([np.zeros_like(halfway), frame[:, :-1], halfway])
    assert blank.shape == (0, 15)
    assert here.shape == there.shape == (1, 15)
    assert here.dtype == np.float32
    assert 0.8 < here[0, 4] <= 1
    for rows in (here, there):
        assert (np.abs(rows - rows.round())[0, 5:] > 0.01).sum() >= 8
    assert 0 < np.abs(here - there)[0, :4].max() < 0.06 * (here[0, 3] - here[0, 1])
    np.testing.assert_allclose(detect([frame[:, :-1]])[0], here, atol=0.05)


@pytest.mark.parametrize("edge", ["left", "right", "top", "bottom"])
@pytest.mark.parametrize("share", [0.1, 0.2])
def test_a_face_that_the_edge_cuts_off_is_where_it_is(edge: str, share: float, face_clip: Clip) -> None:
    """A part of its box, by MTCNN."""
    detect = load_detector("mtcnn")
    if detect is None:
        pytest.skip("mtcnn is not installed")
    frame = face_clip.frames[0]
    whole = detect([frame])[0][0]
    part = share * (whole[2] - whole[0])
    left, top = (round(float(whole[at] + part)) if edge == name else 0 for at, name in ((0, "left"), (1, "top")))
    right, bottom = (
        round(float(whole[at] - part)) if edge == name else 256 for at, name in ((2, "right"), (3, "bottom"))
    )
    (cut,) = detect([np.ascontiguousarray(frame[top:bottom, left:right])])[0]
    moved = (cut - whole)[5:].reshape(5, 2) + np.array([left, top])
    assert np.hypot(*moved.T).max() <= 3.0
    assert cut[4] > 0.9


def test_detectors_agree_on_a_drawn_face(face_clip: Clip) -> None:
    found = [detect([face_clip.frames[0]])[0] for detect in map(load_detector, ("retinaface", "mtcnn")) if detect]
    if len(found) < 2:
        pytest.skip("not both are installed")
    assert measure_overlaps(*found).item() > 0.6
    assert np.abs(found[0][0, 5:] - found[1][0, 5:]).max() < 0.08 * (found[0][0, 3] - found[0][0, 1])
