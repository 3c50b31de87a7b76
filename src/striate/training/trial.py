"""A training whose weights nobody keeps: how well some options do on held-out images, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from striate.checkpoint import SavedModel
from striate.data import Dataset
from striate.errors import DataError
from striate.inference import logits_of
from striate.options import TrainOptions
from striate.progress import Progress, Silent
from striate.runfolder import RunFolder
from striate.runtime import denormals_flushed, kept_random_state
from striate.training.defaults import check_feasible, data_options
from striate.training.epoch import train_epoch
from striate.training.planning import plan_for_budget
from striate.training.prepare import measure_once, prepare, provisional, resolved_for
from striate.training.session import Session, open_session
from striate.training.start import SCRATCH, start_weights
from striate.training.transferring import with_head_epochs

SILENT = Silent()
_NOWHERE = RunFolder(Path("(nothing is written)"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """How a training ended that was only tried."""

    top1: float
    correct: np.ndarray  # bool [n]: for each readable validation image, in the order of the split
    n: int
    seconds: float  # of training
    seconds_of_start: float  # of fitting a new head to the images to learn from
    seconds_per_image: float  # per image shown
    epochs: int
    options: TrainOptions  # resolved: what was tried


@denormals_flushed()
def try_out(
    options: TrainOptions,
    dataset: Dataset,
    *,
    start: SavedModel | None = None,
    seconds: float | None = None,
    progress: Progress = SILENT,
) -> Trial:
    """Train by `options` as `train` does, and score the last weights on `dataset.splits["val"]`.

    Nothing is written and nothing compiled; torch's generators are left as they were.

    Args:
        options: what is left open in them is decided as `train` decides it.
        dataset: its validation images are scored once, at the end; they choose nothing.
        start: the network of `--from`, opened; None for a start from scratch, whatever the options name.
        seconds: time for the training; epochs, or steps of one, are left out where they do not fit.
        progress: shows a bar.

    Raises:
        UsageError, DataError, ModelError: as `train`.
        TrainingError: the loss is not finite.
    """
    check_feasible(dataset)
    if "val" not in dataset.splits or not len(dataset.splits["val"]):
        raise DataError(f"{dataset.name} has no validation images to score a trial on")
    if start is None:
        options = replace(options, model=replace(options.model, from_=SCRATCH))
    options = replace(
        options, data=data_options(dataset, options.data), runtime=replace(options.runtime, compile="off")
    )
    with kept_random_state():
        options, spec, start = resolved_for(options, dataset, start=start)
        prepared = prepare(
            options, spec, dataset, given=None, start=start, budgeted=seconds is not None, progress=SILENT
        )
        session = open_session(provisional(prepared.options), spec, dataset, _NOWHERE, prepared.model)
        spent = start_weights(session, SILENT)
        session = measure_once(prepared, session, None, SILENT)
        if seconds is not None:
            session = _shortened(session, prepared.new_head, max(seconds - spent, 0.0))
        return _tried(session, spent, progress)


def _tried(session: Session, spent: float, progress: Progress) -> Trial:
    options, position = session.options, session.position
    epochs, scenario = options.schedule.epochs or 1, options.transfer.scenario
    images = session.batches_per_epoch * (options.optimizer.batch_size or 1)
    with progress.task(f"trying {scenario}", epochs * images) as task:
        for _ in range(epochs):
            train_epoch(session, task, _drop, _nothing)
            position.epoch += 1
            position.batch, position.sums = 0, {}
            session.schedule.after_epoch(None)
    assert session.validation is not None
    network = session.average.module if session.average is not None else session.model
    logits, targets, _ = logits_of(network, session.validation, precision=session.precision)
    correct = (logits.argmax(dim=1) == targets).numpy()
    shown = epochs * session.batches_per_epoch * session.batches.batch_size
    return Trial(
        top1=float(correct.mean()), correct=correct, n=len(correct), seconds=position.seconds,
        seconds_of_start=spent, seconds_per_image=position.seconds / shown, epochs=epochs, options=options,
    )  # fmt: skip


def _shortened(session: Session, new_head: bool, seconds: float) -> Session:
    """The session with no more epochs than fit `seconds`, and no more than were planned."""
    options = session.options
    schedule = plan_for_budget(session, seconds, SILENT)
    if (schedule.epochs or 0) >= (options.schedule.epochs or 0) and schedule.steps_per_epoch is None:
        schedule = options.schedule
    options = with_head_epochs(replace(options, schedule=schedule), new_head)
    return open_session(options, session.spec, session.dataset, session.run, session.model)


def _drop(row: dict[str, Any]) -> None:
    """A metrics line that nobody reads."""


def _nothing() -> None:
    """A state that nobody goes on from."""
