"""Rules of the operations that slide over maps: convolution, pooling, padding, upsampling, windows as columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from striate.anatomy.calls import Call, NoRuleError, dimensions_of, each
from striate.anatomy.fields import Axis, Field


def convolution(call: Call) -> Field:
    """Windows of the map, or for a transposed convolution the units that write to each place."""
    field = call.field_of(call["input"])
    if field is None or call.field_of(call["weight"]) is not None:
        raise NoRuleError("convolution with weights made from the image")
    kernel = list(call["weight"].shape[2:])
    dims = len(kernel)
    field = field.settled_at([1])
    settings = [each(call[name], dims) for name in ("stride", "padding", "dilation")]
    for i in range(dims):
        stride, padding, dilation = (setting[i] for setting in settings)
        size = call.out.shape[2 + i]
        step = Axis.scattered if call["transposed"] else Axis.windows
        field = field.changed(
            2 + i,
            lambda axis, step=step, size=size, i=i, rest=(stride, padding, dilation): step(
                axis, size, kernel[i], *rest
            ),
            size,
        )
    return replace(field, layout=(field.layout[0], ((call.out.shape[1], None),), *field.layout[2:]))


def pool(call: Call) -> Field:
    """Max and average pooling; the last dimensions are pooled. Windows beyond the map (ceil mode) are cut."""
    field = call.field
    kernel = each(call["kernel_size"], dimensions_of(call.name))
    dims = len(kernel)
    settings = {
        "stride": each(call["stride"], dims) if call["stride"] else kernel,
        "padding": each(call["padding"], dims),
        "dilation": each(call.arguments.get("dilation", 1), dims),
    }
    pooled = range(len(field.layout) - dims, len(field.layout))
    covers = _covers_all(call, [field.shape[dim] for dim in pooled], kernel, settings)
    for i, dim in enumerate(pooled):
        size = call.first.shape[dim]
        rest = [settings[name][i] for name in ("stride", "padding", "dilation")]

        def change(axis: Axis, size: int = size, kernel: int = kernel[i], rest: list[int] = rest) -> Axis:
            read = axis.windows(size, kernel, *rest)
            return replace(read, pooled=read.pooled or covers)

        field = field.changed(dim, change, size)
    return field


def _covers_all(call: Call, sides: Sequence[int], kernel: Sequence[int], settings: dict[str, list[int]]) -> bool:
    """Whether one window reads the whole map: global pooling, unless the network goes on to read neighbours."""
    single = all(size == 1 for size in call.first.shape[-len(sides) :]) and set(settings["dilation"]) == {1}
    reach = [window - padding for window, padding in zip(kernel, settings["padding"], strict=True)]
    return single and max(sides) > 1 and all(end >= side for end, side in zip(reach, sides, strict=True))


def adaptive_pool(call: Call) -> Field:
    """Unit o reads floor(o * n / m) up to ceil((o + 1) * n / m), for n units in and m out; m = 1 settles the axis."""
    field = call.field
    dims = dimensions_of(call.name)
    shape = call.first.shape
    whole = [dim for dim in range(len(shape) - dims, len(shape)) if shape[dim] == 1]
    field = field.pooled(whole)
    for dim in range(len(shape) - dims, len(shape)):
        if dim not in whole:
            field = field.changed(dim, lambda axis, size=shape[dim]: _adapted(axis, size), shape[dim])
    return field


def _adapted(axis: Axis, size: int) -> Axis:
    count = len(axis)

    def window(unit: int) -> range:
        return range(unit * count // size, -(-(unit + 1) * count // size))

    windows = [window(unit) for unit in range(size)]
    table = np.full((size, max(map(len, windows))), -1)
    for unit, read in enumerate(windows):
        table[unit, : len(read)] = read
    common = math.gcd(count, size)
    return axis.read(table, axis.theory and axis.theory.read(window, every=size // common, advance=count // common))


def padded(call: Call) -> Field:
    """Zeros around the map read nothing."""
    return _bordered(call, lambda place, count: place if 0 <= place < count else -1)


def reflected(call: Call) -> Field:
    """The map mirrored at its borders."""

    def mirror(place: int, count: int) -> int:
        return -place if place < 0 else 2 * (count - 1) - place if place >= count else place

    return _bordered(call, mirror)


def replicated(call: Call) -> Field:
    """The border repeated."""
    return _bordered(call, lambda place, count: min(max(place, 0), count - 1))


def _bordered(call: Call, source: Callable[[int, int], int]) -> Field:
    """Padding: `source(place, count)` is the unit shown at a place, -1 for none. `padding` begins at the last dim."""
    field = call.field
    padding = call.arguments.get("pad") or call["padding"]
    for i in range(len(padding) // 2):
        dim = len(field.layout) - 1 - i
        before, size = padding[2 * i], call.first.shape[dim]
        if padding[2 * i] or padding[2 * i + 1]:
            field = field.changed(dim, lambda axis, before=before, size=size: _shown(axis, before, size, source), size)
    return field


def _shown(axis: Axis, before: int, size: int, source: Callable[[int, int], int]) -> Axis:
    table = np.array([[source(unit - before, len(axis))] for unit in range(size)])
    return axis.read(table, axis.theory and axis.theory.read(lambda unit: [unit - before]))


def nearest(call: Call) -> Field:
    """The one unit below the place."""

    def taps(unit: int, scale: float, _count: int) -> list[int]:
        return [math.floor(unit * scale)]

    return _resized(call, taps)


def nearest_exact(call: Call) -> Field:
    """The unit whose centre is nearest."""

    def taps(unit: int, scale: float, _count: int) -> list[int]:
        return [math.floor((unit + 0.5) * scale)]

    return _resized(call, taps)


def bicubic(call: Call) -> Field:
    """The four nearest units; one where it is met exactly."""

    def taps(unit: int, scale: float, _count: int) -> list[int]:
        place = unit * scale if call["align_corners"] else (unit + 0.5) * scale - 0.5
        below = math.floor(place)
        return [below] if place == below else [below - 1, below, below + 1, below + 2]

    return _resized(call, taps)


def bilinear(call: Call) -> Field:
    """The two nearest units; one where it is met exactly, for the other then has weight 0."""

    def taps(unit: int, scale: float, _count: int) -> list[int]:
        place = unit * scale if call["align_corners"] else (unit + 0.5) * scale - 0.5
        below = math.floor(place)
        return [below] if place == below else [below, below + 1]

    return _resized(call, taps)


def _resized(call: Call, taps: Callable[[int, float, int], Sequence[int]]) -> Field:
    """Upsampling; units beyond the map are those at its border."""
    field = call.field
    dims = dimensions_of(call.name)
    for i in range(dims):
        dim = len(field.layout) - dims + i
        size, count = call.first.shape[dim], field.shape[dim]
        scale = _scale(call, i, count, size)

        def change(axis: Axis, size: int = size, count: int = count, scale: float = scale) -> Axis:
            lists = [[min(max(tap, 0), count - 1) for tap in taps(unit, scale, count)] for unit in range(size)]
            width = max(map(len, lists))
            table = np.array([read + read[:1] * (width - len(read)) for read in lists])
            theory = None
            if axis.theory and scale and not call.arguments.get("align_corners"):  # which stretches to the border
                # The pattern repeats after `every` units, where the scale is a simple ratio.
                every, advance = Fraction(1 / scale).limit_denominator(64).as_integer_ratio()
                if advance and abs(every * scale / advance - 1) < 1e-6:
                    theory = axis.theory.read(lambda unit: taps(unit, scale, count), every, advance)
            return axis.read(table, theory)

        field = field.changed(dim, change, size)
    return field


def _scale(call: Call, i: int, count: int, size: int) -> float:
    """Units of the map for one unit of the enlarged map."""
    if call.arguments.get("align_corners"):
        return (count - 1) / (size - 1) if size > 1 else 0.0
    given = call.arguments.get("scale_factors") or [
        call.arguments.get(name) for name in ("scales_h", "scales_w", "scales")
    ]
    given = [one for one in given if one is not None]
    return 1 / given[i] if len(given) > i else count / size


def columns(call: Call) -> Field:
    """F.unfold: the windows of a map [B, C, H, W] as columns, [B, C * window, places]."""
    field = call.field
    for i in range(2):
        settings = [each(call[name], 2)[i] for name in ("kernel_size", "stride", "padding", "dilation")]
        kernel, stride, padding, dilation = settings
        count = field.shape[-2 + i] + 2 * padding - dilation * (kernel - 1)
        size = (count - 1) // stride + 1
        field = field.changed(
            len(field.layout) - 2 + i,
            lambda axis, size=size, rest=(kernel, stride, padding, dilation): axis.windows(size, *rest),
            size,
        )
    places = field.layout[-2] + field.layout[-1]
    return replace(field, layout=(*field.layout[:-3], ((call.first.shape[-2], None),), places))
