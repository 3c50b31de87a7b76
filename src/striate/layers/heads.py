"""Classifier heads that several families share."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

from torch import nn

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
