"""What tests of evaluation share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from matplotlib.layout_engine import ConstrainedLayoutEngine

from dfmm.evaluation.pages import Picture
from dfmm.extraction.pool import keep_workers


@pytest.fixture(scope="package", autouse=True)
def workers() -> Iterator[None]:
    """Let workers wait for the next test: each takes seconds to start, and how they do that is tested elsewhere."""
    with keep_workers():
        yield


@pytest.fixture
def rough_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw figures without laying them out, which is much of the work: for who reads a page's words alone."""
    monkeypatch.setattr(ConstrainedLayoutEngine, "execute", lambda self, figure: None)


@pytest.fixture
def empty_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a page's figures and paint none: for who asks which pages there are, and what they say."""
    monkeypatch.setattr(Picture, "encode", lambda self, form: b"nothing")
