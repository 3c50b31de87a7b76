"""GoogLeNet – one layer looks at several scales at once.  Szegedy et al. 2014, arXiv:1409.4842

image ─ conv 7x7/2 ─ max ─ LRN ─ conv 1x1, 3x3 ─ LRN ─ max ─ 3a 3b ─ max ─ 4a 4b 4c 4d 4e ─ max ─ 5a 5b ─ mean ─ linear
224      112@64       56           56@192               28     28       14   │        │      7       7
                                                                  auxiliary 1        auxiliary 2      (training only)
Max pooling is 3x3/2; 112 → 56 → 28 → 14 → 7 needs its ceil mode, in which the last window hangs over the edge.
Departs from the paper: it gives no constants for LRN and no initialisation; both are those of Caffe's bvlc_googlenet.
Its "SAME" padding of conv1 is 2 before and 3 after; here it is 3 and 3, as in Caffe and torchvision. The auxiliary
classifiers take maps of other sizes than 14x14 too (see `AverageTo`), so that training works at any input size.
`googlenet_torchvision`: batch normalisation, 3x3 in place of 5x5, last max 2x2, as those weights were trained.
Checked against torchvision.models.googlenet (tests/parity/test_googlenet.py) and the names of bvlc_googlenet."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from torch import Generator, Tensor, nn

from striate.layers.activations import PLAIN_ACTIVATIONS, make_activation
from striate.layers.branches import Branches, MakeUnit
from striate.layers.heads import pooled_linear
from striate.layers.initialise import caffe_xavier
from striate.layers.normalization import NORMALIZATIONS, Contrast, LocalResponse
from striate.layers.regularization import make_dropout
from striate.layers.units import ConvUnit
from striate.models.base import ConvNet, require
from striate.models.naming import Naming
from striate.models.registry.inputs import CAFFE, INCEPTION, sized

TABLE_1: dict[str, tuple[int, ...]] = {
    # filters: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool proj
    "inception_3a": (64, 96, 128, 16, 32, 32),
    "inception_3b": (128, 128, 192, 32, 96, 64),
    "pool3": (),
    "inception_4a": (192, 96, 208, 16, 48, 64),
    "inception_4b": (160, 112, 224, 24, 64, 64),
    "inception_4c": (128, 128, 256, 24, 64, 64),
    "inception_4d": (112, 144, 288, 32, 64, 64),
    "inception_4e": (256, 160, 320, 32, 128, 128),
    "pool4": (),
    "inception_5a": (256, 160, 320, 32, 128, 128),
    "inception_5b": (384, 192, 384, 48, 128, 128),
}
AUXILIARY_AFTER = ("inception_4a", "inception_4d")
EVERYWHERE = ("batch", "group")  # these follow every convolution, in place of LRN: Ioffe & Szegedy 2015, sec. 4.2.1
EPSILON = 1e-3  # of batch normalisation, as the Inception line has it
PLAIN_UNIT = partial(ConvUnit, normalization="none")  # the paper's: convolution with bias, ReLU


@dataclass(frozen=True, kw_only=True, slots=True)
class GoogLeNetConfig:
    """The paper by default; what torchvision has otherwise, and what may be varied."""

    auxiliary: bool = True  # the two auxiliary classifiers, which only training uses
    wide_kernel: int = 5  # of the 5x5 branch; 3 in torchvision (and in the TensorFlow weights that it ported)
    last_pool: int = 3  # window of pool4; 2 in torchvision
    auxiliary_pool: str = "strided"  # 5x5/3 at 14x14; adaptive in torchvision: four windows of 4x4, one pixel apart
    activation: str = "relu"
    normalization: str = "local_response"  # after pool1 and conv2; batch and group: after every convolution instead
    dropout: float = 0.4  # before the linear layer
    auxiliary_dropout: float = 0.7

    def __post_init__(self) -> None:
        require("GoogLeNet", "wide kernel", self.wide_kernel, (3, 5))
        require("GoogLeNet", "last pool", self.last_pool, (2, 3))
        require("GoogLeNet", "auxiliary pool", self.auxiliary_pool, ("strided", "adaptive"))
        require("GoogLeNet", "activation", self.activation, PLAIN_ACTIVATIONS)
        require("GoogLeNet", "normalization", self.normalization, NORMALIZATIONS)


class GoogLeNet(ConvNet):
    """Nine Inception modules, [B, in_channels, H, W] -> logits [B, classes]."""

    config_type = GoogLeNetConfig

    def __init__(
        self,
        config: GoogLeNetConfig,
        *,
        in_channels: int = 3,
        classes: int = 1000,
        input_size: tuple[int, int] = (224, 224),
        name: str = "googlenet",
    ) -> None:
        super().__init__(name, config, in_channels, classes, input_size)
        unit = _unit(config)
        self.stem = _named(
            conv1=unit(in_channels, 64, 7, 2),
            pool1=_halving(),
            norm1=_response(config.normalization),
            reduce2=unit(64, 64, 1),
            conv2=unit(64, 192, 3),
            norm2=_response(config.normalization),
            pool2=_halving(),
        )
        channels = 192
        self.stages = nn.Sequential()
        for stage, filters in TABLE_1.items():
            if not filters:
                self.stages.add_module(stage, _halving(config.last_pool if stage == "pool4" else 3))
                continue
            module = Inception(channels, *filters, wide_kernel=config.wide_kernel, unit=unit)
            self.stages.add_module(stage, module)
            channels = module.channels
            if config.auxiliary and stage in AUXILIARY_AFTER:
                self.auxiliary[stage] = _auxiliary_classifier(config, channels, classes)
        self.head = pooled_linear(channels, classes, dropout=config.dropout)

    @classmethod
    def last_side(cls, config: GoogLeNetConfig, side: int) -> int:
        """7 for 224 pixels. In ceil mode 3x3/2 halves rounding down, but takes no single pixel; 2x2/2 rounds up.

        Auxiliary classifiers take maps of any size.
        """
        before_pool4 = -(-side // 2) // 8
        return before_pool4 // 2 if config.last_pool == 3 else -(-before_pool4 // 2)

    @classmethod
    def namings(cls, config: GoogLeNetConfig) -> tuple[Naming, ...]:
        """See `_torchvision_names` and `_caffe_names`; which it is, the keys say."""
        wide = f"b_{config.wide_kernel}x{config.wide_kernel}"
        return (
            Naming(
                publisher="torchvision",
                patterns=_torchvision_names(wide),
                input=sized(INCEPTION, 224),  # its `transform_input` undoes the normalisation of ImageNet
                variations={"normalization": "batch", "wide_kernel": 3, "last_pool": 2, "auxiliary_pool": "adaptive"},
            ),
            Naming(
                publisher="caffe",
                patterns=_caffe_names(wide),
                input=CAFFE,
                variations={"normalization": "local_response"},  # with the constants of `_response`
            ),
        )

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """As bvlc_googlenet: Caffe's Xavier; biases 0.2, those of the classifiers 0."""
        caffe_xavier(self, generator, bias=0.2)
        for classifier in (self.head.linear, *(head.classifier for head in self.auxiliary.values())):
            nn.init.zeros_(classifier.bias)  # type: ignore[arg-type]


class Inception(Branches):
    """The Inception module with dimension reductions (fig. 2b), [B, C, H, W] -> [B, channels, H, W].

    The filters are those of table 1, in its order. Every convolution, the reductions too, has its activation.
    """

    def __init__(
        self,
        in_channels: int,
        conv1x1: int,
        reduce3x3: int,
        conv3x3: int,
        reduce5x5: int,
        conv5x5: int,
        pool_proj: int,
        *,
        wide_kernel: int = 5,
        unit: MakeUnit = PLAIN_UNIT,
    ) -> None:
        fork = (
            f"1x1 {conv1x1}",
            (f"1x1 {reduce3x3}", f"3x3 {conv3x3}"),
            (f"1x1 {reduce5x5}", f"{wide_kernel}x{wide_kernel} {conv5x5}"),
            ("max 3x3", f"1x1 {pool_proj}"),
        )
        super().__init__(in_channels, fork, unit)


class NaiveInception(Branches):
    """The Inception module as first thought of (fig. 2a), [B, C, H, W] -> [B, channels, H, W].

    Pooling hands all of its input maps on, so that depth can only grow from module to module.
    """

    def __init__(
        self, in_channels: int, conv1x1: int, conv3x3: int, conv5x5: int, *, unit: MakeUnit = PLAIN_UNIT
    ) -> None:
        super().__init__(in_channels, (f"1x1 {conv1x1}", f"3x3 {conv3x3}", f"5x5 {conv5x5}", "max 3x3"), unit)


class AverageTo(nn.Module):
    """Means of `side` x `side` equal windows at equal strides, [B, C, H, W] -> [B, C, side, side].

    With side 4 that is the paper's 5x5/3 on maps of 14x14, and the like on others. Maps smaller than `side` give some
    of their pixels more than once, so that the auxiliary classifiers train on small images too.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, maps: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, side, side]."""
        height, width = maps.shape[-2:]
        if min(height, width) < self.side:
            return F.adaptive_avg_pool2d(maps, self.side)
        stride = height // self.side, width // self.side
        window = height - (self.side - 1) * stride[0], width - (self.side - 1) * stride[1]
        return F.avg_pool2d(maps, window, stride)


def _auxiliary_classifier(config: GoogLeNetConfig, channels: int, classes: int) -> nn.Sequential:
    """Sec. 5: mean to 4x4, 128 filters 1x1, 1024 units, dropout 0.7, [B, channels, H, W] -> logits [B, classes]."""
    return _named(
        pool=AverageTo(4) if config.auxiliary_pool == "strided" else nn.AdaptiveAvgPool2d(4),
        conv=_unit(config)(channels, 128, 1),
        flatten=nn.Flatten(),
        fc=nn.Linear(128 * 4 * 4, 1024),
        activation=make_activation(config.activation),
        dropout=make_dropout(config.auxiliary_dropout),
        classifier=nn.Linear(1024, classes),
    )


def _response(normalization: str) -> nn.Module:
    """Fig. 3's LocalRespNorm with Caffe's constants: k = 1, and alpha is divided by the window."""
    if normalization == "local_response":
        return LocalResponse(k=1.0, window=5, alpha=1e-4 / 5, beta=0.75)
    return Contrast(k=1.0, window=5, alpha=1e-4 / 5, beta=0.75) if normalization == "contrast" else nn.Identity()


def _halving(window: int = 3) -> nn.MaxPool2d:
    """Ceil mode: 3x3/2 on 112 would give 55 without it."""
    return nn.MaxPool2d(window, stride=2, ceil_mode=True)


def _unit(config: GoogLeNetConfig) -> MakeUnit:
    everywhere = config.normalization if config.normalization in EVERYWHERE else "none"
    return partial(ConvUnit, activation=config.activation, normalization=everywhere, epsilon=EPSILON)


def _named(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


def _torchvision_names(wide: str) -> tuple[tuple[str, str], ...]:
    return (
        (r"^conv1\.", "stem.conv1."),
        (r"^conv2\.", "stem.reduce2."),
        (r"^conv3\.", "stem.conv2."),
        (r"^inception(\d\w)\.branch1\.", r"stages.inception_\1.branch0.a_1x1."),
        (r"^inception(\d\w)\.branch2\.0\.", r"stages.inception_\1.branch1.a_1x1."),
        (r"^inception(\d\w)\.branch2\.1\.", r"stages.inception_\1.branch1.b_3x3."),
        (r"^inception(\d\w)\.branch3\.0\.", r"stages.inception_\1.branch2.a_1x1."),
        (r"^inception(\d\w)\.branch3\.1\.", rf"stages.inception_\1.branch2.{wide}."),
        (r"^inception(\d\w)\.branch4\.1\.", r"stages.inception_\1.branch3.b_1x1."),
        (r"^aux1\.", "auxiliary.inception_4a."),
        (r"^aux2\.", "auxiliary.inception_4d."),
        (r"\.fc1\.", ".fc."),
        (r"\.fc2\.", ".classifier."),
        (r"^fc\.", "head.linear."),
        (r"\.bn\.", ".norm."),
    )


def _caffe_names(wide: str) -> tuple[tuple[str, str], ...]:
    """Of BVLC Caffe's bvlc_googlenet: `inception_3a/5x5_reduce`, `loss1/fc`."""
    return (
        (r"^conv1/7x7_s2\.", "stem.conv1.conv."),
        (r"^conv2/3x3_reduce\.", "stem.reduce2.conv."),
        (r"^conv2/3x3\.", "stem.conv2.conv."),
        (r"^(inception_\d\w)/1x1\.", r"stages.\1.branch0.a_1x1.conv."),
        (r"^(inception_\d\w)/3x3_reduce\.", r"stages.\1.branch1.a_1x1.conv."),
        (r"^(inception_\d\w)/3x3\.", r"stages.\1.branch1.b_3x3.conv."),
        (r"^(inception_\d\w)/5x5_reduce\.", r"stages.\1.branch2.a_1x1.conv."),
        (r"^(inception_\d\w)/5x5\.", rf"stages.\1.branch2.{wide}.conv."),
        (r"^(inception_\d\w)/pool_proj\.", r"stages.\1.branch3.b_1x1.conv."),
        (r"^loss1/", "auxiliary.inception_4a."),
        (r"^loss2/", "auxiliary.inception_4d."),
        (r"^(auxiliary\.\w+)\.conv\.", r"\1.conv.conv."),
        (r"^loss3/classifier\.", "head.linear."),
    )
