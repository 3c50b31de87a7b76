"""Logits and true classes become an `Evaluation`, however the logits came about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch

from striate.checkpoint import SavedModel
from striate.evaluation.costs import cost_of
from striate.evaluation.label_sets import evaluation_of_labels
from striate.evaluation.table import Evaluation, predictions_table, unreadable_table
from striate.evaluation.trust import trust_of
from striate.metrics import probabilities, score
from striate.metrics.calibration import fit_temperature
from striate.metrics.intervals import with_intervals

if TYPE_CHECKING:
    from striate.data import LeftOut


def evaluation_of(
    saved: SavedModel,
    logits: torch.Tensor,
    targets: torch.Tensor,
    paths: Sequence[str],
    unreadable: Sequence[LeftOut] = (),
    *,
    device: torch.device | None = None,
    calibrate: bool = False,
    costs: np.ndarray | None = None,
) -> Evaluation:
    """Everything that there is to say about the answers to n images.

    Args:
        saved: the network, for its classes, its loss and its temperature.
        logits: [n, C], on the processor.
        targets: the true classes, int64 [n]; where an image has any number of labels 0 or 1, [n, C].
        paths: of the images, [n].
        unreadable: images that could not be read: wrong answers.
        device: where the network is, None for the processor.
        calibrate: fit `saved.temperature` on these images first, or the thresholds of labels; the result's `fitted`
            says what came of it.
        costs: of each decision, [C, C] or [C, C + 1] (see `read_costs`): the result's `trust["costs"]`.
    """
    if saved.labels.multi_label:
        return evaluation_of_labels(saved, logits, targets, paths, unreadable, fit=calibrate)
    with torch.inference_mode():
        losses = saved.model.loss(logits.to(device), targets.to(device), reduction="none").cpu()
    fitted = None
    if calibrate:
        fitted = fit_temperature(logits, targets)
        if fitted.loss_before is not None:  # too few images leave it as it was
            saved.temperature = fitted.value
    number = {name: index for index, name in enumerate(saved.labels.names)}
    missing = [number[one.label] for one in unreadable if one.label in number]
    scores = score(
        logits, targets, saved.labels, loss=float(losses.double().mean()), unreadable=missing,
        temperature=saved.temperature,
    )  # fmt: skip
    trust = trust_of(logits, targets, saved.labels, temperature=saved.temperature, unreadable=len(missing))
    if costs is not None:
        usable = logits.isfinite().all(dim=1)
        chances = probabilities(logits[usable], saved.temperature).numpy()
        trust["costs"] = cost_of(chances, targets[usable].numpy(), costs)
    tables = [
        predictions_table(paths, logits, targets, losses, saved.labels, saved.temperature),
        unreadable_table([(one.path, one.label, one.reason) for one in unreadable]),
    ]
    return Evaluation(
        scores=with_intervals(scores),
        predictions=pa.concat_tables(tables),
        trust=trust,
        fitted=fitted,
    )
