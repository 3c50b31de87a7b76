"""TIFF with any number of channels and more than 8 bits, which Pillow does not read: strips and tiles to an array.

Pillow remains the reader of everyday TIFF (8 bits, up to four channels). Here: 8 to 64 bits, whole numbers or floats,
contiguous or planar, BigTIFF too. Compressed strips are handed to libtiff through Pillow, each as a small 8-bit image.

Source: TIFF Revision 6.0 (Adobe, 1992), sections 2, 14, 15, 18, 19; Adobe Photoshop TIFF Technical Note 3 for the
floating-point predictor.
"""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from striate.data.arrays import NotPixelsError, check_size

_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}  # the field types that the tags below come in
_DEFLATE = (8, 32946)
_THROUGH_LIBTIFF = (5, 32773)  # LZW, PackBits
_WHITE_IS_ZERO, _RGB, _CMYK = 0, 2, 5


@dataclass(frozen=True, slots=True)
class TiffPixels:
    """The pixels of a TIFF's first page as stored, [H, W, C], and what is needed to understand them."""

    values: np.ndarray
    photometric: int
    alpha: int  # the last channel says how opaque a pixel is, whose colours are 1: multiplied by it already, 2: not
    orientation: int


def read_tiff(data: bytes) -> TiffPixels | None:
    """The first page of the TIFF file `data`; None where Pillow is the better reader.

    Raises:
        NotPixelsError: truncated, too large, or of a kind that neither reads.
    """
    try:
        tags, order = _read_tags(data)
        bits = tags.get(258, [1])
        channels = tags.get(277, [len(bits)])[0]
        height, width = tags[257][0], tags[256][0]
    except (struct.error, KeyError, IndexError):
        return None  # Pillow words the reason
    everyday = max(bits) <= 8 and channels <= 4 and not (channels == 2 and not _alpha(tags))
    readable = tags.get(259, [1])[0] in (1, *_DEFLATE, *_THROUGH_LIBTIFF)
    if everyday or not readable or len(set(bits)) != 1 or bits[0] % 8 or not height or not width:
        return None
    check_size(height, width)
    if height * width * channels * bits[0] // 8 > 2**31:
        raise NotPixelsError(f"{width} × {height} × {channels} values are more than 2 GiB: refused")
    form = {1: "u", 2: "i", 3: "f"}.get(tags.get(339, [1])[0])
    if form is None or (form == "f" and bits[0] == 8):
        return None
    try:
        layout = _Layout(tags, order, np.dtype(f"{order}{form}{bits[0] // 8}"), height, width, channels)
        values = layout.read(data)
    except (struct.error, LookupError, TypeError, ValueError, OverflowError) as error:
        raise NotPixelsError("damaged: the TIFF's header contradicts itself") from error
    alpha = _alpha(tags) if channels in (2, 4) else 0
    return TiffPixels(values, tags.get(262, [1])[0], alpha, tags.get(274, [1])[0])


def _alpha(tags: dict[int, list[int]]) -> int:
    """How an extra sample is declared as alpha beside grey or colour (1: premultiplied, 2: not); 0: none is."""
    kind = tags.get(338, [0])[0]
    return kind if kind in (1, 2) and tags.get(262, [1])[0] in (0, 1, _RGB) else 0


def _read_tags(data: bytes) -> tuple[dict[int, list[int]], str]:
    """The whole-number tags of the first page, and the byte order ("<" or ">")."""
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    entry, count_format, pointer, inline = (20, "Q", "Q", 8) if big else (12, "H", "I", 4)
    start = struct.unpack_from(order + pointer, data, 8 if big else 4)[0]
    entries = struct.unpack_from(order + count_format, data, start)[0]
    start += struct.calcsize(count_format)
    tags: dict[int, list[int]] = {}
    for number in range(min(entries, 4096)):
        at = start + number * entry
        tag, kind = struct.unpack_from(order + "HH", data, at)
        count = struct.unpack_from(order + pointer, data, at + 4)[0]
        if kind not in _TYPES or not 0 < count <= len(data):
            continue
        values_at = at + 4 + inline
        if count * struct.calcsize(_TYPES[kind]) > inline:
            values_at = struct.unpack_from(order + pointer, data, values_at)[0]
        tags[tag] = list(struct.unpack_from(f"{order}{count}{_TYPES[kind]}", data, values_at))
    return tags, order


class _Layout:
    """Where the blocks (strips or tiles) of a page lie and what is in them."""

    def __init__(
        self, tags: dict[int, list[int]], order: str, dtype: np.dtype, height: int, width: int, channels: int
    ) -> None:
        self.tags, self.order, self.dtype = tags, order, dtype
        self.height, self.width, self.channels = height, width, channels
        self.planar = tags.get(284, [1])[0] == 2 and channels > 1
        self.tiled = 324 in tags
        if self.tiled:
            self.block = (tags[323][0], tags[322][0])
        else:
            self.block = (min(tags.get(278, [height])[0], height), width)
        if 0 in self.block:
            raise NotPixelsError("damaged: the TIFF's blocks have no size")

    def read(self, data: bytes) -> np.ndarray:
        offsets, counts = (self.tags.get(tag, []) for tag in ((324, 325) if self.tiled else (273, 279)))
        rows, columns = -(-self.height // self.block[0]), -(-self.width // self.block[1])
        planes = self.channels if self.planar else 1
        if len(offsets) < rows * columns * planes or len(counts) < len(offsets):
            raise NotPixelsError("damaged: the TIFF lacks some of its blocks")
        image = np.empty((self.height, self.width, self.channels), self.dtype.newbyteorder("="))
        number = 0
        for plane in range(planes):
            kept = slice(plane, plane + 1) if self.planar else slice(None)
            for top in range(0, self.height, self.block[0]):
                for left in range(0, self.width, self.block[1]):
                    target = image[top : top + self.block[0], left : left + self.block[1], kept]
                    height = self.block[0] if self.tiled else target.shape[0]
                    packed = data[offsets[number] : offsets[number] + counts[number]]
                    target[:] = self._block(packed, height)[: target.shape[0], : target.shape[1]]
                    number += 1
        return image

    def _block(self, packed: bytes, height: int) -> np.ndarray:
        """One strip or tile as [height, block width, channels or 1]."""
        shape = (height, self.block[1], 1 if self.planar else self.channels)
        row_bytes = shape[1] * shape[2] * self.dtype.itemsize
        check_size(height, self.block[1])
        unpacked = self._unpacked(packed, height, row_bytes)
        if len(unpacked) < height * row_bytes:
            raise NotPixelsError("truncated: the image data end too early")
        predictor = self.tags.get(317, [1])[0]
        if predictor == 3:
            return self._undo_float_predictor(unpacked, shape)
        values = np.frombuffer(unpacked, self.dtype, int(np.prod(shape))).reshape(shape)
        if predictor == 2:
            return np.cumsum(values, axis=1, dtype=self.dtype.newbyteorder("="))  # wraps around, as the writer did
        return values

    def _unpacked(self, packed: bytes, height: int, row_bytes: int) -> bytes:
        compression = self.tags.get(259, [1])[0]
        if compression == 1:
            return packed
        if compression in _DEFLATE:
            try:
                return zlib.decompressobj().decompress(packed, height * row_bytes)
            except zlib.error as error:
                raise NotPixelsError("damaged: the compressed image data cannot be unpacked") from error
        return _through_libtiff(packed, compression, height, row_bytes)

    def _undo_float_predictor(self, unpacked: bytes, shape: tuple[int, int, int]) -> np.ndarray:
        """Technical Note 3: rows hold byte-wise differences, the bytes of one significance together, highest first."""
        height, width, channels = shape
        size = self.dtype.itemsize
        rows = np.frombuffer(unpacked, np.uint8, height * width * channels * size).reshape(height, -1, channels)
        rows = np.cumsum(rows, axis=1, dtype=np.uint8).reshape(height, size, width * channels)
        together = np.ascontiguousarray(rows.transpose(0, 2, 1))
        return together.view(self.dtype.newbyteorder(">")).reshape(shape)


@lru_cache(maxsize=1)
def silence_libtiff() -> None:
    """Stop libtiff from writing to standard error what Pillow raises as well; best effort, where its symbol shows."""
    import ctypes

    with contextlib.suppress(Exception):
        set_handler = ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler
        set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
        set_handler(None)


def _through_libtiff(packed: bytes, compression: int, height: int, row_bytes: int) -> bytes:
    """Decompress one block by wrapping it as a grey 8-bit TIFF of `row_bytes` by `height` for Pillow's libtiff."""
    fields = [
        (256, 4, row_bytes),
        (257, 4, height),
        (258, 3, 8),
        (259, 3, compression),
        (262, 3, 1),
        (273, 4, 0),
        (277, 3, 1),
        (278, 4, height),
        (279, 4, len(packed)),
    ]
    head = 8 + 2 + 12 * len(fields) + 4
    directory = struct.pack("<H", len(fields))
    for tag, kind, value in fields:
        value = head if tag == 273 else value
        directory += struct.pack("<HHI", tag, kind, 1) + struct.pack("<I" if kind == 4 else "<Hxx", value)
    silence_libtiff()
    file = b"II*\0" + struct.pack("<I", 8) + directory + b"\0\0\0\0" + packed
    try:
        with Image.open(io.BytesIO(file), formats=("TIFF",)) as image:
            return image.tobytes()
    except Exception as error:  # whatever the decoder meets in damaged bytes
        raise NotPixelsError("damaged or truncated: the compressed image data cannot be unpacked") from error
