"""Branches that read the same maps and are joined map after map, written as the Inception papers draw them.

A step is a word like those in the boxes of the figures:

    "1x1 64"           convolution, 64 maps, padded so that height and width stay ("SAME")
    "1x7 192"          one row high, seven columns wide
    "3x3/2 V 384"      stride 2, no padding ("V" for valid, as the papers mark it)
    "max 3x3/2 V"      pooling, likewise: max or average

and a tuple of branches, each a step or a tuple of steps, is a fork whose results are concatenated.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from string import ascii_lowercase
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from striate.errors import ModelError

Step: TypeAlias = "str | tuple[Branch, ...]"
Branch: TypeAlias = "str | tuple[Step, ...]"
Fork: TypeAlias = "tuple[Branch, ...]"
MakeUnit = Callable[..., nn.Module]  # (in_channels, channels, kernel, stride, padding=): a convolution and what follows

_STEP = re.compile(
    r"((?P<pool>max|average) )?(?P<height>\d+)x(?P<width>\d+)(/(?P<stride>\d+))?(?P<valid> V)?( (?P<channels>\d+))?"
)


class Row(nn.Sequential):
    """Steps one after the other, [B, C, H, W] -> [B, channels, H', W'].

    `unit` makes the convolutions. Steps without names of their own are called by place and kernel: `a_1x1`, `b_3x3`,
    `a_max`, `b_fork`. Padding never wins in max pooling; in average pooling it is left out of the mean unless
    `pool_counts_padding`.
    """

    def __init__(
        self,
        in_channels: int,
        steps: Mapping[str, Step] | Branch,
        unit: MakeUnit,
        *,
        pool_counts_padding: bool = False,
    ) -> None:
        super().__init__()
        self.channels = in_channels
        for name, step in _named(steps).items():
            if isinstance(step, str):
                layer, self.channels = _layer(step, self.channels, unit, pool_counts_padding)
            else:
                layer = Branches(self.channels, step, unit, pool_counts_padding=pool_counts_padding)
                self.channels = layer.channels
            self.add_module(name, layer)


class Branches(nn.Module):
    """`branch0`, `branch1` … of the same input, concatenated: [B, C, H, W] -> [B, channels, H', W']."""

    def __init__(self, in_channels: int, fork: Fork, unit: MakeUnit, *, pool_counts_padding: bool = False) -> None:
        super().__init__()
        self.channels = 0
        for index, branch in enumerate(fork):
            row = Row(in_channels, branch, unit, pool_counts_padding=pool_counts_padding)
            self.add_module(f"branch{index}", row)
            self.channels += row.channels

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, channels, H', W']."""
        return torch.cat([branch(inputs) for branch in self.children()], dim=1)


def unit_paths(fork: Fork) -> list[str]:
    """Where the convolutions of `Branches(fork)` are, in the order of the table: `branch1.b_3x3`."""

    def walk(fork: Fork) -> Iterator[str]:
        for index, branch in enumerate(fork):
            for name, step in _named(branch).items():
                if not isinstance(step, str):
                    yield from (f"branch{index}.{name}.{path}" for path in walk(step))
                elif not _is_pool(step):
                    yield f"branch{index}.{name}"

    return list(walk(fork))


def numbered_paths(fork: Fork) -> list[str]:
    """The same convolutions where each branch is a plain sequence, and one of a single step no sequence at all.

    So the PyTorch translations of the TensorFlow models name them: `branch0`, `branch1.0`, `branch3.1` after a pooling.
    """
    paths = []
    for index, branch in enumerate(fork):
        steps = list(_named(branch).values())
        for place, step in enumerate(steps):
            if isinstance(step, str) and not _is_pool(step):
                paths.append(f"branch{index}" if len(steps) == 1 else f"branch{index}.{place}")
    return paths


def _named(steps: Mapping[str, Step] | Branch) -> Mapping[str, Step]:
    if isinstance(steps, Mapping):
        return steps
    row = (steps,) if isinstance(steps, str) else steps
    return {f"{letter}_{_kind(step)}": step for letter, step in zip(ascii_lowercase, row, strict=False)}


class _Box(NamedTuple):
    """A step, taken apart."""

    pool: str | None  # max, average, or None for a convolution
    kernel: tuple[int, int]
    stride: int
    padding: tuple[int, int]
    channels: int  # of a convolution


def _parse(step: str) -> _Box:
    match = _STEP.fullmatch(step)
    if match is None or (match["pool"] is None) == (match["channels"] is None):
        raise ModelError(f"not a step of a branch: {step!r}", 'write "3x3/2 V 384" or "max 3x3/2 V"')
    kernel = (int(match["height"]), int(match["width"]))
    return _Box(
        pool=match["pool"],
        kernel=kernel,
        stride=int(match["stride"] or 1),
        padding=(0, 0) if match["valid"] else (kernel[0] // 2, kernel[1] // 2),
        channels=int(match["channels"] or 0),
    )


def _kind(step: Step) -> str:
    if not isinstance(step, str):
        return "fork"
    box = _parse(step)
    return box.pool or f"{box.kernel[0]}x{box.kernel[1]}"


def _is_pool(step: str) -> bool:
    return _parse(step).pool is not None


def _layer(step: str, in_channels: int, unit: MakeUnit, pool_counts_padding: bool) -> tuple[nn.Module, int]:
    box = _parse(step)
    if box.pool == "max":
        return nn.MaxPool2d(box.kernel, box.stride, box.padding), in_channels
    if box.pool == "average":
        pool = nn.AvgPool2d(box.kernel, box.stride, box.padding, count_include_pad=pool_counts_padding)
        return pool, in_channels
    return unit(in_channels, box.channels, box.kernel, box.stride, padding=box.padding), box.channels
