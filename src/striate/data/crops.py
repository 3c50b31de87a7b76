"""Boxes cut from photos and resized to what the network is fed, for training.

The edges of a box go to the nearest whole pixel, and what it holds is resized on its own, as if it were the image: as
torchvision's random crops do, and unlike `fit.cut`, which keeps parts of pixels, as small images in arrays need. Two
libraries have the same antialiased filters. Torch's work on 8-bit pixels without unpacking them and take about a third
of the time of Pillow's: a bilinear result differs from Pillow's by one level of 255 at most, through rounding. Pillow
does what torch does not: more than 8 bits, Lanczos, nearest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from striate.data.fit import fewer_channels, finished, resample
from striate.spec import InputSpec

if TYPE_CHECKING:
    import torch

Box = tuple[float, float, float, float]  # top, left, height, width in pixels

_TORCH_FILTERS = {"bilinear": "_upsample_bilinear2d_aa", "bicubic": "_upsample_bicubic2d_aa"}


def empty_batch(count: int, spec: InputSpec) -> torch.Tensor:
    """[count, spec.channels, *spec.size] to be filled: uint8, int32 where `spec.bits` is more than 8; channels last."""
    import torch

    kind = torch.uint8 if spec.bits <= 8 else torch.int32
    return torch.empty((count, spec.channels, *spec.size), dtype=kind, memory_format=torch.channels_last)


def crop(image: np.ndarray, box: Box, spec: InputSpec) -> np.ndarray:
    """The region `box` of an [H, W, C] image at `spec.size`; outside the image is 0.

    Args:
        image: uint8 or uint16, as `decode` gives it.
        box: in pixels of `image`.
        spec: size, channels, bits and filter; no resize rule applies.

    Returns:
        [spec.channels, *spec.size] uint8, or int32 where `spec.bits` is more than 8.
    """
    batch = empty_batch(1, spec)
    crop_into(batch[0], image, box, spec)
    return np.ascontiguousarray(batch[0].numpy())


def crop_into(out: torch.Tensor, image: np.ndarray, box: Box, spec: InputSpec) -> None:
    """`crop` written to `out`, one image of an `empty_batch`. `image` is not read any more afterwards."""
    import torch

    region = fewer_channels(region_of(image, box), spec)
    name = _TORCH_FILTERS.get(spec.interpolation)
    if name is None or region.dtype != np.uint8 or region.shape[:2] == spec.size:
        whole = (0.0, 0.0, *region.shape[:2])
        inner = resample(region, whole, spec.size, spec.interpolation)
    else:
        resize, size = getattr(torch.ops.aten, name), list(spec.size)
        source = torch.from_numpy(region).permute(2, 0, 1)[None]
        if region.shape[2] == spec.channels and spec.bits <= 8:
            resize.out(source, size, False, None, None, out=out[None])
            return
        inner = resize(source, size, False, None, None)[0].permute(1, 2, 0).numpy()
    out.copy_(torch.from_numpy(finished(np.moveaxis(inner, 2, 0), spec)))


def region_of(image: np.ndarray, box: Box) -> np.ndarray:
    """The pixels of `box`, at least one each way, with 0 outside the image, as a copy in order.

    Raises:
        ValueError: the box holds nothing.
    """
    top, left, height, width = box
    if not (height > 0 and width > 0):
        raise ValueError(f"a box of {height} by {width} pixels holds nothing")
    rows, columns = _whole(top, height), _whole(left, width)
    spans = zip((rows, columns), image.shape[:2], strict=True)
    inside = [(max(first, 0), min(last, length)) for (first, last), length in spans]
    if inside == [rows, columns]:
        return np.array(image[rows[0] : rows[1], columns[0] : columns[1]], order="C")
    result = np.zeros((rows[1] - rows[0], columns[1] - columns[0], image.shape[2]), image.dtype)
    (top, bottom), (left, right) = inside
    if bottom > top and right > left:
        result[top - rows[0] : bottom - rows[0], left - columns[0] : right - columns[0]] = image[top:bottom, left:right]
    return result


def _whole(start: float, length: float) -> tuple[int, int]:
    first = round(start)
    return first, max(first + 1, round(start + length))
