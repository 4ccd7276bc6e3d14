"""Commands that run notebooks and train, list runs and explain settings."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

from dfmm.cli.command import PARAMS, RUN, argument, command


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
        argument(
            "--html",
            action="store_true",
            help="write each notebook as a page as well, which loads nothing from elsewhere",
        ),
    ],
)
def run(options: argparse.Namespace) -> None:
    from dfmm.headless import read_parameters, run_notebooks

    choice = {"run": options.run, "restart": options.restart, "html": options.html}
    choice |= {"parameters": read_parameters(options.parameters)}
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
    "stop",
    help="have a training end with a checkpoint that the same command goes on from",
    arguments=[argument("run", metavar="RUN", help="the run's folder, such as outputs/sample")],
)
def stop(options: argparse.Namespace) -> None:
    from dfmm.runs import find_run

    print(find_run(options.run).ask_to_stop())


@command(
    "runs",
    help="what happened in the runs under outputs/",
    arguments=[
        argument("folder", nargs="?", default="outputs", help="(default %(default)s)"),
    ],
)
def list_runs(options: argparse.Namespace) -> None:
    from dfmm.runs import Run, RunError
    from dfmm.settings import resolve_path

    folder = resolve_path(options.folder)
    if not folder.is_dir():
        raise RunError(f"{options.folder}: no such folder; expected one that runs lie in, such as outputs")
    files = sorted(folder.glob("[!.]*/run.json"))
    if not files:
        print(f"no run in {options.folder}")
    for file in files:
        stages = Run(file.parent).read()["stages"]
        print(f"{file.parent.name}: " + ", ".join(f"{name} {stage['status']}" for name, stage in stages.items()))


@command(
    "settings",
    help="every setting: its default, its range, what it means",
    arguments=[argument("word", nargs="?", default="", metavar="WORD", help="only those with it in name or meaning")],
)
def print_settings(options: argparse.Namespace) -> None:
    from dfmm.settings import describe_settings

    print(describe_settings(options.word), end="")


@command(
    "strip",
    help="take what was shown of clips out of notebooks, before they are committed",
    description="Take all outputs, players and pictures among them, out of notebooks. The numbered ones of this "
    "project stay, unless a cell, a parameter or params/quick.yaml was changed. .pre-commit-config.yaml does this "
    "at each commit.",
    epilog="Exit status: 0 nothing was to be done, 1 files were changed (they are named) or are no notebooks.",
    arguments=[argument("files", nargs="+", metavar="FILE", help="notebooks")],
)
def strip(options: argparse.Namespace) -> int:
    from dfmm.strip import strip_files

    changed = strip_files(options.files)
    for file in changed:
        print(f"stripped: {file}")
    return int(bool(changed))
