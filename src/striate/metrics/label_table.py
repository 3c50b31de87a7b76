"""The table of predictions where an image has any number of labels, back as arrays. NumPy only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

NAMES = b"labels"  # in the metadata of the table: the labels in the order of its probabilities, as JSON


def label_names(predictions: pa.Table) -> list[str] | None:
    """The labels in the order of `probabilities`; None where images have one class each."""
    names = (predictions.schema.metadata or {}).get(NAMES)
    return json.loads(names) if names is not None else None


def label_rows(predictions: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (NaN where an image could not be read) and truths, [n, L], of a table that has `label_names`."""
    place = {name: number for number, name in enumerate(label_names(predictions) or ())}
    chances = np.full((len(predictions), len(place)), np.nan, dtype=np.float32)
    truths = np.zeros(chances.shape, dtype=bool)
    for row, (given, labels) in enumerate(
        zip(predictions["probabilities"].to_pylist(), predictions["labels"].to_pylist(), strict=True)
    ):
        if given is not None:
            chances[row] = given
        truths[row, [place[name] for name in labels or ()]] = True
    return chances, truths
