"""What training makes small: the head's loss, with mixed targets, class weights and an L1 penalty where asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from striate.data import Batch
from striate.models import ConvNet, Outputs


def batch_loss(
    model: ConvNet,
    outputs: torch.Tensor | Outputs,
    batch: Batch,
    *,
    class_weights: torch.Tensor | None,
    label_smoothing: float,
) -> torch.Tensor:
    """The mean loss of a batch; a mixed image (mixup, cutmix) counts towards both of its classes by its weight."""
    settings: dict[str, Any] = {"weight": class_weights, "label_smoothing": label_smoothing}
    if batch.mixed_targets is None or batch.mix_weight is None:
        return model.loss(outputs, batch.targets, **settings)
    own = model.loss(outputs, batch.targets, reduction="none", **settings)
    partner = model.loss(outputs, batch.mixed_targets, reduction="none", **settings)
    return (batch.mix_weight * own + (1 - batch.mix_weight) * partner).mean()


def balanced_class_weights(targets: np.ndarray, classes: int) -> torch.Tensor:
    """Weights [classes] that give every class the same total: n / (classes x count); 0 for a class without images.

    Of several labels an image, uint8 [n, classes], how many times more a label counts where an image has it, so that
    having and lacking it weigh the same: without / with.
    """
    if targets.ndim == 2:
        return _balancing_label_weights(targets)
    counts = np.bincount(targets, minlength=classes)
    weights = np.divide(len(targets), classes * counts, out=np.zeros(classes), where=counts > 0)
    return torch.tensor(weights, dtype=torch.float32)


def _balancing_label_weights(targets: np.ndarray) -> torch.Tensor:
    """1 for a label that every image has, or none."""
    having = targets.sum(axis=0, dtype=np.int64)
    lacking = len(targets) - having
    weights = np.divide(lacking, having, out=np.ones(len(having)), where=(having > 0) & (lacking > 0))
    return torch.tensor(weights, dtype=torch.float32)


@torch.no_grad()
def add_l1_gradient(optimizer: torch.optim.Optimizer, strength: float) -> None:
    """Add the sub-gradient of ``strength * sum |w|`` to the gradients of the weights that decay (not the spared)."""
    for group in optimizer.param_groups:
        if group.get("name") == "spared":
            continue
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter.grad.add_(parameter.sign(), alpha=strength)
