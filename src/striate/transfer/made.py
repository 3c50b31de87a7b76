"""What a network without epochs is made of, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from striate.checkpoint import SavedModel
from striate.data import Dataset
from striate.models import ConvNet
from striate.options import TrainOptions
from striate.progress import Progress


@dataclass(frozen=True, slots=True)
class Job:
    """What there is to start from."""

    options: TrainOptions  # resolved
    dataset: Dataset
    network: SavedModel  # of `--from`, fed with the images of the data set
    device: torch.device
    progress: Progress


@dataclass(frozen=True, slots=True)
class Made:
    """A network that is done."""

    model: ConvNet
    temperature: float = 1.0
    thresholds: tuple[float, ...] | None = None  # of several labels an image
    figures: Mapping[str, float] = field(default_factory=dict)  # train_top1, train_loss, where it learned from images
    notes: Mapping[str, Any] = field(default_factory=dict)  # of the model file
