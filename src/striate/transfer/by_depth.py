"""Linear classifiers at every depth of a network, side by side, and their blend."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch

from striate.linear import KINDS
from striate.linear.blending import Blend, blended
from striate.linear.classifiers import OutOfFold, out_of_fold
from striate.linear.solver import Axes, axes_of
from striate.models.cut import HEAD
from striate.progress import Progress
from striate.transfer.codes import PIXELS, Codes

Member = tuple[str, str]  # place and kind
Tried = dict[Member, OutOfFold]


def answers_by_depth(
    codes: Codes, folds: np.ndarray, classes: int, progress: Progress, *, pixels: bool = False
) -> Tried:
    """What both classifiers at every place, and on the pixels where asked for, answer to the images of each fold.

    Args:
        codes: of n images.
        folds: int [n], see `linear.classifiers.fold_numbers`.
        classes: how many.
        progress: shows a bar over the places.
        pixels: whether those of the shrunken images are wanted, too.
    """

    def both(place: str) -> Tried:
        axes = axes_at(codes, place)
        return {(place, kind): out_of_fold(axes, codes.targets, classes, kind=kind, folds=folds) for kind in KINDS}

    places = (*codes.places, PIXELS) if pixels else codes.places
    found: Tried = {}
    with progress.task("classifiers by depth", len(places)) as task:
        for one in _side_by_side(both, places):
            found |= one
            task.advance()
    return found


def blend_of(places: Sequence[str], tried: Tried) -> Blend[Member] | None:
    """Both classifiers of all places as one; None where too few images could choose anything.

    A network that was cut reads its stages and one place behind them (`models.cut`): of the hidden layers of a head the
    best takes part.
    """
    if not tried[places[0], KINDS[0]].looked_at.any():
        return None
    hidden = [place for place in places if place.startswith(HEAD)]
    best = max(reversed(hidden), key=lambda one: max(trust(tried[one, kind]) for kind in KINDS), default=None)
    read = [place for place in places if place not in hidden or place == best]
    # One of the two kinds may be surer than the other without knowing more: they are not weighed against each other.
    return blended(*({(place, kind): tried[place, kind] for place in read} for kind in KINDS))


def axes_at(codes: Codes, place: str) -> Axes:
    """The principal axes of the codes at a place, or of the pixels."""
    return axes_of(codes.pixels if place == PIXELS else codes.by_place[place])


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
