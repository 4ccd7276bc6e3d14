"""AV-Deepfake1M++ (sound, forged in places): as AV-Deepfake1M, of three corpora; the labels of both tests are hidden.

`{train,val}_metadata.json`, `test{A,B}_files.txt` and clips such as `val/vox_celeb_2/id01358/x/00030/real.mp4`,
`val/lrs3/<talk>/<utterance>/…` and `val/silent_videos/subject_7_…_vid_1_2/…`, each with a JSON file beside it that
repeats its row. Cai et al., ACM MM 2025.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from dfmm.layouts.avdeepfake1m import read_release
from dfmm.layouts.columns import extract_texts
from dfmm.layouts.listing import Listing, look_up
from dfmm.layouts.release import Layout

CORPORA = {"vox_celeb_2": "voxceleb2", "lrs3": "lrs3", "silent_videos": "silent"}
PERSON = r"(?:^|/)(?P<corpus>vox_celeb_2|lrs3|silent_videos)/(?P<person>subject_\d+|[^/]+)"


def read_avdeepfake1mpp(root: str | Path) -> Listing:
    """Read AV-Deepfake1M++ with its official train and val; the files of testA and testB have no label.

    Identities are the speakers: `voxceleb2/id01358` (the same people as in FakeAVCeleb), of LRS3 the talk, and
    `silent/subject_7`. Methods are what `video_model` and `audio_model` name; a forged picture of which neither is
    told is `lipsync`.

    Raises:
        ManifestError: there is no metadata, or none of its files.
    """
    return read_release(
        root,
        "av-deepfake1m++",
        name_people=_name_people,
        picture="lipsync",
        tests=("testA", "testB"),
        beside=".json",
    )


def _name_people(files: pd.Series) -> pd.DataFrame:
    named = extract_texts(files, PERSON)
    corpus = look_up(named["corpus"], CORPORA)
    return pd.DataFrame({"identities": (corpus + "/" + named["person"]).where(corpus != "", ""), "source": corpus})


AVDEEPFAKE1MPP = Layout(
    "avdeepfake1mpp",
    "AV-Deepfake1M++",
    read_avdeepfake1mpp,
    segments=True,
    identities="speakers",
    split="train, val; tests have no labels",
    licence="research only, an agreement to sign",
    ask="deepfakes1m.github.io/2025",
    counted="val_metadata.json, as deepfake-workbench counts it",
    counts={
        "split == 'val'": 77_326,
        "split == 'val' and label == 0": 20_220,
        "split == 'val' and video_fake == 1 and audio_fake == 0": 19_099,
        "split == 'val' and video_fake == 0 and audio_fake == 1": 18_938,
        "split == 'val' and video_fake == 1 and audio_fake == 1": 19_069,
    },
    parts={
        "train.zip.001, …": "train/",
        "val.zip.001, …": "val/",
        "testA.zip.001, …": "testA/",
        "testB.zip.001, …": "testB/",
    },
)
