"""ASVspoof 2019, logical access (sound only): protocols of five columns, and a folder of FLAC files for each split.

`ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.{train.trn,dev.trl,eval.trl}.txt`, lines such as
`LA_0079 LA_T_1004644 - A01 spoof`, and `ASVspoof2019_LA_{train,dev,eval}/flac/`. Wang et al., Computer Speech &
Language 2020.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from dfmm.layouts.listing import Listing, Problems, Tree, list_tree, make_listing, match_files
from dfmm.layouts.release import Layout
from dfmm.manifest import AUDIO_ENDINGS, ManifestError

PROTOCOLS = {  # split: the dataset's word for it, and the ending of its list
    "train": ("train", "train.trn"),
    "val": ("dev", "dev.trl"),
    "test": ("eval", "eval.trl"),
}
LABELS = {"bonafide": 0, "spoof": 1}


def read_asvspoof(root: str | Path) -> Listing:
    """Read ASVspoof 2019 LA with its official splits; `dev` is val, `eval` is test.

    There is no picture: `video_fake` and `in_sync` are unknown (-1), as there is nothing to know. Methods are the
    attacks' ids, `A01` to `A19`; identities the speakers (`asvspoof2019/LA_0079`). The lists of the verification
    task (`.asv.`) are not read: their extra files have no row.

    Raises:
        ManifestError: there is no protocol, or none of its files.
    """
    problems = Problems()
    endings = tuple(f"ASVspoof2019.LA.cm.{ending}.txt" for _, ending in PROTOCOLS.values())
    tree = list_tree(root, problems, endings=(*AUDIO_ENDINGS, *endings))
    found = {split: path for split, name in zip(PROTOCOLS, endings, strict=True) for path in tree.find(name)[:1]}
    if not found:
        raise ManifestError(f"{root}: expected ASVspoof2019_LA_cm_protocols/ with {', '.join(endings)}")
    gone = [name for split, name in zip(PROTOCOLS, endings, strict=True) if split not in found]
    problems.add("missing file", gone, "a protocol")
    rows = pd.concat([_read_protocol(tree, path, split, problems) for split, path in found.items()], ignore_index=True)
    rows = match_files(rows, tree.select(AUDIO_ENDINGS), tree, problems)
    return make_listing(rows, problems, root=root, expected="the files that the protocols name")


def _read_protocol(tree: Tree, path: str, split: str, problems: Problems) -> pd.DataFrame:
    """Read speaker, file, attack and key; the third column means nothing here."""
    lines = [line.split() for line in (tree.root / path).read_text(encoding="utf-8", errors="replace").splitlines()]
    whole = [len(line) == 5 and line[4] in LABELS and (line[3] == "-") == (line[4] == "bonafide") for line in lines]
    bad = [" ".join(line) for line, good in zip(lines, whole, strict=True) if line and not good]
    problems.add("malformed row", bad, f"in {path}: expected speaker, file, -, attack or -, spoof or bonafide")
    columns = ["speaker", "name", "unused", "attack", "key"]
    rows = pd.DataFrame([line for line, good in zip(lines, whole, strict=True) if good], columns=columns, dtype="str")
    above = path.rpartition("/")[0].rpartition("/")[0]
    folder = f"{above}/" * bool(above) + f"ASVspoof2019_LA_{PROTOCOLS[split][0]}/flac/"
    label = rows["key"].map(LABELS).astype(int)
    return pd.DataFrame(
        {
            "path": folder + rows["name"] + ".flac",
            "split": split,
            "label": label,
            "audio_fake": label,
            "method": rows["attack"].where(label == 1, "real"),
            "identities": "asvspoof2019/" + rows["speaker"],
            "dataset": "asvspoof2019-la",
            "source": "vctk",
        }
    )


ASVSPOOF = Layout(
    "asvspoof",
    "ASVspoof 2019 LA",
    read_asvspoof,
    picture=False,
    identities="speakers",
    split="train, val, test",
    licence="ODC-By",
    ask="datashare.ed.ac.uk/handle/10283/3336",
    counted="its protocols",
    counts={
        "split == 'train'": 25_380,
        "split == 'val'": 24_844,
        "split == 'test' and label == 0": 7_355,
        "split == 'test' and label == 1": 63_882,
    },
    parts={
        f"the folder {name}": f"{name}/"
        for name in ("ASVspoof2019_LA_train", "ASVspoof2019_LA_dev", "ASVspoof2019_LA_eval")
    },
)
