"""One face from another: detections linked over time and across cuts, and which of them to follow."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np
import scipy

from dfmm.faces.detect import BOX, SCORE

SAME_FACE_IOU = 0.3  # boxes of neighbouring looks that overlap more than this may be one face
COASTING = 3  # looks for which a face that is not found is expected to move on as it did
ABSENCE = 50  # looks after which a face that comes back is another one
APART = 6  # looks between two tracks from which on nothing glides from one to the other
MOST_FACES = 16  # that are followed in one shot
FALSE_ALARM = 5  # looks in a shot from which on a face that is seen in one of them only is none
SURE = 0.99  # a detector's score, which a face reaches at once, and the head of a bird does not

FaceTrack = dict[int, np.ndarray]  # one face: its row [15] by the number of the look, in their order


def measure_overlaps(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the intersection over union of boxes `[K, 4+]` with others `[L, 4+]`, as `[K, L]`."""
    ones, others = ones[:, None], others[None]
    width = np.minimum(ones[..., 2], others[..., 2]) - np.maximum(ones[..., 0], others[..., 0])
    height = np.minimum(ones[..., 3], others[..., 3]) - np.maximum(ones[..., 1], others[..., 1])
    shared = width.clip(min=0) * height.clip(min=0)
    return shared / np.maximum(measure_areas(ones) + measure_areas(others) - shared, 1e-9)


def measure_areas(faces: np.ndarray) -> np.ndarray:
    """Return the areas of boxes `[..., 4+]`."""
    return (faces[..., 2] - faces[..., 0]) * (faces[..., 3] - faces[..., 1])


def link_faces(detections: Sequence[np.ndarray], *, starts: Collection[int] = ()) -> list[FaceTrack]:
    """Link the detections of successive looks into tracks of single faces.

    From look to look, faces and tracks are paired so that boxes overlap most in all (the Hungarian method), where a
    face is expected by its motion counting more than where it was last: of two who cross, each keeps going.

    Args:
        detections: of each look, `[K, 15]`.
        starts: looks at which a new shot starts. No track goes through a cut: whoever is at the same place after it
            need not be the same person.
    """
    tracks: list[FaceTrack] = []
    current: list[FaceTrack] = []
    for look, faces in enumerate(detections):
        current = [] if look in starts else [track for track in current if look - next(reversed(track)) <= ABSENCE]
        pairs = _pair_faces(current, faces, look)
        for number, face in enumerate(faces):
            if number not in pairs:
                tracks.append({})
                current.append(tracks[-1])
            current[pairs.get(number, -1)][look] = face
    return tracks


def _pair_faces(tracks: Sequence[FaceTrack], faces: np.ndarray, look: int) -> dict[int, int]:
    """Return which faces `[K, 15]` of a look belong to which track, by number."""
    if not tracks or not len(faces):
        return {}
    last, expected = (np.stack([find(track, look) for track in tracks]) for find in (_last_box, _expect_box))
    here, there = measure_overlaps(faces, last), measure_overlaps(faces, expected)
    # A head that is shaken is not where it was heading; that it is near where it was must do.
    similar = np.where(np.maximum(here, there) >= SAME_FACE_IOU, here + 2 * there, 0)
    pairs = zip(*scipy.optimize.linear_sum_assignment(similar, maximize=True), strict=True)
    return {int(face): int(track) for face, track in pairs if similar[face, track] > 0}


def _last_box(track: FaceTrack, look: int) -> np.ndarray:
    return track[next(reversed(track))][BOX]


def _expect_box(track: FaceTrack, look: int) -> np.ndarray:
    """Return where a face should be by now if it keeps moving as it did between the last two looks that found it."""
    last, *before = list(itertools.islice(reversed(track), 2))
    if not before:
        return track[last][BOX]
    corners = (track[last][BOX] - track[before[0]][BOX]).reshape(2, 2).mean(axis=0)
    return track[last][BOX] + np.tile(corners, 2) / (last - before[0]) * min(look - last, COASTING)


def drop_false_alarms(tracks: Sequence[FaceTrack], looks: int, *, starts: Collection[int] = ()) -> list[FaceTrack]:
    """Return the tracks without what is no face, in shots of many looks: seen once, or a few times but never surely."""
    bounds = np.array([0, *sorted(starts), looks])
    lengths = np.diff(bounds)[np.searchsorted(bounds, [next(iter(track)) for track in tracks], side="right") - 1]
    return [
        track
        for track, length in zip(tracks, lengths, strict=True)
        if len(track) >= FALSE_ALARM or length < FALSE_ALARM or (len(track) > 1 and _is_sure(track))
    ]


def _is_sure(track: FaceTrack) -> bool:
    return max(row[SCORE] for row in track.values()) >= SURE


def choose_faces(
    tracks: Sequence[FaceTrack], choice: Literal["largest", "longest", "all"], *, starts: Collection[int] = ()
) -> list[FaceTrack]:
    """Return the faces that are followed, by the number of the look; none where nobody is seen.

    Args:
        choice: `largest` is in each shot the one that covers most, over area and time; `longest` is the one that is
            seen in most looks of the video, all in one shot, and of equals the larger; `all` is the largest of the
            video, and then everybody else. Those of one shot who are never seen together share a place; nobody shares
            one with whoever is seen after a cut. Of each shot the `MOST_FACES` largest have one.
    """
    if choice == "longest":
        return sorted(tracks, key=lambda track: (len(track), _measure_cover(track)), reverse=True)[:1]
    ranked = sorted(tracks, key=_measure_cover, reverse=True)
    shots = [int(np.searchsorted(sorted(starts), next(iter(track)), side="right")) for track in ranked]
    first = {shots.index(shot) for shot in sorted(set(shots))}
    if choice == "all":
        return _share_places(list(zip(shots, ranked, strict=True)))
    largest = {look: face for number in sorted(first, key=shots.__getitem__) for look, face in ranked[number].items()}
    return [largest] if largest else []


def _measure_cover(track: FaceTrack) -> float:
    return float(sum(measure_areas(face) for face in track.values()))


def _share_places(tracks: Sequence[tuple[int, FaceTrack]]) -> list[FaceTrack]:
    """Join tracks, each with the number of its shot, that are apart in time within one, wherever one first fits.

    The first is alone in its place. Whoever fits nowhere once a shot has as many as it may is left out.
    """
    places: list[list[FaceTrack]] = []
    by_shot: defaultdict[int, list[list[FaceTrack]]] = defaultdict(list)
    for shot, one in tracks:
        open_to = (place for place in by_shot[shot] if place is not places[0])
        place = next((place for place in open_to if all(_are_apart(one, other) for other in place)), None)
        if place is not None:
            place.append(one)
        elif len(by_shot[shot]) < MOST_FACES:
            places.append([one])
            by_shot[shot].append(places[-1])
    return [dict(sorted(pair for track in place for pair in track.items())) for place in places]


def _are_apart(one: FaceTrack, other: FaceTrack) -> bool:
    before, after = sorted([(min(one), max(one)), (min(other), max(other))])
    return after[0] - before[1] >= APART


def count_left_out(tracks: Sequence[FaceTrack], chosen: Sequence[FaceTrack]) -> int:
    """Return how many tracks are not among the faces that `choose_faces` made of them."""
    taken = {id(row) for face in chosen for row in face.values()}
    return sum(id(next(iter(track.values()))) not in taken for track in tracks)


def count_faces(tracks: Sequence[FaceTrack]) -> int:
    """Return how many faces there are at once at most."""
    return max(Counter(look for track in tracks for look in track).values(), default=0)
