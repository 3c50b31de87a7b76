"""Network in Network – a small perceptron slides over the image.  Lin, Chen & Yan 2013, arXiv:1312.4400

image ─ mlpconv1 ─ mlpconv2 ─ mlpconv3 ─ mean of each map = logits              mlpconv: conv k x k, cccp 1x1, cccp 1x1
32       192-160-96  192-192-192  192-192-classes                                          each with ReLU
         max 3x3/2   mean 3x3/2
A cccp (cascaded cross-channel parametric pooling) is a 1x1 convolution. There is one map for each class at the end, and
no fully connected layer. The paper draws the network and gives no widths; these are those that its authors published
for Caffe: `nin_cifar`, and `nin_imagenet` of the model zoo with a fourth mlpconv.
Departs from the paper: CIFAR images are normalised by channel, not by global contrast and ZCA whitening.
Checked against the authors' Caffe files written out by hand (tests/parity/test_alexnet.py)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Generator, nn

from striate.layers.activations import PLAIN_ACTIVATIONS
from striate.layers.initialise import gaussian
from striate.layers.normalization import NORMALIZATIONS
from striate.layers.pooling import GlobalPool, pooled_size
from striate.layers.regularization import make_dropout
from striate.layers.units import ConvUnit
from striate.models.base import ConvNet, require
from striate.models.naming import Naming
from striate.models.registry.inputs import CAFFE


@dataclass(frozen=True, kw_only=True, slots=True)
class NiNConfig:
    """One entry for each mlpconv, and what may be varied."""

    kernels: tuple[int, ...]
    strides: tuple[int, ...]
    paddings: tuple[int, ...]
    widths: tuple[tuple[int, ...], ...]  # of its layers; those of the last one go on with the classes
    poolings: tuple[str, ...]  # after each mlpconv but the last: max or average, 3x3 with stride 2
    dropped: tuple[int, ...]  # the mlpconvs, counted from 1, whose pooled outputs are dropped out
    small_start: tuple[str, ...] = ()  # layers whose weights start five times smaller
    activation: str = "relu"
    normalization: str = "none"  # between convolution and activation of every layer but the last
    dropout: float = 0.5

    def __post_init__(self) -> None:
        for part in (self.strides, self.paddings, self.widths):
            require("NiN", "number of mlpconvs", len(part), (len(self.kernels),))
        require("NiN", "number of poolings", len(self.poolings), (len(self.kernels) - 1,))
        for pooling in self.poolings:
            require("NiN", "pooling", pooling, ("max", "average"))
        require("NiN", "activation", self.activation, PLAIN_ACTIVATIONS)
        require("NiN", "normalization", self.normalization, NORMALIZATIONS)


class NiN(ConvNet):
    """A Network in Network, [B, in_channels, H, W] -> logits [B, classes]."""

    config_type = NiNConfig

    def __init__(
        self,
        config: NiNConfig,
        *,
        in_channels: int = 3,
        classes: int = 10,
        input_size: tuple[int, int] = (32, 32),
        name: str = "nin",
    ) -> None:
        super().__init__(name, config, in_channels, classes, input_size)
        blocks = OrderedDict[str, nn.Module]()
        inputs, perceptron = in_channels, 0
        for index, widths in enumerate(config.widths):
            block = OrderedDict[str, nn.Module]()
            for layer, width in enumerate(widths):
                if layer == 0:
                    kernel, stride, padding = config.kernels[index], config.strides[index], config.paddings[index]
                    block[f"conv{index + 1}"] = _layer(inputs, width, config, kernel, stride, padding)
                else:
                    perceptron += 1
                    block[f"cccp{perceptron}"] = _layer(inputs, width, config)
                inputs = width
            if index < len(config.poolings):
                block["pool"] = _pooling(config.poolings[index])
            if index + 1 in config.dropped:
                block["dropout"] = make_dropout(config.dropout)
            blocks[f"mlpconv{index + 1}"] = nn.Sequential(block)
        self.stem = blocks.pop("mlpconv1")
        self.stages = nn.Sequential(blocks)
        # The last layer of the last mlpconv, rectified like the others (sec. 3.1): no logit is negative.
        scores = ConvUnit(inputs, classes, 1, normalization="none", activation=config.activation)
        self.head = nn.Sequential(OrderedDict({f"cccp{perceptron + 1}": scores, "pool": GlobalPool()}))

    @classmethod
    def last_side(cls, config: NiNConfig, side: int) -> int:
        """Side of the maps that are averaged: 32 -> 16 -> 8 for CIFAR, 227 -> 55 -> 27 -> 13 -> 6 for ImageNet."""
        for index, kernel in enumerate(config.kernels):
            side = (side + 2 * config.paddings[index] - kernel) // config.strides[index] + 1
            if side < 1:
                return 0
            if index < len(config.poolings):
                side = pooled_size("overlapping_max", side, ceil=True)
        return side

    @classmethod
    def namings(cls, config: NiNConfig) -> tuple[Naming, ...]:
        """The authors' Caffe files: conv1, cccp1, cccp2, conv2 … cccp8-1024. The ImageNet one was trained on 224."""
        patterns, perceptron = [], 0
        for index, widths in enumerate(config.widths):
            block = f"stages.mlpconv{index + 1}" if index else "stem"
            patterns.append((rf"^conv{index + 1}(-1024)?\.", f"{block}.conv{index + 1}.conv."))
            for _ in widths[1:]:
                perceptron += 1
                patterns.append((rf"^cccp{perceptron}(-1024)?\.", f"{block}.cccp{perceptron}.conv."))
        patterns.append((rf"^cccp{perceptron + 1}(-1024)?\.", f"head.cccp{perceptron + 1}.conv."))
        photos = len(config.kernels) == 4  # the CIFAR one was fed whitened images, which no mean and deviation describe
        return (Naming(publisher="caffe", patterns=tuple(patterns), input=CAFFE if photos else None),)

    @torch.no_grad()
    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Weights from N(0, 0.05²), biases 0, as the authors' Caffe files have it; the paper says "manually"."""
        gaussian(self, 0.05, generator)
        small = self.architecture.config["small_start"]
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and any(part in small for part in name.split(".")):
                module.weight.div_(5)


def _layer(inputs: int, width: int, config: NiNConfig, kernel: int = 1, stride: int = 1, padding: int = 0) -> ConvUnit:
    normalization, activation = config.normalization, config.activation
    return ConvUnit(inputs, width, kernel, stride, padding=padding, normalization=normalization, activation=activation)


def _pooling(kind: str) -> nn.Module:
    """Windows that the border cuts count too, and an average is that of the pixels there are: Caffe's pooling."""
    return nn.MaxPool2d(3, 2, ceil_mode=True) if kind == "max" else nn.AvgPool2d(3, 2, ceil_mode=True)
