"""Answering only where the network is sure: the error on what it answers, over how much that is. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

WANTED_ERRORS = (0.1, 0.05, 0.02, 0.01, 0.005, 0.001)


@dataclass(frozen=True, slots=True)
class RejectionCurve:
    """What each threshold of the confidence comes to, from the surest image alone to all that could be read, [k] each.

    An image is answered where its confidence is at or above the threshold. One that could not be read is never
    answered: it counts in `n`, and as rejected.
    """

    thresholds: np.ndarray
    answered: np.ndarray  # images, int
    wrong: np.ndarray  # of those
    n: int

    @property
    def coverage(self) -> np.ndarray:
        """The share of all images that is answered."""
        return self.answered / max(self.n, 1)

    @property
    def error(self) -> np.ndarray:
        """The share of the answers that is wrong."""
        return self.wrong / np.maximum(self.answered, 1)

    @property
    def area(self) -> float | None:
        """The mean error over coverage (Geifman et al. 2019, arXiv:1805.08206), of the images that could be read.

        Images of one confidence are answered together. None without images.
        """
        if not len(self.answered):
            return None
        steps = np.diff(self.answered, prepend=0)
        return float((steps * self.error).sum() / self.answered[-1])

    def for_error(self, wanted: float) -> dict[str, Any] | None:
        """The least rejection that leaves an error of at most `wanted`, as `rejected` (share), `threshold`, `answered`,
        `wrong`, `error`; None where even the surest answers are wrong more often.
        """
        good = np.flatnonzero(self.wrong <= wanted * self.answered)
        if not len(good):
            return None
        place = int(good[-1])
        return {
            "threshold": float(self.thresholds[place]),
            "rejected": 1 - float(self.coverage[place]),
            "answered": int(self.answered[place]),
            "wrong": int(self.wrong[place]),
            "error": float(self.error[place]),
        }


def rejection_curve(confidence: np.ndarray, correct: np.ndarray, unreadable: int = 0) -> RejectionCurve:
    """The curve of images with `confidence` [n] (higher is surer) and whether each answer is right, bool [n]."""
    confidence, correct = np.asarray(confidence), np.asarray(correct, dtype=bool)
    order = np.argsort(-confidence, kind="stable")
    surest = confidence[order]
    last = np.flatnonzero(np.append(np.diff(surest) != 0, True)) if len(surest) else np.zeros(0, np.int64)
    return RejectionCurve(
        thresholds=surest[last], answered=last + 1, wrong=np.cumsum(~correct[order])[last], n=len(correct) + unreadable
    )
