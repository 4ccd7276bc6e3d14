"""Commands on what a run has learnt: evaluate it, compare it, try it, score files."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfmm.cli.command import DETECTOR, UsageError, argument, command, keep_garbage

if TYPE_CHECKING:
    import pandas as pd


def allow_detector(options: argparse.Namespace) -> None:
    """Let the code be run that a command's `--detector` names, where its run, or model's file, was made with that.

    Raises:
        DetectorError: that is another detector, or none but ours: naming it would change nothing.
    """
    from dfmm.model import DetectorError
    from dfmm.settings import name_detector

    stored = _find_detector(options)
    if stored != options.detector:
        place = getattr(options, "model", None) or options.run or "what needs neither run nor model"
        cure = f"if you trust that, name it: --detector {stored}" if stored else "leave it out"
        raise DetectorError(
            f"--detector {options.detector} changes nothing: {place} has {stored or 'no such detector'}; {cure}"
        )
    name_detector(options.detector)


def _find_detector(options: argparse.Namespace) -> str | None:
    """Return the detector that is not ours of the model that a command is to ask; None where there is none."""
    from dfmm.model import read_header
    from dfmm.runs import find_run
    from dfmm.settings import load_settings, validate_settings

    file = getattr(options, "model", None)
    if not file and not options.run:
        return None
    checkpoint = Path(file) if file else find_run(options.run).checkpoint
    if not file and not checkpoint.is_file():
        return load_settings(find_run(options.run) / "settings.yaml").model.detector
    return validate_settings(read_header(checkpoint)["settings"]).model.detector


@command(
    "evaluate",
    help="a run's model on a split: report.json, scores.csv, figures",
    description="Evaluate a run's model on its own data and on the datasets that its evaluate.datasets lists.",
    arguments=[
        argument("run", metavar="RUN", help="the run's folder, such as outputs/sample"),
        argument("--split", default="test", choices=("train", "val", "test"), help="(default %(default)s)"),
        argument("--manifest", metavar="FILE", help="only this other dataset's manifest"),
        argument("--root", metavar="FOLDER", help="what its paths start from (default: the manifest's folder)"),
        DETECTOR,
    ],
)
def evaluate(options: argparse.Namespace) -> int:
    from dfmm.evaluation import evaluate_datasets, evaluate_run
    from dfmm.runs import find_run

    if options.root and not options.manifest:
        raise UsageError("--root is where the paths of --manifest start: name that, too, or leave --root out")
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


@command(
    "import",
    help="scores of a detector that is not ours, as a run: coverage, metrics, report, comparison",
    description="Take a table of scores (CSV, Parquet, JSON lines) into a run's folder and evaluate it. Its columns: "
    "video_id or path, score, and where a video has several rows frame, window or start (seconds; end, too, if it is "
    "known). Threshold and calibration come from its validation rows; a video without a row is named as missing. "
    "Nothing in a table is run.",
    arguments=[
        argument(
            "scores",
            metavar="TABLE",
            help="such as scores.csv; or mypackage.mymodule:build, code that is run: what it returns has score_files",
        ),
        argument(
            "overrides",
            nargs="*",
            metavar="NAME=VALUE",
            help="settings: data, evaluate, and model.aggregation (mean, max or confident) of several rows; extract "
            "and cure with --rivals, any for code",
        ),
        argument("--manifest", required=True, metavar="FILE", help="of the videos: labels, splits, people"),
        argument("--root", metavar="FOLDER", help="what its paths start from (default: the manifest's folder)"),
        argument("--run", required=True, metavar="FOLDER", help="the run's folder to make, such as outputs/theirs"),
        argument(
            "--polarity",
            choices=("fake_high", "real_high"),
            help="whose scores are high (default: what validation surely shows; test is never asked)",
        ),
        argument("--video", metavar="COLUMN", help="that names the video (default: video_id, else path)"),
        argument("--score", metavar="COLUMN", help="(default: score)"),
        argument("--rivals", action="store_true", help="measure trivial features too, which reads every video"),
        argument("--split", default="test", choices=("train", "val", "test"), help="(default %(default)s)"),
        argument("--restart", action="store_true", help="remove what an earlier import left in the folder"),
    ],
)
def import_table(options: argparse.Namespace) -> None:
    from dfmm.evaluation import describe_import, evaluate_run, is_detector, read_import, refuse_unused, write_import
    from dfmm.runs import Run, open_run
    from dfmm.settings import lay_over, name_detector, resolve_path, validate_settings

    Run(options.run).refuse_trained()
    refuse_unused(options.scores, options.overrides, rivals=options.rivals)
    if is_detector(options.scores):
        name_detector(options.scores)
    root = options.root or str(Path(options.manifest).parent)
    data = {"root": root, "manifest": os.path.relpath(resolve_path(options.manifest), resolve_path(root))}
    settings = validate_settings(lay_over({"data": data}, options.overrides), origin="dfmm import")
    if Run(options.run).path.exists() and not options.restart:  # other settings are refused before anything is read
        open_run(options.run, settings)
    chosen = {"video": options.video, "score": options.score, "rivals": options.rivals}
    facts, table, manifest = read_import(options.scores, settings, polarity=options.polarity, **chosen)
    run = open_run(options.run, settings, restart=options.restart)  # an earlier import goes only for one that is read
    write_import(run, facts, table, manifest)
    found = evaluate_run(run, options.split)
    print(*describe_import(facts, found[0]), sep="\n")
    _print_evaluation(run, *found)


@command(
    "export",
    help="a run's model as ONNX with a model card, or the card alone",
    description="Write a run's model as ONNX, try on 20 clips that it scores as ours does, and write a model card in "
    "Markdown: data, prior, metrics with intervals, limits, licence. The extra `onnx` is needed for the former.",
    arguments=[
        argument("run", metavar="RUN", help="the run's folder, such as outputs/sample, evaluated before"),
        argument("--to", default="onnx", choices=("onnx", "card"), help="(default %(default)s)"),
        argument("--out", type=Path, metavar="FOLDER", help="(default: export/ in the run's folder)"),
        argument("--license", metavar="ID", help="of the weights, as hubs know it, such as cc-by-4.0 (default: none)"),
        argument("--split", default="test", choices=("train", "val", "test"), help="(default %(default)s)"),
        DETECTOR,
    ],
)
def export(options: argparse.Namespace) -> None:
    from dfmm.evaluation import export_run
    from dfmm.runs import find_run

    run = find_run(options.run)
    chosen = {"license": options.license, "split": options.split}
    for file in export_run(run, options.to, options.out or run / "export", **chosen):
        print(file)


def _print_evaluation(run: Any, report: Any, videos: pd.DataFrame, windows: pd.DataFrame) -> None:
    from dfmm import figures
    from dfmm.evaluation import publish_evaluation

    page = publish_evaluation(run, report, videos, windows)
    alone = report.one_label
    if alone:
        print(f"{alone.why}.\n{alone.name} at the threshold: {figures.format_interval(alone.rate)}")
    for name in ("auc", "ap", "eer", "balanced_accuracy", "fpr_at_95_tpr") if not alone else ():
        print(f"{name:18} {figures.format_interval(report.video[name])}")
    if report.seen.videos or report.unseen.videos:
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
        DETECTOR,
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
        DETECTOR,
        argument(
            "--json",
            action="store_true",
            help="a line of JSON for each file: path, status (ok, unscored, failed), reason, streams (both, video, "
            "audio or nothing: what was scored), score, video_fake, audio_fake, in_sync (probabilities, null where "
            "that stream is absent), called (fake or real) and threshold, face (whose scores these are), windows, "
            "seconds of video, looked (of a long file: stretches that were decoded, and glances, frames looked at "
            "alone), evidence (what each sense says of the clip, in words), log10_ratios (the same as a "
            "number), synchrony (lag_ms, positive where the sound is late, in_step, foreign, "
            "genuine, of how many clips and people, worst, …; without a run all but path, status and reason), and of a "
            "run with evaluate.stride stretches (stream: joint, video_fake or audio_fake; start and end in seconds; "
            "confidence)",
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
        argument(
            "--whole",
            action="store_true",
            help="decode long files from start to end, not around the windows that are scored alone; with --report "
            "their scores over time, too",
        ),
        argument(
            "--report",
            type=Path,
            metavar="FILE.html",
            help="write a page as well: each file with its picture, what every sense says, scores over time, cautions",
        ),
    ],
)
def score(options: argparse.Namespace) -> int:
    logging.getLogger("dfmm").setLevel("ERROR")  # reasons go into the lines
    from dfmm.files import check_file_name
    from dfmm.layouts.search import list_files

    if options.run and options.model:
        raise UsageError("--run and --model each name a model: leave one of them out")
    files = list_files(options.files, required=not options.json)  # a reader of JSON wants a line for each
    genuine = list_files([options.reference]) if options.reference else []
    if options.report:
        check_file_name(options.report, (".html", ".htm"), "verdicts.html")
    from dfmm.extraction.pool import count_cores, keep_workers

    # A run's own settings, not known yet, may want but one.
    most = 1 if options.run or options.model else count_cores()
    with keep_workers(ready=min(len(files) + len(genuine), most)):  # what they import, they import beside us
        from dfmm.runs import terminate_as_interrupt

        with terminate_as_interrupt():
            return _score_files(files, genuine, options)


def _score_files(files: list[str], genuine: list[str], options: argparse.Namespace) -> int:
    with keep_garbage():
        from dfmm.evaluation import compare_reference, format_reference, gather_reference, open_judge, warn_of

        chosen = {"model": options.model, "face": options.face, "dense": bool(options.report), "whole": options.whole}
        judge = open_judge(options.run, **chosen)
    failed, titles, kept = 0, Counter(), []
    for sentence in [] if options.json else judge.introduce():
        print(sentence)
    warn_of(judge)
    reference = gather_reference(one.line for one in judge.judge(genuine)) if genuine else None
    for verdict in judge.judge(files, details=bool(options.report)):
        line = verdict.line if reference is None else compare_reference(verdict.line, reference)
        failed, titles = failed + (line["status"] == "failed"), titles + Counter([verdict.title])
        says = json.dumps(line, ensure_ascii=False) if options.json else judge.format(line) + format_reference(line)
        print(says, flush=True)
        kept += [replace(verdict, line=line)] if options.report else []
    if len(files) > 1 and not options.json:
        print(
            f"{len(files)} files: " + ", ".join(f"{count} × {title.lower()}" for title, count in titles.most_common())
        )
    if {*titles} - {"Not judged"} and not options.json and not judge.model:
        from dfmm.evaluation.synchrony import UNJUDGED

        print(UNJUDGED)
    if options.report:
        from dfmm.evaluation import write_verdicts  # and all that draws, which nobody else need wait for

        print(f"report: {write_verdicts(kept, judge, options.report)}", file=sys.stderr)
    return int(failed > 0)
