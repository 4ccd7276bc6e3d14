"""Commands on data: the sample, manifests, the audit, extraction."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dfmm.cli.command import PARAMS, UsageError, argument, command, read_seed

if TYPE_CHECKING:
    import pandas as pd


@command(
    "sample",
    help="draw synthetic talking heads: mp4 files and a manifest",
    arguments=[
        argument("root", type=Path, metavar="ROOT", help="folder to write"),
        argument("--videos", type=int, default=320, help="how many (default %(default)s)"),
        argument("--seed", type=read_seed, default=0, help="another seed, other people (default %(default)s)"),
    ],
)
def draw_sample(options: argparse.Namespace) -> None:
    from dfmm.sample import make_sample

    print(make_sample(options.root, videos=options.videos, seed=options.seed))


@command(
    "manifest",
    help="a public dataset's manifest, with splits, and what does not fit",
    epilog="Exit status: 0 written, or with --verify whole; 1 a copy that is not whole, or an error, which is named; "
    "2 the command was wrong.",
    arguments=[
        argument(
            "layout",
            metavar="LAYOUT",
            nargs="?",
            help="faceforensics, celebdf, celebdfpp, dfdc, fakeavceleb, lavdf, avdeepfake1m, avdeepfake1mpp, "
            "deepspeak, talkingheadbench, idforge, polyglotfake, mavosdd, avlips, deepfakeeval2024, kodf, megammdf, "
            "asvspoof, asvspoof5, folders (<split>/<video folder>/ with a meta.json) or realfake (real/ and fake/)",
        ),
        argument("root", type=Path, metavar="ROOT", nargs="?", help="the dataset's folder; paths are relative to it"),
        argument("--list", action="store_true", help="say what each layout has, and where to ask for the dataset"),
        argument("--verify", action="store_true", help="count a copy beside what is published, and write nothing"),
        argument(
            "--out", type=Path, metavar="FILE", help=".csv, .parquet, .json or .jsonl (default: ROOT/manifest.csv)"
        ),
        argument("--val", type=float, help="share of val, where no split is official (default 0.15)"),
        argument("--test", type=float, help="share of test, likewise (default 0.15)"),
        argument("--split-seed", type=read_seed, help="another seed, other splits (default 0)"),
        argument("--by", nargs="+", metavar="COLUMN", help="shared out alike (default method)"),
        argument("--resplit", action="store_true", help="divide by identity even where splits are official"),
        argument("--compression", choices=("raw", "c23", "c40"), help="of faceforensics (default c23)"),
    ],
)
def make_manifest(options: argparse.Namespace) -> int:
    from dfmm.files import check_file_name
    from dfmm.layouts import SHARES, build_manifest, verify
    from dfmm.manifest import summarise_manifest, write_manifest
    from dfmm.tables import ENDINGS
    from dfmm.words import count_noun

    if options.list:
        print(verify.list_layouts())
        return 0
    if options.root is None:
        raise UsageError("expected a layout and the dataset's folder, as in dfmm manifest celebdf data/Celeb-DF-v2")
    own = {"compression": options.compression} if options.compression else {}
    if options.verify:
        if ignored := _list_given(options, "out", "val", "test", "split_seed", "by", "resplit"):
            raise UsageError(f"--verify writes and divides nothing: leave {', '.join(ignored)} out")
        found = verify.verify_copy(options.layout, options.root, **own)
        print(verify.format_verification(found))
        return int(not found.is_whole)
    path = options.out or options.root / "manifest.csv"
    check_file_name(path, ENDINGS, "manifest.csv")
    val = SHARES["val"] if options.val is None else options.val
    test = SHARES["test"] if options.test is None else options.test
    listing = build_manifest(
        options.layout,
        options.root,
        shares={"train": 1 - val - test, "val": val, "test": test},
        seed=options.split_seed or 0,
        by=options.by or ["method"],
        resplit=options.resplit,
        **own,
    )
    details = path.with_suffix(".problems.csv")
    ours = [file.name for file in (path, details) if file.resolve().parent == options.root.resolve()]  # of last time
    listing = replace(listing, problems=listing.problems[~listing.problems["name"].isin(ours)])
    write_manifest(listing.table, path)
    write_manifest(listing.problems, details)
    print(f"{path}: {count_noun(len(listing.table), 'video')}\n\n{summarise_manifest(listing.table).to_string()}\n")
    print(*listing.describe(), sep="\n")
    print(f"all of these, with details: {details}" if len(listing.problems) else "nothing that does not fit")
    return 0


def _list_given(options: argparse.Namespace, *names: str) -> list[str]:
    """Return those of these options that were given, as they are written."""
    values = {name: getattr(options, name) for name in names}
    return [f"--{name.replace('_', '-')}" for name, value in values.items() if value is not None and value is not False]


@command(
    "propose",
    help="what is too little in a folder of your own, a params file for it, and the time a run will take",
    description="Look at a folder that holds a manifest.csv, or real/ and fake/ with videos: count its splits, say "
    "what is too little or unknown for a number to mean much, propose settings with their reasons, and estimate, by a "
    "few clips and a training step, how long each stage will take here. Nothing is written unless asked for.",
    arguments=[
        argument("folder", type=Path, metavar="FOLDER", help="of videos"),
        argument("--out", metavar="FILE", help="write the params file, and FOLDER/manifest.csv where there is none"),
    ],
)
def propose(options: argparse.Namespace) -> None:
    from dfmm import proposal
    from dfmm.manifest import write_manifest
    from dfmm.settings import resolve_path

    folder = resolve_path(options.folder)
    listing = proposal.open_folder(folder)
    manifest = listing.table
    looked = proposal.look_at_files(manifest, folder)
    choices = proposal.propose_settings(manifest, folder, looked)
    text = proposal.format_proposal(choices, f"A first run on {folder.name}, as dfmm propose proposes it.")
    if options.out:
        proposal.check_target(text, options.out)
    print(*listing.describe(), "", sep="\n")
    print(proposal.count_splits(manifest), *proposal.list_shortfalls(manifest, looked), "", text, sep="\n", flush=True)
    print("estimated, on this machine as busy as it is now:")
    print(proposal.format_times(proposal.estimate_times(manifest, proposal.build_settings(choices))))
    if options.out:
        proposal.write_proposal(text, options.out)
        if not (folder / "manifest.csv").is_file():
            write_manifest(manifest, folder / "manifest.csv")
        print(f"written: {options.out}; {proposal.tell_next(options.out)}")


@command(
    "audit",
    help="leaks between splits, and shortcuts that tell fakes from reals",
    description="Look for people, originals and videos that are in two splits, and for facts of the files (length, "
    "codec, silence, loudness, …) that tell fakes from reals. Each file is decoded once.",
    epilog="Exit status: 0 nothing found, 1 a leak or a shortcut found (or an error, which is named), "
    "3 nothing found, but people are too few to tell.",
    arguments=[
        *PARAMS,
        argument("--out", type=Path, metavar="FOLDER", help="write audit.json, audit.png and every case as CSV"),
        argument("--run", metavar="FOLDER", help="compare with the detector of this run, as evaluated on test"),
        argument("--json", action="store_true", help="print all that was found as JSON"),
    ],
)
def audit(options: argparse.Namespace) -> int:
    from dfmm import figures
    from dfmm.audit import audit_data, describe_audit, format_audit, save_audit
    from dfmm.dataset import load_manifest
    from dfmm.settings import load_settings

    settings = load_settings(options.params, options.overrides)
    scores = _read_scores(options.run) if options.run else None
    found = audit_data(load_manifest(settings), settings, scores=scores)
    if options.out:
        save_audit(found, options.out)
        figures.plot_audit(found).savefig(options.out / "audit.png")
    print(json.dumps(describe_audit(found), ensure_ascii=False) if options.json else format_audit(found))
    return {"clean": 0, "problem": 1, "unknown": 3}[found.verdict]


def _read_scores(folder: str) -> pd.DataFrame:
    """Return the video table of a run's evaluation on test."""
    from dfmm.evaluation import read_evaluation
    from dfmm.runs import RunError, find_run

    evaluation = read_evaluation(find_run(folder))
    if evaluation is None:
        raise RunError(f"{folder} has no evaluation of its present model on test; run dfmm evaluate {folder} first")
    return evaluation[1]


@command(
    "extract",
    help="faces and sound of all videos into the cache that data.read: cache reads",
    description="Find the face in every video, once, and keep its crops and the sound in data.cache, in as many "
    "processes as extract.workers says, or on a Ray or Dask cluster (extract.engine). Killed at any moment, the "
    "same command goes on; what is kept is not done again, what failed is tried again. Other settings fill the "
    "cache beside what is there.",
    epilog="Exit status: 0 all videos are kept, 1 some failed: they are named, and listed in a CSV.",
    arguments=[
        *PARAMS,
        argument("--failures", type=Path, metavar="FILE", help="the CSV (default: in data.cache/failures)"),
        argument("--shards", type=Path, metavar="FOLDER", help="write it into tar shards (WebDataset) as well"),
    ],
)
def extract(options: argparse.Namespace) -> int:
    from dfmm.dataset import load_manifest
    from dfmm.extraction.extract import extract_tracks, name_failures, write_failures
    from dfmm.extraction.shards import MANIFEST, write_shards
    from dfmm.files import check_file_name
    from dfmm.manifest import ManifestError, select_videos
    from dfmm.runs import terminate_as_interrupt
    from dfmm.settings import load_settings

    settings = load_settings(options.params, options.overrides)
    if settings.data.read == "shards":
        raise ManifestError("data.read: shards is for what was extracted before; name the params of the videos")
    if options.failures:
        check_file_name(options.failures, (".csv",), "failures.csv")
    manifest = select_videos(load_manifest(settings), limit=settings.data.limit)
    with terminate_as_interrupt():
        tracks, failures = extract_tracks(manifest, settings, crops=True, talks=settings.synchrony.use)
    listed = write_failures(manifest, failures, options.failures or name_failures(settings))
    print(f"{tracks.cache}: face crops and sound of {len(tracks)} of {len(manifest)} videos")
    print(f"{len(failures)} failed: {listed}" if failures else "none failed")
    if options.shards:
        print(f"data.read=shards data.root={write_shards(tracks, options.shards)} data.manifest={MANIFEST}")
    return int(len(failures) > 0)
