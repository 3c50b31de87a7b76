"""The data doctor: what is in a data set, and what is wrong with it. It looks, and never changes anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from striate.data.dataset import Dataset, LeftOut
from striate.data.images import PhotoImages
from striate.data.load import load_data
from striate.data.near import groups_of_pairs, mirrored_pairs, near_pairs, perceptual_hashes
from striate.data.odd import OddImage, odd_images
from striate.data.sources.sides import ALL
from striate.data.wording import counted
from striate.errors import DataError
from striate.options.sections import DataOptions
from striate.progress import Progress, Silent

IMBALANCE = 5.0  # largest over smallest class of the training split, from which it is worth a warning
FEW_IMAGES = 10  # training images of a class below which it is worth a warning
LABEL_SHIFT = 0.1  # total variation distance between the class shares of two splits, likewise
_SPLIT_ORDER = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class ImageGroup:
    """Images that are the same ("exact": byte for byte) or nearly so.

    "near": but for size, compression, brightness; "mirrored": some of them are also mirrored left for right.
    """

    kind: str
    paths: tuple[str, ...]
    splits: tuple[str, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """The images of one class: readable ones by split, and unreadable ones."""

    label: str
    train: int
    val: int
    test: int
    unreadable: int
    all: int = 0  # in data that can only be scored and give no splits


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What `striate check` reports. Counts are images unless said otherwise."""

    name: str
    images: int  # found, readable or not
    classes: int
    trainable: bool  # False: they can be scored, and the first warning says why not trained on
    splits: dict[str, int]  # readable images
    unreadable: int
    duplicates: int  # byte for byte the same as an earlier one
    near_duplicates: int  # nearly the same as an earlier one, and not counted above
    leaks: int  # in val or test, with the same or nearly the same image in another split
    label_conflicts: int  # groups of identical images under different labels
    odd: int  # uniform, blank, tiny, or far longer than wide
    warnings: tuple[str, ...]
    notes: tuple[str, ...]  # decisions taken in loading
    unreadable_files: tuple[LeftOut, ...]
    duplicate_groups: tuple[ImageGroup, ...]
    near_duplicate_groups: tuple[ImageGroup, ...]
    leaking_groups: tuple[ImageGroup, ...]
    conflicting_groups: tuple[ImageGroup, ...]
    odd_images: tuple[OddImage, ...]
    sizes: dict[str, Any]  # smallest, median, largest (height, width by area), distinct, most_common
    modes: dict[str, int]
    formats: dict[str, int]
    exif_rotated: int
    per_class: tuple[ClassCounts, ...]
    imbalance: float | None  # largest over smallest class of the training split
    labels_per_image: dict[int, int] | None = None  # images by how many labels they have; None where each has one

    def to_dict(self) -> dict[str, Any]:
        """The form that `striate check --json` prints."""
        row = {name: getattr(self, name) for name in self.__slots__}
        for name in ("duplicate_groups", "near_duplicate_groups", "leaking_groups", "conflicting_groups"):
            row[name] = [
                {"kind": one.kind, "paths": one.paths, "splits": one.splits, "labels": one.labels} for one in row[name]
            ]
        if self.labels_per_image is None:
            del row["labels_per_image"]
        row["per_class"] = [asdict(one) for one in self.per_class]
        row["odd_images"] = [asdict(one) for one in self.odd_images]
        row["unreadable_files"] = [
            {"path": one.path, "reason": one.reason, "split": one.split, "label": one.label}
            for one in self.unreadable_files
        ]
        return row


def check(options: DataOptions | str, *, progress: Progress | None = None) -> CheckReport:
    """Load data and look at every image; data that can be scored but not trained on are examined as they are.

    Raises:
        UnknownNameError, DataError, OfflineError, UsageError: as `load_data`, of data that cannot even be scored.
    """
    dataset, refused = load_to_check(options, progress=progress)
    return examine(dataset, refused=refused, progress=progress)


def load_to_check(options: DataOptions | str, *, progress: Progress | None = None) -> tuple[Dataset, str | None]:
    """The data, for training where they can be trained on, else for scoring, and why they cannot be trained on.

    Raises:
        As `check`.
    """
    try:
        return load_data(options, progress=progress), None
    except DataError as refusal:
        try:
            dataset = load_data(options, scoring=True, progress=progress)
        except DataError:
            raise refusal from None
        return dataset, f"{refusal.message} ({refusal.hint})" if refusal.hint else refusal.message


def examine(dataset: Dataset, *, refused: str | None = None, progress: Progress | None = None) -> CheckReport:
    """Look at every image of a loaded data set.

    Args:
        dataset: as `load_data` gives it, for training or for scoring.
        refused: why it cannot be trained on, where that is known.
        progress: where it is said how far the search is.

    Raises:
        DataError: a file changed or vanished since the data were loaded.
    """
    if refused is None and "train" not in dataset.splits:
        refused = f"{dataset.name} gives no training images"
    images = _Table(dataset)
    exact = images.groups("exact", _equal_rows(images.digests))
    with (progress or Silent()).task("looking for near duplicates", len(images)) as task:
        thumbnails = [split.images.thumbnails() for split in dataset.splits.values() if len(split)]
        near = _near_groups(images, np.concatenate(thumbnails))
        task.advance(len(images))
    sizes = np.concatenate([split.images.sizes for split in dataset.splits.values()])
    odd = tuple(
        OddImage(kind, images.paths[row], images.splits[row], images.labels[row], detail)
        for row, kind, detail in odd_images(np.concatenate(thumbnails), sizes)
    )
    leaking = [group for group in (*exact, *near) if len(set(group.splits)) > 1]
    conflicting = [group for group in exact if len(set(group.labels)) > 1]
    per_class = _per_class(dataset)
    training = [one.train for one in per_class]
    facts: dict[str, Any] = {
        "images": len(images) + len(dataset.left_out),
        "classes": len(dataset.labels),
        "trainable": refused is None,
        "splits": {name: len(split) for name, split in dataset.splits.items()},
        "unreadable": len(dataset.left_out),
        "duplicates": sum(len(group.paths) - 1 for group in exact),
        "near_duplicates": sum(len(group.paths) - 1 for group in near),
        "leaks": len(_leaked(leaking)),
        "label_conflicts": len(conflicting),
        "odd": len(odd),
        "sizes": _sizes(sizes),
        "per_class": tuple(per_class),
        "imbalance": max(training) / min(training) if training and min(training) else None,
        "labels_per_image": _labels_per_image(dataset),
        **_file_facts(dataset),
    }
    return CheckReport(
        name=dataset.name,
        warnings=(*_only_scored(refused), *_warnings(facts, dataset)),
        notes=dataset.notes,
        unreadable_files=dataset.left_out,
        duplicate_groups=tuple(exact),
        near_duplicate_groups=tuple(near),
        leaking_groups=tuple(leaking),
        conflicting_groups=tuple(conflicting),
        odd_images=odd,
        **facts,
    )


class _Table:
    """All readable images in one row of columns."""

    def __init__(self, dataset: Dataset) -> None:
        splits = dataset.splits.values()
        self.paths = [path for split in splits for path in split.paths]
        self.splits = [split.name for split in splits for _ in range(len(split))]
        self.labels = [text for split in splits for text in split.label_texts(dataset.labels)]
        self.digests = np.concatenate([split.digests for split in splits])

    def __len__(self) -> int:
        return len(self.paths)

    def groups(self, kind: str, rows: Iterable[list[int]]) -> list[ImageGroup]:
        """The named images of groups of row numbers."""
        return [
            ImageGroup(
                kind,
                tuple(self.paths[row] for row in group),
                tuple(self.splits[row] for row in group),
                tuple(self.labels[row] for row in group),
            )
            for group in rows
        ]


def _equal_rows(digests: np.ndarray) -> list[list[int]]:
    """Groups of at least two equal rows."""
    words = np.ascontiguousarray(digests).view("<u8")
    order = np.lexsort((words[:, 1], words[:, 0]))
    equal = (words[order[1:]] == words[order[:-1]]).all(axis=1)
    return groups_of_pairs(np.stack([order[:-1][equal], order[1:][equal]], axis=1))


def _near_groups(images: _Table, thumbnails: np.ndarray) -> list[ImageGroup]:
    """Groups of images that are nearly equal; of byte-for-byte equal ones only the first takes part."""
    words = np.ascontiguousarray(images.digests).view("<u8")
    _, first = np.unique(words[:, 0], return_index=True)
    rows = np.sort(first)
    thumbnails = thumbnails[rows]
    hashes = perceptual_hashes(thumbnails)
    plain, mirrored = rows[near_pairs(thumbnails, hashes)], rows[mirrored_pairs(thumbnails, hashes)]
    alike = set(map(tuple, plain.tolist()))  # what is nearly its own mirror image is no mirrored copy
    turned = {row for pair in mirrored.tolist() if tuple(pair) not in alike for row in pair}
    found = []
    for group in groups_of_pairs(np.concatenate([plain, mirrored])):
        found += images.groups("near" if turned.isdisjoint(group) else "mirrored", [group])
    return found


def _leaked(leaking: list[ImageGroup]) -> set[str]:
    """The images that are not in the first split of their group."""
    leaked = set()
    for group in leaking:
        home = min(group.splits, key=_SPLIT_ORDER.index)
        leaked |= {path for path, split in zip(group.paths, group.splits, strict=True) if split != home}
    return leaked


def _per_class(dataset: Dataset) -> list[ClassCounts]:
    names = dataset.labels.names
    counts = {name: split.class_counts(len(names)).tolist() for name, split in dataset.splits.items()}
    unreadable: Counter[str | None] = Counter()
    for one in dataset.left_out:
        unreadable.update([one.label] if one.targets is None else [names[place] for place in one.targets])

    def count(split: str, position: int) -> int:
        return counts[split][position] if split in counts else 0

    return [
        ClassCounts(
            label=name,
            train=count("train", position),
            val=count("val", position),
            test=count("test", position),
            unreadable=unreadable[name],
            all=count(ALL, position),
        )
        for position, name in enumerate(names)
    ]


def _labels_per_image(dataset: Dataset) -> dict[int, int] | None:
    """How many readable images have how many labels."""
    if not dataset.labels.multi_label:
        return None
    counts = np.bincount(np.concatenate([split.targets.sum(axis=1) for split in dataset.splits.values()]))
    return {number: int(count) for number, count in enumerate(counts) if count}


def _sizes(sizes: np.ndarray) -> dict[str, Any]:
    distinct, counts = np.unique(sizes, axis=0, return_counts=True)
    by_area = sizes[np.argsort(sizes.prod(axis=1, dtype=np.int64), kind="stable")].tolist()
    common = np.argsort(-counts, kind="stable")[:5]
    return {
        "smallest": by_area[0],
        "median": by_area[len(by_area) // 2],
        "largest": by_area[-1],
        "distinct": len(distinct),
        "most_common": [{"size": distinct[at].tolist(), "count": int(counts[at])} for at in common],
    }


def _file_facts(dataset: Dataset) -> dict[str, Any]:
    """Modes, formats and rotations, as the files have them."""
    modes: Counter[str] = Counter()
    formats: Counter[str] = Counter()
    rotated = 0
    for split in dataset.splits.values():
        if isinstance(split.images, PhotoImages):
            modes.update(info.mode for info in split.images.infos)
            formats.update(info.format for info in split.images.infos)
            rotated += sum(info.orientation != 1 for info in split.images.infos)
        else:
            modes[f"uint{split.images.bits} × {split.images.channels}"] += len(split)
    return {"modes": dict(modes.most_common()), "formats": dict(formats.most_common()), "exif_rotated": rotated}


def _only_scored(refused: str | None) -> Iterable[str]:
    if refused is not None:
        yield f"these images can be scored (striate evaluate) but not trained on: {refused}"


def _warnings(facts: dict[str, Any], dataset: Dataset) -> Iterable[str]:
    """The findings that need a decision, in plain words, the gravest first."""
    if facts["leaks"]:
        held_out = counted(facts["leaks"], "image is held out but has", "images are held out but have")
        yield f"{held_out} a copy in another split: scores will flatter the network"
    if facts["label_conflicts"]:
        under = "different labels" if facts["labels_per_image"] is not None else "more than one label"
        yield counted(facts["label_conflicts"], "image occurs", "images occur") + f" under {under}"
    if facts["unreadable"]:
        unreadable = counted(facts["unreadable"], "image", "images")
        yield f"{unreadable} cannot be read: left out in training, wrong in an evaluation"
    for name in ("val", "test"):
        missing = [one.label for one in facts["per_class"] if name in dataset.splits and not getattr(one, name)]
        if missing:
            yield f"{name} has no image of {_listed(missing)}"
    few = [f"{one.label} ({one.train})" for one in facts["per_class"] if one.train < FEW_IMAGES]
    if few and "train" in dataset.splits:
        yield f"fewer than {FEW_IMAGES} training images: {_listed(few)}"
    if facts["imbalance"] is not None and facts["imbalance"] >= IMBALANCE:
        yield f"the largest class has {facts['imbalance']:.1f} times the training images of the smallest"
    yield from _shifts(dataset)
    per_image = facts["labels_per_image"]
    if per_image and 0 in per_image:
        without = counted(per_image[0], "image has", "images have")
        yield f"{without} no label: training takes them as images of none of the labels"
    if facts["duplicates"]:
        yield counted(facts["duplicates"], "image is an exact copy of another", "images are exact copies of others")
    if facts["near_duplicates"]:
        near = facts["near_duplicates"]
        yield counted(near, "image is nearly the same as another", "images are nearly the same as others")
    if facts["odd"]:
        yield counted(facts["odd"], "image is", "images are") + " odd: uniform, blank, tiny or very long"


def _shifts(dataset: Dataset) -> Iterable[str]:
    """Splits whose classes have other shares than in training, beyond what chance explains."""
    classes = len(dataset.labels)
    if "train" not in dataset.splits:
        return
    counts = dataset.splits["train"].class_counts(classes)
    expected = counts / max(1, counts.sum())  # an image with several labels counts for each
    for name in ("val", "test"):
        split = dataset.splits.get(name)
        if split is None or not len(split):
            continue
        counts = split.class_counts(classes)
        n = max(1, counts.sum())
        distance = float(np.abs(counts / n - expected).sum()) / 2
        by_chance = float(np.sqrt(expected * (1 - expected) / n).sum()) / 2
        if distance > LABEL_SHIFT and distance > 2 * by_chance:
            yield f"the classes have other shares in {name} than in train (they differ by {100 * distance:.0f} %)"


def _listed(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
