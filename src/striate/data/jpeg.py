"""JPEG data straight to an array, by simplejpeg where it is installed; Pillow reads what is left to it.

Both call libjpeg-turbo, with the same transforms, and give the same pixels to the bit (`tests/data/test_jpeg.py`).
Pillow keeps colours in four bytes a pixel and packs them into three for whoever asks, under the interpreter's lock,
which is a quarter of the time of decoding a photo. What the codec so much as warns of goes to Pillow, so that Pillow
alone decides what can be read.
"""

from __future__ import annotations

import numpy as np

try:
    import simplejpeg
except ImportError:  # no wheel for this platform
    simplejpeg = None

_LARGEST = 8  # that the codec reduces by
_COLOURS = {"L": "GRAY", "RGB": "RGB"}  # by Pillow's mode; it converts all others itself


def codec_version() -> str | None:
    """The version of simplejpeg; None where it is not used."""
    return None if simplejpeg is None else simplejpeg.__version__


def jpeg_pixels(data: bytes, mode: str, size: tuple[int, int], factor: int) -> np.ndarray | None:
    """The pixels as they are stored, not turned upright; None where Pillow has to read them.

    Args:
        data: a JPEG file.
        mode: Pillow's name for its colours.
        size: height and width by its header.
        factor: what both are divided by, rounded up: a power of 2.

    Returns:
        [H, W, C] uint8.
    """
    colours = _COLOURS.get(mode)
    if simplejpeg is None or colours is None or factor > _LARGEST:
        return None
    height, width = (-(-side // factor) for side in size)
    try:
        pixels = simplejpeg.decode_jpeg(data, colours, min_height=height, min_width=width, strict=True)
    except ValueError:
        return None
    return pixels if pixels.shape[:2] == (height, width) else None
