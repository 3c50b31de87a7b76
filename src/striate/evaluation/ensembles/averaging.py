"""The mean of several networks' probabilities, and what each network adds to it.

Krizhevsky et al. 2012, sec. 6, average the predictions of five and of seven networks; Huang et al. 2017
(arXiv:1704.00109), sec. 3, those of the snapshots of one training. Means are taken of probabilities, of logits divided
by each network's own temperature, in logarithms, so that no small probability is lost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from striate.metrics import predicted, top_k
from striate.metrics.intervals import exact_interval
from striate.metrics.pairs import compare_pairs, holm
from striate.metrics.topk import TOP5_FROM_CLASSES


def tempered(logits: Tensor, temperature: float, order: Sequence[int]) -> Tensor:
    """Logarithms of the probabilities [n, C] that logits stand for, their classes put into another order."""
    return (logits.float() / temperature).log_softmax(1)[:, list(order)]


def average(parts: Sequence[Tensor]) -> Tensor:
    """Logarithms of the mean of the probabilities whose logarithms are `parts`, each [n, C]."""
    total = parts[0]
    for one in parts[1:]:
        total = torch.logaddexp(total, one)
    return total - math.log(len(parts))


@dataclass(frozen=True, slots=True)
class _Figures:
    """How a set of members fares on its own."""

    right: np.ndarray  # bool [n], unreadable images included
    loss: float
    top5: float | None

    @property
    def top1(self) -> float:
        return float(self.right.mean())

    @property
    def rank(self) -> tuple[float, float]:
        """More is better."""
        return (self.top1, -self.loss)

    def to_dict(self) -> dict[str, Any]:
        low, high = exact_interval(int(self.right.sum()), len(self.right))
        return {"top1": self.top1, "top1_interval": [float(low), float(high)], "top5": self.top5, "loss": self.loss}


def what_each_adds(
    names: Sequence[str], parts: Sequence[Tensor], targets: Tensor, *, unreadable: int = 0
) -> dict[str, Any]:
    """Members alone, the average without each, and the order in which one would take them; plain values for JSON.

    - `members`: of each `name`, its own `top1`, `top1_interval`, `top5` and `loss`; `without`: the same of the average
      of all others; `adds`: what it adds to that, paired on the images (see `PairedComparison`, whose first is the
      average without it), with `p_adjusted` for as many members (Holm).
    - `greedy`: the best member, then the one whose joining makes the best average, and so on, each with the scores so
      far and what it `adds` to those before. The order is chosen on these very images: it is too kind to them.
    - `best_member`, and `over_best`: what all together have ahead of it, paired.

    Losses are mean negative log-likelihoods of the tempered probabilities. {} without images.

    Args:
        names: of k members, at least two.
        parts: logarithms of their probabilities, each [n, C].
        targets: the true classes, int64 [n].
        unreadable: images that could not be read: wrong answers of every member.
    """
    if not len(targets) + unreadable:
        return {}
    places = range(len(names))

    def of(answers: Tensor) -> _Figures:
        right = (predicted(answers) == targets).numpy()
        loss = -answers.gather(1, targets[:, None]).double().mean()
        top5 = top_k(answers, targets, 5, unreadable=unreadable) if answers.shape[1] >= TOP5_FROM_CLASSES else None
        return _Figures(np.concatenate([right, np.zeros(unreadable, bool)]), float(loss), top5)

    alone, together = [of(one) for one in parts], of(average(parts))
    without = [of(average([parts[other] for other in places if other != place])) for place in places]
    adds = [compare_pairs(one.right, together.right).to_dict() for one in without]
    for one, adjusted in zip(adds, holm([one["p"] for one in adds]), strict=True):
        one["p_adjusted"] = adjusted
    best = max(places, key=lambda place: alone[place].rank)
    return {
        "members": [
            {"name": names[place], **alone[place].to_dict(), "without": without[place].to_dict(), "adds": adds[place]}
            for place in places
        ],
        "greedy": _greedy(names, parts, alone, of),
        "best_member": names[best],
        "over_best": compare_pairs(alone[best].right, together.right).to_dict(),
    }


def _greedy(names: Sequence[str], parts: Sequence[Tensor], alone: Sequence[_Figures], of: Any) -> list[dict[str, Any]]:
    left = list(range(len(parts)))
    total: Tensor | None = None  # logarithm of the sum of the probabilities so far
    before: _Figures | None = None
    rows = []
    while left:
        size = len(rows) + 1
        figures = {
            place: alone[place] if total is None else of(torch.logaddexp(total, parts[place]) - math.log(size))
            for place in left
        }
        chosen = max(left, key=lambda place: figures[place].rank)
        added = compare_pairs(before.right, figures[chosen].right).to_dict() if before is not None else None
        rows.append({"name": names[chosen], **figures[chosen].to_dict(), "adds": added})
        before = figures[chosen]
        total = parts[chosen] if total is None else torch.logaddexp(total, parts[chosen])
        left.remove(chosen)
    return rows
