"""Several linear classifiers of the same images as one: their logits, weighed by how far each is to be trusted.

A sum of linear classifiers of different codes is a linear classifier of all the codes. Which of them is best, few
images cannot tell; so none is chosen, and those that may well be best share the answer. By the sum of logits the
probabilities multiply (a logarithmic opinion pool, Genest & Zidek 1986). Weights for averages of models that fall with
what their held-out answers are surprised by, and with the doubt about that, are those of Yao et al. 2018
(arXiv:1704.02030, sec. 3); here they fall with the number of standard errors behind the least surprised.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
import torch

from striate.linear.classifiers import Linear, OutOfFold, fitted_temperature

BLEND = "blend"
LEAST_WEIGHT = 0.05  # of the greatest: what counts less is left out

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True, slots=True, eq=False)
class Blend(Generic[Name]):
    """How much each of some classifiers counts, and what they answer together."""

    weights: Mapping[Name, float]  # of those that count; they add up to 1
    answers: OutOfFold  # to each held-out image with weights that were found without its fold


def blended(*groups: Mapping[Name, OutOfFold]) -> Blend[Name]:
    """Weigh classifiers by their answers to the same held-out images in the same folds.

    Args:
        groups: classifiers by whatever names, which are compared within each group; all groups count the same. At least
            one classifier in each, of two folds or more.
    """
    answers = {name: one for group in groups for name, one in group.items()}
    first = next(iter(answers.values()))
    held, folds = first.held_out, first.folds[first.held_out]
    targets = first.targets[held]
    rows = np.arange(len(targets))
    surprise = [
        np.stack([-_log_probabilities(one.logits[held])[rows, targets] for one in group.values()]) for group in groups
    ]

    def weights(images: np.ndarray) -> np.ndarray:
        return np.concatenate([_weights(group[:, images]) for group in surprise]) / len(groups)

    numbers = np.unique(folds)
    by_fold = np.stack([weights(folds != number) for number in numbers])  # [F, M]
    of_image = by_fold[np.searchsorted(numbers, folds)].astype(np.float32)  # [m, M]
    mixed = np.zeros(first.logits[held].shape, np.float32)
    for index, one in enumerate(answers.values()):
        mixed += of_image[:, [index]] * _log_probabilities(one.logits[held])
    temperature = fitted_temperature(mixed, targets)
    logits = np.full(first.logits.shape, np.nan, np.float32)
    logits[held] = mixed / temperature
    together = OutOfFold(
        kind=BLEND, logits=logits, targets=first.targets, folds=first.folds, regularization=math.nan, by_fold=(),
        temperature=temperature, choosing=first.choosing, looked_at=first.looked_at,
    )  # fmt: skip
    whole = dict(zip(answers, weights(np.ones(len(targets), bool)).tolist(), strict=True))
    return Blend({name: one for name, one in whole.items() if one > 0}, together)


def summed(parts: Mapping[Name, Linear], blend: Blend[Name]) -> dict[Name, Linear]:
    """What each classifier adds to the logits of `blend`: its own, times its weight, over the common temperature."""
    scales = {name: weight / blend.answers.temperature for name, weight in blend.weights.items()}
    return {
        name: replace(one, weight=one.weight * scale, bias=one.bias * scale, temperature=one.temperature / scale)
        for name, scale in scales.items()
        for one in (parts[name],)
    }


def _weights(surprise: np.ndarray) -> np.ndarray:
    """Weights [M] that add up to 1, from -log p of the true class, [M, m]: e to the minus standard errors behind."""
    means = surprise.mean(axis=1)
    behind = surprise - surprise[means.argmin()]
    errors = behind.std(axis=1) / math.sqrt(surprise.shape[1])
    mean = behind.mean(axis=1)
    weights = np.exp(-np.divide(mean, errors, out=np.zeros_like(mean), where=errors > 0))
    weights = np.where(weights < LEAST_WEIGHT, 0.0, weights)
    return weights / weights.sum()


def _log_probabilities(logits: np.ndarray) -> np.ndarray:
    """[n, K] -> [n, K]."""
    return torch.from_numpy(logits).log_softmax(dim=1).numpy()
