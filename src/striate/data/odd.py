"""Odd images: those that are hardly pictures at all, told by their pixels and sizes alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

KINDS = ("uniform", "blank", "tiny", "long")
BLANK = 3.0  # standard deviation, of 255 grey levels, below which there is hardly anything to be seen
TINY = 32  # pixels of the short side, and a quarter of the usual one, below which an image is tiny
LONG = 3.0  # long over short side, and twice the usual one, from which an image is long


@dataclass(frozen=True, slots=True)
class OddImage:
    """An image worth a look, and why."""

    kind: str  # of KINDS
    path: str
    split: str
    label: str
    detail: str


def odd_images(thumbnails: np.ndarray, sizes: np.ndarray) -> Iterator[tuple[int, str, str]]:
    """(row, kind, detail) of every odd image; each has one kind, the first that applies.

    Size and shape are odd only beside those of the other images: a set of icons is no set of odd images.

    Args:
        thumbnails: grey uint8 [n, h, w].
        sizes: int [n, 2], height and width of the images themselves.
    """
    if not len(sizes):
        return
    flat = thumbnails.reshape(len(thumbnails), -1)
    spans = flat.max(axis=1).astype(int) - flat.min(axis=1)
    deviations = flat.std(axis=1)
    blank = min(BLANK, float(np.median(deviations)) / 4)  # images that use little of their range are not all blank
    short, long = sizes.min(axis=1), sizes.max(axis=1)
    ratios = long / np.maximum(short, 1)
    tiny = min(TINY, float(np.median(short)) / 4)
    stretched = max(LONG, 2 * float(np.median(ratios)))
    found = np.flatnonzero((spans <= 1) | (deviations < blank) | (short < tiny) | (ratios >= stretched))
    for row in found.tolist():
        size = f"{sizes[row, 1]} × {sizes[row, 0]} pixels"
        if spans[row] <= 1:
            yield row, "uniform", "one colour throughout"
        elif deviations[row] < blank:
            yield row, "blank", f"hardly any contrast: a deviation of {deviations[row]:.1f} of 255 levels"
        elif short[row] < tiny:
            yield row, "tiny", size
        else:
            yield row, "long", f"{size}, {ratios[row]:.1f} to 1"
