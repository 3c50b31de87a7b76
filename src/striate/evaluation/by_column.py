"""Scores apart for each value of what is known about the images: the camera, the site, a group of the split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from striate.data import Dataset, Split
from striate.data.dataset import printable
from striate.data.sources.table import TABLE_SUFFIXES, column_by_path
from striate.errors import UsageError
from striate.metrics.groups import GroupScores, by_group, by_group_of_labels
from striate.metrics.label_table import label_names, label_rows

GROUP = "group"  # the groups by which the data are split


def column_values(column: str, dataset: Dataset, splits: Sequence[Split]) -> dict[str, str | None]:
    """What the column says of each image, by its path as predictions write it.

    Args:
        column: of the CSV, TSV or Parquet table that lists the images; or `group`, by which the data were split.
        dataset: what the splits are of.
        splits: what is scored.

    Raises:
        UsageError: the data have neither such a table nor groups.
        UnknownNameError: the table has no such column.
        DataError: the table cannot be read.
    """
    options = dataset.options
    if column == GROUP and any(split.groups is not None for split in splits):
        rows = [pair for split in splits for pair in zip(split.paths, split.groups or (), strict=False)]
        rows += [(one.path, one.group) for split in splits for one in split.unreadable]
    elif options is not None and str(options.data).lower().endswith(TABLE_SUFFIXES):
        rows = list(column_by_path(Path(str(options.data)), column, options).items())
    else:
        raise UsageError(
            f"{dataset.name} has no column {column}: the images come from no table",
            "list them in a CSV or Parquet table with that column, or split them by --group and ask for group",
        )
    return {printable(path): value for path, value in rows}


def scores_by(values: Mapping[str, str | None], predictions: pa.Table) -> list[GroupScores]:
    """The scores of each of `values`, the worst first.

    Args:
        values: see `column_values`.
        predictions: of an `Evaluation` of the same splits.
    """
    groups = [values.get(path) for path in predictions["path"].to_pylist()]
    if label_names(predictions) is not None:
        return by_group_of_labels(groups, *label_rows(predictions), predictions["correct"].to_pylist())
    labels = predictions["label"].to_pylist()
    number = {label: place for place, label in enumerate(dict.fromkeys(labels))}
    return by_group(groups, [number[label] for label in labels], predictions["correct"].to_pylist())
