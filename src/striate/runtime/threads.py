"""How many processor threads compute: the cores this process may use, less those that others keep busy."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

WINDOW = 0.2  # seconds over which the second look is taken
_PROCESSOR = Path("/proc/stat")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def set_threads(count: int | None) -> int:
    """Use `count` processor threads (None: all cores this process may use); returns the count."""
    import torch

    count = count or usable_cores()
    torch.set_num_threads(count)
    return count


def usable_cores() -> int:
    """The cores that this process may run on, which in a container are fewer than the machine has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text(encoding="ascii").split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or `max`
        return cores


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the clocks: seconds, and processor seconds of everybody and of this process."""

    at: float
    everybody: float
    own: float


_first: Look | None = None  # taken where a command begins


def look_at_load() -> None:
    """Begin to watch what other processes use; called early, the imports are the time watched."""
    global _first
    _first = _look()


def free_cores() -> tuple[int, float]:
    """The usable cores that others leave free (at least one), and how many others keep busy.

    OpenMP gives every thread the same share of the work and waits for the slowest: with another process on one of two
    cores, two threads are slower than one by a factor of three and more. Others count as busy only if they are now
    as well as since `look_at_load`; those that run at lower priority make way and do not count. Linux only; elsewhere
    nobody else counts.
    """
    cores = usable_cores()
    busy = _busy_since(_first) if _first is not None else math.inf
    if busy >= 0.5:
        before = _look()
        time.sleep(WINDOW)
        busy = min(busy, _busy_since(before))
    return max(1, cores - round(busy)), busy


def _busy_since(before: Look | None) -> float:
    """Cores that other processes kept busy on average."""
    now = _look()
    if before is None or now is None or now.at <= before.at:
        return 0.0
    return max(0.0, (now.everybody - before.everybody - (now.own - before.own)) / (now.at - before.at))


def _look() -> Look | None:
    """The clocks of the cores this process may use; None where the system does not tell."""
    try:
        lines = _PROCESSOR.read_text(encoding="ascii").splitlines()
        cores = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        tick = os.sysconf("SC_CLK_TCK")
        yields = os.getpriority(os.PRIO_PROCESS, 0) <= 0  # others of lower priority than this process
    except (OSError, AttributeError, ValueError):
        return None
    used = 0
    for line in lines:
        name, *counts = line.split()
        if name in cores:
            user, nice, system = (int(one) for one in counts[:3])
            used += user + system + (0 if yields else nice)
    own = time.process_time()
    return Look(at=time.perf_counter(), everybody=used / tick, own=own)
