"""Mean and standard deviation of the channels, as the network's input is normalised by."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from striate.spec import InputSpec

if TYPE_CHECKING:
    from striate.data.dataset import Split

MOST_ARRAY_IMAGES, MOST_PHOTOS = 5_000, 400  # looked at; a larger sample moves the third digit
LEAST_DEVIATION = 1e-3  # a channel without contrast is only centred


def channel_statistics(split: Split, spec: InputSpec) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, in units of the full pixel range, after the resize rule.

    Measured on images evenly spread over the split: all of them where there are few.
    """
    from striate.data.images import TensorImages

    most = MOST_ARRAY_IMAGES if isinstance(split.images, TensorImages) else MOST_PHOTOS
    chosen = np.unique(np.linspace(0, len(split) - 1, min(most, len(split))).astype(np.int64))
    plain = replace(spec, mean=(0.5,), std=(0.5,))  # letterbox fills with the mean, which is what is looked for
    total, squares, pixels = np.zeros(spec.channels), np.zeros(spec.channels), 0
    for start in range(0, len(chosen), 500):
        values = split.images.take(chosen[start : start + 500], plain).numpy().astype(np.float32)
        total += values.sum(axis=(0, 2, 3), dtype=np.float64)
        squares += np.square(values).sum(axis=(0, 2, 3), dtype=np.float64)
        pixels += values.shape[0] * values.shape[2] * values.shape[3]
    full = float(2**spec.bits - 1)
    mean = total / pixels
    deviation = np.sqrt(np.maximum(squares / pixels - mean**2, 0.0))
    return _rounded(mean / full), _rounded(np.maximum(deviation / full, LEAST_DEVIATION))


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    return tuple(round(float(value), 5) for value in values)
