"""Images of any sizes that are decoded already, as Python code hands them over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from striate.data.fit import cut, fit
from striate.data.images import Images, _empty_batch, _thumbnail, _to_torch
from striate.spec import InputSpec

if TYPE_CHECKING:
    import torch


class DecodedImages(Images):
    """Images in memory, each of its own size.

    Args:
        pixels: [H, W, C] uint8 or uint16, as `decode` gives them; at least one. Where channels or bits differ, the
            set has the most that any has, as a folder has.
    """

    def __init__(self, pixels: Sequence[np.ndarray]) -> None:
        self.pixels = pixels
        self.channels = max(image.shape[2] for image in pixels)
        self.bits = 8 * max(image.dtype.itemsize for image in pixels)
        self.sizes = np.array([image.shape[:2] for image in pixels], np.int32)

    def take(self, indices: np.ndarray, spec: InputSpec, boxes: np.ndarray | None = None) -> torch.Tensor:
        """See `Images.take`."""
        out = _empty_batch(len(indices), spec)
        for slot, index in enumerate(indices.tolist()):
            image = self.pixels[index]
            out[slot] = fit(image, spec) if boxes is None else cut(image, tuple(boxes[slot].tolist()), spec)
        return _to_torch(out)

    def raw(self, index: int) -> np.ndarray:
        """See `Images.raw`."""
        return self.pixels[index]

    def thumbnails(self) -> np.ndarray:
        """See `Images.thumbnails`; 32 by 32 pixels."""
        return np.stack([_thumbnail(image) for image in self.pixels])
