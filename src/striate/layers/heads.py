"""Classifier heads that several families share."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

from torch import nn

from striate.layers.pooling import GlobalPool
from striate.layers.regularization import make_dropout


def pooled_linear(
    channels: int, classes: int, *, pool: Literal["average", "max"] = "average", dropout: float = 0.0
) -> nn.Sequential:
    """Global pooling and one linear layer, [B, channels, H, W] -> logits [B, classes], for any H and W."""
    return nn.Sequential(
        OrderedDict(pool=GlobalPool(pool), dropout=make_dropout(dropout), linear=nn.Linear(channels, classes))
    )
