"""How far probabilities can be taken at their word."""

from __future__ import annotations

import torch

CALIBRATION_BINS = 15


def calibration_error(confidence: torch.Tensor, correct: torch.Tensor, bins: int = CALIBRATION_BINS) -> float | None:
    """Expected calibration error (Guo et al. 2017, arXiv:1706.04599, eq. 3); None without images.

    The gap between accuracy and mean confidence of each bin, weighted by its images. Bins have equal width and hold
    their upper edge, (lower, upper], as in the paper.

    Args:
        confidence: the probability of the predicted class, [n], 0 to 1.
        correct: whether that prediction is right, bool [n].
        bins: how many bins share 0 to 1.
    """
    if not len(confidence):
        return None
    confidence = confidence.double()
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=confidence.device)[1:-1]
    place = torch.bucketize(confidence, edges)  # edges[i-1] < x <= edges[i]
    gaps = torch.bincount(place, weights=correct.double() - confidence, minlength=bins)
    return float(gaps.abs().sum() / len(confidence))
