"""The `dfmm` command: sample data, its audit, notebooks, evaluation and scores from a terminal."""

from __future__ import annotations

import argparse
import difflib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = """\
examples:
  dfmm sample data/sample                                  draw synthetic talking heads with sound
  dfmm manifest fakeavceleb data/FakeAVCeleb_v1.2          the manifest of a public dataset, and what is odd about it
  dfmm audit params/sample.yaml --out outputs/audit        what leaks between splits, what gives fakes away
  dfmm extract params/sample.yaml data.read=cache          face crops and sound of all videos, once, in parallel
  dfmm run all params/sample.yaml                          the five notebooks, headless, into outputs/sample
  dfmm run 03_train params/sample.yaml train.lr=1e-3 --run outputs/lr
  dfmm run 08_compare_runs params/sample.yaml -y 'others: [outputs/lr]'
  dfmm evaluate outputs/sample --split test                report.json, scores.csv and figures once more
  dfmm compare outputs/sample outputs/lr                   differences with paired intervals, seeds summed up
  dfmm robustness outputs/sample                           what compression, noise, lost frames do to its scores
  dfmm score clip.mp4 more/ --run outputs/sample --json    a line of JSON for each file

The same `dfmm run` again goes on where it was cut off. `dfmm settings` lists every setting.
Exit status: 0 all done, 1 something failed or was found (it is named), 2 the command was wrong.
"""


Argument = tuple[tuple[str, ...], dict[str, Any]]  # what `ArgumentParser.add_argument` takes
COMMANDS: list[tuple[str, Callable[[argparse.Namespace], int | None], Sequence[Argument], dict[str, Any]]] = []


def argument(*names: str, **options: Any) -> Argument:
    """Return an argument or option of a command."""
    return names, options


def command(name: str, *, arguments: Sequence[Argument] = (), **texts: Any) -> Callable[[Callable], Callable]:
    """Make a function a command of this name with these arguments; what it returns is its exit status."""

    def add(function: Callable[[argparse.Namespace], int | None]) -> Callable:
        COMMANDS.append((name, function, arguments, texts))
        return function

    return add


Scorer = Callable[..., "Iterator[dict[str, Any]]"]  # files → a line each
PARAMS = (
    argument("params", help="params file, such as params/sample.yaml"),
    argument("overrides", nargs="*", metavar="NAME=VALUE", help="settings laid over the params file"),
)
RUN = (
    argument("--run", metavar="FOLDER", help="the run's folder (default: outputs/<name of the params file>)"),
    argument("--restart", action="store_true", help="begin again instead of going on"),
)


def main(words: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    words = list(sys.argv[1:] if words is None else words)
    if words and not words[0].startswith("-") and words[0] not in (names := [name for name, *_ in COMMANDS]):
        meant = difflib.get_close_matches(words[0], names, n=1)
        hint = f"; did you mean {meant[0]}?" if meant else "."
        print(f"dfmm: no command {words[0]!r}{hint} There are {', '.join(names)}.", file=sys.stderr)
        return 2
    options = make_parser().parse_args(words)
    logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stderr)
    try:
        return options.command(options) or 0
    except KeyboardInterrupt as error:
        print(f"dfmm: interrupted {error}".rstrip(), file=sys.stderr)
        return 143 if "SIGTERM" in str(error) else 130
    except BrokenPipeError:  # `dfmm score … | head`
        sys.stderr.close()
        return 1
    except (ValueError, RuntimeError, OSError) as error:  # all of ours are; their messages say what to do
        if type(error).__module__.split(".")[0] != "dfmm" and not isinstance(error, OSError):
            raise
        print(f"dfmm: {error}", file=sys.stderr)
        return 1


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; each sets `command` to its function."""
    parser = argparse.ArgumentParser(
        prog="dfmm",
        description="Which of these talking-head videos are forged, in which stream, and how sure are we?",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, function, arguments, texts in COMMANDS:
        subparser = subparsers.add_parser(name, **texts)
        for names, options in arguments:
            subparser.add_argument(*names, **options)
        subparser.set_defaults(command=function)
    return parser


@command(
    "sample",
    help="draw synthetic talking heads: mp4 files and a manifest",
    arguments=[
        argument("root", type=Path, metavar="ROOT", help="folder to write"),
        argument("--videos", type=int, default=320, help="how many (default %(default)s)"),
        argument("--seed", type=int, default=0, help="another seed, other people (default %(default)s)"),
    ],
)
def draw_sample(options: argparse.Namespace) -> None:
    from dfmm.sample import make_sample

    print(make_sample(options.root, videos=options.videos, seed=options.seed))


@command(
    "manifest",
    help="a public dataset's manifest, with splits, and what does not fit",
    arguments=[
        argument(
            "layout",
            metavar="LAYOUT",
            help="faceforensics, celebdf, dfdc, fakeavceleb, lavdf, avdeepfake1m, asvspoof, "
            "folders (<split>/<video folder>/ with a meta.json) or realfake (real/ and fake/)",
        ),
        argument("root", type=Path, metavar="ROOT", help="the dataset's folder; paths will be relative to it"),
        argument("--out", type=Path, metavar="FILE", help=".csv or .parquet (default: ROOT/manifest.csv)"),
        argument("--val", type=float, default=0.15, help="share of val, where no split is official (%(default)s)"),
        argument("--test", type=float, default=0.15, help="share of test, likewise (%(default)s)"),
        argument("--split-seed", type=int, default=0, help="another seed, other splits (default %(default)s)"),
        argument("--by", nargs="+", default=["method"], metavar="COLUMN", help="shared out alike (default method)"),
        argument("--resplit", action="store_true", help="divide by identity even where splits are official"),
        argument("--compression", choices=("raw", "c23", "c40"), help="of faceforensics (default c23)"),
    ],
)
def make_manifest(options: argparse.Namespace) -> None:
    from dfmm.layouts import build_manifest
    from dfmm.manifest import ManifestError, summarise_manifest, write_manifest

    path = options.out or options.root / "manifest.csv"
    listing = build_manifest(
        options.layout,
        options.root,
        shares={"train": 1 - options.val - options.test, "val": options.val, "test": options.test},
        seed=options.split_seed,
        by=options.by,
        resplit=options.resplit,
        **({"compression": options.compression} if options.compression else {}),
    )
    details = path.with_suffix(".problems.csv")
    ours = [file.name for file in (path, details) if file.resolve().parent == options.root.resolve()]  # of last time
    problems = listing.problems[~listing.problems["name"].isin(ours)]
    try:
        write_manifest(listing.table, path)
    except PermissionError as error:
        raise ManifestError(f"{error.filename}: may not be written; choose another place with --out") from error
    write_manifest(problems, details)
    print(f"{path}: {len(listing.table)} videos\n\n{summarise_manifest(listing.table).to_string()}\n")
    print(*listing.notes, sep="\n")
    for kind, found in problems.groupby("kind"):
        names = ", ".join(found["name"].iloc[:3]) + (", …" if len(found) > 3 else "")
        print(f"{len(found)} × {kind}: {names}")
    print(f"all of these, with details: {details}" if len(problems) else "nothing that does not fit")


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
    from dfmm.manifest import ManifestError, select_videos
    from dfmm.runs import terminate_as_interrupt
    from dfmm.settings import load_settings

    settings = load_settings(options.params, options.overrides)
    if settings.data.read == "shards":
        raise ManifestError("data.read: shards is for what was extracted before; name the params of the videos")
    manifest = select_videos(load_manifest(settings), limit=settings.data.limit)
    with terminate_as_interrupt():
        tracks, failures = extract_tracks(manifest, settings, crops=True, talks=settings.synchrony.use)
    listed = write_failures(manifest, failures, options.failures or name_failures(settings))
    print(f"{tracks.cache}: face crops and sound of {len(tracks)} of {len(manifest)} videos")
    print(f"{len(failures)} failed: {listed}" if failures else "none failed")
    if options.shards:
        print(f"data.read=shards data.root={write_shards(tracks, options.shards)} data.manifest={MANIFEST}")
    return int(len(failures) > 0)


def _read_scores(folder: str) -> pd.DataFrame:
    """Return the video table of a run's evaluation on test."""
    from dfmm.evaluation import read_evaluation
    from dfmm.runs import RunError, find_run

    evaluation = read_evaluation(find_run(folder))
    if evaluation is None:
        raise RunError(f"{folder} has no evaluation of its present model on test; run dfmm evaluate {folder} first")
    return evaluation[1]


@command(
    "run",
    help="execute a notebook, or all, headless through papermill",
    arguments=[
        argument("notebook", help="a notebook's name, such as 03_train, or all"),
        *PARAMS,
        *RUN,
        argument(
            "-y",
            "--parameters",
            default="",
            metavar="YAML",
            help="parameters of its own that a notebook has, as papermill takes them: 'others: [outputs/lr]'",
        ),
    ],
)
def run(options: argparse.Namespace) -> None:
    from dfmm.headless import read_parameters, run_notebooks

    choice = {"run": options.run, "restart": options.restart, "parameters": read_parameters(options.parameters)}
    done = run_notebooks(options.notebook, options.params, options.overrides, **choice)
    for report in sorted(done.path.glob("evaluations/[!.]*/report.html")):
        print(f"report: {report}")


@command(
    "train",
    help="what 03_train does, without the notebook; also under torchrun and accelerate launch",
    arguments=[
        *PARAMS,
        *RUN,
    ],
)
def train(options: argparse.Namespace) -> None:
    from dfmm.dataset import load_manifest
    from dfmm.runs import Run, open_run
    from dfmm.settings import load_settings
    from dfmm.training import Trainer

    settings = load_settings(options.params, options.overrides)
    folder = options.run or Path("outputs") / Path(options.params).stem
    if int(os.environ.get("RANK", 0)) == 0:
        run = open_run(folder, settings, restart=options.restart)
    else:  # one of several processes: the first one speaks and writes for all
        run = Run(folder)
        logging.getLogger("dfmm").setLevel("ERROR")
    Trainer(settings, load_manifest(settings), run).fit()


@command(
    "evaluate",
    help="a run's model on a split: report.json, scores.csv, figures",
    description="Evaluate a run's model on its own data and on the datasets that its evaluate.datasets lists.",
    arguments=[
        argument("run", metavar="RUN", help="the run's folder, such as outputs/sample"),
        argument("--split", default="test", choices=("train", "val", "test"), help="(default %(default)s)"),
        argument("--manifest", metavar="FILE", help="only this other dataset's manifest"),
        argument("--root", metavar="FOLDER", help="what its paths start from (default: the manifest's folder)"),
    ],
)
def evaluate(options: argparse.Namespace) -> int:
    from dfmm.evaluation import evaluate_datasets, evaluate_run
    from dfmm.runs import find_run

    run = find_run(options.run)
    report, videos, windows = evaluate_run(run, options.split, manifest=options.manifest, root=options.root)
    _print_evaluation(run, report, videos, windows)
    failed = 0
    for file, found in evaluate_datasets(run, options.split) if options.manifest is None else ():
        print(f"\n{file}" + (f": {found}" if isinstance(found, str) else ""))
        if isinstance(found, str):
            failed += 1
        else:
            _print_evaluation(run, *found)
    return int(failed > 0)


def _print_evaluation(run: Any, report: Any, videos: pd.DataFrame, windows: pd.DataFrame) -> None:
    from dfmm import figures
    from dfmm.evaluation import draw_errors, write_report
    from dfmm.training import read_history

    opened, gone = draw_errors(run, report, videos, windows)
    shown = {"history": read_history(run), "opened": opened, "gone": gone}
    page = write_report(report, videos, windows, run / "evaluations" / report.name, **shown)
    alone = report.one_label
    if alone:
        print(f"{alone.why}.\n{alone.name} at the threshold: {figures.format_interval(alone.rate)}")
    for name in ("auc", "ap", "eer", "balanced_accuracy", "fpr_at_95_tpr") if not alone else ():
        print(f"{name:18} {figures.format_interval(report.video[name])}")
    if report.unseen.methods:
        for name, group in (("seen", report.seen), ("unseen", report.unseen)):
            print(f"auc, {name:13} {figures.format_interval(group.auc)}  {', '.join(group.methods)}")
    joint = report.localization and report.localization.streams.get("joint")  # unknown where a stream's truth is
    if joint:
        print(f"ap of stretches    {figures.format_interval(joint.ap['0.5'])}  IoU 0.5")
        print(f"ar of stretches    {figures.format_interval(joint.ar['10'])}  10 found")
    coverage = report.coverage
    print(f"scored {coverage.scored} of {report.videos} videos, {coverage.failed} failed; report: {page}")


@command(
    "compare",
    help="runs beside each other: settings that differ, metrics, paired differences, the spread of seeds",
    description="Compare the evaluations of runs on the same videos. Differences are told paired: two intervals that "
    "overlap may belong to a difference that is sure. Runs that scored different videos are refused, with what is "
    "different.",
    arguments=[
        argument("runs", nargs="+", metavar="RUN", help="folders of two runs or more, evaluated before"),
        argument("--split", default="test", choices=("train", "val", "test"), help="(default %(default)s)"),
        argument("--shared", action="store_true", help="compare them on the videos that all of them scored"),
        argument("--json", action="store_true", help="print all metrics and differences as JSON"),
    ],
)
def compare(options: argparse.Namespace) -> None:
    from dfmm.evaluation import compare_runs, format_comparison
    from dfmm.runs import find_run

    found = compare_runs([find_run(folder) for folder in options.runs], options.split, shared=options.shared)
    print(json.dumps(found, ensure_ascii=False) if options.json else format_comparison(found))


@command(
    "robustness",
    help="what degradations do to a run's model: a sweep over their strengths",
    description="Score a split again under H.264, scaling, blur, noise, brightness, frame rate, MP3, AAC, Opus, noise "
    "and echo in the sound, and sound moved against the picture, from mild to severe, from what is kept of the videos. "
    "Each result is kept as it comes, in the run's folder; the same command goes on where it was cut off.",
    arguments=[
        argument("run", metavar="RUN", help="the run's folder, such as outputs/sample"),
        argument("--split", default="test", choices=("train", "val", "test"), help="(default %(default)s)"),
        argument("--only", nargs="+", metavar="NAME", help="these degradations, such as h264 opus offset"),
        argument(
            "--strengths",
            nargs="+",
            type=float,
            default=(0.25, 0.5, 0.75, 1.0),
            metavar="STRENGTH",
            help="above 0, up to 1 (default 0.25 0.5 0.75 1)",
        ),
        argument("--restart", action="store_true", help="do again what is there already"),
    ],
)
def robustness(options: argparse.Namespace) -> None:
    from dfmm import figures
    from dfmm.evaluation import format_sweep, sweep_degradations
    from dfmm.runs import find_run, terminate_as_interrupt

    choice = {"names": options.only} if options.only else {}
    choice |= {"strengths": options.strengths, "restart": options.restart}
    run = find_run(options.run)
    with terminate_as_interrupt():
        table, summary = sweep_degradations(run, options.split, **choice)
    print(format_sweep(table, summary))
    figure = figures.plot_robustness(table, summary, note=figures.describe_data(synthetic=summary["of"]["synthetic"]))
    picture = run / "robustness" / summary["of"]["name"] / "robustness.png"
    figure.savefig(picture)
    print(f"all of it: {picture.parent}")


@command(
    "score",
    help="score video files; a bad file costs only itself",
    arguments=[
        argument("files", nargs="+", metavar="FILE", help="videos, or folders that are searched for videos"),
        argument("--run", help="whose model to use (default: none, and only synchrony is judged)"),
        argument("--model", metavar="FILE", help="a model file instead of a run"),
        argument(
            "--json",
            action="store_true",
            help="a line of JSON for each file: path, status (ok, unscored, failed), reason, streams (both, video, "
            "audio or nothing: what was scored), score, video_fake, audio_fake, in_sync (probabilities, null where "
            "that stream is absent), called (fake or real) and threshold, face (whose scores these are), windows, "
            "seconds of video, evidence (what each "
            "sense says of the clip, in words), synchrony (lag_ms, positive where the sound is late, in_step, foreign, "
            "genuine, worst, …; without a run all but path, status and reason), and of a run with evaluate.stride "
            "stretches (stream: joint, video_fake or audio_fake; start and end in seconds; confidence)",
        ),
        argument(
            "--reference",
            metavar="FOLDER",
            help="genuine clips of your own: how many of them look as bad as each file? (in JSON: clips, bad, p)",
        ),
        argument(
            "--face",
            choices=("largest", "longest", "all"),
            help="whom to score (default: whom the model was trained on)",
        ),
    ],
)
def score(options: argparse.Namespace) -> int:
    logging.getLogger("dfmm").setLevel("ERROR")  # reasons go into the lines
    from dfmm.layouts.search import list_files

    files, failed = list_files(options.files), 0
    score_lines, format_line = _open_run(options) if options.run or options.model else _open_synchrony(options)
    from dfmm.evaluation import compare_reference, format_reference, gather_reference

    reference = gather_reference(score_lines(list_files([options.reference]))) if options.reference else None
    for line in score_lines(files):
        line = line if reference is None else compare_reference(line, reference)
        failed += line["status"] == "failed"
        says = json.dumps(line, ensure_ascii=False) if options.json else format_line(line) + format_reference(line)
        print(says, flush=True)
    if not options.json and not (options.run or options.model):
        from dfmm.evaluation.synchrony import UNJUDGED

        print(UNJUDGED)
    return int(failed > 0)


def _open_run(options: argparse.Namespace) -> tuple[Scorer, Callable[[dict[str, Any]], str]]:
    """Return how a run's model, or one from a file, scores files, and how it says so; and say what its scores are."""
    from dfmm.evaluation import (
        describe_score,
        explain_untaught,
        format_scores,
        list_untaught,
        load_run,
        open_synchrony,
        read_evidence,
        score_files,
        shift_prior,
    )
    from dfmm.model import load_model
    from dfmm.runs import find_run

    run = None if options.model else find_run(options.run)
    checkpoint = options.model or run.checkpoint
    model, settings, facts = load_run(run) if run else load_model(checkpoint)
    if options.face:
        settings = settings.model_copy(update={"video": settings.video.model_copy(update={"face": options.face})})
    learnt = read_evidence(facts)
    evidence = learnt and shift_prior(learnt, settings.evaluate.prior)
    if not options.json:
        print(f"A score is {describe_score(evidence)}.")
        if facts.get("synthetic"):
            print("This model has seen drawn faces alone: what it says of real clips means nothing.")
    if evidence is None:
        print("dfmm: the network's own scores; dfmm evaluate lets a run learn how to join evidence", file=sys.stderr)
    senses = {"evidence": evidence, "synchrony": open_synchrony(checkpoint, settings)}
    if silent := explain_untaught(list_untaught(model, senses["synchrony"])):
        print(f"dfmm: {silent}", file=sys.stderr)
    return partial(score_files, model=model, settings=settings, **senses), format_scores


def _open_synchrony(options: argparse.Namespace) -> tuple[Scorer, Callable[[dict[str, Any]], str]]:
    """Return how files are judged without any run, and how that is said: do mouth and sound belong together?"""
    from dfmm.evaluation.synchrony import format_synchrony, judge_files
    from dfmm.settings import validate_settings

    settings = validate_settings({"video": {"face": options.face or "largest"}})
    return partial(judge_files, settings=settings), format_synchrony


@command(
    "runs",
    help="what happened in the runs under outputs/",
    arguments=[
        argument("folder", nargs="?", default="outputs", help="(default %(default)s)"),
    ],
)
def list_runs(options: argparse.Namespace) -> None:
    from dfmm.runs import Run
    from dfmm.settings import resolve_path

    for file in sorted(resolve_path(options.folder).glob("[!.]*/run.json")):
        stages = Run(file.parent).read()["stages"]
        print(f"{file.parent.name}: " + ", ".join(f"{name} {stage['status']}" for name, stage in stages.items()))


@command(
    "settings",
    help="every setting: its default, its range, what it means",
    arguments=[],
)
def print_settings(options: argparse.Namespace) -> None:
    from dfmm.settings import describe_settings

    print(describe_settings(), end="")
