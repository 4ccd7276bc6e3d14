"""A file that crashes its process, or hangs, costs itself only, whatever the engine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from dfmm.extraction import pool
from dfmm.extraction.pool import Guard, PoolError, keep_workers, look_ahead, run_tasks, split_files
from dfmm.media.container import MediaError
from dfmm.sections import Extract

SCRIPT = """
from dfmm.extraction.pool import run_tasks
from dfmm.sections import Extract
print(list(run_tasks(max, [("a", "b")], Extract())))
"""


@pytest.fixture(autouse=True)
def _forget_kept_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin without those that wait for other tests' files."""
    monkeypatch.setattr(pool, "_kept", None)


def act(path: str, what: str) -> str:
    """Do to the process what a file might."""
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "hang":
        time.sleep(600)
    if what == "fail":
        raise MediaError(f"{path}: is broken")
    if what == "err":
        raise KeyError(path)
    return f"{path} is fine"


def name_process(path: str) -> int:
    """Tell which process does a task."""
    return os.getpid()


TASKS = [(f"{number}.mp4", what) for number, what in enumerate(["", "crash", "", "hang", "fail", "err", "", ""])]
RESULTS = [
    "0.mp4 is fine",
    "1.mp4: its decoder crashed",
    "2.mp4 is fine",
    "3.mp4: its decoder hung",
    "4.mp4: is broken",
    "5.mp4: KeyError: '5.mp4'",
    "6.mp4 is fine",
    "7.mp4 is fine",
]


def check_results(settings: Extract, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "SECONDS_PER_FILE", 3)
    results = dict(run_tasks(act, TASKS, settings))
    assert [str(results[number]) for number in range(len(TASKS))] == RESULTS
    failed = {number for number, result in results.items() if isinstance(result, MediaError)}
    assert failed == {1, 3, 4, 5}


def test_a_crash_and_a_hang_cost_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    check_results(Extract(workers=2), monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ray", "dask"])
def test_they_do_so_on_other_engines(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip({"dask": "distributed"}.get(engine, engine))
    check_results(Extract(engine=engine, workers=2), monkeypatch)


@pytest.fixture
def dask_cluster() -> Iterator[str]:
    """The address of a cluster that somebody else has started."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


@pytest.mark.slow
def test_a_running_dask_cluster_is_used(dask_cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_results(Extract(engine="dask", address=dask_cluster), monkeypatch)


@pytest.fixture
def ray_cluster() -> Iterator[str]:
    """The address of a Ray cluster that somebody else has started."""
    ray = pytest.importorskip("ray")
    context = ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
    yield context.address_info["address"]
    ray.shutdown()


@pytest.mark.slow
def test_a_running_ray_cluster_is_used(ray_cluster: str) -> None:
    script = SCRIPT.replace("Extract()", f"Extract(engine='ray', address={ray_cluster!r})")
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert run.stdout.strip() == "[(0, 'b')]", run.stderr


def test_a_worker_that_somebody_ends_is_replaced() -> None:
    guard = Guard()
    first = guard.apply(name_process, ("a",), 60)
    assert guard.apply(name_process, ("a",), 60) == first
    os.kill(first, signal.SIGKILL)
    guard._process.join()
    assert guard.apply(name_process, ("a",), 60) not in (first, os.getpid())
    guard.close()


def test_workers_that_are_kept_wait_for_more() -> None:
    with keep_workers():
        first, second = (dict(run_tasks(name_process, [("one",)], Extract(workers=1))) for _ in range(2))
    assert first == second
    assert dict(run_tasks(name_process, [("one",)], Extract(workers=1))) != first


def test_workers_that_are_ready_are_taken_by_whoever_is_called() -> None:
    before = multiprocessing.active_children()
    with keep_workers(ready=1):
        (waiting,) = set(multiprocessing.active_children()) - set(before)
        with keep_workers():  # of a caller that keeps them as well
            assert dict(run_tasks(name_process, [("one",)], Extract(workers=1))) == {0: waiting.pid}
        assert waiting.is_alive()
    waiting.join(10)
    assert not waiting.is_alive()


def test_the_next_is_made_while_one_is_used() -> None:
    used, begun = [], threading.Event()

    def make(number: int) -> int:
        begun.set() if number == 1 else None
        return 10 * number

    for made in look_ahead(make, range(3)):
        assert made or begun.wait(10)  # the second is made before anybody asks for it
        used.append(made)
    assert used == [0, 10, 20]
    with pytest.raises(ZeroDivisionError):
        list(look_ahead(lambda number: 1 // number, [0]))


@pytest.mark.parametrize("early", [True, False])
def test_who_stops_early_does_not_wait_and_no_file_is_blamed(early: bool) -> None:
    failed: list[BaseException] = []
    begun, closed = threading.Event(), threading.Event()

    def hang(number: int) -> int:
        begun.set() if number else None
        closed.wait(60) if number and early else None  # it has no worker yet
        try:
            return len(list(run_tasks(act, [("file", "hang" if number else "")], Extract(workers=1))))
        except BaseException as error:
            failed.append(error)
            raise

    started = time.monotonic()
    with keep_workers():
        ahead = look_ahead(hang, range(2))
        assert next(ahead) == 1
        assert begun.wait(60)
        ahead.close()
    closed.set()
    while not failed and time.monotonic() - started < 60:
        time.sleep(0.01)
    assert isinstance(failed[0], CancelledError)  # and not that the file's decoder crashed
    assert time.monotonic() - started < 60


def test_what_was_made_for_nobody_is_dropped() -> None:
    dropped, stopped = [], threading.Event()
    for function in (abs, lambda number: number if number == 0 or stopped.wait(60) else None):
        ahead = look_ahead(function, range(3), drop=dropped.append)
        assert next(ahead) == 0
        ahead.close()
    assert dropped == [1]
    stopped.set()
    while len(dropped) < 2:
        time.sleep(0.01)
    with pytest.raises(ZeroDivisionError):
        list(look_ahead(lambda number: 1 // number, [0], drop=dropped.append))
    assert len(dropped) == 2


def test_a_program_ends_though_what_it_stopped_waits_for_another() -> None:
    script = "import time; from dfmm.extraction.pool import look_ahead\n"
    script += "ahead = look_ahead(lambda number: number and time.sleep(600), range(2)); print(next(ahead))"
    for end in ("", "; ahead.close()"):
        run = subprocess.run([sys.executable, "-c", script + end], capture_output=True, text=True, timeout=60)
        assert (run.stdout, run.stderr, run.returncode) == ("0\n", "", 0)


def test_files_are_found_few_at_first_and_then_more_at_once() -> None:
    sizes = [len(some) for some in split_files(["file"] * 50, Extract(workers=3))]
    assert sizes == [3, 6, 12, 16, 13]
    assert list(split_files(["one"], Extract(workers=3))) == [["one"]]
    assert [len(some) for some in split_files(["file"] * 50, Extract(workers=20))] == [20, 20, 10]


def test_so_many_workers_are_started() -> None:
    with keep_workers():  # those of one round are among the next one's
        for workers, started in {1: 1, 3: 3, 99: 5}.items():  # of five files, no more than five at a time
            processes = [process for _, process in run_tasks(name_process, [("a",)] * 5, Extract(workers=workers))]
            assert len(processes) == 5
            assert len(set(processes)) <= started


def test_an_address_is_where_the_cluster_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Engine:
        """Stands in for both packages; nothing is ever found."""

        is_initialized = staticmethod(lambda: False)

        def init(self, address: str | None = None, **options: object) -> None:
            asked.append(address)
            raise InterruptedError

        Client = init

    monkeypatch.setattr(pool, "_import_engine", lambda *names: Engine())
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for settings in (Extract(engine="ray"), *(Extract(engine=engine, address="here:1") for engine in ("ray", "dask"))):
        with pytest.raises(InterruptedError):
            next(run_tasks(act, TASKS, settings))
    assert asked == [None, "here:1", "here:1"]


def test_an_interrupt_waits_for_nobody() -> None:
    started = time.monotonic()
    results = run_tasks(act, [("a", ""), *[("b", "hang")] * 5], Extract(workers=2))
    assert next(results) == (0, "a is fine")
    results.close()
    assert time.monotonic() - started < 30


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no signals to block here")
def test_an_interrupt_does_not_reach_a_worker_that_is_yet_to_start() -> None:
    guard = pool.Guard()
    before = guard._process.pid
    os.kill(before, signal.SIGINT)
    assert guard.apply(name_process, ("a",), 60) == before
    guard.close()
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_a_worker_ends_in_silence_with_who_has_not_read_its_answer() -> None:
    script = "import os, time; from dfmm.extraction.pool import Guard\nguard = Guard()\n"
    script += "guard._pipe.send((max, ('a', 'b'))); guard._pipe.poll(60); time.sleep(0.5); os._exit(0)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (run.stderr, run.returncode) == ("", 0)


def test_a_long_file_is_given_longer(tmp_path: Path) -> None:
    (tmp_path / "long").touch()
    os.truncate(tmp_path / "long", 3_600_000_000)
    assert pool._allow_seconds(tmp_path / "long") == 3600 + pool._allow_seconds(tmp_path / "none")


WAYS = {
    "script": lambda file: ([file], None),
    "command": lambda file: (["-c", file.read_text()], None),
    "input": lambda file: ([], file.read_text()),
    "session": lambda file: (["-i"], file.read_text()),
    "notebook": lambda file: (["-m", "IPython", "--no-banner", "--quick"], file.read_text()),
}


@pytest.mark.parametrize("way", [*list(WAYS)[:-1], pytest.param("notebook", marks=pytest.mark.slow)])
def test_a_script_needs_no_guard(way: str, tmp_path: Path) -> None:
    """Its workers do not import it; it would wait for its own lock, were it run again in one of them."""
    file = tmp_path / "script.py"
    file.write_text(
        f"print('begun')\nfrom filelock import FileLock\nFileLock({str(tmp_path / 'l')!r}).acquire()" + SCRIPT
    )
    words, typed = WAYS[way](file)
    run = subprocess.run([sys.executable, *map(str, words)], input=typed, capture_output=True, text=True, timeout=100)
    assert run.stdout.count("begun") == 1, run.stderr
    assert "[(0, 'b')]" in run.stdout


@pytest.mark.slow
def test_a_script_needs_no_guard_with_dask(tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text("print('begun')" + SCRIPT.replace("Extract()", "Extract(engine='dask')"))
    run = subprocess.run([sys.executable, file], capture_output=True, text=True, timeout=200)
    assert run.stdout.split("\n")[:2] == ["begun", "[(0, 'b')]"], run.stderr


def test_a_missing_engine_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for engine, module in {"ray": "ray", "dask": "distributed"}.items():
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(PoolError, match=rf"pip install 'dfmm\[{engine}\]'"):
            next(run_tasks(act, TASKS, Extract(engine=engine)))
