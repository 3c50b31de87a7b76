"""Beyond the scores: how sure the answers are, when to give none, and where to set a threshold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from striate.metrics import ranking
from striate.metrics.calibration import calibration_error
from striate.metrics.intervals import exact_interval
from striate.metrics.rejection import WANTED_ERRORS, RejectionCurve, rejection_curve
from striate.metrics.reliability import reliability
from striate.metrics.topk import confidences, predicted, probabilities, ranks, usual_k
from striate.spec import Labels

CURVE_POINTS = 200  # of a curve as it is kept
CLASSES_WITH_THRESHOLDS = 20  # of more classes, the areas alone
WANTED_RECALLS = (0.9, 0.95, 0.99)
WANTED_PRECISIONS = (0.9, 0.95, 0.99)
WANTED_FALSE_POSITIVE_RATES = (0.01, 0.05)


def trust_of(
    logits: torch.Tensor, targets: torch.Tensor, labels: Labels, *, temperature: float = 1.0, unreadable: int = 0
) -> dict[str, Any]:
    """All of it as plain values for JSON, from logits [n, C] and true classes int64 [n], both on the processor.

    An answer that is no number has no probability: it counts as one that could not be read.

    - `top_k`: `k` and `accuracy`, k being 5, or 2 of four or five classes; null of fewer.
    - `calibration`: `temperature`; mean negative log-likelihood and expected calibration error `before` and `after` it
      as `loss_…` and `ece_…`; `bins`, `bins_before`: see `Reliability`.
    - `rejection`: `coverage`, `error`, `threshold` (of the probability) along the curve; `area` under it;
      `for_error`: what must be rejected for an error of `wanted`, with the exact 95 % interval of the error left. An
      unreadable image is rejected.
    - `ranking`: each class against the rest by its probability: `auc` and `average_precision`, their means over the
      classes as `macro_…`; of up to 20 classes `thresholds` for a wanted recall, precision or false-positive rate, and
      the ROC curve. Unreadable images are left out.
    """
    logits = logits.float()
    answers, place, k = predicted(logits), ranks(logits, targets), usual_k(len(labels))
    n, answered = len(targets) + unreadable, confidences(logits).isfinite()  # not of NaN, nor of an infinity
    correct = (answers == targets)[answered].numpy()
    sure, sure_before = (confidences(logits[answered] / by).numpy() for by in (temperature, 1.0))
    curve = rejection_curve(sure, correct, n - len(correct))
    return {
        "top_k": {"k": k, "accuracy": int((place < k).sum()) / n if n else 0.0} if k else None,
        "calibration": {
            "temperature": temperature,
            "loss_before": _likelihood(logits[answered], targets[answered]),
            "loss_after": _likelihood(logits[answered] / temperature, targets[answered]),
            "ece_before": calibration_error(torch.from_numpy(sure_before), torch.from_numpy(correct)),
            "ece_after": calibration_error(torch.from_numpy(sure), torch.from_numpy(correct)),
            "bins": reliability(sure, correct).to_dict(),
            "bins_before": reliability(sure_before, correct).to_dict(),
        },
        "rejection": _rejection(curve),
        "ranking": _ranking(probabilities(logits[answered], temperature).numpy(), targets[answered].numpy(), labels),
    }


def _likelihood(logits: torch.Tensor, targets: torch.Tensor) -> float | None:
    if not len(targets):
        return None
    return float(torch.nn.functional.cross_entropy(logits, targets, reduction="none").double().mean())


def _rejection(curve: RejectionCurve) -> dict[str, Any]:
    kept = spread(len(curve.thresholds))
    return {
        "n": curve.n,
        "area": curve.area,
        "coverage": curve.coverage[kept].tolist(),
        "error": curve.error[kept].tolist(),
        "threshold": curve.thresholds[kept].tolist(),
        "for_error": [{"wanted": wanted, **_rejected(curve, wanted)} for wanted in WANTED_ERRORS],
    }


def _rejected(curve: RejectionCurve, wanted: float) -> dict[str, Any]:
    found = curve.for_error(wanted)
    if found is None:
        return dict.fromkeys(("threshold", "rejected", "answered", "wrong", "error", "error_interval"))
    low, high = exact_interval(found["wrong"], found["answered"])
    return found | {"error_interval": [float(low), float(high)]}


def _ranking(chances: np.ndarray, targets: np.ndarray, labels: Labels) -> dict[str, Any]:
    points = [ranking.operating_points(chances[:, number], targets == number) for number in range(len(labels))]
    return ranking_of(labels.names, points)


def ranking_of(names: Sequence[str], of_classes: Sequence[ranking.OperatingPoints]) -> dict[str, Any]:
    """What `trust_of` says of each class against the rest."""
    few = len(names) <= CLASSES_WITH_THRESHOLDS
    rows = []
    for name, points in zip(names, of_classes, strict=True):
        area, precision = ranking.area_under_roc(points), ranking.average_precision(points)
        row: dict[str, Any] = {"label": name, "auc": area, "average_precision": precision}
        if few and area is not None and len(points.hits) > 1:
            row |= {"thresholds": _thresholds(points), "roc": _roc(points)}
        rows.append(row)
    means = {
        f"macro_{name}": float(np.mean(there))
        if (there := [row[name] for row in rows if row[name] is not None])
        else None
        for name in ("auc", "average_precision")
    }
    return {**means, "classes": rows}


def _thresholds(points: ranking.OperatingPoints) -> list[dict[str, Any]]:
    kinds = (
        ("recall", WANTED_RECALLS, ranking.for_recall),
        ("precision", WANTED_PRECISIONS, ranking.for_precision),
        ("false_positive_rate", WANTED_FALSE_POSITIVE_RATES, ranking.for_false_positive_rate),
    )
    rows = []
    for kind, wishes, best in kinds:
        for wanted in wishes:
            chosen = best(points, wanted)
            figures = chosen.to_dict() if chosen is not None else dict.fromkeys(ranking.Chosen.__slots__)
            if figures["threshold"] == np.inf:
                figures["threshold"] = None  # never say yes; JSON has no infinity
            rows.append({"wanted": kind, "at": wanted, **figures})
    return rows


def _roc(points: ranking.OperatingPoints) -> dict[str, list[float]]:
    """The corners of the curve: what lies between two of them on one line is left out."""
    x, y = points.false_alarms, points.hits
    bends = (np.diff(x[:-1]) * np.diff(y[1:]) != np.diff(y[:-1]) * np.diff(x[1:])) if len(x) > 2 else np.zeros(0, bool)
    corners = np.flatnonzero(np.concatenate([[True], bends, [True]]))
    kept = corners[spread(len(corners))]
    return {
        "false_positive_rate": points.false_positive_rate[kept].tolist(),
        "recall": points.recall[kept].tolist(),
    }


def spread(count: int, most: int = CURVE_POINTS) -> np.ndarray:
    """Up to `most` of the positions below `count`, evenly, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))
