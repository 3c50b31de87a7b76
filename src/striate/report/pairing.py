"""Several runs on the same images: which differences are more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from striate.metrics.pairs import compare_pairs, holm
from striate.report.record import HEADLINE_ORDER, Record

if TYPE_CHECKING:
    import pyarrow

MOST_IN_PAIRS = 6  # of more runs, each is compared with the best alone
SIGNIFICANT = 0.05


def paired_tests(records: Sequence[Record], names: Sequence[str]) -> list[dict[str, Any]]:
    """McNemar's exact test and the bootstrap interval of the difference for pairs of runs; [] where none can be made.

    Two runs are compared on the images that both scored: of one path, class and content, on the test split where both
    have one, otherwise validation. The first of a pair is the better. `p_adjusted` allows for the number of pairs
    (Holm), `better` says whether it is below 5 %.
    """
    answers = [_answers(record) for record in records]
    there = [place for place, one in enumerate(answers) if one]
    pairs = list(combinations(there, 2))
    if len(there) > MOST_IN_PAIRS:
        best = max(there, key=lambda place: _top1(records[place]))
        pairs = [(best, other) for other in there if other != best]
    rows = [row for first, second in pairs if (row := _compared(answers, names, first, second))]
    for row, adjusted in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row |= {"p_adjusted": adjusted, "better": adjusted < SIGNIFICANT}
    return rows


def _compared(
    answers: Sequence[dict[str, dict[tuple[str, ...], bool]]], names: Sequence[str], first: int, second: int
) -> dict[str, Any] | None:
    for split in HEADLINE_ORDER:
        if split not in answers[first] or split not in answers[second]:
            continue
        one, other = answers[first][split], answers[second][split]
        common = [key for key in one if key in other]
        if not common:
            continue
        right, right_too = (np.array([side[key] for key in common]) for side in (one, other))
        if right.sum() < right_too.sum():
            first, second, right, right_too = second, first, right_too, right
        pair = compare_pairs(right_too, right)  # the difference is then what the better one has ahead
        return {
            "first": names[first],
            "second": names[second],
            "split": split,
            "n": pair.n,
            "of": max(len(one), len(other)),
            "top1": [float(right.mean()), float(right_too.mean())],
            "difference": pair.difference,
            "low": pair.low,
            "high": pair.high,
            "only_first": pair.only_second,
            "only_second": pair.only_first,
            "both_right": pair.both_right,
            "both_wrong": pair.both_wrong,
            "p": pair.p,
        }
    return None


def _answers(record: Record) -> dict[str, dict[tuple[str, ...], bool]]:
    """By split, whether each image, known by path, class and content, was answered right."""
    table = record.predictions
    if table is None or not {"path", "label", "split", "correct"} <= set(table.column_names):
        return {}
    contents = _contents(record.manifest)
    found: dict[str, dict[tuple[str, ...], bool]] = {}
    columns = (table[name].to_pylist() for name in ("split", "path", "label", "correct"))
    for split, path, label, correct in zip(*columns, strict=True):
        found.setdefault(split, {})[(path, str(label), contents.get((split, path), ""))] = bool(correct)
    return found


def _contents(manifest: pyarrow.Table | None) -> dict[tuple[str, str], str]:
    """The hash of each image's content."""
    if manifest is None or not {"path", "split", "hash"} <= set(manifest.column_names):
        return {}
    columns = (manifest[name].to_pylist() for name in ("split", "path", "hash"))
    return {(split, path): content or "" for split, path, content in zip(*columns, strict=True)}


def _top1(record: Record) -> float:
    return float(record.scores.get("top1") or 0.0)
