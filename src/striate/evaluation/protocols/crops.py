"""Crops of the network's input size, cut from larger versions of each image: which ones, and their answers.

An image is decoded once and resized once for each short side; crops are then cut at whole pixels. Mirror images are
crops of the mirrored image, so that an image and its mirror image get the same answer. A crop that occurs several
times, as the corners of an image no larger than the crop do, is looked at once and counts as often as it occurs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from striate.data.fit import fit
from striate.data.normalise import normalise
from striate.data.scaled import scaled
from striate.evaluation.protocols.averages import Averages
from striate.evaluation.protocols.names import least_sizes
from striate.inference.forward import evaluating, forward
from striate.progress import Progress, Silent
from striate.spec import InputSpec

if TYPE_CHECKING:
    from striate.data import Images

Crop = tuple[np.ndarray, int]  # [C, h, w] of stored pixels, and how often it counts


def crops_of(image: np.ndarray, spec: InputSpec, views: str) -> list[Crop]:
    """The crops of one decoded image [H, W, C]: ten-crop, multi-scale or 144-crop; together they count 10, 50 or 144.

    - ten-crop: corners and centre of the middle of the resized image, a square of 256 pixels for crops of 224, and
      their mirror images (Krizhevsky et al. 2012, sec. 4.1).
    - multi-scale: the same of the whole resized image, whose short side is 224, 256, 384, 480 and 640 in turn.
    - 144-crop: of images with short sides 256, 288, 320 and 352 the left, middle and right square (or top, middle and
      bottom); of each square the corners, the centre, and the square itself resized, and their mirror images (Szegedy
      et al. 2014, 1409.4842, sec. 7).
    """
    found: list[Crop] = []
    for least in least_sizes(views, spec):
        canvas = scaled(image, least, spec)
        for side in (canvas, canvas[..., ::-1]):
            if views == "multi-scale":
                found += _five(side, spec.size)
            elif views == "ten-crop":
                found += _five(_cut(side, _centre(side, least), least), spec.size)
            else:
                found += _of_squares(side, least, spec)
    return found


def cropped_answers(
    network: nn.Module,
    images: Images,
    spec: InputSpec,
    views: str,
    averages: Averages,
    *,
    batch_size: int,
    device: torch.device,
    precision: str,
    channels_last: bool = False,
    progress: Progress | None = None,
) -> torch.Tensor:
    """The averaged answers [n, classes] to the crops of every image, which fill batches of `batch_size` crops."""
    pixels: list[np.ndarray] = []
    owners: list[int] = []
    counts: list[int] = []

    def ask() -> None:
        stored = torch.from_numpy(np.stack(pixels)).to(device)
        if channels_last:
            stored = stored.contiguous(memory_format=torch.channels_last)
        averages.add(forward(network, normalise(stored, spec), precision), owners, counts)
        for pending in (pixels, owners, counts):
            pending.clear()

    of_each = images.each(lambda image: crops_of(image, spec, views))
    with evaluating(network), (progress or Silent()).task("evaluating", len(images)) as task:
        for owner, crops in enumerate(of_each):
            for crop, count in crops:
                pixels.append(crop)
                owners.append(owner)
                counts.append(count)
                if len(pixels) == batch_size:
                    ask()
            task.advance()
        if pixels:
            ask()
    return averages.result()


def _of_squares(canvas: np.ndarray, side: tuple[int, int], spec: InputSpec) -> Iterator[Crop]:
    """Six crops of each of three squares along the longer way; squares are as high and wide as `side`."""
    centre = _centre(canvas, side)
    last = (canvas.shape[1] - side[0], canvas.shape[2] - side[1])
    for place, count in Counter([(0, 0), centre, last]).items():
        square = _cut(canvas, place, side)
        whole = replace(spec, resize="squash")  # of a square, whatever the rule for images
        yield from ((crop, count * times) for crop, times in _five(square, spec.size))
        yield fit(np.moveaxis(_narrow(square), 0, 2), whole), count


def _five(canvas: np.ndarray, size: tuple[int, int]) -> Iterator[Crop]:
    """The corners and the centre of [C, h, w], crops that coincide as one."""
    bottom, right = canvas.shape[1] - size[0], canvas.shape[2] - size[1]
    places = [(0, 0), (0, right), (bottom, 0), (bottom, right), _centre(canvas, size)]
    for place, count in Counter(places).items():
        yield _cut(canvas, place, size), count


def _centre(canvas: np.ndarray, size: tuple[int, int]) -> tuple[int, int]:
    return (canvas.shape[1] - size[0]) // 2, (canvas.shape[2] - size[1]) // 2


def _cut(canvas: np.ndarray, place: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    return canvas[:, place[0] : place[0] + size[0], place[1] : place[1] + size[1]]


def _narrow(pixels: np.ndarray) -> np.ndarray:
    """Stored pixels in the type that decoded ones have: 16 bits are kept in 32."""
    return pixels if pixels.dtype == np.uint8 else pixels.astype(np.uint16)
