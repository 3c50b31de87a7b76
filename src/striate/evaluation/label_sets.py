"""Answers of a network that gives an image any number of labels become an `Evaluation`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from torch.nn import functional

from striate.checkpoint import SavedModel
from striate.data.dataset import joined, printable
from striate.evaluation.table import Evaluation
from striate.evaluation.trust import ranking_of, spread
from striate.metrics import multi_label, ranking
from striate.metrics.label_summary import rows_of, score_labels
from striate.metrics.label_table import NAMES
from striate.metrics.reliability import reliability
from striate.spec import Labels

if TYPE_CHECKING:
    from striate.data import LeftOut

TOGETHER = 60  # labels, the most frequent, of which it is kept how often they are on one image
SCHEMA = pa.schema(
    {
        "path": pa.string(),
        "label": pa.string(),  # the true labels as one text, as the manifest has them
        "predicted": pa.string(),  # the chosen ones likewise
        "labels": pa.list_(pa.string()),
        "chosen": pa.list_(pa.string()),
        "probabilities": pa.list_(pa.float32()),  # of every label, in the network's order
        "probability": pa.float32(),  # of the likeliest
        "loss": pa.float32(),
        "correct": pa.bool_(),  # whether the chosen labels are exactly the true ones
        "error": pa.string(),
    }
)


def evaluation_of_labels(
    saved: SavedModel,
    logits: torch.Tensor,
    targets: torch.Tensor,
    paths: Sequence[str],
    unreadable: Sequence[LeftOut] = (),
    *,
    fit: bool = False,
) -> Evaluation:
    """Everything that there is to say about the answers to n images; see `evaluation_of`.

    Args:
        saved: the network, for its labels and its thresholds (0.5 where it has none).
        logits: [n, L], on the processor.
        targets: 0 or 1, [n, L].
        paths: of the images, [n].
        unreadable: images that could not be read: their labels are missed. Those of unknown labels do not count.
        fit: fit `saved.thresholds` on these images first; the result's `fitted` says what came of it.
    """
    lost = [one for one in unreadable if one.targets is not None]
    missing = np.zeros((len(lost), len(saved.labels)), dtype=bool)
    for row, one in zip(missing, lost, strict=True):
        row[list(one.targets or ())] = True
    chances, truths = rows_of(logits, targets, missing)
    fitted = None
    if fit and len(logits):
        fitted = multi_label.fit_thresholds(chances[: len(logits)], truths[: len(logits)])
        saved.thresholds = fitted.values
    limits = saved.thresholds or (multi_label.USUAL_THRESHOLD,) * len(saved.labels)
    losses = functional.binary_cross_entropy_with_logits(logits.float(), targets.float(), reduction="none").mean(dim=1)
    found = score_labels(
        logits, targets, saved.labels, thresholds=limits, loss=float(losses.double().mean()), unreadable=missing,
        intervals=True,
    )  # fmt: skip
    sets = multi_label.set_scores(chances, truths, limits)
    return Evaluation(
        scores=found,
        predictions=_predictions(paths, chances[: len(logits)], truths, losses, limits, saved.labels, unreadable),
        trust={
            "hamming_loss": sets.hamming_loss,
            "label_ranking_average_precision": sets.ranking_precision,
            "without_images": [one.label for one in found.per_class if not one.support],
            **_trust(chances, truths, multi_label.chosen_labels(chances, limits), saved.labels),
        },
        fitted=fitted,
    )


def _trust(chances: np.ndarray, truths: np.ndarray, chosen: np.ndarray, labels: Labels) -> dict[str, Any]:
    """What `trust_of` says of single labels, as far as it has a meaning, and `together`.

    - `calibration`: of all pairs of image and label, `bins` and `ece_after`.
    - `ranking`: each label as in `trust_of`; of up to 20 labels also the curve `precision_recall`.
    - `together`: of the most frequent `labels`, how often two are on one image: `true` and as `chosen`.
    """
    answered = multi_label.answered(chances)
    bins = reliability(chances[answered].ravel().astype(float), truths[answered].ravel())
    points = [multi_label.points_of(*columns) for columns in zip(chances.T, truths.T, strict=True)]
    found = ranking_of(labels.names, points)
    for row, one in zip(found["classes"], points, strict=True):
        if "roc" in row:
            row["precision_recall"] = _precision_recall(one)
    place = np.sort(np.argsort(-truths.sum(axis=0), kind="stable")[:TOGETHER])
    return {
        "calibration": {"temperature": 1.0, "ece_after": bins.ece, "bins": bins.to_dict()},
        "ranking": found,
        "together": {
            "labels": [labels.names[label] for label in place.tolist()],
            "true": multi_label.together(truths[:, place]).tolist(),
            "chosen": multi_label.together(chosen[:, place]).tolist(),
        },
    }


def _precision_recall(points: ranking.OperatingPoints) -> dict[str, list[float]]:
    """The curve where recall grows: what lies between is below it."""
    there = np.flatnonzero(np.diff(points.hits, prepend=0) > 0)
    kept = there[spread(len(there))]
    return {"recall": points.recall[kept].tolist(), "precision": points.precision[kept].tolist()}


def _predictions(
    paths: Sequence[str],
    chances: np.ndarray,
    truths: np.ndarray,
    losses: torch.Tensor,
    limits: Sequence[float],
    labels: Labels,
    unreadable: Sequence[LeftOut],
) -> pa.Table:
    """One row an image, those that could not be read last."""
    names = [printable(name) for name in labels.names]
    n, lost = len(paths), len(unreadable)
    chosen = multi_label.chosen_labels(chances, limits)
    answered = multi_label.answered(chances)
    said = [[names[label] for label in np.flatnonzero(row)] for row in chosen]
    true = [[names[label] for label in np.flatnonzero(row)] for row in truths[:n]]
    true += [[names[label] for label in one.targets or ()] for one in unreadable]
    columns = {
        "path": [*(printable(path) for path in paths), *(printable(one.path) for one in unreadable)],
        "label": [joined(row) for row in true],
        "predicted": [joined(row) if there else None for row, there in zip(said, answered, strict=True)]
        + [None] * lost,
        "labels": true,
        "chosen": [row if there else None for row, there in zip(said, answered, strict=True)] + [None] * lost,
        "probabilities": [*chances, *[None] * lost],
        "probability": [*(row.max(initial=0.0) for row in chances), *[None] * lost],
        "loss": [*losses.tolist(), *[None] * lost],
        "correct": [*multi_label.right_sets(chances, chosen, truths[:n]).tolist(), *[False] * lost],
        "error": [*[None] * n, *(printable(one.reason) for one in unreadable)],
    }
    return pa.table(columns, schema=SCHEMA).replace_schema_metadata({NAMES: json.dumps(names).encode()})
