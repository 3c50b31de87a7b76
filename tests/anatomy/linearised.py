"""The linearised network: what a unit depends on can be read off its gradient."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.layers.activations import Maxout, ScaledTanh
from striate.layers.normalization import Contrast, LocalResponse

_GONE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.Hardswish, ScaledTanh, Maxout),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm, LocalResponse, Contrast),
    nn.modules.dropout._DropoutNd,
)


def linearised(model: nn.Module) -> nn.Module:
    """Activations and normalisation removed, every weight positive, in float64; `boxes` takes means for maxima."""
    model = _replaced(copy.deepcopy(model)).double().eval()
    with torch.no_grad():
        frozen = ((name, value) for name, value in model.named_buffers() if name.endswith("weight"))
        for name, parameter in (*model.named_parameters(), *frozen):
            # The mean over what is read: neither overflows nor vanishes over hundreds of layers.
            parameter.fill_(0.0 if name.endswith("bias") else 1 / max(1, parameter[0].numel()))
    return model


def _replaced(module: nn.Module) -> nn.Module:
    if isinstance(module, _GONE):
        return nn.Identity()
    for name, child in module.named_children():
        setattr(module, name, _replaced(child))
    return module


def boxes(net: nn.Module, shape: Sequence[int]) -> tuple[list[tuple[int, int] | None], list[tuple[int, int] | None]]:
    """The rows, and the columns, of the image [C, H, W] that the units down the middle and across it depend on."""
    image = torch.zeros(1, *shape, dtype=torch.float64, requires_grad=True)
    with patch.object(F, "max_pool2d", _mean):
        out = net(image)
    height, width = out.shape[-2:]
    rows = [_extent(_gradient(out[:, :, i, width // 2].sum(), image).any(1)) for i in range(height)]
    columns = [_extent(_gradient(out[:, :, height // 2, j].sum(), image).any(0)) for j in range(width)]
    return rows, columns


Extent = tuple[int, int]


def every_box(net: nn.Module, shape: Sequence[int]) -> dict[tuple[int, int], tuple[Extent, Extent] | None]:
    """For every unit of the output the rows and columns that it depends on; the network must be linear."""
    channels, height, width = shape
    pixels = torch.eye(height * width, dtype=torch.float64).reshape(-1, 1, height, width).expand(-1, channels, -1, -1)
    with torch.no_grad():
        out = net(pixels).sum(1) != 0  # [pixels, h, w]
    found: dict[tuple[int, int], tuple[Extent, Extent] | None] = {}
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            reached = out[:, i, j].reshape(height, width)
            rows, columns = _extent(reached.any(1)), _extent(reached.any(0))
            found[i, j] = None if rows is None or columns is None else (rows, columns)
    return found


def _mean(maps, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """Stands in for the largest value of each window."""
    assert dilation in (1, (1, 1))
    assert not return_indices
    return F.avg_pool2d(maps, kernel_size, stride, padding, ceil_mode)


def _gradient(value: Tensor, image: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(value, image, retain_graph=True)
    return gradient[0].abs().sum(0) > 0


def _extent(hit: Tensor) -> tuple[int, int] | None:
    places = hit.nonzero()
    return (int(places[0]), int(places[-1])) if len(places) else None
