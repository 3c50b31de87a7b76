"""Scores apart for each value of a column: the camera, the site, the year. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from striate.metrics.intervals import exact_interval
from striate.metrics.multi_label import hits, mean_average_precision

WITHOUT = "(none)"  # images for which the column has nothing


@dataclass(frozen=True, slots=True)
class GroupScores:
    """How the images of one group fared; fractions from 0 to 1."""

    group: str
    n: int
    top1: float
    low: float  # exact 95 % interval
    high: float
    balanced_accuracy: float | None  # mean recall of the classes that the group has; None of several labels an image
    map: float | None = None  # of several labels an image: the mean average precision
    exact_match: float | None = None  # and the share of images whose labels are exactly right

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        row = asdict(self)
        for name in ("balanced_accuracy",) if self.exact_match is not None else ("map", "exact_match"):
            del row[name]
        return row


def by_group(
    groups: Sequence[str | None], targets: np.ndarray | Sequence[int], correct: np.ndarray | Sequence[bool]
) -> list[GroupScores]:
    """The scores of each group, the worst first; of equals the larger.

    Args:
        groups: of each image, [n].
        targets: the true classes, int [n].
        correct: whether each was answered right, bool [n].
    """
    names, codes = _named(groups)
    targets, correct = np.asarray(targets, dtype=np.int64), np.asarray(correct, dtype=bool)
    rows = []
    for code, name in enumerate(names):
        inside = codes == code
        of_class = np.bincount(targets[inside])
        right = np.bincount(targets[inside], weights=correct[inside], minlength=len(of_class))
        occurs = of_class > 0
        n, hits = int(inside.sum()), int(correct[inside].sum())
        low, high = exact_interval(hits, n)
        balanced = float((right[occurs] / of_class[occurs]).mean())
        rows.append(GroupScores(name, n, hits / n, float(low), float(high), balanced))
    return sorted(rows, key=lambda row: (row.top1, -row.n, row.group))


def by_group_of_labels(
    groups: Sequence[str | None], probabilities: np.ndarray, truths: np.ndarray, correct: np.ndarray | Sequence[bool]
) -> list[GroupScores]:
    """The scores of each group where an image has any number of labels, the worst mean average precision first.

    `top1` is the share of images whose likeliest label is one of theirs.

    Args:
        groups: of each image, [n].
        probabilities: [n, L], NaN where there is no answer.
        truths: 0 or 1, [n, L].
        correct: whether all labels of each image are right, bool [n].
    """
    names, codes = _named(groups)
    hit, correct = hits(probabilities, truths, 1), np.asarray(correct, dtype=bool)
    rows = []
    for code, name in enumerate(names):
        inside = codes == code
        n, right = int(inside.sum()), int(hit[inside].sum())
        low, high = exact_interval(right, n)
        mean = mean_average_precision(probabilities[inside], truths[inside])
        exact = float(correct[inside].mean())
        rows.append(GroupScores(name, n, right / n, float(low), float(high), None, mean, exact))
    return sorted(rows, key=lambda row: (2.0 if row.map is None else row.map, -row.n, row.group))


def _named(groups: Sequence[str | None]) -> tuple[list[str], np.ndarray]:
    """The names of the groups, and the place of each image's group among them."""
    names, codes = np.unique([WITHOUT if one in (None, "") else str(one) for one in groups], return_inverse=True)
    return names.tolist(), codes
