"""The average of a network's answers to the views of each image."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby

import torch
from torch import Tensor
from torch.nn import functional


class Averages:
    """Weighted means of answers for n images that come view by view, the views of an image one after the other.

    Args:
        images: n.
        of_probabilities: average the probabilities that the answers, as logits, stand for; else the answers themselves.
        multi_label: those are probabilities of a label each, yes or no, not of one class among all.
    """

    def __init__(self, images: int, *, of_probabilities: bool, multi_label: bool = False) -> None:
        self.images, self.of_probabilities, self.multi_label = images, of_probabilities, multi_label
        # [n, classes] or [n, k, classes]; of probabilities, their logarithms; of labels, first of yes and then of no
        self._sums: Tensor | None = None
        self._weights = torch.zeros(images, dtype=torch.float64)

    def add(self, answers: Tensor, owners: Sequence[int], weights: Sequence[float]) -> None:
        """Answers float32 [B, classes] of views of the images `owners`, each counted `weights` times.

        Answers of k networks together are [B, k, classes].
        """
        if self.of_probabilities and self.multi_label:
            answers = torch.cat([functional.logsigmoid(answers), functional.logsigmoid(-answers)], dim=-1)
        elif self.of_probabilities:
            answers = answers.log_softmax(-1)
        if self._sums is None:
            start = -math.inf if self.of_probabilities else 0.0
            self._sums = answers.new_full((self.images, *answers.shape[1:]), start)
        scale = torch.tensor(weights, dtype=torch.float32).to(answers.device).reshape(-1, *[1] * (answers.ndim - 1))
        terms = answers + scale.log() if self.of_probabilities else answers * scale
        for owner, rows in _runs(owners):
            if self.of_probabilities:
                self._sums[owner] = torch.logaddexp(self._sums[owner], terms[rows].logsumexp(0))
            else:
                self._sums[owner] += terms[rows].sum(0)
            self._weights[owner] += sum(weights[rows])

    def result(self) -> Tensor:
        """[n, classes] on the processor, [0, 0] of none: logits of the mean probabilities, or the mean answers.

        Of one class among all these logits are logarithms of the probabilities.
        """
        if self._sums is None:
            return torch.zeros(0, 0)
        with torch.inference_mode(False):
            sums = self._sums.clone().cpu()
            if self.of_probabilities and self.multi_label:
                yes, no = sums.chunk(2, dim=-1)
                return yes - no  # their weights cancel out
            weights = self._weights.clone().float().reshape(-1, *[1] * (sums.ndim - 1))
            return sums - weights.log() if self.of_probabilities else sums / weights


def _runs(owners: Iterable[int]) -> Iterable[tuple[int, slice]]:
    """Each owner with the slice of its rows."""
    start = 0
    for owner, rows in groupby(owners):
        stop = start + sum(1 for _ in rows)
        yield owner, slice(start, stop)
        start = stop
