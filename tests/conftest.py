"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def _caches_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Caches are in a folder of the test session, also those of commands that tests start, not in the user's."""
    before = os.environ.get("STRIATE_CACHE")
    folder = tmp_path_factory.mktemp("striate-cache")
    os.environ["STRIATE_CACHE"] = str(folder)
    os.environ["STRIATE_OFFLINE"] = "1"  # no test fetches weights that it did not ask for
    yield folder
    if before is None:
        del os.environ["STRIATE_CACHE"]
    else:
        os.environ["STRIATE_CACHE"] = before
