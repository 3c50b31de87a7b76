"""How each operation of torch passes on what its units see: one rule for each kind of operation.

A rule gets the call and returns the field of its first output, or a list of fields for operations with several. Batch,
group and layer normalisation act value by value: that their statistics, outside evaluation, come from whole maps is
left out, as everywhere in the literature.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from striate.anatomy import moves, windows
from striate.anatomy.calls import Call, NoRuleError
from striate.anatomy.fields import Axis, Field, join

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


def _concatenated(call: Call) -> Field:
    parts = [(call.field_of(tensor), tensor) for tensor in call["tensors"] if tensor.numel()]
    known = [field for field, _ in parts if field is not None]
    shape = call.first.shape
    dim = call["dim"] % len(shape)
    along = {axis for field in known if (axis := field.axis_at(dim)) is not None}
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
    return field.pooled(dims) if call.arguments.get("keepdim") else field.without(dims)


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
    **_rules(windows.convolution, "convolution"),
    **_rules(windows.pool, "avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool2d", "max_pool2d_with_indices"),
    **_rules(windows.pool, "max_pool3d_with_indices"),
    **_rules(windows.adaptive_pool, *(f"{mark}adaptive_avg_pool{n}d" for n in (1, 2, 3) for mark in ("", "_"))),
    **_rules(windows.adaptive_pool, "adaptive_max_pool2d", "adaptive_max_pool3d"),
    **_rules(windows.padded, "constant_pad_nd"),
    **_rules(windows.reflected, "reflection_pad1d", "reflection_pad2d"),
    **_rules(windows.replicated, "replication_pad1d", "replication_pad2d"),
    **_rules(moves.flipped, "flip"),
    **_rules(moves.rotated, "rot90"),
    **_rules(moves.rolled, "roll"),
    **_rules(moves.repeated, "repeat"),
    **_rules(moves.channels_mixed, "channel_shuffle", "native_channel_shuffle"),
    **_rules(moves.shuffled, "pixel_shuffle"),
    **_rules(moves.unshuffled, "pixel_unshuffle"),
    **_rules(windows.nearest, "upsample_nearest1d", "upsample_nearest2d"),
    **_rules(windows.nearest_exact, "_upsample_nearest_exact1d", "_upsample_nearest_exact2d"),
    **_rules(windows.bicubic, "upsample_bicubic2d"),
    **_rules(windows.bilinear, "upsample_linear1d", "upsample_bilinear2d"),
    **_rules(windows.columns, "im2col"),
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
