"""PolyGlotFake (sound): clips in seven languages, each dubbed into the others with a new voice and new lips.

Real `<language>_<n>.mp4`, fake `<language>_<n>_to_<language>_<voice>.mp4`; `real_json_files/<language>.json` says where
a real is from and who is in it. Hou et al., arXiv 2405.08838.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from dfmm.layouts.listing import (
    Listing,
    Problems,
    Tree,
    drop_doubles,
    list_tree,
    look_up,
    make_listing,
    name_videos,
    read_json,
    read_names,
)
from dfmm.layouts.release import Layout
from dfmm.manifest import VIDEO_ENDINGS, ManifestError

LANGUAGES = ("ar", "en", "es", "fr", "ja", "ru", "zh")
ANY = "|".join(LANGUAGES)
NAMES = (
    rf"(?:^|/)(?P<name>(?P<clip>(?P<language>{ANY})_\d+))\.[^./]+$",
    rf"(?:^|/)(?P<name>(?P<clip>(?:{ANY})_\d+)_to_(?P<language>{ANY})_(?P<voice>[^/]+))\.[^./]+$",
)


def read_polyglotfake(root: str | Path) -> Listing:
    """Read PolyGlotFake; there is no official split.

    Nobody is named: an identity is the video that a real was cut from (`polyglotfake/<source>`), for whoever is in it,
    or where that is not told the real itself. The columns `language`, spoken in a clip, and `sex` and `age` of the
    first person in it stay behind the manifest's own. Which of two methods made the lips, no name says.

    Raises:
        ManifestError: no video of the layout.
    """
    problems = Problems()
    tree = list_tree(root, problems, endings=(*VIDEO_ENDINGS, ".json"))
    rows = drop_doubles(read_names(tree.select(VIDEO_ENDINGS), NAMES, problems), ["name"], problems)
    rows = rows.join(_read_people(tree, problems), on="clip").fillna({"person": "", "sex": "", "age": ""})
    fake, told = rows["pattern"] == 1, rows["person"] != ""
    ids = dict(zip(rows["name"], name_videos(rows["path"]), strict=True))
    rows = rows.assign(
        label=fake.astype(int),
        video_fake=fake.astype(int),
        audio_fake=fake.astype(int),
        in_sync=1,
        method=("lipsync+" + rows["voice"].str.lower().str.replace("_", "+")).where(fake, "real"),
        identities="polyglotfake/" + rows["person"].where(told, rows["clip"]),
        original=look_up(rows["clip"], ids, rows["clip"]).where(fake, ""),
        dataset="polyglotfake",
        source="youtube",
    )
    rows = rows.drop(columns=["pattern", "name", "clip", "voice", "person"])
    return make_listing(rows, problems, root=root, expected="<language>_<n>.mp4 and fakes of them in to_<language>/")


def _read_people(tree: Tree, problems: Problems) -> pd.DataFrame:
    """Read who is in the reals: columns person, sex and age by a real's name."""
    rows: list[tuple[str, ...]] = []
    for language in LANGUAGES:
        found = tree.find(f"real_json_files/{language}.json")
        problems.add("missing file", [f"real_json_files/{language}.json"] * (not found), "it says who is in the reals")
        try:
            rows += [_read_entry(entry) for entry in read_json(tree.root / found[0])["videos"]] if found else []
        except (ManifestError, KeyError, TypeError, AttributeError) as error:
            problems.add("malformed row", found[:1], f"expected videos, each with a filename: {error}")
    people = pd.DataFrame(rows, columns=["clip", "person", "sex", "age"], dtype="str")
    return people.drop_duplicates("clip", keep="last").set_index("clip")


def _read_entry(entry: dict[str, Any]) -> tuple[str, ...]:
    first = next(iter(entry.get("characters") or []), {})
    source = str(entry.get("source") or "").strip().replace("|", "%7C")
    return (Path(str(entry["filename"])).stem, source, *(str(first.get(name) or "") for name in ("sex", "age")))


POLYGLOTFAKE = Layout(
    "polyglotfake",
    "PolyGlotFake",
    read_polyglotfake,
    identities="the videos that reals were cut from",
    licence="academic institutions, research only",
    ask="github.com/tobuta/PolyGlotFake",
    counted="its README",
    counts={"label == 0": 766, "label == 1": 14_472},
)
