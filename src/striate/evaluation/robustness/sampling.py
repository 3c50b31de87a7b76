"""Which images are asked about: some of every class, as many as its share, always the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from striate.data.draws import Draws
from striate.data.split import quotas

if TYPE_CHECKING:
    from striate.data import Split


@dataclass(frozen=True, slots=True)
class Sample:
    """Images of one split after the other, in an order that mixes the classes."""

    positions: tuple[np.ndarray, ...]  # of each split, int64: the readable images
    starts: tuple[int, ...]  # of each split: what is added to a position to number all images of all splits
    unreadable: int  # images that were drawn and cannot be read
    of: int  # images that there are

    @property
    def readable(self) -> int:
        """How many can be asked about."""
        return sum(map(len, self.positions))

    @property
    def n(self) -> int:
        """All that were drawn."""
        return self.readable + self.unreadable


def sample_of(splits: Sequence[Split], most: int | None, names: Sequence[str], *, seed: int = 0) -> Sample:
    """`most` images, None for all, in which each class has its share, rounded so that the whole comes out.

    Args:
        splits: their targets number `names`.
        most: images, unreadable ones among them.
        names: of the classes; an unreadable image of another one is left out, as an evaluation does.
        seed: of the draws.
    """
    number = {name: place for place, name in enumerate(names)}
    starts = np.cumsum([0, *map(len, splits)])
    readable = int(starts[-1])
    lost = [number[one.label] for split in splits for one in split.unreadable if one.label in number]
    classes = np.concatenate([*(np.asarray(split.targets) for split in splits), lost]).astype(np.int64)
    order = np.argsort(Draws(seed, 0, np.arange(len(classes))).states("robustness"), kind="stable")
    if most is not None and most < len(classes):
        wanted = quotas(np.bincount(classes, minlength=len(names)), most)
        sorted_ = order[np.argsort(classes[order], kind="stable")]
        ends = np.cumsum(np.bincount(classes, minlength=len(names)))
        rank = np.empty(len(classes), np.int64)
        rank[sorted_] = np.arange(len(classes)) - np.concatenate([[0], ends])[classes[sorted_]]
        order = order[rank[order] < wanted[classes[order]]]
    positions = tuple(order[(order >= start) & (order < end)] - start for start, end in pairwise(starts))
    return Sample(positions, tuple(starts[:-1].tolist()), int((order >= readable).sum()), len(classes))
