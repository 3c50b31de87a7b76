"""A quick training: part of the embedded digits, a small network, two epochs."""

from __future__ import annotations

from pathlib import Path

import pytest

from striate.options import TrainOptions, merged
from striate.progress import Progress

QUICK = {
    "data": {"data": "digits", "limit": 320},
    "model": {"model": "compact_s"},
    "augment": {"preset": "none"},
    "optimizer": {"batch_size": 64},
    "schedule": {"epochs": 2},
    "runtime": {"device": "cpu", "precision": "fp32", "threads": 1},
}


class Heard(Progress):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warnings: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def quick(tmp_path: Path):
    """Options of a quick run; nested changes by section, the run folder is `tmp_path / name`."""

    def make(name: str = "run", **sections: dict) -> TrainOptions:
        options = merged(TrainOptions(), QUICK)
        options = merged(options, {"training": {"run_dir": str(tmp_path / name)}})
        return merged(options, sections)

    return make


@pytest.fixture
def heard() -> Heard:
    return Heard()
