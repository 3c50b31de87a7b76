"""Which classes stand first: probabilities, ranks and top-k, as `striate.metrics` says."""

from __future__ import annotations

import torch
from torch.nn import functional

TOP5_FROM_CLASSES = 6  # with five classes or fewer every answer would be right
TOP2_FROM_CLASSES = 4  # of three classes, two are nearly all


def usual_k(classes: int) -> int | None:
    """The k of a top-k score that says something: 5, of four or five classes 2, None of fewer."""
    return 5 if classes >= TOP5_FROM_CLASSES else 2 if classes >= TOP2_FROM_CLASSES else None


def probabilities(logits: torch.Tensor, temperature: float = 1.0, *, multi_label: bool = False) -> torch.Tensor:
    """Softmax of logits [n, C] / `temperature`, float32: what every prediction and calibration figure is made of.

    With `multi_label` the sigmoid of each logit, since an image has any number of labels; there is no temperature then.
    """
    logits = logits.float()
    if multi_label:
        return logits.sigmoid()
    return functional.softmax(logits if temperature == 1 else logits / temperature, dim=1)


def confidences(logits: torch.Tensor) -> torch.Tensor:
    """The largest softmax probability of each row, without holding them all."""
    return torch.exp(logits.amax(dim=1) - logits.logsumexp(dim=1)) if len(logits) else logits.new_zeros(0)


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
