"""One split, one protocol: whether the network can be looked at so, and its averaged answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from striate.data.batches import EvaluationBatches, as_targets
from striate.errors import UsageError
from striate.evaluation.protocols.averages import Averages
from striate.evaluation.protocols.crops import cropped_answers
from striate.evaluation.protocols.dense import Dense, dense_answers
from striate.evaluation.protocols.fitted import with_views
from striate.evaluation.protocols.names import in_words, least_sizes, passes_of, takes_any_size
from striate.inference import logits_of
from striate.models import ConvNet
from striate.progress import Progress
from striate.spec import InputSpec

if TYPE_CHECKING:
    from striate.data import Split


def check_views(views: str, model: ConvNet, spec: InputSpec, *, backend: str = "torch") -> str:
    """What the views of this network are, in words for records.

    Args:
        views: a name in `VIEWS`.
        model: at any state of its weights.
        spec: what it is fed.
        backend: what computes.

    Raises:
        UnknownNameError: no such views.
        UsageError: a back end that has the network's own input size only.
        ModelError: a network whose layers do not allow them.
    """
    passes_of(views)
    pooled = False
    if takes_any_size(views):
        if backend != "torch":
            raise UsageError(
                f"{backend} has the network for its own input size only: no {views} views",
                "--backend torch, or --views ten-crop",
            )
        pooled = Dense(model, spec.size).pooled
    return in_words(views, spec, averaged=_averaged(model), pooled=pooled)


class Together(nn.Module):
    """k networks that are shown the same images, [B, C, H, W] -> float32 [B, k, classes]: images are read once.

    Args:
        models: their heads have a loss of their own, or none has.
        asked: what computes instead of each, at its own input size.
    """

    def __init__(self, models: Sequence[ConvNet], asked: Sequence[nn.Module] | None = None) -> None:
        super().__init__()
        self.models = list(models)  # as a list they are not registered twice
        self.networks = nn.ModuleList(asked or models)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The answers of each."""
        return torch.stack([network(images).float() for network in self.networks], dim=1)


def answers(
    model: ConvNet | Together,
    split: Split,
    spec: InputSpec,
    views: str,
    *,
    batch_size: int,
    device: torch.device,
    precision: str,
    asked: nn.Module | None = None,
    channels_last: bool = True,
    progress: Progress | None = None,
) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """The network's answer to every readable image of `split`, once and in order.

    Args:
        model: on `device`; or several, all of which are asked.
        split: images and targets.
        spec: what the network is fed.
        views: a name in `VIEWS`.
        batch_size: images or crops passed at once.
        device: where the batches are.
        precision: resolved, see `logits_of`.
        asked: computes instead of `model`, at its own input size.
        channels_last: the memory layout of the batches.
        progress: shows a bar.

    Returns:
        logits float32 [n, classes], of several networks [n, k, classes], targets (see `as_targets`) and indices
        int64 [n]. Where probabilities were averaged the logits are those of the averages; [0, 0] without images.

    Raises:
        DataError: an image changed since the data were loaded.
        ModelError: see `check_views`.
    """
    network = asked if asked is not None else model
    if not least_sizes(views, spec):
        batches = EvaluationBatches(split, spec, batch_size=batch_size, device=device, channels_last=channels_last)
        return logits_of(with_views(network, views), batches, precision=precision, progress=progress)
    averages = Averages(
        len(split.images), of_probabilities=_averaged(model) == "probabilities", multi_label=split.multi_label
    )
    if takes_any_size(views):
        logits = dense_answers(
            _dense(model, spec), split.images, spec, averages, batch_size=batch_size, device=device,
            precision=precision, progress=progress,
        )  # fmt: skip
    else:
        logits = cropped_answers(
            network, split.images, spec, views, averages, batch_size=batch_size, device=device, precision=precision,
            channels_last=channels_last, progress=progress,
        )  # fmt: skip
    return logits, as_targets(split.targets), np.arange(len(logits))


def _dense(model: ConvNet | Together, spec: InputSpec) -> nn.Module:
    if isinstance(model, Together):
        return Together(model.models, [Dense(one, spec.size) for one in model.models])
    return Dense(model, spec.size)


def _averaged(model: ConvNet | Together) -> str:
    """What is averaged: a head with a loss of its own gives no logits of a softmax."""
    if isinstance(model, Together):
        return _averaged(model.models[0])
    return "outputs" if hasattr(model.head, "loss") else "probabilities"
