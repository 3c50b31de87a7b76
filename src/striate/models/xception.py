"""Xception – Inception taken to its limit: depthwise separable convolutions.  Chollet 2016, arXiv:1610.02357

      entry flow                        middle flow        exit flow
image ─ block1 ─ block2 ─ 3 ─ 4 ───────── 5 … 12 ────────── block13 ─ block14 ─ mean ─ dropout ─ linear
299     64@147   128@74   256@37 728@19   728, eight times   1024@10   2048@10
        2 convs  2 separable convs each   3 each             2         2
Figure 5. An Inception module maps across channels (1x1), then each group of maps over space (3x3); with as many groups
as maps this is a separable convolution in the other order. Unlike in Inception no non-linearity stands between its two
halves (sec. 4.7 finds that it harms). 36 convolutional layers in 14 modules, all but the first and the last with a
linear residual connection: a 1x1 convolution where the shape changes, else identity. Modules are called as in the
author's Keras code.
Departs from the paper: pooling pads on both sides, where TensorFlow pads maps of even side (74, of 299 pixels) at their
end only.
Checked against timm's legacy_xception (tests/parity/test_inception.py)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import partial

from torch import Generator, Tensor, nn

from striate.layers.activations import PLAIN_ACTIVATIONS, make_activation
from striate.layers.heads import pooled_linear
from striate.layers.initialise import xavier
from striate.layers.normalization import NORMALIZATIONS, make_normalization, needs_bias
from striate.models.base import ConvNet, require
from striate.models.naming import Naming
from striate.models.registry.inputs import INCEPTION

# Figure 5: the maps after each separable convolution of a module, and its stride.
MODULES: tuple[tuple[tuple[int, ...], int], ...] = (
    ((128, 128), 2),
    ((256, 256), 2),
    ((728, 728), 2),
    *(((728, 728, 728), 1),) * 8,  # the middle flow
    ((728, 1024), 2),
)
LAST = (1536, 2048)  # of block14

PUBLISHED_NAMES = (  # timm: its block1 is our block2, and the two separable convolutions at the end are in no block
    (r"^conv([12])\.", r"stem.conv\1."),
    (r"^bn([12])\.", r"stem.norm\1."),
    *((rf"^block{index}\.", f"stages.block{index + 1}.") for index in range(1, len(MODULES) + 1)),
    (r"\.skip\.", ".shortcut.conv."),
    (r"\.skipbn\.", ".shortcut.norm."),
    # Numbered as activation, convolution, normalisation; the first module starts without the activation.
    *((rf"^(stages\.block2)\.rep\.{3 * k}\.", rf"\1.branch.sepconv{k + 1}.") for k in range(2)),
    *((rf"^(stages\.block2)\.rep\.{3 * k + 1}\.", rf"\1.branch.norm{k + 1}.") for k in range(2)),
    *((rf"\.rep\.{3 * k + 1}\.", f".branch.sepconv{k + 1}.") for k in range(3)),
    *((rf"\.rep\.{3 * k + 2}\.", f".branch.norm{k + 1}.") for k in range(3)),
    (r"^conv3\.", "stages.block14.sepconv1."),
    (r"^conv4\.", "stages.block14.sepconv2."),
    (r"^bn3\.", "stages.block14.norm1."),
    (r"^bn4\.", "stages.block14.norm2."),
    (r"(sepconv\d)\.conv1\.", r"\1.depthwise."),
    (r"^fc\.", "head.linear."),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class XceptionConfig:
    """What may be varied."""

    epsilon: float = 1e-3  # of normalisation, as in the author's code; timm's translation of the weights runs with 1e-5
    activation: str = "relu"
    normalization: str = "batch"
    dropout: float = 0.5  # before the linear layer, sec. 4.3

    def __post_init__(self) -> None:
        require("Xception", "activation", self.activation, PLAIN_ACTIVATIONS)
        require("Xception", "normalization", self.normalization, NORMALIZATIONS)


class Xception(ConvNet):
    """Xception, [B, in_channels, H, W] -> logits [B, classes]."""

    config_type = XceptionConfig

    def __init__(
        self,
        config: XceptionConfig,
        *,
        in_channels: int = 3,
        classes: int = 1000,
        input_size: tuple[int, int] = (299, 299),
        name: str = "xception",
    ) -> None:
        super().__init__(name, config, in_channels, classes, input_size)
        norm, bias = config.normalization, needs_bias(config.normalization)
        make_norm = partial(make_normalization, norm, epsilon=config.epsilon)
        self.stem = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(in_channels, 32, 3, stride=2, bias=bias),
                norm1=make_norm(32),
                act1=make_activation(config.activation),
                conv2=nn.Conv2d(32, 64, 3, bias=bias),
                norm2=make_norm(64),
                act2=make_activation(config.activation),
            )
        )
        self.stages = nn.Sequential()
        channels = 64
        for number, (widths, stride) in enumerate(MODULES, start=2):
            module = XceptionModule(channels, widths, stride, config, starts_active=number == 2)
            self.stages.add_module(f"block{number}", module)
            channels = widths[-1]
        self.stages.add_module("block14", separable_row(channels, LAST, config, active="after"))
        self.head = pooled_linear(LAST[-1], classes, dropout=config.dropout)

    @classmethod
    def last_side(cls, config: XceptionConfig, side: int) -> int:
        """Two unpadded convolutions, the first halving, then four halvings that round up: 10 for 299 pixels."""
        side = (side - 3) // 2 + 1 - 2
        return -(-side // 16)

    @classmethod
    def namings(cls, config: XceptionConfig) -> tuple[Naming, ...]:
        """See `PUBLISHED_NAMES`."""
        fed = replace(INCEPTION, crop_fraction=0.8975, interpolation="bicubic")
        return (Naming(publisher="timm", patterns=PUBLISHED_NAMES, input=fed, variations={"epsilon": 1e-5}),)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """The paper says nothing; Xavier's uniform, the default of the library that it was written in."""
        xavier(self, generator)


class SeparableConv2d(nn.Module):
    """3x3 over each map by itself, then 1x1 across maps, nothing between; [B, C, H, W] -> [B, C', H, W].

    9 C + C C' weights where a full convolution has 9 C C'. Only the second half has a bias, if any.
    """

    def __init__(self, in_channels: int, channels: int, *, bias: bool) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
        self.pointwise = nn.Conv2d(in_channels, channels, 1, bias=bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H, W]."""
        return self.pointwise(self.depthwise(inputs))


def separable_row(
    in_channels: int, widths: tuple[int, ...], config: XceptionConfig, *, active: str, skip_first: bool = False
) -> nn.Sequential:
    """Separable convolutions with normalisation, each with its activation `active` = "before" or "after" them."""
    row = nn.Sequential()
    for index, width in enumerate(widths, start=1):
        activation = make_activation(config.activation)
        if active == "before" and not (skip_first and index == 1):
            row.add_module(f"act{index}", activation)
        bias = needs_bias(config.normalization)
        row.add_module(f"sepconv{index}", SeparableConv2d(in_channels, width, bias=bias))
        row.add_module(f"norm{index}", make_normalization(config.normalization, width, epsilon=config.epsilon))
        if active == "after":
            row.add_module(f"act{index}", activation)
        in_channels = width
    return row


class XceptionModule(nn.Module):
    """branch(x) + shortcut(x), without activation after the sum; [B, C, H, W] -> [B, C', ceil(H/s), ceil(W/s)].

    The branch is activation, separable convolution and normalisation, two or three times, and at stride 2 max pooling.
    """

    def __init__(
        self, in_channels: int, widths: tuple[int, ...], stride: int, config: XceptionConfig, *, starts_active: bool
    ) -> None:
        super().__init__()
        # block2 reads what the stem has just activated: no second activation, and the shortcut gets the same maps.
        self.branch = separable_row(in_channels, widths, config, active="before", skip_first=starts_active)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1:
            self.branch.add_module("pool", nn.MaxPool2d(3, stride, padding=1))
            self.shortcut = nn.Sequential(
                OrderedDict(
                    conv=nn.Conv2d(in_channels, widths[-1], 1, stride, bias=needs_bias(config.normalization)),
                    norm=make_normalization(config.normalization, widths[-1], epsilon=config.epsilon),
                )
            )

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', ceil(H/s), ceil(W/s)]."""
        return self.branch(inputs) + self.shortcut(inputs)
