"""Whom videos belong to: the people whom they name, else their original, else themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

from dfmm.tables import is_among
from dfmm.words import count_noun

ALONE = "video:"  # begins the name that stands in for people whom nobody names


def name_people(videos: pd.DataFrame) -> pd.Series:
    """Return whom each video belongs to, joined by `|`: the one answer for splits, intervals, batches and donors.

    These are its own `identities`, without the blanks around them, and those of the video it was made from, and of what
    that one was made from. Where nobody is named, the family (`name_families`) stands in for a person.
    """
    clean = videos["identities"].str.normalize("NFC").str.strip("| \t\r\n")  # é is one letter, or e and an accent
    if clean.str.contains("|", regex=False).any():
        clean = clean.str.replace(r"\s*\|[\s|]*", "|", regex=True)
    above, nameless = _find_originals(videos), clean == ""
    # A video may be called anything, but a bar parts people.
    family = ALONE + name_families(videos).str.replace("|", "/") if nameless.any() else clean
    names = clean.mask(nameless & (above < 0), family).to_numpy(object)
    several = np.flatnonzero(clean.str.contains("|", regex=False))
    names[several] = [_join_names(each) for each in names[several]]
    for _ in range(len(names).bit_length()):  # each time twice as far up: enough, even where originals run in a circle
        rows = np.flatnonzero(above >= 0)
        rows = rows[names[rows] != names[above[rows]]]
        names[rows] = [_join_names(*both) for both in zip(names[rows], names[above[rows]], strict=True)]
        above = np.where(above >= 0, above[above], -1)
    return pd.Series(names, videos.index, dtype="str").where(lambda found: found != "", family)


def count_people(videos: pd.DataFrame) -> int:
    """Return how many people videos belong to, of a table in which `assign_people` has said whom.

    A family that names nobody counts as one, so these are as many as there may be at most.
    """
    return videos["identities"].str.split("|").explode().nunique()


def count_named(videos: pd.DataFrame) -> int:
    """Return how many people videos name, of such a table: nobody stands in for another."""
    people = videos["identities"].str.split("|").explode()
    return int(people[~people.str.startswith(ALONE)].nunique())


def mark_nameless(videos: pd.DataFrame) -> pd.Series:
    """Return of which videos neither they nor what they were made from name anybody: bool, by the table's index."""
    return name_people(videos).str.startswith(ALONE)


def describe_nameless(videos: pd.DataFrame) -> str:
    """Say what cannot be known where videos name nobody; empty where all name somebody."""
    nameless = int(mark_nameless(videos).sum())
    return f"{tell_nameless(nameless, len(videos))}: whether a person is in two splits is not known" * bool(nameless)


def tell_nameless(nameless: int, total: int | None = None) -> str:
    """Return `1 video names nobody`, or `3 of 10 videos name nobody`."""
    whose = count_noun(nameless, "video") if total is None else f"{nameless} of {count_noun(total, 'video')}"
    return f"{whose} name{'s' * (nameless == 1)} nobody"


def assign_people(videos: pd.DataFrame) -> pd.DataFrame:
    """Return the table with whom each video belongs to as its `identities`; any part of it then says the same."""
    return videos.assign(identities=name_people(videos))


def _find_originals(videos: pd.DataFrame) -> NDArray[np.int64]:
    """Return the number of the row of each video's original, -1 where none is listed."""
    listed = np.flatnonzero(~videos["video_id"].duplicated())
    found = pd.Index(videos["video_id"].iloc[listed]).get_indexer(videos["original"])
    return np.where(found >= 0, listed[found], -1)


def _join_names(*people: str) -> str:
    return "|".join(dict.fromkeys(name for each in people for name in each.split("|") if name))


def name_families(videos: pd.DataFrame) -> pd.Series:
    """Return for each video the first one of all that are tied to it by `original`, be that listed or not."""
    made = videos["original"] != ""
    first = videos["original"].where(made, videos["video_id"])
    if not is_among(first, videos.loc[made, "video_id"]).any():  # no original was itself made from another
        return first
    codes, names = pd.factorize(pd.concat([videos["video_id"], first]))
    own, above = np.split(codes, 2)
    return first.groupby(connect_nodes(own, above, len(names))[own]).transform("min")


def connect_nodes(first: Sequence[int], second: Sequence[int], n: int) -> NDArray[np.int32]:
    """Return the number of each of n nodes' connected part."""
    edges = scipy.sparse.coo_array((np.ones(len(first)), (first, second)), shape=(n, n))
    return scipy.sparse.csgraph.connected_components(edges, directed=False)[1]


def find_shared(videos: pd.DataFrame) -> pd.DataFrame:
    """Return the videos of each person (`kind` identity) and each family (original) that is in two splits, by `name`.

    A row for each video of each, with all columns of the table.
    """
    videos = videos.reset_index(drop=True)
    people = name_people(videos)
    if people.str.contains("|", regex=False).any():
        people = people.str.split("|").explode()
    kinds = {"identity": people[~people.str.startswith(ALONE)], "original": name_families(videos)}
    return pd.concat([_list_shared(videos, names, kind) for kind, names in kinds.items()], ignore_index=True)


def _list_shared(videos: pd.DataFrame, names: pd.Series, kind: str) -> pd.DataFrame:
    names = names[mark_shared(names, videos["split"][names.index])]
    found = videos.loc[names.index].assign(kind=kind, name=names.to_numpy(object))
    return found.sort_values(["name", "split"], kind="stable")


def mark_shared(names: pd.Series, values: pd.Series) -> NDArray[np.bool_]:
    """Return of which rows the name is found with two values, such as splits: bool `[n]`."""
    groups = pd.Series(pd.factorize(values)[0]).groupby(pd.factorize(names)[0])
    return (groups.transform("min") != groups.transform("max")).to_numpy()
