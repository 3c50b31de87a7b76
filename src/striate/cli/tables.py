"""Tables in text, CSV and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FORMATS = ("text", "csv", "markdown")


@dataclass(frozen=True, slots=True)
class Column:
    """A heading and the key of its values; `text` makes them readable, CSV keeps them as they are."""

    heading: str
    key: str
    left: bool = False  # aligned
    wide: bool = False  # not in text, which has to fit a terminal
    text: Callable[[Any], str] = str


def written(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], form: str) -> str:
    """The table in one of `FORMATS`."""
    if form == "csv":
        return _as_csv(rows, columns)
    if form == "markdown":
        return _as_markdown(rows, columns)
    return as_text(rows, [column for column in columns if not column.wide])


def as_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> str:
    """Aligned columns; the first is cut at the front where the line would be longer than 120."""
    cells = [[column.text(row[column.key]) for column in columns] for row in rows]
    headings = [column.heading for column in columns]
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    room = 120 - sum(widths[1:]) - 2 * (len(widths) - 1)
    widths[0] = min(widths[0], max(room, 12))
    lines = []
    for line in [headings, *cells]:
        line[0] = line[0] if len(line[0]) <= widths[0] else "…" + line[0][-(widths[0] - 1) :]
        parts = (
            f"{cell:<{width}}" if column.left else f"{cell:>{width}}"
            for cell, width, column in zip(line, widths, columns, strict=True)
        )
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def byte_size(size: int | None) -> str:
    """3.2 MB, in powers of ten; a dash for nothing."""
    if not size:
        return "-"
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} B"


def _as_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.key for column in columns])
    writer.writerows([row[column.key] for column in columns] for row in rows)
    return text.getvalue().rstrip("\n")


def _as_markdown(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> str:
    lines = [
        f"| {' | '.join(column.heading for column in columns)} |",
        f"| {' | '.join('---' if column.left else '---:' for column in columns)} |",
    ]
    lines += [f"| {' | '.join(column.text(row[column.key]) for column in columns)} |" for row in rows]
    return "\n".join(lines)
