"""How many processor threads compute: the cores this process may use, less those that others keep busy."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

WINDOW = 0.2  # seconds over which the second look is taken
_PROCESSOR = Path("/proc/stat")
_CONTROL = Path("/sys/fs/cgroup")
_QUOTAS = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))  # of version 2 and version 1


def set_threads(count: int | None) -> int:
    """Use `count` processor threads (None: as many as `thread_limit`); returns the count."""
    import torch

    count = count or thread_limit()
    torch.set_num_threads(count)
    return count


def pick_threads(asked: int | None, say: Callable[[str], None]) -> int:
    """`asked`, or the threads that find a free core; `say` is told in a line where that is fewer than there could be.

    See `free_cores`.
    """
    if asked is not None:
        return asked
    most = thread_limit()
    free, busy = free_cores()
    if free < most:
        threads, cores = f"{free} thread{'s' if free > 1 else ''}", allowed_cores()
        say(f"other processes keep {busy:.1f} of {cores} cores busy: {threads}; --threads {most} takes all")
    return free


def thread_limit() -> int:
    """The most threads that compute where nothing is said: one per usable core, or fewer by OMP_NUM_THREADS."""
    cores = usable_cores()
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # of a list, what holds for the outer loop
    return min(cores, int(asked)) if asked.isdecimal() and int(asked) else cores


def usable_cores() -> int:
    """The cores' worth of time that this process may use, which in a container is less than the machine has."""
    return min(allowed_cores(), _quota() or allowed_cores())


def allowed_cores() -> int:
    """The cores that this process may run on; with a quota it may have less time than they give."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota() -> int | None:
    """The processor time of this control group in cores, rounded up; None where there is no limit."""
    for names in _QUOTAS:
        try:
            quota, period = " ".join((_CONTROL / name).read_text(encoding="ascii") for name in names).split()
            if int(quota) > 0:
                return max(1, math.ceil(int(quota) / int(period)))
        except (OSError, ValueError, ZeroDivisionError):  # no such file, or `max`
            continue
    return None


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
    """The threads that find a free core (at least one, at most `thread_limit`), and how many cores others keep busy.

    OpenMP gives every thread the same share of the work and waits for the slowest: with another process on one of two
    cores, two threads are slower than one by a factor of three and more. Others count as busy only if they are now
    as well as since `look_at_load`; those that run at lower priority make way and do not count. Linux only; elsewhere
    nobody else counts. What others use comes off all the cores of the machine that this process may run on: a quota
    says how much time it has, not where.
    """
    busy = _busy_since(_first) if _first is not None else math.inf
    if busy >= 0.5:
        before = _look()
        time.sleep(WINDOW)
        busy = min(busy, _busy_since(before))
    return max(1, min(thread_limit(), allowed_cores() - round(busy))), busy


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
