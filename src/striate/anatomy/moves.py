"""Rules of the operations that move values about without computing: flips, rolls, copies, pixel shuffles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from striate.anatomy.calls import Call, NoRuleError
from striate.anatomy.fields import Axis, Field


def flipped(call: Call) -> Field:
    """The last unit first: neighbours are as far apart as before, the other way round."""
    return _mirrored(call.field, call["dims"])


def _mirrored(field: Field, dims: Sequence[int]) -> Field:
    for dim in dims:
        size = field.shape[dim]

        def change(axis: Axis, size: int = size) -> Axis:
            table = np.arange(size)[::-1, None]
            return axis.read(table, axis.theory and axis.theory.read(lambda unit: [size - 1 - unit], advance=-1))

        field = field.changed(dim % len(field.layout), change, size)
    return field


def rotated(call: Call) -> Field:
    """A quarter turn is a reflection and a transposition."""
    turns, count = call["k"] % 4, len(call.field.layout)
    first, second = (dim % count for dim in call["dims"])
    field = _mirrored(call.field, [(), (second,), (first, second), (first,)][turns])
    order = list(range(count))
    if turns % 2:
        order[first], order[second] = second, first
    return field.rearranged(order)


def rolled(call: Call) -> Field:
    """What leaves at one border comes in at the other: windows across that seam see both borders of the image."""
    field = call.field
    if not call["dims"]:
        raise NoRuleError("roll of flattened values")
    for dim, shift in zip(call["dims"], call["shifts"], strict=True):
        size = field.shape[dim]
        if shift % size:
            table = (np.arange(size)[:, None] - shift) % size
            field = field.changed(dim % len(field.layout), lambda axis, table=table: axis.read(table, None), size)
    return field


def repeated(call: Call) -> Field:
    """Tensor.repeat: the map again and again along its dimensions, new ones first."""
    shape = call.first.shape
    field = call.field.expanded([*call["repeats"][: len(shape) - len(call.field.layout)], *call.field.shape])
    for dim, size in enumerate(shape):
        count = field.shape[dim]
        if count == 1:
            field = field.expanded([*field.shape[:dim], size, *field.shape[dim + 1 :]])
        elif size != count:
            table = np.arange(size)[:, None] % count
            field = field.changed(dim, lambda axis, table=table: axis.read(table, None), size)
    return field


def channels_mixed(call: Call) -> Field:
    """Channels in another order."""
    return call.field.settled_at([1])


def shuffled(call: Call) -> Field:
    """Pixel shuffle: r x r channels become r x r places."""
    factor = call["upscale_factor"]

    def spread(axis: Axis) -> Axis:
        table = np.arange(len(axis) * factor)[:, None] // factor
        return axis.read(table, axis.theory and axis.theory.read(lambda unit: [unit // factor], every=factor))

    return _rechannelled(call, spread)


def unshuffled(call: Call) -> Field:
    """The reverse: the places of r x r windows become channels, which share one field."""
    factor = call["downscale_factor"]
    return _rechannelled(call, lambda axis: axis.windows(len(axis) // factor, factor, factor))


def _rechannelled(call: Call, change: Callable[[Axis], Axis]) -> Field:
    shape = call.first.shape
    field = call.field.settled_at([-3])
    for dim in (len(shape) - 2, len(shape) - 1):
        field = field.changed(dim, change, shape[dim])
    return replace(field, layout=(*field.layout[:-3], ((shape[-3], None),), *field.layout[-2:]))
