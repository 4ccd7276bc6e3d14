"""How long a large manifest takes: built from a listing, written, opened, divided; each beside a peer on the same data.

    python benchmarks/manifest.py [--rows 1000000] [--files 20000]

Nothing is decoded: metadata and listing have AV-Deepfake1M's shape, and the tree on disk holds empty files. The first
line is a file of metadata that becomes a manifest on disk, read by columns, beside `json.load` and a loop over its
objects, each in a process of its own, with the most memory that it held.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pandas as pd

from dfmm.layouts import build_manifest
from dfmm.layouts.listing import Problems, Tree, list_tree
from dfmm.layouts.split import split_by_identity
from dfmm.manifest import COLUMNS, fingerprint_manifest, format_segments, read_manifest, write_manifest

NAMES = {
    "real": "real",
    "visual_modified": "fake_video_real_audio",
    "audio_modified": "real_video_fake_audio",
    "both_modified": "fake_video_fake_audio",
}
SPEAKERS = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=20_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        weigh_metadata(Path(folder), options.rows)
        print(f"{'':44} {'dfmm: clock, CPU':>17}  {'peer: clock, CPU':>17}  ratio  peer")
        time_rows(Path(folder), options.rows)
        time_files(Path(folder) / "tree", options.files)


def weigh_metadata(root: Path, rows: int) -> None:
    """Make a manifest of a metadata file in two ways, each in a process of its own; print its time and memory."""
    write_metadata(root, rows)
    size = (root / "train_metadata.json").stat().st_size / 1e6
    print(f"a metadata file of {rows:,} rows ({size:.0f} MB) → manifest.parquet:")
    for name, function in (("dfmm, by columns", build_by_columns), ("json.load and a loop", build_by_rows)):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            made, clock, busy, peak = pool.apply(weigh, (function, root))
        print(f"  {name:22} {clock:6.1f}s  CPU {busy:6.1f}s  {peak:5.2f} GB  {made:,} videos", flush=True)


def weigh(function: Callable[[Path], int], root: Path) -> tuple[int, float, float, float]:
    """Return what a function returns, its seconds by the clock and of the processor, and the peak memory in GB."""
    start, busy = time.perf_counter(), time.process_time()
    made = function(root)
    spent = time.perf_counter() - start, time.process_time() - busy
    return made, *spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def build_by_columns(root: Path) -> int:
    tree = Tree(root, [*(root / "files.txt").read_text().splitlines(), "train_metadata.json"], [])
    with mock.patch("dfmm.layouts.avdeepfake1m.list_tree", return_value=tree):
        table = build_manifest("avdeepfake1m", root).table
    write_manifest(table, root / "columns.parquet")
    return len(table)


def build_by_rows(root: Path) -> int:
    """Make the same table as a script would: without a look at what does not fit, at leaks, or at the files."""
    with (root / "train_metadata.json").open() as file:
        entries = json.load(file)
    rows = []
    for entry in entries:
        video, audio = (entry["modify_type"] in (f"{part}_modified", "both_modified") for part in ("visual", "audio"))
        rows.append(
            {
                "video_id": "train/" + entry["file"].removesuffix(".mp4"),
                "path": "train/" + entry["file"],
                "split": "train",
                "label": int(video or audio),
                "video_fake": int(video),
                "audio_fake": int(audio),
                "in_sync": 1 if video == audio else -1,
                "method": "+".join(["talklip"] * video + [entry["audio_model"]] * audio) or "real",
                "identities": "voxceleb2/" + entry["file"].partition("/")[0],
                "original": "train/" + entry["original"].removesuffix(".mp4") if entry["original"] else "",
                "video_segments": format_segments(entry["visual_fake_segments"]),
                "audio_segments": format_segments(entry["audio_fake_segments"]),
                "dataset": "av-deepfake1m",
                "source": "voxceleb2",
            }
        )
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table.to_parquet(root / "rows.parquet", index=False)
    return len(table)


def time_rows(root: Path, rows: int) -> None:
    """Build, write, open and divide a manifest of many rows."""
    metadata = root / "train_metadata.json"
    tree = Tree(root, [*(root / "files.txt").read_text().splitlines(), metadata.name], [])
    with mock.patch("dfmm.layouts.avdeepfake1m.list_tree", return_value=tree):
        listing = measure(
            f"build {rows:,} rows from a listing",
            lambda: build_manifest("avdeepfake1m", root),
            lambda: json.loads(metadata.read_bytes()),
            "json.loads of the metadata",
        )
    table = listing.table
    for ending, read, write in (
        ("parquet", pd.read_parquet, lambda path: table.to_parquet(path, index=False)),
        ("csv", pd.read_csv, lambda path: table.to_csv(path, index=False)),
    ):
        path, bare = root / f"manifest.{ending}", root / f"bare.{ending}"
        measure(
            f"write {ending}",
            lambda p=path: write_manifest(table, p),
            lambda b=bare, w=write: w(b),
            f"pandas.to_{ending}",
        )
        measure(
            f"open {ending}, validated",
            lambda p=path: read_manifest(p),
            lambda p=path, r=read: r(p),
            f"pandas.{read.__name__}",
        )
    path = root / "manifest.parquet"
    measure(
        "open parquet, validated, paths below a root",
        lambda: read_manifest(path, root),
        lambda: pd.read_parquet(path),
        "pandas.read_parquet",
    )
    measure("fingerprint", lambda: fingerprint_manifest(table))
    measure("divide by identity", lambda: split_by_identity(table))


def time_files(root: Path, files: int) -> None:
    """List and read a tree that is really on disk."""
    entries = list(make_entries(files))
    for entry in entries:
        path = root / "train" / entry["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (root / "train_metadata.json").write_text(json.dumps(entries))
    measure(
        f"list {files:,} files on disk",
        lambda: list_tree(root, Problems()),
        lambda: [os.path.join(*where) for where in ((top, name) for top, _, names in os.walk(root) for name in names)],
        "os.walk",
    )
    listing = measure(f"build {files:,} rows from disk", lambda: build_manifest("avdeepfake1m", root))
    path = write_manifest(listing.table, root / "manifest.parquet")
    measure(
        "open it, links looked for",
        lambda: read_manifest(path, root),
        lambda: [os.path.realpath(root / name) for name in listing.table["path"]],
        "os.path.realpath of every file",
    )


def write_metadata(root: Path, rows: int) -> None:
    """Write metadata of many clips, and a list of their files."""
    with (root / "train_metadata.json").open("w") as file, (root / "files.txt").open("w") as names:
        for number, entry in enumerate(make_entries(rows)):
            file.write((", " if number else "[") + json.dumps(entry))
            names.write(f"train/{entry['file']}\n")
        file.write("]")


def make_entries(rows: int) -> Iterator[dict[str, object]]:
    """Yield metadata of clips with three fakes to each real one."""
    for number in range(rows):
        kind = list(NAMES)[number % 4]
        clip = f"id{number // 4 % SPEAKERS:05d}/{number // 4 * 7919:011x}/{number // 4 % 50:05d}"
        fake = [] if kind == "real" else [[number % 40 / 10, number % 40 / 10 + 0.42]]
        yield {
            "file": f"{clip}/{NAMES[kind]}.mp4",
            "original": None if kind == "real" else f"{clip}/real.mp4",
            "split": "train",
            "modify_type": kind,
            "audio_model": "vits",
            "fake_segments": fake,
            "audio_fake_segments": fake if kind in ("audio_modified", "both_modified") else [],
            "visual_fake_segments": fake if kind in ("visual_modified", "both_modified") else [],
            "video_frames": 150,
            "audio_frames": 96000,
        }


def measure(what: str, ours: Callable[[], object], peer: Callable[[], object] | None = None, name: str = "") -> object:
    """Print the best of two times of each, in turn, and return what ours returned.

    The ratio is of processor seconds: on a machine that does other things too, they tell more than the clock.
    """
    spent: dict[Callable[[], object], tuple[float, float]] = {}
    kept: object = None
    for function in (ours, peer, ours, peer):
        if function is not None:
            start, busy = time.perf_counter(), time.process_time()
            result = function()
            took = time.process_time() - busy, time.perf_counter() - start
            spent[function] = min(spent.get(function, took), took)
            kept = result if function is ours else kept
            del result
    cells = [f"{spent[side][1]:7.2f}s {spent[side][0]:7.2f}s" if side else " " * 17 for side in (ours, peer)]
    ratio = f"{spent[ours][0] / spent[peer][0]:5.1f}" if peer else ""
    print(f"{what:44} {cells[0]}  {cells[1]}  {ratio}  {name}", flush=True)
    return kept


if __name__ == "__main__":
    main()
