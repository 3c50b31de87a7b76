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
    codes: Mapping[str, np.ndarray], targets: np.ndarray, folds: np.ndarray, classes: int, progress: Progress,
    *, kinds: Sequence[str] = KINDS,
) -> Tried:  # fmt: skip
    """What classifiers at every place answer to the images of each fold.

    Args:
        codes: float32 [n, D] by place.
        targets: int [n].
        folds: int [n], see `classifiers.fold_numbers`.
        classes: how many.
        progress: shows a bar over the places.
        kinds: of classifiers.
    """

    def of(place: str) -> Tried:
        axes = axes_of(codes[place])
        return {(place, kind): out_of_fold(axes, targets, classes, kind=kind, folds=folds) for kind in kinds}

    found: Tried = {}
    with progress.task("classifiers by depth", len(codes)) as task:
        for one in _side_by_side(of, list(codes)):
            found |= one
            task.advance()
    return found


def fit_blend(
    codes: Mapping[str, np.ndarray], targets: np.ndarray, classes: int, *, rows: np.ndarray, folds: np.ndarray,
    counts: np.ndarray | None = None, progress: Progress,
) -> tuple[dict[Member, Linear], Blend[Member]] | None:  # fmt: skip
    """Classifiers whose logits add up to those of the blend; None where too few images could weigh them.

    Args:
        codes: float32 [n, D] by place, shallow to deep.
        targets: int [n].
        classes: how many.
        rows: int [m], the images by which weights, C and temperatures are chosen; the classifiers are fitted to all.
        folds: int [m], of these images.
        counts: float [n], how often each image counts in fitting; softmax classifiers alone can count so.
        progress: shows a bar over the places.
    """
    kinds = KINDS if counts is None else ("softmax",)
    every = len(rows) == len(targets)
    some = codes if every else {place: values[rows] for place, values in codes.items()}
    tried = answers_by_depth(some, targets[rows], folds, classes, progress, kinds=kinds)
    blend = blend_of(list(codes), tried)
    if blend is None:
        return None
    axes = {place: axes_of(codes[place]) for place in dict.fromkeys(place for place, _ in blend.weights)}
    linear: dict[Member, Linear] = {}
    for place, kind in blend.weights:
        known = tried[place, kind]
        if kind == "svm":
            linear[place, kind] = fit_svm(axes[place], targets, classes, known=known)
        else:
            linear[place, kind] = fit_softmax(axes[place], targets, classes, known=known, counts=counts)
    return summed(linear, blend), blend


def blend_of(places: Sequence[str], tried: Tried) -> Blend[Member] | None:
    """The classifiers of all places as one; None where too few images could choose anything.

    A network reads its stages and one place behind them (`models.cut`): of the hidden layers of a head the best takes
    part.
    """
    kinds = [kind for kind in KINDS if (places[0], kind) in tried]
    if not tried[places[0], kinds[0]].looked_at.any():
        return None
    hidden = [place for place in places if place.startswith(HEAD)]
    best = max(reversed(hidden), key=lambda one: max(trust(tried[one, kind]) for kind in kinds), default=None)
    read = [place for place in places if place not in hidden or place == best]
    # One of the two kinds may be surer than the other without knowing more: they are not weighed against each other.
    return blended(*({(place, kind): tried[place, kind] for place in read} for kind in kinds))


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
