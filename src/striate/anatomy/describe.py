"""Operations in few words: "conv 3x3/2", "max 3x3/2", "linear", "add"."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

from striate.anatomy.calls import Call, dimensions_of, each

_WORDS = {
    "native_batch_norm": "batch norm",
    "_native_batch_norm_legit": "batch norm",
    "_native_batch_norm_legit_no_training": "batch norm",
    "native_group_norm": "group norm",
    "native_layer_norm": "layer norm",
    "cat": "concat",
    "addmm": "linear",
    "mm": "linear",
    "bmm": "matmul",
    "baddbmm": "matmul",
    "constant_pad_nd": "pad",
    "hardtanh": "relu6",
    "_prelu_kernel": "prelu",
    "amax": "max",
    "copy": "write",
}
# Modules whose class says more than the one operation that torch makes of them.
_MODULES: dict[type[nn.Module], str] = {
    nn.Flatten: "flatten",
    nn.LocalResponseNorm: "local response norm",
    nn.GELU: "gelu",
    nn.SiLU: "silu",
    nn.Softmax: "softmax",
}


def words_for(call: Call) -> str:
    """An operation with its geometry."""
    name = call.name
    if name == "convolution":
        return _convolution(call)
    if "adaptive" in name:
        size = _sides(call.first.shape[-dimensions_of(name) :])
        kind = "max" if "max" in name else "average"
        return f"global {kind}" if set(size) <= set("1x") else f"adaptive {kind} to {size}"
    if "_pool" in name:
        dims = dimensions_of(name)
        kernel = each(call["kernel_size"], dims)
        stride = each(call["stride"], dims) if call["stride"] else kernel
        return f"{'max' if 'max' in name else 'average'} {_window(kernel, stride)}"
    if "upsample" in name:
        return f"upsample {name.removeprefix('upsample_')[:-2]} to {_sides(call.first.shape[2:])}"
    if "_pad" in name and name not in _WORDS:
        return f"pad by {name.split('_')[0]}"
    if "softmax" in name:
        return "softmax"
    if name in ("mean", "amax") and _covers_map(call):
        return f"global {'average' if name == 'mean' else 'max'}"
    bare = name.rstrip("_")
    return _WORDS.get(bare, bare.strip("_").replace("_", " "))


def words_for_module(module: nn.Module, calls: Sequence[tuple[str, bool]]) -> str:
    """A layer: by its operation if it is torch's own and has one that stands out, else by the name of its class.

    `calls` are its operations in words, and whether each has a geometry of its own (convolution, pool, matrix).
    """
    kind = type(module)
    if kind in _MODULES:
        return _MODULES[kind]
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return "dropout"
    major = [words for words, is_major in calls if is_major]
    if kind.__module__.startswith("torch.nn") and calls:
        return major[0] if major else calls[-1][0]
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", re.sub(r"Conv2d$", "Conv", re.sub(r"2d$", "", kind.__name__))).lower()
    geometry = re.search(r"\d+x\d+\S*", major[0]) if len(major) == 1 else None
    return f"{name} {geometry[0]}" if geometry and geometry[0] != "1x1" else name  # 1x1: no geometry to speak of


def _convolution(call: Call) -> str:
    kernel = list(call["weight"].shape[2:])
    dims = len(kernel)
    dilation = each(call["dilation"], dims)
    groups, channels = call["groups"], call["input"].shape[1]
    words = "transposed conv" if call["transposed"] else "conv"
    if 1 < groups == channels:
        words = f"depthwise {words}"
    words += f" {_window(kernel, each(call['stride'], dims))}"
    if set(dilation) != {1}:
        words += f" dilated {_sides(dilation) if len(set(dilation)) > 1 else dilation[0]}"
    if 1 < groups != channels:
        words += f", {groups} groups"
    return words


def _window(kernel: Sequence[int], stride: Sequence[int]) -> str:
    step = "" if set(stride) == {1} else f"/{stride[0] if len(set(stride)) == 1 else _sides(stride)}"
    return _sides(kernel) + step


def _sides(sides: Sequence[int]) -> str:
    return "x".join(map(str, sides))


def _covers_map(call: Call) -> bool:
    field = call.field_of(call["self"])
    after = call.field_of(call.first)
    return field is not None and after is not None and bool(field.open_axes) and after.open_axes <= after.pooled_axes
