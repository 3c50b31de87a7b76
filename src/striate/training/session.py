"""A training run in memory: what the epochs work on, built from resolved options alone.

`open_session` measures nothing and chooses nothing, so that building it again from a run folder's recipe.toml gives
the same session; what was measured once (see `planning`) is in that recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from striate.data import Dataset, EvaluationBatches, TrainingBatches
from striate.models import ConvNet, Outputs
from striate.options import TrainOptions
from striate.runfolder import RunFolder
from striate.runtime import pick_device, set_threads
from striate.spec import InputSpec
from striate.training.finishing import evaluation_batch, training_batches
from striate.training.freezing import frozen_for_good, set_learning, take_out
from striate.training.objective import balanced_class_weights
from striate.training.optimizers import depths_for, make_optimizer, peak_rate
from striate.training.schedules import Schedule
from striate.training.state import Position


@dataclass
class Session:
    """The pieces of one run; `position` says how far it has come."""

    options: TrainOptions
    spec: InputSpec
    dataset: Dataset
    run: RunFolder
    device: torch.device
    precision: str
    model: ConvNet
    forward: Callable[[torch.Tensor], torch.Tensor | Outputs]  # the model, or the compiled one (see `compiling`)
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    average: AveragedModel | None
    scaler: torch.amp.GradScaler | None
    batches: TrainingBatches
    validation: EvaluationBatches | None
    class_weights: torch.Tensor | None
    micro_batches: int = 1  # parts that a batch is cut into because the whole does not fit the memory
    position: Position = field(default_factory=Position)
    frozen: tuple[str, ...] | None = None  # the places that were frozen in the epoch that was begun last

    @property
    def batches_per_epoch(self) -> int:
        """Batches that make an epoch."""
        return min(self.batches.steps_per_epoch, self.options.schedule.steps_per_epoch or self.batches.steps_per_epoch)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps that make an epoch."""
        return -(-self.batches_per_epoch // self.options.optimizer.accumulate)


def open_session(options: TrainOptions, spec: InputSpec, dataset: Dataset, run: RunFolder, model: ConvNet) -> Session:
    """Everything in its place for the first step. `options` must be resolved."""
    set_threads(options.runtime.threads)
    device = pick_device(options.runtime.device)
    precision = options.runtime.precision
    channels_last = bool(options.runtime.channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = model.to(device).to(memory_format=layout)  # type: ignore[call-overload]
    frozen = frozen_for_good(options.transfer, model)
    take_out(model, frozen)
    depths = depths_for(options.transfer, model)
    optimizer = make_optimizer(model, options.optimizer, options.regularize, depths)
    set_learning(model, optimizer, frozen)
    placing: dict[str, Any] = {"device": device, "channels_last": channels_last}
    batches = training_batches(options, spec, dataset, device)
    validation = None
    if "val" in dataset.splits and len(dataset.splits["val"]):
        validation = EvaluationBatches(dataset.splits["val"], spec, batch_size=evaluation_batch(spec), **placing)
    weights = None
    if options.regularize.class_weights == "balanced":
        weights = balanced_class_weights(dataset.splits["train"].targets, len(dataset.labels)).to(device)
    per_epoch = min(batches.steps_per_epoch, options.schedule.steps_per_epoch or batches.steps_per_epoch)
    return Session(
        options=options, spec=spec, dataset=dataset, run=run, device=device, precision=precision, model=model,
        forward=model,
        optimizer=optimizer,
        schedule=Schedule(optimizer, options.schedule, -(-per_epoch // options.optimizer.accumulate)),
        average=_average(model, options.training.ema), validation=validation, batches=batches, class_weights=weights,
        scaler=torch.amp.GradScaler(device.type) if precision == "fp16" else None,
        micro_batches=options.optimizer.micro_batches,
    )  # fmt: skip


@contextmanager
def handed_back(model: ConvNet | None) -> Iterator[None]:
    """See to it that a network that is given comes back in its modes and as able to learn, whatever happens inside."""
    modes = {module: module.training for module in model.modules()} if model is not None else {}
    learning = {one: one.requires_grad for one in model.parameters()} if model is not None else {}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter, learns in learning.items():
            parameter.requires_grad_(learns)


def lengthen_schedule(session: Session) -> None:
    """Put a run that trains on beyond its planned end where as many ticks lead on the longer schedule.

    A plateau's drops depend on what was seen, so that one just goes on.
    """
    options = session.options
    if options.schedule.schedule == "plateau":
        return
    for group in session.optimizer.param_groups:
        group["lr"] = peak_rate(options.optimizer, group)
        group.pop("initial_lr", None)
    session.schedule = Schedule(session.optimizer, options.schedule, session.steps_per_epoch)
    position = session.position
    session.schedule.fast_forward(position.step if options.schedule.per == "step" else position.epoch)


def _average(model: ConvNet, decay: float | None) -> AveragedModel | None:
    """torch's exponential moving average of weights and batch-norm statistics (M087), or None."""
    if not decay:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
