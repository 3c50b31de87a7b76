"""ResNet – learn the difference, keep the signal.  He, Zhang, Ren & Sun 2015, arXiv:1512.03385

image ─ conv 7x7/2 ─ max 3x3/2 ─ conv2_x ─ conv3_x ─ conv4_x ─ conv5_x ─ mean ─ linear
224      112@64       56          56@64     28@128    14@256    7@512
                                  56@256    28@512    14@1024   7@2048   with bottleneck units (50 layers and more)
The first unit of each later stage halves height and width. Table 1 has the depths; section 4.1 the shortcuts A, B, C;
without any it is the plain network that the paper begins with. `stride_on` 3x3 is the libraries' "v1.5".
Departs from the paper: zero maps of option A are split before and after (see `ZeroPadShortcut`).
Checked against torchvision.models.resnet18 to resnet152 and timm's resnet200 (tests/parity/test_resnet.py)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from torch import Generator, nn

from striate.layers.activations import PLAIN_ACTIVATIONS, make_activation
from striate.layers.heads import pooled_linear
from striate.layers.initialise import he
from striate.layers.normalization import NORMALIZATIONS, make_normalization, needs_bias
from striate.layers.regularization import linear_drop_rates
from striate.layers.residual import EXPANSION, SHORTCUTS, STRIDES_ON, UNITS, BasicBlock, Bottleneck
from striate.models.base import ConvNet, require
from striate.models.naming import Naming

STAGES = ("conv2_x", "conv3_x", "conv4_x", "conv5_x")

PUBLISHED_NAMES = (  # torchvision and timm
    (r"^conv1\.", "stem.conv1."),
    (r"^bn1\.", "stem.norm1."),
    (r"^layer1\.", "stages.conv2_x."),
    (r"^layer2\.", "stages.conv3_x."),
    (r"^layer3\.", "stages.conv4_x."),
    (r"^layer4\.", "stages.conv5_x."),
    (r"\.bn(\d)\.", r".norm\1."),
    (r"\.downsample\.0\.", ".shortcut.conv."),
    (r"\.downsample\.1\.", ".shortcut.norm."),
    (r"^fc\.", "head.linear."),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ResNetConfig:
    """A column of table 1."""

    depths: tuple[int, ...]  # units in conv2_x, conv3_x, ...
    unit: str = "basic"  # or bottleneck
    widths: tuple[int, ...] = (64, 128, 256, 512)  # maps of the 3x3 convolutions
    stride_on: str = "1x1"  # the convolution of a bottleneck unit that halves height and width
    shortcut: str = "B"
    activation: str = "relu"
    normalization: str = "batch"
    dropout: float = 0.0  # before the linear layer
    stochastic_depth: float = 0.0  # drop rate of the last unit

    def __post_init__(self) -> None:
        require("ResNet", "number of stages", len(self.depths), range(1, len(STAGES) + 1))
        require("ResNet", "unit", self.unit, UNITS)
        require("ResNet", "stride_on", self.stride_on, STRIDES_ON)
        require("ResNet", "shortcut", self.shortcut, SHORTCUTS)
        if self.shortcut == "none":  # nothing would be left of a dropped unit
            require("a network without shortcuts", "stochastic_depth", self.stochastic_depth, (0.0,))
        require("ResNet", "activation", self.activation, PLAIN_ACTIVATIONS)
        require("ResNet", "normalization", self.normalization, NORMALIZATIONS)


class ResNet(ConvNet):
    """A residual network for photos, [B, in_channels, H, W] -> logits [B, classes]."""

    config_type = ResNetConfig

    def __init__(
        self,
        config: ResNetConfig,
        *,
        in_channels: int = 3,
        classes: int = 1000,
        input_size: tuple[int, int] = (224, 224),
        name: str = "resnet",
    ) -> None:
        super().__init__(name, config, in_channels, classes, input_size)
        channels = config.widths[0]
        self.stem = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(in_channels, channels, 7, 2, padding=3, bias=needs_bias(config.normalization)),
                norm1=make_normalization(config.normalization, channels),
                act1=make_activation(config.activation),
                pool=nn.MaxPool2d(3, stride=2, padding=1),
            )
        )
        drop_rates = iter(linear_drop_rates(sum(config.depths), config.stochastic_depth))
        self.stages = nn.Sequential()
        for index, (depth, width) in enumerate(zip(config.depths, config.widths, strict=False)):
            units = nn.Sequential()
            for unit in range(depth):
                stride = 2 if index > 0 and unit == 0 else 1
                common: dict[str, Any] = {
                    "shortcut": config.shortcut,
                    "activation": config.activation,
                    "normalization": config.normalization,
                    "drop_rate": next(drop_rates),
                }
                if config.unit == "bottleneck":
                    units.append(Bottleneck(channels, width, stride, stride_on=config.stride_on, **common))
                    channels = EXPANSION * width
                else:
                    units.append(BasicBlock(channels, width, stride, **common))
                    channels = width
            self.stages.add_module(STAGES[index], units)
        self.head = pooled_linear(channels, classes, dropout=config.dropout)

    @classmethod
    def last_side(cls, config: ResNetConfig, side: int) -> int:
        """Every halving rounds up, so that any image works: 7 for 224 pixels."""
        return -(-side // 2 ** (1 + len(config.depths)))

    @classmethod
    def namings(cls, config: ResNetConfig) -> tuple[Naming, ...]:
        """See `PUBLISHED_NAMES`; only option B is published."""
        shipped = config.shortcut == "B" and not config.stochastic_depth
        return (Naming(publisher="torchvision", patterns=PUBLISHED_NAMES, shipped=shipped),)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """He's normal initialisation (sec. 3.4)."""
        he(self, generator)
