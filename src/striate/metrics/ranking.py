"""Scores of a yes-or-no question over all thresholds: ROC, precision and recall, and what a threshold or a table of
costs makes of probabilities. A score at or above the threshold means yes. NumPy only.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class OperatingPoints:
    """What each threshold comes to, from saying never (threshold infinite) to saying always, [k + 1] each.

    k is the number of distinct scores.
    """

    thresholds: np.ndarray
    hits: np.ndarray  # positives at or above the threshold
    false_alarms: np.ndarray  # negatives at or above it
    positives: int
    negatives: int

    @property
    def recall(self) -> np.ndarray:
        """Of the positives, those found: the true positive rate. NaN without positives."""
        return self.hits / self.positives if self.positives else np.full(len(self.hits), np.nan)

    @property
    def false_positive_rate(self) -> np.ndarray:
        """Of the negatives, those that set off an alarm. NaN without negatives."""
        return self.false_alarms / self.negatives if self.negatives else np.full(len(self.hits), np.nan)

    @property
    def precision(self) -> np.ndarray:
        """Of the alarms, the right ones; 1 where there is none."""
        alarms = self.hits + self.false_alarms
        return np.divide(self.hits, alarms, out=np.ones(len(alarms)), where=alarms > 0)

    def at(self, place: int) -> Chosen:
        """One of them."""
        return Chosen(
            threshold=float(self.thresholds[place]),
            recall=float(self.recall[place]),
            precision=float(self.precision[place]),
            false_positive_rate=float(self.false_positive_rate[place]),
        )


@dataclass(frozen=True, slots=True)
class Chosen:
    """A threshold and what it comes to, fractions from 0 to 1."""

    threshold: float
    recall: float
    precision: float
    false_positive_rate: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def operating_points(scores: np.ndarray, positive: np.ndarray) -> OperatingPoints:
    """All thresholds of `scores` [n], of which those marked in `positive`, bool [n], should be high.

    Equal scores cannot be told apart by a threshold and share a point.
    """
    scores, positive = np.asarray(scores), np.asarray(positive, dtype=bool)
    order = np.argsort(-scores)  # equal ones in any order: the last of them counts
    sorted_scores, sorted_positive = scores[order], positive[order]
    last = np.flatnonzero(np.append(np.diff(sorted_scores) != 0, True)) if len(scores) else np.zeros(0, np.int64)
    hits = np.cumsum(sorted_positive)[last]
    return OperatingPoints(
        thresholds=np.concatenate([[np.inf], sorted_scores[last]]),
        hits=np.concatenate([[0], hits]),
        false_alarms=np.concatenate([[0], last + 1 - hits]),
        positives=int(positive.sum()),
        negatives=int(len(positive) - positive.sum()),
    )


def area_under_roc(points: OperatingPoints) -> float | None:
    """How often a positive stands above a negative, half of the ties counted; None where one kind is missing."""
    if not points.positives or not points.negatives:
        return None
    return float(np.trapezoid(points.recall, points.false_positive_rate))


def average_precision(points: OperatingPoints) -> float | None:
    """The precision at each threshold, weighted by the recall it adds (no interpolation); None without positives."""
    if not points.positives:
        return None
    return float((np.diff(points.recall) * points.precision[1:]).sum())


def for_recall(points: OperatingPoints, wanted: float) -> Chosen | None:
    """The threshold of fewest false alarms at which at least that share of the positives is found; None without any."""
    if not points.positives:
        return None
    return points.at(int(np.argmax(points.hits >= wanted * points.positives)))


def for_precision(points: OperatingPoints, wanted: float) -> Chosen | None:
    """The threshold of highest recall whose alarms are right at least that often; None where there is none."""
    good = (points.precision >= wanted) & (points.hits > 0)
    return points.at(int(np.flatnonzero(good)[-1])) if good.any() else None


def for_false_positive_rate(points: OperatingPoints, wanted: float) -> Chosen | None:
    """The threshold of highest recall that alarms at no more than that share of the negatives; None without any.

    Of several, the one of fewest false alarms.
    """
    if not points.negatives or not points.positives:
        return None
    allowed = points.hits[points.false_alarms <= wanted * points.negatives]
    return points.at(int(np.argmax(points.hits == allowed[-1])))


def best_decisions(probabilities: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """The decision of least expected cost for each image, int64 [n]; of equals the first.

    Args:
        probabilities: of the classes, [n, C], as well calibrated as can be.
        costs: of deciding d where the truth is c, [C, D]; D is C, or C + 1 where the last decision is to give no
            answer (Chow 1970, "On optimum recognition error and reject tradeoff").
    """
    return (np.asarray(probabilities) @ _checked(costs, np.shape(probabilities)[1])).argmin(axis=1)


def mean_cost(targets: np.ndarray, decisions: np.ndarray, costs: np.ndarray) -> float:
    """What the decisions cost per image on average; NaN without images."""
    costs = _checked(costs, len(costs))
    return float(costs[targets, decisions].mean()) if len(targets) else float("nan")


def _checked(costs: np.ndarray, classes: int) -> np.ndarray:
    costs = np.asarray(costs, dtype=float)
    if costs.ndim != 2 or costs.shape[0] != classes or costs.shape[1] not in (classes, classes + 1):
        raise ValueError(f"costs are {costs.shape}, expected ({classes}, {classes}) or ({classes}, {classes + 1})")
    if not np.isfinite(costs).all():
        raise ValueError("costs must be finite numbers")
    return costs
