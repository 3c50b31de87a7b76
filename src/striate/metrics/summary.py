"""All scores of a network over a split at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from striate.metrics.calibration import calibration_error
from striate.metrics.classes import balanced_accuracy, confusion, per_class, support
from striate.metrics.label_summary import score_labels
from striate.metrics.topk import TOP5_FROM_CLASSES, confidences, predicted, ranks
from striate.spec import ClassScores, Labels, Scores


def score(
    logits: torch.Tensor,
    targets: torch.Tensor,
    labels: Labels,
    *,
    loss: float | None = None,
    unreadable: Sequence[int] = (),
    temperature: float = 1.0,
) -> Scores:
    """Every score of a network over a split.

    Args:
        logits: [n, C], any float type, on any device; C is the number of labels.
        targets: the true classes, int64 [n]; of several labels an image 0 or 1, [n, C] (see `score_labels`).
        labels: the class names in the order of the logits.
        loss: the mean loss of the readable images, where the head has its own; cross-entropy otherwise.
        unreadable: the true classes of images that could not be read; each is a wrong answer.
        temperature: by which logits are divided before they become probabilities, so that it moves `ece` alone.

    Returns:
        `Scores`; its loss is NaN where no image could be read.
    """
    if labels.multi_label:
        return score_labels(logits, targets, labels, loss=loss)
    classes, n = len(labels), len(targets) + len(unreadable)
    if logits.shape != (len(targets), classes):
        raise ValueError(f"logits are {tuple(logits.shape)}, expected ({len(targets)}, {classes})")
    logits, targets = logits.float(), targets.to(device=logits.device, dtype=torch.int64)
    if loss is None:
        loss = float(functional.cross_entropy(logits, targets, reduction="none").double().mean())
    place, answers = ranks(logits, targets), predicted(logits)
    answered = answers >= 0
    confidence = confidences(logits[answered] / temperature)
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
