"""Compact networks – our own, for small images and for processors whose matrix units like wide, regular convolutions.

image ─ conv 3x3 ─ group × n ─ max over a grid of cells ─ linear × scale
                   conv 3x3, pool /2, norm, act, conv 3x3, norm, act
Pooling comes before normalisation and activation, so that those two, which only move memory, see a quarter of the
values. The last maps are pooled to grid x grid cells by their maximum; the logits are scaled down so that early steps
stay small. The plan of the groups follows K. Jordan 2024 ("94% on CIFAR-10 in 3.29 seconds on a single GPU",
arXiv:2404.00498); departs from it: the first layer is an ordinary trained 3x3 convolution, not fixed 2x2 whitening
filters."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import Generator, Tensor, nn

from striate.layers.activations import ACTIVATIONS, make_activation, widening
from striate.layers.initialise import he
from striate.layers.normalization import NORMALIZATIONS, make_normalization, needs_bias
from striate.layers.pooling import POOLINGS, make_pooling, pooled_size
from striate.layers.regularization import make_dropout
from striate.models.base import ConvNet, require


@dataclass(frozen=True, kw_only=True, slots=True)
class CompactConfig:
    """Widths and the variations."""

    stem: int  # maps of the first convolution
    stem_pool: bool = False  # halve height and width in the stem too
    stem_stride: int = 1  # of the first convolution: 2 halves without the large maps that pooling would read
    widths: tuple[int, ...]  # maps of each group; every group halves height and width
    grid: int = 1  # cells a side that the last maps are pooled to
    scale: float = 1.0  # of the logits
    activation: str = "relu"
    normalization: str = "batch"
    pooling: str = "max"
    dropout: float = 0.0  # before the linear layer

    def __post_init__(self) -> None:
        require("compact", "activation", self.activation, ACTIVATIONS)
        require("compact", "normalization", self.normalization, NORMALIZATIONS)
        require("compact", "pooling", self.pooling, POOLINGS)


class Compact(ConvNet):
    """A plain network of 3x3 convolutions, [B, in_channels, H, W] -> logits [B, classes]."""

    config_type = CompactConfig

    def __init__(
        self,
        config: CompactConfig,
        *,
        in_channels: int = 3,
        classes: int = 10,
        input_size: tuple[int, int] = (32, 32),
        name: str = "compact",
    ) -> None:
        super().__init__(name, config, in_channels, classes, input_size)
        channels = config.stem
        self.stem = nn.Sequential(
            _unit(in_channels, channels, config, pool=config.stem_pool, stride=config.stem_stride)
        )
        self.stages = nn.Sequential()
        for index, width in enumerate(config.widths):
            group = nn.Sequential(_unit(channels, width, config, pool=True), _unit(width, width, config))
            self.stages.add_module(f"group{index + 1}", group)
            channels = width
        self.head = nn.Sequential(
            OrderedDict(
                pool=nn.AdaptiveMaxPool2d(config.grid),
                flatten=nn.Flatten(),
                dropout=make_dropout(config.dropout),
                linear=nn.Linear(channels * config.grid**2, classes),
                scale=Scale(config.scale),
            )
        )

    @classmethod
    def last_side(cls, config: CompactConfig, side: int) -> int:
        """Side of the last maps: 4 for 32 pixels and three groups."""
        side = (side - 1) // config.stem_stride + 1
        for _ in range(len(config.widths) + config.stem_pool):
            side = pooled_size(config.pooling, side)
        return side

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """He's normal initialisation, but in the groups the first filters of a convolution pass its input maps on."""
        he(self, generator)
        for module in self.stages.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.dirac_(module.weight.detach()[: module.in_channels])


class Scale(nn.Module):
    """Every value times a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, inputs: Tensor) -> Tensor:
        """Any shape to the same."""
        return inputs * self.factor


def _unit(
    in_channels: int, channels: int, config: CompactConfig, *, pool: bool = False, stride: int = 1
) -> nn.Sequential:
    """Convolution, pooling where asked for, normalisation, activation."""
    wide = channels * widening(config.activation)
    layers: dict[str, nn.Module] = {
        "conv": nn.Conv2d(in_channels, wide, 3, stride=stride, padding=1, bias=needs_bias(config.normalization))
    }
    if pool:
        layers["pool"] = make_pooling(config.pooling, wide)
    layers["norm"] = make_normalization(config.normalization, wide)
    layers["activation"] = make_activation(config.activation)
    return nn.Sequential(OrderedDict(layers))
