"""A convolution whose output maps each read only some of the input maps, as the first LeNets have it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SparseConv2d(nn.Module):
    """Valid convolution by a connection table, [B, C, H, W] -> [B, len(table), H', W'], H' = (H - k) // stride + 1.

    `table[i]` lists the input maps that output map i reads. Only existing connections are parameters: `weight` is
    [connections, k, k], ordered as the table reads. LeCun et al. 1998, sec. II.B and table I.

    `bias` is one number a map, or with `unit_bias` (H', W') one for each unit: shared weights, private thresholds, as
    LeCun et al. 1989 (Neural Computation 1(4), sec. 3.3) have them.
    """

    rows: Tensor
    columns: Tensor

    def __init__(
        self,
        in_channels: int,
        table: Sequence[Sequence[int]],
        kernel: int,
        *,
        stride: int = 1,
        unit_bias: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.in_channels, self.kernel, self.stride = in_channels, kernel, stride
        self.table = tuple(tuple(inputs) for inputs in table)
        links = [(row, column) for row, inputs in enumerate(self.table) for column in inputs]
        self.weight = nn.Parameter(torch.empty(len(links), kernel, kernel))
        self.bias = nn.Parameter(torch.empty(len(self.table), *(unit_bias or ())))
        # Which link is which follows from the table: no need to store it with the weights.
        self.register_buffer("rows", torch.tensor([row for row, _ in links]), persistent=False)
        self.register_buffer("columns", torch.tensor([column for _, column in links]), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform ±1/sqrt(inputs of the unit), torch's own default for convolutions."""
        with torch.no_grad():
            for index, (weight, fan_in, _) in enumerate(self.units()):
                bound = fan_in**-0.5
                weight.uniform_(-bound, bound)
                self.bias[index].uniform_(-bound, bound)

    def units(self) -> list[tuple[Tensor, int, int]]:
        """For each output map: a view of its weights [links, k, k], inputs of a unit, outputs of an input."""
        area = self.kernel**2
        fan_out = round(len(self.weight) / self.in_channels * area)
        sizes = [len(inputs) for inputs in self.table]
        return [(weight, len(weight) * area, fan_out) for weight in self.weight.split(sizes)]

    def dense_weight(self) -> Tensor:
        """The weights of an ordinary convolution, [maps out, maps in, k, k], zero where there is no connection."""
        dense = self.weight.new_zeros(len(self.table), self.in_channels, self.kernel, self.kernel)
        return dense.index_put((self.rows, self.columns), self.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, len(table), H', W']."""
        if self.bias.ndim == 1:
            return F.conv2d(inputs, self.dense_weight(), self.bias, self.stride)
        return F.conv2d(inputs, self.dense_weight(), None, self.stride) + self.bias

    def multiply_accumulates(self, output: torch.Size) -> int:
        """Multiply-accumulates of existing connections for one image, given the output's shape [B, C, H, W]."""
        return self.weight.numel() * output[-2] * output[-1]


def every_map(maps: int, in_channels: int) -> tuple[tuple[int, ...], ...]:
    """The table by which each of `maps` output maps reads every input map: an ordinary convolution."""
    return (tuple(range(in_channels)),) * maps
