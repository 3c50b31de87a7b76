"""Torch's generators: seeded, kept, put back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def seed_everything(seed: int, *, deterministic: bool = True) -> None:
    """Seed torch's generators (initial weights, dropout, stochastic depth) and, on a GPU, choose repeatable kernels.

    The order of images and their augmentation do not depend on generators (see `data/draws.py`).
    """
    import torch

    torch.manual_seed(seed)
    if deterministic and torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False


def random_state() -> dict[str, Any]:
    """The state of torch's generators, as tensors."""
    import torch

    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Put back what `random_state` took."""
    import torch

    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


@contextmanager
def kept_random_state() -> Iterator[None]:
    """What happens inside draws from torch's generators without anybody outside noticing."""
    state = random_state()
    try:
        yield
    finally:
        restore_random_state(state)
