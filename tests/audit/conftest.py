"""What tests of the audit share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dfmm.extraction.pool import keep_workers


@pytest.fixture(scope="package", autouse=True)
def workers() -> Iterator[None]:
    """Let workers wait for the next test: each takes seconds to start, and how they do that is tested elsewhere."""
    with keep_workers():
        yield
