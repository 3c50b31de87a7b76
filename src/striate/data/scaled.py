"""Whole images at a size of one's own, for evaluations that look at more than the network's usual crop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from striate.data.fit import cut, fewer_channels, finished, fit, resample
from striate.spec import InputSpec

LONGEST = 4  # times what is asked for: of longer strips the middle is taken, so that memory is bounded


def scaled(image: np.ndarray, least: tuple[int, int], spec: InputSpec) -> np.ndarray:
    """One decoded image as the network's pixels, but larger, so that `least` (height, width) just fits into it.

    Where the spec's rule is to crop, the image keeps its aspect ratio and nothing is cut off, unless a side is more
    than `LONGEST` times its least. The other rules give one size: the result is what they show, at size `least`; an
    image that `pad` leaves as small as it is grows with its border.

    Args:
        image: [H, W, C] uint8 or uint16, as `decode` gives it.
        least: in pixels.
        spec: channels, bits, resize rule and filter; its size only tells how wide a border `pad` gives.

    Returns:
        [spec.channels, h, w] uint8, or int32 where `spec.bits` is more than 8; h and w are at least `least`.

    Raises:
        NotPixelsError: the channel counts differ and are not grey and colour.
    """
    if spec.resize == "pad":
        return cut(image, _with_border(image.shape[0], image.shape[1], spec), replace(spec, size=least))
    if spec.resize != "crop":
        return fit(image, replace(spec, size=least))
    image = fewer_channels(image, spec)
    height, width = image.shape[:2]
    scale = max(least[0] / height, least[1] / width)
    whole = (max(least[0], round(height * scale)), max(least[1], round(width * scale)))
    shown = (min(whole[0], LONGEST * least[0]), min(whole[1], LONGEST * least[1]))
    top, left = (whole[0] - shown[0]) // 2, (whole[1] - shown[1]) // 2
    step_y, step_x = height / whole[0], width / whole[1]
    box = (top * step_y, left * step_x, shown[0] * step_y, shown[1] * step_x)
    if shown == whole:  # free of rounding
        box = (0.0, 0.0, float(height), float(width))
    return finished(np.moveaxis(resample(image, box, shown, spec.interpolation), 2, 0), spec)


def _with_border(height: int, width: int, spec: InputSpec) -> tuple[float, float, float, float]:
    """The box, in pixels of the image and beyond it, that `pad` shows at the spec's size."""
    larger = max(height / spec.size[0], width / spec.size[1], 1.0)
    shown = (max(height, round(spec.size[0] * larger)), max(width, round(spec.size[1] * larger)))
    return -((shown[0] - height) // 2), -((shown[1] - width) // 2), shown[0], shown[1]
