"""The first convolutional networks trained by backpropagation: zip codes in 1989, LeNet-1 in 1990.

`lenet_1989_zip`: LeCun, Boser, Denker, Henderson, Howard, Hubbard & Jackel 1989, Backpropagation Applied to Handwritten
Zip Code Recognition, Neural Computation 1(4)
1x16x16 ─ H1 12@8x8 ───── H2 12@4x4 ───── H3 30 ─ output 10
          conv 5x5 /2     conv 5x5 /2     linear  linear       1,256 units, 64,660 connections, 9,760 parameters
          borders of -1   8 of 12 maps

`lenet1_1990`: LeCun et al. 1990, Handwritten Digit Recognition with a Back-Propagation Network, NIPS 2
1x28x28 ─ H1 4@24x24 ─ H2 4@12x12 ─ H3 12@8x8 ─ H4 12@4x4 ─ output 10
          conv 5x5     average /2   conv 5x5    average /2  linear     4,635 units, 98,442 connections, 2,578 parameters
                                    table of 20

Every unit, the outputs too, is squashed by 1.7159 tanh(2x/3) and trained by the squared error against targets of ±1.
Departs from the papers: which 8 maps a map of H2 reads is not printed, so `H2_TABLE` is an assumption, the one that
others who rebuilt the network made; biases start like weights, of which alone the papers speak.
Checked against: the papers' counts of units, connections and parameters, all layer by layer."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import Generator, nn

from striate.layers.activations import PLAIN_ACTIVATIONS, ScaledTanh, make_activation
from striate.layers.heads import SquaredErrorHead
from striate.layers.initialise import lecun_start
from striate.layers.pooling import POOLINGS, make_pooling, pooled_size
from striate.layers.sparse import SparseConv2d, every_map
from striate.models.base import ConvNet, require

KERNEL = 5
BACKGROUND = -1.0  # the value of white paper, which also surrounds the image and the maps

# The maps of H1 that each map of H2 reads: 8 of 12, which 8 is undisclosed (sec. 3.3). Assumed: three groups of four
# maps leave out one third of H1 each.
H2_TABLE: tuple[tuple[int, ...], ...] = (
    *((0, 1, 2, 3, 4, 5, 6, 7),) * 4,
    *((4, 5, 6, 7, 8, 9, 10, 11),) * 4,
    *((0, 1, 2, 3, 8, 9, 10, 11),) * 4,
)

# Table 1 of the 1990 paper, the maps of H2 that each map of H3 reads: two halves that share nothing, 20 links.
H3_TABLE: tuple[tuple[int, ...], ...] = (
    *((0,), (0, 1), (0, 1), (1,), (0, 1), (0, 1)),
    *((2,), (2, 3), (2, 3), (3,), (2, 3), (2, 3)),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ZipCodeConfig:
    """What may be varied of the zip-code network."""

    activation: str = "scaled_tanh"  # of the hidden units; the outputs' targets need theirs

    def __post_init__(self) -> None:
        require("the zip-code network", "activation", self.activation, PLAIN_ACTIVATIONS)


class ZipCodeNet(ConvNet):
    """The zip-code network of 1989, [B, in_channels, H, W] -> outputs [B, classes] in ±1.7159."""

    config_type = ZipCodeConfig

    def __init__(
        self,
        config: ZipCodeConfig,
        *,
        in_channels: int = 1,
        classes: int = 10,
        input_size: tuple[int, int] = (16, 16),
        name: str = "lenet_1989_zip",
    ) -> None:
        super().__init__(name, config, in_channels, classes, input_size)
        h1_size = halved(input_size)
        h2_size = halved(h1_size)
        self.stem = nn.Sequential(
            OrderedDict(h1=shared_unit(in_channels, every_map(12, in_channels), KERNEL, h1_size, config.activation))
        )
        self.stages = nn.Sequential(OrderedDict(h2=shared_unit(12, H2_TABLE, KERNEL, h2_size, config.activation)))
        self.head = SquaredErrorHead(
            OrderedDict[str, nn.Module](
                flatten=nn.Flatten(),
                h3=nn.Linear(12 * h2_size[0] * h2_size[1], 30),
                h3_activation=make_activation(config.activation),
                output=nn.Linear(30, classes),
                output_activation=ScaledTanh(),
            )
        )

    @classmethod
    def last_side(cls, config: ZipCodeConfig, side: int) -> int:
        """Side of H2's maps: 4 for 16 pixels."""
        return halved(halved((side, side)))[0]

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """±2.4/F_in, F_in the inputs of the unit (sec. 4), with its scaled tanh."""
        lecun_start(self, self.architecture.config["activation"], generator)


def halved(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the maps of a layer that undersamples by two with borders around: half, rounded up."""
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def bordered_unit(kernel: int, layer: nn.Module, activation: str) -> nn.Sequential:
    """`pad`, `conv`, `activation`: units at the border see background where their fields leave the map."""
    # Half a kernel all around; at stride 2 an even size leaves the last row and column of the padding unread.
    return nn.Sequential(
        OrderedDict(pad=nn.ConstantPad2d(kernel // 2, BACKGROUND), conv=layer, activation=make_activation(activation))
    )


def shared_unit(
    in_channels: int, table: tuple[tuple[int, ...], ...], kernel: int, size: tuple[int, int], activation: str
) -> nn.Sequential:
    """Maps by `table`, of `size`, undersampled by two: shared weights, but every unit has a bias of its own."""
    convolution = SparseConv2d(in_channels, table, kernel, stride=2, unit_bias=size)
    return bordered_unit(kernel, convolution, activation)


@dataclass(frozen=True, kw_only=True, slots=True)
class LeNet1Config:
    """What may be varied of LeNet-1."""

    activation: str = "scaled_tanh"  # of the hidden units; the outputs' targets need theirs
    pooling: str = "trainable"  # H2 and H4: an average with a coefficient and a bias for each map

    def __post_init__(self) -> None:
        require("LeNet-1", "activation", self.activation, PLAIN_ACTIVATIONS)
        require("LeNet-1", "pooling", self.pooling, POOLINGS)


class LeNet1(ConvNet):
    """LeNet-1, [B, in_channels, H, W] -> outputs [B, classes] in ±1.7159."""

    config_type = LeNet1Config

    def __init__(
        self,
        config: LeNet1Config,
        *,
        in_channels: int = 1,
        classes: int = 10,
        input_size: tuple[int, int] = (28, 28),
        name: str = "lenet1_1990",
    ) -> None:
        super().__init__(name, config, in_channels, classes, input_size)
        height, width = (self.last_side(config, side) for side in input_size)
        self.stem = nn.Sequential(OrderedDict(h1=_unit(nn.Conv2d(in_channels, 4, KERNEL), config)))
        self.stages = nn.Sequential(
            OrderedDict(
                h2=_averaging(4, config),
                h3=_unit(SparseConv2d(4, H3_TABLE, KERNEL), config),
                h4=_averaging(12, config),
            )
        )
        self.head = SquaredErrorHead(
            OrderedDict[str, nn.Module](
                flatten=nn.Flatten(),
                output=nn.Linear(12 * height * width, classes),
                output_activation=ScaledTanh(),
            )
        )

    @classmethod
    def last_side(cls, config: LeNet1Config, side: int) -> int:
        """Side of H4's maps: 4 for 28 pixels."""
        h2 = pooled_size(config.pooling, side - KERNEL + 1)
        return pooled_size(config.pooling, h2 - KERNEL + 1)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """As the zip-code network, whose training the paper refers to."""
        lecun_start(self, self.architecture.config["activation"], generator)


def _unit(convolution: nn.Module, config: LeNet1Config) -> nn.Sequential:
    return nn.Sequential(OrderedDict(conv=convolution, activation=make_activation(config.activation)))


def _averaging(maps: int, config: LeNet1Config) -> nn.Sequential:
    """H2 or H4. The trainable average is squashed like every unit; other pooling is no unit."""
    layers = OrderedDict[str, nn.Module](pool=make_pooling(config.pooling, maps))
    if config.pooling == "trainable":
        layers["activation"] = make_activation(config.activation)
    return nn.Sequential(layers)
