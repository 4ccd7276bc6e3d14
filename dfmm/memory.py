"""When glibc hands freed memory back: a loop over large tensors keeps it, a worker that decodes returns it at once.

Where there is another C library, both leave all as it is.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # mallopt's parameters
NEVER, MMAPS = 2**31 - 1, 65_536
LARGE = 32 << 20  # bytes of an array that glibc itself returns at once, in a process that has used large ones


@contextmanager
def keep_memory() -> Iterator[None]:
    """Keep meanwhile what is freed, for the next array of its size; hand it back at the end.

    Otherwise every tensor of more than 32 MB is new memory, which the kernel has to clear page by page.
    """
    _set({MMAP_MAX: 0, TRIM_THRESHOLD: NEVER})
    try:
        yield
    finally:
        return_memory()
        with contextlib.suppress(AttributeError, OSError, TypeError):
            ctypes.CDLL(None).malloc_trim(0)


def return_memory(size: int = LARGE) -> None:
    """Return freed arrays of so many bytes at once from here on, also in a process forked from one that keeps them."""
    _set({MMAP_THRESHOLD: size, MMAP_MAX: MMAPS, TRIM_THRESHOLD: 2 * size})


def _set(values: dict[int, int]) -> None:
    with contextlib.suppress(AttributeError, OSError, TypeError):  # no glibc here
        for name, value in values.items():
            ctypes.CDLL(None).mallopt(name, value)
