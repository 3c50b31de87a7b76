"""SqueezeNet – AlexNet's accuracy with fifty times fewer parameters.  Iandola et al. 2016, arXiv:1602.07360

image ─ conv1 ─ maxpool1 ─ fire2 ─ fire3 ─ fire4 ─ maxpool4 ─ fire5 … fire8 ─ maxpool8 ─ fire9 ─ conv10 ─ mean
227     96@111  96@55      128     128     256@55  256@27     256     512@27  512@13     512     classes

fire: ─ squeeze 1x1 ─┬─ expand 1x1 ─┬─ concatenate ─
                     └─ expand 3x3 ─┘
The table is that of 1.0 (table 1); 1.1, from the authors' repository, has a smaller conv1 and pools earlier (maxpool1,
3 and 5). Simple bypass adds the input of fire3, 5, 7 and 9 to their output, complex bypass also that of the other four,
through a 1x1 convolution (fig. 2).
Departs from the paper: 227 pixels, since table 1's 224 do not give its conv1 of 111x111; conv10 without the border of
one pixel that the Caffe file of 1.0 pads it with, for which the table's 13x13 leaves no room (see `conv10_padding`).
Checked against torchvision, also with its published weights (tests/parity/test_squeezenet.py)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from striate.layers.activations import PLAIN_ACTIVATIONS, make_activation
from striate.layers.initialise import caffe_xavier
from striate.layers.normalization import NORMALIZATIONS
from striate.layers.pooling import POOLINGS, GlobalPool, make_pooling, pooled_size
from striate.layers.regularization import make_dropout
from striate.layers.units import ConvUnit
from striate.models.base import ConvNet, require
from striate.models.naming import Naming
from striate.models.registry.inputs import CAFFE_227

FIRES = {  # table 1: maps of squeeze 1x1, of expand 1x1 and as many of expand 3x3
    2: (16, 64),
    3: (16, 64),
    4: (32, 128),
    5: (32, 128),
    6: (48, 192),
    7: (48, 192),
    8: (64, 256),
    9: (64, 256),
}
BYPASSES = {
    "none": "no bypass",
    "simple": "identity, where the number of maps stays",
    "complex": "identity, and a 1x1 convolution where the number of maps changes",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SqueezeNetConfig:
    """What tells the versions apart, and what may be varied."""

    conv1: tuple[int, int] = (96, 7)  # maps, kernel; stride 2
    pools_after: tuple[int, ...] = (4, 8)  # these fire modules, besides conv1
    bypass: str = "none"
    conv10_padding: int = 0  # 1 in the Caffe file of 1.0: a border where only conv10's biases speak
    activation: str = "relu"
    normalization: str = "none"
    pooling: str = "overlapping_max"
    dropout: float = 0.5  # after fire9

    def __post_init__(self) -> None:
        for number in self.pools_after:
            require("SqueezeNet", "fire module", number, FIRES)
        require("SqueezeNet", "bypass", self.bypass, BYPASSES)
        require("SqueezeNet", "activation", self.activation, PLAIN_ACTIVATIONS)
        require("SqueezeNet", "normalization", self.normalization, NORMALIZATIONS)
        require("SqueezeNet", "pooling", self.pooling, POOLINGS)


class SqueezeNet(ConvNet):
    """SqueezeNet with the choices of its config, [B, in_channels, H, W] -> logits [B, classes]."""

    config_type = SqueezeNetConfig

    def __init__(
        self,
        config: SqueezeNetConfig,
        *,
        in_channels: int = 3,
        classes: int = 1000,
        input_size: tuple[int, int] = (227, 227),
        name: str = "squeezenet",
    ) -> None:
        super().__init__(name, config, in_channels, classes, input_size)
        channels, kernel = config.conv1
        conv1 = ConvUnit(
            in_channels,
            channels,
            kernel,
            2,
            padding=0,
            normalization=config.normalization,
            activation=config.activation,
        )
        self.stem = nn.Sequential(OrderedDict(conv1=conv1, maxpool1=_pool(config, channels)))
        self.stages = nn.Sequential()
        for number, (squeeze, expand) in FIRES.items():
            fire = Fire(
                channels,
                squeeze,
                expand,
                bypass=config.bypass,
                normalization=config.normalization,
                activation=config.activation,
            )
            self.stages.add_module(f"fire{number}", fire)
            channels = 2 * expand
            if number in config.pools_after:
                self.stages.add_module(f"maxpool{number}", _pool(config, channels))
        self.head = nn.Sequential(
            OrderedDict(
                dropout=make_dropout(config.dropout),
                conv10=nn.Conv2d(channels, classes, 1, padding=config.conv10_padding),
                # The paper's classifier is rectified: logits are means of what is positive.
                activation=make_activation(config.activation),
                pool=GlobalPool(),
            )
        )

    @classmethod
    def last_side(cls, config: SqueezeNetConfig, side: int) -> int:
        """13 for 227 pixels in 1.0, 14 in 1.1."""
        side = (side - config.conv1[1]) // 2 + 1
        for _ in range(1 + len(config.pools_after)):
            side = pooled_size(config.pooling, side, ceil=True)
        return side

    @classmethod
    def namings(cls, config: SqueezeNetConfig) -> tuple[Naming, ...]:
        """torchvision numbers the modules; the authors' Caffe files call them as the paper does."""
        numbered, index = [], 3  # conv1, its activation and its pooling come first
        for number in FIRES:
            numbered.append((rf"^features\.{index}\.", f"stages.fire{number}."))
            index += 2 if number in config.pools_after else 1
        kinds = ((r"\.(squeeze|expand1x1|expand3x3)\.", r".\1.conv."),)
        torchvision = (
            (r"^features\.0\.", "stem.conv1.conv."),
            *numbered,
            *kinds,
            (r"^classifier\.1\.", "head.conv10."),
        )
        caffe = (
            (r"^conv1\.", "stem.conv1.conv."),
            (r"^(fire\d)/squeeze1x1\.", r"stages.\1.squeeze."),
            (r"^(fire\d)/(expand[13]x[13])\.", r"stages.\1.\2."),
            *kinds,
            (r"^conv10\.", "head.conv10."),
        )
        padded = {"conv10_padding": 1} if config.conv1 == SqueezeNetConfig().conv1 else {}  # 1.1 has dropped it
        shipped = config.bypass == "none"
        return (
            Naming(publisher="torchvision", patterns=torchvision, shipped=shipped),
            Naming(publisher="caffe", patterns=caffe, input=CAFFE_227, variations=padded, shipped=shipped),
        )

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """As in the authors' Caffe files, the paper is silent: "xavier", and for conv10 a normal of deviation 0.01."""
        caffe_xavier(self, generator)
        for name, layer in self.head.named_children():
            if name == "conv10":  # a network that was cut has none
                nn.init.normal_(layer.weight, 0.0, 0.01, generator=generator)  # type: ignore[arg-type]


class Fire(nn.Module):
    """Squeeze, then expand by two kernels side by side, [B, C, H, W] -> [B, 2 expand, H, W] (sec. 3.2, fig. 1).

    `bypass` is a key of `BYPASSES`.
    """

    def __init__(
        self,
        in_channels: int,
        squeeze: int,
        expand: int,
        *,
        bypass: str = "none",
        normalization: str = "none",
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.squeeze = ConvUnit(in_channels, squeeze, 1, normalization=normalization, activation=activation)
        self.expand1x1 = ConvUnit(squeeze, expand, 1, normalization=normalization, activation=activation)
        self.expand3x3 = ConvUnit(squeeze, expand, 3, normalization=normalization, activation=activation)
        self.bypass = None
        if bypass != "none" and in_channels == 2 * expand:
            self.bypass = nn.Identity()
        elif bypass == "complex":
            self.bypass = nn.Conv2d(in_channels, 2 * expand, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, 2 expand, H, W]."""
        squeezed = self.squeeze(inputs)
        maps = torch.cat([self.expand1x1(squeezed), self.expand3x3(squeezed)], dim=1)
        return maps if self.bypass is None else maps + self.bypass(inputs)


def _pool(config: SqueezeNetConfig, channels: int) -> nn.Module:
    """Caffe's pooling: a last window that the border cuts counts too, hence 55 of 111 and 27 of 55."""
    return make_pooling(config.pooling, channels, ceil=True)
