"""Large arrays that come and go are kept for the next one within a loop, and handed back behind it."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

LOOP = """
import resource, threading
import numpy as np
from dfmm.dataset.loaders import _start_worker
from dfmm.memory import keep_memory

def count_faults(megabytes=80, rounds=8):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        np.ones(megabytes << 17)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def measure():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20

outside = count_faults()
with keep_memory():
    count_faults(rounds=1)
    within, held = count_faults(), measure()
    thread = threading.Thread(target=count_faults)  # whose memory is another arena's, too small for such arrays
    thread.start()
    thread.join()
left, after = measure(), count_faults()
with keep_memory():
    _start_worker(0)  # as in a process that is forked within
    count_faults(rounds=1)
    worker = count_faults()
print(outside, within, held, left, after, worker)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library, which is left as it is")
def test_a_loop_keeps_its_memory_and_hands_it_back() -> None:
    done = subprocess.run([sys.executable, "-c", LOOP], capture_output=True, text=True, check=True)
    outside, within, held, left, after, worker = map(int, done.stdout.split())
    assert 10 * within < min(outside, after, worker)
    assert left < held - 60
