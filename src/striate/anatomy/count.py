"""Parameters and multiply-accumulates of a network, counted on meta tensors: shapes without memory or arithmetic."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


def count_parameters(model: nn.Module) -> int:
    """Learned values with biases, scales and shifts, frozen or not; no running statistics and no auxiliary heads."""
    return sum(parameter.numel() for name, parameter in model.named_parameters() if not name.startswith("auxiliary."))


def count_macs(model: nn.Module, in_channels: int | None = None, size: int | tuple[int, int] | None = None) -> int:
    """Multiply-accumulates of one image [in_channels, *size] through convolutions and linear layers.

    Biases, normalisation, pooling and activations do not count; a floating-point operation count would be twice this.
    Layers of our own count themselves, by a method `multiply_accumulates(output_shape)`. Channels and size default to
    those that the network was built for. The network is left as it was.
    """
    architecture: Any = getattr(model, "architecture", None)
    channels = architecture.in_channels if in_channels is None else in_channels
    height, width = (size, size) if isinstance(size, int) else size or architecture.input_size
    counts: list[int] = []

    def count(module: nn.Module, _inputs: Any, output: Any) -> None:
        counts.append(layer_macs(module, output))

    leaves = [module for module in model.modules() if _counts(module)]
    handles = [module.register_forward_hook(count) for module in leaves]
    training = {module: module.training for module in model.modules()}
    shapes = {name: value.to("meta") for name, value in (*model.named_parameters(), *model.named_buffers())}
    model.eval()
    try:
        with torch.no_grad():
            functional_call(model, shapes, (torch.empty(1, channels, height, width, device="meta"),))
    finally:
        for handle in handles:
            handle.remove()
        for module, was_training in training.items():
            module.training = was_training
    return sum(counts)


def layer_macs(module: nn.Module, output: Tensor) -> int:
    """Multiply-accumulates of one layer for one image, from its output [B, ...]; 0 for layers that do not count."""
    if hasattr(module, "multiply_accumulates"):
        return module.multiply_accumulates(output.shape)  # type: ignore[operator]
    per_image = output[0].numel()
    if isinstance(module, nn.Linear):
        return per_image * module.in_features
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return per_image * module.weight[0].numel()
    return 0


def _counts(module: nn.Module) -> bool:
    return hasattr(module, "multiply_accumulates") or isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
