"""Classes are matched by name, never by number: other data may list them in another order, or have only some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from striate.errors import DataError
from striate.hub.classes import meanings, synset_of
from striate.spec import Labels

if TYPE_CHECKING:
    from striate.data import Split

_SHOWN = 10


def matched(split: Split, theirs: Labels, ours: Labels) -> Split:
    """`split` with its targets turned from numbers into `theirs` to numbers into `ours`, the network's outputs.

    Data that have only some of the network's classes are welcome; a class that the network does not know is not.
    ImageNet's classes also go by their synsets (`n01440764`, whatever follows it) and with underscores for blanks.

    Raises:
        DataError: classes that the network does not know; the message shows both sides of the difference. Or a name
            that two classes share, unless the data name the other one otherwise. Or one of both gives an image any
            number of labels, and the other one class.
    """
    if theirs == ours:
        return split
    if theirs.multi_label != ours.multi_label:
        raise DataError(
            "the data have any number of labels an image, the network gives each one class"
            if theirs.multi_label
            else "the data have one class an image, which says nothing of the other labels that the network gives",
            "evaluate it on data of its own kind: a table with --label-delimiter, or columns of 0 and 1, for labels",
        )
    numbers = np.array(numbers_of(theirs, ours), dtype=np.int64)
    if theirs.multi_label:
        return _with_sets(split, numbers, len(ours))
    names = {name: ours.names[number] for name, number in zip(theirs.names, numbers.tolist(), strict=True)}
    unreadable = tuple(
        replace(one, label=names.get(one.label, one.label) if one.label else None) for one in split.unreadable
    )
    return replace(split, targets=numbers[split.targets], unreadable=unreadable)


def _with_sets(split: Split, numbers: np.ndarray, labels: int) -> Split:
    """Of images with any number of labels."""
    targets = np.zeros((len(split.targets), labels), dtype=split.targets.dtype)
    targets[:, numbers] = split.targets
    unreadable = tuple(
        replace(one, targets=None if one.targets is None else tuple(int(numbers[label]) for label in one.targets))
        for one in split.unreadable
    )
    return replace(split, targets=targets, unreadable=unreadable)


def numbers_of(theirs: Labels, ours: Labels) -> list[int]:
    """The number in `ours` of each class of `theirs`.

    Raises:
        DataError: see `matched`.
    """
    if theirs.names == ours.names:
        return list(range(len(ours)))
    meant = meanings(theirs.names, ours)
    unknown = [name for name, numbers in meant.items() if not numbers]
    if unknown:
        missing = [name for name in ours.names if name not in set(theirs.names)]
        message = f"the network does not know {_listed(unknown)}"
        if missing:
            message += f"; it knows {_listed(missing)}, which the data do not have"
        raise DataError(
            f"the classes do not match: {message}",
            "call them in the data as the network does, or train on these data: striate train",
        )
    clear = {numbers[0] for numbers in meant.values() if len(numbers) == 1}
    return [_the_one(name, [one for one in meant[name] if one not in clear] or meant[name], ours) for name in meant]


def _the_one(name: str, numbers: Sequence[int], ours: Labels) -> int:
    if len(numbers) > 1:
        spelled = " and ".join(f"{ours.names[number]} ({synset_of(number)})" for number in numbers)
        raise DataError(
            f"{name} may be either of two classes of the network: {spelled}", "name the class folder by its synset"
        )
    return numbers[0]


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown
