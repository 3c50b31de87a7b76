"""The small ResNets for 32x32 images.  He, Zhang, Ren & Sun 2015, arXiv:1512.03385, sec. 4.2

image ─ conv 3x3 ─ maps32 ─ maps16 ─ maps8 ─ mean ─ linear
32       32@16      32@16    16@32    8@64
6n + 2 layers: n units in each stage, named by the side of their maps; the shortcuts are option A, without parameters,
or none at all (plain networks). With stochastic depth, and zero maps beside 2x2 means, these are also the networks of
Huang, Sun, Liu, Sedra & Weinberger 2016, arXiv:1603.09382.
Departs from the paper: the zero maps are split before and after (see `ZeroPadShortcut`), the images are normalised by
channel and not by the mean of each pixel.
Checked against the published weights resnet20-12fca82f.th, 91.73 % (tests/parity/test_resnet_cifar.py)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

from torch import Generator, nn

from striate.layers.activations import PLAIN_ACTIVATIONS, make_activation
from striate.layers.heads import pooled_linear
from striate.layers.initialise import he
from striate.layers.normalization import NORMALIZATIONS, make_normalization, needs_bias
from striate.layers.regularization import linear_drop_rates
from striate.layers.residual import SHORTCUTS, BasicBlock
from striate.models.base import ConvNet, require
from striate.models.naming import Naming
from striate.models.registry.inputs import PHOTO, sized

STAGES = (("maps32", 16), ("maps16", 32), ("maps8", 64))  # the table of sec. 4.2: output map size, filters

PUBLISHED_NAMES = (  # akamaster/pytorch_resnet_cifar10
    (r"^conv1\.", "stem.conv1."),
    (r"^bn1\.", "stem.norm1."),
    (r"^layer1\.", "stages.maps32."),
    (r"^layer2\.", "stages.maps16."),
    (r"^layer3\.", "stages.maps8."),
    (r"\.bn(\d)\.", r".norm\1."),
    (r"\.shortcut\.0\.", ".shortcut.conv."),
    (r"\.shortcut\.1\.", ".shortcut.norm."),
    (r"^linear\.", "head.linear."),
)
PUBLISHED_INPUT = replace(sized(PHOTO, 32), crop_fraction=1.0)  # trained with ImageNet's mean and deviation


@dataclass(frozen=True, kw_only=True, slots=True)
class CifarResNetConfig:
    """Depth 6n + 2 and the variations."""

    n: int  # units in each stage: 3, 5, 7, 9, 18, 200 for depth 20, 32, 44, 56, 110, 1202
    shortcut: str = "A"
    activation: str = "relu"
    normalization: str = "batch"
    dropout: float = 0.0  # before the linear layer
    stochastic_depth: float = 0.0  # drop rate of the last unit

    def __post_init__(self) -> None:
        require("CIFAR ResNet", "shortcut", self.shortcut, SHORTCUTS)
        if self.shortcut == "none":  # nothing would be left of a dropped unit
            require("a network without shortcuts", "stochastic_depth", self.stochastic_depth, (0.0,))
        require("CIFAR ResNet", "activation", self.activation, PLAIN_ACTIVATIONS)
        require("CIFAR ResNet", "normalization", self.normalization, NORMALIZATIONS)


class CifarResNet(ConvNet):
    """A residual network for small images, [B, in_channels, H, W] -> logits [B, classes]."""

    config_type = CifarResNetConfig

    def __init__(
        self,
        config: CifarResNetConfig,
        *,
        in_channels: int = 3,
        classes: int = 10,
        input_size: tuple[int, int] = (32, 32),
        name: str = "cifar_resnet",
    ) -> None:
        super().__init__(name, config, in_channels, classes, input_size)
        channels = STAGES[0][1]
        self.stem = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(in_channels, channels, 3, padding=1, bias=needs_bias(config.normalization)),
                norm1=make_normalization(config.normalization, channels),
                act1=make_activation(config.activation),
            )
        )
        drop_rates = iter(linear_drop_rates(3 * config.n, config.stochastic_depth))
        self.stages = nn.Sequential()
        for index, (stage, width) in enumerate(STAGES):
            units = nn.Sequential()
            for unit in range(config.n):
                units.append(
                    BasicBlock(
                        channels,
                        width,
                        stride=2 if index > 0 and unit == 0 else 1,
                        shortcut=config.shortcut,
                        activation=config.activation,
                        normalization=config.normalization,
                        drop_rate=next(drop_rates),
                    )
                )
                channels = width
            self.stages.add_module(stage, units)
        self.head = pooled_linear(channels, classes, dropout=config.dropout)

    @classmethod
    def last_side(cls, config: CifarResNetConfig, side: int) -> int:
        """Every halving rounds up, so that any image works: 8 for 32 pixels."""
        return -(-side // 4)

    @classmethod
    def namings(cls, config: CifarResNetConfig) -> tuple[Naming, ...]:
        """See `PUBLISHED_NAMES` and `PUBLISHED_INPUT`; only option A is published."""
        shipped = config.shortcut == "A" and not config.stochastic_depth
        return (Naming(publisher="akamaster", patterns=PUBLISHED_NAMES, input=PUBLISHED_INPUT, shipped=shipped),)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """He's normal initialisation (sec. 3.4)."""
        he(self, generator)
