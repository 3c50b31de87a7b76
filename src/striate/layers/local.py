"""A locally connected layer: the receptive fields of a convolution, but every unit with weights of its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LocalConv2d(nn.Module):
    """Valid, without weight sharing: [B, C, H, W] -> [B, maps, H', W'], H' = (H - k) // stride + 1.

    Each unit reads a k x k field of every input map through weights that no other unit uses, so H and W are fixed when
    it is built: `size` is the input's (H, W). `weight` is [maps, H', W', C, k, k], `bias` [maps, H', W'].
    LeCun 1989, Generalization and Network Design Strategies, networks 3 and 4; torch has no such layer.
    """

    def __init__(self, in_channels: int, maps: int, kernel: int, size: tuple[int, int], *, stride: int = 1) -> None:
        super().__init__()
        self.in_channels, self.maps, self.kernel, self.stride = in_channels, maps, kernel, stride
        self.out_size = ((size[0] - kernel) // stride + 1, (size[1] - kernel) // stride + 1)
        self.weight = nn.Parameter(torch.empty(maps, *self.out_size, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(maps, *self.out_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform ±1/sqrt(inputs of a unit), torch's own default for convolutions."""
        with torch.no_grad():
            bound = (self.in_channels * self.kernel**2) ** -0.5
            self.weight.uniform_(-bound, bound)
            self.bias.uniform_(-bound, bound)

    def units(self) -> list[tuple[Tensor, int, int]]:
        """One entry, since all units are alike: a view [units, C, k, k] of the weights, fan-in, mean fan-out."""
        fan_in = self.in_channels * self.kernel**2
        fan_out = round(self.maps * self.kernel**2 / self.stride**2)
        return [(self.weight.flatten(0, 2), fan_in, fan_out)]

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, maps, H', W']."""
        places = self.out_size[0] * self.out_size[1]
        fields = F.unfold(inputs, self.kernel, stride=self.stride)  # [B, C k k, places]
        weight = self.weight.view(self.maps, places, -1)
        # A matrix product at each place: [places, B, C k k] with [places, C k k, maps].
        sums = torch.matmul(fields.permute(2, 0, 1), weight.permute(1, 2, 0))
        return sums.permute(1, 2, 0).unflatten(2, self.out_size) + self.bias

    def multiply_accumulates(self, output: torch.Size) -> int:
        """Each weight works once for an image."""
        return self.weight.numel()
