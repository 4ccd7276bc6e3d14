"""The `dfmm` command: sample data, its audit, notebooks, evaluation and scores from a terminal."""

from __future__ import annotations

import argparse
import difflib
import logging
import sys
from collections.abc import Sequence

from dfmm.cli import data, running, verdicts  # noqa: F401 – the commands of all of them
from dfmm.cli.command import COMMANDS, UsageError

__all__ = ["main", "make_parser"]

RESUMES = ("extract", "run", "train", "robustness")
RESUMED = "; the same command, without --restart, goes on from here"

EXAMPLES = """\
examples:
  dfmm sample data/sample                                  draw synthetic talking heads with sound
  dfmm manifest fakeavceleb data/FakeAVCeleb_v1.2          the manifest of a public dataset, and what is odd about it
  dfmm propose data/mine --out params/mine.yaml            what is too little in it, settings to begin with, the time
  dfmm audit params/sample.yaml --out outputs/audit        what leaks between splits, what gives fakes away
  dfmm extract params/sample.yaml data.read=cache          face crops and sound of all videos, once, in parallel
  dfmm run all params/sample.yaml                          the five notebooks, headless, into outputs/sample
  dfmm run 03_train params/sample.yaml train.lr=1e-3 --run outputs/lr
  dfmm run 08_compare_runs params/sample.yaml -y 'others: [outputs/lr]'
  dfmm stop outputs/sample                                 its training ends with a checkpoint to go on from
  dfmm evaluate outputs/sample --split test                report.json, scores.csv and figures once more
  dfmm compare outputs/sample outputs/lr                   differences with paired intervals, seeds summed up
  dfmm import scores.csv --manifest data/mine/manifest.csv --run outputs/theirs
  dfmm export outputs/sample --to onnx                     its model for others, with a model card
  dfmm robustness outputs/sample                           what compression, noise, lost frames do to its scores
  dfmm score clip.mp4 more/ --run outputs/sample --json    a line of JSON for each file
  dfmm score clip.mp4 --run outputs/sample --report a.html its verdict, evidence and cautions as a page

The same `dfmm run` again goes on where it was cut off. `dfmm settings` lists every setting, `dfmm settings WORD` some.
Exit status: 0 all done, 1 something failed or was found (it is named), 2 the command was wrong.
"""


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
        if getattr(options, "detector", None):
            verdicts.allow_detector(options)
        return options.command(options) or 0
    except UsageError as error:
        print(f"dfmm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        asked = type(error).__name__ == "Stopped"  # `dfmm.runs` knows of it, and takes longer to load than this
        cut = f"interrupted {error}".rstrip() + (RESUMED if words and words[0] in RESUMES else "")
        print(f"dfmm: {error if asked else cut}".rstrip(), file=sys.stderr)
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
