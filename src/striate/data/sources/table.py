"""A CSV, TSV or Parquet table with a column of image paths and one of labels, optionally of splits and of groups.

Paths are relative to the table's own folder. Labels are text, one to an image or several (see `several`). Missing files
are listed as unreadable; a file named twice with one label counts once, with two labels is an error.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from striate.data.dataset import joined
from striate.data.sources.folder import SPLIT_NAMES, UNLABELLED, groups_of
from striate.data.sources.found import Found, class_order
from striate.data.sources.several import (
    SeveralLabels,
    column_names,
    from_columns,
    from_lists,
    from_text,
    is_list,
    looks_several,
)
from striate.data.wording import counted
from striate.errors import DataError, UnknownNameError, UsageError

if TYPE_CHECKING:
    import pyarrow

    from striate.options.sections import DataOptions

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".pq")
_IMAGE_COLUMNS = ("image", "path", "file", "filename")
_LABEL_COLUMNS = ("label", "labels", "class", "category")


def find_table(path: Path, options: DataOptions, *, scoring: bool = False, labelled: bool = True) -> Found:
    """The images that a table lists.

    `scoring`: they are only scored, which takes no row to train and no second class. Not `labelled`: all are of one
    class, whatever the table says.

    Raises:
        DataError: the table cannot be read, lacks a column or a label, names an unknown split, or has one class only.
        UnknownNameError: a column named in the options that the table lacks.
        UsageError: options about labels that contradict each other.
    """
    table = _read(path)
    image_column = _column(table, options.image_column, _IMAGE_COLUMNS, "image paths", "--image-column", path)
    listed = _texts(table, image_column)
    _refuse_empty(listed, image_column, path)
    several = _several(table, options, path, scoring) if labelled else None
    labels: Sequence[object]
    if not labelled:
        labels = [UNLABELLED] * len(listed)
    elif several is None:
        label_column = _column(table, options.label_column, _LABEL_COLUMNS, "labels", "--label-column", path)
        labels = _texts(table, label_column)
        hint = "an image without a label has no row here; of several labels an image, --label-delimiter allows none"
        _refuse_empty(labels, label_column, path, looks_several([text for text in labels if text]) or hint)
    else:
        labels = [frozenset(row) for row in several.rows]
    given = _splits(table, options.split_column, path, scoring)
    groups = _texts(table, options.group) if options.group and options.group in table.column_names else None
    groups = groups and [group or None for group in groups]  # an empty cell names no group
    kept = _once(listed, labels, path)
    repeated = len(listed) - len(kept)
    notes = [counted(repeated, "row repeats", "rows repeat") + " an earlier one: counted once"] if repeated else []
    notes += several.notes if several is not None else ()
    if labelled and several is None and (words := looks_several([str(labels[row]) for row in kept])):
        notes.append(words)
    paths = [str(listed[row]).replace("\\", "/") for row in kept]
    names = several.names if several is not None else class_order(str(labels[row]) for row in kept)
    if len(names) < (1 if scoring else 2):
        raise DataError(f"{path} has {'only one class, ' + names[0] if names else 'no rows'}; two classes are needed")
    if several is not None:
        targets = several.targets(kept)
        if without := int((targets.sum(axis=1) == 0).sum()):
            notes.append(counted(without, "image has", "images have") + " none of the labels")
    else:
        positions = {name: position for position, name in enumerate(names)}
        targets = np.array([positions[str(labels[row])] for row in kept], np.int64)
    files = [path.parent / shown for shown in paths]
    if not any(file.exists() for file in files[:1000]):
        raise DataError(f"{path}: no image found, the first would be {files[0]}", "paths are relative to the table")
    return Found(
        name=path.stem,
        class_names=names,
        targets=targets,
        paths=paths,
        given=given[kept],
        files=files,
        groups=[groups[row] for row in kept] if groups is not None else groups_of(paths, options.group),
        notes=notes,
    )


def column_by_path(path: Path, column: str, options: DataOptions) -> dict[str, str | None]:
    """What one more column of a table says of each image, by the image's path as `find_table` gives it.

    Raises:
        DataError: the table cannot be read, or lacks the paths.
        UnknownNameError: it has no such column.
    """
    table = _read(path)
    images = _texts(table, _column(table, options.image_column, _IMAGE_COLUMNS, "image paths", "--image-column", path))
    values = _texts(table, _column(table, column, (), column, "--by", path))
    found: dict[str, str | None] = {}
    for image, value in zip(images, values, strict=True):
        found.setdefault(str(image).replace("\\", "/"), value)  # of rows that repeat one, the first counts
    return found


def _read(path: Path) -> pyarrow.Table:
    import pyarrow

    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            import pyarrow.parquet

            return pyarrow.parquet.read_table(path)
        import pyarrow.csv

        separator = "\t" if path.suffix.lower() == ".tsv" else ","
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file, delimiter=separator), [])
        # every column as text: a class 007 is not the number 7
        convert = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(header, pyarrow.string()))
        parse = pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True)
        return pyarrow.csv.read_csv(path, parse_options=parse, convert_options=convert)
    except (OSError, ValueError, pyarrow.ArrowException, csv.Error) as error:
        reason = "the text is not UTF-8" if isinstance(error, UnicodeError) else str(error).splitlines()[0]
        raise DataError(f"cannot read the table {path}: {reason}") from error


def _column(table: pyarrow.Table, asked: str | None, usual: tuple[str, ...], what: str, flag: str, path: Path) -> str:
    """The column to use: the one asked for, or the first of the usual names in any letter case."""
    if asked is not None:
        if asked not in table.column_names:
            raise UnknownNameError("column", asked, table.column_names)
        return asked
    lower = {name.lower(): name for name in reversed(table.column_names)}
    for name in usual:
        if name in lower:
            return lower[name]
    raise DataError(
        f"{path} has no column of {what}: looked for {', '.join(usual)}",
        f"name it with {flag}; the table has {', '.join(table.column_names)}",
    )


def _several(table: pyarrow.Table, options: DataOptions, path: Path, scoring: bool) -> SeveralLabels | None:
    """The labels of a table whose images have any number of them; None of one with one label to an image."""
    asked, delimiter = options.label_column, options.label_delimiter
    if asked is not None and (columns := column_names(asked, table.column_names)) is not None:
        if delimiter is not None:
            raise UsageError(
                f"--label-column {asked} names columns of 0 and 1: there is nothing for --label-delimiter to divide",
                "leave one of them out",
            )
        for name in columns:
            if name not in table.column_names:
                raise UnknownNameError("column", name, table.column_names)
        return from_columns({name: _texts(table, name) for name in columns}, path)
    if delimiter is None and asked is None and not any(name.lower() in _LABEL_COLUMNS for name in table.column_names):
        return None  # which is said where one label is looked for
    column = _column(table, asked, _LABEL_COLUMNS, "labels", "--label-column", path)
    if is_list(table, column):
        if delimiter is not None:
            raise UsageError(
                f"column {column} of {path} holds lists: there is nothing for --label-delimiter to divide",
                "leave it out",
            )
        return from_lists(table.column(column).to_pylist(), column, path)
    if delimiter is None:
        return None
    return from_text(_texts(table, column), delimiter, column, path, scoring=scoring)


def _refuse_empty(values: Sequence[object], name: str, path: Path, hint: str | None = None) -> None:
    empty = [number + 1 for number, value in enumerate(values) if not value]
    if empty:
        where = f"row {empty[0]}" if len(empty) == 1 else f"{len(empty):,} rows, the first is row {empty[0]}"
        raise DataError(f"{path}: column {name} is empty in {where}", hint)


def _texts(table: pyarrow.Table, column: str) -> list[str | None]:
    values = table.column(column).to_pylist()
    return [None if value is None else str(value).strip() for value in values]


def _splits(table: pyarrow.Table, asked: str | None, path: Path, scoring: bool) -> np.ndarray:
    """The side each row is given; empty means train."""
    if asked is None:
        asked = next((name for name in table.column_names if name.lower() == "split"), None)
        if asked is None:
            return np.full(table.num_rows, "train")
    elif asked not in table.column_names:
        raise UnknownNameError("column", asked, table.column_names)
    words = [(word or "train").lower() for word in _texts(table, asked)]
    unknown = sorted(set(words) - set(SPLIT_NAMES))
    if unknown:
        raise DataError(f"{path}: column {asked} says {', '.join(unknown[:5])}", "expected train, val or test")
    splits = np.array([SPLIT_NAMES[word] for word in words])
    if "train" not in splits and not scoring:
        raise DataError(f"{path}: column {asked} gives no row to train")
    return splits


def _once(listed: list[str | None], labels: Sequence[object], path: Path) -> list[int]:
    """The rows that name their file for the first time."""
    first: dict[str | None, int] = {}
    for row, name in enumerate(listed):
        earlier = first.setdefault(name, row)
        if labels[earlier] != labels[row]:
            both = " and ".join(_in_words(labels[one]) for one in (earlier, row))
            raise DataError(f"{path}: {name} is labelled both {both}", "keep one of the rows")
    return list(first.values())


def _in_words(label: object) -> str:
    return (joined(sorted(label)) or "nothing") if isinstance(label, frozenset) else str(label)
