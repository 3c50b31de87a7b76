"""The deconvnet of Zeiler & Fergus: from one activation of a layer back down to the pixels.

    layer above     all but one activation of the layer are set to zero
      unpool        each value goes to where the maximum of its window was: the switches
      rectify       negative signals are set to zero
      filter        with the same kernels, transposed
    pixels

Zeiler & Fergus 2013, 1311.2901, sec. 2.1. The steps are those of the network backwards, so that the switches are those
that max pooling recorded for this image. What the paper's networks do not have goes the way that `rectified` says;
biases play no part, as in the paper, and its contrast normalisation, like that of AlexNet, is passed by.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from striate.explanation.attribution.guided import NO_RECTIFIER
from striate.explanation.attribution.question import Answer, Question, Unit
from striate.explanation.attribution.rectified import rectified_backward
from striate.explanation.places import Place, check_unit, watched


def deconvnet(question: Question) -> Answer:
    """What made the strongest activation of the layer, [n, C, H, W]: that of `options.unit`, else of all its maps.

    Raises:
        UsageError: the layer has no such map.
    """
    place, unit = question.where(), question.options.unit
    channels = None if unit is None else [unit] * len(question.images)
    return reconstruct(question.model, question.images, place, channels)


def reconstruct(model: nn.Module, images: Tensor, place: Place, channels: Sequence[int] | None = None) -> Answer:
    """For each image the strongest activation of map `channels[i]` (None: of any map) at `place`, down to the pixels.

    To be called inside `undisturbed`. A layer without maps, [n, F], has activations of one place only.

    Args:
        model: any network.
        images: [n, C, H, W], normalised.
        place: the layer.
        channels: a map for each image.

    Raises:
        UsageError: the layer has no such map.
    """
    leaf = images.detach().clone().requires_grad_()
    with rectified_backward(model, "deconvnet") as mode, watched(model, [place.path]) as seen:
        model(leaf.clone())
    outputs = seen[place.path]
    flat = outputs.detach().flatten(2) if outputs.ndim > 2 else outputs.detach()[:, :, None]  # [n, maps, places]
    rows = torch.arange(len(flat), device=flat.device)
    if channels is None:
        chosen = flat.amax(2).argmax(1)
    else:
        for channel in channels:
            check_unit(channel, flat.shape[1], place.name)
        chosen = torch.as_tensor(list(channels), device=flat.device)
    spots = flat[rows, chosen].argmax(1)
    values = flat[rows, chosen, spots]
    signal = torch.zeros_like(flat)
    signal[rows, chosen, spots] = values
    maps = torch.autograd.grad(outputs, leaf, signal.view_as(outputs), allow_unused=True)[0]
    units = tuple(
        Unit(channel, *_spot(spot, outputs), value)
        for channel, spot, value in zip(chosen.tolist(), spots.tolist(), values.tolist(), strict=True)
    )
    notes = () if mode.caught else (NO_RECTIFIER,)
    silent = (f"no positive activation of it at {place.name}",)
    each = tuple(silent if value <= 0 else () for value in values.tolist())
    return Answer(torch.zeros_like(images) if maps is None else maps, place, units, notes, each)


def _spot(spot: int, outputs: Tensor) -> tuple[int | None, int | None]:
    if outputs.ndim < 4:
        return None, None
    return divmod(spot, outputs.shape[3])
