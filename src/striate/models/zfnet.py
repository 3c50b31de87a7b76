"""ZFNet – AlexNet seen through, its first layers made finer.  Zeiler & Fergus 2013, arXiv:1311.2901

image ─ conv1 7x7/2 ─ max 3x3/2, norm ─ conv2 5x5/2 ─ max, norm ─ conv3 3x3 ─ conv4 3x3 ─ conv5 3x3 ─ max ─ fc6, 7, 8
224      96@110        96@55             256@26        256@13      384@13      384@13      256@13     256@6  4096, 4096
Figure 3 is `zfnet_fig3`; `zfnet_512_1024_512` is row (b) of table 2, with wider conv3, conv4 and conv5. Both are one
tower; after the pooling of conv1 and conv2 the maps are contrast normalised, for which the paper gives no formula (see
`layers.normalization.Contrast` for the reading taken).
Departs from the paper: the classifier reads maps of any size (`grid`); the mean that is taken off is that of a channel,
not of each pixel; filters are renormalised where the training is asked to: `--max-filter-rms 0.1` (sec. 3), a radius
that belongs to inputs of about -128 to 127, as the registry says for these networks.
No published implementation to check against: sizes and counts are those of the figure (tests/models/test_zfnet.py)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

from torch import Generator, nn

from striate.layers.activations import PLAIN_ACTIVATIONS, make_activation
from striate.layers.heads import fully_connected
from striate.layers.initialise import gaussian
from striate.layers.normalization import NORMALIZATIONS, make_normalization
from striate.layers.pooling import POOLINGS, make_pooling, pooled_size
from striate.models.base import ConvNet, require


class Layer(NamedTuple):
    """One convolutional layer of figure 3."""

    kernel: int
    stride: int = 1
    padding: int = 0
    pooled: bool = False
    normalized: bool = False


LAYERS = {
    "conv1": Layer(7, stride=2, padding=1, pooled=True, normalized=True),  # one pixel of padding makes 224 give 110
    "conv2": Layer(5, stride=2, pooled=True, normalized=True),
    "conv3": Layer(3, padding=1),
    "conv4": Layer(3, padding=1),
    "conv5": Layer(3, padding=1, pooled=True),
}
GRID = 6  # side of conv5's pooled maps for an image of 224 pixels
# 110 pixels pooled 3x3/2 are 54.5, and the figure has 55: a last window that the border cuts counts too, as in the
# code of the time. Padding by one pixel would give 55 and then 13 as well, but 7 after conv5, where the figure has 6.
CUT_WINDOWS = True


@dataclass(frozen=True, kw_only=True, slots=True)
class ZFNetConfig:
    """Figure 3, and what may be varied."""

    widths: tuple[int, ...] = (96, 256, 384, 384, 256)  # maps of conv1 to conv5
    hidden: int = 4096  # units of fc6 and of fc7
    grid: int | None = None  # places a side that the classifier reads; None: as the input gives, at most 6
    activation: str = "relu"
    normalization: str = "contrast"  # after the pooling of conv1 and conv2
    pooling: str = "overlapping_max"
    dropout: float = 0.5  # on the outputs of fc6 and fc7

    def __post_init__(self) -> None:
        require("ZFNet", "number of layers", len(self.widths), (len(LAYERS),))
        require("ZFNet", "activation", self.activation, PLAIN_ACTIVATIONS)
        require("ZFNet", "normalization", self.normalization, NORMALIZATIONS)
        require("ZFNet", "pooling", self.pooling, POOLINGS)


class ZFNet(ConvNet):
    """The network of Zeiler and Fergus, [B, in_channels, H, W] -> logits [B, classes]."""

    config_type = ZFNetConfig

    def __init__(
        self,
        config: ZFNetConfig,
        *,
        in_channels: int = 3,
        classes: int = 1000,
        input_size: tuple[int, int] = (224, 224),
        name: str = "zfnet",
    ) -> None:
        super().__init__(name, config, in_channels, classes, input_size)
        units, inputs = OrderedDict[str, nn.Module](), in_channels
        for (layer_name, layer), width in zip(LAYERS.items(), config.widths, strict=True):
            units[layer_name] = _unit(inputs, width, layer, config)
            inputs = width
        self.stem = units.pop("conv1")
        self.stages = nn.Sequential(units)
        self.head = fully_connected(
            inputs,
            (self.last_side(config, input_size[0]), self.last_side(config, input_size[1])),
            classes,
            most=GRID,
            grid=config.grid,
            units=config.hidden,
            activation=config.activation,
            dropout=config.dropout,
        )

    @classmethod
    def last_side(cls, config: ZFNetConfig, side: int) -> int:
        """Side of conv5's pooled maps: 224 -> 110 -> 55 -> 26 -> 13 -> 6."""
        for layer in LAYERS.values():
            side = (side + 2 * layer.padding - layer.kernel) // layer.stride + 1
            if side < 1:
                return 0
            if layer.pooled:
                side = pooled_size(config.pooling, side, ceil=CUT_WINDOWS)
        return side

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Weights of 0.01, biases 0 (sec. 3); the weights are taken as from N(0, 0.01²), which it leaves open."""
        gaussian(self, 0.01, generator)


def _unit(inputs: int, width: int, layer: Layer, config: ZFNetConfig) -> nn.Sequential:
    """Convolution, ReLU, pooling, normalisation, in the order of figure 3's caption."""
    unit = OrderedDict[str, nn.Module](
        conv=nn.Conv2d(inputs, width, layer.kernel, layer.stride, layer.padding),
        activation=make_activation(config.activation),
    )
    if layer.pooled:
        unit["pool"] = make_pooling(config.pooling, width, ceil=CUT_WINDOWS)
    if layer.normalized and config.normalization != "none":
        unit["norm"] = make_normalization(config.normalization, width)
    return nn.Sequential(unit)
