"""Writers of image files for the tests: bytes that Pillow writes, and TIFF pages that it cannot."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


def as_bytes(image: Image.Image, form: str, **settings: Any) -> bytes:
    """What Pillow writes to a file of this format."""
    stream = io.BytesIO()
    image.save(stream, form, **settings)
    return stream.getvalue()


def noise(height: int, width: int, channels: int = 3, seed: int = 0, dtype: type = np.uint8) -> np.ndarray:
    """[height, width, channels] random pixels over the type's whole range."""
    top = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, top, (height, width, channels), dtype, endpoint=True)


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """[height, width, 3] uint8 with large and small shapes, different for every seed."""
    small = np.random.default_rng(seed).integers(0, 256, (11, 11, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def npy(values: np.ndarray, **settings: Any) -> bytes:
    """An NPY file."""
    stream = io.BytesIO()
    np.save(stream, values, **settings)
    return stream.getvalue()


def tiff(
    values: np.ndarray,
    *,
    order: str = "<",
    big: bool = False,
    planar: bool = False,
    tile: int = 0,
    rows_per_strip: int = 0,
    deflate: bool = False,
    predictor: int = 1,
    photometric: int = 1,
    extra: tuple[int, ...] = (),
    orientation: int = 1,
) -> bytes:
    """A TIFF file with one page of [H, W, C] numbers, written from the specification with `struct` alone."""
    height, width, channels = values.shape
    values = values.astype(values.dtype.newbyteorder(order))
    planes = [values[:, :, [channel]] for channel in range(channels)] if planar else [values]
    blocks = [block for plane in planes for block in _blocks(plane, tile, rows_per_strip or height)]
    data = [_packed(block, predictor, deflate) for block in blocks]
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    tags: dict[int, tuple[str, list[int]]] = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [8 * values.dtype.itemsize] * channels),
        259: ("H", [8 if deflate else 1]),
        262: ("H", [photometric]),
        274: ("H", [orientation]),
        277: ("H", [channels]),
        284: ("H", [2 if planar else 1]),
        317: ("H", [predictor]),
        339: ("H", [kind] * channels),
    }
    if extra:
        tags[338] = ("H", list(extra))
    if tile:
        tags |= {322: ("I", [tile]), 323: ("I", [tile])}
    else:
        tags[278] = ("I", [rows_per_strip or height])
    return _assembled(tags, data, (324, 325) if tile else (273, 279), order, big)


def _blocks(plane: np.ndarray, tile: int, rows: int) -> list[np.ndarray]:
    height, width, channels = plane.shape
    if not tile:
        return [plane[top : top + rows] for top in range(0, height, rows)]
    padded = np.zeros((-(-height // tile) * tile, -(-width // tile) * tile, channels), plane.dtype)
    padded[:height, :width] = plane
    return [
        padded[top : top + tile, left : left + tile]
        for top in range(0, padded.shape[0], tile)
        for left in range(0, padded.shape[1], tile)
    ]


def _packed(block: np.ndarray, predictor: int, deflate: bool) -> bytes:
    if predictor == 2:
        differences = block.copy()
        differences[:, 1:] = block[:, 1:] - block[:, :-1]
        raw = differences.tobytes()
    elif predictor == 3:
        height, width, channels = block.shape
        size = block.dtype.itemsize
        big_first = np.frombuffer(block.astype(block.dtype.newbyteorder(">")).tobytes(), np.uint8)
        apart = big_first.reshape(height, width * channels, size).transpose(0, 2, 1).reshape(height, -1, channels)
        differences = apart.copy()
        differences[:, 1:] = apart[:, 1:] - apart[:, :-1]
        raw = differences.tobytes()
    else:
        raw = block.tobytes()
    return zlib.compress(raw) if deflate else raw


def _assembled(
    tags: dict[int, tuple[str, list[int]]], data: list[bytes], places: tuple[int, int], order: str, big: bool
) -> bytes:
    head, word = (16, "Q") if big else (8, "I")
    offsets, at = [], head
    for block in data:
        offsets.append(at)
        at += len(block)
    tags = tags | {places[0]: (word, offsets), places[1]: (word, [len(block) for block in data])}
    directory_at = at + at % 2
    entry, inline = (20, 8) if big else (12, 4)
    extra_at = directory_at + (8 if big else 2) + entry * len(tags) + (8 if big else 4)
    directory, extra = struct.pack(order + ("Q" if big else "H"), len(tags)), b""
    for tag, (form, numbers) in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(numbers)}{form}", *numbers)
        directory += struct.pack(f"{order}HH{word}", tag, {"H": 3, "I": 4, "Q": 16}[form], len(numbers))
        if len(packed) > inline:
            directory += struct.pack(order + word, extra_at + len(extra))
            extra += packed
        else:
            directory += packed.ljust(inline, b"\0")
    mark = b"II" if order == "<" else b"MM"
    start = struct.pack(order + "HHHQ", 43, 8, 0, directory_at) if big else struct.pack(order + "HI", 42, directory_at)
    body = b"".join(data)
    return mark + start + body + b"\0" * (directory_at - at) + directory + struct.pack(order + word, 0) + extra
