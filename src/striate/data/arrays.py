"""Number arrays as pixels: which types are pixels, how they become 8 or 16 bits, how channel counts convert.

The declared rules, the same for NPY files, TIFF, IDX and arrays handed over in Python:

- uint8 and uint16 are kept; booleans are 0 and 255; floats from 0 to 1 are scaled to 16 bits; anything else is refused.
- IDX and TIFF may hold wider whole numbers: where all lie in 0..65535 they are read as 16 bits, else refused.
- 16 to 8 bits and back scale the full range onto the full range; nothing is clipped.
- Colour to grey is the luma of ITU-R BT.601, in Pillow's fixed-point form; grey to colour repeats the channel.
"""

from __future__ import annotations

import ast

import numpy as np

from striate.errors import DataError

PIXEL_LIMIT = 2**27
"""Images of more pixels (134 million) are refused as possible decompression bombs."""

_NPY_HEADER = 10_000  # bytes; NumPy reads no longer ones either
_LUMA = np.array([19595, 38470, 7471], np.uint32)  # 0.299, 0.587, 0.114 in units of 2**-16


class NotPixelsError(DataError):
    """These numbers cannot be read as an image; the message is a plain reason."""


def to_unsigned(values: np.ndarray, *, wide_integers: bool = False) -> np.ndarray:
    """`values` of any shape as uint8 or uint16, by the rules above.

    Raises:
        NotPixelsError: a type or a range that is not pixels.
    """
    kind = values.dtype.kind
    if kind == "u" and values.dtype.itemsize <= 2:
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    if kind == "b":
        return values.astype(np.uint8) * np.uint8(255)
    if kind == "f" or (kind in "iu" and wide_integers):
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
        if not np.isfinite(low + high):  # min and max pass NaN on
            raise NotPixelsError("holds NaN or infinite values")
        limit = 1 if kind == "f" else 65535
        if low < 0 or high > limit:
            what = "floating-point" if kind == "f" else "whole-number"
            raise NotPixelsError(f"{what} values from {low:g} to {high:g}, expected 0 to {limit}")
        if kind == "f":
            return np.rint(values.astype(np.float64) * 65535).astype(np.uint16)
        return values.astype(np.uint16)
    raise NotPixelsError(f"values of type {values.dtype}, expected uint8, uint16 or floating point from 0 to 1")


def as_image(values: np.ndarray, *, wide_integers: bool = False) -> np.ndarray:
    """[H, W] or [H, W, C] numbers as [H, W, C] uint8 or uint16.

    Raises:
        NotPixelsError: another number of axes, no pixels, too many, or values that are not pixels.
    """
    if values.ndim not in (2, 3):
        raise NotPixelsError(f"an array with {values.ndim} axes, expected [height, width] or [height, width, channels]")
    if values.size == 0:
        raise NotPixelsError("an array without pixels")
    check_size(values.shape[0], values.shape[1])
    pixels = to_unsigned(values, wide_integers=wide_integers)
    return np.ascontiguousarray(pixels if pixels.ndim == 3 else pixels[:, :, None])


def check_size(height: int, width: int) -> None:
    """Refuse an image of more than `PIXEL_LIMIT` pixels.

    Raises:
        NotPixelsError: with the size in the message.
    """
    if height * width > PIXEL_LIMIT:
        raise NotPixelsError(
            f"{width} × {height} pixels are more than {PIXEL_LIMIT // 10**6} million: "
            "refused as a possible decompression bomb"
        )


def read_npy(data: bytes) -> np.ndarray:
    """The [H, W, C] pixels of an NPY file's bytes; nothing in the file can run code.

    Raises:
        NotPixelsError: damaged, truncated, or not pixels.
    """
    try:
        long = data[6] >= 2  # the header's length has four bytes from format version 2 on
        start = 12 if long else 10
        end = start + int.from_bytes(data[8:start], "little")
        if end - start > _NPY_HEADER:
            raise ValueError("a header of that length is no header")
        header = ast.literal_eval(data[start:end].decode("utf-8" if data[6] >= 3 else "latin-1").strip())
        dtype, shape = np.dtype(header["descr"]), tuple(int(side) for side in header["shape"])
        size = int(np.prod(shape, dtype=object))
    except Exception as error:  # whatever damaged bytes lead to
        raise NotPixelsError("damaged: the NPY header cannot be read") from error
    if dtype.hasobject:
        raise NotPixelsError("an array of Python objects, which could run code when read")
    if min(shape, default=0) < 0 or len(data) - end < size * dtype.itemsize:
        raise NotPixelsError("truncated: the image data end too early")
    values = np.frombuffer(data, dtype, size, end)
    return as_image(values.reshape(shape, order="F" if header.get("fortran_order") else "C"))


def to_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """[..., C] pixels with `channels` channels: grey to colour repeats, colour to grey is luma.

    Raises:
        NotPixelsError: any other change of the channel count.
    """
    have = pixels.shape[-1]
    if have == channels:
        return pixels
    if have == 1 and channels == 3:
        return np.repeat(pixels, 3, axis=-1)
    if have == 3 and channels == 1:
        return luma(pixels)[..., None]
    raise NotPixelsError(f"{have} channels where {channels} are asked for; only grey and colour convert")


def luma(pixels: np.ndarray) -> np.ndarray:
    """[..., 3] unsigned pixels to [...] grey of the same type: ITU-R BT.601 luma, rounded, as Pillow computes it."""
    total = pixels[..., 0] * _LUMA[0] + pixels[..., 1] * _LUMA[1]
    total += pixels[..., 2] * _LUMA[2]
    total += np.uint32(0x8000)
    return (total >> np.uint32(16)).astype(pixels.dtype)


def to_bits(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Unsigned pixels scaled to uint8 (`bits` 8) or uint16: the full range maps onto the full range, rounded."""
    if bits <= 8:
        if pixels.dtype == np.uint8:
            return pixels
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return pixels if pixels.dtype == np.uint16 else pixels.astype(np.uint16) * np.uint16(257)
