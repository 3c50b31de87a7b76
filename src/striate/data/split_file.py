"""A split that nothing leaks through, as a table that `striate train` reads: of image files as its data, of data in
arrays by `--split-file`. Images are never touched.

Images that belong together (the same or nearly the same content, or one group by `--group`) are one unit, and so is
whatever is connected by a chain of these. A unit that lies on several sides goes to the one that has most of it, to
train where that is a draw: so the fewest images change sides. A class keeps images to train on.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from striate.data.dataset import SEPARATOR, Dataset
from striate.data.doctor import CheckReport, ImageGroup
from striate.data.sources.sides import ALL
from striate.data.sources.table import TABLE_SUFFIXES
from striate.data.sources.written import COLUMNS as ARRAY_COLUMNS
from striate.errors import DataError, UsageError

COLUMNS = ("path", "label", "split", "group")
_SPLITS = ("train", "val", "test")  # of equal shares the first


@dataclass(frozen=True, slots=True)
class Moved:
    """An image that has another side than before."""

    path: str
    before: str
    now: str


@dataclass(frozen=True, slots=True)
class SplitFile:
    """What was written."""

    file: Path
    images: int
    splits: dict[str, int]
    moved: tuple[Moved, ...]


@dataclass(slots=True)
class _Row:
    path: str
    label: str
    split: str
    group: str | None


def write_split_file(dataset: Dataset, report: CheckReport, file: Path) -> SplitFile:
    """Write path, label, split and group of every image, unreadable ones too, without leaks between the splits.

    The labels of an image that has several are joined by SEPARATOR: such a table is read with ``--label-delimiter``.
    Paths are relative to the folder of `file`; images in arrays have their content's hash beside them. Images of one
    unit share a group; `--group group` keeps them together in cross-validation as well (a split file of arrays does so
    by itself).

    Args:
        dataset: loaded for training.
        report: what `examine` found in it.
        file: a CSV file; it is replaced.

    Raises:
        UsageError: data made by hand or only scored, not all images, or another kind of file.
        DataError: a path or a label that a table cannot hold.
        OSError: the file cannot be written.
    """
    _refuse(dataset, file)
    rows = {row.path: row for row in _rows(dataset)}
    unit_of = units(dataset, (*report.duplicate_groups, *report.near_duplicate_groups))
    members: dict[str, list[_Row]] = {}
    for path, name in unit_of.items():
        members.setdefault(name, []).append(rows[path])
        rows[path].group = name
    before = {path: row.split for path, row in rows.items()}
    for unit in members.values():
        counts = Counter(row.split for row in unit)
        home = max(_SPLITS, key=lambda split: (counts[split], -_SPLITS.index(split)))
        for row in unit:
            row.split = home
    _keep_training(rows, members, {one.path for one in dataset.left_out}, dataset.labels.multi_label)
    if dataset.kind == "photos":
        _write(file, COLUMNS, _file_cells(file, _root(dataset), rows, dataset.labels.multi_label))
    else:
        _write(file, ARRAY_COLUMNS, _array_cells(dataset, rows))
    moved = tuple(Moved(path, before[path], row.split) for path, row in rows.items() if row.split != before[path])
    counts = Counter(row.split for row in rows.values())
    return SplitFile(file, len(rows), {name: counts[name] for name in _SPLITS if counts[name]}, moved)


def units(dataset: Dataset, alike: tuple[ImageGroup, ...], *, given: bool = True) -> dict[str, str]:
    """The unit of every image that is not alone: named after its group, or after its first image.

    Args:
        dataset: the images.
        alike: groups of images that are the same or nearly so.
        given: whether the groups that the user gave join images, too.
    """
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(item: tuple[str, str]) -> tuple[str, str]:
        while parent.setdefault(item, item) != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    groups = dict(_groups(dataset)) if given else {}
    for path, group in groups.items():
        parent[root(("image", path))] = root(("group", group))
    for one in alike:
        for path in one.paths[1:]:
            parent[root(("image", path))] = root(("image", one.paths[0]))
    names: dict[tuple[str, str], str] = {}
    images = [item for item in list(parent) if item[0] == "image"]
    for item in images:
        names.setdefault(root(item), groups.get(item[1], item[1]))
    return {item[1]: names[root(item)] for item in images}


def _groups(dataset: Dataset) -> Iterator[tuple[str, str]]:
    for split in dataset.splits.values():
        for path, group in zip(split.paths, split.groups or [None] * len(split), strict=True):
            if group is not None:
                yield path, group
    yield from ((one.path, one.group) for one in dataset.left_out if one.group is not None)


def _refuse(dataset: Dataset, file: Path) -> None:
    if dataset.options is None:
        raise UsageError(f"{dataset.name} was made by hand: no split file could name its images", "give data by name")
    if ALL in dataset.splits or "train" not in dataset.splits:
        raise UsageError(f"{dataset.name} gives no training images: there is no split to repair")
    if dataset.beyond_limit:
        raise UsageError("a split file has every image, --limit leaves some out", "leave --limit to the training")
    if file.suffix.lower() != ".csv":
        raise UsageError(f"{file}: a split file is a CSV table", f"name it {file.with_suffix('.csv').name}")
    if not file.parent.is_dir():
        raise UsageError(f"{file}: there is no folder {file.parent}")
    data = Path(dataset.options.data).expanduser()
    if data.is_file() and file.exists() and data.samefile(file):
        raise UsageError(f"{file} is the table that is being checked", "give the split file another name")


def _rows(dataset: Dataset) -> Iterator[_Row]:
    for split in dataset.splits.values():
        for path, label in zip(split.paths, split.label_texts(dataset.labels), strict=True):
            yield _Row(path, label, split.name, None)
    for one in dataset.left_out:
        yield _Row(one.path, one.label or "", one.split, None)


def _keep_training(rows: dict[str, _Row], members: dict[str, list[_Row]], unreadable: set[str], several: bool) -> None:
    """Bring back to train the units of classes that have no image left there."""

    def labels_of(some: Iterable[_Row]) -> set[str]:
        texts = (row.label for row in some if row.path not in unreadable)
        return {one for text in texts for one in (text.split(SEPARATOR) if several else [text])} - {""}

    trained = labels_of(row for row in rows.values() if row.split == "train")
    for unit in members.values():
        labels = labels_of(unit)
        if not labels <= trained:
            for row in unit:
                row.split = "train"
            trained |= labels


def _root(dataset: Dataset) -> Path:
    """What the paths of the images are relative to."""
    assert dataset.options is not None
    data = Path(dataset.options.data).expanduser()
    return Path(os.path.abspath(data.parent if data.suffix.lower() in TABLE_SUFFIXES and data.is_file() else data))


def _file_cells(file: Path, root: Path, rows: dict[str, _Row], several: bool) -> Iterator[tuple[str, ...]]:
    here = os.path.realpath(file.parent)
    for row in sorted(rows.values(), key=lambda row: row.path):
        cells = (Path(os.path.relpath(root / row.path, here)).as_posix(), row.label, row.split, row.group or "")
        if any(cell != cell.strip() for cell in cells) or not (row.label or several):
            raise DataError(f"{row.path}: a table cannot hold spaces at the ends of a name", "rename it")
        yield cells


def _array_cells(dataset: Dataset, rows: dict[str, _Row]) -> Iterator[tuple[str, ...]]:
    for split in dataset.splits.values():
        for path, digest in zip(split.paths, split.digests, strict=True):
            row = rows[path]
            yield path, digest.tobytes().hex(), row.label, row.split, row.group or ""


def _write(file: Path, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    scratch = file.with_name(file.name + ".part")
    try:
        with scratch.open("w", encoding="utf-8", newline="") as stream:
            table = csv.writer(stream, lineterminator="\n")
            table.writerow(columns)
            table.writerows(rows)
        os.replace(scratch, file)
    except UnicodeEncodeError as error:
        raise DataError("a file name is no valid Unicode: a table cannot hold it", "rename the file") from error
    finally:
        scratch.unlink(missing_ok=True)
