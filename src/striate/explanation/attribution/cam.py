"""Class activation maps: the maps of a deep layer, added up by how much the score depends on each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from striate.errors import ModelError
from striate.explanation.attribution.question import Answer, Question
from striate.explanation.places import Place, watched

_BESIDE = 0.55  # of a step: padding on one side of strided layers alone makes up to half a step
_ONE_PIXEL = "maps of a single place: the same everywhere"


def gradcam(question: Question) -> Answer:
    """ReLU of the sum of maps weighted by the mean gradient of the score by each, [n, H, W].

    Selvaraju et al. 2017, 1610.02391, eq. 1 and 2; brought to the image's size by `laid_over`.
    """
    return _answer(question, mean_gradients)


def gradcam_plus_plus(question: Question) -> Answer:
    """The same with a weighted mean of the positive gradients, [n, H, W]. Chattopadhay et al. 2018, 1710.11063.

    As in the paper (eq. 19), the derivatives are those of exp(score), of which the common factor is left out.
    """
    return _answer(question, positive_gradients)


def mean_gradients(maps: Tensor, gradients: Tensor) -> Tensor:
    """The weight of each map, [n, C]."""
    return gradients.mean((2, 3))


def positive_gradients(maps: Tensor, gradients: Tensor) -> Tensor:
    """The weight of each map, [n, C]: eq. 19 and 5 of the paper."""
    squares, cubes = gradients**2, gradients**3
    below = 2 * squares + maps.sum((2, 3), keepdim=True) * cubes
    shares = torch.where(below != 0, squares / below.where(below != 0, 1.0), 0.0)
    return (shares * gradients.clamp_min(0)).sum((2, 3))


def coarse_map(question: Question, weigh: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Place]:
    """The class activation map at the layer's own resolution, [n, h, w].

    Raises:
        ModelError: the layer gives no maps.
    """
    place = question.where()
    # the parameters need no gradient here: the images ask for one, so that the maps have a history
    leaf = question.images.detach().clone().requires_grad_()
    with watched(question.model, [place.path]) as seen:
        scores = question.scores(leaf.clone())
    maps = seen[place.path]
    if maps.ndim != 4:
        raise ModelError(
            f"{place.name} gives {list(maps.shape[1:])} for an image, not maps", "name a layer before the flattening"
        )
    gradients = torch.autograd.grad(scores.sum(), maps, allow_unused=True)[0]
    if gradients is None:
        raise ModelError(f"the score does not depend on {place.name}", "name a layer on the way to the output")
    maps = maps.detach()
    return (weigh(maps, gradients)[:, :, None, None] * maps).sum(1).clamp_min(0), place


def _answer(question: Question, weigh: Callable[[Tensor, Tensor], Tensor]) -> Answer:
    coarse, place = coarse_map(question, weigh)
    height, width = question.images.shape[2:]
    maps = laid_over(coarse, (height, width), place)
    return Answer(maps, place, notes=(_ONE_PIXEL,) if coarse[0].numel() == 1 else ())


def laid_over(coarse: Tensor, size: tuple[int, int], place: Place) -> Tensor:
    """Maps [n, h, w] of `place` brought to the image's `size`, [n, H, W].

    They are stretched over the image, as everybody does. Where convolutions are not padded that puts the units at the
    border far from what they see: along a side where it would be by clearly more than half a step, they are laid at the
    centres of their receptive fields instead, and what is between and beyond is interpolated.
    """
    rows, columns = place.centres or (None, None)
    down, across = _weights(coarse.shape[1], size[0], rows), _weights(coarse.shape[2], size[1], columns)
    return down.to(coarse) @ coarse @ across.to(coarse).T


def _weights(units: int, pixels: int, centres: Sequence[float] | None) -> Tensor:
    """[pixels, units]: at each pixel a mean of the units on either side, by distance; constant beyond the last."""
    step = pixels / units
    stretched = (np.arange(units) + 0.5) * step - 0.5
    where = stretched
    if centres is not None and len(centres) == units and min(centres) >= 0 and max(centres) < pixels:
        seen = np.asarray(centres)
        if units > 1 and (np.diff(seen) > 0).all() and np.abs(seen - stretched).max() > _BESIDE * step:
            where = seen
    bumps = np.eye(units)
    return torch.from_numpy(np.stack([np.interp(np.arange(pixels), where, bump) for bump in bumps], axis=1))
