"""Scores as pure functions of logits and labels.

Conventions, the same everywhere:

- A prediction is the class of the largest logit; **of equal logits the class with the lower number comes first**, so
  that top-1 is `argmax` and top-k never depends on the sorting routine.
- A row that holds a NaN gives no answer: it is wrong at every k and stands in no column of the confusion matrix.
- An image that could not be read is a wrong answer of its class: it counts in n, top-1, top-5 and recall, but has no
  column in the confusion matrix, no confidence (calibration) and no loss.
- A quotient 0 / 0 is 0, as in scikit-learn with ``zero_division=0``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from striate.spec import ClassScores, Labels, Scores

CALIBRATION_BINS = 15
TOP5_FROM_CLASSES = 6  # with five classes or fewer every answer would be right


def probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Softmax of logits [n, C], float32: what every prediction, table and calibration figure is made of."""
    return functional.softmax(logits.float(), dim=1)


def ranked(scores: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k best classes of each row: values [n, k] and classes int64 [n, k], best first, ties to the lower class."""
    values, classes = torch.sort(scores, dim=1, descending=True, stable=True)
    return values[:, :k], classes[:, :k]


def predicted(logits: torch.Tensor) -> torch.Tensor:
    """The best class of each row, int64 [n]; -1 where the row holds a NaN."""
    if not logits.numel():
        return torch.full((len(logits),), -1, dtype=torch.int64, device=logits.device)
    return logits.argmax(dim=1).masked_fill(logits.isnan().any(dim=1), -1)


def ranks(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """How many classes stand before the true one, int64 [n]; 0 is a right answer, C (beyond the last) means a NaN.

    Before it stand the classes with a larger logit, and those with the same logit and a lower number.
    """
    classes = logits.shape[1]
    own = logits.gather(1, targets[:, None])
    lower = torch.arange(classes, device=logits.device) < targets[:, None]
    before = ((logits > own) | ((logits == own) & lower)).sum(dim=1)
    return before.masked_fill(logits.isnan().any(dim=1), classes)


def top_k(logits: torch.Tensor, targets: torch.Tensor, k: int, *, unreadable: int = 0) -> float:
    """The fraction of images (unreadable ones included) whose true class is among the k best; 0 without images."""
    total = len(targets) + unreadable
    return int((ranks(logits, targets) < k).sum()) / total if total else 0.0


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
    right, said = np.diag(matrix), matrix.sum(axis=0)
    return _quotient(right, said), _quotient(right, images), _quotient(2 * right, said + images)


def balanced_accuracy(matrix: np.ndarray, images: np.ndarray) -> float | None:
    """Mean recall of the classes that occur (Brodersen et al. 2010, "The balanced accuracy", ICPR); None without any.

    Not adjusted for chance, as scikit-learn's default.
    """
    occurs = images > 0
    return float(_quotient(np.diag(matrix), images)[occurs].mean()) if occurs.any() else None


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


def score(
    logits: torch.Tensor,
    targets: torch.Tensor,
    labels: Labels,
    *,
    loss: float | None = None,
    unreadable: Sequence[int] = (),
) -> Scores:
    """Every score of a network over a split.

    Args:
        logits: [n, C], any float type, on any device; C is the number of labels.
        targets: the true classes, int64 [n].
        labels: the class names in the order of the logits.
        loss: the mean loss of the readable images, where the head has its own; cross-entropy otherwise.
        unreadable: the true classes of images that could not be read; each is a wrong answer.

    Returns:
        `Scores`; its loss is NaN where no image could be read.
    """
    classes, n = len(labels), len(targets) + len(unreadable)
    if logits.shape != (len(targets), classes):
        raise ValueError(f"logits are {tuple(logits.shape)}, expected ({len(targets)}, {classes})")
    logits, targets = logits.float(), targets.to(device=logits.device, dtype=torch.int64)
    if loss is None:
        loss = float(functional.cross_entropy(logits, targets, reduction="none").double().mean())
    place, answers = ranks(logits, targets), predicted(logits)
    answered = answers >= 0
    confidence = _confidence(logits[answered])
    matrix, images = confusion(answers, targets, classes), support(targets, classes, unreadable)
    precision, recall, f1 = per_class(matrix, images)
    rows = zip(labels.names, precision.tolist(), recall.tolist(), f1.tolist(), images.tolist(), strict=True)
    return Scores(
        top1=int((place < 1).sum()) / n if n else 0.0,
        top5=(int((place < 5).sum()) / n if n else 0.0) if classes >= TOP5_FROM_CLASSES else None,
        loss=loss,
        n=n,
        unreadable=len(unreadable),
        balanced_accuracy=balanced_accuracy(matrix, images),
        ece=calibration_error(confidence, answers[answered] == targets[answered]),
        per_class=tuple(ClassScores(label=a, precision=p, recall=r, f1=f, support=s) for a, p, r, f, s in rows),
        confusion=tuple(map(tuple, matrix.tolist())),
    )


def _confidence(logits: torch.Tensor) -> torch.Tensor:
    """The largest softmax probability of each row, without holding them all."""
    return torch.exp(logits.amax(dim=1) - logits.logsumexp(dim=1)) if len(logits) else logits.new_zeros(0)


def _quotient(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    return np.divide(over, under, out=np.zeros(len(over)), where=under > 0)
