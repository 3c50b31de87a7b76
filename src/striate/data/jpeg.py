"""JPEG data straight to an array, by simplejpeg where it is installed; Pillow reads what is left to it.

Both call libjpeg-turbo, with the same transforms, and give the same pixels to the bit (`tests/data/test_jpeg.py`).
Pillow keeps colours in four bytes a pixel and packs them into three for whoever asks, under the interpreter's lock,
which is a quarter of the time of decoding a photo; its reading of the header is left out, too, where that is as most
programs write it (`plain_header`). What the codec so much as warns of goes to Pillow, so that Pillow
alone decides what can be read.
"""

from __future__ import annotations

import struct

import numpy as np

try:
    import simplejpeg
except ImportError:  # no wheel for this platform
    simplejpeg = None

_LARGEST = 8  # that the codec reduces by
_COLOURS = {"L": "GRAY", "RGB": "RGB"}  # by Pillow's mode; it converts all others itself

# Markers of segments, by their last byte (ITU-T T.81, table B.1)
_JFIF, _COMMENT, _SCAN = 0xE0, 0xFE, 0xDA
_QUANTISATION, _HUFFMAN, _RESTART = 0xDB, 0xC4, 0xDD
_FRAMES = (0xC0, 0xC2)  # baseline and progressive
_TABLE = 65  # bytes of a quantisation table of 8 bits, with its number
_MODES = {1: "L", 3: "RGB"}  # Pillow's, by the number of components


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


def plain_header(data: bytes) -> tuple[str, tuple[int, int]] | None:
    """Pillow's mode, and height and width, by a header that holds nothing but JFIF, comments, tables and one frame.

    None for any other: one that Pillow might refuse, or that holds what Pillow heeds (Exif and other data of programs,
    which may turn the image or say that there are several).
    """
    found = None
    at = 2
    try:
        if data[:2] != b"\xff\xd8":
            return None
        while True:
            fill, marker, length = struct.unpack_from(">BBH", data, at)
            end = at + 2 + length
            if fill != 0xFF or length < 2 or end > len(data):
                return None
            if marker == _SCAN:
                return found
            if marker in _FRAMES:
                bits, height, width, components = struct.unpack_from(">BHHB", data, at + 4)
                usual = bits == 8 and components in _MODES and length == 8 + 3 * components
                if found is not None or not (usual and height and width):
                    return None
                found = _MODES[components], (height, width)
            elif marker == _QUANTISATION:
                if (length - 2) % _TABLE or any(number > 3 for number in data[at + 4 : end : _TABLE]):
                    return None
            elif marker == _JFIF:
                if data[at + 4 : at + 9] != b"JFIF\0" or length < 16:
                    return None
            elif marker not in (_HUFFMAN, _RESTART, _COMMENT):
                return None
            at = end
    except struct.error:  # the data end here
        return None
