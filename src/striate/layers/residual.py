"""The residual units of He et al. 2015 (arXiv:1512.03385) and 2016 (arXiv:1603.05027), and their shortcuts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from striate.layers.activations import make_activation
from striate.layers.normalization import make_normalization, needs_bias
from striate.layers.regularization import StochasticDepth

SHORTCUTS: dict[str, str] = {  # 1512.03385, sec. 4.1, "Identity vs. projection shortcuts"
    "A": "identity; where maps grow in number, zeros are added",
    "A_average": "as A, but halved by 2x2 means instead of every other pixel",
    "B": "identity; where the shape changes, a 1x1 projection",
    "C": "a 1x1 projection in every unit",
    "none": "no shortcut: a plain network",
}
UNITS = ("basic", "bottleneck")  # two 3x3 convolutions; 1x1, 3x3, 1x1
EXPANSION = 4  # maps out of a bottleneck unit for each map inside
STRIDES_ON: dict[str, str] = {  # where a bottleneck unit halves height and width
    "1x1": "in its first convolution, as published",
    "3x3": "in the 3x3 convolution, which then sees every pixel: v1.5",
}


class Arrangement(NamedTuple):
    """The order of the layers in a unit: what stands with each convolution, and what moves behind the addition."""

    row: tuple[str, ...]
    behind: int = 0  # so many layers of the last row


ARRANGEMENTS: dict[str, Arrangement] = {  # 1603.05027, fig. 4 (a) to (e) and table 2
    "original": Arrangement(("conv", "norm", "act"), behind=1),
    "bn_after_addition": Arrangement(("conv", "norm", "act"), behind=2),
    "relu_before_addition": Arrangement(("conv", "norm", "act")),
    "relu_only_preactivation": Arrangement(("act", "conv", "norm")),
    "full_preactivation": Arrangement(("norm", "act", "conv")),
}


class ZeroPadShortcut(nn.Module):
    """Option A where the shape changes: every stride-th pixel, new maps all zero, [B, C, H, W] -> [B, C', H/s, W/s].

    The paper leaves open where the zero maps go; here half of them come before and half after, as in the widely used
    CIFAR reference implementation, whose weights depend on it. With `average` the maps are reduced by the means of
    s x s pixels (those that exist, at the edge), as Huang et al. 2016 (arXiv:1603.09382) do.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, *, average: bool = False) -> None:
        super().__init__()
        self.stride, self.average = stride, average
        self.before = (channels - in_channels) // 2
        self.after = channels - in_channels - self.before

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', ceil(H/s), ceil(W/s)]."""
        if self.average:
            fewer = F.avg_pool2d(inputs, self.stride, ceil_mode=True, count_include_pad=False)
        else:
            fewer = inputs[:, :, :: self.stride, :: self.stride]
        return F.pad(fewer, (0, 0, 0, 0, self.before, self.after))


def make_shortcut(
    option: str, in_channels: int, channels: int, stride: int, normalization: str, *, normalised: bool = True
) -> nn.Module | None:
    """The shortcut of one unit: identity where `option` and the shapes allow it, None for none at all.

    A projection is followed by normalisation unless `normalised` is False.
    """
    if option == "none":
        return None
    if not _projects(option, in_channels, channels, stride):
        if in_channels == channels and stride == 1:
            return nn.Identity()
        return ZeroPadShortcut(in_channels, channels, stride, average=option == "A_average")
    layers: dict[str, nn.Module] = {
        "conv": nn.Conv2d(in_channels, channels, 1, stride, bias=needs_bias(normalization)),
    }
    if normalised:
        layers["norm"] = make_normalization(normalization, channels)
    return nn.Sequential(OrderedDict(layers))


def _projects(option: str, in_channels: int, channels: int, stride: int) -> bool:
    return option == "C" or (option == "B" and (in_channels != channels or stride != 1))


def _joined(branch: Tensor, shortcut: nn.Module | None, inputs: Tensor) -> Tensor:
    """The addition."""
    return branch if shortcut is None else branch + shortcut(inputs)


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
        return self.act2(_joined(self.drop(branch), self.shortcut, inputs))


class Bottleneck(nn.Module):
    """1x1 down to `width` maps, 3x3, 1x1 up to four times as many, each with norm (fig. 5, right).

    [B, C, H, W] -> [B, 4 width, ceil(H/stride), ceil(W/stride)]. `stride_on` is a key of `STRIDES_ON`.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int = 1,
        *,
        stride_on: str = "1x1",
        shortcut: str = "B",
        activation: str = "relu",
        normalization: str = "batch",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        channels, bias = EXPANSION * width, needs_bias(normalization)
        first, second = (stride, 1) if stride_on == "1x1" else (1, stride)
        self.conv1 = nn.Conv2d(in_channels, width, 1, first, bias=bias)
        self.norm1 = make_normalization(normalization, width)
        self.act1 = make_activation(activation)
        self.conv2 = nn.Conv2d(width, width, 3, second, padding=1, bias=bias)
        self.norm2 = make_normalization(normalization, width)
        self.act2 = make_activation(activation)
        self.conv3 = nn.Conv2d(width, channels, 1, bias=bias)
        self.norm3 = make_normalization(normalization, channels)
        self.drop = StochasticDepth(drop_rate) if drop_rate else nn.Identity()
        self.shortcut = make_shortcut(shortcut, in_channels, channels, stride, normalization)
        self.act3 = make_activation(activation)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, 4 width, ceil(H/s), ceil(W/s)]."""
        branch = self.act1(self.norm1(self.conv1(inputs)))
        branch = self.act2(self.norm2(self.conv2(branch)))
        branch = self.norm3(self.conv3(branch))
        return self.act3(_joined(self.drop(branch), self.shortcut, inputs))


class ArrangedUnit(nn.Module):
    """A residual unit, basic or bottleneck, with its layers in one of the five orders of `ARRANGEMENTS`.

    [B, C, H, W] -> [B, C', ceil(H/stride), ceil(W/stride)], C' = `width`, or 4 `width` with `bottleneck`.

    before ─┬─ branch ─ + ─ after     What comes before the first convolution stands in `before`, what follows the
            └─ shortcut ┘             addition in `after`; both are empty where the arrangement has nothing there.

    Identities skip `before`, projections read its output, as in the authors' code; a projection is normalised where
    the branch ends in a normalisation (the paper does not say). The two special cases of the appendix: where the
    inputs are `activated` by conv1's own norm and activation, branch and shortcut share them; the `last` unit activates
    its sum.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int = 1,
        *,
        bottleneck: bool = False,
        arrangement: str = "full_preactivation",
        activated: bool = False,
        last: bool = False,
        shortcut: str = "B",
        activation: str = "relu",
        normalization: str = "batch",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        row, behind = ARRANGEMENTS[arrangement]
        convolutions = _convolutions(in_channels, width, stride, bottleneck, bias=needs_bias(normalization))
        rows = [
            _row(row, number, convolution, activation, normalization)
            for number, convolution in enumerate(convolutions, start=1)
        ]
        layers = [layer for one in rows for layer in one]
        begin, end = row.index("conv"), len(layers) - behind
        channels = convolutions[-1].out_channels
        self.before = _named([] if activated else layers[:begin])
        self.branch = _named(layers[begin:end])
        self.drop = StochasticDepth(drop_rate) if drop_rate else nn.Identity()
        self.shortcut = make_shortcut(
            shortcut, in_channels, channels, stride, normalization, normalised="norm" in row[begin : len(row) - behind]
        )
        self.projects = _projects(shortcut, in_channels, channels, stride)
        # What the next unit would have done first, where there is no next one.
        extra = [(name, _company(name, channels, activation, normalization)) for name in row[:begin]] if last else []
        self.after = _named([*layers[end:], *extra])

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', ceil(H/s), ceil(W/s)]."""
        ready = self.before(inputs)
        branch = self.drop(self.branch(ready))
        return self.after(_joined(branch, self.shortcut, ready if self.projects else inputs))


def _convolutions(in_channels: int, width: int, stride: int, bottleneck: bool, *, bias: bool) -> list[nn.Conv2d]:
    """The two or three convolutions of a unit, the first with the stride."""
    if not bottleneck:
        return [
            nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=bias),
            nn.Conv2d(width, width, 3, padding=1, bias=bias),
        ]
    return [
        nn.Conv2d(in_channels, width, 1, stride, bias=bias),
        nn.Conv2d(width, width, 3, padding=1, bias=bias),
        nn.Conv2d(width, EXPANSION * width, 1, bias=bias),
    ]


def _row(
    row: Sequence[str], number: int, convolution: nn.Conv2d, activation: str, normalization: str
) -> list[tuple[str, nn.Module]]:
    """A convolution with the layers before and after it, by name."""
    layers: list[tuple[str, nn.Module]] = []
    channels = convolution.in_channels
    for kind in row:
        if kind == "conv":
            layers.append((f"conv{number}", convolution))
            channels = convolution.out_channels
        else:
            layers.append((f"{kind}{number}", _company(kind, channels, activation, normalization)))
    return layers


def _company(kind: str, channels: int, activation: str, normalization: str) -> nn.Module:
    return make_activation(activation) if kind == "act" else make_normalization(normalization, channels)


def _named(layers: Sequence[tuple[str, nn.Module]]) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))
