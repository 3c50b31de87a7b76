"""All scores at once of a network that gives an image any number of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional

from striate.metrics import multi_label
from striate.metrics.calibration import calibration_error
from striate.metrics.classes import of_counts
from striate.metrics.intervals import exact_interval, with_class_intervals
from striate.metrics.topk import TOP5_FROM_CLASSES
from striate.spec import ClassScores, Labels, Scores


def score_labels(
    logits: torch.Tensor,
    targets: torch.Tensor,
    labels: Labels,
    *,
    thresholds: Sequence[float] | None = None,
    loss: float | None = None,
    unreadable: np.ndarray | None = None,
    intervals: bool = False,
) -> Scores:
    """Every score of a network over a split.

    Args:
        logits: [n, L], any float type, on any device.
        targets: 0 or 1, [n, L], of any type.
        labels: the names in the order of the logits.
        thresholds: the probability from which each label is chosen; None for 0.5.
        loss: the mean loss of the readable images; None for binary cross-entropy, the mean over labels.
        unreadable: the labels of images that could not be read, [m, L] of 0 or 1: all missed.
        intervals: the 95 % intervals, too; that of the mean average precision takes a while.

    Returns:
        `Scores`; its `ece` is over all pairs of image and label, and its loss NaN where no image could be read.
    """
    if logits.shape != (len(targets), len(labels)) or targets.shape != logits.shape:
        raise ValueError(
            f"logits are {tuple(logits.shape)} and targets {tuple(targets.shape)}: both must be [n, labels]"
        )
    logits = logits.float()
    if loss is None:
        losses = functional.binary_cross_entropy_with_logits(logits, targets.to(logits), reduction="none")
        loss = float(losses.double().mean())
    chances, truths = rows_of(logits, targets, unreadable)
    limits = [multi_label.USUAL_THRESHOLD] * len(labels) if thresholds is None else list(thresholds)
    sets, average = multi_label.set_scores(chances, truths, limits), multi_label.average_precisions(chances, truths)
    right, said, images = multi_label.label_counts(multi_label.chosen_labels(chances, limits), truths)
    of_labels = zip(
        labels.names, *(one.tolist() for one in of_counts(right, said, images)), images.tolist(), average.tolist(),
        limits, strict=True,
    )  # fmt: skip
    n, pairs = len(truths), torch.from_numpy(np.isfinite(chances))
    hits = {k: int(multi_label.hits(chances, truths, k).sum()) for k in (1, 5)}
    found = Scores(
        map=multi_label.mean_of(average),
        top1=hits[1] / n if n else 0.0,
        top5=(hits[5] / n if n else 0.0) if len(labels) >= TOP5_FROM_CLASSES else None,
        loss=loss,
        n=n,
        unreadable=n - len(targets),
        ece=calibration_error(torch.from_numpy(chances)[pairs], torch.from_numpy(truths)[pairs]),
        exact_match=sets.exact_match,
        micro_f1=sets.micro_f1,
        macro_f1=sets.macro_f1,
        per_class=tuple(
            ClassScores(
                label=name, precision=precision, recall=recall, f1=f1, support=support,
                average_precision=None if np.isnan(area) else area, threshold=float(limit),
            )
            for name, precision, recall, f1, support, area, limit in of_labels
        ),
    )  # fmt: skip
    if not intervals or not n:
        return found
    low, high = exact_interval(hits[1], n)
    return replace(
        found,
        map_interval=multi_label.precision_interval(chances, truths),
        top1_interval=(float(low), float(high)),
        per_class=with_class_intervals(found.per_class, right, said, images, n),
    )


def rows_of(
    logits: torch.Tensor, targets: torch.Tensor, unreadable: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities float64 (NaN where there is no answer) and truths bool, [n, L], as `multi_label` takes them.

    The rows of images that could not be read come last. An answer that holds an infinity or NaN is none.
    """
    chances = logits.double().cpu().sigmoid()  # in double precision, where those of sure answers still differ
    chances[~logits.isfinite().all(dim=1).cpu()] = torch.nan
    truths = targets.cpu().numpy() > 0.5
    if unreadable is not None and len(unreadable):
        chances = torch.cat([chances, chances.new_full(unreadable.shape, torch.nan)])
        truths = np.concatenate([truths, np.asarray(unreadable, dtype=bool)])
    return chances.numpy(), truths
