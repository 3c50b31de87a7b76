"""LeNet-5: local features, subsampled, combined, classified.  LeCun, Bottou, Bengio & Haffner 1998, Proc. IEEE 86(11)

1x32x32 ─ C1 6@28 ─ S2 6@14 ─ C3 16@10 ─ S4 16@5 ─ C5 120@1 ─ F6 84 ─ output 10
          conv 5x5   pool /2   conv 5x5   pool /2   conv 5x5   linear  radial basis units, or softmax
Two readings: `lenet5_1998` as published (C3 reads maps by table I, subsampling is trained, RBF output against fixed
bitmaps; 60,000 parameters) and `lenet5_dense`, what people mean by LeNet-5 today (C3 reads every map, ReLU, max
pooling, softmax; 61,706). Departs from the paper: the bitmaps are drawn here, the paper shows its own only as a picture
(fig. 3); C5's kernel follows the input size, so that its maps stay 1x1."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from striate.layers.activations import ACTIVATIONS, make_activation, widening
from striate.layers.initialise import lecun_start
from striate.layers.normalization import NORMALIZATIONS, make_normalization
from striate.layers.pooling import POOLINGS, make_pooling, pooled_size
from striate.layers.regularization import make_dropout
from striate.layers.sparse import SparseConv2d
from striate.models.base import ConvNet, require
from striate.models.digit_bitmaps import class_codes

KERNEL = 5

# Table I: the maps of S2 that each map of C3 reads. Three in a row, four in a row, four in two pairs, all six.
C3_TABLE: tuple[tuple[int, ...], ...] = (
    (0, 1, 2),
    (1, 2, 3),
    (2, 3, 4),
    (3, 4, 5),
    (4, 5, 0),
    (5, 0, 1),
    (0, 1, 2, 3),
    (1, 2, 3, 4),
    (2, 3, 4, 5),
    (3, 4, 5, 0),
    (4, 5, 0, 1),
    (5, 0, 1, 2),
    (0, 1, 3, 4),
    (1, 2, 4, 5),
    (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class LeNetConfig:
    """What tells the readings of LeNet-5 apart, and what may be varied."""

    connections: str = "dense"  # of C3: dense, or sparse by table I
    output: str = "softmax"  # or rbf
    activation: str = "relu"
    pooling: str = "max"
    normalization: str = "none"  # after C1, C3 and C5, before the activation
    dropout: float = 0.0  # before the output

    def __post_init__(self) -> None:
        require("LeNet-5", "connections", self.connections, ("dense", "sparse"))
        require("LeNet-5", "output", self.output, ("softmax", "rbf"))
        require("LeNet-5", "activation", self.activation, ACTIVATIONS)
        require("LeNet-5", "pooling", self.pooling, POOLINGS)
        require("LeNet-5", "normalization", self.normalization, NORMALIZATIONS)


class LeNet5(ConvNet):
    """LeNet-5 with the choices of its config, [B, in_channels, H, W] -> logits [B, classes]."""

    config_type = LeNetConfig

    def __init__(
        self,
        config: LeNetConfig,
        *,
        in_channels: int = 1,
        classes: int = 10,
        input_size: tuple[int, int] = (32, 32),
        name: str = "lenet5",
    ) -> None:
        super().__init__(name, config, in_channels, classes, input_size)
        wide = widening(config.activation)
        c5_kernel = (self.last_side(config, input_size[0]), self.last_side(config, input_size[1]))
        c3 = (
            SparseConv2d(6, C3_TABLE * wide, KERNEL)
            if config.connections == "sparse"
            else nn.Conv2d(6, 16 * wide, KERNEL)
        )
        self.stem = _named(c1=_unit(nn.Conv2d(in_channels, 6 * wide, KERNEL), 6, config))
        self.stages = _named(
            s2=_subsampling(6, config),
            c3=_unit(c3, 16, config),
            s4=_subsampling(16, config),
            c5=_unit(nn.Conv2d(16, 120 * wide, c5_kernel), 120, config),
        )
        layers = OrderedDict[str, nn.Module](
            flatten=nn.Flatten(),
            f6=nn.Linear(120, 84 * wide),
            activation=make_activation(config.activation),
            dropout=make_dropout(config.dropout),
        )
        if config.output == "rbf":
            self.head = RadialBasisHead(layers, classes)
        else:
            self.head = nn.Sequential(layers | {"output": nn.Linear(84, classes)})

    @classmethod
    def last_side(cls, config: LeNetConfig, side: int) -> int:
        """Side of S4's maps, which C5 reads whole: 5 for 32 pixels."""
        s2 = pooled_size(config.pooling, side - KERNEL + 1)
        return pooled_size(config.pooling, s2 - KERNEL + 1)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """The paper's ±2.4/F_in (appendix A) with its scaled tanh; else He for the ReLU family, Xavier for the rest."""
        lecun_start(self, self.architecture.config["activation"], generator)


class RadialBasisHead(nn.Sequential):
    """F6 and Euclidean radial basis units; the logits are minus the squared distances. Sec. II.B, eq. 7."""

    def __init__(self, layers: OrderedDict[str, nn.Module], classes: int) -> None:
        super().__init__(layers | {"output": RadialBasis(classes)})

    def loss(
        self,
        logits: Tensor,
        targets: Tensor,
        *,
        weight: Tensor | None = None,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
    ) -> Tensor:
        """The paper's MAP criterion, eq. 9: y_D + log(e^-j + sum_i e^-y_i), with y = -logits [B, classes], j = 0.1.

        The constant is one more class, at distance j from everything: classes that are already far are pushed no
        further. `weight`, `label_smoothing` and `reduction` mean what they do for cross-entropy.
        """
        logits = logits.float()
        rubbish = logits.new_full((len(logits), 1), -RUBBISH_DISTANCE)
        losses = torch.logsumexp(torch.cat([logits, rubbish], dim=1), dim=1, keepdim=True) - logits
        scale = torch.ones_like(losses[0]) if weight is None else weight
        own = (losses * scale).gather(1, targets[:, None])[:, 0]
        smooth = (losses * scale).mean(1)
        each = (1 - label_smoothing) * own + label_smoothing * smooth
        if reduction == "mean":
            return each.sum() / scale[targets].sum()
        return each.sum() if reduction == "sum" else each


RUBBISH_DISTANCE = 0.1  # j of eq. 9, "a positive constant"; the value is the common reading


class RadialBasis(nn.Module):
    """Minus the squared Euclidean distance to each class's fixed code, [B, 84] -> [B, classes]. Eq. 7."""

    codes: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.tensor(class_codes(classes), dtype=torch.float32))  # [classes, 84], ±1

    def forward(self, units: Tensor) -> Tensor:
        """[B, 84] -> [B, classes]."""
        # Distances of several hundred with differences that matter: never in half precision.
        return -(units.to(self.codes.dtype)[:, None, :] - self.codes).square().sum(-1)

    def multiply_accumulates(self, output: torch.Size) -> int:
        """One for each component of each code, for one image."""
        return self.codes.numel()


def _named(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


def _unit(convolution: nn.Module, maps: int, config: LeNetConfig) -> nn.Sequential:
    """Convolution and squashing function, with normalisation between them where the config says so."""
    norm = make_normalization(config.normalization, maps * widening(config.activation))
    return _named(conv=convolution, norm=norm, activation=make_activation(config.activation))


def _subsampling(maps: int, config: LeNetConfig) -> nn.Sequential:
    """S2 or S4. Trainable subsampling has a squashing function of its own, as published."""
    pool = make_pooling(config.pooling, maps)
    if config.pooling != "trainable" or config.activation == "maxout":  # maxout would halve the maps
        return _named(pool=pool)
    return _named(pool=pool, activation=make_activation(config.activation))
