"""What is measured once, before the first step, and then written down: batch that fits, learning rate, epochs.

Nothing here leaves a trace in the network or in torch's generators.
"""

from __future__ import annotations

import math
import re
import time
from copy import deepcopy
from dataclasses import replace
from itertools import chain
from statistics import median

import torch

from striate.errors import TrainingError, UsageError
from striate.inference import logits_of
from striate.options import ScheduleOptions
from striate.progress import Progress
from striate.runtime import kept_random_state
from striate.training.epoch import _forward_backward, _step
from striate.training.freezing import frozen_for_good, set_learning
from striate.training.optimizers import depths_for, make_optimizer, peak_rate
from striate.training.session import Session

RANGE_TEST_STEPS = 100
RANGE_TEST_RATES = (1e-6, 10.0)  # Smith 2015, arXiv:1506.01186, sec. 3.3: raise the rate until the loss diverges
WARM_UP, TIMED = 2, 3  # batches that a step's time is not taken of, and of how many at least
UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> float:
    """Seconds of `90s`, `10m`, `1.5h`, `2h30m`; a bare number is seconds.

    Raises:
        UsageError: not a duration.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(min|[smhd]?)", text.strip().lower())
    if not parts or re.sub(r"(\d+(?:\.\d+)?)\s*(min|[smhd]?)\s*", "", text.strip().lower()):
        raise UsageError(f"training.budget = {text!r} is not a duration", "write 90s, 10m, 1.5h or 2h30m")
    return sum(float(number) * UNITS[unit or "s"] for number, unit in parts)


def fit_batch(session: Session, progress: Progress) -> int:
    """How many parts a batch must be cut into so that a training step fits the memory; tries 1, 2, 4 …

    Raises:
        TrainingError: not even a single image fits.
    """
    parts = session.micro_batches
    while True:
        try:
            _trial_step(session, parts)
            break
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            if session.device.type == "cuda":
                torch.cuda.empty_cache()
            batch_size = session.options.optimizer.batch_size or 1
            if parts >= batch_size:
                raise TrainingError(
                    "not even one image at a time fits the memory", "use a smaller --input-size or network"
                ) from None
            parts *= 2
    if parts > session.micro_batches:
        size = session.options.optimizer.batch_size
        progress.warn(
            f"a batch of {size} does not fit the memory: computing it in {parts} parts, gradients accumulated"
        )
    return parts


def _trial_step(session: Session, parts: int) -> None:
    """A whole step on a copy of the network, thrown away."""
    with kept_random_state():
        trial = replace_model(session)
        trial.micro_batches = parts
        batch = next(iter(trial.batches.epoch(0)))
        _forward_backward(trial, batch, 1)
        _step(trial)


def _is_out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return (
        isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "out of memory" in text or "allocate memory" in text
    )


def replace_model(session: Session) -> Session:
    """A session on a copy of the network, with an optimiser of its own and nothing averaged."""
    model = deepcopy(session.model)
    transfer = session.options.transfer
    depths = depths_for(transfer, model)
    optimizer = make_optimizer(model, session.options.optimizer, session.options.regularize, depths)
    set_learning(model, optimizer, frozen_for_good(transfer, model))
    return replace(session, model=model, forward=model, optimizer=optimizer, average=None, scaler=None)


def range_test(session: Session, progress: Progress) -> float:
    """A learning rate from a range test (Smith 2015): a tenth of the rate at which the smoothed loss was lowest.

    Trains a copy of the network for up to 100 steps while the rate rises exponentially, until the loss is four times
    its lowest value.
    """
    low, high = RANGE_TEST_RATES
    best_rate, best_loss, smooth = low, math.inf, 0.0
    with kept_random_state(), progress.task("learning rate range test", RANGE_TEST_STEPS) as task:
        trial = replace_model(session)
        batches = iter(())
        passes = 0
        for step in range(RANGE_TEST_STEPS):
            batch = next(batches, None)
            if batch is None:
                batches = iter(trial.batches.epoch(passes))
                passes += 1
                batch = next(batches)
            rate = low * (high / low) ** (step / (RANGE_TEST_STEPS - 1))
            for group in trial.optimizer.param_groups:
                group["lr"] = peak_rate(replace(session.options.optimizer, lr=rate), group)
            loss = float(_forward_backward(trial, batch, 1)[0])
            smooth = 0.9 * smooth + 0.1 * loss
            corrected = smooth / (1 - 0.9 ** (step + 1))  # the average's own warm-up, as in Adam
            if not math.isfinite(loss) or (step > 10 and corrected > 4 * best_loss):
                break
            if step > 5 and corrected < best_loss:
                best_rate, best_loss = rate, corrected
            _step(trial)
            task.advance()
    rate = best_rate / 10
    progress.say(f"learning rate {rate:.3g}: a tenth of {best_rate:.3g}, where the range test's loss was lowest")
    return rate


def plan_for_budget(session: Session, seconds: float, progress: Progress) -> ScheduleOptions:
    """The schedule with epochs (and, below one epoch, steps) that fit `seconds` of training and validation.

    Times a few steps and a few validation batches on a copy of the network; a twentieth is kept in reserve.
    """
    with kept_random_state():
        step_seconds = _seconds_per_batch(replace_model(session))
        validation_seconds = _validation_seconds(session)
    usable = 0.95 * seconds
    per_epoch = session.batches.steps_per_epoch * step_seconds + validation_seconds
    epochs = int(usable / per_epoch)
    schedule = session.options.schedule
    cycles = min(schedule.cycles, max(1, epochs)) if schedule.cycles is not None else None
    schedule = replace(schedule, epochs=max(1, epochs), cycles=cycles, steps_per_epoch=None)
    what = f"{schedule.epochs} {'epoch' if schedule.epochs == 1 else 'epochs'} of {per_epoch:.1f} s"
    if epochs < 1:
        steps = max(1, int((usable - validation_seconds) / step_seconds))
        schedule = replace(schedule, steps_per_epoch=steps)
        what = f"{steps} of {session.batches.steps_per_epoch} steps: less than one epoch"
    progress.say(f"budget {seconds:.0f} s: {what}")
    return schedule


def _seconds_per_batch(trial: Session) -> float:
    """The median over the batches of about two seconds, after two that warm up; of so few, epoch after epoch."""
    times: list[float] = []
    begun = time.perf_counter()
    last = begun
    passes = map(trial.batches.epoch, range(WARM_UP + TIMED))
    for index, batch in enumerate(chain.from_iterable(passes)):
        loss, _ = _forward_backward(trial, batch, 1)
        _step(trial)
        float(loss)  # waits for the device
        now = time.perf_counter()
        if index >= WARM_UP:
            times.append(now - last)
        last = now
        if len(times) >= TIMED and (now - begun > 2 or index + 1 >= trial.batches.steps_per_epoch):
            break
    return median(times)


def _validation_seconds(session: Session) -> float:
    if session.validation is None:
        return 0.0
    images = len(session.dataset.splits["val"])
    begun = time.perf_counter()
    first = next(iter(session.validation))
    logits_of(session.model, [first], precision=session.precision)
    seconds = (time.perf_counter() - begun) * max(1.0, images / len(first.targets))
    return seconds * (2 if session.average is not None else 1)
