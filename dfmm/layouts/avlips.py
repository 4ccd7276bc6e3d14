"""AVLips (sound): real clips, and clips whose lips were made to follow a sound; folders and numbers, nothing more.

`0_real/<n>.mp4`, `1_fake/<n>.mp4`, and their sound once more in `wav/`. Liu et al., NeurIPS 2024 (LipFD).
"""

from __future__ import annotations

from pathlib import Path

from dfmm.layouts.listing import Listing, Problems, drop_doubles, list_tree, make_listing, read_names
from dfmm.layouts.release import Layout
from dfmm.manifest import VIDEO_ENDINGS

PLACES = (
    r"(?:^|/)(?P<folder>0_real)/(?P<number>[^/]+)\.[^./]+$",
    r"(?:^|/)(?P<folder>1_fake)/(?P<number>[^/]+)\.[^./]+$",
)


def read_avlips(root: str | Path) -> Listing:
    """Read AVLips; there is no official split.

    Nobody is named, and the numbers of real and fake repeat. Whether fake 5 was made of real 5 is not said: both are
    taken to belong together (`avlips/5`), which costs little where it is not so, and parts nobody where it is. The
    sound is anybody's genuine one; which of four methods made the lips, nobody says.

    Raises:
        ManifestError: no video of the layout.
    """
    problems = Problems()
    tree = list_tree(root, problems)
    rows = read_names(tree.select(VIDEO_ENDINGS), PLACES, problems)
    rows = drop_doubles(rows, ["pattern", "number"], problems)
    rows = rows.assign(
        label=rows["pattern"],
        video_fake=rows["pattern"],
        audio_fake=0,
        in_sync=1,
        method=rows["pattern"].map({0: "real", 1: "lipsync"}),
        identities="avlips/" + rows["number"],
        dataset="avlips",
    )
    rows = rows.drop(columns=["pattern", "folder", "number"])
    return make_listing(rows, problems, root=root, expected="0_real/ and 1_fake/ with videos")


AVLIPS = Layout(
    "avlips",
    "AVLips 1.0",
    read_avlips,
    identities="by number, perhaps not people",
    licence="not stated",
    ask="github.com/AaronComo/LipFD",
)
