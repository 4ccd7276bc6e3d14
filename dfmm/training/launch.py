"""Training in several processes of one machine, started from one."""

from __future__ import annotations

import subprocess
import sys

import pandas as pd

from dfmm.dataset import load_manifest
from dfmm.manifest import fingerprint_manifest
from dfmm.runs import Run, RunError, Stopped, terminate_as_interrupt
from dfmm.settings import STORED, Settings, is_named, load_settings


def _name_settings(run: Run) -> list[str]:
    """Return a run's settings as words of a command; a detector that was named to this process is named again."""
    detector = load_settings(run / STORED).model.detector
    named = [f"model.detector={detector}"] if detector and is_named(detector) else []
    return [str(run / STORED), *named]


def start_training(run: Run) -> subprocess.Popen:
    """Let a run go on in a process that outlives this one; what it says, errors too, is in the run's `go_on.log`."""
    command = [sys.executable, "-m", "dfmm", "train", *_name_settings(run), "--run", str(run.path)]
    with (run / "go_on.log").open("w") as errors:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, start_new_session=True)


def launch_training(settings: Settings, manifest: pd.DataFrame, run: Run) -> None:
    """Train a run in `train.processes` processes, show what they say as they say it, and wait for their end.

    Raises:
        Stopped: somebody asked them to.
        RunError: they failed, or the manifest is not the one the settings name, which is all they can know of.
        KeyboardInterrupt: passed on to them first; they write a checkpoint.
    """
    if fingerprint_manifest(load_manifest(settings, progress=False)) != fingerprint_manifest(manifest):
        raise RunError("several processes train on the manifest that data.manifest names; write this one there first")
    launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={settings.train.processes}"]
    train = ["dfmm", "train", *_name_settings(run), "--run", str(run.path)]
    # The dashes keep the launcher from reading `--run` as the beginning of an option of its own.
    command = [sys.executable, "-m", *launcher, "-m", "--", *train]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with terminate_as_interrupt(), process:
        try:
            last = ""
            for last in process.stdout:
                print(last, end="", flush=True)
        except BaseException:
            process.terminate()
            raise
    stage = run.read()["stages"].get("train", {})
    if process.returncode and stage.get("status") == "stopped":
        raise Stopped(stage["error"].partition(": ")[2])
    if process.returncode:
        raise RunError(f"training in several processes ended with status {process.returncode}: {last}")
