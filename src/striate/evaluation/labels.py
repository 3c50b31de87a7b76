"""Classes are matched by name, never by number: other data may list them in another order, or have only some."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from striate.errors import DataError
from striate.spec import Labels

if TYPE_CHECKING:
    from striate.data import Split

_SHOWN = 10


def matched(split: Split, theirs: Labels, ours: Labels) -> Split:
    """`split` with its targets turned from numbers into `theirs` to numbers into `ours`, the network's outputs.

    Data that have only some of the network's classes are welcome; a class that the network does not know is not.

    Raises:
        DataError: classes that the network does not know; the message shows both sides of the difference.
    """
    if theirs == ours:
        return split
    unknown = [name for name in theirs.names if name not in set(ours.names)]
    if unknown:
        missing = [name for name in ours.names if name not in set(theirs.names)]
        message = f"the network does not know {_listed(unknown)}"
        if missing:
            message += f"; it knows {_listed(missing)}, which the data do not have"
        raise DataError(
            f"the classes do not match: {message}", "rename the class folders, or train on these data: striate train"
        )
    numbers = np.array([ours.index(name) for name in theirs.names], dtype=np.int64)
    return replace(split, targets=numbers[split.targets])


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown
