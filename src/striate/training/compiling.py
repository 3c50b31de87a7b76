"""Whether the network is compiled: a measured choice, made once before the first step and written down.

Compiling takes tens of seconds and makes the steps of some networks a third shorter and of others longer. So a run
that is long enough tries it on a copy of the network, and keeps it where what it saves until the end is more than
what it costs.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from striate.data import Batch
from striate.options import TrainOptions
from striate.progress import Progress
from striate.runtime import compiled, kept_random_state, why_not_compiled
from striate.training.epoch import _forward_backward, _step
from striate.training.freezing import settings_in
from striate.training.planning import replace_model
from striate.training.session import Session

FEWEST_STEPS = 500  # shorter runs are not even measured: a look takes a few steps
TIMED_STEPS = 3  # of which the quickest counts
WORTH_TRYING = 8  # planned training in multiples of what compiling is expected to take
MARGIN = 1.2  # what is saved must exceed the warm-up by this factor
WARM_UP = (10.0, 0.5)  # seconds expected: for the start, and for each layer with parameters


@dataclass(frozen=True, slots=True)
class CompileChoice:
    """`choice` is `on` or `off`; seconds are None where nothing was measured."""

    choice: str
    reason: str
    planned_steps: int
    eager_step_seconds: float | None = None
    compiled_step_seconds: float | None = None
    warm_up_seconds: float | None = None


def choose_compile(session: Session, progress: Progress) -> CompileChoice:
    """Resolve `runtime.compile` for a run that is about to begin; leaves network and random state as they are."""
    asked = session.options.runtime.compile
    steps = session.batches_per_epoch * (session.options.schedule.epochs or 1)
    if asked == "off":
        return CompileChoice("off", "asked for", steps)
    if (obstacle := why_not_compiled(session.device)) is not None:
        if asked == "on":
            progress.warn(f"not compiled: {obstacle}")
        return CompileChoice("off", obstacle, steps)
    if asked == "auto" and steps < FEWEST_STEPS:
        return CompileChoice("off", f"fewer than {FEWEST_STEPS} steps", steps)
    with kept_random_state():
        batch = next(iter(session.batches.epoch(0)))
        eager = _seconds(replace_model(session), batch)
        times = settings_in(session)  # it is compiled anew wherever more begins to learn
        expected = times * (WARM_UP[0] + WARM_UP[1] * _layers(session.model))
        if asked == "auto" and steps * eager < WORTH_TRYING * expected:
            reason = f"{steps * eager:.0f} s of training are too short for a warm-up of about {expected:.0f} s"
            return CompileChoice("off", reason, steps, eager)
        progress.say(f"compiling the network{' to see whether it pays' if asked == 'auto' else ''}")
        try:
            warm_up, quick = _try(session, batch)
        except Exception as error:  # whatever the compiler raises
            reason = f"the compiler failed: {type(error).__name__}: {' '.join(str(error).split())[:160]}"
            progress.warn(f"not compiled: {reason}")
            return CompileChoice("off", reason, steps, eager)
    measured = CompileChoice("on", "asked for", steps, eager, quick, warm_up)
    if asked == "auto":
        pays = steps * (eager - quick) > MARGIN * times * warm_up
        measured = replace(measured, choice="on" if pays else "off", reason="it pays" if pays else "it does not pay")
    figures = f"a step takes {quick:.3g} s instead of {eager:.3g} s after {warm_up:.0f} s of warm-up"
    progress.say(f"{'compiled' if measured.choice == 'on' else 'not compiled'}: {figures}")
    return measured


def decide_compile(session: Session, progress: Progress) -> dict[str, Any]:
    """Put the choice into a session that is about to begin; returns it as it is recorded."""
    made = choose_compile(session, progress)
    session.options = with_choice(session.options, made.choice)
    compile_as_recorded(session)
    values = {name: getattr(made, name) for name in CompileChoice.__slots__}
    return {name: value for name, value in values.items() if value is not None}


def compile_as_recorded(session: Session) -> None:
    """Let the session compute as its options say; compiling itself happens in the first step."""
    if session.options.runtime.compile == "on":
        session.forward = compiled(session.model, session.device)


def with_choice(options: TrainOptions, choice: str) -> TrainOptions:
    """`options` with compilation resolved."""
    return replace(options, runtime=replace(options.runtime, compile=choice))


def _try(session: Session, batch: Batch) -> tuple[float, float]:
    """Seconds until a compiled copy has made two steps, and of a step after that."""
    trial = replace_model(session)
    trial.forward = compiled(trial.model, session.device)
    begun = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice to developers of networks
        for _ in range(2):
            _one_step(trial, batch)
        return time.perf_counter() - begun, _seconds(trial, batch)


def _seconds(trial: Session, batch: Batch) -> float:
    """The quickest of a few steps on the same batch, after one that warms up."""
    return min([_one_step(trial, batch) for _ in range(1 + TIMED_STEPS)][1:])


def _one_step(trial: Session, batch: Batch) -> float:
    begun = time.perf_counter()
    loss, _ = _forward_backward(trial, batch, 1)
    _step(trial)
    float(loss)  # waits for the device
    if trial.device.type == "cuda":
        torch.cuda.synchronize(trial.device)
    return time.perf_counter() - begun


def _layers(model: nn.Module) -> int:
    return sum(any(True for _ in module.parameters(recurse=False)) for module in model.modules())
