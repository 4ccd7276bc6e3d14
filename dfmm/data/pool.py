"""Work on many files in processes that a broken file cannot take down, on this machine or over Ray or Dask on many."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from itertools import islice
from typing import Any

from pebble import ProcessExpired, ProcessPool

from dfmm.data.media import MediaError
from dfmm.sections import Extract

SECONDS_PER_FILE = 600  # after this, and a second more for each of so many bytes, a worker is taken to hang, and killed
BYTES_PER_SECOND = 1_000_000
MMAP_THRESHOLD, MMAP_BYTES = -3, 1 << 17  # mallopt's M_MMAP_THRESHOLD
IMPORTED_AGAIN = 73  # exit status of a worker that was started by a script without a guard, and ran it again

Submit = Callable[[Callable[..., Any], Sequence[Any], float], Future]


class PoolError(RuntimeError):
    """Workers that cannot be started; the message says what to do."""


def run_tasks(
    function: Callable[..., Any], tasks: Sequence[Sequence[Any]], settings: Extract
) -> Iterator[tuple[int, Any]]:
    """Apply a function to the arguments of each task, in parallel; a crash or a hang costs its own task only.

    Args:
        function: of a module that the workers can import.
        tasks: arguments; the first is the path of the file that the task is about.

    Yields:
        As they come, each task's number with what the function returned, or the `MediaError` of why it did not.

    Raises:
        PoolError: no workers can be started.
    """
    if not tasks:
        return
    _check_main()
    engine = {"local": _open_processes, "ray": _open_ray, "dask": _open_dask}[settings.engine]
    waiting: dict[Future, int] = {}
    numbers = iter(range(len(tasks)))
    with engine(settings, len(tasks)) as (submit, slots):
        while True:
            for number in islice(numbers, 2 * slots - len(waiting)):  # as many again are under way to the workers
                waiting[submit(function, tasks[number], _allow_seconds(tasks[number][0]))] = number
            if not waiting:
                return
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                number = waiting.pop(future)
                yield number, _settle(future, tasks[number][0])


def _allow_seconds(path: str | os.PathLike[str]) -> float:
    try:
        return SECONDS_PER_FILE + os.path.getsize(path) / BYTES_PER_SECOND
    except OSError:
        return SECONDS_PER_FILE


def _settle(future: Future, path: str | os.PathLike[str]) -> Any:
    """Await a task; return what came of it, or why nothing did."""
    try:
        return future.result()
    except MediaError as error:
        return error
    except (FutureTimeoutError, ProcessExpired) as error:
        return MediaError(f"{path}: its decoder {'hung' if isinstance(error, FutureTimeoutError) else 'crashed'}")
    except Exception as error:
        return MediaError(f"{path}: {type(error).__name__}: {error}")


def count_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_main() -> None:
    """Find out whether workers can be started: each imports the script that starts them, and must not start its own.

    Raises:
        PoolError: they cannot.
    """
    # What multiprocessing itself goes by; its own error would end each worker anew, without end.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        os._exit(IMPORTED_AGAIN)
    main = sys.modules["__main__"]
    if getattr(main, "__file__", None) is None or getattr(main, "__spec__", None) is not None:
        return  # a notebook, or a module: `python -m`
    probe = multiprocessing.get_context("spawn").Process(target=int)
    probe.start()
    probe.join()
    if probe.exitcode == IMPORTED_AGAIN:
        raise PoolError(
            f"{main.__file__}: worker processes import this script, and would do all it does once more; "
            'put what it does under `if __name__ == "__main__":`'
        )
    if probe.exitcode:
        raise PoolError(f"{main.__file__}: worker processes fail as they import this script; why stands above")


@contextmanager
def _open_processes(settings: Extract, most: int) -> Iterator[tuple[Submit, int]]:
    slots = min(settings.workers or count_cores(), most)
    pool = _make_pool(slots)
    try:
        yield _submit_to(pool), slots
    finally:  # interrupted, nobody waits for what is still to be done
        pool.stop()
        pool.join()


def _make_pool(workers: int) -> ProcessPool:
    # Spawned, not forked: a process that has run PyTorch's threads cannot be forked safely.
    context = multiprocessing.get_context("spawn")
    return ProcessPool(max_workers=workers, context=context, initializer=_prepare_worker)


def _submit_to(pool: ProcessPool) -> Submit:
    return lambda function, task, seconds: pool.schedule(function, args=task, timeout=seconds)


def _prepare_worker() -> None:
    """One thread each, and memory given back: decoded frames come and go, and glibc would keep their holes."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with contextlib.suppress(ImportError):
        import cv2

        cv2.setNumThreads(1)
    with contextlib.suppress(AttributeError, OSError, TypeError):  # no glibc here
        ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, MMAP_BYTES)


# Engines. Their workers hand each file on to a process of their own, so that one file costs no more there than here.

_own = threading.local()


def guard_task(function: Callable[..., Any], task: Sequence[Any], seconds: float) -> Any:
    """Apply a function in a process beside this one; return what came of it, or the `MediaError` of why nothing did."""
    if getattr(_own, "pool", None) is None:
        multiprocessing.current_process()._config["daemon"] = False  # Dask's workers are, and could have no children
        _own.pool = _make_pool(1)
    return _settle(_submit_to(_own.pool)(function, task, seconds), task[0])


@contextmanager
def _open_ray(settings: Extract, most: int) -> Iterator[tuple[Submit, int]]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = _import_engine("ray", "ray")
    ours = not ray.is_initialized()
    if ours:
        address = settings.address or os.environ.get("RAY_ADDRESS")
        there = {"address": address} if address else {"num_cpus": settings.workers or count_cores()}
        ray.init(**there, include_dashboard=None if address else False, logging_level="ERROR")
    try:
        guard = ray.remote(num_cpus=1)(guard_task)
        slots = min(settings.workers or int(ray.cluster_resources().get("CPU", 1)), most)
        yield lambda *what: guard.remote(*what).future(), slots
    finally:
        if ours:
            ray.shutdown()


@contextmanager
def _open_dask(settings: Extract, most: int) -> Iterator[tuple[Submit, int]]:
    distributed = _import_engine("distributed", "dask")
    with contextlib.ExitStack() as stack:
        address = settings.address
        if not address:
            workers = min(settings.workers or count_cores(), most)
            options = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
            address = stack.enter_context(distributed.LocalCluster(**options))
        client = stack.enter_context(distributed.Client(address))
        slots = min(settings.workers or sum(client.nthreads().values()) or 1, most)
        executor = client.get_executor(pure=False)
        yield lambda *what: executor.submit(guard_task, *what), slots


def _import_engine(module: str, extra: str) -> Any:
    try:
        return __import__(module)
    except ImportError as error:
        raise PoolError(
            f"extract.engine: {extra} needs a package that is not installed ({error}): pip install 'dfmm[{extra}]'"
        ) from error
