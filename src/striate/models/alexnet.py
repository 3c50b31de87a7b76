"""AlexNet – two towers, rectified, normalised, dropped out.  Krizhevsky, Sutskever & Hinton 2012, NIPS 25

image ┬ conv1 48@55 n p ─ conv2 128@27 n p ┬ conv3 192@13 ─ conv4 192@13 ─ conv5 128@13 p ┬ fc6 2048 ┬ fc7 2048 ┬ fc8
227   └ conv1 48@55 n p ─ conv2 128@27 n p ┴ conv3 192@13 ─ conv4 192@13 ─ conv5 128@13 p ┴ fc6 2048 ┴ fc7 2048 ┘ 1000
        11x11/4           5x5                3x3            3x3            3x3
n is local response normalisation, p overlapping pooling 3x3/2. Each row lives on a GPU of its own; where the rows do
not meet, a kernel reads the maps of its own tower only. Here that is a convolution with two groups;
`towers.place_towers` puts the rows on two devices again.
Four readings: `alexnet_2012` as published; `alexnet_dense` as lectures list it (one tower, pooling before
normalisation); `caffenet` of BVLC (two towers, pooling first, Caffe's normalisation); `alexnet_owt` as torchvision has
it (Krizhevsky 2014, arXiv:1404.5997: one narrower tower, no normalisation).
Departs from the paper: images of 227 pixels, because 224 do not give the 55x55 maps of conv1; the classifier reads maps
of any size (`grid`); the sum of the normalisation crosses the border between the towers, as its formula says.
Checked against torchvision.models.alexnet and Caffe's network written out by hand (tests/parity/test_alexnet.py)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Generator, nn

from striate.layers.activations import PLAIN_ACTIVATIONS, make_activation
from striate.layers.heads import fully_connected
from striate.layers.initialise import gaussian
from striate.layers.normalization import NORMALIZATIONS, LocalResponse, make_normalization
from striate.layers.pooling import POOLINGS, make_pooling, pooled_size
from striate.models.base import ConvNet, require
from striate.models.naming import Naming
from striate.models.registry.inputs import CAFFE_227


class Layer(NamedTuple):
    """One convolutional layer of sec. 3.5."""

    kernel: int
    stride: int = 1
    padding: int = 0
    own_tower: bool = False  # reads the maps of its own tower only
    normalized: bool = False
    pooled: bool = False


LAYERS = {
    "conv1": Layer(11, stride=4, normalized=True, pooled=True),
    "conv2": Layer(5, padding=2, own_tower=True, normalized=True, pooled=True),
    "conv3": Layer(3, padding=1),
    "conv4": Layer(3, padding=1, own_tower=True),
    "conv5": Layer(3, padding=1, own_tower=True, pooled=True),
}
GRID = 6  # side of conv5's pooled maps for an image of 227 pixels
BIAS_ONE = ("conv2", "conv4", "conv5", "fc6", "fc7")  # sec. 5: the ReLUs begin with positive inputs

TORCHVISION_NAMES = (
    (r"^features\.0\.", "stem.conv."),
    (r"^features\.3\.", "stages.conv2.conv."),
    (r"^features\.6\.", "stages.conv3.conv."),
    (r"^features\.8\.", "stages.conv4.conv."),
    (r"^features\.10\.", "stages.conv5.conv."),
    (r"^classifier\.1\.", "head.fc6."),
    (r"^classifier\.4\.", "head.fc7."),
    (r"^classifier\.6\.", "head.fc8."),
)
CAFFE_NAMES = ((r"^conv1\.", "stem.conv."), (r"^(conv[2-5])\.", r"stages.\1.conv."), (r"^(fc[678])\.", r"head.\1."))
# Caffe's layer adds 1 instead of 2, divides alpha by the five maps of the window, and pools cut windows too.
CAFFE_READING = {"lrn_k": 1.0, "lrn_alpha": 1e-4 / 5, "ceil": True}


@dataclass(frozen=True, kw_only=True, slots=True)
class AlexNetConfig:
    """What tells the readings of AlexNet apart, and what may be varied."""

    widths: tuple[int, ...] = (96, 256, 384, 384, 256)  # maps of conv1 to conv5, both towers together
    towers: int = 2
    padding: int = 0  # of conv1
    pool_first: bool = False  # pooling before normalisation
    lrn_k: float = 2.0  # sec. 3.3; the window is 5 maps and beta 0.75 in every reading
    lrn_alpha: float = 1e-4  # not divided by the window
    ceil: bool = False  # overlapping pooling counts a last window that the border cuts
    dropout_at: Literal["outputs", "inputs"] = "outputs"  # of fc6 and fc7
    hidden: int = 4096  # units of fc6 and of fc7, both towers together
    grid: int | None = None  # places a side that the classifier reads; None: as the input gives, at most 6
    activation: str = "relu"
    normalization: str = "local_response"  # after the activation of conv1 and conv2
    pooling: str = "overlapping_max"
    dropout: float = 0.5

    def __post_init__(self) -> None:
        require("AlexNet", "number of layers", len(self.widths), (len(LAYERS),))
        require("AlexNet", "number of towers", self.towers, (1, 2))
        require("AlexNet", "place for dropout", self.dropout_at, ("outputs", "inputs"))
        require("AlexNet", "activation", self.activation, PLAIN_ACTIVATIONS)
        require("AlexNet", "normalization", self.normalization, NORMALIZATIONS)
        require("AlexNet", "pooling", self.pooling, POOLINGS)


class AlexNet(ConvNet):
    """AlexNet with the choices of its config, [B, in_channels, H, W] -> logits [B, classes]."""

    config_type = AlexNetConfig

    def __init__(
        self,
        config: AlexNetConfig,
        *,
        in_channels: int = 3,
        classes: int = 1000,
        input_size: tuple[int, int] = (227, 227),
        name: str = "alexnet",
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
            dropout_at=config.dropout_at,
        )

    @classmethod
    def last_side(cls, config: AlexNetConfig, side: int) -> int:
        """Side of conv5's pooled maps: 227 -> 55 -> 27 -> 13 -> 6."""
        conv1 = LAYERS["conv1"]
        side = (side + 2 * (conv1.padding + config.padding) - conv1.kernel) // conv1.stride + 1
        for _ in range(3):
            side = pooled_size(config.pooling, side, ceil=config.ceil)
        return side

    @classmethod
    def namings(cls, config: AlexNetConfig) -> tuple[Naming, ...]:
        """torchvision's `alexnet`; BVLC's bvlc_alexnet and CaffeNet. Their classifiers read 6x6 at any input size."""
        caffe = {"grid": GRID, **CAFFE_READING}
        return (
            Naming(publisher="torchvision", patterns=TORCHVISION_NAMES, variations={"grid": GRID}),
            Naming(publisher="caffe", patterns=CAFFE_NAMES, input=CAFFE_227, variations=caffe),
        )

    @torch.no_grad()
    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Weights from N(0, 0.01²); biases 1 in conv2, conv4, conv5, fc6 and fc7, else 0 (sec. 5)."""
        gaussian(self, 0.01, generator)
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and any(part in BIAS_ONE for part in name.split(".")):
                assert module.bias is not None
                module.bias.fill_(1.0)


def _unit(inputs: int, width: int, layer: Layer, config: AlexNetConfig) -> nn.Sequential:
    """Convolution, ReLU, then normalisation and pooling where the layer has them."""
    padding = layer.padding + (config.padding if layer is LAYERS["conv1"] else 0)
    groups = config.towers if layer.own_tower else 1
    unit = OrderedDict[str, nn.Module](
        conv=nn.Conv2d(inputs, width, layer.kernel, layer.stride, padding, groups=groups),
        activation=make_activation(config.activation),
    )
    if layer.normalized and config.normalization == "local_response":
        unit["norm"] = LocalResponse(k=config.lrn_k, alpha=config.lrn_alpha)
    elif layer.normalized and config.normalization != "none":
        unit["norm"] = make_normalization(config.normalization, width)
    if layer.pooled:
        unit["pool"] = make_pooling(config.pooling, width, ceil=config.ceil)
    if config.pool_first and "norm" in unit:
        unit.move_to_end("norm")
    return nn.Sequential(unit)
