"""When glibc hands freed memory back: a loop over large tensors keeps it, a worker that decodes returns it at once.

Where there is another C library, both leave all as it is.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

# mallopt's parameters, and for the first three what glibc comes to by itself in a process that has used large arrays.
TRIM_THRESHOLD, TRIM_BYTES = -1, 64 << 20
MMAP_THRESHOLD, MMAP_BYTES = -3, 32 << 20
MMAP_MAX, MMAPS = -4, 65_536
MOST = 2**31 - 1
SMALL = 1 << 17  # bytes from which a worker's arrays, of a frame each, are returned as soon as they are freed


@contextmanager
def keep_memory() -> Iterator[None]:
    """Keep meanwhile what is freed, for the next array of its size; hand it back at the end.

    Otherwise every tensor of more than 32 MB is new memory, which the kernel has to clear page by page.
    """
    _set({MMAP_MAX: 0, TRIM_THRESHOLD: MOST})
    try:
        yield
    finally:
        _set({MMAP_THRESHOLD: MMAP_BYTES, MMAP_MAX: MMAPS, TRIM_THRESHOLD: TRIM_BYTES})
        with contextlib.suppress(AttributeError, OSError, TypeError):
            ctypes.CDLL(None).malloc_trim(0)


def return_memory() -> None:
    """Return freed arrays at once from here on: decoded frames come and go, and glibc would keep their holes."""
    _set({MMAP_THRESHOLD: SMALL})


def _set(values: dict[int, int]) -> None:
    with contextlib.suppress(AttributeError, OSError, TypeError):  # no glibc here
        for name, value in values.items():
            ctypes.CDLL(None).mallopt(name, value)
