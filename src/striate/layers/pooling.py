"""Pooling by name: max, average, sum, AlexNet's overlapping windows, LeNet's trainable subsampling, and whole maps."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.errors import UnknownNameError

POOLINGS: tuple[str, ...] = ("max", "average", "sum", "overlapping_max", "trainable")


def make_pooling(name: str, channels: int, *, ceil: bool = False) -> nn.Module:
    """A new pooling layer that halves height and width, [B, C, H, W] -> [B, C, pooled_size(H), pooled_size(W)].

    With `ceil` a last overlapping window that the border cuts counts too, as in cuda-convnet and Caffe.

    Raises:
        UnknownNameError: a name that is not in `POOLINGS`.
    """
    match name:
        case "max":
            return nn.MaxPool2d(2)
        case "average":
            return nn.AvgPool2d(2)
        case "sum":
            return SumPool2d(2)
        case "overlapping_max":
            return nn.MaxPool2d(3, stride=2, ceil_mode=ceil)  # Krizhevsky et al. 2012, sec. 3.4
        case "trainable":
            return TrainableSubsampling(channels)
    raise UnknownNameError("pooling", name, POOLINGS)


def pooled_size(name: str, side: int, *, ceil: bool = False) -> int:
    """Output side of `make_pooling(name, ceil=ceil)` for an input side in pixels; 0 or less where that is too small."""
    if name == "overlapping_max":
        return (side - 3 + ceil) // 2 + 1
    return (side - 2) // 2 + 1


class SumPool2d(nn.Module):
    """The sum over each window: window² times the average."""

    def __init__(self, window: int, stride: int | None = None) -> None:
        super().__init__()
        self.window, self.stride = window, stride or window

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H', W']."""
        return F.avg_pool2d(inputs, self.window, self.stride) * self.window**2  # ONNX has no divisor of one's own


class TrainableSubsampling(nn.Module):
    """coefficient_c * (sum over 2x2) + bias_c: two parameters a map. LeCun et al. 1998, sec. II.B, layers S2 and S4.

    The squashing function that follows in the paper is a module of its own.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.window = 2
        self.coefficient = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as average pooling."""
        nn.init.constant_(self.coefficient, 1 / self.window**2)
        nn.init.zeros_(self.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H/2, W/2]."""
        total = F.avg_pool2d(inputs, self.window) * self.window**2  # ONNX has no divisor of one's own
        return total * self.coefficient[:, None, None] + self.bias[:, None, None]


class GlobalPool(nn.Module):
    """Each map to one number, [B, C, L] or [B, C, H, W] -> [B, C], without parameters. Lin et al. 2013, sec. 3.2."""

    def __init__(self, kind: Literal["average", "max"] = "average") -> None:
        super().__init__()
        if kind not in ("average", "max"):
            raise UnknownNameError("global pooling", kind, ("average", "max"))
        self.kind = kind

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, ...] -> [B, C]."""
        flat = inputs.flatten(2)
        return flat.mean(-1) if self.kind == "average" else flat.amax(-1)
