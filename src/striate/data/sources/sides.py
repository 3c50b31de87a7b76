"""Which side of the split each image that a source found is on: as the training wants it, or as the data give it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from striate.data.dataset import Split
from striate.data.sources.found import Found
from striate.data.split import Interval, assign, by_number, shares, unit_digests, unit_numbers
from striate.data.wording import counted
from striate.errors import DataError, UsageError
from striate.options.sections import DataOptions
from striate.spec import Labels

ItemT = TypeVar("ItemT")

ALL = "all"  # the one split of data that are only scored and give no splits of their own


class Sides:
    """The rule that divides what the source gives as training images, and the words for it."""

    names = ("train", "val", "test")
    always = ("train", "val")  # also where they are empty

    def __init__(self, found: Found, options: DataOptions) -> None:
        self.options, self.seed, self.exact = options, options.split_seed, found.fixed
        self.notes: list[str] = []
        fold = _fold(options.fold)
        given = set(np.unique(found.given).tolist())
        self.official_test = "test" in given
        self.merge_val = fold is not None and "val" in given
        val, test = 0.0, 0.0
        if "val" in given and fold is None:
            if options.val_fraction is not None:
                self.notes.append("the data have a val split of their own: val_fraction is not used")
        else:
            val = options.val_fraction or (0.1 if self.official_test else 0.2)
        if self.official_test and options.test_fraction:
            self.notes.append("the data have a test split of their own: test_fraction is not used")
        elif not self.official_test:
            test = options.test_fraction
        if val + test >= 1:
            raise UsageError(f"val_fraction {val:g} and test_fraction {test:g} leave nothing to train on")
        self.val: Interval = (0.0, val)
        self.test: Interval = (val, val + test)
        if fold is not None:
            self._set_fold(*fold)
        if self.val[1] > self.val[0]:
            share = f"fold {fold[0]} of {fold[1]}" if fold else f"{100 * val:g} %"
            how = "by group and content hash" if found.groups else "by content hash"
            self.notes.append(f"val is {share} of the training images, {how}, split seed {self.seed}")

    def _set_fold(self, number: int, folds: int) -> None:
        if self.test[1] > self.test[0]:
            raise UsageError("folds and test_fraction do not go together", "give a test split, or leave it out")
        self.val = ((number - 1) / folds, number / folds)

    def of(
        self, given: np.ndarray, digests: np.ndarray, targets: np.ndarray, groups: Sequence[str | None] | None
    ) -> np.ndarray:
        """The side of each image, "" for training images beyond the limit."""
        sides = given.astype("<U5")
        pool = np.flatnonzero((given == "train") | (self.merge_val & (given == "val")))
        chosen = picked(groups, pool) if groups is not None else None
        sides[pool] = assign(
            digests[pool],
            targets[pool],
            groups=chosen,
            seed=self.seed,
            val=self.val,
            test=self.test,
            exact=self.exact,
        )
        return _limited(sides, digests, targets, self.options, self.notes)

    def of_unreadable(self, given: str, digest: bytes, group: str | None) -> str:
        """The side that an unreadable image would be on, were it like any other."""
        if given != "train" and not (self.merge_val and given == "val"):
            return given
        unit = unit_digests(np.frombuffer(digest, np.uint8)[None], [group])
        return str(by_number(unit_numbers(unit, self.seed), self.val, self.test)[0])

    def check(self, splits: dict[str, Split], labels: Labels, name: str) -> list[str]:
        """What is to be noted of the splits.

        Raises:
            DataError: they cannot be trained on.
        """
        _check_splits(splits, labels, name)
        return _missing_in_val(splits, labels)


class AsGiven:
    """The rule for data that are only scored: the sides that the source gives, or all images on one."""

    names = (ALL, "train", "val", "test")
    always = ()

    def __init__(self, found: Found) -> None:
        given = set(np.unique(found.given).tolist())
        self.official_test = "test" in given
        self.together = given == {"train"}
        self.notes: list[str] = []

    def of(
        self, given: np.ndarray, digests: np.ndarray, targets: np.ndarray, groups: Sequence[str | None] | None
    ) -> np.ndarray:
        """The side of each image."""
        return np.full(len(given), ALL) if self.together else given.astype("<U5")

    def of_unreadable(self, given: str, digest: bytes, group: str | None) -> str:
        """The side of an unreadable image."""
        return ALL if self.together else given

    def check(self, splits: dict[str, Split], labels: Labels, name: str) -> list[str]:
        """Whatever there is can be scored."""
        return []


def _fold(text: str | None) -> tuple[int, int] | None:
    """ "2/5" as (2, 5)."""
    if text is None:
        return None
    part, _, count = text.partition("/")
    if not (part.isdecimal() and count.isdecimal() and 1 <= int(part) <= int(count) and int(count) >= 2):
        raise UsageError(f"data.fold = {text!r}: expected I/K with I from 1 to K, such as 2/5")
    return int(part), int(count)


def _limited(
    sides: np.ndarray, digests: np.ndarray, targets: np.ndarray, options: DataOptions, notes: list[str]
) -> np.ndarray:
    """`sides` with "" for the training images beyond the limit."""
    training = np.flatnonzero(sides == "train")
    if options.limit is None or options.limit >= len(training):
        return sides
    kept = training[shares(targets[training], digests[training], options.limit, options.split_seed)]
    sides[training] = ""
    sides[kept] = "train"
    used = "is used" if options.limit == 1 else "are used, the same share of each class"
    notes.append(f"only {options.limit:,} of {len(training):,} training images {used}")
    return sides


def picked(values: Sequence[ItemT], rows: np.ndarray) -> list[ItemT]:
    """`values` at these positions."""
    return [values[row] for row in map(int, rows)]


def _check_splits(splits: dict[str, Split], labels: Labels, name: str) -> None:
    """Every class must have something to train on, and there must be something to validate on."""
    counts = splits["train"].class_counts(len(labels))
    empty = [labels.names[target] for target in np.flatnonzero(counts == 0)]
    if empty:
        raise DataError(
            f"{name}: no training image of {', '.join(empty[:8])}", "add readable images, or remove the class"
        )
    if not len(splits["val"]):
        few = counted(len(splits["train"]), "image is", "images are")
        raise DataError(f"{name}: {few} too few to hold any out for validation")


def _missing_in_val(splits: dict[str, Split], labels: Labels) -> list[str]:
    absent = [labels.names[target] for target in np.flatnonzero(splits["val"].class_counts(len(labels)) == 0)]
    listed = ", ".join(absent[:8]) + (f" and {len(absent) - 8} more" if len(absent) > 8 else "")
    return [f"val has no image of {listed}"] if absent else []
