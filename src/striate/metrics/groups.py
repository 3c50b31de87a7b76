"""Scores apart for each value of a column: the camera, the site, the year. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from striate.metrics.intervals import exact_interval

WITHOUT = "(none)"  # images for which the column has nothing


@dataclass(frozen=True, slots=True)
class GroupScores:
    """How the images of one group fared; fractions from 0 to 1."""

    group: str
    n: int
    top1: float
    low: float  # exact 95 % interval
    high: float
    balanced_accuracy: float  # mean recall of the classes that the group has

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def by_group(
    groups: Sequence[str | None], targets: np.ndarray | Sequence[int], correct: np.ndarray | Sequence[bool]
) -> list[GroupScores]:
    """The scores of each group, the worst first; of equals the larger.

    Args:
        groups: of each image, [n].
        targets: the true classes, int [n].
        correct: whether each was answered right, bool [n].
    """
    names, codes = np.unique([WITHOUT if one in (None, "") else str(one) for one in groups], return_inverse=True)
    targets, correct = np.asarray(targets, dtype=np.int64), np.asarray(correct, dtype=bool)
    rows = []
    for code, name in enumerate(names.tolist()):
        inside = codes == code
        of_class = np.bincount(targets[inside])
        right = np.bincount(targets[inside], weights=correct[inside], minlength=len(of_class))
        occurs = of_class > 0
        n, hits = int(inside.sum()), int(correct[inside].sum())
        low, high = exact_interval(hits, n)
        balanced = float((right[occurs] / of_class[occurs]).mean())
        rows.append(GroupScores(name, n, hits / n, float(low), float(high), balanced))
    return sorted(rows, key=lambda row: (row.top1, -row.n, row.group))
