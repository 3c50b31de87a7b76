"""Output shapes of the commonest operations.

Torch knows the shapes of all of them, but finds some by Python code that first loads its compiler, which takes seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from striate.anatomy.calls import arguments_of

_SAME = ("relu", "tanh", "sigmoid", "gelu", "silu", "elu", "leaky_relu", "hardtanh", "hardswish", "hardsigmoid")
_SAME_OTHERS = ("clamp_min", "clamp_max", "_softmax", "_log_softmax", "_safe_softmax", "neg", "sqrt", "exp")
_BROADCAST = ("add", "sub", "mul", "div", "pow")
_REDUCED = ("mean", "sum", "amax")


class MetaMode(TorchDispatchMode):
    """Every operation on meta tensors, constants that a module keeps on other devices included."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Being traced by the compiler never happens here, and guarding against it imports the compiler.
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func` on meta tensors, or just make what it returns."""
        args, kwargs = tree_map(_to_meta, (args, dict(kwargs or {})))
        if kwargs.get("device") is not None:
            kwargs["device"] = torch.device("meta")
        name = name_of(func)
        arguments = arguments_of(func, args, kwargs)
        if name == "as_strided" and func._schema.is_mutable and list(args[1]) == list(args[0].shape):
            return args[0]  # pooling asks for another order in memory, which has no meaning here
        out = None if func._schema.is_mutable else made(name, arguments)
        out = func(*args, **kwargs) if out is None else out
        self.saw(func, name, arguments, out)
        return out

    def saw(self, func: Any, name: str, arguments: dict[str, Any], out: Any) -> None:
        """Called after every operation."""


def name_of(func: Any) -> str:
    """ "add" for aten.add.Tensor and aten.add_.Tensor."""
    name = func._schema.name.split("::")[1]
    return name.removesuffix("_") if name != "copy_" else name


def made(name: str, arguments: dict[str, Any]) -> Any:
    """The output of an operation whose shape is easily said, None for every other."""
    first: Any = arguments.get("self", arguments.get("input"))
    if name in (*_SAME, *_SAME_OTHERS):
        return torch.empty_like(first) if first.is_floating_point() else None
    if name in _BROADCAST:
        return _broadcast([one for one in arguments.values() if isinstance(one, Tensor)])
    if name == "addmm":
        return first.new_empty(arguments["mat1"].shape[0], arguments["mat2"].shape[1])
    if name in ("native_batch_norm", "native_layer_norm"):
        return _normalised(name, first, arguments)
    if name == "cat":
        return _concatenated(arguments["tensors"], arguments["dim"])
    if name == "im2col" and first.dim() == 4:
        return _columns(first, *(arguments[key] for key in ("kernel_size", "stride", "padding", "dilation")))
    if name in _REDUCED and first.is_floating_point() and arguments.get("dtype") is None:
        return _reduced(first, arguments.get("dim"), bool(arguments.get("keepdim")))
    return None


def _broadcast(tensors: Sequence[Tensor]) -> Tensor | None:
    if len({one.dtype for one in tensors}) > 1 or not tensors[0].is_floating_point():
        return None
    shape = torch.broadcast_shapes(*(one.shape for one in tensors))
    like = next((one for one in tensors if one.shape == shape), None)
    return tensors[0].new_empty(shape) if like is None else torch.empty_like(like)


def _normalised(name: str, first: Tensor, arguments: dict[str, Any]) -> tuple[Tensor, ...]:
    if name == "native_layer_norm":
        outer = first.dim() - len(arguments["normalized_shape"])
        statistics = [*first.shape[:outer], *[1] * (first.dim() - outer)]
    else:
        statistics = [first.shape[1] if arguments["training"] else 0]
    return torch.empty_like(first), first.new_empty(statistics), first.new_empty(statistics)


def _concatenated(tensors: Sequence[Tensor], dim: int) -> Tensor | None:
    tensors = [one for one in tensors if one.shape != (0,)]
    shapes = [list(one.shape) for one in tensors]
    if len({one.dtype for one in tensors}) > 1 or not shapes:
        return None
    total = sum(shape[dim] for shape in shapes)
    for shape in shapes:
        shape[dim] = total
    return tensors[0].new_empty(shapes[0]) if all(shape == shapes[0] for shape in shapes) else None


def _columns(first: Tensor, *settings: Sequence[int]) -> Tensor:
    batch, channels, *sides = first.shape
    places = [
        (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for side, kernel, stride, padding, dilation in zip(sides, *settings, strict=True)
    ]
    return first.new_empty(batch, channels * math.prod(settings[0]), math.prod(places))


def _reduced(first: Tensor, dims: Any, keep: bool) -> Tensor:
    wanted = range(first.dim()) if dims in (None, []) else [dims] if isinstance(dims, int) else dims
    gone = {dim % max(1, first.dim()) for dim in wanted}
    shape = [1 if dim in gone else size for dim, size in enumerate(first.shape) if keep or dim not in gone]
    assert math.prod(shape) <= max(1, first.numel())
    return first.new_empty(shape)


def _to_meta(value: Any) -> Any:
    if isinstance(value, Tensor) and value.device.type != "meta":
        return value.detach().to("meta")
    return value
