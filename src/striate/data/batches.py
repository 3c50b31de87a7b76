"""Batches for training and for evaluation.

What an image looks like in an epoch depends on (seed, epoch, its index) alone: not on batch size, order, threads, or
the step at which an interrupted epoch goes on. Mixup and cutmix put an image together with the next one of its batch,
the last with the first (see `augment/mix.py`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from striate.data.augment.boxes import training_boxes
from striate.data.augment.mix import mix
from striate.data.augment.pipeline import augment, check_augment
from striate.data.draws import Draws, permutation
from striate.data.fetch import Fetcher, Request, Resident, make_fetcher
from striate.data.images import PhotoImages
from striate.data.normalise import normalise
from striate.data.sampling import balanced_order, balanced_quota
from striate.data.split import strata
from striate.errors import DataError, UsageError
from striate.options import AugmentOptions
from striate.spec import InputSpec

if TYPE_CHECKING:
    from striate.data.dataset import Split


@dataclass(slots=True)
class Batch:
    """B images with their classes, on the device. The loss of a mixed batch weighs both classes by `mix_weight`."""

    images: torch.Tensor  # float32 [B, C, H, W], augmented and normalised
    targets: torch.Tensor  # int64 [B]; of several labels an image float32 [B, classes]
    indices: np.ndarray  # int64 [B], positions in the split
    mixed_targets: torch.Tensor | None = None  # of the partner (mixup, cutmix), as `targets`
    mix_weight: torch.Tensor | None = None  # float32 [B]: weight of the own class


def as_targets(targets: np.ndarray) -> torch.Tensor:
    """The targets of a split as a loss takes them: int64 [n]; of several labels an image float32 [n, classes]."""
    return torch.from_numpy(np.asarray(targets, dtype=np.int64 if targets.ndim == 1 else np.float32))


class TrainingBatches:
    """The batches of every epoch, each a pure function of (seed, epoch, step).

    Args:
        augment: resolved options (see `resolve_augment`); None counts as off.
        sampling: "shuffle" shows every image once per epoch; "balanced" every class equally often.
        channels_last: memory layout of the images.

    An epoch leaves out its last, incomplete batch; a split smaller than one batch is one batch.

    Raises:
        UsageError: an unknown sampling, or augmentation that these images do not allow.
        DataError: no readable image.
    """

    def __init__(
        self,
        split: Split,
        spec: InputSpec,
        augment: AugmentOptions,
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
        sampling: str = "shuffle",
        channels_last: bool = False,
    ) -> None:
        check_augment(augment, spec)
        if sampling not in ("shuffle", "balanced"):
            raise UsageError(f"unknown sampling {sampling!r}", "known: shuffle, balanced")
        self.split, self.spec, self.options = split, spec, augment
        self.seed, self.sampling, self.channels_last = seed, sampling, channels_last
        length = len(split.targets)
        if not length:
            raise DataError(f"the split {split.name!r} has no readable image")
        if sampling == "balanced":
            length = balanced_quota(split.targets) * len(np.unique(strata(split.targets)))
        self.batch_size = min(batch_size, length)
        self.steps_per_epoch = length // self.batch_size
        self.wait_seconds = 0.0
        self._boxed = bool(augment.crop_scale or augment.scale_jitter)
        self._fetcher = make_fetcher(split.images, spec, device, boxed=self._boxed)
        self._boxed_later = self._boxed and isinstance(self._fetcher, Resident)  # on the device, with the rest
        self._targets = as_targets(split.targets).to(device)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of one epoch (counted from 0), from `first_step` on."""
        start = time.perf_counter()
        if isinstance(self.split.images, PhotoImages):  # decoded as large as they will be needed; others share them
            jitter = self.options.scale_jitter
            self.split.images.canvas_side = jitter[1] if jitter else None
        keys = self._order(epoch)[: self.steps_per_epoch * self.batch_size].reshape(-1, self.batch_size)
        steps = [Draws(self.seed, epoch, step) for step in keys[first_step:]]
        pixels = self._fetcher.fetch(self._request(draws) for draws in steps)
        with closing(pixels):  # ends the reading ahead where the consumer stops early
            for draws in steps:
                batch = self._batch(next(pixels), draws)
                self.wait_seconds += time.perf_counter() - start
                yield batch
                start = time.perf_counter()

    def _order(self, epoch: int) -> np.ndarray:
        if self.sampling == "balanced":
            return balanced_order(self.split.targets, self.seed, epoch)
        return permutation(len(self.split.targets), self.seed, epoch)

    def _request(self, draws: Draws) -> Request:
        return draws.indices % len(self.split.targets), None if self._boxed_later else self._boxes(draws)

    def _boxes(self, draws: Draws) -> np.ndarray | None:
        if not self._boxed:
            return None
        sizes = self.split.images.sizes[draws.indices % len(self.split.targets)]
        return training_boxes(sizes, self.spec, self.options, draws)

    def _batch(self, pixels: torch.Tensor, draws: Draws) -> Batch:
        positions = draws.indices % len(self.split.targets)
        boxes = self._boxes(draws) if self._boxed_later else None
        images = augment(pixels, self.spec, self.options, draws, boxes=boxes, channels_last=self.channels_last)
        targets = self._targets[torch.from_numpy(positions).to(self._targets.device)]
        batch = Batch(images, targets, positions)
        mixup, cutmix = self.options.mixup or 0.0, self.options.cutmix or 0.0
        if mixup or cutmix:
            batch.images, batch.mix_weight = mix(images, mixup, cutmix, draws)
            batch.mixed_targets = targets.roll(-1, 0)
        return batch


class EvaluationBatches:
    """Every readable image of a split exactly once, in order, undistorted; `len` is the number of batches."""

    def __init__(
        self,
        split: Split,
        spec: InputSpec,
        *,
        batch_size: int,
        device: torch.device,
        channels_last: bool = False,
    ) -> None:
        self.split, self.spec, self.channels_last = split, spec, channels_last
        self.batch_size, self.device = batch_size, device
        self._fetcher: Fetcher | None = None
        self._targets = as_targets(split.targets).to(device)

    def __len__(self) -> int:
        return -(-len(self.split.targets) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        if self._fetcher is None:  # kept, so that a validation per epoch prepares its images once
            self._fetcher = make_fetcher(self.split.images, self.spec, self.device, boxed=False)
        count = len(self.split.targets)
        steps = [np.arange(i, min(i + self.batch_size, count)) for i in range(0, count, self.batch_size)]
        pixels = self._fetcher.fetch((step, None) for step in steps)
        with closing(pixels):
            for step, stored in zip(steps, pixels, strict=True):
                if self.channels_last:
                    stored = stored.contiguous(memory_format=torch.channels_last)
                targets = self._targets[torch.from_numpy(step).to(self.device)]
                yield Batch(normalise(stored, self.spec), targets, step)
