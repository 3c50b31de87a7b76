"""The images that a caller names: paths, folders, patterns, bytes, arrays or Pillow images, one after the other."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import count, islice
from typing import Any

import numpy as np
import torch

from striate.data.decode import decode
from striate.data.fit import fit
from striate.data.sources.folder import IMAGE_SUFFIXES
from striate.errors import DataError, UnreadableImageError
from striate.spec import InputSpec


def pixels_or_reason(source: Any, spec: InputSpec) -> np.ndarray | str:
    """One image of `expand` as the network's pixels [C, H, W], or why it cannot be read."""
    if isinstance(source, Unusable):
        return source.reason
    try:
        return fit(decode(source), spec)
    except UnreadableImageError as error:
        return error.reason
    except DataError as error:  # a channel count that does not convert
        return error.message


class Unusable:
    """Stands for a source that is no image, with the reason."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def expand(images: Any) -> Iterator[tuple[str, Any]]:
    """Every single image that `images` stands for, lazily: (the name that people see, what `decode` takes).

    A folder or pattern without any image comes as one entry that `decode` is not asked about, but that has an error.

    Raises:
        TypeError: something that is no image, path or iterable.
    """
    number = count()
    yield from _expand(images, lambda: f"image[{next(number)}]")


def count_paths(paths: Iterable[str], at_most: int = 100_000) -> int:
    """How many images paths, folders and patterns stand for; beyond `at_most` it is not worth counting on."""
    return sum(1 for _ in islice(expand(paths), at_most))


def _expand(images: Any, next_name: Callable[[], str]) -> Iterator[tuple[str, Any]]:
    if isinstance(images, (str, os.PathLike)):
        yield from _paths(os.fspath(images))
    elif isinstance(images, (bytes, bytearray, memoryview)):
        yield next_name(), bytes(images)
    elif isinstance(images, np.ndarray):
        for image in images if images.ndim == 4 else [images]:
            yield next_name(), image
    elif isinstance(images, Unusable):  # of an earlier `expand`
        yield next_name(), images
    elif hasattr(images, "getbands"):  # a Pillow image; asking for the class would load Pillow
        yield getattr(images, "filename", "") or next_name(), images
    elif hasattr(images, "read"):
        yield getattr(images, "name", None) or next_name(), images.read()
    elif isinstance(images, Iterable) and not isinstance(images, torch.Tensor):
        for one in images:
            yield from _expand(one, next_name)
    else:
        kind = type(images).__name__
        raise TypeError(f"cannot predict on a {kind}: give a path, bytes, a NumPy array or a Pillow image")


def _paths(text: str) -> Iterator[tuple[str, Any]]:
    if os.path.isdir(text):
        yield from _all_or(_images_below(text), text, "a folder without images")
    elif glob.has_magic(text) and not os.path.exists(text):
        found = (path for path in sorted(glob.glob(text, recursive=True)) if not os.path.isdir(path))
        yield from _all_or(found, text, "no file matches")
    else:
        yield text, text


def _all_or(paths: Iterable[str], text: str, reason: str) -> Iterator[tuple[str, Any]]:
    found = False
    for path in paths:
        found = True
        yield path, path
    if not found:
        yield text, Unusable(reason)


def _images_below(folder: str) -> Iterator[str]:
    """The files with an image's ending, in the order of their names, folder by folder; hidden ones do not exist."""
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
                yield os.path.join(root, name)
