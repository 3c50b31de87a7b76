"""Several runs on the same images: which differences are more than chance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from striate.metrics.pairs import compare_pairs, holm
from striate.report.figures import measure_of
from striate.report.label_pairing import LabelAnswers, compared_labels
from striate.report.record import HEADLINE_ORDER, Record

if TYPE_CHECKING:
    import pyarrow

Image = tuple[str, ...]  # path and class, and content where that is known
Answers = dict[str, dict[Image, bool]]  # by split, or by later evaluation, whether each image was answered right
_NEEDED = ("path", "label", "correct")
MOST_IN_PAIRS = 6  # of more runs, each is compared with the best alone
SIGNIFICANT = 0.05


def paired_tests(records: Sequence[Record], names: Sequence[str]) -> list[dict[str, Any]]:
    """McNemar's exact test and the bootstrap interval of the difference for pairs of runs; [] where none can be made.

    Two runs are compared on the images that both scored: of one path, class and content, on the test split where both
    have one, otherwise validation; and once more on each later evaluation that both have, of one data set, split and
    protocol. Where an image has any number of labels the bootstrap compares the mean average precisions at the end of
    the runs. The first of a pair is the better. `p_adjusted` allows for the number of tests (Holm), `better` says
    whether it is below 5 %.
    """
    answers = [_answers(record) | _later_answers(record) for record in records]
    of_labels = [LabelAnswers(record, _contents(record.manifest)) for record in records]
    there = [place for place, one in enumerate(answers) if one]
    pairs = list(combinations(there, 2))
    if len(there) > MOST_IN_PAIRS:
        best = max(there, key=lambda place: _score(records[place]))
        pairs = [(best, other) for other in there if other != best]
    rows = []
    for first, second in pairs:
        several = [records[place].multi_label for place in (first, second)]
        if all(several):
            rows += compared_labels(of_labels, names, first, second)
        elif not any(several):
            rows += _compared(answers, names, first, second)
    for row, adjusted in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row |= {"p_adjusted": adjusted, "better": adjusted < SIGNIFICANT}
    return rows


def _compared(answers: Sequence[Answers], names: Sequence[str], first: int, second: int) -> Iterator[dict[str, Any]]:
    """The tests of one pair: on the images of the run's end, then on those of later evaluations."""
    common = [split for split in answers[first] if split in answers[second]]
    of_end = [split for split in HEADLINE_ORDER if split in common]
    for split in (*of_end[:1], *(one for one in common if one not in HEADLINE_ORDER)):
        if row := _tested(answers[first][split], answers[second][split]):
            better, other = (first, second) if row.pop("in_order") else (second, first)
            yield {"first": names[better], "second": names[other], "split": split, **row}


def _tested(one: Mapping[Image, bool], other: Mapping[Image, bool]) -> dict[str, Any] | None:
    """The better of the two ahead; `in_order` says whether that is the first."""
    common = [key for key in one if key in other]
    if not common:
        return None
    right, right_too = (np.array([side[key] for key in common]) for side in (one, other))
    in_order = bool(right.sum() >= right_too.sum())
    if not in_order:
        right, right_too = right_too, right
    pair = compare_pairs(right_too, right)  # the difference is then what the better one has ahead
    return {
        "in_order": in_order,
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


def _later_answers(record: Record) -> Answers:
    """As `_answers`, of each evaluation that was made after the run; of several alike the last by name.

    The run's own end scores, made again, are no evaluation of their own.
    """
    found: Answers = {}
    at_end = {(name, record.evaluation.get("protocol")) for name in record.evaluation.get("splits") or {}}
    for one in record.evaluations:
        own = one.get("data") in (record.data_name, Path(record.data_name).stem)
        if own and (one.get("split"), one.get("protocol")) in at_end:
            continue
        what = f"{one.get('data')} {one.get('split')}, {one.get('protocol')}"
        table = _read_answers(record.run, one.get("predictions"))
        if table is not None:
            columns = (table[name].to_pylist() for name in _NEEDED)
            found[what] = {(path, str(label)): bool(right) for path, label, right in zip(*columns, strict=True)}
    return found


def _read_answers(run: Path, place: object) -> pyarrow.Table | None:
    """A table of predictions by its place in the run's record; None where it is gone or damaged: others are there."""
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(run / str(place), columns=list(_NEEDED)) if place else None
    except (OSError, ValueError, KeyError, pyarrow.ArrowException):
        return None


def _answers(record: Record) -> Answers:
    """By split, whether each image, known by path, class and content, was answered right."""
    table = record.predictions
    if table is None or not {"path", "label", "split", "correct"} <= set(table.column_names):
        return {}
    contents = _contents(record.manifest)
    found: Answers = {}
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


def _score(record: Record) -> float:
    return float(record.scores.get(measure_of(record.scores)) or 0.0)
