"""Small pictures of a data set's images for a page, whole and unstretched, whatever their size and channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from striate.data import Dataset
from striate.data.arrays import to_bits, to_channels
from striate.data.fit import resample
from striate.errors import DataError

SIDE = 112  # pixels of a tile; images that are smaller throughout stay as they are
_PAPER = 128  # what lies around an image that is no square


class Thumbnails:
    """Finds images by their path and makes them small."""

    def __init__(self, dataset: Dataset) -> None:
        self._at = {path: (split, row) for split in dataset.splits.values() for row, path in enumerate(split.paths)}
        largest = max((int(split.images.sizes.max()) for split in dataset.splits.values() if len(split)), default=SIDE)
        self.side = min(SIDE, largest)

    def of(self, paths: Sequence[str]) -> np.ndarray:
        """uint8 [n, side, side, 3]; an image that changed meanwhile is plain grey."""
        return np.stack([self._one(path) for path in paths])

    def _one(self, path: str) -> np.ndarray:
        canvas = np.full((self.side, self.side, 3), _PAPER, np.uint8)
        split, row = self._at[path]
        try:
            pixels = _rgb(split.images.raw(row))
        except DataError:
            return canvas
        height, width = pixels.shape[:2]
        scale = self.side / max(height, width)
        if scale >= 2:  # smaller ones among them by whole pixels
            pixels = pixels.repeat(int(scale), axis=0).repeat(int(scale), axis=1)
            height, width = pixels.shape[:2]
            scale = 1.0
        size = max(1, round(height * min(1.0, scale))), max(1, round(width * min(1.0, scale)))
        top, left = (self.side - size[0]) // 2, (self.side - size[1]) // 2
        small = resample(pixels, (0.0, 0.0, height, width), size, "bilinear")
        canvas[top : top + size[0], left : left + size[1]] = small
        return canvas


def _rgb(pixels: np.ndarray) -> np.ndarray:
    """[H, W, C] as uint8 [H, W, 3]: of other channel counts than grey and colour the mean."""
    if pixels.shape[-1] not in (1, 3):
        pixels = pixels.mean(axis=-1, keepdims=True).astype(pixels.dtype)
    return to_channels(to_bits(pixels, 8), 3)
