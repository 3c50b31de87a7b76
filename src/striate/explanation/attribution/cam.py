"""Class activation maps: the maps of a deep layer, added up by how much the score depends on each."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from striate.errors import ModelError
from striate.explanation.attribution.question import Answer, Question
from striate.explanation.places import Place, watched

_ONE_PIXEL = "maps of a single place: the same everywhere"


def gradcam(question: Question) -> Answer:
    """ReLU of the sum of maps weighted by the mean gradient of the score by each, [n, H, W].

    Selvaraju et al. 2017, 1610.02391, eq. 1 and 2; brought to the image's size by bilinear interpolation.
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
    size = question.images.shape[2:]
    maps = F.interpolate(coarse[:, None], size=tuple(size), mode="bilinear", align_corners=False)[:, 0]
    return Answer(maps, place, notes=(_ONE_PIXEL,) if coarse[0].numel() == 1 else ())
