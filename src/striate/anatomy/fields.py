"""What every unit of a tensor sees of the image: integer intervals of pixels, exact for every unit.

A `Field` belongs to a tensor. For each axis of the image (height, width) it says which dimension of the tensor runs
along it, and for every index along that dimension

- the *exact* interval [lo, hi] of pixels that the units there depend on: clipped to the image, padding reads nothing;
- the *theoretical* interval, as papers count it: as if the image and every map went on for ever (`Theory`).

The channels of a position share one interval, the union of theirs. An axis that no dimension runs along any more
(after flattening) is `settled`: every unit sees the same interval. After global pooling one unit is left; its axis is
marked `pooled` until something reads a neighbourhood again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from math import gcd, lcm, prod

import numpy as np

# The empty interval: lo > hi, and neutral in unions, which take the least lo and the largest hi.
NOTHING = (np.iinfo(np.int64).max // 4, -1)

Factor = tuple[int, int | None]  # size, and the axis of the image that it runs along
Layout = tuple[tuple[Factor, ...], ...]  # for each dimension of a tensor its factors, the slowest first


@dataclass(frozen=True)
class Theory:
    """Unbounded intervals: unit i sees [lo[r] + q * shift, hi[r] + q * shift] for q, r = divmod(i, len(lo)).

    One interval and its shift describe convolutions and pools of any stride. Upsampling makes units differ, in a
    pattern that repeats; None stands for a unit that sees nothing.
    """

    shift: int
    intervals: tuple[tuple[int, int] | None, ...]

    @property
    def period(self) -> int:
        """After how many units the pattern repeats."""
        return len(self.intervals)

    @cached_property
    def size(self) -> int:
        """Pixels that a unit sees, first to last; the most of any unit. The receptive field."""
        return max((hi - lo + 1 for lo, hi in filter(None, self.intervals)), default=0)

    @property
    def stride(self) -> Fraction:
        """Pixels between the fields of neighbouring units; below 1 where maps are larger than the image."""
        return Fraction(self.shift, self.period)

    def at(self, unit: int) -> tuple[int, int] | None:
        """The interval of one unit, which may lie outside the map."""
        times, place = divmod(unit, self.period)
        found = self.intervals[place]
        return None if found is None else (found[0] + times * self.shift, found[1] + times * self.shift)

    def over(self, units: Iterable[int]) -> tuple[int, int] | None:
        """The union over some units."""
        found = [interval for interval in map(self.at, units) if interval is not None]
        return (min(lo for lo, _ in found), max(hi for _, hi in found)) if found else None

    def read(self, reads: Callable[[int], Iterable[int]], every: int = 1, advance: int = 1) -> Theory:
        """That of a map whose unit o reads the units `reads(o)`, where `reads(o + every)` is `reads(o)` + `advance`."""
        times = self.period // gcd(self.period, advance)
        return Theory(
            self.shift * advance * times // self.period,
            tuple(self.over(reads(unit)) for unit in range(every * times)),
        )

    def joined(self, other: Theory) -> Theory | None:
        """The union of both, or None where their strides differ."""
        if self.stride != other.stride:
            return None
        period = lcm(self.period, other.period)
        both = [[one for one in (self.at(unit), other.at(unit)) if one is not None] for unit in range(period)]
        unions = [(min(lo for lo, _ in found), max(hi for _, hi in found)) if found else None for found in both]
        return Theory(self.shift * period // self.period, tuple(unions))

    def settled(self, units: int) -> Theory:
        """One interval for all: the union over the first `units` units."""
        return Theory(0, (self.over(range(units)),))


@dataclass(frozen=True)
class Axis:
    """The intervals along one axis of the image: `lo`, `hi` [units], int64 pixels; `theory` None where it has none."""

    lo: np.ndarray
    hi: np.ndarray
    theory: Theory | None
    pooled: bool = False  # one unit, made of all there were

    def __len__(self) -> int:
        return len(self.lo)

    def read(self, table: np.ndarray, theory: Theory | None) -> Axis:
        """That of a map whose unit o reads the units table[o], [units, taps]; those outside the map read nothing."""
        inside = np.where((table >= 0) & (table < len(self)), table, len(self))
        lo = np.append(self.lo, NOTHING[0])[inside].min(1)
        hi = np.append(self.hi, NOTHING[1])[inside].max(1)
        return Axis(lo, hi, theory)

    def windows(self, units: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> Axis:
        """Convolution or pooling: unit o reads the units o * stride - padding + dilation * (0 ... kernel - 1)."""
        if self.pooled and kernel == 1 and not padding:
            return self
        taps = dilation * np.arange(kernel)
        table = (np.arange(units) * stride - padding)[:, None] + taps
        offsets = [int(tap) - padding for tap in taps]
        theory = self.theory and self.theory.read(
            lambda unit: (unit * stride + offset for offset in offsets), advance=stride
        )
        return self.read(table, theory)

    def scattered(self, units: int, kernel: int, stride: int, padding: int, dilation: int) -> Axis:
        """Transposed convolution: unit o reads every unit i with o = i * stride - padding + dilation * tap."""

        def readers(unit: int) -> list[int]:
            places = (unit + padding - dilation * tap for tap in range(kernel))
            return [place // stride for place in places if place % stride == 0]

        lists = [readers(unit) for unit in range(units)]
        table = np.full((units, max(1, *map(len, lists))), -1)
        for unit, read in enumerate(lists):
            table[unit, : len(read)] = read
        return self.read(table, self.theory and self.theory.read(readers, every=stride))

    def settled(self) -> Axis:
        """One interval for all: the union."""
        return Axis(
            self.lo.min(keepdims=True), self.hi.max(keepdims=True), self.theory and self.theory.settled(len(self))
        )

    def pooled_to_one(self) -> Axis:
        """One unit that sees what all of them saw."""
        return replace(self.settled(), pooled=True)

    def spread(self, units: int) -> Axis:
        """One unit repeated."""
        return Axis(np.repeat(self.lo, units), np.repeat(self.hi, units), self.theory and self.theory.settled(1))

    def joined(self, other: Axis) -> Axis:
        """The union, unit by unit; one settled interval joins every unit."""
        theory = self.theory.joined(other.theory) if self.theory and other.theory else None
        pooled = self.pooled and other.pooled
        return Axis(np.minimum(self.lo, other.lo), np.maximum(self.hi, other.hi), theory, pooled)


@dataclass(frozen=True)
class Field:
    """What the units of one tensor see: for each axis of the image, and by which dimensions run along them."""

    axes: tuple[Axis, ...]
    layout: Layout

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""
        return tuple(prod(size for size, _ in factors) for factors in self.layout)

    @cached_property
    def open_axes(self) -> frozenset[int]:
        """The axes that a dimension still runs along."""
        return frozenset(axis for factors in self.layout for _, axis in factors if axis is not None)

    @cached_property
    def pooled_axes(self) -> frozenset[int]:
        """The open axes that global pooling has left one unit of."""
        return frozenset(axis for axis in self.open_axes if self.axes[axis].pooled)

    @cached_property
    def map_axes(self) -> frozenset[int]:
        """The axes that have a dimension to themselves and are not pooled."""
        own = map(self.axis_at, range(len(self.layout)))
        return frozenset(axis for axis in own if axis is not None) - self.pooled_axes

    @property
    def is_map(self) -> bool:
        """Whether every axis of the image has a dimension to itself: neither flattened nor pooled as a whole."""
        return len(self.map_axes) == len(self.axes)

    @property
    def theories(self) -> tuple[Theory | None, ...]:
        """One for each axis."""
        return tuple(axis.theory for axis in self.axes)

    def axis_at(self, dim: int) -> int | None:
        """The axis that dimension `dim` runs along, None for none; a dimension shared with another one has none."""
        factors = [factor for factor in self.layout[dim] if factor != (1, None)]
        return factors[0][1] if len(factors) == 1 else None

    def settled(self, axes: Iterable[int]) -> Field:
        """With some axes settled; the tensor keeps its shape."""
        gone = set(axes) & self.open_axes
        if not gone:
            return self
        layout = tuple(
            tuple((size, None if axis in gone else axis) for size, axis in factors) for factors in self.layout
        )
        return Field(tuple(one.settled() if i in gone else one for i, one in enumerate(self.axes)), layout)

    def settled_at(self, dims: Iterable[int]) -> Field:
        """With every axis settled that these dimensions run along."""
        return self.settled(axis for dim in dims for _, axis in self.layout[dim] if axis is not None)

    def changed(self, dim: int, change: Callable[[Axis], Axis], size: int) -> Field:
        """After an operation along `dim` that leaves it `size` long: `change` is applied to the axis there, if any."""
        axis = self.axis_at(dim)
        if axis is None:
            plain = self.settled_at([dim])
            return replace(plain, layout=_with(plain.layout, dim, ((size, None),)))
        axes = tuple(change(one) if i == axis else one for i, one in enumerate(self.axes))
        return Field(axes, _with(self.layout, dim, ((size, axis),)))

    def without(self, dims: Iterable[int]) -> Field:
        """After a reduction over some dimensions, which disappear."""
        gone = {dim % len(self.layout) for dim in dims}
        plain = self.settled_at(gone)
        return replace(plain, layout=tuple(one for dim, one in enumerate(plain.layout) if dim not in gone))

    def pooled(self, dims: Iterable[int]) -> Field:
        """After global pooling along some dimensions, which become 1 long."""
        field = self
        for dim in dims:
            field = field.changed(dim % len(self.layout), Axis.pooled_to_one, 1)
        return field

    def rearranged(self, dims: Sequence[int | None]) -> Field:
        """With the dimensions `dims` in this order, None for a new one of length 1; axes left out are settled."""
        left_out = set(range(len(self.layout))) - set(dims)
        plain = self.settled_at(left_out)
        return replace(plain, layout=tuple(((1, None),) if dim is None else plain.layout[dim] for dim in dims))

    def reshaped(self, shape: Sequence[int]) -> Field:
        """The same values in row-major order under another shape. An axis that is cut into pieces is settled."""
        old, new = self.shape, tuple(shape)
        if old == new:
            return self
        head = _common(old, new)
        tail = _common(old[head:][::-1], new[head:][::-1])
        middle = slice(head, len(old) - tail)
        plain, dims = _regrouped(self, middle, new[head : len(new) - tail])
        return replace(plain, layout=plain.layout[:head] + dims + plain.layout[len(old) - tail :])

    def expanded(self, shape: Sequence[int]) -> Field:
        """Broadcast to `shape`."""
        missing = len(shape) - len(self.layout)
        field = replace(self, layout=(((1, None),),) * missing + self.layout)
        for dim, size in enumerate(shape):
            if field.shape[dim] != size:
                field = field.changed(dim, lambda axis, size=size: axis.spread(size), size)
        return field


def of_image(shape: Sequence[int]) -> Field:
    """The field of an image [B, C, H, W] (or [B, C, L]): every pixel sees itself."""
    sizes = shape[2:]
    axes = tuple(Axis(np.arange(size), np.arange(size), Theory(1, ((0, 0),))) for size in sizes)
    return Field(axes, (((shape[0], None),), ((shape[1], None),), *(((size, i),) for i, size in enumerate(sizes))))


def whole(extents: Sequence[int], shape: Sequence[int]) -> Field:
    """The field of units about which nothing is known: the whole image, and no theory."""
    everything = tuple(Axis(np.array([0]), np.array([extent - 1]), None) for extent in extents)
    return Field(everything, plain_layout(shape))


def plain_layout(shape: Sequence[int]) -> Layout:
    """Dimensions that run along no axis."""
    return tuple(((size, None),) for size in shape)


def join(fields: Sequence[Field], shape: Sequence[int]) -> Field:
    """The field of a tensor of `shape` made value by value from tensors that broadcast to it: the union."""
    first = fields[0]
    if all(one is first for one in fields) and first.shape == tuple(shape):
        return first
    spread = [one.expanded(shape) for one in fields]
    if clash := _clashing(spread):
        # What is pooled is the same at every place, so it does not matter along which dimension it lies.
        spread = [one.settled(one.pooled_axes & clash).expanded(shape) for one in fields]
        clash = _clashing(spread)
    spread = [one.settled(clash) for one in spread]
    axes = spread[0].axes
    for one in spread[1:]:
        axes = tuple(mine.joined(other) for mine, other in zip(axes, one.axes, strict=True))
    layout = tuple(
        next(
            (one.layout[dim] for one in spread if any(axis is not None for _, axis in one.layout[dim])), ((size, None),)
        )
        for dim, size in enumerate(shape)
    )
    return Field(axes, layout)


def _clashing(fields: Sequence[Field]) -> set[int]:
    """Axes along which, or beside which, different dimensions run in tensors of one shape: no interval describes a unit
    made of both."""
    clash: set[int] = set()
    for dim in range(len(fields[0].layout)):
        kinds = {one.layout[dim] for one in fields if any(axis is not None for _, axis in one.layout[dim])}
        if len(kinds) > 1:
            clash |= {axis for kind in kinds for _, axis in kind if axis is not None}
    places: dict[int, set[int]] = {}
    for one in fields:
        for dim, factors in enumerate(one.layout):
            for _, axis in factors:
                if axis is not None:
                    places.setdefault(axis, set()).add(dim)
    return clash | {axis for axis, dims in places.items() if len(dims) > 1}


def _with(layout: Layout, dim: int, factors: tuple[Factor, ...]) -> Layout:
    return (*layout[:dim], factors, *layout[dim + 1 :])


def _common(old: Sequence[int], new: Sequence[int]) -> int:
    count = 0
    while count < min(len(old), len(new)) and old[count] == new[count]:
        count += 1
    return count


def _regrouped(field: Field, middle: slice, sizes: Sequence[int]) -> tuple[Field, Layout]:
    """The factors of the dimensions `middle` dealt out to dimensions of `sizes`."""
    factors = [factor for dim in field.layout[middle] for factor in dim]
    ones = {axis for size, axis in factors if size == 1 and axis is not None}
    queue = [factor for factor in factors if factor[0] != 1]
    cut: set[int] = set(ones)  # a dimension of length 1 leaves no trace in a shape
    dims: list[tuple[Factor, ...]] = []
    for size in sizes:
        taken: list[Factor] = []
        need = size
        while need > 1 and queue:
            have, axis = queue.pop(0)
            if need % have == 0:
                taken.append((have, axis))
                need //= have
                continue
            if axis is not None:
                cut.add(axis)
            if have % need:  # neither divides the other: no factor survives
                every = {axis for _, axis in factors if axis is not None}
                return field.settled(every), plain_layout(sizes)
            taken.append((need, None))
            queue.insert(0, (have // need, None))
            need = 1
        dims.append(tuple(taken) or ((size, None),))
    layout = tuple(tuple((size, None if axis in cut else axis) for size, axis in dim) for dim in dims)
    return field.settled(cut), layout
