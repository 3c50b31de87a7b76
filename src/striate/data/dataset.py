"""A data set once loaded: its splits, what was left out and why, and the manifest that a run writes down."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from striate.data.images import Images
from striate.options.sections import DataOptions
from striate.spec import Labels

if TYPE_CHECKING:
    import pyarrow


SEPARATOR = "|"  # between the labels of an image that has several; no label contains it


def joined(names: Iterable[str]) -> str:
    """Several labels as one text."""
    return SEPARATOR.join(names)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One image that is not among those of its split, and why."""

    path: str
    reason: str
    split: str
    label: str | None = None  # several labels are joined by SEPARATOR; "" where the image has none
    digest: bytes | None = None  # None where the content could not even be read
    group: str | None = None
    target: int | None = None  # the position of `label` among the data's own labels; None where there may be several
    targets: tuple[int, ...] | None = None  # the positions of all labels where there may be several


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """The n readable images of one side, and beside them those that could not be read.

    Training skips unreadable images; an evaluation counts them as wrong.
    """

    name: str
    targets: np.ndarray  # int64 [n]; of several labels an image uint8 [n, classes] of 0 and 1
    paths: Sequence[str]  # relative to the data's root; "train[123]" for sets without files
    images: Images
    unreadable: tuple[LeftOut, ...] = ()
    digests: np.ndarray = field(default_factory=lambda: np.empty((0, 16), np.uint8))  # uint8 [n, 16]
    groups: Sequence[str | None] | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def multi_label(self) -> bool:
        """Whether an image has any number of labels."""
        return self.targets.ndim == 2

    @property
    def unreadable_targets(self) -> list[int]:
        """The class of each unreadable image; empty where an image has any number of labels."""
        return [one.target for one in self.unreadable if one.target is not None]

    @property
    def unreadable_labels(self) -> np.ndarray:
        """uint8 [unreadable images, classes]: the labels of each, where an image has any number of them."""
        rows = [one.targets for one in self.unreadable if one.targets is not None]
        found = np.zeros((len(rows), self.targets.shape[1]), np.uint8)
        for row, positions in zip(found, rows, strict=True):
            row[list(positions)] = 1
        return found

    def class_counts(self, classes: int) -> np.ndarray:
        """int64 [classes]: readable images of each class; of several labels an image, an image counts for each."""
        if self.multi_label:
            return self.targets.sum(axis=0, dtype=np.int64)
        return np.bincount(self.targets, minlength=classes)

    def label_texts(self, labels: Labels, rows: np.ndarray | None = None) -> list[str]:
        """The label of each image, or of those in `rows`, as text: several joined by SEPARATOR, "" for none."""
        targets = self.targets if rows is None else self.targets[rows]
        if not self.multi_label:
            return [labels.names[target] for target in targets.tolist()]
        return [joined(labels.names[place] for place in np.flatnonzero(row)) for row in targets]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Dataset:
    """Images with labels, split into train and val, and test where there is one."""

    name: str
    labels: Labels
    splits: dict[str, Split]
    left_out: tuple[LeftOut, ...] = ()  # unreadable images, by name
    official_test: bool = False  # the test split is the publisher's or the folder's own
    channels: int = 1  # of the images: 3 where grey and colour are mixed
    bits: int = 8  # of the images, 8 or 16: the most that any has
    native_size: tuple[int, int] | None = None  # height, width where all images share them
    kind: str = "tensor"  # "tensor": all in one array; "photos": files
    notes: tuple[str, ...] = ()  # decisions taken, in plain words
    options: DataOptions | None = None  # what it was loaded by; None where it was made by hand
    beyond_limit: tuple[LeftOut, ...] = ()  # training images that `limit` does not use

    def manifest(self) -> pyarrow.Table:
        """One row per image: path, hash, label, group, split, and the reason where it was left out (else null)."""
        import pyarrow

        columns: dict[str, list[str | None]] = {name: [] for name in _MANIFEST}
        for split in self.splits.values():
            columns["path"] += split.paths
            columns["hash"] += _hex(split.digests, len(split))
            columns["label"] += split.label_texts(self.labels)
            columns["group"] += split.groups if split.groups is not None else [None] * len(split)
            columns["split"] += [split.name] * len(split)
            columns["reason"] += [None] * len(split)
        for one in (*self.left_out, *self.beyond_limit):
            values = (one.path, one.digest.hex() if one.digest else None, one.label, one.group, one.split, one.reason)
            for name, value in zip(_MANIFEST, values, strict=True):
                columns[name].append(value)
        return pyarrow.table(
            {name: pyarrow.array(_valid(values), pyarrow.string()) for name, values in columns.items()}
        )


_MANIFEST = ("path", "hash", "label", "group", "split", "reason")


def printable(text: str) -> str:
    """`text` as valid Unicode: the undecodable bytes of a file name become backslash escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _valid(texts: list[str | None]) -> list[str | None]:
    return [text if text is None or text.isascii() else printable(text) for text in texts]


def _hex(digests: np.ndarray, count: int) -> list[str | None]:
    if len(digests) != count:  # a split made by hand, without hashes
        return [None] * count
    text, width = digests.tobytes().hex(), 2 * digests.shape[1]
    return [text[start : start + width] for start in range(0, len(text), width)]
