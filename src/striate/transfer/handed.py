"""Images as Python code hands them over: paths, folders, arrays, Pillow images, rows of numbers; as one `Split`.

| what is handed over | how it is read |
|---|---|
| a path, a folder, a pattern, bytes of a file, a Pillow image, an iterable of these | by `decode`, as everywhere |
| an array [n, H, W] or [n, H, W, C], C = 1 grey, 3 red-green-blue | n images |
| an array or a table of numbers [n, D] | n images of `image_shape`, or of the smallest square that holds D |
| a list of arrays [H, W] or [H, W, C] | images, of different sizes too |
| a `Split` of a data set | its readable images |

Numbers become pixels by the rules of `data.arrays`: uint8, uint16 and booleans as they are, floats from 0 to 1. Any
other numbers need a `value_range`: what counts as black and as white. Numbers beyond it are black and white, too.
Rows that do not fill their square are filled up with black.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from striate.data import Dataset, Images, PhotoImages, Split, TensorImages, decode
from striate.data.arrays import NotPixelsError, to_unsigned
from striate.data.canvases import open_canvases
from striate.data.images import DecodedImages
from striate.data.parts import part_of
from striate.data.scan import PhotoStore, array_digests, canvas_side, scan
from striate.data.sources.found import numbered_paths
from striate.errors import DataError, UnreadableImageError, UsageError
from striate.options import DataOptions
from striate.prediction import expand
from striate.progress import Progress, Silent
from striate.runtime import usable_memory
from striate.spec import Labels

ValueRange = tuple[float, float]
NAME = "images"  # of the split, and of a data set made from it
_USUAL_INPUT = 224  # side for which photos are prepared while they are first read
_MOST_MEMORY = 4 * 2**30  # bytes of photos kept in memory, and never more than a quarter of all there is


def split_of(
    images: Any,
    *,
    image_shape: Sequence[int] | None = None,
    value_range: ValueRange | None = None,
    training: DataOptions | None = None,
    progress: Progress | None = None,
) -> Split:
    """All images that `images` stands for, in their order, of class 0.

    Args:
        images: see the table above.
        image_shape: (H, W) or (H, W, C) of rows.
        value_range: the numbers that are black and white in arrays that are not pixels.
        training: how photos are decoded and kept for images that are looked at again and again; None for images that
            are looked at once.
        progress: where it is said how far the reading is.

    Raises:
        UnreadableImageError: a file or an image that cannot be decoded.
        DataError: no images, numbers that are no pixels, rows that do not fill `image_shape`.
    """
    if isinstance(images, Split):
        return images
    stack = as_stack(images)
    if stack is not None:
        pixels = as_images(_pixels(stack, value_range), image_shape)
        in_rows = TensorImages(np.ascontiguousarray(np.moveaxis(pixels, -1, 1)))
        return _split(in_rows, numbered_paths({NAME: len(pixels)}), array_digests(in_rows.pixels))
    named = list(expand(images.ravel().tolist() if isinstance(images, np.ndarray) else images))
    if not named:
        raise DataError("there are no images", "give at least one path, array or Pillow image")
    for name, source in named:
        if (reason := getattr(source, "reason", None)) is not None:  # stands for a folder or pattern without images
            raise DataError(f"{name}: {reason}", "give the path of an image, or of a folder that holds some")
    paths = [source for _, source in named if isinstance(source, (str, os.PathLike))]
    if len(paths) == len(named):
        return _of_files([Path(path) for path in paths], training, progress or Silent())
    return _of_decoded([name for name, _ in named], [decode(source) for _, source in named])


def as_stack(images: Any) -> np.ndarray | None:
    """`images` as one array of numbers where it is one, or can be: a table, nested lists, arrays of one shape."""
    if isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike)) or hasattr(images, "getbands"):
        return None
    if isinstance(images, (list, tuple)):
        first = images[0] if len(images) else None
        if isinstance(first, np.ndarray) and first.ndim > 1:
            alike = all(isinstance(one, np.ndarray) and one.shape == first.shape for one in images)
            return np.stack(images) if alike and len({one.dtype for one in images}) == 1 else None
        if not isinstance(first, (list, tuple, int, float, np.ndarray, np.generic)):
            return None
    elif not hasattr(images, "__array__"):
        return None
    array = np.asarray(images)
    return array if array.dtype.kind in "biufc" else None


def as_images(stack: np.ndarray, image_shape: Sequence[int] | None = None) -> np.ndarray:
    """Pixels [n, D], [n, H, W] or [n, H, W, C] as [n, H, W, C].

    Raises:
        DataError: another number of axes, no image, or rows that do not fill `image_shape`.
        UsageError: `image_shape` is not (H, W) or (H, W, C).
    """
    if stack.ndim == 2:
        stack = _of_rows(stack, image_shape)
    elif stack.ndim == 3:
        stack = stack[..., None]
    if stack.ndim != 4 or not stack.size:
        shape = " × ".join(map(str, stack.shape))
        raise DataError(
            f"an array of {shape} numbers holds no images", "expected [n, H, W], [n, H, W, C] or rows [n, D]"
        )
    if stack.shape[1] in (1, 3) and stack.shape[3] not in (1, 3) and stack.shape[2] > 3:
        raise DataError(
            f"images of {stack.shape[1]} × {stack.shape[2]} pixels with {stack.shape[3]} channels",
            "channels come last, [n, H, W, C]: images.transpose(0, 2, 3, 1) turns [n, C, H, W] round",
        )
    return stack


def value_range_of(stack: np.ndarray) -> ValueRange | None:
    """What is black and what is white in images that are numbers: None where the type says it, (0, 1) where all are.

    Anything else has its smallest and its largest number.
    """
    if stack.dtype.kind == "b" or (stack.dtype.kind == "u" and stack.dtype.itemsize <= 2):
        return None
    low, high = float(stack.min()), float(stack.max())
    return (0.0, 1.0) if stack.dtype.kind == "f" and low >= 0 and high <= 1 else (low, high)


def checked_range(given: Sequence[float]) -> ValueRange:
    """What somebody says is black and white.

    Raises:
        UsageError: not two numbers, the smaller one first.
    """
    try:
        low, high = map(float, given)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (low < high and math.isfinite(low) and math.isfinite(high)):
        raise UsageError(
            f"value_range = {given!r}", "expected the number that is black and a larger one that is white: (0, 255)"
        )
    return low, high


def training_data(split: Split, targets: np.ndarray, names: Sequence[str], held_out: np.ndarray) -> Dataset:
    """A data set of classes `names` that trains on the images of `split` but those `held_out` (bool [n]).

    `targets` are int [n], or of several labels an image [n, names] of 0 and 1.
    """
    several = targets.ndim == 2
    labelled = replace(split, targets=targets.astype(np.uint8 if several else np.int64))
    images = split.images
    sizes = np.unique(images.sizes, axis=0)
    parts = {"train": ~held_out, "val": held_out}
    return Dataset(
        name=NAME,
        labels=Labels(tuple(names), multi_label=several),
        splits={name: part_of(labelled, np.flatnonzero(part), name) for name, part in parts.items()},
        channels=images.channels,
        bits=images.bits,
        native_size=(int(sizes[0, 0]), int(sizes[0, 1])) if len(sizes) == 1 else None,
        kind="tensor" if isinstance(images, TensorImages) else "photos",
    )


# kinds ----------------------------------------------------------------------------------------------------------------


def _of_rows(rows: np.ndarray, image_shape: Sequence[int] | None) -> np.ndarray:
    """Rows [n, D] as images [n, H, W, C]."""
    if image_shape is None:
        side = max(1, math.isqrt(max(0, rows.shape[1] - 1)) + 1)
        shape: tuple[int, ...] = (side, side, 1)
    else:
        shape = tuple(image_shape)
        if len(shape) not in (2, 3) or not all(isinstance(side, (int, np.integer)) and side > 0 for side in shape):
            raise UsageError(f"image_shape = {image_shape!r}", "expected (height, width) or (height, width, channels)")
        if math.prod(shape) != rows.shape[1]:
            sides = " × ".join(map(str, shape))
            raise DataError(f"rows of {rows.shape[1]} numbers are no images of {sides}", "give their image_shape")
    black = np.zeros((len(rows), math.prod(shape) - rows.shape[1]), rows.dtype)
    return np.concatenate([rows, black], axis=1).reshape(len(rows), *(shape if len(shape) == 3 else (*shape, 1)))


def _pixels(stack: np.ndarray, value_range: ValueRange | None) -> np.ndarray:
    """Numbers of any shape as uint8 or uint16."""
    unsigned = stack.dtype.kind == "b" or (stack.dtype.kind == "u" and stack.dtype.itemsize <= 2)
    if value_range is not None and not unsigned:
        low, high = value_range
        values = (stack.astype(np.float64) - low) / (high - low) if high > low else np.zeros(stack.shape)
        if not np.isfinite(values).all():
            raise DataError("the images hold NaN or infinite values", "replace them first")
        return np.rint(values.clip(0.0, 1.0) * 65535).astype(np.uint16)
    try:
        return to_unsigned(stack)
    except NotPixelsError as error:
        raise DataError(
            f"the images hold {error.message}", "say what is black and what white: value_range=(0, 255)"
        ) from error


def _of_decoded(names: Sequence[str], pixels: Sequence[np.ndarray]) -> Split:
    if len({(image.shape, image.dtype) for image in pixels}) == 1:
        stack = np.stack(pixels)
        images: Images = TensorImages(np.ascontiguousarray(np.moveaxis(stack, -1, 1)))
        return _split(images, names, array_digests(stack))
    digests = np.concatenate([array_digests(image[None]) for image in pixels])
    return _split(DecodedImages(pixels), names, digests)


def _of_files(files: Sequence[Path], training: DataOptions | None, progress: Progress) -> Split:
    names = [str(file) for file in files]
    options, canvases = training or DataOptions(), None
    if training is not None:
        limit = None if options.cache_limit is None else options.cache_limit * 2**20
        owner = os.path.commonpath([file.absolute() for file in files])
        canvases, _ = open_canvases(limit, owner, progress.warn)
    memory = min(_MOST_MEMORY, (usable_memory() or _MOST_MEMORY) // 4)
    if options.cache_memory is not None:
        memory = options.cache_memory * 2**20
    store = PhotoStore(memory, options.workers, canvases, once=training is None)
    side = canvas_side(options.input_size or _USUAL_INPUT) if options.reduced_decoding else None
    infos = scan(files, names, store, side, progress)
    for name, info in zip(names, infos, strict=True):
        if info.error is not None:
            raise UnreadableImageError(name, info.error)
    channels, bits = max(info.channels for info in infos), max(info.bits for info in infos)
    images = PhotoImages(files, infos, store, channels, bits, reduced=options.reduced_decoding)
    return _split(images, names, np.frombuffer(b"".join(info.digest for info in infos), np.uint8).reshape(-1, 16))


def _split(images: Images, paths: Sequence[str], digests: np.ndarray) -> Split:
    targets = np.zeros(len(images), np.int64)
    return Split(name=NAME, targets=targets, paths=paths, images=images, digests=digests)
