"""Branches side by side: the Inception idea of reading one feature map in several ways at once."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn


class Branches(nn.Module):
    """Named branches that all read the same maps; what they find is concatenated in their order.

    [B, C, H, W] -> [B, C1 + C2 + ..., H', W']: numbers of maps add up, heights and widths must agree.
    """

    def __init__(self, branches: OrderedDict[str, nn.Module]) -> None:
        super().__init__()
        for name, branch in branches.items():
            self.add_module(name, branch)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C1 + C2 + ..., H', W']."""
        return torch.cat([branch(inputs) for branch in self.children()], dim=1)
