"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

if (_workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))) > 1:
    # Before torch is imported: threads of several processes on the same cores wait for one another. Commands that tests
    # start inherit it.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // _workers)))


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
