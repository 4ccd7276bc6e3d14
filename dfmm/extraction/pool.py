"""Work on many files in processes that a broken file cannot take down, on this machine or over Ray or Dask on many."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from dfmm.media.container import MediaError
from dfmm.memory import return_memory
from dfmm.processes import hide_main
from dfmm.sections import Extract

SECONDS_TO_START = 600  # a worker that has not imported what it needs by then will not
SECONDS_PER_FILE = 600  # after this, and a second more for each of so many bytes, a worker is taken to hang, and killed
BYTES_PER_SECOND = 1_000_000
TICK = 0.2  # seconds after which who works ahead looks whether that is still wanted
GRACE = 2.0  # and those in which it has to let go of what it holds
AT_ONCE = 16  # files that are found together, unless there are more workers: what is found lies on the disk until used
FRAME_BYTES = 1 << 17  # of an array that may be of a frame

Submit = Callable[[Callable[..., Any], Sequence[Any], float], Future]
Item, Made = TypeVar("Item"), TypeVar("Made")


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
        CancelledError: it was to be made by `look_ahead`, and nobody asks for it any more.
    """
    if not tasks:
        return
    engine = {"local": _open_processes, "ray": _open_ray, "dask": _open_dask}[settings.engine]
    waiting: dict[Future, int] = {}
    numbers = iter(range(len(tasks)))
    with engine(settings, len(tasks)) as (submit, slots):
        while True:
            if (stopped := getattr(_own, "stopped", None)) and stopped.is_set():
                raise CancelledError
            for number in islice(numbers, 2 * slots - len(waiting)):  # as many again are under way to the workers
                waiting[submit(function, tasks[number], _allow_seconds(tasks[number][0]))] = number
            if not waiting:
                return
            for future in wait(waiting, timeout=TICK, return_when=FIRST_COMPLETED).done:
                number = waiting.pop(future)
                yield number, _settle(future, tasks[number][0])


def _allow_seconds(path: str | os.PathLike[str]) -> float:
    try:
        return SECONDS_PER_FILE + os.path.getsize(path) / BYTES_PER_SECOND
    except OSError:
        return SECONDS_PER_FILE


def _settle(future: Future, path: str | os.PathLike[str]) -> Any:
    """Await a task; return what came of it, or why its engine could not have it done."""
    try:
        return future.result()
    except CancelledError:  # somebody has ended the workers: it says nothing of the file
        raise
    except Exception as error:
        return MediaError(f"{path}: {type(error).__name__}: {error}")


def look_ahead(
    function: Callable[[Item], Made], items: Iterable[Item], *, drop: Callable[[Made], Any] = lambda made: None
) -> Iterator[Made]:
    """Yield what a function returns of each item, in order; of the next one it is made in a thread meanwhile.

    Who stops early waits `GRACE` seconds for it at most, in which its `run_tasks` ends.

    Args:
        drop: what was made and is not asked for any more.
    """
    stopped, items = threading.Event(), iter(items)
    under_way = [_begin(function, item, stopped) for item in islice(items, 1)]
    try:
        while under_way:
            made = under_way[0].result()
            under_way = [_begin(function, item, stopped) for item in islice(items, 1)]
            yield made
    finally:
        stopped.set()
        for future in under_way:
            future.add_done_callback(lambda future: future.exception() or drop(future.result()))
        wait(under_way, timeout=GRACE)


def _begin(function: Callable[[Item], Made], item: Item, stopped: threading.Event) -> Future:
    """Apply a function in a thread that keeps no program from ending: it may wait for another process's lock."""
    future: Future = Future()

    def work() -> None:
        _own.stopped = stopped
        try:
            future.set_result(function(item))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


def split_files(files: Sequence[str], settings: Extract) -> Iterator[list[str]]:
    """Yield files by and by: one for each worker at first, so that an answer comes soon, then more at once."""
    at, size = 0, settings.workers or count_cores()
    while at < len(files):
        yield list(files[at : at + size])
        at, size = at + size, max(size, min(2 * size, AT_ONCE))


def count_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Guard:
    """A process beside this one, for one task at a time; whatever a task does to it, the next finds one that works.

    Each has a pipe to itself, which ends when its process does, and not before: so it is certain what a process died
    of. Where workers share their pipes, one may be dead before anybody has heard which task it had taken.
    """

    def __init__(self) -> None:
        self._closed = False
        self._start()

    def apply(self, function: Callable[..., Any], task: Sequence[Any], seconds: float) -> Any:
        """Apply a function to the arguments of a task; return what it does, or the `MediaError` of why it did not.

        Raises:
            CancelledError: meanwhile it was closed.
        """
        if not self._process.is_alive():  # the last task, or somebody else, has ended it
            self._start()
        try:
            self._pipe.send((function, task))
            self._receive(SECONDS_TO_START)
            return self._receive(seconds)
        except TimeoutError:
            fault = "hung"
        except (EOFError, OSError):
            fault = "crashed"
        self._process.kill()
        self._process.join()
        if self._closed:
            raise CancelledError
        return MediaError(f"{task[0]}: its decoder {fault}")

    def close(self) -> None:
        """End the process, whatever it is at; who waits for it is told so."""
        self._closed = True
        self._process.kill()

    def _start(self) -> None:
        # Spawned, not forked: a process that has run PyTorch's threads cannot be forked safely.
        context = multiprocessing.get_context("spawn")
        self._pipe, far_end = context.Pipe()
        process = context.Process(target=_serve, args=(far_end,), daemon=True)
        with hide_main(), _block_interrupt():
            process.start()
        far_end.close()  # the process has its own; this one would keep the pipe open after its death
        self._process = process
        if self._closed:  # meanwhile, by another thread
            process.kill()

    def _receive(self, seconds: float) -> Any:
        if not self._pipe.poll(seconds):
            raise TimeoutError
        return self._pipe.recv()


@contextmanager
def _block_interrupt() -> Iterator[None]:
    """Let Ctrl-C not reach the processes that are started within: it is meant for this one, which ends them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # or it is started within, which lets it through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection) -> None:
    """Do what comes through the pipe, one task after another, until its other end is closed."""
    _prepare_worker()
    with contextlib.suppress(EOFError, ConnectionError):  # reset, where the other end died with an answer unread
        while True:
            function, task = pipe.recv()
            pipe.send("begun")  # what it needs is imported; from here on, the time is the task's own
            pipe.send(_try(function, task))


def _prepare_worker() -> None:
    """One thread each, and memory given back: decoded frames come and go, and glibc would keep their holes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it could not be blocked
    os.environ["OMP_NUM_THREADS"] = "1"
    with contextlib.suppress(ImportError):
        import cv2

        cv2.setNumThreads(1)
        importlib.import_module("dfmm.extraction.tracks")  # which nearly all tasks need, and nobody waits for yet
    return_memory(FRAME_BYTES)


def _try(function: Callable[..., Any], task: Sequence[Any]) -> Any:
    try:
        return function(*task)
    except MediaError as error:
        return error
    except Exception as error:
        return MediaError(f"{task[0]}: {type(error).__name__}: {error}")


# Engines. Their workers, be they threads or processes of another machine, each hand their files on to a guard.

_own = threading.local()


def guard_task(function: Callable[..., Any], task: Sequence[Any], seconds: float) -> Any:
    """Apply a function in a process beside this one; return what it does, or the `MediaError` of why it did not."""
    return _find_guard().apply(function, task, seconds)


def _find_guard() -> Guard:
    if getattr(_own, "guard", None) is None:
        multiprocessing.current_process()._config["daemon"] = False  # Dask's workers are, and could have no children
        _own.guard = Guard()
    return _own.guard


@contextmanager
def keep_workers(ready: int = 0) -> Iterator[None]:
    """Let this machine's workers wait for more tasks, meanwhile, once theirs are done: each takes seconds to start.

    Args:
        ready: so many start at once, and import what they need while this process goes on.
    """
    global _kept
    if _kept is not None:  # who asked before has them, too
        yield
        return
    _kept = [Guard() for _ in range(ready)]
    try:
        yield
    finally:
        for guard in _kept:
            guard.close()
        _kept = None


_kept: list[Guard] | None = None  # those that wait; None where nobody asked for it


@contextmanager
def _open_processes(settings: Extract, most: int) -> Iterator[tuple[Submit, int]]:
    slots = min(settings.workers or count_cores(), most)
    guards: list[Guard] = []

    def start() -> None:
        _own.guard = _take_kept()
        guards.append(_find_guard())

    executor, done = ThreadPoolExecutor(slots, initializer=start), False
    try:
        yield lambda *what: executor.submit(guard_task, *what), slots
        done = True
    finally:  # interrupted, nobody waits for what is still to be done
        executor.shutdown(wait=False, cancel_futures=True)
        if done and _kept is not None:
            _kept.extend(guards)
        else:
            for guard in guards:
                guard.close()


def _take_kept() -> Guard | None:
    try:
        return _kept.pop() if _kept else None
    except IndexError:  # another thread was quicker
        return None


@contextmanager
def _open_ray(settings: Extract, most: int) -> Iterator[tuple[Submit, int]]:
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
            with hide_main():
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
