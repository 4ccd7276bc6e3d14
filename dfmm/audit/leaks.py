"""What leaks from one split into another: people, originals, and the same video twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dfmm.audit.facts import MOTION_SIZE, SCENE_SIZE, SOUND_SIZE, STRETCHES, Facts
from dfmm.people import connect_nodes, find_shared, mark_shared, name_families

# Correlations of fingerprints. Chosen between what different clips of one speaker in one room reach (15,051 pairs:
# motion at most 0.855, sound at most 0.668) and what 256 clips keep that are encoded anew at a moderate bit rate
# (scene at least 0.999, motion 0.849, sound 0.896).
SAME_SCENE = 0.98
SAME_MOTION = 0.86
SAME_SOUND, MOTION_WITH_SOUND = 0.75, 0.4  # both
BLOCK = 4096  # videos compared with as many others at a time
PAIRS = 2**14  # pairs looked at closely at a time

COLUMNS = ["kind", "name", "split", "video_id", "label", "evidence"]


def find_leaks(manifest: pd.DataFrame, facts: Mapping[str, Facts]) -> pd.DataFrame:
    """Find what is in two splits at once, and what is there with both labels.

    Args:
        facts: by `video_id`, of the videos that could be read.

    Returns:
        A row for each video of each leak: `kind`, `name`, `split`, `video_id`, `label`, and as `evidence` how a
        duplicate was told. The kinds are

        - `identity`: a person (`name`) of two splits;
        - `original`: in two splits, videos made from one;
        - `copy`: the same file in two splits;
        - `duplicate`: the same video in two splits, encoded anew;
        - `contradiction`: the same file with both labels;
        - `unnamed original`: no leak, but a fake that looks and moves as a real of its split, and does not name it.

        Two videos that the manifest ties by `original` are no duplicates. Without a picture, only copies are found.
    """
    kinds = [
        find_shared(manifest),
        *_find_copies(manifest, facts),
        *_find_duplicates(manifest, facts),
    ]
    return pd.concat([table.reindex(columns=COLUMNS, fill_value="") for table in kinds], ignore_index=True)


def _find_copies(manifest: pd.DataFrame, facts: Mapping[str, Facts]) -> Iterator[pd.DataFrame]:
    """Yield copies of a file in several splits, and copies of a file with both labels."""
    known = manifest[manifest["video_id"].isin(facts)]
    digests = known["video_id"].map(lambda name: facts[name].sha256)
    first = known["video_id"].groupby(digests).transform("first")
    for kind, column in (("copy", "split"), ("contradiction", "label")):
        yield _keep_shared(known.assign(name=first, kind=kind), column)


def _find_duplicates(manifest: pd.DataFrame, facts: Mapping[str, Facts]) -> Iterator[pd.DataFrame]:
    """Yield what looks and moves alike in two splits, then what does so in one split with both labels."""
    known = manifest[manifest["video_id"].isin(facts)].reset_index(drop=True)
    pairs, splits = match_videos(known, facts), known["split"].to_numpy()
    apart = splits[pairs["first"]] != splits[pairs["second"]]
    for kind, column, alike in (("duplicate", "split", pairs[apart]), ("unnamed original", "label", pairs[~apart])):
        groups = connect_nodes(alike["first"], alike["second"], len(known))
        named = known.assign(name=known["video_id"].groupby(groups).transform("first"), kind=kind)
        yield _keep_shared(
            named.assign(evidence=named["video_id"].map(_list_evidence(alike, known["video_id"]))), column
        )


def _list_evidence(pairs: pd.DataFrame, video_ids: pd.Series) -> dict[str, str]:
    """Say for each video of these pairs what it was found to be the same as."""
    evidence: dict[str, str] = {}
    for pair in pairs.itertuples():
        for one, other in ((pair.first, pair.second), (pair.second, pair.first)):
            evidence.setdefault(video_ids[one], f"{_describe_match(pair)} as {video_ids[other]}")
    return evidence


def _describe_match(pair: tuple) -> str:
    sound = "no sound to compare" if np.isnan(pair.sound) else f"sound {pair.sound:.2f}"
    match = "the same picture" if not pair.sound >= SAME_SOUND else "the same picture and sound"
    return f"{match} (scene {pair.scene:.3f}, motion {pair.motion:.2f}, {sound})"


def _keep_shared(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Keep the rows of each `name` that is found with two values of this column."""
    return table[mark_shared(table["name"], table[column])].sort_values(["name", "split"], kind="stable")


# Fingerprints


def match_videos(manifest: pd.DataFrame, facts: Mapping[str, Facts]) -> pd.DataFrame:
    """Return the pairs of near-duplicates that differ in split or label, and are neither copies nor of one family.

    Every pair is compared, in blocks: first the scenes, then what moves and what is heard where the scene agrees.

    Args:
        manifest: rows that all have facts.

    Returns:
        A row a pair: `first` and `second`, row numbers, and what `compare_videos` finds.
    """
    videos = [facts[name] for name in manifest["video_id"]]
    keys = {
        "split": pd.factorize(manifest["split"])[0],
        "label": manifest["label"].to_numpy(),
        "family": pd.factorize(name_families(manifest))[0],
        "sha256": pd.factorize(pd.Series([video.sha256 for video in videos]))[0],
    }
    prints = _read_prints(videos)
    tables = []
    for first, second in _match_scenes(prints["scene"]):
        apart = (keys["split"][first] != keys["split"][second]) | (keys["label"][first] != keys["label"][second])
        untied = (keys["family"][first] != keys["family"][second]) & (keys["sha256"][first] != keys["sha256"][second])
        first, second = first[apart & untied], second[apart & untied]
        for at in range(0, len(first), PAIRS):
            tables.append(compare_videos(prints, first[at : at + PAIRS], second[at : at + PAIRS]))
    pairs = pd.concat(tables, ignore_index=True) if tables else compare_videos(prints, *np.zeros((2, 0), int))
    heard = (pairs["sound"] >= SAME_SOUND) & (pairs["motion"] >= MOTION_WITH_SOUND)
    same = (pairs["scene"] >= SAME_SCENE) & ((pairs["motion"] >= SAME_MOTION) | heard)
    return pairs[same].reset_index(drop=True)


def _read_prints(facts: Sequence[Facts]) -> dict[str, NDArray[np.int8]]:
    """Return all videos' fingerprints as arrays, of which `motion` is `[n, STRETCHES, MOTION_SIZE]`."""
    shapes = {"scene": (SCENE_SIZE,), "motion": (STRETCHES, MOTION_SIZE), "sound": (SOUND_SIZE,)}
    nothing = {name: "00" * int(np.prod(shape)) for name, shape in shapes.items()}
    texts = {name: "".join(getattr(video, name) or nothing[name] for video in facts) for name in shapes}
    return {
        name: np.frombuffer(bytes.fromhex(texts[name]), np.int8).reshape(len(facts), *shape)
        for name, shape in shapes.items()
    }


def _match_scenes(scenes: NDArray[np.int8]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the numbers of the pairs with the same scene, some at a time."""
    lengths = np.maximum(np.linalg.norm(scenes.astype(np.float32), axis=1, keepdims=True), 1)
    units = scenes / lengths.astype(np.float32)
    for row in range(0, len(units), BLOCK):
        for column in range(row, len(units), BLOCK):
            alike = units[row : row + BLOCK] @ units[column : column + BLOCK].T >= SAME_SCENE
            first, second = np.nonzero(np.triu(alike, 1) if row == column else alike)
            yield first + row, second + column


def compare_videos(prints: Mapping[str, NDArray[np.int8]], first: NDArray, second: NDArray) -> pd.DataFrame:
    """Compare pairs of videos by their fingerprints.

    Returns:
        A row a pair: `first`, `second`; the correlations `scene`, of the usual picture; `motion`, of what changes, in
        the median stretch, 1 where nothing moves in either; `sound`, NaN where one has none.
    """
    return pd.DataFrame(
        {
            "first": first,
            "second": second,
            "scene": _correlate(prints["scene"][first], prints["scene"][second]),
            "motion": _compare_motion(prints["motion"][first], prints["motion"][second]),
            "sound": _correlate(prints["sound"][first], prints["sound"][second]),
        }
    )


def _compare_motion(first: NDArray[np.int8], second: NDArray[np.int8]) -> NDArray[np.float32]:
    still = ~first.any(axis=2) & ~second.any(axis=2)
    alike = np.nan_to_num(_correlate(first, second))  # a still stretch and a moving one have nothing in common
    told = np.ma.median(np.ma.masked_array(alike, still), axis=1)
    return np.where(still.all(axis=1), 1, np.ma.filled(told, 1))


def _correlate(first: NDArray[np.int8], second: NDArray[np.int8]) -> NDArray[np.float32]:
    """Return the cosine of the angle between vectors `[…, d]`, NaN where one is zero."""
    first, second = first.astype(np.float32), second.astype(np.float32)
    lengths = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    return np.divide((first * second).sum(axis=-1), lengths, out=np.full_like(lengths, np.nan), where=lengths > 0)
