"""What a training step keeps between forward and backward: seen on meta tensors, without doing either."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from striate.anatomy.shapes import MetaMode
from striate.anatomy.trace import empty_input, forward, is_layer, meta_values, mode_kept, plain_attention

BATCH = 2  # one image has no batch statistics; what is kept is halved


def training_bytes(model: nn.Module, shape: Sequence[int]) -> tuple[int, dict[str, list[int]]]:
    """Bytes that autograd saves for one image [C, H, W], in fp32 and training mode, each storage once.

    Also by the path of the layer that saves it first (a list: one for each time that the layer is used). Parameters and
    buffers do not count, gradients and the optimizer's state neither; auxiliary heads do, for they are trained.
    """
    values = meta_values(model)
    ignored = {value.untyped_storage()._cdata for value in values.values()}
    kept: dict[int, Tensor] = {}  # by storage; holding a tensor keeps its address from being used again
    by_path: dict[str, list[int]] = defaultdict(lambda: [0])
    paths: list[str] = [""]
    inside: list[nn.Module] = []

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in ignored and storage._cdata not in kept:
            kept[storage._cdata] = tensor
            by_path[paths[-1]][-1] += storage.nbytes()
        return tensor

    names = {module: name for name, module in model.named_modules()}

    def enter(module: nn.Module, _inputs: object) -> None:
        if not inside:
            paths.append(names[module])
            if is_layer(module):
                inside.append(module)
                by_path[names[module]].append(0)

    def leave(module: nn.Module, _inputs: object, _output: object) -> None:
        if not inside or inside[-1] is module:
            paths.pop()
            inside.clear()

    image = empty_input(BATCH, *shape)
    handles = []
    try:
        for module in names:
            handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
        hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
        with torch.enable_grad(), mode_kept(model, training=True), plain_attention():
            forward(model, values, image, MetaMode(), hooks)
    finally:
        for handle in handles:
            handle.remove()
    total = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    layers = {path: [size // BATCH for size in sizes[1:] or sizes] for path, sizes in by_path.items()}
    return total // BATCH, layers
