"""What every method of attribution is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from striate.errors import ModelError
from striate.explanation.places import Place, find_place
from striate.models.base import Outputs
from striate.options.explain import ExplainOptions
from striate.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Why does `model` give its score, the logit, to class `targets[i]` for image i?

    The model runs inside `undisturbed`, on the device of the images, as do all methods.
    """

    model: nn.Module
    images: Tensor  # [n, C, H, W], normalised, as the network is fed
    targets: Tensor  # int64 [n]
    place: Place | None = None  # None: the default one, where a method needs one
    black: Tensor | None = None  # [C, 1, 1], a black pixel as the network is fed; None: zeros
    grey: Tensor | None = None  # [C, 1, 1], what covers a part of an image; None: zeros, which is the mean colour
    options: ExplainOptions = field(default_factory=ExplainOptions)
    progress: Progress = field(default_factory=Progress)

    def where(self) -> Place:
        """The layer to look at.

        Raises:
            ModelError: none was named and the network has no maps.
        """
        return self.place or find_place(self.model)

    def scores(self, images: Tensor, targets: Tensor | None = None) -> Tensor:
        """The logit of its target for each of `images`, [n]."""
        targets = self.targets if targets is None else targets
        return logits_of(self.model, images).gather(1, targets[:, None])[:, 0]


@dataclass(frozen=True, slots=True)
class Unit:
    """One activation of a layer: its map, where in the map, and its value."""

    channel: int
    row: int | None  # None in a layer without maps
    column: int | None
    value: float


@dataclass(frozen=True, slots=True)
class Answer:
    """`maps` [n, H, W] or [n, C, H, W], float32, of the images' height and width."""

    maps: Tensor
    place: Place | None = None  # the layer that was looked at
    units: tuple[Unit, ...] = ()  # the activation that each picture is of
    notes: tuple[str, ...] = ()
    each: tuple[tuple[str, ...], ...] = ()  # further notes for each image


def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """Logits [n, classes] of normalised images.

    Raises:
        ModelError: the network returns something else.
    """
    outputs = model(images)
    logits = outputs.logits if isinstance(outputs, Outputs) else outputs
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
        what = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ModelError(f"{type(model).__name__} gives {what} where logits [n, classes] are wanted")
    return logits
