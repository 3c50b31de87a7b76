"""How many processor threads compute."""

from __future__ import annotations

import os


def set_threads(count: int | None) -> int:
    """Use `count` processor threads (None: all cores this process may use); returns the count."""
    import torch

    count = count or usable_cores()
    torch.set_num_threads(count)
    return count


def usable_cores() -> int:
    """The cores that this process may run on, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
