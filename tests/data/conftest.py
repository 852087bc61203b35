"""Curation's tests share one engine, whichever of them comes first in a process."""

from __future__ import annotations

import pytest

from codechoir.data.engine import start


@pytest.fixture(autouse=True, scope="session")
def native_engine() -> None:
    """Daft begins by itself where it is used before it was told which engine to be, and cannot be told later."""
    start("native")
