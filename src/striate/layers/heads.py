"""Classifier heads that several families share."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from striate.layers.activations import make_activation
from striate.layers.pooling import GlobalPool
from striate.layers.regularization import make_dropout


def pooled_linear(
    channels: int, classes: int, *, pool: Literal["average", "max"] = "average", dropout: float = 0.0
) -> nn.Sequential:
    """Global pooling and one linear layer, [B, channels, H, W] -> logits [B, classes], for any H and W."""
    return nn.Sequential(
        OrderedDict(pool=GlobalPool(pool), dropout=make_dropout(dropout), linear=nn.Linear(channels, classes))
    )


def fully_connected(
    channels: int,
    sides: tuple[int, int],
    classes: int,
    *,
    most: int,
    grid: int | None = None,
    units: int = 4096,
    activation: str = "relu",
    dropout: float = 0.5,
    dropout_at: Literal["outputs", "inputs"] = "outputs",
) -> nn.Sequential:
    """The classifier of the early networks for photos, fc6, fc7 and fc8: [B, channels, H, W] -> logits [B, classes].

    It reads a grid of at most `most` times `most` places, the papers' own, or as many as maps of `sides` (height and
    width) have. Larger maps are averaged down to the grid; maps that fit it are taken as they are. `grid` forces that
    many places a side whatever the maps, so that published weights fit at any input size. Dropout acts on the outputs
    of fc6 and fc7, or on their inputs.
    """
    rows, columns = (grid or min(side, most) for side in sides)
    before, after = (dropout, 0.0) if dropout_at == "inputs" else (0.0, dropout)
    layers = OrderedDict[str, nn.Module](grid=nn.AdaptiveAvgPool2d((rows, columns)), flatten=nn.Flatten())
    inputs = channels * rows * columns
    for number in (6, 7):
        if before:
            layers[f"drop{number}"] = make_dropout(before)
        layers[f"fc{number}"] = nn.Linear(inputs, units)
        layers[f"act{number}"] = make_activation(activation)
        if after:
            layers[f"drop{number}"] = make_dropout(after)
        inputs = units
    layers["fc8"] = nn.Linear(inputs, classes)
    return nn.Sequential(layers)


def classification_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """The usual loss of logits [B, classes]: cross-entropy against classes int64 [B], else binary cross-entropy.

    The latter is of several labels an image, float [B, classes] from 0 to 1: the mean over labels, and then images.
    `weight` [classes] is there how many times more a label counts where an image has it, and smoothing moves every
    target that part of the way to one half. `reduction` is mean, sum or none, over images.
    """
    if not targets.is_floating_point():
        return F.cross_entropy(logits, targets, weight=weight, label_smoothing=label_smoothing, reduction=reduction)
    wanted = targets * (1 - label_smoothing) + label_smoothing / 2
    each = F.binary_cross_entropy_with_logits(logits, wanted, pos_weight=weight, reduction="none").mean(1)
    if reduction == "mean":
        return each.mean()
    return each.sum() if reduction == "sum" else each


class SquaredErrorHead(nn.Sequential):
    """Layers that end in squashed outputs, [B, C, H, W] -> [B, classes], and the squared error that trains them.

    LeCun et al. 1989, Neural Computation 1(4), sec. 4: the targets are +1 for the class and -1 for the others, within
    the quasi-linear range of 1.7159 tanh(2x/3). The outputs rank the classes as logits do; as logits of a softmax they
    are timid, the largest probability of ten being 0.77.
    """

    def loss(
        self,
        logits: Tensor,
        targets: Tensor,
        *,
        weight: Tensor | None = None,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
    ) -> Tensor:
        """The mean over the outputs of (output - target)²; the settings mean what they do for cross-entropy."""
        classes = logits.shape[1]
        shares = (1 - label_smoothing) * F.one_hot(targets, classes) + label_smoothing / classes
        each = (logits.float() - (2 * shares - 1)).square().mean(1)
        scale = each.new_ones(len(each)) if weight is None else weight[targets]
        if reduction == "mean":
            return (each * scale).sum() / scale.sum()
        return (each * scale).sum() if reduction == "sum" else each * scale
