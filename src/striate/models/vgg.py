"""VGG – nothing but 3x3 convolutions, and many of them.  Simonyan & Zisserman 2014, arXiv:1409.1556

image ─ conv1 ─ conv2 ─ conv3 ─ conv4 ─ conv5 ─ fc6 ─ fc7 ─ fc8
224     64@112  128@56  256@28  512@14  512@7   4096  4096  classes
A stage is one to four convolutions that keep height and width, each with its ReLU, and a 2x2 max pooling. Table 1 has
the columns: A, A-LRN, B, C (with 1x1 convolutions), D (VGG-16) and E (VGG-19).
Departs from the paper: starts by Glorot's rule, not the paper's first one (see `reset_parameters`); maps larger than
7x7 are averaged down to 7x7 where the paper slides its dense layers over them (sec. 3.2), smaller ones give a smaller
fc6 unless `grid` says otherwise.
Checked against torchvision and timm, with and without batch normalisation (tests/parity/test_vgg.py)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

from torch import Generator, nn

from striate.layers.activations import PLAIN_ACTIVATIONS, make_activation
from striate.layers.heads import fully_connected
from striate.layers.initialise import xavier
from striate.layers.normalization import NORMALIZATIONS, LocalResponse, make_normalization
from striate.layers.pooling import POOLINGS, make_pooling, pooled_size
from striate.models.base import ConvNet, require
from striate.models.naming import Naming
from striate.models.registry.inputs import CAFFE

STAGES = ("conv1", "conv2", "conv3", "conv4", "conv5")
GRID = 7  # side of the last maps for 224 pixels, which fc6 reads
# The authors' release: blue first, 0 to 255 minus the mean of their own training set.
RELEASE = replace(CAFFE, mean=(103.939 / 255, 116.779 / 255, 123.68 / 255))


@dataclass(frozen=True, kw_only=True, slots=True)
class VGGConfig:
    """A column of table 1."""

    kernels: tuple[tuple[int, ...], ...]  # of the convolutions of conv1, conv2, ...: 3, or 1 in column C
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    local_response: bool = False  # normalise after conv1_1: column A-LRN
    hidden: int = 4096  # units of fc6 and fc7
    grid: int | None = None  # side of what fc6 reads; None: what the input gives, at most the paper's 7
    activation: str = "relu"
    normalization: str = "none"  # after every convolution
    pooling: str = "max"
    dropout: float = 0.5  # of fc6 and fc7

    def __post_init__(self) -> None:
        require("VGG", "number of stages", len(self.kernels), range(1, len(self.widths) + 1))
        for kernel in {kernel for stage in self.kernels for kernel in stage}:
            require("VGG", "kernel size", kernel, (1, 3))
        require("VGG", "activation", self.activation, PLAIN_ACTIVATIONS)
        require("VGG", "normalization", self.normalization, NORMALIZATIONS)
        require("VGG", "pooling", self.pooling, POOLINGS)


class VGG(ConvNet):
    """One column of the paper's table, [B, in_channels, H, W] -> logits [B, classes]."""

    config_type = VGGConfig

    def __init__(
        self,
        config: VGGConfig,
        *,
        in_channels: int = 3,
        classes: int = 1000,
        input_size: tuple[int, int] = (224, 224),
        name: str = "vgg",
    ) -> None:
        super().__init__(name, config, in_channels, classes, input_size)
        self.stem = nn.Identity()  # every stage is of the same kind
        self.stages = nn.Sequential()
        channels = in_channels
        for stage, (kernels, width) in enumerate(zip(config.kernels, config.widths, strict=False), start=1):
            layers = OrderedDict[str, nn.Module]()
            for number, kernel in enumerate(kernels, start=1):
                layer = f"{stage}_{number}"
                # Biases stay where normalisation follows, as in torchvision's _bn networks: their weights have them.
                layers[f"conv{layer}"] = nn.Conv2d(channels, width, kernel, padding=kernel // 2)
                if config.normalization != "none":
                    layers[f"norm{layer}"] = make_normalization(config.normalization, width)
                layers[f"act{layer}"] = make_activation(config.activation)
                if config.local_response and layer == "1_1":
                    layers[f"lrn{layer}"] = LocalResponse()  # AlexNet's constants (sec. 2.1)
                channels = width
            layers[f"pool{stage}"] = make_pooling(config.pooling, channels)
            self.stages.add_module(STAGES[stage - 1], nn.Sequential(layers))
        self.head = fully_connected(
            channels,
            (self.last_side(config, input_size[0]), self.last_side(config, input_size[1])),
            classes,
            most=GRID,
            grid=config.grid,
            units=config.hidden,
            activation=config.activation,
            dropout=config.dropout,
        )

    @classmethod
    def last_side(cls, config: VGGConfig, side: int) -> int:
        """Side of the last pooling's maps: 7 for 224 pixels."""
        for _ in config.kernels:
            side = pooled_size(config.pooling, side)
        return side

    @classmethod
    def namings(cls, config: VGGConfig) -> tuple[Naming, ...]:
        """torchvision and timm number the layers; the authors' Caffe release names them by stage, as here.

        The release is fed 0 to 255 minus its own mean, blue first. Numbered weights of A-LRN were never published.
        """
        caffe = Naming(
            publisher="caffe",
            patterns=((r"^(conv(\d)_\d)\.", r"stages.conv\2.\1."), (r"^(fc[678])\.", r"head.\1.")),
            input=RELEASE,
            variations={"grid": GRID},
        )
        if config.local_response:
            return (caffe,)
        features = _numbered_layers(config)
        torchvision = (("classifier.0", "fc6"), ("classifier.3", "fc7"), ("classifier.6", "fc8"))
        timm = (("pre_logits.fc1", "fc6"), ("pre_logits.fc2", "fc7"), ("head.fc", "fc8"))
        return (
            Naming(publisher="torchvision", patterns=(*features, *_dense(torchvision)), variations={"grid": GRID}),
            Naming(publisher="timm", patterns=(*features, *_dense(timm)), variations={"grid": GRID}),
            caffe,
        )

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Glorot & Bengio's rule, which the authors found later to do without pre-training (sec. 3.1).

        Departs from what the paper's networks were trained from: normals of variance 1e-2 for column A, and the deeper
        columns from A's first four convolutions and dense layers. Read literally, that variance gives column A logits
        of the order of a million; a deviation of 1e-2, the other reading, gives 1e-5, and column E 1e-9 (Glorot: 1e-2
        and 1e-3).
        """
        xavier(self, generator)


def _numbered_layers(config: VGGConfig) -> tuple[tuple[str, str], ...]:
    """torchvision's and timm's `features.N`: convolutions, normalisations, activations and poolings in one row."""
    patterns, index = [], 0
    for stage, kernels in enumerate(config.kernels, start=1):
        for number in range(1, len(kernels) + 1):
            for kind in ("conv",) if config.normalization == "none" else ("conv", "norm"):
                patterns.append((rf"^features\.{index}\.", f"stages.conv{stage}.{kind}{stage}_{number}."))
                index += 1
            index += 1  # activation
        index += 1  # pooling
    return tuple(patterns)


def _dense(names: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple(("^" + theirs.replace(".", r"\.") + r"\.", f"head.{ours}.") for theirs, ours in names)
