"""Linear classifiers of the codes at every depth of a network, side by side, and as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch

from striate.linear import KINDS
from striate.linear.blending import Blend, blended, summed
from striate.linear.classifiers import Linear, OutOfFold, fit_softmax, fit_svm, out_of_fold
from striate.linear.solver import axes_of
from striate.models.cut import HEAD
from striate.progress import Progress

Member = tuple[str, str]  # place and kind
Tried = dict[Member, OutOfFold]


def answers_by_depth(
    codes: Mapping[str, np.ndarray], targets: np.ndarray, folds: np.ndarray, classes: int, progress: Progress
) -> Tried:
    """What both classifiers at every place answer to the images of each fold.

    Args:
        codes: float32 [n, D] by place.
        targets: int [n].
        folds: int [n], see `classifiers.fold_numbers`.
        classes: how many.
        progress: shows a bar over the places.
    """

    def both(place: str) -> Tried:
        axes = axes_of(codes[place])
        return {(place, kind): out_of_fold(axes, targets, classes, kind=kind, folds=folds) for kind in KINDS}

    found: Tried = {}
    with progress.task("classifiers by depth", len(codes)) as task:
        for one in _side_by_side(both, list(codes)):
            found |= one
            task.advance()
    return found


def blend_of(places: Sequence[str], tried: Tried) -> Blend[Member] | None:
    """The classifiers of all places as one; None where too few images could choose anything.

    A network reads its stages and one place behind them (`models.cut`): of the hidden layers of a head the best takes
    part.
    """
    if not tried[places[0], KINDS[0]].looked_at.any():
        return None
    hidden = [place for place in places if place.startswith(HEAD)]
    best = max(reversed(hidden), key=lambda one: max(trust(tried[one, kind]) for kind in KINDS), default=None)
    read = [place for place in places if place not in hidden or place == best]
    # One of the two kinds may be surer than the other without knowing more: they are not weighed against each other.
    return blended(*({(place, kind): tried[place, kind] for place in read} for kind in KINDS))


def fit_blend(
    blend: Blend[Member], tried: Tried, codes: Mapping[str, np.ndarray], targets: np.ndarray, classes: int
) -> dict[Member, Linear]:
    """The classifiers of a blend, fitted to all images: their logits add up to those of the blend.

    Args:
        blend: whose weights and temperature are kept.
        tried: its classifiers' answers, whose C and temperatures are kept.
        codes: float32 [n, D] of each place that counts.
        targets: int [n].
        classes: how many.
    """
    linear: dict[Member, Linear] = {}
    for place in dict.fromkeys(place for place, _ in blend.weights):
        axes = axes_of(codes[place])
        if (place, "svm") in blend.weights:
            linear[place, "svm"] = fit_svm(axes, targets, classes, known=tried[place, "svm"], exact=False)
        if (place, "softmax") in blend.weights:
            linear[place, "softmax"] = fit_softmax(axes, targets, classes, known=tried[place, "softmax"])
    return summed(linear, blend)


def trust(answers: OutOfFold) -> float:
    """The mean probability of the true class of held-out images."""
    rows = np.arange(int(answers.held_out.sum()))
    return float(answers.probabilities[rows, answers.targets[answers.held_out]].mean()) if len(rows) else 0.0


def _side_by_side(work: Callable[[str], Tried], places: Sequence[str]) -> Iterator[Tried]:
    """`work` on each place, in as many threads as torch would use inside each product; it is quicker that way round."""
    threads = torch.get_num_threads()
    if threads == 1:
        yield from map(work, places)
        return
    with _one_thread_each(threads), ThreadPoolExecutor(threads, thread_name_prefix="striate-probe") as pool:
        yield from pool.map(work, places)


@contextmanager
def _one_thread_each(before: int) -> Iterator[None]:
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
