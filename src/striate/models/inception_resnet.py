"""Inception-ResNet v1 and v2 – Inception modules as residual branches.  Szegedy et al. 2016, arXiv:1602.07261

image ─ stem ─ 5 x A ─ reduction A ─ 10 x B ─ reduction B ─ 5 x C ─ mean ─ dropout ─ linear
299     35            17                     8                       v1: 256, 896, 1792 maps

unit:  x ─┬─ Inception branches ─ 1x1 linear ─ times 0.1 … 0.3 ─ + ─ ReLU
          └──────────────────────────────────────────────────────┘
Figure 15 is the plan; figures 10 to 14 are v1 (for the cost of Inception v3, says the paper), 16 to 19 with the stem of
figure 3 are v2 (for that of v4). Three networks: `inception_resnet_v1` and `inception_resnet_v2_paper` as drawn, and
`inception_resnet_v2`, which the authors released and whose weights are in use: v3's stem and one Inception module
before it, 10, 20 and 10 units, no ReLU after the last, and a 1x1 convolution to 1536 maps.
Departs from the paper: figures 17 and 19 print 1154 and 2048 maps for v2, but the branches that are added to have
384 + 384 + 384 = 1152, and with 992 more 2144; ours are these. Of "0.1 to 0.3" (sec. 3.3) the factors 0.17, 0.1, 0.2
are those of the released network. The linear 1x1 has a bias and no batch normalisation.
Checked against timm's inception_resnet_v2 (tests/parity/test_inception.py)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial

from torch import Generator, Tensor, nn

from striate.layers.activations import PLAIN_ACTIVATIONS, make_activation
from striate.layers.branches import Branches, Fork, MakeUnit, Row, Step, numbered_paths, unit_paths
from striate.layers.heads import pooled_linear
from striate.layers.initialise import he
from striate.layers.normalization import NORMALIZATIONS
from striate.layers.units import ConvUnit
from striate.models.base import ConvNet, require
from striate.models.inception_v3 import EPSILON, STEM_V3, last_grid
from striate.models.inception_v4 import STEM as STEM_V4
from striate.models.inception_v4 import reduction_a
from striate.models.naming import Naming
from striate.models.registry.inputs import INCEPTION

STEM_V1: dict[str, Step] = {  # figure 14
    "conv_1a": "3x3/2 V 32",
    "conv_2a": "3x3 V 32",
    "conv_2b": "3x3 64",
    "pool_3a": "max 3x3/2 V",
    "conv_3b": "1x1 80",
    "conv_4a": "3x3 V 192",
    "conv_4b": "3x3/2 V 256",
}
MIXED_5B: Fork = ("1x1 96", ("1x1 48", "5x5 64"), ("1x1 64", "3x3 96", "3x3 96"), ("average 3x3", "1x1 64"))

A_V1: Fork = ("1x1 32", ("1x1 32", "3x3 32"), ("1x1 32", "3x3 32", "3x3 32"))  # figure 10
A_V2: Fork = ("1x1 32", ("1x1 32", "3x3 32"), ("1x1 32", "3x3 48", "3x3 64"))  # figure 16
B_V1: Fork = ("1x1 128", ("1x1 128", "1x7 128", "7x1 128"))  # figure 11
B_V2: Fork = ("1x1 192", ("1x1 128", "1x7 160", "7x1 192"))  # figure 17
C_V1: Fork = ("1x1 192", ("1x1 192", "1x3 192", "3x1 192"))  # figure 13
C_V2: Fork = ("1x1 192", ("1x1 192", "1x3 224", "3x1 256"))  # figure 19
REDUCTION_B_V1: Fork = (  # figure 12
    ("1x1 256", "3x3/2 V 384"),
    ("1x1 256", "3x3/2 V 256"),
    ("1x1 256", "3x3 256", "3x3/2 V 256"),
    "max 3x3/2 V",
)
REDUCTION_B_V2: Fork = (  # figure 18
    ("1x1 256", "3x3/2 V 384"),
    ("1x1 256", "3x3/2 V 288"),
    ("1x1 256", "3x3 288", "3x3/2 V 320"),
    "max 3x3/2 V",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Figure 15 with the modules filled in."""

    stem: dict[str, Step]
    a: Fork
    reduction_a: Fork
    b: Fork
    reduction_b: Fork
    c: Fork
    depths: tuple[int, int, int] = (5, 10, 5)
    released: bool = False  # with the module before, and the convolution after, that no figure shows


PLANS: dict[str, Plan] = {
    "v1": Plan(
        stem=STEM_V1,
        a=A_V1,
        reduction_a=reduction_a(192, 192, 256, 384),  # k, l, m, n of table 1
        b=B_V1,
        reduction_b=REDUCTION_B_V1,
        c=C_V1,
    ),
    "v2": Plan(
        stem=STEM_V4,
        a=A_V2,
        reduction_a=reduction_a(256, 256, 384, 384),
        b=B_V2,
        reduction_b=REDUCTION_B_V2,
        c=C_V2,
    ),
    "v2_released": Plan(
        stem=STEM_V3,
        a=A_V2,
        reduction_a=reduction_a(256, 256, 384, 384),
        b=B_V2,
        reduction_b=REDUCTION_B_V2,
        c=C_V2,
        depths=(10, 20, 10),
        released=True,
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class InceptionResNetConfig:
    """Which of the networks, and what may be varied."""

    plan: str
    scales: tuple[float, float, float] = (0.17, 0.1, 0.2)  # of the branches of A, B and C
    activation: str = "relu"
    normalization: str = "batch"
    dropout: float = 0.2  # before the linear layer: "keep 0.8", figure 15

    def __post_init__(self) -> None:
        require("Inception-ResNet", "plan", self.plan, PLANS)
        require("Inception-ResNet", "activation", self.activation, PLAIN_ACTIVATIONS)
        require("Inception-ResNet", "normalization", self.normalization, NORMALIZATIONS)


class InceptionResNet(ConvNet):
    """An Inception network with residual units, [B, in_channels, H, W] -> logits [B, classes]."""

    config_type = InceptionResNetConfig

    def __init__(
        self,
        config: InceptionResNetConfig,
        *,
        in_channels: int = 3,
        classes: int = 1000,
        input_size: tuple[int, int] = (299, 299),
        name: str = "inception_resnet",
    ) -> None:
        super().__init__(name, config, in_channels, classes, input_size)
        plan, activation = PLANS[config.plan], config.activation
        unit = partial(ConvUnit, normalization=config.normalization, epsilon=EPSILON, activation=activation)
        self.stem = Row(in_channels, plan.stem, unit)
        self.stages = nn.Sequential()
        channels = self.stem.channels

        def joined(stage: str, fork: Fork) -> int:
            module = Branches(channels, fork, unit)
            self.stages.add_module(stage, module)
            return module.channels

        def residual(stage: str, fork: Fork, depth: int, scale: float, *, bare_end: bool = False) -> None:
            units = [ResidualUnit(channels, fork, unit, scale=scale, activation=activation) for _ in range(depth)]
            if bare_end:
                units[-1] = ResidualUnit(channels, fork, unit, scale=1.0, activation="linear")
            self.stages.add_module(stage, nn.Sequential(*units))

        if plan.released:
            channels = joined("mixed_5b", MIXED_5B)
        residual("inception_resnet_a", plan.a, plan.depths[0], config.scales[0])
        channels = joined("reduction_a", plan.reduction_a)
        residual("inception_resnet_b", plan.b, plan.depths[1], config.scales[1])
        channels = joined("reduction_b", plan.reduction_b)
        # In the released network the last unit adds its branches in full, and the next convolution reads the bare sum.
        residual("inception_resnet_c", plan.c, plan.depths[2], config.scales[2], bare_end=plan.released)
        if plan.released:
            self.stages.add_module("conv_7b", unit(channels, 1536, 1))
            channels = 1536
        self.head = pooled_linear(channels, classes, dropout=config.dropout)

    @classmethod
    def last_side(cls, config: InceptionResNetConfig, side: int) -> int:
        """8 for 299 pixels, by the same steps as Inception v3."""
        return last_grid(side)

    @classmethod
    def namings(cls, config: InceptionResNetConfig) -> tuple[Naming, ...]:
        """timm's, of the released network; nobody publishes weights of the networks as drawn."""
        if not PLANS[config.plan].released:
            return ()
        fed = replace(INCEPTION, crop_fraction=0.8975, interpolation="bicubic")
        return (Naming(publisher="timm", patterns=_published_patterns(), input=fed),)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """The paper says nothing; variance 2 / fan-in as in the authors' code."""
        he(self, generator)


class ResidualUnit(nn.Module):
    """activation(x + scale * linear(branches(x))), [B, C, H, W] to the same shape. Figures 10, 11, 13, 16, 17, 19, 20.

    Scaling the branches keeps networks with over 1000 maps from dying early in training (sec. 3.3).
    """

    def __init__(self, channels: int, fork: Fork, unit: MakeUnit, *, scale: float, activation: str) -> None:
        super().__init__()
        self.scale = scale
        self.branches = Branches(channels, fork, unit)
        self.linear = nn.Conv2d(self.branches.channels, channels, 1)  # makes up for what the branches narrowed
        self.activation = make_activation(activation)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape."""
        return self.activation(inputs + self.scale * self.linear(self.branches(inputs)))


def _published_patterns() -> tuple[tuple[str, str], ...]:
    plan = PLANS["v2_released"]
    stem = {"1a": "1a_3x3", "2a": "2a_3x3", "2b": "2b_3x3", "3b": "3b_1x1", "4a": "4a_3x3"}
    patterns = [(rf"^conv2d_{theirs}\.", f"stem.Conv2d_{ours}.") for theirs, ours in stem.items()]
    modules = [
        (r"mixed_5b", "stages.mixed_5b", MIXED_5B),
        (r"repeat\.(\d+)", r"stages.inception_resnet_a.\1.branches", plan.a),
        (r"mixed_6a", "stages.reduction_a", plan.reduction_a),
        (r"repeat_1\.(\d+)", r"stages.inception_resnet_b.\1.branches", plan.b),
        (r"mixed_7a", "stages.reduction_b", plan.reduction_b),
        (r"repeat_2\.(\d+)", r"stages.inception_resnet_c.\1.branches", plan.c),
        (r"block8", f"stages.inception_resnet_c.{plan.depths[2] - 1}.branches", plan.c),
    ]
    for theirs, ours, fork in modules:
        for numbered, path in zip(numbered_paths(fork), unit_paths(fork), strict=True):
            patterns.append((rf"^{theirs}\.{re.escape(numbered)}\.", f"{ours}.{path}."))
        patterns.append((rf"^{theirs}\.conv2d\.", f"{ours.removesuffix('.branches')}.linear."))
    return (
        *patterns,
        (r"^conv2d_7b\.", "stages.conv_7b."),
        (r"^classif\.", "head.linear."),
        (r"\.bn\.", ".norm."),
    )
