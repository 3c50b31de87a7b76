"""Classes are matched by name, never by number: other data may list them in another order, or have only some."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from striate.errors import DataError
from striate.hub.classes import other_names, plain_name
from striate.spec import Labels

if TYPE_CHECKING:
    from striate.data import Split

_SHOWN = 10


def matched(split: Split, theirs: Labels, ours: Labels) -> Split:
    """`split` with its targets turned from numbers into `theirs` to numbers into `ours`, the network's outputs.

    Data that have only some of the network's classes are welcome; a class that the network does not know is not.
    ImageNet's classes also go by their synsets (`n01440764`) and with underscores for blanks.

    Raises:
        DataError: classes that the network does not know; the message shows both sides of the difference.
    """
    if theirs == ours:
        return split
    numbers = np.array(numbers_of(theirs, ours), dtype=np.int64)
    names = {name: ours.names[number] for name, number in zip(theirs.names, numbers.tolist(), strict=True)}
    unreadable = tuple(
        replace(one, label=names.get(one.label, one.label) if one.label else None) for one in split.unreadable
    )
    return replace(split, targets=numbers[split.targets], unreadable=unreadable)


def numbers_of(theirs: Labels, ours: Labels) -> list[int]:
    """The number in `ours` of each class of `theirs`.

    Raises:
        DataError: see `matched`.
    """
    known = {name: number for number, name in enumerate(ours.names)}
    others = other_names(ours)
    numbers = [known.get(name, others.get(plain_name(name))) for name in theirs.names]
    unknown = [name for name, number in zip(theirs.names, numbers, strict=True) if number is None]
    if unknown:
        missing = [name for name in ours.names if name not in set(theirs.names)]
        message = f"the network does not know {_listed(unknown)}"
        if missing:
            message += f"; it knows {_listed(missing)}, which the data do not have"
        raise DataError(
            f"the classes do not match: {message}", "rename the class folders, or train on these data: striate train"
        )
    return [number for number in numbers if number is not None]


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown
