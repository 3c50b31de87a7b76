"""Five networks for one small task: what constraints on the weights are worth.  LeCun 1989, Generalization and Network
Design Strategies, Technical Report CRG-TR-89-4, University of Toronto

          1x16x16   H1                       H2                              output  links  parameters  correct
Net-1                                                                        10      2,570       2,570   80.0 %
Net-2               12 dense                                                 10      3,214       3,214   87.0 %
Net-3               8x8 local 3x3 /2         4x4 local 5x5 /2                10      1,226       1,226   88.5 %
Net-4               2@8x8 shared 3x3 /2      4x4 local 5x5 /2                10      2,266       1,132   94.0 %
Net-5               2@8x8 shared 3x3 /2      4@4x4 shared 5x5 /2             10      5,194       1,060   98.4 %

Local: every unit has weights of its own. Shared: the units of a map have their weights in common, but each a bias of
its own. Every field reads all maps of the layer before, every unit is squashed, the error is the squared one.
Departs from the report: fields that leave the image or a map see -1, white paper, as in the zip-code network of the
same year (`lenet_1989`); that is assumed. Checked against: links and parameters of each network as printed."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import Generator, nn

from striate.layers.activations import PLAIN_ACTIVATIONS, ScaledTanh, make_activation
from striate.layers.heads import SquaredErrorHead
from striate.layers.initialise import lecun_start
from striate.layers.local import LocalConv2d
from striate.layers.sparse import every_map
from striate.models.base import ConvNet, require
from striate.models.lenet_1989 import bordered_unit, halved, shared_unit

FAMILY = "the 1989 comparison"


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonConfig:
    """What tells the five networks apart, and what may be varied."""

    h1: str = "none"  # none, dense, local, shared
    h2: str = "none"  # none, local, shared; needs the maps of a local or shared H1
    activation: str = "scaled_tanh"  # of the hidden units; the outputs' targets need theirs

    def __post_init__(self) -> None:
        require(FAMILY, "H1", self.h1, ("none", "dense", "local", "shared"))
        require(FAMILY, "H2", self.h2, ("none", "local", "shared") if self.h1 in ("local", "shared") else ("none",))
        require(FAMILY, "activation", self.activation, PLAIN_ACTIVATIONS)


class ComparisonNet(ConvNet):
    """One of the five, by its config, [B, in_channels, H, W] -> outputs [B, classes] in ±1.7159."""

    config_type = ComparisonConfig

    def __init__(
        self,
        config: ComparisonConfig,
        *,
        in_channels: int = 1,
        classes: int = 10,
        input_size: tuple[int, int] = (16, 16),
        name: str = "lecun1989_net1",
    ) -> None:
        super().__init__(name, config, in_channels, classes, input_size)
        size, maps = input_size, in_channels
        if config.h1 == "dense":
            # 12 units that read the whole image: a convolution as large as the image.
            h1 = OrderedDict(conv=nn.Conv2d(maps, 12, size), activation=make_activation(config.activation))
            self.stem = nn.Sequential(OrderedDict(h1=nn.Sequential(h1)))
            size, maps = (1, 1), 12
        elif config.h1 != "none":
            kind, new_maps = config.h1, 2 if config.h1 == "shared" else 1
            self.stem = nn.Sequential(OrderedDict(h1=_undersampling(kind, maps, new_maps, 3, size, config.activation)))
            size, maps = halved(size), new_maps
        else:
            self.stem = nn.Identity()  # no hidden layer: the outputs read the pixels
        self.stages = nn.Sequential()
        if config.h2 != "none":
            kind, new_maps = config.h2, 4 if config.h2 == "shared" else 1
            self.stages.add_module("h2", _undersampling(kind, maps, new_maps, 5, size, config.activation))
            size, maps = halved(size), new_maps
        self.head = SquaredErrorHead(
            OrderedDict[str, nn.Module](
                flatten=nn.Flatten(),
                output=nn.Linear(maps * size[0] * size[1], classes),
                output_activation=ScaledTanh(),
            )
        )

    @classmethod
    def last_side(cls, config: ComparisonConfig, side: int) -> int:
        """Side of the maps that the outputs read: 16, 1, or 4 for 16 pixels."""
        if config.h1 == "dense":
            return 1
        for layer in (config.h1, config.h2):
            side = side if layer == "none" else halved((side, side))[0]
        return side

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """±2.4/F_in, F_in the inputs of the unit, with its scaled tanh."""
        lecun_start(self, self.architecture.config["activation"], generator)


def _undersampling(
    kind: str, in_maps: int, maps: int, kernel: int, size: tuple[int, int], activation: str
) -> nn.Sequential:
    """A layer of half the height and width of `size`, its weights local or shared."""
    if kind == "shared":
        return shared_unit(in_maps, every_map(maps, in_maps), kernel, halved(size), activation)
    padded = (size[0] + 2 * (kernel // 2), size[1] + 2 * (kernel // 2))
    return bordered_unit(kernel, LocalConv2d(in_maps, maps, kernel, padded, stride=2), activation)
