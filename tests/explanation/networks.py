"""Small networks that say "rectify" in every way there is."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Plain(nn.Module):
    """conv, rectifier, max pool, conv, rectifier, global average, linear; [B, 1, 12, 12] -> [B, 3]."""

    def __init__(self, rectify: Callable[[Tensor], Tensor] | nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1)
        self.linear = nn.Linear(6, 3)
        self.rectify = rectify  # as a module it is shared by both places

    def forward(self, images: Tensor) -> Tensor:
        maps = F.max_pool2d(self.rectify(self.conv1(images)), 2)
        return self.linear(self.rectify(self.conv2(maps)).mean((2, 3)))


WAYS: dict[str, Callable[[], Callable[[Tensor], Tensor] | nn.Module]] = {
    "module": nn.ReLU,
    "module in place": lambda: nn.ReLU(inplace=True),
    "function": lambda: F.relu,
    "function in place": lambda: lambda values: F.relu(values, inplace=True),
    "torch": lambda: torch.relu,
    "torch in place": lambda: torch.relu_,
    "method": lambda: lambda values: values.relu(),
    "method in place": lambda: lambda values: values.relu_(),
    "in place, old name": lambda: _old_name,
    "clamp": lambda: lambda values: values.clamp(min=0),
    "clamp_min": lambda: lambda values: torch.clamp_min(values, 0),
}


def _old_name(values: Tensor) -> Tensor:
    values.relu_()
    return values


def plain(way: str = "module") -> Plain:
    """The network with the same weights whatever the way."""
    torch.manual_seed(0)
    return Plain(WAYS[way]()).double().eval()


def images(count: int = 2, *, size: int = 12, channels: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, channels, size, size, generator=generator, dtype=torch.float64)
