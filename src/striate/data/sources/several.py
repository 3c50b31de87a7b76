"""Several labels an image: how a table says them, and what is refused.

They stand in one column of text with a delimiter between them, in a list column of a Parquet file, or in several
columns of 0 and 1, one for each label. An image may have none at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from striate.data.dataset import SEPARATOR
from striate.data.sources.found import class_order
from striate.data.wording import counted
from striate.errors import DataError, UsageError

if TYPE_CHECKING:
    import pyarrow

_YES, _NO = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no")
_USUAL_DELIMITERS = ("|", ";", ",", "/", " ")
_SURE_DELIMITERS = ("|", ";", ",")


@dataclass(frozen=True, slots=True)
class SeveralLabels:
    """The labels of each row, in their own order, and the names of all."""

    rows: tuple[tuple[str, ...], ...]
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def targets(self, rows: Sequence[int]) -> np.ndarray:
        """uint8 [rows, names]: 1 where the image has the label."""
        places = {name: place for place, name in enumerate(self.names)}
        found = np.zeros((len(rows), len(self.names)), np.uint8)
        for target, row in zip(found, rows, strict=True):
            target[[places[name] for name in self.rows[row]]] = 1
        return found


def is_list(table: pyarrow.Table, column: str) -> bool:
    """Whether a cell of the column holds a list."""
    import pyarrow.types as types

    kind = table.schema.field(column).type
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def from_text(
    texts: Sequence[str | None], delimiter: str, column: str, path: Path, *, scoring: bool = False
) -> SeveralLabels:
    """Of a column of text. Blanks around a label and empty places between delimiters mean nothing.

    `scoring`: a table of few images may have none with two labels.

    Raises:
        DataError: no cell holds the delimiter.
    """
    if not scoring and not any(text and delimiter in text for text in texts):
        others = [one for one in _USUAL_DELIMITERS if any(text and one in text for text in texts)]
        hint = f"the cells have {' and '.join(map(repr, others))}" if others else "is there one label to an image?"
        raise DataError(f"{path}: no cell of column {column} holds the delimiter {delimiter!r}", hint)
    cells = [[part.strip() for part in (text or "").split(delimiter)] for text in texts]
    return _of_cells([[part for part in cell if part] for cell in cells], column, path)


def looks_several(texts: Iterable[str]) -> str | None:
    """What to say of texts that are taken for one label each and look like several: `cat|dog` beside `dog|owl`."""
    classes = set(texts)
    for delimiter in _SURE_DELIMITERS:
        divided = {text: [part.strip() for part in text.split(delimiter)] for text in classes}
        often = Counter(part for parts in divided.values() for part in set(parts))
        for text, parts in sorted(divided.items()):
            if len(parts) > 1 and all(part and often[part] > 1 for part in parts):
                meant = f"where it is {len(parts)}, give --label-delimiter {delimiter!r}"
                return f"{text!r} is taken for one class: {meant}"
    return None


def from_lists(values: Sequence[Sequence[object] | None], column: str, path: Path) -> SeveralLabels:
    """Of a column of lists.

    Raises:
        DataError: a list with an empty label.
    """
    cells = [["" if one is None else str(one).strip() for one in value or ()] for value in values]
    for number, cell in enumerate(cells, start=1):
        if "" in cell:
            raise DataError(f"{path}: column {column} has an empty label in row {number}")
    return _of_cells(cells, column, path)


def from_columns(columns: dict[str, list[str | None]], path: Path) -> SeveralLabels:
    """Of columns of 0 and 1, whose names are the labels, in the order in which they were named.

    Raises:
        DataError: another value.
    """
    having = []
    for name, texts in columns.items():
        words = [(text or "").lower() for text in texts]
        for number, word in enumerate(words, start=1):
            if word not in (*_YES, *_NO):
                what = repr(texts[number - 1]) if word else "nothing"
                raise DataError(f"{path}: column {name} says {what} in row {number}", "expected 0 or 1")
        having.append([word in _YES for word in words])
    names = tuple(columns)
    _refuse_separator(names, path)
    rows = tuple(tuple(name for name, yes in zip(names, row, strict=True) if yes) for row in zip(*having, strict=True))
    return SeveralLabels(rows, names)


def column_names(asked: str, known: Sequence[str]) -> tuple[str, ...] | None:
    """The columns that `--label-column A,B,C` names; None where it is the name of a single one.

    Raises:
        UsageError: one is named twice.
    """
    if asked in known or "," not in asked:
        return None
    names = tuple(part.strip() for part in asked.split(","))
    if len(set(names)) < len(names):
        raise UsageError(f"--label-column {asked} names a column twice", "each label has one column")
    return names


def _of_cells(cells: Sequence[Sequence[str]], column: str, path: Path) -> SeveralLabels:
    rows = tuple(tuple(dict.fromkeys(cell)) for cell in cells)
    names = class_order(name for row in rows for name in row)
    _refuse_separator(names, path)
    twice = sum(len(row) < len(cell) for row, cell in zip(rows, cells, strict=True))
    notes = [f"{counted(twice, 'row names', 'rows name')} a label twice in column {column}: counted once"]
    return SeveralLabels(rows, names, tuple(notes if twice else ()))


def _refuse_separator(names: Sequence[str], path: Path) -> None:
    if inside := [name for name in names if SEPARATOR in name]:
        raise DataError(
            f"{path}: the label {inside[0]!r} holds {SEPARATOR!r}, with which the labels of an image are joined",
            f"write it otherwise, or give --label-delimiter {SEPARATOR!r} where it is two labels",
        )
