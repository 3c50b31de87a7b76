"""Probability claimed against share correct. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

BINS = 15


@dataclass(frozen=True, slots=True)
class Reliability:
    """Probability claimed against share correct, in bins of equal width (Guo et al. 2017, arXiv:1706.04599, sec. 2)."""

    counts: np.ndarray  # int64 [bins]
    confidence: np.ndarray  # float [bins], mean probability of the predicted class; nan where a bin is empty
    accuracy: np.ndarray  # float [bins], nan where a bin is empty

    @property
    def n(self) -> int:
        """Images in all bins."""
        return int(self.counts.sum())

    @property
    def ece(self) -> float:
        """Expected calibration error: mean distance of confidence and accuracy, weighted by count (their eq. 3)."""
        gaps = np.nan_to_num(np.abs(self.accuracy - self.confidence))
        return float((gaps * self.counts).sum() / max(self.n, 1))

    @property
    def largest_gap(self) -> float:
        """Maximum calibration error: the largest distance of any bin that holds images (their eq. 5)."""
        return float(np.nan_to_num(np.abs(self.accuracy - self.confidence)).max(initial=0.0))

    @property
    def overconfidence(self) -> float:
        """Mean probability minus share correct: above 0 the network claims too much."""
        parts = np.nan_to_num(self.confidence - self.accuracy) * self.counts
        return float(parts.sum() / max(self.n, 1))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: `counts`, `confidence` and `accuracy` by bin, null where one is empty."""
        return {
            "counts": self.counts.tolist(),
            "confidence": [None if np.isnan(one) else one for one in self.confidence.tolist()],
            "accuracy": [None if np.isnan(one) else one for one in self.accuracy.tolist()],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Reliability:
        """The reverse of `to_dict`."""
        means = [
            np.array([np.nan if one is None else one for one in values[name]], dtype=float)
            for name in ("confidence", "accuracy")
        ]
        return cls(np.array(values["counts"], dtype=np.int64), *means)


def reliability(probability: np.ndarray, correct: np.ndarray, bins: int = BINS) -> Reliability:
    """Bin predictions by the probability they claim; bins are open below, as Guo et al. define them.

    `probability` float [n] of the predicted class, `correct` bool [n].
    """
    index = np.clip(np.ceil(probability * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore", divide="ignore"):
        confidence = np.bincount(index, weights=probability, minlength=bins) / counts
        accuracy = np.bincount(index, weights=correct.astype(float), minlength=bins) / counts
    return Reliability(counts, confidence, accuracy)
