"""Parts of the training images for trials: some learn, some are held out. Validation images are never among them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from striate.data.dataset import Dataset, Split
from striate.data.images import Images, PhotoImages, TensorImages
from striate.data.split import assign, shares
from striate.options import DataOptions
from striate.spec import InputSpec

if TYPE_CHECKING:
    import torch

Rows = np.ndarray  # int64: positions in the training split, ascending


def part_of(split: Split, rows: Rows, name: str | None = None) -> Split:
    """The images of `split` at `rows`, sharing files and caches with it."""
    return replace(
        split,
        name=split.name if name is None else name,
        targets=split.targets[rows],
        paths=[split.paths[row] for row in rows.tolist()],
        images=_images_of(split.images, rows),
        unreadable=(),
        digests=split.digests[rows] if len(split.digests) == len(split) else split.digests,
        groups=None if split.groups is None else [split.groups[row] for row in rows.tolist()],
    )


def folds_of(split: Split, rows: Rows, folds: int, seed: int = 0) -> Iterator[tuple[Rows, Rows]]:
    """(learn, held out) of each fold of `rows`: stratified; images of equal content, or of one group, share a side.

    A class always keeps an image to learn from, so that the rarest may be missing from what is held out.
    """
    digests, groups = digests_of(split)[rows], None
    if split.groups is not None:
        groups = [split.groups[row] for row in rows.tolist()]
    for fold in range(folds):
        sides = assign(
            digests, split.targets[rows], groups=groups, seed=seed, val=(fold / folds, (fold + 1) / folds), exact=True
        )
        yield rows[sides == "train"], rows[sides == "val"]


def thinned(split: Split, rows: Rows, count: int, seed: int = 0) -> Rows:
    """At most `count` of `rows`, the same share of each class."""
    return rows[shares(split.targets[rows], digests_of(split)[rows], count, seed)]


def trial_data(dataset: Dataset, learn: Rows, held_out: Rows) -> Dataset:
    """A data set whose train and val are parts of the training images of `dataset`."""
    train = dataset.splits["train"]
    splits = {"train": part_of(train, learn), "val": part_of(train, held_out, "val")}
    options = replace(dataset.options, limit=None) if isinstance(dataset.options, DataOptions) else None
    return replace(dataset, splits=splits, left_out=(), beyond_limit=(), notes=(), options=options)


def digests_of(split: Split) -> np.ndarray:
    """uint8 [n, 16]: the contents' hashes; of a split made by hand, which has none, hashes of the positions."""
    if len(split.digests) == len(split):
        return split.digests
    words = np.arange(1, len(split) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return np.stack([words, words ^ np.uint64(0xA5A5A5A5A5A5A5A5)], axis=1).view(np.uint8)


def _images_of(images: Images, rows: Rows) -> Images:
    if isinstance(images, TensorImages):
        return TensorImages(images.pixels[rows])
    if isinstance(images, PhotoImages):
        positions = rows.tolist()
        return PhotoImages(
            [images.files[row] for row in positions], [images.infos[row] for row in positions], images.store,
            images.channels, images.bits, reduced=images.reduced,
        )  # fmt: skip
    return _Chosen(images, rows)


class _Chosen(Images):
    """Images of another kind, seen through `rows`."""

    def __init__(self, images: Images, rows: Rows) -> None:
        self._images, self._rows = images, rows
        self.channels, self.bits, self.sizes = images.channels, images.bits, images.sizes[rows]

    def take(self, indices: np.ndarray, spec: InputSpec, boxes: np.ndarray | None = None) -> torch.Tensor:
        """See `Images.take`."""
        return self._images.take(self._rows[indices], spec, boxes)

    def raw(self, index: int) -> np.ndarray:
        """See `Images.raw`."""
        return self._images.raw(int(self._rows[index]))

    def thumbnails(self) -> np.ndarray:
        """See `Images.thumbnails`."""
        return self._images.thumbnails()[self._rows]
