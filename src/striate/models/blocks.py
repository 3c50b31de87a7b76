"""Building blocks of the papers on their own, with the input that their papers or courses show. Listing needs no torch.

`make_block("inception_reduced")` is a module that can be run, counted and taken apart like a whole network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from striate.errors import ModelError, UnknownNameError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockEntry:
    """One block: data, not code. The class is called as ``Class(in_channels, **config)``."""

    name: str
    title: str
    source: str  # paper and figure
    build: str  # "module:Class"
    config: Mapping[str, Any]
    input: tuple[int, int, int]  # channels, height, width


_BLOCKS = (
    BlockEntry(
        name="inception_naive",
        title="Inception module without reductions: 854 M multiply-accumulates, 672 maps",
        source="Szegedy et al. 2014, arXiv:1409.4842, fig. 2a; filters as courses give them",
        build="striate.models.googlenet:NaiveInception",
        config={"conv1x1": 128, "conv3x3": 192, "conv5x5": 96},
        input=(256, 28, 28),
    ),
    BlockEntry(
        name="inception_reduced",
        title="Inception module with 1x1 reductions: 271 M multiply-accumulates, 480 maps",
        source="Szegedy et al. 2014, arXiv:1409.4842, fig. 2b; filters as courses give them",
        build="striate.models.googlenet:Inception",
        config={
            "conv1x1": 128,
            "reduce3x3": 64,
            "conv3x3": 192,
            "reduce5x5": 64,
            "conv5x5": 96,
            "pool_proj": 64,
        },
        input=(256, 28, 28),
    ),
    BlockEntry(
        name="inception_3a",
        title="the first module of GoogLeNet",
        source="Szegedy et al. 2014, arXiv:1409.4842, table 1",
        build="striate.models.googlenet:Inception",
        config={
            "conv1x1": 64,
            "reduce3x3": 96,
            "conv3x3": 128,
            "reduce5x5": 16,
            "conv5x5": 32,
            "pool_proj": 32,
        },
        input=(192, 28, 28),
    ),
    BlockEntry(
        name="residual_basic",
        title="residual unit of two 3x3",
        source="He et al. 2015, arXiv:1512.03385, fig. 5 left",
        build="striate.layers.residual:BasicBlock",
        config={"channels": 64},
        input=(64, 56, 56),
    ),
    BlockEntry(
        name="residual_bottleneck",
        title="residual unit of 1x1, 3x3, 1x1",
        source="He et al. 2015, arXiv:1512.03385, fig. 5 right",
        build="striate.layers.residual:Bottleneck",
        config={"width": 64},
        input=(256, 56, 56),
    ),
)
BLOCKS: dict[str, BlockEntry] = {entry.name: entry for entry in _BLOCKS}


def make_block(name: str, in_channels: int | None = None) -> nn.Module:
    """The block called `name`, [B, C, H, W] -> [B, C', H', W'], with torch's own random start.

    `in_channels` defaults to those of its entry.

    Raises:
        UnknownNameError: answered with the nearest names.
        ModelError: fewer than one input channel.
    """
    if name not in BLOCKS:
        raise UnknownNameError("block", name, BLOCKS)
    entry = BLOCKS[name]
    channels = entry.input[0] if in_channels is None else in_channels
    if channels < 1:
        raise ModelError(f"block {name}: {channels} input channels: there must be at least 1")
    module, _, class_name = entry.build.partition(":")
    return getattr(import_module(module), class_name)(channels, **entry.config)
