"""Inception v4 – Inception made uniform, without residuals.  Szegedy, Ioffe, Vanhoucke & Alemi 2016, arXiv:1602.07261

image ─ stem ─ 4 x A ─ reduction A ─ 7 x B ─ reduction B ─ 3 x C ─ mean ─ dropout ─ linear
299     384@35  384    1024@17       1024    1536@8        1536
Figure 9 is the plan, figures 3 to 8 are the modules; what joins ResNet and Inception is Inception-ResNet, in the same
paper. The order of 1xn and nx1 within a branch, and the stride of the stem's last convolution, are those of the
authors' code where a figure leaves them unclear: weights depend on it, counts do not.
Checked against timm's inception_v4 (tests/parity/test_inception.py)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial

from torch import Generator, nn

from striate.layers.activations import PLAIN_ACTIVATIONS
from striate.layers.branches import Branches, Fork, Row, Step, numbered_paths, unit_paths
from striate.layers.heads import pooled_linear
from striate.layers.initialise import he
from striate.layers.normalization import NORMALIZATIONS
from striate.layers.units import ConvUnit
from striate.models.base import ConvNet, require
from striate.models.inception_v3 import EPSILON, last_grid
from striate.models.naming import Naming
from striate.models.registry.inputs import INCEPTION

# Figure 3, whose grids are 149, 147, 147, 73, 71 and 35 for 299 pixels.
STEM: dict[str, Step] = {
    "conv_1a": "3x3/2 V 32",
    "conv_2a": "3x3 V 32",
    "conv_2b": "3x3 64",
    "mixed_3a": ("max 3x3/2 V", "3x3/2 V 96"),
    "mixed_4a": (("1x1 64", "3x3 V 96"), ("1x1 64", "1x7 64", "7x1 64", "3x3 V 96")),
    "mixed_5a": ("3x3/2 V 192", "max 3x3/2 V"),
}
INCEPTION_A: Fork = (  # figure 4, 35x35
    "1x1 96",
    ("1x1 64", "3x3 96"),
    ("1x1 64", "3x3 96", "3x3 96"),
    ("average 3x3", "1x1 96"),
)
INCEPTION_B: Fork = (  # figure 5, 17x17
    "1x1 384",
    ("1x1 192", "1x7 224", "7x1 256"),
    ("1x1 192", "7x1 192", "1x7 224", "7x1 224", "1x7 256"),
    ("average 3x3", "1x1 128"),
)
INCEPTION_C: Fork = (  # figure 6, 8x8
    "1x1 256",
    ("1x1 384", ("1x3 256", "3x1 256")),
    ("1x1 384", "3x1 448", "1x3 512", ("1x3 256", "3x1 256")),
    ("average 3x3", "1x1 256"),
)


def reduction_a(k: int, l: int, m: int, n: int) -> Fork:  # noqa: E741 - the letters of figure 7 and table 1
    """35x35 to 17x17, figure 7; also of both Inception-ResNets."""
    return (f"3x3/2 V {n}", (f"1x1 {k}", f"3x3 {l}", f"3x3/2 V {m}"), "max 3x3/2 V")


REDUCTION_B: Fork = (  # figure 8, 17x17 to 8x8
    ("1x1 192", "3x3/2 V 192"),
    ("1x1 256", "1x7 256", "7x1 320", "3x3/2 V 320"),
    "max 3x3/2 V",
)
# Figure 9. Average pooling does not count the padding: it is left out in TensorFlow, and in timm's translation.
PLAN: dict[str, tuple[int, Fork]] = {  # times, module
    "inception_a": (4, INCEPTION_A),
    "reduction_a": (1, reduction_a(192, 224, 256, 384)),
    "inception_b": (7, INCEPTION_B),
    "reduction_b": (1, REDUCTION_B),
    "inception_c": (3, INCEPTION_C),
}

_NAMES_C = ("0", "1_0", "1_1a", "1_1b", "2_0", "2_1", "2_2", "2_3a", "2_3b", "3.1")  # timm's for figure 6


def _published_patterns() -> tuple[tuple[str, str], ...]:
    """timm numbers the parts of the stem and all modules through: features.0 to features.21."""
    patterns = [
        (r"^features\.0\.", "stem.conv_1a."),
        (r"^features\.1\.", "stem.conv_2a."),
        (r"^features\.2\.", "stem.conv_2b."),
        (r"^features\.3\.conv\.", "stem.mixed_3a.branch1.a_3x3."),
        (r"^features\.5\.conv\.", "stem.mixed_5a.branch0.a_3x3."),
    ]
    fork = STEM["mixed_4a"]
    assert not isinstance(fork, str)
    modules = [("stem.mixed_4a", 4, fork)]
    number = 6
    for stage, (times, module) in PLAN.items():
        for index in range(times):
            path = f"stages.{stage}" + (f".{index}" if times > 1 else "")
            modules.append((path, number, module))
            number += 1
    for path, number, module in modules:
        names = [f"branch{name}" for name in _NAMES_C] if module is INCEPTION_C else numbered_paths(module)
        for theirs, ours in zip(names, unit_paths(module), strict=True):
            patterns.append((rf"^features\.{number}\.{re.escape(theirs)}\.", f"{path}.{ours}."))
    return (*patterns, (r"^last_linear\.", "head.linear."), (r"\.bn\.", ".norm."))


@dataclass(frozen=True, kw_only=True, slots=True)
class InceptionV4Config:
    """What may be varied."""

    activation: str = "relu"
    normalization: str = "batch"
    dropout: float = 0.2  # before the linear layer: "keep 0.8", figure 9

    def __post_init__(self) -> None:
        require("Inception v4", "activation", self.activation, PLAIN_ACTIVATIONS)
        require("Inception v4", "normalization", self.normalization, NORMALIZATIONS)


class InceptionV4(ConvNet):
    """Inception v4, [B, in_channels, H, W] -> logits [B, classes]."""

    config_type = InceptionV4Config

    def __init__(
        self,
        config: InceptionV4Config,
        *,
        in_channels: int = 3,
        classes: int = 1000,
        input_size: tuple[int, int] = (299, 299),
        name: str = "inception_v4",
    ) -> None:
        super().__init__(name, config, in_channels, classes, input_size)
        unit = partial(ConvUnit, normalization=config.normalization, epsilon=EPSILON, activation=config.activation)
        self.stem = Row(in_channels, STEM, unit)
        channels = self.stem.channels
        self.stages = nn.Sequential()
        for stage, (times, fork) in PLAN.items():
            modules = []
            for _ in range(times):
                modules.append(Branches(channels, fork, unit))
                channels = modules[-1].channels
            self.stages.add_module(stage, nn.Sequential(*modules) if times > 1 else modules[0])
        self.head = pooled_linear(channels, classes, dropout=config.dropout)

    @classmethod
    def last_side(cls, config: InceptionV4Config, side: int) -> int:
        """8 for 299 pixels, by the same steps as Inception v3."""
        return last_grid(side)

    @classmethod
    def namings(cls, config: InceptionV4Config) -> tuple[Naming, ...]:
        """timm's."""
        fed = replace(INCEPTION, interpolation="bicubic")
        return (Naming(publisher="timm", patterns=_published_patterns(), input=fed),)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """The paper says nothing; variance 2 / fan-in as in the authors' code."""
        he(self, generator)
