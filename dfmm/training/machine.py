"""What a training runs on: devices, processes, signals, cores, trackers; what to say when memory or disc is full."""

from __future__ import annotations

import errno
import importlib.util
import logging
import os
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState

from dfmm.model import MultimodalModel, PluginModel, evaluation_mode, find_device
from dfmm.runs import Run
from dfmm.settings import Settings

log = logging.getLogger("dfmm")


class TrainingError(RuntimeError):
    """Training that cannot start or go on; the message says why, and what to change."""


def check_machine(settings: Settings) -> None:
    """Raise a `TrainingError` for a precision that this machine has not, or a tracker that is not installed."""
    for name in settings.logging.trackers:
        if importlib.util.find_spec(name) is None:
            raise TrainingError(f"logging.trackers: {name} is not installed: pip install 'dfmm[{name}]'")
    if settings.train.mixed_precision == "fp16" and not torch.cuda.is_available():
        raise TrainingError("train.mixed_precision: fp16 needs a GPU; bf16 and no run on the CPU, too")


def make_accelerator(settings: Settings, run: Run) -> Accelerator:
    """Return accelerate's hold on devices, processes, precision and trackers.

    Raises:
        TrainingError: a precision that this machine has not, or a tracker that is not installed.
    """
    check_machine(settings)
    trackers = settings.logging.trackers
    if "trackio" in trackers:
        place_trackio(run / "trackers" / "trackio")
    AcceleratorState._reset_state()  # a notebook may train twice, with another precision the second time
    return Accelerator(
        mixed_precision=settings.train.mixed_precision,
        cpu=find_device().type == "cpu",  # said aloud: only then do several processes without a GPU find each other
        log_with=list(trackers) or None,
        project_dir=str(run / "trackers") if trackers else None,
        # A batch in which no clip has a stream gives that stream's part no gradient.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=False)],
    )


def place_trackio(folder: Path) -> None:
    """Have trackio write into a folder, unless the environment variable TRACKIO_DIR names another.

    It reads the variable once, as it is imported: a second training of one process has it imported anew.
    """
    if os.environ.get("TRACKIO_DIR", _placed.get("trackio")) != _placed.get("trackio"):
        return
    os.environ["TRACKIO_DIR"] = _placed["trackio"] = str(folder)
    for name in [name for name in sys.modules if name.partition(".")[0] == "trackio"]:
        del sys.modules[name]


_placed: dict[str, str] = {}  # where this process has had trackers write


def name_tracked_run(settings: Settings, run: Run) -> dict[str, dict[str, Any]]:
    """Return what makes each tracker call the run by its folder's name."""
    return {
        "wandb": {"name": run.name, "dir": str(run / "trackers")},  # else it writes where one stands
        "trackio": {"name": run.path.name, "resume": "allow"},
        "mlflow": {"run_name": run.name},
    }


def compile_backbone(model: MultimodalModel | PluginModel, size: int) -> None:
    """Have the picture's backbone compiled as it is first used; where that does not work, say why and leave it be.

    Only the backbone: it takes nearly all of a step, and sees pictures of one size, if not always as many.
    """
    if isinstance(model, PluginModel):
        log.warning("train.compile: %s is not ours, and is not compiled", model.path)
        return
    backbone = model.frame_encoder.backbone
    pictures = torch.zeros(2, 3, size, size, device=next(backbone.parameters()).device)
    backbone.compile()
    try:
        with evaluation_mode(backbone), torch.no_grad():
            backbone(pictures.contiguous(memory_format=torch.channels_last))
    except Exception as error:  # a compiler, Triton or Python that is lacking each fail in their own way
        backbone._compiled_call_impl = None
        log.warning("train.compile: the backbone is not compiled: %s", textwrap.shorten(str(error), 300))


def derive_seed(*numbers: int) -> int:
    """Return a seed in which every one of these numbers matters."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def share_cores(workers: int, processes: int = 1, *, threads: int | None = None) -> None:
    """Leave the workers that decode their cores: threads that wait for a core hold up all the others.

    Args:
        threads: what a checkpoint was made with; sums over another number of threads round otherwise.
    """
    mine = (os.cpu_count() or 1) // processes - workers
    torch.set_num_threads(threads or max(1, min(torch.get_num_threads(), mine)))


@contextmanager
def catch_termination(end: Callable[[], None]) -> Iterator[None]:
    """Call a function where SIGTERM would end the process; signals reach the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: end())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def explain_failures(run: Run) -> Iterator[None]:
    """Say what to do when memory or the disc is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise TrainingError(
            f"the disc is full ({error.filename or run.name}); free some of it and give the same command again: "
            "it goes on from the newest checkpoint"
        ) from error
    except (MemoryError, RuntimeError) as error:
        words = ("out of memory", "allocate memory", "not enough memory", "DataLoader worker", "shared memory")
        if isinstance(error, RuntimeError) and not any(word in str(error) for word in words):
            raise
        raise TrainingError(
            f"out of memory ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no details'}); "
            "raise train.accumulate (the same loss in smaller parts), or lower train.batch_size, video.frames, "
            "video.size or data.workers"
        ) from error
