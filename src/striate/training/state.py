"""Everything that a run needs to go on exactly, as one nested dictionary of tensors and plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from striate.runtime import random_state, restore_random_state

if TYPE_CHECKING:
    from striate.training.session import Session


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
    validated_epoch: int = 0  # the last epoch that was validated
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


def restore_state(session: Session, state: dict[str, Any]) -> None:
    """Put `gather_state`'s values back into a session built from the same recipe."""
    session.model.load_state_dict(state["model"])
    session.optimizer.load_state_dict(state["optimizer"])
    session.schedule.load_state_dict(state["schedule"])
    if session.average is not None and state["average"] is not None:
        session.average.load_state_dict(state["average"])
    if session.scaler is not None and state["scaler"] is not None:
        session.scaler.load_state_dict(state["scaler"])
    session.position = Position(**state["position"])
    restore_random_state(state["random"])
