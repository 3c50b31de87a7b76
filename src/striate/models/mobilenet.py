"""MobileNet – each map filtered alone, then mixed.  Howard et al. 2017, arXiv:1704.04861

image ─ conv ─ block1 ─ block2, 3 ─ block4, 5 ─ block6 … block11 ─ block12, 13 ─ mean ─ linear
224     32@112 64@112   128@56      256@28      512@14             1024@7

block: ─ depthwise 3x3 ─ norm ─ act ─ pointwise 1x1 ─ norm ─ act ─
Table 1, two rows of which are a block; blocks 2, 4, 6 and 12 halve height and width. The width multiplier alpha scales
every number of maps, the resolution multiplier rho is the input size. "Conv MobileNet" has full 3x3 convolutions
(table 4), the shallow one lacks blocks 7 to 11 (table 5).
Departs from the paper: block13 keeps height and width, where table 1 prints stride 2 between maps of the same 7x7;
strided convolutions are padded by one pixel all round where TensorFlow pads below and on the right.
Checked against timm's mobilenetv1_100, whose weights were trained with ReLU6 (tests/parity/test_mobilenet.py)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

from torch import Generator, nn

from striate.errors import ModelError
from striate.layers.activations import PLAIN_ACTIVATIONS
from striate.layers.heads import pooled_linear
from striate.layers.initialise import he
from striate.layers.normalization import NORMALIZATIONS
from striate.layers.units import ConvUnit
from striate.models.base import ConvNet, require
from striate.models.naming import Naming
from striate.models.registry.inputs import INCEPTION, sized

STEM = 32
BLOCKS = {  # table 1: maps after the pointwise convolution, stride of the depthwise one
    1: (64, 1),
    2: (128, 2),
    3: (128, 1),
    4: (256, 2),
    5: (256, 1),
    6: (512, 2),
    **dict.fromkeys(range(7, 12), (512, 1)),
    12: (1024, 2),
    13: (1024, 1),
}
SHALLOW_LACKS = range(7, 12)
LEAST_MAPS = 8  # of any layer, as in the authors' code

CONVOLUTIONS = {"separable": "depthwise 3x3, then pointwise 1x1", "full": "3x3 across all maps"}


@dataclass(frozen=True, kw_only=True, slots=True)
class MobileNetConfig:
    """The width multiplier, the two networks that the paper compares with, and what may be varied."""

    alpha: float = 1.0  # sec. 3.3
    convolution: str = "separable"  # of the blocks
    shallow: bool = False  # without blocks 7 to 11
    activation: str = "relu"
    normalization: str = "batch"
    dropout: float = 0.0  # before the linear layer

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise ModelError(f"MobileNet has no alpha {self.alpha!r}", "it multiplies the number of maps: above 0")
        require("MobileNet", "convolution", self.convolution, CONVOLUTIONS)
        require("MobileNet", "activation", self.activation, PLAIN_ACTIVATIONS)
        require("MobileNet", "normalization", self.normalization, NORMALIZATIONS)

    def maps(self, count: int) -> int:
        """`count` of table 1 times alpha, rounded down."""
        return max(LEAST_MAPS, int(count * self.alpha))


class MobileNet(ConvNet):
    """MobileNet v1, [B, in_channels, H, W] -> logits [B, classes]."""

    config_type = MobileNetConfig

    def __init__(
        self,
        config: MobileNetConfig,
        *,
        in_channels: int = 3,
        classes: int = 1000,
        input_size: tuple[int, int] = (224, 224),
        name: str = "mobilenet_v1",
    ) -> None:
        super().__init__(name, config, in_channels, classes, input_size)
        channels = config.maps(STEM)
        self.stem = ConvUnit(
            in_channels, channels, 3, 2, normalization=config.normalization, activation=config.activation
        )
        self.stages = nn.Sequential()
        for number, (count, stride) in BLOCKS.items():
            if config.shallow and number in SHALLOW_LACKS:
                continue
            self.stages.add_module(f"block{number}", _block(channels, config.maps(count), stride, config))
            channels = config.maps(count)
        self.head = pooled_linear(channels, classes, dropout=config.dropout)

    @classmethod
    def last_side(cls, config: MobileNetConfig, side: int) -> int:
        """Every halving rounds up, so that any image works: 7 for 224 pixels."""
        return -(-side // 32)

    @classmethod
    def namings(cls, config: MobileNetConfig) -> tuple[Naming, ...]:
        """timm groups the blocks by the side of their maps. Its weights are fed -1 to 1 and have ReLU6."""
        if config.shallow or config.convolution != "separable":
            return ()
        patterns, group, place = [], 0, 0
        for number, (_, stride) in BLOCKS.items():
            group, place = (group + 1, 0) if stride == 2 else (group, place)
            patterns.append((rf"^blocks\.{group}\.{place}\.", f"stages.block{number}."))
            place += 1
        patterns += [
            (r"^conv_stem\.", "stem.conv."),
            (r"^bn1\.", "stem.norm."),
            (r"\.conv_dw\.", ".depthwise.conv."),
            (r"\.bn1\.", ".depthwise.norm."),
            (r"\.conv_pw\.", ".pointwise.conv."),
            (r"\.bn2\.", ".pointwise.norm."),
            (r"^classifier\.", "head.linear."),
        ]
        fed = replace(sized(INCEPTION, 224), interpolation="bicubic")
        return (Naming(publisher="timm", patterns=tuple(patterns), input=fed, variations={"activation": "relu6"}),)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """He's rule, of the same time and for the same kind of layers: the paper does not say."""
        he(self, generator)


def _block(in_channels: int, channels: int, stride: int, config: MobileNetConfig) -> nn.Module:
    """A depthwise separable convolution with both normalisations and activations (fig. 3), or a full one (table 4)."""
    if config.convolution == "full":
        return ConvUnit(
            in_channels, channels, 3, stride, normalization=config.normalization, activation=config.activation
        )
    depthwise = ConvUnit(
        in_channels,
        in_channels,
        3,
        stride,
        groups=in_channels,
        normalization=config.normalization,
        activation=config.activation,
    )
    pointwise = ConvUnit(in_channels, channels, 1, normalization=config.normalization, activation=config.activation)
    return nn.Sequential(OrderedDict(depthwise=depthwise, pointwise=pointwise))
