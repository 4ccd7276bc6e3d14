"""How far something is: a bar on a terminal or in a notebook, lines in a log, nothing in a file."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from tqdm import tqdm

LINE_SECONDS = 30  # between two lines, where there is no bar

log = logging.getLogger("dfmm")


def show_progress(
    items: Iterable[Any] | None,
    what: str,
    *,
    unit: str,
    show: bool = True,
    total: int | None = None,
    lines: bool = False,
) -> Any:
    """Iterate with a bar on a terminal or in a notebook; without one in files, pipes and headless notebooks.

    Args:
        items: None for a bar that is moved on by `update`.
        lines: where there is no bar, put a line into the log now and then.
    """
    options = {"desc": what, "unit": unit, "total": total}
    if not show or "DFMM_HEADLESS" in os.environ:
        bar = tqdm(items, disable=True, **options)
    elif _in_notebook():
        bar = NotebookBar(items, gui=True, **options)
    else:
        bar = tqdm(items, leave=False, disable=None, **options)
    return _log_progress(items, what, unit, total) if lines and show and bar.disable else bar


class NotebookBar(tqdm):
    """A bar in a notebook: text in one display that is updated, for a widget would be gone once the file is saved."""

    shown: Any = None  # the display's handle

    def display(self, *_: Any, **__: Any) -> None:
        from IPython.display import display

        text = {"text/plain": self.format_meter(**self.format_dict | {"ncols": 80})}
        if self.shown is None:
            self.shown = display(text, raw=True, display_id=True)
        else:
            self.shown.update(text, raw=True)

    def close(self) -> None:
        if not self.disable:
            super().close()
            self.display()


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")  # which every kernel has imported
    shell = ipython and ipython.get_ipython()
    return bool(shell) and "IPKernelApp" in shell.config


def _log_progress(items: Iterable[Any], what: str, unit: str, total: int | None) -> Iterator[Any]:
    started = last = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= LINE_SECONDS or number == total:
            last = now
            # [done/total, time passed<time left, files a second]
            log.info(tqdm.format_meter(number, total, now - started, ncols=0, prefix=what, unit=unit))
