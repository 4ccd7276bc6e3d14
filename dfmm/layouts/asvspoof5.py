"""ASVspoof 5 (sound only): protocols of ten columns parted by blanks, whatever their ending says, and FLAC files.

`ASVspoof5.{train,dev.track_1,eval.track_1}.tsv` and `flac_T/`, `flac_D/`, `flac_E_eval/`. No attack is in two splits,
and sound that was coded is in eval alone. Wang et al., ASVspoof 2024.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv

from dfmm.layouts.listing import (
    Listing,
    Problems,
    Tree,
    list_tree,
    make_listing,
    match_files,
    name_videos,
    place_by_name,
)
from dfmm.layouts.release import Layout
from dfmm.manifest import AUDIO_ENDINGS, ManifestError

PROTOCOLS = {  # split: the protocol's name, and the folder of its files
    "train": ("ASVspoof5.train.tsv", "flac_T"),
    "val": ("ASVspoof5.dev.track_1.tsv", "flac_D"),
    "test": ("ASVspoof5.eval.track_1.tsv", "flac_E_eval"),
}
COLUMNS = ("speaker", "name", "gender", "codec", "quality", "seed", "tag", "attack", "key", "unused")
LABELS = {"bonafide": 0, "spoof": 1}


def read_asvspoof5(root: str | Path) -> Listing:
    """Read ASVspoof 5, track 1, with its official splits; `dev` is val, `eval` is test.

    As in `asvspoof`, there is no picture to know about. Methods are `A01` to `A32`; identities the speakers
    (`asvspoof5/T_0001`); the original of a coded copy is what was coded. The columns `codec` and `gender` stay behind
    the manifest's own. Files for enrolment in track 2 have no row.

    Raises:
        ManifestError: there is no protocol, or none of its files.
    """
    problems = Problems()
    names = tuple(name for name, _ in PROTOCOLS.values())
    tree = list_tree(root, problems, endings=(*AUDIO_ENDINGS, *names))
    found = {split: path for split, (name, _) in PROTOCOLS.items() for path in tree.find(name)[:1]}
    if not found:
        raise ManifestError(f"{root}: expected {', '.join(names)} with flac_T/, flac_D/ and flac_E_eval/")
    gone = [name for split, (name, _) in PROTOCOLS.items() if split not in found]
    problems.add("missing file", gone, "a protocol")
    table = pd.concat([_read_protocol(tree, path, split, problems) for split, path in found.items()], ignore_index=True)
    sounds = tree.select(AUDIO_ENDINGS)
    rows = match_files(_describe(table, sounds), sounds, tree, problems)
    return make_listing(rows, problems, root=root, expected="the files that the protocols name")


def _read_protocol(tree: Tree, path: str, split: str, problems: Problems) -> pd.DataFrame:
    bad: list[str] = []
    layout = pyarrow.csv.ParseOptions(
        delimiter=_find_delimiter(tree.root / path),
        quote_char=False,
        invalid_row_handler=lambda row: bad.append(row.text) or "skip",
    )
    kinds = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.string()), strings_can_be_null=False)
    whole = pyarrow.csv.ReadOptions(column_names=list(COLUMNS), use_threads=False)
    try:
        table = pyarrow.csv.read_csv(tree.root / path, whole, layout, kinds).to_pandas()
    except (pa.ArrowInvalid, OSError) as error:
        raise ManifestError(f"{path}: no protocol of ten columns: {error}") from error
    odd = ~table["key"].isin(LABELS) | ((table["attack"] == "bonafide") != (table["key"] == "bonafide"))
    bad += table.loc[odd].agg(" ".join, axis=1).tolist() if odd.any() else []
    problems.add("malformed row", bad, f"in {path}: expected ten columns, the ninth spoof or bonafide as the eighth is")
    return table[~odd].assign(split=split)


def _find_delimiter(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return "\t" if "\t" in file.readline() else " "


def _describe(table: pd.DataFrame, sounds: pd.Series) -> pd.DataFrame:
    folder = table["split"].map({split: folder for split, (_, folder) in PROTOCOLS.items()}) + "/"
    label = table["key"].map(LABELS).astype(int)
    files = pd.concat({name: table[name] + ".flac" for name in ("name", "seed")})  # sounds are searched once for both
    placed = place_by_name(files, sounds, pd.concat({"name": folder, "seed": folder}) + files)
    return pd.DataFrame(
        {
            "path": placed["name"],
            "split": table["split"],
            "label": label,
            "audio_fake": label,
            "method": table["attack"].where(label == 1, "real"),
            "identities": "asvspoof5/" + table["speaker"],
            "original": name_videos(placed["seed"]).where(table["seed"] != "-", ""),
            "dataset": "asvspoof5",
            "source": "mls",
            "codec": table["codec"],
            "gender": table["gender"],
        }
    )


ASVSPOOF5 = Layout(
    "asvspoof5",
    "ASVspoof 5",
    read_asvspoof5,
    picture=False,
    identities="speakers",
    split="train, val, test",
    licence="ODC-By; genuine speech CC BY 4.0",
    ask="www.asvspoof.org",
    counted="its README.txt",
    counts={"split == 'train'": 182_357, "split == 'val'": 140_950, "split == 'test'": 680_774},
    parts={
        "flac_T_aa.tar … flac_T_ae.tar": "flac_T/",
        "flac_D_aa.tar … flac_D_ac.tar": "flac_D/",
        "flac_E_aa.tar … flac_E_aj.tar": "flac_E_eval/",
    },
)
