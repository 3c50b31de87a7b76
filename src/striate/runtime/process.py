"""Start and end of a command, which people wait for as much as for the work between them."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

from striate.runtime.allocator import tune_allocator
from striate.runtime.threads import look_at_load

_is_command = False  # see `mark_command`
_STAT, _UPTIME = Path("/proc/self/stat"), Path("/proc/uptime")
_LONGEST_START = 3600.0  # seconds; more is a clock that tells something else, as in some containers


def mark_command() -> None:
    """This process is a command that begins now: its start is part of the time that people wait."""
    global _is_command
    _is_command = True


def seconds_of_start() -> float | None:
    """Seconds since this process started, once and for a command only (Linux): the imports, which no stopwatch sees."""
    global _is_command
    if not _is_command:
        return None
    _is_command = False
    try:
        stat = _STAT.read_text(encoding="ascii")
        started = float(stat.rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
        seconds = float(_UPTIME.read_text(encoding="ascii").split()[0]) - started
    except (OSError, ValueError, IndexError, AttributeError):
        return None
    return seconds if 0 <= seconds < _LONGEST_START else None


def prepare_torch() -> None:
    """Import torch in a tuned process, without looking for garbage where there is none yet.

    Importing torch makes a great many objects that all stay: the collector looks through them again and
    again, in vain. Frozen, they are also left alone by every later collection.
    """
    if "torch" in sys.modules:
        return
    tune_allocator()
    look_at_load()
    collecting = gc.isenabled()
    gc.disable()
    try:
        import torch  # noqa: F401
    finally:
        if collecting:
            gc.freeze()
            gc.enable()


def end_process(code: int) -> None:
    """End a command that is done, without taking torch's modules apart one by one: people would wait for it.

    Everything registered to run at the end runs. Returns, and leaves the end to Python, where a thread is still at
    work.
    """
    import atexit
    import threading

    if "torch" not in sys.modules:
        return
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join(timeout=0.2)
            if thread.is_alive():
                return
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # it was closed before the start
                stream.flush()
    except (OSError, ValueError):  # closed, or nobody reads on: Python knows what to say
        return
    os._exit(code)
