"""Processes beside this one that do not run its script once more."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_alone = threading.RLock()  # threads start processes side by side


@contextmanager
def hide_main() -> Iterator[None]:
    """Let the processes that are started within not import the script that starts them, guarded or not.

    All that is sent to them is of modules that they can import themselves. From the script they would need nothing,
    and without `if __name__ == "__main__":` do all it does again, up to the lock on what it does.
    """
    with _alone:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")  # without a file: nothing for multiprocessing to name
        try:
            yield
        finally:
            sys.modules["__main__"] = main
