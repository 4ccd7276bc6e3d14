"""KoDF (Korean; of its sound nothing is said): names that say who, from whom and how.

Real `<person>/<person>_<NNN>.mp4`, fake `<method>/<date>/<target>/<target>_<source>_<code>_<n>.mp4`; a person is 20
hexadecimal digits or six. Kwon et al., ICCV 2021.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from dfmm.layouts.listing import Listing, Problems, drop_doubles, list_tree, make_listing, read_names
from dfmm.layouts.release import Layout
from dfmm.manifest import VIDEO_ENDINGS

PERSON = r"(?:[0-9a-f]{20}|\d{6})"
NAMES = (
    rf"(?:^|/)(?P<name>(?P<target>{PERSON})_\d{{3}})\.[^./]+$",
    rf"(?P<above>(?:^|.*/))(?P<name>(?P<target>{PERSON})_(?P<donor>{PERSON})_(?P<code>\d)_\d+)\.[^./]+$",
)
CODES = {"1": "dfl", "2": "dffs", "3": "fsgan", "4": "fo", "5": "audio-driven"}


def read_kodf(root: str | Path) -> Listing:
    """Read KoDF; there is no official split.

    Identities are `kodf/<person>`. A name's code says the method, and where a folder says another it is noted. Which
    recording a fake was made of is not said, nor whether a sound is forged. Clips with an adversarial attack, which
    the release has too, are called otherwise and noted.

    Raises:
        ManifestError: no video of the layout.
    """
    problems = Problems()
    tree = list_tree(root, problems)
    rows = drop_doubles(read_names(tree.select(VIDEO_ENDINGS), NAMES, problems), ["name"], problems)
    fake, method = rows["pattern"] == 1, rows["code"].map(CODES)
    unknown = fake & method.isna()
    problems.add("malformed name", rows.loc[unknown, "path"], "its code is none of 1 to 5")
    told = rows["above"].str.extract(rf"(?:^|/)({'|'.join(CODES.values())})/")[0]
    odd = fake & ~unknown & told.notna() & (told != method)
    problems.add("label conflict", rows.loc[odd, "path"], "its folder names another method; its code is believed")
    rows = rows.assign(
        label=fake.astype(int),
        video_fake=fake.astype(int),
        audio_fake=-1,
        in_sync=-1,
        method=method.where(fake, "real"),
        identities=_name_people(rows),
        dataset="kodf",
    )
    rows = rows[~unknown].drop(columns=["pattern", "name", "target", "donor", "code", "above"])
    return make_listing(rows, problems, root=root, expected="<person>_<NNN>.mp4 and <target>_<source>_<code>_<n>.mp4")


def _name_people(rows: pd.DataFrame) -> pd.Series:
    donor = ("|kodf/" + rows["donor"]).where((rows["donor"] != "") & (rows["donor"] != rows["target"]), "")
    return "kodf/" + rows["target"] + donor


KODF = Layout(
    "kodf",
    "KoDF",
    read_kodf,
    sound=False,
    identities="actors, target and source",
    licence="terms of its form",
    ask="github.com/deepbrainai-research/kodf",
    counted="the README of PolyGlotFake, of KoDF's paper",
    counts={"label == 0": 62_166, "label == 1": 175_776},
    parts={f"the folder {method}": f"{method}/" for method in CODES.values()},
)
