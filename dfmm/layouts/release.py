"""What a layout is told by: who reads it, what it has, where to ask for it, and what its publishers counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dfmm.layouts.listing import Listing


@dataclass(frozen=True)
class Layout:
    """A dataset as its publishers release it.

    Attributes:
        name: on the command line, and of its params file.
        title: of the dataset.
        read: a root → a `Listing`.
        picture, sound: does a video have one?
        segments: is it said where a fake is forged?
        identities: whom a video names; empty for nobody.
        split: the official ones; empty for none.
        licence, ask: as its publishers say, and where. Read them there: what stands here decides nothing.
        counts: how many videos meet a condition on the manifest's columns, before anything is divided by us.
        counted: who counted them; empty where no count is known.
        counted_of: the one dataset that they are of, where a layout reads several.
        parts: archives, and what the paths of their files begin with, below whatever folder.
    """

    name: str
    title: str
    read: Callable[..., Listing]
    picture: bool = True
    sound: bool = True
    segments: bool = False
    identities: str = ""
    split: str = ""
    licence: str = ""
    ask: str = ""
    counted: str = ""
    counted_of: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
