"""Convolution, normalisation and activation: the unit that most networks since 2015 are rows of."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from striate.layers.activations import make_activation
from striate.layers.normalization import make_normalization, needs_bias

Pair = int | tuple[int, int]


class ConvUnit(nn.Sequential):
    """`conv`, `norm`, `activation`: [B, C, H, W] -> [B, C', H', W'].

    `padding` defaults to half the kernel, which keeps height and width at stride 1. The
    convolution has a bias unless the normalisation has one of its own, or `bias` says otherwise.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: Pair,
        stride: Pair = 1,
        *,
        padding: Pair | None = None,
        groups: int = 1,
        bias: bool | None = None,
        normalization: str = "batch",
        epsilon: float | None = None,
        activation: str = "relu",
    ) -> None:
        if padding is None:
            padding = kernel // 2 if isinstance(kernel, int) else (kernel[0] // 2, kernel[1] // 2)
        if bias is None:
            bias = needs_bias(normalization)
        super().__init__(
            OrderedDict(
                conv=nn.Conv2d(in_channels, channels, kernel, stride, padding, groups=groups, bias=bias),
                norm=make_normalization(normalization, channels, epsilon=epsilon),
                activation=make_activation(activation),
            )
        )
