"""How each operation of torch passes on what its units see: one rule for each kind of operation.

A rule gets the call and returns the field of its first output, or a list of fields for operations with several. Batch,
group and layer normalisation act value by value: that their statistics, outside evaluation, come from whole maps is
left out, as everywhere in the literature.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from striate.anatomy.fields import Axis, Field, join


@dataclass(frozen=True)
class Call:
    """One operation: its arguments by the names of its schema, its output, and where to find fields."""

    name: str  # "convolution", without overload
    arguments: dict[str, Any]
    out: Any
    field_of: Callable[[Any], Field | None]

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]

    @property
    def first(self) -> Tensor:
        """The first output."""
        return self.out[0] if isinstance(self.out, tuple | list) else self.out

    @property
    def field(self) -> Field:
        """That of the first argument; the others must not depend on the image."""
        (name, value), *others = self.arguments.items()
        field = self.field_of(value)
        if field is None or any(self.field_of(other) is not None for _, other in others):
            raise NoRuleError(f"{self.name} of {name}")
        return field

    def operands(self) -> list[Field]:
        """The fields of all tensors that depend on the image."""
        values = [
            one for value in self.arguments.values() for one in (value if isinstance(value, list | tuple) else [value])
        ]
        return [field for field in map(self.field_of, values) if field is not None]


class NoRuleError(Exception):
    """No rule says what the units of this operation see."""


Rule = Callable[[Call], Field | list[Field]]


def field_after(call: Call, pointwise: bool) -> Field | list[Field]:
    """The field of what an operation returns.

    Raises:
        NoRuleError: an operation, or a use of one, that no rule covers.
    """
    rule = _RULES.get(call.name) or (_pointwise if pointwise else None)
    if rule is None:
        raise NoRuleError(call.name)
    return rule(call)


def arguments_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """All arguments of a call by name, defaults included."""
    names, defaults = _signature(func)
    return {**defaults, **dict(zip(names, args, strict=False)), **kwargs}


@cache
def _signature(func: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    arguments = func._schema.arguments
    return tuple(one.name for one in arguments), {
        one.name: one.default_value if one.has_default_value() else None for one in arguments
    }


def each(value: Any, count: int) -> list[int]:
    """A setting for each of `count` dimensions: one number stands for all."""
    values = [value] if isinstance(value, int) else list(value)
    return values * count if len(values) == 1 else values


# -- value by value ---------------------------------------------------------------------------------------------------


def _pointwise(call: Call) -> Field:
    return join(call.operands(), call.first.shape)


def _same(call: Call) -> Field:
    return call.field


def _written(call: Call) -> Field:
    """copy_ and the like: what was there before is gone."""
    source = call.field_of(call["src"])
    if source is None:
        raise NoRuleError(call.name)
    return join([source], call.first.shape)


def _normalised(call: Call) -> Field:
    field = call.field_of(call["input"])
    if field is None:
        raise NoRuleError(call.name)
    return field


# -- windows ----------------------------------------------------------------------------------------------------------


def _convolution(call: Call) -> Field:
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


def _pool(call: Call) -> Field:
    """Max and average pooling; the last dimensions are pooled. Windows beyond the map (ceil mode) are cut."""
    field = call.field
    kernel = each(call["kernel_size"], dimensions_of(call.name))
    dims = len(kernel)
    settings = {
        "stride": each(call["stride"], dims) if call["stride"] else kernel,
        "padding": each(call["padding"], dims),
        "dilation": each(call.arguments.get("dilation", 1), dims),
    }
    for i in range(dims):
        dim = len(field.layout) - dims + i
        size = call.first.shape[dim]
        stride, padding, dilation = (settings[name][i] for name in ("stride", "padding", "dilation"))
        field = field.changed(
            dim,
            lambda axis, size=size, i=i, rest=(stride, padding, dilation): axis.windows(size, kernel[i], *rest),
            size,
        )
    return field


def dimensions_of(name: str) -> int:
    """2 for avg_pool2d."""
    return int(next(letter for letter in name if letter.isdigit()))


def _adaptive_pool(call: Call) -> Field:
    """Unit o reads floor(o * n / m) up to ceil((o + 1) * n / m), for n units in and m out; m = 1 settles the axis."""
    field = call.field
    dims = dimensions_of(call.name)
    shape = call.first.shape
    whole = [dim for dim in range(len(shape) - dims, len(shape)) if shape[dim] == 1]
    field = field.without(whole, keep=True)
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


def _padded(call: Call) -> Field:
    return _bordered(call, lambda place, count: place if 0 <= place < count else -1)


def _reflected(call: Call) -> Field:
    def mirror(place: int, count: int) -> int:
        return -place if place < 0 else 2 * (count - 1) - place if place >= count else place

    return _bordered(call, mirror)


def _replicated(call: Call) -> Field:
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


def _nearest(call: Call) -> Field:
    def taps(unit: int, scale: float, _count: int) -> list[int]:
        return [math.floor(unit * scale)]

    return _resized(call, taps)


def _bilinear(call: Call) -> Field:
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


# -- shapes -----------------------------------------------------------------------------------------------------------


def _reshaped(call: Call) -> Field:
    return call.field.reshaped(call.first.shape)


def _permuted(call: Call) -> Field:
    field = call.field
    return field.rearranged([dim % len(field.layout) for dim in call["dims"]])


def _transposed(call: Call) -> Field:
    field = call.field
    count = len(field.layout)
    dims = list(range(count))
    if count < 2:
        return field
    first, second = (call["dim0"], call["dim1"]) if call.name == "transpose" else (0, 1)
    dims[first], dims[second] = dims[second], dims[first]
    return field.rearranged(dims)


def _unsqueezed(call: Call) -> Field:
    field = call.field
    dims: list[int | None] = list(range(len(field.layout)))
    dims.insert(call["dim"] % (len(dims) + 1), None)
    return field.rearranged(dims)


def _squeezed(call: Call) -> Field:
    field, shape = call.field, call.field.shape
    given = call.arguments.get("dim")
    dims = (
        range(len(shape))
        if given is None
        else [one % len(shape) for one in ([given] if isinstance(given, int) else given)]
    )
    return field.rearranged([dim for dim in range(len(shape)) if not (dim in dims and shape[dim] == 1)])


def _expanded(call: Call) -> Field:
    return call.field.expanded(call.first.shape)


def _sliced(call: Call) -> Field:
    field = call.field
    dim = call["dim"] % len(field.layout)
    start = min(max(call["start"] or 0, -field.shape[dim]), field.shape[dim])
    return _taken(field, dim, start % field.shape[dim] if start < 0 else start, call.first.shape[dim], call["step"])


def _taken(field: Field, dim: int, start: int, size: int, step: int = 1) -> Field:
    if step == 1 and size == field.shape[dim]:
        return field
    return field.changed(dim, lambda axis: axis.windows(size, 1, step, -start), size)


def _selected(call: Call) -> Field:
    field = call.field
    dim = call["dim"] % len(field.layout)
    return _taken(field, dim, call["index"] % field.shape[dim], 1).without([dim])


def _split(call: Call) -> list[Field]:
    field = call.field
    dim = call["dim"] % len(field.layout)
    fields, start = [], 0
    for part in call.out:
        fields.append(_taken(field, dim, start, part.shape[dim]))
        start += part.shape[dim]
    return fields


def _unbound(call: Call) -> list[Field]:
    field = call.field
    dim = call["dim"] % len(field.layout)
    return [_taken(field, dim, index, 1).without([dim]) for index in range(len(call.out))]


def _unfolded(call: Call) -> Field:
    """Tensor.unfold: windows along a dimension, their places in a new last one."""
    field = call.field
    dim, step = call["dimension"] % len(field.layout), call["step"]
    size = call.first.shape[dim]
    field = field.changed(dim, lambda axis: axis.windows(size, call["size"], step), size)
    return replace(field, layout=(*field.layout, ((call["size"], None),)))


def _columns(call: Call) -> Field:
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


def _concatenated(call: Call) -> Field:
    parts = [(call.field_of(tensor), tensor) for tensor in call["tensors"] if tensor.numel()]
    known = [field for field, _ in parts if field is not None]
    shape = call.first.shape
    dim = call["dim"] % len(shape)
    along = {field.axis_at(dim) for field in known} - {None}
    if not along:
        resized = [field.changed(dim, lambda axis: axis, shape[dim]) for field in known]
        return join(resized, shape)
    if len(along) > 1 or len(known) < len(parts):
        raise NoRuleError("concat along different axes, or with what does not come from the image")
    (axis,) = along
    pieces = [field if field.axis_at(dim) == axis else field.settled([axis]) for field in known]
    pieces = [field if field.axis_at(dim) == axis else _laid(field, dim, axis, field.shape[dim]) for field in pieces]
    joined_axis = Axis(
        np.concatenate([field.axes[axis].lo for field in pieces]),
        np.concatenate([field.axes[axis].hi for field in pieces]),
        None,  # the parts do not lie beside one another in the image
    )
    # Along the other axes, the parts see what they see: a union over all.
    others = [_laid(field.settled([axis]), dim, None, shape[dim]) for field in pieces]
    rest = join(others, shape)
    axes = tuple(joined_axis if i == axis else one for i, one in enumerate(rest.axes))
    layout = (*rest.layout[:dim], ((shape[dim], axis),), *rest.layout[dim + 1 :])
    return Field(axes, layout)


def _laid(field: Field, dim: int, axis: int | None, size: int) -> Field:
    """With dimension `dim` `size` long; with an `axis`, which is settled, laid along it unit by unit."""
    layout = (*field.layout[:dim], ((size, axis),), *field.layout[dim + 1 :])
    axes = (
        field.axes
        if axis is None
        else tuple(one.spread(size) if i == axis else one for i, one in enumerate(field.axes))
    )
    return Field(axes, layout)


def _stacked(call: Call) -> Field:
    fields = call.operands()
    dim = call["dim"] % (len(fields[0].layout) + 1)
    order: list[int | None] = list(range(len(fields[0].layout)))
    order.insert(dim, None)
    return join([field.rearranged(order).expanded(call.first.shape) for field in fields], call.first.shape)


# -- everything along a dimension -------------------------------------------------------------------------------------


def _reduced(call: Call) -> Field:
    field = call.field
    dims = call.arguments.get("dim")
    dims = range(len(field.layout)) if dims is None or dims == [] else [dims] if isinstance(dims, int) else dims
    return field.without(dims, keep=bool(call.arguments.get("keepdim")))


def _mixed(call: Call) -> Field:
    """Softmax and the like: every value depends on all along the dimension."""
    return call.field.settled_at([call["dim"]])


def _product(call: Call) -> Field:
    """Matrix products: rows of the first, columns of the second, everything along what is summed over."""
    names = [name for name in call.arguments if name in ("self", "mat1", "mat2", "batch1", "batch2", "vec")]
    first, second = names[-2:]
    left, right = call.field_of(call[first]), call.field_of(call[second])
    shape = call.first.shape
    fields = []
    if left is not None:
        left = left.settled_at([-1])
        fields.append(replace(left, layout=(*left.layout[:-1], ((shape[-1], None),))))
    if right is not None:
        right = right.settled_at([-2])
        fields.append(replace(right, layout=(*right.layout[:-2], ((shape[-2], None),), right.layout[-1])))
    if len(names) == 3 and (added := call.field_of(call[names[0]])) is not None:
        fields.append(added)
    return join(fields, shape)


def _rules(rule: Rule, *names: str) -> dict[str, Rule]:
    return dict.fromkeys(names, rule)


VIEWS: dict[str, Rule] = {
    **_rules(_reshaped, "view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "unflatten"),
    **_rules(_permuted, "permute"),
    **_rules(_transposed, "transpose", "t"),
    **_rules(_unsqueezed, "unsqueeze"),
    **_rules(_squeezed, "squeeze"),
    **_rules(_expanded, "expand"),
    **_rules(_sliced, "slice"),
    **_rules(_selected, "select"),
    **_rules(_split, "split", "split_with_sizes", "chunk"),
    **_rules(_unbound, "unbind"),
    **_rules(_unfolded, "unfold"),
    **_rules(_same, "alias", "detach", "lift_fresh", "clone", "_to_copy", "to", "contiguous", "bernoulli"),
}

_RULES: dict[str, Rule] = {
    **VIEWS,
    **_rules(_pointwise, "hardswish", "_prelu_kernel", "rrelu_with_noise", "rsub", "log_sigmoid_forward"),
    **_rules(_pointwise, "native_dropout", "add", "sub", "mul", "div"),
    **_rules(_written, "copy_"),
    **_rules(
        _normalised,
        *("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "cudnn_batch_norm"),
        *(
            "native_layer_norm",
            "native_group_norm",
            "_fused_rms_norm",
            "_batch_norm_with_update",
            "_batch_norm_no_update",
        ),
    ),
    **_rules(_convolution, "convolution"),
    **_rules(_pool, "avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool2d", "max_pool2d_with_indices"),
    **_rules(_pool, "max_pool3d_with_indices"),
    **_rules(_adaptive_pool, *(f"{mark}adaptive_avg_pool{n}d" for n in (1, 2, 3) for mark in ("", "_"))),
    **_rules(_adaptive_pool, "adaptive_max_pool2d", "adaptive_max_pool3d"),
    **_rules(_padded, "constant_pad_nd"),
    **_rules(_reflected, "reflection_pad1d", "reflection_pad2d"),
    **_rules(_replicated, "replication_pad1d", "replication_pad2d"),
    **_rules(_nearest, "upsample_nearest1d", "upsample_nearest2d"),
    **_rules(_bilinear, "upsample_linear1d", "upsample_bilinear2d"),
    **_rules(_columns, "im2col"),
    **_rules(_concatenated, "cat"),
    **_rules(_stacked, "stack"),
    **_rules(_reduced, "mean", "sum", "amax", "amin", "max", "logsumexp", "linalg_vector_norm", "norm"),
    **_rules(_mixed, "_softmax", "_log_softmax", "_safe_softmax"),
    **_rules(_product, "mm", "addmm", "bmm", "baddbmm"),
}

POINTWISE = torch.Tag.pointwise
# These look at the shape of their argument only: the output does not depend on the image.
SHAPE_ONLY = {f"new_{what}" for what in ("empty", "zeros", "ones", "full")} | {
    f"{what}_like" for what in ("empty", "zeros", "ones", "full", "rand", "randn")
}
