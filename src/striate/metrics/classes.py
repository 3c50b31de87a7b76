"""Counts and scores by class, as `striate.metrics` says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch


def confusion(predictions: torch.Tensor, targets: torch.Tensor, classes: int) -> np.ndarray:
    """Counts int64 [C, C], rows truth, columns prediction; predictions of -1 (no answer) are in no cell."""
    answered = predictions >= 0
    cells = targets[answered] * classes + predictions[answered]
    return torch.bincount(cells, minlength=classes * classes).reshape(classes, classes).cpu().numpy()


def support(targets: torch.Tensor, classes: int, unreadable: Sequence[int] = ()) -> np.ndarray:
    """Images of each true class, int64 [C], unreadable ones included."""
    missing = np.bincount(np.asarray(unreadable, dtype=np.int64), minlength=classes)
    return torch.bincount(targets, minlength=classes).cpu().numpy() + missing


def per_class(matrix: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 of each class, float64 [C] each, from the confusion matrix and the images per class.

    precision = right / said, recall = right / images, F1 = 2 right / (said + images); 0 / 0 is 0.
    """
    return of_counts(np.diag(matrix), matrix.sum(axis=0), images)


def of_counts(right: np.ndarray, said: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`per_class` from how often each class was said rightly, said, and true, int [C] each."""
    return _quotient(right, said), _quotient(right, images), _quotient(2 * right, said + images)


def balanced_accuracy(matrix: np.ndarray, images: np.ndarray) -> float | None:
    """Mean recall of the classes that occur (Brodersen et al. 2010, "The balanced accuracy", ICPR); None without any.

    Not adjusted for chance, as scikit-learn's default.
    """
    occurs = images > 0
    return float(_quotient(np.diag(matrix), images)[occurs].mean()) if occurs.any() else None


def _quotient(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    return np.divide(over, under, out=np.zeros(len(over)), where=under > 0)
