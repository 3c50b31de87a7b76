"""Everything that a run needs to go on exactly, as one nested dictionary of tensors and plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from striate.errors import CheckpointError
from striate.models.base import Architecture
from striate.runtime import random_state, restore_random_state

if TYPE_CHECKING:
    from striate.training.session import Session

PARTS = (
    "architecture", "model", "optimizer", "schedule", "average", "scaler", "random", "position", "planned_epochs",
    "epoch", "step",
)  # fmt: skip
_HINT = "go on with the Striate that wrote it, or start from the weights so far: striate train --from RUN"


@dataclass
class Position:
    """How far a run has come. All of it is saved, so that a resumed run writes the same figures."""

    epoch: int = 0  # epochs completed
    batch: int = 0  # batches of the current epoch completed
    step: int = 0  # optimiser steps completed
    sums: dict[str, float] = field(default_factory=dict)  # running sums of the current epoch
    best: list[float] | None = None  # best validation figures so far, compared in order, more is better
    best_epoch: int | None = None
    best_weights: str = "raw"  # or "ema"
    validated_epoch: int = 0  # the last epoch that was validated, or after which more began to learn
    epochs_without_improvement: int = 0
    seconds: float = 0.0  # of training so far
    stopped_early: bool = False


def gather_state(session: Session) -> dict[str, Any]:
    """The session as plain values and tensors; what it holds is read-only until the file is written."""
    return {
        "architecture": session.model.architecture.to_dict(),
        "model": session.model.state_dict(),
        "optimizer": session.optimizer.state_dict(),
        "schedule": session.schedule.state_dict(),
        "average": session.average.state_dict() if session.average is not None else None,
        "scaler": session.scaler.state_dict() if session.scaler is not None else None,
        "random": random_state(),
        "position": asdict(session.position),
        "planned_epochs": session.options.schedule.epochs,
        "epoch": session.position.epoch,
        "step": session.position.step,
    }


def check_state(state: Mapping[str, Any], folder: Path) -> None:
    """Refuse a state that another version of Striate wrote and that lacks something: going on would not be exact.

    Raises:
        CheckpointError: the message names what is missing.
    """
    missing = [name for name in PARTS if name not in state]
    needed = {
        # what a record may leave out has a default that says what networks were before it could be said
        "architecture": [one.name for one in fields(Architecture) if one.default is MISSING],
        "position": [one.name for one in fields(Position)],
    }
    for part, names in needed.items():
        if part in state:
            held = state[part] if isinstance(state[part], Mapping) else {}
            missing += [f"{part}.{name}" for name in names if name not in held]
    if missing:
        raise CheckpointError(
            f"the resume state in {folder} was written by another version of Striate: it lacks {', '.join(missing)}",
            _HINT,
        )


def restore_state(session: Session, state: dict[str, Any]) -> None:
    """Put `gather_state`'s values back into a session built from the same recipe.

    Raises:
        CheckpointError: a part of the state does not fit the session.
    """
    try:
        _restore(session, state)
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"the resume state in {session.run.resume} does not fit this run: {type(error).__name__}: {reason}", _HINT
        ) from error


def _restore(session: Session, state: dict[str, Any]) -> None:
    session.model.load_state_dict(state["model"])
    session.optimizer.load_state_dict(state["optimizer"])
    session.schedule.load_state_dict(state["schedule"])
    if session.average is not None and state["average"] is not None:
        session.average.load_state_dict(state["average"])
    if session.scaler is not None and state["scaler"] is not None:
        session.scaler.load_state_dict(state["scaler"])
    session.position = Position(**state["position"])
    restore_random_state(state["random"])
