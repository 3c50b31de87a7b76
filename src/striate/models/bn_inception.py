"""BN-Inception – normalise inside the network, and train it many times faster.  Ioffe & Szegedy 2015, arXiv:1502.03167

image ─ conv 7x7/2 ─ max ─ conv 1x1, 3x3 ─ max ─ 3a 3b 3c ─ 4a 4b 4c 4d 4e ─ 5a 5b ─ mean ─ linear
224      112@64       56    56@192          28    28@320    14@576             7@1024
GoogLeNet with batch normalisation after every convolution, 5x5 as two 3x3, and 3c and 4e that halve the maps while they
concatenate. TensorFlow's "Inception V2" is this network.
`bn_inception` is it as released (TF-Slim): 576 maps at 14x14, which is the sum that figure 5 prints, and a first layer
of one depthwise 7x7, eight filters a channel, and a 1x1, which is what the appendix says.
`bn_inception_fig5` has the filters that figure 5 prints, 608, 608 and 1056 maps from 4c on, and its ordinary 7x7.
Departs from the paper: TensorFlow pads a strided convolution more at the far side, here both sides get the same, as in
the Caffe version. The 13.6 million parameters of sec. 4.2.2 come out of neither reading.
Checked against the counts of TF-Slim's and Caffe's versions; torchvision and timm have no such network."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import partial

import torch.nn.functional as F
from torch import Generator, Tensor, nn

from striate.layers.activations import PLAIN_ACTIVATIONS, make_activation
from striate.layers.branches import Branches, Fork, MakeUnit
from striate.layers.heads import pooled_linear
from striate.layers.initialise import he
from striate.layers.normalization import NORMALIZATIONS, make_normalization, needs_bias
from striate.layers.units import ConvUnit
from striate.models.base import ConvNet, require
from striate.models.naming import Naming
from striate.models.registry.inputs import CAFFE

FIGURE_5: dict[str, tuple[tuple[int, ...], str]] = {
    # filters: 1x1, 3x3 reduce, 3x3, double 3x3 reduce, double 3x3, pool proj; pooling
    "inception_3a": ((64, 64, 64, 64, 96, 32), "average"),
    "inception_3b": ((64, 64, 96, 64, 96, 64), "average"),
    "inception_3c": ((0, 128, 160, 64, 96, 0), "max, halved"),
    "inception_4a": ((224, 64, 96, 96, 128, 128), "average"),
    "inception_4b": ((192, 96, 128, 96, 128, 128), "average"),
    "inception_4c": ((160, 128, 160, 128, 160, 128), "average"),
    "inception_4d": ((96, 128, 192, 160, 192, 128), "average"),
    "inception_4e": ((0, 128, 192, 192, 256, 0), "max, halved"),
    "inception_5a": ((352, 192, 320, 160, 224, 128), "average"),
    "inception_5b": ((352, 192, 320, 192, 224, 128), "max"),
}
TOO_WIDE = ("inception_4c", "inception_4d")  # as printed they give 608 maps; the same figure says 576
DEPTHWISE_FILTERS = 8  # of each input channel: the appendix's "depth multiplier"


@dataclass(frozen=True, kw_only=True, slots=True)
class BNInceptionConfig:
    """TF-Slim's network by default, and what other versions of it have instead."""

    pool_4cd: int = 96  # filters after the pooling of 4c and 4d; figure 5 prints 128
    stem: str = "separable"  # or dense: an ordinary 7x7 convolution, as the Caffe version has it
    bias: bool = False  # convolutions with biases, although the normalisation cancels them; the Caffe version has them
    epsilon: float = 1e-3  # of the normalisation; 1e-5 in the Caffe version
    pool_counts_padding: bool = False  # average pooling divides by 9 at the border too; so it does in Caffe
    activation: str = "relu"
    normalization: str = "batch"
    dropout: float = 0.0  # before the linear layer

    def __post_init__(self) -> None:
        require("BN-Inception", "stem", self.stem, ("separable", "dense"))
        require("BN-Inception", "activation", self.activation, PLAIN_ACTIVATIONS)
        require("BN-Inception", "normalization", self.normalization, NORMALIZATIONS)


class BNInception(ConvNet):
    """Ten Inception modules, [B, in_channels, H, W] -> logits [B, classes]."""

    config_type = BNInceptionConfig

    def __init__(
        self,
        config: BNInceptionConfig,
        *,
        in_channels: int = 3,
        classes: int = 1000,
        input_size: tuple[int, int] = (224, 224),
        name: str = "bn_inception",
    ) -> None:
        super().__init__(name, config, in_channels, classes, input_size)
        unit = partial(
            ConvUnit,
            bias=config.bias or None,
            normalization=config.normalization,
            epsilon=config.epsilon,
            activation=config.activation,
        )
        self.stem = nn.Sequential(
            OrderedDict(
                conv1=_separable(config, in_channels, 64)
                if config.stem == "separable"
                else unit(in_channels, 64, 7, 2),
                pool1=HalvingMaxPool(),
                reduce2=unit(64, 64, 1),
                conv2=unit(64, 192, 3),
                pool2=HalvingMaxPool(),
            )
        )
        channels = 192
        self.stages = nn.Sequential()
        for stage, (printed, pooling) in FIGURE_5.items():
            filters = (*printed[:-1], config.pool_4cd) if stage in TOO_WIDE else printed
            module = DoubleInception(
                channels, *filters, pooling=pooling, unit=unit, pool_counts_padding=config.pool_counts_padding
            )
            self.stages.add_module(stage, module)
            channels = module.channels
        self.head = pooled_linear(channels, classes, dropout=config.dropout)

    @classmethod
    def last_side(cls, config: BNInceptionConfig, side: int) -> int:
        """Five halvings that round up, so that any image works: 7 for 224 pixels."""
        return -(-side // 32)

    @classmethod
    def namings(cls, config: BNInceptionConfig) -> tuple[Naming, ...]:
        """The Caffe version, which has figure 5's filters, as PyTorch carries it: `inception_3a_double_3x3_1`."""
        return (
            Naming(
                publisher="cadene",
                patterns=CAFFE_NAMES,
                input=replace(CAFFE, mean=(104 / 255, 117 / 255, 128 / 255)),
                variations={
                    "pool_4cd": 128,
                    "stem": "dense",
                    "bias": True,
                    "epsilon": 1e-5,
                    "pool_counts_padding": True,
                },
            ),
        )

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """The paper does not say; He's, which suits ReLU layers of any width."""
        he(self, generator)


class DoubleInception(Branches):
    """The Inception module with two 3x3 in place of 5x5, [B, C, H, W] -> [B, channels, H, W].

    `pooling` is average or max before a projection, or "max, halved": then height and width are halved, rounding up, by
    the last 3x3 of each branch and by a pooling that hands all of its maps on, and there is no 1x1 branch.
    """

    def __init__(
        self,
        in_channels: int,
        conv1x1: int,
        reduce3x3: int,
        conv3x3: int,
        reduce_double: int,
        double3x3: int,
        pool_proj: int,
        *,
        pooling: str,
        unit: MakeUnit,
        pool_counts_padding: bool = False,
    ) -> None:
        halved = pooling == "max, halved"
        pace = "/2" if halved else ""
        fork: Fork = (
            (f"1x1 {reduce3x3}", f"3x3{pace} {conv3x3}"),
            (f"1x1 {reduce_double}", f"3x3 {double3x3}", f"3x3{pace} {double3x3}"),
        )
        if not halved:
            fork = (f"1x1 {conv1x1}", *fork, (f"{pooling} 3x3", f"1x1 {pool_proj}"))
        super().__init__(in_channels, fork, unit, pool_counts_padding=pool_counts_padding)
        if halved:
            self.add_module("branch2", HalvingMaxPool())
            self.channels += in_channels


class HalvingMaxPool(nn.MaxPool2d):
    """Max 3x3/2 with TensorFlow's SAME padding, [B, C, H, W] -> [B, C, ceil(H/2), ceil(W/2)].

    An even side is padded at its far end alone, which is Caffe's ceil mode; an odd one, where ceil mode would round
    down and no longer fit the convolutions beside it, at both ends.
    """

    def __init__(self) -> None:
        super().__init__(3, stride=2, ceil_mode=True)

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, ceil(H/2), ceil(W/2)]."""
        ends = (input.shape[-2] % 2, input.shape[-1] % 2)
        return F.max_pool2d(input, 3, stride=2, padding=ends, ceil_mode=True)


def _separable(config: BNInceptionConfig, in_channels: int, channels: int) -> nn.Sequential:
    """Eight 7x7/2 filters of each input channel alone, then a 1x1; fewer filters than eight for many channels."""
    filters = max(1, min(DEPTHWISE_FILTERS, channels // in_channels)) * in_channels
    bias = config.bias or needs_bias(config.normalization)
    return nn.Sequential(
        OrderedDict(
            depthwise=nn.Conv2d(in_channels, filters, 7, 2, padding=3, groups=in_channels, bias=False),
            pointwise=nn.Conv2d(filters, channels, 1, bias=bias),
            norm=make_normalization(config.normalization, channels, epsilon=config.epsilon),
            activation=make_activation(config.activation),
        )
    )


def _caffe_names() -> tuple[tuple[str, str], ...]:
    def inside(module: str, theirs: str, ours: str) -> tuple[str, str]:
        return rf"^inception_({module})_{theirs}\.", rf"stages.inception_\1.{ours}."

    every, halving = r"\d[a-e]", "3c|4e"  # the modules that halve have no 1x1 branch, so theirs count from 0
    return (
        (r"^([a-z]+\d?_\w+?)_bn\.", r"\1.norm."),
        (r"^((?:conv\d|inception)_\w+)\.(weight|bias)$", r"\1.conv.\2"),
        (r"^conv1_7x7_s2\.", "stem.conv1."),
        (r"^conv2_3x3_reduce\.", "stem.reduce2."),
        (r"^conv2_3x3\.", "stem.conv2."),
        inside(halving, "3x3_reduce", "branch0.a_1x1"),
        inside(halving, "3x3", "branch0.b_3x3"),
        inside(halving, "double_3x3_reduce", "branch1.a_1x1"),
        inside(halving, "double_3x3_1", "branch1.b_3x3"),
        inside(halving, "double_3x3_2", "branch1.c_3x3"),
        inside(every, "1x1", "branch0.a_1x1"),
        inside(every, "3x3_reduce", "branch1.a_1x1"),
        inside(every, "3x3", "branch1.b_3x3"),
        inside(every, "double_3x3_reduce", "branch2.a_1x1"),
        inside(every, "double_3x3_1", "branch2.b_3x3"),
        inside(every, "double_3x3_2", "branch2.c_3x3"),
        inside(every, "pool_proj", "branch3.b_1x1"),
        (r"^(last_linear|fc)\.", "head.linear."),
    )


CAFFE_NAMES = _caffe_names()
