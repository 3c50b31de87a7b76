"""How far probabilities can be taken at their word."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.nn import functional

from striate.metrics.reliability import BINS
from striate.metrics.topk import confidences, predicted

CALIBRATION_BINS = BINS
LEAST_IMAGES = 50  # fewer do not fix even one number
LEAST_WRONG = 5  # wrong answers: without any, no claim would be too bold
MOST_IMAGES = 10_000  # more do not fix it any better
FOLDS = 5
COLDEST, WARMEST = 0.05, 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Temperature:
    """By what logits are to be divided, and what that does to images which did not decide it."""

    value: float  # 1 where none was found that helps
    why: str  # in words: how it was found, or why it stays 1
    images: int
    loss_before: float | None = None  # mean negative log-likelihood, at 1
    loss_after: float | None = None  # and of each fold at the temperature of the others
    ece_before: float | None = None
    ece_after: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def in_words(self) -> str:
        """One line for people."""
        figures = (self.loss_before, self.loss_after, self.ece_before, self.ece_after)
        if self.value == 1 or None in figures:
            return f"probabilities are as the network gives them: {self.why}"
        return (
            "probabilities at temperature {:.2f}, fitted on {} images; on images that it was not fitted on negative "
            "log-likelihood {:.3g} before, {:.3g} after, calibration error {:.1%} before, {:.1%} after"
        ).format(self.value, self.images, *figures)


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


def fit_temperature(logits: torch.Tensor, targets: torch.Tensor) -> Temperature:
    """The temperature under which the true classes are likeliest (Guo et al. 2017, sec. 4.2), if it can be trusted.

    It is kept only where five-fold cross-validation says that temperatures found so make unseen images likelier. With
    fewer than five wrong answers none is looked for: were all right, none would be low enough.

    Args:
        logits: [n, C] of images that the network did not learn from; rows that hold an infinity or NaN are left out,
            and of more than 10,000 images as many are taken, evenly.
        targets: the true classes, int64 [n].
    """
    usable = logits.isfinite().all(dim=1)
    logits, targets = logits[usable], targets[usable].to(logits.device)
    if len(logits) > MOST_IMAGES:
        chosen = torch.linspace(0, len(logits) - 1, MOST_IMAGES, device=logits.device).round().long()
        logits, targets = logits[chosen], targets[chosen]
    n = len(logits)
    if n < LEAST_IMAGES:
        return Temperature(value=1.0, why=f"{n} images are too few to fit it on (at least {LEAST_IMAGES})", images=n)
    wrong = int((predicted(logits) != targets).sum())
    if wrong < LEAST_WRONG:
        why = f"{wrong} wrong answers among {n} images are too few to fit it on (at least {LEAST_WRONG})"
        return Temperature(value=1.0, why=why, images=n)
    logits = logits.double()
    fold = torch.arange(n, device=logits.device) % FOLDS
    unseen = torch.ones(n, dtype=torch.float64, device=logits.device)
    for number in range(FOLDS):
        unseen[fold == number] = _likeliest(logits[fold != number], targets[fold != number])
    before, after = (_likelihood_and_error(logits / by, targets) for by in (1.0, unseen[:, None]))
    figures = {"loss_before": before[0], "loss_after": after[0], "ece_before": before[1], "ece_after": after[1]}
    if not after[0] < before[0]:
        why = f"fitted on {FOLDS - 1} of {FOLDS} parts of {n} images it does not help on the remaining one"
        return Temperature(value=1.0, why=why, images=n, **figures)
    why = f"fitted on {n} images; the figures after are those of {FOLDS}-fold cross-validation"
    return Temperature(value=_likeliest(logits, targets), why=why, images=n, **figures)


def _likeliest(logits: torch.Tensor, targets: torch.Tensor) -> float:
    """The temperature of the least mean cross-entropy, within `COLDEST` and `WARMEST`; logits are float64.

    The loss is convex in the reciprocal, the rate: its slope is the mean logit that softmax expects less that of the
    truth, its curvature the variance of the logit. So a few of Newton's steps find it, held inside a bracket.
    """
    below = logits - logits.amax(dim=1, keepdim=True)  # softmax stays; at most 0
    truth = below.gather(1, targets[:, None])[:, 0].mean()
    rate, low, high = 1.0, 1 / WARMEST, 1 / COLDEST
    for _ in range(60):
        chances = functional.softmax(rate * below, dim=1).mul_(below)
        mean = chances.sum(dim=1)
        slope = float(mean.mean() - truth)
        low, high = (low, rate) if slope > 0 else (rate, high)
        curvature = float((chances.mul_(below).sum(dim=1) - mean.square()).mean())
        step = rate - slope / curvature if curvature > 0 else high
        if not low < step < high:
            step = math.sqrt(low * high)
        if abs(step - rate) <= 1e-12 * rate:
            break
        rate = step
    return 1 / rate


def _likelihood_and_error(logits: torch.Tensor, targets: torch.Tensor) -> tuple[float, float | None]:
    error = calibration_error(confidences(logits), predicted(logits) == targets)
    return float(functional.cross_entropy(logits, targets)), error
