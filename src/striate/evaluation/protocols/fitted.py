"""Views of the image as it is framed once, mirrored and shifted on the device; their logits are averaged."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.errors import UnknownNameError

FITTED = ("single", "flip", "flip+shift")
SHIFT = 32  # a shift is a pixel for so many of the side, at least one


def with_views(network: nn.Module, views: str) -> nn.Module:
    """`network` [B, C, H, W] -> [B, classes] looking at fitted views of each image; itself for "single".

    - flip: the mean of the logits of the image and of its mirror image.
    - flip+shift: half of that, and half the mean over the images moved up and left, and down and right, with their
      mirror images; what a shift moves in is the image reflected (Jordan 2024, arXiv:2404.00498, sec. 3.5).

    Raises:
        UnknownNameError: views that are not in `FITTED`.
    """
    if views not in FITTED:
        raise UnknownNameError("fitted views", views, FITTED)
    return network if views == "single" else Views(network, shifts=views == "flip+shift")


class Views(nn.Module):
    """The weighted mean of a network's logits over views, [B, C, H, W] -> float32 [B, classes]."""

    def __init__(self, network: nn.Module, *, shifts: bool) -> None:
        super().__init__()
        self.network, self.shifts = network, shifts

    def forward(self, images: Tensor) -> Tensor:
        """The mean of the logits, taken in single precision."""
        logits = self._both_sides(images)
        if not self.shifts:
            return logits
        height, width = images.shape[2:]
        by = max(1, round(min(height, width) / SHIFT))
        padded = F.pad(images, (by, by, by, by), mode="reflect")
        moved = [padded[..., start : start + height, start : start + width] for start in (0, 2 * by)]
        return 0.5 * logits + 0.25 * sum(self._both_sides(one) for one in moved)

    def _both_sides(self, images: Tensor) -> Tensor:
        kept = images.contiguous(memory_format=torch.channels_last)
        return 0.5 * (self.network(kept).float() + self.network(kept.flip(-1)).float())
