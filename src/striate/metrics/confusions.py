"""Which classes are taken for which, most often: what is left readable of a matrix of 1,000 classes. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Confusion:
    """One kind of mistake."""

    truth: str
    predicted: str
    count: int
    share: float  # of the images of `truth`

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def top_confusions(matrix: np.ndarray, names: Sequence[str], most: int = 15) -> list[Confusion]:
    """The most frequent mistakes, by count; `matrix` int [classes, classes], rows are truths."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    totals = matrix.sum(1)
    flat = np.flatnonzero(wrong)
    order = flat[np.argsort(-wrong.reshape(-1)[flat], kind="stable")][:most]
    found = []
    for place in order.tolist():
        truth, predicted = divmod(int(place), len(wrong))
        count = int(wrong[truth, predicted])
        found.append(Confusion(names[truth], names[predicted], count, count / max(int(totals[truth]), 1)))
    return found
