"""Confident learning: which labels are probably wrong, from probabilities of classifiers that had not seen the image.

A class's threshold is the mean probability that images labelled so are given for it. An image counts for the most
probable of the classes whose threshold it reaches; where that is not its label, the label is suspect. Thresholds of the
classes' own make up for classifiers that are surer of some classes than of others.

Source: Northcutt, Jiang & Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70, 2021,
arXiv:1911.00068: the thresholds and the confident joint of section 3.1; suspects are what it counts
off the diagonal (section 3.2), ranked by the probability of the label.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_ROUNDING = 1e-9  # of a mean of equal probabilities


@dataclass(frozen=True, slots=True, eq=False)
class ConfidentLabels:
    """What n images count for."""

    counted: np.ndarray  # int64 [n]: the class that each image counts for; -1: it reaches no threshold
    suspects: np.ndarray  # int64: rows that count for another class than their label, the least probable labels first
    thresholds: np.ndarray  # float64 [classes]; NaN for a class without images


def confident_labels(probabilities: np.ndarray, labels: np.ndarray) -> ConfidentLabels:
    """Confident learning.

    Args:
        probabilities: [n, classes], each row of a classifier that has not seen the image.
        labels: int [n], as given, right or wrong.
    """
    n, classes = probabilities.shape
    counts = np.bincount(labels, minlength=classes)
    rows = np.arange(n)
    own = probabilities[rows, labels].astype(np.float64)
    with np.errstate(invalid="ignore"):  # 0 / 0 for a class without images
        thresholds = np.bincount(labels, own, minlength=classes) / np.where(counts, counts, np.nan)
    reached = probabilities >= thresholds - _ROUNDING  # NaN is never reached
    counted = np.where(reached.any(axis=1), np.where(reached, probabilities, -1).argmax(axis=1), -1)
    found = np.flatnonzero((counted >= 0) & (counted != labels))
    return ConfidentLabels(counted, found[np.argsort(own[found], kind="stable")], thresholds)
