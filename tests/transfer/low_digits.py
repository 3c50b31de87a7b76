"""Parts of the embedded digits, and options of quick runs, for the tests of transfer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from striate.data import Dataset, load_data
from striate.data.parts import part_of
from striate.options import DataOptions, TrainOptions, merged
from striate.progress import Progress
from striate.spec import Labels

QUICK = {
    "augment": {"preset": "none"},
    "runtime": {"device": "cpu", "precision": "fp32", "threads": 1},
    "training": {"report": False},
}
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Heard(Progress):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warnings: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def some_digits(digits: tuple[int, ...], per_class: int | None = None) -> Dataset:
    """The embedded digits, of some classes alone, at most so many training images of each."""
    whole = load_data(DataOptions(data="digits"))
    splits = {}
    for name, split in whole.splits.items():
        rows = np.flatnonzero(np.isin(split.targets, digits))
        if per_class is not None and name == "train":
            rows = np.sort(np.concatenate([rows[split.targets[rows] == digit][:per_class] for digit in digits]))
        part = part_of(split, rows)
        splits[name] = replace(part, targets=np.searchsorted(digits, part.targets).astype(np.int64))
    labels = Labels(tuple(NAMES[digit] for digit in digits))
    return replace(whole, name="digits", splits=splits, labels=labels, options=None, notes=())


def quick(**sections: dict) -> TrainOptions:
    """Options of a quick run."""
    return merged(merged(TrainOptions(), QUICK), sections)
