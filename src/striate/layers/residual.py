"""The residual unit of He et al. 2015 (arXiv:1512.03385) and its three kinds of shortcut."""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from striate.layers.activations import make_activation
from striate.layers.normalization import make_normalization, needs_bias
from striate.layers.regularization import StochasticDepth

SHORTCUTS: dict[str, str] = {  # sec. 4.1, "Identity vs. projection shortcuts"
    "A": "identity; where maps grow in number, zeros are added",
    "B": "identity; where the shape changes, a 1x1 projection",
    "C": "a 1x1 projection in every unit",
}


class ZeroPadShortcut(nn.Module):
    """Option A where the shape changes: every stride-th pixel, new maps all zero, [B, C, H, W] -> [B, C', H/s, W/s].

    The paper leaves open where the zero maps go; here half of them come before and half after, as in the widely used
    CIFAR reference implementation, whose weights depend on it.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (channels - in_channels) // 2
        self.after = channels - in_channels - self.before

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', ceil(H/s), ceil(W/s)]."""
        return F.pad(inputs[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


def make_shortcut(option: str, in_channels: int, channels: int, stride: int, normalization: str) -> nn.Module:
    """The shortcut of one unit: identity where `option` and the shapes allow it."""
    same_shape = in_channels == channels and stride == 1
    if same_shape and option != "C":
        return nn.Identity()
    if option == "A":
        return ZeroPadShortcut(in_channels, channels, stride)
    projection = nn.Conv2d(in_channels, channels, 1, stride, bias=needs_bias(normalization))
    return nn.Sequential(OrderedDict(conv=projection, norm=make_normalization(normalization, channels)))


class BasicBlock(nn.Module):
    """activation(shortcut(x) + norm(conv(activation(norm(conv(x)))))), two 3x3 convolutions (fig. 5, left).

    [B, C, H, W] -> [B, C', ceil(H/stride), ceil(W/stride)]. `drop_rate` above 0 adds stochastic depth on the branch.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        *,
        shortcut: str = "B",
        activation: str = "relu",
        normalization: str = "batch",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        bias = needs_bias(normalization)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=bias)
        self.norm1 = make_normalization(normalization, channels)
        self.act1 = make_activation(activation)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.norm2 = make_normalization(normalization, channels)
        self.drop = StochasticDepth(drop_rate) if drop_rate else nn.Identity()
        self.shortcut = make_shortcut(shortcut, in_channels, channels, stride, normalization)
        self.act2 = make_activation(activation)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', ceil(H/s), ceil(W/s)]."""
        branch = self.act1(self.norm1(self.conv1(inputs)))
        branch = self.norm2(self.conv2(branch))
        return self.act2(self.drop(branch) + self.shortcut(inputs))
