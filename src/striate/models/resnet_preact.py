"""ResNets with activation before weights.  He, Zhang, Ren & Sun 2016, arXiv:1603.05027, "Identity Mappings in Deep …"

image ─ conv 3x3 ─ norm, act ─ maps32 ─ maps16 ─ maps8 ─ norm, act ─ mean ─ linear           CIFAR
32       32@16                 32@64    16@128   8@256   (bottleneck units; 110 layers: basic ones)
image ─ conv 7x7/2 ─ norm, act ─ max 3x3/2 ─ conv2_x ─ … ─ conv5_x ─ norm, act ─ mean ─ linear   ImageNet
224      112@64                  56          56@256        7@2048
A unit is norm, act, conv, …, conv and an addition with nothing after it, so that signal and gradient pass every unit
unchanged (eq. 4, 5). Appendix: conv1's norm and activation serve the first unit too, and the last unit's sum gets some
of its own. The other four arrangements of table 2 are a choice of the config.
Departs from the paper: zero maps of option A are split before and after (see `ZeroPadShortcut`).
Checked against a slow transcription of the equations, and against timm's resnetv2 rearranged to the paper's strides
(tests/parity/test_resnet_preact.py)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import Generator, nn

from striate.layers.activations import PLAIN_ACTIVATIONS, make_activation
from striate.layers.heads import pooled_linear
from striate.layers.initialise import he
from striate.layers.normalization import NORMALIZATIONS, make_normalization, needs_bias
from striate.layers.regularization import linear_drop_rates
from striate.layers.residual import ARRANGEMENTS, EXPANSION, SHORTCUTS, UNITS, ArrangedUnit
from striate.models.base import ConvNet, require

STEMS: dict[str, tuple[str, ...]] = {  # the kernel of conv1 and the names of the stages, as in the tables of 1512.03385
    "3x3": ("maps32", "maps16", "maps8"),
    "7x7": ("conv2_x", "conv3_x", "conv4_x", "conv5_x"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PreActResNetConfig:
    """Depths, widths and the variations."""

    depths: tuple[int, ...]  # units in each stage
    widths: tuple[int, ...] = (16, 32, 64)  # maps of the 3x3 convolutions
    stem: str = "3x3"  # small images; 7x7: photos, halved twice
    unit: str = "bottleneck"
    arrangement: str = "full_preactivation"
    shortcut: str = "B"
    activation: str = "relu"
    normalization: str = "batch"
    dropout: float = 0.0  # before the linear layer
    stochastic_depth: float = 0.0  # drop rate of the last unit

    def __post_init__(self) -> None:
        require("pre-activation ResNet", "stem", self.stem, STEMS)
        require("pre-activation ResNet", "number of stages", len(self.depths), range(1, len(STEMS[self.stem]) + 1))
        require("pre-activation ResNet", "unit", self.unit, UNITS)
        require("pre-activation ResNet", "arrangement", self.arrangement, ARRANGEMENTS)
        require("pre-activation ResNet", "shortcut", self.shortcut, SHORTCUTS)
        if self.shortcut == "none":  # nothing would be left of a dropped unit
            require("a network without shortcuts", "stochastic_depth", self.stochastic_depth, (0.0,))
        require("pre-activation ResNet", "activation", self.activation, PLAIN_ACTIVATIONS)
        require("pre-activation ResNet", "normalization", self.normalization, NORMALIZATIONS)


class PreActResNet(ConvNet):
    """A residual network of pre-activation units, [B, in_channels, H, W] -> logits [B, classes]."""

    config_type = PreActResNetConfig

    def __init__(
        self,
        config: PreActResNetConfig,
        *,
        in_channels: int = 3,
        classes: int = 10,
        input_size: tuple[int, int] = (32, 32),
        name: str = "preact_resnet",
    ) -> None:
        super().__init__(name, config, in_channels, classes, input_size)
        channels, bias = config.widths[0], needs_bias(config.normalization)
        small = config.stem == "3x3"
        conv1 = (
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=bias)
            if small
            else nn.Conv2d(in_channels, channels, 7, 2, padding=3, bias=bias)
        )
        stem = OrderedDict[str, nn.Module](
            conv1=conv1,
            norm1=make_normalization(config.normalization, channels),
            act1=make_activation(config.activation),
        )
        if not small:
            stem["pool"] = nn.MaxPool2d(3, stride=2, padding=1)
        self.stem = nn.Sequential(stem)
        count = sum(config.depths)
        drop_rates = iter(linear_drop_rates(count, config.stochastic_depth))
        self.stages = nn.Sequential()
        number = 0
        for index, (depth, width) in enumerate(zip(config.depths, config.widths, strict=False)):
            units = nn.Sequential()
            for unit in range(depth):
                number += 1
                units.append(
                    ArrangedUnit(
                        channels,
                        width,
                        stride=2 if index > 0 and unit == 0 else 1,
                        bottleneck=config.unit == "bottleneck",
                        arrangement=config.arrangement,
                        activated=number == 1,
                        last=number == count,
                        shortcut=config.shortcut,
                        activation=config.activation,
                        normalization=config.normalization,
                        drop_rate=next(drop_rates),
                    )
                )
                channels = EXPANSION * width if config.unit == "bottleneck" else width
            self.stages.add_module(STEMS[config.stem][index], units)
        self.head = pooled_linear(channels, classes, dropout=config.dropout)

    @classmethod
    def last_side(cls, config: PreActResNetConfig, side: int) -> int:
        """Every halving rounds up, so that any image works: 8 for 32 pixels, 7 for 224."""
        halvings = len(config.depths) - 1 + (0 if config.stem == "3x3" else 2)
        return -(-side // 2**halvings)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """He's normal initialisation."""
        he(self, generator)
