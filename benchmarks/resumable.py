"""A result file that grows row by row: what it already holds is not measured again, whatever else is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness import provenance, source_revision, write_result

Row = dict[str, Any]


class ResultFile:
    """Rows under a head of provenance; written whole after every row.

    Args:
        path: the file.
        script: for the head.
        key: the fields that say which row this is. A row that ended in an error is no row: it is tried again.
        summarise: makes the fields that are computed from all rows.
        fresh: forget what the file holds.
    """

    def __init__(
        self,
        path: Path,
        script: str,
        key: tuple[str, ...],
        summarise: Callable[[list[Row]], Mapping[str, Any]],
        *,
        fresh: bool = False,
    ) -> None:
        self.path, self.key, self.summarise = path, key, summarise
        self.head: Row = provenance(script)
        self.rows: list[Row] = []
        if path.exists() and not fresh:
            former = json.loads(path.read_text(encoding="utf-8"))
            self.head = {name: value for name, value in former.items() if name not in ("rows", "summary")} | self.head
            self.rows = [row for row in former["rows"] if "error" not in row]

    def holds(self, **wanted: Any) -> bool:
        """Whether the row of this key is there."""
        assert set(wanted) == set(self.key), (wanted, self.key)
        return any(all(row[name] == wanted[name] for name in self.key) for row in self.rows)

    def add(self, row: Row) -> None:
        """Append a row, with the source revision that it was measured at, and write the file."""
        self.rows.append({**row, "revision": source_revision()})
        self.write()

    def write(self) -> None:
        """Write the file as it is."""
        write_result(self.path, {**self.head, "summary": self.summary(), "rows": self.rows})

    def summary(self) -> Mapping[str, Any]:
        """What `summarise` makes of the rows that did not fail."""
        return self.summarise([row for row in self.rows if "error" not in row])
