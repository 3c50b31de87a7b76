"""Inception v2 and v3 – large kernels factorised.  Szegedy, Vanhoucke, Ioffe, Shlens & Wojna 2015, arXiv:1512.00567

image ─ stem ─ Mixed_5b ─ 5c ─ 5d ─ Mixed_6a ─ 6b ─ 6c ─ 6d ─ 6e ─ Mixed_7a ─ 7b ─ 7c ─ mean ─ linear
299     192@35   256      288  288   768@17   768  768  768  768   1280@8   2048 2048
                                                              └ auxiliary classifier, in training
`inception_v3` is the network that the authors released and that everybody means; `inception_v2_rethinking` is table 1,
whose stem has no 1x1 and no second pooling, and whose five modules of figure 6 are 6b to 6f. ("Inception V2" of
TensorFlow's collections is neither: that is BN-Inception.) Stages are called as in the authors' code.
Departs from the paper: v3's stem and its 5x5 convolutions are those of the released network (figure 5 has 3x3 alone),
and the auxiliary classifier ends in 768 maps as there (figure 8 draws 1024); on maps under 17x17 it averages
to 5x5 adaptively. What table 1 leaves open is chosen where `V2` is written.
Checked against torchvision.models.inception_v3 and timm's (tests/parity/test_inception.py)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from striate.layers.activations import PLAIN_ACTIVATIONS
from striate.layers.branches import Branches, Fork, MakeUnit, Row, Step, unit_paths
from striate.layers.heads import pooled_linear
from striate.layers.initialise import he
from striate.layers.normalization import NORMALIZATIONS
from striate.layers.pooling import GlobalPool
from striate.layers.units import ConvUnit
from striate.models.base import ConvNet, require
from striate.models.naming import Naming

EPSILON = 1e-3  # of batch normalisation, in the authors' code


def figure5(second: str, pool: int) -> Fork:
    """The module on the 35x35 grid: the 5x5 of the first Inception as two 3x3. `pool` maps follow the pooling."""
    return (
        "1x1 64",
        ("1x1 48", second),  # 3x3 in the figure, 5x5 in the released network
        ("1x1 64", "3x3 96", "3x3 96"),
        ("average 3x3", f"1x1 {pool}"),
    )


def figure6(maps: int) -> Fork:
    """The module on the 17x17 grid: 7x7 as 1x7 and 7x1 (n = 7), which cost 2n instead of n² weights."""
    return (
        "1x1 192",
        (f"1x1 {maps}", f"1x7 {maps}", "7x1 192"),
        (f"1x1 {maps}", f"7x1 {maps}", f"1x7 {maps}", f"7x1 {maps}", "1x7 192"),
        ("average 3x3", "1x1 192"),
    )


# The module on the 8x8 grid: 3x3 as 1x3 beside 3x1, to widen the representation before the classifier.
FIGURE_7: Fork = (
    "1x1 320",
    ("1x1 384", ("1x3 384", "3x1 384")),
    ("1x1 448", "3x3 384", ("1x3 384", "3x1 384")),
    ("average 3x3", "1x1 192"),
)

STEM_V3: dict[str, Step] = {
    "Conv2d_1a_3x3": "3x3/2 V 32",
    "Conv2d_2a_3x3": "3x3 V 32",
    "Conv2d_2b_3x3": "3x3 64",
    "MaxPool_3a_3x3": "max 3x3/2 V",
    "Conv2d_3b_1x1": "1x1 80",
    "Conv2d_4a_3x3": "3x3 V 192",
    "MaxPool_5a_3x3": "max 3x3/2 V",
}
V3: dict[str, Fork] = {
    "Mixed_5b": figure5("5x5 64", 32),
    "Mixed_5c": figure5("5x5 64", 64),
    "Mixed_5d": figure5("5x5 64", 64),
    "Mixed_6a": ("3x3/2 V 384", ("1x1 64", "3x3 96", "3x3/2 V 96"), "max 3x3/2 V"),
    "Mixed_6b": figure6(128),
    "Mixed_6c": figure6(160),
    "Mixed_6d": figure6(160),
    "Mixed_6e": figure6(192),
    "Mixed_7a": (("1x1 192", "3x3/2 V 320"), ("1x1 192", "1x7 192", "7x1 192", "3x3/2 V 192"), "max 3x3/2 V"),
    "Mixed_7b": FIGURE_7,
    "Mixed_7c": FIGURE_7,
}

STEM_V2: dict[str, Step] = {  # table 1, whose rows give the size of what they read
    "Conv2d_1a_3x3": "3x3/2 V 32",
    "Conv2d_2a_3x3": "3x3 V 32",
    "Conv2d_2b_3x3": "3x3 64",  # "conv padded"
    "MaxPool_3a_3x3": "max 3x3/2 V",
    "Conv2d_3b_3x3": "3x3 V 80",
    "Conv2d_4a_3x3": "3x3/2 V 192",
    "Conv2d_4b_3x3": "3x3 288",  # not called padded, but 35x35 stay 35x35
}
# Table 1 gives the maps between modules and no width inside. Here: those of v3; the fifth module of figure 6, which v3
# lacks, repeats the middle one. Where the grid shrinks the table has no row of its own; the modules of figure 10 stand
# between, apart from the three, five and two that it lists: with each 1xn and nx1 as one layer the longest path then
# has the 42 layers of the text. Figure 10 has a 1x1 before each 3x3, also where v3 has none: 192 maps, as in 7a.
V2: dict[str, Fork] = {
    "Mixed_5b": figure5("3x3 64", 64),
    "Mixed_5c": figure5("3x3 64", 64),
    "Mixed_5d": figure5("3x3 64", 64),
    "Mixed_6a": (("1x1 192", "3x3/2 V 384"), ("1x1 64", "3x3 96", "3x3/2 V 96"), "max 3x3/2 V"),
    "Mixed_6b": figure6(128),
    "Mixed_6c": figure6(160),
    "Mixed_6d": figure6(160),
    "Mixed_6e": figure6(160),
    "Mixed_6f": figure6(192),
    "Mixed_7a": (("1x1 192", "3x3/2 V 320"), ("1x1 192", "3x3 192", "3x3/2 V 192"), "max 3x3/2 V"),
    "Mixed_7b": FIGURE_7,
    "Mixed_7c": FIGURE_7,
}

PLANS: dict[str, tuple[dict[str, Step], dict[str, Fork]]] = {"v3": (STEM_V3, V3), "v2": (STEM_V2, V2)}
LAST_17 = {"v3": "Mixed_6e", "v2": "Mixed_6f"}  # figure 8: the auxiliary classifier reads the last 17x17 maps

# torchvision's and timm's names of the convolutions of each kind of module, in the order of the tables above.
_NAMES_5 = ("1x1", "5x5_1", "5x5_2", "3x3dbl_1", "3x3dbl_2", "3x3dbl_3", "_pool")
_NAMES_6 = (
    *("1x1", "7x7_1", "7x7_2", "7x7_3"),
    *("7x7dbl_1", "7x7dbl_2", "7x7dbl_3", "7x7dbl_4", "7x7dbl_5", "_pool"),
)
_NAMES_7 = ("1x1", "3x3_1", "3x3_2a", "3x3_2b", "3x3dbl_1", "3x3dbl_2", "3x3dbl_3a", "3x3dbl_3b", "_pool")
_PUBLISHED_NAMES = {
    **dict.fromkeys(("Mixed_5b", "Mixed_5c", "Mixed_5d"), _NAMES_5),
    "Mixed_6a": ("3x3", "3x3dbl_1", "3x3dbl_2", "3x3dbl_3"),
    **dict.fromkeys(("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"), _NAMES_6),
    "Mixed_7a": ("3x3_1", "3x3_2", "7x7x3_1", "7x7x3_2", "7x7x3_3", "7x7x3_4"),
    **dict.fromkeys(("Mixed_7b", "Mixed_7c"), _NAMES_7),
}


def _published_patterns() -> tuple[tuple[str, str], ...]:
    modules = [
        (rf"^{stage}\.branch{theirs}\.", f"stages.{stage}.{ours}.")
        for stage, names in _PUBLISHED_NAMES.items()
        for theirs, ours in zip(names, unit_paths(V3[stage]), strict=True)
    ]
    return (
        (r"^(Conv2d_\d\w+)\.", r"stem.\1."),
        *modules,
        (r"^AuxLogits\.(conv\d)\.", r"auxiliary.Mixed_6e.\1."),
        (r"^AuxLogits\.fc\.", "auxiliary.Mixed_6e.linear."),
        (r"^fc\.", "head.linear."),
        (r"\.bn\.", ".norm."),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class InceptionV3Config:
    """Which of the paper's networks, and what may be varied."""

    plan: str = "v3"  # or v2, table 1
    auxiliary: bool = True
    # The mean of a 3x3 window at the border is over the pixels that are there, as in TensorFlow, where the paper's
    # weights come from. torchvision and timm count the padding as zeros, and their weights are used to it.
    pool_counts_padding: bool = False
    activation: str = "relu"
    normalization: str = "batch"
    dropout: float = 0.2  # before the linear layer; the paper names none, the authors' code keeps 0.8

    def __post_init__(self) -> None:
        require("Inception v3", "plan", self.plan, PLANS)
        require("Inception v3", "activation", self.activation, PLAIN_ACTIVATIONS)
        require("Inception v3", "normalization", self.normalization, NORMALIZATIONS)


class InceptionV3(ConvNet):
    """Inception v3 or its predecessor by table 1, [B, in_channels, H, W] -> logits [B, classes]."""

    config_type = InceptionV3Config
    # The paper gives no weight. The authors' training code takes 0.4, and so does torchvision's recipe.
    auxiliary_weight: ClassVar[float] = 0.4

    def __init__(
        self,
        config: InceptionV3Config,
        *,
        in_channels: int = 3,
        classes: int = 1000,
        input_size: tuple[int, int] = (299, 299),
        name: str = "inception_v3",
    ) -> None:
        super().__init__(name, config, in_channels, classes, input_size)
        unit = partial(ConvUnit, normalization=config.normalization, epsilon=EPSILON, activation=config.activation)
        stem, modules = PLANS[config.plan]
        self.stem = Row(in_channels, stem, unit)
        self.stages = nn.Sequential()
        channels = self.stem.channels
        for stage, fork in modules.items():
            module = Branches(channels, fork, unit, pool_counts_padding=config.pool_counts_padding)
            self.stages.add_module(stage, module)
            channels = module.channels
            if config.auxiliary and stage == LAST_17[config.plan]:
                self.auxiliary[stage] = auxiliary_classifier(channels, classes, unit)
        self.head = pooled_linear(channels, classes, dropout=config.dropout)

    @classmethod
    def last_side(cls, config: InceptionV3Config, side: int) -> int:
        """8 for 299 pixels."""
        return last_grid(side)

    @classmethod
    def namings(cls, config: InceptionV3Config) -> tuple[Naming, ...]:
        """torchvision's names, which are timm's too; nobody publishes weights of table 1."""
        if config.plan != "v3":
            return ()
        variations: Mapping[str, bool] = {"pool_counts_padding": True}
        return (Naming(publisher="torchvision", patterns=_published_patterns(), variations=variations),)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """The paper says nothing; as the authors' code: variance 2 / fan-in, and a faint auxiliary classifier."""
        he(self, generator)
        with torch.no_grad():
            for side in self.auxiliary.values():
                side.conv1.conv.weight.normal_(0.0, 0.01, generator=generator)  # type: ignore[union-attr]
                side.linear.weight.normal_(0.0, 0.001, generator=generator)  # type: ignore[union-attr]


def last_grid(side: int) -> int:
    """Five halvings and two convolutions, none of them padded: 8 for 299 pixels. So in v2, v3, v4 and their like."""
    side = (side - 3) // 2 + 1 - 2  # to 149, 147
    side = (side - 3) // 2 + 1 - 2  # to 73, 71
    for _ in range(3):  # to 35, 17, 8
        side = (side - 3) // 2 + 1
    return side


def auxiliary_classifier(channels: int, classes: int, unit: MakeUnit) -> nn.Sequential:
    """Figure 8, batch-normalised, [B, channels, H, W] -> logits [B, classes]; 17x17 -> 5x5 -> 1x1."""
    return nn.Sequential(
        OrderedDict(
            pool=SidePool(),
            conv0=unit(channels, 128, 1),
            conv1=unit(128, 768, 5, padding=0),
            mean=GlobalPool(),  # of one pixel at the paper's size
            linear=nn.Linear(768, classes),
        )
    )


class SidePool(nn.Module):
    """Average over 5x5 with stride 3, [B, C, 17, 17] -> [B, C, 5, 5]; smaller maps are averaged to 5x5 adaptively.

    The 5x5 convolution that follows needs five pixels a side, and the paper's network always has them.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, (H - 5) // 3 + 1, (W - 5) // 3 + 1], at least 5x5."""
        if min(maps.shape[-2:]) < 17:
            return F.adaptive_avg_pool2d(maps, 5)
        return F.avg_pool2d(maps, 5, stride=3)
