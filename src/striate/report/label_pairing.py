"""Several runs that give an image any number of labels, compared by their mean average precision on the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from striate.metrics.label_table import label_names, label_rows
from striate.metrics.multi_label import compare_precisions
from striate.report.record import HEADLINE_ORDER, Record

Key = tuple[str, ...]


class LabelAnswers:
    """The probabilities of a run and the truths, by split and by what an image is known by."""

    def __init__(self, record: Record, contents: Mapping[tuple[str, str], str]) -> None:
        table = record.predictions
        self.names = label_names(table) if table is not None and "split" in table.column_names else None
        self.rows: dict[str, dict[Key, int]] = {}
        if table is None or self.names is None:
            return
        columns = (table[name].to_pylist() for name in ("split", "path", "label"))
        for row, (split, path, label) in enumerate(zip(*columns, strict=True)):
            self.rows.setdefault(split, {})[path, str(label), contents.get((split, path), "")] = row
        self.probabilities, self.truths = label_rows(table)


def compared_labels(
    answers: Sequence[LabelAnswers], names: Sequence[str], first: int, second: int
) -> list[dict[str, Any]]:
    """The paired bootstrap of two runs of the same labels, the better one first; [] where none can be made."""
    one, other = answers[first], answers[second]
    if one.names is None or other.names is None or set(one.names) != set(other.names):
        return []
    for split in HEADLINE_ORDER:
        common = [key for key in one.rows.get(split, {}) if key in other.rows.get(split, {})]
        here, there = ([side.rows[split][key] for key in common] for side in (one, other))
        if not common or not one.truths[here].any():
            continue
        order = [other.names.index(name) for name in one.names]
        scores = [one.probabilities[here], other.probabilities[np.ix_(there, order)]]
        pair = compare_precisions(scores[1], scores[0], one.truths[here])
        if pair.difference < 0:
            first, second = second, first
            pair = compare_precisions(scores[0], scores[1], one.truths[here])
        row = {
            "first": names[first],
            "second": names[second],
            "split": split,
            "n": pair.n,
            "of": max(len(one.rows[split]), len(other.rows[split])),
            "map": [pair.second, pair.first],
            "difference": pair.difference,
            "low": pair.low,
            "high": pair.high,
            "p": pair.p,
        }
        return [row]
    return []
